//! `ringside service`: Ringside as a service of Windows.
//!
//! The service manager starts `ringside service run`, which runs the engine as `ringside run` does, from
//! the folder of the configuration file. A stop drains as Ctrl-C does. Nobody sees a service's standard
//! error: what it says goes to the log files.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use tokio::sync::Notify;
use windows_service::define_windows_service;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceControlAccept,
    ServiceErrorControl, ServiceExitCode, ServiceFailureActions, ServiceFailureResetPeriod,
    ServiceInfo, ServiceStartType, ServiceState, ServiceStatus, ServiceType, UserEventCode,
};
use windows_service::service_control_handler::{
    self, ServiceControlHandlerResult, ServiceStatusHandle,
};
use windows_service::service_dispatcher;
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};

use super::check::{self, CheckArgs};
use super::run::{self, RunArgs};
use super::signals::Signal;
use super::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};
use crate::observe::logging;

const NAME: &str = "Ringside";
const DESCRIPTION: &str =
    "Receives the UDP events of Qlik Sense and delivers them, counting every loss";

/// Until `ready`: names are resolved and sockets bound, which takes seconds at most. The service manager
/// itself gives up after 30 s by default.
const START_MAX: Duration = Duration::from_secs(30);
/// How long Windows, going down, waits for the drain: what it did by itself before Windows 10 1703. It is
/// 10 s since, as long as the default `shutdownTimeout` alone.
const PRESHUTDOWN_MAX: Duration = Duration::from_mins(3);
/// After failures one by one, and after all further ones. A port may still be in use, or an address
/// not be there yet; a file that is wrong stays so.
const RESTART_AFTER: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_mins(1)];
/// Without a failure for so long, the next one counts as the first.
const FORGET_FAILURES_AFTER: Duration = Duration::from_hours(1);
/// How long `remove` waits for a drain: `shutdownTimeout` is seconds where nobody changed it.
const STOP_MAX: Duration = Duration::from_mins(5);
/// How often it looks; the service manager tells nobody.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// Asks the service to read its file again: the first of the codes that a service gives a meaning to.
const RELOAD_CODE: u32 = 128;

// winerror.h
const ERROR_ACCESS_DENIED: i32 = 5;
const ERROR_SERVICE_DOES_NOT_EXIST: i32 = 1060;
const ERROR_SERVICE_NOT_ACTIVE: i32 = 1062;
const ERROR_FAILED_SERVICE_CONTROLLER_CONNECT: i32 = 1063;
const ERROR_SERVICE_MARKED_FOR_DELETE: i32 = 1072;
const ERROR_SERVICE_EXISTS: i32 = 1073;

/// Arguments of `ringside service`.
#[derive(Args, Clone, Debug)]
pub struct ServiceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Check the file and install the service Ringside, which starts with Windows; as administrator
    Install(Configured),
    /// Make the running service read its file again, as SIGHUP does elsewhere; as administrator
    Reload,
    /// Stop the service and remove it; files stay; as administrator
    Remove,
    /// What the service manager starts
    #[command(hide = true)]
    Run(Configured),
}

#[derive(Args, Clone, Debug)]
struct Configured {
    /// Configuration file; the service runs in its folder, so paths in the file start there
    #[arg(short = 'c', long = "configfile", value_name = "FILE")]
    configfile: PathBuf,
}

/// Installs, removes or runs the service; returns the exit code.
#[must_use]
pub fn service(args: ServiceArgs) -> u8 {
    let done = match args.command {
        Command::Install(Configured { configfile }) => install(&configfile),
        Command::Reload => reload(),
        Command::Remove => remove(),
        Command::Run(configured) => dispatch(configured),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        EXIT_FAILED
    })
}

/// What the service manager did not do.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error("access denied; run this as administrator")]
    AccessDenied,
    #[error("the service {NAME} is installed already; remove it first: ringside service remove")]
    Installed,
    #[error("there is no service {NAME}; install it with: ringside service install -c FILE")]
    NotInstalled,
    #[error("the service {NAME} does not run; start it with: sc.exe start {NAME}")]
    NotRunning,
    #[error(
        "the service {NAME} is being removed; close the windows that show services and try again"
    )]
    BeingRemoved,
    #[error("only the service manager runs this; use: ringside run -c FILE")]
    NotStartedAsService,
    #[error("the service {NAME} has not stopped within {} s; it is still there", STOP_MAX.as_secs())]
    StillRunning,
    #[error("{path}: {source}", path = path.display())]
    Place { path: PathBuf, source: io::Error },
    #[error("the service manager: {0}")]
    Other(String),
}

impl From<windows_service::Error> for ServiceError {
    fn from(error: windows_service::Error) -> Self {
        let windows_service::Error::Winapi(source) = error else {
            return Self::Other(error.to_string());
        };
        match source.raw_os_error() {
            Some(ERROR_ACCESS_DENIED) => Self::AccessDenied,
            Some(ERROR_SERVICE_DOES_NOT_EXIST) => Self::NotInstalled,
            Some(ERROR_SERVICE_NOT_ACTIVE) => Self::NotRunning,
            Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) => Self::NotStartedAsService,
            Some(ERROR_SERVICE_MARKED_FOR_DELETE) => Self::BeingRemoved,
            Some(ERROR_SERVICE_EXISTS) => Self::Installed,
            _ => Self::Other(source.to_string()),
        }
    }
}

fn install(configfile: &Path) -> Result<u8, ServiceError> {
    let place = |path: &Path| {
        let path = path.to_owned();
        |source| ServiceError::Place { path, source }
    };
    // Not `canonicalize`, which writes paths in a form that people do not know.
    let configfile = path::absolute(configfile).map_err(place(configfile))?;
    if enter_folder_of(&configfile).is_err() || !is_right(&configfile) {
        return Ok(EXIT_USAGE);
    }
    let program = env::current_exe().map_err(place(Path::new("ringside.exe")))?;
    let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    let manager = ServiceManager::local_computer(None::<&str>, access)?;
    let arguments = ["service".into(), "run".into(), "-c".into(), configfile.into_os_string()];
    let info = ServiceInfo {
        name: NAME.into(),
        display_name: NAME.into(),
        service_type: ServiceType::OWN_PROCESS,
        // Not delayed: until it runs, events are lost.
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program,
        launch_arguments: arguments.into(),
        dependencies: Vec::new(),
        account_name: None,
        account_password: None,
    };
    // Whoever has the service restarted after failures has to be allowed to start it.
    let service =
        manager.create_service(&info, ServiceAccess::CHANGE_CONFIG | ServiceAccess::START)?;
    for (what, done) in [
        ("its description", service.set_description(DESCRIPTION)),
        ("restarts after failures", restart_after_failures(&service)),
        ("time to drain when Windows ends", service.set_preshutdown_timeout(PRESHUTDOWN_MAX)),
    ] {
        // The service works without.
        if let Err(error) = done {
            eprintln!("warning: {what} could not be set: {}", ServiceError::from(error));
        }
    }
    eprintln!("the service {NAME} is installed and starts with Windows; now: sc.exe start {NAME}");
    Ok(EXIT_OK)
}

/// Says what is wrong with the file, if anything is.
fn is_right(configfile: &Path) -> bool {
    let args = CheckArgs { configfile: configfile.to_owned(), show: false, host: false };
    check::check(&args) == EXIT_OK
}

fn restart_after_failures(service: &Service) -> windows_service::Result<()> {
    let restart = |delay| ServiceAction { action_type: ServiceActionType::Restart, delay };
    service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGET_FAILURES_AFTER),
        reboot_msg: None,
        command: None,
        actions: Some(RESTART_AFTER.map(restart).into()),
    })?;
    // Also when it says that it has failed, not only when it is gone without a word.
    service.set_failure_actions_on_non_crash_failures(true)
}

fn open(access: ServiceAccess) -> Result<Service, ServiceError> {
    let manager = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)?;
    Ok(manager.open_service(NAME, access)?)
}

fn reload() -> Result<u8, ServiceError> {
    let code = UserEventCode::from_raw(RELOAD_CODE)
        .map_err(|error| ServiceError::Other(error.to_string()))?;
    open(ServiceAccess::USER_DEFINED_CONTROL)?.notify(code)?;
    eprintln!("the service {NAME} reads its file again; its log says what came of it");
    Ok(EXIT_OK)
}

fn remove() -> Result<u8, ServiceError> {
    let service = open(ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE)?;
    let begin = Instant::now();
    let mut asked = false;
    loop {
        match service.query_status()?.current_state {
            ServiceState::Stopped => break,
            ServiceState::Running if !asked => {
                service.stop()?;
                asked = true;
            }
            // It starts, or drains.
            _ if begin.elapsed() > STOP_MAX => return Err(ServiceError::StillRunning),
            _ => thread::sleep(STOP_LOOK),
        }
    }
    service.delete()?;
    eprintln!("the service {NAME} is removed");
    Ok(EXIT_OK)
}

/// Services start in a folder of Windows; what the file names without a drive is beside the file.
fn enter_folder_of(configfile: &Path) -> io::Result<()> {
    let folder = configfile.parent().unwrap_or(configfile);
    env::set_current_dir(folder)
        .inspect_err(|error| logging::say(format_args!("{}: {error}", folder.display())))
}

/// The service of this process, if it is one: a process has one service manager, and that calls a
/// function without context.
static RUNNING: OnceLock<Running> = OnceLock::new();
static STOP: Notify = Notify::const_new();
static RELOAD: Notify = Notify::const_new();

#[derive(Debug)]
struct Running {
    configfile: PathBuf,
    status: OnceLock<ServiceStatusHandle>,
    /// Somebody asked to stop.
    stop: AtomicBool,
}

/// Hands this thread to the service manager, until the service has stopped.
fn dispatch(Configured { configfile }: Configured) -> Result<u8, ServiceError> {
    logging::set_unattended();
    RUNNING.get_or_init(|| Running {
        configfile,
        status: OnceLock::new(),
        stop: AtomicBool::new(false),
    });
    service_dispatcher::start(NAME, service_main)?;
    Ok(EXIT_OK)
}

define_windows_service!(service_main, run);

fn run(_: Vec<OsString>) {
    let Some(running) = RUNNING.get() else { return };
    let control = |control| match control {
        ServiceControl::Stop | ServiceControl::Preshutdown => {
            running.stop.store(true, Ordering::Relaxed);
            STOP.notify_one();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::UserEvent(code) if code.to_raw() == RELOAD_CODE => {
            RELOAD.notify_one();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    // Without a service manager nobody could be told that it failed.
    let Ok(status) = service_control_handler::register(NAME, control) else { return };
    let status = *running.status.get_or_init(|| status);
    tell(status, ServiceState::StartPending, START_MAX, EXIT_OK);
    let args = RunArgs { configfile: Some(running.configfile.clone()), ..RunArgs::default() };
    let code = enter_folder_of(&running.configfile).map_or(EXIT_USAGE, |()| run::run(&args));
    // With another code the service manager would start again what somebody has stopped.
    let code = if running.stop.load(Ordering::Relaxed) { EXIT_OK } else { code };
    tell(status, ServiceState::Stopped, Duration::ZERO, code);
}

/// Whether the service manager started this process.
pub(super) fn is_running() -> bool {
    RUNNING.get().is_some()
}

/// What the service manager asks for next.
pub(super) async fn signal() -> Signal {
    tokio::select! {
        () = STOP.notified() => Signal::Stop,
        () = RELOAD.notified() => Signal::Reload,
    }
}

/// Every listener is bound.
pub(super) fn ready() {
    tell_if_running(ServiceState::Running, Duration::ZERO);
}

/// The drain begins; all is over within `limit`.
pub(super) fn stopping(limit: Duration) {
    tell_if_running(ServiceState::StopPending, limit);
}

fn tell_if_running(state: ServiceState, wait: Duration) {
    if let Some(status) = RUNNING.get().and_then(|running| running.status.get()) {
        tell(*status, state, wait, EXIT_OK);
    }
}

/// Tells the service manager the state, and how long until the next one.
fn tell(status: ServiceStatusHandle, state: ServiceState, wait: Duration, code: u8) {
    let told = status.set_service_status(ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: match state {
            ServiceState::Running => ServiceControlAccept::STOP | ServiceControlAccept::PRESHUTDOWN,
            _ => ServiceControlAccept::empty(),
        },
        exit_code: match code {
            EXIT_OK => ServiceExitCode::NO_ERROR,
            code => ServiceExitCode::ServiceSpecific(code.into()),
        },
        checkpoint: 0,
        wait_hint: wait,
        process_id: None,
    });
    if let Err(error) = told {
        tracing::warn!("the service manager was not told {state:?}: {}", ServiceError::from(error));
    }
}

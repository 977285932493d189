//! `ringside send`: the load generator.

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::event::Kind;
use crate::synthetic::load::{Events, Load, LoadError, Report};
use crate::synthetic::{Mix, Pace, Recorded, SERVERS_MAX};

/// The port that Butler SOS' appenders send user events to.
const USER_PORT: u16 = 9997;

/// Options of `ringside send`.
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// Where log events go; if the port is 9997 and `--user-to` is not given, user events.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "user_to")]
    to: Option<String>,
    /// Where user events go; `--to` then gets the log events of the same mix.
    #[arg(long, value_name = "HOST:PORT")]
    user_to: Option<String>,
    /// Events per second; 0 is as fast as this machine can.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    rate: u64,
    /// Stop after so many events.
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Send the same bytes in every run with this number; without it events carry the present time.
    #[arg(long, value_name = "N", conflicts_with = "file")]
    seed: Option<u64>,
    /// Proportions of the kinds of events.
    #[arg(long, value_enum, default_value = "cluster", conflicts_with = "file")]
    mix: MixName,
    /// Sense servers to act as, each with sockets of its own and towards 127.0.0.1 with addresses
    /// 127.0.0.1, 127.0.0.2, and so on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = sources)]
    sources: u8,
    /// Send the datagrams in this file: JSON lines with `payload_b64` and optionally `port`, `user`
    /// or `log`. Each is sent once, or again and again up to `--count` or `--for`.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print the result as one line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MixName {
    /// What a busy cluster sends: all seven kinds.
    Cluster,
    /// What measurements use: 70 % performance, 15 % proxy, 10 % engine, 5 % scheduler.
    Benchmark,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn sources(text: &str) -> Result<u8, String> {
    let number = text.parse().unwrap_or(0);
    if (1..=SERVERS_MAX).contains(&number) {
        Ok(number)
    } else {
        Err(format!("a number from 1 to {SERVERS_MAX}"))
    }
}

/// Runs `ringside send`: 0 when everything asked for was sent, 1 when it could not be, 2 when the
/// target or the file is not right.
#[must_use]
pub fn send(args: SendArgs) -> ExitCode {
    let json = args.json;
    let load = match load(args) {
        Ok(load) => load,
        Err(message) => {
            eprintln!("ringside send: {message}");
            return ExitCode::from(2);
        }
    };
    let bar = progress_bar(&load);
    let stop = stop_on_interrupt();
    let result = load.run(&stop, |report| bar.set_position(report.sent()));
    bar.finish_and_clear();
    match result {
        Ok(report) => print(&report, json),
        Err(error) => {
            eprintln!("ringside send: {error}");
            match error {
                LoadError::Nothing(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn load(args: SendArgs) -> Result<Load, String> {
    let to = args.to.as_deref().map(resolve).transpose()?;
    let user_to = args.user_to.as_deref().map(resolve).transpose()?;
    let (log, user) = match (to, user_to) {
        (Some(to), None) if to.port() == USER_PORT => (None, Some(to)),
        both => both,
    };
    let mix = match args.mix {
        MixName::Cluster => Mix::CLUSTER,
        MixName::Benchmark => Mix::BENCHMARK,
    };
    let events = match args.file {
        Some(path) => Events::Recorded(Recorded::read(&path).map_err(|error| error.to_string())?),
        None => Events::Cluster { mix, seed: args.seed },
    };
    let pace = if args.rate == 0 { Pace::Unlimited } else { Pace::Steady(args.rate) };
    let (count, duration, sources) = (args.count, args.duration, args.sources);
    Ok(Load { log, user, events, pace, count, duration, sources })
}

fn resolve(target: &str) -> Result<SocketAddr, String> {
    target
        .to_socket_addrs()
        .map_err(|error| format!("{target}: {error}; give HOST:PORT, such as 127.0.0.1:9996"))?
        .next()
        .ok_or_else(|| format!("{target}: the name has no address"))
}

/// On a terminal only; elsewhere nothing is drawn.
fn progress_bar(load: &Load) -> ProgressBar {
    let (bar, template) = match load.limit() {
        u64::MAX => (ProgressBar::no_length(), "{spinner} {human_pos} events, {per_sec}"),
        limit => (
            ProgressBar::new(limit),
            "{wide_bar} {human_pos}/{human_len} events, {per_sec}, {eta} left",
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Becomes true with the first Ctrl-C, so that the report is still printed. Where the signal cannot
/// be caught it ends the process, as usual.
fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let caught = runtime.is_ok_and(|runtime| runtime.block_on(tokio::signal::ctrl_c()).is_ok());
        if caught {
            seen.store(true, Ordering::Relaxed);
        }
    });
    stop
}

fn print(report: &Report, json: bool) -> ExitCode {
    eprintln!("{}", describe(report));
    if json {
        let written = serde_json::to_string(report)
            .map_err(io::Error::other)
            .and_then(|line| writeln!(io::stdout(), "{line}"));
        if let Err(error) = written {
            eprintln!("ringside send: standard output: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn describe(report: &Report) -> String {
    let mut lines = vec![format!(
        "sent {} events, {} bytes, in {:.3} s: {:.0} events/s",
        report.sent(),
        report.bytes,
        report.elapsed.as_secs_f64(),
        report.rate()
    )];
    for kind in Kind::ALL {
        let count = report.by_kind[kind as usize];
        if count > 0 {
            lines.push(format!("  {count:>10} {}", kind.name()));
        }
    }
    if report.refused > 0 {
        lines.push(format!(
            "the target answered {} times that nobody listens on the port: at least as many \
             events are lost; start the receiver first",
            report.refused
        ));
    }
    if report.waits > 0 {
        lines.push(format!("the kernel had no room {} times; nothing is lost", report.waits));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SendArgs,
    }

    fn parse(line: &str) -> Result<Load, String> {
        let words = ["send"].into_iter().chain(line.split(' '));
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        load(command.args)
    }

    #[test]
    fn the_port_and_the_options_say_which_events_go_where() {
        let targets = |line| {
            let load = parse(line).unwrap();
            (load.log.map(|to| to.port()), load.user.map(|to| to.port()))
        };
        assert_eq!(targets("--to 127.0.0.1:9996"), (Some(9996), None));
        assert_eq!(targets("--to 127.0.0.1:9997"), (None, Some(9997)));
        assert_eq!(targets("--to 127.0.0.1:9997 --user-to [::1]:1"), (Some(9997), Some(1)));
        assert_eq!(targets("--user-to 127.0.0.1:5000"), (None, Some(5000)));
    }

    #[test]
    fn rate_and_limits_become_a_load() {
        let load = parse("--to 127.0.0.1:1 --rate 500 --for 2.5").unwrap();
        assert_eq!((load.pace, load.limit()), (Pace::Steady(500), 1250));
        let load = parse("--to 127.0.0.1:1 --rate 0 --for 1").unwrap();
        assert_eq!((load.pace, load.limit()), (Pace::Unlimited, u64::MAX));
        let load = parse("--to 127.0.0.1:1 --count 7").unwrap();
        assert_eq!((load.pace, load.limit()), (Pace::Steady(1000), 7));
    }

    #[test]
    fn wrong_usage_is_named() {
        for (line, named) in [
            ("--rate 5", "--to"),
            ("--to 127.0.0.1", "127.0.0.1"),
            ("--to 127.0.0.1:1 --sources 65", "1 to 64"),
            ("--to 127.0.0.1:1 --for x", "number of seconds"),
            ("--to 127.0.0.1:1 --for 1 --count 1", "--count"),
            ("--to 127.0.0.1:1 --file /nonexistent.jsonl", "/nonexistent.jsonl"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }

    #[test]
    fn the_report_says_what_was_sent_and_what_refusals_mean() {
        let mut report = Report { refused: 2, bytes: 10, ..Report::default() };
        report.by_listener = [0, 5];
        report.by_kind[Kind::Engine as usize] = 5;
        report.elapsed = Duration::from_millis(500);
        let text = describe(&report);
        assert!(text.starts_with("sent 5 events, 10 bytes, in 0.500 s: 10 events/s"), "{text}");
        assert!(text.contains("5 qseow-engine") && text.contains("start the receiver"), "{text}");
    }
}

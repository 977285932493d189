//! What the synthetic cluster is made of: apps, people, browsers, engine calls and complaints.
//!
//! Names of loggers, commands and engine methods are those that Qlik Sense uses; people, apps and
//! servers are invented. Free text keeps some bytes beyond ASCII and some that line protocol has to
//! escape, since real names have them, but no `;`: the appenders' fields stay countable.

/// Names of apps.
pub(super) const APPS: &[&str] = &[
    "Sales Dashboard",
    "Operations Monitor",
    "License Monitor",
    "Finance - Profit & Loss",
    "Försäljning Norden",
    "Inventory analysis",
    "Supply Chain KPIs",
    "HR Headcount",
    "Customer Churn 2025",
    "Marketing Campaign ROI",
    "Budget vs. Actual, EMEA",
    "Production OEE",
    "Call Center Live",
    "Procurement Spend",
    "Sales basket analysis",
    "Executive Summary",
    "IT Service Desk",
    "Quality \"Six Sigma\"",
    "Retail Stores = All",
    "Données Clients",
    "Claims Triage",
    "Credit Risk Exposure",
    "Fleet & Logistics",
    "Energy Consumption",
];

/// Given and family names; a user id is made of one of each.
pub(super) const GIVEN: &[&str] = &[
    "anna", "goran", "maria", "john", "chen", "fatima", "lars", "sofia", "pierre", "ingrid",
    "omar", "kate", "jörgen", "yuki", "carlos", "elena",
];
/// See [`GIVEN`].
pub(super) const FAMILY: &[&str] = &[
    "sander",
    "lindqvist",
    "garcia",
    "smith",
    "wei",
    "haddad",
    "berg",
    "rossi",
    "dubois",
    "nyberg",
    "khan",
    "murphy",
    "ångström",
    "tanaka",
    "silva",
    "popova",
];

/// User directories, the first being the common one.
pub(super) const DIRECTORIES: &[&str] = &["CORP", "CORP", "CORP", "PARTNERS"];

/// The browsers that people use.
pub(super) const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
     Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
     Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
     Version/17.4.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 \
     (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) \
     Chrome/125.0.0.0 Mobile Safari/537.36",
];

/// One engine call and what it usually costs.
#[derive(Debug)]
pub(super) struct Call {
    /// As in the engine's performance log.
    pub(super) method: &'static str,
    /// Type of the app object; empty when the call is about none.
    pub(super) object_type: &'static str,
    /// Usual duration in microseconds.
    pub(super) micros: u32,
    /// Usual memory in KiB.
    pub(super) ram_kib: u32,
}

const fn call(method: &'static str, object_type: &'static str, micros: u32, ram_kib: u32) -> Call {
    Call { method, object_type, micros, ram_kib }
}

/// What a browser asks of the engine when an app is opened: 15 to 20 calls.
pub(super) const OPENING: &[Call] = &[
    call("Global::OpenApp", "", 850_000, 180_000),
    call("Doc::GetAppLayout", "", 900, 40),
    call("Doc::GetAppProperties", "", 400, 12),
    call("Doc::CreateSessionObject", "AppPropsList", 1_200, 30),
    call("GenericObject::GetLayout", "AppPropsList", 2_300, 64),
    call("Doc::CreateSessionObject", "sheetlist", 1_500, 48),
    call("GenericObject::GetLayout", "sheetlist", 6_200, 210),
    call("Doc::GetObject", "sheet", 350, 8),
    call("GenericObject::GetLayout", "sheet", 4_100, 96),
    call("GenericObject::GetLayout", "filterpane", 3_700, 120),
    call("GenericObject::GetLayout", "listbox", 18_500, 2_400),
    call("GenericObject::GetLayout", "kpi", 22_000, 900),
    call("GenericObject::GetLayout", "barchart", 64_000, 5_200),
    call("GenericObject::GetLayout", "linechart", 71_000, 6_100),
    call("GenericObject::GetLayout", "pivot-table", 210_000, 24_000),
    call("GenericObject::GetHyperCubeData", "table", 43_000, 3_300),
    call("GenericObject::GetLayout", "map", 120_000, 9_000),
    call("GenericObject::GetLayout", "combochart", 58_000, 4_400),
    call("GenericObject::GetHyperCubeReducedData", "scatterplot", 37_000, 2_900),
    call("GenericBookmark::GetLayout", "BookmarkList", 1_100, 24),
];

/// What a selection in a chart makes the engine do: 10 to 15 calls.
pub(super) const SELECTION: &[Call] = &[
    call("GenericObject::BeginSelections", "barchart", 250, 4),
    call("GenericObject::SelectHyperCubeValues", "barchart", 9_500, 700),
    call("GenericObject::EndSelections", "barchart", 420, 4),
    call("GenericObject::GetLayout", "CurrentSelection", 800, 16),
    call("GenericObject::GetLayout", "listbox", 15_000, 2_000),
    call("GenericObject::GetLayout", "kpi", 31_000, 1_100),
    call("GenericObject::GetLayout", "barchart", 88_000, 5_900),
    call("GenericObject::GetLayout", "linechart", 97_000, 6_600),
    call("GenericObject::GetLayout", "pivot-table", 260_000, 26_000),
    call("GenericObject::GetHyperCubeData", "table", 52_000, 3_800),
    call("GenericObject::GetLayout", "treemap", 33_000, 2_100),
    call("GenericObject::GetLayout", "gauge", 12_000, 500),
    call("GenericObject::GetLayout", "combochart", 60_000, 4_600),
    call("GenericObject::GetLayout", "filterpane", 4_000, 130),
    call("GenericObject::MultiRangeSelectHyperCubeValues", "scatterplot", 21_000, 1_300),
];

/// What a scheduled reload makes the engine do, with no user behind it.
pub(super) const RELOAD: &[Call] = &[
    call("Global::OpenApp", "", 620_000, 150_000),
    call("Doc::DoReload", "", 4_200_000, 900_000),
    call("Global::GetProgress", "", 180, 2),
    call("Global::GetProgress", "", 170, 2),
    call("Global::GetProgress", "", 190, 2),
    call("Doc::DoSave", "", 1_100_000, 64_000),
    call("Doc::GetScript", "", 700, 90),
    call("Global::GetProgress", "", 175, 2),
];

/// One warning or error of a service. In the texts `%a` is an app's id, `%n` its name, `%u` a user
/// as `DIRECTORY\id`, `%s` a session, `%t` a task's name and `%h` a server.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) level: &'static str,
    pub(super) subsystem: &'static str,
    pub(super) message: &'static str,
    pub(super) exception: &'static str,
    /// Command; in engine events the kind of entry.
    pub(super) command: &'static str,
    pub(super) result: &'static str,
    pub(super) origin: &'static str,
    pub(super) context: &'static str,
    /// What is said when an engine fails.
    pub(super) incident: bool,
}

/// What most complaints leave empty.
const PLAIN: Complaint = Complaint {
    level: "WARN",
    subsystem: "",
    message: "",
    exception: "",
    command: "",
    result: "",
    origin: "",
    context: "",
    incident: false,
};

/// Complaints of the engine.
pub(super) const ENGINE: &[Complaint] = &[
    Complaint {
        subsystem: "System.Engine.Engine",
        message: "Aggregation in app %a falls back to a slow path",
        command: "System",
        ..PLAIN
    },
    Complaint {
        level: "ERROR",
        subsystem: "System.Engine.Engine",
        message: "On-demand app for %u: gave up waiting for '%n'",
        command: "System",
        ..PLAIN
    },
    Complaint {
        subsystem: "Session.Engine.Engine",
        message: "Socket closed by the client, session %s",
        command: "Session",
        ..PLAIN
    },
    Complaint {
        subsystem: "Performance.Engine.Engine",
        message: "A chart in '%n' took longer than 5000 ms",
        command: "Performance",
        ..PLAIN
    },
    Complaint {
        level: "ERROR",
        subsystem: "System.Engine.Engine",
        message: "Lost the connector on %h, load of %a aborted",
        command: "System",
        incident: true,
        ..PLAIN
    },
];

/// Complaints of the proxy.
pub(super) const PROXY: &[Complaint] = &[
    Complaint {
        subsystem: "System.Proxy.Qlik.Sense.Communication.Communication.Tcp.StreamFactory",
        message: "No answer from the engine at %h:4747",
        exception: "System.IO.IOException: Connection closed by the remote host",
        command: "Open connection",
        result: "500",
        origin: "AppAccess",
        context: "/app/%a",
        incident: true,
        ..PLAIN
    },
    Complaint {
        level: "ERROR",
        subsystem: "Audit.Proxy.Proxy.SessionEstablishment.Authentication.AuthenticationHandler",
        message: "Login of '%u' refused: no access pass is free",
        exception: "AccessDeniedException: License access denied",
        command: "Login",
        result: "403",
        origin: "LicenseAccess",
        context: "/hub/my/work",
        ..PLAIN
    },
    Complaint {
        subsystem: "Security.Proxy.Qlik.Sense.Common.Security.CertificateValidation",
        message: "The certificate of %h expires within 30 days",
        command: "Validate certificate",
        result: "0",
        origin: "Not available",
        context: "Not available",
        ..PLAIN
    },
    Complaint {
        subsystem: "AuditSecurity.Proxy.Proxy.Communication.RequestHandling.RequestHandler",
        message: "Request without a valid Xrfkey, session %s",
        command: "Handle request",
        result: "400",
        origin: "AppAccess",
        context: "/qrs/app/full",
        ..PLAIN
    },
];

/// Complaints of the repository.
pub(super) const REPOSITORY: &[Complaint] = &[
    Complaint {
        subsystem: "System.Repository.Repository.Core.Repository.Common.ModelRepository",
        message: "Optimistic lock failure while updating app %a, the entity was modified by %u",
        exception: "Repository.Core.Exceptions.OptimisticLockException: Entity is stale",
        command: "Update app",
        result: "409",
        origin: "ManagementAccess",
        context: "/qrs/app/%a",
        ..PLAIN
    },
    Complaint {
        level: "ERROR",
        subsystem: "Service.Repository.Repository.QRSMain",
        message: "Communication with the node %h timed out, its services are marked as stopped",
        exception: "System.Net.WebException: The operation has timed out",
        command: "Check node status",
        result: "500",
        origin: "Not available",
        context: "/qrs/servernode",
        incident: true,
    },
    Complaint {
        subsystem: "UserManagement.Repository.Repository.Users.UserDirectoryConnector",
        message: "Synchronising the user directory skipped %u: no value for attribute 'mail'",
        command: "Sync user directory",
        result: "0",
        origin: "ManagementAccess",
        context: "/qrs/userdirectory/sync",
        ..PLAIN
    },
];

/// Complaints of the scheduler.
pub(super) const SCHEDULER: &[Complaint] = &[
    Complaint {
        level: "ERROR",
        subsystem: "System.Scheduler.Scheduler.Slave.Tasks.ReloadTask",
        message: "Task finished with state FinishedFail: %t",
        exception: "Reload failed, see the script log",
        incident: true,
        ..PLAIN
    },
    Complaint {
        subsystem: "System.Scheduler.Scheduler.Master.Task.TaskSession",
        message: "Reload of '%n' retried on %h",
        ..PLAIN
    },
    Complaint {
        subsystem: "Service.Scheduler.Scheduler.Master.DAO.RepositoryTaskDataProvider",
        message: "Execution of %t was delayed: all slots on %h are in use",
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_holds_a_separator_or_a_control_character() {
        let complaints = [ENGINE, PROXY, REPOSITORY, SCHEDULER]
            .into_iter()
            .flatten()
            .flat_map(|c| [c.subsystem, c.message, c.exception, c.command, c.origin, c.context]);
        let calls = [OPENING, SELECTION, RELOAD]
            .into_iter()
            .flatten()
            .flat_map(|call| [call.method, call.object_type]);
        let names = [APPS, GIVEN, FAMILY, DIRECTORIES].into_iter().flatten().copied();
        for text in complaints.chain(calls).chain(names) {
            assert!(!text.contains(|c: char| c == ';' || c.is_control()), "{text}");
        }
    }
}

//! Names of apps from a repository service that demands a client certificate, as Sense's does. Its port
//! is fixed, so each test has a loopback address of its own.

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use ringside::enrich::AppNames;
use ringside::enrich::app_names::{Certificates, Refresher, Settings};
use support::qrs::{Qrs, Site, list};
use support::{Config, DEADLINE, Ringside, wait_for};

const SALES: &str = "e7af59a0-c243-480d-9571-08727551a66f";
const STOCK: &str = "deba4bcf-47e4-472e-97b2-4fe8d6498e11";

/// Names that a thread keeps up to date until the tests end.
struct Refreshed(Arc<ArcSwap<AppNames>>);

impl Refreshed {
    fn start(host: &str, certificates: Certificates) -> Self {
        let settings =
            Settings { host: host.to_owned(), interval: Duration::from_millis(20), certificates };
        let refresher = Refresher::new(&settings).expect("certificates");
        let this = Self(Arc::default());
        let names = Arc::clone(&this.0);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        thread::spawn(move || runtime.block_on(refresher.run(names)));
        this
    }

    fn name(&self, id: &str) -> Option<String> {
        self.0.load().get(&id.parse().expect("an id")).map(str::to_owned)
    }

    fn wait_name(&self, id: &str, name: &str) {
        let arrived = || (self.name(id).as_deref() == Some(name)).then_some(());
        wait_for("the name", DEADLINE, arrived);
    }
}

#[test]
fn names_arrive_are_refreshed_and_outlive_failures() {
    let host = "127.42.42.1";
    let (site, directory) = (Site::new(), tempfile::tempdir().expect("a directory"));
    let qrs = Qrs::start(host, &site);
    qrs.answer("200 OK", &list(&[(SALES, "Sales"), (STOCK, "Stock")]));
    let names = Refreshed::start(host, site.export(directory.path()));
    names.wait_name(SALES, "Sales");
    assert_eq!(names.name(STOCK).as_deref(), Some("Stock"));

    for (status, body) in [("500 Internal Server Error", "[]"), ("200 OK", "<html>"), ("204 X", "")]
    {
        qrs.answer(status, body);
        // The second request begins after the answer to the first has been dealt with; the first may
        // have been answered before the change.
        qrs.wait_asked(3);
        assert_eq!(names.name(SALES).as_deref(), Some("Sales"), "kept after {status}");
    }

    qrs.answer("200 OK", &list(&[(SALES, "Sales EMEA")]));
    names.wait_name(SALES, "Sales EMEA");
    assert_eq!(names.name(STOCK), None, "the app is gone");
}

#[test]
fn the_service_is_asked_as_sense_wants_it() {
    let host = "127.42.42.2";
    let (site, directory) = (Site::new(), tempfile::tempdir().expect("a directory"));
    let qrs = Qrs::start(host, &site);
    qrs.answer("200 OK", "[]");
    let _names = Refreshed::start(host, site.export(directory.path()));
    qrs.wait_asked(2);
    let asked = qrs.asked();
    let key = |head: &str| {
        let (_, rest) = head.split_once("get /qrs/app?xrfkey=").expect("the path");
        rest.split_once(' ').expect("a version").0.to_owned()
    };
    for head in &asked {
        let key = key(head);
        assert!(key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{key}");
        assert!(head.contains(&format!("\r\nx-qlik-xrfkey: {key}\r\n")), "{head}");
        assert!(
            head.contains("\r\nx-qlik-user: userdirectory=internal; userid=sa_repository\r\n"),
            "{head}"
        );
    }
    assert_ne!(key(&asked[0]), key(&asked[1]), "a key is used once");
}

#[test]
fn a_server_of_another_site_is_not_asked() {
    let (host, directory) = ("127.42.42.3", tempfile::tempdir().expect("a directory"));
    let (ours, theirs) = (Site::new(), Site::new());
    let qrs = Qrs::start(host, &theirs);
    qrs.answer("200 OK", &list(&[(SALES, "not ours")]));
    // Their server would take this client, so that it is the client who refuses.
    let mut certificates = theirs.export(directory.path());
    let other = tempfile::tempdir().expect("a directory");
    certificates.root = ours.export(other.path()).root;
    let config = config(host, &certificates, "20ms");
    let mut ringside = Ringside::start_with(&config, &[]);
    let warning = ringside.wait_for_line("app names cannot be asked");
    assert!(warning.contains("certificate") && warning.contains("check that cert.*"), "{warning}");
    assert_eq!(qrs.asked(), [""; 0], "nothing was sent");
    assert!(ringside.stop().success(), "{}", ringside.log());
}

/// A configuration file with names switched on.
fn config(host: &str, certificates: &Certificates, interval: &str) -> String {
    let Certificates { client, key, root } = certificates;
    format!(
        "{}  appNames:\n    enableAppNameExtract: true\n    extractInterval: {interval}\n    \
         hostIP: {host}\n  cert:\n    clientCert: {}\n    clientCertKey: {}\n    clientCertCA: {}\n",
        Config::default().text(),
        client.display(),
        key.display(),
        root.display()
    )
}

#[test]
fn ready_does_not_wait_for_names() {
    let host = "127.42.42.4";
    let (site, directory) = (Site::new(), tempfile::tempdir().expect("a directory"));
    let qrs = Qrs::start(host, &site);
    // Returns after the `ready` line, while the service holds its answer back.
    let mut ringside =
        Ringside::start_with(&config(host, &site.export(directory.path()), "1h"), &[]);
    wait_for("the request", DEADLINE, || (qrs.asked().len() == 1).then_some(()));
    qrs.answer("200 OK", &list(&[(SALES, "Sales")]));
    let line = ringside.wait_for_line("app names are here");
    assert!(line.contains("apps=1"), "{line}");
    assert!(ringside.stop().success(), "{}", ringside.log());
    assert_eq!(qrs.asked().len(), 1, "the next request was an hour away");
}

#[test]
fn a_warning_is_not_repeated_with_every_failure() {
    let host = "127.42.42.5";
    let (site, directory) = (Site::new(), tempfile::tempdir().expect("a directory"));
    let qrs = Qrs::start(host, &site);
    qrs.answer("403 Forbidden", "");
    let mut ringside =
        Ringside::start_with(&config(host, &site.export(directory.path()), "10ms"), &[]);
    qrs.wait_asked(10);
    assert!(ringside.stop().success(), "{}", ringside.log());
    let log = ringside.log();
    assert_eq!(log.matches("app names cannot be asked").count(), 1, "{log}");
    assert!(log.contains("HTTP 403") && log.contains("export the certificates again"), "{log}");
}

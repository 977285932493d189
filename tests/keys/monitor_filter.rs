//! Which performance events are wanted, and whether they get the names of their apps. The repository
//! service has a port that cannot be chosen, so each test has a loopback address of its own.

use std::collections::BTreeSet;

use crate::support::Ringside;
use crate::support::qrs::{Qrs, Site, list};
use crate::{ALL_SOURCES, TO_FILE, events_of, file, performance_event};

const SALES: &str = "e7af59a0-c243-480d-9571-08727551a66f";
const STOCK: &str = "deba4bcf-47e4-472e-97b2-4fe8d6498e11";

/// A repository service that knows two apps.
struct Names {
    host: &'static str,
    site: Site,
}

impl Names {
    fn start(host: &'static str) -> Self {
        let site = Site::new();
        let apps = list(&[(SALES, "Sales"), (STOCK, "Stock")]);
        Qrs::start(host, &site).answer("200 OK", &apps);
        Self { host, site }
    }

    /// Starts the program and waits for the names.
    fn ringside(&self, monitor: &str) -> Ringside {
        let directory = tempfile::tempdir().expect("a directory");
        let certificates = self.site.export(directory.path());
        let log =
            format!("{ALL_SOURCES}    enginePerformanceMonitor:\n      enable: true\n{monitor}");
        let names = format!(
            "{TO_FILE}
  appNames: {{ enableAppNameExtract: true, extractInterval: 1h, hostIP: {} }}
  cert:
    clientCert: {}
    clientCertKey: {}
    clientCertCA: {}",
            self.host,
            certificates.client.display(),
            certificates.key.display(),
            certificates.root.display()
        );
        let mut ringside = Ringside::start_with(&file("", &log, &names), &[]);
        ringside.wait_for_line("app names are here");
        ringside
    }
}

/// What the filters look at: app, method, object, type of object.
type Facts = [&'static str; 4];

/// Each of them with two values, in all combinations.
fn all_facts() -> Vec<Facts> {
    let mut all = Vec::new();
    for app in [SALES, STOCK] {
        for method in ["Get", "Open"] {
            for object in ["one", "two"] {
                all.extend(["chart", "table"].map(|kind| [app, method, object, kind]));
            }
        }
    }
    all
}

/// A filter of the file, and which events it wants.
type Case = (String, fn(Facts) -> bool);

fn assert_wanted(names: &Names, (filter, wanted): Case) {
    let monitor = format!("      monitorFilter:\n{filter}");
    let mut ringside = names.ringside(&monitor);
    let events: Vec<String> =
        all_facts().into_iter().map(|[a, m, o, t]| performance_event(a, m, o, t)).collect();
    let delivered: BTreeSet<[String; 4]> = events_of(&mut ringside, &[], &events)
        .iter()
        .map(|event| {
            ["app_id", "method", "object_id", "object_type"]
                .map(|member| event[member].as_str().expect("text").to_owned())
        })
        .collect();
    let expected = all_facts().into_iter().filter(|facts| wanted(*facts));
    let expected = expected.map(|facts| facts.map(str::to_owned)).collect();
    assert_eq!(delivered, expected, "{filter}");
}

#[test]
fn the_filter_for_all_apps_takes_what_its_keys_say() {
    let names = Names::start("127.42.50.1");
    let all_but = format!(
        "        allApps:
          enable: true
          appExclude: [{{ appId: {STOCK} }}]
          objectType: {{ allObjectTypesExclude: [chart] }}
          method: {{ allMethodsExclude: [Get] }}
"
    );
    let only = "        allApps:
          enable: true
          appExclude: [{ appName: Sales }]
          objectType: { allObjectTypes: false, someObjectTypesInclude: [chart] }
          method: { allMethods: false, someMethodsInclude: [Get] }
";
    let cases: [Case; 3] = [
        (all_but.clone(), |facts| {
            let [app, method, _, kind] = facts;
            app == SALES && method == "Open" && kind == "table"
        }),
        (only.to_owned(), |facts| {
            let [app, method, _, kind] = facts;
            app == STOCK && method == "Get" && kind == "chart"
        }),
        (all_but.replace("enable: true", "enable: false"), |_| false),
    ];
    for case in cases {
        assert_wanted(&names, case);
    }
}

#[test]
fn the_filters_for_some_apps_take_what_their_keys_say() {
    let names = Names::start("127.42.50.2");
    let filters = format!(
        "        appSpecific:
          enable: true
          app:
            - include: [{{ appId: {SALES} }}]
              objectType: {{ allObjectTypesExclude: [chart] }}
              appObject: {{ allAppObjectsExclude: [objectId: one] }}
              method: {{ allMethodsExclude: [Get] }}
            - include: [{{ appName: Stock }}]
              objectType: {{ allObjectTypes: false, someObjectTypesInclude: [chart] }}
              appObject: {{ allAppObjects: false, someAppObjectsInclude: [objectId: one] }}
              method: {{ allMethods: false, someMethodsInclude: [Get] }}
"
    );
    let cases: [Case; 2] = [
        (filters.clone(), |facts| {
            facts == [SALES, "Open", "two", "table"] || facts == [STOCK, "Get", "one", "chart"]
        }),
        (filters.replace("enable: true", "enable: false"), |_| false),
    ];
    for case in cases {
        assert_wanted(&names, case);
    }
}

#[test]
fn names_of_apps_are_written_when_they_are_wanted() {
    let names = Names::start("127.42.50.3");
    for (enable, expected) in [(true, "Sales".into()), (false, serde_json::Value::Null)] {
        let monitor = format!(
            "      appNameLookup: {{ enable: {enable} }}\n      \
             monitorFilter: {{ allApps: {{ enable: true }} }}\n"
        );
        let mut ringside = names.ringside(&monitor);
        let events = [performance_event(SALES, "m", "o", "t")];
        let delivered = events_of(&mut ringside, &[], &events);
        assert_eq!(delivered[0]["app_name"], expected, "{enable}");
    }
}

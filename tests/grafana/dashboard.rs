//! The dashboards as Grafana reads them, and their queries as Grafana sends them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringside::calendar::write_date_time;
use serde_json::Value;

/// Where the repository is.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The dashboards' files.
pub fn files() -> Vec<PathBuf> {
    let folder = root().join("config/grafana/dashboards");
    let entries = std::fs::read_dir(folder).expect("the folder of the dashboards");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// A dashboard.
pub struct Dashboard(pub Value);

/// A query of a panel or of a variable.
#[derive(Debug)]
pub struct Query {
    /// The panel's title, or the variable's name.
    pub of: String,
    /// Its text, with macros and variables.
    pub text: String,
}

impl Dashboard {
    /// Reads `ringside-NAME.json`.
    pub fn read(name: &str) -> Self {
        let file = root().join(format!("config/grafana/dashboards/ringside-{name}.json"));
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        Self(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file:?}: {error}")))
    }

    /// Panels, the lines between them included.
    pub fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().expect("panels")
    }

    /// The queries of all panels; `key` is where the text is.
    pub fn queries(&self, key: &str) -> Vec<Query> {
        let mut queries = Vec::new();
        for panel in self.panels().iter().filter(|panel| panel["type"] != "row") {
            let title = panel["title"].as_str().expect("a title");
            let targets = panel["targets"].as_array().expect("queries");
            assert!(!targets.is_empty(), "{title} asks nothing");
            for target in targets {
                let text = target[key].as_str().unwrap_or_else(|| panic!("{title}: {target}"));
                queries.push(Query { of: title.into(), text: text.into() });
            }
        }
        queries
    }

    /// The query of a variable.
    pub fn variable(&self, name: &str, pointer: &str) -> Query {
        let variables = self.0["templating"]["list"].as_array().expect("variables");
        let variable = variables.iter().find(|one| one["name"] == name).expect("the variable");
        let text = variable.pointer(pointer).and_then(Value::as_str).expect("its query");
        Query { of: format!("variable {name}"), text: text.into() }
    }
}

/// What is chosen at the top of the dashboard.
pub struct Chosen {
    pub from: SystemTime,
    pub to: SystemTime,
    /// `All`, or several.
    pub hosts: Option<Vec<String>>,
    /// The tag that names apps.
    pub app: &'static str,
}

impl Chosen {
    /// From `from` until a little later than now, as the clocks of processes are read one by one.
    pub fn since(from: SystemTime, hosts: Option<Vec<String>>, app: &'static str) -> Self {
        Self { from, to: SystemTime::now() + Duration::from_secs(60), hosts, app }
    }

    /// Several values as a regular expression; of `All` the value that the dashboard gives.
    fn hosts(&self) -> String {
        match &self.hosts {
            None => ".*".into(),
            Some(hosts) => {
                let hosts: Vec<String> = hosts.iter().map(|host| escaped(host)).collect();
                format!("({})", hosts.join("|"))
            }
        }
    }

    /// The text as Grafana sends it: `InfluxQL`, Flux and SQL have macros of their own.
    pub fn fill(&self, query: &Query) -> String {
        let ms =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let date = |time: SystemTime| {
            let since_1970 = time.duration_since(UNIX_EPOCH).expect("after 1970");
            let mut text = String::new();
            write_date_time(&mut text, since_1970.as_secs()).expect("a string takes it");
            text + "Z"
        };
        let (from, to) = (date(self.from), date(self.to));
        let option = format!(
            "option v = {{defaultBucket: \"senseops\", timeRangeStart: {from}, timeRangeStop: {to}, \
             windowPeriod: 1m}}\n"
        );
        let filled = query
            .text
            .replace(
                "$timeFilter",
                &format!("time >= {}ms and time <= {}ms", ms(self.from), ms(self.to)),
            )
            .replace("$__timeFilter(time)", &format!("time >= '{from}' AND time <= '{to}'"))
            .replace(
                "$__dateBin(time)",
                "date_bin(interval '60 second', time, timestamp '1970-01-01T00:00:00Z')",
            )
            .replace("$__interval", "1m")
            .replace("${host:regex}", &self.hosts())
            .replace("$host", &self.hosts())
            .replace("${app}", self.app);
        // A regular expression may end in `$`.
        for (at, _) in filled.match_indices('$') {
            let next = filled[at + 1..].chars().next();
            assert!(matches!(next, Some('/' | '\'')), "{}: {filled}", query.of);
        }
        if !filled.contains("v.defaultBucket") {
            return filled;
        }
        // Options come behind imports.
        let at =
            if filled.starts_with("import ") { filled.find('\n').expect("a line") + 1 } else { 0 };
        format!("{}{option}{}", &filled[..at], &filled[at..])
    }
}

/// Grafana's `regex` format of a value.
fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        if r"\^$*+?.()|[]{}/".contains(c) {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

//! The documentation: every link leads somewhere, every configuration is right, every command does what
//! the page says, and what pages name (settings, metrics, reasons, log lines, answers, exit codes) is
//! what the program has.
//!
//! | block | what is done with it |
//! |---|---|
//! | `yaml` | `ringside check` finds it right |
//! | `yaml of PROGRAM` | it is YAML; another program reads it |
//! | `sh` | run, in a network of its own; no command fails |
//! | `sh no-run (why)`, `powershell no-run (why)` | not run; Ringside's commands are read by its own parser |
//! | `console` | run; what is printed is what stands there, `…` standing for anything |
//! | `json` | it is JSON; with `GET /path` behind it, the members are those of the program's answer |
//! | `log` | the program's sources have each line, `…` standing for a value |
//! | `promql` | each metric, label and reason exists |
//! | `sql`, `python`, `qlik` | run by the test that [`ELSEWHERE`] names |
//! | `ini`, `text` | shown only |

#[path = "docs/answers.rs"]
mod answers;
#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/page.rs"]
mod page;
mod support;
#[path = "docs/terminal.rs"]
mod terminal;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use page::{Block, Page, files, regex, root};
use ringside::cli;
use ringside::config;
use ringside::observe::metrics::FAMILIES;
use ringside::observe::reason::{DropReason, LossReason, Note, Reason, RejectReason};
use support::binary;
use terminal::Terminal;

/// Blocks of commands that need another machine, a service manager or a registry: not more of them than
/// this. Each says why.
const NOT_RUN_MAX: usize = 20;

/// Longest wait until a command that looks at something prints what the page says.
const PATIENCE: Duration = Duration::from_secs(20);

/// Languages whose blocks other tests run, and where.
const ELSEWHERE: [(&str, &str, &str); 3] = [
    ("docs/archive.md", "sql", "tests/archive.rs"),
    ("docs/archive.md", "python", "tests/archive.rs"),
    ("docs/archive.md", "qlik", "tests/archive.rs"),
];

/// What the reader has done before the first command of a page: files are there from [`FILES`].
const BEFORE: [(&str, &str); 6] = [
    // Its backups go to another port than the console's.
    (
        "docs/doctor.md",
        "INFLUXDB_BIND_ADDRESS=127.0.0.1:8090 influxd >influxd.log 2>&1 &
         until curl http://127.0.0.1:8086/ping 2>/dev/null; do sleep 0.1; done",
    ),
    (
        "docs/archive.md",
        "ringside run && ringside send --to 127.0.0.1:9996 --user-to 127.0.0.1:9997 --count 2000
         stop_ringside",
    ),
    ("docs/http.md", "ringside run"),
    ("docs/console.md", "ringside run && ringside send --to 127.0.0.1:9996 --rate 0 --count 100"),
    (
        "docs/spool.md",
        "sed 's/port: 8086/port: 18086/' ringside.yaml >former.yaml
         ringside run -c former.yaml && ringside send --to 127.0.0.1:9996 --rate 0 --count 310
         ringside run -c ringside.yaml && ringside send --to 127.0.0.1:9996 --rate 0 --count 1200
         stop_ringside",
    ),
    (
        "docs/tutorial.md",
        "influxd >influxd.log 2>&1 &
         until curl http://127.0.0.1:8086/ping 2>/dev/null; do sleep 0.1; done",
    ),
];

/// The files of the reader, and where they come from.
const FILES: [(&str, &str); 4] = [
    ("butler-sos.yaml", "tests/docs/butler-sos.yaml"),
    ("production.yaml", "tests/docs/butler-sos.yaml"),
    ("ringside.yaml", "tests/docs/butler-sos.yaml"),
    ("events.jsonl", "tests/docs/events.jsonl"),
];

/// A folder with the reader's files.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, from) in FILES {
        fs::copy(root().join(from), folder.path().join(name)).expect(from);
    }
    folder
}

/// All places where something is wrong, at once.
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} found:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let others = ["docs", "perf", "tests", "fuzz"].into_iter().flat_map(files);
    let paths = others.chain(["README.md".to_owned(), "CHANGELOG.md".to_owned()]);
    for path in paths.filter(|path| path.ends_with(".md")) {
        let page = Page::read(&path);
        for link in page.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = root().join(&path).parent().expect("a folder").to_owned();
            let target = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            if !target.exists() {
                wrong.push(format!("{path}: {link}"));
            } else if !anchor.is_empty() && file.ends_with(".md") | file.is_empty() {
                let target = target.canonicalize().expect("it exists");
                let target = target.strip_prefix(root().canonicalize().expect("it exists"));
                let target = target.expect("in the repository").to_str().expect("UTF-8");
                if !Page::read(target).anchors().contains(anchor) {
                    wrong.push(format!("{path}: {link}: no such heading"));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_index_names_every_page_and_every_picture_is_used() {
    let index = Page::read("docs/README.md").links();
    let linked: BTreeSet<String> =
        Page::all().iter().flat_map(|page| page.links()).map(|link| file_name(&link)).collect();
    let mut wrong = Vec::new();
    for file in files("docs") {
        let name = file_name(&file);
        if file.starts_with("docs/images/") {
            let bytes = fs::metadata(root().join(&file)).expect("it is there").len();
            if !linked.contains(&name) {
                wrong.push(format!("{file}: no page shows it"));
            }
            // Whoever clones the repository or opens a page loads them.
            if bytes > 200_000 {
                wrong.push(format!("{file}: {bytes} bytes"));
            }
        } else if name != "README.md" && !index.contains(&name) {
            wrong.push(format!("{file}: docs/README.md does not name it"));
        }
    }
    assert_none(&wrong);
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().expect("a part").to_owned()
}

#[test]
fn pages_that_the_sources_name_exist() {
    let pattern = regex(r"(?-u:\b)docs/[a-z0-9_-]+\.md");
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches", "perf", "packaging", "config"] {
        for file in files(folder) {
            let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
            for page in pattern.find_iter(&text) {
                if !root().join(page.as_str()).exists() {
                    wrong.push(format!("{file}: {}", page.as_str()));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_readme_is_short_and_shows_the_console_and_the_road() {
    let page = Page::read("README.md");
    let lines = page.text.lines().count();
    assert!(lines < 120, "{lines} lines");
    let links = page.links();
    for picture in ["console.webp", "console-dark.webp", "road.svg"] {
        let picture = format!("docs/images/{picture}");
        assert!(links.contains(&picture), "{picture}");
    }
}

/// The picture of the road names the rooms that `src/lib.rs` has on it.
#[test]
fn the_picture_of_the_road_shows_rooms_that_exist() {
    let picture = fs::read_to_string(root().join("docs/images/road.svg")).expect("the picture");
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("the library");
    let shown = regex(r#"class="room"[^>]*>([a-z]+)<"#);
    let shown: BTreeSet<&str> =
        shown.captures_iter(&picture).map(|it| it.get(1).expect("a name").as_str()).collect();
    let road = library.split("# The rooms").next().expect("the road");
    for room in ["receive", "shard", "event", "rules", "enrich", "deliver"] {
        assert!(shown.contains(room), "road.svg does not show {room}");
        assert!(library.contains(&format!("\npub mod {room};")), "{room}");
    }
    for room in shown {
        assert!(library.contains(&format!("\npub mod {room};")), "road.svg shows {room}");
        assert!(road.contains(room) || room == "enrich", "{room} is not on the road");
    }
}

#[test]
fn every_block_says_what_it_is() {
    let mut wrong = Vec::new();
    for page in Page::all() {
        for block in &page.blocks {
            let known = match block.language.as_str() {
                "log" | "promql" | "ini" | "text" => block.info.is_empty(),
                "yaml" => block.info.is_empty() || block.info.starts_with("of "),
                "powershell" => why_not_run(block).is_some(),
                "json" => block.info.is_empty() || block.info.starts_with("GET /"),
                "sh" | "console" => block.info.is_empty() || why_not_run(block).is_some(),
                language => ELSEWHERE.iter().any(|(file, name, test)| {
                    *file == page.path && *name == language && root().join(test).exists()
                }),
            };
            if !known {
                wrong.push(format!("{}: ```{} {}", block.place, block.language, block.info));
            }
        }
        // What is indented is a block too, of which nobody would know what it is.
        let mut before = "";
        for line in page.prose.lines() {
            if before.is_empty() && line.starts_with("    ") {
                wrong.push(format!("{}: indented: {line}", page.path));
            }
            before = line;
        }
    }
    assert_none(&wrong);
}

/// Why a block is not run.
fn why_not_run(block: &Block) -> Option<&str> {
    let why = block.info.strip_prefix("no-run (")?.strip_suffix(')')?;
    (why.split_whitespace().count() >= 2).then_some(why)
}

#[test]
fn every_configuration_is_right() {
    let folder = folder();
    let mut checked = 0;
    for page in Page::all() {
        for block in page.of("yaml") {
            if !block.info.is_empty() {
                let read = serde_yaml::from_str::<serde_yaml::Value>(&block.text);
                assert!(read.is_ok(), "{}: {read:?}", block.place);
                continue;
            }
            let file = folder.path().join("shown.yaml");
            fs::write(&file, complete(&block.text)).expect("written");
            let said = Command::new(binary()).arg("check").arg("-c").arg(&file).output();
            let said = said.expect("run ringside check");
            let text = String::from_utf8_lossy(&said.stderr);
            assert_eq!(said.status.code(), Some(0), "{}: {text}", block.place);
            assert!(!text.contains("unknown key"), "{}: {text}", block.place);
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked} configurations");
}

/// What shows a few settings is a part of a file that receives something.
fn complete(text: &str) -> String {
    let mut file: serde_yaml::Value = serde_yaml::from_str(text).expect(text);
    let user_events = &mut file["Butler-SOS"]["userEvents"]["enable"];
    if user_events.is_null() {
        *user_events = true.into();
    }
    serde_yaml::to_string(&file).expect("YAML")
}

/// Each page from top to bottom, as its reader would.
#[test]
fn every_command_does_what_its_page_says() {
    let pages = Page::all();
    thread::scope(|scope| {
        for page in &pages {
            let runs = |block: &Block| {
                matches!(block.language.as_str(), "sh" | "console") && block.info.is_empty()
            };
            let blocks: Vec<&Block> = page.blocks.iter().filter(|block| runs(block)).collect();
            if !blocks.is_empty() {
                let read = move || run_page(&page.path, &blocks);
                thread::Builder::new().name(page.path.clone()).spawn_scoped(scope, read).unwrap();
            }
        }
    });
}

fn run_page(path: &str, blocks: &[&Block]) {
    let folder = folder();
    let mut terminal = Terminal::open(folder.path());
    for (page, before) in BEFORE {
        if page == path {
            let done = terminal.run(before);
            assert_eq!(done.failed, None, "before {page}:\n{}", done.output);
        }
    }
    for block in blocks {
        if block.language == "sh" {
            let done = terminal.run(&block.text);
            assert_eq!(done.failed, None, "{}:\n{}", block.place, done.output);
            continue;
        }
        for (command, shown) in entered(block) {
            let (commands, shown) = interrupted(command, shown);
            let pattern = printed(&shown);
            let start = Instant::now();
            loop {
                let done = terminal.run(&commands);
                if pattern.is_match(&(done.output.clone() + "\n")) {
                    break;
                }
                // Events are on their way for a second or so: whoever looks too early looks again.
                let looks = ["curl ", "ringside archive ", "ringside spool "];
                let again = looks.iter().any(|look| command.starts_with(look));
                assert!(
                    again && start.elapsed() < PATIENCE,
                    "{}: {command}\nprints\n{}\ninstead of\n{shown}",
                    block.place,
                    done.output
                );
                thread::sleep(Duration::from_millis(200));
            }
        }
    }
    let done = terminal.run("stop_ringside");
    assert_eq!(done.failed, None, "{path}: the end:\n{}", done.output);
}

/// What is typed behind each `$`, and what stands below it.
fn entered(block: &Block) -> Vec<(&str, String)> {
    let mut entered: Vec<(&str, String)> = Vec::new();
    for line in block.text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            entered.push((command, String::new()));
        } else {
            let (_, shown) = entered.last_mut().unwrap_or_else(|| panic!("{}", block.place));
            shown.push_str(line);
            shown.push('\n');
        }
    }
    entered
}

/// Where a page shows that the reader presses Ctrl-C, the program is stopped, and shows all it has said.
fn interrupted(command: &str, shown: String) -> (String, String) {
    match shown.split_once("^C\n") {
        None => (command.to_owned(), shown),
        Some((before, behind)) => {
            let commands = format!("{command} >started\nstop_ringside\ncat .ringside.log");
            (commands, format!("{before}{behind}"))
        }
    }
}

/// A pattern for what stands on a page: `…` is anything in its line, or any lines if it stands alone.
fn printed(shown: &str) -> regex::Regex {
    let mut pattern = "^".to_owned();
    for line in shown.trim_end().lines() {
        if line.trim() == "…" {
            pattern.push_str("(?s:.*\n)?");
        } else {
            let parts = line.trim_end().split('…').map(regex::escape);
            pattern.push_str(&parts.collect::<Vec<_>>().join("[^\n]*"));
            pattern.push_str(" *\n");
        }
    }
    regex(&(pattern + "$"))
}

#[test]
fn commands_that_are_not_run_say_why_and_can_be_read() {
    let mut not_run = 0;
    let mut wrong = Vec::new();
    for page in Page::all() {
        let blocks = page.blocks.iter().filter(|block| why_not_run(block).is_some());
        for block in blocks {
            not_run += 1;
            for line in block.text.replace("\\\n", " ").lines() {
                let line = line.trim_start_matches("$ ").trim_start_matches("sudo ");
                let words: Vec<&str> = line.split('#').next().unwrap_or("").split(' ').collect();
                let words = words.into_iter().filter(|word| !word.is_empty());
                if !line.starts_with("ringside ") || is_of_windows(line) {
                    continue;
                }
                if let Err(error) = cli::command().try_get_matches_from(words) {
                    wrong.push(format!("{}: {error}", block.place));
                }
            }
        }
    }
    assert_none(&wrong);
    assert!(not_run <= NOT_RUN_MAX, "{not_run} blocks are not run");
}

/// A command that only a program for Windows has, or a path of Windows, of which words cannot be told.
fn is_of_windows(command: &str) -> bool {
    command.starts_with("ringside service ") || command.contains(":\\")
}

/// `ringside spool ls`, `ringside check --show` and the like, in sentences and tables.
#[test]
fn commands_and_options_that_pages_name_exist() {
    let mut wrong = Vec::new();
    let mut named = 0;
    // The commands of that page are run, wrong ones too: see the exit codes.
    for page in Page::all().iter().filter(|page| page.path != "docs/commands.md") {
        for code in page.code() {
            let Some(words) = code.strip_prefix("ringside ") else { continue };
            if is_of_windows(&code) {
                continue;
            }
            named += 1;
            let mut program = cli::command();
            program.build();
            let mut command = &program;
            for word in words.split(' ') {
                let word = word.split('=').next().expect("a part");
                if let Some(next) = command.find_subcommand(word) {
                    command = next;
                } else if command.get_name() == "ringside" && !word.starts_with('-') {
                    wrong.push(format!("{}: `{code}`: no command {word}", page.path));
                    break;
                } else if let Some(long) = word.strip_prefix("--") {
                    if !command.get_arguments().any(|it| it.get_long() == Some(long)) {
                        wrong.push(format!("{}: `{code}`: no option {word}", page.path));
                    }
                } else if let Some(short) = word.strip_prefix('-') {
                    let short = short.chars().next();
                    if !command.get_arguments().any(|it| it.get_short() == short) {
                        wrong.push(format!("{}: `{code}`: no option {word}", page.path));
                    }
                }
            }
        }
    }
    assert_none(&wrong);
    assert!(named >= 20, "{named}");
}

/// Names such as `influxdbConfig.host`, where the first part is a section of the file.
#[test]
fn settings_that_pages_name_exist() {
    let rows = config::reference();
    let paths: Vec<&str> =
        rows.iter().map(|row| row.path.strip_prefix("Butler-SOS.").unwrap_or(&row.path)).collect();
    let sections: BTreeSet<&str> =
        paths.iter().filter_map(|path| path.split_once('.')).map(|(section, _)| section).collect();
    let exists = |key: &str| {
        let parts: Vec<&str> = key.split('.').collect();
        paths.iter().any(|path| {
            let path: Vec<&str> = path.split('.').collect();
            parts.len() <= path.len()
                && parts.iter().zip(&path).all(|(part, of_path)| {
                    let part = part.trim_end_matches("[]");
                    part == "*" || part == of_path.trim_end_matches("[]")
                })
        })
    };
    let key = regex(r"^(?:Butler-SOS\.)?([a-zA-Z]+(?:\.[a-zA-Z0-9*]+(?:\[\])?)+)(?:: .*)?$");
    let mut wrong = Vec::new();
    let mut named = 0;
    for page in Page::all() {
        for code in page.code() {
            let Some(found) = key.captures(&code) else { continue };
            let first = found[1].split('.').next().expect("a part").to_owned();
            if sections.contains(first.as_str()) && !is_file(&found[1]) {
                named += 1;
                // The last part may be a value's own, as in `monitorFilter.allApps.enable`.
                if !exists(&found[1]) {
                    wrong.push(format!("{}: `{code}`", page.path));
                }
            }
        }
    }
    assert_none(&wrong);
    assert!(named >= 50, "{named}");
}

/// `ringside.yaml` is a file and no setting.
fn is_file(name: &str) -> bool {
    let endings = ["exe", "yaml", "service", "socket", "conf", "rs", "1"];
    endings.iter().any(|ending| name.ends_with(&format!(".{ending}")))
}

/// What a name of a metric is followed by: its labels with values.
#[test]
fn metrics_and_reasons_that_pages_name_exist() {
    let name =
        regex(r"(?-u:\b)(?:ringside_[a-z0-9_]+|process_[a-z_]+_(?:bytes|seconds))(\{[^}]*\})?");
    let label = regex(r#"([a-z]+)(=~|!=|=)"([^"]*)""#);
    let reasons =
        [DropReason::NAMES, RejectReason::NAMES, LossReason::NAMES, Note::NAMES, &["delivered"]];
    let reasons = reasons.concat();
    let mut wrong = Vec::new();
    let mut named = 0;
    // Tests have names of the same form, and that page names tests.
    for page in Page::all().iter().filter(|page| page.path != "docs/compatibility.md") {
        let blocks = page.of("promql").map(|block| block.text.clone());
        for text in page.code().into_iter().chain(blocks) {
            for found in name.captures_iter(&text) {
                let labels = found.get(1).map_or("", |it| it.as_str());
                let metric = found[0].strip_suffix(labels).expect("behind the name");
                // `ringside_host_*`
                let matches = |family: &&ringside::observe::metrics::Family| {
                    let series = ["_bucket", "_sum", "_count"];
                    let mut names = series.iter().map(|it| format!("{}{it}", family.name));
                    family.name == metric
                        || names.any(|name| name == metric)
                        || metric.ends_with('_') && family.name.starts_with(metric)
                };
                named += 1;
                let Some(family) = FAMILIES.iter().find(matches) else {
                    // A folder, a program or a function may be called so too.
                    wrong.push(format!("{}: {metric}", page.path));
                    continue;
                };
                for pair in label.captures_iter(labels) {
                    if !family.labels.contains(&&pair[1]) && &pair[1] != "le" {
                        wrong.push(format!("{}: {metric} has no label {}", page.path, &pair[1]));
                    }
                    let is_reason = ["reason", "outcome", "note"].contains(&&pair[1]);
                    let values = pair[3].split('|').filter(|_| is_reason);
                    for value in values.filter(|value| !reasons.contains(value)) {
                        wrong.push(format!("{}: {metric}: no {value}", page.path));
                    }
                }
            }
        }
    }
    assert_none(&wrong);
    assert!(named >= 50, "{named}");
}

/// All text in the program's sources as it is printed, with `…` in the place of values.
fn sources() -> String {
    let mut text = String::new();
    let continued = regex(r"\\\n\s*");
    let value = regex(r"\{[^{}\s]*\}|\$\{[^}]*\}");
    for file in files("src") {
        let is_test = file.contains("/tests");
        let is_source = file.ends_with(".rs") || file.ends_with(".js") && !file.contains("vendor");
        if is_source && !is_test {
            let source = fs::read_to_string(root().join(&file)).expect(&file);
            let source = source.replace("\\\"", "\"");
            let source = continued.replace_all(&source, "");
            text.push_str(&value.replace_all(&source, "…"));
        }
    }
    text
}

#[test]
fn log_lines_that_pages_show_are_those_of_the_program() {
    let sources = sources();
    let level = regex(r"^(?:error|warn|info): ");
    let mut wrong = Vec::new();
    let mut shown = 0;
    for page in Page::all() {
        for block in page.of("log") {
            for line in block.text.lines().filter(|line| !line.is_empty()) {
                shown += 1;
                let message = level.replace(line, "");
                // What stands behind a message are the values that belong to it.
                let message = message.split("  ").next().expect("a part");
                if !sources.contains(message.trim_end_matches('…').trim_end()) {
                    wrong.push(format!("{}: {message}", block.place));
                }
            }
        }
    }
    assert_none(&wrong);
    assert!(shown >= 20, "{shown}");
}

//! The reference of the commands: its exit codes are those that its examples have, its options those
//! that the program has.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use ringside::cli;

use crate::page::{Page, root};
use crate::support::binary;

/// The least that a file needs.
const RECEIVES: &str =
    "  userEvents:\n    enable: true\n    udpServerConfig:\n      serverHost: 127.0.0.1\n";

/// The rows of the table that has this header, cell by cell.
fn table(page: &Page, header: &str) -> Vec<Vec<String>> {
    let (_, behind) =
        page.prose.split_once(header).unwrap_or_else(|| panic!("{}: no {header}", page.path));
    let rows = behind.lines().skip(2).map_while(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The commands of the table are run in its order, in one folder.
#[test]
fn exit_codes_are_those_of_the_reference() {
    let page = Page::read("docs/commands.md");
    let codes = cli::EXIT_CODES.map(|(code, meaning)| vec![code.to_string(), meaning.to_owned()]);
    assert_eq!(table(&page, "| code | meaning |"), codes);

    let folder = tempfile::tempdir().expect("a folder");
    // A port on which nobody answers: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let port = port.expect("a port").port();
    for (name, setting) in [
        ("right.yaml", format!("ringside: {{ console: {{ port: {port} }} }}")),
        ("wrong.yaml", "logLevel: loud".to_owned()),
        ("silent.yaml", "ringside: { console: { enable: false } }".to_owned()),
    ] {
        let text = format!("Butler-SOS:\n{RECEIVES}  {setting}\n");
        fs::write(folder.path().join(name), text).expect("written");
    }
    let mut seen = BTreeSet::new();
    for row in table(&page, "| for example | code | because |") {
        let words: Vec<&str> = row[0].trim_matches('`').split(' ').collect();
        let said = Command::new(binary()).args(&words[1..]).current_dir(folder.path()).output();
        let said = said.expect("run ringside");
        let text = String::from_utf8_lossy(&said.stderr);
        let code = said.status.code().map(|code| code.to_string());
        assert_eq!(code.as_deref(), Some(row[1].as_str()), "{}: {text}", row[0]);
        seen.insert(words[1].to_owned());
    }
    let mut program = cli::command();
    for command in program.get_subcommands() {
        assert!(seen.contains(command.get_name()), "no example of {}", command.get_name());
    }
    assert!(program.render_help().to_string().contains("Exit codes: 0 stopped cleanly, 1 "));
}

/// With `RINGSIDE_UPDATE_DOCS` the page is written anew.
#[test]
fn the_reference_has_every_command_and_option() {
    const MARK: &str = "<!-- The rest is written by";
    let path = root().join("docs/commands.md");
    let text = fs::read_to_string(&path).expect("the page");
    let mark = text.find(MARK).expect("the mark");
    let begin = mark + text[mark..].find('\n').expect("a line") + 1;
    let mut program = cli::command().term_width(0);
    program.build();
    let mut expected = text[..begin].to_owned();
    for command in program.get_subcommands_mut() {
        describe(command, &mut expected);
    }
    if std::env::var_os("RINGSIDE_UPDATE_DOCS").is_some() {
        fs::write(path, expected).expect("written");
    } else {
        assert!(text == expected, "run RINGSIDE_UPDATE_DOCS=1 cargo test --test docs");
    }
}

/// A command, and the commands below it.
fn describe(command: &mut clap::Command, text: &mut String) {
    if command.get_name() == "help" {
        return;
    }
    let below = command.get_subcommands().any(|it| it.get_name() != "help");
    if !below {
        let name = command.get_bin_name().unwrap_or_default().to_owned();
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").to_owned();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = write!(text, "\n### {name}\n\n{about}.\n\n```text\n{usage}\n```\n");
        let arguments: Vec<&clap::Arg> = command
            .get_arguments()
            .filter(|it| it.get_id() != "help" && !it.is_hide_set())
            .collect();
        if !arguments.is_empty() {
            text.push_str("\n| option | default | meaning |\n|---|---|---|\n");
        }
        for argument in arguments {
            text.push_str(&option(argument));
        }
    }
    for command in command.get_subcommands_mut() {
        describe(command, text);
    }
}

/// The row of one option.
fn option(argument: &clap::Arg) -> String {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let takes_values = argument.get_action().takes_values();
    let value = argument.get_value_names().filter(|_| takes_values);
    let value = value.map(|names| names.join(" "));
    let names = [names.join(", ")].into_iter().chain(value).filter(|it| !it.is_empty());
    let names = names.collect::<Vec<_>>().join(" ");
    let default: Vec<String> = argument
        .get_default_values()
        .iter()
        .filter(|_| takes_values)
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> =
        argument.get_possible_values().iter().map(|it| format!("`{}`", it.get_name())).collect();
    let one_of = if possible.is_empty() || !takes_values {
        String::new()
    } else {
        format!(" One of {}.", possible.join(", "))
    };
    let help = help.trim_end_matches('.').replace('|', "\\|");
    format!("| `{names}` | {} | {help}.{one_of} |\n", default.join(" "))
}

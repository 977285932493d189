//! `docs/compatibility.md` names a test for everything that it says; this one sees to it that they
//! exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const DOCUMENT: &str = include_str!("../docs/compatibility.md");

/// How many differences there are.
const DIFFERENCES: usize = 32;

/// The cells of each row of the table that follows a heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = DOCUMENT
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading `{heading}`"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    // The names of the columns, and the line under them.
    rows.skip(2).map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// The names in backticks that a cell consists of, besides words between them.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The names of all functions in the sources and in the tests.
fn functions() -> BTreeSet<String> {
    let mut functions = BTreeSet::new();
    let mut folders =
        ["src", "tests"].map(|it| Path::new(env!("CARGO_MANIFEST_DIR")).join(it)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let of_line = |line: &str| {
                    let (_, rest) = line.split_once("fn ")?;
                    Some(rest.split_once('(')?.0.to_owned())
                };
                functions.extend(text.lines().filter_map(of_line));
            }
        }
    }
    functions
}

#[test]
fn every_difference_and_every_paragraph_names_tests_that_exist() {
    let functions = functions();
    let differences = rows("## The differences");
    let numbers: Vec<_> = differences.iter().map(|row| row[0].to_owned()).collect();
    let wanted: Vec<_> = (1..=DIFFERENCES).map(|number| number.to_string()).collect();
    assert_eq!(numbers, wanted);
    let paragraphs = rows("## The payload reference, paragraph by paragraph");
    assert!(!paragraphs.is_empty());
    for row in differences.iter().chain(&paragraphs) {
        let named = names(row.last().expect("a column"));
        assert!(!named.is_empty(), "no test is named: {row:?}");
        for name in named {
            assert!(functions.contains(name), "there is no function `{name}`: {row:?}");
        }
    }
}

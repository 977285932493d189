//! Tables of the documentation that are the program's own: a page has exactly what the program has.
//!
//! With `RINGSIDE_UPDATE_DOCS` set the page is written anew, without it the test fails.

use std::fs;

/// Asserts that the rows below this header, and the line under it, are these.
pub(crate) fn assert_table(page: &str, header: &str, rows: &[String]) {
    let text = fs::read_to_string(page).expect(page);
    let start =
        text.find(&format!("\n{header}\n|---")).unwrap_or_else(|| panic!("{page}: {header}"));
    let ruled = start + 1 + header.len() + 1;
    let begin = ruled + text[ruled..].find('\n').expect("an end") + 1;
    let old: usize = text[begin..].lines().take_while(|it| it.starts_with('|')).map(end).sum();
    let table = rows.iter().fold(String::new(), |table, row| table + row + "\n");
    settle(page, &text, &format!("{}{table}{}", &text[..begin], &text[begin + old..]));
}

/// Asserts that this is what follows the page's comment that says who writes the rest.
pub(crate) fn assert_rest(page: &str, rest: &str) {
    const MARK: &str = "<!-- The rest is written by";
    let text = fs::read_to_string(page).expect(page);
    let mark = text.find(MARK).unwrap_or_else(|| panic!("{page}: {MARK}"));
    let begin = mark + text[mark..].find('\n').expect("an end") + 1;
    settle(page, &text, &format!("{}{rest}", &text[..begin]));
}

fn settle(page: &str, found: &str, expected: &str) {
    if std::env::var_os("RINGSIDE_UPDATE_DOCS").is_some() {
        fs::write(page, expected).expect(page);
    } else {
        assert!(found == expected, "{page}: run RINGSIDE_UPDATE_DOCS=1 cargo test --lib");
    }
}

/// Bytes of a line with its end.
fn end(line: &str) -> usize {
    line.len() + 1
}

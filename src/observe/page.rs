//! The console's two pages and what they are made of. Nothing comes from another host.

/// The live page.
pub const LIVE: &str = include_str!("console/page.html");

/// The form for the token.
pub const LOGIN: &str = include_str!("console/login.html");

/// Stands in a page for the nonce of its script and style.
const NONCE: &str = "{{nonce}}";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The files of the live page: name, type, text.
const ASSETS: [(&str, &str, &str); 9] = [
    ("console.css", STYLE, include_str!("console/console.css")),
    ("console.js", SCRIPT, include_str!("console/console.js")),
    ("charts.js", SCRIPT, include_str!("console/charts.js")),
    ("events.js", SCRIPT, include_str!("console/events.js")),
    ("notices.js", SCRIPT, include_str!("console/notices.js")),
    ("show.js", SCRIPT, include_str!("console/show.js")),
    // uPlot 1.6.32, unchanged, and its licence, which goes wherever the program goes.
    ("uplot-license.txt", "text/plain; charset=utf-8", include_str!("console/vendor/LICENSE")),
    ("uplot.js", SCRIPT, include_str!("console/vendor/uPlot.iife.min.js")),
    ("uplot.css", STYLE, include_str!("console/vendor/uPlot.min.css")),
];

/// Type and text of one of the live page's files.
pub fn asset(name: &str) -> Option<(&'static str, &'static str)> {
    let found = ASSETS.iter().find(|(known, ..)| *known == name)?;
    Some((found.1, found.2))
}

/// The page as it is sent once.
pub fn with_nonce(page: &str, nonce: &str) -> String {
    page.replace(NONCE, nonce)
}

/// The content security policy of a page sent with `nonce`: only its own scripts and styles, only
/// its own statistics.
pub fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything but the library.
    fn own() -> impl Iterator<Item = &'static str> {
        let files = ASSETS.iter().filter(|(name, ..)| !name.starts_with("uplot"));
        [LIVE, LOGIN].into_iter().chain(files.map(|(_, _, text)| *text))
    }

    #[test]
    fn pages_need_no_other_host() {
        for text in own() {
            assert!(!text.contains("://"), "an absolute URL");
            assert!(!text.contains("@import") && !text.contains("url("), "a resource of a style");
        }
        for page in [LIVE, LOGIN] {
            for attribute in ["src=\"", "href=\""] {
                for (at, _) in page.match_indices(attribute) {
                    let value = page[at + attribute.len()..].split('"').next().unwrap();
                    let known =
                        value.strip_prefix("assets/").is_some_and(|name| asset(name).is_some());
                    assert!(known || value.starts_with('#') || value == "data:,", "{value}");
                }
            }
        }
    }

    #[test]
    fn pages_obey_their_policy() {
        for page in [LIVE, LOGIN] {
            for element in ["<script", "<style", "<link rel=\"stylesheet\""] {
                for (at, _) in page.match_indices(element) {
                    let rest = page[at + element.len()..].split('>').next().unwrap();
                    assert!(rest.contains(" nonce=\"{{nonce}}\""), "{rest}");
                }
            }
            assert!(!page.contains(" style=") && !page.contains(" onclick="));
            assert!(!with_nonce(page, "abc").contains(NONCE));
        }
        // Names from outside go into the page as text only.
        for text in own() {
            assert!(!text.contains("innerHTML") && !text.contains("insertAdjacentHTML"));
        }
    }

    #[test]
    fn the_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|(_, _, text)| text.len()).sum();
        assert!(LIVE.len() + bytes < 120_000, "{bytes}");
    }

    #[test]
    fn scripts_import_only_what_is_there() {
        for text in own() {
            for (at, _) in text.match_indices(" from './") {
                let name = text[at + " from './".len()..].split('\'').next().unwrap();
                assert!(asset(name).is_some(), "{name}");
            }
        }
    }
}

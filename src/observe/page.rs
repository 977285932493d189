//! The console's two pages. Each is one file without anything from another host.

/// The live page.
pub const LIVE: &str = include_str!("page.html");

/// The form for the token.
pub const LOGIN: &str = include_str!("login.html");

/// Stands in a page for the nonce of its script and style.
const NONCE: &str = "{{nonce}}";

/// The page as it is sent once.
pub fn with_nonce(page: &str, nonce: &str) -> String {
    page.replace(NONCE, nonce)
}

/// The content security policy of a page sent with `nonce`: only its own script and style, only
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

    #[test]
    fn pages_need_no_other_host() {
        for page in [LIVE, LOGIN] {
            assert!(!page.contains("://"), "an absolute URL");
            assert!(!page.contains("@import") && !page.contains("url("), "a resource of the style");
            for attribute in ["src=", "href="] {
                for (at, _) in page.match_indices(attribute) {
                    let value = &page[at + attribute.len()..];
                    assert!(value.starts_with("\"data:,\""), "{}", &value[..20]);
                }
            }
        }
    }

    #[test]
    fn pages_obey_their_policy() {
        for page in [LIVE, LOGIN] {
            for element in ["<script", "<style"] {
                for (at, _) in page.match_indices(element) {
                    let rest = &page[at + element.len()..];
                    assert!(rest.starts_with(" nonce=\"{{nonce}}\">"), "{}", &rest[..30]);
                }
            }
            assert!(!page.contains(" style=") && !page.contains(" onclick="));
            // Names from outside go into the page as text only.
            assert!(!page.contains("innerHTML"));
            assert!(!with_nonce(page, "abc").contains(NONCE));
        }
        assert!(LIVE.lines().count() < 250);
    }
}

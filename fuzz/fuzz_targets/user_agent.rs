//! Any text as a user agent: no panic, nothing made up, and the cache answers like the parser.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside::enrich::{UserAgent, UserAgents};

/// The cache reads no more of a text.
const TEXT_MAX: usize = 1024;

fuzz_target!(|text: &str| {
    let text = &text[..text.floor_char_boundary(TEXT_MAX)];
    let parsed = UserAgent::parse(text);
    let mut cache = UserAgents::new();
    for _ in 0..2 {
        assert_eq!(cache.get(text), parsed.as_ref());
    }
    let Some(agent) = parsed else { return };
    assert_ne!(agent, UserAgent::default(), "nothing is `None`");
    let version = &agent.browser_version;
    assert!(text.replace('\'', "").contains(&**version), "{version:?} is not in the text");
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    assert_eq!(*digits, *agent.browser_major_version);
});

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::Deserialize;

use super::*;

/// A user agent and what Bowser made of it.
#[derive(Deserialize)]
struct Row {
    ua: String,
    browser: Option<String>,
    version: Option<String>,
    major: Option<String>,
    os: Option<String>,
    os_version: Option<String>,
}

/// Browser name, version and major version, OS name and version.
fn parts(text: &str) -> [String; 5] {
    let agent = UserAgent::parse(text).unwrap_or_default();
    [
        agent.browser_name,
        agent.browser_version,
        agent.browser_major_version,
        agent.os_name,
        agent.os_version,
    ]
    .map(String::from)
}

#[test]
fn real_browsers_are_called_what_bowser_calls_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/user-agents.jsonl.zst");
    let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = zstd::decode_all(packed.as_slice()).expect("zstd");
    let mut rows = 0;
    let mut wrong = Vec::new();
    for row in serde_json::Deserializer::from_slice(&lines).into_iter::<Row>() {
        let row = row.expect("one JSON object a line");
        let wanted = [row.browser, row.version, row.major, row.os, row.os_version]
            .map(Option::unwrap_or_default);
        let got = parts(&row.ua);
        rows += 1;
        if got != wanted {
            wrong.push(format!("{}\n  wanted {wanted:?}\n  got    {got:?}", row.ua));
        }
    }
    assert!(rows > 400, "{rows} rows");
    assert!(wrong.is_empty(), "{} of {rows}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the recorded texts have none of; `-` stands for an empty part.
const RARER: &[(&str, &str)] = &[
    ("Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)", "GPTBot 1.2 1 - -"),
    (
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "BingCrawler 2.0 2 - -",
    ),
    ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "SlackBot 1.0 1 - -"),
    ("Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help)", "YahooSlurp - - - -"),
    ("Opera/9.80 (Windows NT 6.1) Presto/2.12.388 Version/12.18", "Opera 12.18 12 Windows NT 6.1"),
    (
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 5.1; Trident/4.0)",
        "Internet Explorer 8.0 8 Windows NT 5.1",
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0) Chrome/64.0 Safari/537.36 Edge/18.17763",
        "Microsoft Edge 18.17763 18 Windows NT 10.0",
    ),
    (
        "Mozilla/5.0 (Linux; Android 10; HD1913) Chrome/120.0 EdgA/119.0.2151.92",
        "Microsoft Edge 119.0.2151.92 119 Android 10",
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0 Safari/537.36 Vivaldi/6.5.3206",
        "Vivaldi 6.5.3206 6 Linux -",
    ),
    (
        "Mozilla/5.0 (Linux; U; Android 10) Version/4.0 Chrome/78.0 UCBrowser/13.4.0.1306",
        "UC Browser 4.0 4 Android 10",
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0) Chrome/114.0 Electron/25.9.8 Safari/537.36",
        "Electron 25.9.8 25 Windows NT 10.0",
    ),
    (
        "Mozilla/5.0 (Linux; U; Android 13) Version/4.0 Chrome/100.0 XiaoMi/MiuiBrowser/14.5.0",
        "Miui 14.5.0 14 Android 13",
    ),
    ("Mozilla/5.0 (Linux) Chrome/80.0 Mobile MQQBrowser/6.2 TBS/1", "QQ Browser 6.2 6 Linux -"),
    ("QQBrowserLite/1.3.0 (x)", "QQ Browser Lite 1.3.0 1 - -"),
    (
        "Mozilla/5.0 (Windows NT 6.1) Chrome/49.0 Safari/537.36 SE 2.X MetaSr 1.0",
        "Sogou Browser 49.0 49 Windows NT 6.1",
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15) Version/13.4 FxiOS/29.0 Safari",
        "Firefox 29.0 29 iOS 13.4",
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Ubuntu Chromium/80.0",
        "Chromium 80.0 80 macOS 10.15.7",
    ),
    (
        "Mozilla/5.0 (Windows Phone 10.0; Android 6.0.1) Edge/15.15063",
        "Microsoft Edge 15.15063 15 Windows Phone 10.0",
    ),
    (
        "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 Chrome/79.0",
        "WebOS Browser - - WebOS -",
    ),
    (
        "Mozilla/5.0 (BB10; Touch) AppleWebKit/537.10+ Version/10.0.9.2372",
        "BlackBerry 10.0.9.2372 10 BlackBerry 10",
    ),
    ("Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) Version/5.0 TV Safari", "Tizen 5.0 5 Tizen 5.0"),
    (
        "Mozilla/5.0 (PlayStation 4 7.51) AppleWebKit/605.1.15",
        "PlayStation 4 - - PlayStation 4 7.51",
    ),
    (
        "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/123.0.0.0",
        "Chrome 123.0.0.0 123 Chrome OS -",
    ),
    ("Roku/DVP-9.10 (519.10E04111A)", "Roku DVP-9.10 - Roku 9.10"),
    ("Mozilla/5.0 (Phone; OpenHarmony 5.0) Chrome/114.0", "Chrome 114.0 114 HarmonyOS 5.0"),
    (
        "Mozilla/5.0 (Linux; U; Android 4.0.3) AppleWebKit/534.30 Version/4.0",
        "Android Browser 4.0 4 Android 4.0.3",
    ),
    ("Mozilla/5.0 (Mobile; like Android) AppleWebKit/537.36", "Safari - - - -"),
    ("Chrome/9 (Windows XP)", "Chrome - - Windows XP"),
];

#[test]
fn rarer_browsers_and_systems() {
    for (text, wanted) in RARER {
        let got = parts(text).map(|part| if part.is_empty() { "-".to_owned() } else { part });
        assert_eq!(got.join(" "), *wanted, "{text}");
    }
}

#[test]
fn a_program_that_is_not_known_has_the_name_it_gives_itself() {
    let cases = [
        ("enigma.js/2.7.2 (NodeJS)", Some(("enigma.js", "2.7.2"))),
        ("a/1 b/2 (c/3) (d)", Some(("a/1 b/2 (c", "3)"))),
        ("a/1 b/2 c", Some(("a/1 b", "2"))),
        ("a/1 b(c", None),
        ("a/1", None),
        ("not one at all", None),
        ("", None),
    ];
    for (text, wanted) in cases {
        assert_eq!(own_name(text), wanted, "{text}");
    }
}

#[test]
fn quotes_do_not_count() {
    assert_eq!(parts("' Chr'ome/12.3''"), ["Chrome", "12.3", "12", "", ""]);
    assert_eq!(UserAgent::parse(" ' ' "), None);
}

/// What makes patterns that backtrack take minutes.
#[test]
fn the_longest_text_takes_no_longer_than_any_other() {
    let limit = Duration::from_secs(5);
    let start = Instant::now();
    for piece in
        ["1", "1.", "1_", "opt/1", "version/1_", "os 1_", "Macintosh FxiOS", "edg", "(", "/ "]
    {
        let text = format!("Chrome/{}x", piece.repeat(1024 / piece.len()));
        assert_eq!(parts(&text)[4], "", "no system is named");
    }
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
}

/// Pieces that the tables look for, between which anything may stand.
fn piece() -> impl Strategy<Value = String> {
    let rows = BROWSERS.iter().chain(SYSTEMS).map(rules::Rule::test).collect::<Vec<_>>();
    prop_oneof![
        proptest::sample::select(rows).prop_map(str::to_owned),
        "[0-9._/ ();x-]{0,6}",
        "\\PC{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(24),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_text_can_be_asked_for(pieces in proptest::collection::vec(piece(), 0..12)) {
        let text = pieces.concat();
        let parsed = UserAgent::parse(&text);
        prop_assert_eq!(UserAgents::default().get(&text).cloned(), parsed.clone());
        if let Some(agent) = parsed {
            prop_assert!(agent.browser_version.starts_with(&*agent.browser_major_version));
            prop_assert!(agent.browser_major_version.bytes().all(|byte| byte.is_ascii_digit()));
            prop_assert!(!agent.os_name.is_empty() || agent.os_version.is_empty());
        }
    }
}

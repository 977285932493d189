//! Operating systems, in the order in which they are asked: as for browsers, the order and the names
//! are those of Bowser 2.14.

use super::rules::Rule;

/// The two whose versions may be written with `_` between the numbers.
pub(super) const MAC: &str = "macOS";
pub(super) const IOS: &str = "iOS";

/// Every operating system that is known.
pub(super) static SYSTEMS: &[Rule] = &[
    Rule::new("Roku", "(?-i:Roku/DVP)", &[r"roku/dvp-(\d+\.\d+)"]),
    Rule::new("Windows Phone", "windows phone", &[r"windows phone (?:os)?\s?<number>"]),
    Rule::new("Windows", "windows ", &[r"windows ((?:nt|xp)(?: \d\d?(?u:.)\d)?)"]),
    // Firefox on an iPad says that it runs on a Macintosh, and its version is that of the browser.
    Rule::new(IOS, "(?-i:Macintosh(?u:.*?) FxiOS(?u:.*?)/)", &[r"(?-i:Version/(\d[\d.]+))"]),
    Rule::new(MAC, "macintosh", &["mac os x <loose>"]),
    Rule::new(IOS, "ipod|iphone|ipad", &[r"os (\d+(?:[_\s]\d+)*) like mac os x"]),
    Rule::new("HarmonyOS", "openharmony", &[r"openharmony\s+<number>"]),
    Rule::new("Android", "android", &[r"android[\s/-]<number>"]).unless("like android"),
    Rule::new("WebOS", "(?:web|hpw)[o0]s", &["<token>/<number>"]),
    Rule::new(
        "BlackBerry",
        r"blackberry|\bbb\d+|rim\stablet",
        &[r"rim\stablet\sos\s<number>", r"blackberry\d+/(\d+(?:[_\s]\d+)*)", r"\bbb(\d+)"],
    ),
    Rule::new("Bada", "bada", &["bada/<number>"]),
    Rule::new("Tizen", "tizen", &[r"tizen[/\s]<number>"]),
    Rule::new("Linux", "linux", &[]),
    Rule::new("Chrome OS", "(?-i:CrOS)", &[]),
    Rule::new("PlayStation 4", "(?-i:PlayStation 4)", &[r"playstation 4[/\s]<number>"]),
];

//! Browsers, in the order in which they are asked.
//!
//! The order matters, because most browsers also claim to be others: Edge says it is Chrome, which
//! says it is Safari. Names, order and what counts as a version are those of Bowser 2.14, so that a
//! dashboard goes on as before; some are oddities that are kept for that reason, such as a test for
//! `focus` or `coast` anywhere in the text.

use super::rules::Rule;

/// Where many browsers write the version that counts.
const COMMON: &str = "version/<loose>";

/// The version is right after the token, as bots write it; else the common one.
const BOT: &[&str] = &["<token>/<dotted>", COMMON];
/// The browser's own version; else the common one.
const OWN_FIRST: &[&str] = &[r"<token>[\s/]<loose>", COMMON];
/// The common version; else the browser's own.
const COMMON_FIRST: &[&str] = &[COMMON, r"<token>[\s/]<loose>"];
/// The browser's own version or none.
const OWN: &[&str] = &[r"<token>[\s/]<loose>"];
/// The same, where only a slash can precede it.
const AFTER_SLASH: &[&str] = &["<token>/<loose>"];
/// No version at all.
const NONE: &[&str] = &[];

const CHROME: &str = "chrome|crios|crmo";
const CHROME_VERSION: &str = "(?:chrome|crios|crmo)/<loose>";
const QQ_VERSIONS: &[&str] = &["(?:qqbrowserlite|qqbrowser)/<loose>", COMMON];

/// Every browser that is known by name. One that is not gets the name it gives itself.
pub(super) static BROWSERS: &[Rule] = &[
    // Crawlers and agents.
    Rule::new("GPTBot", "gptbot", BOT),
    Rule::new("ChatGPT-User", "chatgpt-user", BOT),
    Rule::new("OAI-SearchBot", "oai-searchbot", BOT),
    Rule::new("ClaudeBot", "claudebot|claude-web|claude-user|claude-searchbot", BOT),
    Rule::new("Omgilibot", "omgilibot|webzio-extended", BOT),
    Rule::new("Diffbot", "diffbot", BOT),
    Rule::new("PerplexityBot", "perplexitybot", BOT),
    Rule::new("Perplexity-User", "perplexity-user", BOT),
    Rule::new("YouBot", "youbot", BOT),
    Rule::new("Meta-WebIndexer", "meta-webindexer", BOT),
    Rule::new("Meta-ExternalAds", "meta-externalads", BOT),
    Rule::new("Meta-ExternalAgent", "meta-externalagent", BOT),
    Rule::new("Meta-ExternalFetcher", "meta-externalfetcher", BOT),
    Rule::new("Googlebot", "googlebot", &[r"<token>/(\d+\.\d+)", COMMON]),
    Rule::new("Linespider", "linespider", &[r"<token>(?:-[-\w]+)?[\s/]<dotted>", COMMON]),
    Rule::new("AmazonBot", "amazonbot", BOT),
    Rule::new("BingCrawler", "bingbot", BOT),
    Rule::new("BaiduSpider", "baiduspider", BOT),
    Rule::new("DuckDuckBot", "duckduckbot", BOT),
    Rule::new("InternetArchiveCrawler", "ia_archiver", BOT),
    Rule::new("FacebookExternalHit", "facebookexternalhit|facebookcatalog", NONE),
    Rule::new(
        "SlackBot",
        "slackbot|slack-imgproxy",
        &[r"<token>(?:-[-\w]+)?[\s/]<dotted>", COMMON],
    ),
    Rule::new("YahooSlurp", r"yahoo!?[\s/]*slurp", NONE),
    Rule::new("YandexBot", "yandexbot|yandexmobilebot", NONE),
    Rule::new("PingdomBot", "pingdom", NONE),
    // Browsers that also claim to be Chrome, Safari or Internet Explorer.
    Rule::new("Opera", "opera", COMMON_FIRST),
    Rule::new("Opera", "opr/|opios", &[r"(?:opr|opios)[\s/]((?u-i:[^\t-\r ]+))", COMMON]),
    Rule::new("Samsung Internet for Android", "samsungbrowser", COMMON_FIRST),
    Rule::new("NAVER Whale Browser", "whale", &[COMMON, r"<token>[\s/]<dotted>"]),
    Rule::new("Pale Moon", "palemoon", &[COMMON, r"<token>[\s/]<dotted>"]),
    Rule::new("MZ Browser", "mzbrowser", &[r"<token>[\s/]<dotted>", COMMON]),
    Rule::new("Focus", "focus", &[r"<token>[\s/]<dotted>", COMMON]),
    Rule::new("Swing", "swing", &[r"<token>[\s/]<dotted>", COMMON]),
    Rule::new("Opera Coast", "coast", COMMON_FIRST),
    Rule::new("Opera Touch", r"opt/\d+(?:(?u:.)?_?\d+)+", &[r"opt[\s/]<loose>", COMMON]),
    Rule::new("Yandex Browser", "yabrowser", OWN_FIRST),
    Rule::new("UC Browser", "ucbrowser", COMMON_FIRST),
    Rule::new("Maxthon", "maxthon|mxios", COMMON_FIRST),
    Rule::new("Epiphany", "epiphany", COMMON_FIRST),
    Rule::new("Puffin", "puffin", COMMON_FIRST),
    Rule::new("Sleipnir", "sleipnir", COMMON_FIRST),
    Rule::new("K-Meleon", "k-meleon", COMMON_FIRST),
    Rule::new("WeChat", "micromessenger", OWN_FIRST),
    Rule::new("QQ Browser Lite", "qqbrowserlite", QQ_VERSIONS),
    Rule::new("QQ Browser", "qqbrowser", QQ_VERSIONS),
    Rule::new("Internet Explorer", "msie|trident", &["(?:msie |rv:)<loose>"]),
    Rule::new("Microsoft Edge", r"\sedg/", &[r"\sedg/<loose>"]),
    Rule::new("Microsoft Edge", "edg(?:[ea]|ios)", AFTER_SLASH),
    Rule::new("Vivaldi", "vivaldi", AFTER_SLASH),
    Rule::new("SeaMonkey", "seamonkey", AFTER_SLASH),
    Rule::new("Sailfish", "sailfish", &[r"sailfish\s?browser/(\d+(?:\.\d+)?)"]),
    Rule::new("Amazon Silk", "silk", AFTER_SLASH),
    Rule::new("PhantomJS", "phantom", &["phantomjs/<loose>"]),
    Rule::new("SlimerJS", "slimerjs", AFTER_SLASH),
    Rule::new("BlackBerry", r"blackberry|\bbb\d+|rim\stablet", &[COMMON, r"blackberry\d+/<loose>"]),
    Rule::new("WebOS Browser", "(?:web|hpw)[o0]s", &[COMMON, "w(?:eb)?[o0]sbrowser/<loose>"]),
    Rule::new("Bada", "bada", &["dolfin/<loose>"]),
    Rule::new("Tizen", "tizen", &[r"(?:tizen\s?)?browser/<loose>", COMMON]),
    Rule::new("QupZilla", "qupzilla", OWN_FIRST),
    Rule::new("LibreWolf", "librewolf", OWN),
    Rule::new("Firefox", "firefox|iceweasel|fxios", OWN),
    Rule::new("Electron", "electron", AFTER_SLASH),
    Rule::new(
        "Sogou Browser",
        r"sogoumobilebrowser|metasr|se 2\.x",
        &[r"sogoumobilebrowser[\s/]<loose>", CHROME_VERSION, r"se ([\d.]+)x"],
    ),
    Rule::new("Miui", "miuibrowser", OWN),
    Rule::new("DuckDuckGo", r"\sddg/[\d.]+$", &[r"\sddg/([\d.]+)$"]),
    // What the others claim to be.
    Rule::new("Chromium", "chromium", OWN_FIRST),
    Rule::new("Chrome", CHROME, &[CHROME_VERSION]),
    Rule::new("Google Search", "gsa", AFTER_SLASH),
    Rule::new("Android Browser", "android", &[COMMON]).unless("like android"),
    Rule::new("PlayStation 4", "playstation 4", &[COMMON]),
    Rule::new("Safari", "safari|applewebkit", &[COMMON]),
];

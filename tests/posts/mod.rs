//! What Butler SOS sent to New Relic, event by event, and what Ringside sends.
//!
//! As in `tests/oracle.rs`: the model of Butler SOS writes exactly what was recorded, the differences
//! turn that into what is expected, and Ringside's encoder writes it.

use ringside::deliver::new_relic::encode::{Encoder, EncoderSettings, Levels};
use ringside::deliver::{Buffer, Encode};
use ringside::enrich::{Enriched, UserAgent};
use ringside::event::{Kind, Listener, parse};

use crate::butler_sos::{Extras, Rules, Version, custom_event, narrow};
use crate::differences::Expected;
use crate::recordings::{Recording, rules};

/// Ids of the accounts in the recorded configuration.
pub const ACCOUNTS: [&str; 2] = ["1111111", "2222222"];

#[test]
fn the_model_sends_what_butler_sos_sent() {
    let rules = rules(Version::V1);
    let mut sent = 0;
    for recording in Recording::all() {
        let modelled = recording.modelled_for_new_relic(&rules);
        for scrambled in [false, true] {
            let body = modelled.as_ref().filter(|it| is_sent(it, &["warn", "error"]));
            let body = body.map(|it| custom_event(&it.event, &it.extras, &rules, scrambled));
            let wanted: Vec<(String, String)> = body
                .iter()
                .flat_map(|body| {
                    ACCOUNTS.map(|id| (format!("/v1/accounts/{id}/events"), body.clone()))
                })
                .collect();
            let posts = recording.posts(scrambled);
            let seen: Vec<(String, String)> =
                posts.iter().map(|post| (post.path.clone(), post.body.clone())).collect();
            assert_eq!(wanted, seen, "{}", recording.id);
            sent += seen.len();
        }
    }
    assert!(sent > 2_000, "only {sent} requests were compared");
}

#[test]
fn ringside_sends_what_butler_sos_sent_after_the_differences() {
    let rules = rules(Version::V1);
    let mut fatal = 0;
    for recording in Recording::all() {
        let Some(modelled) = recording.modelled_for_new_relic(&rules) else { continue };
        let modelled = modelled.with_differences();
        if !modelled.judged.is_empty() {
            continue; // Rules do not let it come this far.
        }
        for scrambled in [false, true] {
            let wanted = expected(&recording, &rules, scrambled).map(|body| body + "\n");
            let got = encoded(&modelled, &rules, scrambled);
            assert_eq!(got, wanted, "{}", recording.id);
            fatal += usize::from(wanted.is_some() && recording.posts(scrambled).is_empty());
        }
    }
    assert!(fatal > 0, "no recording shows that FATAL is sent");
}

/// The custom event of a recording after the differences; none when it is not sent.
pub fn expected(recording: &Recording, rules: &Rules, scrambled: bool) -> Option<String> {
    let after = recording.modelled_for_new_relic(rules)?.with_differences();
    // Difference 16.
    is_sent(&after, &["warn", "error", "fatal"])
        .then(|| custom_event(&after.event, &after.extras, rules, scrambled))
}

/// Whether an event goes to New Relic; `levels` are those of the services in the recorded
/// configuration.
fn is_sent(expected: &Expected<'_>, levels: &[&str]) -> bool {
    let level = narrow(&expected.event.text("level")).to_lowercase();
    expected.judged.is_empty()
        && match expected.event.kind {
            Kind::ProxySession | Kind::ProxyConnection => true,
            Kind::QixPerf => false,
            _ => levels.contains(&level.as_str()),
        }
}

/// The line that Ringside's parser and encoder make of a datagram; `None` when it is not wanted.
fn encoded(expected: &Expected<'_>, rules: &Rules, scrambled: bool) -> Option<String> {
    let version = ("butlerSosVersion".to_owned(), "15.0.1".to_owned());
    let mut encoder = Encoder::new(&EncoderSettings {
        user_events: true,
        user_attributes: rules.static_tags(Listener::UserEvents),
        scramble_user_events: scrambled,
        levels: [Levels { fatal: true, error: true, warn: true }; Kind::COUNT],
        log_attributes: rules
            .static_tags(Listener::LogEvents)
            .into_iter()
            .chain(rules.new_relic_attributes())
            .chain([version])
            .collect(),
        scramble_log_events: false,
    });
    let mut scratch = Vec::new();
    let datagram = expected.datagram;
    let event = parse(datagram.listener, &datagram.payload, &mut scratch).ok()?;
    let app_name = narrow(&expected.extras.app_name);
    let user_agent = user_agent(&expected.extras);
    let enriched = Enriched {
        app_name: (!app_name.is_empty()).then_some(&app_name),
        user_agent: Some(&user_agent),
        ..Enriched::plain(&event, 0)
    };
    let mut out = Buffer::default();
    encoder.wants(&event).then(|| encoder.encode(&enriched, &mut out))?;
    Some(String::from_utf8(out.to_vec()).expect("UTF-8"))
}

fn user_agent(extras: &Extras) -> UserAgent {
    let value = |wanted: &str| {
        let found = extras.user_agent.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str()).unwrap_or_default().into()
    };
    UserAgent {
        browser_name: value("uaBrowserName"),
        browser_version: "".into(),
        browser_major_version: value("uaBrowserMajorVersion"),
        os_name: value("uaOsName"),
        os_version: value("uaOsVersion"),
    }
}

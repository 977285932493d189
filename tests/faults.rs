//! Real faults: servers that are stopped, killed and silent while events come, counted at the far end.
#![cfg(target_os = "linux")]

mod support;

#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/network.rs"]
mod network;
#[path = "faults/servers.rs"]
mod servers;
#[path = "faults/silence.rs"]
mod silence;

use serde_json::Value;
use support::{Ringside, number};

/// Waits until the destination has all of the first `sent` events of the log listener and nothing is
/// under way, and asserts that nothing was lost on the way.
fn all_delivered(ringside: &Ringside, destination: &str, sent: u64) -> Value {
    let of =
        |stats: &Value, key: &str| number(stats, &format!("/destinations/{destination}/{key}"));
    let stats =
        ringside.wait_stats("everything is delivered", |stats| of(stats, "delivered") >= sent);
    assert_eq!(of(&stats, "delivered"), sent, "{stats:#}");
    assert_eq!(of(&stats, "assigned"), sent, "{stats:#}");
    assert_eq!(of(&stats, "spooled"), 0, "{stats:#}");
    assert_eq!(number(&stats, "/listeners/log_events/accepted"), sent, "{stats:#}");
    assert_eq!(number(&stats, "/listeners/log_events/kernel_dropped"), 0, "{stats:#}");
    stats
}

//! From the configuration file to the receivers: listeners, queues, threads.

use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;

use super::{SettingsError, bytes};
use crate::config::{self, Backend, Config, Listener, Threads};
use crate::receive::{BackendChoice, ListenerSettings, Settings, Shards};
use crate::shard;

pub(super) fn of(config: &Config) -> Result<Settings, SettingsError> {
    let ringside = &config.ringside;
    let strict = ringside.queue.strict;
    let user = config.user_listener().map(|l| listener(&l, "userEvents", strict)).transpose()?;
    let log = config.log_listener().map(|l| listener(&l, "logEvents", strict)).transpose()?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let shards = match ringside.shards {
        config::Shards::Auto | config::Shards::Inline => Shards::Inline,
        config::Shards::Fixed(count) => Shards::Threads(count.into()),
    };
    Ok(Settings {
        listeners: [user, log],
        backend: match ringside.receive.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::IoUring => BackendChoice::IoUring,
            Backend::Tokio => BackendChoice::Tokio,
        },
        receivers: match ringside.receive.receivers {
            Threads::Auto => receivers_for(cores, shards),
            Threads::Fixed(count) => count.into(),
        },
        shards,
        slots: ringside.receive.slots as usize,
        socket_buffer: bytes(ringside.receive.socket_buffer.bytes()),
        ..Settings::default()
    })
}

/// Receivers that `auto` stands for. One that runs its shard measured best on 2 cores
/// (docs/performance.md); it leaves half of them to the deliver thread and the kernel, and so do more
/// of them with more cores. Per event a shard needs about twice the time of a receiver that runs none.
fn receivers_for(cores: usize, shards: Shards) -> usize {
    match shards {
        Shards::Inline => (cores / 4).max(1),
        Shards::Threads(_) => (cores / 8).max(1),
    }
}

/// With a strict queue a shard works on no more at a time than Butler SOS would.
pub(super) fn turn_leases(config: &Config) -> usize {
    if !config.ringside.queue.strict {
        return shard::TURN_LEASES;
    }
    [config.user_listener(), config.log_listener()]
        .iter()
        .flatten()
        .map(|listener| listener.queue.max_concurrent as usize)
        .fold(shard::TURN_LEASES, usize::min)
}

fn listener(
    listener: &Listener<'_>,
    section: &'static str,
    strict: bool,
) -> Result<ListenerSettings, SettingsError> {
    let addresses: Vec<SocketAddr> = (listener.host, listener.port)
        .to_socket_addrs()
        .map_err(|error| SettingsError::Host { section, host: listener.host.to_owned(), error })?
        .collect();
    let queue = listener.queue;
    Ok(ListenerSettings {
        addresses,
        max_message_size: listener.max_message_size as usize,
        queue_capacity: queue.max_size as usize + queue.max_concurrent as usize,
        backpressure_threshold: queue.backpressure_threshold,
        strict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_one_receiver_on_few_cores_and_more_on_more() {
        for (cores, inline, with_shards) in [(1, 1, 1), (2, 1, 1), (4, 1, 1), (8, 2, 1), (16, 4, 2)]
        {
            assert_eq!(receivers_for(cores, Shards::Inline), inline, "{cores} cores");
            assert_eq!(receivers_for(cores, Shards::Threads(2)), with_shards, "{cores} cores");
        }
    }

    #[test]
    fn a_strict_queue_limits_the_turn() {
        let mut config = crate::config::embedded_default();
        assert_eq!(turn_leases(&config), shard::TURN_LEASES);
        config.ringside.queue.strict = true;
        config.user_events.udp_server_config.message_queue.max_concurrent = 7;
        config.log_events.udp_server_config.message_queue.max_concurrent = 3;
        assert_eq!(turn_leases(&config), 3, "the smaller of both listeners");
        config.log_events.udp_server_config.message_queue.max_concurrent = 20;
        assert_eq!(turn_leases(&config), 7);
    }
}

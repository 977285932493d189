//! How to reach the broker, in the terms of the MQTT library.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::ConfigBuilderExt as _;
use rumqttc::{LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{MqttError, MqttSettings, Qos, Tls};

/// Time after which a quiet connection is shown to be alive.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Messages that wait for their acknowledgement at most. Mosquitto drops a client that has more than
/// its `max_inflight_messages`, 20 unless configured, under way at quality of service 2.
pub(super) const IN_FLIGHT: u16 = 20;

/// A broker sends a publisher nothing but acknowledgements.
const INCOMING_MAX: usize = 1024;

/// The protocol's own limit; batches, which are far smaller, are what bounds memory.
const OUTGOING_MAX: usize = 268_435_455;

/// The library's options.
pub(super) fn of(settings: &MqttSettings) -> Result<MqttOptions, MqttError> {
    // 17 characters: every broker has to take 23 (MQTT 3.1.1, section 3.1.3.1).
    let made_up = || format!("ringside-{:08x}", fastrand::u32(..));
    let id = settings.client_id.clone().unwrap_or_else(made_up);
    let mut options = MqttOptions::new(id, &settings.host, settings.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_inflight(IN_FLIGHT)
        .set_max_packet_size(INCOMING_MAX, OUTGOING_MAX);
    if let Some((user, password)) = &settings.credentials {
        options.set_credentials(user, password.expose());
    }
    if let Some(will) = &settings.last_will {
        let (topic, payload) = (will.topic.as_str(), will.payload.as_str());
        options.set_last_will(LastWill::new(topic, payload, qos(settings.qos), settings.retain));
    }
    if let Some(tls) = &settings.tls {
        let configuration = TlsConfiguration::Rustls(Arc::new(client_config(tls)?));
        options.set_transport(Transport::tls_with_config(configuration));
    }
    Ok(options)
}

pub(super) fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn client_config(tls: &Tls) -> Result<ClientConfig, MqttError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match &tls.ca {
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None => builder.with_native_roots().map_err(MqttError::Authorities)?,
    };
    let Some((certificate, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("clientCert", certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file("clientKey", key, &error))?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

fn authorities(path: &Path) -> Result<RootCertStore, MqttError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        store.add(certificate).map_err(|error| file("ca", path, &error))?;
    }
    Ok(store)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, MqttError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file(key, path, &error))?;
    if certificates.is_empty() {
        return Err(file(key, path, &"there is no certificate in it"));
    }
    Ok(certificates)
}

fn file(key: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> MqttError {
    MqttError::File { key, path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.pem");
        std::fs::write(&path, "nothing\n").unwrap();
        let tls = Tls { ca: Some(path), client: None };
        let error = client_config(&tls).unwrap_err().to_string();
        assert!(error.contains("ringside.mqtt.ca") && error.contains("empty.pem"), "{error}");
    }
}

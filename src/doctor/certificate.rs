//! Until when do certificates hold?
//!
//! Of a certificate only the end of its validity is looked at; whether it is trusted is for the
//! connection to find out.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::{Finding, Place};
use crate::calendar;
use crate::fetch;

const TOPIC: &str = "certificate";

/// A certificate that ends sooner is worth a warning: people and their processes take weeks.
const WARN_DAYS: u64 = 30;

const DAY: u64 = 24 * 60 * 60;

/// Connection and handshake each; a server that takes longer is out of order.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a PEM file is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Certificates, our own or those that we trust.
    Certificates,
    /// The key of a certificate.
    Key,
}

/// A PEM file that the configuration names.
#[derive(Clone, Debug)]
pub struct PemFile {
    /// The file.
    pub path: PathBuf,
    /// What it is there for.
    pub holds: Holds,
    /// The key that names it.
    pub place: Place,
}

impl PemFile {
    /// What is wrong with it if it cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> Option<Finding> {
        fs::read(&self.path).err().map(|error| self.refused(&error))
    }

    pub(super) fn examine(&self) -> Finding {
        let pem = match fs::read(&self.path) {
            Ok(pem) => pem,
            Err(error) => return self.refused(&error),
        };
        let shown = self.path.display().to_string();
        let finding = match self.holds {
            Holds::Certificates => {
                let read: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
                judge(&shown, &read, SystemTime::now(), "put a new one in its place")
            }
            Holds::Key if PrivateKeyDer::from_pem_slice(&pem).is_ok() => {
                Finding::ok(TOPIC, format!("{shown}: there is a key in it"))
            }
            Holds::Key => {
                Finding::error(TOPIC, format!("{shown}: there is no key in it"), "use PEM")
            }
        };
        finding.at(&self.place)
    }

    fn refused(&self, error: &io::Error) -> Finding {
        let what = format!("{}: {error}", self.path.display());
        let hint = "name a file that the user that Ringside runs as may read";
        Finding::error(TOPIC, what, hint).at(&self.place)
    }
}

/// The certificates that a server shows. The connection is given up once they are seen; nothing is
/// sent over it.
pub(super) fn of_server(host: &str, addresses: &[SocketAddr]) -> Finding {
    let finding = seen(host, addresses).map(|chain| {
        judge(host, &chain, SystemTime::now(), "tell whoever runs the server to renew it")
    });
    finding.unwrap_or_else(|error| {
        Finding::error(
            TOPIC,
            format!("{host}: no certificate was shown: {error}"),
            "check that the server speaks TLS on this port",
        )
    })
}

fn seen(host: &str, addresses: &[SocketAddr]) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let onlooker = Arc::new(Onlooker { chain: Mutex::default(), provider: fetch::provider() });
    let config = ClientConfig::builder_with_provider(fetch::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(onlooker.clone())
        .with_no_client_auth();
    let mut error = "no address".to_owned();
    for address in addresses {
        let tried = (|| {
            let mut stream = TcpStream::connect_timeout(address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            let connection = ClientConnection::new(Arc::new(config.clone()), name.clone());
            connection.map_err(std::io::Error::other)?.complete_io(&mut stream)
        })();
        // It always fails, at the latest when the certificates have been seen.
        let chain =
            std::mem::take(&mut *onlooker.chain.lock().unwrap_or_else(PoisonError::into_inner));
        if !chain.is_empty() {
            return Ok(chain);
        }
        error = tried.map_or_else(|error| error.to_string(), |_| "no handshake".to_owned());
    }
    Err(error)
}

/// Notes what a server shows, and trusts nobody.
#[derive(Debug)]
struct Onlooker {
    chain: Mutex<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

/// Ends the handshake: what it is made for is known.
fn ended<T>() -> Result<T, rustls::Error> {
    Err(rustls::Error::General("seen".to_owned()))
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        let chain = all.map(|certificate| certificate.clone().into_owned()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        ended()
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ended()
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ended()
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Judges the one that ends first.
fn judge(
    whose: &str,
    certificates: &[CertificateDer<'_>],
    now: SystemTime,
    renew: &str,
) -> Finding {
    if certificates.is_empty() {
        return Finding::error(TOPIC, format!("{whose}: there is no certificate in it"), "use PEM");
    }
    let Some(end) = certificates.iter().filter_map(|it| not_after(it)).min() else {
        return Finding::warning(
            TOPIC,
            format!("{whose}: it cannot be read until when it holds"),
            "look with `openssl x509 -noout -enddate`",
        );
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = calendar::civil_from_days(end / DAY);
    let date = format!("{year:04}-{month:02}-{day:02}");
    let of_several = if certificates.len() > 1 { "the first of them to end " } else { "" };
    if end <= now {
        return Finding::error(TOPIC, format!("{whose}: {of_several}has expired on {date}"), renew);
    }
    let days = (end - now) / DAY;
    if days < WARN_DAYS {
        let what = format!("{whose}: {of_several}expires on {date}, in {days} days");
        return Finding::warning(TOPIC, what, renew);
    }
    Finding::ok(TOPIC, format!("{whose}: {of_several}holds until {date}"))
}

/// Seconds since 1970 at which a certificate ends (`notAfter`).
fn not_after(der: &[u8]) -> Option<u64> {
    let certificate = Certificate::from_der(der).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32, month: u8, day: u8) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_end_is_read_from_both_forms_of_time() {
        // From 2050 on the time is written with four digits for the year.
        for (date, seconds) in [
            ((2023, 11, 14), 1_699_920_000),
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((1970, 1, 2), 86_400),
        ] {
            let (year, month, day) = date;
            assert_eq!(not_after(&certificate(year, month, day)), Some(seconds), "{date:?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_is_never_more_than_unknown() {
        let whole = certificate(2030, 1, 1);
        for end in 0..whole.len() {
            assert_eq!(not_after(&whole[..end]), None, "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[at] ^= 0xff;
            not_after(&changed);
        }
    }

    #[test]
    fn warned_about_a_month_ahead() {
        use crate::doctor::Level;
        // The beginning of 2023-11-14.
        let now = UNIX_EPOCH + Duration::from_hours(472_200);
        for (date, level) in [
            ((2023, 11, 14), Level::Error),
            ((2023, 11, 15), Level::Warning),
            ((2023, 12, 13), Level::Warning),
            ((2023, 12, 14), Level::Ok),
        ] {
            let (year, month, day) = date;
            let finding = judge("x", &[certificate(year, month, day)], now, "renew");
            assert_eq!(finding.level, level, "{finding}");
        }
        let both = [certificate(2040, 1, 1), certificate(2023, 11, 20)];
        assert!(judge("x", &both, now, "renew").what.contains("2023-11-20"));
        assert_eq!(judge("x", &[], now, "renew").level, Level::Error);
    }
}

//! Mutual TLS with the certificates that Sense exports.
//!
//! Sense has a certificate authority of its own: `root.pem` is its certificate, and every node has one
//! that it signed. A client shows `client.pem` with `client_key.pem`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::fetch::provider;

/// The files that Sense's QMC exports.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// `client.pem`.
    pub client: PathBuf,
    /// `client_key.pem`: PKCS#1 or PKCS#8, not encrypted.
    pub key: PathBuf,
    /// `root.pem`.
    pub root: PathBuf,
}

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file cannot be read.
    #[error(
        "Butler-SOS.cert.{setting}: {}: {error}; check that the file is there and that this user \
         may read it",
        path.display()
    )]
    Read {
        /// Key in the section.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file holds something else.
    #[error(
        "Butler-SOS.cert.{setting}: {}: {reason}; export the certificates again from the QMC, in \
         the format PEM",
        path.display()
    )]
    Content {
        /// Key in the section.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key is encrypted.
    #[error(
        "Butler-SOS.cert.clientCertKey: {}: the key is encrypted, which is not supported; export \
         the certificates from the QMC without a password, or decrypt the key with `openssl pkey \
         -in client_key.pem -out plain_key.pem` and protect the file with its permissions",
        .0.display()
    )]
    Encrypted(PathBuf),
    /// Key and certificate cannot be used together.
    #[error(
        "Butler-SOS.cert: the client certificate and its key cannot be used: {0}; use client.pem \
         and client_key.pem of the same export"
    )]
    Pair(rustls::Error),
    /// The authority cannot be used.
    #[error("Butler-SOS.cert.clientCertCA: {0}; use root.pem of the same export")]
    Root(String),
}

/// TLS that shows the client's certificate and trusts Sense's authority alone.
pub(super) fn client(files: &Certificates) -> Result<ClientConfig, CertError> {
    let root = certificates("clientCertCA", &files.root)?;
    let chain = certificates("clientCert", &files.client)?;
    let key = key(&files.key)?;
    let mut roots = RootCertStore::empty();
    for certificate in root {
        roots.add(certificate).map_err(|error| CertError::Root(error.to_string()))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| CertError::Root(error.to_string()))?;
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(CertError::Pair)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyNodeOfTheSite(verifier)))
        .with_client_auth_cert(chain, key)
        .map_err(CertError::Pair)
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, CertError> {
    fs::read(path).map_err(|error| CertError::Read { setting, path: path.to_owned(), error })
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let pem = read(setting, path)?;
    let wrong = |reason| CertError::Content { setting, path: path.to_owned(), reason };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, CertError> {
    let setting = "clientCertKey";
    let pem = read(setting, path)?;
    // PKCS#8 says it in the label, PKCS#1 in a header below it.
    let says = |mark: &[u8]| memchr::memmem::find(&pem, mark).is_some();
    if says(b"BEGIN ENCRYPTED PRIVATE KEY") || says(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertError::Encrypted(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| CertError::Content {
        setting,
        path: path.to_owned(),
        // The parser may quote what it read, and that may be the key.
        reason: match error {
            rustls::pki_types::pem::Error::NoItemsFound => "there is no private key in it",
            _ => "not a private key in the format PEM",
        }
        .to_owned(),
    })
}

/// Trusts every server whose certificate Sense's authority signed, whatever its name.
///
/// Sense issues certificates for the machine name of a node, while `hostIP` is an address or an alias
/// of it: a check of the name would refuse most sites. The authority is the site's own and signs for
/// its nodes only, so a valid chain still shows that the server belongs to the site. Everything else
/// (signatures, validity, purpose) is checked as ever.
#[derive(Debug)]
struct AnyNodeOfTheSite(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyNodeOfTheSite {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            // The name is looked at last: who gets here has passed all other checks.
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_error(pem: &str) -> CertError {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client_key.pem");
        fs::write(&path, pem).unwrap();
        key(&path).unwrap_err()
    }

    #[test]
    fn encrypted_keys_are_refused_with_what_to_do() {
        for pem in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
             MIIE\n-----END RSA PRIVATE KEY-----\n",
        ] {
            let error = key_error(pem);
            assert!(matches!(error, CertError::Encrypted(_)), "{error}");
            assert!(error.to_string().contains("without a password"), "{error}");
        }
    }

    #[test]
    fn keys_are_not_quoted() {
        let hidden = "hunter2hunter2";
        for pem in [
            String::new(),
            format!("-----BEGIN RSA PRIVATE KEY-----\n!{hidden}\n-----END RSA PRIVATE KEY-----\n"),
        ] {
            let error = key_error(&pem);
            assert!(matches!(error, CertError::Content { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains(hidden), "{error}");
        }
    }

    #[test]
    fn missing_files_are_named() {
        let files = Certificates { root: "no/root.pem".into(), ..Certificates::default() };
        let error = client(&files).unwrap_err().to_string();
        assert!(error.starts_with("Butler-SOS.cert.clientCertCA: no/root.pem: "), "{error}");
    }
}

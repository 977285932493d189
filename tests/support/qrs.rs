//! A stand-in for the repository service of Qlik Sense, with a site's certificates.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ringside::enrich::app_names::Certificates;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{DEADLINE, wait_for};

/// The certificate authority of a site, and what it signs.
pub struct Site(CertifiedIssuer<'static, KeyPair>);

impl Site {
    /// A site of its own.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// A certificate for a machine name, and its key.
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }

    /// Writes what the QMC exports.
    pub fn export(&self, directory: &Path) -> Certificates {
        let (client, key) = self.issue("QlikClient");
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).expect("write a certificate");
            path
        };
        Certificates {
            client: write("client.pem", client.pem()),
            key: write("client_key.pem", key.serialize_pem()),
            root: write("root.pem", self.0.pem()),
        }
    }
}

/// What the service answers, and what it was asked.
#[derive(Default)]
struct State {
    /// Status line and body; `None` holds the answer back.
    answer: Option<(&'static str, String)>,
    /// Heads of requests, in lower case.
    asked: Vec<String>,
}

/// A stand-in for the repository service.
#[derive(Clone, Default)]
pub struct Qrs(Arc<Mutex<State>>);

impl Qrs {
    /// Listens on a loopback address, at the port that the service has everywhere. Answers are held
    /// back until there is one.
    pub fn start(host: &str, site: &Site) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(site.0.der().clone()).expect("an authority");
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .expect("a verifier");
        // The name of a machine, while it is asked for by address.
        let (certificate, key) = site.issue("qlikserver1.example.com");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        let config = Arc::new(config);
        let listener = TcpListener::bind((host, 4242)).expect("the port of the service");
        let this = Self::default();
        let served = this.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, qrs) = (Arc::clone(&config), served.clone());
                // A client that is refused, or refuses, ends the connection; that is fine.
                thread::spawn(move || qrs.serve(stream, config).ok());
            }
        });
        this
    }

    fn serve(&self, stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
        let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        self.0.lock().unwrap().asked.push(head.to_ascii_lowercase());
        let (status, body) =
            wait_for("an answer", DEADLINE, || self.0.lock().unwrap().answer.clone());
        let length = body.len();
        let stream = stream.get_mut();
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")?;
        stream.flush()
    }

    /// Answers like this from now on.
    pub fn answer(&self, status: &'static str, body: &str) {
        self.0.lock().unwrap().answer = Some((status, body.to_owned()));
    }

    /// Heads of the requests so far, in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    /// Waits until the service has been asked `more` times from now on.
    pub fn wait_asked(&self, more: usize) {
        let before = self.asked().len();
        wait_for("requests", DEADLINE, || (self.asked().len() >= before + more).then_some(()));
    }
}

/// The list of apps as the service gives it, from ids and names.
pub fn list(apps: &[(&str, &str)]) -> String {
    let apps = apps.iter().map(|(id, name)| serde_json::json!({ "id": id, "name": name }));
    serde_json::Value::Array(apps.collect()).to_string()
}

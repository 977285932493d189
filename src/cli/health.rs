//! `ringside health`: does the Ringside of this configuration work? For container engines, which want a
//! command, and images without `curl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderValue};

use super::{EXIT_FAILED, EXIT_OK, EXIT_USAGE};
use crate::config::{self, Config};
use crate::fetch::{self, Fetch};
use crate::secret::Secret;

/// Connection and answer together. Container engines allow 30 s by default.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The answer has a line for each listener, thread and destination: a few hundred bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// Arguments of `ringside health`.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// Configuration file of the Ringside to ask; without one, that of the embedded default
    #[arg(short = 'c', long = "configfile", value_name = "FILE")]
    configfile: Option<PathBuf>,
}

/// Asks `/health`, prints the answer; returns the exit code.
#[must_use]
pub fn health(args: &HealthArgs) -> u8 {
    let config = match &args.configfile {
        None => config::embedded_default(),
        Some(path) => match config::load(path) {
            Ok(loaded) => loaded.config,
            Err(error) => {
                eprintln!("{error}");
                return EXIT_USAGE;
            }
        },
    };
    let Some(endpoint) = Endpoint::of(&config) else {
        eprintln!(
            "this configuration answers nobody who asks for its health; turn on \
             Butler-SOS.ringside.console or Butler-SOS.dockerHealthCheck"
        );
        return EXIT_USAGE;
    };
    match ask(&endpoint) {
        Ok(answer) => {
            println!("{answer}");
            EXIT_OK
        }
        Err(error) => {
            eprintln!("http://{}/health: {error}", endpoint.authority);
            EXIT_FAILED
        }
    }
}

/// Where `/health` is.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    /// Host and port as in a URL.
    authority: String,
    token: Option<Secret>,
}

impl Endpoint {
    /// That of the section `dockerHealthCheck`, which needs no token, or else the console's.
    fn of(config: &Config) -> Option<Self> {
        let docker = &config.docker_health_check;
        if docker.enable {
            return Some(Self { authority: format!("localhost:{}", docker.port), token: None });
        }
        let console = &config.ringside.console;
        console.enable.then(|| Self {
            authority: format!("{}:{}", reachable(&console.host), console.port),
            token: console.token.clone(),
        })
    }
}

/// The host of a URL that leads to what listens on `host` of this machine.
fn reachable(host: &str) -> String {
    match host {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        address if address.contains(':') => format!("[{address}]"),
        name => name.to_owned(),
    }
}

fn ask(endpoint: &Endpoint) -> Result<String, String> {
    let uri: Uri =
        format!("http://{}/health", endpoint.authority).parse().map_err(|e| format!("{e}"))?;
    let mut headers = Vec::new();
    if let Some(token) = &endpoint.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| "the console's token cannot be sent: it has control characters")?;
        value.set_sensitive(true);
        headers.push((AUTHORIZATION.as_str(), value));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tls = fetch::tls(false).map_err(|error| error.to_string())?;
    let answer = runtime
        .map_err(|error| error.to_string())?
        .block_on(Fetch::new(tls, TIMEOUT, ANSWER_MAX).get(uri, &headers))
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(ringside: &str, more: &str) -> Option<Endpoint> {
        let text = format!(
            "Butler-SOS:\n  userEvents:\n    enable: true\n  ringside:\n    console:\n{ringside}{more}"
        );
        Endpoint::of(&config::parse(&text, "f.yaml").expect("a valid file").config)
    }

    #[expect(clippy::unnecessary_wraps, reason = "is compared with what may be none")]
    fn at(authority: &str, token: Option<&str>) -> Option<Endpoint> {
        Some(Endpoint { authority: authority.to_owned(), token: token.map(Secret::from) })
    }

    #[test]
    fn it_is_where_the_file_says_and_can_be_reached_from_here() {
        assert_eq!(endpoint("      port: 8088\n", ""), at("127.0.0.1:8088", None));
        let token = "      token: abc\n";
        for (host, shown) in [
            ("0.0.0.0", "127.0.0.1:8088"),
            ("'::'", "[::1]:8088"),
            ("fe80::1", "[fe80::1]:8088"),
            ("monitor.lab", "monitor.lab:8088"),
        ] {
            let endpoint = endpoint(&format!("      host: {host}\n{token}"), "");
            assert_eq!(endpoint, at(shown, Some("abc")), "{host}");
        }
    }

    #[test]
    fn the_endpoint_for_container_engines_comes_first_and_without_any_there_is_none() {
        let docker = "  dockerHealthCheck:\n    enable: true\n    port: 12398\n";
        assert_eq!(endpoint("      enable: true\n", docker), at("localhost:12398", None));
        assert_eq!(endpoint("      enable: false\n", ""), None);
    }
}

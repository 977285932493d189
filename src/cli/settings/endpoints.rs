//! From the configuration file to the HTTP endpoints.

use std::sync::Arc;

use crate::config::Config;
use crate::observe::http::{BindSettings, Part, Token};

pub(super) fn of(config: &Config) -> Vec<BindSettings> {
    let mut endpoints = Vec::new();
    let console = &config.ringside.console;
    let token = console.token.as_ref().and_then(|token| Token::new(token.expose()));
    let visualisation = &config.config_visualisation;
    // Secrets are hidden whatever `obfuscate` says.
    let shown: Option<Arc<str>> = Some(config.to_yaml().into());
    if console.enable {
        endpoints.push(BindSettings {
            part: Part::Console,
            host: console.host.clone(),
            port: console.port,
            token: token.clone(),
            config: shown.clone(),
        });
    }
    if config.prometheus.enable {
        let (host, port) = (config.prometheus.host.clone(), config.prometheus.port);
        endpoints.push(BindSettings { part: Part::Metrics, host, port, token: None, config: None });
    }
    if config.docker_health_check.enable {
        let (host, port) = ("localhost".to_owned(), config.docker_health_check.port);
        endpoints.push(BindSettings { part: Part::Health, host, port, token: None, config: None });
    }
    if visualisation.enable {
        let (host, port) = (visualisation.host.clone(), visualisation.port);
        endpoints.push(BindSettings { part: Part::Config, host, port, token, config: shown });
    }
    endpoints
}

//! Where appenders send: an address, or a name that the Sense server resolves.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::host_name::is_host_name;

/// The host that Ringside runs on, as Sense servers call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

/// Why a text is not a host to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Neither an address nor a name.
    #[error("it is neither an IP address nor a host name; give the name or the address alone")]
    Neither,
    /// `0.0.0.0` or `::`, which listeners have.
    #[error("it stands for every address of a host that listens; nothing can be sent to it")]
    Unspecified,
}

impl Host {
    /// Whether datagrams to it never leave the Sense server.
    pub(super) fn is_loopback(&self) -> bool {
        match self.0.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.0.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether it is a name, which log4net resolves when it reads the file and then never again.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.0.parse::<IpAddr>().is_err()
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => Err(HostError::Unspecified),
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) if is_host_name(text) => Ok(Self(text.to_owned())),
            Err(_) => Err(HostError::Neither),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for text in ["ringside", "ringside.example.com", "10.1.2.3", "fd00::1", "RING_SIDE"] {
            assert_eq!(text.parse::<Host>().map(|host| host.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "a b", "ringside:9996", "http://ringside", "10.1.2", "\"/><x", "[fd00::1]"]
        {
            assert_eq!(text.parse::<Host>(), Err(HostError::Neither), "{text}");
        }
        for text in ["0.0.0.0", "::"] {
            assert_eq!(text.parse::<Host>(), Err(HostError::Unspecified), "{text}");
        }
    }

    #[test]
    fn loopback() {
        for (text, loopback) in
            [("localhost", true), ("127.0.0.2", true), ("::1", true), ("local", false)]
        {
            assert_eq!(text.parse::<Host>().unwrap().is_loopback(), loopback, "{text}");
        }
    }
}

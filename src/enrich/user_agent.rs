//! Browser and operating system behind a user-agent text.

/// What a user-agent text says. Unknown parts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent {
    /// Name of the browser: `Chrome`.
    pub browser_name: Box<str>,
    /// Its version: `120.0.0.0`.
    pub browser_version: Box<str>,
    /// The first number of its version: `120`.
    pub browser_major_version: Box<str>,
    /// Name of the operating system: `Windows`.
    pub os_name: Box<str>,
    /// Its version: `NT 10.0`.
    pub os_version: Box<str>,
}

/// Parses user agents, each once as long as it is remembered.
#[derive(Debug, Default)]
pub struct UserAgents {}

impl UserAgents {
    /// What a user-agent text says.
    pub fn get(&mut self, _text: &str) -> Option<&UserAgent> {
        None
    }
}

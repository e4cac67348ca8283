//! Somebody else's word on a version: who is asked, when, and what it comes to.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use crate::api::verify::ExternalAt;

/// Somebody whose word is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedExternal {
    /// What people call it.
    pub name: String,
    /// Before what.
    pub at: ExternalAt,
    /// Where it is asked.
    pub to: Address,
    /// The Secret that the questions are signed with, and its key.
    pub secret: Option<(String, String)>,
    /// How long one answer may take.
    pub within: Duration,
}

impl PlannedExternal {
    /// What it stands before, in words.
    #[must_use]
    pub fn before(&self) -> &'static str {
        match self.at {
            ExternalAt::Start => "its first pod",
            ExternalAt::Promote => "all of the traffic",
        }
    }
}

/// Where somebody is asked: a URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// By TLS.
    pub https: bool,
    /// A name, or an IPv4 address.
    pub host: String,
    /// At which port.
    pub port: u16,
    /// With its query.
    pub path: String,
}

/// What a name of the cluster ends with: without TLS nobody else is asked.
const OF_CLUSTER: [&str; 2] = [".svc", ".svc.cluster.local"];

impl Address {
    /// A URL as it is written in a spec.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the name of the field.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = || "is no URL such as https://changes.example.com/haldane".to_owned();
        let (https, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?),
            None => (authority, if https { 443 } else { 80 }),
        };
        let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !host.split('.').all(label) || !path.chars().all(|c| c.is_ascii_graphic() && c != '#') {
            return Err(wrong());
        }
        if !host.contains('.') {
            return Err(format!("names {host} without a domain; a Service is {host}.<namespace>.svc"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host = host.to_ascii_lowercase();
        if !https && !OF_CLUSTER.iter().any(|end| host.ends_with(end)) {
            return Err("is http://, which is for names of this cluster alone (<service>.<namespace>.svc); use https://".to_owned());
        }
        Ok(Self { https, host, port, path })
    }
}

/// A word that is asked for in a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought {
    /// Whose.
    pub name: String,
    /// Before what.
    pub at: ExternalAt,
    /// It is asked for since then.
    pub since: Timestamp,
    /// It was given.
    pub passed: bool,
}

impl Sought {
    /// It is the word of this one.
    #[must_use]
    pub fn is_of(&self, planned: &PlannedExternal) -> bool {
        self.name == planned.name && self.at == planned.at
    }
}

/// A question as it is sent, until there is a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who is asked.
    pub name: String,
    /// Where.
    pub to: Address,
    /// What it is signed with.
    pub secret: Option<Secret>,
    /// How long one answer may take.
    pub within: Duration,
    /// What is sent: JSON.
    pub body: String,
}

/// What questions are signed with. `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Below, it can be guessed from one question that was overheard.
    pub const LEAST: usize = 16;

    /// The bytes of a Secret without the blanks at their ends; none: too short to sign with.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.trim_ascii();
        (bytes.len() >= Self::LEAST).then(|| Self(bytes.to_vec()))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The version may go on.
    Pass,
    /// It is to be taken back. The status of the answer that said so.
    Fail(u16),
    /// Nothing yet, in words that go on "its question …".
    Wait(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_nobody_outside_is_asked_without_tls() {
        let parts = |url: &str| Address::parse(url).map(|a| (a.https, a.host, a.port, a.path));
        let made = |https, host: &str, port, path: &str| Ok((https, host.to_owned(), port, path.to_owned()));
        assert_eq!(parts("https://Changes.example.com"), made(true, "changes.example.com", 443, "/"));
        assert_eq!(parts("https://a.b:8443/x/y?z=1"), made(true, "a.b", 8443, "/x/y?z=1"));
        assert_eq!(parts("https://10.1.2.3?z"), made(true, "10.1.2.3", 443, "/?z"));
        assert_eq!(parts("http://gate.shop.svc"), made(false, "gate.shop.svc", 80, "/"));
        assert_eq!(parts("http://gate.shop.svc.cluster.local:8080/a"), made(false, "gate.shop.svc.cluster.local", 8080, "/a"));
        for outside in ["http://example.com", "http://10.0.0.1/", "http://a.svc.example.com", "http://svc.cluster.local.evil.org"] {
            assert!(parts(outside).unwrap_err().contains("names of this cluster alone"), "{outside}");
        }
        assert!(parts("https://gate/x").unwrap_err().contains("gate.<namespace>.svc"));
        let none = [
            "ftp://a.b",
            "a.b",
            "https://",
            "https://u:p@a.b",
            "https://a.b:0",
            "https://a.b:99999",
            "https://a..b",
            "https://a.b/ x",
            "https://[::1]/",
        ];
        for none in none {
            assert!(parts(none).is_err(), "{none}");
        }
    }

    #[test]
    fn a_secret_is_not_told_and_not_short() {
        assert_eq!(Secret::new(b" 0123456789abcde\n"), None);
        assert_eq!(format!("{:?}", Secret::new(b"0123456789abcdef\n").unwrap()), "Secret(…)");
    }
}

//! What the environment says. Everything is read once, at the start, and a value that makes no sense ends the process:
//! a fault that a test believes to be switched on must not be silently off.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::faults::Faults;

/// The whole environment, understood.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) version: String,
    pub(crate) port: u16,
    /// Where gRPC's health protocol is spoken; none: nowhere.
    pub(crate) grpc_port: Option<u16>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) faults: Faults,
    /// Lines of no importance in its log, each second.
    pub(crate) chatter: u64,
    pub(crate) exit_at_start: bool,
    pub(crate) once: bool,
    pub(crate) crash_after: Option<Duration>,
    pub(crate) oom: bool,
    pub(crate) readiness: Readiness,
    pub(crate) on_term: OnTerm,
    /// Who keeps the orders; none: this process.
    pub(crate) store: Option<SocketAddr>,
}

/// When `/healthz` begins to answer 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    After(Duration),
    Never,
}

/// What SIGTERM does; the three kinds of application that a rollout meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnTerm {
    /// Ends at once; requests in flight are cut.
    Exit,
    /// Stops listening at once, finishes what is in flight.
    Shutdown,
    /// Serves 3 s more with `Connection: close`, then shuts down.
    Drain,
}

/// PEM files of the certificate chain and its key.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Config {
    /// `get` is the environment; a test hands in its own. An empty value counts as unset.
    pub(crate) fn from_env(get: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let tls = match (get("SHOP_TLS_CERT"), get("SHOP_TLS_KEY")) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.into(), key: key.into() }),
            (None, None) => None,
            _ => bail!("SHOP_TLS_CERT and SHOP_TLS_KEY go together"),
        };
        let version = get("SHOP_VERSION").unwrap_or_else(|| "dev".to_owned());
        if !version.bytes().all(|b| b.is_ascii_graphic()) {
            bail!("SHOP_VERSION {version:?} does not fit into a header");
        }
        let faults: Faults = get("SHOP_FAIL").as_deref().unwrap_or_default().parse().context("SHOP_FAIL")?;
        Ok(Self {
            faults: faults.of(&version),
            version,
            port: get("SHOP_PORT").map_or(Ok(8080), |port| port.parse()).context("SHOP_PORT")?,
            grpc_port: get("SHOP_GRPC_PORT").map(|port| port.parse()).transpose().context("SHOP_GRPC_PORT")?,
            tls,
            chatter: get("SHOP_CHATTER").map_or(Ok(0), |lines| lines.parse()).context("SHOP_CHATTER")?,
            exit_at_start: flag("SHOP_EXIT_AT_START", get("SHOP_EXIT_AT_START").as_deref())?,
            once: flag("SHOP_ONCE", get("SHOP_ONCE").as_deref())?,
            crash_after: seconds("SHOP_CRASH_AFTER", get("SHOP_CRASH_AFTER").as_deref())?,
            oom: flag("SHOP_OOM", get("SHOP_OOM").as_deref())?,
            readiness: if flag("SHOP_NEVER_READY", get("SHOP_NEVER_READY").as_deref())? {
                Readiness::Never
            } else {
                Readiness::After(seconds("SHOP_READY_AFTER", get("SHOP_READY_AFTER").as_deref())?.unwrap_or_default())
            },
            on_term: match get("SHOP_ON_TERM").as_deref() {
                None | Some("exit") => OnTerm::Exit,
                Some("shutdown") => OnTerm::Shutdown,
                Some("drain") => OnTerm::Drain,
                Some(other) => bail!("SHOP_ON_TERM is exit, shutdown or drain, not {other:?}"),
            },
            store: get("SHOP_STORE").map(|store| store.parse()).transpose().context("SHOP_STORE")?,
        })
    }
}

fn flag(name: &str, value: Option<&str>) -> anyhow::Result<bool> {
    match value {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(other) => bail!("{name} is 1 or 0, not {other:?}"),
    }
}

fn seconds(name: &str, value: Option<&str>) -> anyhow::Result<Option<Duration>> {
    value
        .map(|text| {
            let seconds: f64 = text.parse().with_context(|| format!("{name}={text} is not a number of seconds"))?;
            Duration::try_from_secs_f64(seconds).with_context(|| format!("{name}={text}"))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> anyhow::Result<Config> {
        Config::from_env(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn an_empty_environment_is_a_healthy_shop() {
        let config = from(&[]).unwrap();
        assert_eq!(config.version, "dev");
        assert_eq!(config.port, 8080);
        assert_eq!(config.on_term, OnTerm::Exit);
        assert_eq!(config.readiness, Readiness::After(Duration::ZERO));
        assert!(!config.exit_at_start && !config.oom && config.tls.is_none() && config.crash_after.is_none());
    }

    #[test]
    fn switches_are_read() {
        let config = from(&[("SHOP_ON_TERM", "drain"), ("SHOP_CRASH_AFTER", "1.5"), ("SHOP_NEVER_READY", "1")]).unwrap();
        assert_eq!(config.on_term, OnTerm::Drain);
        assert_eq!(config.crash_after, Some(Duration::from_millis(1500)));
        assert_eq!(config.readiness, Readiness::Never);
    }

    #[test]
    fn nonsense_ends_the_process_instead_of_being_ignored() {
        for (name, value) in [
            ("SHOP_ON_TERM", "gently"),
            ("SHOP_ONCE", "twice"),
            ("SHOP_CRASH_AFTER", "-1"),
            ("SHOP_OOM", "maybe"),
            ("SHOP_PORT", "http"),
            ("SHOP_GRPC_PORT", "grpc"),
            ("SHOP_STORE", "orders:8080"),
            ("SHOP_FAIL", "path=/orders"),
            ("SHOP_VERSION", "two words"),
            ("SHOP_TLS_CERT", "alone.pem"),
        ] {
            assert!(from(&[(name, value)]).is_err(), "{name}={value} was accepted");
        }
    }
}

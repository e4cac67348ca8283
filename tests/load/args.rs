//! What may be asked for, and its bounds. A load generator without bounds is a weapon.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use http::{Method, Uri};

use crate::target::Target;

const LONGEST: Duration = Duration::from_hours(1);

/// Asks a shop on this machine from outside, open loop, and reports what failed and which version answered.
///
/// It is meant for this project's own test clusters only and refuses every target that is not loopback, link-local, a
/// documentation range (the test nodes have such addresses), the pod and service range of the test clusters, or, in a pod, a Service
/// of the same cluster. Load that
/// nobody asked for is an attack, however small: never aim it at somebody else.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Args {
    /// `http://IP:PORT`; an address and not a name, so that no resolver decides who is asked
    #[arg(long)]
    pub(crate) target: Target,

    /// `/products` or `"POST /orders"`; several take turns
    #[arg(long = "path", default_value = "/products")]
    pub(crate) paths: Vec<Ask>,

    /// The Host header; default: the target
    #[arg(long)]
    pub(crate) host: Option<String>,

    /// New connections per second, one request each; keep it below 200 for one client address behind a Service
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) fresh: u32,

    /// Clients that keep their connection
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=500))]
    pub(crate) keepalive: u32,

    /// Requests per second of all keep-alive clients together
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=5000))]
    pub(crate) keepalive_rate: u32,

    /// So many in a hundred of all requests ask for --slow-path instead
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) slow: u8,

    #[arg(long, default_value = "/slow?ms=800")]
    pub(crate) slow_path: Ask,

    /// Seconds (or 500ms, 90s, 2m), at most 1 h; SIGTERM and SIGINT end the run earlier, with its report
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) duration: Duration,

    /// For a whole request: connecting, sending, the complete answer, and one retry where there is one
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,

    /// The run ends after so many requests
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) max_requests: u64,

    /// Writes the report as JSON
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,

    /// As a suite of tests: writes a `JUnit` report here, a test for each path, and ends with exit code 1 if a request failed
    #[arg(long)]
    pub(crate) junit: Option<PathBuf>,

    /// Writes one CSV line per request
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,

    /// No line per second
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Says when this version answers for the first and for the last time; several are allowed
    #[arg(long = "watch-version")]
    pub(crate) watch_versions: Vec<String>,
}

/// One thing to ask for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// As it stands in log and report: `/products`, `POST /orders`.
    pub(crate) name: String,
}

impl std::str::FromStr for Ask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, path) = text.split_once(' ').unwrap_or(("GET", text));
        if !path.starts_with('/') || path.contains([',', '"']) {
            return Err(format!("{path:?} is not a path (it begins with / and has no comma or quote)"));
        }
        let method = match method {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "DELETE" => Method::DELETE,
            other => return Err(format!("GET, POST or DELETE, not {other:?}")),
        };
        let uri = path.parse().map_err(|error| format!("{path:?}: {error}"))?;
        Ok(Self { method, uri, name: text.to_owned() })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is not ms, s, m or h")),
    };
    let seconds: f64 = number.parse().map_err(|_| format!("{text:?} is not a time"))?;
    match Duration::try_from_secs_f64(seconds * scale) {
        Ok(time) if (Duration::from_millis(1)..=LONGEST).contains(&time) => Ok(time),
        _ => Err("between 1ms and 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_an_end() {
        assert_eq!(duration("60"), Ok(Duration::from_mins(1)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h"), Ok(LONGEST));
        for text in ["2h", "0", "-1", "soon", "5d"] {
            assert!(duration(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn a_path_may_name_its_method() {
        let ask: Ask = "POST /orders".parse().unwrap();
        assert_eq!((ask.method, ask.uri.path(), ask.name.as_str()), (Method::POST, "/orders", "POST /orders"));
        assert_eq!("/slow?ms=800".parse::<Ask>().unwrap().method, Method::GET);
        for text in ["orders", "PUT /orders", "/a,b"] {
            assert!(text.parse::<Ask>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn a_run_is_bounded() {
        let parse = |extra: &[&str]| Args::try_parse_from([&["load", "--target", "http://127.0.0.1:1"], extra].concat());
        assert_eq!(parse(&[]).unwrap().max_requests, 1_000_000);
        assert!(parse(&["--max-requests", "1000001"]).is_err());
        assert!(parse(&["--duration", "61m"]).is_err());
        assert!(parse(&["--fresh", "1001"]).is_err());
        assert!(parse(&["--slow", "101"]).is_err());
    }
}

//! Customers of a shop, and what became of their requests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Bed, said, until};

/// Customers who are asking.
pub(crate) struct Load {
    child: Child,
    report: PathBuf,
    log: PathBuf,
}

/// What they met.
#[derive(Debug)]
pub(crate) struct Report {
    json: Value,
    pub(crate) log: Vec<Line>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) start_us: i64,
    pub(crate) fresh: bool,
    pub(crate) result: String,
    pub(crate) version: String,
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [start, _, _, kind, _, result, version, _] = fields.as_slice() else { return None };
        Some(Self { start_us: start.parse().ok()?, fresh: *kind == "fresh", result: (*result).to_owned(), version: (*version).to_owned() })
    }

    pub(crate) fn failed(&self) -> bool {
        !self.result.starts_with('2')
    }
}

impl Load {
    /// Starts asking the Service and returns when somebody was answered.
    pub(crate) fn start(bed: &Bed, namespace: &str, fresh: u32, keepalive: u32) -> Result<Self> {
        let address = bed.kubectl(&["-n", namespace, "get", "service", "shop", "-o", "jsonpath={.spec.clusterIP}"])?;
        Self::at(bed, namespace, (&format!("{address}:80"), "shop"), (fresh, keepalive))
    }

    /// Starts asking by the gateway.
    pub(crate) fn by_gateway(bed: &Bed, namespace: &str, host: &str, clients: (u32, u32)) -> Result<Self> {
        Self::at(bed, namespace, (&bed.gateway()?, host), clients)
    }

    pub(crate) fn at(bed: &Bed, namespace: &str, (address, host): (&str, &str), (fresh, keepalive): (u32, u32)) -> Result<Self> {
        // A Service is refused until kube-proxy has heard of its pods, up to a second after they are ready.
        // kube-proxy waits for up to 30 s before it asks an API server again that was away.
        let named = format!("host: {host}");
        until(Duration::from_secs(40), || {
            said(bed.inside("curl").args(["-sf", "-m", "1", "-H", &named, &format!("http://{address}/products")]))
        })?;
        let (report, log) = (bed.scratch(&format!("{namespace}.json")), bed.scratch(&format!("{namespace}.csv")));
        let mut command = bed.inside(bed.built("examples/load"));
        command.args(["--target", &format!("http://{address}"), "--host", host, "--path", "/products", "--path", "POST /orders"]);
        command.args([
            "--fresh",
            &fresh.to_string(),
            "--keepalive",
            &keepalive.to_string(),
            "--keepalive-rate",
            &(keepalive * 20).to_string(),
        ]);
        command.args(["--duration", "20m", "--quiet", "--json"]).arg(&report).arg("--log").arg(&log);
        // A child that is killed with the test's own process group must not outlive it as somebody's load.
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let load = Self { child, report, log };
        until(Duration::from_secs(10), || {
            ensure!(load.lines().iter().any(|line| !line.failed()), "no customer was answered at {address}");
            Ok(())
        })?;
        Ok(load)
    }

    /// What was written down so far; the newest second may be missing.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().skip(1).filter_map(Line::read).collect()
    }

    /// Ends it and reads its report.
    pub(crate) fn stop(mut self) -> Result<Report> {
        said(std::process::Command::new("kill").arg(self.child.id().to_string()))?;
        ensure!(self.child.wait()?.success(), "the load generator failed");
        let json = serde_json::from_slice(&std::fs::read(&self.report).context("report of the load")?)?;
        let log = self.lines();
        Ok(Report { json, log })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Report {
    pub(crate) fn requests(&self) -> u64 {
        self.json.pointer("/requests").and_then(Value::as_u64).unwrap_or_default()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.json.pointer("/failed").and_then(Value::as_u64).unwrap_or_default()
    }

    /// By class and version, as in the report.
    pub(crate) fn failures(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        self.json.pointer("/failures").and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default()
    }

    /// Failed requests that this version did not answer itself.
    pub(crate) fn failed_beside(&self, version: &str) -> u64 {
        self.failures().values().flatten().filter(|(by, _)| *by != version).map(|(_, count)| count).sum()
    }

    /// Failed requests on new connections.
    pub(crate) fn failed_fresh(&self) -> usize {
        self.log.iter().filter(|line| line.fresh && line.failed()).count()
    }

    /// Requests that this version answered.
    pub(crate) fn served_by(&self, version: &str) -> u64 {
        self.json.pointer(&format!("/versions/{version}/all/requests")).and_then(Value::as_u64).unwrap_or_default()
    }

    /// When the last request that this version answered was sent, Unix µs.
    pub(crate) fn last_us(&self, version: &str) -> Option<i64> {
        self.json.pointer(&format!("/versions/{version}/all/last_us")).and_then(Value::as_i64)
    }

    /// When the last new connection that this version answered was opened, Unix µs.
    pub(crate) fn last_fresh_us(&self, version: &str) -> Option<i64> {
        self.json.pointer(&format!("/versions/{version}/fresh/last_us")).and_then(Value::as_i64)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests, {} failed", self.requests(), self.failed())?;
        for (class, by_version) in self.failures() {
            for (version, count) in by_version {
                write!(f, ", {class} by {version}: {count}")?;
            }
        }
        Ok(())
    }
}

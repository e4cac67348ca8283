//! The controller's processes, and accidents that happen to them.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Bed, said};

/// A running controller.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: String,
    /// The uid of its pod.
    pub(crate) pod: String,
    pub(crate) name: String,
}

impl Bed {
    /// All of them; a pod whose process has just died has none.
    pub(crate) fn controllers(&self) -> Result<Vec<Process>> {
        let running = said(self.cluster("pids").arg(&self.name))?;
        let pods = self.list("haldane-system", "pods", "app.kubernetes.io/name=haldane")?;
        let mut found = Vec::new();
        for pid in running.split_whitespace() {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            if read("comm").trim() != "haldane" {
                continue;
            }
            let cgroup = read("cgroup").replace('_', "-");
            let text = |pod: &Value, at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            let pod = pods.iter().find(|pod| cgroup.contains(&text(pod, "/metadata/uid")));
            found.extend(pod.map(|pod| Process {
                pid: pid.to_owned(),
                pod: text(pod, "/metadata/uid"),
                name: text(pod, "/metadata/name"),
            }));
        }
        Ok(found)
    }

    /// The one that holds the lease.
    pub(crate) fn leader(&self) -> Result<Process> {
        let holder = self.kubectl(&["-n", "haldane-system", "get", "lease", "haldane", "-o", "jsonpath={.spec.holderIdentity}"])?;
        let all = self.controllers()?;
        all.iter()
            .find(|process| holder.starts_with(&process.pod))
            .cloned()
            .with_context(|| format!("{holder} leads, and there are {all:?}"))
    }

    /// Sends a signal to processes of this cluster.
    pub(crate) fn signal(signal: &str, processes: &[Process]) -> Result<()> {
        ensure!(!processes.is_empty(), "no controller is running");
        said(std::process::Command::new("kill").arg(signal).args(processes.iter().map(|process| &process.pid))).map(drop)
    }
}

//! A Prometheus in a cluster's network, which looks at the pods that it is told of, and a Haldane that asks it.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Bed, said};

const PORT: u16 = 9390;

/// A Prometheus in the cluster's network, which looks at the pods that it is told of.
pub(crate) struct Prometheus {
    process: Child,
    targets: PathBuf,
}

impl Prometheus {
    /// Starts it, and tells Haldane where it is.
    pub(crate) fn start(bed: &Bed) -> Result<Self> {
        let (config, targets, data) = (bed.scratch("prometheus.yaml"), bed.scratch("targets.json"), bed.scratch("prometheus"));
        std::fs::write(&targets, "[]")?;
        let jobs = json!([{"job_name": "shop", "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}]}]);
        let all = json!({"global": {"scrape_interval": "5s", "scrape_timeout": "3s"}, "scrape_configs": jobs});
        std::fs::write(&config, all.to_string())?;
        let mut command = bed.inside("prometheus");
        command.arg(format!("--config.file={}", config.display())).arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address=0.0.0.0:{PORT}")).arg("--log.level=error");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let prometheus = Self { process, targets };
        let url = format!("prometheus.url=http://{}:{PORT}", bed.node()?);
        let upgrade =
            ["upgrade", "haldane", "charts/haldane", "--namespace", "haldane-system", "--reuse-values", "--wait", "--timeout", "3m"];
        said(bed.command("helm").args(upgrade).args(["--set", &url]))?;
        Ok(prometheus)
    }

    /// Where it is asked, at every address of the cluster's node.
    pub(crate) const fn port() -> u16 {
        PORT
    }

    /// As `-STOP` and `-CONT`: it is there and answers nobody, and then it answers again.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        // It keeps the process id of what started it.
        let pid = self.process.id().to_string();
        said(std::process::Command::new("kill").args([signal, &pid])).map(drop)
    }

    /// It looks at these pods from now on, as it would by their labels of Kubernetes.
    pub(crate) fn looks_at(&self, pods: &[Value]) -> Result<()> {
        let target = |pod: &Value| {
            let labels = json!({"namespace": text(pod, "/metadata/namespace"), "pod": text(pod, "/metadata/name")});
            json!({"targets": [format!("{}:8080", text(pod, "/status/podIP"))], "labels": labels})
        };
        let targets: Vec<Value> = pods.iter().filter(|pod| pod.pointer("/status/podIP").is_some()).map(target).collect();
        let new = self.targets.with_extension("new");
        std::fs::write(&new, Value::from(targets).to_string())?;
        Ok(std::fs::rename(new, &self.targets)?)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

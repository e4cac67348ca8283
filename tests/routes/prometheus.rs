//! A version is judged by its users' requests as a real Prometheus has them.

use std::{
    fs,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, Shop, bed, storm, tell};
use crate::support::{Bed, said, shop::Setup, until};

const PORT: u16 = 9390;
/// The canary's share of the requests needs so long to be enough, seen through two looks of 5 s each.
const JUDGED: Duration = Duration::from_mins(6);

/// A Prometheus in the cluster's network, which looks at the pods that it is told of.
struct Prometheus<'a> {
    bed: &'a Bed,
    process: Child,
}

impl<'a> Prometheus<'a> {
    fn start(bed: &'a Bed) -> Result<Self> {
        let (config, targets, data) = (bed.scratch("prometheus.yaml"), bed.scratch("targets.json"), bed.scratch("prometheus"));
        fs::write(&targets, "[]")?;
        let jobs = json!([{"job_name": "shop", "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}]}]);
        let said = json!({"global": {"scrape_interval": "5s", "scrape_timeout": "3s"}, "scrape_configs": jobs});
        fs::write(&config, said.to_string())?;
        let mut command = bed.inside("prometheus");
        command.arg(format!("--config.file={}", config.display())).arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address=0.0.0.0:{PORT}")).arg("--log.level=error");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        Ok(Self { bed, process })
    }

    /// It looks at these pods from now on, as it would by their labels of Kubernetes.
    fn looks_at(&self, pods: &[Value]) -> Result<()> {
        let target = |pod: &Value| {
            let text = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            let labels = json!({"namespace": text("/metadata/namespace"), "pod": text("/metadata/name")});
            json!({"targets": [format!("{}:8080", text("/status/podIP"))], "labels": labels})
        };
        let targets: Vec<Value> = pods.iter().filter(|pod| pod.pointer("/status/podIP").is_some()).map(target).collect();
        let (written, read) = (self.bed.scratch("targets.new"), self.bed.scratch("targets.json"));
        fs::write(&written, Value::from(targets).to_string())?;
        Ok(fs::rename(written, read)?)
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        // It keeps the process id of what started it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn through_a_real_prometheus_the_requests_of_both_sides_are_counted() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let prometheus = Prometheus::start(bed)?;
    let url = format!("prometheus.url=http://{}:{PORT}", bed.node()?);
    let mut helm = bed.command("helm");
    helm.args([
        "upgrade",
        "haldane",
        "charts/haldane",
        "--namespace",
        "haldane-system",
        "--reuse-values",
        "--wait",
        "--timeout",
        "3m",
        "--set",
        &url,
    ]);
    said(&mut helm)?;
    let setup = Setup { steps: vec![(5, "5s"), (50, "5s")], ..Setup::by_route() };
    let shop = Shop::delivered(bed, "prometheus", setup)?;
    let load = shop.customers(150, 10)?;
    prometheus.looks_at(&shop.pods()?)?;
    let verify = json!({"spec": {"verify": {"requests": {
        "counter": "shop_requests_total", "failed": r#"code=~"5..""#, "only": r#"handler=~"/products|/orders.*""#, "by": ["handler"],
        "from": {"prometheus": {"interval": "5s"}},
    }, "latency": {"histogram": "shop_request_seconds"}}}});
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &verify.to_string()])?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    // The canary's pods are new to Prometheus, and so is the one at each step.
    let live = until(ROLLOUT + JUDGED, || {
        prometheus.looks_at(&shop.pods()?)?;
        let status = shop.object("delivery", "shop")?.context("the Delivery is gone")?["status"].clone();
        ensure!(status["phase"] == "Live" && status["live"]["version"] == "v2", "{} {}", status["phase"], status["message"]);
        Ok(status)
    });
    live.with_context(|| life.story())?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    let counted = |seen: &Value| seen["status"]["rollout"]["evidence"]["requests"].to_string();
    let told: Vec<String> = life.past.iter().map(|seen| counted(&seen.object)).filter(|told| told.contains("errors: ")).collect();
    let last = told.last().context("no request was counted")?;
    tell(&format!("prometheus: {last}"));
    ensure!(last.contains("errors: 0 of ") && !last.contains("errors: 0 of 0 "), "{last}");
    let report = load.stop()?;
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}

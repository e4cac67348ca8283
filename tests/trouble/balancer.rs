//! A Service behind a load balancer that has pods as targets and takes 20 s to register one: no write of its selector is a switch, so both
//! versions serve side by side, and then stable takes the new one in place. No customer is turned away.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::support::{Bed, begin, load::Load, rest::Hand, shop::Shop};
use crate::witness::patch;
use crate::{bed, calm, quick, tell};

/// How long it takes a cloud to send requests to a new target: its first health checks.
const REGISTERS: Duration = Duration::from_secs(20);
/// Four pods, two at a time, each after its registration and a bit.
const ROLLOUT: Duration = Duration::from_mins(4);
const ADDRESS: &str = "127.0.0.1:18099";

/// The load balancer, and the hand that registers its targets late.
struct Balancer {
    process: Child,
    ends: Arc<AtomicBool>,
    registrar: Option<JoinHandle<()>>,
}

impl Balancer {
    fn start(shop: &Shop) -> Result<Self> {
        let targets = shop.bed.scratch("balancer");
        let ends = Arc::new(AtomicBool::new(false));
        // What is there already was registered long ago.
        let mut since: BTreeMap<String, Option<Instant>> = endpoints(shop.bed, &shop.ns)?.into_iter().map(|pod| (pod, None)).collect();
        write(&targets, &since)?;
        let (stop, env, ns, file) = (Arc::clone(&ends), shop.bed, shop.ns.clone(), targets.clone());
        let mut slices = env.command("kubectl");
        slices.args(["-n", &ns, "get", "endpointslices", "-l", "kubernetes.io/service-name=shop", "-o", "json"]);
        let registrar = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(now) = slices.output().ok().and_then(|said| serde_json::from_slice::<Value>(&said.stdout).ok()) {
                    let now = ready(&now);
                    since.retain(|pod, _| now.contains(pod));
                    now.into_iter().for_each(|pod| {
                        since.entry(pod).or_insert_with(|| Some(begin()));
                    });
                    let _ = write(&file, &since);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let mut command = shop.bed.inside(shop.bed.built("examples/balancer"));
        let process = command.args(["--listen", ADDRESS, "--targets"]).arg(&targets).stdin(Stdio::null()).spawn()?;
        Ok(Self { process, ends, registrar: Some(registrar) })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.registrar.take().map(JoinHandle::join);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(file: &PathBuf, since: &BTreeMap<String, Option<Instant>>) -> Result<()> {
    let registered = since.iter().filter(|(_, since)| since.is_none_or(|since| since.elapsed() >= REGISTERS));
    let lines: Vec<&str> = registered.map(|(pod, _)| pod.as_str()).collect();
    let next = file.with_extension("next");
    std::fs::write(&next, lines.join("\n"))?;
    Ok(std::fs::rename(next, file)?)
}

fn endpoints(bed: &Bed, namespace: &str) -> Result<Vec<String>> {
    Ok(ready(&json!({"items": bed.list(namespace, "endpointslices", "kubernetes.io/service-name=shop")?})))
}

/// The addresses of ready endpoints.
fn ready(slices: &Value) -> Vec<String> {
    let all = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_array).cloned().unwrap_or_default();
    let ready = |endpoint: &Value| endpoint.pointer("/conditions/ready") == Some(&json!(true));
    let endpoints = all(slices, "/items").into_iter().flat_map(|slice| all(&slice, "/endpoints"));
    endpoints.filter(ready).filter_map(|e| Some(format!("{}:8080", e.pointer("/addresses/0")?.as_str()?))).collect()
}

#[test]
fn a_load_balancer_that_registers_late_never_lacks_a_target() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "balancer", quick())?;
    // What such an app needs with plain Kubernetes, too: its next pod waits until this one is registered.
    patch(&shop, "deployment/shop", &json!([{"op": "add", "path": "/spec/minReadySeconds", "value": REGISTERS.as_secs() + 4}]))?;
    shop.kubectl(&["patch", "service", "shop", "-p", r#"{"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false}}"#])?;
    shop.adopt()?;
    let balancer = Balancer::start(&shop)?;
    let load = Load::at(shop.bed, &shop.ns, (ADDRESS, "shop"), (50, 3))?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    let stops = life.until(ROLLOUT, "in its step", |seen| seen.phase() == "Canary")?;
    ensure!(life.past.iter().any(|seen| seen.phase() == "Preflight"), "{}", life.story());
    tell(&format!("both versions serve: {stops}"));
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let events = shop.bed.list(&shop.ns, "events", "")?;
    let told = events.iter().find(|event| event["reason"] == "SwitchGradual");
    ensure!(told.is_some(), "nobody was told that the Service is not switched by one write");
    // A bad version: its traffic goes, and the targets that stay are registered.
    let mut life = shop.follow()?;
    shop.ship_broken("v3", 40)?;
    life.until(ROLLOUT, "back on v2", |seen| seen.is_back("v2"))?;
    let report = load.stop()?;
    drop(balancer);
    tell(&format!("{report}"));
    ensure!(report.failed_beside("v3") == 0, "{report}");
    ensure!(report.served_by("v2") > 0, "{report}");
    shop.close()
}

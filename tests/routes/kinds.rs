//! What a probe may ask beside its own expectations: the shape of an answer, gRPC's health, a bare port; and a person who runs one by hand.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, Shop, bed, calm, nobody_failed, shown, tell};
use crate::support::{follow::Seen, rest::Hand, shop::Setup};

/// A shop whose one probe is this.
fn probed(shop: &Shop, spec: &Value) -> Result<()> {
    asked_so(shop, spec)?;
    shop.apply(&shop.delivery())?;
    shop.is_adopted()
}

/// Its probe is this from now on; its own `steps` are left out.
fn asked_so(shop: &Shop, spec: &Value) -> Result<()> {
    let mut probe = shop.probe();
    let base = probe["spec"].as_object_mut();
    if let (Some(base), Some(spec)) = (base, spec.as_object()) {
        base.remove("steps");
        base.remove("mutates");
        base.extend(spec.clone());
    }
    shop.apply(&probe)
}

/// Ships v2 and says how long it took until it was back, and what people read.
fn taken_back(shop: &Shop, begin: impl FnOnce() -> Result<()>) -> Result<Seen> {
    let mut life = shop.follow()?;
    begin()?;
    life.until(ROLLOUT, "its canary", |seen| ["Preflight", "Canary", "RollingBack", "RolledBack"].contains(&seen.phase()))?;
    let begun = Instant::now();
    let back = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    let took = begun.elapsed();
    tell(&format!("{}: back {:.1} s after its Preflight began\n{}", shop.ns, took.as_secs_f64(), shop.plugin(&["why", "shop"])?));
    shown(shop, "taken back")?;
    Ok(back)
}

#[test]
fn a_version_whose_answer_loses_a_field_is_taken_back_before_it_has_customers() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "kinds-shape", Setup::by_route())?;
    probed(&shop, &json!({"steps": [{"name": "products", "request": {"path": "/products"}, "compare": {}}]}))?;
    let load = shop.customers(30, 3)?;
    // What stable answers is learnt at rest, one answer in five seconds.
    std::thread::sleep(std::time::Duration::from_secs(18));
    let back = taken_back(&shop, || shop.helm("v2", &["--set-string", r"env.SHOP_FAIL=path=/products\,drop=cents\,version=v2"]))?;
    let words = "GET /products answered without $.products[*].cents (a number on stable)";
    ensure!(back.message().contains(words), "{}", back.message());
    let report = nobody_failed(&shop, load)?;
    ensure!(report.served_by("v2") == 0, "customers met it: {report}");
    // Another version, with the same answers, is fine; and so is one whose loss is meant.
    let mut life = shop.follow()?;
    shop.helm("v3", &[])?;
    life.until(ROLLOUT, "live on v3", |seen| seen.is_live("v3"))?;
    let meant = json!([{"op": "add", "path": "/spec/steps/0/compare/ignore", "value": ["$.products[*].cents"]}]).to_string();
    shop.kubectl(&["patch", "productionprobe", "buy", "--type=json", "-p", &meant])?;
    shop.helm("v4", &["--set-string", r"env.SHOP_FAIL=path=/products\,drop=cents\,version=v4"])?;
    life.until(ROLLOUT, "live on v4", |seen| seen.is_live("v4"))?;
    shop.is_at_rest("v4", Hand::Haldane)?;
    shop.close()
}

#[test]
fn a_version_that_does_not_serve_by_grpc_is_taken_back() -> Result<()> {
    let _calm = calm();
    let grpc = |more: &str| format!(r"env.SHOP_GRPC_PORT=9090{more}");
    let shop = Shop::ground(bed()?, "kinds-grpc", Setup::default())?;
    shop.helm("v1", &["--set-string", &grpc("")])?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    shop.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop-grpc"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"name": "grpc", "port": 9090}]}}))?;
    probed(&shop, &json!({"target": {"serviceRef": {"name": "shop-grpc", "port": "grpc"}}, "grpc": {}}))?;
    let ran = shop.plugin(&["probe", "run", "buy"])?;
    tell(&ran);
    ensure!(ran.contains("pass, in "), "{ran}");
    let back = taken_back(&shop, || shop.helm("v2", &["--set-string", &grpc(r",env.SHOP_FAIL=path=/grpc\,code=503\,version=v2")]))?;
    ensure!(back.message().contains("gRPC health answered NOT_SERVING, expected SERVING"), "{}", back.message());
    // A bare port says no more than that somebody listens: the same version passes.
    let spec = json!({"target": {"serviceRef": {"name": "shop-grpc", "port": "grpc"}}, "tcp": {}});
    asked_so(&shop, &spec)?;
    let mut life = shop.follow()?;
    shop.helm("v3", &["--set-string", &grpc(r",env.SHOP_FAIL=path=/grpc\,code=503\,version=v3")])?;
    life.until(ROLLOUT, "live on v3", |seen| seen.is_live("v3"))?;
    let mut life = shop.follow()?;
    shop.helm("v4", &[])?;
    let back = life.until(ROLLOUT, "back on v3", |seen| seen.is_back("v3"))?;
    shown(&shop, "a version that listens there no more")?;
    ensure!(back.message().contains("TCP port 9090 found the connection refused"), "{}", back.message());
    shop.close()
}

#[test]
fn a_person_runs_a_probe_by_hand() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "kinds-hand", Setup::default())?;
    shop.kubectl(&["create", "secret", "generic", "order-bot", "--from-literal=token=s3cret-canary"])?;
    let token = json!([{"name": "Authorization", "value": "Bearer ${secrets.token}"}]);
    let mut probe = shop.probe();
    probe["spec"]["secrets"] = json!([{"name": "token", "secretRef": {"name": "order-bot", "key": "token"}}]);
    probe["spec"]["steps"] = json!([
        {"name": "place", "request": {"method": "POST", "path": "/orders", "headers": token, "json": {"item": "synth-${run.id}"}},
            "expect": {"status": [201]}, "capture": [{"name": "id", "jsonPath": "$.id"}]},
        {"name": "read", "request": {"path": "/orders/${id}"}, "expect": {"that": ["json.state == 'placed'"]}},
    ]);
    probe["spec"]["teardown"] =
        json!([{"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}"}, "expect": {"status": [200, 404]}}]);
    shop.apply(&probe)?;
    let sketch = shop.plugin(&["probe", "run", "buy", "--dry-run"])?;
    tell(&sketch);
    ensure!(sketch.contains("\"${TOKEN}\"") && !sketch.contains("s3cret"), "{sketch}");
    let (code, refused) = ended(&shop, &["probe", "run", "buy"])?;
    ensure!(code == Some(2) && refused.contains("changes production; see --dry-run, and run it with --yes"), "{code:?} {refused}");
    let ran = shop.plugin(&["probe", "run", "buy", "--yes"])?;
    tell(&ran);
    ensure!(ran.contains("pass, in ") && ran.matches("ok ").count() == 3, "{ran}");
    for pod in shop.pods()? {
        shop.tell_pod(&pod, "fail?path=/orders/&code=500")?;
    }
    let (code, failed) = ended(&shop, &["probe", "run", "buy", "--yes"])?;
    tell(&failed);
    ensure!(code == Some(1) && failed.contains("fail (http-status): GET /orders/${id} answered 500, expected 2xx"), "{code:?} {failed}");
    ensure!(failed.contains("port-forward pod/shop-") && failed.contains("left behind: DELETE") && !failed.contains("s3cret"), "{failed}");
    // A port where nobody listens: this machine's end of a port-forward takes every connection.
    shop.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "nobody"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"name": "none", "port": 9999}]}}))?;
    let mut nobody = shop.probe();
    nobody["metadata"]["name"] = json!("nobody");
    nobody["spec"] = json!({"target": {"serviceRef": {"name": "nobody"}}, "tcp": {}});
    shop.apply(&nobody)?;
    let (code, failed) = ended(&shop, &["probe", "run", "nobody"])?;
    tell(&failed);
    ensure!(code == Some(1) && failed.contains("nothing listens on the port of the pod"), "{code:?} {failed}");
    let (code, said) = ended(&shop, &["probe", "run", "nobody", "--pod", "shop-gone"])?;
    ensure!(code == Some(2) && said.contains("no pod shop-gone is ready behind the Service; there are: shop-"), "{code:?} {said}");
    let seen = shop.kubectl(&["get", "proberuns"])?;
    ensure!(!seen.contains("buy"), "a run by hand wrote a ProbeRun: {seen}");
    shop.close()
}

/// What the plugin says, and the number it ends with.
fn ended(shop: &Shop, args: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = shop.bed.command("env");
    let output = command.arg(shop.bed.built("kubectl-haldane")).args(["-n", &shop.ns]).args(args).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout) + &text(&output.stderr)))
}

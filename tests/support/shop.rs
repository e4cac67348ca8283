//! The shop of the demo in a namespace of its own, delivered by Haldane.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::follow::Follow;
use super::load::Load;
use super::rest::ready;
use super::{Bed, said, until};

const START: Duration = Duration::from_secs(90);

/// How the shop is delivered. Short times, so that a rollout takes seconds.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) on_term: &'static str,
    /// Weight and bake of each step.
    pub(crate) steps: Vec<(u8, &'static str)>,
    pub(crate) guard: &'static str,
    pub(crate) settle: &'static str,
    pub(crate) probe_at_rest: &'static str,
    /// Its customers come by a route, and testers first for so long.
    pub(crate) testers: Option<&'static str>,
    /// The step that nobody enters without an approval, from 1; testers are one.
    pub(crate) approval: Option<usize>,
}

impl Default for Setup {
    fn default() -> Self {
        let steps = vec![(25, "3s"), (50, "3s")];
        Self { on_term: "drain", steps, guard: "3s", settle: "2s", probe_at_rest: "5s", testers: None, approval: None }
    }
}

impl Setup {
    /// The same by a route.
    pub(crate) fn by_route() -> Self {
        Self { testers: Some("3s"), ..Self::default() }
    }

    /// The same, with an approval before that step: testers are the first, 25 % the second, 50 % the third. So a test can stop in
    /// between for as long as it likes.
    pub(crate) fn with_approval(step: usize) -> Self {
        Self { testers: Some("1s"), steps: vec![(25, "1s"), (50, "1s")], approval: Some(step), ..Self::default() }
    }
}

/// A shop with four pods.
pub(crate) struct Shop<'a> {
    pub(crate) bed: &'a Bed,
    pub(crate) ns: String,
    setup: Setup,
}

impl<'a> Shop<'a> {
    /// A shop that serves v1, in a namespace that is opted in and has no Delivery yet.
    pub(crate) fn open(bed: &'a Bed, namespace: &str, setup: Setup) -> Result<Self> {
        let shop = Self::ground(bed, namespace, setup)?;
        shop.helm("v1", &[])?;
        shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
        Ok(shop)
    }

    /// A namespace for one that is opted in, and nothing in it yet.
    pub(crate) fn ground(bed: &'a Bed, namespace: &str, setup: Setup) -> Result<Self> {
        let shop = Self { bed, ns: namespace.to_owned(), setup };
        bed.kubectl(&["delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s"])?;
        bed.kubectl(&["create", "namespace", namespace])?;
        let account = "--serviceaccount=haldane-system:haldane";
        shop.kubectl(&["create", "rolebinding", "haldane", "--clusterrole=haldane-delivery", account])?;
        Ok(shop)
    }

    /// Another shop beside it that keeps its orders, as a database would; where, as the chart is told.
    pub(crate) fn keeper(&self) -> Result<String> {
        let image = format!("{}/shop:v1", self.bed.registry);
        let labels = json!({"app": "orders"});
        let container = json!({"name": "shop", "image": image, "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1}});
        self.apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"}, "spec": {
            "replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"enableServiceLinks": false, "containers": [container]}}}}))?;
        self.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]}}))?;
        self.kubectl(&["rollout", "status", "deployment/orders", "--timeout=90s"])?;
        self.kept_at()
    }

    /// Where its orders are kept.
    pub(crate) fn kept_at(&self) -> Result<String> {
        Ok(format!("{}:80", self.kubectl(&["get", "service", "orders", "-o", "jsonpath={.spec.clusterIP}"])?))
    }

    /// The same, adopted.
    pub(crate) fn delivered(bed: &'a Bed, namespace: &str, setup: Setup) -> Result<Self> {
        let shop = Self::open(bed, namespace, setup)?;
        shop.adopt()?;
        Ok(shop)
    }

    /// Makes the Delivery and its probe, and waits until the shop is adopted.
    pub(crate) fn adopt(&self) -> Result<()> {
        for object in [self.probe(), self.delivery()] {
            self.bed.kubectl_with(&["-n", &self.ns, "apply", "-f", "-"], &object.to_string())?;
        }
        self.is_adopted()
    }

    /// Waits for it.
    pub(crate) fn is_adopted(&self) -> Result<()> {
        self.follow()?.until(START, "adopted", |seen| seen.phase() == "Live" && seen.condition("Ready") == "True").map(drop)
    }

    pub(crate) fn probe(&self) -> Value {
        json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe", "metadata": {"name": "buy"}, "spec": {
            "target": {"serviceRef": {"name": "shop", "port": "http"}},
            "schedule": {"rollout": "1s", "always": self.setup.probe_at_rest},
            "mutates": true,
            "steps": [
                {"name": "products", "request": {"path": "/products"}, "expect": {"status": [200]}},
                {"name": "order", "request": {"method": "POST", "path": "/orders", "json": {"item": "tea"}}, "expect": {"status": [201]}},
            ],
        }})
    }

    pub(crate) fn delivery(&self) -> Value {
        let testers = self.setup.testers.map(|bake| json!({"testers": {}, "bake": bake}));
        let shares = self.setup.steps.iter().map(|(weight, bake)| json!({"weight": weight, "bake": bake}));
        let mut steps: Vec<Value> = testers.into_iter().chain(shares).collect();
        if let Some(step) = self.setup.approval.and_then(|step| steps.get_mut(step - 1)?.as_object_mut()) {
            step.insert("approval".to_owned(), json!("Required"));
        }
        let routes: Vec<Value> = self.setup.testers.iter().map(|_| json!({"name": "shop"})).collect();
        json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": "shop"}, "spec": {
            "workloads": [{"name": "shop", "serviceRef": {"name": "shop", "port": "http"}, "routeRefs": routes}],
            "rollout": {"steps": steps, "guard": self.setup.guard, "settle": self.setup.settle},
            "verify": {"probes": [{"name": "buy"}]},
        }})
    }

    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.bed.kubectl(&[&["-n", &self.ns], args].concat())
    }

    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        self.bed.kubectl_with(&[&["-n", &self.ns], args].concat(), input)
    }

    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        self.kubectl_with(&["apply", "-f", "-"], &object.to_string()).map(drop)
    }

    pub(crate) fn object(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        self.bed.object(&self.ns, kind, name)
    }

    /// The owner's chart, with a version and perhaps more values (`env.SHOP_FAIL=…`) or options (`--force`).
    pub(crate) fn helm(&self, tag: &str, more: &[&str]) -> Result<()> {
        let mut command = self.bed.command("helm");
        command.args(["upgrade", "--install", "shop", "tests/demo/shop-chart", "--namespace", &self.ns]).args(self.values(tag)).args(more);
        said(&mut command).map(drop)
    }

    /// What the chart says, as a manifest: for owners who use `kubectl apply`.
    pub(crate) fn manifest(&self, tag: &str, kind: &str) -> Result<String> {
        let all = self.chart(tag, &[])?;
        let wanted = format!("kind: {kind}\n");
        all.split("---\n").find(|document| document.contains(&wanted)).map(str::to_owned).with_context(|| format!("no {kind} in the chart"))
    }

    /// All that the chart says, one document after the other; `more` as with `helm`.
    pub(crate) fn chart(&self, tag: &str, more: &[&str]) -> Result<String> {
        let mut command = self.bed.command("helm");
        command.args(["template", "shop", "tests/demo/shop-chart", "--namespace", &self.ns]).args(self.values(tag)).args(more);
        said(&mut command)
    }

    fn values(&self, tag: &str) -> [String; 2] {
        let route = self.setup.testers.map(|_| format!(",route={}", self.host())).unwrap_or_default();
        let values = format!("image.repository={}/shop,image.tag={tag},env.SHOP_ON_TERM={}{route}", self.bed.registry, self.setup.on_term);
        ["--set-string".to_owned(), values]
    }

    /// A version whose orders fail after so many requests of customers and probes.
    pub(crate) fn ship_broken(&self, tag: &str, after: u32) -> Result<()> {
        self.helm(tag, &["--set-string", &format!(r"env.SHOP_FAIL=path=/orders\,code=500\,after={after}\,version={tag}")])
    }

    pub(crate) fn set_image(&self, tag: &str) -> Result<()> {
        let image = format!("shop={}/shop:{tag}", self.bed.registry);
        self.kubectl(&["set", "image", "deployment/shop", &image]).map(drop)
    }

    pub(crate) fn follow(&self) -> Result<Follow> {
        Follow::start(self.bed, &self.ns, "shop")
    }

    /// The name by which a route knows it.
    pub(crate) fn host(&self) -> String {
        format!("{}.test", self.ns)
    }

    /// Customers of it: by its route, if it has one, else by its Service.
    pub(crate) fn customers(&self, fresh: u32, keepalive: u32) -> Result<Load> {
        match self.setup.testers {
            Some(_) => Load::by_gateway(self.bed, &self.ns, &self.host(), (fresh, keepalive)),
            None => Load::start(self.bed, &self.ns, fresh, keepalive),
        }
    }

    /// The plugin.
    pub(crate) fn plugin(&self, args: &[&str]) -> Result<String> {
        let mut command = self.bed.command("env");
        command.arg(self.bed.built("kubectl-haldane")).args(["-n", &self.ns]).args(args);
        said(&mut command)
    }

    /// Its pods, stable and canary.
    pub(crate) fn pods(&self) -> Result<Vec<Value>> {
        self.bed.list(&self.ns, "pods", "app=shop")
    }

    pub(crate) fn canary_pods(&self) -> Result<Vec<Value>> {
        self.bed.list(&self.ns, "pods", "app=shop,haldane.dev/track=canary")
    }

    /// Tells the app in a pod to be otherwise: `ready?value=false`, `fail?path=/orders&code=500`, `heal`.
    pub(crate) fn tell_pod(&self, pod: &Value, what: &str) -> Result<()> {
        let address = pod.pointer("/status/podIP").and_then(Value::as_str).context("the pod has no address")?;
        said(self.bed.inside("curl").args(["-sSf", "-X", "POST", &format!("http://{address}:8080/admin/{what}")])).map(drop)
    }

    /// Makes one stable pod say that it is not ready, and waits until that is known.
    pub(crate) fn make_unready(&self) -> Result<Value> {
        let pods = self.bed.list(&self.ns, "pods", "app=shop,haldane.dev/track!=canary")?;
        let pod = pods.first().context("no stable pod")?.clone();
        let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        self.tell_pod(&pod, "ready?value=false")?;
        until(Duration::from_secs(10), || {
            ensure!(!ready(&self.object("pod", name)?.unwrap_or_default()), "pod {name} is still ready");
            Ok(())
        })?;
        Ok(pod)
    }

    /// Ends it: no Delivery, no namespace.
    pub(crate) fn close(self) -> Result<()> {
        self.kubectl(&["delete", "delivery", "shop", "--ignore-not-found", "--timeout=90s"])?;
        self.bed.kubectl(&["delete", "namespace", &self.ns, "--timeout=120s"])?;
        Ok(())
    }

    /// Nothing that the controller wrote about this shop was refused for want of rights.
    pub(crate) fn nothing_was_forbidden(&self, since: super::audit::Mark) -> Result<()> {
        let refused: Vec<_> = self.bed.writes_since(since)?.into_iter().filter(|w| w.user == super::CONTROLLER && w.code == 403).collect();
        let here: Vec<_> = refused.iter().filter(|w| w.namespace == self.ns || w.namespace.is_empty()).collect();
        ensure!(here.is_empty(), "refused: {here:?}");
        Ok(())
    }
}

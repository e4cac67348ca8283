//! Bad releases of every kind and good ones in bad weather, each once, with customers: how long until the verdict, what it cost them, and
//! what people are told. `make releases`; `ONLY="leak storm"` (parts of names) and `JOBS=2` (at once) narrow it down; `NAME=other` is
//! another cluster.
//!
//! A case is OK when the bad one is taken back (or held, where nobody can be blamed) and the good one goes live.

#[allow(dead_code, reason = "the tests and the measurements use the rest")]
mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use support::follow::Seen;
use support::load::Load;
use support::prometheus::Prometheus;
use support::shop::{Setup, Shop};
use support::{Bed, begin};

/// Evidence takes minutes at a small share.
const JUDGED: Duration = Duration::from_mins(12);

/// How it has to end.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Back,
    /// Held, and told: both sides fail, so nobody is blamed.
    Both,
    Live,
}

/// One release.
struct Case {
    name: &'static str,
    ends: End,
    /// What `SHOP_FAIL` says from the beginning; `version=v2` in it is what the release brings.
    faults: &'static str,
    /// Orders are kept in one place.
    store: bool,
    /// Requests are counted by way of Prometheus.
    prometheus: bool,
    /// What is shared is looked at through Prometheus, and that is fine.
    queries: bool,
    /// Values of the owner's chart that the release brings.
    brings: &'static str,
    /// The bake of the first share; that of the others is 5 s.
    bake: &'static str,
    /// What happens meanwhile.
    weather: fn(&Shop, &Weather<'_>) -> Result<()>,
}

/// Bad weather lasts as long as the rollout.
struct Weather<'a> {
    over: &'a AtomicBool,
    prometheus: Option<&'a Prometheus>,
}

impl Weather<'_> {
    /// So long, or less if the rollout is over.
    fn lasts(&self, time: Duration) {
        let began = begin();
        while began.elapsed() < time && !self.is_over() {
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

const CALM: fn(&Shop, &Weather<'_>) -> Result<()> = |_, _| Ok(());

const fn bad(name: &'static str, faults: &'static str) -> Case {
    Case { name, ends: End::Back, faults, store: false, prometheus: false, queries: false, brings: "", bake: "5s", weather: CALM }
}

const fn good(name: &'static str, weather: fn(&Shop, &Weather<'_>) -> Result<()>) -> Case {
    Case { name, ends: End::Live, faults: "", store: false, prometheus: false, queries: false, brings: "", bake: "5s", weather }
}

const ALL: [Case; 15] = [
    bad("errors from 1 % to 3 %", r"path=/products\,code=500\,rate=1;path=/products\,code=500\,rate=3\,version=v2"),
    bad("memory leak", r"path=*\,leak=200\,version=v2"),
    bad("one page slow", r"path=/products\,ms=300\,version=v2"),
    bad("a field is lost", r"path=/products\,drop=cents\,version=v2"),
    // Some blocks of 15 s: in a rollout of a minute or two such a line alone is not found.
    Case { bake: "2m", ..bad("a new line in the log", r"path=/products\,log=cannot reach the till\,rate=10\,version=v2") },
    // Nobody asks for this page but the probe, twenty times at the beginning of each step.
    bad("one answer in four is wrong, and few ask", r"path=/slow\,code=500\,rate=25\,version=v2"),
    Case { bake: "2m", brings: "env.SHOP_CRASH_AFTER=40", ..bad("it falls over now and then", "") },
    Case { ends: End::Both, store: true, ..bad("shared state broken", r"path=/orders\,poison=500\,version=v2") },
    good("storm: pods restart", restarts),
    Case { store: true, ..good("storm: a dependency is away for a minute", dependency) },
    Case { prometheus: true, ..good("storm: Prometheus is away for a minute", prometheus_away) },
    Case { queries: true, ..good("storm: the queries' Prometheus is away for a minute", prometheus_away) },
    good("storm: five times the load", load),
    Case { faults: r"path=/\,code=500\,rate=4", ..good("storm: a flaky probe", CALM) },
    good("storm: a slow node", slow),
];

fn restarts(shop: &Shop, weather: &Weather<'_>) -> Result<()> {
    for turn in 0..8 {
        weather.lasts(Duration::from_secs(15));
        let pods = shop.pods()?;
        let pod = pods.get(turn % pods.len().max(1)).context("no pods")?;
        shop.kubectl(&["delete", "pod", text(pod, "/metadata/name"), "--wait=false"])?;
        if weather.is_over() {
            break;
        }
    }
    Ok(())
}

fn dependency(shop: &Shop, weather: &Weather<'_>) -> Result<()> {
    weather.lasts(Duration::from_secs(20));
    shop.kubectl(&["scale", "deployment/orders", "--replicas=0"])?;
    weather.lasts(Duration::from_mins(1));
    shop.kubectl(&["scale", "deployment/orders", "--replicas=1"]).map(drop)
}

fn prometheus_away(_: &Shop, weather: &Weather<'_>) -> Result<()> {
    let prometheus = weather.prometheus.context("no Prometheus")?;
    weather.lasts(Duration::from_secs(40));
    prometheus.signal("-STOP")?;
    weather.lasts(Duration::from_mins(1));
    prometheus.signal("-CONT")
}

fn load(shop: &Shop, weather: &Weather<'_>) -> Result<()> {
    weather.lasts(Duration::from_secs(20));
    let name = format!("{}-more", shop.ns);
    let more = Load::at(shop.bed, &name, (&shop.bed.gateway()?, &shop.host()), (400, 40))?;
    weather.lasts(Duration::from_mins(2));
    more.stop().map(drop)
}

fn slow(shop: &Shop, weather: &Weather<'_>) -> Result<()> {
    weather.lasts(Duration::from_secs(10));
    let pods = shop.bed.list(&shop.ns, "pods", "app=shop,haldane.dev/track!=canary")?;
    shop.tell_pod(pods.first().context("no pods")?, "fail?path=/products&ms=200")
}

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

impl Case {
    /// A shop that serves v1, is judged by everything there is, and has customers.
    fn open<'a>(&self, bed: &'a Bed, namespace: &str) -> Result<(Shop<'a>, Load)> {
        let setup = Setup { guard: "10s", steps: vec![(5, self.bake), (25, "5s"), (50, "5s")], ..Setup::by_route() };
        let shop = Shop::ground(bed, namespace, setup)?;
        let mut values = vec![format!("env.SHOP_FAIL={}", self.faults)];
        if self.store {
            values.push(format!("env.SHOP_STORE={}", shop.keeper()?));
        }
        shop.helm("v1", &["--set-string", &values.join(",")])?;
        shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
        let mut probe = shop.probe();
        probe["spec"]["steps"] = json!([
            {"name": "page", "request": {"path": "/"}, "expect": {"status": [200]}},
            {"name": "products", "request": {"path": "/products"}, "compare": {}},
            {"name": "order", "request": {"method": "POST", "path": "/orders", "json": {"item": "synth-${run.id}"}}, "expect": {"status": [201]},
                "capture": [{"name": "id", "jsonPath": "$.id"}]},
        ]);
        probe["spec"]["teardown"] =
            json!([{"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}"}, "expect": {"status": [200, 404]}}]);
        shop.apply(&probe)?;
        shop.apply(&json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe", "metadata": {"name": "seldom"}, "spec": {
            "target": {"serviceRef": {"name": "shop", "port": "http"}},
            "schedule": {"rollout": "15s", "always": "15s", "burst": {"runs": 20, "within": "20s"}},
            "steps": [{"name": "slow", "request": {"path": "/slow?ms=1"}, "expect": {"status": [200]}}],
        }}))?;
        let mut delivery = shop.delivery();
        let from = if self.prometheus { json!({"prometheus": {"interval": "5s"}}) } else { json!({"scrape": {"port": "http"}}) };
        delivery["spec"]["verify"] = json!({
            "probes": [{"name": "buy"}, {"name": "seldom"}],
            "requests": {"counter": "shop_requests_total", "failed": r#"code=~"5..""#, "only": r#"handler=~"/products|/orders.*""#,
                "by": ["handler"], "from": from},
            "latency": {"histogram": "shop_request_seconds"},
            "logs": {},
        });
        if self.queries {
            delivery["spec"]["verify"]["queries"] = json!([{"name": "db-load", "query": "vector(0.5)", "holdsAbove": "0.8"}]);
        }
        shop.apply(&delivery)?;
        shop.is_adopted()?;
        let load = shop.customers(100, 10)?;
        Ok((shop, load))
    }

    fn run(&self, bed: &Bed, number: usize, prometheus: Option<&Prometheus>) -> Result<String> {
        let (shop, load) = self.open(bed, &format!("release-{number}"))?;
        if let Some(prometheus) = prometheus.filter(|_| self.prometheus) {
            prometheus.looks_at(&shop.pods()?)?;
        }
        // What is usual is learnt from what stable has counted and written.
        std::thread::sleep(Duration::from_secs(15));
        let over = AtomicBool::new(false);
        let weather = Weather { over: &over, prometheus };
        let judged = std::thread::scope(|scope| {
            let storm = scope.spawn(|| (self.weather)(&shop, &weather));
            let eyes = scope.spawn(|| -> Result<()> {
                while let Some(prometheus) = prometheus.filter(|_| self.prometheus && !weather.is_over()) {
                    prometheus.looks_at(&shop.pods()?)?;
                    std::thread::sleep(Duration::from_secs(1));
                }
                Ok(())
            });
            let judged = self.judged(&shop);
            over.store(true, Ordering::Relaxed);
            for thread in [storm, eyes] {
                thread.join().map_err(|_| anyhow::anyhow!("the weather broke off"))??;
            }
            judged
        })?;
        let report = load.stop()?;
        let word = format!("{judged}; {report}");
        if self.ends == End::Both {
            shop.kubectl(&["delete", "deployment", "orders", "--wait=false"])?;
        }
        shop.close()?;
        Ok(word)
    }

    /// How long it took, and what people are told.
    fn judged(&self, shop: &Shop) -> Result<String> {
        let mut life = shop.follow()?;
        match self.brings {
            "" => shop.set_image("v2")?,
            brings => shop.helm("v2", &["--set-string", brings])?,
        }
        let begun = begin();
        let decided = |seen: &Seen| seen.is_back("v1") || seen.is_live("v2") || (self.ends == End::Both && seen.reason() == "BothFailing");
        let end = life.until(JUDGED, "judged", decided)?;
        let took = begun.elapsed().as_secs();
        let first = life.past.iter().find(|seen| seen.phase() == "Canary" && seen.step().is_some_and(|step| step > 1));
        let shared = first.map(|first| (end.at_us - first.at_us) / 1_000_000);
        let shared = shared.map_or_else(|| "no customer met it".to_owned(), |seconds| format!("{seconds} s after its first customers"));
        let why = shop.plugin(&["why", "shop"])?;
        eprintln!("{}\n{}", self.name, why.lines().map(|line| format!("     | {line}\n")).collect::<String>());
        let right = match self.ends {
            End::Back => end.is_back("v1"),
            End::Both => end.reason() == "BothFailing",
            End::Live => end.is_live("v2"),
        };
        ensure!(right, "after {took} s it was {end}. {}", life.story());
        Ok(format!("{took} s in all, {shared}: {}", end.message()))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("{wrong} releases did not end as they should");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("releases: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn asked_for(name: &str) -> bool {
    let Ok(words) = std::env::var("ONLY") else { return true };
    words.split_whitespace().any(|word| name.contains(word))
}

fn run() -> Result<usize> {
    let bed = Bed::up(&std::env::var("NAME").unwrap_or_else(|_| "releases".to_owned()))?;
    bed.gateway()?;
    let cases: Vec<(usize, &Case)> = ALL.iter().enumerate().filter(|(_, case)| asked_for(case.name)).collect();
    let prometheus = if cases.iter().any(|(_, case)| case.prometheus || case.queries) { Some(Prometheus::start(&bed)?) } else { None };
    let jobs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(2);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((number, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = case
                        .run(&bed, *number, prometheus.as_ref())
                        .map_or_else(|error| format!("NOT {error:#}"), |word| format!("OK  {word}"));
                    eprintln!("{:<42} {result}", case.name);
                    if let Ok(mut results) = results.lock() {
                        results.insert(*number, result);
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_default();
    println!();
    for (number, case) in &cases {
        println!("{:<42} {}", case.name, results.get(number).map_or("-", String::as_str));
    }
    Ok(results.values().filter(|result| !result.starts_with("OK")).count())
}

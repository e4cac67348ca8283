//! What the invariants of routes find, with a hand in place of the controller: one that does it well, and one for each mistake.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{self, APP, NAMESPACE, V2, Way},
    sim::{
        Key, Kind, Lag,
        api::{
            kinds::{DELIVERY, DEPLOYMENT, HTTP_ROUTE, REPLICA_SET, SERVICE},
            managed::Writer,
            write::Deletion,
        },
        json,
        world::manifests,
    },
    town::{Town, USER},
};

const CANARY: &str = "web-canary";

/// Writes as the controller would.
struct Hand {
    town: Town,
}

impl Hand {
    async fn open() -> Self {
        let town = Town::built_by(Way::Route, 7).await;
        town.api.seed(&app::by(Way::Route, app::delivery(APP)));
        let hand = Self { town };
        hand.status(json!({"phase": "Live"}));
        hand
    }

    fn edit(&self, kind: &'static Kind, name: &str, subresource: &str, change: impl FnOnce(&mut Value)) {
        let (by, key) = (Writer::new(USER), Key::new(kind, NAMESPACE, name));
        self.town.api.write(|store| store.edit(&by, &key, subresource, change)).expect("edited");
    }

    fn create(&self, kind: &'static Kind, object: Value) {
        self.town.api.write(|store| store.create(&Writer::new(USER), kind, NAMESPACE, object)).expect("created");
    }

    fn delete(&self, kind: &'static Kind) {
        let key = Key::new(kind, NAMESPACE, CANARY);
        self.town.api.write(|store| store.delete(&Writer::new(USER), &key, &Deletion::default())).expect("deleted");
    }

    fn status(&self, status: Value) {
        self.edit(&DELIVERY, APP, "status", |delivery| delivery["status"] = status);
    }

    fn step(&self, step: usize) {
        self.status(json!({"phase": "Canary", "rollout": {"step": step}}));
    }

    fn pin(&self, hash: Value) {
        self.edit(&SERVICE, APP, "", |service| json::set(service, "/spec/selector/pod-template-hash", hash));
    }

    fn hash(&self) -> Value {
        let of_web = |set: &&Value| json::labels(set).get("app").is_some_and(|app| app == APP);
        self.town.api.read(|store| {
            store
                .list(&REPLICA_SET, NAMESPACE)
                .find(of_web)
                .map(|set| set["metadata"]["labels"]["pod-template-hash"].clone())
                .expect("stable's")
        })
    }

    /// Stable is pinned, the canary starts, its Service is made.
    fn begin(&self) {
        self.pin(self.hash());
        self.deployment(1);
        self.service();
    }

    fn deployment(&self, pods: i64) {
        let mut canary = manifests::deployment(NAMESPACE, CANARY, V2, pods);
        canary["metadata"]["labels"] = json!({"haldane.dev/workload": APP, "haldane.dev/delivery": APP});
        canary["spec"]["template"]["metadata"]["labels"] = json!({"app": APP, "haldane.dev/track": "canary"});
        canary["spec"]["selector"]["matchLabels"] = json!({"haldane.dev/track": "canary"});
        self.create(&DEPLOYMENT, canary);
    }

    fn service(&self) {
        let mut service = manifests::service(NAMESPACE, CANARY);
        service["metadata"]["labels"] = json!({"haldane.dev/delivery": APP});
        service["spec"]["selector"] = json!({"app": APP, "haldane.dev/track": "canary"});
        self.create(&SERVICE, service);
    }

    /// The rules with that weight on the canary, testers before each rule of the app.
    fn weight(&self, percent: i64) {
        let home = app::route(APP)["spec"]["rules"].clone();
        let mut rules = Vec::new();
        for rule in json::list(&home, "") {
            let backends = json::list(rule, "/backendRefs");
            let Some(stable) = backends.iter().find(|b| b["name"] == APP) else {
                rules.push(rule.clone());
                continue;
            };
            let of = |name: &str, weight: i64| json!({"name": name, "port": 80, "weight": weight});
            let own = stable["weight"].as_i64().unwrap_or(1);
            let mut tester = rule.clone();
            tester["matches"][0]["headers"] = json!([{"name": "X-Haldane-Track", "value": "canary"}]);
            tester["backendRefs"] = json!([of(CANARY, 1)]);
            let mut split = vec![of(APP, own * (100 - percent)), of(CANARY, own * percent)];
            let others = backends.iter().filter(|b| b["name"] != APP);
            split.extend(others.map(|b| of(b["name"].as_str().unwrap_or(""), 100 * b["weight"].as_i64().unwrap_or(1))));
            let mut rule = rule.clone();
            rule["backendRefs"] = json!(split);
            rules.extend([tester, rule]);
        }
        self.rules(json!(rules));
    }

    fn rules(&self, rules: Value) {
        self.edit(&HTTP_ROUTE, APP, "", |route| route["spec"]["rules"] = rules);
    }

    /// As its owner wrote it, and without our entry among the managers.
    fn home(&self) {
        let rules = app::route(APP)["spec"]["rules"].clone();
        self.edit(&HTTP_ROUTE, APP, "", |route| route["spec"]["rules"] = rules);
        self.forget(&HTTP_ROUTE);
    }

    fn unpin(&self) {
        self.pin(Value::Null);
        self.forget(&SERVICE);
    }

    fn forget(&self, kind: &'static Kind) {
        self.edit(kind, APP, "", |object| {
            if let Some(entries) = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut) {
                entries.retain(|entry| entry["manager"] != USER);
            }
        });
    }

    async fn pass(&self, seconds: u64) {
        self.town.pass(Duration::from_secs(seconds)).await;
    }

    async fn pass_millis(&self, millis: u64) {
        self.town.pass(Duration::from_millis(millis)).await;
    }

    /// Up to a step with a fourth of the traffic.
    async fn up(&self) {
        self.begin();
        self.pass(5).await;
        self.step(0);
        self.weight(0);
        self.pass(3).await;
        self.step(1);
        self.weight(25);
        self.pass(3).await;
    }

    /// Fails unless exactly this is found.
    fn found(&self, what: &str) {
        let all = self.town.violations();
        assert!(all.iter().any(|found| found.contains(what)), "{what} is not among {all:#?}");
        let number = what.split_once(':').map_or(what, |(number, _)| number);
        assert!(all.iter().all(|found| found.contains(number)), "more than {number} is found: {all:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_by_its_rules_breaks_nothing_even_behind_a_slow_data_plane() {
    for lag in [Lag::QUICK, Lag::throttled(Duration::from_secs(2))] {
        let hand = Hand::open().await;
        hand.town.world.set_lag(lag);
        hand.up().await;
        hand.weight(0);
        hand.status(json!({"phase": "RollingBack"}));
        hand.pass(4).await;
        hand.home();
        hand.pass(4).await;
        hand.delete(&DEPLOYMENT);
        hand.delete(&SERVICE);
        hand.pass(10).await;
        hand.unpin();
        hand.pass(1).await;
        hand.town.check();
        hand.town.home().expect("home");
        let text = hand.town.diary.text();
        for line in [
            "write    route web with testers and 25 % to the canary",
            "traffic  route web: help gets 25 %, v1 gets 56 %, v2 gets 19 %",
            "traffic  testers of web: v2 gets 100 %",
            "write    route web as its owner wrote it",
            "write    Service web-canary ends",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn weight_before_endpoints_is_found() {
    let hand = Hand::open().await;
    hand.begin();
    hand.step(1);
    hand.weight(25);
    hand.pass(1).await;
    hand.found(
        "I1: httproutes.gateway.networking.k8s.io shop/web fails 100 % of a rule's requests: Service web-canary has no ready endpoint",
    );
}

#[tokio::test(start_paused = true)]
async fn a_reference_to_no_service_is_found_at_weight_0() {
    let hand = Hand::open().await;
    hand.pin(hand.hash());
    let mut rules = app::route(APP)["spec"]["rules"].clone();
    rules[0]["backendRefs"] = json!([{"name": APP, "port": 80}, {"name": CANARY, "port": 80, "weight": 0}]);
    hand.rules(rules);
    hand.found("I3: httproutes.gateway.networking.k8s.io shop/web names Service web-canary, which is not there");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_goes_before_its_reference_is_found() {
    let hand = Hand::open().await;
    hand.up().await;
    hand.weight(0);
    hand.town.check();
    hand.delete(&SERVICE);
    hand.found("I3: httproutes.gateway.networking.k8s.io shop/web names Service web-canary, which is not there");
}

#[tokio::test(start_paused = true)]
async fn more_than_the_step_allows_is_found() {
    let hand = Hand::open().await;
    hand.up().await;
    hand.town.check();
    hand.weight(26);
    hand.found("I2: 0.260 of /api through httproutes.gateway.networking.k8s.io shop/web reach the canary in Canary, 0.250 are allowed");
}

#[tokio::test(start_paused = true)]
async fn customers_among_the_testers_are_found() {
    let hand = Hand::open().await;
    hand.begin();
    hand.pass(5).await;
    hand.step(0);
    hand.weight(1);
    hand.found("I2: 0.010 of /api");
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_goes_with_its_weight_is_found() {
    for (lag, wait, says) in [(2_000, 0, "does not answer any more"), (150, 400, "after its last request")] {
        let hand = Hand::open().await;
        hand.up().await;
        hand.town.world.set_lag(Lag::of(Duration::from_millis(lag)));
        hand.home();
        hand.status(json!({"phase": "RollingBack"}));
        hand.pass_millis(wait).await;
        hand.delete(&DEPLOYMENT);
        hand.pass(5).await;
        let all = hand.town.violations();
        assert!(!all.is_empty() && all.iter().all(|found| found.contains("I1")), "{all:#?}");
        assert!(all.iter().any(|found| found.contains(says)), "{says} is not among {all:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rules_that_are_left_behind_are_found() {
    let hand = Hand::open().await;
    let end = || hand.town.home().expect_err("not home");
    hand.town.home().expect("at first");
    hand.edit(&HTTP_ROUTE, APP, "", |route| route["spec"]["rules"][1]["backendRefs"][0]["weight"] = 300.into());
    assert!(end().contains("is not as its owner wrote it"), "{}", end());
    hand.edit(&HTTP_ROUTE, APP, "", |route| route["spec"]["rules"][1]["backendRefs"][0]["weight"] = 3.into());
    assert!(end().contains("still carries something of ours"), "{}", end());
    hand.forget(&HTTP_ROUTE);
    hand.town.home().expect("home again");
    hand.edit(&HTTP_ROUTE, APP, "", |route| json::set(route, "/metadata/annotations/haldane.dev~1routed-since", "now".into()));
    hand.forget(&HTTP_ROUTE);
    assert!(end().contains("still carries something of ours"), "{}", end());
}

#[tokio::test(start_paused = true)]
async fn what_the_owner_writes_is_home_from_then_on() {
    let hand = Hand::open().await;
    let mut other = app::route(APP);
    other["spec"]["hostnames"] = json!(["other.test"]);
    hand.town.world.apply(&other).expect("applied");
    hand.town.home().expect("theirs is home");
    hand.edit(&HTTP_ROUTE, APP, "", |route| route["spec"]["hostnames"] = json!(["shop.test"]));
    hand.found("I15: changes more of httproutes.gateway.networking.k8s.io shop/web than is ours");
    assert!(hand.town.home().is_err());
}

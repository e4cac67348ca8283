use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::delivery::Capacity,
    decide::judge::{book::Book, terms::Terms},
    model::{
        phase::{Direction, Live, Phase, Why},
        probe::{Check, Load, Scheme, Suite, Vars},
        route::{Edge, Testers},
        version::{PodHash, WorkloadName},
        window::Windows,
        world::{Canary, Release},
    },
    observe::tests,
};

fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "image": format!("shop:{version}")}]}})
}

fn pod(name: &str, hash: &str, last: u8, ready: bool) -> Pod {
    Pod {
        name: name.to_owned(),
        pod_hash: Some(PodHash::new(hash)),
        created: None,
        ready_since: ready.then_some(Timestamp::UNIX_EPOCH),
        ip: Some(format!("192.0.2.{last}")),
        digests: Vec::new(),
        restarts: 0,
        trouble: None,
    }
}

fn release(version: &str) -> Release {
    Release {
        name: ReleaseName::new(version),
        version: version.to_owned(),
        commit: None,
        image: String::new(),
        manual: false,
        place: None,
        brought: <_>::default(),
        barrier: None,
        reverts: Vec::new(),
        config: None,
        refused: None,
        identity: None,
        templates: Some([(WorkloadName::new("shop"), template(version))].into()),
        outcome: None,
        tries: 1,
        created: Timestamp::UNIX_EPOCH,
    }
}

fn world(pin: Pin) -> Observation {
    let mut workload = tests::workload(&template("v2"));
    workload.replica_sets = vec![tests::replica_set("h1", &template("v1"))];
    workload.pods = vec![pod("s1", "h1", 1, true), pod("s2", "h1", 2, false), pod("old", "h0", 3, true)];
    workload.canary = Some(Canary {
        name: "shop-canary".to_owned(),
        uid: "canary".to_owned(),
        resource_version: "1".to_owned(),
        deleting: false,
        release: Some(ReleaseName::new("v2")),
        wanted: 1,
        observed: true,
        stuck: false,
        refused: None,
        pods: vec![pod("c1", "h2", 9, true)],
        ending: 0,
    });
    let service = Service {
        shape: serde_json::Value::Null,
        name: "shop".to_owned(),
        uid: String::new(),
        resource_version: String::new(),
        workload: WorkloadName::new("shop"),
        pin,
        pinned_since: None,
        fits: Vec::new(),
        routable: Vec::new(),
        no_switch: None,
        gradual: None,
        owns_fields: false,
    };
    Observation {
        workloads: vec![workload],
        services: vec![service],
        releases: vec![release("v1"), release("v2")],
        ..Observation::default()
    }
}

fn probe(port: Option<&str>) -> Probe {
    let check = Check {
        name: "home".to_owned(),
        scheme: Scheme::Http,
        host: "shop".to_owned(),
        setup: Vec::new(),
        steps: Vec::new(),
        suite: None,
        teardown: Vec::new(),
        sweep: None,
        secrets: Vars::default(),
        deadline: Check::DEADLINE,
        trust: None,
        tester: None,
        answered_by: None,
        knock: None,
    };
    let (rollout, always) = (std::time::Duration::from_secs(15), std::time::Duration::from_mins(3));
    Probe {
        check: Arc::new(check),
        service: "shop".to_owned(),
        port: port.map(str::to_owned),
        rollout,
        always,
        burst: None,
        votes: true,
        changed: None,
        pods: true,
        route: false,
        host: None,
        page: None,
    }
}

fn state(stage: Option<Stage>) -> State {
    let at_rest = State {
        live: Some(Live { release: ReleaseName::new("v1"), since: Timestamp::UNIX_EPOCH }),
        phase: Phase::Live,
        ..State::new(Timestamp::UNIX_EPOCH)
    };
    let Some(stage) = stage else { return at_rest };
    let rollout = Rollout {
        release: ReleaseName::new("v2"),
        from: ReleaseName::new("v1"),
        direction: Direction::Forward,
        started_at: Timestamp::UNIX_EPOCH,
        stage,
        book: Book::open(Terms::default()),
        suspended: Some(Timestamp::UNIX_EPOCH),
        fought: None,
        approved: vec![],
        halted: None,
        prepared: vec![],
        sought: vec![],
        capacity: Capacity::Full,
    };
    State { phase: Phase::Rolling(rollout), ..at_rest }
}

fn plan() -> Plan {
    Plan::lenient(&serde_json::from_value(json!({"workloads": [{"name": "shop"}]})).unwrap(), &[]).0
}

fn raw_service(ports: &Value) -> RawService {
    serde_json::from_value(json!({"metadata": {"name": "shop"}, "spec": {"ports": ports}})).unwrap()
}

fn asked(state: &State, seen: &Observation, ports: &Value) -> (Watch, Vec<Reason>) {
    let services = [raw_service(ports)];
    watch(state, seen, (&plan(), &[probe(None)]), &Ports { services: &services, pods: Vec::new() })
}

fn names(asks: &Asks) -> (Vec<&str>, Vec<&str>) {
    let names = |targets: &'_ [Target]| targets.iter().map(|t| t.pod.clone().leak() as &str).collect::<Vec<_>>();
    match asks {
        Asks::Pair { canary, stable, .. } => (names(canary), names(stable)),
        Asks::Rest { pods } => (Vec::new(), names(pods)),
    }
}

#[test]
fn who_is_asked_follows_the_stage_and_the_pin() {
    let guarding = Stage::Guarding { until: Timestamp::UNIX_EPOCH };
    let back = || Stage::RollingBack {
        outcome: crate::api::release::Outcome::RolledBack,
        why: Why { word: String::new(), says: String::new() },
        at: String::new(),
    };
    let hash = || Pin::Stable(PodHash::new("h1"));
    let cases: [(_, _, &[&str], &[&str]); 8] = [
        (None, Pin::Off, &[], &["s1"]),
        (Some(Stage::Preflight), hash(), &["c1"], &["s1"]),
        (Some(Stage::Canary { step: 1 }), Pin::Off, &["c1"], &["s1"]),
        (Some(Stage::Promoting), Pin::Off, &["c1"], &["s1"]),
        (Some(guarding), Pin::Canary, &["c1"], &["s1"]),
        (Some(Stage::Finalizing), Pin::Canary, &[], &["c1"]),
        (Some(back()), hash(), &[], &["s1"]),
        (Some(back()), Pin::Off, &[], &["s1"]),
    ];
    for (stage, pin, canary, stable) in cases {
        let told = format!("{stage:?} {pin:?}");
        let (watch, problems) = asked(&state(stage), &world(pin), &json!([{"port": 80, "targetPort": 8080}]));
        assert_eq!(problems, [], "{told}");
        let probe = watch.probes.first().unwrap();
        assert_eq!(names(&probe.asks), (canary.to_vec(), stable.to_vec()), "{told}");
        assert_eq!(probe.every.as_secs(), if canary.is_empty() { 180 } else { 15 }, "{told}");
    }
}

#[test]
fn a_load_is_for_a_version_on_its_way_and_what_serves_is_left_alone() {
    let load = Some(Load { per_second: 50, lasts: Duration::from_mins(1) });
    let suite = Suite {
        cron_job: "load".to_owned(),
        job: json!({}),
        within: Suite::WITHIN,
        fails_with: vec![1],
        not_within: Windows::default(),
        seed: 0,
        load,
    };
    let mut probe = probe(None);
    probe.check = Arc::new(Check { suite: Some(Box::new(suite)), ..(*probe.check).clone() });
    let services = [raw_service(&json!([{"port": 80, "targetPort": 8080}]))];
    for (stage, canary, stable) in
        [(Some(Stage::Preflight), vec!["c1"], vec!["s1"]), (Some(Stage::Finalizing), vec![], vec![]), (None, vec![], vec![])]
    {
        let ports = Ports { services: &services, pods: Vec::new() };
        let (watch, _) = watch(&state(stage.clone()), &world(Pin::Off), (&plan(), &[probe.clone()]), &ports);
        // It is known as one that votes all the same.
        assert_eq!(names(&watch.probes.first().unwrap().asks), (canary, stable), "{stage:?}");
    }
}

#[test]
fn a_canary_of_another_release_is_not_asked() {
    let mut seen = world(Pin::Off);
    seen.workloads.first_mut().unwrap().canary.as_mut().unwrap().release = Some(ReleaseName::new("v0"));
    let (watch, _) = asked(&state(Some(Stage::Preflight)), &seen, &json!([{"port": 80}]));
    assert_eq!(names(&watch.probes.first().unwrap().asks), (vec![], vec!["s1"]));
    assert!(watch.eager, "suspended");
}

#[test]
fn a_port_of_the_service_leads_to_a_port_of_the_pod() {
    let seen: Vec<Seen> = vec![crate::observe::pods::read(
        &serde_json::from_value(json!({"metadata": {"name": "s1"}, "spec": {"containers": [{"name": "app", "ports": [{"name": "web", "containerPort": 3000}]}]}})).unwrap(),
        "shop",
    )];
    let two = json!([{"name": "http", "port": 80, "targetPort": "web"}, {"name": "metrics", "port": 90}]);
    for (port, ports, expected) in [
        (None, json!([{"port": 80}]), Ok(Some(80))),
        (None, json!([{"port": 80, "targetPort": 8080}]), Ok(Some(8080))),
        (Some("http"), two.clone(), Ok(Some(3000))),
        (Some("metrics"), two.clone(), Ok(Some(90))),
        (Some("http"), json!([{"name": "http", "port": 80, "targetPort": "gone"}]), Ok(None)),
        (None, two.clone(), Err("Service shop has 2 ports; name one in target.serviceRef.port")),
        (Some("grpc"), two, Err("Service shop has no port named grpc; see target.serviceRef.port")),
    ] {
        let found = super::port(&[raw_service(&ports)], &probe(port).service, port);
        let found = found.map(|p| target(&pod("s1", "h1", 1, true), &p, &seen.iter().collect::<Vec<_>>()).map(|t| t.at.port()));
        assert_eq!(found, expected.map_err(str::to_owned), "{port:?} of {ports}");
    }
}

#[test]
fn a_probe_of_a_foreign_service_is_a_problem_and_asks_nobody() {
    let mut seen = world(Pin::Off);
    seen.services.clear();
    let (watch, problems) = asked(&state(None), &seen, &json!([{"port": 80}]));
    assert_eq!((watch.probes.len(), problems.iter().map(Reason::word).collect::<Vec<_>>()), (0, vec!["ProbeInvalid"]));
}

fn tested(weight: u8) -> Route {
    let course = Course::Shared { weight: Weight::new(weight), testers: Some(Testers::Header("X-Haldane-Track".to_owned())) };
    let edge = Edge {
        addresses: vec![[192, 0, 2, 80].into()],
        port: 443,
        https: true,
        host: Some("shop.example.com".to_owned()),
        ..Edge::default()
    };
    let since = Some(Timestamp::UNIX_EPOCH);
    Route { course: Some(course), most: Weight::new(weight), since, edge: Some(edge), ..tests::route() }
}

/// The door of a probe while that is the route; no other stage matters to it.
fn through(route: Route, probe: &Probe) -> Option<Door> {
    door(&Observation { routes: vec![route], ..world(Pin::Off) }, probe)
}

fn by_route() -> Probe {
    Probe { route: true, ..probe(None) }
}

#[test]
fn the_way_by_the_route_is_there_while_testers_are_on_it_and_others_reach_stable() {
    let open = |route: Route| through(route, &by_route()).is_some();
    assert!(open(tested(0)) && open(tested(50)));
    assert!(!open(tested(100)), "nobody unmarked reaches stable");
    assert!(!open(Route { course: Some(Course::Shared { weight: Weight::new(50), testers: None }), ..tested(50) }));
    assert!(!open(Route { course: Some(Course::Stable), ..tested(0) }));
    assert!(!open(Route { word: Word::Silent, ..tested(0) }));
    assert!(open(Route { word: Word::Stale, ..tested(0) }), "testers are on it already when a share moves");
    assert!(!open(Route { closed: Some("not programmed".to_owned()), ..tested(0) }));
    assert!(!open(Route { edge: None, ..tested(0) }));
    assert!(!open(Route { edge: Some(Edge::default()), ..tested(0) }), "no address");
    assert!(!open(Route { service: "other".to_owned(), ..tested(0) }), "it leads elsewhere");
    assert!(!open(Route { name: crate::model::route::RouteName { kind: RouteKind::GRPCRoute, name: "shop".to_owned() }, ..tested(0) }));
    assert_eq!(through(tested(0), &probe(None)), None, "not asked for");
}

#[test]
fn by_the_route_it_is_asked_as_customers_ask() {
    let of = |probe: &Probe, route: Route| through(route, probe).map(|door| (door.at.to_string(), door.scheme, door.host, door.shared));
    let there = "192.0.2.80:443".to_owned();
    assert_eq!(of(&by_route(), tested(0)), Some((there.clone(), Scheme::Https, "shop.example.com".to_owned(), false)));
    let named = Probe { host: Some("www.example.com".to_owned()), ..by_route() };
    assert_eq!(of(&named, tested(5)), Some((there.clone(), Scheme::Https, "www.example.com".to_owned(), true)));
    let plain = Edge { https: false, host: None, ..tested(0).edge.unwrap() };
    assert_eq!(of(&by_route(), Route { edge: Some(plain), ..tested(0) }), Some((there, Scheme::Http, "shop".to_owned(), false)));
}

#[test]
fn the_door_is_watched_while_pairs_are_asked_and_at_no_other_time() {
    let services = [raw_service(&json!([{"port": 80}]))];
    let seen = Observation { routes: vec![tested(5)], ..world(Pin::Off) };
    let door = |stage: Option<Stage>| {
        let (watch, _) = watch(&state(stage), &seen, (&plan(), &[by_route()]), &Ports { services: &services, pods: Vec::new() });
        let probe = watch.probes.into_iter().next().unwrap();
        assert_eq!((probe.pods, probe.route_of.as_deref()), (true, Some("shop")));
        matches!(probe.asks, Asks::Pair { door: Some(_), .. })
    };
    assert!(door(Some(Stage::Canary { step: 0 })));
    assert!(!door(Some(Stage::Finalizing)) && !door(None));
}

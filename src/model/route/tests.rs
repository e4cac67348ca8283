use serde_json::json;

use super::*;

const PAIR: Pair<'_> = Pair { namespace: "shop", stable: "web", canary: "web-canary" };

fn backend(name: &str, weight: u64) -> Value {
    json!({"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight})
}

fn rule(path: &str, backends: &[Value]) -> Value {
    json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": backends})
}

fn shared(percent: u8, testers: Option<&str>) -> Course {
    Course::Shared { weight: Weight::new(percent), testers: testers.map(|name| Testers::Header(name.to_owned())) }
}

/// Names and weights, rule by rule.
fn weights(rules: &Value) -> String {
    let of = |rule: &Value| {
        let backends = rule["backendRefs"].as_array().cloned().unwrap_or_default();
        let said = backends.iter().map(|b| format!("{} {}", b["name"].as_str().unwrap(), b["weight"]));
        said.collect::<Vec<_>>().join(", ")
    };
    rules.as_array().unwrap().iter().map(of).collect::<Vec<_>>().join(" | ")
}

#[test]
fn every_rule_that_leads_to_the_service_is_shared_and_no_other() {
    let rules = json!([rule("/", &[backend("web", 1)]), rule("/api", &[backend("api", 1)]), rule("/buy", &[backend("web", 1)])]);
    let made = PAIR.rules(&rules, &shared(5, None)).unwrap();
    assert_eq!(weights(&made), "web 95, web-canary 5 | api 1 | web 95, web-canary 5");
    assert_eq!(PAIR.course(&made), Some(shared(5, None)));
    assert_eq!(PAIR.rules(&made, &Course::Left).unwrap(), rules);
}

#[test]
fn weights_of_the_owners_own_stay_what_they_are_among_each_other() {
    let rules = json!([rule("/", &[backend("web", 3), backend("old", 1)])]);
    let made = PAIR.rules(&rules, &shared(25, None)).unwrap();
    assert_eq!(weights(&made), "web 225, web-canary 75, old 100");
    for percent in [0, 1, 50, 99, 100] {
        let made = PAIR.rules(&made, &shared(percent, Some("X-T"))).unwrap();
        assert_eq!(PAIR.course(&made), Some(shared(percent, Some("X-T"))), "{percent}");
        assert_eq!(PAIR.rules(&made, &Course::Stable).unwrap(), rules, "{percent}");
    }
}

#[test]
fn a_copy_for_testers_stands_before_each_rule_and_leads_to_the_canary_alone() {
    let mut buy = rule("/buy", &[backend("web", 1), backend("old", 1)]);
    buy["name"] = json!("buy");
    buy["filters"] = json!([{"type": "RequestHeaderModifier"}]);
    buy["timeouts"] = json!({"request": "3s"});
    let rules = json!([buy, {"backendRefs": [backend("web", 1)]}]);
    let made = PAIR.rules(&rules, &shared(0, Some("X-Track"))).unwrap();
    assert_eq!(weights(&made), "web-canary 1 | web 100, web-canary 0, old 100 | web-canary 1 | web 100, web-canary 0");
    let mark = json!({"type": "Exact", "name": "X-Track", "value": "canary"});
    assert_eq!(made[0]["matches"], json!([{"path": {"type": "PathPrefix", "value": "/buy"}, "headers": [mark]}]));
    assert_eq!((&made[0]["filters"], &made[0]["timeouts"], &made[0]["name"]), (&buy["filters"], &buy["timeouts"], &Value::Null));
    assert_eq!(made[2]["matches"], json!([{"headers": [mark]}]));
    assert_eq!(PAIR.rules(&made, &Course::Left).unwrap(), rules);
}

#[test]
fn a_cookie_is_matched_among_others_and_read_back() {
    let course = Course::Shared { weight: Weight::new(5), testers: Some(Testers::Cookie("track".to_owned())) };
    let rules = json!([rule("/", &[backend("web", 1)])]);
    let made = PAIR.rules(&rules, &course).unwrap();
    let header = &made[0]["matches"][0]["headers"][0];
    assert_eq!((&header["name"], &header["value"]), (&json!("Cookie"), &json!("(.*; *)?track=canary( *;.*)?")));
    assert_eq!(PAIR.course(&made), Some(course));
}

#[test]
fn the_same_course_again_changes_nothing() {
    let rules = json!([rule("/", &[backend("web", 2)])]);
    let once = PAIR.rules(&rules, &shared(25, Some("X-T"))).unwrap();
    assert_eq!(PAIR.rules(&once, &shared(25, Some("X-T"))).unwrap(), once);
}

#[test]
fn what_somebody_changed_is_nobodys_course_and_finds_its_way_home() {
    let rules = json!([rule("/", &[backend("web", 1)]), rule("/buy", &[backend("web", 1)])]);
    let ours = PAIR.rules(&rules, &shared(25, None)).unwrap();
    let mut edited = ours.clone();
    edited[1]["backendRefs"] = json!([backend("web", 40), backend("web-canary", 60)]);
    assert_eq!(PAIR.course(&edited), None);
    assert_eq!(PAIR.rules(&edited, &Course::Left).unwrap(), rules);
    assert_eq!((PAIR.most(&edited), PAIR.most(&ours), PAIR.most(&rules)), (Weight::new(60), Weight::new(25), Weight::ZERO));
    // Another share everywhere is a course: not the one that was asked for.
    let mut other = ours.clone();
    for at in 0..2 {
        other[at]["backendRefs"] = json!([backend("web", 10), backend("web-canary", 90)]);
    }
    assert_eq!(PAIR.course(&other), Some(shared(90, None)));
    // The owner's Service was taken out of a rule: it comes back.
    let mut cut = ours.clone();
    cut[0]["backendRefs"] = json!([backend("web-canary", 1)]);
    assert_eq!(PAIR.most(&cut), Weight::FULL);
    assert_eq!(PAIR.rules(&cut, &Course::Left).unwrap(), rules);
    // A rule that came meanwhile.
    let mut more = ours.as_array().unwrap().clone();
    more.push(rule("/new", &[backend("web", 1)]));
    let more = Value::Array(more);
    assert_eq!(PAIR.course(&more), None);
    assert_eq!(weights(&PAIR.rules(&more, &shared(25, None)).unwrap()), ["web 75, web-canary 25"; 3].join(" | "));
}

#[test]
fn what_cannot_be_says_why() {
    let none = json!([rule("/", &[backend("api", 1)])]);
    let elsewhere = json!([rule("/", &[json!({"name": "web", "namespace": "other", "port": 80})])]);
    let off = json!([rule("/", &[backend("web", 0), backend("api", 1)])]);
    for rules in [&none, &elsewhere, &off] {
        assert_eq!(PAIR.unfit(rules, None).0, Some(Unfit::NoRule("web".to_owned())), "{rules}");
        assert_eq!(PAIR.course(rules), Some(Course::Stable));
    }
    let heavy = json!([rule("/", &[backend("web", 10_001)])]);
    assert_eq!(PAIR.unfit(&heavy, None).0, Some(Unfit::Heavy(10_001)));
    let testers = Testers::Header("X-T".to_owned());
    let many = json!((0..9).map(|n| rule(&format!("/{n}"), &[backend("web", 1)])).collect::<Vec<_>>());
    assert_eq!(PAIR.unfit(&many, Some(&testers)), (None, Some(Unfit::Full(9))));
    let mut taken = rule("/", &[backend("web", 1)]);
    taken["matches"][0]["headers"] = json!([{"name": "x-t", "value": "1"}]);
    assert_eq!(PAIR.unfit(&json!([taken]), Some(&testers)), (None, Some(Unfit::Taken("X-T".to_owned()))));
}

#[test]
fn names_fit_and_stay_apart() {
    assert_eq!(canary_service("web"), "web-canary");
    let (one, other) = (canary_service(&format!("{}a", "x".repeat(60))), canary_service(&format!("{}b", "x".repeat(60))));
    assert!(one.len() <= 63 && one != other, "{one} {other}");
}

#[test]
fn the_service_of_the_canary_selects_what_the_owners_does_and_is_marked() {
    let spec = json!({"selector": {"app": "web", "pod-template-hash": "abc"}, "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30_001}]});
    assert_eq!(
        canary_shape(&spec),
        json!({"selector": {"app": "web", "haldane.dev/track": "canary"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]})
    );
}

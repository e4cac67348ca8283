use super::*;

fn step(method: &str, path: &str) -> Step {
    Step {
        name: "place".into(),
        method: method.into(),
        path: path.into(),
        headers: Vec::new(),
        body: None,
        expect: Expect::default(),
        capture: Vec::new(),
        until: None,
        compare: None,
        deadline: Step::DEADLINE,
    }
}

fn check(change: impl FnOnce(&mut Check)) -> Check {
    let mut check = Check {
        name: "place-order".into(),
        scheme: Scheme::Https,
        host: "shop.example.com".into(),
        setup: Vec::new(),
        steps: vec![step("GET", "/orders?token=s3cr3t")],
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
    change(&mut check);
    check
}

fn first(check: &mut Check) -> &mut Step {
    check.steps.first_mut().unwrap()
}

fn with_header(name: &str, value: &str) -> Check {
    check(|c| first(c).headers.push((name.into(), value.into())))
}

#[test]
fn what_people_write_is_accepted() {
    for host in ["shop", "shop.example.com", "shop.example.com:8443", "checkout.shop.svc.cluster.local", "a_b.example"] {
        check(|c| c.host = host.into()).validate().unwrap();
    }
    with_header("Authorization", "Bearer abc.def").validate().unwrap();
    check(|c| first(c).expect = Expect { status: vec![200, 404, 410], within: Some(Duration::from_millis(800)), that: Vec::new() })
        .validate()
        .unwrap();
    check(|c| first(c).body = Some(Body::Text("x".repeat(Step::MAX_BODY)))).validate().unwrap();
    let full = |c: &mut Check| {
        c.steps = (0..Check::MAX_STEPS).map(|n| Step { name: format!("s{n}"), ..step("POST", "/") }).collect();
    };
    check(full).validate().unwrap();
}

#[test]
fn every_refusal_names_the_field_and_says_what_to_write() {
    let table = [
        (check(|c| c.name = String::new()), "name: use 1 to 63 letters"),
        (check(|c| c.name = "a\r\nX-Evil: 1".into()), "name: use 1 to 63 letters"),
        (check(|c| c.steps.clear()), "steps: there is no step; give at least one"),
        (check(|c| c.steps = vec![step("GET", "/"); 21]), "steps: 21 steps are too many; split the flow"),
        (check(|c| c.steps = vec![step("GET", "/"); 2]), "steps[1].name: an earlier step has the same name"),
        (check(|c| first(c).name = "place order".into()), "steps[0].name: use 1 to 63"),
        (check(|c| first(c).method = "get".into()), "steps[0].method: use one of GET, HEAD, POST"),
        (check(|c| first(c).method = "CONNECT".into()), "steps[0].method: use one of"),
        (check(|c| first(c).path = "orders".into()), "steps[0].path: begin with '/'"),
        (check(|c| first(c).path = "/a b".into()), "steps[0].path: begin with '/'"),
        (check(|c| first(c).path = "/a\r\nHost: b".into()), "steps[0].path: begin with '/'"),
        (check(|c| first(c).path = "/a#b".into()), "steps[0].path: begin with '/'"),
        (check(|c| first(c).path = format!("/{}", "a".repeat(2048))), "steps[0].path: begin with '/'"),
        (with_header("a b", "c"), "steps[0].headers[0]: not a header name"),
        (with_header("", "c"), "steps[0].headers[0]: not a header name"),
        (with_header("X-Ok", "a\nb"), "steps[0].headers[0]: not a header value"),
        (with_header("X-Ok", &"v".repeat(4097)), "steps[0].headers[0]: not a header value"),
        (with_header("HOST", "b"), "steps[0].headers[0]: host is set by the prober itself"),
        (with_header("Transfer-Encoding", "chunked"), "steps[0].headers[0]: transfer-encoding is set by"),
        (with_header("User-Agent", "me"), "steps[0].headers[0]: user-agent is set by"),
        (check(|c| first(c).headers = vec![("a".into(), "b".into()); 33]), "steps[0].headers: 33 headers are too many"),
        (check(|c| first(c).body = Some(Body::Text("x".repeat(65_537)))), "steps[0].body: 65537 bytes are too many"),
        (check(|c| first(c).expect.status = vec![200, 101]), "steps[0].expect.status[1]: 101 is not a final HTTP status"),
        (check(|c| first(c).expect.within = Some(Duration::ZERO)), "steps[0].expect.within: give more than 0"),
        (check(|c| first(c).expect.within = Some(Step::DEADLINE)), "less than the step's deadline of 10s"),
        (check(|c| first(c).deadline = Duration::ZERO), "steps[0].deadline: give more than 0 and at most 300s"),
        (check(|c| c.deadline = Duration::from_secs(301)), "deadline: give more than 0 and at most 300s"),
        (check(|c| c.trust = Some(b" \n".to_vec())), "trust: the CA bundle is empty"),
    ];
    for (check, said) in table {
        let error = check.validate().unwrap_err().to_string();
        assert!(error.contains(said), "{error:?} does not say {said:?}");
    }
}

#[test]
fn a_host_is_a_dns_name_and_nothing_that_could_be_read_as_an_address_or_a_url() {
    let refused = [
        "",
        "https://shop",
        "shop/path",
        "10.0.0.1",
        "10.0.0.1:80",
        "::1",
        "[::1]",
        "[::1]:443",
        "127.1",
        "2130706433",
        "a b",
        "a\r\nb",
        "shop:",
        "shop:0",
        "shop:65536",
        "shop:+80",
        "shop:8x",
        "user@shop",
        "-shop",
        "shop-",
        ".shop",
        "shop..b",
        "shöp.example",
    ];
    for host in refused {
        let error = check(|c| c.host = host.into()).validate().unwrap_err();
        assert_eq!((error.field.as_str(), error.problem), ("host", Problem::Host), "{host:?}");
    }
}

#[test]
fn secrets_appear_neither_in_errors_nor_in_debug_lines() {
    let mut check = with_header("Authorization", "Bearer s3cr3t\n");
    first(&mut check).body = Some(Body::Json(serde_json::json!({"password": "s3cr3t"})));
    let told = format!("{check:?} {} {:?}", check.validate().unwrap_err(), check.steps.first().unwrap().body);
    assert!(!told.contains("s3cr3t"), "{told}");
    assert!(told.contains("Authorization"), "{told}");
}

#[test]
fn only_five_classes_vote_and_labels_are_stable() {
    let labels = Class::ALL.map(|class| (class.label(), class.votes()));
    let wanted = [
        ("assertion", true),
        ("http-status", true),
        ("timeout", true),
        ("connect", true),
        ("tls", true),
        ("setup", false),
        ("misrouted", false),
        ("prober", false),
        ("spec", false),
    ];
    assert_eq!(labels, wanted);
}

#[test]
fn what_is_wanted_reads_like_a_sentence() {
    let said = |codes: &[u16]| Expect { status: codes.to_vec(), within: None, that: Vec::new() }.wanted();
    assert_eq!((said(&[]), said(&[201])), ("2xx".into(), "201".into()));
    assert_eq!((said(&[200, 404]), said(&[200, 404, 410])), ("200 or 404".into(), "200, 404 or 410".into()));
    assert!(Expect::default().accepts(204) && !Expect::default().accepts(302));
    assert!(
        Expect { status: vec![404], within: None, that: Vec::new() }.accepts(404)
            && !Expect { status: vec![404], within: None, that: Vec::new() }.accepts(200)
    );
}

#[test]
fn the_port_goes_into_the_host_header_only() {
    assert_eq!(check(|c| c.host = "shop.example.com:8443".into()).server_name(), "shop.example.com");
}

#[test]
fn who_answered_is_compared_and_never_shown() {
    let who = |said: &str| Answerer::new(said);
    assert_eq!((who(""), who(&"v".repeat(Answerer::MAX + 1))), (None, None));
    assert!(who(&"v".repeat(Answerer::MAX)).is_some());
    assert_eq!(format!("{:?}", who("s3cr3t").unwrap()), "6 bytes");
    let by = |wanted| AnsweredBy { header: "X-Version".into(), wanted };
    let (v1, v2) = (who("v1").unwrap(), who("v2").unwrap());
    for (wanted, others, misrouted) in [
        (Wanted::Anybody, &v1, false),
        (Wanted::Of(vec![v2.clone()]), &v1, true),
        (Wanted::Of(vec![v2.clone()]), &v2, false),
        (Wanted::NotOf(vec![v2.clone()]), &v1, false),
        (Wanted::NotOf(vec![v2.clone()]), &v2, true),
    ] {
        assert_eq!(by(wanted.clone()).is_misrouted(Some(others)), misrouted, "{wanted:?}");
        assert!(!by(wanted).is_misrouted(None), "one that does not say it is held against nobody");
    }
    assert!(by(Wanted::Of(vec![v2.clone()])).is_unsaid(&[None, None]));
    assert!(!by(Wanted::Of(vec![v2.clone()])).is_unsaid(&[None, Some(v2)]), "one step that says it is enough");
    assert!(!by(Wanted::Anybody).is_unsaid(&[None]));
}

#[test]
fn a_header_that_is_none_cannot_say_who_answered() {
    let by = |header: &str| check(|c| c.answered_by = Some(AnsweredBy { header: header.into(), wanted: Wanted::Anybody }));
    by("X-Shop-Version").validate().unwrap();
    assert_eq!(by("X Shop").validate().unwrap_err().field, "answeredBy.header");
}

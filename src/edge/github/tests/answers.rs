//! Answers that are not what they say that they are: each ends as an error, and none as a panic or as something made up.

use std::{
    mem::discriminant,
    sync::{Arc, Mutex},
};

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{server::Hands, *};

/// How the documents begin.
const HEADS: &str = "query Heads";
const HISTORY: &str = "query History";
const CHECKS: &str = "query Checks";

/// What a question is answered when all is well.
fn good(document: &str) -> Value {
    let oid = sha(1);
    let info = json!({ "hasNextPage": false, "endCursor": null });
    let commit = json!({
        "oid": oid, "message": "m", "committedDate": "2026-11-20T10:00:00Z", "url": "https://x.example/1",
        "author": { "name": "Ada", "user": { "login": "ada" } },
        "parents": { "nodes": [{ "oid": sha(2) }] },
        "associatedPullRequests": { "nodes": [{ "number": 1, "title": "t" }] },
    });
    let suite = json!({
        "app": { "slug": "a", "databaseId": 1 }, "status": "COMPLETED", "conclusion": "SUCCESS",
        "createdAt": "2026-11-20T10:00:00Z", "workflowRun": { "event": "push", "workflow": { "name": "CI" } },
        "checkRuns": { "totalCount": 1 },
    });
    let facts = json!({
        "checkSuites": { "pageInfo": info, "nodes": [suite] },
        "status": { "contexts": [{ "context": "c", "state": "SUCCESS" }] },
    });
    let data = if document.starts_with(HEADS) {
        json!({ "h0": { "at": { "target": { "oid": oid } } } })
    } else if document.starts_with(HISTORY) {
        let target = json!({ "oid": oid, "history": { "pageInfo": info, "nodes": [commit] } });
        json!({ "repository": { "nameWithOwner": "acme/shop", "at": { "name": "main", "target": target } } })
    } else {
        json!({ "repository": { "c0": facts } })
    };
    json!({ "data": data })
}

/// All places in a value, as pointers.
fn places(value: &Value) -> Vec<String> {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = inside.into_iter().flat_map(|(key, value)| places(value).into_iter().map(move |place| format!("/{key}{place}")));
    std::iter::once(String::new()).chain(below).collect()
}

/// What may be null in an answer that is one.
fn may_be_null(place: &str) -> bool {
    let ends = [
        "/data",
        "/h0",
        "/at",
        "/repository",
        "/c0",
        "/author",
        "/author/name",
        "/user",
        "/associatedPullRequests",
        "/associatedPullRequests/nodes",
        "/associatedPullRequests/nodes/0",
        "/app",
        "/databaseId",
        "/conclusion",
        "/workflowRun",
        "/status",
        "/endCursor",
    ];
    ends.iter().any(|end| place.ends_with(end))
}

/// Asks a GitHub whose answers are spoilt in a way that can be changed.
struct Asker {
    github: GitHub,
    spoil: Arc<Mutex<Spoil>>,
    _server: Server,
}

type Spoil = Box<dyn Fn(&mut Value) + Send>;

impl Asker {
    async fn new() -> Self {
        let spoil = Arc::new(Mutex::new(Box::new(|_: &mut Value| {}) as Spoil));
        let by = spoil.clone();
        let server = Server::new(move |asked| {
            let mut answer = good(asked.document());
            by.lock().unwrap()(&mut answer);
            says(200, &answer)
        })
        .await;
        Self { github: server.person(), spoil, _server: server }
    }

    async fn asks(&self, question: &str, spoil: impl Fn(&mut Value) + Send + 'static) -> Result<(), ForgeError> {
        *self.spoil.lock().unwrap() = Box::new(spoil);
        match question {
            HEADS => self.github.heads(&[main_branch()]).await.and_then(|mut heads| heads.remove(0)).map(drop),
            HISTORY => self.github.history(&main_branch(), Some(&sha(2)), 5).await.map(drop),
            _ => self.github.checks(&shop(), &[sha(1)]).await.map(drop),
        }
    }
}

#[tokio::test]
async fn every_field_of_the_wrong_type_is_unreadable() {
    let asker = Asker::new().await;
    let mut tried = 0;
    for question in [HEADS, HISTORY, CHECKS] {
        assert_eq!(asker.asks(question, |_| {}).await, Ok(()));
        let whole = good(question);
        for place in places(&whole).into_iter().filter(|place| !place.is_empty()) {
            for wrong in [Value::Null, json!(-1), json!(1.5), json!("wrong"), json!([]), json!([["wrong"]]), json!({ "a": 1 }), json!(true)]
            {
                let here = whole.pointer(&place).unwrap();
                let same_type = discriminant(here) == discriminant(&wrong) && !here.is_number();
                if same_type || here.is_null() || wrong.is_null() && may_be_null(&place) {
                    continue;
                }
                let (at, bad) = (place.clone(), wrong.clone());
                let told = asker.asks(question, move |answer| spoil(answer, &at, &bad)).await;
                assert!(matches!(told, Err(ForgeError::Unreadable { .. })), "{question}: {place} = {wrong}: {told:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "{tried}");
}

fn spoil(answer: &mut Value, place: &str, bad: &Value) {
    if let Some(here) = answer.pointer_mut(place) {
        *here = bad.clone();
    }
}

#[tokio::test]
async fn a_repository_that_is_null_is_absent() {
    let asker = Asker::new().await;
    for question in [HEADS, HISTORY, CHECKS] {
        for place in ["/data/h0", "/data/repository"] {
            let told = asker.asks(question, move |answer| spoil(answer, place, &Value::Null)).await;
            let there = good(question).pointer(place).is_some();
            assert_eq!(told, if there { Err(absent("acme/shop")) } else { Ok(()) }, "{question}: {place}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_answer_is_unreadable_or_ill() {
    for (body, wanted) in [
        (json!(null), "cannot be read"),
        (json!([]), "cannot be read"),
        (json!({}), "neither data nor errors"),
        (json!({ "data": null }), "neither data nor errors"),
        (json!({ "data": null, "errors": [] }), "neither data nor errors"),
        (json!({ "data": 7 }), "cannot be read"),
        (json!({ "data": {} }), "is missing"),
        (json!({ "errors": "words" }), "words"),
        (json!({ "errors": [7] }), "without words"),
        (json!({ "errors": [{ "message": 7, "path": "x", "type": [] }] }), "without words"),
        (json!({ "data": null, "errors": [{ "message": "Something went wrong while executing your query." }] }), "is ill"),
        (json!({ "errors": [{ "message": "Field 'x' doesn't exist", "extensions": { "code": "undefinedField" } }] }), "cannot be read"),
    ] {
        let shown = body.to_string();
        let server = Server::new(move |_| says(200, &body)).await;
        let told = server.person().heads(&[main_branch()]).await.and_then(|mut heads| heads.remove(0)).unwrap_err().to_string();
        assert!(told.contains(wanted), "{shown}: {told}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_too_long_is_not_used() {
    let whole = json!({ "data": { "h0": { "at": { "target": { "oid": sha(1) } } } } }).to_string();
    let cut = whole[..whole.len() - 2].to_owned();
    let server = Server::new(move |_| with(200, &[], cut.clone())).await;
    assert!(matches!(server.person().heads(&[main_branch()]).await, Err(ForgeError::Unreadable { .. })));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let breaks_off = async {
        let (mut client, _) = listener.accept().await.unwrap();
        let _ = client.read(&mut [0; 16 * 1024]).await.unwrap();
        let promise = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{whole}", whole.len() + 1);
        client.write_all(promise.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let github = GitHub::new(&base, Access::token("ghp_person").unwrap(), Arc::new(Hands::new())).unwrap();
    let branches = [main_branch()];
    let (broken, ()) = tokio::join!(github.heads(&branches), breaks_off);
    assert!(matches!(&broken, Err(ForgeError::Unreadable { said }) if said.contains("broke off")), "{broken:?}");
    let server = Server::new(|_| with(200, &[], " ".repeat(MOST + 1))).await;
    let long = server.person().heads(&[main_branch()]).await.unwrap_err();
    assert_eq!(long, ForgeError::TooLong { what: "the heads of 1 branches".to_owned(), limit: MOST });
}

#[tokio::test]
async fn an_installation_or_token_that_cannot_be_read_is_said_so() {
    for (look_up, mint) in [
        (json!({ "id": "7" }), json!({})),
        (json!({}), json!({})),
        (json!([]), json!({})),
        (json!({ "id": 7, "permissions": [] }), json!({})),
        (json!({ "id": 7 }), json!({ "token": 7, "expires_at": "2026-11-20T13:00:00Z" })),
        (json!({ "id": 7 }), json!({ "token": "ghs_x", "expires_at": 7 })),
        (json!({ "id": 7 }), json!({ "token": "ghs_x" })),
        (json!({ "id": 7 }), json!("ghs_x")),
    ] {
        let server = Server::new(move |asked| says(200, if asked.line.starts_with("GET") { &look_up } else { &mint })).await;
        let told = server.app().heads(&[main_branch()]).await.and_then(|mut heads| heads.remove(0)).unwrap_err();
        assert!(matches!(told, ForgeError::Unreadable { .. }), "{told}");
        assert!(!told.to_string().contains("ghs_"), "{told}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just(json!("NOT_FOUND")),
        Just(json!({ "type": "FORBIDDEN", "path": ["h0"] })),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("data|errors|path|type|h0|repository", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

#[test]
fn no_answer_makes_it_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asker = runtime.block_on(Asker::new());
    let cases = (prop_oneof![Just(HEADS), Just(HISTORY), Just(CHECKS)], any_value(), any::<Index>(), any_value());
    TestRunner::new(ProptestConfig::with_cases(256))
        .run(&cases, |(question, wrong, place, errors)| {
            let _ = runtime.block_on(asker.asks(question, move |answer| {
                let all = places(answer);
                spoil(answer, place.get::<String>(&all), &wrong);
                if let Value::Object(answer) = answer {
                    answer.insert("errors".to_owned(), errors.clone());
                }
            }));
            Ok(())
        })
        .unwrap();
}

//! Every example of a webhook that GitHub publishes comes to our door, and what concerns us stirs the repository that it is about.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::{BoxFuture, pending};
use haldane::{
    clock::SystemClock,
    control::lease::Elector,
    edge::{
        forge::{ApiBudget, Forge, ForgeError},
        github::app::Manifest,
        registry::{ImageRef, Login, Origin, Registry, RegistryError},
    },
    model::source::{Branch, CheckFacts, Digest, History, ImagePlan, MergePlan, Queue, Repository, Rules, Sha, When},
    observe::{
        MergeBoard,
        merges::{Grants, Logins, LoginsFor, Sources, Subject, Watch},
    },
    web::door::{Door, Relay, Secrets, serve},
};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use prometheus::IntCounterVec;
use tokio::{net::TcpListener, sync::mpsc::unbounded_channel, task::JoinHandle};

use crate::{
    forge::keys::{guid, signatures},
    parts,
    support::raw,
};

const SECRET: &str = "what-github-and-haldane-know-of-each-other";

/// Somebody who never answers: here counts who was stirred, not what is read then.
struct Silence;

impl Forge for Silence {
    fn heads<'a>(&'a self, _: &'a [Branch]) -> BoxFuture<'a, Result<Vec<Result<Sha, ForgeError>>, ForgeError>> {
        Box::pin(pending())
    }

    fn history<'a>(&'a self, _: &'a Branch, _: Option<&'a Sha>, _: usize) -> BoxFuture<'a, Result<History, ForgeError>> {
        Box::pin(pending())
    }

    fn checks<'a>(
        &'a self,
        _: &'a Repository,
        _: &'a [Sha],
    ) -> BoxFuture<'a, Result<std::collections::BTreeMap<Sha, CheckFacts>, ForgeError>> {
        Box::pin(pending())
    }

    fn file<'a>(&'a self, _: &'a Repository, _: &'a Sha, _: &'a str, _: usize) -> BoxFuture<'a, Result<Option<String>, ForgeError>> {
        Box::pin(pending())
    }

    fn repeat_missed(&self, _: Timestamp) -> BoxFuture<'_, Result<usize, ForgeError>> {
        Box::pin(pending())
    }

    fn budgets(&self) -> Vec<ApiBudget> {
        Vec::new()
    }
}

impl Registry for Silence {
    fn digest<'a>(&'a self, _: &'a ImageRef, _: &'a [Login]) -> BoxFuture<'a, Result<Option<Digest>, RegistryError>> {
        Box::pin(pending())
    }

    fn origin<'a>(&'a self, _: &'a ImageRef, _: &'a Digest, _: &'a [Login]) -> BoxFuture<'a, Result<Origin, RegistryError>> {
        Box::pin(pending())
    }
}

impl Logins for Silence {
    fn of<'a>(&'a self, _: &'a LoginsFor, _: &'a ImageRef) -> BoxFuture<'a, Result<Vec<Login>, String>> {
        Box::pin(pending())
    }
}

/// A door and who waits behind it.
pub struct House {
    address: SocketAddr,
    board: Arc<MergeBoard>,
    calls: IntCounterVec,
    sent: u64,
    task: JoinHandle<()>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl House {
    pub async fn open() -> Self {
        let (silence, (nudge, _)) = (Arc::new(Silence), unbounded_channel());
        let grants = Arc::new(Grants::parse("[]").unwrap());
        let sources = Sources { forge: Some(silence.clone()), grants, registry: silence.clone(), logins: silence };
        let board = Arc::new(MergeBoard::new(Some(sources), Arc::new(SystemClock), nudge));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("webhookSecret"), SECRET).unwrap();
        let secrets = Arc::new(Secrets::read(folder.path()).unwrap());
        let door = Arc::new(Door::new(secrets, board.clone(), Elector::alone(&SystemClock), Relay::default()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, calls) = (listener.local_addr().unwrap(), door.metrics());
        Self { address, board, calls, sent: 0, task: tokio::spawn(serve(listener, door)) }
    }

    /// From now on somebody waits for that repository, and for no other.
    fn waits_for(&self, repository: &str) {
        let rules = Rules { when: When::Checks, without_checks: false, grace: Duration::ZERO, image_timeout: Duration::ZERO };
        let image =
            ImagePlan { repository: "r.example/a/b".to_owned(), tag: "{sha}".to_owned(), pull_secret: None, revision_required: false };
        let branch = Branch { repository: Repository::parse(repository).unwrap_or_else(|| panic!("{repository}")), name: None };
        let logins = LoginsFor { namespace: "shop".to_owned(), secrets: Vec::new(), account: "default".to_owned() };
        let plan = MergePlan { branch, rules, image, queue: Queue::Latest, config: None };
        self.board
            .watch(&ObjectRef::new("web").within("shop"), Watch { subject: Subject::Branch { plan: Box::new(plan), since: None }, logins });
    }

    /// Signed, as a delivery of its own; the status and what was counted.
    async fn takes(&mut self, event: &str, body: &str) -> (u16, &'static str) {
        self.sent += 1;
        let id = guid(&self.sent.to_string());
        let before = self.counts();
        let [_, (_, signature)] = signatures(SECRET, body.as_bytes());
        let headers = [
            ("content-type", "application/json"),
            ("x-github-event", event),
            ("x-github-delivery", &*id),
            ("x-hub-signature-256", &*signature),
        ];
        let answer = raw(&format!("http://{}", self.address), "POST", "/github", &headers, body).await.unwrap();
        let changed = self.counts().into_iter().zip(before).find(|((_, now), (_, before))| now != before);
        (answer.status, changed.map_or("uncounted", |((name, _), _)| name))
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let all = ["stirred", "relayed", "ignored", "known", "forged", "refused", "no_leader"];
        all.iter().map(|name| (*name, self.calls.with_label_values(&[*name]).get())).collect()
    }
}

/// What our App asks to be told.
fn wanted() -> Vec<String> {
    let manifest = Manifest { name: String::new(), hooks: Some(String::new()), back: String::new() }.json();
    manifest["default_events"].as_array().unwrap().iter().map(|event| event.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_published_example_is_taken_and_stirs_the_repository_that_it_is_about() {
    let (mut house, wanted, examples) = (House::open().await, wanted(), parts::examples());
    let (mut all, mut stirred) = (0, std::collections::BTreeMap::<&str, usize>::new());
    for (event, example) in examples.iter().flat_map(|(event, examples)| examples.iter().map(move |example| (event, example))) {
        let body = example.to_string();
        all += 1;
        if !wanted.contains(event) {
            let right = if event == "ping" { 200 } else { 202 };
            assert_eq!(house.takes(event, &body).await, (right, "ignored"), "{event}");
            continue;
        }
        let about = example["repository"]["full_name"].as_str().unwrap_or_else(|| panic!("{event}: {example:#}"));
        house.waits_for(about);
        assert_eq!(house.takes(event, &body).await, (202, "stirred"), "{event} of {about}");
        house.waits_for("somebody/else");
        assert_eq!(house.takes(event, &body).await, (202, "ignored"), "{event} of {about}");
        *stirred.entry(event).or_default() += 1;
    }
    assert_eq!((examples.len(), all), (58, 329), "there are other examples; are they of use?");
    // GitHub has published none of registry_package; that of the model is held against its schema (`told`).
    let each = [("check_suite", 9), ("package", 3), ("push", 7), ("status", 4), ("workflow_run", 5)];
    assert_eq!(stirred, each.into_iter().collect());
    assert_eq!(wanted.len(), each.len() + 1);
}

//! A repository, a shelf of images, and a board that watches both.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use haldane::{
    clock::{Clock, SystemClock},
    control::lease::Elector,
    decide::source::{Readiness, readiness},
    edge::{
        github::{Access, GitHub as Client},
        registry::{ImageRef, Login, Origin, Registry, RegistryError},
    },
    model::source::{Branch, Digest, HistoryEnd, ImagePlan, MergePlan, Merges, Queue, Repository as Name, Rules, Sha, When},
    observe::{
        MergeBoard,
        merges::{Grants, Logins, LoginsFor, Sources, Subject, Watch},
    },
    web::door::{Door, Relay, Secrets, serve},
};
use tokio::{net::TcpListener, sync::mpsc::unbounded_channel, task::JoinHandle, time::Instant};

use crate::forge::{GitHub, Repository};

pub const SECRET: &str = "what-github-and-haldane-know-of-each-other";
/// A round a second, and the calls of one.
const SOON: Duration = Duration::from_secs(15);

/// Images by their tag: the digest, and the commit that they say they were built from.
#[derive(Default)]
pub struct Shelf(Mutex<BTreeMap<String, (Digest, Option<String>)>>);

impl Shelf {
    /// An image under this tag, with what it says of its commit.
    pub fn put(&self, tag: &str, content: &str, revision: Option<&str>) {
        let digest = Digest::parse(&format!("sha256:{content:0>64}")).expect("a digest");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.to_owned(), (digest, revision.map(str::to_owned)));
    }

    pub fn take_away(&self, tag: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(tag);
    }
}

impl Registry for Shelf {
    fn digest<'a>(&'a self, image: &'a ImageRef, _: &'a [Login]) -> BoxFuture<'a, Result<Option<Digest>, RegistryError>> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&image.tag).map(|(digest, _)| digest.clone());
        async { Ok(found) }.boxed()
    }

    fn origin<'a>(&'a self, _: &'a ImageRef, digest: &'a Digest, _: &'a [Login]) -> BoxFuture<'a, Result<Origin, RegistryError>> {
        let images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = images.values().find(|(at, _)| at == digest).and_then(|(_, revision)| revision.clone());
        async { Ok(Origin { revision, source: None }) }.boxed()
    }
}

pub struct NoLogins;

impl Logins for NoLogins {
    fn of<'a>(&'a self, _: &'a LoginsFor, _: &'a ImageRef) -> BoxFuture<'a, Result<Vec<Login>, String>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

pub struct Street {
    pub github: GitHub,
    pub repo: Repository,
    pub shelf: Arc<Shelf>,
    pub board: Arc<MergeBoard>,
    pub client: Client,
    pub plan: MergePlan,
    /// What is deployed: the first commit, unless a test says otherwise.
    pub since: Option<String>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Street {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Short times, so that what is waited for comes: checks may take 2 s to appear, images 15 min.
pub fn plan() -> MergePlan {
    let rules = Rules { when: When::Checks, without_checks: false, grace: Duration::from_secs(2), image_timeout: Duration::from_mins(15) };
    let image = ImagePlan {
        repository: "r.example/acme/shop".to_owned(),
        tag: "sha-{sha}".to_owned(),
        pull_secret: None,
        revision_required: false,
    };
    MergePlan {
        branch: Branch { repository: Name::parse("acme/shop").unwrap(), name: None },
        rules,
        image,
        queue: Queue::Latest,
        config: None,
    }
}

impl Street {
    /// A repository whose pushes start no workflow of their own, and whose first commit is deployed.
    pub fn new(plan: MergePlan) -> Self {
        let github = GitHub::start(crate::forge::Options::default());
        github.install("acme");
        let repo = github.repository("acme/shop");
        repo.commit("main", "The beginning");
        let app = github.app();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let client = Client::new(github.url(), Access::app(app.id, app.pem.as_bytes()).unwrap(), clock.clone()).unwrap();
        let (nudge, _nudges) = unbounded_channel();
        let grants = Arc::new(Grants::parse(r#"[{"repositories": ["acme/*"], "namespaces": ["shop"]}]"#).unwrap());
        let shelf = Arc::new(Shelf::default());
        let sources = Sources { forge: Some(Arc::new(client.clone())), grants, registry: shelf.clone(), logins: Arc::new(NoLogins) };
        let board = Arc::new(MergeBoard::new(Some(sources), clock, nudge));
        let since = Some(repo.head("main"));
        let street = Self { github, repo, shelf, board, client, plan, since, tasks: Vec::new() };
        street.watch();
        street
    }

    pub fn watch(&self) {
        let logins = LoginsFor { namespace: "shop".to_owned(), secrets: Vec::new(), account: "default".to_owned() };
        let since = self.since.as_deref().and_then(Sha::parse);
        self.board.watch(&key(), Watch { subject: Subject::Branch { plan: Box::new(self.plan.clone()), since }, logins });
    }

    /// The door is open, and GitHub knows where it is.
    pub async fn open_the_door(&mut self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.open_the_door_at(listener);
        self.github.webhook(&format!("http://{address}/github"), SECRET);
        address
    }

    pub fn open_the_door_at(&mut self, listener: TcpListener) {
        let door = Door::new(secrets(), self.board.clone(), Elector::alone(&SystemClock), Relay::default()).unwrap();
        self.tasks.push(tokio::spawn(serve(listener, Arc::new(door))));
    }

    /// An image of this commit, as CI makes it: the tag names it, and so does its label.
    pub fn build(&self, commit: &str) {
        self.shelf.put(&format!("sha-{commit}"), &commit[..12], Some(commit));
    }

    pub fn known(&self) -> Merges {
        self.board.read(&key())
    }

    /// What each commit that is newer than the deployed one comes to, newest first, as `title: word (reason)`.
    pub fn thought(&self) -> Vec<String> {
        let (known, now) = (self.known(), SystemClock.now());
        let Some(history) = known.history else { return known.unsaid.map(|unsaid| unsaid.says).into_iter().collect() };
        let mut lines: Vec<String> = history
            .commits
            .iter()
            .map(|commit| match known.facts.get(&commit.sha).map(|facts| readiness(&commit.sha, facts, &self.plan, now)) {
                None => format!("{}: unread", commit.title),
                Some(Readiness::Ready(_)) => format!("{}: ready", commit.title),
                Some(Readiness::Building(why)) => format!("{}: waits for {}", commit.title, Self::shortened(&why)),
                Some(Readiness::ChecksFailed(why)) => format!("{}: failed ({})", commit.title, Self::shortened(&why)),
                Some(Readiness::NoArtifact(why)) => format!("{}: not built ({})", commit.title, Self::shortened(&why)),
                Some(Readiness::Refused(why)) => format!("{}: refused ({})", commit.title, Self::shortened(&why)),
            })
            .collect();
        if history.end == HistoryEnd::Diverged {
            lines.push("the branch was rewritten".to_owned());
        }
        lines
    }

    /// Without what differs from run to run.
    fn shortened(text: &str) -> String {
        text.split(' ').map(|word| if word.len() >= 40 || word.contains("r.example") { "…" } else { word }).collect::<Vec<_>>().join(" ")
    }

    /// Somebody says that something happened, and soon this is what is thought.
    pub async fn sees(&self, wanted: &[&str]) {
        self.stir();
        self.comes_to(wanted).await;
    }

    pub fn stir(&self) {
        self.board.stir(&self.plan.branch.repository);
    }

    /// Soon this is told of what could not be read.
    pub async fn says(&self, words: &str) {
        let began = Instant::now();
        while self.known().unsaid.is_none_or(|unsaid| !unsaid.says.contains(words)) {
            assert!(began.elapsed() < SOON, "wanted {words}\nseen   {:?}", self.known().unsaid);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Without anybody saying so.
    pub async fn comes_to(&self, wanted: &[&str]) {
        let began = Instant::now();
        while self.thought() != wanted {
            assert!(began.elapsed() < SOON, "wanted {wanted:#?}\nseen   {:#?}\n{:?}", self.thought(), self.known().unsaid);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What is known at the door.
pub fn secrets() -> Arc<Secrets> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("webhookSecret"), SECRET).unwrap();
    Arc::new(Secrets::read(folder.path()).unwrap())
}

pub fn key() -> kube::runtime::reflector::ObjectRef<haldane::api::delivery::Delivery> {
    kube::runtime::reflector::ObjectRef::new("web").within("shop")
}

//! Many repositories, a Delivery for each, and time that goes on when a test says so.
//!
//! The client, the board, the door and the rules are ours, GitHub is the model, git is git; in between there are sockets. The clock
//! of tokio stands still until everything that can happen has happened, so an hour is over when its work is done, and two runs
//! ask the same questions. Who reconciles is a few lines here: told of news, it decides and records Releases.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use haldane::{
    api::delivery::{Capacity, Delivery, OnDeadline},
    clock::Clock as _,
    control::lease::Elector,
    decide::{Case, source::told},
    edge::{
        forge::{ApiBudget, Forge, ForgeError},
        github::{Access, GitHub as Client},
    },
    model::{
        decision::{Effect, Wait},
        phase::State,
        plan::{Plan, Source},
        source::{Branch, CheckFacts, Commit, History, MergePlan, Merges, Repository as Name, Sha},
        version::ReleaseName,
        world::{Observation, Release},
    },
    observe::{
        MergeBoard,
        merges::{Grants, LoginsFor, Sources, Subject, Watch},
    },
    web::door::{Door, Relay, serve},
};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use tokio::{
    net::TcpListener,
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    task::{JoinHandle, yield_now},
};

use crate::{
    forge::{GitHub, HandClock, Repository, limits::Used},
    street::{NoLogins, SECRET, Shelf, secrets},
};

type Key = ObjectRef<Delivery>;

/// Our client, and whether it waits for an answer.
struct Watched {
    client: Client,
    waiting: watch::Sender<usize>,
}

impl Watched {
    fn ask<'a, T: Send + 'a>(&'a self, question: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        let counted = Counted::new(&self.waiting);
        async move {
            let answer = question.await;
            drop(counted);
            answer
        }
        .boxed()
    }
}

struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(waiting: &watch::Sender<usize>) -> Self {
        waiting.send_modify(|count| *count += 1);
        Self(waiting.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Forge for Watched {
    fn heads<'a>(&'a self, branches: &'a [Branch]) -> BoxFuture<'a, Result<Vec<Result<Sha, ForgeError>>, ForgeError>> {
        self.ask(self.client.heads(branches))
    }

    fn history<'a>(&'a self, branch: &'a Branch, since: Option<&'a Sha>, limit: usize) -> BoxFuture<'a, Result<History, ForgeError>> {
        self.ask(self.client.history(branch, since, limit))
    }

    fn checks<'a>(&'a self, of: &'a Name, commits: &'a [Sha]) -> BoxFuture<'a, Result<BTreeMap<Sha, CheckFacts>, ForgeError>> {
        self.ask(self.client.checks(of, commits))
    }

    fn file<'a>(&'a self, of: &'a Name, commit: &'a Sha, path: &'a str, most: usize) -> BoxFuture<'a, Result<Option<String>, ForgeError>> {
        self.ask(self.client.file(of, commit, path, most))
    }

    fn repeat_missed(&self, since: Timestamp) -> BoxFuture<'_, Result<usize, ForgeError>> {
        self.ask(self.client.repeat_missed(since))
    }

    fn budgets(&self) -> Vec<ApiBudget> {
        Forge::budgets(&self.client)
    }
}

/// A Delivery: what is to be known for it, and what came of it.
pub struct Home {
    pub repo: Repository,
    key: Key,
    plan: Plan,
    seen: Observation,
    since: Option<Sha>,
    /// When a look is worth it without news.
    due: Option<Timestamp>,
}

impl Home {
    /// The Releases of merges, oldest first, by commit; without the beginning.
    pub fn releases(&self) -> Vec<String> {
        self.seen.releases.iter().skip(1).filter_map(|release| release.commit.clone()).collect()
    }
}

pub struct Town {
    pub github: GitHub,
    pub shelf: Arc<Shelf>,
    pub homes: Vec<Home>,
    board: Arc<MergeBoard>,
    installation: u64,
    clock: Arc<HandClock>,
    waiting: watch::Sender<usize>,
    news: UnboundedReceiver<Key>,
    tasks: Vec<JoinHandle<()>>,
    /// While a thread waits for what never comes here, tokio's clock does not go on by itself.
    _still: mpsc::Sender<()>,
}

impl Drop for Town {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Town {
    /// So many repositories with one commit each, which is deployed; nothing watches yet.
    pub fn new(repositories: usize, like: impl Fn(usize) -> MergePlan) -> Self {
        tokio::time::pause();
        let (still, until_gone) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || until_gone.recv());
        let clock = Arc::new(HandClock::monday());
        let github = GitHub::at(clock.clone());
        let installation = github.install("acme");
        let first = github.repository("acme/r0");
        first.commit("main", "The beginning");
        let copies = (1..repositories).map(|number| first.copy(&format!("acme/r{number}")));
        let homes = std::iter::once(first.clone()).chain(copies).enumerate().map(|(at, repo)| Home::new(repo, like(at))).collect();
        let app = github.app();
        let client = Client::new(github.url(), Access::app(app.id, app.pem.as_bytes()).unwrap(), clock.clone()).unwrap();
        let (waiting, shelf) = (watch::Sender::new(0), Arc::new(Shelf::default()));
        let (nudge, news) = unbounded_channel();
        let sources = Sources {
            forge: Some(Arc::new(Watched { client, waiting: waiting.clone() })),
            grants: Arc::new(Grants::parse(r#"[{"repositories": ["acme/*"], "namespaces": ["shop"]}]"#).unwrap()),
            registry: shelf.clone(),
            logins: Arc::new(NoLogins),
        };
        let board = Arc::new(MergeBoard::new(Some(sources), clock.clone(), nudge));
        Self { github, shelf, homes, board, installation, clock, waiting, news, tasks: Vec::new(), _still: still }
    }

    /// Everybody says what is to be known, and branches are looked at once a minute.
    pub async fn wakes(&mut self) {
        for home in &self.homes {
            home.watch(&self.board);
        }
        self.tasks.extend([tokio::spawn(self.board.clone().sweep()), tokio::spawn(self.board.clone().recall())]);
        self.settle().await;
    }

    /// GitHub tells us, too.
    pub async fn opens_the_door(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.github.webhook(&format!("http://{}/github", listener.local_addr().unwrap()), SECRET);
        let door = Door::new(secrets(), self.board.clone(), Elector::alone(self.clock.as_ref()), Relay::default()).unwrap();
        self.tasks.push(tokio::spawn(serve(listener, Arc::new(door))));
    }

    /// An image of this commit, as CI makes it.
    pub fn build(&self, commit: &str) {
        self.shelf.put(&format!("sha-{commit}"), &commit[..12], Some(commit));
    }

    /// So many seconds go by.
    pub async fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.settle().await;
            self.clock.advance(Duration::from_secs(1));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        self.settle().await;
    }

    /// What our app has asked so far.
    pub fn used(&self) -> Used {
        self.github.meter(self.installation)
    }

    fn known(&self) -> impl Iterator<Item = Merges> {
        self.homes.iter().map(|home| self.board.read(&home.key))
    }

    /// How many commits the board holds.
    pub fn held(&self) -> usize {
        self.known().map(|known| known.history.map_or(0, |history| history.commits.len()).max(known.facts.len())).sum()
    }

    /// How many bytes of text these are.
    pub fn bytes(&self) -> usize {
        let of =
            |commit: &Commit| commit.title.len() + commit.body.len() + commit.author.len() + commit.url.len() + commit.sha.as_str().len();
        self.known().filter_map(|known| known.history).flat_map(|history| history.commits).map(|commit| of(&commit)).sum()
    }

    /// Everything that happens without time going on has happened: webhooks are answered, answers are read, Releases are made.
    async fn settle(&mut self) {
        loop {
            self.github.hooks_settle().await;
            for _ in 0..20 {
                yield_now().await;
            }
            if *self.waiting.borrow() > 0 {
                let _ = self.waiting.subscribe().wait_for(|count| *count == 0).await;
            } else if !self.reconcile() {
                return;
            }
        }
    }

    /// Whether anybody was told something, or has waited for this moment.
    fn reconcile(&mut self) -> bool {
        let mut news: BTreeSet<String> = BTreeSet::new();
        while let Ok(key) = self.news.try_recv() {
            news.insert(key.name);
        }
        let now = self.clock.now();
        let mut any = false;
        for home in self.homes.iter_mut().filter(|home| news.contains(&home.key.name) || home.due.is_some_and(|due| due <= now)) {
            any = true;
            home.reconcile(&self.board, now);
        }
        any
    }
}

impl Home {
    fn new(repo: Repository, like: MergePlan) -> Self {
        let name = Name::parse(&repo.name()).unwrap();
        let merges = MergePlan { branch: Branch { repository: name.clone(), name: None }, ..like };
        let plan = Plan {
            capacity: Capacity::Full,
            cron_jobs: vec![],
            workloads: vec![],
            source: Source::Merge(Box::new(merges)),
            steps: vec![],
            guard: Duration::ZERO,
            rollback_window: Duration::ZERO,
            deadline: Duration::ZERO,
            on_deadline: OnDeadline::Return,
            settle: Duration::ZERO,
            before: vec![],
            probes: vec![],
            measures: None,
            external: vec![],
            queries: vec![],
            logs: None,
            one_false_rollback_in: 1000,
            no_traffic: <_>::default(),
            limits: <_>::default(),
            mode: <_>::default(),
        };
        let since = Sha::parse(&repo.head("main"));
        // What is live came before everything that is told here.
        let beginning = Release {
            name: ReleaseName::new("beginning"),
            version: "beginning".to_owned(),
            commit: since.as_ref().map(ToString::to_string),
            image: String::new(),
            manual: false,
            place: Some(1),
            brought: <_>::default(),
            barrier: None,
            reverts: Vec::new(),
            config: None,
            refused: None,
            identity: None,
            templates: None,
            outcome: None,
            tries: 0,
            created: Timestamp::UNIX_EPOCH,
        };
        let seen = Observation { delivery: name.name.clone(), releases: vec![beginning], ..Observation::default() };
        Self { repo, key: Key::new(&name.name).within("shop"), plan, seen, since, due: None }
    }

    fn watch(&self, board: &Arc<MergeBoard>) {
        let Source::Merge(plan) = &self.plan.source else { return };
        let logins = LoginsFor { namespace: "shop".to_owned(), secrets: Vec::new(), account: "default".to_owned() };
        board.watch(&self.key, Watch { subject: Subject::Branch { plan: plan.clone(), since: self.since.clone() }, logins });
    }

    /// What the operator does with what is known, as far as Releases go: every one has its turn at once.
    fn reconcile(&mut self, board: &Arc<MergeBoard>, now: Timestamp) {
        self.seen.merges = board.read(&self.key);
        loop {
            let state = State::new(now);
            let said = told(&Case { plan: &self.plan, state: &state, seen: &self.seen, now });
            let Some(Effect::RecordMerge(merge)) = said.record else {
                self.due = if let Wait::Until(at) = said.wait { Some(at) } else { None };
                break;
            };
            self.since.clone_from(&merge.commit);
            self.seen.releases.push(Release {
                name: merge.name,
                version: merge.version,
                commit: merge.commit.map(|commit| commit.to_string()),
                image: merge.image,
                manual: false,
                place: Some(merge.place),
                brought: (merge.brought, merge.brought_count),
                barrier: None,
                reverts: merge.reverts,
                config: merge.config.clone().ok(),
                refused: merge.config.err(),
                identity: None,
                templates: None,
                outcome: None,
                tries: 0,
                created: now,
            });
        }
        self.watch(board);
    }
}

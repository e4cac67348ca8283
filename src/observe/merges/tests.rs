//! What the board asks, when, and what it makes of the answers, on virtual time.

use std::collections::{BTreeMap, VecDeque};

use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{advance, sleep},
};

use super::*;
use crate::{
    edge::{
        forge::ApiBudget,
        registry::{Origin, RegistryError},
    },
    model::{
        repo_config::Permitted,
        source::{
            Built, CheckFacts, Commit, CommitStatus, ConfigFile, ConfigPlan, Digest, History, HistoryEnd, ImagePlan, Queue, Rules,
            StatusState, When,
        },
    },
};

/// A world of one branch: what its forge and its registry would answer, and what they were asked.
#[derive(Default)]
struct World {
    line: Vec<u8>,
    passed: Vec<u8>,
    failed: Vec<u8>,
    /// Commits of which the forge cannot read everything.
    unread: Vec<u8>,
    images: Vec<u8>,
    /// The next answers to a history, before the true one.
    failures: VecDeque<ForgeError>,
    /// What a sweep is answered.
    down: Option<ForgeError>,
    renamed: Option<Repository>,
    denied: bool,
    /// What the tag names, and whether the registry says.
    tag: Option<u8>,
    ill: bool,
    files: BTreeMap<u8, String>,
    asked: Vec<String>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn with<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        change(&mut self.0.lock().unwrap())
    }

    fn asked(&self, what: &str) -> usize {
        self.with(|w| w.asked.iter().filter(|a| a.starts_with(what)).count())
    }
}

struct Epoch;

impl Clock for Epoch {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

fn sha(n: u8) -> Sha {
    Sha::parse(&format!("{n:02x}").repeat(20)).unwrap()
}

fn number(sha: &Sha) -> u8 {
    u8::from_str_radix(&sha.as_str()[..2], 16).unwrap()
}

impl Forge for Shared {
    fn heads<'a>(&'a self, branches: &'a [Branch]) -> BoxFuture<'a, Result<Vec<Result<Sha, ForgeError>>, ForgeError>> {
        let head = self.with(|w| {
            w.asked.push(format!("heads of {}", branches.len()));
            w.down.clone().map_or_else(|| Ok(sha(w.line[0])), Err)
        });
        async move { head.map(|head| branches.iter().map(|_| Ok(head.clone())).collect()) }.boxed()
    }

    fn repeat_missed(&self, _: Timestamp) -> BoxFuture<'_, Result<usize, ForgeError>> {
        self.with(|w| w.asked.push("repeat".to_owned()));
        async { Ok(0) }.boxed()
    }

    fn budgets(&self) -> Vec<ApiBudget> {
        let points = self.with(|w| w.asked.len().try_into().unwrap());
        vec![ApiBudget { api: "graphql", remaining: Some(5000 - points), limit: Some(5000), calls: points, points }]
    }

    fn history<'a>(&'a self, _: &'a Branch, since: Option<&'a Sha>, _: usize) -> BoxFuture<'a, Result<History, ForgeError>> {
        let answer = self.with(|w| {
            w.asked.push("history".to_owned());
            if let Some(failure) = w.failures.pop_front() {
                return Err(failure);
            }
            let newer = w.line.iter().take_while(|n| since != Some(&sha(**n)));
            let commits = newer.map(|n| Commit {
                sha: sha(*n),
                title: String::new(),
                body: String::new(),
                author: String::new(),
                committed: Timestamp::UNIX_EPOCH,
                pull_request: None,
                url: String::new(),
            });
            Ok(History { branch: "main".to_owned(), renamed: w.renamed.clone(), commits: commits.collect(), end: HistoryEnd::Reached })
        });
        async move { answer }.boxed()
    }

    fn checks<'a>(&'a self, _: &'a Repository, commits: &'a [Sha]) -> BoxFuture<'a, Result<BTreeMap<Sha, CheckFacts>, ForgeError>> {
        let answer = self.with(|w| {
            w.asked.push(format!("checks of {}", commits.len()));
            let state = |n: u8| match n {
                n if w.passed.contains(&n) => StatusState::Success,
                n if w.failed.contains(&n) => StatusState::Failure,
                _ => StatusState::Pending,
            };
            let facts = |sha: &Sha| CheckFacts {
                suites: Vec::new(),
                statuses: vec![CommitStatus { context: "ci".to_owned(), state: state(number(sha)) }],
            };
            commits.iter().filter(|sha| !w.unread.contains(&number(sha))).map(|sha| (sha.clone(), facts(sha))).collect()
        });
        async move { Ok(answer) }.boxed()
    }

    fn file<'a>(
        &'a self,
        _: &'a Repository,
        commit: &'a Sha,
        path: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<String>, ForgeError>> {
        let answer = self.with(|w| {
            w.asked.push(format!("file {path} of {}", number(commit)));
            match w.files.get(&number(commit)) {
                Some(text) if text.len() > limit => Err(ForgeError::TooLong { what: path.to_owned(), limit }),
                other => Ok(other.cloned()),
            }
        });
        async move { answer }.boxed()
    }
}

fn digest(n: u8) -> Digest {
    Digest::parse(&format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
}

impl Registry for Shared {
    fn digest<'a>(&'a self, image: &'a ImageRef, _: &'a [Login]) -> BoxFuture<'a, Result<Option<Digest>, RegistryError>> {
        let answer = self.with(|w| {
            if image.tag == "stable" {
                w.asked.push("tag".to_owned());
                let ill = RegistryError::Ill { host: image.host.clone(), said: "502".to_owned() };
                return if w.ill { Err(ill) } else { Ok(w.tag.map(digest)) };
            }
            let n = u8::from_str_radix(&image.tag[4..6], 16).unwrap();
            w.asked.push(format!("image of {n}"));
            if w.denied {
                return Err(RegistryError::Denied { host: image.host.clone(), path: image.path.clone(), tried: "no login".to_owned() });
            }
            Ok(w.images.contains(&n).then(|| digest(n)))
        });
        async move { answer }.boxed()
    }

    fn origin<'a>(&'a self, _: &'a ImageRef, digest: &'a Digest, _: &'a [Login]) -> BoxFuture<'a, Result<Origin, RegistryError>> {
        let n = u8::from_str_radix(&digest.as_str()[7..9], 16).unwrap();
        async move { Ok(Origin { revision: Some(sha(n).to_string()), source: None }) }.boxed()
    }
}

impl Logins for Shared {
    fn of<'a>(&'a self, _: &'a LoginsFor, _: &'a ImageRef) -> BoxFuture<'a, Result<Vec<Login>, String>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

struct Bench {
    world: Shared,
    board: Arc<MergeBoard>,
    nudges: UnboundedReceiver<Key>,
    key: Key,
}

impl Bench {
    /// A board that watches a branch of this line, newest first.
    fn of(line: &[u8]) -> Self {
        let world = Shared::default();
        world.with(|w| w.line = line.to_vec());
        let (nudge, nudges) = unbounded_channel();
        let grants = Arc::new(Grants::parse(r#"[{"repositories": ["acme/shop"], "namespaces": ["shop"]}]"#).unwrap());
        let sources =
            Sources { forge: Some(Arc::new(world.clone())), grants, registry: Arc::new(world.clone()), logins: Arc::new(world.clone()) };
        let board = Arc::new(MergeBoard::new(Some(sources), Arc::new(Epoch), nudge));
        Self { world, board, nudges, key: Key::new("web").within("shop") }
    }

    fn watch(&self, since: Option<u8>) {
        self.watch_with(since, None);
    }

    fn watch_tag(&self) {
        let image =
            ImagePlan { repository: "r.example/shop".to_owned(), tag: "stable".to_owned(), pull_secret: None, revision_required: false };
        let logins = LoginsFor { namespace: "shop".to_owned(), secrets: Vec::new(), account: "default".to_owned() };
        self.board.watch(&self.key, Watch { subject: Subject::Tag(image), logins });
    }

    fn watch_with(&self, since: Option<u8>, config: Option<ConfigPlan>) {
        let plan = MergePlan {
            branch: Branch { repository: Repository::parse("acme/shop").unwrap(), name: None },
            rules: Rules {
                when: When::Checks,
                without_checks: false,
                grace: Duration::from_mins(2),
                image_timeout: Duration::from_mins(15),
            },
            image: ImagePlan {
                repository: "r.example/shop".to_owned(),
                tag: "sha-{sha}".to_owned(),
                pull_secret: None,
                revision_required: false,
            },
            queue: Queue::Latest,
            config,
        };
        let logins = LoginsFor { namespace: "shop".to_owned(), secrets: Vec::new(), account: "default".to_owned() };
        self.board.watch(&self.key, Watch { subject: Subject::Branch { plan: Box::new(plan), since: since.map(sha) }, logins });
    }

    /// Lets everything happen that happens in that time.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            settle().await;
            advance(Duration::from_secs(1)).await;
        }
        settle().await;
    }

    fn image(&self, n: u8) -> Option<Built> {
        self.board.read(&self.key).facts.get(&sha(n)).map(|facts| facts.image.clone())
    }
}

/// Tasks that can run have run; a pause of nothing does not move the clock.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn found(n: u8) -> Built {
    Built::Found { digest: digest(n), revision: Some(sha(n).to_string()) }
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_read_at_once_and_told_once() {
    let mut bench = Bench::of(&[2, 1]);
    bench.world.with(|w| (w.passed, w.images) = (vec![2], vec![2]));
    bench.watch(Some(1));
    bench.pass(0).await;
    assert_eq!(bench.image(2), Some(found(2)));
    assert_eq!(bench.image(1), None, "what is older than the newest Release is settled");
    assert!(bench.nudges.try_recv().is_ok());
    bench.watch(Some(1));
    bench.pass(60).await;
    assert!(bench.nudges.try_recv().is_err(), "the same again is no news");
    assert_eq!((bench.world.asked("history"), bench.world.asked("image"), bench.world.asked("checks")), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_image_is_looked_for_sooner_at_first_and_found_once() {
    let bench = Bench::of(&[2, 1]);
    bench.watch(Some(1));
    bench.pass(120).await;
    let looks = bench.world.asked("image");
    assert!((4..=7).contains(&looks), "5, 10, 20, 40, 60 s apart: {looks} looks in 120 s");
    bench.world.with(|w| (w.passed, w.images) = (vec![2], vec![2]));
    bench.pass(60).await;
    assert_eq!(bench.image(2), Some(found(2)));
    // The tag moves: what was taken stays.
    bench.world.with(|w| w.images.clear());
    bench.board.stir(&Repository::parse("Acme/Shop").unwrap());
    bench.pass(5).await;
    assert_eq!(bench.image(2), Some(found(2)));
}

#[tokio::test(start_paused = true)]
async fn what_seemed_settled_is_looked_at_again_when_it_is_stirred_and_seldom_without() {
    let bench = Bench::of(&[2, 1]);
    bench.world.with(|w| (w.failed, w.images) = (vec![2], vec![2]));
    bench.watch(Some(1));
    bench.pass(120).await;
    let checks = bench.world.asked("checks");
    assert_eq!(checks, 1, "a failure is not asked about again and again");
    bench.board.stir(&Repository::parse("acme/shop").unwrap());
    bench.pass(2).await;
    assert_eq!(bench.world.asked("checks"), checks + 1);
    // Somebody ran it again, and nobody told us.
    bench.world.with(|w| (w.failed, w.passed) = (vec![], vec![2]));
    bench.pass(601).await;
    assert_eq!(bench.world.asked("checks"), checks + 2);
    assert!(bench.board.read(&bench.key).facts[&sha(2)].checks.as_ref().unwrap().statuses.iter().all(|s| s.state == StatusState::Success));
}

#[tokio::test(start_paused = true)]
async fn what_the_forge_still_grants_is_shown() {
    let bench = Bench::of(&[1]);
    let registry = prometheus::Registry::new();
    registry.register(Box::new(bench.board.meter().unwrap().unwrap())).unwrap();
    let shown = || prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(shown().contains("forge_budget_remaining{api=\"graphql\"} 5000\n"), "{}", shown());
    bench.watch(Some(1));
    bench.pass(1).await;
    let _ = shown();
    assert!(shown().contains("forge_points_total{api=\"graphql\"} 1\n"), "{}", shown());
    assert!(shown().contains("forge_budget_remaining{api=\"graphql\"} 4999\n"), "{}", shown());
}

#[tokio::test(start_paused = true)]
async fn a_sweep_finds_a_merge_within_a_minute() {
    let bench = Bench::of(&[1]);
    bench.watch(Some(1));
    let sweep = tokio::spawn(bench.board.clone().sweep());
    bench.pass(SWEEP.as_secs() + 1).await;
    bench.world.with(|w| (w.line, w.passed, w.images) = (vec![2, 1], vec![2], vec![2]));
    bench.pass(SWEEP.as_secs() + 1).await;
    assert_eq!(bench.image(2), Some(found(2)));
    let histories = bench.world.asked("history");
    bench.pass(5 * SWEEP.as_secs()).await;
    assert_eq!(bench.world.asked("history"), histories, "a head that did not move is read no further");
    assert_eq!(histories, 2, "the first sweep finds what was read at the beginning");
    assert_eq!(bench.world.asked("heads"), 7);
    sweep.abort();
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_learns_nothing_is_told_and_asks_no_more() {
    let mut bench = Bench::of(&[1]);
    bench.watch(Some(1));
    bench.pass(1).await;
    let sweep = tokio::spawn(bench.board.clone().sweep());
    bench.pass(SWEEP.as_secs()).await;
    while bench.nudges.try_recv().is_ok() {}
    let histories = bench.world.asked("history");
    let mut says = async |error: Option<ForgeError>, seconds: u64| {
        bench.world.with(|w| w.down = error);
        bench.pass(seconds).await;
        let nudged = std::iter::from_fn(|| bench.nudges.try_recv().ok()).count();
        (bench.board.read(&bench.key).unsaid.map(|unsaid| unsaid.says), nudged)
    };
    let ill = ForgeError::Ill { said: "502".to_owned() };
    assert_eq!(says(Some(ill.clone()), 61).await, (None, 0), "it may be over with the next one");
    assert_eq!(says(Some(ill.clone()), 100).await, (Some(ill.to_string()), 1));
    assert_eq!(says(None, 61).await, (None, 1));
    let denied = ForgeError::Denied { said: "401".to_owned() };
    assert_eq!(says(Some(denied.clone()), 61).await, (Some(denied.to_string()), 1), "that does not heal by itself");
    assert_eq!(bench.world.asked("history"), histories);
    sweep.abort();
}

#[tokio::test(start_paused = true)]
async fn an_event_is_read_at_once() {
    let bench = Bench::of(&[1]);
    bench.watch(Some(1));
    bench.pass(1).await;
    bench.world.with(|w| (w.line, w.passed, w.images) = (vec![2, 1], vec![2], vec![2]));
    bench.board.stir(&Repository::parse("acme/other").unwrap());
    bench.pass(0).await;
    assert_eq!(bench.image(2), None, "of another repository");
    bench.board.stir(&Repository::parse("acme/shop").unwrap());
    bench.pass(0).await;
    assert_eq!(bench.image(2), Some(found(2)));
}

#[tokio::test(start_paused = true)]
async fn events_of_a_repository_that_was_renamed_are_heard_once_that_is_known() {
    let bench = Bench::of(&[1]);
    let store = Repository::parse("acme/store").unwrap();
    bench.watch(Some(1));
    bench.pass(1).await;
    assert_eq!(bench.board.stir(&store), Stirred::Nobody);
    bench.world.with(|w| w.renamed = Some(store.clone()));
    bench.board.stir(&Repository::parse("acme/shop").unwrap());
    bench.pass(1).await;
    assert_eq!(bench.board.stir(&store), Stirred::Somebody);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_events_is_one_round_a_second_and_the_last_one_is_heard() {
    let bench = Bench::of(&[1]);
    bench.watch(Some(1));
    bench.pass(10).await;
    let (histories, shop) = (bench.world.asked("history"), Repository::parse("acme/shop").unwrap());
    for _ in 0..100 {
        assert_eq!(bench.board.stir(&shop), Stirred::Somebody);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((10..=11).contains(&(bench.world.asked("history") - histories)), "100 events in 10 s");
    bench.world.with(|w| (w.line, w.passed, w.images) = (vec![2, 1], vec![2], vec![2]));
    bench.board.stir(&shop);
    bench.pass(1).await;
    assert_eq!(bench.image(2), Some(found(2)));
    assert_eq!(bench.board.stir_image("other"), Stirred::Nobody);
}

#[tokio::test(start_paused = true)]
async fn checks_that_were_not_read_whole_are_not_none() {
    let bench = Bench::of(&[2, 1]);
    bench.world.with(|w| (w.unread, w.images) = (vec![2], vec![2]));
    bench.watch(Some(1));
    bench.pass(40).await;
    let facts = bench.board.read(&bench.key).facts;
    assert_eq!(facts[&sha(2)].checks, None);
    bench.world.with(|w| (w.unread, w.passed) = (vec![], vec![2]));
    bench.pass(31).await;
    assert!(bench.board.read(&bench.key).facts[&sha(2)].checks.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_forge_that_fails_takes_nothing_away() {
    let bench = Bench::of(&[2, 1]);
    bench.world.with(|w| (w.passed, w.images) = (vec![2], vec![2]));
    bench.watch(Some(1));
    bench.pass(0).await;
    let ill = || ForgeError::Ill { said: "502".to_owned() };
    bench.world.with(|w| w.failures = (0..4).map(|_| ill()).collect());
    bench.board.stir(&Repository::parse("acme/shop").unwrap());
    bench.pass(1).await;
    assert_eq!(bench.board.read(&bench.key).unsaid, None, "it may be over with the next try");
    bench.pass(5).await;
    let known = bench.board.read(&bench.key);
    assert_eq!(known.unsaid.map(|u| u.person), Some(false));
    assert_eq!(known.history.map(|h| h.commits.len()), Some(1), "what was known stands");
}

/// Nobody says it twice: the sweep has seen that head, and the event has been answered.
#[tokio::test(start_paused = true)]
async fn a_merge_that_could_not_be_read_when_it_was_told_is_read_when_the_forge_is_well() {
    let bench = Bench::of(&[2, 1]);
    bench.world.with(|w| w.failed = vec![2]);
    bench.watch(Some(1));
    bench.pass(10).await;
    let ill = || ForgeError::Ill { said: "502".to_owned() };
    bench.world.with(|w| {
        (w.line, w.passed, w.images) = (vec![3, 2, 1], vec![3], vec![3]);
        w.failures = [ill(), ill()].into();
    });
    bench.board.stir(&Repository::parse("acme/shop").unwrap());
    bench.pass(20).await;
    assert_eq!(bench.image(3), Some(found(3)));
}

/// Merges come faster than builds end: somewhere behind the ten newest is one that is ready.
#[tokio::test(start_paused = true)]
async fn a_ready_commit_behind_many_that_still_run_is_found() {
    let bench = Bench::of(&(1..=60).rev().collect::<Vec<_>>());
    bench.world.with(|w| (w.passed, w.images) = (vec![4], vec![4]));
    bench.watch(Some(1));
    bench.pass(6).await;
    assert_eq!(bench.image(4), Some(found(4)));
    bench.pass(600).await;
    let checks = bench.world.asked("checks");
    // 55 that still run: a document of ten each second of the first six, then each of them once a minute.
    assert!((50..=70).contains(&checks), "{checks} documents in 10 minutes");
}

/// A timer that ends in the same moment must not swallow what was said.
#[tokio::test(start_paused = true)]
async fn an_event_that_comes_with_a_look_of_our_own_is_heard() {
    for _ in 0..40 {
        let bench = Bench::of(&[2, 1]);
        bench.watch(Some(1));
        bench.pass(0).await;
        bench.world.with(|w| (w.line, w.passed, w.images) = (vec![3, 2, 1], vec![3], vec![3]));
        // The first look for an image is over 5 s later.
        advance(Duration::from_secs(5)).await;
        bench.board.stir(&Repository::parse("acme/shop").unwrap());
        bench.pass(2).await;
        assert_eq!(bench.image(3), Some(found(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_wants_to_be_left_alone_is_left_alone() {
    let bench = Bench::of(&[2, 1]);
    let until = Timestamp::from_second(600).unwrap();
    bench.world.with(|w| w.failures = [ForgeError::Limited { until }].into());
    bench.watch(Some(1));
    bench.pass(590).await;
    assert_eq!(bench.world.asked("history"), 1);
    bench.pass(20).await;
    assert_eq!(bench.world.asked("history"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_denies_is_a_matter_for_a_person() {
    let bench = Bench::of(&[2, 1]);
    bench.world.with(|w| (w.passed, w.denied) = (vec![2], true));
    bench.watch(Some(1));
    bench.pass(0).await;
    let Some(Built::Unsaid(unsaid)) = bench.image(2) else { panic!("{:?}", bench.image(2)) };
    assert!(unsaid.person && unsaid.says.contains("pullSecretRef"), "{}", unsaid.says);
    bench.world.with(|w| (w.denied, w.images) = (false, vec![2]));
    bench.pass(6).await;
    assert_eq!(bench.image(2), Some(found(2)));
}

#[tokio::test(start_paused = true)]
async fn without_a_forge_or_a_grant_nothing_is_asked_and_it_is_said() {
    let bench = Bench::of(&[1]);
    let (given, other) = (Repository::parse("acme/shop").unwrap(), Repository::parse("acme/pay").unwrap());
    assert_eq!(bench.board.closed(&given, "shop"), None);
    assert_eq!(bench.board.closed(&other, "shop").map(|r| r.word()), Some("RepositoryNotGranted"));
    assert_eq!(bench.board.closed(&given, "pay").map(|r| r.word()), Some("RepositoryNotGranted"));
    let (nudge, _nudges) = unbounded_channel();
    let none = MergeBoard::new(None, Arc::new(Epoch), nudge);
    assert_eq!(none.closed(&given, "shop").map(|r| r.word()), Some("NoForge"));
    sleep(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_tag_is_looked_at_every_minute_and_when_a_registry_tells_of_a_push() {
    let mut bench = Bench::of(&[1]);
    bench.world.with(|w| w.tag = Some(2));
    bench.watch_tag();
    bench.pass(0).await;
    assert_eq!(bench.board.read(&bench.key).tag, Some(found(2)));
    assert!(bench.nudges.try_recv().is_ok());
    bench.pass(125).await;
    assert_eq!(bench.world.asked("tag"), 3);
    assert!(bench.nudges.try_recv().is_err(), "the same again is no news");
    bench.world.with(|w| w.tag = Some(3));
    assert_eq!(bench.board.stir_image("shop"), Stirred::Somebody);
    bench.pass(0).await;
    assert_eq!(bench.board.read(&bench.key).tag, Some(found(3)));
    assert_eq!(bench.world.asked("history") + bench.world.asked("heads"), 0, "no forge is asked");
    assert_eq!(bench.board.stir(&Repository::parse("acme/shop").unwrap()), Stirred::Nobody);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_ill_takes_back_nothing_of_what_a_tag_named() {
    let bench = Bench::of(&[1]);
    bench.world.with(|w| w.ill = true);
    bench.watch_tag();
    bench.pass(60).await;
    let looks = bench.world.asked("tag");
    assert!((4..=6).contains(&looks), "5, 10, 20, 40 s apart: {looks} looks in 60 s");
    bench.world.with(|w| (w.ill, w.tag) = (false, Some(2)));
    bench.pass(61).await;
    bench.world.with(|w| w.ill = true);
    bench.pass(61).await;
    let known = bench.board.read(&bench.key);
    assert_eq!((known.tag, known.unsaid.map(|unsaid| unsaid.person)), (Some(found(2)), Some(false)));
    // That the tag is gone is a fact.
    bench.world.with(|w| (w.ill, w.tag) = (false, None));
    bench.pass(61).await;
    assert_eq!(bench.board.read(&bench.key).tag, Some(Built::Absent));
}

#[tokio::test(start_paused = true)]
async fn a_tag_needs_no_forge() {
    let world = Shared::default();
    world.with(|w| w.tag = Some(2));
    let (nudge, nudges) = unbounded_channel();
    let (registry, logins) = (Arc::new(world.clone()), Arc::new(world.clone()));
    let sources = Sources { forge: None, grants: Arc::default(), registry, logins };
    let board = Arc::new(MergeBoard::new(Some(sources), Arc::new(Epoch), nudge));
    let bench = Bench { world, board, nudges, key: Key::new("web").within("shop") };
    assert_eq!(bench.board.closed(&Repository::parse("acme/shop").unwrap(), "shop").map(|r| r.word()), Some("NoForge"));
    bench.watch_tag();
    bench.pass(0).await;
    assert_eq!(bench.board.read(&bench.key).tag, Some(found(2)));
    assert!(bench.board.meter().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_file_of_a_commit_is_read_once_and_only_when_nothing_else_is_missing() {
    let bench = Bench::of(&[3, 2, 1]);
    let config = Some(ConfigPlan { path: ".haldane.yaml".to_owned(), permitted: Permitted::default() });
    let file = |n: u8| bench.board.read(&bench.key).facts[&sha(n)].config.clone();
    bench.world.with(|w| (w.passed, w.images, w.files) = (vec![2], vec![2, 3], BTreeMap::from([(2, "rollout: {}".to_owned())])));
    bench.watch_with(Some(1), config);
    bench.pass(120).await;
    assert_eq!((file(2), file(3)), (Some(ConfigFile::Text("rollout: {}".to_owned())), None));
    assert_eq!(bench.world.asked("file"), 1);
    bench.world.with(|w| (w.passed, w.files) = (vec![2, 3], BTreeMap::from([(3, " ".repeat(20_000))])));
    bench.pass(31).await;
    assert_eq!(file(3), Some(ConfigFile::Unusable("longer than 16384 bytes".to_owned())));
}

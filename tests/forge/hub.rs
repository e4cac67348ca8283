//! The running fake: what tests hold, and what its parts share.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::JoinHandle,
};

use haldane::clock::{Clock, SystemClock};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{
    faults::Fault,
    git::{Git, NOTHING},
    hooks::{self, Delivery, HookFault, Outbox, Release},
    keys::{AppKey, guid, word},
    limits::{Limits, Resource, Seen, Used},
    model::{App, Checks, Installation, Repo, State, Token, TokenForm, Webhook},
    serve,
    workshop::Repository,
};

/// What its parts share.
pub struct Hub {
    state: Mutex<State>,
    pub clock: Arc<dyn Clock>,
    /// `http://127.0.0.1:1234`, also the place of its pages.
    pub url: String,
    root: PathBuf,
    pub outbox: Outbox,
    /// One at a time: what was noticed is remembered before the next one looks.
    noticing: Mutex<()>,
    /// One at a time, too: the folder that people work in.
    pub desk: Mutex<()>,
}

/// How to start one.
pub struct Options {
    pub clock: Arc<dyn Clock>,
    /// Where repositories are; none: in a folder that goes with the fake.
    pub dir: Option<PathBuf>,
    pub listen: SocketAddr,
}

impl Default for Options {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), dir: None, listen: SocketAddr::from(([127, 0, 0, 1], 0)) }
    }
}

/// A running GitHub; it ends when this is dropped.
pub struct GitHub {
    hub: Arc<Hub>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: Option<TempDir>,
}

/// An app as its owner knows it.
#[derive(Clone, Debug)]
pub struct AppOwner {
    pub id: u64,
    pub slug: String,
    pub client_id: String,
    /// The private key, PKCS#1.
    pub pem: String,
}

/// What a deployer's app has unless a test takes it away.
const PERMISSIONS: [(&str, &str); 8] = [
    ("actions", "read"),
    ("checks", "read"),
    ("contents", "read"),
    ("deployments", "write"),
    ("metadata", "read"),
    ("packages", "read"),
    ("pull_requests", "read"),
    ("statuses", "read"),
];

impl GitHub {
    /// On that clock, with an app and nothing else.
    pub fn at(clock: Arc<dyn Clock>) -> Self {
        Self::start(Options { clock, ..Options::default() })
    }

    /// # Panics
    /// When it cannot listen, or has no folder.
    pub fn start(options: Options) -> Self {
        let folder = options.dir.is_none().then(|| TempDir::new().expect("a folder for repositories"));
        let root = options.dir.or_else(|| folder.as_ref().map(|folder| folder.path().to_owned())).expect("a folder");
        std::fs::create_dir_all(&root).expect("a folder for repositories");
        let listener = std::net::TcpListener::bind(options.listen).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let (outbox, inbox) = Outbox::new();
        let hub = Arc::new(Hub {
            state: Mutex::default(),
            clock: options.clock,
            url: format!("http://{address}"),
            root,
            outbox,
            noticing: Mutex::default(),
            desk: Mutex::default(),
        });
        hub.add_app("Haldane", "acme", shared_key(), &permissions(&PERMISSIONS), &hooks::EVENTS);
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&hub);
        let thread = std::thread::spawn(move || serve::run(&served, listener, inbox, stopped));
        Self { hub, stop: Some(stop), thread: Some(thread), _folder: folder }
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Of the API: `http://127.0.0.1:1234`. The same under `/api/v3` and `/api/graphql`, as Enterprise Server has it.
    pub fn url(&self) -> &str {
        &self.hub.url
    }

    /// The app that it began with, or the one with that id.
    pub fn app(&self) -> AppOwner {
        self.hub.lock().apps.values().next().map(App::owner).expect("an app")
    }

    /// Puts the first app on an account, for all of its repositories.
    pub fn install(&self, account: &str) -> u64 {
        self.hub.install(self.app().id, account, None)
    }

    /// The same for these repositories (`name`) alone.
    pub fn install_on(&self, account: &str, names: &[&str]) -> u64 {
        self.hub.install(self.app().id, account, Some(names))
    }

    /// A new and empty repository, `acme/checkout`; its branch is `main`.
    pub fn repository(&self, full_name: &str) -> Repository {
        self.hub.add_repository(full_name, "main", &[])
    }

    /// The same, where every push of a branch starts these workflows on its head, `[skip ci]` excepted.
    pub fn repository_with(&self, full_name: &str, workflows: &[&str]) -> Repository {
        self.hub.add_repository(full_name, "main", workflows)
    }

    /// Where the first app wants its events.
    pub fn webhook(&self, url: &str, secret: &str) {
        let app = self.app().id;
        self.hub.set_webhook(app, Some(Webhook { url: url.to_owned(), secret: Some(secret.to_owned()) }));
    }

    /// What goes wrong with the next deliveries, one after the other.
    pub fn hook_faults(&self, faults: &[HookFault]) {
        self.hub.outbox.plan(faults);
    }

    /// From now on deliveries stay here.
    pub fn hold_hooks(&self) {
        self.hub.outbox.hold();
    }

    /// What stayed here is sent, and what comes goes at once again.
    pub fn release_hooks(&self, order: Release) {
        self.hub.outbox.release(order);
    }

    /// Until every delivery that is on its way was answered or given up.
    pub async fn hooks_settle(&self) {
        self.hub.outbox.settle().await;
    }

    /// Every delivery so far, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.hub.lock().deliveries.clone()
    }

    pub fn fault(&self, fault: Fault) {
        self.hub.lock().faults.push(fault);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.hub.lock().faults.clear();
    }

    /// An installation's points for GraphQL are spent until that second.
    pub fn spend(&self, installation: u64, resets: Timestamp) {
        self.hub.lock().spend(&format!("installation {installation}"), Resource::Graphql, resets);
    }

    pub fn limits(&self, limits: Limits) {
        self.hub.lock().limits = limits;
    }

    pub fn token_form(&self, form: TokenForm) {
        self.hub.lock().token_form = form;
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.hub.lock().seen.clone()
    }

    /// What an installation asked so far.
    pub fn meter(&self, installation: u64) -> Used {
        self.hub.lock().used(&format!("installation {installation}"))
    }

    /// Every token that an installation has is worth nothing from now on.
    pub fn revoke_tokens(&self, installation: u64) {
        self.hub.lock().tokens.retain(|_, token| token.installation != installation);
    }

    pub fn suspend(&self, installation: u64) {
        self.hub.suspend(installation, true);
    }

    pub fn unsuspend(&self, installation: u64) {
        self.hub.suspend(installation, false);
    }

    pub fn uninstall(&self, installation: u64) {
        self.hub.lock().installations.remove(&installation);
        self.revoke_tokens(installation);
    }

    /// Takes a permission from the first app, as if it had never asked for it.
    pub fn forbid(&self, permission: &str) {
        let id = self.app().id;
        self.hub.lock().apps.get_mut(&id).expect("the app").permissions.remove(permission);
    }

    /// Whose commits these are, for `author { user { login } }`.
    pub fn user(&self, email: &str, login: &str) {
        self.hub.lock().users.insert(email.to_owned(), login.to_owned());
    }

    /// The code that a person brings back who said yes to this manifest.
    pub fn confirm_manifest(&self, manifest: serde_json::Value, owner: &str) -> String {
        self.hub.confirm_manifest(manifest, owner)
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Making a key takes a tenth of a second and more; the first app of every fake in a process has the same.
fn shared_key() -> AppKey {
    static KEY: OnceLock<AppKey> = OnceLock::new();
    KEY.get_or_init(AppKey::generate).clone()
}

fn permissions(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, access)| ((*name).to_owned(), (*access).to_owned())).collect()
}

impl App {
    pub fn owner(&self) -> AppOwner {
        AppOwner { id: self.id, slug: self.slug.clone(), client_id: self.client_id.clone(), pem: self.key.pem.clone() }
    }
}

impl Hub {
    /// A panic of one request must not take the others with it.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn add_app(&self, name: &str, owner: &str, key: AppKey, permissions: &BTreeMap<String, String>, events: &[&str]) -> u64 {
        let mut state = self.lock();
        let id = state.next_id();
        let app = App {
            id,
            slug: name.to_lowercase().replace(' ', "-"),
            name: name.to_owned(),
            owner: owner.to_owned(),
            client_id: format!("Iv23li{}", word(&format!("client {id}"), 14)),
            key,
            permissions: permissions.clone(),
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            webhook: None,
            created: self.now(),
        };
        state.apps.insert(id, app);
        id
    }

    pub fn install(&self, app: u64, account: &str, names: Option<&[&str]>) -> u64 {
        let mut state = self.lock();
        let id = state.next_id();
        let chosen = |repo: &&Repo| names.is_some_and(|names| names.contains(&repo.name.as_str()) && repo.owner == account);
        let repositories = names.map(|_| state.repos.values().filter(chosen).map(|repo| repo.id).collect::<BTreeSet<_>>());
        let installation = Installation { id, app, account: account.to_owned(), repositories, suspended: None, created: self.now() };
        state.installations.insert(id, installation);
        id
    }

    pub fn suspend(&self, installation: u64, yes: bool) {
        let now = self.now();
        let mut state = self.lock();
        state.installations.get_mut(&installation).expect("an installation").suspended = yes.then_some(now);
    }

    pub fn set_webhook(&self, app: u64, webhook: Option<Webhook>) {
        self.lock().apps.get_mut(&app).expect("an app").webhook = webhook;
    }

    pub fn confirm_manifest(&self, manifest: serde_json::Value, owner: &str) -> String {
        let mut state = self.lock();
        let code = word(&format!("manifest {}", state.next_id()), 40);
        let expires = self.now() + SignedDuration::from_hours(1);
        state.manifests.insert(code.clone(), super::model::Confirmed { manifest, owner: owner.to_owned(), expires });
        code
    }

    /// # Panics
    /// When it is no `owner/name`, or is there.
    pub fn add_repository(self: &Arc<Self>, full_name: &str, default_branch: &str, workflows: &[&str]) -> Repository {
        self.add(full_name, default_branch, workflows, |dir| Git::init(dir, default_branch))
    }

    /// The branches and commits of another one under a new name.
    ///
    /// # Panics
    /// When it is no `owner/name`, or is there.
    pub fn copy_repository(self: &Arc<Self>, of: u64, full_name: &str) -> Repository {
        let about = self.lock().repos.get(&of).map(|repo| (repo.git.clone(), repo.refs.clone(), repo.default_branch.clone()));
        let (git, refs, branch) = about.expect("a repository");
        let copy = self.add(full_name, &branch, &[], |dir| git.copy(dir));
        self.lock().repos.get_mut(&copy.id()).expect("the copy").refs = refs;
        copy
    }

    fn add(self: &Arc<Self>, full_name: &str, default_branch: &str, workflows: &[&str], make: impl FnOnce(PathBuf) -> Git) -> Repository {
        let (owner, name) = full_name.split_once('/').expect("owner/name");
        let mut state = self.lock();
        assert!(state.repo(owner, name).is_none_or(|repo| repo.full_name() != full_name), "{full_name} is there already");
        let id = state.next_id();
        let git = make(self.root.join(format!("{id}.git")));
        let repo = Repo {
            id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            former: Vec::new(),
            default_branch: default_branch.to_owned(),
            git,
            refs: BTreeMap::new(),
            suites: BTreeMap::new(),
            statuses: BTreeMap::new(),
            pulls: BTreeMap::new(),
            workflows: workflows.iter().map(|name| (*name).to_owned()).collect(),
            created: self.now(),
        };
        state.repos.insert(id, repo);
        drop(state);
        Repository::new(Arc::clone(self), id)
    }

    /// The repository of that name, if there is one.
    pub fn find(self: &Arc<Self>, full_name: &str) -> Option<Repository> {
        let (owner, name) = full_name.split_once('/')?;
        let id = self.lock().repo(owner, name)?.id;
        Some(Repository::new(Arc::clone(self), id))
    }

    pub fn root(&self) -> &PathBuf {
        &self.root
    }

    /// What differs from what was last seen of the refs of a repository becomes push events, and runs of its workflows.
    pub fn notice(self: &Arc<Self>, id: u64) {
        let _turn = self.noticing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((git, before)) = self.lock().repos.get(&id).map(|repo| (repo.git.clone(), repo.refs.clone())) else { return };
        let after = git.refs();
        if let Some(repo) = self.lock().repos.get_mut(&id) {
            repo.refs.clone_from(&after);
        }
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let (old, new) = (before.get(name), after.get(name));
            if old == new || !(name.starts_with("refs/heads/") || name.starts_with("refs/tags/")) {
                continue;
            }
            hooks::pushed(self, id, name, old.map_or(NOTHING, String::as_str), new.map_or(NOTHING, String::as_str));
            if let (Some(branch), Some(oid)) = (name.strip_prefix("refs/heads/"), new) {
                self.start_workflows(id, branch, oid, &git);
            }
        }
    }

    /// Actions looks at the newest commit of a push alone.
    fn start_workflows(self: &Arc<Self>, id: u64, branch: &str, oid: &str, git: &Git) {
        let workflows = self.lock().repos.get(&id).map(|repo| repo.workflows.clone()).unwrap_or_default();
        if workflows.is_empty() || git.commit(oid).is_none_or(|commit| skips_ci(&commit.message)) {
            return;
        }
        for workflow in workflows {
            self.set_checks(id, oid, Some(branch), Checks::actions(&workflow));
        }
    }

    /// A token as a client would get it.
    pub fn token(&self, text: &str) -> Option<Token> {
        let now = self.now();
        self.lock().tokens.get(text).filter(|token| token.expires > now).cloned()
    }

    /// Something that nobody has had before, for ids that are not numbers.
    pub fn new_guid(&self) -> String {
        guid(&self.lock().next_id().to_string())
    }
}

/// "Skipping workflow runs": five words in the message, or a trailer.
pub fn skips_ci(message: &str) -> bool {
    let words = ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"];
    let trailer = message.lines().next_back().is_some_and(|line| matches!(line.trim(), "skip-checks: true" | "skip-checks:true"));
    trailer || words.iter().any(|word| message.contains(word))
}

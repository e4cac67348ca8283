//! What people do with a repository, done by real git commands in a clone: commits, pull requests and the ways to merge them,
//! reverts, force-pushes. And what others say of commits: checks, statuses, packages.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use serde::Deserialize;

use super::{
    git::{Git, command, output},
    hooks,
    hub::Hub,
    keys::sha256,
    model::{Checks, Pull, Repo, STATES, Status, Suite},
};

/// Who does things here.
const AUTHOR: (&str, &str) = ("Ada", "ada@acme.test");
/// Who commits what is merged in the browser.
const WEB: (&str, &str) = ("GitHub", "noreply@github.com");

/// How a pull request is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Merge,
    Squash,
    Rebase,
}

/// A repository in the hands of a test. Its functions panic when git refuses.
#[derive(Clone)]
pub struct Repository {
    hub: Arc<Hub>,
    id: u64,
}

/// A clone to work in.
struct Desk {
    dir: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl Desk {
    fn git(&self, arguments: &[&str]) -> String {
        self.attempt(arguments).unwrap_or_else(|error| panic!("git {}: {error}", arguments.join(" ")))
    }

    fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        let done = output(command(&self.dir).args(arguments).envs(self.env.iter().map(|(name, value)| (*name, value))));
        done.map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn knows(&self, branch: &str) -> bool {
        self.attempt(&["rev-parse", "--verify", "--quiet", &format!("origin/{branch}")]).is_ok()
    }

    fn push(&self, branch: &str) -> String {
        self.git(&["push", "--quiet", "--force", "origin", &format!("HEAD:refs/heads/{branch}")]);
        self.git(&["rev-parse", "HEAD"])
    }
}

impl Repository {
    pub fn new(hub: Arc<Hub>, id: u64) -> Self {
        Self { hub, id }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    fn with<T>(&self, look: impl FnOnce(&mut Repo) -> T) -> T {
        look(self.hub.lock().repos.get_mut(&self.id).expect("the repository was deleted"))
    }

    /// `acme/checkout`
    pub fn name(&self) -> String {
        self.with(|repo| repo.full_name())
    }

    /// Where it can be cloned from and pushed to.
    pub fn clone_url(&self) -> String {
        format!("{}/{}.git", self.hub.url, self.name())
    }

    pub fn git(&self) -> Git {
        self.with(|repo| repo.git.clone())
    }

    fn default_branch(&self) -> String {
        self.with(|repo| repo.default_branch.clone())
    }

    /// The commit of a branch.
    pub fn head(&self, branch: &str) -> String {
        self.with(|repo| repo.head(branch).cloned()).unwrap_or_else(|| panic!("{} has no branch {branch}", self.name()))
    }

    /// The full id of what somebody names.
    pub fn resolve(&self, expression: &str) -> String {
        self.git().resolve(expression).unwrap_or_else(|| panic!("{} has no {expression}", self.name()))
    }

    fn desk(&self, author: (&str, &str), committer: (&str, &str)) -> Desk {
        let dir = self.hub.root().join(format!("{}.desk", self.id));
        let bare = self.git().dir;
        let at = format!("@{} +0000", self.hub.now().as_second());
        let env = vec![
            ("GIT_AUTHOR_NAME", author.0.to_owned()),
            ("GIT_AUTHOR_EMAIL", author.1.to_owned()),
            ("GIT_AUTHOR_DATE", at.clone()),
            ("GIT_COMMITTER_NAME", committer.0.to_owned()),
            ("GIT_COMMITTER_EMAIL", committer.1.to_owned()),
            ("GIT_COMMITTER_DATE", at),
        ];
        if !dir.exists() {
            let (from, to) = (bare.display().to_string(), dir.display().to_string());
            output(command(self.hub.root()).args(["clone", "--quiet", &from, &to])).expect("git clone");
        }
        let desk = Desk { dir, env };
        desk.git(&["fetch", "--quiet", "--prune", "origin"]);
        desk
    }

    /// One person works at a time; what came of it is told when the desk is free again.
    fn work<T>(&self, author: (&str, &str), committer: (&str, &str), what: impl FnOnce(&Desk) -> T) -> T {
        let turn = self.hub.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let done = what(&self.desk(author, committer));
        drop(turn);
        self.hub.notice(self.id);
        done
    }

    /// A commit with a file of its own, so that nothing conflicts. A branch that is not there begins at the default one.
    pub fn commit(&self, branch: &str, message: &str) -> String {
        let file = format!("changes/{}", self.hub.lock().next_id());
        self.commit_files(branch, message, &[(&file, message)])
    }

    /// A commit that writes these files (path, content).
    pub fn commit_files(&self, branch: &str, message: &str, files: &[(&str, &str)]) -> String {
        let base = self.default_branch();
        self.work(AUTHOR, AUTHOR, |desk| {
            if desk.knows(branch) {
                desk.git(&["checkout", "--quiet", "--force", "-B", "desk", &format!("origin/{branch}")]);
            } else if desk.knows(&base) {
                desk.git(&["checkout", "--quiet", "--force", "-B", "desk", &format!("origin/{base}")]);
            } else {
                desk.git(&["symbolic-ref", "HEAD", "refs/heads/desk"]);
            }
            for (path, content) in files {
                let path = desk.dir.join(path);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, content).expect("a file");
            }
            desk.git(&["add", "--all"]);
            desk.git(&["commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-m", message]);
            desk.push(branch)
        })
    }

    /// A change that is merged at once, by a merge commit, without anybody's desk: for hundreds of them. The new head of the branch.
    pub fn land(&self, title: &str) -> String {
        let branch = self.default_branch();
        let file = format!("changes/{}", self.hub.lock().next_id());
        let made = self.git().land(&branch, &self.head(&branch), title, &file, self.hub.now());
        self.hub.notice(self.id);
        made.unwrap_or_else(|error| panic!("git fast-import: {error}"))
    }

    /// The same branches and commits under a new name.
    pub fn copy(&self, full_name: &str) -> Self {
        self.hub.copy_repository(self.id, full_name)
    }

    /// Opens a pull request of a branch into the default one; its number.
    pub fn pull(&self, branch: &str, title: &str) -> u64 {
        let (head, base) = (self.head(branch), self.default_branch());
        let range = format!("{}..{head}", self.head(&base));
        let commits = self.git().log(&[&range]).into_iter().map(|commit| commit.oid).collect();
        self.with(|repo| {
            let number = repo.pulls.keys().next_back().unwrap_or(&0) + 1;
            let author = AUTHOR.0.to_lowercase();
            let (title, head) = (title.to_owned(), branch.to_owned());
            repo.pulls.insert(number, Pull { number, title, head, base, author, merged: None, merge_commit: None, commits });
            number
        })
    }

    /// A branch with one commit, and the pull request of it.
    pub fn change(&self, branch: &str, title: &str) -> u64 {
        self.commit(branch, title);
        self.pull(branch, title)
    }

    /// Merges a pull request; the new head of its base.
    pub fn merge(&self, number: u64, method: Method) -> String {
        let pull = self.with(|repo| repo.pulls.get(&number).cloned()).expect("a pull request");
        let before = self.head(&pull.base);
        let (base, head) = (format!("origin/{}", pull.base), format!("origin/{}", pull.head));
        let owner = self.with(|repo| repo.owner.clone());
        let after = self.quietly(AUTHOR, WEB, |desk| {
            match method {
                Method::Merge => {
                    let message = format!("Merge pull request #{number} from {owner}/{}\n\n{}", pull.head, pull.title);
                    desk.git(&["checkout", "--quiet", "--force", "-B", "desk", &base]);
                    desk.git(&["merge", "--quiet", "--no-ff", "-m", &message, &head]);
                }
                Method::Squash => squash(desk, &base, &pull),
                Method::Rebase => {
                    desk.git(&["checkout", "--quiet", "--force", "-B", "desk", &head]);
                    desk.git(&["rebase", "--quiet", "--force-rebase", &base]);
                }
            }
            desk.push(&pull.base)
        });
        let made = self.git().log(&[&format!("{before}..{after}")]).into_iter().map(|commit| commit.oid).collect();
        self.merged(number, &after, made);
        self.hub.notice(self.id);
        after
    }

    /// A merge queue lands these in one push: one squashed commit each, of which only the last is built.
    pub fn merge_group(&self, numbers: &[u64]) -> String {
        let pulls: Vec<Pull> = self.with(|repo| numbers.iter().filter_map(|number| repo.pulls.get(number).cloned()).collect());
        let branch = self.default_branch();
        let made = self.quietly(AUTHOR, WEB, |desk| {
            let mut made = Vec::new();
            let mut base = format!("origin/{branch}");
            for pull in &pulls {
                squash(desk, &base, pull);
                base = desk.git(&["rev-parse", "HEAD"]);
                made.push((pull.number, base.clone()));
            }
            desk.push(&branch);
            made
        });
        for (number, oid) in &made {
            self.merged(*number, oid, BTreeSet::from([oid.clone()]));
        }
        self.hub.notice(self.id);
        made.last().map(|(_, oid)| oid.clone()).expect("a pull request")
    }

    /// As `work`, but the pull requests must know of their commits before anybody is told.
    fn quietly<T>(&self, author: (&str, &str), committer: (&str, &str), what: impl FnOnce(&Desk) -> T) -> T {
        let _turn = self.hub.desk.lock().unwrap_or_else(PoisonError::into_inner);
        what(&self.desk(author, committer))
    }

    fn merged(&self, number: u64, oid: &str, made: BTreeSet<String>) {
        let now = self.hub.now();
        self.with(|repo| {
            let pull = repo.pulls.get_mut(&number).expect("a pull request");
            pull.merged = Some(now);
            pull.merge_commit = Some(oid.to_owned());
            pull.commits.extend(made);
        });
    }

    /// `git revert` on the default branch; of a merge, what it merged.
    pub fn revert(&self, oid: &str) -> String {
        let branch = self.default_branch();
        let merge = self.git().commit(oid).expect("a commit").parents.len() > 1;
        self.work(AUTHOR, WEB, |desk| {
            desk.git(&["checkout", "--quiet", "--force", "-B", "desk", &format!("origin/{branch}")]);
            let mut arguments = vec!["revert", "--no-edit"];
            if merge {
                arguments.extend(["-m", "1"]);
            }
            arguments.push(oid);
            desk.git(&arguments);
            desk.push(&branch)
        })
    }

    /// A branch points somewhere else, whatever it was.
    pub fn force_push(&self, branch: &str, to: &str) {
        self.work(AUTHOR, AUTHOR, |desk| {
            desk.git(&["checkout", "--quiet", "--force", "-B", "desk", to]);
            desk.push(branch)
        });
    }

    pub fn delete_branch(&self, branch: &str) {
        self.work(AUTHOR, AUTHOR, |desk| desk.git(&["push", "--quiet", "origin", "--delete", branch]));
    }

    /// What an app or a workflow says of a commit, instead of what it said before.
    pub fn checks(&self, oid: &str, checks: Checks) {
        self.hub.set_checks(self.id, &self.resolve(oid), None, checks);
    }

    /// A commit status; the latest of its context counts.
    pub fn status(&self, oid: &str, context: &str, state: &str) {
        assert!(STATES.contains(&state), "no state of a status: {state}");
        let oid = self.resolve(oid);
        let (id, created) = (self.hub.lock().next_id(), self.hub.now());
        let (context, state) = (context.to_owned(), state.to_owned());
        let status = Status { id, context, state, description: None, target_url: None, created };
        self.with(|repo| repo.statuses.entry(oid.clone()).or_default().push(status.clone()));
        hooks::status_set(&self.hub, self.id, &oid, &status);
    }

    /// A manifest was pushed to the registry of packages under that tag.
    pub fn package(&self, name: &str, tag: &str) {
        let digest = format!("sha256:{}", sha256(&[name.as_bytes(), tag.as_bytes()]));
        hooks::package_published(&self.hub, self.id, name, tag, &digest);
    }

    /// The old name leads here until somebody else takes it.
    pub fn rename(&self, name: &str) {
        self.with(|repo| {
            repo.former.push(repo.full_name());
            name.clone_into(&mut repo.name);
        });
    }

    /// What is given back can be restored.
    pub fn delete(&self) -> Option<Repo> {
        self.hub.lock().repos.remove(&self.id)
    }

    /// As its owner may for 90 days.
    pub fn restore(&self, repo: Repo) {
        self.hub.lock().repos.insert(self.id, repo);
    }
}

fn squash(desk: &Desk, base: &str, pull: &Pull) {
    desk.git(&["checkout", "--quiet", "--force", "-B", "desk", base]);
    desk.git(&["merge", "--quiet", "--squash", &format!("origin/{}", pull.head)]);
    desk.git(&["commit", "--quiet", "-m", &format!("{} (#{})", pull.title, pull.number)]);
}

impl Hub {
    /// The suite of this app and run on a commit is so now.
    pub fn set_checks(&self, id: u64, oid: &str, branch: Option<&str>, checks: Checks) {
        checks.check();
        let now = self.now();
        let suite = {
            let mut state = self.lock();
            let new = state.next_id();
            let Some(repo) = state.repos.get_mut(&id) else { return };
            let named = repo.refs.iter().find(|(_, at)| *at == oid).and_then(|(name, _)| name.strip_prefix("refs/heads/"));
            let branch = branch.or(named).map(str::to_owned);
            let suites = repo.suites.entry(oid.to_owned()).or_default();
            if let Some(known) = suites.iter_mut().find(|suite| suite.checks.is(&checks)) {
                (known.checks, known.updated) = (checks, now);
                known.clone()
            } else {
                let suite = Suite { id: new, checks, branch, created: now, updated: now };
                suites.push(suite.clone());
                suite
            }
        };
        hooks::checked(self, id, oid, &suite);
    }
}

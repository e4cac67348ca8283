//! What is known of a place where versions come from: a branch of a repository and the image built from its commits. Plain
//! facts, as the forge and the registry state them; what they mean is decided in `decide::source`.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;

use super::{
    phase::Why,
    repo_config::{Permitted, RepoConfig},
    version::{ReleaseName, text_newtype},
};

text_newtype!(
    /// A commit: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
    Sha
);
text_newtype!(
    /// A manifest in a registry: `sha256:` and 64 lower-case hexadecimal digits.
    Digest
);

impl Sha {
    /// A commit as somebody wrote it; none: it is not one, or is abbreviated.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        (matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Self::new(text))
    }

    /// The first seven digits, as people write it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.as_str().get(..7).unwrap_or(self.as_str())
    }
}

impl Digest {
    /// A digest as a registry wrote it; none: it is not one that we can deploy.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        (hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then(|| Self::new(text))
    }
}

/// A repository at the forge, `acme/checkout`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// A person or an organisation.
    pub owner: String,
    /// Its name there.
    pub name: String,
}

impl Repository {
    /// Of `owner/name`; none: it is not that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let fine = |part: &str| {
            (1..=100).contains(&part.len())
                && !matches!(part, "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        (fine(owner) && fine(name)).then(|| Self { owner: owner.to_owned(), name: name.to_owned() })
    }

    /// The same to the forge, which does not look at the case.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.owner.eq_ignore_ascii_case(&other.owner) && self.name.eq_ignore_ascii_case(&other.name)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A branch; without a name the one that the repository calls its default.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch {
    /// Of which repository.
    pub repository: Repository,
    /// e.g. `main`.
    pub name: Option<String>,
}

/// A commit on the first-parent line of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Which.
    pub sha: Sha,
    /// The first line of its message; at most [`TITLE`] characters.
    pub title: String,
    /// The rest of its message; at most [`BODY`] characters.
    pub body: String,
    /// Who wrote it: the login at the forge, else the name in the commit.
    pub author: String,
    /// When it came into being, as the committer's clock said. Shown and measured, never used for order.
    pub committed: Timestamp,
    /// The pull request that brought it.
    pub pull_request: Option<PullRequest>,
    /// Where a person can look at it.
    pub url: String,
}

/// Characters of a title that are kept.
pub const TITLE: usize = 200;
/// Characters of a body that are kept: trailers stand at its end, so what is cut is cut from its beginning.
pub const BODY: usize = 4000;

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Its title; at most [`TITLE`] characters.
    pub title: String,
}

/// The first-parent line of a branch from its head down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// What the repository is called now; none: as it was asked for.
    pub renamed: Option<Repository>,
    /// The name of the branch, also when it is the default one.
    pub branch: String,
    /// Newest first, the head included, the commit that it was asked to end before excluded. Never empty, unless the head is
    /// that commit.
    pub commits: Vec<Commit>,
    /// How far it goes.
    pub end: HistoryEnd,
}

/// Why a history ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryEnd {
    /// The commit that was asked for comes next.
    Reached,
    /// The commit that was asked for is an ancestor of the head, but further down than we read.
    Capped,
    /// The commit that was asked for is not on the first-parent line of this branch: it was rewritten.
    Diverged,
    /// Nothing was asked for, or there is no more.
    Open,
}

/// What ran on a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckFacts {
    /// One for each app and run.
    pub suites: Vec<Suite>,
    /// The latest of each context.
    pub statuses: Vec<CommitStatus>,
}

/// The checks of one app, or of one run of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// The slug of the app, e.g. `github-actions`.
    pub app: String,
    /// How it ended; none: it has not.
    pub conclusion: Option<Conclusion>,
    /// What started the run of the workflow, e.g. `push`; none: it is no workflow's.
    pub event: Option<String>,
    /// The name of the workflow.
    pub workflow: Option<String>,
    /// How many checks it has.
    pub runs: u32,
    /// When it was made.
    pub created: Timestamp,
}

/// How a suite ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Well.
    Success,
    /// Without a word.
    Neutral,
    /// It was not needed.
    Skipped,
    /// Somebody or something newer stopped it.
    Cancelled,
    /// Badly: failed, timed out, did not start, waits for a person.
    Failure,
    /// In a way that we do not know; as good as not passed.
    Unknown,
}

/// What some other system says of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitStatus {
    /// Its name.
    pub context: String,
    /// What it says.
    pub state: StatusState,
}

/// The state of a commit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusState {
    /// Not over.
    Pending,
    /// Well.
    Success,
    /// Badly.
    Failure,
}

/// Where versions come from when a merge starts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePlan {
    /// Commits of which branch.
    pub branch: Branch,
    /// What must be known of a commit.
    pub rules: Rules,
    /// The image that is built from it.
    pub image: ImagePlan,
    /// Which of several that wait.
    pub queue: Queue,
    /// The file at each commit that sets how it is delivered.
    pub config: Option<ConfigPlan>,
}

/// A file of the repository that may set some of how a version is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigPlan {
    /// From the root of the repository.
    pub path: String,
    /// What it may set.
    pub permitted: Permitted,
}

/// Where versions come from when a tag that moves names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPlan {
    /// The image; its tag names no commit.
    pub image: ImagePlan,
    /// Which of several that wait.
    pub queue: Queue,
}

/// An image and the tag that names the one of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePlan {
    /// e.g. `ghcr.io/acme/checkout`.
    pub repository: String,
    /// e.g. `sha-{sha}`, with `{sha}` or `{sha7}` in it; without either a tag that moves.
    pub tag: String,
    /// The Secret of this namespace that opens the registry.
    pub pull_secret: Option<String>,
    /// The image must name its commit itself.
    pub revision_required: bool,
}

impl ImagePlan {
    /// The tag of the image of a commit.
    #[must_use]
    pub fn tag_of(&self, commit: &Sha) -> String {
        self.tag.replace("{sha}", commit.as_str()).replace("{sha7}", commit.short())
    }

    /// The tag says which commit it is of.
    #[must_use]
    pub fn names_commit(&self) -> bool {
        self.tag.contains("{sha}") || self.tag.contains("{sha7}")
    }
}

/// Which of several Releases that wait is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// The newest; those before it are superseded.
    #[default]
    Latest,
    /// One after the other.
    Each,
}

/// What must be known of a commit before it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Besides its image.
    pub when: When,
    /// A commit without any check is delivered after [`Rules::grace`].
    pub without_checks: bool,
    /// How long checks may take to appear.
    pub grace: Duration,
    /// How long an image may take to appear.
    pub image_timeout: Duration,
}

/// What must have passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing: that there is an image is enough.
    Image,
    /// Everything that runs on the commit.
    Checks,
    /// These workflows.
    Workflows(Vec<String>),
    /// The commit status of this context.
    Signal(String),
}

/// The image of a commit, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Built {
    /// Nobody has asked yet.
    Unasked,
    /// The registry did not say, and why.
    Unsaid(Unsaid),
    /// It is not there.
    Absent,
    /// It is there.
    Found {
        /// Of the manifest or index.
        digest: Digest,
        /// The commit that the image itself names.
        revision: Option<String>,
    },
}

/// Why a forge or a registry did not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaid {
    /// A person must do something: else it heals by itself.
    pub person: bool,
    /// In a sentence.
    pub says: String,
}

/// What is known of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFacts {
    /// Since when we know of it.
    pub seen: Timestamp,
    /// What ran on it; none: nobody has asked yet.
    pub checks: Option<CheckFacts>,
    /// Its image.
    pub image: Built,
    /// The file that sets how it is delivered; none: nobody has asked yet, or it is not asked for.
    pub config: Option<ConfigFile>,
}

/// A file at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFile {
    /// There is none.
    Absent,
    /// Its text.
    Text(String),
    /// It is there and cannot be taken, and why.
    Unusable(String),
}

/// What is known of the branch, or of the tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merges {
    /// The line of commits since the newest that is a Release; none: not read yet.
    pub history: Option<History>,
    /// Of those commits.
    pub facts: BTreeMap<Sha, CommitFacts>,
    /// What the tag names now, where versions come from a tag.
    pub tag: Option<Built>,
    /// Why the newest facts could not be read. What was known before stands.
    pub unsaid: Option<Unsaid>,
}

/// What becomes a Release: a commit and the image that was built from it, or the image that a tag names now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The name of the Release.
    pub name: ReleaseName,
    /// What people call it.
    pub version: String,
    /// By digest.
    pub image: String,
    /// Which commit, if that is known.
    pub commit: Option<Sha>,
    /// Its place on the line of what was merged.
    pub place: i64,
    /// It comes from a tag, not from a commit.
    pub by_tag: bool,
    /// The first line of the commit's message, or where the tag stands.
    pub title: String,
    /// Where a person can look at it; empty: nowhere.
    pub url: String,
    /// What came with it since the live version, newest first; at most [`BROUGHT`].
    pub brought: Vec<Brought>,
    /// How many that are, those that are left out included.
    pub brought_count: u64,
    /// What it reverts: commits and `#12`.
    pub reverts: Vec<String>,
    /// Why there is no way back from it, if there is none.
    pub barrier: Option<String>,
    /// What the file at its commit sets; why it is not delivered, if the file is wrong.
    pub config: Result<RepoConfig, Why>,
}

/// Commits that are told of one Release.
pub const BROUGHT: usize = 20;

/// A commit that came with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Which.
    pub commit: String,
    /// The first line of its message.
    pub title: String,
    /// Who wrote it.
    pub author: String,
    /// The pull request that brought it.
    pub pull_request: Option<u64>,
}

impl From<&Commit> for Brought {
    fn from(commit: &Commit) -> Self {
        Self {
            commit: commit.sha.to_string(),
            title: commit.title.clone(),
            author: commit.author.clone(),
            pull_request: commit.pull_request.as_ref().map(|request| request.number),
        }
    }
}

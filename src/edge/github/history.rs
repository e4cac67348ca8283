//! The first-parent line of a branch.
//!
//! GitHub lists all ancestors of a head, those that came with merged branches too; of them the line is walked from each commit to
//! its first parent. A commit that is an ancestor of the head but not on that line was never what the branch pointed at, so it
//! counts as one that was rewritten: [`HistoryEnd::Diverged`]. The same goes for one that the branch did point at before another
//! line of commits was merged over it the wrong way round. Where the line was not read far enough to know, GitHub is asked
//! whether the commit comes before the last one that was read: if not, it cannot be further down. If it does, it is taken to be
//! on the line ([`HistoryEnd::Capped`]).

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    edge::forge::ForgeError,
    model::source::{BODY, Branch, Commit, History, HistoryEnd, PullRequest, Repository, Sha, TITLE},
};

use super::{
    desk::{Caller, Desk, unreadable},
    graphql::COST,
    heads::{named, reference},
    wire::{Question, path},
};

/// Ancestors in the first document, which is mostly the only one: 1 + 30 × (parents + pull requests) = 61 requests, one point.
const FIRST: usize = 30;
/// Ancestors in each further document: two points. GitHub gives no more than 100.
const PAGE: usize = 100;
/// Documents for one history: 30 + 9 × 100 ancestors are 300 merges of two commits each.
const PAGES: usize = 10;
/// What only decorates: without the right to read it, or with it failing, a history is as good.
const SPARE: [&str; 2] = ["associatedPullRequests", "user"];

const LINE: &str = "fragment Line on Commit{oid history(first:$first,after:$after){pageInfo{hasNextPage endCursor} \
    nodes{oid message committedDate url author{name user{login}} parents(first:1){nodes{oid}} \
    associatedPullRequests(first:1){nodes{number title}}}}}";

#[derive(Deserialize)]
struct Ref {
    name: String,
    target: Head,
}

#[derive(Deserialize)]
struct Head {
    oid: String,
    history: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    page_info: PageInfo,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

impl PageInfo {
    /// Where the next page begins; none: this was the last.
    pub(super) fn next(self) -> Option<String> {
        self.end_cursor.filter(|_| self.has_next_page)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    oid: String,
    message: String,
    committed_date: Timestamp,
    url: String,
    author: Option<Author>,
    parents: Parents,
    associated_pull_requests: Option<PullRequests>,
}

#[derive(Deserialize)]
struct Author {
    name: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    login: String,
}

#[derive(Deserialize)]
struct Parents {
    nodes: Vec<Parent>,
}

#[derive(Deserialize)]
struct Parent {
    oid: String,
}

#[derive(Deserialize)]
struct PullRequests {
    nodes: Option<Vec<Option<Pull>>>,
}

#[derive(Deserialize)]
struct Pull {
    number: u64,
    title: String,
}

#[derive(Deserialize)]
struct Compared {
    status: String,
}

/// Where a walk stands.
enum Stand {
    /// It is over.
    End(HistoryEnd),
    /// There are as many commits as wanted.
    Enough,
    /// It goes on with a commit that was not read yet.
    Unread,
}

/// A walk from the head down.
struct Walk<'a> {
    what: String,
    since: Option<&'a Sha>,
    limit: usize,
    read: HashMap<Sha, (Commit, Option<Sha>)>,
    line: Vec<Commit>,
    /// The commit that comes next; none: the line has no more.
    next: Option<Sha>,
}

pub(super) async fn history(desk: &Arc<Desk>, branch: &Branch, since: Option<&Sha>, limit: usize) -> Result<History, ForgeError> {
    let caller = desk.caller(&branch.repository).await?;
    let (what, limit) = (named(branch), limit.max(1));
    let said = desk.query(&caller, what.clone(), &first_page(branch), variables(branch, limit.min(FIRST))).await?;
    said.has_repository(&branch.repository.to_string())?;
    // A branch that is not there and an empty repository are null.
    let at: Option<Ref> = said.part(&["repository", "at"], &what, &SPARE)?;
    let Ref { name, target: Head { oid, history: mut page } } = at.ok_or_else(|| ForgeError::Absent { what: what.clone() })?;
    let full_name: Option<String> = said.part(&["repository", "nameWithOwner"], &what, &SPARE)?;
    let now = full_name.and_then(|name| Repository::parse(&name)).ok_or_else(|| unreadable(&what, &"nameWithOwner is no name"))?;
    let renamed = Some(now).filter(|now| !now.is(&branch.repository));
    let head = commit_id(&what, &oid)?;
    let mut walk = Walk { what, since, limit, read: HashMap::new(), line: Vec::new(), next: Some(head.clone()) };
    for number in 1..=PAGES {
        let next = walk.take(page)?;
        match (walk.on(), next) {
            (Stand::End(end), _) => return Ok(History { branch: name, renamed, commits: walk.line, end }),
            (Stand::Unread, Some(after)) if number < PAGES => page = more(desk, &caller, branch, &head, &after, &walk.what).await?,
            (Stand::Enough | Stand::Unread, _) => break,
        }
    }
    let last = walk.line.last().ok_or_else(|| unreadable(&walk.what, &"its history does not begin with its head"))?;
    let end = match since {
        None => HistoryEnd::Open,
        Some(since) => beyond(desk, &caller, &branch.repository, since, &last.sha).await?,
    };
    Ok(History { branch: name, renamed, commits: walk.line, end })
}

impl Walk<'_> {
    /// Takes what was read in; gives where to read on.
    fn take(&mut self, page: Page) -> Result<Option<String>, ForgeError> {
        for node in page.nodes {
            let parent = node.parents.nodes.first().map(|parent| commit_id(&self.what, &parent.oid)).transpose()?;
            let sha = commit_id(&self.what, &node.oid)?;
            self.read.insert(sha.clone(), (commit(sha, node), parent));
        }
        Ok(page.page_info.next())
    }

    /// As far as it goes.
    fn on(&mut self) -> Stand {
        loop {
            let Some(next) = &self.next else {
                return Stand::End(if self.since.is_some() { HistoryEnd::Diverged } else { HistoryEnd::Open });
            };
            if Some(next) == self.since {
                return Stand::End(HistoryEnd::Reached);
            }
            if self.line.len() >= self.limit {
                return Stand::Enough;
            }
            let Some((commit, parent)) = self.read.remove(next) else {
                return Stand::Unread;
            };
            self.line.push(commit);
            self.next = parent;
        }
    }
}

/// The next page, from the same head: the branch may have moved on meanwhile.
async fn more(desk: &Arc<Desk>, caller: &Arc<Caller>, branch: &Branch, head: &Sha, after: &str, what: &str) -> Result<Page, ForgeError> {
    let Repository { owner, name } = &branch.repository;
    let variables = json!({ "owner": owner, "name": name, "oid": head, "first": PAGE, "after": after });
    let said = desk.query(caller, what.to_owned(), &next_page(), variables).await?;
    let at: Option<Head> = said.part(&["repository", "at"], what, &SPARE)?;
    at.map(|at| at.history).ok_or_else(|| ForgeError::Absent { what: format!("{what} at {}", head.short()) })
}

/// How a line ends that was read down to `last` without meeting `since`.
async fn beyond(
    desk: &Arc<Desk>,
    caller: &Arc<Caller>,
    repository: &Repository,
    since: &Sha,
    last: &Sha,
) -> Result<HistoryEnd, ForgeError> {
    let route = path(["repos", &repository.owner, &repository.name, "compare", &format!("{since}...{last}")]);
    // Its commits are of no use here; one of them must be.
    let question = Question::get(format!("{repository} from {} to {}", since.short(), last.short()), format!("{route}?per_page=1"));
    let answer = match desk.ask(caller, &question).await {
        // The repository was just read: it is the commit that is gone, or has no ancestor in common with the branch.
        Err(ForgeError::Absent { .. }) => return Ok(HistoryEnd::Diverged),
        answer => answer?,
    };
    let compared: Compared = serde_json::from_slice(&answer.body).map_err(|error| unreadable(&question.what, &error))?;
    match compared.status.as_str() {
        "ahead" | "identical" => Ok(HistoryEnd::Capped),
        "behind" | "diverged" => Ok(HistoryEnd::Diverged),
        other => Err(unreadable(&question.what, &format!("status {other}"))),
    }
}

fn commit_id(what: &str, oid: &str) -> Result<Sha, ForgeError> {
    Sha::parse(oid).ok_or_else(|| unreadable(what, &"an oid is no commit"))
}

fn commit(sha: Sha, node: Node) -> Commit {
    let (title, body) = node.message.trim_start().split_once('\n').unwrap_or((node.message.trim(), ""));
    let author = node.author.and_then(|author| author.user.map(|user| user.login).or(author.name));
    let pull_request = node.associated_pull_requests.and_then(|pulls| pulls.nodes).into_iter().flatten().flatten().next();
    Commit {
        sha,
        title: title.trim().chars().take(TITLE).collect(),
        body: ending(body.trim(), BODY).to_owned(),
        author: author.unwrap_or_default(),
        committed: node.committed_date,
        pull_request: pull_request.map(|pull| PullRequest { number: pull.number, title: pull.title.trim().chars().take(TITLE).collect() }),
        url: node.url,
    }
}

/// At most that many characters from the end.
fn ending(text: &str, most: usize) -> &str {
    match text.char_indices().rev().nth(most.saturating_sub(1)) {
        Some((at, _)) => text.get(at..).unwrap_or(text),
        None => text,
    }
}

pub(super) fn first_page(branch: &Branch) -> String {
    let variable = if branch.name.is_some() { "$ref:String!" } else { "" };
    let reference = reference(branch, "ref");
    format!(
        "query History($owner:String!$name:String!{variable}$first:Int!$after:String)\
         {{repository(owner:$owner,name:$name){{nameWithOwner {reference}{{name target{{...Line}}}}}}{COST}}}{LINE}"
    )
}

pub(super) fn next_page() -> String {
    format!(
        "query More($owner:String!$name:String!$oid:GitObjectID!$first:Int!$after:String)\
         {{repository(owner:$owner,name:$name){{at:object(oid:$oid){{...Line}}}}{COST}}}{LINE}"
    )
}

fn variables(branch: &Branch, first: usize) -> Value {
    let Repository { owner, name } = &branch.repository;
    let mut variables = json!({ "owner": owner, "name": name, "first": first });
    if let (Some(name), Some(variables)) = (&branch.name, variables.as_object_mut()) {
        variables.insert("ref".to_owned(), format!("refs/heads/{name}").into());
    }
    variables
}

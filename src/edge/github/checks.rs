//! What ran on some commits.
//!
//! Half a list could hide the check that failed, so a commit of which not all could be read is left out, as one that the forge
//! does not know. What we write ourselves is left out too: it would wait for itself.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    edge::forge::ForgeError,
    model::source::{CheckFacts, CommitStatus, Conclusion, Repository, Sha, StatusState, Suite},
};

use super::{
    desk::{Caller, Desk, unreadable},
    graphql::{COST, Said},
    history::PageInfo,
};

/// Commits in one document: 10 × 50 suites × (a run of a workflow and the first check) = 500 nodes, 5 points or so.
pub(super) const TOGETHER: usize = 10;
/// Pages of one commit's suites: 1 + 5 × 50 = 300. More would be a mistake, or mischief.
const PAGES: usize = 5;
/// Contexts that begin so are ours.
const OURS: &str = "haldane/";

macro_rules! suites {
    ($after:literal) => {
        concat!(
            "checkSuites(first:50",
            $after,
            "){pageInfo{hasNextPage endCursor} nodes{app{slug databaseId} status conclusion createdAt \
             workflowRun{event workflow{name}} checkRuns(first:1){totalCount}}}"
        )
    };
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    check_suites: Option<Suites>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct More {
    check_suites: Suites,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Suites {
    page_info: PageInfo,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    app: Option<App>,
    status: String,
    conclusion: Option<String>,
    created_at: Timestamp,
    workflow_run: Option<WorkflowRun>,
    check_runs: CheckRuns,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct App {
    slug: String,
    database_id: Option<u64>,
}

#[derive(Deserialize)]
struct WorkflowRun {
    event: String,
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckRuns {
    total_count: u32,
}

#[derive(Deserialize)]
struct Status {
    contexts: Vec<Context>,
}

#[derive(Deserialize)]
struct Context {
    context: String,
    state: String,
}

pub(super) async fn checks(desk: &Arc<Desk>, repository: &Repository, commits: &[Sha]) -> Result<BTreeMap<Sha, CheckFacts>, ForgeError> {
    let caller = desk.caller(repository).await?;
    let (mut known, mut failed) = (BTreeMap::new(), None);
    for together in commits.chunks(TOGETHER) {
        let what = format!("the checks of {repository}");
        let said = desk.query(&caller, what, &document(together.len()), variables(repository, together)).await?;
        said.has_repository(&repository.to_string())?;
        for (at, commit) in together.iter().enumerate() {
            match facts(desk, &caller, repository, &said, at, commit).await {
                Ok(Some(facts)) => drop(known.insert(commit.clone(), facts)),
                Ok(None) => {}
                // Later ones would only be told the same.
                Err(limited @ ForgeError::Limited { .. }) => return Err(limited),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    match failed {
        Some(error) if known.is_empty() => Err(error),
        _ => Ok(known),
    }
}

async fn facts(
    desk: &Arc<Desk>,
    caller: &Arc<Caller>,
    repository: &Repository,
    said: &Said,
    at: usize,
    commit: &Sha,
) -> Result<Option<CheckFacts>, ForgeError> {
    let what = format!("the checks of {repository} at {}", commit.short());
    let seen: Seen = match said.part(&["repository", &format!("c{at}")], &what, &[]) {
        Ok(Some(seen)) => seen,
        Ok(None) | Err(ForgeError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Suites { page_info, nodes } = seen.check_suites.ok_or_else(|| unreadable(&what, &"checkSuites is null"))?;
    let (mut suites, mut next) = (nodes, page_info.next());
    for _ in 0..PAGES {
        let Some(after) = next else { break };
        let Repository { owner, name } = repository;
        let variables = json!({ "owner": owner, "name": name, "oid": commit, "after": after });
        let said = desk.query(caller, what.clone(), &next_page(), variables).await?;
        let more: Option<More> = said.part(&["repository", "at"], &what, &[])?;
        let more = more.ok_or_else(|| unreadable(&what, &"the commit vanished between two pages"))?.check_suites;
        suites.extend(more.nodes);
        next = more.page_info.next();
    }
    if next.is_some() {
        return Err(unreadable(&what, &format!("there are more than {} check suites", suites.len())));
    }
    let ours = desk.access.app_id();
    let theirs = |node: &Node| ours.is_none() || node.app.as_ref().and_then(|app| app.database_id) != ours;
    let contexts = seen.status.map(|status| status.contexts).unwrap_or_default();
    Ok(Some(CheckFacts {
        suites: suites.into_iter().filter(theirs).map(suite).collect(),
        statuses: contexts.into_iter().filter(|context| !context.context.starts_with(OURS)).map(status).collect(),
    }))
}

fn suite(node: Node) -> Suite {
    let (event, workflow) = node.workflow_run.map(|run| (run.event, run.workflow.name)).unzip();
    Suite {
        // That of an app that was deleted.
        app: node.app.map_or_else(|| "unknown".to_owned(), |app| app.slug),
        // One that runs again still has the conclusion of its last run.
        conclusion: (node.status == "COMPLETED").then(|| conclusion(node.conclusion.as_deref())),
        event,
        workflow,
        runs: node.check_runs.total_count,
        created: node.created_at,
    }
}

fn conclusion(said: Option<&str>) -> Conclusion {
    match said {
        Some("SUCCESS") => Conclusion::Success,
        Some("NEUTRAL") => Conclusion::Neutral,
        Some("SKIPPED") => Conclusion::Skipped,
        Some("CANCELLED") => Conclusion::Cancelled,
        Some("FAILURE" | "TIMED_OUT" | "STARTUP_FAILURE" | "ACTION_REQUIRED") => Conclusion::Failure,
        _ => Conclusion::Unknown,
    }
}

fn status(Context { context, state }: Context) -> CommitStatus {
    let state = match state.as_str() {
        "SUCCESS" => StatusState::Success,
        "FAILURE" | "ERROR" => StatusState::Failure,
        // EXPECTED, PENDING, and what we do not know: none is a pass.
        _ => StatusState::Pending,
    };
    CommitStatus { context, state }
}

pub(super) fn document(commits: usize) -> String {
    let (mut head, mut body) = (String::new(), String::new());
    for at in 0..commits {
        // Writing to a String does not fail.
        let _ = write!(head, "$c{at}:GitObjectID!");
        let _ = write!(body, "c{at}:object(oid:$c{at}){{...Facts}}");
    }
    format!(
        "query Checks($owner:String!$name:String!{head}){{repository(owner:$owner,name:$name){{{body}}}{COST}}}\
         fragment Facts on Commit{{{} status{{contexts{{context state}}}}}}",
        suites!("")
    )
}

pub(super) fn next_page() -> String {
    format!(
        "query MoreSuites($owner:String!$name:String!$oid:GitObjectID!$after:String!)\
         {{repository(owner:$owner,name:$name){{at:object(oid:$oid){{...on Commit{{{}}}}}}}{COST}}}",
        suites!(",after:$after")
    )
}

fn variables(repository: &Repository, commits: &[Sha]) -> Value {
    let mut variables = Map::new();
    variables.insert("owner".to_owned(), repository.owner.clone().into());
    variables.insert("name".to_owned(), repository.name.clone().into());
    for (at, commit) in commits.iter().enumerate() {
        variables.insert(format!("c{at}"), commit.as_str().into());
    }
    variables.into()
}

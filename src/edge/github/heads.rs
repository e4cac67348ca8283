//! The newest commit of many branches: one document for each hundred, so that a thousand repositories cost ten calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    edge::forge::ForgeError,
    model::source::{Branch, Sha},
};

use super::{
    desk::{Caller, Desk, unreadable},
    graphql::{COST, Said},
};

/// Branches in one document: 100 × ~110 bytes = 11 KiB, one point, and well within the 10 s that GitHub gives a document.
pub(super) const TOGETHER: usize = 100;

type Heads<'a> = BTreeMap<&'a Branch, Result<Sha, ForgeError>>;

#[derive(Deserialize)]
struct Repo {
    at: Option<Ref>,
}

#[derive(Deserialize)]
struct Ref {
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    oid: String,
}

pub(super) async fn heads(desk: &Arc<Desk>, branches: &[Branch]) -> Result<Vec<Result<Sha, ForgeError>>, ForgeError> {
    let mut heads = Heads::new();
    let mut groups = Vec::<(Arc<Caller>, Vec<&Branch>)>::new();
    let mut down = None;
    for branch in branches.iter().collect::<BTreeSet<_>>() {
        let found = match &down {
            None => desk.caller(&branch.repository).await,
            Some(error) => Err(ForgeError::clone(error)),
        };
        match found {
            Ok(caller) => match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &caller)) {
                Some((_, group)) => group.push(branch),
                None => groups.push((caller, vec![branch])),
            },
            Err(error) => {
                // What is not about this repository alone would be said, or waited for, again and again.
                let alone = matches!(error, ForgeError::Absent { .. }) || of_one_answer(&error);
                down = Some(error.clone()).filter(|_| !alone);
                heads.insert(branch, Err(error));
            }
        }
    }
    let mut answered = heads.values().any(|head| matches!(head, Err(ForgeError::Absent { .. })));
    for (some, of_group) in join_all(groups.iter().map(|(caller, group)| of_group(desk, caller, group))).await {
        answered |= some;
        heads.extend(of_group);
    }
    match heads.values().find_map(|head| head.as_ref().err()) {
        Some(error) if !answered && heads.values().all(|head| head.as_ref() == Err(error)) => Err(error.clone()),
        _ => Ok(branches.iter().filter_map(|branch| heads.get(branch).cloned()).collect()),
    }
}

/// The heads of the branches that one caller sees, and whether it was told any. One document after the other: GitHub asks not to
/// be asked much at once.
async fn of_group<'a>(desk: &Arc<Desk>, caller: &Arc<Caller>, group: &[&'a Branch]) -> (bool, Heads<'a>) {
    let mut heads = Heads::new();
    let mut answered = false;
    let mut down = None;
    for together in group.chunks(TOGETHER) {
        let said = match &down {
            None => {
                let what = format!("the heads of {} branches", together.len());
                desk.query(caller, what, &document(together), variables(together)).await
            }
            Some(error) => Err(ForgeError::clone(error)),
        };
        match said {
            Ok(said) => {
                answered = true;
                heads.extend(together.iter().enumerate().map(|(at, branch)| (*branch, head(&said, at, branch))));
            }
            Err(error) => {
                heads.extend(together.iter().map(|branch| (*branch, Err(error.clone()))));
                down = Some(error).filter(|error| !of_one_answer(error));
            }
        }
    }
    (answered, heads)
}

/// Whether another question may well be answered.
fn of_one_answer(error: &ForgeError) -> bool {
    matches!(error, ForgeError::Unreadable { .. } | ForgeError::TooLong { .. })
}

fn head(said: &Said, at: usize, branch: &Branch) -> Result<Sha, ForgeError> {
    let absent = |what: String| ForgeError::Absent { what };
    let repository = branch.repository.to_string();
    let repo: Repo = said.part(&[&format!("h{at}")], &repository, &[])?.ok_or_else(|| absent(repository.clone()))?;
    let oid = repo.at.ok_or_else(|| absent(named(branch)))?.target.oid;
    Sha::parse(&oid).ok_or_else(|| unreadable(&named(branch), &"target.oid is no commit"))
}

/// A branch in words.
pub(super) fn named(branch: &Branch) -> String {
    match &branch.name {
        Some(name) => format!("branch {name} of {}", branch.repository),
        None => format!("the default branch of {}", branch.repository),
    }
}

/// How a document asks for a branch, by the variable of that name.
pub(super) fn reference(branch: &Branch, variable: &str) -> String {
    if branch.name.is_some() { format!("at:ref(qualifiedName:${variable})") } else { "at:defaultBranchRef".to_owned() }
}

pub(super) fn document(branches: &[&Branch]) -> String {
    let (mut head, mut body) = (String::new(), String::new());
    for (at, branch) in branches.iter().enumerate() {
        let reference = reference(branch, &format!("r{at}"));
        // Writing to a String does not fail.
        let _ = write!(head, "$o{at}:String!$n{at}:String!");
        if branch.name.is_some() {
            let _ = write!(head, "$r{at}:String!");
        }
        let _ = write!(body, "h{at}:repository(owner:$o{at},name:$n{at}){{{reference}{{target{{oid}}}}}}");
    }
    format!("query Heads({head}){{{body}{COST}}}")
}

fn variables(branches: &[&Branch]) -> Value {
    let mut variables = Map::new();
    for (at, branch) in branches.iter().enumerate() {
        variables.insert(format!("o{at}"), branch.repository.owner.clone().into());
        variables.insert(format!("n{at}"), branch.repository.name.clone().into());
        if let Some(name) = &branch.name {
            variables.insert(format!("r{at}"), format!("refs/heads/{name}").into());
        }
    }
    variables.into()
}

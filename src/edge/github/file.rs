//! One file of a repository as it was at a commit.

use std::sync::Arc;

use http::header::CONTENT_TYPE;

use crate::{
    edge::forge::ForgeError,
    model::source::{Repository, Sha},
};

use super::{
    desk::Desk,
    wire::{Question, RAW, path},
};

pub(super) async fn file(
    desk: &Arc<Desk>,
    repository: &Repository,
    commit: &Sha,
    file: &str,
    limit: usize,
) -> Result<Option<String>, ForgeError> {
    let file = file.trim_start_matches('/');
    // No file has such a path, but an address has, and it leads to something else.
    if file.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Ok(None);
    }
    let caller = desk.caller(repository).await?;
    let below = ["repos", &repository.owner, &repository.name, "contents"];
    let route = format!("{}?ref={commit}", path(below.into_iter().chain(file.split('/'))));
    let what = format!("{file} of {repository} at {}", commit.short());
    let question = Question { accept: RAW, most: limit, ..Question::get(what, route) };
    let answer = match desk.ask(&caller, &question).await {
        Err(ForgeError::Absent { .. }) => return Ok(None),
        answer => answer?,
    };
    // Folders and submodules have no raw form and are answered as a description in JSON; a file, also one of JSON, is not.
    let media = answer.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    if media.split(';').next().is_some_and(|media| media.trim() == "application/json") {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&answer.body).into_owned()))
}

//! `/_fake/…`: the fake in the hands of a shell script. JSON in, JSON out; what is wrong is said in `message`.
//!
//! | Call | Body |
//! |---|---|
//! | `POST /_fake/repositories` | `{"name": "acme/checkout", "default_branch"?, "workflows"?: ["ci"]}` → `clone_url` |
//! | `POST /_fake/installations` | `{"account": "acme"}` → `id` |
//! | `POST /_fake/webhook` | `{"url": "http://…", "secret"?}` |
//! | `POST /_fake/commits` | `{"repository", "message", "branch"?, "files"?: {"path": "content"}}` → `sha` |
//! | `POST /_fake/pulls` | `{"repository", "branch", "title"}` → `number` |
//! | `POST /_fake/merges` | `{"repository", "number", "method"}` (`merge`, `squash`, `rebase`) → `sha` |
//! | `POST /_fake/reverts` | `{"repository", "commit"}` → `sha` |
//! | `POST /_fake/force-pushes` | `{"repository", "branch", "commit"}` |
//! | `POST /_fake/suites` | `{"repository", "commit", "app"?, "workflow"?, "event"?, "status"?, "conclusion"?, "runs"?}` |
//! | `POST /_fake/statuses` | `{"repository", "commit", "context", "state"}` |
//! | `POST /_fake/packages` | `{"repository", "package", "tag"}` |
//! | `POST /_fake/renames`, `/_fake/deletions` | `{"repository", "name"}`, `{"repository"}` |
//! | `POST /_fake/users` | `{"email", "login"}` |
//! | `POST /_fake/suspensions`, `/_fake/revocations` | `{"installation", "suspended"}`, `{"installation"}` |
//! | `POST /_fake/faults` | `{"prefix": "/repos", "times"?: 1, "wrong": {"status": 502}}` |
//! | `POST /_fake/hook-faults` | `["drop", "twice", {"delay": 500}]` |
//! | `POST /_fake/hook-holds` | `{"release"?: "reversed"}`; without it deliveries stay |
//! | `POST /_fake/limits` | `{"rest"?: 5000, "graphql"?, "rest_minute"?, "graphql_minute"?}` |
//! | `POST /_fake/notices` | `{"repository"}`: somebody pushed past the server |
//! | `GET /_fake/meter` | what every caller asked, and the requests |
//! | `GET /_fake/deliveries` | every delivery |

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    api::{Ask, Reply},
    hooks::{HookFault, Release},
    hub::Hub,
    model::{Checks, Webhook},
    workshop::{Method, Repository},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRepository {
    name: String,
    #[serde(default)]
    default_branch: Option<String>,
    #[serde(default)]
    workflows: Vec<String>,
}

/// Everything that is said of a repository; each call takes of it what it needs.
#[derive(Deserialize)]
struct About {
    repository: String,
    #[serde(default)]
    commit: Option<String>,
    #[serde(default)]
    branch: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    number: Option<u64>,
    #[serde(default)]
    method: Option<Method>,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    package: Option<String>,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

/// What a script asks for.
pub fn answer(hub: &Arc<Hub>, ask: &Ask) -> Reply {
    let what = ask.path.trim_start_matches("/_fake/");
    let done = match ask.method.as_str() {
        "GET" => look(hub, what),
        "POST" => change(hub, what, &ask.body),
        _ => Err("GET or POST".to_owned()),
    };
    match done {
        Ok(value) => Reply::json(200, &value),
        Err(message) => Reply::json(422, &json!({"message": message})),
    }
}

fn look(hub: &Hub, what: &str) -> Result<Value, String> {
    let state = hub.lock();
    match what {
        "meter" => {
            let callers: BTreeMap<&str, _> = state.seen.iter().map(|seen| (seen.caller.as_str(), state.used(&seen.caller))).collect();
            Ok(json!({"callers": callers, "requests": state.seen}))
        }
        "deliveries" => Ok(json!(state.deliveries)),
        _ => Err(format!("there is no {what}")),
    }
}

fn change(hub: &Arc<Hub>, what: &str, body: &[u8]) -> Result<Value, String> {
    let first_app = || hub.lock().apps.keys().next().copied().ok_or("no app");
    match what {
        "repositories" => {
            let new: NewRepository = read(body)?;
            let workflows: Vec<&str> = new.workflows.iter().map(String::as_str).collect();
            let made = hub.add_repository(&new.name, new.default_branch.as_deref().unwrap_or("main"), &workflows);
            return Ok(json!({"id": made.id(), "clone_url": made.clone_url()}));
        }
        "installations" => return Ok(json!({"id": hub.install(first_app()?, &field::<String>(body, "account")?, None)})),
        "webhook" => hub.set_webhook(first_app()?, Some(read::<Webhook>(body)?)),
        "users" => {
            let (email, login) = (field(body, "email")?, field(body, "login")?);
            hub.lock().users.insert(email, login);
        }
        "suspensions" => hub.suspend(field(body, "installation")?, field(body, "suspended")?),
        "revocations" => {
            let installation: u64 = field(body, "installation")?;
            hub.lock().tokens.retain(|_, token| token.installation != installation);
        }
        "faults" => {
            let fault = read(body)?;
            hub.lock().faults.push(fault);
        }
        "limits" => {
            let limits = read(body)?;
            hub.lock().limits = limits;
        }
        "hook-faults" => hub.outbox.plan(&read::<Vec<HookFault>>(body)?),
        "hook-holds" => match read::<Value>(body)?.get("release") {
            None => hub.outbox.hold(),
            Some(order) => hub.outbox.release(serde_json::from_value::<Release>(order.clone()).map_err(|error| error.to_string())?),
        },
        _ => {
            let about: About = read(body)?;
            let repository = hub.find(&about.repository).ok_or_else(|| format!("there is no {}", about.repository))?;
            return of_repository(hub, what, body, &repository, &about);
        }
    }
    Ok(json!({}))
}

fn of_repository(hub: &Arc<Hub>, what: &str, body: &[u8], repository: &Repository, about: &About) -> Result<Value, String> {
    let sha = |sha: String| Ok(json!({"sha": sha}));
    match what {
        "commits" => {
            let branch = about.branch.as_deref().unwrap_or("main");
            let message = need(about.message.as_ref(), "message")?;
            let files: Vec<(&str, &str)> = about.files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
            let made = if files.is_empty() { repository.commit(branch, message) } else { repository.commit_files(branch, message, &files) };
            return sha(made);
        }
        "pulls" => {
            return Ok(json!({"number": repository.pull(need(about.branch.as_ref(), "branch")?, need(about.title.as_ref(), "title")?)}));
        }
        "merges" => return sha(repository.merge(*need(about.number.as_ref(), "number")?, *need(about.method.as_ref(), "method")?)),
        "reverts" => return sha(repository.revert(&commit(repository, about)?)),
        "force-pushes" => repository.force_push(need(about.branch.as_ref(), "branch")?, &commit(repository, about)?),
        "suites" => {
            let mut checks: Value = read(body)?;
            if let Some(map) = checks.as_object_mut() {
                map.retain(|name, _| !matches!(name.as_str(), "repository" | "commit"));
            }
            let checks: Checks = serde_json::from_value(checks).map_err(|error| error.to_string())?;
            repository.checks(&commit(repository, about)?, checks);
        }
        "statuses" => {
            repository.status(&commit(repository, about)?, need(about.context.as_ref(), "context")?, need(about.state.as_ref(), "state")?);
        }
        "packages" => repository.package(need(about.package.as_ref(), "package")?, need(about.tag.as_ref(), "tag")?),
        "renames" => repository.rename(need(about.name.as_ref(), "name")?),
        "deletions" => drop(repository.delete()),
        "notices" => hub.notice(repository.id()),
        _ => return Err(format!("there is no {what}")),
    }
    Ok(json!({}))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn field<T: DeserializeOwned>(body: &[u8], name: &str) -> Result<T, String> {
    let value: Value = read(body)?;
    serde_json::from_value(value.get(name).cloned().unwrap_or_default()).map_err(|error| format!("{name}: {error}"))
}

fn need<'a, T>(value: Option<&'a T>, name: &str) -> Result<&'a T, String> {
    value.ok_or_else(|| format!("{name} is missing"))
}

fn commit(repository: &Repository, about: &About) -> Result<String, String> {
    let expression = need(about.commit.as_ref(), "commit")?;
    repository.git().resolve(expression).ok_or_else(|| format!("there is no commit {expression}"))
}

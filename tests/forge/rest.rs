//! REST, as far as a deployer reads it. What git knows is asked of git each time.

use std::{collections::BTreeSet, sync::Arc};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    api::{Ask, Caller, Reply},
    git::{Commit, Diff, Entry, Git},
    hooks::{self, KEPT},
    hub::Hub,
    keys::{AppKey, lines, long_token, word},
    model::{Installation, Repo, State, Token, TokenForm, Webhook, moment},
    shapes,
};

/// Of an installation token.
const TOKEN_LIVES: SignedDuration = SignedDuration::from_hours(1);
/// Commits and files on one page of a comparison.
const COMPARED: usize = 250;
/// Larger files have no content in the JSON form.
const INLINE: usize = 1 << 20;

/// The endpoint of a path.
pub fn answer(hub: &Arc<Hub>, ask: &Ask, caller: &Caller) -> Reply {
    let path: Vec<&str> = ask.path.trim_matches('/').split('/').collect();
    match (ask.method.as_str(), path.as_slice()) {
        ("POST", ["app-manifests", code, "conversions"]) => convert(hub, code),
        (_, ["app", ..] | ["repos", _, _, "installation"] | ["repositories", _, "installation"]) => match caller {
            Caller::App(id) => of_app(hub, ask, *id, &path),
            _ => Reply::error(401, "A JSON web token could not be decoded"),
        },
        ("GET", ["installation", "repositories"]) => match caller {
            Caller::Installation(token) => repositories(hub, ask, token),
            _ => Reply::error(403, "Resource not accessible by integration"),
        },
        ("GET", ["repos", owner, name, rest @ ..]) => of_repository(hub, ask, caller, &(*owner, *name), rest),
        ("GET", ["repositories", id, rest @ ..]) => {
            let name = id.parse().ok().and_then(|id: u64| hub.lock().repos.get(&id).map(|repo| (repo.owner.clone(), repo.name.clone())));
            name.map_or_else(Reply::not_found, |(owner, name)| of_repository(hub, ask, caller, &(&owner, &name), rest))
        }
        _ => Reply::not_found(),
    }
}

fn of_app(hub: &Arc<Hub>, ask: &Ask, id: u64, path: &[&str]) -> Reply {
    match (ask.method.as_str(), path) {
        ("GET", ["app"]) => {
            let state = hub.lock();
            let count = state.installations.values().filter(|there| there.app == id).count();
            state.apps.get(&id).map_or_else(Reply::not_found, |app| {
                let mut shown = shapes::app(&hub.url, app);
                shown["installations_count"] = json!(count);
                Reply::json(200, &shown)
            })
        }
        ("GET", ["app", "installations"]) => {
            let state = hub.lock();
            let shown: Vec<Value> =
                state.installations.values().filter(|there| there.app == id).map(|there| about_installation(hub, &state, there)).collect();
            Reply::json(200, &json!(shown))
        }
        ("GET", ["app", "installations", number]) => {
            let state = hub.lock();
            let found = number.parse().ok().and_then(|number: u64| state.installations.get(&number)).filter(|there| there.app == id);
            found.map_or_else(Reply::not_found, |there| Reply::json(200, &about_installation(hub, &state, there)))
        }
        ("POST", ["app", "installations", number, "access_tokens"]) => {
            number.parse().map_or_else(|_| Reply::not_found(), |number| new_token(hub, ask, id, number))
        }
        ("GET", ["repos", owner, name, "installation"]) => {
            let state = hub.lock();
            match state.repo(owner, name) {
                Some(repo) if is_named(repo, owner, name) => installed(hub, &state, id, repo),
                Some(repo) => moved(hub, ask, repo, &["installation"]),
                None => Reply::not_found(),
            }
        }
        ("GET", ["repositories", number, "installation"]) => {
            let state = hub.lock();
            let repo = number.parse().ok().and_then(|number: u64| state.repos.get(&number));
            repo.map_or_else(Reply::not_found, |repo| installed(hub, &state, id, repo))
        }
        ("GET", ["app", "hook", "config"]) => match hub.lock().apps.get(&id).and_then(|app| app.webhook.clone()) {
            Some(Webhook { url, secret }) => {
                let secret = secret.map(|_| "********");
                Reply::json(200, &json!({"url": url, "content_type": "json", "insecure_ssl": "0", "secret": secret}))
            }
            None => Reply::not_found(),
        },
        ("GET", ["app", "hook", "deliveries"]) => deliveries(hub, ask, id),
        ("GET", ["app", "hook", "deliveries", number]) => delivery(hub, id, number),
        ("POST", ["app", "hook", "deliveries", number, "attempts"]) => {
            let again = number.parse().ok().and_then(|number| hooks::redeliver(hub, id, number));
            again.map_or_else(Reply::not_found, |()| Reply::json(202, &json!({})))
        }
        _ => Reply::not_found(),
    }
}

fn is_named(repo: &Repo, owner: &str, name: &str) -> bool {
    repo.full_name().eq_ignore_ascii_case(&format!("{owner}/{name}"))
}

/// By its number a repository is always found.
fn moved(hub: &Hub, ask: &Ask, repo: &Repo, rest: &[&str]) -> Reply {
    let (base, id) = (format!("{}{}", hub.url, prefix(ask)), repo.id.to_string());
    let url = [&[base.as_str(), "repositories", &id] as &[&str], rest].concat().join("/");
    Reply::json(301, &json!({"message": "Moved Permanently", "url": url, "documentation_url": "https://docs.github.com/rest"}))
        .with("location", url)
}

/// The installation of the app on the account of a repository.
fn installed(hub: &Hub, state: &State, app: u64, repo: &Repo) -> Reply {
    let there = state.installation(app, &repo.owner).filter(|there| there.covers(repo));
    there.map_or_else(Reply::not_found, |there| Reply::json(200, &about_installation(hub, state, there)))
}

fn about_installation(hub: &Hub, state: &State, there: &Installation) -> Value {
    let app = state.apps.get(&there.app);
    let account = shapes::account(&hub.url, &there.account, "Organization");
    json!({
        "id": there.id, "app_id": there.app, "app_slug": app.map(|app| &app.slug), "client_id": app.map(|app| &app.client_id),
        "account": account, "target_id": account["id"], "target_type": "Organization",
        "repositories_url": format!("{}/installation/repositories", hub.url),
        "repository_selection": if there.repositories.is_none() { "all" } else { "selected" },
        "access_tokens_url": format!("{}/app/installations/{}/access_tokens", hub.url, there.id),
        "html_url": format!("{}/organizations/{}/settings/installations/{}", hub.url, there.account, there.id),
        "permissions": app.map(|app| &app.permissions), "events": app.map(|app| &app.events),
        "created_at": moment(there.created), "updated_at": moment(there.created),
        "suspended_at": there.suspended.map(moment), "suspended_by": null, "single_file_name": null,
    })
}

fn new_token(hub: &Hub, ask: &Ask, app: u64, installation: u64) -> Reply {
    let wanted: Value = if ask.body.is_empty() {
        json!({})
    } else {
        match serde_json::from_slice(&ask.body) {
            Ok(value) => value,
            Err(_) => return Reply::error(400, "Problems parsing JSON"),
        }
    };
    let mut guard = hub.lock();
    let state = &mut *guard;
    let Some(there) = state.installations.get(&installation).filter(|there| there.app == app).cloned() else { return Reply::not_found() };
    if there.suspended.is_some() {
        return Reply::error(403, "This installation has been suspended");
    }
    let Ok(repositories) = chosen(state, &there, &wanted) else {
        return Reply::error(422, "There is at least one repository that does not exist or is not accessible to the parent installation.");
    };
    let granted = state.apps.get(&app).map(|app| app.permissions.clone()).unwrap_or_default();
    let permissions = match wanted.get("permissions").and_then(Value::as_object) {
        None => granted,
        Some(asked) => {
            let fine = |(name, access): (&String, &Value)| {
                let access = access.as_str()?;
                let has = granted.get(name)?;
                (has == "write" || access == "read").then(|| (name.clone(), access.to_owned()))
            };
            match asked.iter().map(fine).collect() {
                Some(some) => some,
                None => return Reply::error(422, "The permissions requested are not granted to this installation."),
            }
        }
    };
    let seed = format!("token {}", state.next_id());
    let text = match state.token_form {
        TokenForm::Classic => format!("ghs_{}", word(&seed, 36)),
        TokenForm::Long => long_token(app, &seed),
        TokenForm::Length(length) => format!("ghs_{}", word(&seed, length.saturating_sub(4))),
    };
    let expires = hub.now() + TOKEN_LIVES;
    let shown: Option<Vec<Value>> = repositories
        .as_ref()
        .map(|some| state.repos.values().filter(|repo| some.contains(&repo.id)).map(|repo| shapes::repository(&hub.url, repo)).collect());
    let selection = if repositories.is_none() && there.repositories.is_none() { "all" } else { "selected" };
    let mut reply = json!({"token": text, "expires_at": moment(expires), "permissions": permissions, "repository_selection": selection});
    if let Some(shown) = shown {
        reply["repositories"] = json!(shown);
    }
    state.tokens.insert(text, Token { installation, expires, permissions, repositories });
    Reply::json(201, &reply)
}

/// The repositories that a token is wanted for; none: all of the installation.
fn chosen(state: &State, there: &Installation, wanted: &Value) -> Result<Option<BTreeSet<u64>>, ()> {
    let names = wanted.get("repositories").and_then(Value::as_array);
    let ids = wanted.get("repository_ids").and_then(Value::as_array);
    if names.is_none() && ids.is_none() {
        return Ok(None);
    }
    let mut some = BTreeSet::new();
    for name in names.into_iter().flatten() {
        let meant = |repo: &&Repo| Some(repo.name.as_str()) == name.as_str() && there.covers(repo);
        some.insert(state.repos.values().find(meant).ok_or(())?.id);
    }
    for id in ids.into_iter().flatten() {
        some.insert(id.as_u64().and_then(|id| state.repos.get(&id)).filter(|repo| there.covers(repo)).ok_or(())?.id);
    }
    Ok(Some(some))
}

fn repositories(hub: &Hub, ask: &Ask, token: &Token) -> Reply {
    let (size, page) = (ask.number("per_page", 30).min(100), ask.number("page", 1).max(1));
    let state = hub.lock();
    let all: Vec<&Repo> = state.repos.values().filter(|repo| state.opens(token, repo)).collect();
    let shown: Vec<Value> = all.iter().skip((page - 1) * size).take(size).map(|repo| shapes::repository(&hub.url, repo)).collect();
    let reply = Reply::json(200, &json!({"total_count": all.len(), "repositories": shown}));
    if page * size >= all.len() {
        return reply;
    }
    let base = format!("{}{}/installation/repositories", hub.url, prefix(ask));
    reply.with("link", format!("<{base}?per_page={size}&page={}>; rel=\"next\"", page + 1))
}

/// `/api/v3`, where that is how it was asked.
fn prefix(ask: &Ask) -> &str {
    ask.header("x-fake-prefix").unwrap_or_default()
}

fn convert(hub: &Arc<Hub>, code: &str) -> Reply {
    let now = hub.now();
    // Once, and within an hour.
    let confirmed = hub.lock().manifests.remove(code).filter(|confirmed| confirmed.expires > now);
    let Some(confirmed) = confirmed else { return Reply::not_found() };
    let manifest = &confirmed.manifest;
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
    let permissions = manifest.get("default_permissions").and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default();
    let events: Vec<&str> =
        manifest.get("default_events").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let name = text("/name").unwrap_or("unnamed");
    let id = hub.add_app(name, &confirmed.owner, AppKey::generate(), &permissions, &events);
    let secret = word(&format!("webhook secret {id}"), 40);
    let active = manifest.pointer("/hook_attributes/active").and_then(Value::as_bool).unwrap_or(true);
    let hook = text("/hook_attributes/url").filter(|_| active);
    hub.set_webhook(id, hook.map(|url| Webhook { url: url.to_owned(), secret: Some(secret.clone()) }));
    let state = hub.lock();
    let Some(app) = state.apps.get(&id) else { return Reply::not_found() };
    let mut shown = shapes::app(&hub.url, app);
    shown["client_secret"] = json!(word(&format!("client secret {id}"), 40));
    shown["webhook_secret"] = json!(hook.map(|_| secret));
    shown["pem"] = json!(app.key.pem);
    Reply::json(201, &shown)
}

fn deliveries(hub: &Hub, ask: &Ask, app: u64) -> Reply {
    let size = ask.number("per_page", 30).clamp(1, 100);
    let before = ask.parameter("cursor").and_then(|cursor| cursor.strip_prefix("v1_")?.parse().ok()).unwrap_or(u64::MAX);
    let (now, status) = (hub.now(), ask.parameter("status"));
    let state = hub.lock();
    // "failure" is 400 to 599: what nobody answered is not among them.
    let wanted = |code: u16| match status {
        Some("success") => (200..400).contains(&code),
        Some("failure") => (400..600).contains(&code),
        _ => true,
    };
    let known =
        state.deliveries.iter().rev().filter(|found| found.app == app && found.status.is_some() && now.duration_since(found.at) < KEPT);
    let mut page: Vec<_> = known.filter(|found| found.id < before && wanted(found.status_code)).take(size + 1).collect();
    let more = page.len() > size;
    page.truncate(size);
    let reply = Reply::json(200, &json!(page));
    match page.last() {
        Some(last) if more => {
            let base = format!("{}{}/app/hook/deliveries", hub.url, prefix(ask));
            reply.with("link", format!("<{base}?per_page={size}&cursor=v1_{}>; rel=\"next\"", last.id))
        }
        _ => reply,
    }
}

fn delivery(hub: &Hub, app: u64, number: &str) -> Reply {
    let state = hub.lock();
    let found = state.deliveries.iter().find(|found| found.app == app && found.id.to_string() == number && found.status.is_some());
    let Some(found) = found else { return Reply::not_found() };
    let headers: serde_json::Map<String, Value> = found.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let payload: Value = serde_json::from_slice(&found.payload).unwrap_or_default();
    let mut shown = json!(found);
    shown["request"] = json!({"headers": headers, "payload": payload});
    shown["response"] = json!({"headers": {}, "payload": found.answer});
    Reply::json(200, &shown)
}

fn of_repository(hub: &Hub, ask: &Ask, caller: &Caller, (owner, name): &(&str, &str), rest: &[&str]) -> Reply {
    let Caller::Installation(token) = caller else { return Reply::not_found() };
    let state = hub.lock();
    let Some(repo) = state.repo(owner, name).filter(|repo| state.opens(token, repo)) else { return Reply::not_found() };
    if !is_named(repo, owner, name) {
        return moved(hub, ask, repo, rest);
    }
    if rest.is_empty() {
        return Reply::json(200, &shapes::full_repository(&hub.url, repo));
    }
    if !token.permissions.contains_key("contents") {
        return Reply::error(403, "Resource not accessible by integration");
    }
    let (git, full_name, default) = (repo.git.clone(), repo.full_name(), repo.default_branch.clone());
    let users = state.users.clone();
    drop(state);
    let (home, base, html) = (hub.url.clone(), format!("{}{}/repos/{full_name}", hub.url, prefix(ask)), format!("{}/{full_name}", hub.url));
    let seen = Seen { home, base, html, git, users };
    match rest {
        ["branches", branch @ ..] => seen.branch(&branch.join("/")),
        ["compare", basehead @ ..] => seen.compare(ask, &basehead.join("/")),
        ["commits", reference @ ..] if !reference.is_empty() => seen.commit(ask, &reference.join("/")),
        ["contents", path @ ..] => seen.contents(ask, &path.join("/"), ask.parameter("ref").unwrap_or(&default)),
        _ => Reply::not_found(),
    }
}

/// A repository that somebody may read.
struct Seen {
    home: String,
    base: String,
    html: String,
    git: Git,
    users: std::collections::BTreeMap<String, String>,
}

impl Seen {
    fn about(&self, commit: &Commit) -> Value {
        shapes::commit(&self.home, &self.base, &self.html, &self.users, commit)
    }

    fn branch(&self, name: &str) -> Reply {
        let Some(commit) = self.git.commit(&format!("refs/heads/{name}")) else { return Reply::error(404, "Branch not found") };
        let url = format!("{}/branches/{name}", self.base);
        Reply::json(
            200,
            &json!({
                "name": name, "commit": self.about(&commit), "_links": {"self": url, "html": format!("{}/tree/{name}", self.html)},
                "protected": false, "protection": {"enabled": false, "required_status_checks": {"enforcement_level": "off", "contexts": [], "checks": []}},
                "protection_url": format!("{url}/protection"),
            }),
        )
    }

    fn commit(&self, ask: &Ask, reference: &str) -> Reply {
        if self.git.refs().is_empty() {
            return Reply::error(409, "Git Repository is empty.");
        }
        let Some(commit) = self.git.commit(reference) else {
            return Reply::error(422, &format!("No commit found for SHA: {reference}"));
        };
        if ask.header("accept").is_some_and(|accept| accept.contains("application/vnd.github.sha")) {
            let kind = ("content-type".to_owned(), "application/vnd.github.sha; charset=utf-8".to_owned());
            return Reply { status: 200, headers: vec![kind], body: commit.oid.into_bytes() };
        }
        let mut shown = self.about(&commit);
        shown["files"] = self.files(commit.parents.first().map(String::as_str), &commit.oid);
        Reply::json(200, &shown)
    }

    fn files(&self, from: Option<&str>, to: &str) -> Value {
        let word = |letter: char| match letter {
            'A' => "added",
            'D' => "removed",
            _ => "modified",
        };
        let shown = |file: &Diff| {
            let place = format!("{}/contents/{}?ref={to}", self.base, file.path);
            json!({
                "sha": file.oid, "filename": file.path, "status": word(file.letter), "additions": file.added, "deletions": file.removed,
                "changes": file.added + file.removed, "blob_url": format!("{}/blob/{to}/{}", self.html, file.path),
                "raw_url": format!("{}/raw/{to}/{}", self.html, file.path), "contents_url": place,
            })
        };
        self.git.diff(from, to).iter().take(300).map(shown).collect()
    }

    fn compare(&self, ask: &Ask, basehead: &str) -> Reply {
        let Some((base, head)) = basehead.split_once("...") else { return Reply::not_found() };
        let (Some(base), Some(head)) = (self.git.commit(base), self.git.commit(head)) else { return Reply::not_found() };
        let Some(merge_base) = self.git.merge_base(&base.oid, &head.oid).and_then(|oid| self.git.commit(&oid)) else {
            return Reply::error(404, &format!("No common ancestor between {} and {}.", base.oid, head.oid));
        };
        let ahead = self.git.count(&format!("{}..{}", base.oid, head.oid));
        let behind = self.git.count(&format!("{}..{}", head.oid, base.oid));
        let status = match (ahead, behind) {
            (0, 0) => "identical",
            (_, 0) => "ahead",
            (0, _) => "behind",
            _ => "diverged",
        };
        let (size, page) = (ask.number("per_page", COMPARED).clamp(1, COMPARED), ask.number("page", 1).max(1));
        // Oldest first; without a page the newest of them are shown.
        let all = self.git.log(&["--reverse", &format!("{}..{}", base.oid, head.oid)]);
        let paged = ask.parameter("page").is_some() || ask.parameter("per_page").is_some();
        let skip = if paged { (page - 1) * size } else { all.len().saturating_sub(size) };
        let commits: Vec<Value> = all.iter().skip(skip).take(size).map(|commit| self.about(commit)).collect();
        let url = format!("{}/compare/{basehead}", self.base);
        let html = format!("{}/compare/{basehead}", self.html);
        let reply = Reply::json(
            200,
            &json!({
                "url": url, "html_url": html, "permalink_url": html, "diff_url": format!("{html}.diff"), "patch_url": format!("{html}.patch"),
                "base_commit": self.about(&base), "merge_base_commit": self.about(&merge_base), "status": status,
                "ahead_by": ahead, "behind_by": behind, "total_commits": all.len(), "commits": commits,
                "files": self.files(Some(&merge_base.oid), &head.oid),
            }),
        );
        if paged && page * size < all.len() {
            reply.with("link", format!("<{url}?per_page={size}&page={}>; rel=\"next\"", page + 1))
        } else {
            reply
        }
    }

    fn contents(&self, ask: &Ask, path: &str, reference: &str) -> Reply {
        let Some(commit) = self.git.commit(reference) else {
            return Reply::error(404, &format!("No commit found for the ref {reference}"));
        };
        let path = path.trim_matches('/');
        let Some(entry) = self.git.entry(&commit.oid, path) else { return Reply::not_found() };
        if entry.kind == "tree" {
            let inside = if path.is_empty() { String::new() } else { format!("{path}/") };
            let all: Vec<Value> = self.git.entries(&commit.oid, &inside).iter().map(|entry| self.entry(entry, reference, None)).collect();
            return Reply::json(200, &json!(all));
        }
        let Some(bytes) = self.git.blob(&entry.oid) else { return Reply::not_found() };
        if ask.header("accept").is_some_and(|accept| accept.contains(".raw")) {
            let kind = ("content-type".to_owned(), "application/vnd.github.raw+json; charset=utf-8".to_owned());
            return Reply { status: 200, headers: vec![kind], body: bytes };
        }
        Reply::json(200, &self.entry(&entry, reference, Some(&bytes)))
    }

    fn entry(&self, entry: &Entry, reference: &str, bytes: Option<&[u8]>) -> Value {
        let kind = match entry.kind.as_str() {
            "tree" => "dir",
            "commit" => "submodule",
            _ => "file",
        };
        let url = format!("{}/contents/{}?ref={reference}", self.base, entry.path);
        let mut shown = json!({
            "type": kind, "name": entry.path.rsplit('/').next(), "path": entry.path, "sha": entry.oid, "url": url,
            "size": bytes.map_or(0, <[u8]>::len), "git_url": format!("{}/git/blobs/{}", self.base, entry.oid),
            "html_url": format!("{}/blob/{reference}/{}", self.html, entry.path), "download_url": null,
        });
        shown["_links"] = json!({"self": url, "git": shown["git_url"], "html": shown["html_url"]});
        if let Some(bytes) = bytes {
            let small = bytes.len() <= INLINE;
            shown["encoding"] = json!(if small { "base64" } else { "none" });
            shown["content"] = json!(if small { lines(bytes, 60) } else { String::new() });
        }
        shown
    }
}

/// A form that a person would see and confirm in the browser; here it is confirmed at once.
pub fn confirm(hub: &Hub, owner: &str, ask: &Ask) -> Reply {
    let form: Vec<(String, String)> = form_urlencoded::parse(&ask.body).into_owned().collect();
    let manifest = form.iter().find(|(name, _)| name == "manifest").and_then(|(_, text)| serde_json::from_str::<Value>(text).ok());
    let redirect = manifest.as_ref().and_then(|manifest| manifest.get("redirect_url")?.as_str().map(str::to_owned));
    let (Some(manifest), Some(redirect)) = (manifest, redirect) else { return Reply::error(422, "The manifest cannot be read.") };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("code", &hub.confirm_manifest(manifest, owner));
    if let Some(state) = ask.parameter("state") {
        query.append_pair("state", state);
    }
    let joint = if redirect.contains('?') { '&' } else { '?' };
    Reply { status: 302, headers: Vec::new(), body: Vec::new() }.with("location", format!("{redirect}{joint}{}", query.finish()))
}

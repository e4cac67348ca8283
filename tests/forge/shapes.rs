//! Things as they stand in answers and events, whole: with every field that GitHub's published descriptions say is always there
//! (`tests/contract` holds them against these). What nobody here has any of is empty.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    git::{Commit, Person},
    model::{ACTIONS, App, Repo, moment},
};

/// A number for a name, always the same.
fn number(name: &str) -> u64 {
    name.bytes().fold(7, |sum, byte| (sum * 31 + u64::from(byte)) % 1_000_003)
}

/// Addresses below one place: the name of a field, and the end of its address.
fn addresses(shown: &mut Value, place: &str, below: &[(&str, &str)]) {
    for (name, end) in below {
        shown[*name] = json!(format!("{place}{end}"));
    }
}

/// A user or an organisation. Of organisations here most addresses are those of a user, as GitHub has them.
pub fn account(base: &str, login: &str, kind: &str) -> Value {
    let id = number(login);
    let mut shown = json!({
        "login": login, "id": id, "node_id": format!("U_{id}"), "type": kind, "site_admin": false, "gravatar_id": "",
        "avatar_url": format!("{base}/avatars/u/{id}?v=4"), "html_url": format!("{base}/{login}"),
    });
    let below = [
        ("url", ""),
        ("followers_url", "/followers"),
        ("following_url", "/following{/other_user}"),
        ("gists_url", "/gists{/gist_id}"),
        ("starred_url", "/starred{/owner}{/repo}"),
        ("subscriptions_url", "/subscriptions"),
        ("organizations_url", "/orgs"),
        ("repos_url", "/repos"),
        ("events_url", "/events{/privacy}"),
        ("received_events_url", "/received_events"),
    ];
    addresses(&mut shown, &format!("{base}/users/{login}"), &below);
    shown
}

/// What a repository leads to, below its address in the API.
const LEADS_TO: [(&str, &str); 37] = [
    ("url", ""),
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
];

/// A repository where it is beside the matter.
pub fn small_repository(base: &str, repo: &Repo) -> Value {
    let full_name = repo.full_name();
    let mut shown = json!({
        "id": repo.id, "node_id": format!("R_{}", repo.id), "name": repo.name, "full_name": full_name, "private": true,
        "owner": account(base, &repo.owner, "Organization"), "html_url": format!("{base}/{full_name}"), "description": null,
        "fork": false,
    });
    addresses(&mut shown, &format!("{base}/repos/{full_name}"), &LEADS_TO);
    shown
}

/// A repository in lists and events.
pub fn repository(base: &str, repo: &Repo) -> Value {
    let (full_name, created) = (repo.full_name(), moment(repo.created));
    let mut shown = small_repository(base, repo);
    let more = json!({
        "clone_url": format!("{base}/{full_name}.git"), "git_url": format!("git:{base}/{full_name}.git"),
        "ssh_url": format!("git@127.0.0.1:{full_name}.git"), "svn_url": format!("{base}/{full_name}"), "mirror_url": null,
        "default_branch": repo.default_branch, "archived": false, "disabled": false, "visibility": "private", "is_template": false,
        "created_at": created, "updated_at": created, "pushed_at": created, "homepage": null, "language": null, "license": null,
        "topics": [], "size": 0, "has_issues": true, "has_projects": true, "has_downloads": true, "has_wiki": true,
        "has_pages": false, "has_discussions": false, "allow_forking": false, "web_commit_signoff_required": false,
        "forks": 0, "forks_count": 0, "open_issues": 0, "open_issues_count": 0, "stargazers_count": 0, "watchers": 0,
        "watchers_count": 0,
    });
    extend(&mut shown, more);
    shown
}

/// A repository that was asked for.
pub fn full_repository(base: &str, repo: &Repo) -> Value {
    let mut shown = repository(base, repo);
    (shown["network_count"], shown["subscribers_count"]) = (json!(0), json!(0));
    shown
}

/// Gives it more fields.
pub fn extend(shown: &mut Value, more: Value) {
    if let (Value::Object(shown), Value::Object(more)) = (shown, more) {
        shown.extend(more);
    }
}

/// An app of this GitHub.
pub fn app(base: &str, app: &App) -> Value {
    json!({
        "id": app.id, "slug": app.slug, "node_id": format!("A_{}", app.id), "client_id": app.client_id, "name": app.name,
        "owner": account(base, &app.owner, "Organization"), "description": null, "external_url": base,
        "html_url": format!("{base}/apps/{}", app.slug), "created_at": moment(app.created), "updated_at": moment(app.created),
        "permissions": app.permissions, "events": app.events,
    })
}

/// The id of the app that writes checks under that slug.
pub fn app_id(slug: &str) -> u64 {
    if slug == ACTIONS { 15_368 } else { slug.bytes().fold(11, |sum, byte| (sum * 31 + u64::from(byte)) % 900_007) }
}

/// An app that writes checks, of which nothing but its slug is known.
pub fn writer(base: &str, slug: &str, since: &str) -> Value {
    let (id, permissions) = (app_id(slug), Map::new());
    json!({
        "id": id, "slug": slug, "node_id": format!("A_{id}"), "name": slug, "owner": account(base, slug, "Organization"),
        "description": null, "external_url": base, "html_url": format!("{base}/apps/{slug}"), "created_at": since,
        "updated_at": since, "permissions": permissions, "events": [],
    })
}

/// A commit of a repository whose address in the API is `api` and whose page is `html`.
pub fn commit(base: &str, api: &str, html: &str, users: &BTreeMap<String, String>, commit: &Commit) -> Value {
    let person = |person: &Person| json!({"name": person.name, "email": person.email, "date": moment(person.at)});
    let user = |person: &Person| users.get(&person.email).map_or(Value::Null, |login| account(base, login, "User"));
    let parent = |oid: &String| json!({"sha": oid, "url": format!("{api}/commits/{oid}"), "html_url": format!("{html}/commit/{oid}")});
    let oid = &commit.oid;
    json!({
        "sha": oid, "node_id": format!("C_{oid}"),
        "commit": {
            "author": person(&commit.author), "committer": person(&commit.committer), "message": commit.message,
            "tree": {"sha": commit.tree, "url": format!("{api}/git/trees/{}", commit.tree)},
            "url": format!("{api}/git/commits/{oid}"), "comment_count": 0,
            "verification": {"verified": false, "reason": "unsigned", "signature": null, "payload": null, "verified_at": null},
        },
        "url": format!("{api}/commits/{oid}"), "html_url": format!("{html}/commit/{oid}"),
        "comments_url": format!("{api}/commits/{oid}/comments"),
        "author": user(&commit.author), "committer": user(&commit.committer),
        "parents": commit.parents.iter().map(parent).collect::<Vec<_>>(),
    })
}

/// A commit as it stands in suites and runs.
pub fn small_commit(commit: &Commit) -> Value {
    let person = |person: &Person| json!({"name": person.name, "email": person.email});
    json!({
        "id": commit.oid, "tree_id": commit.tree, "message": commit.message, "timestamp": moment(commit.committer.at),
        "author": person(&commit.author), "committer": person(&commit.committer),
    })
}

/// A workflow of Actions.
pub fn workflow(api: &str, html: &str, name: &str, since: &str) -> Value {
    let id = number(name);
    json!({
        "id": id, "node_id": format!("W_{id}"), "name": name, "path": format!(".github/workflows/{name}.yaml"), "state": "active",
        "created_at": since, "updated_at": since, "url": format!("{api}/actions/workflows/{id}"),
        "html_url": format!("{html}/blob/main/.github/workflows/{name}.yaml"),
        "badge_url": format!("{html}/workflows/{name}/badge.svg"),
    })
}

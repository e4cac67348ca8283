//! GraphQL over the model: any document that fits the schema, field by field; what does not fit is an error, as at GitHub.
//!
//! Parsing, validation, fragments, variables and what a null does to its parent are `apollo-compiler`'s. Here is what each
//! field says.

use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use apollo_compiler::{
    ExecutableDocument, Schema,
    request::coerce_variable_values,
    resolvers::{Execution, FieldError, ObjectValue, ResolveInfo, ResolvedValue},
    response::{JsonMap, JsonValue},
    validation::Valid,
};
use serde_json::{Value, json};

use super::{
    api::Reply,
    cost::{self, Asked, MAX_NODES},
    git::{Commit, Git, Person},
    hub::Hub,
    limits::Bucket,
    model::{Pull, Repo, Status, Suite, Token, moment},
    shapes,
};

static SCHEMA: LazyLock<Valid<Schema>> =
    LazyLock::new(|| Schema::parse_and_validate(include_str!("schema.graphql"), "schema.graphql").expect("the schema of the fake"));

/// Queries that fit the schema, as they were sent: a sweep sends the same again and again, and to validate a hundred aliases takes a
/// hundred times as long as to answer them.
static PREPARED: LazyLock<Mutex<VecDeque<Known>>> = LazyLock::new(Mutex::default);
type Known = (Query, Arc<Prepared>);
/// How many of them.
const REMEMBERED: usize = 64;

/// Around the type of an error, before its message, on the way through the executor (which writes words of its own before it).
const TYPED: char = '\u{1}';
/// What a connection gives at most.
const PAGE: i64 = 100;

/// A request as it came.
#[derive(Clone, PartialEq)]
pub struct Query {
    text: String,
    operation: Option<String>,
    variables: Value,
}

/// A query that fits the schema.
pub struct Prepared {
    document: Valid<ExecutableDocument>,
    operation: Option<String>,
    variables: Valid<JsonMap>,
    pub asked: Asked,
}

impl Query {
    pub fn read(body: &[u8]) -> Result<Self, Reply> {
        let value: Value = serde_json::from_slice(body).map_err(|_| Reply::error(400, "Problems parsing JSON"))?;
        let text = value.get("query").and_then(Value::as_str);
        let Some(text) = text else { return Err(Reply::error(400, "A query attribute must be specified and must be a string.")) };
        Ok(Self {
            text: text.to_owned(),
            operation: value.get("operationName").and_then(Value::as_str).map(str::to_owned),
            variables: value.get("variables").filter(|given| !given.is_null()).cloned().unwrap_or_else(|| json!({})),
        })
    }

    /// # Errors
    /// The whole answer, when the query does not fit the schema or asks for too much.
    pub fn prepare(&self) -> Result<Arc<Prepared>, Value> {
        let known = || PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, prepared)) = known().iter().find(|(query, _)| query == self) {
            return Ok(Arc::clone(prepared));
        }
        let prepared = Arc::new(self.fits()?);
        let mut known = known();
        known.truncate(REMEMBERED - 1);
        known.push_front((self.clone(), Arc::clone(&prepared)));
        Ok(prepared)
    }

    fn fits(&self) -> Result<Prepared, Value> {
        let document = ExecutableDocument::parse_and_validate(&SCHEMA, &self.text, "query.graphql").map_err(|wrong| {
            let errors: Vec<Value> = wrong.errors.iter().map(|diagnostic| json!(diagnostic.to_json())).collect();
            json!({"errors": errors})
        })?;
        let refused = |message: String| json!({"errors": [{"message": message}]});
        let operation = document.operations.get(self.operation.as_deref()).map_err(|error| refused(error.message().to_string()))?;
        let raw: JsonMap = serde_json::from_value(self.variables.clone()).map_err(|error| refused(error.to_string()))?;
        let variables = coerce_variable_values(&SCHEMA, operation, &raw).map_err(|error| refused(error.message().to_string()))?;
        let asked = cost::asked(&document, operation, &variables);
        if asked.nodes > MAX_NODES {
            let message =
                format!("This query requests up to {} possible nodes which exceeds the maximum limit of {MAX_NODES}.", asked.nodes);
            return Err(json!({"errors": [{"type": "MAX_NODE_LIMIT_EXCEEDED", "message": message}]}));
        }
        Ok(Prepared { document, operation: self.operation.clone(), variables, asked })
    }
}

impl Prepared {
    /// The answer: data, and beside it what could not be had.
    pub fn execute(&self, hub: &Arc<Hub>, token: &Token, bucket: &Bucket) -> Value {
        let world = World { hub: Arc::clone(hub), token: token.clone(), bucket: *bucket, asked: self.asked };
        let root = Object { world: Arc::new(world), it: It::Query };
        let done = Execution::new(&SCHEMA, &self.document)
            .operation_name(self.operation.as_deref())
            .and_then(|execution| execution.coerced_variable_values(&self.variables).execute_sync(&root));
        let mut answer = match done {
            Ok(response) => json!(response),
            Err(error) => return json!({"errors": [{"message": error.message().to_string()}]}),
        };
        for error in answer.get_mut("errors").and_then(Value::as_array_mut).into_iter().flatten() {
            let text = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
            let mut parts = text.splitn(3, TYPED).skip(1);
            let (Some(kind), Some(message)) = (parts.next(), parts.next()) else { continue };
            (error["type"], error["message"]) = (json!(kind), json!(message));
        }
        answer
    }
}

fn wrong(kind: &str, message: &str) -> FieldError {
    FieldError { message: format!("{TYPED}{kind}{TYPED}{message}") }
}

/// What every field may look at.
struct World {
    hub: Arc<Hub>,
    token: Token,
    bucket: Bucket,
    asked: Asked,
}

/// A repository while a query looks at it.
#[derive(Clone)]
struct Place {
    id: u64,
    name: String,
    html: String,
    git: Git,
}

#[derive(Clone)]
struct Object {
    world: Arc<World>,
    it: It,
}

/// What an object is. Whatever needs no second look is [`It::Plain`]: JSON that knows its `__typename`.
#[derive(Clone)]
enum It {
    Query,
    Repository(Place),
    Ref(Place, String, String),
    Comparison(Place, String, String),
    Object(Place, &'static str, String),
    Commit(Place, Box<Commit>),
    Pull(Place, Box<Pull>),
    Suite(Box<Suite>),
    Status(String, Vec<Status>),
    Connection(&'static str, Vec<It>, Value),
    Plain(Value),
}

type Said<'a> = Result<ResolvedValue<'a>, FieldError>;

impl ObjectValue for Object {
    fn type_name(&self) -> &str {
        match &self.it {
            It::Query => "Query",
            It::Repository(_) => "Repository",
            It::Ref(..) => "Ref",
            It::Comparison(..) => "Comparison",
            It::Object(_, kind, _) | It::Connection(kind, ..) => kind,
            It::Commit(..) => "Commit",
            It::Pull(..) => "PullRequest",
            It::Suite(_) => "CheckSuite",
            It::Status(..) => "Status",
            It::Plain(value) => value.get("__typename").and_then(Value::as_str).unwrap_or_default(),
        }
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Said<'a> {
        let field = Field { name: info.field_name(), arguments: info.arguments() };
        let plain = match &self.it {
            It::Query => return self.query(&field),
            It::Repository(place) => return self.repository(place, &field),
            It::Ref(place, name, oid) => return Ok(self.reference(place, name, oid, &field)),
            It::Comparison(place, base, head) => return self.comparison(place, base, head, &field),
            It::Object(place, kind, oid) => return self.object(place, kind, oid, &field),
            It::Commit(place, commit) => return self.commit(place, commit, &field),
            It::Pull(place, pull) => return self.pull(place, pull, &field),
            It::Suite(suite) => return self.suite(suite, &field),
            It::Status(oid, all) => status(oid, all, &field),
            It::Connection(_, nodes, about) => {
                if field.name == "nodes" {
                    return Ok(self.list(nodes.clone()));
                }
                about.get(field.name).cloned().unwrap_or_default()
            }
            It::Plain(value) => value.get(field.name).cloned().unwrap_or_default(),
        };
        Ok(self.value(plain))
    }
}

/// What is asked of an object.
struct Field<'a> {
    name: &'a str,
    arguments: &'a JsonMap,
}

impl Field<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.arguments.get(name)?.as_str()
    }

    /// `first`, which every connection wants, and where `after` points to.
    fn page(&self) -> Result<(usize, usize), FieldError> {
        let name = self.name;
        let Some(first) = self.arguments.get("first").and_then(JsonValue::as_i64) else {
            let message = format!("You must provide a `first` or `last` value to properly paginate the `{name}` connection.");
            return Err(wrong("MISSING_PAGINATION_BOUNDARIES", &message));
        };
        if first > PAGE {
            let message = format!("Requesting {first} records on the `{name}` connection exceeds the `first` limit of {PAGE} records.");
            return Err(wrong("EXCESSIVE_PAGINATION", &message));
        }
        let Ok(first) = usize::try_from(first) else {
            return Err(wrong("ARGUMENT_LIMIT", &format!("`first` on the `{name}` connection cannot be less than zero.")));
        };
        let Some(after) = self.text("after") else { return Ok((first, 0)) };
        // As GitHub's cursors of history: something, a blank, and the place of the last one.
        let place = after.rsplit(' ').next().and_then(|place| place.parse::<usize>().ok());
        place
            .map(|place| (first, place + 1))
            .ok_or_else(|| wrong("INVALID_CURSOR_ARGUMENTS", &format!("`{after}` does not appear to be a valid cursor.")))
    }
}

impl World {
    /// # Errors
    /// When the token has not that permission.
    fn may(&self, permission: &str) -> Result<(), FieldError> {
        let has = self.token.permissions.contains_key(permission);
        if has { Ok(()) } else { Err(wrong("FORBIDDEN", "Resource not accessible by integration")) }
    }

    /// What is remembered of a repository, if it is still there.
    fn look<T>(&self, place: &Place, look: impl FnOnce(&Repo) -> T) -> Option<T> {
        self.hub.lock().repos.get(&place.id).map(look)
    }
}

impl Object {
    fn make<'a>(&self, it: It) -> ResolvedValue<'a> {
        ResolvedValue::object(Self { world: Arc::clone(&self.world), it })
    }

    fn maybe<'a>(&self, it: Option<It>) -> ResolvedValue<'a> {
        it.map_or_else(ResolvedValue::null, |it| self.make(it))
    }

    fn list<'a>(&self, all: Vec<It>) -> ResolvedValue<'a> {
        let made: Vec<ResolvedValue<'a>> = all.into_iter().map(|it| self.make(it)).collect();
        ResolvedValue::list(made)
    }

    /// JSON as what the schema says: objects are objects, lists are lists.
    fn value<'a>(&self, value: Value) -> ResolvedValue<'a> {
        match value {
            Value::Object(_) => self.make(It::Plain(value)),
            Value::Array(all) => {
                let made: Vec<ResolvedValue<'a>> = all.into_iter().map(|value| self.value(value)).collect();
                ResolvedValue::list(made)
            }
            leaf => ResolvedValue::leaf(JsonValue::from(leaf)),
        }
    }

    /// A page of what there is; `seed` makes the cursors.
    fn page<'a>(&self, kind: &'static str, seed: &str, field: &Field<'_>, all: Vec<It>) -> Said<'a> {
        let (first, skip) = field.page()?;
        let total = all.len();
        let nodes: Vec<It> = all.into_iter().skip(skip).take(first).collect();
        Ok(self.connection(kind, seed, skip, nodes, total))
    }

    fn connection<'a>(&self, kind: &'static str, seed: &str, skip: usize, nodes: Vec<It>, total: usize) -> ResolvedValue<'a> {
        let end = skip + nodes.len();
        let cursor = |at: usize| (!nodes.is_empty()).then(|| format!("{seed} {at}"));
        let page = json!({
            "__typename": "PageInfo", "hasNextPage": end < total, "hasPreviousPage": skip > 0,
            "startCursor": cursor(skip), "endCursor": cursor(end.saturating_sub(1)),
        });
        let about = json!({"pageInfo": page, "totalCount": total});
        self.make(It::Connection(kind, nodes, about))
    }

    fn query<'a>(&self, field: &Field<'_>) -> Said<'a> {
        if field.name == "rateLimit" {
            let World { bucket, asked, .. } = self.world.as_ref();
            return Ok(self.value(json!({
                "__typename": "RateLimit", "cost": asked.points(), "limit": bucket.limit, "nodeCount": asked.nodes,
                "remaining": bucket.remaining(), "resetAt": moment(bucket.reset), "used": bucket.used,
            })));
        }
        let (owner, name) = (field.text("owner").unwrap_or_default(), field.text("name").unwrap_or_default());
        let follow = field.arguments.get("followRenames").and_then(JsonValue::as_bool).unwrap_or(true);
        let state = self.world.hub.lock();
        let full = format!("{owner}/{name}");
        let found = state.repo(owner, name).filter(|repo| state.opens(&self.world.token, repo));
        let Some(repo) = found.filter(|repo| follow || repo.full_name().eq_ignore_ascii_case(&full)) else {
            return Err(wrong("NOT_FOUND", &format!("Could not resolve to a Repository with the name '{full}'.")));
        };
        let name = repo.full_name();
        let html = format!("{}/{name}", self.world.hub.url);
        Ok(self.make(It::Repository(Place { id: repo.id, name, html, git: repo.git.clone() })))
    }

    fn repository<'a>(&self, place: &Place, field: &Field<'_>) -> Said<'a> {
        let gone = || wrong("NOT_FOUND", &format!("Could not resolve to a Repository with the name '{}'.", place.name));
        let about = self.world.look(place, |repo| (repo.default_branch.clone(), repo.owner.clone(), repo.name.clone(), repo.created));
        let (default, owner, name, created) = about.ok_or_else(gone)?;
        Ok(self.value(match field.name {
            "id" => json!(format!("R_{}", place.id)),
            "databaseId" => json!(place.id),
            "name" => json!(name),
            "nameWithOwner" => json!(place.name),
            "url" => json!(place.html),
            "createdAt" => json!(moment(created)),
            "isArchived" => json!(false),
            "isPrivate" => json!(true),
            "owner" => json!({"__typename": "Organization", "id": format!("O_{owner}"), "login": owner}),
            "pullRequest" => {
                self.world.may("pull_requests")?;
                let number = field.arguments.get("number").and_then(JsonValue::as_u64).unwrap_or(0);
                let pull = self.world.look(place, |repo| repo.pulls.get(&number).cloned()).flatten();
                let message = format!("Could not resolve to a PullRequest with the number of {number}.");
                let pull = pull.ok_or_else(|| wrong("NOT_FOUND", &message))?;
                return Ok(self.make(It::Pull(place.clone(), Box::new(pull))));
            }
            "defaultBranchRef" | "ref" => {
                self.world.may("contents")?;
                return Ok(self.maybe(branch(place, field.text("qualifiedName").unwrap_or(&format!("refs/heads/{default}")))));
            }
            _ => {
                self.world.may("contents")?;
                let oid = match (field.text("oid"), field.text("expression")) {
                    (Some(oid), _) if oid.len() == 40 => place.git.resolve(oid),
                    (None, Some(expression)) => place.git.resolve(expression),
                    _ => return Err(wrong("INVALID", "Either `oid` (all of its 40 digits) or `expression` must be given.")),
                };
                return Ok(self.maybe(oid.and_then(|oid| thing(place, &oid))));
            }
        }))
    }

    fn reference<'a>(&self, place: &Place, name: &str, oid: &str, field: &Field<'_>) -> ResolvedValue<'a> {
        let (prefix, short) = name.match_indices('/').nth(1).map_or(("", name), |(at, _)| name.split_at(at + 1));
        match field.name {
            "id" => self.value(json!(format!("REF_{}_{name}", place.id))),
            "name" => self.value(json!(short)),
            "prefix" => self.value(json!(prefix)),
            "target" => self.maybe(thing(place, oid)),
            _ => {
                let head = field.text("headRef").and_then(|head| place.git.commit(head));
                self.maybe(head.map(|head| It::Comparison(place.clone(), oid.to_owned(), head.oid)))
            }
        }
    }

    fn comparison<'a>(&self, place: &Place, base: &str, head: &str, field: &Field<'_>) -> Said<'a> {
        let ahead = place.git.count(&format!("{base}..{head}"));
        let behind = place.git.count(&format!("{head}..{base}"));
        Ok(self.value(match field.name {
            "id" => json!(format!("COMP_{base}_{head}")),
            "aheadBy" => json!(ahead),
            "behindBy" => json!(behind),
            "status" => json!(match (ahead, behind) {
                (0, 0) => "IDENTICAL",
                (_, 0) => "AHEAD",
                (0, _) => "BEHIND",
                _ => "DIVERGED",
            }),
            _ => {
                let all = place.git.log(&["--reverse", &format!("{base}..{head}")]);
                return self.page("ComparisonCommitConnection", head, field, commits(place, all));
            }
        }))
    }

    fn object<'a>(&self, place: &Place, kind: &str, oid: &str, field: &Field<'_>) -> Said<'a> {
        let bytes = || place.git.blob(oid).unwrap_or_default();
        Ok(self.value(match field.name {
            "target" => return Ok(self.maybe(place.git.resolve(&format!("{oid}^{{}}")).and_then(|oid| thing(place, &oid)))),
            "byteSize" => json!(bytes().len()),
            "isBinary" => json!(bytes().contains(&0)),
            "isTruncated" => json!(false),
            "text" => String::from_utf8(bytes()).ok().filter(|text| !text.contains('\0')).map_or(Value::Null, Value::from),
            name => of_object(place, kind, oid, name),
        }))
    }

    fn commit<'a>(&self, place: &Place, commit: &Commit, field: &Field<'_>) -> Said<'a> {
        let (headline, body) = commit.split_message();
        let oid = &commit.oid;
        Ok(self.value(match field.name {
            "message" => json!(commit.message),
            "messageHeadline" => json!(headline),
            "messageBody" => json!(body),
            "committedDate" => json!(moment(commit.committer.at)),
            "authoredDate" => json!(moment(commit.author.at)),
            "url" => json!(format!("{}/commit/{oid}", place.html)),
            "author" => self.actor(&commit.author),
            "committer" => self.actor(&commit.committer),
            "parents" => {
                let all = commit.parents.iter().filter_map(|oid| place.git.commit(oid)).collect();
                return self.page("CommitConnection", oid, field, commits(place, all));
            }
            "history" => {
                let (first, skip) = field.page()?;
                let page = place.git.log(&[&format!("--skip={skip}"), &format!("--max-count={first}"), oid]);
                return Ok(self.connection("CommitHistoryConnection", oid, skip, commits(place, page), place.git.count(oid)));
            }
            "associatedPullRequests" => {
                self.world.may("pull_requests")?;
                let all = self.world.look(place, |repo| repo.pulls_of(oid)).unwrap_or_default();
                let all = all.into_iter().map(|pull| It::Pull(place.clone(), Box::new(pull))).collect();
                return self.page("PullRequestConnection", oid, field, all);
            }
            "checkSuites" => {
                self.world.may("checks")?;
                let all = self.suites(place, oid).into_iter().map(|suite| It::Suite(Box::new(suite))).collect();
                return self.page("CheckSuiteConnection", oid, field, all);
            }
            "status" => {
                self.world.may("statuses")?;
                let all = self.statuses(place, oid);
                return Ok(self.maybe((!all.is_empty()).then(|| It::Status(oid.clone(), all))));
            }
            "statusCheckRollup" => {
                self.world.may("checks")?;
                self.world.may("statuses")?;
                let state = rollup(&self.suites(place, oid), &self.statuses(place, oid));
                state.map_or(Value::Null, |state| json!({"__typename": "StatusCheckRollup", "id": format!("SCR_{oid}"), "state": state}))
            }
            name => of_object(place, "Commit", oid, name),
        }))
    }

    fn suites(&self, place: &Place, oid: &str) -> Vec<Suite> {
        self.world.look(place, |repo| repo.suites.get(oid).cloned()).flatten().unwrap_or_default()
    }

    fn statuses(&self, place: &Place, oid: &str) -> Vec<Status> {
        self.world.look(place, |repo| repo.latest_statuses(oid)).unwrap_or_default()
    }

    fn actor(&self, person: &Person) -> Value {
        let login = self.world.hub.lock().users.get(&person.email).cloned();
        let user = login.map(|login| {
            let url = format!("{}/{login}", self.world.hub.url);
            json!({"__typename": "User", "id": format!("U_{login}"), "login": login, "url": url})
        });
        json!({"__typename": "GitActor", "name": person.name, "email": person.email, "date": moment(person.at), "user": user})
    }

    fn pull<'a>(&self, place: &Place, pull: &Pull, field: &Field<'_>) -> Said<'a> {
        Ok(self.value(match field.name {
            "id" => json!(format!("PR_{}_{}", place.id, pull.number)),
            "number" => json!(pull.number),
            "title" => json!(pull.title),
            "url" => json!(format!("{}/pull/{}", place.html, pull.number)),
            "merged" => json!(pull.merged.is_some()),
            "mergedAt" => json!(pull.merged.map(moment)),
            "state" => json!(if pull.merged.is_some() { "MERGED" } else { "OPEN" }),
            "headRefName" => json!(pull.head),
            "baseRefName" => json!(pull.base),
            _ => return Ok(self.maybe(pull.merge_commit.as_ref().and_then(|oid| thing(place, oid)))),
        }))
    }

    fn suite<'a>(&self, suite: &Suite, field: &Field<'_>) -> Said<'a> {
        let checks = &suite.checks;
        Ok(self.value(match field.name {
            "id" => json!(format!("CS_{}", suite.id)),
            "databaseId" => json!(suite.id),
            "app" => {
                let id = shapes::app_id(&checks.app);
                json!({"__typename": "App", "id": format!("A_{id}"), "databaseId": id, "slug": checks.app, "name": checks.app})
            }
            "status" => json!(checks.status.to_uppercase()),
            "conclusion" => json!(checks.conclusion.as_ref().map(|word| word.to_uppercase())),
            "createdAt" => json!(moment(suite.created)),
            "updatedAt" => json!(moment(suite.updated)),
            "workflowRun" => {
                let Some(workflow) = &checks.workflow else { return Ok(ResolvedValue::null()) };
                self.world.may("actions")?;
                let of = json!({"__typename": "Workflow", "id": format!("W_{workflow}"), "name": workflow});
                let event = checks.event.as_deref().unwrap_or("push");
                json!({"__typename": "WorkflowRun", "id": format!("WFR_{}", suite.id), "databaseId": suite.id, "event": event, "workflow": of})
            }
            _ => {
                let run = |number: u32| {
                    It::Plain(json!({"__typename": "CheckRun", "id": format!("CR_{}_{number}", suite.id), "name": format!("job {number}"),
                        "status": checks.status.to_uppercase(), "conclusion": checks.conclusion.as_ref().map(|word| word.to_uppercase())}))
                };
                return self.page("CheckRunConnection", &suite.id.to_string(), field, (0..checks.runs).map(run).collect());
            }
        }))
    }
}

fn commits(place: &Place, all: Vec<Commit>) -> Vec<It> {
    all.into_iter().map(|commit| It::Commit(place.clone(), Box::new(commit))).collect()
}

/// `main`, `heads/main`, `refs/heads/main`, or a tag.
fn branch(place: &Place, name: &str) -> Option<It> {
    let mut names = vec![format!("refs/{name}"), format!("refs/heads/{name}"), format!("refs/tags/{name}")];
    if name.starts_with("refs/") {
        names.insert(0, name.to_owned());
    }
    let (oid, name) = names.into_iter().find_map(|name| Some((place.git.tip(&name)?, name)))?;
    Some(It::Ref(place.clone(), name, oid))
}

/// The object of that id, as what it is.
fn thing(place: &Place, oid: &str) -> Option<It> {
    let kind = match place.git.kind(oid)?.as_str() {
        "commit" => return Some(It::Commit(place.clone(), Box::new(place.git.commit(oid)?))),
        "tree" => "Tree",
        "blob" => "Blob",
        _ => "Tag",
    };
    Some(It::Object(place.clone(), kind, oid.to_owned()))
}

/// What every object of git says.
fn of_object(place: &Place, kind: &str, oid: &str, field: &str) -> Value {
    match field {
        "oid" => json!(oid),
        "abbreviatedOid" => json!(oid.get(..7)),
        "commitUrl" => json!(format!("{}/commit/{oid}", place.html)),
        _ => json!(format!("{}_{oid}", kind.chars().next().unwrap_or('O'))),
    }
}

fn status(oid: &str, all: &[Status], field: &Field<'_>) -> Value {
    let shown = |status: &Status| {
        json!({"__typename": "StatusContext", "id": format!("SC_{}", status.id), "context": status.context,
            "state": status.state.to_uppercase(), "createdAt": moment(status.created), "description": status.description,
            "targetUrl": status.target_url})
    };
    match field.name {
        "contexts" => all.iter().map(shown).collect(),
        "context" => all.iter().find(|status| Some(status.context.as_str()) == field.text("name")).map_or(Value::Null, shown),
        "state" => json!(rollup(&[], all)),
        _ => json!(format!("S_{oid}")),
    }
}

/// One word for all of it: what is bad before what is not over, and a suite without a run says nothing.
fn rollup(suites: &[Suite], statuses: &[Status]) -> Option<&'static str> {
    let of_suite = |suite: &Suite| match suite.checks.conclusion.as_deref() {
        None => "PENDING",
        Some("success" | "neutral" | "skipped") => "SUCCESS",
        Some(_) => "FAILURE",
    };
    let of_status = |status: &Status| match status.state.as_str() {
        "success" => "SUCCESS",
        "pending" => "PENDING",
        "error" => "ERROR",
        _ => "FAILURE",
    };
    let ran = suites.iter().filter(|suite| suite.checks.runs > 0).map(of_suite);
    let all: Vec<&str> = ran.chain(statuses.iter().map(of_status)).collect();
    ["FAILURE", "ERROR", "PENDING", "SUCCESS"].into_iter().find(|word| all.contains(word))
}

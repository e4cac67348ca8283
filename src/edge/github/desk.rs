//! Who asks for a repository: the installation of the app on its account with a token of its own, or the person.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use octocrab::secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use crate::{clock::Clock, edge::forge::ForgeError, model::source::Repository};

use super::{
    access::{Access, Token},
    budget::{Budget, Meter, limited, silence},
    flight::Flights,
    graphql::Said,
    wire::{Answer, Call, JSON, MOST, Question, Wire, path},
};

/// What a token is asked to allow, each to read. Of these only what the installation was granted: asking for more gets none.
const PERMISSIONS: [&str; 6] = ["actions", "checks", "contents", "metadata", "pull_requests", "statuses"];

/// How long before its end a token is renewed: longer than any call and than our clock is wrong. Of one that lasts less than
/// four times that, a quarter of its life.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// For how long a repository on which the app is not installed is not asked for again: 100 such × 30 an hour = 3,000 of the app's
/// 5,000 calls.
const ABSENT: SignedDuration = SignedDuration::from_mins(2);

/// Calls at the same time; further ones wait for their turn: GitHub bears 100 of one app. A leader that begins with 1,000 branches
/// has read them in 10 s, at 200 ms a call.
const CALLS: usize = 20;

/// Knows who asks, and asks.
pub(super) struct Desk {
    pub(super) wire: Wire,
    pub(super) access: Access,
    clock: Arc<dyn Clock>,
    /// The app about itself, or the person about everything.
    own: Arc<Caller>,
    known: Mutex<Known>,
    lookups: Flights<Arc<Caller>>,
    mints: Flights<Token>,
    turns: Semaphore,
}

#[derive(Default)]
struct Known {
    /// By account in lower case: an app is installed on an account once, for some or all of its repositories.
    accounts: HashMap<String, Arc<Caller>>,
    /// By repository in lower case: not to be asked for again until then.
    absent: HashMap<String, Timestamp>,
}

/// On whose behalf is asked.
pub(super) struct Caller {
    meter: Meter,
    /// None: it is the app about itself, or a person.
    installation: Option<Installation>,
}

struct Installation {
    id: u64,
    permissions: Vec<&'static str>,
    token: Mutex<Option<Token>>,
}

#[derive(Deserialize)]
struct Found {
    id: u64,
    permissions: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Minted {
    token: String,
    expires_at: Timestamp,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("meter", &self.meter).field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Caller {
    fn id(&self) -> Option<u64> {
        self.installation.as_ref().map(|installation| installation.id)
    }
}

impl Installation {
    fn token(&self) -> MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, now: Timestamp) -> Option<Token> {
        self.token().clone().filter(|token| token.renew > now)
    }

    /// Forgets that token, and no newer one that somebody else got meanwhile.
    fn forget(&self, refused: &SecretString) {
        let mut token = self.token();
        if token.as_ref().is_some_and(|token| token.is(refused)) {
            *token = None;
        }
    }
}

impl Desk {
    pub(super) fn new(wire: Wire, access: Access, clock: Arc<dyn Clock>) -> Self {
        let of = if access.app_id().is_some() { "(app)" } else { "(token)" };
        let own = Arc::new(Caller { meter: Meter::new(of), installation: None });
        let (known, lookups, mints) = (Mutex::default(), Flights::default(), Flights::default());
        Self { wire, access, clock, own, known, lookups, mints, turns: Semaphore::new(CALLS) }
    }

    /// The app about itself, or the person.
    pub(super) fn own(&self) -> &Arc<Caller> {
        &self.own
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn budgets(&self) -> Vec<Budget> {
        let now = self.clock.now();
        let installations: BTreeMap<_, _> = self.known().accounts.values().map(|caller| (caller.id(), caller.meter.budget(now))).collect();
        std::iter::once(self.own.meter.budget(now)).chain(installations.into_values()).collect()
    }

    /// Who asks for this repository.
    pub(super) async fn caller(self: &Arc<Self>, repository: &Repository) -> Result<Arc<Caller>, ForgeError> {
        if self.access.app_id().is_none() {
            return Ok(self.own.clone());
        }
        // One question for all of an account at a time, and it is mostly answered for all: 1,000 repositories of one account must not be
        // 1,000 questions, of which GitHub bears 900 a minute. That one of them is not there says nothing of the others.
        let owner = repository.owner.to_ascii_lowercase();
        loop {
            if let Some(found) = self.remembered(repository) {
                return found;
            }
            let (desk, asked) = (self.clone(), repository.clone());
            match self.lookups.join(&owner, || async move { desk.look_up(&asked).await }.boxed()).await {
                Err(ForgeError::Absent { .. }) => {}
                answer => return answer,
            }
        }
    }

    fn remembered(&self, repository: &Repository) -> Option<Result<Arc<Caller>, ForgeError>> {
        let mut known = self.known();
        if let Some(caller) = known.accounts.get(&repository.owner.to_ascii_lowercase()) {
            return Some(Ok(caller.clone()));
        }
        let now = self.clock.now();
        known.absent.retain(|_, until| *until > now);
        known.absent.contains_key(&key(repository)).then(|| Err(ForgeError::Absent { what: repository.to_string() }))
    }

    async fn look_up(self: Arc<Self>, repository: &Repository) -> Result<Arc<Caller>, ForgeError> {
        // Somebody else's question may just have been answered.
        if let Some(found) = self.remembered(repository) {
            return found;
        }
        let route = path(["repos", &repository.owner, &repository.name, "installation"]);
        let question = Question::get(repository.to_string(), route);
        let answer = match self.ask(&self.own, &question).await {
            Err(absent @ ForgeError::Absent { .. }) => {
                let until = self.clock.now().saturating_add(ABSENT).unwrap_or(Timestamp::MAX);
                self.known().absent.insert(key(repository), until);
                return Err(absent);
            }
            answer => answer?,
        };
        let found: Found = serde_json::from_slice(&answer.body).map_err(|error| unreadable(&question.what, &error))?;
        let granted = |permission: &&str| found.permissions.as_ref().is_none_or(|granted| granted.contains_key(*permission));
        let permissions = PERMISSIONS.into_iter().filter(granted).collect();
        let installation = Installation { id: found.id, permissions, token: Mutex::default() };
        let owner = repository.owner.to_ascii_lowercase();
        let caller = Arc::new(Caller { meter: Meter::new(owner.clone()), installation: Some(installation) });
        let mut known = self.known();
        // An account that was renamed is known by both names, and has one budget.
        let same = known.accounts.values().find(|other| other.id() == caller.id()).cloned().unwrap_or(caller);
        Ok(known.accounts.entry(owner).or_insert(same).clone())
    }

    /// Asks on behalf of this caller. A token that is not taken is renewed once.
    pub(super) async fn ask(self: &Arc<Self>, caller: &Arc<Caller>, question: &Question) -> Result<Answer, ForgeError> {
        let proof = self.proof(caller, question).await?;
        let answer = self.send(caller, &proof, question).await?;
        let Some(installation) = caller.installation.as_ref().filter(|_| answer.status == StatusCode::UNAUTHORIZED) else {
            return answer.good(question);
        };
        installation.forget(&proof);
        let proof = self.proof(caller, question).await?;
        let answer = self.send(caller, &proof, question).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            installation.forget(&proof);
        }
        answer.good(question)
    }

    /// Asks GraphQL on behalf of this caller. What it answers may have holes; what is asked for is taken from it part by part.
    pub(super) async fn query(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        what: String,
        document: &str,
        variables: Value,
    ) -> Result<Said, ForgeError> {
        let call = Call::GraphQl(json!({ "query": document, "variables": variables }));
        let question = Question { what, call, accept: JSON, most: MOST };
        let answer = self.ask(caller, &question).await?;
        let said = Said::read(&question.what, &answer.body)?;
        if let Some(spent) = said.spent() {
            caller.meter.spent(&spent);
        }
        if said.limited() {
            let until = silence(&answer.headers, true, self.clock.now());
            caller.meter.close(until);
            return Err(ForgeError::Limited { until });
        }
        said.answered()
    }

    async fn send(&self, caller: &Caller, proof: &SecretString, question: &Question) -> Result<Answer, ForgeError> {
        // Nobody closes it. What was said to those before us is heard after the wait.
        let _turn = self.turns.acquire().await;
        caller.meter.open(question.api(), self.clock.now())?;
        let answer = self.wire.ask(Some(proof), question).await?;
        let now = self.clock.now();
        caller.meter.note(question.api(), &answer.headers, now);
        if let Some(until) = limited(answer.status, &answer.headers, || answer.said(), now) {
            caller.meter.close(until);
            return Err(ForgeError::Limited { until });
        }
        Ok(answer)
    }

    async fn proof(self: &Arc<Self>, caller: &Arc<Caller>, question: &Question) -> Result<SecretString, ForgeError> {
        let now = self.clock.now();
        // Before a token is made for a question that may not be asked.
        caller.meter.open(question.api(), now)?;
        let Some(installation) = &caller.installation else {
            return self.access.proof(now);
        };
        if let Some(token) = installation.fresh(now) {
            return Ok(token.secret);
        }
        let (desk, asker) = (self.clone(), caller.clone());
        let mint = || async move { desk.mint(&asker).await }.boxed();
        self.mints.join(&installation.id.to_string(), mint).await.map(|token| token.secret)
    }

    async fn mint(self: Arc<Self>, caller: &Arc<Caller>) -> Result<Token, ForgeError> {
        let Some(installation) = &caller.installation else {
            return Err(ForgeError::Denied { said: "only an installation has tokens".to_owned() });
        };
        // Somebody else's question may just have been answered.
        if let Some(token) = installation.fresh(self.clock.now()) {
            return Ok(token);
        }
        let permissions: Map<String, Value> = installation.permissions.iter().map(|name| ((*name).to_owned(), "read".into())).collect();
        let route = format!("/app/installations/{}/access_tokens", installation.id);
        let call = Call::Post(route, Some(json!({ "permissions": permissions })));
        let question = Question { what: format!("the app's installation on {}", caller.meter.of()), call, accept: JSON, most: MOST };
        // Not by `ask`, which asks for us.
        let proof = self.access.proof(self.clock.now())?;
        let answer = self.send(&self.own, &proof, &question).await?;
        if matches!(answer.status.as_u16(), 403 | 404 | 422) {
            // Uninstalled, suspended, or granted something else than we know of: the next one looks again.
            self.known().accounts.retain(|_, known| known.id() != caller.id());
        }
        if answer.status == StatusCode::UNPROCESSABLE_ENTITY {
            return Err(ForgeError::Denied { said: format!("{}: {}", question.what, answer.said()) });
        }
        let answer = answer.good(&question)?;
        let now = self.clock.now();
        // Without the words of the reader: they may repeat the token.
        let minted: Minted = serde_json::from_slice(&answer.body)
            .map_err(|_| ForgeError::Unreadable { said: format!("{}: that is no token with an end", question.what) })?;
        let life = minted.expires_at.duration_since(now);
        let renew = minted.expires_at.saturating_sub(MARGIN.min(life / 4)).unwrap_or(now);
        let token = Token { secret: minted.token.into(), renew };
        *installation.token() = Some(token.clone());
        Ok(token)
    }
}

fn key(repository: &Repository) -> String {
    repository.to_string().to_ascii_lowercase()
}

/// That an answer does not fit, and where.
pub(super) fn unreadable(what: &str, error: &dyn fmt::Display) -> ForgeError {
    ForgeError::Unreadable { said: super::wire::words(&format!("{what}: {error}")) }
}

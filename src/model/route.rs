//! A route of the Gateway API: what its rules say about a Service, and what they say when a canary has a share.
//!
//! Rules in, rules out. They are JSON, so that what is newer than our types is kept: of a rule only its `backendRefs` are looked
//! at, and of a copy for those who test, its `matches`. What the owner wrote stands in what we write: where stable has `w·(100 − p)`
//! and the canary `w·p`, the owner's weight was `w`; so nothing has to be remembered, and whoever takes our part out of a rule by
//! hand has the owner's.

use std::{fmt, net::IpAddr};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    template,
    version::{Weight, WorkloadName},
};
pub use crate::api::delivery::RouteKind;
use crate::api::{TRACK_CANARY, TRACK_LABEL};

/// The greatest weight of a backend in the Gateway API, and the factor by which ours are finer than the owner's.
const GREATEST: u64 = 1_000_000;
const FINER: u64 = 100;
/// Rules of one route in the Gateway API.
const RULES: usize = 16;
/// Characters of a Service's name, of what we add to it, and of the digest that keeps names apart that are cut.
const NAME: usize = 63;
const SUFFIX: &str = "-canary";
const DIGEST: usize = 8;
/// The header in which cookies come.
const COOKIE: &str = "Cookie";

/// A route by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName {
    /// Its kind.
    pub kind: RouteKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

/// By what those who test are known: it is set to `canary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Testers {
    /// A header.
    Header(String),
    /// A cookie.
    Cookie(String),
}

impl fmt::Display for Testers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "{name}: {TRACK_CANARY}"),
            Self::Cookie(name) => write!(f, "{COOKIE}: {name}={TRACK_CANARY}"),
        }
    }
}

/// Where a route sends those who ask for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// As its owner wrote it, and nothing of ours is on it.
    Left,
    /// As its owner wrote it, with our mark on it: somebody wrote it back, or it cannot be shared.
    Stable,
    /// The canary has a share.
    Shared {
        /// Of everybody.
        weight: Weight,
        /// And all of these.
        testers: Option<Testers>,
    },
}

impl Course {
    /// Nobody to the canary, which is still named: a data plane that hears of its rules and of its backends one after the other must
    /// not look for one that it has just let go (seen: 503 "no cluster" for some milliseconds on a busy machine).
    pub const CLOSED: Self = Self::Shared { weight: Weight::ZERO, testers: None };

    /// The canary's share of everybody.
    #[must_use]
    pub fn weight(&self) -> Weight {
        match self {
            Self::Left | Self::Stable => Weight::ZERO,
            Self::Shared { weight, .. } => *weight,
        }
    }

    /// Nobody reaches the canary by it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Left | Self::Stable) || *self == Self::CLOSED
    }
}

/// A route of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Which.
    pub name: RouteName,
    /// Of the object now.
    pub uid: String,
    /// The workload that is reached by it.
    pub workload: WorkloadName,
    /// The Service of that workload that its rules name.
    pub service: String,
    /// Where it sends people; none: somebody has changed what we wrote, and it is neither the owner's nor ours.
    pub course: Option<Course>,
    /// The greatest share of everybody that any of its rules gives the canary, whoever wrote it.
    pub most: Weight,
    /// Since when it stands as we wrote it last.
    pub since: Option<Timestamp>,
    /// It is not as we wrote it last, and who was it.
    pub changed_by: Option<String>,
    /// Why the canary cannot have a share by it, if so.
    pub unfit: Option<Unfit>,
    /// Why those who test cannot be told apart by it, if so.
    pub no_testers: Option<Unfit>,
    /// What those say who serve it.
    pub word: Word,
    /// Why none of its Gateways takes requests, if so.
    pub closed: Option<String>,
    /// A write of ours is still listed as owner of fields.
    pub owns_fields: bool,
    /// Where a Gateway takes requests for it; none: that is not known, or it is not looked at, for no rollout is on its way.
    pub edge: Option<Edge>,
}

/// Where a Gateway takes requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// At these addresses.
    pub addresses: Vec<IpAddr>,
    /// Under these names, where it says no address.
    pub names: Vec<String>,
    /// At this port.
    pub port: u16,
    /// With TLS.
    pub https: bool,
    /// For this host; none: for any, or for a pattern alone.
    pub host: Option<String>,
}

impl Route {
    /// Those who serve it have read it as it stands now. That they serve it so is not said; but where they have not read it, they
    /// serve it as it stood before.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self.word {
            Word::Taken | Word::Silent => true,
            Word::Stale | Word::Refused(_) => self.course == Some(Course::Left),
        }
    }
}

/// What those say who serve a route. Good words prove nothing: they say that it was read, not that it is served so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is taken as it stands.
    Taken,
    /// It is taken as it stood before.
    Stale,
    /// Nobody has said anything.
    Silent,
    /// It is refused, and why.
    Refused(String),
}

/// The Service in front of the canary, beside the one that the owner made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryService {
    /// Its name.
    pub name: String,
    /// Of the object now.
    pub uid: String,
    /// The Service that it stands beside.
    pub service: String,
    /// It is on its way out.
    pub deleting: bool,
    /// Its ports and selector are those that it should have.
    pub current: bool,
    /// The routes that lead to it, or will.
    pub routes: Vec<RouteName>,
    /// Names of pods that are ready in its `EndpointSlices`.
    pub routable: Vec<String>,
}

/// Why a route cannot do what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// None of its rules leads there.
    #[error("none of its rules sends anybody to Service {0}; name that Service in backendRefs, or take the route out of routeRefs")]
    NoRule(String),
    /// Its numbers leave no room for finer ones.
    #[error("the weight {0} in its rules is above {most}, so it cannot be shared out in percent; write smaller ones", most = GREATEST / FINER)]
    Heavy(u64),
    /// A rule more for each.
    #[error("its {0} rules leave no room for those of testers: a route has at most {RULES}")]
    Full(usize),
    /// The owner's own rules look at it.
    #[error("its rules match {0} themselves")]
    Taken(String),
}

/// A Service and the one in front of its canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Where they are. A backend elsewhere is another one.
    pub namespace: &'a str,
    /// The owner's.
    pub stable: &'a str,
    /// Ours.
    pub canary: &'a str,
}

/// The name of the Service in front of the canary.
#[must_use]
pub fn canary_service(stable: &str) -> String {
    if stable.len() + SUFFIX.len() <= NAME {
        return format!("{stable}{SUFFIX}");
    }
    let kept: String = stable.chars().take(NAME - SUFFIX.len() - DIGEST - 1).collect();
    let digest: String = template::digest(stable).chars().take(DIGEST).collect();
    format!("{kept}-{digest}{SUFFIX}")
}

/// Selector and ports of the Service in front of the canary, from those of the owner's as its owner wrote it.
#[must_use]
pub fn canary_shape(spec: &Value) -> Value {
    let mut selector: Map<String, Value> = spec.get("selector").and_then(Value::as_object).cloned().unwrap_or_default();
    selector.remove(crate::api::POD_TEMPLATE_HASH);
    selector.insert(TRACK_LABEL.to_owned(), json!(TRACK_CANARY));
    let mut ports = spec.get("ports").cloned().unwrap_or_default();
    for port in ports.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        // A node's port is the one Service's that was given it.
        port.remove("nodePort");
    }
    json!({"selector": selector, "ports": ports})
}

impl Pair<'_> {
    /// The rules on that course. Also of rules that somebody has changed meanwhile.
    ///
    /// # Errors
    /// When they cannot be on that course.
    pub fn rules(&self, rules: &Value, course: &Course) -> Result<Value, Unfit> {
        let home = self.home(rules);
        let Course::Shared { weight, testers } = course else { return Ok(Value::Array(home)) };
        let mut made = Vec::new();
        for rule in &home {
            if !self.leads(rule) {
                made.push(rule.clone());
                continue;
            }
            if let Some(testers) = testers {
                made.push(self.for_testers(rule, testers)?);
            }
            made.push(self.shared(rule, *weight)?);
        }
        match made.len() {
            _ if !home.iter().any(|rule| self.leads(rule)) => Err(Unfit::NoRule(self.stable.to_owned())),
            many if many > RULES.max(home.len()) => Err(Unfit::Full(home.len())),
            _ => Ok(Value::Array(made)),
        }
    }

    /// The course that these rules are on; none: neither the owner's alone nor one of ours.
    #[must_use]
    pub fn course(&self, rules: &Value) -> Option<Course> {
        let list = rules.as_array().map(Vec::as_slice).unwrap_or_default();
        if !list.iter().any(|rule| self.refers(rule, self.canary)) {
            return Some(Course::Stable);
        }
        let both = |rule: &&Value| self.refers(rule, self.canary) && self.refers(rule, self.stable);
        let sum = |rule: &Value, name| self.backends(rule, name).map(weight_of).sum::<u64>();
        let rule = list.iter().find(both)?;
        let (stable, canary) = (sum(rule, self.stable), sum(rule, self.canary));
        let percent = (canary * 100).checked_div(stable + canary)?;
        let testers = list.iter().find(|rule| self.only_canary(rule)).and_then(testers_of);
        let course = Course::Shared { weight: Weight::new(u8::try_from(percent).ok()?), testers };
        (self.rules(rules, &course).ok().as_ref() == Some(rules)).then_some(course)
    }

    /// The greatest share of everybody that any of these rules gives the canary, rounded up.
    #[must_use]
    pub fn most(&self, rules: &Value) -> Weight {
        let list = rules.as_array().map(Vec::as_slice).unwrap_or_default();
        let share = |rule: &Value| {
            let sum = |name| self.backends(rule, name).map(weight_of).sum::<u64>();
            let (stable, canary) = (sum(self.stable), sum(self.canary));
            let for_testers = self.only_canary(rule) && testers_of(rule).is_some();
            if for_testers { 0 } else { (canary * 100).div_ceil((stable + canary).max(1)) }
        };
        Weight::new(u8::try_from(list.iter().map(share).max().unwrap_or(0)).unwrap_or(100))
    }

    /// Why the canary cannot have a share by these rules, and why testers cannot be told apart by them.
    #[must_use]
    pub fn unfit(&self, rules: &Value, testers: Option<&Testers>) -> (Option<Unfit>, Option<Unfit>) {
        let any = Weight::new(1);
        let shared = |testers: Option<&Testers>| self.rules(rules, &Course::Shared { weight: any, testers: testers.cloned() }).err();
        let unfit = shared(None);
        let no_testers = testers.filter(|_| unfit.is_none()).and_then(|testers| shared(Some(testers)));
        (unfit, no_testers)
    }

    /// The owner's rules: without ours, and with the owner's weights in theirs.
    fn home(&self, rules: &Value) -> Vec<Value> {
        let list = rules.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|rule| self.owners(rule)).collect()
    }

    fn owners(&self, rule: &Value) -> Option<Value> {
        if self.only_canary(rule) {
            if testers_of(rule).is_some() {
                return None;
            }
            // Somebody took the owner's Service out of a rule of ours: it comes back, for a canary goes away one day.
            return Some(with_backends(rule, |backend| self.is(backend, self.canary).then(|| renamed(backend, self.stable))));
        }
        if !self.refers(rule, self.canary) {
            return Some(rule.clone());
        }
        let canary = |port: Option<&Value>| {
            self.backends(rule, self.canary).filter(|b| b.get("port") == port).map(weight_of).next().unwrap_or_default()
        };
        let whole = |backend: &Value| {
            let own = weight_of(backend);
            if self.is(backend, self.stable) { own + canary(backend.get("port")) } else { own }
        };
        let backends = || rule.get("backendRefs").and_then(Value::as_array).into_iter().flatten();
        let finer = backends().filter(|b| !self.is(b, self.canary)).all(|b| whole(b) % FINER == 0);
        let mut rule_of_owner = with_backends(rule, |_| None);
        let kept: Vec<Value> =
            backends().filter(|b| !self.is(b, self.canary)).map(|b| weighing(b, if finer { whole(b) / FINER } else { whole(b) })).collect();
        if let Some(object) = rule_of_owner.as_object_mut() {
            object.insert("backendRefs".to_owned(), Value::Array(kept));
        }
        Some(rule_of_owner)
    }

    /// The rule with stable's part of it shared out.
    fn shared(&self, rule: &Value, share: Weight) -> Result<Value, Unfit> {
        let share = u64::from(share.percent());
        let mut backends = Vec::new();
        for backend in rule.get("backendRefs").and_then(Value::as_array).into_iter().flatten() {
            let own = weight_of(backend);
            if own > GREATEST / FINER {
                return Err(Unfit::Heavy(own));
            }
            if self.is(backend, self.stable) {
                backends.push(weighing(backend, own * (FINER - share)));
                backends.push(weighing(&renamed(backend, self.canary), own * share));
            } else {
                backends.push(weighing(backend, own * FINER));
            }
        }
        let mut made = rule.clone();
        if let Some(object) = made.as_object_mut() {
            object.insert("backendRefs".to_owned(), Value::Array(backends));
        }
        Ok(made)
    }

    /// A copy of the rule for those who test: it wants their mark, too, and leads to the canary alone. More header matches go before
    /// fewer where the paths are alike, so it has to stand beside every rule.
    fn for_testers(&self, rule: &Value, testers: &Testers) -> Result<Value, Unfit> {
        let (header, mark) = mark(testers);
        let mut matches = rule.get("matches").and_then(Value::as_array).cloned().unwrap_or_default();
        if matches.is_empty() {
            matches.push(json!({}));
        }
        for object in matches.iter_mut().filter_map(Value::as_object_mut) {
            let headers = object.entry("headers").or_insert_with(|| json!([]));
            let Some(headers) = headers.as_array_mut() else { continue };
            let same = |h: &Value| h.get("name").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case(header));
            if headers.iter().any(same) {
                return Err(Unfit::Taken(header.to_owned()));
            }
            headers.push(mark.clone());
        }
        let mut made = rule.clone();
        if let Some(object) = made.as_object_mut() {
            // Names of rules are unique.
            object.remove("name");
            object.insert("matches".to_owned(), Value::Array(matches));
            let only = self.backends(rule, self.stable).map(|backend| weighing(&renamed(backend, self.canary), 1));
            object.insert("backendRefs".to_owned(), Value::Array(only.take(1).collect()));
        }
        Ok(made)
    }

    /// The rule sends somebody to stable.
    fn leads(&self, rule: &Value) -> bool {
        self.backends(rule, self.stable).any(|backend| weight_of(backend) > 0)
    }

    fn only_canary(&self, rule: &Value) -> bool {
        self.refers(rule, self.canary) && !self.refers(rule, self.stable)
    }

    fn refers(&self, rule: &Value, service: &str) -> bool {
        self.backends(rule, service).next().is_some()
    }

    fn backends<'r>(&self, rule: &'r Value, service: &str) -> impl Iterator<Item = &'r Value> {
        let backends = rule.get("backendRefs").and_then(Value::as_array).into_iter().flatten();
        backends.filter(move |backend| self.is(backend, service))
    }

    fn is(&self, backend: &Value, service: &str) -> bool {
        let says = |key: &str| backend.get(key).and_then(Value::as_str);
        says("name") == Some(service)
            && says("kind").is_none_or(|kind| kind == "Service")
            && says("group").is_none_or(str::is_empty)
            && says("namespace").is_none_or(|namespace| namespace == self.namespace)
    }
}

/// Absent is 1.
fn weight_of(backend: &Value) -> u64 {
    backend.get("weight").and_then(Value::as_u64).unwrap_or(1)
}

fn weighing(backend: &Value, weight: u64) -> Value {
    with(backend, "weight", json!(weight))
}

fn renamed(backend: &Value, name: &str) -> Value {
    with(backend, "name", json!(name))
}

fn with(object: &Value, key: &str, value: Value) -> Value {
    let mut made = object.clone();
    if let Some(object) = made.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
    made
}

/// The rule with some of its backends replaced.
fn with_backends(rule: &Value, replaced: impl Fn(&Value) -> Option<Value>) -> Value {
    let backends = rule.get("backendRefs").and_then(Value::as_array).into_iter().flatten();
    let made: Vec<Value> = backends.map(|backend| replaced(backend).unwrap_or_else(|| backend.clone())).collect();
    with(rule, "backendRefs", Value::Array(made))
}

/// The header that carries the mark, and what is matched in it.
fn mark(testers: &Testers) -> (&str, Value) {
    match testers {
        Testers::Header(name) => (name, json!({"type": "Exact", "name": name, "value": TRACK_CANARY})),
        Testers::Cookie(name) => {
            (COOKIE, json!({"type": "RegularExpression", "name": COOKIE, "value": format!("{BEFORE}{name}={TRACK_CANARY}{AFTER}")}))
        }
    }
}

/// A cookie stands among others. The whole header is matched.
const BEFORE: &str = "(.*; *)?";
const AFTER: &str = "( *;.*)?";

/// Whose copy a rule is.
fn testers_of(rule: &Value) -> Option<Testers> {
    let headers = rule.pointer("/matches/0/headers").and_then(Value::as_array)?;
    let says = |header: &Value, key: &str| header.get(key).and_then(Value::as_str).map(str::to_owned);
    headers.iter().rev().find_map(|header| {
        let (name, value) = (says(header, "name")?, says(header, "value")?);
        if value == TRACK_CANARY {
            return Some(Testers::Header(name));
        }
        let cookie = value.strip_prefix(BEFORE)?.strip_suffix(AFTER)?.strip_suffix(TRACK_CANARY)?.strip_suffix('=')?;
        Some(Testers::Cookie(cookie.to_owned())).filter(|_| name == COOKIE)
    })
}

#[cfg(test)]
mod tests;

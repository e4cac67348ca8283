//! The validated spec: what the owner asked for, with every default filled in.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    cron_job::PlannedCronJob,
    external::{Address, PlannedExternal},
    logs::LogRules,
    measure::Measures,
    phase::Adopted,
    policy::Limits,
    query::PlannedQuery,
    repo_config::{Permitted, RepoConfig},
    route::{RouteName, Testers},
    source::{Branch, ConfigPlan, ImagePlan, MergePlan, Queue, Repository, Rules, TagPlan, When},
    version::{Weight, WorkloadName},
};
use crate::api::{
    delivery::{
        self, Allowed, Approval, Capacity, ConfigSpec, DeliverySpec, ImageSource, Mode, OnDeadline, OnNoChecks, QueueSpec, StepSpec,
        TestersSpec, WhenSpec, WhenType,
    },
    duration::Span,
    verify::{NoTraffic, Verify},
};

/// Default steps on the way up, after the testers.
const STEPS: [u8; 3] = [5, 25, 50];
/// The header of those who test.
const TESTERS: &str = "X-Haldane-Track";
/// The least time at a step.
pub const BAKE: Duration = Duration::from_mins(2);
const GUARD: Duration = Duration::from_mins(10);
const ROLLBACK_WINDOW: Duration = Duration::from_hours(1);
const DEADLINE: Duration = Duration::from_mins(30);
const SETTLE: Duration = Duration::from_secs(5);
/// Some checks begin when others have ended.
const GRACE: Duration = Duration::from_mins(2);
const IMAGE_TIMEOUT: Duration = Duration::from_mins(15);
/// Of a thousand good versions one may be taken back.
const ONE_IN: u32 = 1000;
/// Somebody else's answer.
const ANSWER: Duration = Duration::from_secs(10);
const CONFIG: &str = ".haldane.yaml";

/// How one app is delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In order of rolling; empty only where the spec contradicts itself before anything was adopted.
    pub workloads: Vec<PlannedWorkload>,
    /// What takes the image of a version when it goes live.
    pub cron_jobs: Vec<PlannedCronJob>,
    /// Where new versions come from.
    pub source: Source,
    /// Testers, if any, then ascending shares; never empty.
    pub steps: Vec<PlannedStep>,
    /// Time at full weight with the old pods warm.
    pub guard: Duration,
    /// How many pods may be there beside stable.
    pub capacity: Capacity,
    /// How long after going live a failing version is taken back by itself.
    pub rollback_window: Duration,
    /// How long a rollout may take until all traffic has moved.
    pub deadline: Duration,
    /// What happens then.
    pub on_deadline: OnDeadline,
    /// How long traffic gets to leave pods before they are changed.
    pub settle: Duration,
    /// What runs once before any pod of a new version starts, in this order.
    pub before: Vec<PlannedCronJob>,
    /// Names of the probes.
    pub probes: Vec<String>,
    /// How the app counts its requests, if it is judged by them.
    pub measures: Option<Arc<Measures>>,
    /// Whose word is waited for.
    pub external: Vec<PlannedExternal>,
    /// What is shared, and beyond which bound it holds.
    pub queries: Vec<PlannedQuery>,
    /// What of its log judges it, if it is read.
    pub logs: Option<Arc<LogRules>>,
    /// Of so many good versions one may be taken back.
    pub one_false_rollback_in: u32,
    /// What happens where users ask too seldom.
    pub no_traffic: NoTraffic,
    /// What no policy lets it go below.
    pub limits: Limits,
    /// Whether it delivers, or only says what it would do.
    pub mode: Mode,
}

/// One workload of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedWorkload {
    /// Its name.
    pub name: WorkloadName,
    /// Containers whose image the source sets; empty: by repository.
    pub containers: Vec<String>,
    /// The Service that is measured; none: the only one that selects its pods.
    pub service: Option<String>,
    /// Its port, by name.
    pub port: Option<String>,
    /// The routes by which that Service is reached; none: the Service way.
    pub routes: Vec<RouteName>,
}

/// Where new versions come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The workload's own template.
    Workload,
    /// Releases made by CI or people name the image.
    Manual,
    /// Commits on a branch name the image.
    Merge(Box<MergePlan>),
    /// A tag that moves names the image.
    Tag(Box<TagPlan>),
}

/// A stop on the way up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The share asked for of everybody; of those who test, everything.
    pub weight: Weight,
    /// It is the step of those who test. They reach the canary at every later step, too.
    pub testers: Option<Testers>,
    /// The least time there.
    pub bake: Duration,
    /// It is entered after a person has approved it.
    pub approval: bool,
}

/// The spec contradicts itself in a way that the schema cannot see.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// Two entries of one name.
    #[error("spec.workloads names {0} twice; name each workload once")]
    Twice(String),
    /// Nothing to deliver.
    #[error("spec.workloads is empty; name at least one Deployment")]
    Empty,
    /// No repository.
    #[error("spec.source.github.repository: {0} is not of the form owner/name")]
    Repository(String),
    /// Steps do not ascend.
    #[error("spec.rollout.steps[{0}].weight is not above the step before; testers come first, and weights must ascend")]
    NotAscending(usize),
    /// What is failed, or whose requests, cannot be read.
    #[error("spec.verify.requests.{0}")]
    Series(String),
    /// Nobody can be asked there.
    #[error("spec.verify.external[{0}].url {1}")]
    External(usize, String),
    /// No bound, or no number.
    #[error("spec.verify.queries[{0}]{1}")]
    Query(usize, String),
    /// A regular expression is none.
    #[error("spec.verify.logs.{0}")]
    Lines(String),
}

impl TryFrom<&DeliverySpec> for Plan {
    type Error = PlanError;

    fn try_from(spec: &DeliverySpec) -> Result<Self, PlanError> {
        match Self::lenient(spec, &[]) {
            (plan, None) => Ok(plan),
            (_, Some(error)) => Err(error),
        }
    }
}

impl Plan {
    /// What can be made of the spec, and what contradicts itself in it: enough to go back and to leave by, not to move forward.
    /// What was adopted is still looked after when the spec names nothing.
    #[must_use]
    pub fn lenient(spec: &DeliverySpec, adopted: &[Adopted]) -> (Self, Option<PlanError>) {
        let mut plan = Self::read(spec);
        let named = spec.source.iter().flat_map(|s| &s.github).map(|github| &github.repository);
        let unnamed = named.into_iter().find(|name| Repository::parse(name).is_none()).cloned().map(PlanError::Repository);
        let unread = measures(spec.verify.as_ref()).and_then(Result::err).map(PlanError::Series);
        let unasked = externals(spec.verify.as_ref()).enumerate().find_map(|(at, made)| Some(PlanError::External(at, made.err()?)));
        let unbound = queries(spec.verify.as_ref()).enumerate().find_map(|(at, made)| Some(PlanError::Query(at, made.err()?)));
        let unmatched = logs(spec.verify.as_ref()).and_then(Result::err).map(PlanError::Lines);
        let flaw = plan.flaw().or(unnamed).or(unread).or(unasked).or(unbound).or(unmatched);
        let mut known = BTreeSet::new();
        plan.workloads.retain(|workload| known.insert(workload.name.clone()));
        plan.steps.sort_by_key(|step| step.weight);
        plan.steps.dedup_by_key(|step| step.weight);
        if plan.workloads.is_empty() {
            plan.workloads = adopted.iter().map(|a| PlannedWorkload::bare(&a.name)).collect();
        }
        (plan, flaw)
    }

    fn read(spec: &DeliverySpec) -> Self {
        let rollout = spec.rollout.clone().unwrap_or_default();
        let span = |given: Option<Span>, default| given.map_or(default, |s| s.0);
        Self {
            workloads: spec
                .workloads
                .iter()
                .map(|w| PlannedWorkload {
                    name: WorkloadName::new(&w.name),
                    containers: w.containers.clone(),
                    service: w.service_ref.as_ref().map(|s| s.name.clone()),
                    port: w.service_ref.as_ref().and_then(|s| s.port.clone()),
                    routes: w.route_refs.iter().map(|r| RouteName { kind: r.kind, name: r.name.clone() }).collect(),
                })
                .collect(),
            cron_jobs: spec.cron_jobs.iter().map(|c| PlannedCronJob { name: c.name.clone(), containers: c.containers.clone() }).collect(),
            source: spec.source.as_ref().map_or(Source::Workload, |named| source(named, spec.config.as_ref())),
            steps: rollout.steps.as_ref().map_or_else(|| usual_steps(spec), |steps| steps.iter().map(PlannedStep::from).collect()),
            guard: span(rollout.guard, GUARD),
            capacity: rollout.capacity.unwrap_or_default(),
            rollback_window: span(rollout.rollback_window, ROLLBACK_WINDOW),
            deadline: span(rollout.deadline, DEADLINE),
            on_deadline: rollout.on_deadline.unwrap_or_default(),
            settle: span(rollout.settle, SETTLE),
            before: rollout.before.into_iter().map(|b| PlannedCronJob { name: b.cron_job_ref.name, containers: b.containers }).collect(),
            probes: spec.verify.iter().flat_map(|v| v.probes.iter().map(|p| p.name.clone())).collect(),
            measures: measures(spec.verify.as_ref()).and_then(Result::ok).map(Arc::new),
            external: externals(spec.verify.as_ref()).filter_map(Result::ok).collect(),
            queries: queries(spec.verify.as_ref()).filter_map(Result::ok).collect(),
            logs: logs(spec.verify.as_ref()).and_then(Result::ok).map(Arc::new),
            one_false_rollback_in: spec.verify.as_ref().and_then(|v| v.one_false_rollback_in).unwrap_or(ONE_IN),
            no_traffic: spec.verify.as_ref().and_then(|v| v.no_traffic).unwrap_or_default(),
            limits: Limits::default(),
            mode: spec.mode.unwrap_or_default(),
        }
    }

    /// The same for a version whose repository sets some of it, as far as that is still allowed.
    #[must_use]
    pub fn with<'a>(&'a self, config: Option<&RepoConfig>) -> Cow<'a, Self> {
        let permitted = match &self.source {
            Source::Merge(plan) => plan.config.as_ref().map(|config| config.permitted),
            Source::Workload | Source::Manual | Source::Tag(_) => None,
        };
        let (Some(config), Some(permitted)) = (config.filter(|config| **config != RepoConfig::default()), permitted) else {
            return Cow::Borrowed(self);
        };
        let mut plan = self.clone();
        if let Some(steps) = config.steps.as_ref().filter(|_| permitted.steps) {
            plan.steps = still_approved(steps.clone(), &self.steps);
            plan.limits.hold(&mut plan.steps);
        }
        if permitted.probes {
            plan.probes.extend(config.probes.iter().filter(|probe| !self.probes.contains(probe)).cloned());
        }
        Cow::Owned(plan)
    }

    fn flaw(&self) -> Option<PlanError> {
        if self.workloads.is_empty() {
            return Some(PlanError::Empty);
        }
        let mut known = BTreeSet::new();
        if let Some(twice) = self.workloads.iter().find(|w| !known.insert(&w.name)) {
            return Some(PlanError::Twice(twice.name.to_string()));
        }
        let fall = self.steps.windows(2).position(|pair| matches!(pair, [before, after] if after.weight <= before.weight));
        fall.map(|at| PlanError::NotAscending(at + 1))
    }
}

/// How the app counts its requests, if it is judged by them; or what of it cannot be read.
fn measures(verify: Option<&Verify>) -> Option<Result<Measures, String>> {
    let verify = verify?;
    verify.requests.as_ref().map(|requests| Measures::read(requests, verify.latency.as_ref()))
}

/// Those whose word is waited for; or what is wrong with where they are asked.
fn externals(verify: Option<&Verify>) -> impl Iterator<Item = Result<PlannedExternal, String>> {
    verify.into_iter().flat_map(|verify| &verify.external).map(|spec| {
        Ok(PlannedExternal {
            name: spec.name.clone(),
            at: spec.at,
            to: Address::parse(&spec.url)?,
            secret: spec.secret_ref.as_ref().map(|secret| (secret.name.clone(), secret.key.clone())),
            within: spec.within.map_or(ANSWER, |span| span.0),
        })
    })
}

/// What is shared and beyond which bound it holds; or what is wrong with that.
fn queries(verify: Option<&Verify>) -> impl Iterator<Item = Result<PlannedQuery, String>> {
    verify.into_iter().flat_map(|verify| &verify.queries).map(PlannedQuery::read)
}

/// What of its log judges a version, if it is read; or which expression is none.
fn logs(verify: Option<&Verify>) -> Option<Result<LogRules, String>> {
    verify?.logs.as_ref().map(LogRules::read)
}

/// The steps of a plan that names none.
fn usual_steps(spec: &DeliverySpec) -> Vec<PlannedStep> {
    let testers = PlannedStep { testers: Some(Testers::Header(TESTERS.to_owned())), ..PlannedStep::share(0) };
    let by_route = spec.workloads.iter().any(|w| !w.route_refs.is_empty());
    by_route.then_some(testers).into_iter().chain(STEPS.map(PlannedStep::share)).collect()
}

impl PlannedWorkload {
    /// One of which nothing but its name is said.
    #[must_use]
    pub fn bare(name: &str) -> Self {
        Self { name: WorkloadName::new(name), containers: Vec::new(), service: None, port: None, routes: Vec::new() }
    }
}

impl PlannedStep {
    /// A share of everybody, for the default time.
    #[must_use]
    pub fn share(percent: u8) -> Self {
        Self { weight: Weight::new(percent), testers: None, bake: BAKE, approval: false }
    }
}

/// The steps of a repository's file, with every approval that the Delivery asks for: before the first step that gives at least as
/// much, or the Delivery's own, where none does.
fn still_approved(mut steps: Vec<PlannedStep>, own: &[PlannedStep]) -> Vec<PlannedStep> {
    for asked in own.iter().filter(|step| step.approval) {
        match steps.iter_mut().find(|step| step.weight >= asked.weight) {
            Some(step) => step.approval = true,
            None => steps.push(asked.clone()),
        }
    }
    steps
}

impl From<&StepSpec> for PlannedStep {
    fn from(step: &StepSpec) -> Self {
        let testers = step.testers.as_ref().map(|by| match (&by.header, &by.cookie) {
            (None, Some(cookie)) => Testers::Cookie(cookie.clone()),
            (header, _) => Testers::Header(header.as_deref().unwrap_or(TESTERS).to_owned()),
        });
        Self {
            weight: Weight::new(step.weight.unwrap_or(0)),
            testers,
            bake: step.bake.map_or(BAKE, |bake| bake.0),
            approval: step.approval == Some(Approval::Required),
        }
    }
}

impl From<&PlannedStep> for StepSpec {
    fn from(step: &PlannedStep) -> Self {
        let testers = step.testers.as_ref().map(|testers| match testers {
            Testers::Header(name) => TestersSpec { header: Some(name.clone()), cookie: None },
            Testers::Cookie(name) => TestersSpec { header: None, cookie: Some(name.clone()) },
        });
        let weight = testers.is_none().then(|| step.weight.percent());
        Self { weight, testers, bake: Some(Span(step.bake)), approval: step.approval.then_some(Approval::Required) }
    }
}

/// Where versions come from. A source that contradicts itself names no image, so what lives goes on.
fn source(spec: &delivery::Source, config: Option<&ConfigSpec>) -> Source {
    let Some(named) = &spec.image else { return Source::Manual };
    let image = ImagePlan {
        repository: named.repository.clone(),
        tag: named.tag.clone(),
        pull_secret: named.pull_secret_ref.as_ref().map(|secret| secret.name.clone()),
        revision_required: named.require_revision_label.unwrap_or_default(),
    };
    let queue = match spec.queue.unwrap_or_default() {
        QueueSpec::Latest => Queue::Latest,
        QueueSpec::Each => Queue::Each,
    };
    let Some(github) = &spec.github else { return Source::Tag(Box::new(TagPlan { image, queue })) };
    let Some(repository) = Repository::parse(&github.repository) else { return Source::Manual };
    Source::Merge(Box::new(MergePlan {
        branch: Branch { repository, name: github.branch.clone() },
        rules: rules(github.when.as_ref(), named),
        image,
        queue,
        config: config.map(|config| ConfigPlan {
            path: config.path.clone().unwrap_or_else(|| CONFIG.to_owned()),
            permitted: Permitted { steps: config.allow.contains(&Allowed::Steps), probes: config.allow.contains(&Allowed::Probes) },
        }),
    }))
}

fn rules(when: Option<&WhenSpec>, image: &ImageSource) -> Rules {
    let span = |given: Option<Span>, default| given.map_or(default, |span| span.0);
    Rules {
        when: match when.map(|w| (w.type_, w)) {
            None | Some((WhenType::Checks, _)) => When::Checks,
            Some((WhenType::Image, _)) => When::Image,
            Some((WhenType::Workflows, w)) => When::Workflows(w.workflows.clone().unwrap_or_default()),
            Some((WhenType::Signal, w)) => When::Signal(w.context.clone().unwrap_or_default()),
        },
        without_checks: when.and_then(|w| w.on_no_checks) == Some(OnNoChecks::Proceed),
        grace: span(when.and_then(|w| w.grace), GRACE),
        image_timeout: span(image.timeout, IMAGE_TIMEOUT),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lenient(spec: serde_json::Value, adopted: &[&str]) -> (Vec<String>, Vec<u8>, Option<PlanError>) {
        let adopted: Vec<Adopted> =
            adopted.iter().map(|name| Adopted { name: (*name).to_owned(), uid: String::new(), was_paused: false }).collect();
        let (plan, flaw) = Plan::lenient(&serde_json::from_value(spec).unwrap(), &adopted);
        let names = plan.workloads.iter().map(|w| w.name.to_string()).collect();
        (names, plan.steps.iter().map(|s| s.weight.percent()).collect(), flaw)
    }

    #[test]
    fn an_approval_of_the_delivery_outlives_the_steps_of_a_repository() {
        let step = |percent, approval| PlannedStep { approval, ..PlannedStep::share(percent) };
        let own = [step(5, false), step(25, true)];
        let steps = |theirs: &[u8]| still_approved(theirs.iter().map(|percent| step(*percent, false)).collect(), &own);
        assert_eq!(steps(&[10, 30, 60]), [step(10, false), step(30, true), step(60, false)]);
        assert_eq!(steps(&[1, 2]), [step(1, false), step(2, false), step(25, true)]);
    }

    #[test]
    fn a_spec_that_contradicts_itself_still_says_whom_it_is_about() {
        let steps = json!({"steps": [{"weight": 50}, {"weight": 10}, {"weight": 50}]});
        assert_eq!(
            lenient(json!({"workloads": [{"name": "web"}], "rollout": steps}), &[]),
            (vec!["web".to_owned()], vec![10, 50], Some(PlanError::NotAscending(1)))
        );
        let (names, _, flaw) = lenient(json!({"workloads": [{"name": "web"}, {"name": "web"}, {"name": "worker"}]}), &[]);
        assert_eq!((names, flaw), (vec!["web".to_owned(), "worker".to_owned()], Some(PlanError::Twice("web".to_owned()))));
        let (names, _, flaw) = lenient(json!({"workloads": []}), &["web"]);
        assert_eq!((names, flaw), (vec!["web".to_owned()], Some(PlanError::Empty)));
        assert_eq!(lenient(json!({"workloads": [{"name": "web"}]}), &["worker"]).2, None);
    }
}

//! A toy of Kubernetes for the rules alone: it carries out effects on an [`Observation`] at once, or a tick later where the
//! order matters. The simulation and the real cluster prove the rest; this is for fast tables.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::delivery::{Capacity, OnDeadline},
    decide::{
        check::check,
        decide,
        judge::{
            book::{Dated, Input, Pair},
            probes::{ProbeTerms, Seen, Turn},
        },
    },
    model::{
        before::{Job, Ran},
        cron_job::CronJob,
        decision::{Decision, Effect, Target, Wait},
        phase::{Phase, Rollout, State, after},
        plan::{Plan, PlannedStep, PlannedWorkload, Source},
        route::{CanaryService, Course, Edge, Route, RouteKind, RouteName, Testers, Word, canary_service},
        template,
        version::{PodHash, ReleaseName, Weight, WorkloadName},
        world::{Canary, Observation, Pin, Pod, Release, ReplicaSet, RestSample, Service, Workload},
    },
};

pub(super) const APP: &str = "shop";

pub(super) fn name() -> WorkloadName {
    WorkloadName::new(APP)
}

pub(super) fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": APP}}, "spec": {"containers": [{"name": "app", "image": format!("r/shop:{image}")}]}})
}

/// A suspended `CronJob` of that image.
pub(super) fn cron_job(name: &str, image: &str) -> CronJob {
    let job = json!({"backoffLimit": 0, "template": template(image)});
    CronJob { name: name.to_owned(), uid: "cj".into(), suspended: true, job, reached_by: None, owns_fields: false }
}

fn pod_hash(template: &Value) -> PodHash {
    PodHash::new(template::hash(template).as_str().chars().take(8).collect::<String>())
}

#[allow(clippy::struct_excessive_bools, reason = "knobs")]
pub(super) struct Toy {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) seen: Observation,
    pub(super) now: Timestamp,
    /// Every effect that was carried out, in short words.
    pub(super) log: Vec<String>,
    /// What the canary answers to a probe.
    pub(super) canary_fails: bool,
    pub(super) stable_fails: bool,
    /// No probe runs.
    pub(super) mute: bool,
    /// Probes run and learn nothing.
    pub(super) silent: bool,
    /// No pod of stable is ready.
    pub(super) stable_down: bool,
    /// The templates that were put in while the gate was open roll only when told.
    pub(super) roll: bool,
    /// Of them that many pods are new, and the rest still old; none: all are new.
    pub(super) part: Option<u32>,
    /// The Service's own selector fits no side any more.
    pub(super) unfit: bool,
    pub(super) last: Option<Decision>,
}

/// The probe that votes.
pub(super) fn voting() -> Vec<ProbeTerms> {
    vec![ProbeTerms { name: "home".into(), ..ProbeTerms::default() }]
}

/// The Service of the app, as its owner wrote it.
fn service() -> Service {
    Service {
        name: APP.into(),
        uid: "s".into(),
        resource_version: "1".into(),
        workload: name(),
        shape: Value::Null,
        pin: Pin::Off,
        pinned_since: None,
        fits: vec![],
        routable: vec![],
        no_switch: None,
        gradual: None,
        owns_fields: false,
    }
}

impl Toy {
    pub(super) fn new(replicas: u32) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let v1 = template("v1");
        let workload = Workload {
            name: name(),
            uid: "u".into(),
            resource_version: "1".into(),
            paused: false,
            gate_marked: false,
            put_back: None,
            replicas,
            max_unavailable: replicas / 4,
            at_once: (replicas / 4).max(1),
            min_ready: Duration::ZERO,
            observed: true,
            stuck: false,
            template: v1.clone(),
            replica_sets: vec![],
            pods: vec![],
            canary: None,
            canary_left: 0,
            last_writer: None,
            refused: None,
            differs: None,
            owns_fields: false,
        };
        let mut toy = Self {
            plan: Plan {
                capacity: Capacity::Full,
                workloads: vec![PlannedWorkload::bare(APP)],
                source: Source::Workload,
                steps: [5, 25, 50].map(|w| PlannedStep { bake: Duration::from_mins(1), ..PlannedStep::share(w) }).to_vec(),
                guard: Duration::from_mins(2),
                rollback_window: Duration::from_hours(1),
                deadline: Duration::from_mins(30),
                on_deadline: OnDeadline::Return,
                settle: Duration::from_secs(5),
                before: vec![],
                cron_jobs: vec![],
                probes: vec!["home".into()],
                measures: None,
                external: vec![],
                queries: vec![],
                logs: None,
                one_false_rollback_in: 1000,
                no_traffic: <_>::default(),
                limits: <_>::default(),
                mode: <_>::default(),
            },
            state: State::new(now),
            seen: Observation { delivery: APP.into(), workloads: vec![workload], services: vec![service()], ..Observation::default() },
            now,
            log: vec![],
            canary_fails: false,
            stable_fails: false,
            mute: false,
            silent: false,
            stable_down: false,
            roll: true,
            part: None,
            unfit: false,
            last: None,
        };
        toy.seen.probes.voting = voting();
        toy.world();
        toy
    }

    pub(super) fn adopted(replicas: u32) -> Self {
        let mut toy = Self::new(replicas);
        toy.until(|t| t.state.phase == Phase::Live && t.quiet());
        toy.log.clear();
        toy
    }

    /// The same, reached by a route.
    pub(super) fn by_route(replicas: u32) -> Self {
        let mut toy = Self::adopted(replicas);
        let name = RouteName { kind: RouteKind::HTTPRoute, name: APP.into() };
        toy.plan.workloads.iter_mut().for_each(|w| w.routes = vec![name.clone()]);
        let header = Testers::Header("X-Haldane-Track".into());
        toy.plan.steps.insert(0, PlannedStep { testers: Some(header), bake: Duration::from_mins(1), ..PlannedStep::share(0) });
        toy.seen.routes = vec![Route {
            name,
            uid: "r".into(),
            workload: self::name(),
            service: APP.into(),
            course: Some(Course::Left),
            most: Weight::ZERO,
            since: None,
            changed_by: None,
            unfit: None,
            no_testers: None,
            word: Word::Taken,
            closed: None,
            owns_fields: false,
            edge: Some(Edge { addresses: vec![[192, 0, 2, 80].into()], ..Edge::default() }),
        }];
        toy
    }

    pub(super) fn workload(&mut self) -> &mut Workload {
        self.seen.workloads.iter_mut().next().unwrap()
    }

    pub(super) fn w(&self) -> &Workload {
        self.seen.workloads.first().unwrap()
    }

    pub(super) fn set_image(&mut self, image: &str) {
        self.workload().template = template(image);
    }

    pub(super) fn quiet(&self) -> bool {
        self.last.as_ref().is_some_and(|d| d.effects.is_empty() && d.wait != Wait::Now)
    }

    pub(super) fn phase(&self) -> &'static str {
        self.state.phase.label()
    }

    pub(super) fn live(&self) -> String {
        self.state.live.as_ref().and_then(|l| self.seen.release(&l.release)).map_or(String::new(), |r| r.version.clone())
    }

    /// Passes, with time going on as the decisions ask, until something is so; at most two virtual hours.
    pub(super) fn until(&mut self, so: impl Fn(&Self) -> bool) {
        let start = self.now;
        while !so(self) {
            assert!(
                after(start, Duration::from_hours(2)) > self.now,
                "not so within two hours; {:?} {:?}",
                self.state.phase,
                self.log.iter().take(40).collect::<Vec<_>>()
            );
            self.pass();
        }
    }

    /// One pass: the world moves, a decision is made, checked and carried out.
    pub(super) fn pass(&mut self) {
        self.world();
        self.probe();
        let decision = decide(&self.plan, &self.state, &self.seen, self.now);
        check(&self.plan, &self.state, &self.seen, &decision, self.now).unwrap();
        for effect in &decision.effects {
            self.carry_out(effect);
        }
        self.state = decision.next.clone();
        let step = match decision.wait {
            Wait::Now => Duration::from_millis(50),
            Wait::Poll => Duration::from_millis(500),
            Wait::Until(at) => Duration::from_millis(u64::try_from(at.duration_since(self.now).as_millis()).unwrap_or(0).clamp(50, 15_000)),
            Wait::Change => Duration::from_secs(15),
        };
        self.last = Some(decision);
        self.now = after(self.now, step);
    }

    fn probe(&mut self) {
        let workload = self.seen.workloads.first();
        let beside = |w: &Workload| w.canary.as_ref().is_some_and(|c| c.ready() > 0);
        let half = |w: &Workload| w.replica_sets.iter().filter(|rs| rs.wanted > 0).count() > 1;
        let asked = self.state.phase.rollout().is_some_and(|r| workload.is_some_and(|w| if r.in_place() { half(w) } else { beside(w) }));
        let in_place = self.state.phase.rollout().is_some_and(Rollout::in_place);
        if in_place && !self.mute && workload.is_some_and(|w| w.rolled_to(&w.template_hash())) {
            let wrong = self.stable_fails.then(|| "GET / answered 500, expected 200".to_owned());
            return self.seen.probes.rest.push(RestSample { at: after(self.now, Duration::from_millis(1)), probe: "home".into(), wrong });
        }
        if !asked || self.mute {
            return;
        }
        let seen = |fails| if fails { Seen::Fail("GET / answered 500, expected 200".into()) } else { Seen::Pass };
        if self.silent {
            let nothing = || Seen::Void("nobody answers".into());
            return self.paired(1, Turn::First, nothing(), nothing());
        }
        let turns = [Turn::First, Turn::AtOnce].into_iter().chain([Turn::Repeat; 4]);
        for (millis, turn) in (1..).zip(turns).take(if self.canary_fails { 6 } else { 1 }) {
            self.paired(millis, turn, seen(self.canary_fails), seen(self.stable_fails));
        }
    }

    fn paired(&mut self, millis: u64, turn: Turn, canary: Seen, stable: Seen) {
        let pair = Pair { probe: "home".into(), turn, canary, stable };
        self.seen.probes.samples.push(Dated { at: after(self.now, Duration::from_millis(millis)), input: Input::Pair(pair) });
    }

    fn pods(&self, prefix: &str, hash: Option<&PodHash>, count: u32) -> Vec<Pod> {
        (0..count)
            .map(|i| Pod {
                name: format!("{prefix}{i}"),
                pod_hash: hash.cloned(),
                created: Some(self.now),
                ready_since: Some(self.now),
                ip: Some("192.0.2.1".into()),
                digests: vec![],
                restarts: 0,
                trouble: None,
            })
            .collect()
    }

    /// What Kubernetes would have done by now.
    fn world(&mut self) {
        let Some(mut workload) = self.seen.workloads.first().cloned() else { return };
        let here = template::hash(&workload.template);
        if !workload.paused && self.roll {
            if workload.replica_set(&here).is_none() {
                workload.replica_sets.push(ReplicaSet {
                    template: here.clone(),
                    pod_hash: pod_hash(&workload.template),
                    wanted: 0,
                    pods: 0,
                    available: 0,
                    raw: workload.template.clone(),
                });
            }
            for rs in &mut workload.replica_sets {
                let new = self.part.map_or(workload.replicas, |part| part.min(workload.replicas));
                rs.wanted = match (rs.template == here, rs.wanted) {
                    (true, _) => new,
                    (false, 0) => 0,
                    (false, _) => workload.replicas - new,
                };
            }
        } else if let Some(active) = workload.replica_sets.iter().find(|rs| rs.wanted > 0).map(|rs| rs.pod_hash.clone()) {
            for rs in &mut workload.replica_sets {
                rs.wanted = if rs.pod_hash == active { workload.replicas } else { rs.wanted };
            }
        }
        let before = std::mem::take(&mut workload.pods);
        for rs in &mut workload.replica_sets {
            (rs.pods, rs.available) = (rs.wanted, rs.wanted);
            let pods = self.pods(rs.pod_hash.as_str(), Some(&rs.pod_hash), rs.wanted);
            let known = |pod: &Pod| before.iter().find(|p| p.name == pod.name);
            workload.pods.extend(pods.into_iter().map(|pod| match known(&pod) {
                Some(known) => {
                    Pod { created: known.created, restarts: known.restarts, ready_since: known.ready_since.or(pod.ready_since), ..pod }
                }
                None => pod,
            }));
        }
        if self.stable_down {
            let old = pod_hash(&template("v1"));
            workload.pods.iter_mut().filter(|p| p.pod_hash.as_ref() == Some(&old)).for_each(|p| p.ready_since = None);
            workload.replica_sets.iter_mut().filter(|rs| rs.pod_hash == old).for_each(|rs| rs.available = 0);
        }
        workload.canary_left = 0;
        if let Some(canary) = &mut workload.canary {
            let had: Vec<Pod> = canary.pods.clone();
            canary.pods = self.pods("c", None, canary.wanted);
            for (pod, old) in canary.pods.iter_mut().zip(had) {
                *pod = old;
            }
            workload.canary_left = canary.wanted;
        }
        let stable: Vec<String> = workload.pods.iter().map(|p| p.name.clone()).collect();
        *self.workload() = workload;
        let fits: Vec<Pin> = self.w().replica_sets.iter().map(|rs| Pin::Stable(rs.pod_hash.clone())).chain([Pin::Canary]).collect();
        let behind: Vec<String> = self.w().canary.iter().flat_map(|c| &c.pods).map(|pod| pod.name.clone()).collect();
        for front in &mut self.seen.canary_services {
            front.routable.clone_from(&behind);
        }
        for service in &mut self.seen.services {
            service.routable.clone_from(&stable);
            service.fits = if self.unfit { vec![] } else { fits.clone() };
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm per effect")]
    fn carry_out(&mut self, effect: &Effect) {
        let now = self.now;
        match effect.clone() {
            Effect::AddFinalizer => self.seen.finalizer = true,
            Effect::RemoveFinalizer => {
                self.seen.finalizer = false;
                self.log.push("finalizer off".into());
            }
            Effect::RecordRelease { name, version, image, templates, .. } => {
                self.log.push(format!("record {version}"));
                let identity = Some(template::identity(&templates));
                self.release(name, version, image, identity, Some(templates));
            }
            Effect::RecordMerge(merge) => {
                self.log.push(format!("merge {}", merge.version));
                self.release(merge.name.clone(), merge.version, merge.image, None, None);
                let made = self.seen.releases.iter_mut().find(|r| r.name == merge.name).unwrap();
                (made.manual, made.place, made.commit) = (false, Some(merge.place), merge.commit.map(|commit| commit.to_string()));
                (made.brought, made.reverts) = ((merge.brought, merge.brought_count), merge.reverts);
                made.barrier = merge.barrier;
                (made.config, made.refused) = (merge.config.clone().ok(), merge.config.err());
            }
            Effect::KeepTemplates { release, templates } => {
                let identity = template::identity(&templates);
                let found = self.seen.releases.iter_mut().find(|r| r.name == release).unwrap();
                found.identity = Some(identity);
                found.templates = Some(templates);
            }
            Effect::CloseGate { .. } => {
                self.log.push("close".into());
                let w = self.workload();
                (w.paused, w.gate_marked) = (true, true);
            }
            Effect::OpenGate { template, put_back, leave, .. } => {
                self.log.push(if leave { "ungate".into() } else { "open".to_owned() });
                let w = self.workload();
                (w.paused, w.gate_marked, w.put_back) = (false, false, put_back);
                if let Some(template) = template {
                    w.template = template;
                }
            }
            Effect::PutTemplate { template, put_back, .. } => {
                self.log.push("put".into());
                let w = self.workload();
                assert!(w.paused, "a template is put in only behind a closed gate");
                (w.template, w.put_back) = (template, put_back);
            }
            Effect::SendRoute { route, course } => {
                self.log.push(match &course {
                    Course::Left => "route left".to_owned(),
                    Course::Stable => "route stable".to_owned(),
                    Course::Shared { weight, testers } => {
                        format!("route {}{}", weight.percent(), if testers.is_some() { "+t" } else { "" })
                    }
                });
                let seen = self.seen.routes.iter_mut().find(|r| r.name == route).unwrap();
                (seen.since, seen.changed_by) = ((course != Course::Left).then_some(now), None);
                seen.most = course.weight();
                seen.course = Some(course);
            }
            Effect::MakeCanaryService { service, routes } => {
                self.log.push("front".into());
                self.seen.canary_services.retain(|front| front.service != service);
                let name = canary_service(&service);
                let front = CanaryService { name, uid: "f".into(), service, deleting: false, current: true, routes, routable: vec![] };
                self.seen.canary_services.push(front);
            }
            Effect::RemoveCanaryService { service } => {
                self.log.push("front away".into());
                self.seen.canary_services.retain(|front| front.service != service);
            }
            Effect::DropOwnership(Target::Workload(_) | Target::Service(_) | Target::Route(_) | Target::CronJob(_)) => {
                self.log.push("disown".into());
            }
            Effect::PinService { service, pin } => {
                self.log.push(match &pin {
                    Pin::Off => "pin off".into(),
                    Pin::Canary => "pin canary".into(),
                    Pin::Stable(hash) => {
                        let old = pod_hash(&super::toy::template("v1")) == *hash;
                        format!("pin {}", if old { "v1" } else { "stable" })
                    }
                });
                let s = self.seen.services.iter_mut().find(|s| s.name == service).unwrap();
                (s.pin, s.pinned_since) = (pin, Some(now));
            }
            Effect::RunBefore { job, cron_job, release, spec } => {
                self.log.push(format!("run {cron_job} {}", template::tag(template::main_image(&spec["template"]).unwrap())));
                if !self.seen.jobs.iter().any(|there| there.name == job) {
                    self.seen.jobs.push(Job {
                        name: job,
                        uid: "j".into(),
                        cron_job,
                        release: Some(release),
                        created: now,
                        ran: Ran::Running,
                        refused: None,
                        podless: false,
                        started: true,
                    });
                }
            }
            Effect::SetImage { cron_job, image, places } => {
                self.log.push(format!("{cron_job} {}", template::tag(&image)));
                let pods = &mut self.seen.cron_jobs.iter_mut().find(|there| there.name == cron_job).unwrap().job["template"];
                for place in &places {
                    *pods.pointer_mut(place).unwrap() = image.clone().into();
                }
            }
            Effect::RemoveJob { job } => {
                let gone = self.seen.jobs.iter().position(|there| there.name == job).unwrap();
                self.log.push(format!("remove a {}", self.seen.jobs.remove(gone).cron_job));
            }
            Effect::CreateCanary { release, replicas, .. } => {
                self.log.push(format!("canary {replicas}"));
                self.workload().canary = Some(Canary {
                    name: "shop-canary".into(),
                    uid: "c".into(),
                    resource_version: "1".into(),
                    deleting: false,
                    release: Some(release),
                    wanted: replicas,
                    observed: true,
                    stuck: false,
                    refused: None,
                    pods: vec![],
                    ending: 0,
                });
            }
            Effect::ScaleCanary { replicas, .. } => {
                self.log.push(format!("canary {replicas}"));
                self.workload().canary.as_mut().unwrap().wanted = replicas;
            }
            Effect::DeleteCanary { .. } => {
                self.log.push("canary away".into());
                self.workload().canary = None;
            }
            Effect::SettleRelease { release, outcome, .. } => {
                // One that somebody removed needs no word.
                if let Some(release) = self.seen.releases.iter_mut().find(|r| r.name == release) {
                    self.log.push(format!("{} {outcome:?}", release.version));
                    release.outcome = Some(outcome);
                }
            }
            Effect::SettleCommand { command, result, .. } => {
                self.log.push(format!("command {result:?}"));
                self.seen.commands.retain(|c| c.name != command);
            }
            Effect::ForgetRelease { release } => self.seen.releases.retain(|r| r.name != release),
        }
    }

    pub(super) fn release(
        &mut self,
        name: ReleaseName,
        version: String,
        image: String,
        identity: Option<crate::model::version::Identity>,
        templates: Option<BTreeMap<WorkloadName, Value>>,
    ) {
        let created = self.now;
        let manual = identity.is_none();
        if self.seen.release(&name).is_none() {
            self.seen.releases.push(Release {
                name,
                version,
                commit: None,
                image,
                manual,
                place: None,
                brought: <_>::default(),
                barrier: None,
                reverts: vec![],
                config: None,
                refused: None,
                identity,
                templates,
                outcome: None,
                tries: 0,
                created,
            });
        }
    }

    /// The log since the last call, joined.
    pub(super) fn story(&mut self) -> String {
        std::mem::take(&mut self.log).join("; ")
    }
}

//! `CronJobs` that take the image of a version.

use std::time::Duration;

use serde_json::json;

use super::{
    live_and_quiet,
    toy::{Toy, cron_job},
};
use crate::{
    api::command::Action,
    decide::check::check,
    model::{
        cron_job::PlannedCronJob,
        decision::{Decision, Effect, Reason, Wait},
        phase::after,
        world::{Command, RestSample},
    },
};

const NEVER: &str = "record v2; pin v1; canary 1; canary away; pin off; v2 RolledBack";

/// A shop with a `CronJob` of its image.
fn shop() -> Toy {
    let mut toy = Toy::adopted(4);
    toy.plan.cron_jobs.push(PlannedCronJob { name: "nightly".to_owned(), containers: vec![] });
    toy.seen.cron_jobs.push(cron_job("nightly", "v1"));
    toy
}

fn image(toy: &Toy) -> &str {
    toy.seen.cron_jobs[0].pods().pointer("/spec/containers/0/image").unwrap().as_str().unwrap()
}

/// Passes until something is so; what people are told on the way of `CronJobs`.
fn told(toy: &mut Toy, so: impl Fn(&Toy) -> bool) -> Vec<String> {
    let mut told = Vec::new();
    while !so(toy) {
        toy.pass();
        let notes = toy.last.iter().flat_map(|decision| &decision.notes);
        told.extend(notes.filter(|note| note.word() == "CronJobDiffers").map(ToString::to_string));
    }
    told
}

fn live_on(version: &'static str) -> impl Fn(&Toy) -> bool {
    move |toy| toy.live() == version && live_and_quiet(toy)
}

#[test]
fn it_takes_the_image_when_everything_else_of_the_version_is_live() {
    let mut toy = shop();
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && t.w().canary.is_none());
    assert_eq!(image(&toy), "r/shop:v1");
    toy.until(live_on("v2"));
    assert_eq!(
        toy.story(),
        "record v2; pin v1; canary 1; pin off; canary 4; pin canary; open; close; pin stable; canary away; pin off; nightly v2; v2 Live"
    );
    toy.until(live_on("v2"));
    assert_eq!((toy.story().as_str(), image(&toy)), ("", "r/shop:v2"), "once");
}

#[test]
fn a_version_that_is_taken_back_before_never_touches_it() {
    let mut toy = shop();
    toy.canary_fails = true;
    toy.set_image("v2");
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    assert_eq!((toy.story().as_str(), image(&toy)), (NEVER, "r/shop:v1"));
}

#[test]
fn a_young_version_that_fails_gives_back_the_image_of_before() {
    let mut toy = shop();
    toy.set_image("v2");
    toy.until(live_on("v2"));
    toy.story();
    for second in 0..3 {
        let at = after(toy.now, Duration::from_secs(second));
        toy.seen.probes.rest.push(RestSample { at, probe: "home".into(), wrong: Some("500".into()) });
    }
    toy.until(live_on("v1"));
    let story = toy.story();
    assert!(story.ends_with("pin off; nightly v1; v2 RolledBack"), "{story}");
}

#[test]
fn a_version_that_is_taken_back_from_its_last_step_gives_it_back_too() {
    let mut toy = shop();
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && t.w().canary.is_none());
    toy.story();
    // It was written, and that it is live could not be stored any more.
    toy.seen.cron_jobs[0] = cron_job("nightly", "v2");
    let release = toy.state.phase.rollout().unwrap().release.clone();
    toy.seen.commands.push(Command { name: "c".into(), release, action: Action::Abort, step: None, by: "ana".into(), reason: None });
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    assert_eq!(image(&toy), "r/shop:v1");
    assert!(toy.story().contains("nightly v1"));
}

#[test]
fn what_somebody_else_writes_into_it_is_told_and_left_until_a_version_goes_live() {
    let mut toy = shop();
    toy.seen.cron_jobs[0] = cron_job("nightly", "v2");
    toy.canary_fails = true;
    toy.set_image("v2");
    let says = "CronJob nightly has r/shop:v2 and not the image of v1, which serves; it is left so until the next version goes live";
    assert_eq!(told(&mut toy, |t| t.phase() == "RolledBack" && t.quiet()), [says], "with the version that is taken back");
    assert_eq!((toy.story().as_str(), image(&toy)), (NEVER, "r/shop:v2"));
    toy.canary_fails = false;
    toy.set_image("v3");
    assert_eq!(told(&mut toy, live_on("v3")), [says], "once for each version, before it gets traffic");
    assert_eq!(image(&toy), "r/shop:v3");
}

#[test]
fn what_is_wrong_with_it_holds_a_version_before_it_has_traffic() {
    type Spoil = fn(&mut Toy);
    let cases: [(Spoil, &str, &str); 4] = [
        (|t| t.seen.cron_jobs.clear(), "CronJobMissing", "Live"),
        (|t| t.seen.cron_jobs[0].reached_by = Some("Service shop".into()), "CronJobReached", "Live"),
        (
            |t| {
                t.seen.cron_jobs.clear();
                t.seen.problems.push(Reason::CronJobsNotGranted { namespace: "shop".into() });
            },
            "CronJobsNotGranted",
            "Live",
        ),
        (
            |t| t.seen.cron_jobs[0].job = json!({"template": {"spec": {"containers": [{"name": "x", "image": "r/y:1"}]}}}),
            "CronJobForeign",
            "Preflight",
        ),
    ];
    for (spoil, word, phase) in cases {
        let mut toy = shop();
        let whole = toy.seen.cron_jobs.clone();
        spoil(&mut toy);
        toy.set_image("v2");
        (0..20).for_each(|_| toy.pass());
        let decision = toy.last.clone().unwrap();
        assert_eq!((decision.reason.word(), toy.phase()), (word, phase));
        let words: Vec<&str> = decision.holds.iter().map(Reason::word).collect();
        assert_eq!(words, [word], "once");
        assert_ne!(toy.seen.services[0].pin, crate::model::world::Pin::Canary);
        (toy.seen.cron_jobs, toy.seen.problems) = (whole, vec![]);
        toy.until(live_on("v2"));
        assert_eq!(image(&toy), "r/shop:v2");
    }
    let mut named = shop();
    named.seen.cron_jobs[0].job = json!({"template": {"spec": {"containers": [{"name": "x", "image": "r/y:1"}]}}});
    named.plan.cron_jobs[0].containers = vec!["x".into()];
    named.set_image("v2");
    named.until(live_on("v2"));
    assert_eq!(image(&named), "r/shop:v2");
}

#[test]
fn one_that_the_version_cannot_reach_lets_a_newer_version_be_the_mend() {
    let mut toy = shop();
    toy.workload().template["spec"]["containers"][0]["image"] = "other/shop:v2".into();
    toy.until(|t| t.phase() == "Preflight" && t.w().canary.as_ref().is_some_and(|c| c.ready() > 0) && t.quiet());
    assert_eq!(toy.last.as_ref().unwrap().reason.word(), "CronJobForeign");
    toy.set_image("v3");
    toy.until(live_on("v3"));
    assert_eq!(image(&toy), "r/shop:v3");
}

#[test]
fn a_right_that_is_taken_away_at_the_end_is_waited_for_and_one_that_is_deleted_is_not() {
    let mut toy = shop();
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing");
    let whole = std::mem::take(&mut toy.seen.cron_jobs);
    toy.seen.problems.push(Reason::CronJobsNotGranted { namespace: "shop".into() });
    (0..80).for_each(|_| toy.pass());
    assert_eq!((toy.phase(), toy.last.as_ref().unwrap().reason.word()), ("Finalizing", "CronJobsNotGranted"));
    assert_eq!((&toy.seen.services[0].pin, toy.w().canary.is_none()), (&crate::model::world::Pin::Off, true), "nothing else waits");
    let mut gone = shop();
    gone.set_image("v2");
    gone.until(|t| t.phase() == "Finalizing");
    gone.seen.cron_jobs.clear();
    gone.until(|t| t.live() == "v2");
    (toy.seen.cron_jobs, toy.seen.problems) = (whole, vec![]);
    toy.until(live_on("v2"));
    assert_eq!(image(&toy), "r/shop:v2");
}

#[test]
fn a_delivery_that_goes_leaves_it_with_the_image_that_serves_and_no_field_of_ours() {
    let mut toy = shop();
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && !t.w().paused);
    toy.seen.deleting = true;
    toy.until(|t| t.phase() == "Live");
    assert_eq!(image(&toy), "r/shop:v2", "stable runs it");
    toy.seen.cron_jobs[0].owns_fields = true;
    toy.story();
    toy.until(|t| t.log.iter().any(|word| word == "disown"));
    let mut early = shop();
    early.set_image("v2");
    early.until(|t| t.phase() == "Canary");
    early.seen.deleting = true;
    early.until(|t| !t.seen.finalizer);
    assert_eq!(image(&early), "r/shop:v1");
}

#[test]
fn no_decision_gives_it_an_image_that_is_not_proven() {
    let mut toy = shop();
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary");
    let write = |image: &str| Effect::SetImage { cron_job: "nightly".into(), image: image.into(), places: vec![] };
    let rolling = Decision::stay(&toy.state, Reason::DeliveryDeleted, Wait::Now);
    let resting = Decision::stay(&toy.state.to(crate::model::phase::Phase::Live, toy.now), Reason::DeliveryDeleted, Wait::Now);
    let broken = |decision: &Decision, image: &str| {
        let decision = decision.clone().first(vec![write(image)]);
        check(&toy.plan, &toy.state, &toy.seen, &decision, toy.now).err().map(|broken| broken.rule)
    };
    assert_eq!(broken(&rolling, "r/shop:v1"), Some("I23"));
    assert_eq!(broken(&resting, "r/shop:v2"), Some("I23"));
    assert_eq!(broken(&resting, "r/shop:v1"), None);
}

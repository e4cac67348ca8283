//! A version is judged by its users' requests.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{live_and_quiet, toy::Toy};
use crate::{
    api::verify::NoTraffic,
    decide::judge::{
        bet::Side,
        collect::{Collector, Reading, Scrape, Stratum},
        terms::Terms,
    },
    model::{
        measure::{Counters, From, Matchers, Measures},
        phase::{Direction, Stage, after},
        version::Weight,
        world::{Meters, Silent, Usual},
    },
};

/// A shop with users, of whom so many in a million meet a failure on either side.
struct Shop {
    toy: Toy,
    a_second: u64,
    canary_fails: u64,
    stable_fails: u64,
    /// Of a million so many are slower than every edge.
    canary_slow: u64,
    stable_slow: u64,
    /// What was asked and failed so far, in millionths: canary, stable.
    counted: [(u64, u64); 2],
    open: Option<(Terms, bool, Collector)>,
    looked: Timestamp,
}

const MILLION: u64 = 1_000_000;

impl Shop {
    fn with(a_second: u64, probes: bool) -> Self {
        let mut toy = Toy::by_route(4);
        toy.plan.steps.remove(0);
        Self::of(toy, a_second, probes)
    }

    fn of(mut toy: Toy, a_second: u64, probes: bool) -> Self {
        toy.plan.measures = Some(std::sync::Arc::new(Measures::Counters(Counters {
            from: From::Scrape { port: "http".into(), path: "/metrics".into() },
            counter: "requests".into(),
            failed: Matchers::parse("code=\"500\"").unwrap(),
            only: None,
            by: vec![],
            histogram: None,
        })));
        toy.seen.probes.meters = Some(Meters { looked: true, strata: vec![String::new()], ..Meters::default() });
        if !probes {
            toy.seen.probes.voting.clear();
            toy.mute = true;
        }
        let looked = toy.now;
        Self {
            toy,
            a_second,
            canary_fails: 1000,
            stable_fails: 1000,
            canary_slow: 0,
            stable_slow: 0,
            counted: [(0, 0); 2],
            open: None,
            looked,
        }
    }

    /// The share of the canary in percent, if it has one that is compared.
    fn course(&self) -> Option<(Terms, u64)> {
        let rollout = self.toy.state.phase.rollout()?;
        let share = match &rollout.stage {
            _ if rollout.suspended.is_some() || rollout.direction != Direction::Forward => return None,
            Stage::Canary { step } => self.toy.plan.steps[*step].weight,
            Stage::Promoting => self.toy.plan.steps.last().unwrap().weight,
            Stage::Guarding { .. } => Weight::FULL,
            _ => return None,
        };
        Some((rollout.book.terms().clone(), share.percent().into()))
    }

    fn serve(&mut self) {
        while after(self.looked, Duration::from_secs(1)) <= self.toy.now {
            self.looked = after(self.looked, Duration::from_secs(1));
            let Some((terms, share)) = self.course() else {
                self.open = None;
                continue;
            };
            let whole = share == 100;
            if self.open.as_ref().is_none_or(|(known, was_whole, _)| *known != terms || *was_whole != whole) {
                self.open = Some((terms.clone(), whole, Collector::new(&terms, whole, self.looked)));
            }
            let canary = self.asks(0, self.a_second * share * MILLION / 100, self.canary_fails);
            let stable = self.asks(1, self.a_second * (100 - share) * MILLION / 100, self.stable_fails);
            let reading = |side: Side, slow: u64| {
                let slow = u32::try_from(u64::from(side.asked) * slow / MILLION).unwrap();
                Reading { side, timed: side.asked, slow: [slow; 3] }
            };
            let strata = [Stratum { name: "", canary: reading(canary, self.canary_slow), stable: reading(stable, self.stable_slow) }];
            let (_, _, collector) = self.open.as_mut().unwrap();
            let blocks = collector.scrape(self.looked, Scrape { strata: &strata, lines: &[], pods: (1, 4) });
            self.toy.seen.probes.samples.extend(blocks);
        }
        self.toy.seen.probes.samples.sort_by_key(|sample| sample.at);
    }

    /// The requests of a second, and the failures among them.
    fn asks(&mut self, side: usize, millionths: u64, fails: u64) -> Side {
        let (asked, failed) = &mut self.counted[side];
        let before = (*asked / MILLION, *failed / MILLION);
        *asked += millionths;
        *failed += millionths / MILLION * fails + millionths % MILLION * fails / MILLION;
        let less = |now: u64, then: u64| u32::try_from(now / MILLION - then).unwrap();
        Side::new(less(*asked, before.0), less(*failed, before.1))
    }

    fn pass(&mut self) {
        self.serve();
        self.toy.pass();
    }

    fn until(&mut self, so: impl Fn(&Toy) -> bool) {
        let begun = self.toy.now;
        while !so(&self.toy) {
            assert!(after(begun, Duration::from_hours(2)) > self.toy.now, "not so within two hours: {:?}", self.toy.last);
            self.pass();
        }
    }

    fn told(&self) -> String {
        self.toy.last.as_ref().unwrap().reason.to_string()
    }

    fn ship(&mut self) {
        self.toy.set_image("v2");
        self.until(|t| t.state.phase.rollout().is_some());
    }

    fn seconds(&mut self, so: impl Fn(&Toy) -> bool) -> i64 {
        let begun = self.toy.now;
        self.until(so);
        self.toy.now.duration_since(begun).as_secs()
    }
}

fn at(step: usize) -> impl Fn(&Toy) -> bool {
    move |toy| toy.state.phase.rollout().is_some_and(|rollout| rollout.stage == Stage::Canary { step })
}

#[test]
fn a_good_version_goes_on_when_its_requests_have_shown_it() {
    let mut shop = Shop::with(100, true);
    (shop.canary_fails, shop.stable_fails) = (0, 0);
    shop.ship();
    shop.until(at(0));
    let first = shop.seconds(at(1));
    assert!((100..240).contains(&first), "5 a second, some 600 are needed: {first} s");
    let mut told = BTreeSet::new();
    let begun = shop.toy.now;
    while !live_and_quiet(&shop.toy) {
        shop.pass();
        told.insert(shop.toy.last.as_ref().unwrap().reason.word());
        assert!(after(begun, Duration::from_hours(1)) > shop.toy.now, "{told:?}");
    }
    assert_eq!(shop.toy.live(), "v2");
    assert!(!told.contains("GoingBack") && !told.contains("Suspended"), "{told:?}");
}

#[test]
fn one_that_fails_ten_times_as_often_goes_back_and_says_how_many_of_how_many() {
    let mut shop = Shop::with(100, true);
    (shop.canary_fails, shop.stable_fails) = (100_000, 5_000);
    shop.ship();
    shop.until(at(0));
    let lasted = shop.seconds(|t| t.phase() == "RollingBack" || t.phase() == "RolledBack");
    assert!(lasted <= 150, "{lasted} s with blocks of 15 s");
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v1");
    let why = shop.told();
    assert!(why.contains("errors: ") && why.contains("failed on canary") && why.contains("1000 is a verdict"), "{why}");
}

#[test]
fn an_outage_under_all_of_the_traffic_asks_and_takes_nothing_back() {
    let mut shop = Shop::with(100, true);
    shop.ship();
    shop.until(|t| t.phase() == "Guarding" && t.quiet());
    (shop.canary_fails, shop.stable_fails) = (200_000, 200_000);
    let asked = shop.seconds(|t| t.phase() == "Canary");
    assert!(asked <= 60, "{asked} s");
    let begun = shop.toy.now;
    while after(begun, Duration::from_mins(10)) > shop.toy.now {
        shop.pass();
        assert_eq!(shop.toy.phase(), "Canary", "it is compared as long as it lasts: {}", shop.told());
    }
    assert_eq!((shop.toy.seen.routes[0].most, shop.toy.w().canary.as_ref().unwrap().wanted), (Weight::new(5), 4), "its pods stay");
    assert_eq!(shop.toy.last.as_ref().unwrap().reason.word(), "AskedAgain");
    (shop.canary_fails, shop.stable_fails) = (1000, 1000);
    let quiet = shop.seconds(|t| t.phase() == "Guarding");
    assert!((90..200).contains(&quiet), "two quiet minutes: {quiet} s");
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v2");
}

#[test]
fn one_that_turns_bad_under_all_of_the_traffic_is_found_out_side_by_side() {
    let mut shop = Shop::with(100, true);
    shop.ship();
    shop.until(|t| t.phase() == "Guarding" && t.quiet());
    shop.canary_fails = 200_000;
    let lasted = shop.seconds(|t| t.phase() == "RollingBack");
    assert!(lasted <= 180, "{lasted} s");
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v1");
    assert!(shop.told().contains("errors: "), "{}", shop.told());
}

#[test]
fn an_outage_that_comes_again_and_again_is_left_to_people() {
    let mut shop = Shop::with(100, true);
    shop.ship();
    for time in 0..3 {
        shop.until(|t| t.phase() == "Guarding" && t.quiet());
        (shop.canary_fails, shop.stable_fails) = (200_000, 200_000);
        shop.until(|t| t.phase() == "Canary");
        (shop.canary_fails, shop.stable_fails) = (1000, 1000);
        assert_eq!(shop.toy.state.phase.rollout().unwrap().book.rechecked().0, time + 1);
    }
    shop.until(|t| t.phase() == "Guarding" && t.quiet());
    (shop.canary_fails, shop.stable_fails) = (200_000, 200_000);
    shop.until(|t| t.last.as_ref().unwrap().reason.word() == "Unexplained");
    let begun = shop.toy.now;
    while after(begun, Duration::from_mins(30)) > shop.toy.now {
        shop.pass();
        assert_eq!(shop.toy.phase(), "Guarding");
    }
    (shop.canary_fails, shop.stable_fails) = (1000, 1000);
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v2");
}

#[test]
fn few_users_leave_it_to_the_probes() {
    let mut shop = Shop::with(0, true);
    shop.ship();
    let lasted = shop.seconds(live_and_quiet);
    assert_eq!(shop.toy.live(), "v2");
    assert!(lasted < 900, "no step waits longer than without: {lasted} s");
}

#[test]
fn without_users_and_probes_it_stays_at_its_step_and_returns_undecided() {
    let mut shop = Shop::with(0, false);
    shop.ship();
    shop.until(|t| t.last.as_ref().unwrap().reason.word() == "NoTraffic");
    assert!(at(0)(&shop.toy));
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v1");
    assert!(shop.toy.state.quarantine.iter().all(|q| q.outcome == crate::api::release::Outcome::Undecided));
}

/// The pods of stable differ among themselves by what they count.
fn mute(shop: &mut Shop) {
    shop.toy.seen.probes.meters.as_mut().unwrap().usual = Some(Usual { manner: None, bursty: false, day: None, rate: None });
}

#[test]
fn requests_that_would_blame_stable_have_no_vote_and_that_is_told() {
    let mut shop = Shop::with(100, false);
    mute(&mut shop);
    shop.ship();
    shop.until(|t| t.last.as_ref().unwrap().reason.word() == "RequestsMute");
    assert!(at(0)(&shop.toy), "nobody judges it");
    assert!(shop.toy.last.as_ref().unwrap().health.mute_requests);
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v1");
    let mut shop = Shop::with(100, true);
    mute(&mut shop);
    shop.ship();
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v2", "its probes have judged it");
    assert!(shop.toy.last.as_ref().unwrap().health.mute_requests, "at rest, too");
}

#[test]
fn without_users_and_probes_it_goes_on_where_that_was_wished() {
    let mut shop = Shop::with(0, false);
    shop.toy.plan.no_traffic = NoTraffic::Promote;
    shop.ship();
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v2");
}

#[test]
fn nothing_starts_before_the_metrics_were_read_once() {
    let mut shop = Shop::with(100, true);
    shop.toy.seen.probes.meters.as_mut().unwrap().looked = false;
    shop.toy.set_image("v2");
    (0..20).for_each(|_| shop.pass());
    assert_eq!(shop.toy.phase(), "Live");
    shop.toy.seen.probes.meters.as_mut().unwrap().looked = true;
    shop.until(|t| t.phase() == "Preflight");
}

#[test]
fn by_its_plan_a_step_rules_out_what_its_share_can_show() {
    let mut shop = Shop::with(100, true);
    shop.toy.plan.one_false_rollback_in = 200;
    shop.ship();
    let terms = shop.toy.state.phase.rollout().unwrap().book.terms();
    assert_eq!(terms.ratios, [20.0, 5.0, 2.0]);
    assert!((terms.bound() - 200.0).abs() < 1e-9 && terms.errors.is_some() && terms.latency.is_none() && terms.strata.is_empty());
}

#[test]
fn slowness_that_is_not_certain_yet_gets_no_more_of_the_traffic() {
    let mut shop = Shop::with(100, true);
    shop.toy.seen.probes.meters.as_mut().unwrap().edges = Some([0.1, 0.25, 1.0]);
    (shop.canary_slow, shop.stable_slow) = (300_000, 10_000);
    shop.ship();
    let mut told = BTreeSet::new();
    shop.until(at(0));
    while shop.toy.phase() == "Canary" {
        shop.pass();
        told.insert(shop.toy.last.as_ref().unwrap().reason.word());
        assert!(shop.toy.seen.routes[0].most <= Weight::new(25), "{}", shop.told());
    }
    assert!(told.contains("UnderSuspicion"), "{told:?}");
    shop.until(live_and_quiet);
    assert_eq!(shop.toy.live(), "v1");
    assert!(shop.told().contains("latency: ") && shop.told().contains("were slower than stable's"), "{}", shop.told());
}

#[test]
fn by_a_service_failures_of_one_pod_alone_may_be_one_client_and_take_traffic_off_but_nothing_back() {
    let shop = |failing: usize| {
        let mut shop = Shop::of(Toy::adopted(4), 100, true);
        (shop.canary_fails, shop.stable_fails) = (100_000, 5_000);
        shop.toy.seen.probes.meters.as_mut().unwrap().failing = failing;
        shop.ship();
        shop.until(|toy| toy.phase() == "Canary");
        shop
    };
    let mut one = shop(1);
    one.until(|toy| toy.state.phase.rollout().is_some_and(|rollout| rollout.suspended.is_some()));
    assert!(one.told().contains("all of it on one pod, as one client that stays with its pod would do"), "{}", one.told());
    let begun = one.toy.now;
    while after(begun, Duration::from_mins(5)) > one.toy.now {
        one.pass();
        assert!(one.toy.state.phase.rollout().is_some_and(|rollout| rollout.suspended.is_some()), "{}", one.told());
    }
    one.toy.seen.probes.meters.as_mut().unwrap().failing = 2;
    one.until(live_and_quiet);
    assert_eq!(one.toy.live(), "v1");
    assert!(one.told().contains("failed on canary") && !one.told().contains("one client"), "{}", one.told());
    let mut two = shop(2);
    two.until(live_and_quiet);
    assert_eq!(two.toy.live(), "v1");
    assert!(two.told().contains("failed on canary"), "{}", two.told());
}

#[test]
fn a_side_that_shows_no_metrics_holds_after_a_while_and_is_named() {
    let mut shop = Shop::with(100, true);
    shop.ship();
    shop.until(at(0));
    let silent = Silent { since: shop.toy.now, why: "pod shop-1 of the canary: its metrics cannot be had".into() };
    shop.toy.seen.probes.meters.as_mut().unwrap().silent = Some(silent);
    shop.pass();
    assert!(!shop.told().contains("shop-1"), "{}", shop.told());
    let begun = shop.toy.now;
    while after(begun, Duration::from_mins(10)) > shop.toy.now {
        shop.pass();
    }
    assert!(at(0)(&shop.toy) && shop.told() == "no verdict: pod shop-1 of the canary: its metrics cannot be had", "{}", shop.told());
    shop.toy.seen.probes.meters.as_mut().unwrap().silent = None;
    shop.until(at(1));
}

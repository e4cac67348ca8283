//! What holds for many Deliveries, validated: when versions may start, how many at once, what no plan goes below.
//!
//! Pure: what is open now is asked with a time. Deliberately absent: which policies a Delivery goes by, and how many of the others
//! are on their way; both are seen, not decided.

use std::time::Duration;

use jiff::{Span as Length, Timestamp, civil::Date, tz::TimeZone};

use super::{
    phase::Adopted,
    plan::{Plan, PlanError, PlannedStep},
    version::Weight,
    window::{Window, moment, zone},
};
use crate::api::{
    delivery::{DeliverySpec, RolloutSpec},
    policy::{DeliveryPolicySpec, ExceptionSpec, LimitsSpec},
};

/// How many days ahead an opening is looked for: a year, and a month for the holidays at its end.
const AHEAD: i64 = 396;
/// How often two policies are asked in turn for a time that suits both: once for each day of that.
const TURNS: usize = 396;
/// Steps of a plan, as the schema bounds them.
const STEPS: usize = 20;

/// One policy that binds a Delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What people call it: `default`, or `haldane-system/default`.
    pub name: String,
    /// What a plan has that its owner says nothing of.
    pub defaults: RolloutSpec,
    /// What no plan goes below or above.
    pub limits: Limits,
    /// Rollouts at once.
    pub cap: Option<usize>,
    /// It binds every Delivery, and not only those of its namespace that go by it.
    pub of_all: bool,
    /// The rollouts of other Deliveries that it binds, now: by name, where they are of the same namespace.
    pub running: Vec<Option<String>>,
    windows: Vec<Window>,
    exceptions: Vec<Exception>,
}

/// What no plan goes below or above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The least bake of a step.
    pub bake: Duration,
    /// The least guard.
    pub guard: Duration,
    /// The most that the first share may be.
    pub first: Option<Weight>,
}

/// Days on which it is otherwise.
#[derive(Clone, Debug, PartialEq)]
struct Exception {
    from: Date,
    to: Date,
    open: bool,
    zone: TimeZone,
}

/// A policy says something that the schema cannot see to be wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Not in the database.
    #[error("{0} is no time zone; write one like Europe/Berlin")]
    Zone(String),
    /// Not a time of day.
    #[error("{0} is no time of day; write one like 09:00")]
    Time(String),
    /// Not a day.
    #[error("{0} is no day; write one like 2026-12-21")]
    Day(String),
}

/// Nothing may start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// By which policy.
    pub policy: String,
    /// Until then; none: nothing opens within a year.
    pub until: Option<Timestamp>,
}

impl Policy {
    /// Of a stored policy. `name` is what people call it.
    ///
    /// # Errors
    /// When it speaks of a time zone, a time or a day that is none.
    pub fn read(name: String, spec: &DeliveryPolicySpec) -> Result<Self, PolicyError> {
        Ok(Self {
            name,
            defaults: spec.defaults.as_ref().and_then(|defaults| defaults.rollout.clone()).unwrap_or_default(),
            limits: spec.limits.as_ref().map(Limits::from).unwrap_or_default(),
            cap: spec.caps.as_ref().and_then(|caps| usize::try_from(caps.rollouts?).ok()),
            of_all: false,
            running: Vec::new(),
            windows: spec.windows.iter().map(Window::read).collect::<Result<_, _>>()?,
            exceptions: spec.exceptions.iter().map(Exception::read).collect::<Result<_, _>>()?,
        })
    }

    /// A version may start then.
    #[must_use]
    pub fn open(&self, at: Timestamp) -> bool {
        let said = |open: bool| self.exceptions.iter().any(|e| e.open == open && e.covers(at));
        !said(false) && (self.windows.is_empty() || said(true) || self.windows.iter().any(|w| w.covers(at)))
    }

    /// The first moment after that one in which a version may start, as far as one can see.
    fn opens(&self, after: Timestamp) -> Option<Timestamp> {
        let first = after.to_zoned(TimeZone::UTC).date().yesterday().ok()?;
        (0..AHEAD).filter_map(|days| first.checked_add(Length::new().days(days)).ok()).find_map(|day| {
            let windows = self.windows.iter().filter_map(|w| w.opens(day));
            let exceptions = self.exceptions.iter().filter_map(|e| e.turns(day));
            let mut turns: Vec<Timestamp> = windows.chain(exceptions).filter(|at| *at > after && self.open(*at)).collect();
            turns.sort();
            turns.into_iter().next()
        })
    }
}

/// Whether nothing may start now, by any of the policies, and until when.
#[must_use]
pub fn closed(policies: &[Policy], now: Timestamp) -> Option<Closed> {
    let shut = |at| policies.iter().find(|policy| !policy.open(at));
    let first = shut(now)?;
    let mut at = Some(now);
    for _ in 0..TURNS {
        match at.and_then(|at| Some((at, shut(at)?))) {
            Some((when, policy)) => at = policy.opens(when),
            None => break,
        }
    }
    Some(Closed { policy: first.name.clone(), until: at.filter(|at| shut(*at).is_none()) })
}

/// The plan of a Delivery under its policies, the nearest first, and what contradicts itself in it.
#[must_use]
pub fn ruled(spec: &DeliverySpec, adopted: &[Adopted], policies: &[Policy]) -> (Plan, Option<PlanError>) {
    let own = spec.rollout.clone().unwrap_or_default();
    let rollout = policies.iter().fold(own, |filled, policy| or(filled, &policy.defaults));
    let (mut plan, flaw) = Plan::lenient(&DeliverySpec { rollout: Some(rollout), ..spec.clone() }, adopted);
    plan.limits = policies.iter().fold(Limits::default(), |all, policy| all.and(policy.limits));
    plan.guard = plan.guard.max(plan.limits.guard);
    plan.limits.hold(&mut plan.steps);
    (plan, flaw)
}

/// Each field for itself; named one by one, so that a new one does not compile before it is thought of.
fn or(own: RolloutSpec, other: &RolloutSpec) -> RolloutSpec {
    let RolloutSpec { steps, guard, capacity, rollback_window, deadline, on_deadline, settle, before } = own;
    RolloutSpec {
        steps: steps.or_else(|| other.steps.clone()),
        guard: guard.or(other.guard),
        capacity: capacity.or(other.capacity),
        rollback_window: rollback_window.or(other.rollback_window),
        deadline: deadline.or(other.deadline),
        on_deadline: on_deadline.or(other.on_deadline),
        settle: settle.or(other.settle),
        before: if before.is_empty() { other.before.clone() } else { before },
    }
}

impl From<&LimitsSpec> for Limits {
    fn from(spec: &LimitsSpec) -> Self {
        let span = |given: Option<crate::api::duration::Span>| given.map_or(Duration::ZERO, |span| span.0);
        Self { bake: span(spec.bake), guard: span(spec.guard), first: spec.first_weight.map(Weight::new) }
    }
}

impl Limits {
    /// The stricter of both.
    #[must_use]
    fn and(self, other: Self) -> Self {
        Self { bake: self.bake.max(other.bake), guard: self.guard.max(other.guard), first: self.first.into_iter().chain(other.first).min() }
    }

    /// Brings steps within them.
    pub fn hold(self, steps: &mut Vec<PlannedStep>) {
        let room = steps.len() < STEPS;
        let first = steps.iter().position(|step| step.weight > Weight::ZERO);
        if let (Some(most), Some(at)) = (self.first, first)
            && let Some(step) = steps.get_mut(at).filter(|step| step.weight > most)
        {
            let own = std::mem::replace(step, PlannedStep { weight: most, approval: step.approval && !room, ..step.clone() });
            if room {
                steps.insert(at + 1, own);
            }
        }
        for step in steps {
            step.bake = step.bake.max(self.bake);
        }
    }
}

impl Exception {
    fn read(spec: &ExceptionSpec) -> Result<Self, PolicyError> {
        let date = |text: &String| text.parse::<Date>().map_err(|_| PolicyError::Day(text.clone()));
        let from = date(&spec.from)?;
        Ok(Self {
            from,
            to: spec.to.as_ref().map_or(Ok(from), date)?,
            open: spec.open.unwrap_or_default(),
            zone: zone(spec.time_zone.as_ref())?,
        })
    }

    fn covers(&self, at: Timestamp) -> bool {
        (self.from..=self.to).contains(&at.to_zoned(self.zone.clone()).date())
    }

    /// When something changes by it on that day.
    fn turns(&self, day: Date) -> Option<Timestamp> {
        let turn = day == self.from || day.yesterday().is_ok_and(|before| before == self.to);
        moment(day, 0, &self.zone).filter(|_| turn)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(spec: Value) -> Policy {
        Policy::read("default".into(), &serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn flaw(spec: Value) -> String {
        Policy::read("default".into(), &serde_json::from_value(spec).unwrap()).unwrap_err().to_string()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn until(policies: &[Policy], now: &str) -> Option<String> {
        closed(policies, at(now)).map(|closed| closed.until.map_or_else(|| "never".to_owned(), |at| at.to_string()))
    }

    fn office() -> Value {
        json!([{"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "09:00", "to": "16:00", "timeZone": "Europe/Berlin"}])
    }

    #[test]
    fn a_window_is_open_by_the_clocks_of_its_place() {
        let office = [policy(json!({"windows": office()}))];
        for (now, opens) in [
            // Winter: an hour ahead of UTC. 2026-11-23 is a Monday.
            ("2026-11-23T07:59:59Z", Some("2026-11-23T08:00:00Z")),
            ("2026-11-23T08:00:00Z", None),
            ("2026-11-23T14:59:59Z", None),
            ("2026-11-23T15:00:00Z", Some("2026-11-24T08:00:00Z")),
            ("2026-11-27T15:00:00Z", Some("2026-11-30T08:00:00Z")),
            // Summer: two hours.
            ("2026-07-20T06:59:00Z", Some("2026-07-20T07:00:00Z")),
            ("2026-07-20T07:00:00Z", None),
            // The clocks change in between: on Friday one hour ahead, on Monday two.
            ("2026-03-27T15:00:00Z", Some("2026-03-30T07:00:00Z")),
        ] {
            assert_eq!(until(&office, now).as_deref(), opens, "{now}");
        }
    }

    #[test]
    fn a_window_may_last_past_midnight_and_to_its_very_end() {
        let night = [policy(json!({"windows": [{"days": ["Fri"], "from": "22:00", "to": "04:00"}]}))];
        assert_eq!(until(&night, "2026-11-28T03:59:00Z"), None, "Friday's, on Saturday morning");
        assert_eq!(until(&night, "2026-11-28T04:00:00Z").as_deref(), Some("2026-12-04T22:00:00Z"));
        assert_eq!(until(&night, "2026-11-27T03:00:00Z").as_deref(), Some("2026-11-27T22:00:00Z"), "Thursday has none");
        let day = [policy(json!({"windows": [{"days": ["Sat"], "from": "00:00", "to": "24:00"}]}))];
        assert_eq!(until(&day, "2026-11-28T23:59:59Z"), None);
        assert!(until(&day, "2026-11-29T00:00:00Z").is_some());
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_or_repeat_is_still_one() {
        let zone =
            |from: &str, to: &str| [policy(json!({"windows": [{"days": ["Sun"], "from": from, "to": to, "timeZone": "Europe/Berlin"}]}))];
        // 02:30 is left out on 2026-03-29; 02:30 comes twice on 2026-10-25.
        assert_eq!(until(&zone("02:30", "05:00"), "2026-03-29T00:00:00Z").as_deref(), Some("2026-03-29T01:30:00Z"));
        assert_eq!(until(&zone("02:30", "05:00"), "2026-10-25T00:00:00Z").as_deref(), Some("2026-10-25T00:30:00Z"));
    }

    #[test]
    fn exceptions_close_and_open_days() {
        let spec = json!({"windows": office(), "exceptions": [
            {"from": "2026-12-21", "to": "2027-01-03", "timeZone": "Europe/Berlin", "message": "the shops are full"},
            {"from": "2026-11-28", "open": true, "timeZone": "Europe/Berlin"},
        ]});
        let freeze = [policy(spec)];
        assert_eq!(until(&freeze, "2026-12-18T15:00:00Z").as_deref(), Some("2027-01-04T08:00:00Z"));
        assert_eq!(until(&freeze, "2026-12-23T10:00:00Z").as_deref(), Some("2027-01-04T08:00:00Z"));
        assert_eq!(until(&freeze, "2026-11-27T15:00:00Z").as_deref(), Some("2026-11-27T23:00:00Z"), "the whole Saturday is open");
        assert_eq!(until(&freeze, "2026-11-28T12:00:00Z"), None);
        let alone = [policy(json!({"exceptions": [{"from": "2026-12-24", "to": "2026-12-26"}]}))];
        assert_eq!(until(&alone, "2026-12-23T23:59:59Z"), None, "without windows every other time is open");
        assert_eq!(until(&alone, "2026-12-24T00:00:00Z").as_deref(), Some("2026-12-27T00:00:00Z"));
    }

    #[test]
    fn of_two_policies_both_must_be_open() {
        let morning = policy(json!({"windows": [{"days": ["Mon", "Tue"], "from": "08:00", "to": "12:00"}]}));
        let late = policy(json!({"windows": [{"days": ["Tue", "Wed"], "from": "10:00", "to": "18:00"}]}));
        assert_eq!(until(&[morning.clone(), late], "2026-11-23T09:00:00Z").as_deref(), Some("2026-11-24T10:00:00Z"));
        let never = policy(json!({"windows": [{"days": ["Sun"], "from": "10:00", "to": "18:00"}]}));
        assert_eq!(until(&[morning, never], "2026-11-23T09:00:00Z").as_deref(), Some("never"));
        assert_eq!(until(&[], "2026-11-23T09:00:00Z"), None);
    }

    #[test]
    fn what_is_no_place_or_time_is_named() {
        let window = |zone: &str| json!({"windows": [{"days": ["Mon"], "from": "09:00", "to": "10:00", "timeZone": zone}]});
        assert_eq!(flaw(window("Europe/Atlantis")), "Europe/Atlantis is no time zone; write one like Europe/Berlin");
        assert_eq!(flaw(json!({"exceptions": [{"from": "2026-02-30"}]})), "2026-02-30 is no day; write one like 2026-12-21");
        assert_eq!(
            flaw(json!({"windows": [{"days": ["Mon"], "from": "9 o'clock", "to": "10:00"}]})),
            "9 o'clock is no time of day; write one like 09:00"
        );
    }

    fn planned(own: Value, policies: &[Policy]) -> (Vec<(u8, u64)>, u64) {
        let mut spec = json!({"workloads": [{"name": "web"}]});
        spec["rollout"] = own;
        let (plan, flaw) = ruled(&serde_json::from_value(spec).unwrap(), &[], policies);
        assert_eq!(flaw, None);
        (plan.steps.iter().map(|s| (s.weight.percent(), s.bake.as_secs())).collect(), plan.guard.as_secs())
    }

    #[test]
    fn an_owner_comes_before_the_policy_and_that_before_the_one_of_all() {
        let near = policy(json!({"defaults": {"rollout": {"guard": "1m"}}}));
        let all = policy(json!({"defaults": {"rollout": {"guard": "2m", "steps": [{"weight": 10, "bake": "5m"}]}}}));
        assert_eq!(planned(json!({}), &[]), (vec![(5, 120), (25, 120), (50, 120)], 600));
        assert_eq!(planned(json!({}), &[near.clone(), all.clone()]), (vec![(10, 300)], 60));
        assert_eq!(planned(json!({"guard": "3m", "steps": [{"weight": 20}]}), &[near, all]), (vec![(20, 120)], 180));
    }

    #[test]
    fn of_limits_the_stricter_counts() {
        let near = policy(json!({"limits": {"bake": "1m", "firstWeight": 20, "guard": "20m"}}));
        let all = policy(json!({"limits": {"bake": "3m", "firstWeight": 2}}));
        let own = json!({"guard": "1m", "steps": [{"weight": 5, "bake": "10m"}, {"weight": 50, "bake": "30s"}]});
        assert_eq!(planned(own.clone(), std::slice::from_ref(&near)), (vec![(5, 600), (50, 60)], 1200));
        assert_eq!(planned(own, &[near, all]), (vec![(2, 600), (5, 600), (50, 180)], 1200));
    }
}

//! How often the pods of a canary were started again by themselves, in whole minutes of its pods.
//!
//! Nothing is told as long as nothing falls: the quiet minutes go with the next fall, which is the same evidence. For a while after a fall they
//! are told as they pass, so that one fall does not stay what a version is suspected of. A minute in which stable
//! falls as well, or the one after it, says nothing about the canary.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use crate::decide::judge::book::{Dated, Input};

const MINUTE_S: i64 = 60;
/// After that the minute of a fall is over.
pub(super) const OVER: Duration = Duration::from_secs(MINUTE_S.unsigned_abs() + 1);

/// So many minutes after a fall the quiet ones are told: of a pod that fell once, nothing is left then that would keep it where it is (a suspicion
/// of twentyfold is gone after some 20 minutes of its pods, see [`crate::decide::judge::platform`]).
const WATCHED: i64 = 30;

/// The pods whose falls are counted now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallible {
    /// Of the canary.
    pub canary: Vec<Standing>,
    /// Of stable.
    pub stable: Vec<Standing>,
}

/// A pod and how often it fell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub pod: String,
    /// When it was made.
    pub created: Timestamp,
    /// How often its containers were started again.
    pub restarts: u32,
}

/// What was seen in a rollout.
#[derive(Default)]
pub(super) struct Falls {
    canary: BTreeMap<String, Known>,
    stable: BTreeMap<String, u32>,
    /// Of which pod in which minute; that minute is not over yet.
    open: BTreeSet<(i64, String)>,
    /// The last minute in which stable fell.
    shaken: Option<i64>,
    /// The last minute in which the canary fell alone.
    fell: Option<i64>,
    quiet: u32,
}

struct Known {
    restarts: u32,
    /// Its minutes are counted up to this one.
    minute: i64,
}

fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(MINUTE_S)
}

impl Falls {
    /// What the minutes that are over come to, and whether one that is not over yet will be worth a look.
    pub(super) fn look(&mut self, pods: &Fallible, now: Timestamp) -> (Option<Dated>, bool) {
        let this = minute(now);
        let before = self.open.len();
        for pod in &pods.stable {
            // Of a pod that is seen for the first time nothing is known of when it fell.
            let known = self.stable.insert(pod.pod.clone(), pod.restarts).unwrap_or(pod.restarts);
            if pod.restarts > known {
                self.shaken = Some(this);
            }
        }
        for pod in &pods.canary {
            let known = self.canary.entry(pod.pod.clone());
            let known = known.or_insert_with(|| Known { restarts: pod.restarts, minute: minute(pod.created).min(this) });
            self.quiet = self.quiet.saturating_add(u32::try_from(this - known.minute).unwrap_or(0));
            if pod.restarts > known.restarts {
                self.open.insert((this, pod.pod.clone()));
            }
            *known = Known { restarts: pod.restarts, minute: this };
        }
        self.stable.retain(|pod, _| pods.stable.iter().any(|known| known.pod == *pod));
        self.canary.retain(|pod, _| pods.canary.iter().any(|known| known.pod == *pod));
        let more = self.open.len() > before;
        (self.closed(this).map(|input| Dated { at: now, input }), more)
    }

    fn closed(&mut self, this: i64) -> Option<Input> {
        let later = self.open.split_off(&(this, String::new()));
        let over = std::mem::replace(&mut self.open, later);
        let beside = |minute: i64| self.shaken.is_some_and(|shaken| (minute - 1..=minute + 1).contains(&shaken));
        let events = u32::try_from(over.iter().filter(|(minute, _)| !beside(*minute)).count()).unwrap_or(u32::MAX);
        if events > 0 {
            self.fell = Some(this);
        }
        let lately = self.quiet > 0 && self.fell.is_some_and(|fell| this - fell <= WATCHED);
        (events > 0 || lately).then(|| Input::Platform { pod_minutes: std::mem::take(&mut self.quiet).max(events), events })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::judge::{
        book::{Book, Verdict},
        terms::Terms,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(600_000 + second).unwrap()
    }

    fn pods(canary: &[u32], stable: &[u32]) -> Fallible {
        let standing = |side: &str, restarts: &[u32]| {
            let each = restarts.iter().enumerate();
            each.map(|(n, restarts)| Standing { pod: format!("{side}{n}"), created: at(0), restarts: *restarts }).collect()
        };
        Fallible { canary: standing("c", canary), stable: standing("s", stable) }
    }

    #[test]
    fn nothing_is_told_while_nothing_falls_and_then_with_the_quiet_minutes() {
        let mut falls = Falls::default();
        assert!((0..600).all(|second| falls.look(&pods(&[0, 0], &[0]), at(second)) == (None, false)));
        assert_eq!(falls.look(&pods(&[1, 0], &[0]), at(601)), (None, true), "its minute is not over");
        assert_eq!(falls.look(&pods(&[3, 0], &[0]), at(630)), (None, false), "one in a minute and pod counts");
        let (told, _) = falls.look(&pods(&[3, 0], &[0]), at(661));
        assert_eq!(told.map(|dated| dated.input), Some(Input::Platform { pod_minutes: 22, events: 1 }));
        let (told, _) = falls.look(&pods(&[3, 0], &[0]), at(730));
        assert_eq!(told.map(|dated| dated.input), Some(Input::Platform { pod_minutes: 2, events: 0 }), "that it stands again");
        assert!((731..2400).all(|second| !falls.look(&pods(&[3, 0], &[0]), at(second)).1));
        assert!((2520..9000).all(|second| falls.look(&pods(&[3, 0], &[0]), at(second)) == (None, false)), "for half an hour");
    }

    #[test]
    fn one_fall_is_no_suspicion_for_long() {
        let (mut falls, mut book) = (Falls::default(), Book::begun(Terms { restarts: Some(1), ..Terms::default() }, at(-1)));
        let mut suspected = Vec::new();
        for second in 0..3600 {
            if let (Some(told), _) = falls.look(&pods(&[u32::from(second > 100), 0], &[0]), at(second)) {
                book.take(&told);
                suspected.push(book.suspected().is_some());
            }
        }
        assert!(suspected.first() == Some(&true) && suspected.iter().filter(|suspected| **suspected).count() <= 15, "{suspected:?}");
    }

    #[test]
    fn what_falls_with_stable_says_nothing() {
        let mut falls = Falls::default();
        falls.look(&pods(&[0], &[0, 0]), at(0));
        falls.look(&pods(&[1], &[0, 0]), at(70));
        falls.look(&pods(&[1], &[0, 1]), at(125));
        assert_eq!(falls.look(&pods(&[1], &[0, 1]), at(200)).0, None);
        falls.look(&pods(&[2], &[0, 1]), at(400));
        assert!(falls.look(&pods(&[2], &[0, 1]), at(500)).0.is_some(), "by then stable stands");
    }

    #[test]
    fn a_pod_that_was_restarted_before_it_was_seen_is_not_blamed_for_now() {
        let mut falls = Falls::default();
        assert_eq!(falls.look(&pods(&[7], &[9]), at(10)), (None, false));
        assert_eq!(falls.look(&pods(&[7], &[9]), at(100)), (None, false));
        assert_eq!(falls.look(&Fallible::default(), at(200)), (None, false));
        assert!(falls.canary.is_empty() && falls.stable.is_empty());
    }

    #[test]
    fn a_leak_that_fells_a_pod_every_few_minutes_is_found() {
        let (mut falls, mut book) = (Falls::default(), Book::begun(Terms { restarts: Some(1), ..Terms::default() }, at(-1)));
        let felled = (0..3600).find(|second| {
            // Four pods, one of them each five minutes, each in its turn.
            let restarts = [0, 1, 2, 3].map(|pod| u32::try_from((second / 300 + 3 - pod) / 4).unwrap());
            if let (Some(told), _) = falls.look(&pods(&restarts, &[0; 4]), at(*second)) {
                book.take(&told);
            }
            matches!(book.verdict(), Verdict::Fail(_))
        });
        let Verdict::Fail(failure) = book.verdict() else { panic!("{}", book.wealth()) };
        assert!(felled.is_some_and(|second| second <= 1500), "{felled:?}");
        assert!(
            failure.says.starts_with("restarts: ") && failure.says.contains("minutes of the canary's pods, 1 a day"),
            "{}",
            failure.says
        );
    }
}

//! What is left of a run that ended early: what must be known to put it right, and how what it made is found by its name.
//!
//! What is known is written where many may read it, so a credential never is: what a cookie or a header of an answer brought, what any
//! request sends in a header, and whatever has a secret in it. Where teardown needs one of these, the step of the setup that brings it
//! is asked anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use jsonpath_rust::JsonPath as _;
use serde_json::Value;

use super::{Capture, Check, Place, RUN, SECRETS, Step, Vars, heard::scalar, vars};
use crate::model::phase::before;

/// Characters of a secret that are looked for within a value. Fewer would be found by chance, in an order's number.
const LONG_ENOUGH: usize = 4;
/// What `${item.NAME}` begins with.
pub(super) const ITEM: &str = "item.";
/// Hexadecimal digits of a run's name: four bytes of its second, then [`RunName::RANDOM`].
const NAME: usize = 2 * (4 + RunName::RANDOM);

/// The name of a run. It tells the second in which the run began, so that the age of what it made is known from the name alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunName(String);

impl RunName {
    /// Random bytes: at 1,000 runs a second, two of one name in 10,000 years are as likely as one in a million.
    pub const RANDOM: usize = 10;

    /// Of a run that begins now.
    #[must_use]
    pub fn new(now: Timestamp, random: [u8; Self::RANDOM]) -> Self {
        let second = u32::try_from(now.as_second()).unwrap_or(u32::MAX);
        Self(hex::encode(second.to_be_bytes()) + &hex::encode(random))
    }

    /// One that was stored.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (digits && text.len() == NAME).then(|| Self(text.to_owned()))
    }

    /// As requests and objects have it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When it began.
    #[must_use]
    pub fn began(&self) -> Timestamp {
        let second = self.0.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(u32::MAX);
        Timestamp::from_second(second.into()).unwrap_or(Timestamp::MAX)
    }
}

/// How what runs have made is found and deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Lists what is there.
    pub list: Step,
    /// Where the items are in the answer: a `JSONPath`.
    pub items: String,
    /// Where in an item the text is that names its run: a `JSONPath`.
    pub named: String,
    /// What stands in it before the name.
    pub prefix: String,
    /// Items of runs that began before that are of runs that are over.
    pub older_than: Duration,
    /// Deletes one of them; knows its members as `item.NAME`.
    pub delete: Step,
}

/// An object that a run has made.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The run.
    pub run: RunName,
    /// It.
    pub value: Value,
}

impl Sweep {
    /// Unless the probe says otherwise. The longest run takes 5 minutes for its steps, and one more for its teardown.
    pub const OLDER_THAN: Duration = Duration::from_hours(1);
    /// Deleted at a time: one after the other, that is a second or two of an app's time.
    pub const MOST: usize = 50;

    /// The items of an answer that a run has made. None: it has no such list.
    #[must_use]
    pub fn items(&self, answer: &Value) -> Option<Vec<Item>> {
        let found = answer.query(&self.items).ok()?;
        Some(found.into_iter().filter_map(|item| Some(Item { run: self.run_of(item)?, value: item.clone() })).collect())
    }

    /// The run whose name stands behind the prefix, and nothing after it.
    fn run_of(&self, item: &Value) -> Option<RunName> {
        let found = item.query(&self.named).ok()?;
        RunName::read(found.first()?.as_str()?.strip_prefix(&self.prefix)?)
    }

    /// Its run began so long ago that it is over.
    #[must_use]
    pub fn is_old(&self, run: &RunName, now: Timestamp) -> bool {
        run.began() <= before(now, self.older_than)
    }

    /// The variables of the request that deletes this item.
    #[must_use]
    pub fn vars(&self, known: &Vars, item: &Value) -> Vars {
        let mut vars = known.clone();
        for name in self.delete.names().filter_map(|name| name.strip_prefix(ITEM)) {
            let member = name.split('.').try_fold(item, |value, part| value.get(part));
            if let Some(text) = member.and_then(scalar) {
                vars.set(&format!("{ITEM}{name}"), text);
            }
        }
        vars
    }
}

impl Check {
    /// Of a value that is kept for teardown: an identifier or a link. 16 × 1 KiB = 16 KiB of a `ProbeRun` at worst.
    pub const MAX_KEPT: usize = 1024;
    /// Values that are kept.
    pub const MOST_KEPT: usize = 16;

    /// The values that teardown needs and that may be written down, of those that are known.
    #[must_use]
    pub fn kept(&self, known: &Vars) -> BTreeMap<String, String> {
        let fits = |name: &&str| known.get(name).is_some_and(|value| value.len() <= Self::MAX_KEPT && !self.has_secret(value));
        let open = self.open_names();
        open.iter()
            .copied()
            .filter(fits)
            .take(Self::MOST_KEPT)
            .filter_map(|name| Some((name.to_owned(), known.get(name)?.to_owned())))
            .collect()
    }

    /// One of the values that this step captures is to be kept.
    #[must_use]
    pub fn keeps_of(&self, step: &Step) -> bool {
        let open = self.open_names();
        step.capture.iter().any(|capture| open.contains(capture.name.as_str()))
    }

    /// The steps of the setup that are asked anew to put a run right: those that bring what teardown or the sweep needs and nobody wrote
    /// down, and those that they need themselves.
    #[must_use]
    pub fn setup_anew(&self) -> Vec<Step> {
        let open = self.open_names();
        let sweep = self.sweep.iter().flat_map(|sweep| [&sweep.list, &sweep.delete]);
        let mut needed: BTreeSet<&str> =
            self.teardown.iter().chain(sweep).flat_map(Step::names).filter(|name| !open.contains(name)).collect();
        let mut anew = Vec::new();
        for step in self.setup.iter().rev() {
            if step.capture.iter().any(|capture| needed.contains(capture.name.as_str())) {
                needed.extend(step.names());
                anew.push(step.clone());
            }
        }
        anew.reverse();
        anew
    }

    /// What teardown names that is captured and no credential.
    fn open_names(&self) -> BTreeSet<&str> {
        let sent_in_headers: BTreeSet<&str> = self
            .all_steps()
            .flat_map(|(_, step)| step.headers.iter().flat_map(|(_, value)| vars::names(value)).collect::<Vec<_>>())
            .collect();
        let hidden = |capture: &Capture| !matches!(capture.from, Place::Json(_)) && !names_a_place(capture);
        let credentials: BTreeSet<&str> = self
            .all_steps()
            .flat_map(|(_, step)| {
                step.capture.iter().filter(|capture| hidden(capture)).map(|capture| capture.name.as_str()).collect::<Vec<_>>()
            })
            .collect();
        let named = self.teardown.iter().flat_map(Step::names);
        named
            .filter(|name| *name != RUN && !name.starts_with(SECRETS) && !sent_in_headers.contains(name) && !credentials.contains(name))
            .collect()
    }

    fn has_secret(&self, value: &str) -> bool {
        let secrets = self.secrets.names().filter_map(|name| self.secrets.get(name));
        secrets.filter(|secret| !secret.is_empty()).any(|secret| value == secret || (secret.len() >= LONG_ENOUGH && value.contains(secret)))
    }
}

/// `Location` is where what was made is found; any other header may be a token.
fn names_a_place(capture: &Capture) -> bool {
    matches!(&capture.from, Place::Header(name) if name.eq_ignore_ascii_case("location") || name.eq_ignore_ascii_case("content-location"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::probe::{Expect, Scheme};

    fn step(name: &str, path: &str, headers: &[(&str, &str)], capture: &[(&str, Place)]) -> Step {
        Step {
            name: name.into(),
            method: "POST".into(),
            path: path.into(),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            body: None,
            expect: Expect::default(),
            capture: capture.iter().map(|(name, from)| Capture { name: (*name).into(), from: from.clone() }).collect(),
            until: None,
            compare: None,
            deadline: Step::DEADLINE,
        }
    }

    fn json_at(path: &str) -> Place {
        Place::Json(path.into())
    }

    fn check() -> Check {
        let mut secrets = Vars::default();
        secrets.set("secrets.token", "tok3n".into());
        secrets.set("secrets.pin", "12".into());
        Check {
            name: "order".into(),
            scheme: Scheme::Http,
            host: "shop".into(),
            setup: vec![
                step("page", "/", &[], &[("csrf", json_at("$.csrf"))]),
                step("login", "/login?${csrf}", &[], &[("sid", Place::Cookie("sid".into()))]),
                step("org", "/orgs", &[("Cookie", "${sid}")], &[("org", json_at("$.id"))]),
            ],
            steps: vec![step(
                "place",
                "/orders",
                &[("Authorization", "${bearer}")],
                &[
                    ("id", json_at("$.id")),
                    ("note", json_at("$.note")),
                    ("at", Place::Header("Location".into())),
                    ("key", Place::Header("X-Key".into())),
                ],
            )],
            teardown: vec![
                step("cancel", "/orders/${id}?run=${run.id}&s=${secrets.token}", &[("Cookie", "${sid}")], &[]),
                step("leave", "${at}/${org}/${key}", &[], &[]),
            ],
            sweep: None,
            secrets,
            deadline: Check::DEADLINE,
            trust: None,
            suite: None,
            tester: None,
            answered_by: None,
            knock: None,
        }
    }

    fn known(values: &[(&str, &str)]) -> Vars {
        let mut vars = check().secrets;
        for (name, value) in values {
            vars.set(name, (*value).to_owned());
        }
        vars
    }

    #[test]
    fn what_teardown_needs_is_kept_and_no_credential_is() {
        let all = known(&[
            ("run.id", "r"),
            ("csrf", "c"),
            ("sid", "s"),
            ("org", "o"),
            ("id", "7"),
            ("note", "n"),
            ("at", "/orders/7"),
            ("key", "k"),
        ]);
        let kept: Vec<_> = check().kept(&all).into_iter().collect();
        let pairs = |of: &[(&str, &str)]| of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        assert_eq!(kept, pairs(&[("at", "/orders/7"), ("id", "7"), ("org", "o")]));
        assert!(check().keeps_of(&check().steps[0]) && check().keeps_of(&check().setup[2]) && !check().keeps_of(&check().setup[0]));
        for leaked in ["tok3n", "a-tok3n-b", "12"] {
            assert_eq!(check().kept(&known(&[("id", leaked)])), BTreeMap::new(), "{leaked}");
        }
        assert_eq!(check().kept(&known(&[("id", "order-12")])).len(), 1, "a secret of two digits is in any number");
        assert_eq!(check().kept(&known(&[("id", &"x".repeat(1025))])), BTreeMap::new());
    }

    #[test]
    fn what_brings_a_session_is_asked_anew_and_what_makes_an_object_is_not() {
        let anew: Vec<String> = check().setup_anew().into_iter().map(|step| step.name).collect();
        assert_eq!(anew, ["page", "login"], "another organisation would be another thing to put right");
    }

    fn sweep() -> Sweep {
        Sweep {
            list: step("list", "/orders", &[], &[]),
            items: "$.orders[*]".into(),
            named: "$.ref".into(),
            prefix: "synth-".into(),
            older_than: Sweep::OLDER_THAN,
            delete: step("delete", "/orders/${item.id}/${item.of.shop}", &[], &[]),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_item_is_a_runs_when_its_name_stands_behind_the_prefix_and_nothing_else_does() {
        let run = RunName::new(at(1_700_000_000), [7; RunName::RANDOM]);
        let name = run.as_str();
        let ours = json!({"id": 3, "ref": format!("synth-{name}")});
        let others = [
            json!({"id": 1, "ref": format!("customer-{name}")}),
            json!({"id": 2, "ref": "synth-weave"}),
            json!({"id": 4, "ref": format!("synth-{name}-2")}),
            json!({"id": 5, "ref": format!("synth-{}", name.to_uppercase())}),
            json!({"id": 6, "ref": 7}),
            json!({"id": 8}),
            json!("synth-"),
        ];
        let all: Vec<Value> = others.into_iter().chain([ours.clone()]).collect();
        assert_eq!(sweep().items(&json!({"orders": all})), Some(vec![Item { run: run.clone(), value: ours }]));
        assert_eq!(sweep().items(&json!({"orders": []})), Some(vec![]));
        assert!(sweep().is_old(&run, at(1_700_003_600)) && !sweep().is_old(&run, at(1_700_003_599)));
    }

    #[test]
    fn a_name_tells_when_its_run_began() {
        let run = RunName::new(at(1_800_000_000), [0xab; RunName::RANDOM]);
        assert_eq!((run.as_str().len(), run.began()), (28, at(1_800_000_000)));
        assert_eq!(RunName::read(run.as_str()), Some(run));
        assert_eq!(RunName::read("0123"), None);
    }

    #[test]
    fn members_of_an_item_are_known_by_their_names() {
        let vars = sweep().vars(&known(&[]), &json!({"id": 3, "of": {"shop": "a/b"}}));
        assert_eq!(vars.fill_path(&sweep().delete.path).as_deref(), Ok("/orders/3/a%2Fb"));
        assert_eq!(sweep().vars(&known(&[]), &json!({"id": [3]})).fill_path(&sweep().delete.path), Err("item.id"));
    }
}

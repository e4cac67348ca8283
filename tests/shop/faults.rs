//! Which requests are made to fail. A rule reads `path=/orders,code=500,after=20,rate=50`; several are separated by `;`.
//!
//! * `path` (required): this path and everything under it (`/orders` also means `/orders/17`, and `/orders/` means what is under it alone);
//!   a `*` in it is any one name (`/orders/*/payment`); `/` is the page alone, `*` is every path.
//! * `code`: 400 to 599.
//! * `ms`: so many milliseconds later, at most 10,000.
//! * `log`: a line of level error that says so, with the number of the request; the answer is as ever.
//! * `drop`: JSON answers lack the members of this name.
//! * `leak`: so many KiB are never given back.
//! * `poison`: the shop that keeps the orders (`SHOP_STORE`) answers with this code from then on, whoever asks for orders.
//!   One of `code`, `ms`, `log`, `drop`, `leak` and `poison` is required.
//! * `after`: so many customer requests, on any path, pass first (default 0). Readiness, metrics and admin requests do not count.
//! * `above`: only while more customer requests than so many were begun in the last second (default 0), for a fault that load alone shows.
//! * `version`: only in this version (default: in all), for a fault that a later image mends.
//! * `rate`: percent of the requests that fail (default 100). Spread without a pattern, and the same in every run.

use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};

/// All rules in force; the first that wants a request to fail decides its code.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Faults(Vec<Rule>);

/// One rule of `SHOP_FAIL`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    path: String,
    harm: Harm,
    after: u64,
    above: u64,
    rate: f64,
    version: Option<String>,
}

/// What is done to a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Harm {
    /// It fails with this code.
    pub(crate) code: Option<u16>,
    /// It is answered so much later.
    pub(crate) ms: u64,
    /// What is complained of in the log meanwhile.
    pub(crate) log: Option<String>,
    /// The members that its answer lacks.
    pub(crate) drop: Vec<String>,
    /// Of memory that is never given back.
    pub(crate) leak_kib: usize,
    /// What the keeper of the orders answers from then on.
    pub(crate) poison: Option<u16>,
}

impl Harm {
    /// Of several rules: the first that has a say, and all that adds up.
    fn and(mut self, other: &Self) -> Self {
        self.code = self.code.or(other.code);
        self.log = self.log.or_else(|| other.log.clone());
        self.poison = self.poison.or(other.poison);
        self.drop.extend(other.drop.iter().cloned());
        (self.ms, self.leak_kib) = (self.ms + other.ms, self.leak_kib + other.leak_kib);
        self
    }
}

impl Faults {
    /// Those that a shop of this version has.
    pub(crate) fn of(mut self, version: &str) -> Self {
        self.0.retain(|rule| rule.version.as_deref().is_none_or(|only| only == version));
        self
    }

    /// What is done to this request. `number` counts customer requests from 1 on, `crowd` those of the last second.
    pub(crate) fn harm(&self, path: &str, number: u64, crowd: u64) -> Harm {
        self.0.iter().filter(|rule| crowd > rule.above && rule.hits(path, number)).fold(Harm::default(), |harm, rule| harm.and(&rule.harm))
    }

    pub(crate) fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }
}

impl FromStr for Faults {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(';').map(str::trim).filter(|rule| !rule.is_empty()).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Rule {
    fn hits(&self, path: &str, number: u64) -> bool {
        let here = match self.path.as_str() {
            "*" => true,
            "/" => path == "/",
            folder => {
                let mut there = path.trim_start_matches('/').split('/');
                let inside = folder.trim_matches('/').split('/').all(|name| there.next().is_some_and(|it| name == "*" || name == it));
                inside && (!folder.ends_with('/') || there.next().is_some())
            }
        };
        here && number > self.after && percentile(number) < self.rate
    }
}

impl FromStr for Rule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut path, mut harm, mut after, mut rate, mut version) = (None, Harm::default(), 0, 100.0, None);
        let mut above = 0;
        for part in text.split(',') {
            let (key, value) = part.trim().split_once('=').with_context(|| format!("{part:?} is not key=value"))?;
            let bad = || format!("{key}={value}");
            match key {
                "path" if value == "*" || value.starts_with('/') => path = Some(value.to_owned()),
                "code" => harm.code = Some(within(value, 400..=599).with_context(bad)?),
                "ms" => harm.ms = within(value, 1..=10_000).with_context(bad)?,
                "log" if !value.is_empty() => harm.log = Some(value.to_owned()),
                "drop" if !value.is_empty() => harm.drop.push(value.to_owned()),
                "leak" => harm.leak_kib = within(value, 1..=10_240).with_context(bad)?,
                "poison" => harm.poison = Some(within(value, 400..=599).with_context(bad)?),
                "after" => after = value.parse().with_context(bad)?,
                "above" => above = value.parse().with_context(bad)?,
                "version" => version = Some(value.to_owned()),
                "rate" => rate = within(value, 0.0..=100.0).with_context(bad)?,
                _ => bail!("{part:?} is not understood: path, code, ms, log, drop, leak, poison, after, above, rate and version are"),
            }
        }
        let path = path.context("path is missing")?;
        ensure!(harm != Harm::default(), "code, ms, log, drop, leak or poison is missing");
        Ok(Self { path, harm, after, above, rate, version })
    }
}

fn within<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|value| range.contains(value))
}

/// A number in 0..100 for the n-th request: the finaliser of `SplitMix64` (Steele, Lea, Flood 2014), so that a rate does not
/// fall into step with clients that take turns, and every run is the same.
fn percentile(number: u64) -> f64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let per_million = u32::try_from((z ^ (z >> 31)) % 1_000_000).unwrap_or_default();
    f64::from(per_million) / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Faults {
        text.parse().unwrap()
    }

    fn fails(code: u16) -> Harm {
        Harm { code: Some(code), ..Harm::default() }
    }

    impl Faults {
        fn code_for(&self, path: &str, number: u64) -> Option<u16> {
            self.harm(path, number, 1).code
        }
    }

    #[test]
    fn a_list_is_read() {
        let expected = Faults(vec![
            Rule { path: "/orders".into(), harm: fails(500), after: 20, above: 0, rate: 100.0, version: None },
            Rule { path: "*".into(), harm: fails(503), after: 0, above: 0, rate: 2.5, version: Some("v2".into()) },
        ]);
        let read = faults("path=/orders,code=500,after=20; path=*,code=503,rate=2.5,version=v2;");
        assert_eq!(read, expected);
        assert_eq!(read.clone().of("v2"), expected);
        assert_eq!(read.of("v3"), faults("path=/orders,code=500,after=20"));
        assert_eq!(faults(""), Faults::default());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "/orders",
            "path=/orders",
            "code=500",
            "path=orders,code=500",
            "path=/x,code=200",
            "path=/x,code=500,rate=101",
            "path=/x,code=500,later=3",
            "path=/x,ms=0",
            "path=/x,drop=",
            "path=/x,log=",
            "path=/x,leak=0",
            "path=/x,poison=200",
            "path=/x,ms=99999",
        ] {
            assert!(text.parse::<Faults>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn late_is_a_fault_of_its_own() {
        let faults = faults("path=/products,ms=300,rate=50;path=/products,ms=20");
        let delays: std::collections::BTreeSet<_> = (1..100).map(|number| faults.harm("/products", number, 1).ms).collect();
        assert_eq!(delays.into_iter().collect::<Vec<_>>(), [20, 320]);
        assert_eq!((faults.code_for("/products", 1), faults.harm("/", 1, 1)), (None, Harm::default()));
    }

    #[test]
    fn what_several_rules_say_adds_up() {
        let faults =
            faults("path=/products,drop=cents,version=v2;path=/,code=500;path=*,leak=10;path=/products,leak=5,poison=503,log=no till")
                .of("v2");
        let harm = faults.harm("/products", 1, 1);
        assert_eq!(
            (harm.drop.as_slice(), harm.leak_kib, harm.poison, harm.log.as_deref(), harm.code),
            (["cents".to_owned()].as_slice(), 15, Some(503), Some("no till"), None)
        );
        assert_eq!(faults.harm("/", 1, 1), Harm { leak_kib: 10, ..fails(500) });
    }

    #[test]
    fn some_faults_show_in_a_crowd_alone() {
        let faults = faults("path=/products,code=503,above=30");
        assert_eq!([1, 30, 31].map(|crowd| faults.harm("/products", 7, crowd).code), [None, None, Some(503)]);
    }

    #[test]
    fn exactly_n_requests_pass_first() {
        let faults = faults("path=/orders,code=500,after=20");
        assert_eq!(faults.code_for("/orders", 20), None);
        assert_eq!(faults.code_for("/orders", 21), Some(500));
        assert_eq!(faults.code_for("/products", 21), None);
    }

    #[test]
    fn a_path_is_a_folder_and_not_a_prefix_of_letters() {
        let orders = faults("path=/orders,code=500");
        assert_eq!(orders.code_for("/orders/17", 1), Some(500));
        assert_eq!(orders.code_for("/orders-old", 1), None);
        let below = faults("path=/orders/,code=500");
        assert_eq!((below.code_for("/orders/17", 1), below.code_for("/orders", 1)), (Some(500), None));
        let payment = faults("path=/orders/*/payment,code=500");
        assert_eq!((payment.code_for("/orders/17/payment", 1), payment.code_for("/orders/17", 1)), (Some(500), None));
        assert_eq!((payment.code_for("/orders", 1), payment.code_for("/other/17/payment", 1)), (None, None));
        assert_eq!(faults("path=/,code=500").code_for("/orders", 1), None);
        assert_eq!(faults("path=/,code=500").code_for("/", 1), Some(500));
        assert_eq!(faults("path=*,code=500").code_for("/orders", 1), Some(500));
    }

    #[test]
    fn a_rate_is_kept_also_for_every_second_request() {
        let faults = faults("path=/orders,code=500,rate=10");
        let failed = |start: u64| (start..20_000).step_by(2).filter(|n| faults.code_for("/orders", *n).is_some()).count();
        for start in [1, 2] {
            assert!((900..1100).contains(&failed(start)), "{} of 10000", failed(start));
        }
    }
}

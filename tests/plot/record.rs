//! The load generator's log, summed by second: half an hour of it is some hundred thousand lines.

use std::collections::{BTreeMap, BTreeSet};

const SECOND_US: i64 = 1_000_000;

/// Requests of one kind of connection that one version answered, or nobody.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) requests: u64,
    /// By what they ended with: `500`, `reset`.
    pub(crate) failed: BTreeMap<String, u64>,
}

impl Sum {
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// One second of requests, by the time at which they were sent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Second {
    /// By version; `""` where nobody answered, or somebody who is no version.
    pub(crate) answered: BTreeMap<String, u64>,
    pub(crate) failed: u64,
}

impl Second {
    pub(crate) fn requests(&self) -> u64 {
        self.answered.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (version, count) in &other.answered {
            *self.answered.entry(version.clone()).or_default() += count;
        }
        self.failed += other.failed;
    }
}

/// Everything that is drawn or counted.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// By Unix second.
    pub(crate) seconds: BTreeMap<i64, Second>,
    /// By version and kind of connection.
    pub(crate) sums: BTreeMap<(String, String), Sum>,
    /// When each version answered for the first time, Unix µs.
    first: BTreeMap<String, i64>,
}

impl Records {
    /// Takes one line in: `start_us,connect_us,total_us,kind,path,result,version,reconnect`.
    pub(crate) fn enter(&mut self, line: &str) -> Option<()> {
        let fields: Vec<&str> = line.split(',').collect();
        let [start, _, _, kind, _, result, version, _] = fields.as_slice() else { return None };
        let start: i64 = start.parse().ok()?;
        let failed = !(result.starts_with('2') || result.starts_with('3'));
        let second = self.seconds.entry(start.div_euclid(SECOND_US)).or_default();
        *second.answered.entry((*version).to_owned()).or_default() += 1;
        second.failed += u64::from(failed);
        let sum = self.sums.entry(((*version).to_owned(), (*kind).to_owned())).or_default();
        sum.requests += 1;
        if failed {
            *sum.failed.entry((*result).to_owned()).or_default() += 1;
        }
        let first = self.first.entry((*version).to_owned()).or_insert(start);
        *first = start.min(*first);
        Some(())
    }

    /// In the order in which they came; nobody last.
    pub(crate) fn versions(&self) -> Vec<String> {
        let by_time: BTreeSet<(bool, i64, &String)> = self.first.iter().map(|(version, at)| (version.is_empty(), *at, version)).collect();
        by_time.into_iter().map(|(_, _, version)| version.clone()).collect()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.sums.values().map(|sum| sum.requests).sum()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.sums.values().map(Sum::failures).sum()
    }

    pub(crate) fn of_version(&self, version: &str) -> Sum {
        let mut all = Sum::default();
        for (_, sum) in self.sums.iter().filter(|((of, _), _)| of == version) {
            all.requests += sum.requests;
            for (what, count) in &sum.failed {
                *all.failed.entry(what.clone()).or_default() += count;
            }
        }
        all
    }
}

/// A moment that people should see in the picture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at_us: i64,
    pub(crate) says: String,
}

impl Mark {
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (at, says) = line.split_once(',')?;
        Some(Self { at_us: at.parse().ok()?, says: says.to_owned() })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn records(lines: &[String]) -> Records {
        let mut records = Records::default();
        for line in lines {
            records.enter(line).unwrap_or_else(|| panic!("{line}"));
        }
        records
    }

    pub(crate) fn line(at_us: i64, kind: &str, result: &str, version: &str) -> String {
        format!("{at_us},0,900,{kind},/products,{result},{version},0")
    }

    #[test]
    fn a_request_belongs_to_the_second_in_which_it_was_sent() {
        let all = records(&[
            line(7_999_999, "fresh", "200", "v1"),
            line(8_000_000, "fresh", "200", "v2"),
            line(8_000_001, "keepalive", "500", "v2"),
            line(8_999_999, "keepalive", "reset", ""),
        ]);
        assert_eq!(all.seconds.keys().copied().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(all.seconds[&8].answered, [(String::new(), 1), ("v2".to_owned(), 2)].into());
        assert_eq!((all.seconds[&7].failed, all.seconds[&8].failed), (0, 2));
        assert_eq!((all.requests(), all.failures()), (4, 2));
        assert_eq!(all.of_version("v2"), Sum { requests: 2, failed: [("500".to_owned(), 1)].into() });
    }

    #[test]
    fn versions_stand_in_the_order_of_their_first_answer_and_nobody_comes_last() {
        let all = records(&[line(1, "fresh", "refused", ""), line(9, "fresh", "200", "a"), line(5, "fresh", "200", "b")]);
        assert_eq!(all.versions(), ["b", "a", ""]);
    }

    #[test]
    fn what_is_no_line_of_the_log_is_refused() {
        let mut all = Records::default();
        for line in ["", "start_us,connect_us,total_us,kind,path,result,version,reconnect", "1,2,3,fresh,/,200,v1"] {
            assert!(all.enter(line).is_none(), "{line} was accepted");
        }
        assert_eq!(Mark::read("8000000,v2 merged, at last"), Some(Mark { at_us: 8_000_000, says: "v2 merged, at last".to_owned() }));
        assert_eq!(Mark::read("soon,v2"), None);
    }
}

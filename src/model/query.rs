//! A number that says how something is on which every version leans, the load of a database say, and the bound beyond which nothing goes
//! forward.
//!
//! It says nothing of one version. Deliberately absent: what it holds ([`crate::decide::queries`]), and rates over time: that is `PromQL`'s.

use std::fmt;

use jiff::Timestamp;

use super::world::Silent;
use crate::api::verify::QuerySpec;

/// Digits of a number as people read it.
const DIGITS: usize = 6;

/// A question that is asked of Prometheus while a version rolls out.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedQuery {
    /// What people call it.
    pub name: String,
    /// In `PromQL`.
    pub query: String,
    /// Beyond which nothing goes forward.
    pub bound: Bound,
}

/// Beyond it is too much, or too little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// More is too much.
    Above(f64),
    /// Less is too little.
    Below(f64),
}

/// What is known of a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queried {
    /// Its last answer that was a number.
    pub last: Option<Gauged>,
    /// Since then it has had no answer that is one, and why.
    pub silent: Option<Silent>,
}

/// A number, and what it is for a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauged {
    /// The worst of the answer.
    pub value: f64,
    /// It is beyond the bound.
    pub beyond: bool,
    /// It has been so since then, as far as was asked.
    pub since: Timestamp,
}

impl PlannedQuery {
    /// Of a spec.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the name of the field.
    pub fn read(spec: &QuerySpec) -> Result<Self, String> {
        let number = |field: &str, text: &str| match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) | Err(_) => Err(format!(".{field}: {text} is no number such as \"0.8\"")),
        };
        let bound = match (&spec.holds_above, &spec.holds_below) {
            (Some(most), None) => Bound::Above(number("holdsAbove", most)?),
            (None, Some(least)) => Bound::Below(number("holdsBelow", least)?),
            (Some(_), Some(_)) | (None, None) => return Err(": exactly one of holdsAbove and holdsBelow".to_owned()),
        };
        Ok(Self { name: spec.name.clone(), query: spec.query.clone(), bound })
    }
}

impl Bound {
    /// Of several numbers the one that is furthest beyond it, or nearest to it.
    ///
    /// # Errors
    /// Why there is none. A number beyond it counts, whatever else is there; without one, what is no number may be one that is.
    pub fn worst(self, values: &[f64]) -> Result<f64, String> {
        let numbers = values.iter().copied().filter(|value| value.is_finite());
        let worst = match self {
            Self::Above(_) => numbers.reduce(f64::max),
            Self::Below(_) => numbers.reduce(f64::min),
        };
        let no_number = values.iter().find(|value| !value.is_finite());
        match (worst, no_number) {
            (Some(worst), Some(_)) if self.is_passed_by(worst) => Ok(worst),
            (_, Some(other)) => Err(format!("it answers {other}, which is no number")),
            (Some(worst), None) => Ok(worst),
            (None, None) => Err("it finds nothing".to_owned()),
        }
    }

    /// That value is beyond it.
    #[must_use]
    pub fn is_passed_by(self, value: f64) -> bool {
        match self {
            Self::Above(most) => value > most,
            Self::Below(least) => value < least,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(most) => write!(f, "above {}", shown(*most)),
            Self::Below(least) => write!(f, "below {}", shown(*least)),
        }
    }
}

impl Queried {
    /// It was asked once more: what is known now.
    #[must_use]
    pub fn heard(&self, bound: Bound, answer: Result<f64, String>, now: Timestamp) -> Self {
        match answer {
            Ok(value) => {
                let beyond = bound.is_passed_by(value);
                let since = self.last.as_ref().filter(|last| last.beyond == beyond).map_or(now, |last| last.since);
                Self { last: Some(Gauged { value, beyond, since }), silent: None }
            }
            Err(why) => {
                let since = self.silent.as_ref().map_or(now, |silent| silent.since);
                Self { last: self.last.clone(), silent: Some(Silent { since, why }) }
            }
        }
    }
}

/// A number as people read it: six digits of it, by powers of ten where it is far from 1.
#[must_use]
pub fn shown(value: f64) -> String {
    let rounded = format!("{value:.*e}", DIGITS - 1).parse::<f64>().unwrap_or(value);
    let far = rounded != 0.0 && !(1e-6..1e15).contains(&rounded.abs());
    if far { format!("{rounded:e}") } else { rounded.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(above: Option<&str>, below: Option<&str>) -> QuerySpec {
        let text = |text: Option<&str>| text.map(str::to_owned);
        QuerySpec { name: "load".into(), query: "up".into(), holds_above: text(above), holds_below: text(below) }
    }

    #[test]
    fn a_bound_is_one_decimal_number() {
        let bound = |above, below| PlannedQuery::read(&spec(above, below)).map(|planned| planned.bound);
        assert_eq!(bound(Some("0.8"), None), Ok(Bound::Above(0.8)));
        assert_eq!(bound(None, Some("-3")), Ok(Bound::Below(-3.0)));
        for none in ["NaN", "inf", "800m", "", "80 %"] {
            assert_eq!(bound(Some(none), None), Err(format!(".holdsAbove: {none} is no number such as \"0.8\"")));
        }
        for both in [bound(None, None), bound(Some("1"), Some("2"))] {
            assert_eq!(both, Err(": exactly one of holdsAbove and holdsBelow".to_owned()));
        }
    }

    #[test]
    fn of_several_series_the_worst_counts_and_what_is_no_number_hides_none() {
        let (above, below) = (Bound::Above(0.8), Bound::Below(3.0));
        assert_eq!(above.worst(&[0.1, 0.9, 0.5]), Ok(0.9));
        assert_eq!(below.worst(&[5.0, -1.0, 4.0]), Ok(-1.0));
        assert_eq!(above.worst(&[f64::NAN, 0.9]), Ok(0.9));
        assert_eq!(above.worst(&[f64::NAN, 0.8]), Err("it answers NaN, which is no number".to_owned()));
        assert_eq!(below.worst(&[f64::INFINITY, 4.0]), Err("it answers inf, which is no number".to_owned()));
        assert_eq!(above.worst(&[]), Err("it finds nothing".to_owned()));
        assert!(!above.is_passed_by(0.8) && !below.is_passed_by(3.0), "the bound itself is fine");
    }

    #[test]
    fn since_when_it_is_so_outlasts_other_values_and_an_answer_that_is_missing() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let known = Queried::default().heard(Bound::Above(1.0), Ok(2.0), at(10)).heard(Bound::Above(1.0), Ok(3.0), at(25));
        assert_eq!(known.last, Some(Gauged { value: 3.0, beyond: true, since: at(10) }));
        let away = known.heard(Bound::Above(1.0), Err("away".into()), at(40)).heard(Bound::Above(1.0), Err("still".into()), at(55));
        assert_eq!((away.last.clone(), away.silent.as_ref().map(|s| (s.since, s.why.as_str()))), (known.last, Some((at(40), "still"))));
        let back = away.heard(Bound::Above(1.0), Ok(4.0), at(70));
        assert_eq!((back.last.map(|last| last.since), back.silent), (Some(at(10)), None));
        let well = Queried::default().heard(Bound::Above(1.0), Ok(2.0), at(10)).heard(Bound::Above(1.0), Ok(1.0), at(25));
        assert_eq!(well.last, Some(Gauged { value: 1.0, beyond: false, since: at(25) }));
    }

    #[test]
    fn numbers_are_read_by_people() {
        let all = [(0.800_000_1, "0.8"), (0.912_345_67, "0.912346"), (123_456_789.0, "123457000"), (0.0, "0"), (-2.5, "-2.5")];
        for (value, said) in all.into_iter().chain([(1e300, "1e300"), (2e-9, "2e-9")]) {
            assert_eq!(shown(value), said);
        }
        assert_eq!((Bound::Above(0.8).to_string(), Bound::Below(3.0).to_string()), ("above 0.8".to_owned(), "below 3".to_owned()));
    }
}

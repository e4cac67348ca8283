//! Times of the week, by the clocks of a place.
//!
//! They are worked out from the time zones in this binary, so that they are the same wherever it runs. Pure: what is open now is asked with a
//! time.

use jiff::{
    Span as Length, Timestamp,
    civil::{Date, Weekday},
    tz::{TimeZone, TimeZoneDatabase},
};

use super::policy::PolicyError;
use crate::api::policy::{Day, WindowSpec};

/// Minutes of a day.
const DAY: i64 = 24 * 60;
/// One window after the other is followed so often: each of 8 twice a week, for a week.
const TURNS: usize = 112;

/// A time of the week.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    days: Vec<Weekday>,
    /// Minutes since midnight of such a day.
    from: i64,
    /// The same; past the midnight after it, more than a day has.
    to: i64,
    zone: TimeZone,
}

pub(super) fn zone(name: Option<&String>) -> Result<TimeZone, PolicyError> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    TimeZoneDatabase::bundled().get(name).map_err(|_| PolicyError::Zone(name.clone()))
}

/// Minutes since midnight.
fn minutes(text: &str) -> Result<i64, PolicyError> {
    let wrong = || PolicyError::Time(text.to_owned());
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    let at = number(hours)? * 60 + number(minutes)?;
    if (0..=DAY).contains(&at) { Ok(at) } else { Err(wrong()) }
}

/// So many minutes after the midnight with which a day begins, by the clocks of that place.
pub(super) fn moment(day: Date, minutes: i64, zone: &TimeZone) -> Option<Timestamp> {
    let at = day.at(0, 0, 0, 0).checked_add(Length::new().minutes(minutes)).ok()?;
    zone.to_timestamp(at).ok()
}

impl Window {
    pub(super) fn read(spec: &WindowSpec) -> Result<Self, PolicyError> {
        let (from, to) = (minutes(&spec.from)?, minutes(&spec.to)?);
        Ok(Self {
            days: spec.days.iter().copied().map(weekday).collect(),
            from,
            to: if to > from { to } else { to + DAY },
            zone: zone(spec.time_zone.as_ref())?,
        })
    }

    /// When it opens on that day, if it does.
    pub(super) fn opens(&self, day: Date) -> Option<Timestamp> {
        moment(day, self.from, &self.zone).filter(|_| self.days.contains(&day.weekday()))
    }

    pub(super) fn covers(&self, at: Timestamp) -> bool {
        self.closes(at).is_some()
    }

    /// When it closes that is open then; none: it is not.
    fn closes(&self, at: Timestamp) -> Option<Timestamp> {
        let today = at.to_zoned(self.zone.clone()).date();
        // It may have opened yesterday.
        let end = |day: Date| {
            let open = self.opens(day).is_some_and(|from| from <= at);
            moment(day, self.to, &self.zone).filter(|to| open && at < *to)
        };
        [Some(today), today.yesterday().ok()].into_iter().flatten().filter_map(end).max()
    }
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

/// Times of the week in which something is not done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows(Vec<Window>);

impl Windows {
    /// Of stored ones.
    ///
    /// # Errors
    /// When one speaks of a time zone or a time that is none.
    pub fn read(specs: &[WindowSpec]) -> Result<Self, PolicyError> {
        specs.iter().map(Window::read).collect::<Result<_, _>>().map(Self)
    }

    /// One of them is open then.
    #[must_use]
    pub fn cover(&self, at: Timestamp) -> bool {
        self.0.iter().any(|window| window.covers(at))
    }

    /// The first moment from that one on in which none is open; none: as far as one can see there is none.
    #[must_use]
    pub fn free(&self, from: Timestamp) -> Option<Timestamp> {
        let mut at = from;
        for _ in 0..TURNS {
            match self.0.iter().filter_map(|window| window.closes(at)).max() {
                Some(end) => at = end,
                None => return Some(at),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn windows(specs: Value) -> Windows {
        let specs: Vec<WindowSpec> = serde_json::from_value(specs).unwrap();
        Windows::read(&specs).unwrap()
    }

    fn free(windows: &Windows, from: &str) -> String {
        windows.free(from.parse().unwrap()).map_or_else(|| "never".to_owned(), |at| at.to_string())
    }

    #[test]
    fn what_is_quiet_ends_with_the_last_window_that_is_open_or_begins_then() {
        // 2026-11-23 is a Monday; Berlin is an hour ahead of UTC.
        let night = windows(json!([
            {"days": ["Mon"], "from": "22:00", "to": "02:00", "timeZone": "Europe/Berlin"},
            {"days": ["Tue"], "from": "02:00", "to": "04:00", "timeZone": "Europe/Berlin"},
            {"days": ["Mon"], "from": "23:00", "to": "24:00", "timeZone": "Europe/Berlin"}]));
        assert_eq!(free(&night, "2026-11-23T22:30:00Z"), "2026-11-24T03:00:00Z");
        assert_eq!(free(&night, "2026-11-24T03:00:00Z"), "2026-11-24T03:00:00Z", "the end is free");
        let at = |text: &str| night.cover(text.parse().unwrap());
        assert!(at("2026-11-23T21:00:00Z") && !at("2026-11-23T20:59:59Z") && !at("2026-11-24T03:00:00Z"));
        assert!(!Windows::default().cover(Timestamp::UNIX_EPOCH), "without any nothing is quiet");
    }

    #[test]
    fn what_never_ends_says_so() {
        let days = json!(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]);
        assert_eq!(free(&windows(json!([{"days": days, "from": "00:00", "to": "24:00"}])), "2026-11-23T22:30:00Z"), "never");
    }
}

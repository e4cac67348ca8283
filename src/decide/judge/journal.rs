//! The record of a book as it grows, decision by decision, and the book from it again.
//!
//! It is held against the book of each decision: what is kept replays to that one to the last bit. Where it would not, as a part of what was
//! taken in is not known here (another leader took it in) or there is no room for more, it begins anew with the book as it stands, and says so.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    book::{Book, Dated, Input},
    record::Record,
    terms::Terms,
};

/// What a book took in, since it was empty or since some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    from: Option<Book>,
    record: Record,
    book: Book,
}

/// A journal as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The book that it begins with; absent: an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Book>,
    /// What was agreed.
    terms: Terms,
    /// Everything that was taken in since, as base64.
    inputs: String,
    /// The book of the last decision.
    book: Book,
}

/// What a journal comes to when it is replayed.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The book that it begins with, where that is not an empty one.
    pub from: Option<Book>,
    /// Each input and the book after it.
    pub bets: Vec<(Dated, Book)>,
    /// The book that was recorded.
    pub recorded: Book,
}

/// A journal that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recorded evidence cannot be read: it was cut off, changed, or written by another version of Haldane")]
pub struct Unreadable;

impl Journal {
    /// What comes after this book.
    #[must_use]
    pub fn since(book: &Book) -> Self {
        let book = in_micros(book);
        let terms = book.terms().clone();
        let mut begun = Self { from: None, record: Record::open(terms.clone()), book: Book::open(terms.clone()) };
        if let Some(at) = book.until() {
            begun.take(&Dated { at, input: Input::Stage });
        }
        if begun.book == book { begun } else { Self { from: Some(book.clone()), record: Record::open(terms), book } }
    }

    /// The journal that was stored, if it goes on to this book.
    #[must_use]
    pub fn resumed(kept: &Kept, book: &Book) -> Option<Self> {
        let inputs = STANDARD.decode(&kept.inputs).ok()?;
        let record = Record::read(kept.terms.clone(), inputs)?;
        let journal = Self { from: kept.from.clone(), record, book: in_micros(book) };
        (journal.replayed()? == journal.book).then_some(journal)
    }

    /// A bet was taken in, or a moment of which one is told.
    #[must_use]
    pub fn says_something(&self) -> bool {
        self.book.each_probe().any(|(_, probe)| probe.counts() != [0; 3])
            || self.book.asked() > 0
            || self.book.wealth().to_bits() != 1.0_f64.to_bits()
    }

    /// As it is stored.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let inputs = STANDARD.encode(self.record.bytes());
        Kept { from: self.from.clone(), terms: self.record.terms().clone(), inputs, book: self.book.clone() }
    }

    /// Goes on to the book of a decision, which saw these. Whether anything is new.
    pub fn follow(&mut self, seen: &[Dated], next: &Book) -> bool {
        let next = in_micros(next);
        if self.book == next {
            return false;
        }
        if *next.terms() != *self.book.terms() {
            self.admit(&next);
        }
        let (since, until) = (self.book.until(), next.until());
        for dated in seen.iter().filter(|dated| since < Some(dated.at) && Some(dated.at) <= until) {
            self.take(dated);
        }
        // What a decision does to its book is dated with the last that was seen.
        let at = self.book.until().unwrap_or(Timestamp::UNIX_EPOCH);
        if self.book.whole != next.whole {
            self.take(&Dated { at, input: Input::Whole(next.whole) });
        }
        if self.book != next {
            self.take(&Dated { at, input: Input::Stage });
        }
        if self.book != next || !self.record.is_whole() {
            *self = Self::since(&next);
        }
        true
    }

    /// Probes that speak from now on. Where they change what was bet before, the journal begins anew.
    fn admit(&mut self, next: &Book) {
        self.book = self.book.admitting(&next.terms().probes);
        self.record.agree(self.book.terms().clone());
        if self.replayed().as_ref() != Some(&self.book) {
            *self = Self::since(&self.book.clone());
        }
    }

    fn take(&mut self, dated: &Dated) {
        self.book.take(dated);
        self.record.push(dated);
    }

    fn replayed(&self) -> Option<Book> {
        let mut book = first(self.from.as_ref(), self.record.terms());
        self.record.inputs()?.iter().for_each(|dated| book.take(dated));
        Some(book)
    }
}

impl Kept {
    /// Recomputes it, bet by bet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn replay(&self) -> Result<Replayed, Unreadable> {
        let inputs = STANDARD.decode(&self.inputs).map_err(|_| Unreadable)?;
        let inputs = Record::read(self.terms.clone(), inputs).and_then(|record| record.inputs()).ok_or(Unreadable)?;
        let mut book = first(self.from.as_ref(), &self.terms);
        let bets = inputs.into_iter().map(|dated| {
            book.take(&dated);
            (dated, book.clone())
        });
        Ok(Replayed { from: self.from.clone(), bets: bets.collect(), recorded: self.book.clone() })
    }
}

impl Replayed {
    /// The book that everything comes to.
    #[must_use]
    pub fn book(&self) -> &Book {
        self.bets.last().map(|(_, book)| book).or(self.from.as_ref()).unwrap_or(&self.recorded)
    }

    /// It comes to what was recorded, every bit of every fraction.
    #[must_use]
    pub fn is_the_same(&self) -> bool {
        let bits = |book: &Book| serde_json::to_string(book).ok();
        bits(self.book()) == bits(&self.recorded)
    }
}

fn first(from: Option<&Book>, terms: &Terms) -> Book {
    from.map_or_else(|| Book::open(terms.clone()), |book| book.admitting(&terms.probes))
}

/// As it is stored: the moment at which it was opened is the only one that may have more.
fn in_micros(book: &Book) -> Book {
    let micros = |at: Timestamp| Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
    Book { until: book.until.map(micros), ..book.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::{
        bet::{Side, Tally},
        block::{Block, Manner},
        book::{Pair, Verdict},
        probes::{ProbeTerms, Seen, Turn},
    };
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(1_800_000_000_000_000 + micros).unwrap()
    }

    fn probe(name: &str) -> ProbeTerms {
        ProbeTerms { name: name.to_owned(), ..ProbeTerms::default() }
    }

    fn pair(micros: i64, fails: bool) -> Dated {
        let canary = if fails { Seen::Fail("GET / answered 500".to_owned()) } else { Seen::Pass };
        let turn = if fails { Turn::Repeat } else { Turn::First };
        Dated { at: at(micros), input: Input::Pair(Pair { probe: "home".to_owned(), turn, canary, stable: Seen::Pass }) }
    }

    fn errors(micros: i64, failed: u32) -> Dated {
        let (canary, stable) = (Side::new(50, failed), Side::new(950, 1));
        Dated { at: at(micros), input: Input::Errors(vec![(0, Tally { canary, stable, fair: 0.05 * f64::from(failed + 1) })]) }
    }

    /// The book of an early decision: no probe has spoken yet, and its moment has nanoseconds.
    fn begun() -> Book {
        let began = Timestamp::from_nanosecond(at(0).as_nanosecond() + 789).unwrap();
        Book::begun(Terms { errors: Some(Manner::of(Block::S15)), ..Terms::default() }, began)
    }

    /// A rollout, decision by decision, until it is a verdict: what each saw, and its book.
    fn lived() -> Vec<(Vec<Dated>, Book)> {
        let mut book = in_micros(&begun());
        let mut decisions = Vec::new();
        for step in 1..60_i64 {
            let failed = if step > 20 { 20 } else { 1 };
            let seen = vec![pair(step * 1_000_000, false), errors(step * 1_000_000 + 1, failed)];
            book = book.admitting(&[probe("home")]).with(&seen);
            if step == 5 {
                book = book.next_stage(false);
            }
            // All of the traffic, and after a jump no longer.
            if step == 10 || step == 15 {
                book = book.next_stage(step == 10);
            }
            decisions.push((seen, book.clone()));
        }
        decisions
    }

    fn written(decisions: &[(Vec<Dated>, Book)]) -> Journal {
        let mut journal = Journal::since(&begun());
        for (seen, book) in decisions {
            journal.follow(seen, book);
        }
        journal
    }

    #[test]
    fn a_rollout_replays_to_its_verdict_to_the_last_bit() {
        let decisions = lived();
        let (_, last) = decisions.last().unwrap();
        assert!(matches!(last.verdict(), Verdict::Fail(_)), "{}", last.wealth());
        let kept = written(&decisions).kept();
        let stored = serde_json::to_string(&kept).unwrap();
        let replayed = serde_json::from_str::<Kept>(&stored).unwrap().replay().unwrap();
        assert!(replayed.is_the_same() && replayed.from.is_none());
        assert_eq!(replayed.book().wealth().to_bits(), last.wealth().to_bits());
        assert_eq!((replayed.book().verdict(), replayed.book()), (last.verdict(), last));
        assert!(stored.len() < 8 * 1024, "{} bytes", stored.len());
    }

    #[test]
    fn what_was_seen_already_is_kept_once() {
        let decisions = lived();
        let mut journal = Journal::since(&begun());
        let mut all = Vec::new();
        for (seen, book) in &decisions {
            all.extend(seen.iter().cloned());
            journal.follow(&all, book);
            assert!(!journal.follow(&all, book), "nothing is new");
        }
        assert_eq!(journal, written(&decisions));
    }

    #[test]
    fn another_leader_goes_on_with_what_was_stored_and_says_what_it_does_not_know() {
        let decisions = lived();
        let (first, rest) = decisions.split_at(30);
        let kept = written(first).kept();
        let mut journal = Journal::resumed(&kept, &first.last().unwrap().1).unwrap();
        for (seen, book) in rest {
            journal.follow(seen, book);
        }
        assert_eq!(journal.kept(), written(&decisions).kept());
        // It was stored a while before the leader went.
        assert_eq!(Journal::resumed(&kept, &rest.first().unwrap().1), None);
        let mut journal = Journal::since(&rest.first().unwrap().1);
        for (seen, book) in rest {
            journal.follow(seen, book);
        }
        let replayed = journal.kept().replay().unwrap();
        assert!(replayed.is_the_same());
        assert_eq!(replayed.from.as_ref(), Some(&rest.first().unwrap().1));
    }

    #[test]
    fn a_gap_is_never_papered_over() {
        let decisions = lived();
        let mut journal = written(&decisions[..10]);
        journal.follow(&decisions[12].0, &decisions[12].1);
        let replayed = journal.kept().replay().unwrap();
        assert!(replayed.is_the_same() && replayed.bets.is_empty());
        assert_eq!(replayed.from.as_ref(), Some(&decisions[12].1));
    }

    #[test]
    fn what_was_changed_by_somebody_does_not_come_to_the_same() {
        let kept = written(&lived()).kept();
        let other = Kept { book: written(&lived()[..30]).book, ..kept.clone() };
        assert!(!other.replay().unwrap().is_the_same());
        assert_eq!(Kept { inputs: "AAAA".to_owned(), ..kept.clone() }.replay().unwrap_err(), Unreadable);
        assert_eq!(Kept { inputs: "?".to_owned(), ..kept }.replay().unwrap_err(), Unreadable);
    }

    #[test]
    fn where_there_is_no_more_room_the_end_is_kept_and_not_the_beginning() {
        let mut book = in_micros(&begun()).admitting(&[probe("home")]);
        let mut journal = Journal::since(&begun());
        for step in 1..3000_i64 {
            let says = format!("GET /{} answered 500", "x".repeat(60));
            let failed = Seen::Void(says);
            let pair = Pair { probe: "home".to_owned(), turn: Turn::First, canary: failed.clone(), stable: failed };
            let seen = [Dated { at: at(step * 1000), input: Input::Pair(pair) }];
            book = book.with(&seen);
            journal.follow(&seen, &book);
        }
        let replayed = journal.kept().replay().unwrap();
        assert!(replayed.is_the_same() && replayed.from.is_some());
        assert_eq!(*replayed.book(), book);
    }
}

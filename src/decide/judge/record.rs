//! Everything that a book took in, small enough to keep, and the same book from it again: to the last bit.
//!
//! A person who doubts a verdict replays it, on any machine. Counts are short whole numbers; what a block reduced to one fraction (Σ E·q)
//! is kept as that fraction. A plain rollout of three minutes is some 4 kB; half an hour with nine strata is cut at [`MOST`].

use jiff::Timestamp;

use super::{
    bet::{Side, Tally},
    book::{Book, Dated, Input, Pair},
    bytes::{Reader, Writer},
    latency::EDGES,
    probes::{Seen, Turn},
    state::{put_time, time},
    terms::Terms,
};

/// Of a record, in bytes: as base64 it is 128 kB, a tenth of what etcd takes for one object.
pub const MOST: usize = 96 * 1024;

/// What a book took in.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    terms: Terms,
    bytes: Vec<u8>,
    last_us: Option<i64>,
    whole: bool,
}

impl Record {
    /// An empty record.
    #[must_use]
    pub fn open(terms: Terms) -> Self {
        Self { terms, bytes: Vec::new(), last_us: None, whole: true }
    }

    /// A record that was stored. None: it is none.
    #[must_use]
    pub fn read(terms: Terms, bytes: Vec<u8>) -> Option<Self> {
        let mut record = Self { terms, bytes, last_us: None, whole: true };
        record.last_us = record.inputs()?.last().map(|dated| dated.at.as_microsecond());
        Some(record)
    }

    /// What was agreed.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What is agreed from now on: probes were admitted.
    pub(super) fn agree(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// As it is stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Nothing was left out for want of room.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Adds an input; past [`MOST`] nothing more is kept, and the record is no longer whole.
    pub fn push(&mut self, dated: &Dated) {
        let mut writer = Writer::default();
        let at = dated.at.as_microsecond();
        if let Some(later) = self.last_us.and_then(|last| u64::try_from(at.checked_sub(last)?).ok()) {
            writer.bit(true);
            writer.whole(later);
        } else {
            writer.bit(false);
            put_time(&mut writer, dated.at);
        }
        put(&mut writer, &dated.input);
        self.whole &= self.bytes.len() + writer.0.len() <= MOST;
        if self.whole {
            self.bytes.extend(writer.0);
            self.last_us = Some(at);
        }
    }

    /// All inputs, in their order. None: they cannot be read.
    #[must_use]
    pub fn inputs(&self) -> Option<Vec<Dated>> {
        let mut reader = Reader(&self.bytes);
        let (mut inputs, mut last) = (Vec::new(), 0_i64);
        while !reader.0.is_empty() {
            let at = if reader.bit()? {
                Timestamp::from_microsecond(last.checked_add(i64::try_from(reader.whole()?).ok()?)?).ok()?
            } else {
                time(&mut reader)?
            };
            last = at.as_microsecond();
            inputs.push(Dated { at, input: input(&mut reader)? });
        }
        Some(inputs)
    }
}

/// The book that took in what is recorded. None: the record cannot be read.
#[must_use]
pub fn replay(record: &Record) -> Option<Book> {
    let mut book = Book::open(record.terms.clone());
    record.inputs()?.iter().for_each(|dated| book.take(dated));
    Some(book)
}

fn put(writer: &mut Writer, input: &Input) {
    match input {
        Input::Errors(strata) => {
            writer.0.push(0);
            let asked = strata.iter().filter(|(_, tally)| *tally != Tally::default());
            writer.count(asked.clone().count());
            for (place, tally) in asked {
                writer.count(*place);
                put_tally(writer, tally);
            }
        }
        Input::Mirror { canary, stable, fair } => {
            writer.0.push(1);
            writer.side(*canary);
            writer.side(*stable);
            writer.count(fair.len());
            writer.fractions(fair);
        }
        Input::Latency(edges) => {
            writer.0.push(2);
            for tally in edges {
                put_tally(writer, tally);
            }
        }
        Input::Logs(lines) => {
            writer.0.push(3);
            writer.count(lines.len());
            for (signature, tally) in lines {
                writer.text(signature);
                put_tally(writer, tally);
            }
        }
        Input::Platform { pod_minutes, events } => {
            writer.0.push(4);
            writer.side(Side::new(*pod_minutes, *events));
        }
        Input::Pair(pair) => {
            writer.0.push(5);
            put_pair(writer, pair);
        }
        Input::Alone(side) => {
            writer.0.push(6);
            writer.side(*side);
        }
        Input::Whole(whole) => {
            writer.0.push(7);
            writer.bit(*whole);
        }
        Input::Stage => writer.0.push(8),
    }
}

fn put_tally(writer: &mut Writer, tally: &Tally) {
    writer.side(tally.canary);
    writer.side(tally.stable);
    if tally.canary.failed > 0 || tally.stable.failed > 0 {
        writer.fraction(tally.fair);
    }
}

fn put_pair(writer: &mut Writer, pair: &Pair) {
    writer.text(&pair.probe);
    writer.0.push(match pair.turn {
        Turn::First => 0,
        Turn::AtOnce => 1,
        Turn::Repeat => 2,
    });
    for seen in [&pair.canary, &pair.stable] {
        let (kind, says) = match seen {
            Seen::Pass => (0, None),
            Seen::Fail(says) => (1, Some(says)),
            Seen::Busy(says) => (2, Some(says)),
            Seen::Void(says) => (3, Some(says)),
        };
        writer.0.push(kind);
        if let Some(says) = says {
            writer.text(says);
        }
    }
}

fn input(reader: &mut Reader<'_>) -> Option<Input> {
    Some(match reader.byte()? {
        0 => Input::Errors(
            (0..reader.count()?).map(|_| Some((usize::try_from(reader.whole()?).ok()?, tally(reader)?))).collect::<Option<_>>()?,
        ),
        1 => {
            let (canary, stable) = (reader.side()?, reader.side()?);
            let fair = (0..reader.count()?).map(|_| reader.fraction()).collect::<Option<_>>()?;
            Input::Mirror { canary, stable, fair }
        }
        2 => {
            let mut edges = [Tally::default(); EDGES];
            for edge in &mut edges {
                *edge = tally(reader)?;
            }
            Input::Latency(edges)
        }
        3 => Input::Logs((0..reader.count()?).map(|_| Some((reader.text()?, tally(reader)?))).collect::<Option<_>>()?),
        4 => {
            let Side { asked, failed } = reader.side()?;
            Input::Platform { pod_minutes: asked, events: failed }
        }
        5 => Input::Pair(pair(reader)?),
        6 => Input::Alone(reader.side()?),
        7 => Input::Whole(reader.bit()?),
        8 => Input::Stage,
        _ => return None,
    })
}

fn tally(reader: &mut Reader<'_>) -> Option<Tally> {
    let (canary, stable) = (reader.side()?, reader.side()?);
    let fair = if canary.failed > 0 || stable.failed > 0 { reader.fraction()? } else { 0.0 };
    Some(Tally { canary, stable, fair })
}

fn pair(reader: &mut Reader<'_>) -> Option<Pair> {
    let probe = reader.text()?;
    let turn = match reader.byte()? {
        0 => Turn::First,
        1 => Turn::AtOnce,
        2 => Turn::Repeat,
        _ => return None,
    };
    Some(Pair { probe, turn, canary: seen(reader)?, stable: seen(reader)? })
}

fn seen(reader: &mut Reader<'_>) -> Option<Seen> {
    Some(match reader.byte()? {
        0 => Seen::Pass,
        1 => Seen::Fail(reader.text()?),
        2 => Seen::Busy(reader.text()?),
        3 => Seen::Void(reader.text()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;

//! The book as it is stored: its terms in words, its wealth as bytes with every bit of every fraction.
//!
//! A book that was read back goes on as if it had never been away. One that cannot be read is an error, never an empty book: that would
//! give a canary under suspicion a clean slate.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    arms::Arms,
    bet::Share,
    book::{Book, Failure},
    bytes::{Reader, Writer},
    latency::{EDGES, Latency},
    logs::{Line, Logs},
    mirror::{Absolute, Mirror},
    platform::Platform,
    probes::Probe,
    recheck::Watch,
    sums::Sums,
    terms::{Purse, Terms},
};

/// Which layout the bytes have.
const LAYOUT: u8 = 4;

/// A book as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// What was agreed. It does not change while the book is open.
    pub terms: Terms,
    /// Base64 of everything else.
    pub state: String,
}

/// Why a stored book cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored evidence cannot be read: it was cut off, changed, or written by another version of Haldane")]
pub struct Unreadable;

impl From<&Book> for Stored {
    fn from(book: &Book) -> Self {
        Self { terms: book.terms.clone(), state: STANDARD.encode(bytes(book)) }
    }
}

impl TryFrom<Stored> for Book {
    type Error = Unreadable;

    fn try_from(stored: Stored) -> Result<Self, Unreadable> {
        let bytes = STANDARD.decode(stored.state).map_err(|_| Unreadable)?;
        let mut reader = Reader(&bytes);
        let mut book = Self::open(stored.terms);
        (fill(&mut book, &mut reader).is_some() && reader.0.is_empty()).then_some(book).ok_or(Unreadable)
    }
}

impl Serialize for Book {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Book {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Stored::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// How many bytes of state a book has, before base64.
#[must_use]
pub fn size(book: &Book) -> usize {
    bytes(book).len()
}

fn bytes(book: &Book) -> Vec<u8> {
    let mut writer = Writer(vec![LAYOUT]);
    writer.fractions(&book.errors.0.each());
    book.strata.iter().for_each(|share| writer.fractions(&share.0.each()));
    book.sums.iter().for_each(|sums| put_sums(&mut writer, *sums));
    for (share, sums) in book.latency.0.iter().zip(book.slow) {
        writer.fractions(&share.0.each());
        put_sums(&mut writer, sums);
    }
    writer.count(book.logs.0.len());
    for line in &book.logs.0 {
        writer.text(&line.signature);
        writer.fractions(&line.share.0.each());
        writer.whole(line.lines.0);
        writer.whole(line.lines.1);
    }
    writer.fractions(&book.platform.0.each());
    writer.whole(book.minutes.0);
    writer.whole(book.minutes.1);
    book.probes.iter().for_each(|probe| put_probe(&mut writer, probe));
    book.mirrors.iter().for_each(|mirror| writer.fractions(&mirror.0.each()));
    writer.fractions(&book.absolute.0.each());
    writer.side(book.seen);
    writer.0.extend([book.watch.high, book.watch.used]);
    writer.whole(u64::from(book.watch.failed));
    writer.bit(book.watch.wanted);
    writer.fraction(book.watch.base);
    put_some(&mut writer, book.watch.loud.as_ref(), |writer, at| put_time(writer, *at));
    writer.bit(book.whole);
    put_some(&mut writer, book.said.as_ref(), |writer, said| writer.text(said));
    put_some(&mut writer, book.failed.as_ref(), |writer, failed| {
        writer.count(Purse::ALL.iter().position(|purse| *purse == failed.purse).unwrap_or(0));
        writer.fraction(failed.wealth);
        writer.text(&failed.says);
    });
    for lasting in [&book.both, &book.void] {
        put_some(&mut writer, lasting.as_ref(), |writer, (since, why)| {
            put_time(writer, *since);
            writer.text(why);
        });
    }
    put_some(&mut writer, book.until.as_ref(), |writer, until| put_time(writer, *until));
    writer.0
}

fn put_some<T>(writer: &mut Writer, value: Option<&T>, put: impl FnOnce(&mut Writer, &T)) {
    writer.bit(value.is_some());
    if let Some(value) = value {
        put(writer, value);
    }
}

/// In µs, as the rest of the status.
pub(super) fn put_time(writer: &mut Writer, at: Timestamp) {
    writer.0.extend(at.as_microsecond().to_le_bytes());
}

fn put_sums(writer: &mut Writer, sums: Sums) {
    for number in [sums.canary.0, sums.canary.1, sums.stable.0, sums.stable.1] {
        writer.whole(number);
    }
}

fn put_probe(writer: &mut Writer, probe: &Probe) {
    writer.fractions(&probe.arms.each());
    writer.whole(u64::from(probe.storms));
    writer.0.extend([probe.open, probe.doubt, probe.flaps, probe.calm]);
    writer.whole(u64::from(probe.stage));
    probe.counts.iter().for_each(|count| writer.whole(u64::from(*count)));
}

fn fill(book: &mut Book, reader: &mut Reader<'_>) -> Option<()> {
    if reader.byte()? != LAYOUT {
        return None;
    }
    book.errors = share(reader)?;
    for each in &mut book.strata {
        *each = share(reader)?;
    }
    for each in &mut book.sums {
        *each = sums(reader)?;
    }
    let mut edges = [Share::default(); EDGES];
    for (edge, slow) in edges.iter_mut().zip(&mut book.slow) {
        (*edge, *slow) = (share(reader)?, sums(reader)?);
    }
    book.latency = Latency(edges);
    book.logs = Logs((0..reader.count()?).map(|_| line(reader)).collect::<Option<_>>()?);
    book.platform = Platform(Arms::new(reader.fractions()?));
    book.minutes = (reader.whole()?, reader.whole()?);
    for each in &mut book.probes {
        *each = probe(reader)?;
    }
    for each in &mut book.mirrors {
        *each = Mirror(Arms::new(reader.fractions()?));
    }
    book.absolute = Absolute(Arms::new(reader.fractions()?));
    book.seen = reader.side()?;
    let (high, used) = (reader.byte()?, reader.byte()?);
    let (failed, wanted, base) = (reader.small()?, reader.bit()?, reader.fraction()?);
    let loud = if reader.bit()? { Some(time(reader)?) } else { None };
    book.watch = Watch { high, failed, wanted, used, base, loud };
    book.whole = reader.bit()?;
    fill_words(book, reader)
}

fn fill_words(book: &mut Book, reader: &mut Reader<'_>) -> Option<()> {
    book.said = if reader.bit()? { Some(reader.text()?) } else { None };
    book.failed = if reader.bit()? {
        let purse = *Purse::ALL.get(usize::try_from(reader.whole()?).ok()?)?;
        Some(Failure { purse, wealth: reader.fraction()?, says: reader.text()? })
    } else {
        None
    };
    for lasting in [&mut book.both, &mut book.void] {
        *lasting = if reader.bit()? { Some((time(reader)?, reader.text()?)) } else { None };
    }
    book.until = if reader.bit()? { Some(time(reader)?) } else { None };
    Some(())
}

pub(super) fn time(reader: &mut Reader<'_>) -> Option<Timestamp> {
    let (bytes, rest) = reader.0.split_first_chunk::<8>()?;
    reader.0 = rest;
    Timestamp::from_microsecond(i64::from_le_bytes(*bytes)).ok()
}

fn share(reader: &mut Reader<'_>) -> Option<Share> {
    Some(Share(Arms::new(reader.fractions()?)))
}

fn line(reader: &mut Reader<'_>) -> Option<Line> {
    Some(Line { signature: reader.text()?, share: share(reader)?, lines: (reader.whole()?, reader.whole()?) })
}

fn sums(reader: &mut Reader<'_>) -> Option<Sums> {
    Some(Sums { canary: (reader.whole()?, reader.whole()?), stable: (reader.whole()?, reader.whole()?) })
}

fn probe(reader: &mut Reader<'_>) -> Option<Probe> {
    let arms = Arms::new(reader.fractions()?);
    let storms = u16::try_from(reader.whole()?).ok()?;
    let (open, doubt, flaps, calm, stage) = (reader.byte()?, reader.byte()?, reader.byte()?, reader.byte()?, reader.small()?);
    let counts = [reader.small()?, reader.small()?, reader.small()?];
    Some(Probe { arms, storms, open, doubt, flaps, calm, stage, counts })
}

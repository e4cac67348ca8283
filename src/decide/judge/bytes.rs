//! Numbers as bytes: small ones are short, and a fraction comes back with every bit that it had.
//!
//! What is read may be cut off, from another time or hostile: every read may fail, none asks for memory that the bytes do not back.

use super::bet::Side;

/// Writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    /// Seven bits a byte, the least first; the eighth says that more follow (as in protocol buffers).
    pub(super) fn whole(&mut self, number: u64) {
        let mut left = number;
        while left >= 0x80 {
            let [low, ..] = left.to_le_bytes();
            self.0.push(low | 0x80);
            left >>= 7;
        }
        let [low, ..] = left.to_le_bytes();
        self.0.push(low);
    }

    pub(super) fn bit(&mut self, yes: bool) {
        self.0.push(u8::from(yes));
    }

    pub(super) fn fraction(&mut self, number: f64) {
        self.0.extend(number.to_bits().to_le_bytes());
    }

    pub(super) fn fractions(&mut self, numbers: &[f64]) {
        for number in numbers {
            self.fraction(*number);
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend(text.as_bytes());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.whole(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(super) fn side(&mut self, side: Side) {
        self.whole(u64::from(side.asked));
        self.whole(u64::from(side.failed));
    }
}

/// Reads what [`Writer`] wrote.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn whole(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits.checked_mul(1_u64 << shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.whole()?).ok()
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn fraction(&mut self) -> Option<f64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(f64::from_bits(u64::from_le_bytes(*bytes)))
    }

    pub(super) fn fractions<const N: usize>(&mut self) -> Option<[f64; N]> {
        let mut numbers = [0.0; N];
        for number in &mut numbers {
            *number = self.fraction()?;
        }
        Some(numbers)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.count()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    /// How many of something follow: each takes a byte at least, so that more than there are bytes is a lie.
    pub(super) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.whole()?).ok().filter(|count| *count <= self.0.len())
    }

    pub(super) fn side(&mut self) -> Option<Side> {
        Some(Side::new(self.small()?, self.small()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_back_to_the_last_bit() {
        let mut writer = Writer::default();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        for number in numbers {
            writer.whole(number);
        }
        writer.fractions(&[0.1, -0.0, 1e-200]);
        writer.text("größer");
        writer.bit(true);
        let mut reader = Reader(&writer.0);
        for number in numbers {
            assert_eq!(reader.whole(), Some(number));
        }
        let [tenth, nothing, little] = reader.fractions::<3>().unwrap();
        assert_eq!([tenth.to_bits(), nothing.to_bits(), little.to_bits()], [0.1_f64.to_bits(), (-0.0_f64).to_bits(), 1e-200_f64.to_bits()]);
        assert_eq!(reader.text().as_deref(), Some("größer"));
        assert_eq!(reader.bit(), Some(true));
        assert!(reader.0.is_empty());
    }

    #[test]
    fn what_is_cut_off_or_a_lie_is_nothing() {
        assert_eq!(Reader(&[0x80]).whole(), None);
        assert_eq!(Reader(&[0xff; 11]).whole(), None);
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).whole(), None, "66 bits");
        assert_eq!(Reader(&[0x7f]).text(), None);
        assert_eq!(Reader(&[9, 1, 2]).count(), None);
        assert_eq!(Reader(&[1; 7]).fraction(), None);
        assert_eq!(Reader(&[2]).bit(), None);
    }
}

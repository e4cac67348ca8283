//! Seeded randomness: splitmix64 (Steele, Lea, Flood 2014), small enough to own and the same on every platform.

use std::time::Duration;

/// The letters that Kubernetes uses for generated names: no vowels, so no words.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A seeded stream of numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Two generators of one seed give the same stream.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`. The bias of the remainder is below 2^-32 for every bound used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// A delay from `low` to `high` milliseconds, both included.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high.saturating_sub(low) + 1))
    }

    /// `length` letters for a generated name.
    pub fn letters(&mut self, length: usize) -> String {
        (0..length).map(|_| safe_letter(self.next())).collect()
    }
}

/// The letters that stand for a hash in a name, as `rand.SafeEncodeString` does for `pod-template-hash`.
pub fn safe_encode(hash: u32) -> String {
    hash.to_string().bytes().map(|digit| safe_letter(u64::from(digit))).collect()
}

fn safe_letter(number: u64) -> char {
    let index = usize::try_from(number % SAFE.len() as u64).unwrap_or(0);
    SAFE.get(index).copied().map_or('b', char::from)
}

/// FNV-1a, 32 bits: the hash that Kubernetes uses for templates (over other bytes, so the values differ).
pub fn fnv32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

//! Seeded chance: splitmix64 (Steele, Lea, Flood 2014), and the few distributions that the worlds are made of.

#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The run of a world: two runs with one seed are the same.
    pub(crate) fn new(seed: u64, run: usize) -> Self {
        let mut rng = Self(seed ^ (run as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        rng.next();
        Self(rng.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1, neither included.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Knuth for small means; above 60 the normal approximation, whose error is far below the noise of a count.
    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        if mean <= 0.0 {
            return 0;
        }
        if mean > 60.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u32;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// By the gaps between successes; one by one where they are frequent.
    pub(crate) fn binomial(&mut self, n: u32, p: f64) -> u32 {
        // Below this 1 − p is 1, and the gap between two successes is no number.
        if p <= 1e-12 || n == 0 {
            return 0;
        }
        if p > 0.25 {
            return (0..n).map(|_| u32::from(self.chance(p))).sum();
        }
        let log = (1.0 - p).ln();
        let (mut at, mut count) = (0.0, 0);
        loop {
            at += (self.unit().ln() / log).floor() + 1.0;
            if at > f64::from(n) {
                return count;
            }
            count += 1;
        }
    }

    /// 1, 2, 3 … with this mean.
    pub(crate) fn geometric(&mut self, mean: f64) -> u32 {
        if mean <= 1.0 { 1 } else { 1 + (self.unit().ln() / (1.0 - 1.0 / mean).ln()).floor() as u32 }
    }

    /// Mean 1 and this shape (Marsaglia and Tsang 2000, with the boost for shapes below 1).
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        let (d, boost) = (shape + 1.0 - 1.0 / 3.0, self.unit().powf(1.0 / shape));
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v * boost / shape;
            }
        }
    }
}

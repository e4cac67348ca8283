//! The purse of the logs: a line that stable does not write, bet on as errors are, one bet per signature.
//!
//! A signature is a kind of error line that stable has not written, or an alert of the owner's that has come to what he calls too many.
//! What is new is only known once it was seen, so that a bet on a new signature begins after the block that revealed it. Which signatures
//! appear is not known before; the j-th of them gets 6/(π²·j²) of the purse, because 1 + 1/4 + 1/9 + … = π²/6 (Euler).

use super::{
    arms::clamped,
    bet::{Share, Tally},
};

/// 6/(π²·j²) for j = 1 to 8: 93 % of the purse; the rest is cash.
const PARTS: [f64; 8] = [
    0.607_927_101_854_026_7,
    0.151_981_775_463_506_67,
    0.067_547_455_761_558_52,
    0.037_995_443_865_876_67,
    0.024_317_084_074_161_067,
    0.016_886_863_940_389_63,
    0.012_406_675_548_041_361,
    0.009_498_860_966_469_167,
];
/// 1 less all of [`PARTS`]; the sum is exact to one part in 10¹⁵, which no threshold sees.
const CASH: f64 = 0.071_438_738_525_970_27;
/// Of one signature, in bytes: 8 of them are a kibibyte at most.
pub const SIGNATURE: usize = 120;

/// The new signatures and what is bet on them, in the order in which they appeared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logs(pub(super) Vec<Line>);

/// Lines of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What they have in common.
    pub signature: String,
    pub(super) share: Share,
    /// How many the canary wrote, and stable, with the block that revealed them.
    pub lines: (u64, u64),
}

impl Logs {
    /// How much 1 has become.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        let each = PARTS.iter().enumerate().map(|(at, part)| part * self.0.get(at).map_or(1.0, |line| line.share.wealth()));
        clamped(each.fold(CASH, |sum, part| sum + part))
    }

    /// How many kinds of lines are bet on.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.0.len()
    }

    /// The lines whose bet has won most.
    #[must_use]
    pub fn top(&self) -> Option<&Line> {
        let worth = |at: usize, line: &Line| PARTS.get(at).map_or(0.0, |part| part * line.share.wealth());
        let each = self.0.iter().enumerate().map(|(at, line)| (worth(at, line), line));
        each.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, line)| line)
    }

    /// Bets on one block: the lines of each signature that history does not know, against requests. In the order given, those seen for the
    /// first time get the next places.
    pub fn bet(&mut self, seen: &[(String, Tally)]) {
        for line in &mut self.0 {
            if let Some((_, tally)) = seen.iter().find(|(other, _)| cut(other) == line.signature) {
                line.share.bet(&[*tally]);
                let (canary, stable) = counts(tally);
                line.lines = (line.lines.0.saturating_add(canary), line.lines.1.saturating_add(stable));
            }
        }
        for (signature, tally) in seen {
            let lines = tally.canary.failed > 0 || tally.stable.failed > 0;
            let known = self.0.iter().any(|line| line.signature == cut(signature));
            if lines && !known && self.0.len() < PARTS.len() {
                self.0.push(Line { signature: cut(signature).to_owned(), share: Share::default(), lines: counts(tally) });
            }
        }
    }
}

fn counts(tally: &Tally) -> (u64, u64) {
    (tally.canary.failed.into(), tally.stable.failed.into())
}

fn cut(signature: &str) -> &str {
    let end = (0..=SIGNATURE.min(signature.len())).rev().find(|at| signature.is_char_boundary(*at)).unwrap_or(0);
    signature.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::bet::{Fair, Side};
    use super::*;

    fn lines(signature: &str, canary: u32, stable: u32) -> (String, Tally) {
        let mut tally = Tally::default();
        tally.scrape(Side::new(50, canary), Side::new(950, stable), Fair::by_requests(1.0));
        (signature.to_owned(), tally)
    }

    #[test]
    fn the_parts_are_what_they_say() {
        let mut sum = CASH;
        for (j, part) in (1..).zip(PARTS) {
            assert!((part - 6.0 / (std::f64::consts::PI * f64::from(j)).powi(2)).abs() < 1e-15, "{j}");
            sum += part;
        }
        assert!((sum - 1.0).abs() < 1e-14, "{sum:.17} {:.17}", CASH + 1.0 - sum);
        assert!((Logs::default().wealth() - 1.0).abs() < 1e-14);
    }

    #[test]
    fn the_block_that_reveals_a_signature_is_not_bet_on() {
        let mut logs = Logs::default();
        logs.bet(&[lines("panic", 9, 0)]);
        assert!((logs.wealth() - 1.0).abs() < 1e-14, "{}", logs.wealth());
        logs.bet(&[lines("panic", 9, 0)]);
        assert!(logs.wealth() > 2.0);
        let top = logs.top().unwrap();
        assert_eq!((top.signature.as_str(), top.lines, logs.kinds()), ("panic", (18, 0), 1));
    }

    #[test]
    fn a_new_line_of_the_canary_alone_is_found_and_one_of_both_is_not() {
        let (mut alone, mut both) = (Logs::default(), Logs::default());
        for block in 0..40 {
            alone.bet(&[lines("panic", 1, 0)]);
            both.bet(&[lines("slow query", u32::from(block % 20 == 0), 1)]);
        }
        assert!(alone.wealth() >= 16_667.0, "{}", alone.wealth());
        assert!(both.wealth() < 2.0, "{}", both.wealth());
    }

    #[test]
    fn there_is_room_for_eight_and_a_name_is_cut_between_letters() {
        let mut logs = Logs::default();
        for at in 0..99 {
            logs.bet(&[lines(&format!("{at}{}", "ä".repeat(200)), 1, 0)]);
        }
        assert_eq!(logs.0.len(), 8);
        assert!(logs.0.iter().all(|line| line.signature.len() <= SIGNATURE));
        logs.bet(&[lines(&format!("3{}", "ä".repeat(200)), 1, 0)]);
        assert!(logs.wealth() > 1.0, "a long one is found again");
    }
}

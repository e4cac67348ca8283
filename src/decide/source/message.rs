//! What the message of a commit says to a deployer.

use std::ops::RangeInclusive;

use crate::model::source::{Commit, Repository};

/// The line in a commit's message that makes it a barrier.
const BARRIER: &str = "Haldane-Barrier:";

/// Numbers of pull requests, as the schema of a Release has them.
const NUMBERS: RangeInclusive<u64> = 1..=1_000_000_000;

/// The reason of the trailer that makes a commit a barrier.
#[must_use]
pub fn barrier(body: &str) -> Option<String> {
    let last = body.trim_end().rsplit("\n\n").next()?;
    let reason = last.lines().find_map(|line| line.strip_prefix(BARRIER))?.trim();
    Some(if reason.is_empty() { "no reason given".to_owned() } else { reason.to_owned() })
}

/// What a commit says that it takes back: `This reverts commit 3f2a1c9….` as git writes it, `Reverts acme/shop#12` as GitHub does,
/// and the number that the title of a squashed pull request carried: `Revert "Sells pears (#12)" (#13)`.
#[must_use]
pub fn reverts(commit: &Commit, home: &Repository) -> Vec<String> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|n| NUMBERS.contains(n)).map(|n| format!("#{n}"));
    let of_title = || {
        let quoted = commit.title.strip_prefix("Revert \"")?.rsplit_once('"')?.0;
        number(quoted.rsplit_once("(#")?.1.strip_suffix(')')?)
    };
    let of_line = |line: &str| {
        if let Some(rest) = line.trim().strip_prefix("This reverts commit ") {
            let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
            return (7..=64).contains(&digits.len()).then_some(digits);
        }
        let (repository, digits) = line.trim().trim_end_matches('.').strip_prefix("Reverts ")?.split_once('#')?;
        number(digits).filter(|_| repository.is_empty() || Repository::parse(repository).is_some_and(|named| named.is(home)))
    };
    let mut all: Vec<String> = commit.body.lines().filter_map(of_line).chain(of_title()).collect();
    all.dedup();
    all
}

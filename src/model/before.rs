//! What has to run before a version: the Jobs that were made of a `CronJob`.

use jiff::Timestamp;

use super::{template, version::ReleaseName, world::Trouble};

/// Characters of the last part of the Release's name, which is its identity, in the name of its Job.
const VERSION_DIGITS: usize = 7;
/// Digits of a try in the name of its Job: 24 bits, beside those of the Release. One that is there under that name and is
/// another's is refused and not taken for ours.
const TRY_DIGITS: usize = 6;

/// A Job that was made before a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name: which Release, which try and which `CronJob`.
    pub name: String,
    /// Of the object now.
    pub uid: String,
    /// The `CronJob` that it was made of.
    pub cron_job: String,
    /// The Release that it was made for.
    pub release: Option<ReleaseName>,
    /// When it was made.
    pub created: Timestamp,
    /// What became of it.
    pub ran: Ran,
    /// What the cluster refuses its pods.
    pub refused: Option<Trouble>,
    /// No pod of it was ever there.
    pub podless: bool,
    /// A container of it has run, or may have.
    pub started: bool,
}

/// What became of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It runs, or will.
    Running,
    /// It did what it should.
    Complete,
    /// Kubernetes has given it up: why, in a sentence.
    Failed(String),
}

impl Job {
    /// It runs nothing yet, and may never: to remove it cuts nothing in half.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.ran == Ran::Running && !self.started && (self.podless || self.refused.is_some())
    }
}

/// The name of the Job that runs a `CronJob` once for one try of a Release, which its beginning tells from the others:
/// at most 40 + 1 + 7 + 1 + 6 = 55 characters, so that the names of its pods fit, too.
#[must_use]
pub fn job_name(delivery: &str, release: &ReleaseName, started: Timestamp, cron_job: &str) -> String {
    let version = release.as_str().rsplit('-').next().unwrap_or_default();
    let version: String = version.chars().filter(char::is_ascii_alphanumeric).take(VERSION_DIGITS).collect();
    let of_try = template::digest(&format!("{release} {} {cron_job}", started.as_microsecond()));
    let of_try: String = of_try.chars().take(TRY_DIGITS).collect();
    format!("{delivery}-{version}-{of_try}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_and_each_cron_job_has_a_job_of_its_own() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let name = |release: &str, second, cron_job| job_name("shop", &ReleaseName::new(release), at(second), cron_job);
        let one = name("shop-v2-0a1b2", 7, "migrate");
        assert_eq!(one, name("shop-v2-0a1b2", 7, "migrate"), "told twice it is one");
        for other in [name("shop-v3-0a1b2", 7, "migrate"), name("shop-v2-0a1b2", 8, "migrate"), name("shop-v2-0a1b2", 7, "seed")] {
            assert_ne!(one, other);
        }
        let longest = job_name(&"d".repeat(40), &ReleaseName::new("r".repeat(63)), at(7), &"c".repeat(52));
        assert!(longest.len() <= 55, "{longest}");
    }
}

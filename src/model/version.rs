//! Names and identities of versions.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a text that is known to be one.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use text_newtype;

text_newtype!(
    /// Name of a Release object.
    ReleaseName
);
text_newtype!(
    /// Identity of one pod template, image included: hex of a SHA-256 over its normalised JSON, cut to 16 digits.
    TemplateHash
);
text_newtype!(
    /// Identity of a version over all workloads of an app: hex of a SHA-256 over (workload, template) pairs, 16 digits.
    Identity
);
text_newtype!(
    /// The value of `pod-template-hash` that Kubernetes gave a ReplicaSet. Read, never computed.
    PodHash
);
text_newtype!(
    /// Name of a workload of the app.
    WorkloadName
);

/// A share of traffic in percent, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(u8);

impl Weight {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const FULL: Self = Self(100);

    /// A share; more than 100 is 100.
    #[must_use]
    pub fn new(percent: u8) -> Self {
        Self(percent.min(100))
    }

    /// In percent.
    #[must_use]
    pub fn percent(self) -> u8 {
        self.0
    }

    /// The share that `part` pods have beside `rest` pods, rounded to the nearest percent; nothing of nothing is nothing.
    #[must_use]
    pub fn of_pods(part: u32, rest: u32) -> Self {
        let all = u64::from(part) + u64::from(rest);
        let percent = (u64::from(part) * 100 + all / 2).checked_div(all).unwrap_or(0);
        Self(u8::try_from(percent).unwrap_or(100))
    }

    /// How many pods carry this share of what `stable` pods carry, rounded up, and at least one.
    #[must_use]
    pub fn pods_of(self, stable: u32) -> u32 {
        let pods = (u64::from(self.0) * u64::from(stable)).div_ceil(100);
        u32::try_from(pods).unwrap_or(u32::MAX).max(1)
    }

    /// How many canary pods beside `stable` pods carry at most this share: the largest k with k / (k + stable) ≤ share,
    /// at least one and at most as many as stable has (that is 50 %; more comes with the switch).
    #[must_use]
    pub fn pods_beside(self, stable: u32) -> u32 {
        let share = u64::from(self.0.min(99));
        let fits = share * u64::from(stable) / (100 - share);
        u32::try_from(fits).unwrap_or(u32::MAX).clamp(1, stable.max(1))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_by_pods_is_never_more_than_asked_unless_one_pod_is_more() {
        for (percent, stable, pods) in
            [(5, 4, 1), (25, 4, 1), (50, 4, 4), (20, 4, 1), (50, 1, 1), (75, 4, 4), (33, 10, 4), (1, 1000, 10), (50, 0, 1)]
        {
            assert_eq!(Weight::new(percent).pods_beside(stable), pods, "{percent} % beside {stable}");
        }
    }

    #[test]
    fn by_routes_a_share_has_the_pods_that_carry_it() {
        for (percent, stable, pods) in [(0, 4, 1), (5, 4, 1), (25, 4, 1), (26, 4, 2), (50, 4, 2), (100, 4, 4), (5, 100, 5), (50, 1, 1)] {
            assert_eq!(Weight::new(percent).pods_of(stable), pods, "{percent} % of {stable}");
        }
    }

    #[test]
    fn the_share_of_nothing_is_nothing() {
        assert_eq!(Weight::of_pods(0, 0), Weight::ZERO);
        assert_eq!(Weight::of_pods(1, 4), Weight::new(20));
        assert_eq!(Weight::of_pods(3, 0), Weight::FULL);
    }
}

//! What an app's own repository says of how it is delivered: a file in the form of a Delivery's spec, of which the Delivery permits a
//! part. Whatever is wrong in it is told with its line.

use std::{ops::RangeInclusive, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};

use serde_saphyr::{Location, Spanned};

use super::plan::PlannedStep;
use crate::api::{
    delivery::{Approval, StepSpec, TestersSpec},
    duration::Span,
};

/// Bytes of the file: what it may set fits many times over.
pub const LIMIT: usize = 16 * 1024;
// The limits of a Delivery's schema, which a file does not pass through.
const WEIGHTS: RangeInclusive<u8> = 1..=99;
const STEPS: usize = 20;
const LONGEST: Duration = Duration::from_hours(24);
const PROBES: usize = 16;
const NAME: usize = 63;
const MARK: usize = 128;

/// Which parts of it a Delivery permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permitted {
    /// `rollout.steps`.
    pub steps: bool,
    /// `verify.probes`.
    pub probes: bool,
}

/// What a file sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepoConfig {
    /// In place of the Delivery's.
    pub steps: Option<Vec<PlannedStep>>,
    /// Besides the Delivery's.
    pub probes: Vec<String>,
}

/// Why a file is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepoConfigError {
    /// It sets what the Delivery does not permit.
    #[error("line {line}: {field} is not in spec.config.allow of the Delivery")]
    NotAllowed {
        /// From 1.
        line: u64,
        /// Its path in the file.
        field: &'static str,
    },
    /// It is not YAML, or not of the form.
    #[error("{0}")]
    Broken(String),
}

/// The file; what is of no interest in a part of it is [`IgnoredAny`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<R, V> {
    rollout: Option<R>,
    verify: Option<V>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollout {
    steps: Option<Spanned<Vec<Spanned<Step>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verify {
    probes: Option<Spanned<Vec<Probe>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default, deserialize_with = "percent")]
    weight: Option<u8>,
    testers: Option<Testers>,
    #[serde(default, deserialize_with = "bake")]
    bake: Option<Span>,
    #[serde(default)]
    approval: Approval,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Testers {
    #[serde(default, deserialize_with = "mark")]
    header: Option<String>,
    #[serde(default, deserialize_with = "mark")]
    cookie: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Probe {
    #[serde(deserialize_with = "name")]
    name: String,
}

/// A part in which nothing may be set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

// Where a value is wrong is known while it is read, and not afterwards.

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let weight = u8::deserialize(deserializer)?;
    if WEIGHTS.contains(&weight) { Ok(Some(weight)) } else { Err(D::Error::custom("weight is between 1 and 99; 100 comes by itself")) }
}

fn mark<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let fits = (1..=MARK).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits { Ok(Some(name)) } else { Err(D::Error::custom(format!("{name:?} is not the name of a header or a cookie"))) }
}

fn bake<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    let bake = Option::<Span>::deserialize(deserializer)?;
    if bake.is_some_and(|bake| bake.0 > LONGEST) { Err(D::Error::custom("bake is at most 24h")) } else { Ok(bake) }
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = name.bytes().all(|b| plain(b) || b == b'-');
    let ends = name.bytes().next().is_some_and(plain) && name.bytes().last().is_some_and(plain);
    if inner && ends && name.len() <= NAME {
        Ok(name)
    } else {
        Err(D::Error::custom(format!("{name:?} is not the name of a ProductionProbe")))
    }
}

impl RepoConfig {
    /// Of the text of a file. An empty one sets nothing.
    ///
    /// # Errors
    /// With the line, when it is not of the form or sets what is not permitted.
    pub fn parse(text: &str, permitted: Permitted) -> Result<Self, RepoConfigError> {
        let Some(file) = read::<Option<File<Rollout, Verify>>>(text)? else { return Ok(Self::default()) };
        if !permitted.steps && file.rollout.as_ref().is_some_and(|rollout| rollout.steps.is_some()) {
            return Err(not_allowed::<File<Nothing, IgnoredAny>>(text, "rollout.steps"));
        }
        if !permitted.probes && file.verify.as_ref().is_some_and(|verify| verify.probes.is_some()) {
            return Err(not_allowed::<File<IgnoredAny, Nothing>>(text, "verify.probes"));
        }
        Ok(Self {
            steps: file.rollout.and_then(|rollout| rollout.steps).map(steps).transpose()?,
            probes: file.verify.and_then(|verify| verify.probes).map_or(Ok(Vec::new()), probes)?,
        })
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, RepoConfigError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let Some(at) = error.location() else { return RepoConfigError::Broken(error.to_string()) };
        let says = error.without_snippet().to_string();
        // The column says less than the words.
        let says = says.trim_end_matches(&format!(" at line {}, column {}", at.line(), at.column()));
        RepoConfigError::Broken(format!("line {}: {says}", at.line()))
    })
}

/// Read once more as a file in which that part has no fields, it breaks where the field stands.
fn not_allowed<T: DeserializeOwned>(text: &str, field: &'static str) -> RepoConfigError {
    let place = serde_saphyr::from_str::<T>(text).err().and_then(|error| error.location());
    RepoConfigError::NotAllowed { line: place.map_or(1, |at| at.line()), field }
}

fn steps(steps: Spanned<Vec<Spanned<Step>>>) -> Result<Vec<PlannedStep>, RepoConfigError> {
    let broken = |at: Location, says: String| Err(RepoConfigError::Broken(format!("line {}: rollout.steps: {says}", at.line())));
    let (at, steps) = (steps.referenced, steps.value);
    if steps.is_empty() || steps.len() > STEPS {
        return broken(at, format!("between 1 and {STEPS}, not {}", steps.len()));
    }
    if let Some(step) = steps.iter().find(|step| step.value.weight.is_some() == step.value.testers.is_some()) {
        return broken(step.referenced, "set exactly one of: weight, testers".to_owned());
    }
    let both = |testers: &Testers| testers.header.is_some() && testers.cookie.is_some();
    if let Some(step) = steps.iter().find(|step| step.value.testers.as_ref().is_some_and(both)) {
        return broken(step.referenced, "testers: header or cookie, not both".to_owned());
    }
    if let Some(step) = steps.iter().skip(1).find(|step| step.value.testers.is_some()) {
        return broken(step.referenced, "testers come first".to_owned());
    }
    let fallen = steps.windows(2).find_map(|pair| match pair {
        [before, step] if step.value.weight <= before.value.weight => Some((step.referenced, step.value.weight?, before.value.weight?)),
        _ => None,
    });
    if let Some((at, weight, before)) = fallen {
        return broken(at, format!("weight {weight} is not above the {before} of the step before"));
    }
    Ok(steps.into_iter().map(|step| PlannedStep::from(&step.value.spec())).collect())
}

impl Step {
    fn spec(self) -> StepSpec {
        let testers = self.testers.map(|by| TestersSpec { header: by.header, cookie: by.cookie });
        StepSpec { weight: self.weight, testers, bake: self.bake, approval: Some(self.approval) }
    }
}

fn probes(probes: Spanned<Vec<Probe>>) -> Result<Vec<String>, RepoConfigError> {
    let (at, probes) = (probes.referenced, probes.value);
    if probes.len() > PROBES {
        return Err(RepoConfigError::Broken(format!("line {}: verify.probes: at most {PROBES}, not {}", at.line(), probes.len())));
    }
    let mut names: Vec<String> = Vec::new();
    for probe in probes {
        if !names.contains(&probe.name) {
            names.push(probe.name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Permitted = Permitted { steps: true, probes: true };

    fn says(text: &str, permitted: Permitted) -> String {
        RepoConfig::parse(text, permitted).unwrap_err().to_string()
    }

    #[test]
    fn steps_and_probes_are_read_with_the_defaults_of_a_delivery() {
        let text = "# how shop is delivered\nrollout:\n  steps:\n  - weight: 10\n  - {weight: 50, bake: 90s, approval: Required}\nverify:\n  probes: [{name: order}, {name: order}]\n";
        let slow = PlannedStep { bake: Duration::from_secs(90), approval: true, ..PlannedStep::share(50) };
        let expected = RepoConfig { steps: Some(vec![PlannedStep::share(10), slow]), probes: vec!["order".into()] };
        assert_eq!(RepoConfig::parse(text, ALL), Ok(expected));
        for nothing in ["", "# nothing\n", "{}", "rollout: {}\nverify:\n", "verify:\n  probes:\n"] {
            assert_eq!(RepoConfig::parse(nothing, Permitted::default()), Ok(RepoConfig::default()), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_not_permitted_is_told_with_its_line() {
        let text = "verify:\n  probes:\n  - name: order\nrollout:\n  steps:\n  - weight: 10\n";
        assert_eq!(
            says(text, Permitted { steps: true, probes: false }),
            "line 2: verify.probes is not in spec.config.allow of the Delivery"
        );
        assert_eq!(
            says(text, Permitted { steps: false, probes: true }),
            "line 5: rollout.steps is not in spec.config.allow of the Delivery"
        );
    }

    #[test]
    fn what_is_broken_is_told_with_its_line() {
        let table = [
            ("rollout:\n  guard: 5m\n", "line 2: unknown field `guard`, expected one of steps"),
            ("source: {}\n", "line 1: unknown field `source`, expected one of rollout, verify"),
            ("rollout:\n  steps:\n  - weight: 0\n", "line 3: weight is between 1 and 99; 100 comes by itself"),
            ("rollout:\n  steps:\n  - weight: 5\n    bake: 25h\n", "line 4: bake is at most 24h"),
            ("rollout:\n  steps:\n  - bake: 1m\n", "line 3: rollout.steps: set exactly one of: weight, testers"),
            ("rollout:\n  steps:\n  - weight: 5\n  - testers: {}\n", "line 4: rollout.steps: testers come first"),
            ("rollout:\n  steps:\n  - testers: {header: 'a b'}\n", "line 3: \"a b\" is not the name of a header or a cookie"),
            ("rollout:\n  steps: []\n", "line 2: rollout.steps: between 1 and 20, not 0"),
            ("rollout:\n  steps:\n  - weight: 5\n  - weight: 5\n", "line 4: rollout.steps: weight 5 is not above the 5 of the step before"),
            ("verify:\n  probes:\n  - name: Not_One\n", "line 3: \"Not_One\" is not the name of a ProductionProbe"),
            ("rollout: [\n", "line 1: expected mapping start"),
            ("just words\n", "line 1: expected mapping start"),
        ];
        let wrong: Vec<String> = table
            .iter()
            .map(|(text, expected)| (says(text, ALL), expected))
            .filter(|(is, expected)| is != *expected)
            .map(|(is, _)| is)
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_file_that_would_unfold_for_ever_is_broken_and_no_more() {
        let bomb: String = std::iter::once("a0: &a0 [x]\n".to_owned())
            .chain((1..40).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))))
            .collect();
        assert!(matches!(RepoConfig::parse(&bomb, ALL), Err(RepoConfigError::Broken(_))));
        assert!(matches!(RepoConfig::parse(&"[".repeat(10_000), ALL), Err(RepoConfigError::Broken(_))));
    }
}

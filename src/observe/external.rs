//! Those whose word on a version is asked for: what each is asked, and what stands in the way of asking.

use jiff::Timestamp;
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::{
    checks,
    decoded::Decoded,
    probes::{Watch, meter::Metered},
};
use crate::{
    api::{probe::SecretKey, release::Release},
    edge::kube::KubeError,
    model::{
        decision::Reason,
        external::{PlannedExternal, Question, Secret, Sought},
        measure::Measures,
        phase::{Rollout, Stage, State},
        plan::Plan,
        probe::Vars,
        version::Weight,
    },
};

/// Where the plan names a Secret.
const FIELD: &str = "external[].secretRef";
const NUMBERS: &str = "requests.from.json.secrets[].secretRef";

/// What is to be known to ask somebody outside.
pub(super) struct Outside {
    /// Those that ask for a word, now.
    questions: Vec<Question>,
    /// What those for numbers are filled in from.
    secrets: Result<Vars, String>,
    /// Those who cannot be asked for a word: that is told before a version waits for them.
    pub(super) problems: Vec<Reason>,
}

impl Outside {
    /// The same watch, with these.
    pub(super) fn of(self, watch: Watch) -> Watch {
        let meter = watch.meter.map(|meter| Metered { secrets: self.secrets, ..meter });
        Watch { questions: self.questions, meter, ..watch }
    }
}

/// What is to be known to ask those of a plan.
pub(super) async fn read(
    client: &Client,
    (namespace, delivery): (&str, &str),
    (plan, state): (&Plan, &State),
    releases: &Decoded<Release>,
) -> Result<Outside, KubeError> {
    let (questions, problems) = words(client, (namespace, delivery), (plan, state), releases).await?;
    let secrets = match plan.measures.as_deref() {
        Some(Measures::Kept(kept)) => {
            let refused = |secret: &str| checks::refused(secret, namespace);
            checks::secrets(client, namespace, &kept.secrets, (NUMBERS, refused)).await?
        }
        Some(Measures::Counters(_)) | None => Ok(Vars::default()),
    };
    Ok(Outside { questions, secrets, problems })
}

/// What is asked now, and those who cannot be asked.
async fn words(
    client: &Client,
    (namespace, delivery): (&str, &str),
    (plan, state): (&Plan, &State),
    releases: &Decoded<Release>,
) -> Result<(Vec<Question>, Vec<Reason>), KubeError> {
    let (mut questions, mut problems) = (Vec::new(), Vec::new());
    for planned in &plan.external {
        let secret = match secret(client, namespace, planned).await? {
            Ok(secret) => secret,
            Err(why) => {
                problems.push(Reason::ExternalUnasked { check: planned.name.clone(), why });
                continue;
            }
        };
        let open = |rollout: &&Rollout| !matches!(rollout.stage, Stage::RollingBack { .. });
        let Some(rollout) = state.phase.rollout().filter(open) else { continue };
        let Some(sought) = rollout.sought.iter().find(|sought| sought.is_of(planned) && !sought.passed) else { continue };
        let release = releases.all.iter().find(|release| release.name_any() == rollout.release.as_str());
        let body = body((namespace, delivery), (plan, rollout), sought, release);
        let (to, within) = (planned.to.clone(), planned.within);
        questions.push(Question { name: planned.name.clone(), to, secret, within, body });
    }
    Ok((questions, problems))
}

/// What the questions are signed with; what of it cannot be had, in a sentence.
async fn secret(client: &Client, namespace: &str, planned: &PlannedExternal) -> Result<Result<Option<Secret>, String>, KubeError> {
    let Some((name, key)) = planned.secret.clone() else { return Ok(Ok(None)) };
    let short = format!("the key {key} of Secret {name} has less than {} characters; make one with: openssl rand -hex 32", Secret::LEAST);
    let read =
        checks::secret(client, namespace, &SecretKey { name, key }, (FIELD, |secret: &str| checks::refused(secret, namespace))).await?;
    Ok(read.and_then(|bytes| Secret::new(&bytes).map(Some).ok_or(short)))
}

/// What is asked. The same question has the same words, whoever asks it and however often.
fn body(
    (namespace, delivery): (&str, &str),
    (plan, rollout): (&Plan, &Rollout),
    Sought { name, at, .. }: &Sought,
    release: Option<&Release>,
) -> String {
    let weight = match rollout.stage {
        Stage::Canary { step } => plan.steps.get(step).map_or(Weight::ZERO, |step| step.weight),
        _ => Weight::ZERO,
    };
    // As it is stored, so that a restart does not ask another question.
    let started = Timestamp::from_microsecond(rollout.started_at.as_microsecond()).unwrap_or(rollout.started_at);
    let mut body = json!({
        "check": name, "at": at, "namespace": namespace, "delivery": delivery, "release": rollout.release.as_str(),
        "weight": weight.percent(), "key": format!("{namespace}/{}/{at:?}/{name}/{started}", rollout.release),
    });
    if let (Some(release), Some(body)) = (release, body.as_object_mut()) {
        body.insert("version".to_owned(), json!(release.spec.version));
        body.insert("image".to_owned(), json!(release.spec.image));
        let commit = release.spec.commit.as_ref().map(|commit| ("commit", commit));
        let url = release.spec.origin.as_ref().and_then(|origin| origin.url.as_ref()).map(|url| ("url", url));
        body.extend(commit.into_iter().chain(url).map(|(name, value)| (name.to_owned(), json!(value))));
    }
    body.to_string()
}

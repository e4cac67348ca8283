//! `doctor`: what is wrong, on which object, and the command that mends it.
//!
//! Every rule is a pure function over a [`Snapshot`]; reading is in [`read`]. What the user may not read is said, and the
//! rules that need it find nothing.

mod app;
mod cluster;
mod delivery;
mod gate;
mod read;
mod traffic;

#[cfg(test)]
mod tests;

use anyhow::{Result, bail};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::Value;

use super::{
    End, args,
    connect::{Cluster, bare},
    json,
    paint::{Paint, Style},
    seen,
};
use crate::api::{DELIVERY_LABEL, delivery::Delivery, probe::ProductionProbe, probe_run::ProbeRun};

/// What the rules look at: one namespace, and what belongs to the whole cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) now: Timestamp,
    pub(crate) namespace: String,
    /// Where the controller runs.
    pub(crate) controller: String,
    /// Definitions of our kinds, as stored. None: may not be read.
    pub(crate) definitions: Option<Vec<Value>>,
    /// Leases in the controller's namespace. None: may not be read.
    pub(crate) leases: Option<Vec<Value>>,
    /// `RoleBindings` of the namespace. None: may not be read.
    pub(crate) bindings: Option<Vec<Value>>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) probes: Vec<ProductionProbe>,
    pub(crate) runs: Vec<ProbeRun>,
    pub(crate) deployments: Vec<Value>,
    pub(crate) pods: Vec<Value>,
    pub(crate) services: Vec<Value>,
    pub(crate) claims: Vec<Value>,
    pub(crate) autoscalers: Vec<Value>,
    pub(crate) budgets: Vec<Value>,
    /// What could not be read, and why.
    pub(crate) unread: Vec<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Grade {
    /// It does not work, or is not safe.
    Wrong,
    /// It works, and will hurt one day.
    Risk,
}

/// One thing that a rule found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) grade: Grade,
    /// `Kind/name`.
    pub(crate) object: String,
    pub(crate) wrong: String,
    /// A command, or a sentence if there is none.
    pub(crate) mend: String,
    /// The Delivery that it is about. None: the cluster, the namespace, or something that no Delivery has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery: Option<String>,
}

impl Finding {
    /// The same, about that Delivery.
    pub(crate) fn of(self, delivery: &Delivery) -> Self {
        Self { delivery: Some(delivery.name_any()), ..self }
    }
}

/// Something that is wrong.
pub(crate) fn wrong(object: impl Into<String>, wrong: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { grade: Grade::Wrong, object: object.into(), wrong: wrong.into(), mend: mend.into(), delivery: None }
}

/// Something that is a risk.
pub(crate) fn risk(object: impl Into<String>, wrong: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { grade: Grade::Risk, object: object.into(), wrong: wrong.into(), mend: mend.into(), delivery: None }
}

/// A rule.
type Rule = fn(&Snapshot) -> Vec<Finding>;

/// Rules about the cluster: looked at once.
const CLUSTER: [Rule; 2] = [cluster::definitions, cluster::leader];

/// Rules about a namespace, the gravest first.
const NAMESPACE: [Rule; 23] = [
    cluster::granted,
    traffic::pin_without_pods,
    traffic::pin_left_behind,
    traffic::fronts_left_behind,
    traffic::pin_without_gate,
    traffic::orphans,
    delivery::missing_workload,
    delivery::missing_container,
    delivery::services,
    delivery::missing_probe,
    delivery::twice,
    delivery::cannot_run_two,
    delivery::conditions,
    delivery::quarantine,
    delivery::left_by_probes,
    gate::opened_by_hand,
    gate::paused_in_manifest,
    traffic::autoscalers,
    traffic::budgets,
    app::images,
    app::readiness,
    app::replicas,
    app::shutdown,
];

impl Snapshot {
    /// Each Delivery with each of its Deployments that exist.
    pub(crate) fn delivered(&self) -> impl Iterator<Item = (&Delivery, &Value)> {
        self.deliveries.iter().flat_map(move |d| d.spec.workloads.iter().filter_map(move |w| Some((d, self.deployment(&w.name)?))))
    }

    /// The Deployment of that name.
    pub(crate) fn deployment(&self, name: &str) -> Option<&Value> {
        self.deployments.iter().find(|d| json::name(d) == name)
    }

    /// The canary Deployments.
    pub(crate) fn canaries(&self) -> impl Iterator<Item = &Value> {
        self.deployments.iter().filter(|d| json::label(d, DELIVERY_LABEL).is_some() && json::label(d, crate::api::WORKLOAD_LABEL).is_some())
    }

    /// Services of its owner's that select pods of a Deployment, pinned or not.
    pub(crate) fn services_of<'a>(&'a self, deployment: &'a Value) -> impl Iterator<Item = &'a Value> {
        let labels = deployment.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null);
        self.services.iter().filter(move |s| !traffic::is_front(s) && seen::serves(s, labels))
    }
}

/// Looks and tells.
pub(crate) async fn run(cluster: &Cluster, args: &args::Doctor) -> Result<End> {
    let snapshots = read::all(cluster, args).await?;
    let name = args.name.as_deref().map(bare);
    if let (Some(name), [snapshot]) = (name, snapshots.as_slice())
        && !snapshot.deliveries.iter().any(|d| d.name_any() == name)
        && !cluster::definitions(snapshot).iter().any(|f| f.wrong.contains("not installed"))
    {
        bail!("there is no Delivery {name} in namespace {}", snapshot.namespace);
    }
    let mut found: Vec<(String, Finding)> = Vec::new();
    let mut unread: Vec<String> = Vec::new();
    let hearing = cluster::hearing(&snapshots);
    for (at, snapshot) in snapshots.into_iter().enumerate() {
        if at == 0 {
            found.extend(CLUSTER.iter().flat_map(|rule| rule(&snapshot)).map(|f| (String::new(), f)));
        }
        unread.extend(snapshot.unread.iter().filter(|u| at == 0 || !u.starts_with("cluster ")).cloned());
        let namespace = snapshot.namespace.clone();
        let findings = match name {
            Some(name) => about(findings(&snapshot), name),
            None => findings(&snapshot),
        };
        found.extend(findings.into_iter().map(|f| (namespace.clone(), f)));
    }
    unread.dedup();
    let bad = |f: &Finding| f.grade == Grade::Wrong || args.strict;
    let end = if found.iter().any(|(_, f)| bad(f)) { End::Bad } else { End::Done };
    match args.output {
        args::Output::Json => {
            let items: Vec<Value> = found.iter().map(|(ns, f)| serde_json::json!({"namespace": ns, "finding": f})).collect();
            println!("{}", serde_json::to_string_pretty(&serde_json::json!({"findings": items, "merges": hearing, "unread": unread}))?);
        }
        args::Output::Text => print!("{}", text(&found, hearing, &unread, Paint::stdout())),
    }
    Ok(end)
}

/// What the rules find in a namespace. What a rule has found together with its mend is not told again in the controller's
/// words, with no more than the advice to read on.
fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> = NAMESPACE.iter().flat_map(|rule| rule(snapshot)).collect();
    let (passed_on, known): (Vec<&Finding>, Vec<&Finding>) = found.iter().partition(|f| f.mend.starts_with(delivery::READ_ON));
    let twice = |f: &Finding| known.iter().any(|k| f.wrong.contains(&k.wrong));
    let twice: Vec<Finding> = passed_on.into_iter().filter(|f| twice(f)).cloned().collect();
    found.retain(|f| !twice.contains(f));
    found
}

/// Those that are about one Delivery, or about nobody's in particular.
fn about(mut found: Vec<Finding>, name: &str) -> Vec<Finding> {
    found.retain(|f| f.delivery.as_deref().is_none_or(|d| d == name));
    found
}

/// The commands of a text, with the namespace that they are about. Flags come after the name of a plugin, and not before it.
fn there(mend: &str, namespace: &str) -> String {
    if namespace.is_empty() || mend.contains(" -n ") || mend.contains("kubectl explain") {
        return mend.to_owned();
    }
    let ours = format!("kubectl haldane -n {namespace} ");
    mend.replace("kubectl ", &format!("kubectl -n {namespace} ")).replace(&format!("kubectl -n {namespace} haldane "), &ours)
}

fn text(found: &[(String, Finding)], hearing: Option<&str>, unread: &[String], paint: Paint) -> String {
    let mut out = String::new();
    for (namespace, finding) in found {
        let (word, style) = match finding.grade {
            Grade::Wrong => ("WRONG", Style::Bad),
            Grade::Risk => ("RISK ", Style::Warn),
        };
        let place = if namespace.is_empty() { String::new() } else { format!(" in {namespace}") };
        let head = format!("{} {}{place}: {}", paint.text(word, style), paint.text(&finding.object, Style::Bold), finding.wrong);
        out.extend([head.as_str(), "\n      ", &there(&finding.mend, namespace), "\n"]);
    }
    for what in unread {
        out.extend(["      not looked at: ", what, "\n"]);
    }
    out.extend(hearing.into_iter().flat_map(|hearing| ["      merges: ", hearing, "\n"]));
    let count = |grade| found.iter().filter(|(_, f)| f.grade == grade).count();
    let sum = match (count(Grade::Wrong), count(Grade::Risk)) {
        (0, 0) => "Nothing is wrong.\n".to_owned(),
        (wrong, risks) => format!("{wrong} wrong, {risks} at risk.\n"),
    };
    out + &sum
}

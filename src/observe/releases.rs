//! The versions that there are, and what people said about them: Releases with their templates, Holds, Commands.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{ResourceExt as _, api::ObjectMeta};
use serde_json::Value;

use super::decoded::{Damaged, Decoded};
use crate::{
    api::{
        command::Command as RawCommand,
        hold::Hold as RawHold,
        release::{OriginType, Release as Raw, ReleaseConfig},
    },
    model::{
        decision::Reason,
        phase::Why,
        plan::PlannedStep,
        repo_config::RepoConfig,
        source::Brought,
        version::{Identity, ReleaseName, WorkloadName},
        world::{Command, Hold, Release},
    },
};

/// The field of a `ControllerRevision`'s `data` that holds the templates, by workload: `{"templates": {"shop": {…}}}`.
pub const TEMPLATES: &str = "templates";

/// Every Release with its templates, oldest first.
pub(super) fn releases(raw: &[Raw], revisions: &[ControllerRevision], delivery: &str) -> Vec<Release> {
    let mut all: Vec<Release> = raw.iter().filter(|r| r.spec.delivery_ref.name == delivery).map(|r| release(r, revisions)).collect();
    all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    all
}

fn release(raw: &Raw, revisions: &[ControllerRevision]) -> Release {
    let status = raw.status.clone().unwrap_or_default();
    let name = raw.name_any();
    let revision = revisions.iter().find(|r| r.metadata.name.as_ref() == Some(&name));
    Release {
        templates: revision.and_then(|r| r.data.as_ref()).and_then(|data| templates(&data.0)),
        name: ReleaseName::new(name),
        version: raw.spec.version.clone(),
        commit: raw.spec.commit.clone(),
        image: raw.spec.image.clone(),
        // Ours always say where they came from.
        manual: raw.spec.origin.as_ref().is_none_or(|origin| origin.type_ == OriginType::Manual),
        place: raw.spec.place,
        brought: brought(raw),
        barrier: raw.spec.barrier.as_ref().map(|barrier| barrier.reason.clone()),
        reverts: raw.spec.reverts.clone(),
        config: raw.spec.config.as_ref().map(config),
        refused: raw.spec.refused.as_ref().map(|refused| Why { word: refused.reason.clone(), says: refused.message.clone() }),
        identity: raw.spec.template_hash.clone().or(status.template_hash).map(Identity::new),
        outcome: status.outcome,
        tries: status.tries.and_then(|tries| u32::try_from(tries).ok()).unwrap_or(0),
        created: created(&raw.metadata),
    }
}

fn brought(raw: &Raw) -> (Vec<Brought>, u64) {
    let told: Vec<Brought> = raw
        .spec
        .origin
        .iter()
        .flat_map(|origin| &origin.commits)
        .map(|commit| Brought {
            commit: commit.commit.clone(),
            title: commit.title.clone(),
            author: commit.author.clone(),
            pull_request: commit.pull_request,
        })
        .collect();
    let count = raw.spec.origin.as_ref().and_then(|origin| origin.commit_count).unwrap_or(told.len() as u64);
    (told, count)
}

fn config(raw: &ReleaseConfig) -> RepoConfig {
    let ascending = |mut steps: Vec<PlannedStep>| {
        steps.sort_by_key(|step| step.weight);
        steps.dedup_by_key(|step| step.weight);
        steps
    };
    RepoConfig {
        steps: raw.steps.as_ref().map(|steps| ascending(steps.iter().map(PlannedStep::from).collect())),
        probes: raw.probes.iter().map(|probe| probe.name.clone()).collect(),
    }
}

/// The templates in a `ControllerRevision`'s data.
#[must_use]
pub fn templates(data: &Value) -> Option<BTreeMap<WorkloadName, Value>> {
    let templates = data.get(TEMPLATES)?.as_object()?;
    Some(templates.iter().map(|(name, template)| (WorkloadName::new(name), template.clone())).collect())
}

/// Holds that are about this Delivery and not over, by name.
pub(super) fn holds(raw: &Decoded<RawHold>, delivery: &str, now: Timestamp) -> Vec<Hold> {
    let about = raw.all.iter().filter(|h| h.spec.delivery_ref.as_ref().is_none_or(|d| d.name == delivery));
    let standing = about.filter(|h| h.spec.until.as_ref().is_none_or(|until| until.0 > now) && h.metadata.deletion_timestamp.is_none());
    let mut holds: Vec<Hold> = standing
        .map(|h| Hold {
            name: h.name_any(),
            release: h.spec.release.as_ref().map(ReleaseName::new),
            message: h.spec.message.clone(),
            until: h.spec.until.as_ref().map(|until| until.0),
            by: h.spec.by.clone(),
        })
        .collect();
    holds.extend(raw.damaged.iter().filter(|h| !h.ending() && may_hold(h, delivery)).map(unreadable));
    holds.sort_by(|a, b| a.name.cmp(&b.name));
    holds
}

/// Somebody said stop: where it cannot be read to whom, to everybody.
fn may_hold(hold: &Damaged, delivery: &str) -> bool {
    hold.text("/spec/deliveryRef/name").is_none_or(|name| name == delivery)
}

fn unreadable(hold: &Damaged) -> Hold {
    Hold {
        name: hold.name().to_owned(),
        release: None,
        message: format!("{}; mend it or delete it", hold.says("Hold")),
        until: None,
        by: hold.text("/spec/by").unwrap_or("somebody").to_owned(),
    }
}

/// What of this Delivery cannot be read: a Release counts as gone, and an order that nobody can read may have been to stop.
pub(super) fn damaged(releases: &[Damaged], commands: &[Damaged], delivery: &str) -> Vec<Reason> {
    let open = |c: &&Damaged| c.text("/spec/deliveryRef/name") == Some(delivery) && c.at("/status/result").is_none();
    let releases = releases.iter().map(|r| format!("{} and counts as gone; mend it or delete it", r.says("Release")));
    let commands = commands.iter().filter(open).map(|c| format!("{}; delete it and give the order again", c.says("Command")));
    releases.chain(commands).map(|why| Reason::Invalid { why }).collect()
}

/// Commands to this Delivery without a result, oldest first.
pub(super) fn commands(raw: &[RawCommand], delivery: &str) -> Vec<Command> {
    let open = |c: &&RawCommand| c.spec.delivery_ref.name == delivery && c.status.as_ref().is_none_or(|s| s.result.is_none());
    let mut open: Vec<&RawCommand> = raw.iter().filter(open).collect();
    open.sort_by_key(|c| (created(&c.metadata), c.name_any()));
    let command = |c: &RawCommand| Command {
        name: c.name_any(),
        release: ReleaseName::new(&c.spec.release),
        action: c.spec.action,
        step: c.spec.step.and_then(|step| usize::try_from(step).ok()),
        by: c.spec.by.clone(),
        reason: c.spec.reason.clone(),
    };
    open.into_iter().map(command).collect()
}

fn created(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0)
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;
    use serde_json::json;

    use super::{super::decoded, *};

    fn object<T: serde::de::DeserializeOwned>(kind: &str, name: &str, created: &str, spec: &Value, status: &Value) -> T {
        let mut object = json!({"apiVersion": "haldane.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "creationTimestamp": created}, "spec": spec});
        if !status.is_null() {
            object.as_object_mut().unwrap().insert("status".to_owned(), status.clone());
        }
        serde_json::from_value(object).unwrap()
    }

    const EARLY: &str = "2026-11-21T00:00:00Z";
    const LATE: &str = "2026-11-21T01:00:00Z";

    #[test]
    fn releases_come_with_their_templates_oldest_first() {
        let spec = |image: &str| json!({"deliveryRef": {"name": "shop"}, "version": "v", "image": image, "origin": {"type": "Workload"}});
        let asked = json!({"deliveryRef": {"name": "shop"}, "version": "v", "image": "c"});
        let strange = json!({"deliveryRef": {"name": "cart"}, "version": "v", "image": "d"});
        let raw: Vec<Raw> = vec![
            object("Release", "b", LATE, &spec("b"), &json!({"outcome": "Live", "tries": 2, "templateHash": "ab"})),
            object("Release", "a", EARLY, &spec("a"), &Value::Null),
            object("Release", "c", LATE, &asked, &Value::Null),
            object("Release", "d", LATE, &strange, &Value::Null),
        ];
        let kept = ControllerRevision {
            metadata: ObjectMeta { name: Some("b".to_owned()), ..ObjectMeta::default() },
            data: Some(k8s_openapi::apimachinery::pkg::runtime::RawExtension(json!({"templates": {"shop": {"spec": {}}}}))),
            revision: 1,
        };
        let releases = releases(&raw, &[kept], "shop");
        let told: Vec<(&str, bool, bool, u32)> =
            releases.iter().map(|r| (r.name.as_str(), r.manual, r.templates.is_some(), r.tries)).collect();
        assert_eq!(told, [("a", false, false, 0), ("b", false, true, 2), ("c", true, false, 0)]);
        assert_eq!(releases.iter().find_map(|r| r.identity.clone()), Some(Identity::new("ab")));
    }

    #[test]
    fn holds_of_others_and_those_that_are_over_do_not_hold() {
        let hold = |name: &str, delivery: Value, until: Value| {
            let mut spec = json!({"message": "m", "by": "ana", "deliveryRef": delivery, "until": until});
            spec.as_object_mut().unwrap().retain(|_, v| !v.is_null());
            object::<RawHold>("Hold", name, EARLY, &spec, &Value::Null)
        };
        let raw = [
            hold("all", Value::Null, Value::Null),
            hold("mine", json!({"name": "shop"}), json!(LATE)),
            hold("theirs", json!({"name": "cart"}), Value::Null),
            hold("over", json!({"name": "shop"}), json!(EARLY)),
        ];
        let raw = Decoded { all: raw.to_vec(), damaged: Vec::new() };
        let names = |now: &str| holds(&raw, "shop", now.parse().unwrap()).into_iter().map(|h| h.name).collect::<Vec<_>>();
        assert_eq!(names("2026-11-21T00:30:00Z"), ["all", "mine"]);
        assert_eq!(names(LATE), ["all"]);
    }

    #[test]
    fn a_command_is_seen_until_it_has_a_result() {
        let command = |name: &str, created: &str, delivery: &str, status: Value| {
            let spec = json!({"deliveryRef": {"name": delivery}, "release": "r", "action": "Abort", "by": "ana"});
            object::<RawCommand>("Command", name, created, &spec, &status)
        };
        let raw = [
            command("second", LATE, "shop", Value::Null),
            command("first", EARLY, "shop", json!({})),
            command("done", EARLY, "shop", json!({"result": "Done"})),
            command("theirs", EARLY, "cart", Value::Null),
        ];
        let names: Vec<String> = commands(&raw, "shop").into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["first", "second"]);
    }

    fn damaged_object(kind: &str, name: &str, spec: &Value) -> DynamicObject {
        object(kind, name, EARLY, spec, &Value::Null)
    }

    #[test]
    fn a_hold_that_cannot_be_decoded_still_holds() {
        let raw: Decoded<RawHold> = decoded::decoded(vec![
            damaged_object("Hold", "good", &json!({"message": "m", "by": "ana"})),
            damaged_object("Hold", "mine", &json!({"message": 7, "by": "ana", "deliveryRef": {"name": "shop"}})),
            damaged_object("Hold", "theirs", &json!({"message": 7, "by": "ana", "deliveryRef": {"name": "cart"}})),
            damaged_object("Hold", "whose", &json!({"message": "m", "by": "ana", "deliveryRef": 7})),
        ]);
        let holds = holds(&raw, "shop", EARLY.parse().unwrap());
        assert_eq!(holds.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["good", "mine", "whose"]);
        let says = holds.iter().find(|h| h.name == "mine").map(|h| (h.by.as_str(), h.message.as_str())).unwrap();
        assert_eq!(says.0, "ana");
        assert!(says.1.starts_with("Hold mine cannot be decoded (") && says.1.ends_with("); mend it or delete it"), "{}", says.1);
    }

    #[test]
    fn an_order_that_cannot_be_decoded_stops_the_delivery_it_names_and_no_other() {
        let order = |name: &str, delivery: Value| {
            damaged_object("Command", name, &json!({"deliveryRef": delivery, "action": "Dance", "by": "ana"}))
        };
        let orders = vec![order("mine", json!({"name": "shop"})), order("theirs", json!({"name": "cart"})), order("whose", json!(7))];
        let orders: Decoded<RawCommand> = decoded::decoded(orders);
        let releases: Decoded<Raw> = decoded::decoded(vec![damaged_object("Release", "v7", &json!({"deliveryRef": {"name": "shop"}}))]);
        assert_eq!((orders.all.len(), releases.all.len()), (0, 0));
        let told = damaged(&releases.damaged, &orders.damaged, "shop");
        let says: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert!(
            matches!(says.as_slice(), [release, order] if release.starts_with("Release v7 cannot") && order.starts_with("Command mine cannot")),
            "{says:?}"
        );
    }
}

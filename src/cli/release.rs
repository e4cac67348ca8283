//! `release`: an image becomes a Release. Twice the same is once.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::{
    End, args,
    connect::{Cluster, within},
    wait,
};
use crate::{
    api::{
        DELIVERY_LABEL,
        delivery::Delivery,
        release::{Barrier, DeliveryRef, Origin, OriginType, Release, ReleaseSpec},
    },
    model::{
        template,
        version::{Identity, WorkloadName},
    },
};

/// Digits of the hash in a name, as the controller has them: the tag stands beside it, and a name that is taken gives way to another.
const HASH: usize = 5;
/// Characters of the tag or commit in a name: 40 + 1 + 7 + 1 + 5 = 54 ≤ 63.
const TAG: usize = 7;

/// Creates it, and waits if that is wished.
pub(crate) async fn run(cluster: &Cluster, args: &args::ReleaseArgs) -> Result<End> {
    let delivery = cluster.delivery(args.named.name.as_deref()).await?;
    let mut templates = BTreeMap::new();
    for workload in &delivery.spec.workloads {
        let deployment = cluster.value::<Deployment>(&workload.name).await?;
        let deployment =
            deployment.with_context(|| format!("Deployment {} does not exist in namespace {}", workload.name, cluster.namespace))?;
        templates.insert(WorkloadName::new(&workload.name), deployment.pointer("/spec/template").cloned().unwrap_or_default());
    }
    let wish = Wish {
        image: &args.image,
        commit: args.commit.as_deref(),
        version: args.version.as_deref(),
        url: args.url.as_deref(),
        barrier: args.barrier.as_deref(),
    };
    let (mut release, identity) = compose(&delivery, &wish, &templates, &cluster.whoami().await)?;
    let all = within("releases", cluster.of::<Release>().list(&ListParams::default())).await?.items;
    let (name, there) = named(&release, &identity, &all);
    release.metadata.name = Some(name.clone());
    if there {
        println!("release.haldane.dev/{name} unchanged");
    } else {
        cluster.create(&release, false).await?;
        println!("release.haldane.dev/{name} created");
    }
    let status = delivery.status.clone().unwrap_or_default();
    if let Some(entry) = status.quarantine.iter().find(|q| q.identity == identity.as_str()) {
        println!(
            "this content is in quarantine ({}); to try it again: kubectl haldane retry {} {}",
            entry.why.message,
            delivery.name_any(),
            entry.release
        );
    }
    if args.wait {
        return wait::until_over(cluster, &delivery.name_any(), &name, args.limit.timeout.0).await;
    }
    println!("See how it goes: kubectl haldane wait {}", delivery.name_any());
    Ok(End::Done)
}

/// What was typed.
struct Wish<'a> {
    image: &'a str,
    commit: Option<&'a str>,
    version: Option<&'a str>,
    url: Option<&'a str>,
    barrier: Option<&'a str>,
}

/// Why a Release would not be looked at, if so.
fn looked_at(delivery: &Delivery) -> Result<()> {
    let name = delivery.name_any();
    if let Some(github) = delivery.spec.source.as_ref().and_then(|s| s.github.as_ref()) {
        bail!(
            "Delivery {name} takes its versions from the merges of {}, so a Release would not be looked at. Merge there; to take an older \
             version back: kubectl haldane rollback {name}",
            github.repository
        );
    }
    if let Some(image) = delivery.spec.source.as_ref().and_then(|s| s.image.as_ref()) {
        bail!(
            "Delivery {name} takes its versions from the tag {}:{}, so a Release would not be looked at. Move that tag; to take an older \
             version back: kubectl haldane rollback {name}",
            image.repository,
            image.tag
        );
    }
    if delivery.spec.source.as_ref().is_none_or(|s| s.manual.is_none()) {
        bail!(
            "Delivery {name} takes its versions from the workload's own template, so a Release would not be looked at. Ship with \
             kubectl set image, apply, Helm or GitOps; or let Releases name the image: kubectl patch dlv {name} --type=merge -p '{{\"spec\":{{\"source\":{{\"manual\":{{}}}}}}}}'"
        );
    }
    Ok(())
}

/// The Release of an image, or why there is none.
fn compose(delivery: &Delivery, wish: &Wish, templates: &BTreeMap<WorkloadName, Value>, by: &str) -> Result<(Release, Identity)> {
    looked_at(delivery)?;
    let name = delivery.name_any();
    let commit = wish.commit.map(str::to_lowercase);
    if commit.as_ref().is_some_and(|c| !(7..=64).contains(&c.len()) || !c.chars().all(|x| x.is_ascii_hexdigit())) {
        bail!("--commit: a commit is 7 to 64 hexadecimal digits");
    }
    let composed: BTreeMap<WorkloadName, Value> = delivery
        .spec
        .workloads
        .iter()
        .filter_map(|w| {
            templates
                .get_key_value(&WorkloadName::new(&w.name))
                .map(|(name, owners)| (name.clone(), template::with_image(owners, wish.image, &w.containers)))
        })
        .collect();
    if composed.iter().all(|(_, t)| !mentions(t, wish.image)) {
        bail!(
            "no container of {name} uses the repository {}; name the containers in spec.workloads[].containers",
            template::repository(wish.image)
        );
    }
    let version = wish.version.map_or_else(|| template::tag(wish.image), str::to_owned);
    let short = commit.clone().unwrap_or_else(|| template::tag(wish.image));
    let identity = template::identity(&composed);
    let mut release = Release::new(
        &format!("{name}-{}", sanitised(&short)),
        ReleaseSpec {
            delivery_ref: DeliveryRef { name: name.clone() },
            version: version.chars().take(128).collect(),
            commit,
            image: wish.image.to_owned(),
            template_hash: None,
            place: None,
            barrier: wish.barrier.map(|reason| Barrier { reason: reason.chars().take(256).collect() }),
            origin: Some(Origin {
                type_: OriginType::Manual,
                url: wish.url.map(str::to_owned),
                authors: vec![by.to_owned()],
                title: None,
                pull_requests: Vec::new(),
                commits: Vec::new(),
                commit_count: None,
            }),
            reverts: Vec::new(),
            config: None,
            refused: None,
        },
    );
    release.labels_mut().insert(DELIVERY_LABEL.to_owned(), name);
    Ok((release, identity))
}

fn mentions(template: &Value, image: &str) -> bool {
    let containers = ["/spec/containers", "/spec/initContainers"].into_iter().flat_map(|list| super::json::list(template, list));
    containers.into_iter().any(|c| super::json::text(c, "/image") == image)
}

/// As much of a tag or commit as a name takes.
fn sanitised(text: &str) -> String {
    let kept: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(TAG).collect();
    match kept.trim_matches('-') {
        "" => "image".to_owned(),
        kept => kept.to_owned(),
    }
}

/// The name of a Release, and whether it is there already and is the newest wish.
///
/// The newest Release of a person is the one that is desired. So the same wish twice is one Release; but a wish for an
/// older version is a new wish, and needs an object that is newer than those in between.
fn named(wished: &Release, identity: &Identity, all: &[Release]) -> (String, bool) {
    let stem = wished.name_any();
    let own = || all.iter().filter(|r| r.spec.delivery_ref == wished.spec.delivery_ref);
    let manual = own().filter(|r| r.spec.origin.as_ref().is_some_and(|o| o.type_ == OriginType::Manual));
    let newest = manual.max_by_key(|r| (r.metadata.creation_timestamp.clone(), r.name_any())).map(ResourceExt::name_any);
    let mut turn = 0;
    loop {
        let name = format!("{stem}-{}", digits(identity, turn));
        let taken = all.iter().any(|r| r.name_any() == name);
        if !taken || newest.as_ref() == Some(&name) {
            return (name, taken);
        }
        turn += 1;
    }
}

/// The digits of a name: of the content itself, and for each later turn of it others.
fn digits(identity: &Identity, turn: usize) -> String {
    let all = match turn {
        0 => identity.as_str().to_owned(),
        _ => template::hash(&json!({"identity": identity.as_str(), "turn": turn})).as_str().to_owned(),
    };
    all.chars().take(HASH).collect()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test stops at what it did not expect")]
mod tests {
    use super::*;

    fn manual() -> Delivery {
        serde_json::from_value(
            json!({"metadata": {"name": "checkout"}, "spec": {"workloads": [{"name": "checkout"}], "source": {"manual": {}}}}),
        )
        .unwrap()
    }

    fn templates() -> BTreeMap<WorkloadName, Value> {
        [(WorkloadName::new("checkout"), json!({"spec": {"containers": [{"name": "app", "image": "r/checkout:v1"}]}}))].into()
    }

    fn wish(image: &str) -> Wish<'_> {
        Wish { image, commit: None, version: None, url: None, barrier: None }
    }

    #[test]
    fn twice_the_same_is_one_release_and_another_template_is_another() {
        let (one, identity) = compose(&manual(), &wish("r/checkout:v2"), &templates(), "ana").unwrap();
        let (two, same) = compose(&manual(), &wish("r/checkout:v2"), &templates(), "ben").unwrap();
        assert_eq!(named(&one, &identity, &[]), named(&two, &same, &[]));
        assert!(one.name_any().starts_with("checkout-v2"), "{}", one.name_any());
        assert_eq!(one.labels().get(DELIVERY_LABEL).map(String::as_str), Some("checkout"));
        assert_eq!(one.spec.version, "v2");
        let other =
            [(WorkloadName::new("checkout"), json!({"spec": {"containers": [{"name": "app", "image": "r/checkout:v1", "args": ["-v"]}]}}))]
                .into();
        let (three, another) = compose(&manual(), &wish("r/checkout:v2"), &other, "ana").unwrap();
        assert_ne!(named(&three, &another, &[]), named(&one, &identity, &[]));
    }

    #[test]
    fn a_release_where_the_template_decides_is_refused_with_what_to_do() {
        let mut delivery = manual();
        delivery.spec.source = None;
        let says = compose(&delivery, &wish("r/checkout:v2"), &templates(), "ana").unwrap_err().to_string();
        assert!(says.contains("kubectl set image") && says.contains("kubectl patch dlv checkout"), "{says}");
    }

    #[test]
    fn an_image_that_no_container_would_run_is_refused() {
        let says = compose(&manual(), &wish("r/other:v2"), &templates(), "ana").unwrap_err().to_string();
        assert!(says.contains("spec.workloads[].containers"), "{says}");
        let mut named = manual();
        named.spec.workloads[0].containers = vec!["app".to_owned()];
        assert!(compose(&named, &wish("r/other:v2"), &templates(), "ana").is_ok());
    }

    #[test]
    fn names_are_made_of_what_a_name_takes() {
        for (text, kept) in [("V1.2.3-rc.1", "v1-2-3"), ("0123456789abcdef", "0123456"), ("...", "image"), ("sha_Ä", "sha")] {
            assert_eq!(sanitised(text), kept, "{text}");
        }
        let says = compose(&manual(), &Wish { commit: Some("xyz"), ..wish("r/checkout:v2") }, &templates(), "ana").unwrap_err().to_string();
        assert!(says.contains("hexadecimal"), "{says}");
    }

    #[test]
    fn an_older_version_that_is_wished_for_again_is_a_new_wish() {
        let (one, identity) = compose(&manual(), &wish("r/checkout:v2"), &templates(), "ana").unwrap();
        let made = |name: &str, origin: OriginType, at: &str| {
            let mut release = one.clone();
            release.metadata.name = Some(name.to_owned());
            release.metadata.creation_timestamp = serde_json::from_value(json!(at)).unwrap();
            release.spec.origin = Some(Origin {
                type_: origin,
                url: None,
                authors: vec![],
                title: None,
                pull_requests: vec![],
                commits: vec![],
                commit_count: None,
            });
            release
        };
        let (name, there) = named(&one, &identity, &[]);
        assert!(!there);
        let first = made(&name, OriginType::Manual, "2026-01-01T00:00:00Z");
        assert_eq!(named(&one, &identity, std::slice::from_ref(&first)), (name.clone(), true), "twice is once");
        let later = made("checkout-v3-aaaaa", OriginType::Manual, "2026-01-02T00:00:00Z");
        let (second, there) = named(&one, &identity, &[first, later]);
        assert!(!there && second != name && second.starts_with("checkout-v2-"), "{second}");
        let adopted = made(&name, OriginType::Adopted, "2026-01-01T00:00:00Z");
        assert!(!named(&one, &identity, &[adopted]).1, "what merely ran is nobody's wish yet");
    }
}

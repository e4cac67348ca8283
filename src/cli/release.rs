//! `release`: an image becomes a Release. Twice the same is once.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use serde_json::Value;

use super::{
    End, args,
    connect::{Cluster, within},
    wait,
};
use crate::{
    api::{
        DELIVERY_LABEL,
        delivery::Delivery,
        release::{DeliveryRef, Origin, OriginType, Outcome, Release, ReleaseSpec},
        status::DeliveryStatus,
    },
    model::{template, version::WorkloadName},
};

/// Digits of the hash in a name. A Delivery keeps a few hundred Releases, and the tag stands beside the hash, so two of
/// them share a name with a chance of about 10⁻¹ only if all of them had one tag; then the second is told to be the first.
const HASH: usize = 5;
/// Characters of the tag or commit in a name: 40 + 1 + 7 + 1 + 5 = 54 ≤ 63.
const TAG: usize = 7;

/// Creates it, and waits if that is wished.
pub(crate) async fn run(cluster: &Cluster, args: &args::ReleaseArgs) -> Result<End> {
    let delivery = cluster.delivery(args.named.name.as_deref()).await?;
    let mut templates = BTreeMap::new();
    for workload in &delivery.spec.workloads {
        let deployment = cluster.value::<Deployment>(&workload.name).await?;
        let deployment = deployment.with_context(|| format!("Deployment {} does not exist in namespace {}", workload.name, cluster.namespace))?;
        templates.insert(WorkloadName::new(&workload.name), deployment.pointer("/spec/template").cloned().unwrap_or_default());
    }
    let wish = Wish { image: &args.image, commit: args.commit.as_deref(), version: args.version.as_deref(), url: args.url.as_deref() };
    let release = compose(&delivery, &wish, &templates, &cluster.whoami().await)?;
    let name = release.name_any();
    match within("releases", cluster.of::<Release>().get_opt(&name)).await? {
        None => {
            cluster.create(&release, false).await?;
            println!("release.haldane.dev/{name} created");
        }
        Some(there) => println!("{}", again(&there, &release, &delivery)?),
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
}

/// The Release of an image, or why there is none.
fn compose(delivery: &Delivery, wish: &Wish, templates: &BTreeMap<WorkloadName, Value>, by: &str) -> Result<Release> {
    let name = delivery.name_any();
    if !delivery.spec.source.as_ref().is_some_and(|s| s.manual.is_some()) {
        bail!(
            "Delivery {name} takes its versions from the workload's own template, so a Release would not be looked at. Ship with \
             kubectl set image, apply, Helm or GitOps; or let Releases name the image: kubectl patch dlv {name} --type=merge -p '{{\"spec\":{{\"source\":{{\"manual\":{{}}}}}}}}'"
        );
    }
    let commit = wish.commit.map(str::to_lowercase);
    if commit.as_ref().is_some_and(|c| !(7..=64).contains(&c.len()) || !c.chars().all(|x| x.is_ascii_hexdigit())) {
        bail!("--commit: a commit is 7 to 64 hexadecimal digits");
    }
    let composed: BTreeMap<WorkloadName, Value> = delivery
        .spec
        .workloads
        .iter()
        .filter_map(|w| templates.get_key_value(&WorkloadName::new(&w.name)).map(|(name, owners)| (name.clone(), template::with_image(owners, wish.image, &w.containers))))
        .collect();
    if composed.iter().all(|(_, t)| !mentions(t, wish.image)) {
        bail!("no container of {name} uses the repository {}; name the containers in spec.workloads[].containers", template::repository(wish.image));
    }
    let version = wish.version.map_or_else(|| template::tag(wish.image), str::to_owned);
    let short = commit.clone().unwrap_or_else(|| template::tag(wish.image));
    let hash: String = template::identity(&composed).as_str().chars().take(HASH).collect();
    let mut release = Release::new(
        &format!("{name}-{}-{hash}", sanitised(&short)),
        ReleaseSpec {
            delivery_ref: DeliveryRef { name: name.clone() },
            version: version.chars().take(128).collect(),
            commit,
            image: wish.image.to_owned(),
            template_hash: None,
            origin: Some(Origin { type_: OriginType::Manual, url: wish.url.map(str::to_owned), authors: vec![by.to_owned()] }),
        },
    );
    release.labels_mut().insert(DELIVERY_LABEL.to_owned(), name);
    Ok(release)
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

/// It was made before: what that means.
fn again(there: &Release, wished: &Release, delivery: &Delivery) -> Result<String> {
    let (name, delivery_name) = (there.name_any(), delivery.name_any());
    if there.spec.image != wished.spec.image {
        bail!("the name {name} is taken by another image ({}); give another --version or --commit", there.spec.image);
    }
    let status = there.status.clone().unwrap_or_default();
    let told = status.message.map(|m| format!(": {m}")).unwrap_or_default();
    let live = delivery.status.as_ref().and_then(|s: &DeliveryStatus| s.live.as_ref()).is_some_and(|l| l.release == name);
    let rolling = delivery.status.as_ref().and_then(|s| s.rollout.as_ref()).is_some_and(|r| r.release == name);
    match status.outcome {
        _ if rolling => Ok(format!("release.haldane.dev/{name} unchanged; it is on its way")),
        Some(Outcome::Live) if !live => {
            bail!("{name} was live before and is not now{told}; to try it again: kubectl haldane retry {delivery_name} {name}")
        }
        Some(Outcome::RolledBack | Outcome::Undecided) => {
            Ok(format!("release.haldane.dev/{name} unchanged; it was tried{told}. To try it again: kubectl haldane retry {delivery_name} {name}"))
        }
        _ => Ok(format!("release.haldane.dev/{name} unchanged")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manual() -> Delivery {
        serde_json::from_value(json!({"metadata": {"name": "checkout"}, "spec": {"workloads": [{"name": "checkout"}], "source": {"manual": {}}}})).unwrap()
    }

    fn templates() -> BTreeMap<WorkloadName, Value> {
        [(WorkloadName::new("checkout"), json!({"spec": {"containers": [{"name": "app", "image": "r/checkout:v1"}]}}))].into()
    }

    fn wish(image: &str) -> Wish<'_> {
        Wish { image, commit: None, version: None, url: None }
    }

    #[test]
    fn twice_the_same_is_one_release_and_another_template_is_another() {
        let one = compose(&manual(), &wish("r/checkout:v2"), &templates(), "ana").unwrap();
        let two = compose(&manual(), &wish("r/checkout:v2"), &templates(), "ben").unwrap();
        assert_eq!(one.name_any(), two.name_any());
        assert!(one.name_any().starts_with("checkout-v2-"), "{}", one.name_any());
        assert_eq!(one.labels().get(DELIVERY_LABEL).map(String::as_str), Some("checkout"));
        assert_eq!(one.spec.version, "v2");
        let other = [(WorkloadName::new("checkout"), json!({"spec": {"containers": [{"name": "app", "image": "r/checkout:v1", "args": ["-v"]}]}}))].into();
        assert_ne!(compose(&manual(), &wish("r/checkout:v2"), &other, "ana").unwrap().name_any(), one.name_any());
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
    fn a_release_that_failed_is_not_started_again_by_asking_twice() {
        let wished = compose(&manual(), &wish("r/checkout:v2"), &templates(), "ana").unwrap();
        let mut there = wished.clone();
        there.status = Some(serde_json::from_value(json!({"outcome": "RolledBack", "message": "v2 was taken back"})).unwrap());
        let says = again(&there, &wished, &manual()).unwrap();
        assert!(says.contains("v2 was taken back") && says.contains("kubectl haldane retry checkout"), "{says}");
        there.status = Some(serde_json::from_value(json!({"outcome": "Live"})).unwrap());
        assert!(again(&there, &wished, &manual()).is_err(), "it is not live any more");
    }
}

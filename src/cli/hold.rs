//! `hold` and `unhold`.

use anyhow::{Result, bail};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Preconditions},
};

use super::{
    End, args,
    connect::{Cluster, bare, within},
};
use crate::api::{
    DELIVERY_LABEL,
    duration::Span,
    hold::{Hold, HoldSpec},
    release::DeliveryRef,
};

/// Creates one.
pub(crate) async fn hold(cluster: &Cluster, args: &args::Hold) -> Result<End> {
    let delivery = match &args.name {
        Some(name) => Some(cluster.delivery(Some(name)).await?.name_any()),
        None => None,
    };
    let until = args.until.as_deref().map(|u| until(u, cluster.now())).transpose()?;
    let spec = HoldSpec {
        delivery_ref: delivery.clone().map(|name| DeliveryRef { name }),
        release: args.release.clone(),
        message: args.message.as_deref().unwrap_or("held by hand").chars().take(256).collect(),
        until: until.map(Time),
        by: cluster.whoami().await,
    };
    let made = cluster.create(&object(spec), false).await?;
    println!("hold.haldane.dev/{} created", made.name_any());
    let (what, undo) = match &delivery {
        Some(name) => (format!("Delivery {name}"), format!("unhold {name}")),
        None => (format!("any Delivery of namespace {}", cluster.namespace), "unhold --all".to_owned()),
    };
    let end = until.map_or_else(String::new, |at| format!(" until {at}"));
    println!("Nothing new of {what} moves forward{end}; the way back stays open. To end it: kubectl haldane {undo}");
    Ok(End::Done)
}

fn object(spec: HoldSpec) -> Hold {
    let name = spec.delivery_ref.as_ref().map(|r| r.name.clone());
    let generate = format!("{}-hold-", name.as_deref().unwrap_or("all"));
    let labels = name.map(|n| [(DELIVERY_LABEL.to_owned(), n)].into());
    Hold { metadata: ObjectMeta { generate_name: Some(generate), labels, ..ObjectMeta::default() }, spec }
}

/// A time from now, or a moment. One that is over holds nothing, and is a slip.
fn until(text: &str, now: Timestamp) -> Result<Timestamp> {
    let at = match (text.parse::<Span>(), text.parse::<Timestamp>()) {
        (Ok(span), _) => now.checked_add(span.0)?,
        (_, Ok(at)) => at,
        _ => bail!("--until {text}: write a time from now like 2h, or a moment like 2026-11-27T18:00:00Z"),
    };
    if at <= now {
        bail!("--until {text}: that is over");
    }
    // Kubernetes keeps whole seconds.
    Ok(Timestamp::from_second(at.as_second())?)
}

/// Deletes those that are meant.
pub(crate) async fn unhold(cluster: &Cluster, args: &args::Unhold) -> Result<End> {
    let all = within("holds", cluster.of::<Hold>().list(&ListParams::default())).await?.items;
    let meant = meant(&all, args.name.as_deref().map(bare), args.all)?;
    for hold in meant {
        let only_this = Preconditions { uid: hold.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
        within("delete", cluster.of::<Hold>().delete(&hold.name_any(), &params)).await?;
        println!("hold.haldane.dev/{} deleted (by {}: {})", hold.name_any(), hold.spec.by, hold.spec.message);
    }
    if let Some(name) = &args.name
        && all.iter().any(|h| h.spec.delivery_ref.is_none())
    {
        println!("{name} is still held with its namespace; to end that: kubectl haldane unhold --all");
    }
    Ok(End::Done)
}

/// The Holds that a person means.
fn meant<'a>(holds: &'a [Hold], name: Option<&str>, all: bool) -> Result<Vec<&'a Hold>> {
    let of = |hold: &Hold| hold.spec.delivery_ref.as_ref().map(|r| r.name.clone());
    let found: Vec<&Hold> = match name {
        Some(name) => match holds.iter().find(|h| h.name_any() == name) {
            Some(hold) => vec![hold],
            None => holds.iter().filter(|h| of(h).as_deref() == Some(name)).collect(),
        },
        None if all => holds.iter().filter(|h| of(h).is_none()).collect(),
        None if holds.len() > 1 => {
            let names: Vec<String> = holds.iter().map(ResourceExt::name_any).collect();
            bail!("which Hold? There are {}", names.join(", "))
        }
        None => holds.iter().collect(),
    };
    if found.is_empty() {
        bail!("there is no such Hold; see: kubectl get holds");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::now;

    fn named(name: &str, delivery: Option<&str>) -> Hold {
        let spec = HoldSpec {
            delivery_ref: delivery.map(|d| DeliveryRef { name: d.into() }),
            release: None,
            message: "m".into(),
            until: None,
            by: "ana".into(),
        };
        Hold { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, spec }
    }

    #[test]
    fn an_end_is_a_time_from_now_or_a_moment_and_never_the_past() {
        assert_eq!(until("2h", now()).unwrap().to_string(), "2026-01-01T14:00:00Z");
        assert_eq!(until("2026-01-01T18:00:00+01:00", now()).unwrap().to_string(), "2026-01-01T17:00:00Z");
        assert!(until("2025-01-01T00:00:00Z", now()).unwrap_err().to_string().ends_with("that is over"));
        assert!(until("tomorrow", now()).is_err());
    }

    #[test]
    fn unhold_takes_off_what_is_meant_and_nothing_else() {
        let holds = [named("a", Some("checkout")), named("b", None), named("c", Some("other"))];
        let names = |name, all| meant(&holds, name, all).map(|found| found.iter().map(|h| h.name_any()).collect::<Vec<_>>());
        assert_eq!(names(Some("checkout"), false).unwrap(), ["a"]);
        assert_eq!(names(Some("c"), false).unwrap(), ["c"]);
        assert_eq!(names(None, true).unwrap(), ["b"]);
        assert!(names(None, false).unwrap_err().to_string().starts_with("which Hold?"));
        assert!(names(Some("x"), false).is_err());
    }
}

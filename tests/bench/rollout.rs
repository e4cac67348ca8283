//! P4 and P7: what a healthy rollout costs in the controller's own time, and in writes.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::figure::{Against, Figure, ms};
use crate::rollback::Way;
use crate::support::Bed;
use crate::support::audit::{Write, by_kind};
use crate::support::follow::Follow;
use crate::support::rest::Hand;
use crate::support::shop::{Setup, Shop};

const PART: Duration = Duration::from_mins(2);
const SETTLE_US: i64 = 2_000_000;
/// Each is new to the shop: one that was there before needs no records and costs fewer writes.
const NEW: [&str; 4] = ["v2", "v3", "v4", "v5"];

pub(crate) fn measure(bed: &Bed, n: usize, way: Way) -> Result<Vec<Figure>> {
    let (steps, by_route) = (vec![(5, "3s"), (25, "3s"), (50, "3s")], way == Way::Route);
    let shop = Shop::delivered(bed, "rollout", Setup { steps, settle: "2s", testers: by_route.then_some("3s"), ..Setup::default() })?;
    let (mut own, mut counts, mut kinds, mut totals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for version in NEW.into_iter().take(n) {
        let mark = bed.audit_mark()?;
        let mut life = shop.follow()?;
        shop.set_image(version)?;
        life.until(PART, "live", |seen| seen.is_live(version))?;
        shop.is_at_rest(version, Hand::Haldane)?;
        let writes: Vec<Write> =
            bed.writes_since(mark)?.into_iter().filter(|write| write.namespace == shop.ns && write.succeeded()).collect();
        let ours: Vec<&Write> = writes.iter().filter(|write| write.ours()).collect();
        let asked = writes
            .iter()
            .find(|write| !write.ours() && write.resource == "deployments" && write.verb == "patch")
            .context("the owner's write")?;
        let last = ours.last().context("we wrote nothing")?;
        own.push(own_ms(&writes, &life, asked.done_us));
        totals.push(format!("{:.1}", ms(asked.done_us, last.done_us) / 1000.0));
        eprintln!(
            "  {:.0} ms of our own in {} s; {} writes",
            own.last().copied().unwrap_or_default(),
            totals.last().map_or("", String::as_str),
            ours.len()
        );
        #[expect(clippy::cast_precision_loss, reason = "tens of writes")]
        counts.push(ours.len() as f64);
        kinds = by_kind(ours.iter().copied());
    }
    shop.close()?;
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    Ok(vec![
        Figure {
            name: if by_route { "P4r" } else { "P4" },
            what: if by_route {
                "the controller's own time in a healthy rollout of testers and 3 steps, by a route"
            } else {
                "the controller's own time in a healthy rollout of 3 steps"
            },
            unit: "ms",
            values: own,
            against: Some(Against {
                what: "Argo Rollouts 1.10.2, basic, a real kubelet: time added to that of a plain Deployment",
                median: 2300.0,
            }),
            notes: vec![
                format!(
                    "from what made a write possible (a pod ready, a bake over, our own move before it) to its answer, summed; whole rollouts: {} s",
                    totals.join(" ")
                ),
                "bakes 3 x 3 s, guard 3 s, settle 2 s, and the pods' own time are not in it; waits for the next probe (every 1 s) are"
                    .to_owned(),
            ],
        },
        Figure {
            name: if by_route { "P7r" } else { "P7" },
            what: if by_route {
                "writes in a healthy rollout of testers and 3 steps, by a route, without Events and leases"
            } else {
                "writes in a healthy rollout of 3 steps, of a new version, without Events and leases"
            },
            unit: "writes",
            values: counts,
            against: Some(Against { what: "Argo Rollouts 1.10.2, basic, a real kubelet", median: 22.0 }),
            notes: vec![format!("the last one: {}", kinds.join(", "))],
        },
    ])
}

/// For each of our writes that moves something: the time since the last thing that it may have waited for. The Delivery's status is
/// also written while a bake lasts (what the probes saw), so its writes are not looked at; the Release's ends a rollout, and what
/// is tidied up after that delays nobody.
fn own_ms(writes: &[Write], life: &Follow, asked_us: i64) -> f64 {
    let timers: Vec<i64> = life.past.iter().filter_map(crate::support::follow::Seen::until_us).collect();
    let end = writes.iter().find(|write| write.ours() && write.resource == "releases/status").map_or(i64::MAX, |write| write.done_us);
    let (mut before, mut sum) = (asked_us, 0.0);
    let moves = |write: &&Write| write.ours() && write.resource != "deliveries/status" && (asked_us + 1..=end).contains(&write.done_us);
    for write in writes.iter().filter(moves) {
        let foreign = writes.iter().filter(|other| !other.ours() && enables(other)).map(|other| other.done_us);
        let settled = (write.asked_us >= before + SETTLE_US).then_some(before + SETTLE_US);
        let since = foreign.chain(timers.iter().copied()).chain(settled).filter(|at| *at <= write.asked_us).fold(before, i64::max);
        sum += ms(since, write.done_us);
        before = before.max(write.done_us);
    }
    sum
}

/// What the cluster itself says: a kubelet of its pods, the Deployment controller of its rolls, the endpoints of what is routable.
fn enables(write: &Write) -> bool {
    matches!(write.resource.as_str(), "pods/status" | "deployments/status" | "replicasets/status" | "endpointslices")
        || (write.resource == "pods" && write.verb == "delete")
}

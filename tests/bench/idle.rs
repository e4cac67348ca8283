//! P6: what the controller writes when nothing happens.

use std::time::Duration;

use anyhow::Result;

use crate::figure::{Against, Figure};
use crate::support::Bed;
use crate::support::audit::by_kind;
use crate::support::shop::{Setup, Shop};

const WINDOW: Duration = Duration::from_secs(90);

pub(crate) fn measure(bed: &Bed, n: usize) -> Result<Vec<Figure>> {
    let shop = Shop::delivered(bed, "idle", Setup { probe_at_rest: "10s", ..Setup::default() })?;
    // What adoption left to write is written.
    std::thread::sleep(Duration::from_secs(15));
    let (mut values, mut kinds) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let mark = bed.audit_mark()?;
        std::thread::sleep(WINDOW);
        let ours: Vec<_> = bed.writes_since(mark)?.into_iter().filter(crate::support::audit::Write::ours).collect();
        #[expect(clippy::cast_precision_loss, reason = "few writes")]
        values.push(ours.len() as f64 * 3600.0 / WINDOW.as_secs_f64());
        kinds.push(format!("{:?}", by_kind(&ours)));
    }
    shop.close()?;
    Ok(vec![Figure {
        name: "P6",
        what: "writes an hour at rest, one app probed every 10 s, without leases",
        unit: "writes/h",
        values,
        against: Some(Against { what: "Argo Rollouts 1.10.2", median: 0.0 }),
        notes: vec![format!("counted over {} s and multiplied; seen: {}", WINDOW.as_secs(), kinds.join(" "))],
    }])
}

//! One tag that moves: what does it name?
//!
//! Looked at once a minute, when a registry tells of a push, and later and later while the registry does not say. What it named
//! stands until it says something else.

use std::sync::Arc;

use futures::FutureExt as _;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    SWEEP, Shown, Subject, Watch,
    images::Images,
    round::{AGAIN, Failure, GAP, growing},
};
use crate::model::source::{Built, Merges};

/// Until nobody wants to know any more.
pub(super) async fn run(images: Images, shown: Shown, stir: Arc<Notify>, mut told: watch::Receiver<Watch>) {
    let (mut known, mut failures) = (Merges::default(), 0_u32);
    loop {
        let wanted = told.borrow_and_update().clone();
        let Subject::Tag(image) = &wanted.subject else { return };
        let began = Instant::now();
        // What was said before the look is answered by it.
        let _ = stir.notified().now_or_never();
        let said = match images.of(&image.repository, &image.tag, &wanted.logins).await {
            Ok(Built::Unsaid(why)) if !why.person => Err(Failure { unsaid: why, until: None }),
            other => other,
        };
        let pause = match said {
            Ok(said) => {
                (known.unsaid, known.tag, failures) = (None, Some(said), 0);
                SWEEP
            }
            // A registry that is ill for a moment takes back nothing of what it said.
            Err(failure) => {
                failures = failures.saturating_add(1);
                let pause = failure.pause(shown.clock.now()).unwrap_or_else(|| growing(AGAIN, failures));
                known.unsaid = failure.told(failures);
                pause
            }
        };
        shown.publish(known.clone());
        let stirred = tokio::select! {
            changed = told.changed() => {
                if changed.is_err() {
                    return;
                }
                false
            }
            () = stir.notified() => true,
            () = tokio::time::sleep(pause) => false,
        };
        if stirred {
            tokio::time::sleep_until(began + GAP).await;
        }
    }
}

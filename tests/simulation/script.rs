//! The five histories that every fault is tried on.

use std::fmt;

use crate::{
    app::{V2, V3, Way},
    sim::{
        Behaviour, Store,
        api::{kinds::DELIVERY, write::Propagation},
        json,
        world::behaviour::Answers,
    },
    town::Town,
};

/// What happens to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// A good version.
    Good,
    /// One that answers 500 from the start.
    BadFirst,
    /// One that answers 500 when it serves everything.
    BadGuard,
    /// One that is held, and a newer one.
    Superseded,
    /// A good one, and the Delivery is deleted in the middle of it.
    Deleted,
}

impl Script {
    pub const ALL: [Self; 5] = [Self::Good, Self::BadFirst, Self::BadGuard, Self::Superseded, Self::Deleted];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.to_string() == name)
    }

    /// Plays it from adoption to rest.
    pub async fn play(self, town: &Town) {
        self.begin(town);
        self.go_on(town).await;
        town.rest().await;
        let end = if self == Self::Deleted { town.gone() } else { town.home() };
        if let Err(what) = end {
            panic!("{what}\n{}", town.report());
        }
        town.check();
    }

    fn begin(self, town: &Town) {
        match self {
            Self::Good | Self::Deleted => {}
            Self::BadFirst => town.behave(V2, Behaviour::answering(Answers::Always(500))),
            Self::BadGuard => town.behave(V2, Behaviour::answering(Answers::FailsWhenServingAll)),
            Self::Superseded => town.behave(V2, Behaviour { image_pull_error: true, ..Behaviour::default() }),
        }
        town.set_image(V2);
    }

    async fn go_on(self, town: &Town) {
        match self {
            Self::Good => town.live("v2").await,
            Self::BadFirst | Self::BadGuard => town.phase("RolledBack").await,
            Self::Superseded => {
                let held = |store: &Store| held_for(store, "ClusterRefuses");
                town.until("v2 is held", held).await;
                town.set_image(V3);
                town.live("v3").await;
            }
            Self::Deleted => {
                town.phase("Canary").await;
                // In place its end would be another one a second later, when stable has begun to roll.
                let steps = if town.way == Way::Small { 1 } else { 10 };
                town.pass(std::time::Duration::from_secs(steps)).await;
                town.delete_delivery(Propagation::Background);
                town.until("the Delivery is gone", |s| s.find(&DELIVERY, crate::app::NAMESPACE, crate::app::APP).is_none()).await;
            }
        }
    }
}

/// The app waits for a reason of that word.
pub fn held_for(store: &Store, reason: &str) -> bool {
    store.find(&DELIVERY, crate::app::NAMESPACE, crate::app::APP).is_some_and(|d| json::text(d, "/status/reason") == reason)
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::BadFirst => "bad-first",
            Self::BadGuard => "bad-guard",
            Self::Superseded => "superseded",
            Self::Deleted => "deleted",
        })
    }
}

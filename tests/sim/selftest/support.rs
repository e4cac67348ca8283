//! One app, `web` in `shop`, and the questions that the tests ask about it.

use std::time::Duration;

use serde_json::Value;

use crate::sim::{
    ApiServer, Key, Store, World,
    api::kinds::{DEPLOYMENT, POD, REPLICA_SET},
    json::{self, count},
    world::manifests,
};

pub const V1: &str = "registry/app:v1";
pub const V2: &str = "registry/app:v2";
pub const V3: &str = "registry/app:v3";
/// Longer than any roll of three pods.
pub const ROLL: Duration = Duration::from_mins(2);

pub struct Shop {
    pub api: ApiServer,
    pub world: World,
}

impl Shop {
    /// Three pods of v1 behind a Service, applied by their owner and fully rolled.
    pub async fn open(seed: u64) -> Self {
        let api = ApiServer::new(seed);
        let world = World::start(&api, seed);
        api.add_namespace("shop");
        world.apply(&manifest(V1)).expect("the Deployment");
        world.apply(&service()).expect("the Service");
        let shop = Self { api, world };
        shop.rolled(V1).await;
        shop
    }

    /// The same, with the gate closed.
    pub async fn gated(seed: u64) -> Self {
        let shop = Self::open(seed).await;
        shop.world.pause("shop", "web");
        shop.quiet().await;
        shop
    }

    pub async fn rolled(&self, image: &str) {
        let done = self.world.until(ROLL, |store| is_rolled(store, image)).await;
        assert!(done, "not rolled to {image}: {:#}", self.deployment()["status"]);
        self.quiet().await;
    }

    pub async fn quiet(&self) {
        assert!(self.world.settle_for(Duration::from_secs(5), ROLL).await, "the world did not become quiet");
    }

    pub fn deployment(&self) -> Value {
        self.api.read(|store| store.find(&DEPLOYMENT, "shop", "web").cloned()).unwrap_or_default()
    }

    /// Live pods that are ready, as image counts.
    pub fn ready(&self) -> Vec<String> {
        self.api.read(ready_images)
    }

    pub fn pods(&self) -> Vec<Value> {
        self.api.read(|store| store.list(&POD, "shop").filter(|p| !json::is_terminating(p)).cloned().collect())
    }

    pub fn sets(&self) -> Vec<Value> {
        self.api.read(|store| store.list(&REPLICA_SET, "shop").cloned().collect())
    }

    /// The hash of the one `ReplicaSet` that has pods.
    pub fn live_hash(&self) -> String {
        let live: Vec<Value> = self.sets().into_iter().filter(|set| count(set, "/spec/replicas") > 0).collect();
        assert_eq!(live.len(), 1, "one ReplicaSet should be active");
        json::labels(&live[0])["pod-template-hash"].clone()
    }

    /// Adds the key to the selector of the Service.
    pub fn pin(&self, label: &str, value: &str) {
        let key = Key::new(&crate::sim::api::kinds::SERVICE, "shop", "web");
        let by = crate::sim::api::managed::Writer::new("pinner");
        let place = format!("/spec/selector/{}", json::escape(label));
        self.api.write(|store| store.edit(&by, &key, "", |s| json::set(s, &place, value.into()))).expect("the pin");
    }

    /// How many pods get new connections of the Service.
    pub fn routed(&self) -> usize {
        self.world.share("shop", "web").routed.len()
    }
}

pub fn manifest(image: &str) -> Value {
    manifests::deployment("shop", "web", image, 3)
}

pub fn service() -> Value {
    manifests::service("shop", "web")
}

pub fn ready_images(store: &Store) -> Vec<String> {
    let ready = store.list(&POD, "shop").filter(|p| json::holds(p, "Ready") && !json::is_terminating(p));
    ready.map(|p| json::text(p, "/spec/containers/0/image").to_owned()).collect()
}

pub fn is_rolled(store: &Store, image: &str) -> bool {
    store.find(&DEPLOYMENT, "shop", "web").is_some_and(|d| {
        let wanted = count(d, "/spec/replicas");
        json::text(d, "/spec/template/spec/containers/0/image") == image
            && count(d, "/status/observedGeneration") == count(d, "/metadata/generation")
            && ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|f| count(d, &format!("/status/{f}")) == wanted)
    })
}

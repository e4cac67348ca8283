//! What wakes a Delivery up: the watches, and how an object leads to the Deliveries that it concerns.
//!
//! Each watch has its own backoff and its errors end here: kube's `Controller` would slow down *all* triggers for one that
//! is refused. Watched by metadata only, where the name or a label is enough: a change of status comes through all the same.
//! Deliberately absent: `EndpointSlices` of the owners' Services (polled while it matters), Pods at rest, Secrets.

use std::{
    convert::Infallible,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _, future::ready, stream, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams, PartialObjectMeta},
    core::NamespaceResourceScope,
    runtime::{
        Controller, WatchStreamExt as _,
        controller::{Action, Config},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::{
    Guarded, Key,
    index::Index,
    turn::{Ctx, turn},
};
use crate::{
    api::{
        DELIVERY_LABEL, TRACK_CANARY, TRACK_LABEL,
        command::Command,
        delivery::{Delivery, RouteKind},
        hold::Hold,
        policy::DeliveryPolicy,
        probe::ProductionProbe,
        release::Release,
    },
    edge::kube::Cluster,
    metrics::Metrics,
    observe::routes,
};

/// A half-open connection of a watch is noticed after this and 5 s more.
pub const WATCH_TIMEOUT_S: u32 = 30;
/// How often it is looked for whether the cluster has come to know routes.
const LOOK_FOR_ROUTES: Duration = Duration::from_mins(1);
/// Deliveries that are looked at in the same moment, each with some 10 reads one after the other.
pub const CONCURRENCY: u16 = 32;
/// How long the passes in hand may take when the process is asked to stop.
pub const GRACE: Duration = Duration::from_secs(2);

/// A kind and its plural.
const POLICIES: (&str, &str) = ("DeliveryPolicy", "deliverypolicies");

/// Where the Deliveries are that this process looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    Cluster,
    /// In this one.
    Namespace(String),
}

impl Scope {
    /// One for each namespace, or the cluster when none is named.
    #[must_use]
    pub fn all(namespaces: &[String]) -> Vec<Self> {
        match namespaces {
            [] => vec![Self::Cluster],
            named => named.iter().cloned().map(Self::Namespace).collect(),
        }
    }

    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self, client: &Client) -> Api<K> {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    pub(super) fn dynamic<K: Resource<DynamicType = ()>>(&self, client: &Client) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<K>(&());
        match self {
            Self::Cluster => Api::all_with(client.clone(), &kind),
            Self::Namespace(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        }
    }
}

/// Whether the Deliveries of one scope are known.
#[derive(Debug, Default)]
pub struct Synced(AtomicU8);

impl Synced {
    const REFUSED: u8 = 1;
    const DONE: u8 = 2;

    /// They are known from now on.
    pub fn set_done(&self) {
        self.0.store(Self::DONE, Ordering::Release);
    }

    /// They are.
    #[must_use]
    pub fn done(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::DONE
    }

    /// We may not read them; that is for the people of that namespace to change, and no reason to wait.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::REFUSED
    }
}

/// What it takes to watch one scope.
pub struct Watches {
    /// What is watched.
    pub cluster: Cluster,
    /// Where.
    pub scope: Scope,
    /// Haldane's own namespace: its policy and its holds concern all.
    pub home: String,
    /// What leads from objects to Deliveries.
    pub index: Arc<Index>,
    /// Whether its Deliveries are known.
    pub synced: Arc<Synced>,
    /// Passes at the same time.
    pub concurrency: u16,
}

impl Watches {
    /// Looks at every Delivery of the scope whenever something that concerns it changes, until `shutdown`, then lets the
    /// passes in hand finish. `nudges` are Deliveries that something inside the process wants to be looked at.
    pub async fn run(self, ctx: Arc<Ctx>, nudges: UnboundedReceiver<Key>, shutdown: CancellationToken) {
        let (reader, writer) = reflector::store();
        let main = self.deliveries(&ctx).reflect(writer).applied_objects();
        let stopping = shutdown.clone();
        let config = Config::default().concurrency(self.concurrency);
        let turns = Controller::for_stream(main, reader)
            .with_config(config)
            .reconcile_on(self.triggers(&ctx.metrics, nudges).map(|key| key.reference()))
            .graceful_shutdown_on(async move { stopping.cancelled_owned().await })
            .run(turn, |_, never: &Infallible, _| never_fails(*never), ctx)
            .for_each(|result| {
                // What is left is an object that went between its trigger and its turn.
                if let Err(error) = result {
                    tracing::debug!(%error, "no turn");
                }
                ready(())
            });
        let patience = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = turns => {}
            () = patience => tracing::warn!("a pass did not finish in time and is dropped; the next leader goes on from there"),
        }
    }

    /// The Deliveries themselves, slim: the store is only asked which there are.
    fn deliveries(&self, ctx: &Arc<Ctx>) -> impl Stream<Item = watcher::Result<watcher::Event<Guarded>>> + Send + use<> {
        let api: Api<Guarded> = self.scope.api(&self.cluster.client);
        let (index, synced, ctx, scope) = (self.index.clone(), self.synced.clone(), ctx.clone(), self.scope.clone());
        watcher::watcher(api, watcher::Config::default().timeout(WATCH_TIMEOUT_S)).default_backoff().filter_map(move |event| {
            ready(match event {
                Ok(event) => {
                    index.apply(&event).iter().for_each(|key| ctx.gone(key));
                    if let watcher::Event::Apply(object) | watcher::Event::InitApply(object) = &event {
                        ctx.saw(object);
                    }
                    if matches!(event, watcher::Event::InitDone) {
                        synced.set_done();
                    }
                    Some(Ok(event.modify(slim)))
                }
                Err(error) => {
                    if is_refused(&error) && !synced.done() {
                        synced.0.store(Synced::REFUSED, Ordering::Release);
                    }
                    broken(&ctx.metrics, "Delivery", &scope, &error);
                    None
                }
            })
        })
    }

    /// Every other object that concerns a Delivery.
    fn triggers(&self, metrics: &Arc<Metrics>, mut nudges: UnboundedReceiver<Key>) -> impl Stream<Item = Key> + Send + 'static {
        let index = || self.index.clone();
        let all_there = |index: Arc<Index>| move |object: &DynamicObject| index.by_namespace(&object.namespace().unwrap_or_default());
        let workloads = index();
        let services = index();
        let canaries = format!("{TRACK_LABEL}={TRACK_CANARY}");
        let of_people = |index: Arc<Index>| {
            let home = self.home.clone();
            move |object: &DynamicObject| match object.namespace().unwrap_or_default() {
                namespace if namespace == home => index.all(),
                namespace => index.by_namespace(&namespace),
            }
        };
        let (client, scope) = (&self.cluster.client, &self.scope);
        stream::select_all([
            stream::poll_fn(move |cx| nudges.poll_recv(cx)).boxed(),
            self.touched(metrics, ("Deployment", "deployments"), scope.api::<PartialObjectMeta<Deployment>>(client), "", move |object| {
                of_deployment(&workloads, object)
            }),
            self.touched(metrics, ("Service", "services"), scope.api::<PartialObjectMeta<Service>>(client), "", move |object| {
                services.by_namespace(&object.namespace().unwrap_or_default())
            }),
            self.touched(metrics, ("Pod", "pods"), scope.api::<PartialObjectMeta<Pod>>(client), &canaries, labelled),
            self.touched(metrics, ("Job", "jobs"), scope.api::<PartialObjectMeta<Job>>(client), DELIVERY_LABEL, labelled),
            // Kubernetes puts a Service's labels on its slices: these are of the Services in front of canaries alone.
            self.touched(
                metrics,
                ("EndpointSlice", "endpointslices"),
                scope.api::<PartialObjectMeta<EndpointSlice>>(client),
                &canaries,
                labelled,
            ),
            self.touched(metrics, ("Release", "releases"), scope.dynamic::<Release>(client), "", referring),
            self.touched(metrics, ("Command", "commands"), scope.dynamic::<Command>(client), "", referring),
            self.routes(metrics, RouteKind::HTTPRoute),
            self.routes(metrics, RouteKind::GRPCRoute),
            // Rare, and what they spoke of before is not to be seen any more: all of the namespace.
            self.touched(metrics, ("Hold", "holds"), scope.dynamic::<Hold>(client), "", of_people(index())),
            self.touched(metrics, POLICIES, scope.dynamic::<DeliveryPolicy>(client), "", of_people(index())),
            self.at_home(metrics),
            self.touched(
                metrics,
                ("ProductionProbe", "productionprobes"),
                scope.dynamic::<ProductionProbe>(client),
                "",
                all_there(index()),
            ),
        ])
    }

    /// The Deliveries whose routes change, from when the cluster knows such routes.
    fn routes(&self, metrics: &Arc<Metrics>, kind: RouteKind) -> BoxStream<'static, Key> {
        let resource = routes::kind(kind);
        let api: Api<DynamicObject> = match &self.scope {
            Scope::Cluster => Api::all_with(self.cluster.client.clone(), &resource),
            Scope::Namespace(namespace) => Api::namespaced_with(self.cluster.client.clone(), namespace, &resource),
        };
        let (name, plural) = match kind {
            RouteKind::HTTPRoute => ("HTTPRoute", "httproutes"),
            RouteKind::GRPCRoute => ("GRPCRoute", "grpcroutes"),
        };
        let index = self.index.clone();
        let of = move |object: &DynamicObject| index.by_route(&object.namespace().unwrap_or_default(), kind, &object.name_any());
        let watch = self.touched(metrics, (name, plural), api.clone(), "", of);
        stream::once(async move {
            while is_unknown(&api).await {
                tokio::time::sleep(LOOK_FOR_ROUTES).await;
            }
            watch
        })
        .flatten()
        .boxed()
    }

    /// What is said of all in Haldane's own namespace, where the scope does not show it.
    fn at_home(&self, metrics: &Arc<Metrics>) -> BoxStream<'static, Key> {
        let home = Scope::Namespace(self.home.clone());
        if self.scope == Scope::Cluster || self.scope == home {
            return stream::empty().boxed();
        }
        let client = &self.cluster.client;
        let all = || {
            let index = self.index.clone();
            move |_: &DynamicObject| index.all()
        };
        let holds = self.touched(metrics, ("Hold", "holds"), home.dynamic::<Hold>(client), "", all());
        stream::select(holds, self.touched(metrics, POLICIES, home.dynamic::<DeliveryPolicy>(client), "", all())).boxed()
    }

    /// The Deliveries that a change of such an object concerns. Errors end here, each watch with its own backoff.
    fn touched<K>(
        &self,
        metrics: &Arc<Metrics>,
        (kind, plural): (&'static str, &'static str),
        api: Api<K>,
        labels: &str,
        concerns: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
    ) -> BoxStream<'static, Key>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        K::DynamicType: Clone,
    {
        let mut config = watcher::Config::default().timeout(WATCH_TIMEOUT_S);
        if !labels.is_empty() {
            config = config.labels(labels);
        }
        let (metrics, scope, cluster) = (metrics.clone(), self.scope.clone(), self.cluster.clone());
        watcher::watcher(api, config)
            .default_backoff()
            .touched_objects()
            .flat_map(move |object| {
                stream::iter(match object {
                    Ok(object) => {
                        // What woke us up is in every list from now on.
                        cluster.note(plural, object.meta().resource_version.as_deref());
                        concerns(&object)
                    }
                    Err(error) => {
                        broken(&metrics, kind, &scope, &error);
                        Vec::new()
                    }
                })
            })
            .boxed()
    }
}

fn never_fails(never: Infallible) -> Action {
    match never {}
}

/// The store keeps only what tells Deliveries apart: 10,000 × 10 kB would be 100 MB of what each pass reads anew anyway.
fn slim(object: &mut Guarded) {
    if let Ok(delivery) = &mut object.0 {
        delivery.status = None;
    }
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.annotations = None;
}

/// The cluster has no such kind. Whatever else is wrong, the watch says.
async fn is_unknown(api: &Api<DynamicObject>) -> bool {
    matches!(api.list(&ListParams::default().limit(1)).await, Err(kube::Error::Api(status)) if status.code == 404)
}

fn is_refused(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status)) | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    status.code == 403
}

fn broken(metrics: &Metrics, kind: &'static str, scope: &Scope, error: &watcher::Error) {
    metrics.watch_error(kind);
    if is_refused(error) {
        tracing::warn!(
            kind,
            ?scope,
            "we may not watch these here; they are looked at every 10 minutes: see the chart's value `namespaces`"
        );
    } else {
        // A watch that was cut off is normal and comes back by itself.
        tracing::info!(kind, ?scope, error = error as &dyn std::error::Error, "a watch broke and is made anew");
    }
}

/// A canary says whose it is; the owner's Deployment is found by its name.
fn of_deployment(index: &Index, object: &PartialObjectMeta<Deployment>) -> Vec<Key> {
    let labelled = labelled(object);
    if !labelled.is_empty() {
        return labelled;
    }
    let meta = object.meta();
    index.by_workload(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn labelled<K: Resource>(object: &K) -> Vec<Key> {
    let meta = object.meta();
    let name = meta.labels.as_ref().and_then(|labels| labels.get(DELIVERY_LABEL));
    name.map(|name| Key::new(meta.namespace.as_deref().unwrap_or_default(), name)).into_iter().collect()
}

/// Of the kinds that name their Delivery once and for ever.
fn referring(object: &DynamicObject) -> Vec<Key> {
    let name = object.data.pointer("/spec/deliveryRef/name").and_then(serde_json::Value::as_str);
    name.map(|name| Key::new(&object.namespace().unwrap_or_default(), name)).into_iter().collect()
}

impl Key {
    /// As kube refers to it.
    #[must_use]
    pub fn reference(&self) -> ObjectRef<Guarded> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }

    /// Of a reference.
    #[must_use]
    pub fn of_reference(reference: &ObjectRef<Delivery>) -> Self {
        Self::new(reference.namespace.as_deref().unwrap_or_default(), &reference.name)
    }
}

#[cfg(test)]
mod tests;

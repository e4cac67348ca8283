//! What drives reconciling: who leads, what wakes a Delivery up, and the pass over it.
//!
//! [`run`] starts everything and is what both the binary and the simulations call. A pass is in [`reconcile`], what guards
//! it in [`turn`], what wakes it in [`controller`], when it comes again in [`pace`]. Nothing about deploying is decided here.

pub mod controller;
mod definitions;
pub mod index;
pub mod lease;
pub mod memory;
pub mod pace;
mod poison;
mod policies;
pub mod reconcile;
mod righting;
pub mod turn;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use kube::{Client, Resource as _, core::DeserializeGuard};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::{
    controller::{Scope, Synced, Watches},
    definitions::Definitions,
    index::Index,
    lease::{Elector, Holder, Leadership},
    reconcile::Reconciler,
    turn::Ctx,
};
use crate::{
    act::{Actor, announce::Announcer, ledger::ProbeRuns, suites::SuiteJobs},
    api::delivery::Delivery,
    clock::Clock,
    edge::{kube::Cluster, probe::Prober},
    metrics::Metrics,
    observe::{
        MergeBoard, Observer, ProbeBoard,
        fleet::Fleet,
        merges::Sources,
        probes::{Edges, places},
    },
    web::{
        door::{self, Door, Relay, Secrets},
        server::{Health, serve},
    },
};

/// A Delivery, or what is known of one that cannot be decoded.
pub type Guarded = DeserializeGuard<Delivery>;

/// How long giving the lease back may take when the process stops: with [`controller::GRACE`] that is less than 3 s.
const RELEASE: Duration = Duration::from_millis(800);

/// Which Delivery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// By namespace and name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Of an object.
    #[must_use]
    pub fn of(object: &Guarded) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

/// Everything that comes from outside: the binary gives the real ones, a simulation its own.
pub struct Parts {
    /// To the API server, without retries of its own.
    pub client: Client,
    /// What now is.
    pub clock: Arc<dyn Clock>,
    /// Runs the probes.
    pub prober: Arc<dyn Prober>,
    /// Where merges are read from; none: nowhere.
    pub sources: Option<Sources>,
    /// Where webhooks are taken; none: nowhere.
    pub hooks: Option<Hooks>,
    /// Who this process is among its like.
    pub identity: Identity,
    /// What to do.
    pub options: Options,
}

/// Where webhooks are taken.
pub struct Hooks {
    /// The address.
    pub listen: SocketAddr,
    /// What they are signed with.
    pub secrets: Arc<Secrets>,
}

/// Who this process is among its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// There is no other: it leads from the start.
    Alone,
    /// One of several, of which one leads.
    Candidate {
        /// Namespace of the lease.
        namespace: String,
        /// Name of the lease.
        lease: String,
        /// As what it takes part.
        holder: Holder,
    },
}

impl Identity {
    /// As runs of probes name this process.
    fn holder(&self, clock: &dyn Clock) -> String {
        match self {
            Self::Alone => format!("alone/{}", clock.now().as_microsecond()),
            Self::Candidate { holder, .. } => holder.identity(),
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The namespaces to look after; none: all.
    pub namespaces: Vec<String>,
    /// The name of this process in Events: of its pod.
    pub instance: String,
    /// Where health and metrics are served; none: nowhere.
    pub listen: Option<SocketAddr>,
    /// Haldane's own namespace: its policy and its holds bind all.
    pub home: String,
    /// Whether the CRDs in the cluster are compared with our own. Off in a simulation that has none.
    pub compare_definitions: bool,
    /// Passes at the same time.
    pub concurrency: u16,
    /// Suites of tests at the same time.
    pub suites_at_once: u16,
    /// What all loads send to either side, in requests a second.
    pub load_per_second: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespaces: Vec::new(),
            instance: "haldane".to_owned(),
            listen: None,
            home: "haldane-system".to_owned(),
            compare_definitions: true,
            concurrency: controller::CONCURRENCY,
            suites_at_once: places::SUITES,
            load_per_second: places::LOAD,
        }
    }
}

/// Why the process cannot go on. Starting it anew is the cure, and Kubernetes does that.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}; choose another with --listen or --hooks")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Two metrics of one name.
    #[error("the metrics contradict each other")]
    Metrics(#[from] prometheus::Error),
    /// A part ended that never ends.
    #[error("{part} ended by itself; this is a defect: please report it with the log around it")]
    Ended {
        /// Which.
        part: &'static str,
    },
}

/// Runs the controller until `shutdown`: then it takes no new work, lets the passes in hand finish (2 s at most), and gives
/// the lease back.
///
/// # Errors
/// When it cannot start, or a part of it ended by itself.
pub async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::new()?);
    let scopes = Scope::all(&unique(&parts.options.namespaces));
    let synced: Vec<Arc<Synced>> = scopes.iter().map(|_| Arc::default()).collect();
    let election = CancellationToken::new();
    let cluster = Cluster::new(parts.client.clone());
    let (elector, leadership) = elect(&parts, &cluster, &election);
    let health = Arc::new(Health::new(synced.clone(), leadership.clone()));
    // What runs beside the loop; it ends when this is dropped.
    let mut beside = JoinSet::new();
    if let Some(address) = parts.options.listen {
        let listener = TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
        beside.spawn(serve(listener, health.clone(), metrics.clone()));
    }

    let (definitions, outdated) = Definitions::new(parts.client.clone(), metrics.clone());
    if parts.options.compare_definitions {
        let next = definitions.first_look(&shutdown).await;
        beside.spawn(definitions.keep_looking(next));
    }
    let (nudge, nudges) = unbounded_channel();
    let runs = Arc::new(ProbeRuns::new(cluster.clone(), parts.clock.clone(), leadership.clone(), &parts.identity.holder(&*parts.clock)));
    let board = ProbeBoard::new(edges(&parts, &cluster, &leadership, &runs), parts.clock.clone(), nudge.clone());
    let board = Arc::new(board.with_suites(parts.options.suites_at_once, parts.options.load_per_second));
    let merges = Arc::new(MergeBoard::new(parts.sources.clone(), parts.clock.clone(), nudge));
    metrics.add(board.metrics())?;
    metrics.add(board.sweeps())?;
    if let Some(meter) = merges.meter()? {
        metrics.add(meter)?;
    }
    if let Some(hooks) = &parts.hooks {
        take_webhooks(hooks, (&merges, &leadership), &metrics, &mut beside).await?;
    }
    let fleet = Arc::new(Fleet::default());
    let actor = Actor::new(cluster.clone(), parts.clock.clone());
    let ctx = Arc::new(Ctx {
        pass: Box::new(Reconciler {
            client: parts.client.clone(),
            clock: parts.clock.clone(),
            observer: Observer::new(cluster.clone(), board.clone(), merges.clone(), fleet.clone(), &parts.options.home),
            actor: actor.clone(),
            announcer: Announcer::new(cluster.clone(), parts.clock.clone(), &parts.options.instance),
            board: board.clone(),
            merges: merges.clone(),
            fleet,
            metrics: metrics.clone(),
            outdated,
        }),
        leadership: leadership.clone(),
        memories: memory::Memories::default(),
        metrics,
    });

    let stop = shutdown.child_token();
    let (mut wakers, mut loops) = (Vec::new(), JoinSet::new());
    for (scope, synced) in scopes.into_iter().zip(synced) {
        let (woken, calls) = unbounded_channel();
        let index = Arc::new(Index::default());
        wakers.push(Waker { scope: scope.clone(), index: index.clone(), woken });
        let home = parts.options.home.clone();
        let watches = Watches { cluster: cluster.clone(), scope, home, index, synced, concurrency: parts.options.concurrency };
        loops.spawn(watches.run(ctx.clone(), calls, stop.clone()));
    }
    beside.spawn(merges.clone().sweep());
    let (client, clock, home) = (parts.client.clone(), parts.clock.clone(), parts.options.home.clone());
    let righting = righting::Tools { client, clock, prober: parts.prober.clone(), board, runs, home };
    let kept = Kept { client: parts.client.clone(), home: parts.options.home.clone(), actor, cluster, merges, righting };
    beside.spawn(follow(leadership, ctx, kept, wakers, nudges));

    let ended = until_stopped(loops, elector, &stop, &election).await;
    health.ended();
    ended
}

/// Opens the door for webhooks, and what belongs to it.
async fn take_webhooks(
    hooks: &Hooks,
    (merges, leadership): (&Arc<MergeBoard>, &Leadership),
    metrics: &Metrics,
    beside: &mut JoinSet<()>,
) -> Result<(), RunError> {
    let listener = TcpListener::bind(hooks.listen).await.map_err(|source| RunError::Listen { address: hooks.listen, source })?;
    let door = Arc::new(Door::new(hooks.secrets.clone(), merges.clone(), leadership.clone(), Relay::default())?);
    metrics.add(door.metrics())?;
    beside.spawn(door::serve(listener, door));
    let secrets = hooks.secrets.clone();
    beside.spawn(async move { secrets.keep_reading().await });
    beside.spawn(merges.clone().recall());
    Ok(())
}

fn unique(namespaces: &[String]) -> Vec<String> {
    namespaces.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// By what the board looks and asks.
fn edges(parts: &Parts, cluster: &Cluster, leadership: &Leadership, runs: &Arc<ProbeRuns>) -> Edges {
    Edges {
        prober: parts.prober.clone(),
        suites: Arc::new(SuiteJobs::new(cluster.clone(), parts.clock.clone(), leadership.clone())),
        ledger: runs.clone(),
        logs: Arc::new(parts.client.clone()),
    }
}

fn elect(parts: &Parts, cluster: &Cluster, stop: &CancellationToken) -> (Option<JoinHandle<()>>, Leadership) {
    match &parts.identity {
        Identity::Alone => (None, Elector::alone(&*parts.clock)),
        Identity::Candidate { namespace, lease, holder } => {
            let (elector, leadership) = Elector::new(parts.client.clone(), namespace, lease, holder.clone(), parts.clock.clone());
            (Some(tokio::spawn(elector.telling(cluster.outages.clone()).run(stop.clone()))), leadership)
        }
    }
}

/// Wakes Deliveries of one scope up.
struct Waker {
    scope: Scope,
    index: Arc<Index>,
    woken: UnboundedSender<Key>,
}

impl Waker {
    fn wake(&self, key: Key) {
        if matches!(&self.scope, Scope::Cluster) || self.scope == Scope::Namespace(key.namespace.clone()) {
            // Nobody listens any more once the loop has ended.
            let _ = self.woken.send(key);
        }
    }

    fn wake_all(&self) {
        for key in self.index.all() {
            self.wake(key);
        }
    }
}

/// What is known only as long as we lead.
struct Kept {
    client: Client,
    home: String,
    actor: Actor,
    cluster: Cluster,
    merges: Arc<MergeBoard>,
    righting: righting::Tools,
}

/// Follows the lead: everything is looked at when it is gained and forgotten when it is lost. Passes nudges on.
async fn follow(
    mut leadership: Leadership,
    ctx: Arc<Ctx>,
    kept: Kept,
    wakers: Vec<Waker>,
    mut nudges: UnboundedReceiver<kube::runtime::reflector::ObjectRef<Delivery>>,
) {
    loop {
        let proof = leadership.gained().await;
        ctx.metrics.leads(true);
        kept.cluster.forget();
        wakers.iter().for_each(Waker::wake_all);
        let passing_on = async {
            while let Some(nudged) = nudges.recv().await {
                let key = Key::of_reference(&nudged);
                for waker in &wakers {
                    waker.wake(key.clone());
                }
            }
            std::future::pending::<()>().await;
        };
        let scopes = policies::scopes(wakers.iter().map(|waker| waker.scope.clone()), &kept.home);
        let telling = policies::keep_telling(kept.client.clone(), kept.actor.clone(), scopes, proof.clone());
        let looked_after = wakers.iter().map(|waker| waker.scope.clone()).collect();
        let righting = righting::keep_righting(kept.righting.clone(), looked_after, proof.clone());
        tokio::select! {
            () = leadership.lost(&proof) => {}
            () = passing_on => {}
            never = telling => match never {},
            never = righting => match never {},
        }
        ctx.metrics.leads(false);
        kept.righting.runs.follow(None);
        kept.righting.board.forget_all();
        kept.merges.forget_all();
        ctx.memories.forget_all();
    }
}

/// Waits for `shutdown` or for a part that ends by itself, then takes everything down in order: the passes first, the lease
/// last, because its release makes every proof void.
async fn until_stopped(
    mut loops: JoinSet<()>,
    mut elector: Option<JoinHandle<()>>,
    stop: &CancellationToken,
    election: &CancellationToken,
) -> Result<(), RunError> {
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        _ = loops.join_next() => Err(RunError::Ended { part: "a watch loop" }),
        () = ended(&mut elector) => Err(RunError::Ended { part: "the election" }),
    };
    // A loop that saw the stop a moment before us did what it was asked to.
    let result = if stop.is_cancelled() { Ok(()) } else { result };
    stop.cancel();
    while loops.join_next().await.is_some() {}
    election.cancel();
    if elector.is_some() && timeout(RELEASE, ended(&mut elector)).await.is_err() {
        tracing::warn!("the lease was not given back in time; another takes over when it has run out");
    }
    result
}

/// Waits for the end of the election; for ever, if there is none.
async fn ended(elector: &mut Option<JoinHandle<()>>) {
    match elector {
        Some(handle) => {
            // A panic in it is an end, too.
            let _ = handle.await;
            *elector = None;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

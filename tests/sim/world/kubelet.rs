//! Scheduler and kubelet: a pod gets a node, an address, runs, becomes ready, dies, comes back later and later.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    super::{
        api::{kinds::Key, managed::Writer, write::Deletion},
        clock,
        json::{self, set, text},
    },
    Turn,
    behaviour::Behaviour,
};

/// The longest grace that a pod of this world uses: it ends by itself well before the limit that its spec allows.
const GRACE_MS: u64 = 3_000;
/// First pause of a container that died, and the longest; doubled each time, as the kubelet does it.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How often what hinders a start is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What the kubelet remembers of a pod.
#[derive(Clone, Debug)]
pub struct Run {
    stage: Stage,
    /// When the stage began.
    since: Instant,
    /// When it is over, if time alone ends it.
    due: Instant,
    ready_after: Duration,
    pub ip: String,
    restarts: u32,
    /// Why the last life of the container ended.
    last_exit: Option<(&'static str, i64)>,
    end: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Starting,
    Running,
    Ready,
    Down,
}

fn writer() -> Writer {
    Writer::new("kubelet")
}

/// The digest that this world's registry has for an image.
pub fn digest(image: &str) -> String {
    if let Some((_, digest)) = image.split_once('@') {
        return digest.to_owned();
    }
    let hex: String = Sha256::digest(image.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// `repository@digest`, as a runtime reports it.
pub fn image_id(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name.get(start..).and_then(|rest| rest.find(':')).map_or(name.len(), |colon| start + colon);
    format!("{}@{}", name.get(..end).unwrap_or(name), digest(image))
}

/// One look at one pod; says when to look again.
pub fn sync(turn: &mut Turn<'_>, key: &Key) -> Option<Duration> {
    let pod = turn.store.get(key)?.clone();
    let uid = json::uid(&pod).to_owned();
    let mut run = match turn.pods.remove(&uid) {
        Some(run) => run,
        None => first_seen(turn),
    };
    let next = if json::is_terminating(&pod) { ending(turn, key, &pod, &mut run) } else { living(turn, key, &pod, &mut run) };
    if turn.store.get(key).is_some_and(|pod| json::uid(pod) == uid) {
        turn.pods.insert(uid, run);
    }
    next
}

fn first_seen(turn: &mut Turn<'_>) -> Run {
    let now = Instant::now();
    let number = *turn.addresses;
    *turn.addresses += 1;
    Run {
        stage: Stage::Waiting,
        since: now,
        due: now + turn.rng.millis(20, 80),
        ready_after: turn.rng.millis(900, 1_800),
        ip: format!("10.{}.{}.{}", 1 + number / 62_500, number / 250 % 250, number % 250 + 1),
        restarts: 0,
        last_exit: None,
        end: None,
    }
}

fn ending(turn: &mut Turn<'_>, key: &Key, pod: &Value, run: &mut Run) -> Option<Duration> {
    let grace = turn.rng.millis(0, GRACE_MS);
    let end = *run.end.get_or_insert(Instant::now() + grace);
    if Instant::now() < end {
        return Some(end - Instant::now());
    }
    if json::count(pod, "/metadata/deletionGracePeriodSeconds") > 0 || json::list(pod, "/metadata/finalizers").is_empty() {
        let how = Deletion { uid: Some(json::uid(pod).to_owned()), ..Deletion::now() };
        turn.delete(&writer(), key, &how);
    }
    None
}

fn living(turn: &mut Turn<'_>, key: &Key, pod: &Value, run: &mut Run) -> Option<Duration> {
    let behaviour = turn.behaviour_of(pod);
    let hindered = step(turn, &behaviour, run);
    if run.stage != Stage::Waiting && text(pod, "/spec/nodeName").is_empty() {
        let node = format!("node-{}", 1 + turn.rng.below(3));
        turn.edit(&Writer::new("kube-scheduler"), key, "", |pod| set(pod, "/spec/nodeName", node.into()));
    }
    let now = clock::whole_seconds(turn.store.now());
    turn.edit(&writer(), key, "status", |pod| tell(pod, run, hindered, &now));
    match hindered {
        Some(_) => Some(LOOK_AGAIN),
        None => run.due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()),
    }
}

/// Moves the pod on as far as the time and its behaviour allow; says what hinders it.
fn step(turn: &mut Turn<'_>, behaviour: &Behaviour, run: &mut Run) -> Option<&'static str> {
    let total = behaviour.ready_after.unwrap_or(run.ready_after);
    loop {
        let over = Instant::now() >= run.due;
        match run.stage {
            Stage::Waiting if behaviour.unschedulable => return Some("Unschedulable"),
            Stage::Waiting if over => run.enter(Stage::Starting, total * 3 / 5),
            Stage::Starting if behaviour.image_pull_error && run.restarts == 0 => return Some("ImagePullBackOff"),
            Stage::Starting if over => {
                let time = match (behaviour.crash_loop, behaviour.oom) {
                    (true, _) => turn.rng.millis(200, 600),
                    (false, _) => total * 2 / 5,
                };
                run.enter(Stage::Running, time);
            }
            Stage::Running if over && behaviour.crash_loop => run.die("Error", 1),
            Stage::Running if over && !behaviour.never_ready => {
                let time = turn.rng.millis(2_000, 4_000);
                run.enter(Stage::Ready, time);
            }
            Stage::Ready if behaviour.crash_loop => run.die("Error", 1),
            Stage::Ready if behaviour.never_ready => run.enter(Stage::Running, Duration::ZERO),
            Stage::Ready if over && behaviour.oom => run.die("OOMKilled", 137),
            Stage::Down if over => {
                let time = turn.rng.millis(50, 150);
                run.enter(Stage::Starting, time);
            }
            _ => return None,
        }
    }
}

impl Run {
    fn enter(&mut self, stage: Stage, time: Duration) {
        self.stage = stage;
        self.since = Instant::now();
        self.due = self.since + time;
    }

    /// The first restart is at once, the next ones wait 10 s, 20 s, 40 s, up to 5 min.
    fn die(&mut self, reason: &'static str, code: i64) {
        let pause = match self.restarts {
            0 => Duration::from_secs(1),
            n => (FIRST_PAUSE * 2_u32.saturating_pow((n - 1).min(8))).min(LONGEST_PAUSE),
        };
        self.restarts += 1;
        self.last_exit = Some((reason, code));
        self.enter(Stage::Down, pause);
    }

    /// `kill -9` of the container.
    pub fn kill(&mut self) {
        if matches!(self.stage, Stage::Running | Stage::Ready) {
            self.die("Error", 137);
        }
    }

    /// Whether something listens at the address.
    pub fn listens(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Ready)
    }
}

fn tell(pod: &mut Value, run: &Run, hindered: Option<&str>, now: &str) {
    let started = matches!(run.stage, Stage::Running | Stage::Ready | Stage::Down) || run.restarts > 0;
    let ready = run.stage == Stage::Ready;
    let scheduled = run.stage != Stage::Waiting;
    set(pod, "/status/phase", if started { "Running" } else { "Pending" }.into());
    let reason = if hindered == Some("Unschedulable") { "Unschedulable" } else { "" };
    // The scheduler says no before it says yes only when no node takes the pod.
    if scheduled || !reason.is_empty() {
        condition(pod, "PodScheduled", scheduled, reason, now);
    }
    if scheduled {
        let unready = if ready { "" } else { "ContainersNotReady" };
        condition(pod, "Initialized", true, "", now);
        condition(pod, "ContainersReady", ready, unready, now);
        condition(pod, "Ready", ready, unready, now);
        json::default(pod, "/status/startTime", now.into());
        let statuses = containers(pod, run, hindered, started, ready);
        set(pod, "/status/containerStatuses", statuses);
    }
    if started {
        set(pod, "/status/podIP", run.ip.clone().into());
        set(pod, "/status/podIPs", json!([{"ip": run.ip}]));
    }
}

fn containers(pod: &Value, run: &Run, hindered: Option<&str>, started: bool, ready: bool) -> Value {
    let state = match (run.stage, hindered) {
        (_, Some(reason)) => json!({"waiting": {"reason": reason, "message": "the simulated registry has no such image"}}),
        (Stage::Running | Stage::Ready, _) => json!({"running": {}}),
        (Stage::Down, _) if run.restarts > 1 => json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        (Stage::Down, _) => exit(run),
        _ => json!({"waiting": {"reason": "ContainerCreating"}}),
    };
    let last = if run.restarts > 0 { exit(run) } else { json!({}) };
    let one = |container: &Value| {
        let image = text(container, "/image");
        json!({
            "name": container["name"], "image": image, "imageID": if started { image_id(image) } else { String::new() },
            "ready": ready, "started": matches!(run.stage, Stage::Running | Stage::Ready),
            "restartCount": run.restarts, "state": state, "lastState": last,
        })
    };
    json::list(pod, "/spec/containers").iter().map(one).collect()
}

fn exit(run: &Run) -> Value {
    run.last_exit.map_or(json!({}), |(reason, code)| json!({"terminated": {"reason": reason, "exitCode": code}}))
}

fn condition(pod: &mut Value, kind: &str, holds: bool, reason: &str, now: &str) {
    let state = if holds { "True" } else { "False" };
    let mut list = json::list(pod, "/status/conditions").to_vec();
    let stands = list.iter().position(|c| text(c, "/type") == kind);
    let old = stands.map(|index| list.remove(index));
    let since = old.as_ref().filter(|c| text(c, "/status") == state).map_or(now, |c| text(c, "/lastTransitionTime"));
    let mut made = json!({"type": kind, "status": state, "lastTransitionTime": since});
    if !reason.is_empty() {
        set(&mut made, "/reason", reason.into());
    }
    list.insert(stands.unwrap_or(list.len()), made);
    set(pod, "/status/conditions", Value::Array(list));
}

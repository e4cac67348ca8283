//! Worlds in which releases are judged: who asks how often, and what fails without being the release's fault.
//!
//! One tick is one second and one scrape. The worlds are those of the research on the judge, §1; those that it has not seen are in
//! [`crate::unseen`].

use haldane::decide::judge::bet::Side;

use crate::rng::Rng;

/// Pods of stable.
pub(crate) const STABLE: usize = 10;

/// What fails in a good release.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Noise {
    /// Each request by itself.
    Independent,
    /// Trains of failing requests of one client on one pod, of this mean length.
    Clusters(f64),
    /// Each pod's rate is multiplied by a gamma of shape 0.2, drawn anew after so many seconds: a negative binomial.
    Gamma { lasts_s: u32 },
    /// Each pod stalls once in 20 min, for so many seconds on average, and fails half of its requests.
    Stalls { mean_s: f64 },
    /// A dependency of both sides fails a fifth of the requests for two minutes.
    Outage,
    /// The same, and trains of three.
    OutageAndClusters,
    /// Load and rate go up and down by half, as in a day of ten minutes.
    Diurnal,
    /// One stable pod fails five times as often.
    OneBad,
    /// Each new canary pod fails ten times as often for 30 s.
    Cold,
    /// A fifth of stable's requests and three fifths of the canary's are to an endpoint that fails five times as often.
    Mix,
    /// One client that always fails, twice a second, on one side for as long as it lives, by chance of the share.
    Stuck,
    /// Each pod's rate drifts: a factor of normal size 0.22, drawn anew after so many seconds.
    Drift { lasts_s: u32 },
    /// Trains of one client whose length has a heavy tail (Pareto, index 1.2, at most 400).
    RetryStorm,
    /// One of five nodes is short of CPU for 20 to 90 s every five minutes: every pod on it fails a third of its requests.
    Node,
    /// The share swings by half around what is asked, every 10 s, and errors come in waves of the same 10 s.
    Swing,
    /// A tenant with a fifth of the requests fails ten times as often and is on one side, drawn anew each minute by the share.
    /// `moves`: in history as well; else it is on one pod there.
    Tenant { moves: bool },
    /// Counters of the canary are read so many tenths of a second late, while every 10 s a batch makes half of all requests of that second fail.
    Skew { tenths: u32 },
}

/// A world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) name: &'static str,
    /// Requests a second to both sides.
    pub(crate) rate: f64,
    /// The share of them that fails.
    pub(crate) base: f64,
    pub(crate) noise: Noise,
    pub(crate) seconds: u32,
    /// The first 30 s of the rollout count neither way.
    pub(crate) cut: bool,
    /// The endpoints are told apart.
    pub(crate) strata: bool,
}

pub(crate) const fn world(name: &'static str, noise: Noise) -> World {
    World { name, rate: 100.0, base: 0.01, noise, seconds: 600, cut: true, strata: false }
}

/// What one side was asked in one second, by endpoint.
pub(crate) type Both = [Side; 2];

/// One second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tick {
    pub(crate) canary: Both,
    pub(crate) stable: Both,
}

#[derive(Clone, Debug, Default)]
struct Pod {
    factor: f64,
    factor_until: u32,
    stalled: f64,
}

/// A world in motion.
pub(crate) struct Motion<'a> {
    world: &'a World,
    by_pod: bool,
    pub(crate) rng: Rng,
    at: u32,
    stable: Vec<Pod>,
    canary: Vec<Pod>,
    outage_from: u32,
    stuck: Option<bool>,
    tenant: bool,
    tenant_pod: usize,
    node: (u32, usize),
    node_of_canary: usize,
    late: Both,
    /// Requests of a side come from one place: pods differ in nothing, and the sum of their counts is drawn at once.
    lumped: bool,
    /// Per pod of stable, in history.
    pub(crate) pods: Vec<Side>,
}

fn ask(side: &mut Both, endpoint: usize, asked: u32, failed: u32) {
    if let Some(side) = side.get_mut(endpoint) {
        *side = Side::new(side.asked + asked, side.failed + failed);
    }
}

impl<'a> Motion<'a> {
    pub(crate) fn new(world: &'a World, mut rng: Rng) -> Self {
        let outage_from = 60 + rng.below(world.seconds.saturating_sub(240).max(1) as usize) as u32;
        let node_of_canary = rng.below(5);
        // Pods fail each for itself in these; in all others their sums are what matters.
        let by_pod = matches!(world.noise, Noise::Gamma { .. } | Noise::Drift { .. } | Noise::Stalls { .. } | Noise::OneBad | Noise::Node);
        Self {
            by_pod,
            world,
            rng,
            at: 0,
            stable: vec![Pod::default(); STABLE],
            canary: Vec::new(),
            outage_from,
            stuck: None,
            tenant: false,
            tenant_pod: 0,
            node: (0, 0),
            node_of_canary,
            late: Both::default(),
            lumped: false,
            pods: vec![Side::default(); STABLE],
        }
    }

    /// Half an hour of stable alone, each second of each pod; time begins anew behind it.
    pub(crate) fn history(&mut self) -> Vec<Vec<Side>> {
        self.lumped = false;
        self.stable.resize(STABLE, Pod::default());
        let mut pods = vec![Vec::new(); STABLE];
        // What happens to a rollout does not happen to its history.
        let outage = std::mem::replace(&mut self.outage_from, u32::MAX);
        for _ in 0..1800 {
            self.tick(0.0, 0, 1.0);
            for (pod, side) in pods.iter_mut().zip(&self.pods) {
                pod.push(*side);
            }
        }
        self.outage_from = outage;
        self.at = 0;
        for pod in &mut self.stable {
            pod.factor_until = 0;
        }
        self.stuck = None;
        self.sums();
        pods
    }

    /// From here on only the sums of both sides are asked for.
    pub(crate) fn sums(&mut self) {
        self.lumped = !self.by_pod;
        if self.lumped {
            self.stable.truncate(1);
        }
    }

    /// One second in which the canary has this share of the requests and so many pods, and fails so many times as often.
    pub(crate) fn tick(&mut self, share: f64, canary_pods: usize, worse: f64) -> Tick {
        self.at += 1;
        let mut tick = Tick::default();
        let (load, rate) = self.weather();
        let share = if self.world.noise == Noise::Swing && share > 0.0 { share * (1.0 + 0.5 * self.wave()) } else { share };
        let canary_pods = if self.lumped { canary_pods.min(1) } else { canary_pods };
        self.canary.resize(canary_pods, Pod::default());
        self.move_node();
        let mut canary = std::mem::take(&mut self.canary);
        for (number, pod) in canary.iter_mut().enumerate() {
            let asked = self.world.rate * load * share / canary_pods as f64;
            let cold = if self.world.noise == Noise::Cold && self.at <= 30 { 10.0 } else { 1.0 };
            let low = self.node.0 > 0 && self.node.1 == (number + self.node_of_canary) % 5;
            self.pod(pod, asked, rate * worse * cold, 0.6, low, &mut tick.canary);
        }
        self.canary = canary;
        let mut stable = std::mem::take(&mut self.stable);
        let stable_pods = stable.len() as f64;
        for (number, pod) in stable.iter_mut().enumerate() {
            let asked = self.world.rate * load * (1.0 - share) / stable_pods;
            let bad = if self.world.noise == Noise::OneBad && number == 0 { 5.0 } else { 1.0 };
            let mut both = Both::default();
            let low = self.node.0 > 0 && self.node.1 == number % 5;
            self.pod(pod, asked, rate * bad, 0.2, low, &mut both);
            let [one, other] = both;
            if let Some(pod) = self.pods.get_mut(number) {
                *pod = Side::new(one.asked + other.asked, one.failed + other.failed);
            }
            ask(&mut tick.stable, 0, one.asked, one.failed);
            ask(&mut tick.stable, 1, other.asked, other.failed);
        }
        self.stable = stable;
        self.clients(share, &mut tick);
        if let Noise::Skew { tenths } = self.world.noise {
            self.read_late(f64::from(tenths) / 10.0, &mut tick.canary);
        }
        tick
    }

    /// This part of what happened belongs to the next scrape.
    fn read_late(&mut self, part: f64, side: &mut Both) {
        for (side, late) in side.iter_mut().zip(&mut self.late) {
            let failed = self.rng.binomial(side.failed, part);
            let left = Side::new(failed + self.rng.binomial(side.asked - side.failed, part), failed);
            *side = Side::new(side.asked - left.asked + late.asked, side.failed - left.failed + late.failed);
            *late = left;
        }
    }

    /// −1 to 1 within 10 s.
    fn wave(&self) -> f64 {
        (std::f64::consts::TAU * f64::from(self.at) / 10.0).sin()
    }

    /// Load and rate against what is usual.
    fn weather(&self) -> (f64, f64) {
        let base = self.world.base;
        let slow = (std::f64::consts::TAU * f64::from(self.at) / 600.0).sin();
        let out = (self.outage_from..self.outage_from.saturating_add(120)).contains(&self.at);
        match self.world.noise {
            Noise::Outage | Noise::OutageAndClusters if out => (1.0, 0.2),
            Noise::Diurnal => (1.0 + 0.5 * slow, base * (1.0 - 0.5 * slow)),
            Noise::Swing => (1.0, base * (1.0 + 4.0 * self.wave().max(0.0))),
            Noise::Skew { .. } if self.at.is_multiple_of(10) => (2.0, 0.5),
            _ => (1.0, base),
        }
    }

    fn move_node(&mut self) {
        if self.world.noise != Noise::Node {
            return;
        }
        self.node.0 = self.node.0.saturating_sub(1);
        if self.node.0 == 0 && self.rng.chance(1.0 / 300.0) {
            self.node = (20 + self.rng.below(71) as u32, self.rng.below(5));
        }
    }

    /// What one pod does in this second: requests of its own, and what befalls it.
    fn pod(&mut self, pod: &mut Pod, load: f64, rate: f64, bad_share: f64, low: bool, side: &mut Both) {
        let mut rate = rate;
        match self.world.noise {
            Noise::Gamma { lasts_s } | Noise::Drift { lasts_s } if self.at >= pod.factor_until => {
                let drawn =
                    if matches!(self.world.noise, Noise::Gamma { .. }) { self.rng.gamma(0.2) } else { 1.0 + 0.22 * self.rng.normal() };
                // The first state of a pod is as old as any other one.
                let lasts = if pod.factor_until == 0 { 1 + self.rng.below(lasts_s as usize) as u32 } else { lasts_s };
                (pod.factor, pod.factor_until) = (drawn.max(0.0), self.at + lasts);
            }
            Noise::Stalls { mean_s } => {
                pod.stalled = if pod.stalled > 0.0 {
                    pod.stalled - 1.0
                } else if self.rng.chance(1.0 / 1200.0) {
                    self.rng.exponential(mean_s)
                } else {
                    0.0
                };
                if pod.stalled > 0.0 {
                    rate = rate.max(0.5);
                }
            }
            _ => {}
        }
        if matches!(self.world.noise, Noise::Gamma { .. } | Noise::Drift { .. }) {
            rate *= pod.factor;
        }
        if low {
            rate = rate.max(1.0 / 3.0);
        }
        if self.world.noise == Noise::Mix {
            // As often as `base` on both together, at stable's mix: 0.2 · 5x + 0.8 · x.
            let single = rate / 1.8;
            for (endpoint, part, times) in [(0, 1.0 - bad_share, 1.0), (1, bad_share, 5.0)] {
                let asked = self.rng.poisson(load * part);
                let failed = self.rng.binomial(asked, single * times);
                ask(side, endpoint, asked, failed);
            }
            return;
        }
        let asked = self.rng.poisson(load);
        match self.world.noise {
            Noise::Clusters(mean) => self.trains(side, asked, load * rate, |rng| rng.geometric(mean), mean),
            Noise::OutageAndClusters => self.trains(side, asked, load * rate, |rng| rng.geometric(3.0), 3.0),
            // A Pareto of index 1.2 from 1, cut at 400, has a mean of about 4.2.
            Noise::RetryStorm => self.trains(side, asked, load * rate, |rng| rng.unit().powf(-1.0 / 1.2).min(400.0) as u32, 4.2),
            _ => {
                let failed = self.rng.binomial(asked, rate.min(1.0));
                ask(side, 0, asked, failed);
            }
        }
    }

    /// Failing requests in trains that come on top of the others, `failing` a second on average.
    fn trains(&mut self, side: &mut Both, asked: u32, failing: f64, mut length: impl FnMut(&mut Rng) -> u32, mean: f64) {
        let trains = self.rng.poisson(failing / mean);
        let failed: u32 = (0..trains).map(|_| length(&mut self.rng)).sum();
        ask(side, 0, asked + failed, failed);
    }

    /// Clients that belong to no pod in particular.
    fn clients(&mut self, share: f64, tick: &mut Tick) {
        match self.world.noise {
            Noise::Stuck if share > 0.0 => {
                let on_canary = *self.stuck.get_or_insert_with(|| self.rng.chance(share));
                ask(if on_canary { &mut tick.canary } else { &mut tick.stable }, 0, 2, 2);
            }
            Noise::Tenant { moves } => {
                if self.at % 60 == 1 {
                    self.tenant = share > 0.0 && self.rng.chance(share);
                    self.tenant_pod = if moves { self.rng.below(STABLE) } else { 0 };
                }
                let asked = self.rng.poisson(self.world.rate * 0.2);
                let failed = self.rng.binomial(asked, self.world.base * 10.0);
                ask(if self.tenant { &mut tick.canary } else { &mut tick.stable }, 0, asked, failed);
                if let Some(pod) = self.pods.get_mut(self.tenant_pod).filter(|_| share <= 0.0) {
                    *pod = Side::new(pod.asked + asked, pod.failed + failed);
                }
            }
            _ => {}
        }
    }
}

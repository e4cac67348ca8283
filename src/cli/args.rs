//! The words that `kubectl haldane` understands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::api::duration::Span;

/// What the numbers mean that a command ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0   done; with `wait` and `release --wait`: the version is live
  1   `wait`, `release --wait`: it was rolled back; an order: void, it did not apply; `doctor`: something is wrong;
      `replay`: it does not come to what was recorded; `probe run`: it failed
  2   `wait`, `release --wait`: undecided, superseded or refused; `probe run`: it could not be run, and says nothing
  3   timeout: neither one nor the other yet
  4   timeout, and nothing moves until a person acts (a hold, or a reason that does not go by itself)
  5   it could not be done: no cluster, no right, no such object, or refused before anything was written
  64  the command line is wrong

It works with your own rights. It writes Command, Hold, Release, Delivery and ProductionProbe objects, and with `ungate` and
`restart` the Deployment and its Services, each by a JSON patch that holds only for the state that it was worked out from.";

/// Continuous delivery by canary: see, ask why, steer.
#[derive(Debug, Parser)]
#[command(name = "kubectl-haldane", bin_name = "kubectl haldane", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Which cluster and namespace, as kubectl has it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Target {
    /// Path of the kubeconfig; default: $KUBECONFIG, then ~/.kube/config, then the pod's own account
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context in it
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// The namespace; default: that of the context
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a Delivery and a probe for a Deployment, and say what adoption will do
    Init(Init),
    /// All deliveries of the namespace as a table, or one as a tree
    Status(Status),
    /// Why it is where it is: the sentence, then the evidence
    Why(Why),
    /// The verdict on a version once more, bet by bet, from what was recorded of it
    Replay(Replay),
    /// Make a Release of an image (for a Delivery with `source: {manual: {}}`)
    Release(ReleaseArgs),
    /// Wait for what is in flight
    Wait(WaitArgs),
    /// Go on to the next step now; a verdict against the version still takes it back
    Promote(Order),
    /// Let the rollout enter a step that needs an approval
    Approve(Approve),
    /// End the rollout in flight and go back; the version is not started again by itself
    Abort(Order),
    /// Take the live version back to the last good one
    Rollback(Order),
    /// Lift the quarantine of a version and try it again
    Retry(Retry),
    /// Close the gate again after it was opened by hand
    Adopt(Order),
    /// Nothing new moves forward until `unhold`; the way back stays open
    Hold(Hold),
    /// Take holds off
    Unhold(Unhold),
    /// Take the gate off safely: pins off, then `paused: false` with the proven template
    Ungate(Ungate),
    /// A restart through the gate: new pods of the same image, behind a canary like any change
    Restart(Restart),
    /// A ProductionProbe, by hand
    #[command(subcommand)]
    Probe(Probe),
    /// What is wrong here, on which object, and the command that mends it
    Doctor(Doctor),
    /// The version of this plugin
    Version,
}

/// A Delivery by name.
#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// The Delivery; may be left out where the namespace has only one
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// `init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The Deployment, as `deploy/NAME` or `NAME`
    #[arg(value_name = "deploy/NAME")]
    pub(crate) workload: String,
    /// The Service that is measured and moved, where several select its pods
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// The name of the Delivery; default: that of the Deployment
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The path that the probe asks for; default: that of the readiness probe
    #[arg(long, value_name = "PATH")]
    pub(crate) probe_path: Option<String>,
    /// Releases name the image (`kubectl haldane release`) instead of the Deployment's own template
    #[arg(long)]
    pub(crate) manual: bool,
    /// Create the objects instead of printing them
    #[arg(long)]
    pub(crate) apply: bool,
    /// Create nothing; with --apply: let the API server check it, too
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `status`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The Delivery; left out: all of the namespace
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print again whenever something changes
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// `replay`
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A Release, or a file with its evidence: kubectl get controllerrevision -l haldane.dev/evidence=RELEASE -o json
    #[arg(value_name = "FILE|RELEASE")]
    pub(crate) of: String,
}

/// `why`
#[derive(Debug, Args)]
pub(crate) struct Why {
    #[command(flatten)]
    pub(crate) named: Named,
    /// A Release of it
    #[arg(value_name = "RELEASE")]
    pub(crate) release: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Limit {
    /// The longest time to wait, like 90s, 30m or 1h
    #[arg(long, default_value = "30m")]
    pub(crate) timeout: Span,
}

/// `release`
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) named: Named,
    /// The image, best with its digest
    #[arg(long)]
    pub(crate) image: String,
    /// The commit that it was built from
    #[arg(long, value_name = "SHA")]
    pub(crate) commit: Option<String>,
    /// What people call it; default: the tag of the image
    #[arg(long = "version", value_name = "NAME", id = "release_version")]
    pub(crate) version: Option<String>,
    /// A link to where it came from
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// There is no way back from it, and why: it needs an approval before all of the traffic, and halts instead of going back
    #[arg(long, value_name = "WHY")]
    pub(crate) barrier: Option<String>,
    /// Wait for the outcome and print every change
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) limit: Limit,
}

/// `wait`
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    pub(crate) named: Named,
    #[command(flatten)]
    pub(crate) limit: Limit,
}

/// An order.
#[derive(Debug, Args)]
pub(crate) struct Order {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Why, for the record
    #[arg(short = 'm', long)]
    pub(crate) reason: Option<String>,
}

/// `approve`
#[derive(Debug, Args)]
pub(crate) struct Approve {
    #[command(flatten)]
    pub(crate) order: Order,
    /// The step, from 1; one more than there are steps is all of the traffic. Default: the one that waits
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..=21))]
    pub(crate) step: Option<i32>,
}

/// `retry`
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The Delivery, or the Release
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The Release; default: the one that was taken back last
    #[arg(value_name = "RELEASE")]
    pub(crate) release: Option<String>,
    /// Why, for the record
    #[arg(short = 'm', long)]
    pub(crate) reason: Option<String>,
}

/// `hold`
#[derive(Debug, Args)]
pub(crate) struct Hold {
    /// The Delivery
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub(crate) name: Option<String>,
    /// Every Delivery of the namespace
    #[arg(long, conflicts_with = "name")]
    pub(crate) all: bool,
    /// Why, for the people who wait
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// When it ends by itself: a time from now (2h) or a moment (2026-11-27T18:00:00Z)
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// Only this Release
    #[arg(long, conflicts_with = "all")]
    pub(crate) release: Option<String>,
}

/// `unhold`
#[derive(Debug, Args)]
pub(crate) struct Unhold {
    /// The Delivery, or the Hold; may be left out where there is only one Hold
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Those that hold the whole namespace
    #[arg(long, conflicts_with = "name")]
    pub(crate) all: bool,
}

/// `ungate`
#[derive(Debug, Args)]
pub(crate) struct Ungate {
    #[command(flatten)]
    pub(crate) named: Named,
    /// If a rollout is in flight, end it first
    #[arg(long)]
    pub(crate) abort: bool,
    /// Only say what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `restart`
#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Only say what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `probe`
#[derive(Debug, Subcommand)]
pub(crate) enum Probe {
    /// Run it once, from here, through a port-forward to a pod behind its Service, and say what came of each step
    Run(ProbeRun),
}

/// `probe run`
#[derive(Debug, Args)]
pub(crate) struct ProbeRun {
    /// The ProductionProbe
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The pod; default: a ready one of what is proven
    #[arg(long)]
    pub(crate) pod: Option<String>,
    /// A pod of the canary
    #[arg(long, conflicts_with = "pod")]
    pub(crate) canary: bool,
    /// Send nothing and read no Secret: only say what would be sent
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// It may change production (for a probe with `mutates: true`)
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only this Delivery
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub(crate) all_namespaces: bool,
    /// Risks end with 1, too
    #[arg(long)]
    pub(crate) strict: bool,
    /// Where the controller runs
    #[arg(long, default_value = "haldane-system", value_name = "NAMESPACE")]
    pub(crate) controller_namespace: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

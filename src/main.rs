//! The controller's binary: reads how it is set, builds the real parts, and runs them until it is asked to stop.

use std::{io::Write as _, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use haldane::{
    api::{crd_yaml, duration::Span},
    clock::{Clock, SystemClock},
    config::RunArgs,
    control::{Parts, run},
    edge::probe::{HttpProber, Reach},
    setup::{Wanted, setup},
    telemetry, uninstall,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// For a connection to the API server.
const CONNECT: Duration = Duration::from_secs(3);
/// For silence on a connection. Above the 30 s after which the API server ends a watch, so that only a dead one is cut off.
const READ: Duration = Duration::from_secs(35);
/// For what is left on other threads when all is done: a lookup of a name, say.
const LEFTOVERS: Duration = Duration::from_millis(100);

/// Every merge goes to production behind a canary, production itself judges it, and a bad version is gone before people
/// notice.
#[derive(Parser)]
#[command(name = "haldane", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the controller.
    Run(Box<RunArgs>),
    /// Print the definitions of our kinds (CRDs): haldane crds | kubectl apply --server-side -f -
    Crds,
    /// Delete all Deliveries and wait until every Deployment is its owner's again: before the controller goes.
    Uninstall(UninstallArgs),
    /// What Haldane knows of GitHub.
    #[command(subcommand)]
    Github(GithubCommand),
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum GithubCommand {
    /// Make Haldane's GitHub App with two clicks, and keep its key in a Secret. Uses your kubeconfig and your browser.
    Setup(SetupArgs),
}

#[derive(clap::Args)]
struct SetupArgs {
    /// The organisation that owns the App. Default: you.
    #[arg(long)]
    org: Option<String>,
    /// The name of the App; no other App of that GitHub may have it. Default: haldane, and the organisation.
    #[arg(long)]
    name: Option<String>,
    /// Where webhooks reach the Service haldane-hooks from outside, as in `https://haldane.acme.example/github`. Default: none,
    /// and branches are looked at once a minute.
    #[arg(long)]
    hooks: Option<String>,
    /// GitHub as people see it.
    #[arg(long, default_value = "https://github.com")]
    url: String,
    /// Namespace of the Secret: Haldane's.
    #[arg(short, long, default_value = "haldane-system")]
    namespace: String,
    /// Name of the Secret.
    #[arg(long, default_value = "haldane-github")]
    secret: String,
    /// Where the page is that your browser begins at. Behind `ssh -L 4444:localhost:4444` give 127.0.0.1:4444.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,
}

#[derive(clap::Args)]
struct UninstallArgs {
    /// How long that may take.
    #[arg(long, default_value = "240s")]
    limit: Span,
    /// Namespaces, separated by commas. Default: all of the cluster.
    #[arg(long, env = "HALDANE_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => controller(&args),
        Command::Crds => print(&crd_yaml::yaml()?),
        Command::Uninstall(args) => leave(&args),
        Command::Github(GithubCommand::Setup(args)) => github(args),
        Command::Version => print(concat!(env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")
}

fn leave(args: &UninstallArgs) -> anyhow::Result<()> {
    choose_tls()?;
    let namespaces: Vec<_> = args.namespaces.iter().filter(|n| !n.is_empty()).cloned().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let gone = runtime.block_on(async {
        // A line that nobody reads is no reason to stop half way.
        let say = |line: &str| drop(print(&format!("{line}\n")));
        anyhow::Ok(uninstall::ungate_all(client().await?, &namespaces, args.limit.0, say).await?)
    })?;
    print(&format!("{gone} Deliveries are gone\n"))
}

fn github(args: SetupArgs) -> anyhow::Result<()> {
    choose_tls()?;
    let name = args.name.or_else(|| args.org.as_ref().map(|org| format!("haldane-{org}"))).unwrap_or_else(|| "haldane".to_owned());
    let wanted = Wanted {
        organisation: args.org,
        name,
        hooks: args.hooks,
        url: args.url,
        namespace: args.namespace,
        secret: args.secret,
        listen: args.listen,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let (namespace, secret, hooks) = (wanted.namespace.clone(), wanted.secret.clone(), wanted.hooks.is_some());
    let app = runtime.block_on(async { anyhow::Ok(setup(client().await?, wanted, |line| drop(print(&format!("{line}\n")))).await?) })?;
    let more = if hooks { " --set github.webhooks=true" } else { "" };
    print(&format!(
        "the app is made; its key is in Secret {secret} of namespace {namespace}\n\
         1. install it on the repositories: {}/installations/new\n\
         2. helm upgrade haldane charts/haldane -n {namespace} --reuse-values --set github.secretName={secret}{more} \\\n     \
         --set 'github.grants[0].repositories={{OWNER/*}}' --set 'github.grants[0].namespaces={{NAMESPACE}}'\n",
        app.page
    ))
}

fn choose_tls() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().map_err(|_| anyhow::anyhow!("another TLS provider was installed before ours"))
}

fn controller(args: &RunArgs) -> anyhow::Result<()> {
    telemetry::start(args.log_format);
    choose_tls()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let result = runtime.block_on(start(args));
    runtime.shutdown_timeout(LEFTOVERS);
    result
}

async fn start(args: &RunArgs) -> anyhow::Result<()> {
    let shutdown = stop_on_signal()?;
    let (client, clock) = (client().await?, Arc::new(SystemClock) as Arc<dyn Clock>);
    let parts = Parts {
        sources: Some(args.sources(client.clone(), &clock)?),
        client,
        clock,
        hooks: args.hooks()?,
        prober: Arc::new(HttpProber::new(Reach::Cluster).with_prometheus(args.prometheus()?)),
        identity: args.identity()?,
        options: args.options(),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), options = ?parts.options, "starting");
    run(parts, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn client() -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer().await.context("no cluster: neither in a pod nor with a kubeconfig")?;
    // A write that is tried again below us may land after another has taken the lead.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.write_timeout = Some(READ);
    // Else the time that a pooled connection idled would count against the next answer on it.
    config.reset_reader_on_write = true;
    kube::Client::try_from(config).context("cannot build a client for the API server")
}

/// Cancelled by `SIGTERM` (the kubelet) or `SIGINT` (Ctrl-C).
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        cancelled.cancel();
    });
    Ok(token)
}

//! What can be set, by flag or by environment variable. Each has a default that is right in the chart.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use crate::control::{
    Identity, Options,
    lease::{Holder, NoIdentity},
};

/// How `haldane run` is set.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Namespaces to look after, separated by commas. Default: all of the cluster.
    #[arg(long, env = "HALDANE_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Namespace of the lease by which one of several replicas leads.
    #[arg(long, env = "HALDANE_LEASE_NAMESPACE", default_value = "haldane-system")]
    pub lease_namespace: String,
    /// Name of that lease.
    #[arg(long, env = "HALDANE_LEASE_NAME", default_value = "haldane")]
    pub lease_name: String,
    /// Uid of this pod, from the downward API (metadata.uid).
    #[arg(long, env = "POD_UID", default_value = "", hide_env_values = true)]
    pub pod_uid: String,
    /// Name of this pod, for Events.
    #[arg(long, env = "POD_NAME", default_value = "haldane")]
    pub pod_name: String,
    /// Where health and metrics are served.
    #[arg(long, env = "HALDANE_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// How logs are written.
    #[arg(long, env = "HALDANE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Lead without asking: only for one single process.
    #[arg(long, env = "HALDANE_NO_LEADER_ELECTION")]
    pub no_leader_election: bool,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl RunArgs {
    /// Who this process is among its like.
    ///
    /// # Errors
    /// When several may run and nothing tells this one from them.
    pub fn identity(&self) -> Result<Identity, NoIdentity> {
        if self.no_leader_election {
            return Ok(Identity::Alone);
        }
        let holder = Holder::of_this_process(&self.pod_uid)?;
        Ok(Identity::Candidate { namespace: self.lease_namespace.clone(), lease: self.lease_name.clone(), holder })
    }

    /// What to do.
    #[must_use]
    pub fn options(&self) -> Options {
        // An empty variable is the chart's way to say "all".
        let namespaces = self.namespaces.iter().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect();
        Options { namespaces, instance: self.pod_name.clone(), listen: Some(self.listen), ..Options::default() }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(args: &[&str]) -> RunArgs {
        Cli::try_parse_from(std::iter::once("haldane").chain(args.iter().copied())).unwrap().run
    }

    #[test]
    fn an_empty_list_of_namespaces_is_the_whole_cluster() {
        assert_eq!(parse(&["--namespaces", ""]).options().namespaces, Vec::<String>::new());
        assert_eq!(parse(&["--namespaces", "shop, pay"]).options().namespaces, ["shop", "pay"]);
    }

    #[test]
    fn without_a_uid_only_a_single_process_may_run() {
        assert_eq!(parse(&["--pod-uid", ""]).identity(), Err(NoIdentity));
        assert_eq!(parse(&["--pod-uid", "", "--no-leader-election"]).identity(), Ok(Identity::Alone));
        let Ok(Identity::Candidate { namespace, holder, .. }) = parse(&["--pod-uid", "u-1"]).identity() else { panic!("a candidate") };
        assert_eq!(namespace, "haldane-system");
        assert!(holder.identity().starts_with("u-1/"));
    }
}

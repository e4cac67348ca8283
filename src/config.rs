//! What can be set, by flag or by environment variable. Each has a default that is right in the chart.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};

use crate::{
    clock::Clock,
    control::{
        Hooks, Identity, Options,
        lease::{Holder, NoIdentity},
    },
    edge::{
        forge::Forge,
        github::{self, Access, GitHub},
        prometheus::Prometheus,
        registry::{
            self, OciRegistry,
            cloud::{Acr, Cloud, Ecr, Gar},
        },
    },
    observe::{
        merges::{Grants, GrantsError, SecretLogins, Sources},
        probes::places::{LOAD, SUITES},
    },
    web::door::{Secrets, SecretsError},
};

/// Where the public GitHub answers.
const GITHUB: &str = "https://api.github.com";

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
    /// Where webhooks are taken. Default: nowhere, and branches are looked at once a minute.
    #[arg(long, env = "HALDANE_HOOKS")]
    pub hooks: Option<SocketAddr>,
    /// A folder with what webhooks are signed with: `webhookSecret` (and `webhookSecretOld` while it is changed) of GitHub,
    /// `registryToken` of registries. Default: the folder of --github.
    #[arg(long, env = "HALDANE_HOOK_SECRETS")]
    pub hook_secrets: Option<PathBuf>,
    /// Address of this pod, from the downward API (status.podIP): where a replica that does not lead hands webhooks on to.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,
    /// How logs are written.
    #[arg(long, env = "HALDANE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// A folder with what opens GitHub, one file each: `appId` and `privateKey` of an App, or `token`; `url` of an Enterprise
    /// Server's API (default `https://api.github.com`). Absent: versions cannot come from merges.
    #[arg(long, env = "HALDANE_GITHUB")]
    pub github: Option<PathBuf>,
    /// A file that says which namespaces may deliver from which repositories:
    /// `[{"repositories": ["acme/*"], "namespaces": ["shop"]}]`.
    #[arg(long, env = "HALDANE_GRANTS")]
    pub grants: Option<PathBuf>,
    /// Registries that are spoken to without TLS, with their port, separated by commas.
    #[arg(long, env = "HALDANE_INSECURE_REGISTRIES", value_delimiter = ',')]
    pub insecure_registries: Vec<String>,
    /// A file of CAs (PEM) that registries are trusted by, besides the system's.
    #[arg(long, env = "HALDANE_REGISTRY_CA")]
    pub registry_ca: Option<PathBuf>,
    /// A folder of Docker configs with logins that the administrator gives for registries, one file for each Secret.
    #[arg(long, env = "HALDANE_REGISTRY_LOGINS")]
    pub registry_logins: Option<PathBuf>,
    /// The Prometheus of the cluster, such as <http://prometheus.monitoring:9090>, for Deliveries whose requests are read from it.
    #[arg(long, env = "HALDANE_PROMETHEUS_URL")]
    pub prometheus_url: Option<String>,
    /// Suites of tests that run at once, of all Deliveries: in a rollout each is a pair of Jobs.
    #[arg(long, env = "HALDANE_SUITES_AT_ONCE", default_value_t = SUITES, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub suites_at_once: u16,
    /// What all suites that drive a load send together to canaries, and the same to stable, in requests a second.
    #[arg(long, env = "HALDANE_LOAD_PER_SECOND", default_value_t = LOAD, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub load_per_second: u32,
    /// The identities that clouds give to this pod.
    #[command(flatten)]
    pub clouds: Clouds,
    /// Lead without asking: only for one single process.
    #[arg(long, env = "HALDANE_NO_LEADER_ELECTION")]
    pub no_leader_election: bool,
}

/// Where clouds say which identity this pod has there: the variables that they themselves set in a pod whose `ServiceAccount` has
/// their annotation.
#[derive(Args, Clone, Debug)]
pub struct Clouds {
    /// The role of EKS (IRSA).
    #[arg(long, env = "AWS_ROLE_ARN")]
    pub aws_role_arn: Option<String>,
    /// Its token.
    #[arg(long, env = "AWS_WEB_IDENTITY_TOKEN_FILE")]
    pub aws_web_identity_token_file: Option<PathBuf>,
    /// The tenant of AKS (workload identity).
    #[arg(long, env = "AZURE_TENANT_ID")]
    pub azure_tenant_id: Option<String>,
    /// Its application.
    #[arg(long, env = "AZURE_CLIENT_ID")]
    pub azure_client_id: Option<String>,
    /// Its token.
    #[arg(long, env = "AZURE_FEDERATED_TOKEN_FILE")]
    pub azure_federated_token_file: Option<PathBuf>,
}

impl Clouds {
    /// Google's metadata server needs no word: it is asked for registries of Google alone.
    fn all(&self, ca: Option<&[u8]>, clock: &Arc<dyn Clock>) -> Result<Vec<Arc<dyn Cloud>>, registry::SetupError> {
        let mut all: Vec<Arc<dyn Cloud>> = vec![Arc::new(Gar::new(clock.clone())?)];
        if let (Some(role), Some(token)) = (&self.aws_role_arn, &self.aws_web_identity_token_file) {
            all.push(Arc::new(Ecr::new(role.clone(), token.clone(), ca, clock.clone())?));
        }
        if let (Some(tenant), Some(client), Some(token)) = (&self.azure_tenant_id, &self.azure_client_id, &self.azure_federated_token_file)
        {
            all.push(Arc::new(Acr::new(tenant.clone(), client.clone(), token.clone(), ca, clock.clone())?));
        }
        Ok(all)
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Why versions cannot come from merges as it was set.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A file that was named is not there.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What opens GitHub is not complete.
    #[error("{path} has neither the files appId and privateKey of a GitHub App, nor token")]
    NoAccess {
        /// The folder.
        path: PathBuf,
    },
    /// An App is known by a number.
    #[error("{path}: {found:?} is no number; the id of a GitHub App is on its settings page")]
    AppId {
        /// The file.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// What is in them opens nothing.
    #[error(transparent)]
    GitHub(#[from] github::SetupError),
    /// A CA that cannot be read.
    #[error(transparent)]
    Registry(#[from] registry::SetupError),
    /// Grants that cannot be read.
    #[error(transparent)]
    Grants(#[from] GrantsError),
}

fn read(path: &Path) -> Result<Vec<u8>, SourcesError> {
    fs::read(path).map_err(|source| SourcesError::File { path: path.to_owned(), source })
}

/// A file of a folder as a text without blanks around it; none: there is no such file.
fn text(folder: &Path, name: &str) -> Result<Option<String>, SourcesError> {
    let path = folder.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SourcesError::File { path, source }),
    }
}

fn access(folder: &Path) -> Result<Access, SourcesError> {
    match (text(folder, "appId")?, text(folder, "privateKey")?, text(folder, "token")?) {
        (Some(id), Some(key), _) => {
            let id = id.parse().map_err(|_| SourcesError::AppId { path: folder.join("appId"), found: id.clone() })?;
            Ok(Access::app(id, key.as_bytes())?)
        }
        (_, _, Some(token)) => Ok(Access::token(&token)?),
        _ => Err(SourcesError::NoAccess { path: folder.to_owned() }),
    }
}

impl RunArgs {
    /// Where versions are read from.
    ///
    /// # Errors
    /// When what was set cannot be used.
    pub fn sources(&self, client: kube::Client, clock: &Arc<dyn Clock>) -> Result<Sources, SourcesError> {
        let forge = match self.github.as_deref().filter(|path| !path.as_os_str().is_empty()) {
            Some(folder) => {
                let url = text(folder, "url")?;
                Some(Arc::new(GitHub::new(url.as_deref().unwrap_or(GITHUB), access(folder)?, clock.clone())?) as Arc<dyn Forge>)
            }
            None => None,
        };
        let settings = registry::Settings {
            insecure: self.insecure_registries.iter().map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect(),
            extra_ca: self.registry_ca.as_deref().filter(|path| !path.as_os_str().is_empty()).map(read).transpose()?,
        };
        let grants = match self.grants.as_deref().filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => Grants::parse(&String::from_utf8_lossy(&read(path)?))?,
            None => Grants::default(),
        };
        Ok(Sources {
            forge,
            grants: Arc::new(grants),
            registry: Arc::new(OciRegistry::new(&settings, clock.clone())?),
            logins: Arc::new(SecretLogins::new(
                client,
                self.registry_logins.clone().filter(|path| !path.as_os_str().is_empty()),
                self.clouds.all(settings.extra_ca.as_deref(), clock)?,
            )),
        })
    }

    /// The Prometheus of the cluster; none: there is none.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn prometheus(&self) -> Result<Option<Prometheus>, registry::SetupError> {
        self.prometheus_url.as_deref().filter(|url| !url.is_empty()).map(Prometheus::new).transpose()
    }

    /// Where webhooks are taken; none: nowhere.
    ///
    /// # Errors
    /// When there is nothing that they are signed with.
    pub fn hooks(&self) -> Result<Option<Hooks>, SecretsError> {
        let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let Some(listen) = self.hooks else { return Ok(None) };
        let folder = given(&self.hook_secrets).or_else(|| given(&self.github)).unwrap_or_default();
        Ok(Some(Hooks { listen, secrets: Arc::new(Secrets::read(&folder)?) }))
    }

    /// Who this process is among its like.
    ///
    /// # Errors
    /// When several may run and nothing tells this one from them.
    pub fn identity(&self) -> Result<Identity, NoIdentity> {
        if self.no_leader_election {
            return Ok(Identity::Alone);
        }
        let address = self.hooks.zip(self.pod_ip).map(|(hooks, ip)| SocketAddr::new(ip, hooks.port()));
        let holder = Holder::of_this_process(&self.pod_uid)?.at(address);
        Ok(Identity::Candidate { namespace: self.lease_namespace.clone(), lease: self.lease_name.clone(), holder })
    }

    /// What to do.
    #[must_use]
    pub fn options(&self) -> Options {
        // An empty variable is the chart's way to say "all".
        let namespaces = self.namespaces.iter().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect();
        Options {
            namespaces,
            instance: self.pod_name.clone(),
            listen: Some(self.listen),
            home: self.lease_namespace.clone(),
            suites_at_once: self.suites_at_once,
            load_per_second: self.load_per_second,
            ..Options::default()
        }
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

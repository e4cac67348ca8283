//! The way to the cluster, with the user's own rights.

use std::{fmt::Debug, future::Future, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DynamicObject, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, NamespaceResourceScope},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::args::Target;
use crate::{
    api::delivery::Delivery,
    clock::{Clock as _, SystemClock},
};

/// The longest that one call may take. Nobody waits longer at a prompt without a word.
const CALL: Duration = Duration::from_secs(10);
/// The longest name that `by` takes.
const BY: usize = 128;

/// A cluster, a namespace in it, and who is asking.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    config: Config,
    /// The user's name in the kubeconfig.
    user: Option<String>,
    clock: SystemClock,
}

impl Cluster {
    /// Reads the kubeconfig as kubectl does.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let (mut config, user) = config(target).await?;
        // Hidden retries would turn a refusal into minutes of silence.
        config.default_retry = false;
        config.connect_timeout = Some(CALL);
        config.read_timeout = Some(CALL);
        let namespace = target.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config.clone()).context("the kubeconfig does not make a client")?;
        Ok(Self { client, namespace, config, user, clock: SystemClock })
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A client whose connections may be silent for as long as somebody on the other side thinks.
    pub(crate) fn patient(&self) -> Result<Client> {
        let mut config = self.config.clone();
        config.read_timeout = None;
        Client::try_from(config).context("the kubeconfig does not make a client")
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn of<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Foreign objects of a kind in the namespace, as JSON.
    pub(crate) fn foreign<K>(&self) -> Api<DynamicObject>
    where
        K: Resource<DynamicType = ()>,
    {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::erase::<K>(&()))
    }

    /// All objects of a kind that a query finds, as JSON.
    pub(crate) async fn values<K>(&self, labels: &str) -> Result<Vec<Value>>
    where
        K: Resource<DynamicType = ()>,
    {
        values(&self.foreign::<K>(), labels).await
    }

    /// One object as JSON; none: it is not there.
    pub(crate) async fn value<K>(&self, name: &str) -> Result<Option<Value>>
    where
        K: Resource<DynamicType = ()>,
    {
        let found = within(name, self.foreign::<K>().get_opt(name)).await?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }

    /// The Delivery of that name, or the only one.
    pub(crate) async fn delivery(&self, name: Option<&str>) -> Result<Delivery> {
        if let Some(name) = name {
            let name = bare(name);
            let found = within("deliveries", self.of::<Delivery>().get_opt(name)).await?;
            return found
                .with_context(|| format!("there is no Delivery {name} in namespace {}; see: kubectl haldane status", self.namespace));
        }
        let mut all = within("deliveries", self.of::<Delivery>().list(&ListParams::default())).await?.items;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => bail!("there is no Delivery in namespace {}; make one: kubectl haldane init deploy/NAME", self.namespace),
            (Some(last), false) => {
                let names: Vec<String> = all.iter().chain([&last]).map(ResourceExt::name_any).collect();
                bail!("which Delivery? There are {}", names.join(", "))
            }
        }
    }

    /// Creates an object of ours.
    pub(crate) async fn create<K>(&self, object: &K, dry_run: bool) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
        K::DynamicType: Default,
    {
        within("create", self.of::<K>().create(&PostParams { dry_run, ..PostParams::default() }, object)).await
    }

    /// An object of a kind that may be unknown here; none: there is no such object, or no such kind.
    pub(crate) async fn dynamic(&self, kind: &ApiResource, namespace: &str, name: &str) -> Result<Option<Value>> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, kind);
        let found = within(&kind.kind, api.get_opt(name)).await?;
        found.map(|object| Ok(serde_json::to_value(object)?)).transpose()
    }

    /// Who is asking: as the API server knows them, else as the kubeconfig does.
    pub(crate) async fn whoami(&self) -> String {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = within("who you are", api.create(&PostParams::default(), &SelfSubjectReview::default())).await;
        let known = review.ok().and_then(|r| r.status?.user_info?.username);
        let name = known.or_else(|| self.user.clone()).unwrap_or_else(|| "unknown".to_owned());
        name.chars().take(BY).collect()
    }

    /// One JSON patch of one foreign object. It holds for the uid and the `resourceVersion` that were read, or not at all.
    pub(crate) async fn patch<K>(&self, object: &Value, mut changes: Vec<Value>) -> Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let mut patch = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": object.pointer("/metadata/uid")}),
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": object.pointer("/metadata/resourceVersion")}),
        ];
        patch.append(&mut changes);
        let kind = ApiResource::erase::<K>(&());
        let name = super::json::name(object);
        let url = kube::core::Request::new(DynamicObject::url_path(&kind, Some(&self.namespace)));
        let request = http::Request::patch(format!("{}/{name}", url.url_path))
            .header(http::header::CONTENT_TYPE, "application/json-patch+json")
            .body(serde_json::to_vec(&patch)?)?;
        match tokio::time::timeout(CALL, self.client.request::<Value>(request)).await {
            Err(_) => bail!("the API server did not answer within {}s", CALL.as_secs()),
            // A test that does not hold answers 422, like invalid input; nothing that we write is invalid by itself.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 409 | 422) => {
                bail!("{} {name} changed at the same moment ({}); nothing was written to it, try again", kind.kind, status.message)
            }
            Ok(Err(error)) => Err(explained(error)).with_context(|| format!("{} {name}", kind.kind)),
            Ok(Ok(_)) => Ok(()),
        }
    }
}

/// All objects that a query finds, as JSON.
pub(crate) async fn values(api: &Api<DynamicObject>, labels: &str) -> Result<Vec<Value>> {
    let found = within("list", api.list(&ListParams::default().labels(labels))).await?;
    found.items.into_iter().map(|o| Ok(serde_json::to_value(o)?)).collect()
}

/// A call with its time limit and its error in words.
pub(crate) async fn within<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer.map_err(explained),
        Err(_) => bail!("{what}: the API server did not answer within {}s", CALL.as_secs()),
    }
}

fn explained(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 404 && status.message.contains("could not find the requested resource") => {
            anyhow!("a kind of Haldane is not known in this cluster; see: kubectl haldane doctor")
        }
        kube::Error::Api(status) => anyhow!("{}", status.message),
        other => anyhow!(other).context("the API server cannot be reached"),
    }
}

/// A name without what kubectl puts before it (`deploy/`, `dlv/`).
pub(crate) fn bare(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

async fn config(target: &Target) -> Result<(Config, Option<String>)> {
    let kubeconfig = match &target.kubeconfig {
        Some(path) => Kubeconfig::read_from(path).with_context(|| format!("{} cannot be read", path.display()))?,
        None => match Kubeconfig::read() {
            Ok(kubeconfig) => kubeconfig,
            Err(error) => {
                let inside = Config::incluster().ok().filter(|_| target.context.is_none());
                return inside.map(|config| (config, None)).ok_or(error).context("there is no usable kubeconfig");
            }
        },
    };
    let context = target.context.clone().or_else(|| kubeconfig.current_context.clone());
    let user = kubeconfig.contexts.iter().find(|c| Some(&c.name) == context.as_ref());
    let user = user.and_then(|c| c.context.as_ref()?.user.clone());
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.context("the kubeconfig cannot be used")?;
    Ok((config, user))
}

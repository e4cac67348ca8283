//! Logins for registries: the Secrets that the pods themselves would pull with, then what the administrator gave for a registry, then
//! what the cloud gives to whoever runs in it.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{Api, Client};

use super::{Logins, LoginsFor};
use crate::edge::{
    kube::{KubeError, get},
    registry::{ImageRef, Keychain, Login, cloud::Cloud},
};

/// The type of Secret that the administrator's files come from, and its key.
const CONFIG: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
/// Files of the administrator that are read: one for each registry of a large company.
const FILES: usize = 100;

/// Reads Secrets by name, never a list of them.
pub struct SecretLogins {
    client: Client,
    /// A folder of Docker configs, one for each Secret of the administrator.
    common: Option<PathBuf>,
    clouds: Vec<Arc<dyn Cloud>>,
}

impl SecretLogins {
    /// Reads with this client; where no Secret of a namespace fits, tries the configs of that folder, and then these clouds.
    #[must_use]
    pub fn new(client: Client, common: Option<PathBuf>, clouds: Vec<Arc<dyn Cloud>>) -> Self {
        Self { client, common, clouds }
    }

    /// Of the administrator and of the clouds.
    async fn others(&self, image: &ImageRef) -> Result<Vec<Login>, String> {
        let common = match self.common.clone() {
            // Read each time: a Secret that is changed is changed in the folder, too.
            Some(folder) => tokio::task::spawn_blocking(move || common(&folder)).await.map_err(|_| "interrupted".to_owned())??,
            None => Keychain::default(),
        };
        let found = common.logins(image);
        if !found.is_empty() {
            return Ok(found);
        }
        for cloud in &self.clouds {
            if let Some(login) = cloud.login(&image.host).await.map_err(|error| error.to_string())? {
                return Ok(vec![login]);
            }
        }
        Ok(Vec::new())
    }

    async fn chain(&self, whose: &LoginsFor) -> Result<Keychain, String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &whose.namespace);
        let account = match get(&accounts, "ServiceAccount", &whose.account).await {
            Ok(account) => account,
            // Not granted: then its Secrets are not looked for.
            Err(KubeError::Refused { .. }) => None,
            Err(error) => return Err(error.to_string()),
        };
        let of_account = account.into_iter().flat_map(|a| a.image_pull_secrets.unwrap_or_default()).map(|secret| secret.name);
        let mut names: Vec<String> = whose.secrets.iter().cloned().chain(of_account).filter(|name| !name.is_empty()).collect();
        let mut known = std::collections::BTreeSet::new();
        names.retain(|name| known.insert(name.clone()));
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &whose.namespace);
        let mut chain = Keychain::default();
        for name in names {
            let meant = whose.secrets.first() == Some(&name);
            match get(&secrets, "Secret", &name).await {
                Ok(Some(secret)) => chain.add(&secret).map_err(|error| error.to_string())?,
                // The kubelet goes on without one that is missing, too; the one that the Delivery names is meant.
                Ok(None) if meant => {
                    return Err(format!("Secret {name} does not exist; make it: kubectl create secret docker-registry {name}"));
                }
                Ok(None) => {}
                // Images that need no login are pulled without; if this one does, the registry says so.
                Err(KubeError::Refused { .. }) if !meant => {}
                Err(KubeError::Refused { .. }) => return Err(refused(&name, &whose.namespace)),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(chain)
    }
}

fn refused(secret: &str, namespace: &str) -> String {
    format!(
        "Secret {secret} may not be read; let Haldane: kubectl create role haldane-pull --verb=get --resource=secrets --resource-name={secret} -n \
         {namespace}; kubectl create rolebinding haldane-pull --role=haldane-pull --serviceaccount=haldane-system:haldane -n {namespace}"
    )
}

impl Logins for SecretLogins {
    fn of<'a>(&'a self, whose: &'a LoginsFor, image: &'a ImageRef) -> BoxFuture<'a, Result<Vec<Login>, String>> {
        Box::pin(async move {
            let own = self.chain(whose).await?.logins(image);
            if own.is_empty() { self.others(image).await } else { Ok(own) }
        })
    }
}

/// The logins of a folder of Docker configs.
fn common(folder: &std::path::Path) -> Result<Keychain, String> {
    let unread =
        |error: io::Error| format!("{} cannot be read ({error}); it holds the administrator's logins for registries", folder.display());
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).map_err(unread)?.flatten().map(|entry| entry.path()).collect();
    // What Kubernetes mounts has its own folders beside the files.
    files.retain(|path| path.is_file());
    files.sort();
    let mut chain = Keychain::default();
    for path in files.iter().take(FILES) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let data = BTreeMap::from([(CONFIG.1.to_owned(), ByteString(std::fs::read(path).map_err(unread)?))]);
        let mut secret = Secret { type_: Some(CONFIG.0.to_owned()), data: Some(data), ..Secret::default() };
        secret.metadata.name = Some(format!("{name} of the administrator"));
        chain.add(&secret).map_err(|error| error.to_string())?;
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use crate::edge::registry::cloud::CloudError;

    use super::*;

    struct Granting(&'static str);

    impl Cloud for Granting {
        fn login<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Option<Login>, CloudError>> {
            let login = Login { from: format!("{} identity", self.0), username: "u".to_owned(), password: "p".to_owned() };
            Box::pin(async move {
                match host {
                    "down.cloud.example" => Err(CloudError::Ill { cloud: "Cloud", host: host.to_owned(), said: "503".to_owned() }),
                    _ if host.ends_with(self.0) => Ok(Some(login)),
                    _ => Ok(None),
                }
            })
        }
    }

    async fn tried(logins: &SecretLogins, image: &str) -> Result<Vec<String>, String> {
        let found = logins.others(&ImageRef::parse(image).unwrap()).await?;
        Ok(found.into_iter().map(|login| login.from).collect())
    }

    #[tokio::test]
    async fn what_the_administrator_gave_comes_before_the_cloud_and_each_for_its_own_registries() {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"auths": {"ghcr.io": {"auth": "YTpi"}, "eu.cloud.example": {"username": "a", "password": "b"}}}"#;
        std::fs::write(folder.path().join("ghcr"), config).unwrap();
        std::fs::create_dir(folder.path().join("..data")).unwrap();
        let client = kube::Client::new(
            tower::service_fn(|_| std::future::pending::<Result<http::Response<kube::client::Body>, io::Error>>()),
            "shop",
        );
        let clouds: Vec<Arc<dyn Cloud>> = vec![Arc::new(Granting("cloud.example")), Arc::new(Granting("other.example"))];
        let logins = SecretLogins::new(client, Some(folder.path().to_owned()), clouds);
        assert_eq!(tried(&logins, "ghcr.io/acme/shop:v1").await.unwrap(), ["Secret ghcr of the administrator"]);
        assert_eq!(tried(&logins, "eu.cloud.example/acme/shop:v1").await.unwrap(), ["Secret ghcr of the administrator"]);
        assert_eq!(tried(&logins, "us.cloud.example/acme/shop:v1").await.unwrap(), ["cloud.example identity"]);
        assert_eq!(tried(&logins, "x.other.example/acme/shop:v1").await.unwrap(), ["other.example identity"]);
        assert_eq!(tried(&logins, "quay.io/acme/shop:v1").await.unwrap(), Vec::<String>::new());
        assert!(
            tried(&logins, "down.cloud.example/acme/shop:v1").await.unwrap_err().contains("Cloud gives no login for down.cloud.example")
        );
        // One that is broken is told, not passed by.
        std::fs::write(folder.path().join("harbor"), "{").unwrap();
        assert!(tried(&logins, "ghcr.io/acme/shop:v1").await.unwrap_err().contains("Secret harbor of the administrator"));
    }
}

//! Logins for registries, from the Secrets that the pods themselves would pull with.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};

use super::{Logins, LoginsFor};
use crate::edge::{
    kube::{KubeError, get},
    registry::{ImageRef, Keychain, Login},
};

/// Reads Secrets by name, never a list of them.
pub struct SecretLogins {
    client: Client,
}

impl SecretLogins {
    /// Reads with this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
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
        Box::pin(async move { Ok(self.chain(whose).await?.logins(image)) })
    }
}

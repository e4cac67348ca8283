//! What forges and registries say at the door, of which a name is taken and nothing else.

use serde::Deserialize;

use super::relay;
use crate::model::source::Repository;

/// What a call is about, and all that is taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A repository of the forge.
    Repository(Repository),
    /// A repository of a registry, without its host: behind a proxy a registry does not know its own name.
    Image(String),
}

/// The events after which something may be ready that was not. Those of a check run come many to a build and say nothing that its
/// suite does not.
pub(super) const EVENTS: [&str; 6] = ["check_suite", "package", "push", "registry_package", "status", "workflow_run"];

/// What is taken from GitHub's words.
#[derive(Deserialize)]
pub(super) struct GitHubSays {
    repository: Option<FullName>,
    package: Option<Package>,
    registry_package: Option<Package>,
}

#[derive(Deserialize)]
struct FullName {
    full_name: Option<String>,
}

/// A package that belongs to no repository still has an owner.
#[derive(Deserialize)]
struct Package {
    name: Option<String>,
    namespace: Option<String>,
}

impl GitHubSays {
    pub(super) fn about(&self) -> Option<About> {
        let named = self.repository.as_ref().and_then(|repository| Repository::parse(repository.full_name.as_deref()?));
        let package = || {
            let package = self.package.as_ref().or(self.registry_package.as_ref())?;
            let (owner, name) = (package.namespace.as_deref()?, package.name.as_deref()?);
            Some(About::Image(format!("{owner}/{name}").to_ascii_lowercase()))
        };
        named.map(About::Repository).or_else(package)
    }
}

/// The notifications of the distribution registry (`events`), and of Harbor (`event_data`).
#[derive(Deserialize)]
pub(super) struct RegistrySays {
    #[serde(default)]
    events: Vec<Notification>,
    event_data: Option<HarborData>,
}

#[derive(Deserialize)]
struct Notification {
    action: Option<String>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    repository: Option<String>,
}

#[derive(Deserialize)]
struct HarborData {
    repository: Option<HarborRepository>,
}

#[derive(Deserialize)]
struct HarborRepository {
    repo_full_name: Option<String>,
}

impl RegistrySays {
    pub(super) fn about(self) -> Vec<About> {
        let pushed = self.events.into_iter().filter(|event| event.action.as_deref() == Some("push"));
        let names = pushed.filter_map(|event| event.target?.repository);
        let harbor = self.event_data.and_then(|data| data.repository?.repo_full_name);
        let mut about: Vec<About> = names.chain(harbor).map(About::Image).collect();
        about.dedup();
        about.truncate(relay::MOST);
        about
    }
}

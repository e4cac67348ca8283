//! An operator that takes its versions from merges: a model of GitHub on this machine, on the end of the cable that pods reach, a
//! repository in it, and the images of its commits in the cluster's registry.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::forge::{Checks, GitHub, Method, Options, Repository};
use crate::support::shop::Shop;
use crate::support::{Bed, said};

const SECRET: &str = "what-github-and-haldane-know-of-each-other";
const SYSTEM: [&str; 2] = ["-n", "haldane-system"];

/// How the operator hears of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// It looks once a minute.
    Polling,
    /// It is told, too.
    Webhooks,
}

pub(crate) struct Merging<'a> {
    bed: &'a Bed,
    pub(crate) github: GitHub,
    /// The number of the operator's app on `acme`.
    pub(crate) installation: u64,
    pub(crate) repository: Repository,
}

impl<'a> Merging<'a> {
    /// The operator knows a new GitHub, and `namespace` may deliver from `acme`.
    pub(crate) fn begin(bed: &'a Bed, namespace: &str, hearing: Hearing) -> Result<Self> {
        Self::begin_with(bed, namespace, hearing, &["ci"])
    }

    /// The same with these workflows: each push of a branch starts them.
    pub(crate) fn begin_with(bed: &'a Bed, namespace: &str, hearing: Hearing, workflows: &[&str]) -> Result<Self> {
        let github = GitHub::start(Options { listen: SocketAddr::new(bed.this_end()?, 0), ..Options::default() });
        let installation = github.install("acme");
        let repository = github.repository_with("acme/shop", workflows);
        repository.commit("main", "The beginning");
        let new = Self { bed, github, installation, repository };
        new.make_known(namespace, hearing)?;
        if hearing == Hearing::Webhooks {
            new.github.webhook(&new.door()?, SECRET);
        }
        Ok(new)
    }

    fn make_known(&self, namespace: &str, hearing: Hearing) -> Result<()> {
        let (bed, app) = (self.bed, self.github.app());
        let key = bed.scratch("app.pem");
        std::fs::write(&key, &app.pem)?;
        bed.kubectl(&[&SYSTEM[..], &["delete", "secret", "haldane-github", "--ignore-not-found"]].concat())?;
        let literals = [format!("appId={}", app.id), format!("url={}", self.github.url()), format!("webhookSecret={SECRET}")];
        let mut words: Vec<String> = literals.iter().map(|literal| format!("--from-literal={literal}")).collect();
        words.push(format!("--from-file=privateKey={}", key.display()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        bed.kubectl(&[&SYSTEM[..], &["create", "secret", "generic", "haldane-github"], &words].concat())?;
        let mut helm = bed.command("helm");
        helm.args(["upgrade", "haldane", "charts/haldane", "--reuse-values", "--wait", "--timeout", "3m"]).args(SYSTEM);
        helm.args(["--set", "github.secretName=haldane-github", "--set", "github.grants[0].repositories={acme/*}"]);
        helm.args([
            "--set",
            &format!("github.grants[0].namespaces={{{namespace}}}"),
            "--set",
            &format!("registries.insecure={{{}}}", bed.registry),
        ]);
        helm.args(["--set", &format!("github.webhooks={}", hearing == Hearing::Webhooks)]);
        said(&mut helm)?;
        // Another GitHub than that of an earlier run: what opens it is read at the start.
        bed.kubectl(&[&SYSTEM[..], &["rollout", "restart", "deployment/haldane"]].concat())?;
        bed.kubectl(&[&SYSTEM[..], &["rollout", "status", "deployment/haldane", "--timeout=120s"]].concat()).map(drop)
    }

    /// Where this machine reaches the door, as an ingress would from outside: on a port of the node.
    fn door(&self) -> Result<String> {
        let open = r#"{"spec": {"type": "NodePort"}}"#;
        self.bed.kubectl(&[&SYSTEM[..], &["patch", "service", "haldane-hooks", "-p", open]].concat())?;
        let service = self.bed.object("haldane-system", "service", "haldane-hooks")?.context("no Service haldane-hooks")?;
        let port = service.pointer("/spec/ports/0/nodePort").and_then(Value::as_i64).context("it has no port of the node")?;
        Ok(format!("http://{}:{port}/github", self.bed.node()?))
    }

    /// The Delivery of the shop, from this repository.
    pub(crate) fn delivery(&self, shop: &Shop) -> Value {
        let mut delivery = shop.delivery();
        if let Some(spec) = delivery.get_mut("spec").and_then(Value::as_object_mut) {
            let image = json!({"repository": format!("{}/shop", self.bed.registry), "tag": "sha-{sha}"});
            spec.insert("source".to_owned(), json!({"github": {"repository": "acme/shop", "when": {"type": "Checks"}}, "image": image}));
        }
        delivery
    }

    /// The image of a commit, which says what its version says; its label names that commit.
    pub(crate) fn push(&self, commit: &str, version: &str) -> Result<String> {
        self.push_labelled(commit, version, commit)
    }

    /// The same with another label. Gives the image by digest.
    pub(crate) fn push_labelled(&self, commit: &str, version: &str, label: &str) -> Result<String> {
        let file = self.bed.scratch(&format!("version-{version}"));
        std::fs::write(&file, format!("{version}\n"))?;
        let mut image = self.bed.cluster("image");
        image.env("HALDANE_IMAGE_REVISION", label);
        image.arg(self.bed.built("examples/shop")).arg(format!("shop:sha-{commit}")).arg(format!("{}=/version", file.display()));
        said(&mut image).map(|by_digest| by_digest.trim().to_owned())
    }

    /// The registry forgets an image (by digest), and with it every tag that names it.
    pub(crate) fn forget(&self, image: &str) -> Result<()> {
        let (path, digest) = image.split_once('@').context("not by digest")?;
        let name = path.rsplit('/').next().unwrap_or(path);
        let address = format!("http://{}/v2/{name}/manifests/{digest}", self.bed.registry);
        said(self.bed.command("curl").args(["--silent", "--show-error", "--fail", "-X", "DELETE", &address])).map(drop)
    }

    /// A pull request, merged.
    pub(crate) fn merged(&self, title: &str, method: Method) -> String {
        self.repository.merge(self.repository.change(&title.replace([' ', ','], "-"), title), method)
    }

    /// The checks of a commit are green: the last thing that it waits for.
    pub(crate) fn green(&self, commit: &str) {
        self.repository.checks(commit, Checks::actions("ci").done("success"));
    }

    /// A merge with green checks and its image.
    pub(crate) fn ready(&self, title: &str, version: &str) -> Result<String> {
        let commit = self.merged(title, Method::Squash);
        self.push(&commit, version)?;
        self.green(&commit);
        Ok(commit)
    }
}

pub(crate) fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

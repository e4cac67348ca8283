//! `haldane github setup`: a person makes Haldane's GitHub App with two clicks, and its key goes straight into a Secret.
//!
//! A page on this machine sends the manifest to GitHub with the person's browser; GitHub sends the browser back with a code, which is
//! exchanged for the key. Nobody copies a key, and none is written to a disk, unless the Secret cannot be written any more.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::rand;
use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};
use octocrab::secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::{net::TcpListener, sync::mpsc};

use crate::edge::github::app::{ExchangeError, Manifest, NewApp, exchange};

/// Where the public GitHub is for people, and where for programs.
const PUBLIC: (&str, &str) = ("https://github.com", "https://api.github.com");

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The organisation that owns the App; none: the person.
    pub organisation: Option<String>,
    /// The name of the App.
    pub name: String,
    /// Where its webhooks go.
    pub hooks: Option<String>,
    /// GitHub as people see it, `https://github.com` or an Enterprise Server.
    pub url: String,
    /// Where the Secret is written.
    pub namespace: String,
    /// Its name.
    pub secret: String,
    /// Where the page is.
    pub listen: SocketAddr,
}

/// Why there is no App, or no Secret with its key.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Another is there.
    #[error("Secret {name} of namespace {namespace} exists; delete it, or choose another name with --secret")]
    Exists {
        /// Where.
        namespace: String,
        /// Which.
        name: String,
    },
    /// The cluster does not let us, or has no such namespace.
    #[error(
        "the Secret cannot be written to namespace {namespace}; create the namespace, or use a kubeconfig that may create Secrets there"
    )]
    Cluster {
        /// Where.
        namespace: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The address is taken.
    #[error("cannot listen on {address}; choose another with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No randomness.
    #[error("this machine gives no random numbers")]
    Random,
    /// GitHub did not give the App.
    #[error("GitHub did not give the app")]
    Exchange(#[from] ExchangeError),
    /// The App is made, and its key is only in this file.
    #[error("the app is made, but its Secret could not be written: apply {path} as soon as that is mended, and delete the file")]
    Kept {
        /// Where it is kept.
        path: PathBuf,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// The App is made, and its key is nowhere.
    #[error("the app is made, but its key could be kept nowhere: make a new key on its page {page}")]
    Lost {
        /// The page.
        page: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Wanted {
    fn api(&self) -> String {
        let url = self.url.trim_end_matches('/');
        if url == PUBLIC.0 { PUBLIC.1.to_owned() } else { format!("{url}/api/v3") }
    }

    /// Where the person confirms.
    fn form(&self, state: &str) -> String {
        let url = self.url.trim_end_matches('/');
        match &self.organisation {
            Some(name) => format!("{url}/organizations/{name}/settings/apps/new?state={state}"),
            None => format!("{url}/settings/apps/new?state={state}"),
        }
    }

    fn secret(&self, app: &NewApp) -> Secret {
        let mut data: BTreeMap<String, ByteString> = BTreeMap::new();
        let mut put = |name: &str, text: &str| drop(data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec())));
        put("appId", &app.id.to_string());
        put("privateKey", app.key.expose_secret());
        if let Some(secret) = &app.webhook_secret {
            put("webhookSecret", secret.expose_secret());
        }
        if self.api() != PUBLIC.1 {
            put("url", &self.api());
        }
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.name = Some(self.secret.clone());
        secret.metadata.namespace = Some(self.namespace.clone());
        secret
    }
}

struct Page {
    wanted: Wanted,
    /// What comes back with the browser, and nobody else knows.
    state: String,
    back: String,
    codes: mpsc::Sender<String>,
}

#[derive(Deserialize)]
struct Back {
    code: Option<String>,
    state: Option<String>,
}

/// Waits until a person has made the App, and writes its Secret. `say` is told what to do.
///
/// # Errors
/// When something stands in the way; what could, is tried before the App is made.
pub async fn setup(client: Client, wanted: Wanted, mut say: impl FnMut(&str)) -> Result<NewApp, SetupError> {
    let api: Api<Secret> = Api::namespaced(client, &wanted.namespace);
    could_be_written(&api, &wanted).await?;
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_| SetupError::Random)?;
    let listen = |source| SetupError::Listen { address: wanted.listen, source };
    let listener = TcpListener::bind(wanted.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let (codes, mut brought) = mpsc::channel(1);
    let page = Page { wanted: wanted.clone(), state: hex::encode(random), back: format!("http://{address}/made"), codes };
    let server = tokio::spawn(async move { axum::serve(listener, router(Arc::new(page))).await });
    say(&format!("open http://{address}/ in a browser on this machine and confirm there (Ctrl-C ends it, and nothing was made)"));
    // The page sends before it ends, and it does not end before us.
    let code = brought.recv().await.unwrap_or_default();
    let made = exchange(&wanted.api(), &code).await;
    // The last answer is on its way.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    server.abort();
    let app = made?;
    keep(&api, &wanted, &app).await?;
    Ok(app)
}

/// Tried while nothing is lost yet.
async fn could_be_written(api: &Api<Secret>, wanted: &Wanted) -> Result<(), SetupError> {
    let mut empty = Secret::default();
    empty.metadata.name = Some(wanted.secret.clone());
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &empty).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Err(SetupError::Exists { namespace: wanted.namespace.clone(), name: wanted.secret.clone() })
        }
        Err(source) => Err(SetupError::Cluster { namespace: wanted.namespace.clone(), source }),
    }
}

async fn keep(api: &Api<Secret>, wanted: &Wanted, app: &NewApp) -> Result<(), SetupError> {
    let secret = wanted.secret(app);
    let Err(source) = api.create(&PostParams::default(), &secret).await else { return Ok(()) };
    let path = Path::new(&format!("{}.json", wanted.secret)).to_owned();
    let written = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&serde_json::to_vec_pretty(&secret)?)
    };
    match written() {
        Ok(()) => Err(SetupError::Kept { path, source }),
        Err(source) => Err(SetupError::Lost { page: app.page.clone(), source }),
    }
}

fn router(page: Arc<Page>) -> Router {
    let begin = async |State(page): State<Arc<Page>>| Html(page.form());
    let made = async |State(page): State<Arc<Page>>, Query(back): Query<Back>| page.made(back);
    Router::new().route("/", get(begin)).route("/made", get(made)).with_state(page)
}

impl Page {
    fn form(&self) -> String {
        let manifest = Manifest { name: self.wanted.name.clone(), hooks: self.wanted.hooks.clone(), back: self.back.clone() };
        let (action, manifest) = (escaped(&self.wanted.form(&self.state)), escaped(&manifest.json().to_string()));
        let owner = escaped(self.wanted.organisation.as_deref().unwrap_or("you"));
        format!(
            "<!doctype html><meta charset=utf-8><title>Haldane's GitHub App</title>\
             <h1>Haldane's GitHub App</h1><p>GitHub will show an App for {owner} that may read checks, code, packages and pull requests, and \
             write nothing. Give it a name that is free and confirm.</p>\
             <form method=post action=\"{action}\"><input type=hidden name=manifest value=\"{manifest}\">\
             <button>Go to GitHub</button></form>"
        )
    }

    fn made(&self, back: Back) -> Response {
        let ours = back.state.as_deref() == Some(self.state.as_str());
        let Some(code) = back.code.filter(|code| ours && !code.is_empty()) else {
            return (StatusCode::BAD_REQUEST, "this does not come from the page that was opened; begin again at /").into_response();
        };
        match self.codes.try_send(code) {
            Ok(()) => {
                Html("<!doctype html><meta charset=utf-8><title>Made</title><p>GitHub has made the App. The terminal says what is next.")
                    .into_response()
            }
            Err(_) => (StatusCode::CONFLICT, "it was made already").into_response(),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

//! `haldane github setup` as a person uses it: the terminal, a browser (curl, which follows where it is sent), a real API server.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use haldane::{
    clock::SystemClock,
    edge::{
        forge::Forge as _,
        github::{Access, GitHub as Client},
    },
    model::source::{Branch, Repository},
};
use serde_json::Value;

use crate::{
    forge::{GitHub, Options},
    plane::{apiserver::ApiServer, run::run},
};

struct Terminal {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    /// The command, and the address that it says to open; none: it ended.
    fn open(github: &GitHub, more: &[&str]) -> (Self, Option<String>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_haldane"))
            .args(["github", "setup", "--org", "acme", "--url", github.url()])
            .args(more)
            .env("KUBECONFIG", &ApiServer::own().kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.split(' ').find(|word| word.starts_with("http://")).map(str::to_owned);
        (Self { child, out }, address)
    }

    /// What it says at the end: whether it is content, and its words.
    fn ends(mut self) -> (bool, String) {
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().success(), said)
    }
}

fn curl(args: &[&str]) -> String {
    run(Command::new("curl").args(["--silent", "--show-error", "--max-time", "20"]).args(args), "").good()
}

/// The form of the page: where it goes, and what it carries.
fn form(page: &str) -> (String, String) {
    let between = |before: &str| page.split_once(before).unwrap().1.split_once('"').unwrap().0.to_owned();
    let plain = |text: String| text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    (plain(between("action=\"")), plain(between("value=\"")))
}

fn secret(name: &str) -> Option<Value> {
    serde_json::from_str(&ApiServer::own().kubectl(&["get", "secret", name, "-o", "json"]).out).ok()
}

fn decoded(secret: &Value, key: &str) -> String {
    use base64::Engine as _;
    let text = secret["data"][key].as_str().unwrap_or_default();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
}

#[tokio::test]
async fn an_app_is_made_with_two_clicks_and_its_key_opens_the_forge() {
    let github = GitHub::start(Options::default());
    let repository = github.repository("acme/shop");
    let head = repository.commit("main", "The beginning");
    let (terminal, address) = Terminal::open(&github, &["--namespace", "default", "--hooks", "https://haldane.acme.example/github"]);
    let address = address.unwrap();
    let (action, manifest) = form(&curl(&[&address]));
    let asked: Value = serde_json::from_str(&manifest).unwrap();
    assert!(asked["default_permissions"].as_object().unwrap().values().all(|may| may == "read"), "{asked:#}");
    // Somebody else's page sends the browser here: nothing is taken.
    assert!(curl(&[&format!("{address}made?code=abc&state=guessed")]).contains("begin again"));
    // The person clicks; GitHub asks, the person confirms, and the browser comes back.
    let page = curl(&["--location", "--data-urlencode", &format!("manifest={manifest}"), &action]);
    assert!(page.contains("GitHub has made the App"), "{page}");
    let (good, said) = terminal.ends();
    assert!(good && said.contains("/installations/new") && said.contains("--set github.webhooks=true"), "{said}");

    let made = secret("haldane-github").unwrap();
    assert_eq!(decoded(&made, "url"), format!("{}/api/v3", github.url()));
    assert!(!decoded(&made, "webhookSecret").is_empty());
    assert!(!said.contains(&decoded(&made, "webhookSecret")) && !said.contains("PRIVATE KEY"), "no secret on the terminal");
    // The person installs it, and what is in the Secret opens the forge.
    let id = decoded(&made, "appId").parse().unwrap();
    github.hub().install(id, "acme", None);
    let access = Access::app(id, decoded(&made, "privateKey").as_bytes()).unwrap();
    let client = Client::new(&decoded(&made, "url"), access, Arc::new(SystemClock)).unwrap();
    let main = Branch { repository: Repository::parse("acme/shop").unwrap(), name: None };
    let heads = client.heads(&[main]).await.unwrap();
    assert_eq!(heads[0].as_ref().map(ToString::to_string), Ok(head));

    // A second App would take the place of the first: nothing is made.
    let (again, address) = Terminal::open(&github, &["--namespace", "default"]);
    assert_eq!(address, None);
    let (good, said) = again.ends();
    assert!(!good && said.contains("Secret haldane-github of namespace default exists"), "{said}");
}

#[tokio::test]
async fn where_no_secret_can_be_written_no_app_is_made() {
    let github = GitHub::start(Options::default());
    let (terminal, address) = Terminal::open(&github, &["--namespace", "nowhere"]);
    assert_eq!(address, None);
    let (good, said) = terminal.ends();
    assert!(!good && said.contains("cannot be written to namespace nowhere"), "{said}");
}

//! The registry edge against a real one: Debian's `docker-registry`, open, with name and word, and with tokens; images pushed by
//! `skopeo` and by plain HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use haldane::clock::{Clock as _, SystemClock};
use haldane::edge::registry::{ImageRef, Login, OciRegistry, Origin, Registry, RegistryError, Settings};
use haldane::model::source::Digest;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;

const REVISION: &str = "org.opencontainers.image.revision";
const SOURCE: &str = "org.opencontainers.image.source";
const SHA: &str = "3f2a1c9d00000000000000000000000000000000";
const REPOSITORY: &str = "https://github.com/acme/shop";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A registry starts in a tenth of a second; a busy machine may take long.
const LONG: Duration = Duration::from_mins(1);

/// `ada:s3cret`, in bcrypt, the only form that docker-registry takes.
const HTPASSWD: &str = "ada:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK";
const ADA: &str = "Basic YWRhOnMzY3JldA==";

/// A folder that is gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("haldane-registry-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the folder for temporary things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A registry that ends with this value.
struct Running {
    host: String,
    authorization: Option<String>,
    folder: Folder,
    _child: Child,
    _tasks: JoinSet<()>,
}

/// Where it listens, as it says in its log: the port is the system's choice.
async fn listening(log: &mut Lines<BufReader<ChildStderr>>) -> String {
    let mut said = String::new();
    while let Some(line) = log.next_line().await.unwrap() {
        if let Some((_, rest)) = line.split_once("listening on ") {
            return rest.chars().take_while(|c| !matches!(c, '"' | ' ')).collect();
        }
        said = said + &line + "\n";
    }
    panic!("docker-registry ended: {said}")
}

/// The path of a program, or the end of the test with what to do.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: run `make setup` (as root), or apt-get install {name}"))
}

impl Running {
    async fn start(auth: &str, authorization: Option<String>) -> Self {
        let docker_registry = program("docker-registry");
        let folder = Folder::new();
        let store = folder.0.join("store").display().to_string();
        let log = "log: {level: info, accesslog: {disabled: true}}";
        let config =
            format!("version: 0.1\n{log}\nstorage: {{filesystem: {{rootdirectory: {store}}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n{auth}\n")
                .replace("FOLDER", &folder.0.display().to_string());
        fs::write(folder.0.join("config.yml"), config).unwrap();
        fs::write(folder.0.join("htpasswd"), HTPASSWD).unwrap();
        let mut child = Command::new(docker_registry)
            .arg("serve")
            .arg(folder.0.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = tokio::time::timeout(LONG, listening(&mut log)).await.expect("docker-registry listens");
        // Read on, or it would stop when the pipe is full.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { host, authorization, folder, _child: child, _tasks: tasks }
    }

    async fn open() -> Self {
        Self::start("", None).await
    }

    async fn with_htpasswd() -> Self {
        Self::start("auth: {htpasswd: {realm: shop, path: FOLDER/htpasswd}}", Some(ADA.to_owned())).await
    }

    fn client(&self) -> OciRegistry {
        let settings = Settings { insecure: BTreeSet::from([self.host.clone()]), extra_ca: None };
        OciRegistry::new(&settings, Arc::new(SystemClock)).unwrap()
    }

    fn image(&self, tag: &str) -> ImageRef {
        ImageRef::new(&format!("{}/acme/shop", self.host), tag).unwrap()
    }

    async fn send(&self, method: Method, path: &str, media: &str, body: &[u8]) -> (StatusCode, http::HeaderMap) {
        let uri = if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", self.host) };
        let mut request = Request::builder().method(method).uri(uri).header("Content-Type", media);
        if let Some(value) = &self.authorization {
            request = request.header("Authorization", value);
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert!(head.status.is_success(), "{path}: {} {}", head.status, String::from_utf8_lossy(&body));
        (head.status, head.headers)
    }

    async fn push_blob(&self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let (_, headers) = self.send(Method::POST, "/v2/acme/shop/blobs/uploads/", "text/plain", b"").await;
        let place = headers["location"].to_str().unwrap();
        let joint = if place.contains('?') { '&' } else { '?' };
        self.send(Method::PUT, &format!("{place}{joint}digest={digest}"), "application/octet-stream", bytes).await;
        digest
    }

    async fn push_manifest(&self, reference: &str, media: &str, manifest: &Value) -> Digest {
        let bytes = manifest.to_string().into_bytes();
        self.send(Method::PUT, &format!("/v2/acme/shop/manifests/{reference}"), media, &bytes).await;
        digest_of(&bytes)
    }

    /// An image of one platform with these labels, under its digest.
    async fn push_platform(&self, architecture: &str, labels: &Value) -> (Digest, Value) {
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Labels": labels}, "rootfs": {"type": "layers", "diff_ids": []}});
        let config = config.to_string();
        let digest = self.push_blob(config.as_bytes()).await;
        let config = json!({"mediaType": CONFIG, "digest": digest.as_str(), "size": config.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": []});
        let digest = digest_of(manifest.to_string().as_bytes());
        assert_eq!(self.push_manifest(digest.as_str(), IMAGE, &manifest).await, digest);
        let size = manifest.to_string().len();
        let platform = json!({"architecture": architecture, "os": "linux"});
        (digest.clone(), json!({"mediaType": IMAGE, "digest": digest.as_str(), "size": size, "platform": platform}))
    }

    async fn push_index(&self, tag: &str, labels: [&Value; 2], annotations: &Value) -> Digest {
        let (_, amd) = self.push_platform("amd64", labels[0]).await;
        let (_, arm) = self.push_platform("arm64", labels[1]).await;
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [amd, arm], "annotations": annotations});
        self.push_manifest(tag, INDEX, &index).await
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    let hex = Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    Digest::parse(&format!("sha256:{hex}")).unwrap()
}

fn login(password: &str) -> Login {
    Login { from: "Secret shop".to_owned(), username: "ada".to_owned(), password: password.to_owned() }
}

fn from(revision: Option<&str>) -> Origin {
    Origin { revision: revision.map(str::to_owned), source: revision.map(|_| REPOSITORY.to_owned()) }
}

async fn run(command: &mut Command) {
    let output = tokio::time::timeout(LONG, command.kill_on_drop(true).output()).await.expect("in time").unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An image in a folder, as a builder leaves it there.
fn layout(folder: &Path, labels: &Value) -> PathBuf {
    let path = folder.join("layout");
    fs::create_dir_all(path.join("blobs/sha256")).unwrap();
    let put = |value: &Value| {
        let bytes = value.to_string();
        let digest = digest_of(bytes.as_bytes());
        fs::write(path.join("blobs/sha256").join(digest.as_str().trim_start_matches("sha256:")), &bytes).unwrap();
        (digest, bytes.len())
    };
    let (config, config_size) =
        put(&json!({"architecture": "amd64", "os": "linux", "config": {"Labels": labels}, "rootfs": {"type": "layers", "diff_ids": []}}));
    let config = json!({"mediaType": CONFIG, "digest": config.as_str(), "size": config_size});
    let (manifest, size) = put(&json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": []}));
    let entry =
        json!({"mediaType": IMAGE, "digest": manifest.as_str(), "size": size, "annotations": {"org.opencontainers.image.ref.name": "v1"}});
    fs::write(path.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    fs::write(path.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string()).unwrap();
    path
}

/// Pushes the image of this layout under its tag, in the format `oci` or `v2s2` (Docker's).
async fn skopeo(registry: &Running, layout: &Path, format: &str, tag: &str, more: &[&str]) {
    let mut command = Command::new(program("skopeo"));
    command.args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--format", format]).args(more);
    run(command.arg(format!("oci:{}:v1", layout.display())).arg(format!("docker://{}/acme/shop:{tag}", registry.host))).await;
}

fn built() -> Value {
    json!({REVISION: SHA, SOURCE: REPOSITORY})
}

#[tokio::test]
async fn an_image_that_skopeo_pushed_is_found_with_its_commit() {
    let registry = Running::open().await;
    let client = registry.client();
    assert_eq!(client.digest(&registry.image("oci"), &[]).await, Ok(None), "not pushed yet");
    let layout = layout(&registry.folder.0, &built());
    for format in ["oci", "v2s2"] {
        skopeo(&registry, &layout, format, format, &[]).await;
        let image = registry.image(format);
        let digest = client.digest(&image, &[]).await.unwrap().expect("it is pushed");
        assert_eq!(client.origin(&image, &digest, &[]).await, Ok(from(Some(SHA))), "{format}");
    }
}

#[tokio::test]
async fn an_index_is_found_as_a_whole_and_its_platforms_must_agree() {
    let registry = Running::open().await;
    let client = registry.client();
    let (built, other, nothing) = (built(), json!({REVISION: "other", SOURCE: REPOSITORY}), json!({}));
    let only_source = Origin { revision: None, source: Some(REPOSITORY.to_owned()) };
    for (tag, labels, annotations, means) in [
        ("labels", [&built, &built], &nothing, from(Some(SHA))),
        ("no-labels", [&nothing, &nothing], &nothing, from(None)),
        ("one-label", [&built, &nothing], &nothing, from(None)),
        ("wrong-label", [&built, &other], &nothing, only_source),
        ("annotations", [&nothing, &other], &built, from(Some(SHA))),
    ] {
        let pushed = registry.push_index(tag, labels, annotations).await;
        let image = registry.image(tag);
        assert_eq!(client.digest(&image, &[]).await, Ok(Some(pushed.clone())), "{tag}");
        assert_eq!(client.origin(&image, &pushed, &[]).await, Ok(means), "{tag}");
    }
}

#[tokio::test]
async fn a_tag_that_moves_is_seen_at_its_new_place() {
    let registry = Running::open().await;
    let client = registry.client();
    let image = registry.image("main");
    let first = registry.push_index("main", [&built(), &built()], &json!({})).await;
    assert_eq!(client.digest(&image, &[]).await, Ok(Some(first.clone())));
    let second = registry.push_index("main", [&json!({}), &json!({})], &json!({})).await;
    assert_ne!(first, second);
    assert_eq!(client.digest(&image, &[]).await, Ok(Some(second)));
    assert_eq!(client.origin(&image, &first, &[]).await, Ok(from(Some(SHA))), "what was deployed is still there by its digest");
}

#[tokio::test]
async fn a_registry_with_name_and_word_shows_itself_to_who_has_them() {
    let registry = Running::with_htpasswd().await;
    let client = registry.client();
    let image = registry.image("v1");
    let layout = layout(&registry.folder.0, &built());
    skopeo(&registry, &layout, "oci", "v1", &["--dest-creds", "ada:s3cret"]).await;
    let logins = [login("wrong"), login("s3cret")];
    let digest = client.digest(&image, &logins).await.unwrap().expect("it is pushed");
    assert_eq!(client.origin(&image, &digest, &logins).await, Ok(from(Some(SHA))));
    assert_eq!(client.digest(&registry.image("v2"), &logins).await, Ok(None));
    let (host, path) = (image.host.clone(), image.path.clone());
    let denied = |tried: &str| RegistryError::Denied { host: host.clone(), path: path.clone(), tried: tried.to_owned() };
    assert_eq!(client.digest(&image, &[login("wrong")]).await, Err(denied("Secret shop")));
    assert_eq!(client.digest(&image, &[]).await, Err(denied("no login")));
}

/// Gives tokens that docker-registry believes, to ada alone.
struct TokenServer {
    host: String,
    certificate: String,
    issuer: Arc<Issuer>,
    _tasks: JoinSet<()>,
}

struct Issuer {
    key: EcdsaKeyPair,
    certificate: String,
    asked: Mutex<Vec<String>>,
}

impl Issuer {
    fn token(&self, actions: &[&str]) -> String {
        let now = SystemClock.now().as_second();
        let head = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let access = json!([{"type": "repository", "name": "acme/shop", "actions": actions}]);
        let body = json!({"iss": "issuer", "sub": "ada", "aud": "shop", "jti": "1", "iat": now, "nbf": now - 10, "exp": now + 300, "access": access});
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(body.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn answer(&self, head: &str) -> String {
        self.asked.lock().unwrap().push(head.lines().next().unwrap().to_owned());
        let ada = head.lines().any(|line| line.eq_ignore_ascii_case(&format!("authorization: {ADA}")));
        let (status, body) = if ada {
            ("200 OK", json!({"token": self.token(&["pull"]), "expires_in": 300}))
        } else {
            ("401 Unauthorized", json!({"errors": [{"code": "UNAUTHORIZED"}]}))
        };
        let body = body.to_string();
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}

impl TokenServer {
    async fn start() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
        let issuer = Arc::new(Issuer { key: signing, certificate: STANDARD.encode(certificate.der()), asked: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        let answers = issuer.clone();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let answer = answers.answer(&String::from_utf8(head).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { host, certificate: certificate.pem(), issuer, _tasks: tasks }
    }
}

#[tokio::test]
async fn a_registry_with_tokens_shows_itself_to_who_gets_one() {
    let tokens = TokenServer::start().await;
    let certificates = Folder::new();
    let bundle = certificates.0.join("issuer.pem");
    fs::write(&bundle, &tokens.certificate).unwrap();
    let auth = format!(
        "auth: {{token: {{realm: \"http://{}/token\", service: shop, issuer: issuer, rootcertbundle: {}}}}}",
        tokens.host,
        bundle.display()
    );
    let registry = Running::start(&auth, Some(format!("Bearer {}", tokens.issuer.token(&["pull", "push"])))).await;
    let pushed = registry.push_index("v1", [&built(), &built()], &json!({})).await;
    let image = registry.image("v1");
    let insecure = BTreeSet::from([registry.host.clone(), tokens.host.clone()]);
    let client = OciRegistry::new(&Settings { insecure, extra_ca: None }, Arc::new(SystemClock)).unwrap();
    let logins = [login("wrong"), login("s3cret")];
    assert_eq!(client.digest(&image, &logins).await, Ok(Some(pushed.clone())));
    let asked = vec!["GET /token?service=shop&scope=repository%3Aacme%2Fshop%3Apull HTTP/1.1".to_owned(); 2];
    assert_eq!(*tokens.issuer.asked.lock().unwrap(), asked, "once for each login");
    assert_eq!(client.origin(&image, &pushed, &logins).await, Ok(from(Some(SHA))));
    assert_eq!(client.digest(&registry.image("v2"), &logins).await, Ok(None));
    assert_eq!(tokens.issuer.asked.lock().unwrap().len(), 2, "and never again while it lives");
    assert!(matches!(client.digest(&image, &[]).await, Err(RegistryError::Denied { .. })));
    // The token server is another place: without its name it is not spoken to without TLS.
    let error = registry.client().digest(&image, &logins).await.unwrap_err();
    assert!(error.to_string().contains("but not by https; nothing was sent there"), "{error}");
}

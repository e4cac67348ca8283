//! The clouds, as their documents describe them, played by a server that takes nothing else.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::sigv4::{Signed, Signer};
use super::*;
use crate::edge::registry::tests::server::{Heard, Reply, Server, TestClock};

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const ACR: &str = "acme.azurecr.io";
const GAR: &str = "europe-docker.pkg.dev";

/// A file that Kubernetes keeps a token in.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("haldane-identity-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn login(cloud: &str, username: &str, password: &str) -> Login {
    Login { from: format!("{cloud} identity"), username: username.to_owned(), password: password.to_owned() }
}

/// A form as its fields.
fn fields(body: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    body.split('&').map(|field| field.split_once('=').unwrap()).map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn own(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

// ---- AWS

/// STS takes a role and a token unsigned; ECR takes what the keys of STS have signed.
fn aws(heard: &Heard, expires: i64) -> Reply {
    if heard.body.starts_with("Action=") {
        let asked = own(&[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", "arn:aws:iam::123456789012:role/haldane"),
            ("RoleSessionName", "haldane"),
            ("WebIdentityToken", "projected&token"),
        ]);
        if heard.line() != "POST /" || heard.header("content-type") != "application/x-www-form-urlencoded" || fields(&heard.body) != asked {
            return Reply::new(
                403,
                &[],
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>s3cret</Message></Error></ErrorResponse>",
            );
        }
        let keys = "<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>se/cret</SecretAccessKey><SessionToken>ses+sion==</SessionToken>\
                    <Expiration>2026-11-06T09:49:37Z</Expiration>";
        let result = format!("<AssumeRoleWithWebIdentityResult><Credentials>{keys}</Credentials></AssumeRoleWithWebIdentityResult>");
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{result}</AssumeRoleWithWebIdentityResponse>"
        );
        return Reply::new(200, &[], body);
    }
    let names = ["content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"];
    let headers = names.map(|name| (name, heard.header(name)));
    let signer = Signer { key_id: "ASIA1", secret: "se/cret", region: "eu-west-1", service: "ecr" };
    let what = Signed { method: "POST", path: "/", query: "", headers: &headers, body: "{}" };
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", heard.header("x-amz-date")).unwrap();
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    let right = heard.line() == "POST /"
        && heard.body == "{}"
        && heard.header("x-amz-target") == "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
        && heard.header("content-type") == "application/x-amz-json-1.1"
        && heard.header("x-amz-security-token") == "ses+sion=="
        && heard.header("authorization") == signer.authorization(&what, at);
    if !right {
        return Reply::new(400, &[], r#"{"__type":"InvalidSignatureException","message":"s3cret"}"#);
    }
    #[expect(clippy::cast_precision_loss, reason = "a moment of this century")]
    let expires = expires as f64 + 0.5;
    let token = STANDARD.encode("AWS:pass:word");
    Reply::new(
        200,
        &[],
        json!({"authorizationData": [{"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": "x"}]}).to_string(),
    )
}

fn ecr(server: &Server, file: &TokenFile, clock: &Arc<TestClock>) -> Ecr {
    let base = format!("http://{}", server.host());
    let role = "arn:aws:iam::123456789012:role/haldane".to_owned();
    Ecr::new(role, file.0.clone(), None, clock.clone()).unwrap().at(Some(base.clone()), Some(base))
}

#[tokio::test]
async fn aws_gives_a_login_for_our_token_and_it_is_kept_until_shortly_before_it_expires() {
    let clock = TestClock::new();
    let expires = clock.now().as_second() + 43200;
    let server = Server::start(move |heard| aws(heard, expires)).await;
    let file = TokenFile::new("projected&token\n");
    let cloud = ecr(&server, &file, &clock);
    assert_eq!(cloud.login(ECR).await, Ok(Some(login("AWS", "AWS", "pass:word"))));
    assert_eq!(server.lines(), ["POST /", "POST /"]);
    clock.advance(43200 - 300);
    assert_eq!(cloud.login(ECR).await, Ok(Some(login("AWS", "AWS", "pass:word"))));
    assert_eq!(server.lines().len(), 0);
    clock.advance(1);
    assert_eq!(cloud.login(ECR).await, Ok(Some(login("AWS", "AWS", "pass:word"))));
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_token_that_aws_does_not_know_is_refused_without_its_words() {
    let clock = TestClock::new();
    let server = Server::start(|heard| aws(heard, 0)).await;
    let file = TokenFile::new("of somebody else");
    let error = ecr(&server, &file, &clock).login(ECR).await.unwrap_err();
    assert_eq!(error, CloudError::Refused { cloud: "AWS", host: ECR.to_owned(), said: "HTTP status 403".to_owned() });
    let nowhere = Ecr::new(String::new(), PathBuf::from("/nowhere/token"), None, clock).unwrap();
    assert!(matches!(nowhere.login(ECR).await, Err(CloudError::NoIdentity { .. })));
}

// ---- Google

#[tokio::test]
async fn google_gives_a_token_by_its_metadata_server() {
    let server = Server::start(|heard| {
        let right = heard.line() == "GET /computeMetadata/v1/instance/service-accounts/default/token";
        if !right || heard.header("metadata-flavor") != "Google" {
            return Reply::empty(403, &[]);
        }
        let body = json!({"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"});
        Reply::new(200, &[("Metadata-Flavor", "Google")], body.to_string())
    })
    .await;
    let clock = TestClock::new();
    let cloud = Gar::new(clock.clone()).unwrap().at(format!("http://{}", server.host()));
    assert_eq!(cloud.login(GAR).await, Ok(Some(login("Google Cloud", "oauth2accesstoken", "ya29.x"))));
    clock.advance(3298);
    assert_eq!(cloud.login(GAR).await, Ok(Some(login("Google Cloud", "oauth2accesstoken", "ya29.x"))));
    assert_eq!(server.lines().len(), 1);
    clock.advance(1);
    cloud.login(GAR).await.unwrap();
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn who_is_not_the_metadata_server_is_not_believed() {
    let server = Server::start(|_| Reply::new(200, &[], r#"{"access_token": "t", "expires_in": 3599}"#)).await;
    let cloud = Gar::new(TestClock::new()).unwrap().at(format!("http://{}", server.host()));
    let error = cloud.login(GAR).await.unwrap_err();
    assert!(error.to_string().contains("not the metadata server"), "{error}");
}

// ---- Azure

fn azure(heard: &Heard) -> Reply {
    let asked = fields(&heard.body);
    let entra = own(&[
        ("grant_type", "client_credentials"),
        ("client_id", "client"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", "projected"),
        ("scope", "https://containerregistry.azure.net/.default"),
    ]);
    let exchange = own(&[("grant_type", "access_token"), ("service", ACR), ("tenant", "tenant"), ("access_token", "of entra")]);
    match heard.line().as_str() {
        "POST /tenant/oauth2/v2.0/token" if asked == entra => Reply::new(200, &[], r#"{"access_token": "of entra", "expires_in": 86399}"#),
        "POST /oauth2/exchange" if asked == exchange => Reply::new(200, &[], r#"{"refresh_token": "of acr"}"#),
        _ => Reply::new(401, &[], r#"{"error_description": "s3cret"}"#),
    }
}

fn acr(server: &Server, file: &TokenFile, clock: &Arc<TestClock>) -> Acr {
    let base = format!("http://{}", server.host());
    let cloud = Acr::new("tenant".to_owned(), "client".to_owned(), file.0.clone(), None, clock.clone()).unwrap();
    cloud.at(Some(format!("{base}/")), Some(base))
}

#[tokio::test]
async fn azure_gives_a_token_of_the_registry_for_ours() {
    let server = Server::start(azure).await;
    let file = TokenFile::new("projected");
    let clock = TestClock::new();
    let cloud = acr(&server, &file, &clock);
    let given = Some(login("Azure", "00000000-0000-0000-0000-000000000000", "of acr"));
    assert_eq!(cloud.login(ACR).await.as_ref(), Ok(&given));
    assert_eq!(server.lines(), ["POST /tenant/oauth2/v2.0/token", "POST /oauth2/exchange"]);
    clock.advance(3299);
    assert_eq!(cloud.login(ACR).await.as_ref(), Ok(&given));
    assert_eq!(server.lines().len(), 0);
    clock.advance(1);
    assert_eq!(cloud.login(ACR).await.as_ref(), Ok(&given));
    assert_eq!(server.lines().len(), 2);
    let other = TokenFile::new("of somebody else");
    let error = acr(&server, &other, &clock).login(ACR).await.unwrap_err();
    assert_eq!(error, CloudError::Refused { cloud: "Azure", host: ACR.to_owned(), said: "HTTP status 401".to_owned() });
}

// ---- all

#[tokio::test]
async fn a_cloud_says_nothing_of_registries_that_are_not_its_own() {
    let server = Server::start(|_| Reply::empty(500, &[])).await;
    let (file, clock) = (TokenFile::new("projected"), TestClock::new());
    let base = format!("http://{}", server.host());
    let clouds: [(Box<dyn Cloud>, &str); 3] = [
        (Box::new(ecr(&server, &file, &clock)), ECR),
        (Box::new(Gar::new(clock.clone()).unwrap().at(base)), GAR),
        (Box::new(acr(&server, &file, &clock)), ACR),
    ];
    for (cloud, its) in &clouds {
        for host in [ECR, GAR, ACR, "ghcr.io", "docker.io", "azurecr.io", "evilgcr.io", "docker.pkg.dev"] {
            if host != *its {
                assert_eq!(cloud.login(host).await, Ok(None), "{its}: {host}");
            }
        }
    }
    assert_eq!(server.lines().len(), 0);
    for (cloud, its) in &clouds {
        let error = cloud.login(its).await.unwrap_err();
        assert!(matches!(&error, CloudError::Ill { said, .. } if said == "HTTP status 500"), "{error}");
        assert_eq!(server.lines().len(), 1, "no retries, and an error is not kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_does_not_answer_is_slow() {
    let server = Server::start(|_| Reply::Silence).await;
    let cloud = Gar::new(TestClock::new()).unwrap().at(format!("http://{}", server.host()));
    let slow = CloudError::Slow { cloud: "Google Cloud", host: GAR.to_owned(), limit: Duration::from_secs(10) };
    assert_eq!(cloud.login(GAR).await, Err(slow));
}

#[tokio::test]
async fn an_answer_without_what_was_asked_for_is_told() {
    let clock = TestClock::new();
    let file = TokenFile::new("projected");
    let server = Server::start(|_| Reply::new(200, &[("Metadata-Flavor", "Google")], "{}")).await;
    let clouds: [(Box<dyn Cloud>, &str, &str); 3] = [
        (Box::new(ecr(&server, &file, &clock)), ECR, "STS gave no AccessKeyId"),
        (Box::new(Gar::new(clock.clone()).unwrap().at(format!("http://{}", server.host()))), GAR, "other fields"),
        (Box::new(acr(&server, &file, &clock)), ACR, "other fields"),
    ];
    for (cloud, its, means) in &clouds {
        let error = cloud.login(its).await.unwrap_err();
        assert!(matches!(&error, CloudError::Unreadable { said, .. } if said.contains(means)), "{error}");
    }
}

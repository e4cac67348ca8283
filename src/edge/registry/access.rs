//! What opens a repository: nothing, name and word, or a token that some server gave for them, and for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::challenge::Challenge;
use super::oci::fault;
use super::wire::{Wire, WireError};
use super::{ImageRef, Login, RegistryError};

/// Most that the answer of a token server may have: the longest token that is known (ECR) has 4 KiB.
pub(super) const TOKEN_CAP: usize = 64 * 1024;
/// Most bytes of a token that is used: servers take 8–16 KiB of headers. 1024 remembered × 16 KiB = 16 MiB at worst.
const TOKEN: usize = 16 * 1024;
/// How long a token lives that does not say (the token specification of distribution).
const UNSAID: u64 = 60;
/// A token is not used in its last seconds: a question may take that long.
const MARGIN: u64 = 10;
/// After that everything is asked anew: what a registry once showed, it may have closed.
const LONGEST: u64 = 3600;

/// Whose access to what: a digest of host, path and login, so that no word stays in memory as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(image: &ImageRef, login: Option<&Login>) -> Self {
        let mut sum = Sha256::new();
        let (username, password) = login.map_or(("", ""), |login| (&login.username, &login.password));
        for part in [&image.host, &image.path, username, password] {
            // The length first, so that no two lists of parts look alike.
            sum.update(part.len().to_be_bytes());
            sum.update(part);
        }
        sum.update([u8::from(login.is_some())]);
        Self(sum.finalize().into())
    }
}

/// What opens it.
#[derive(Clone)]
pub(super) struct Access {
    /// Of `Authorization`; none: it stands open.
    pub(super) header: Option<HeaderValue>,
    /// Not used from then on.
    pub(super) until: Timestamp,
    /// It has opened it before: a 404 means that the tag is not there, and not that we may not see it.
    pub(super) proven: bool,
}

impl Access {
    pub(super) fn open(now: Timestamp) -> Self {
        Self::new(None, LONGEST, now)
    }

    fn new(header: Option<HeaderValue>, seconds: u64, now: Timestamp) -> Self {
        let seconds = i64::try_from(seconds.min(LONGEST)).unwrap_or_default();
        Self { header, until: now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now), proven: false }
    }

    /// Name and word; none: they cannot be written in a header.
    fn basic(login: &Login, now: Timestamp) -> Option<Self> {
        Some(Self::new(Some(basic(login)?), LONGEST, now))
    }
}

fn basic(login: &Login) -> Option<HeaderValue> {
    let pair = format!("{}:{}", login.username, login.password);
    secret(&format!("Basic {}", STANDARD.encode(pair)))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Answers a challenge: the access that this login gets, and none if it gets none.
pub(super) async fn grant(
    wire: &Wire,
    insecure: &BTreeSet<String>,
    image: &ImageRef,
    challenge: &Challenge,
    login: Option<&Login>,
    now: Timestamp,
) -> Result<Option<Access>, RegistryError> {
    let Challenge::Bearer { realm, service, scope } = challenge else {
        return Ok(login.and_then(|login| Access::basic(login, now)));
    };
    let uri = token_uri(insecure, image, realm, service.as_deref(), scope.as_deref()).map_err(|said| unreadable(image, said))?;
    let mut request = Request::get(&uri);
    if let Some(login) = login {
        let Some(value) = basic(login) else { return Ok(None) };
        request = request.header(AUTHORIZATION, value);
    }
    let request =
        request.body(Full::<Bytes>::default()).map_err(|_| unreadable(image, "its token server has no valid address".to_owned()))?;
    let server = uri.host().unwrap_or_default();
    let answer = wire.ask(request, TOKEN_CAP).await.map_err(|error| match error {
        WireError::Broken(said) => RegistryError::Ill { host: image.host.clone(), said: format!("its token server {server}: {said}") },
        WireError::TooLong(limit) => unreadable(image, format!("its token server {server} answered more than {limit} bytes")),
    })?;
    match answer.status {
        StatusCode::OK => {
            let token = token(&answer.body).map_err(|said| unreadable(image, format!("its token server {server}: {said}")))?;
            Ok(Some(Access::new(Some(token.0), token.1, now)))
        }
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(None),
        _ => Err(fault(image, &answer, &format!("its token server {server}"), now)),
    }
}

fn unreadable(image: &ImageRef, said: String) -> RegistryError {
    RegistryError::Unreadable { host: image.host.clone(), said }
}

fn token_uri(
    insecure: &BTreeSet<String>,
    image: &ImageRef,
    realm: &str,
    service: Option<&str>,
    scope: Option<&str>,
) -> Result<Uri, String> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let scope = scope.map_or_else(|| format!("repository:{}:pull", image.path), str::to_owned);
    let realm = realm.split('#').next().unwrap_or(realm);
    let joint = if realm.contains('?') { '&' } else { '?' };
    let service = service.map(|service| format!("service={}&", encoded(service))).unwrap_or_default();
    let uri: Uri = format!("{realm}{joint}{service}scope={}", encoded(&scope))
        .parse()
        .map_err(|_| "it names a token server without a valid address".to_owned())?;
    if may_ask(insecure, &image.host, &uri) {
        return Ok(uri);
    }
    let server = uri.authority().map_or("nowhere", http::uri::Authority::as_str);
    Err(format!("it sends Haldane to {server} for a token, but not by https; nothing was sent there"))
}

/// Whether a registry may send us there: by TLS always; without only if both are named as insecure.
pub(super) fn may_ask(insecure: &BTreeSet<String>, from: &str, to: &Uri) -> bool {
    // A name and a word before an `@` would be sent nowhere, but what comes after it may look like a host.
    let Some(authority) = to.authority().filter(|authority| !authority.as_str().contains('@')) else { return false };
    match to.scheme_str() {
        Some("https") => true,
        Some("http") => insecure.contains(from) && insecure.contains(authority.as_str()),
        _ => false,
    }
}

#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// The header, and for how many seconds it is used.
fn token(body: &[u8]) -> Result<(HeaderValue, u64), &'static str> {
    let answer: Granted = serde_json::from_slice(body).map_err(|_| "its answer is no token")?;
    let given = |token: &String| !token.is_empty();
    let token = answer.token.filter(given).or(answer.access_token.filter(given)).ok_or("its answer has no token")?;
    if token.len() > TOKEN {
        return Err("its token is longer than 16 KiB");
    }
    let header = secret(&format!("Bearer {token}")).ok_or("its token cannot be written in a header")?;
    let lives = answer.expires_in.filter(|seconds| *seconds > 0).unwrap_or(UNSAID);
    Ok((header, lives.saturating_sub(MARGIN).max(lives / 2)))
}

/// How long a `Retry-After` of a 429 may keep us silent; without one, or beyond it, we come back by ourselves.
const SILENCE: Duration = Duration::from_mins(1);
const LONGEST_SILENCE: Duration = Duration::from_hours(1);

/// Until when nothing is asked, by a `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
pub(super) fn silent_until(header: Option<&HeaderValue>, now: Timestamp) -> Timestamp {
    let after = |wait: Duration| now.saturating_add(SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(now);
    let text = header.and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds = text.and_then(|text| text.parse().ok()).map(|seconds| after(Duration::from_secs(seconds).min(LONGEST_SILENCE)));
    let date = || jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text?).ok();
    let until = seconds.or_else(date).unwrap_or_else(|| after(SILENCE));
    until.clamp(after(Duration::from_secs(1)), after(LONGEST_SILENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-06T08:49:37Z".parse().unwrap()
    }

    #[test]
    fn a_token_is_taken_under_both_names_and_not_used_to_its_last_second() {
        for (body, means) in [
            (r#"{"token": "a"}"#, Ok(("Bearer a", 50))),
            (r#"{"access_token": "b", "expires_in": 300, "x": [1]}"#, Ok(("Bearer b", 290))),
            (r#"{"token": "", "access_token": "b", "expires_in": 12}"#, Ok(("Bearer b", 6))),
            (r#"{"token": "a", "access_token": "b", "expires_in": 0, "issued_at": "never"}"#, Ok(("Bearer a", 50))),
            (r#"{"token": "a", "expires_in": null}"#, Ok(("Bearer a", 50))),
            (r#"{"token": ""}"#, Err("its answer has no token")),
            (r#"{"token": "a\nb"}"#, Err("its token cannot be written in a header")),
            ("<html>", Err("its answer is no token")),
        ] {
            let taken = token(body.as_bytes());
            assert_eq!(
                taken.as_ref().map(|(header, seconds)| (header.to_str().unwrap(), *seconds)).map_err(|error| *error),
                means,
                "{body}"
            );
        }
        assert!(token(format!(r#"{{"token": "{}"}}"#, "a".repeat(TOKEN + 1)).as_bytes()).is_err());
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let login = Login { from: "Secret a".into(), username: "ada".into(), password: "s3cret".into() };
        let header = Access::basic(&login, now()).unwrap().header.unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic YWRhOnMzY3JldA==");
        assert!(!format!("{header:?} {login:?}").contains("YWRh"));
        assert!(!format!("{login:?}").contains("s3cret"));
    }

    #[test]
    fn a_realm_gets_service_and_scope_and_must_be_as_safe_as_its_registry() {
        let insecure = BTreeSet::from(["a.io:5000".to_owned(), "t.io".to_owned()]);
        let of = |host: &str, realm: &str, service: Option<&str>, scope: Option<&str>| {
            let image = ImageRef::new(&format!("{host}/acme/shop"), "v1").unwrap();
            token_uri(&insecure, &image, realm, service, scope).map(|uri| uri.to_string())
        };
        let scope = "scope=repository%3Aacme%2Fshop%3Apull";
        assert_eq!(of("b.io", "https://t.io/token", Some("a b"), None), Ok(format!("https://t.io/token?service=a%20b&{scope}")));
        assert_eq!(of("b.io", "https://t.io/token?x=1#y", None, Some("a:b")), Ok("https://t.io/token?x=1&scope=a%3Ab".to_owned()));
        assert_eq!(of("a.io:5000", "http://t.io/token", None, None), Ok(format!("http://t.io/token?{scope}")));
        for (host, realm) in [
            ("b.io", "http://t.io/token"),
            ("a.io:5000", "http://u.io/token"),
            ("b.io", "/token"),
            ("b.io", "https://x@t.io/token"),
            ("b.io", "ftp://t.io/"),
            ("b.io", "https:///token"),
        ] {
            assert!(of(host, realm, None, None).is_err(), "{host} {realm}");
        }
    }

    #[test]
    fn a_registry_that_wants_silence_gets_it_within_reason() {
        let until = |text: &str| silent_until(Some(&HeaderValue::from_str(text).unwrap()), now()).to_string();
        for (text, means) in [
            ("120", "2026-11-06T08:51:37Z"),
            (" 5 ", "2026-11-06T08:49:42Z"),
            ("0", "2026-11-06T08:49:38Z"),
            ("99999999999", "2026-11-06T09:49:37Z"),
            ("Fri, 06 Nov 2026 08:50:00 GMT", "2026-11-06T08:50:00Z"),
            ("Sat, 06 Nov 2027 08:50:00 GMT", "2026-11-06T09:49:37Z"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "2026-11-06T08:49:38Z"),
            ("soon", "2026-11-06T08:50:37Z"),
        ] {
            assert_eq!(until(text), means, "{text}");
        }
        assert_eq!(silent_until(None, now()).to_string(), "2026-11-06T08:50:37Z");
    }

    #[test]
    fn one_login_has_one_key_for_one_repository() {
        let image = |name: &str| ImageRef::new(name, "v1").unwrap();
        let login = |username: &str, password: &str| Login { from: String::new(), username: username.into(), password: password.into() };
        let key = |name: &str, login: Option<&Login>| Key::new(&image(name), login);
        let ab = login("a", "b");
        assert_eq!(key("a.io/x", Some(&ab)), key("a.io/x", Some(&Login { from: "elsewhere".into(), ..ab.clone() })));
        for other in [key("a.io/x", None), key("a.io/y", Some(&ab)), key("b.io/x", Some(&ab)), key("a.io/x", Some(&login("ab", "")))] {
            assert_ne!(key("a.io/x", Some(&ab)), other);
        }
        assert_ne!(key("a.io/x", None), key("a.io/x", Some(&login("", ""))));
    }
}

//! A registry that speaks the OCI distribution protocol: one HEAD says which digest a tag names; manifest and config, once for
//! each digest, say what it was built from.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{ACCEPT, AUTHORIZATION, HeaderName, LOCATION, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::access::{Access, Key, grant, may_ask, silent_until};
use super::challenge::{Challenge, challenge};
use super::manifest::{self, Manifest};
use super::memory::Memory;
use super::wire::{Answer, SetupError, Wire, WireError};
use super::{ImageRef, Login, Origin, Registry, RegistryError};
use crate::clock::Clock;
use crate::model::source::Digest;

/// For one call with all that it takes: login, redirects, every platform of an index. As long as for a call to the API server.
pub const LIMIT: Duration = Duration::from_secs(10);

/// The size that every registry takes of a manifest (the distribution specification).
const MANIFEST_CAP: usize = 4 * 1024 * 1024;
/// A config has a line for each layer and label: kilobytes in practice.
const CONFIG_CAP: usize = 4 * 1024 * 1024;
/// Platforms that are read at once: 4 × 4 MiB = 16 MiB at worst.
const AT_ONCE: usize = 4;
/// Redirects of a blob that are followed: Docker Hub and GHCR need one.
const REDIRECTS: usize = 3;
/// Digests whose origin is remembered: 1024 × ~1.3 KiB = 1.3 MiB at worst.
const ORIGINS: usize = 1024;
/// Repositories × logins whose access is remembered; arithmetic in `access`.
const ACCESSES: usize = 1024;
/// Accounts at registries that want to be left alone: 1024 × ~200 B.
const SILENCES: usize = 1024;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What an administrator sets for all registries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Hosts, with their port as in the image, that are spoken to without TLS: `localhost:5000`. No other ever is.
    pub insecure: BTreeSet<String>,
    /// CAs that are trusted besides the system's, in PEM.
    pub extra_ca: Option<Vec<u8>>,
}

/// Asks registries over HTTP. What it remembers (access, origins) is bounded, and never on disk.
pub struct OciRegistry {
    wire: Wire,
    insecure: BTreeSet<String>,
    clock: Arc<dyn Clock>,
    accesses: Memory<Key, Access>,
    origins: Memory<(String, Digest), Origin>,
    /// Until when a registry wants no more questions of those names: its limits are of an account, or of an address.
    silences: Memory<(String, Vec<String>), Timestamp>,
}

/// What is asked of a repository.
#[derive(Clone, Copy)]
enum Question<'a> {
    Head(&'a str),
    Manifest(&'a str),
    Blob(&'a Digest),
    /// Whether it is a registry, and who may ask.
    Root,
}

/// What an answer means.
enum Verdict {
    There(Answer),
    Absent,
    /// Not for this access, or it is none (any more).
    Refused(Option<Challenge>),
    /// A HEAD that says nothing: its GET does.
    Mute,
}

/// What is known of a repository without a login.
enum Door {
    Unseen,
    Shut,
    Asks(Challenge),
}

impl OciRegistry {
    /// A client for all registries.
    ///
    /// # Errors
    /// When the extra CA cannot be read.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let insecure = settings.insecure.iter().map(|host| host.to_ascii_lowercase()).collect();
        let wire = Wire::new(settings.extra_ca.as_deref())?;
        Ok(Self { wire, insecure, clock, accesses: Memory::of(ACCESSES), origins: Memory::of(ORIGINS), silences: Memory::of(SILENCES) })
    }

    async fn tag(&self, image: &ImageRef, logins: &[Login]) -> Result<Option<Digest>, RegistryError> {
        let Some(answer) = self.ask(image, logins, Question::Head(&image.tag)).await? else { return Ok(None) };
        if !answer.body.is_empty() {
            return Ok(Some(digest_of(&answer.body)));
        }
        if let Some(digest) = stated(&answer) {
            return Ok(Some(digest));
        }
        // A registry need not state it, nor by SHA-256; what it is the digest of says it as well.
        let answer = self.ask(image, logins, Question::Manifest(&image.tag)).await?;
        Ok(answer.map(|answer| digest_of(&answer.body)))
    }

    async fn origin_of(&self, image: &ImageRef, digest: &Digest, logins: &[Login]) -> Result<Origin, RegistryError> {
        let key = (image.repository(), digest.clone());
        if let Some(origin) = self.origins.get(&key) {
            return Ok(origin);
        }
        let origin = match self.manifest(image, digest, logins).await? {
            Manifest::Image { says, config } => self.of_image(image, says, config, logins).await?,
            Manifest::Index { says, .. } if says.is_whole() => says,
            Manifest::Index { says, platforms } => {
                let each: Vec<_> = platforms.iter().map(|platform| self.of_platform(image, platform, logins)).collect();
                let all: Vec<Origin> = stream::iter(each).buffered(AT_ONCE).try_collect().await?;
                says.or(Origin::agreed(&all))
            }
        };
        self.origins.put(key, origin.clone());
        Ok(origin)
    }

    async fn of_platform(&self, image: &ImageRef, digest: &Digest, logins: &[Login]) -> Result<Origin, RegistryError> {
        match self.manifest(image, digest, logins).await? {
            Manifest::Image { says, config } => self.of_image(image, says, config, logins).await,
            // Nobody builds an index in an index; what it says of itself counts, and what is below it is not looked for.
            Manifest::Index { says, .. } => Ok(says),
        }
    }

    async fn of_image(&self, image: &ImageRef, says: Origin, config: Option<Digest>, logins: &[Login]) -> Result<Origin, RegistryError> {
        let Some(config) = config.filter(|_| !says.is_whole()) else { return Ok(says) };
        let bytes = self.content(image, &config, logins, Question::Blob(&config)).await?;
        let labels = Origin::of_config(&bytes).map_err(|said| unreadable(image, said))?;
        Ok(says.or(labels))
    }

    async fn manifest(&self, image: &ImageRef, digest: &Digest, logins: &[Login]) -> Result<Manifest, RegistryError> {
        let bytes = self.content(image, digest, logins, Question::Manifest(digest.as_str())).await?;
        Manifest::parse(&bytes).map_err(|said| unreadable(image, said))
    }

    /// What has this digest, verified: a registry, or whoever stands between, cannot give us another image's origin.
    async fn content(&self, image: &ImageRef, digest: &Digest, logins: &[Login], question: Question<'_>) -> Result<Bytes, RegistryError> {
        let answer = self.ask(image, logins, question).await?;
        let answer = answer.ok_or_else(|| unreadable(image, format!("{digest} of {} is not there (any more)", image.path)))?;
        if digest_of(&answer.body) == *digest {
            return Ok(answer.body);
        }
        Err(unreadable(image, format!("what it gives for {digest} of {} has another digest", image.path)))
    }

    /// The answer, unless the registry wanted to be left alone by these logins: whoever asks next is told so without a call.
    async fn unless_silent<T>(
        &self,
        image: &ImageRef,
        logins: &[Login],
        question: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let who = (image.host.clone(), logins.iter().map(|login| login.username.clone()).collect());
        if let Some(until) = self.silences.get(&who).filter(|until| *until > self.clock.now()) {
            return Err(RegistryError::Limited { host: image.host.clone(), until });
        }
        let answer = within(image, question).await;
        if let Err(RegistryError::Limited { until, .. }) = &answer {
            self.silences.put(who, *until);
        }
        answer
    }

    /// The answer that one of the logins gets, else that without one; none: it is not there.
    async fn ask(&self, image: &ImageRef, logins: &[Login], question: Question<'_>) -> Result<Option<Answer>, RegistryError> {
        let candidates = || logins.iter().map(Some).chain([None]);
        let mut door = Door::Unseen;
        // What has worked and still lives comes first: a poll then costs one request, however many logins there are.
        for login in candidates() {
            let key = Key::new(image, login);
            let Some(access) = self.accesses.get(&key) else { continue };
            if access.until > self.clock.now() {
                match self.exchange(image, &access, question, true).await? {
                    Verdict::There(answer) => return Ok(self.remember(key, access, Some(answer))),
                    Verdict::Absent => return Ok(self.remember(key, access, None)),
                    Verdict::Refused(asks) => door = asks.map_or(door, Door::Asks),
                    Verdict::Mute => {}
                }
            }
            self.accesses.forget(&key);
        }
        for login in candidates() {
            let Some(access) = self.knock(image, login, question, &mut door).await? else { continue };
            match access {
                (access, Verdict::There(answer)) => return Ok(self.remember(Key::new(image, login), access, Some(answer))),
                (access, Verdict::Absent) => return Ok(self.remember(Key::new(image, login), access, None)),
                (_, Verdict::Refused(_) | Verdict::Mute) => {}
            }
        }
        let tried: Vec<&str> = logins.iter().map(|login| login.from.as_str()).collect();
        let tried = if tried.is_empty() { "no login".to_owned() } else { tried.join(", ") };
        Err(RegistryError::Denied { host: image.host.clone(), path: image.path.clone(), tried })
    }

    /// Asks with a fresh access of this login, if it gets one.
    async fn knock(
        &self,
        image: &ImageRef,
        login: Option<&Login>,
        question: Question<'_>,
        door: &mut Door,
    ) -> Result<Option<(Access, Verdict)>, RegistryError> {
        if let Door::Unseen = door {
            let access = Access::open(self.clock.now());
            match self.exchange(image, &access, question, false).await? {
                Verdict::Refused(asks) => *door = asks.map_or(Door::Shut, Door::Asks),
                // Some hide from strangers that there is something, so whoever has a name says it before believing them.
                Verdict::Absent if login.is_some() => match self.exchange(image, &access, Question::Root, false).await? {
                    Verdict::Refused(Some(asks)) => *door = Door::Asks(asks),
                    _ => return Ok(Some((access, Verdict::Absent))),
                },
                verdict => return Ok(Some((access, verdict))),
            }
        }
        let Door::Asks(challenge) = &*door else { return Ok(None) };
        let Some(access) = grant(&self.wire, &self.insecure, image, challenge, login, self.clock.now()).await? else {
            return Ok(None);
        };
        let verdict = self.exchange(image, &access, question, false).await?;
        Ok(Some((access, verdict)))
    }

    fn remember(&self, key: Key, access: Access, answer: Option<Answer>) -> Option<Answer> {
        if !access.proven {
            self.accesses.put(key, Access { proven: true, ..access });
        }
        answer
    }

    /// One question with this access; by GET as well where HEAD leaves open what it means. `old`: it was remembered.
    async fn exchange(&self, image: &ImageRef, access: &Access, question: Question<'_>, old: bool) -> Result<Verdict, RegistryError> {
        let verdict = self.judge(image, self.send(image, access, question).await?, access, question, old)?;
        let (Verdict::Mute, Question::Head(tag)) = (&verdict, question) else { return Ok(verdict) };
        let question = Question::Manifest(tag);
        self.judge(image, self.send(image, access, question).await?, access, question, old)
    }

    fn judge(
        &self,
        image: &ImageRef,
        (answer, moved): (Answer, bool),
        access: &Access,
        question: Question<'_>,
        old: bool,
    ) -> Result<Verdict, RegistryError> {
        let head = matches!(question, Question::Head(_));
        match answer.status {
            StatusCode::OK => Ok(Verdict::There(answer)),
            // Where blobs are stored nobody knows of logins; what it refuses, the registry did not prepare well.
            status if moved => Err(ill(image, format!("the place where it keeps blobs answered {}", status.as_u16()))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Verdict::Refused(challenge(&answer.headers))),
            // ECR's public registry says so of a token that has run out.
            StatusCode::BAD_REQUEST if old && access.header.is_some() => Ok(Verdict::Refused(None)),
            // Some hide so what is not for us, and a HEAD has no body that would say it.
            StatusCode::NOT_FOUND if head && !access.proven => Ok(Verdict::Mute),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED if head => Ok(Verdict::Mute),
            StatusCode::NOT_FOUND if codes(&answer.body).iter().any(|code| matches!(code.as_str(), "DENIED" | "UNAUTHORIZED")) => {
                Ok(Verdict::Refused(challenge(&answer.headers)))
            }
            StatusCode::NOT_FOUND => Ok(Verdict::Absent),
            _ => Err(fault(image, &answer, "it", self.clock.now())),
        }
    }

    /// The answer, and whether another place than the registry gave it.
    async fn send(&self, image: &ImageRef, access: &Access, question: Question<'_>) -> Result<(Answer, bool), RegistryError> {
        let scheme = if self.insecure.contains(&image.host) { "http" } else { "https" };
        let root = format!("{scheme}://{}/v2/", image.api());
        let base = format!("{root}{}", image.path);
        let (method, uri, cap) = match question {
            Question::Head(reference) => (Method::HEAD, format!("{base}/manifests/{reference}"), MANIFEST_CAP),
            Question::Manifest(reference) => (Method::GET, format!("{base}/manifests/{reference}"), MANIFEST_CAP),
            Question::Blob(digest) => (Method::GET, format!("{base}/blobs/{digest}"), CONFIG_CAP),
            Question::Root => (Method::GET, root, CONFIG_CAP),
        };
        let blob = matches!(question, Question::Blob(_));
        let mut uri: Uri = uri.parse().map_err(|_| unreadable(image, "its name is no address".to_owned()))?;
        let (mut home, mut moved) = (true, false);
        for _ in 0..=REDIRECTS {
            let mut request = Request::builder().method(method.clone()).uri(&uri);
            if !blob {
                request = request.header(ACCEPT, manifest::ACCEPT);
            }
            if let Some(header) = access.header.as_ref().filter(|_| home) {
                request = request.header(AUTHORIZATION, header);
            }
            let request = request.body(Full::default()).map_err(|_| unreadable(image, "its name is no address".to_owned()))?;
            let answer = self.wire.ask(request, cap).await.map_err(|error| match error {
                WireError::Broken(said) => ill(image, said),
                WireError::TooLong(limit) => unreadable(image, format!("its answer is longer than {limit} bytes")),
            })?;
            if !blob || !is_redirect(answer.status) {
                return Ok((answer, moved));
            }
            let next = self.redirected(image, &uri, &answer).map_err(|said| unreadable(image, said.to_owned()))?;
            // Once away, it is not sent any more, even if the way leads back.
            home = home && next.scheme() == uri.scheme() && next.authority() == uri.authority();
            moved = moved || !home;
            uri = next;
        }
        Err(unreadable(image, format!("it redirects a blob more than {REDIRECTS} times")))
    }

    fn redirected(&self, image: &ImageRef, from: &Uri, answer: &Answer) -> Result<Uri, &'static str> {
        const NOWHERE: &str = "it redirects a blob without saying where";
        let text = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or(NOWHERE)?;
        let to: Uri = text.parse().map_err(|_| NOWHERE)?;
        let to = match (to.scheme(), to.path_and_query()) {
            (Some(_), _) => to,
            (None, Some(path)) if to.authority().is_none() && !text.starts_with("//") => {
                let mut parts = from.clone().into_parts();
                parts.path_and_query = Some(path.clone());
                Uri::from_parts(parts).map_err(|_| NOWHERE)?
            }
            _ => return Err(NOWHERE),
        };
        if may_ask(&self.insecure, &image.host, &to) { Ok(to) } else { Err("it redirects a blob to a place without TLS") }
    }
}

impl Registry for OciRegistry {
    fn digest<'a>(&'a self, image: &'a ImageRef, logins: &'a [Login]) -> BoxFuture<'a, Result<Option<Digest>, RegistryError>> {
        Box::pin(self.unless_silent(image, logins, self.tag(image, logins)))
    }

    fn origin<'a>(&'a self, image: &'a ImageRef, digest: &'a Digest, logins: &'a [Login]) -> BoxFuture<'a, Result<Origin, RegistryError>> {
        Box::pin(self.unless_silent(image, logins, self.origin_of(image, digest, logins)))
    }
}

async fn within<T>(image: &ImageRef, future: impl Future<Output = Result<T, RegistryError>>) -> Result<T, RegistryError> {
    let slow = |_| RegistryError::Slow { host: image.host.clone(), limit: LIMIT };
    tokio::time::timeout(LIMIT, future).await.map_err(slow)?
}

/// An answer that is neither what was asked for nor about access. `who`: it, or its token server.
pub(super) fn fault(image: &ImageRef, answer: &Answer, who: &str, now: Timestamp) -> RegistryError {
    let status = answer.status;
    if status == StatusCode::TOO_MANY_REQUESTS {
        return RegistryError::Limited { host: image.host.clone(), until: silent_until(answer.headers.get(RETRY_AFTER), now) };
    }
    let codes = codes(&answer.body).join(", ");
    let codes = if codes.is_empty() { codes } else { format!(": {codes}") };
    let said = format!("{who} answered {}{codes}", status.as_u16());
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT { ill(image, said) } else { unreadable(image, said) }
}

fn ill(image: &ImageRef, said: String) -> RegistryError {
    RegistryError::Ill { host: image.host.clone(), said }
}

fn unreadable(image: &ImageRef, said: String) -> RegistryError {
    RegistryError::Unreadable { host: image.host.clone(), said }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn stated(answer: &Answer) -> Option<Digest> {
    answer.headers.get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()).and_then(Digest::parse)
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Digest::new(text)
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
}

/// The codes of an error's body; its sentences stay away: anything may stand there.
fn codes(body: &[u8]) -> Vec<String> {
    const MOST: usize = 3;
    let plain = |code: &String| (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let errors = serde_json::from_slice::<Errors>(body).map(|body| body.errors).unwrap_or_default();
    errors.into_iter().map(|error| error.code).filter(plain).take(MOST).collect()
}

//! Which logins the Secrets of a namespace hold for an image, by the rules of the kubelet, so that we see what pods can pull.
//!
//! The rules (`pkg/credentialprovider/keyring.go`): an entry is a host and maybe a path; each label of its host may be a glob and
//! stands for one label of the image's; ports are equal; its path is how the image's begins; all entries that fit are tried,
//! those that are last in the alphabet first, so that the longer path comes before the shorter; an entry for
//! `index.docker.io` is for Docker Hub when no other fits. Deliberately absent: credential helpers of nodes, identity tokens.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use super::{ImageRef, Login};

/// The two types of Secret that hold logins, and the key that they hold them under.
const JSON: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
const LEGACY: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

/// What Docker calls its Hub in a config.
const DOCKER_HUB: &str = "index.docker.io";

/// Both with and without padding, as tools write it.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Why a Secret gives no logins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeychainError {
    /// Of another type.
    #[error(
        "Secret {name} is of type {found}; logins are in Secrets of type kubernetes.io/dockerconfigjson (kubectl create secret docker-registry)"
    )]
    Type {
        /// Its name.
        name: String,
        /// Its type.
        found: String,
    },
    /// Without what its type promises.
    #[error("Secret {name} has no key {key}")]
    Key {
        /// Its name.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// Not JSON of the right form.
    #[error(
        "Secret {name} holds something else than a Docker config (at line {line} column {column} of {key}); make it anew with kubectl create secret docker-registry"
    )]
    Form {
        /// Its name.
        name: String,
        /// The key.
        key: &'static str,
        /// Where it does not fit.
        line: usize,
        /// Where it does not fit.
        column: usize,
    },
    /// An `auth` that is not what it should be.
    #[error("Secret {name}: auth of {entry:?} is not name:password in base64; make it anew with kubectl create secret docker-registry")]
    Auth {
        /// The name of the Secret.
        name: String,
        /// The entry.
        entry: String,
    },
}

/// Logins by what they are for.
#[derive(Clone, Debug, Default)]
pub struct Keychain {
    entries: BTreeMap<String, Vec<Login>>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

impl Keychain {
    /// Takes over what is in a Secret; among equal entries the Secret that came first is tried first.
    ///
    /// # Errors
    /// When it holds no logins, or one that cannot be read; then nothing of it is taken.
    pub fn add(&mut self, secret: &Secret) -> Result<(), KeychainError> {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let found = secret.type_.as_deref().unwrap_or("Opaque");
        let Some((_, key)) = [JSON, LEGACY].into_iter().find(|(kind, _)| *kind == found) else {
            return Err(KeychainError::Type { name, found: found.to_owned() });
        };
        let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(key)) else { return Err(KeychainError::Key { name, key }) };
        let form = |error: &serde_json::Error| KeychainError::Form { name: name.clone(), key, line: error.line(), column: error.column() };
        let auths = if key == JSON.1 {
            serde_json::from_slice::<Config>(&bytes.0).map_err(|error| form(&error))?.auths
        } else {
            serde_json::from_slice(&bytes.0).map_err(|error| form(&error))?
        };
        let logins = auths
            .into_iter()
            .map(|(entry, auth)| {
                let login = auth.login(format!("Secret {name}"));
                login.map(|login| (place(&entry), login)).ok_or(KeychainError::Auth { name: name.clone(), entry })
            })
            .collect::<Result<Vec<_>, _>>()?;
        for (place, login) in logins {
            self.entries.entry(place).or_default().push(login);
        }
        Ok(())
    }

    /// The logins for this image, in the order in which they are to be tried.
    #[must_use]
    pub fn logins(&self, image: &ImageRef) -> Vec<Login> {
        let fit = self.entries.iter().rev().filter(|(place, _)| fits(place, image));
        let logins: Vec<Login> = fit.flat_map(|(_, logins)| logins).cloned().collect();
        if logins.is_empty() && image.host == "docker.io" {
            return self.entries.get(DOCKER_HUB).cloned().unwrap_or_default();
        }
        logins
    }
}

impl Entry {
    /// `auth` goes before the two others.
    fn login(self, from: String) -> Option<Login> {
        if self.auth.is_empty() {
            return Some(Login { from, username: self.username, password: self.password });
        }
        let text: String = self.auth.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let pair = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
        let (username, password) = pair.split_once(':')?;
        Some(Login { from, username: username.to_owned(), password: password.to_owned() })
    }
}

/// Host and path that an entry is for: without scheme, and without `/v1/` and `/v2/`, which are of the API.
fn place(entry: &str) -> String {
    let entry = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://")).unwrap_or(entry);
    let entry = entry.split(['?', '#']).next().unwrap_or(entry);
    let (host, path) = entry.find('/').map_or((entry, ""), |at| entry.split_at(at));
    let path = if path.starts_with("/v1/") || path.starts_with("/v2/") { path.get(3..).unwrap_or(path) } else { path };
    let path = if path == "/" { "" } else { path };
    format!("{host}{path}")
}

fn fits(place: &str, image: &ImageRef) -> bool {
    let (glob, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    let ((glob, glob_port), (host, port)) = (port_of(glob), port_of(&image.host));
    let (globs, labels) = (glob.split('.'), host.split('.'));
    glob_port == port
        && globs.clone().count() == labels.clone().count()
        && format!("/{}", image.path).starts_with(path)
        && globs.zip(labels).all(|(glob, label)| matches(glob.as_bytes(), label.as_bytes()))
}

fn port_of(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        // Within brackets it belongs to an IPv6 address.
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Go's `filepath.Match` with `*` alone: `?` and brackets cannot stand in the host of an URL. Of several `*` only the last is ever
/// tried anew, so that a glob full of them takes no longer than length × length.
fn matches(mut glob: &[u8], mut text: &[u8]) -> bool {
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (glob.split_first(), text.split_first()) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                star = Some((rest, text));
                glob = rest;
            }
            (Some((a, rest)), Some((b, behind))) if a == b => (glob, text) = (rest, behind),
            _ => {
                let Some((after, from)) = star else { return false };
                let Some((_, from)) = from.split_first() else { return false };
                star = Some((after, from));
                (glob, text) = (after, from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::{Value, json};

    use super::*;

    fn secret(name: &str, (kind, key): (&str, &str), bytes: &[u8]) -> Secret {
        let mut secret = Secret { type_: Some(kind.to_owned()), ..Secret::default() };
        secret.metadata.name = Some(name.to_owned());
        secret.data = Some(BTreeMap::from([(key.to_owned(), ByteString(bytes.to_vec()))]));
        secret
    }

    fn with(auths: &Value) -> Keychain {
        let mut keychain = Keychain::default();
        keychain.add(&secret("pull", JSON, json!({ "auths": auths }).to_string().as_bytes())).unwrap();
        keychain
    }

    /// An entry whose name is its place.
    fn entries(places: &[&str]) -> Value {
        places
            .iter()
            .map(|place| ((*place).to_owned(), json!({"username": place, "password": "p"})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn names(keychain: &Keychain, image: &str) -> Vec<String> {
        keychain.logins(&ImageRef::parse(image).unwrap()).into_iter().map(|login| login.username).collect()
    }

    #[test]
    fn entries_fit_as_they_do_for_the_kubelet() {
        for (place, image, fits) in [
            ("ghcr.io", "ghcr.io/acme/shop", true),
            ("https://ghcr.io", "ghcr.io/acme/shop", true),
            ("http://ghcr.io/", "ghcr.io/acme/shop", true),
            ("https://ghcr.io/v2/", "ghcr.io/acme/shop", true),
            ("ghcr.io/v1/acme", "ghcr.io/acme/shop", true),
            ("ghcr.io/v2", "ghcr.io/acme/shop", false),
            ("ghcr.io/acme", "ghcr.io/acme/shop", true),
            ("ghcr.io/acme/shop", "ghcr.io/acme/shop", true),
            ("ghcr.io/acme/shop/x", "ghcr.io/acme/shop", false),
            ("ghcr.io/other", "ghcr.io/acme/shop", false),
            ("ghcr.io/ac", "ghcr.io/acme/shop", true),
            ("quay.io", "ghcr.io/acme/shop", false),
            ("a.io:5000", "a.io:5000/shop", true),
            ("a.io", "a.io:5000/shop", false),
            ("a.io:5000", "a.io/shop", false),
            ("*.a.io", "eu.a.io/shop", true),
            ("*.a.io", "a.io/shop", false),
            ("*.a.io", "x.eu.a.io/shop", false),
            ("*.*.a.io", "x.eu.a.io/shop", true),
            ("*.io", "a.io/shop", true),
            ("eu-*.a.io:5000/acme", "eu-west.a.io:5000/acme/shop", true),
            ("eu-*.a.io", "us-west.a.io/shop", false),
            ("*", "a.io/shop", false),
            ("?.io", "a.io/shop", false),
            ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/shop", true),
            ("[::1]:5000", "[::1]:5000/shop", true),
            ("docker.io", "nginx", true),
            ("https://index.docker.io/v1/", "nginx", true),
            ("https://index.docker.io/v1/", "ghcr.io/nginx", false),
            ("index.docker.io", "acme/shop", true),
        ] {
            let found = names(&with(&entries(&[place])), image);
            assert_eq!(found, if fits { vec![place] } else { Vec::new() }, "{place} for {image}");
        }
    }

    #[test]
    fn every_entry_that_fits_is_tried_the_longer_path_first() {
        let all = ["*.io", "ghcr.io", "ghcr.io/acme", "ghcr.io/acme/shop", "ghcr.io/zoo"];
        assert_eq!(names(&with(&entries(&all)), "ghcr.io/acme/shop"), ["ghcr.io/acme/shop", "ghcr.io/acme", "ghcr.io", "*.io"]);
        let hub = ["https://index.docker.io/v1/", "docker.io/acme"];
        assert_eq!(names(&with(&entries(&hub)), "acme/shop"), ["docker.io/acme"]);
        assert_eq!(names(&with(&entries(&hub)), "nginx"), ["https://index.docker.io/v1/"]);
    }

    #[test]
    fn of_equal_entries_the_first_secret_comes_first() {
        let mut keychain = Keychain::default();
        for name in ["b", "a"] {
            let auths = json!({"auths": {"ghcr.io": {"username": name, "password": "p"}}});
            keychain.add(&secret(name, JSON, auths.to_string().as_bytes())).unwrap();
        }
        let from: Vec<String> = keychain.logins(&ImageRef::parse("ghcr.io/a").unwrap()).into_iter().map(|login| login.from).collect();
        assert_eq!(from, ["Secret b", "Secret a"]);
    }

    #[test]
    fn a_login_is_read_however_it_is_written() {
        let pair = |entry: Value| {
            let login = with(&json!({"ghcr.io": entry})).logins(&ImageRef::parse("ghcr.io/a").unwrap()).remove(0);
            (login.username, login.password)
        };
        let ada = ("ada".to_owned(), "p:w".to_owned());
        for entry in [
            json!({"username": "ada", "password": "p:w", "email": "a@b"}),
            json!({"auth": "YWRhOnA6dw=="}),
            json!({"auth": "YWRhOnA6dw"}),
            json!({"auth": "YWRh\nOnA6dw==\n"}),
            json!({"auth": "YWRhOnA6dw==", "username": "other", "password": "other"}),
        ] {
            assert_eq!(pair(entry.clone()), ada, "{entry}");
        }
        let mut legacy = Keychain::default();
        legacy.add(&secret("old", LEGACY, br#"{"https://ghcr.io": {"auth": "YWRhOnA6dw=="}}"#)).unwrap();
        assert_eq!(names(&legacy, "ghcr.io/a"), ["ada"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_without_a_word_of_it() {
        let error = |kind, bytes: &[u8]| Keychain::default().add(&secret("pull", kind, bytes)).unwrap_err().to_string();
        for (kind, bytes, said) in [
            (("Opaque", ".dockerconfigjson"), "{}", "of type Opaque"),
            ((JSON.0, "config.json"), "{}", "no key .dockerconfigjson"),
            ((LEGACY.0, JSON.1), "{}", "no key .dockercfg"),
            (JSON, r#"{"auths": "s3cret"}"#, "something else than a Docker config (at line 1"),
            (JSON, "s3cret", "something else"),
            (LEGACY, r#"{"ghcr.io": "s3cret"}"#, "something else"),
            (JSON, r#"{"auths": {"ghcr.io": {"auth": "!!s3cret"}}}"#, r#"auth of "ghcr.io" is not name:password"#),
            (JSON, r#"{"auths": {"ghcr.io": {"auth": "YWRh"}}}"#, "is not name:password"),
        ] {
            let error = error(kind, bytes.as_bytes());
            assert!(error.contains(said) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn one_bad_entry_takes_the_whole_secret_with_it_and_no_other() {
        let mut keychain = with(&entries(&["ghcr.io"]));
        let bad = json!({"auths": {"a.io": {"username": "a"}, "b.io": {"auth": "?"}}}).to_string();
        assert!(keychain.add(&secret("bad", JSON, bad.as_bytes())).is_err());
        assert_eq!(names(&keychain, "a.io/x"), Vec::<String>::new());
        assert_eq!(names(&keychain, "ghcr.io/x"), ["ghcr.io"]);
    }

    #[test]
    fn a_glob_full_of_stars_takes_no_long_time() {
        let glob = format!("{}b", "*a".repeat(1000));
        assert!(!matches(glob.as_bytes(), "a".repeat(2000).as_bytes()));
        for (glob, text, fits) in
            [("*a*b", "xaxxb", true), ("a*", "a", true), ("", "", true), ("*", "", true), ("a", "", false), ("**b", "ab", true)]
        {
            assert_eq!(matches(glob.as_bytes(), text.as_bytes()), fits, "{glob} {text}");
        }
    }
}

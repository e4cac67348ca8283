//! How we show ourselves to GitHub: as an app, or for a trial as a person.

use std::fmt;

use jiff::Timestamp;
use octocrab::{
    auth::EncodingKey,
    jsonwebtoken::{Algorithm, Header, encode},
    secrecy::{ExposeSecret, SecretString},
};
use serde::Serialize;

use crate::edge::forge::ForgeError;

/// How far in the past a token of the app begins: GitHub refuses one from its future, and our clock may be ahead of its.
const SKEW_S: i64 = 60;
/// How long it lasts from now. GitHub takes 10 min at most from its beginning: 60 s + 540 s = 10 min.
const LIFE_S: i64 = 540;

/// Credentials. What is secret in them is never shown.
#[derive(Clone)]
pub struct Access(Kind);

#[derive(Clone)]
enum Kind {
    App { id: u64, key: EncodingKey },
    Person(SecretString),
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Not a key.
    #[error("the private key of the app is no RSA key in PEM; give the file that GitHub made, with its BEGIN and END lines")]
    Key,
    /// Not a token.
    #[error("the token is empty or has characters that a token cannot have; copy it again")]
    Token,
    /// Not an address of an API.
    #[error("{base} is no address of GitHub's API ({said}); give https://api.github.com, or https://HOST/api/v3 of an Enterprise Server")]
    Base {
        /// What was given.
        base: String,
        /// What is wrong with it.
        said: &'static str,
    },
    /// Nothing to verify certificates with.
    #[error("TLS could not be set up ({said}); where this image holds no system CAs, mount a bundle and set SSL_CERT_FILE")]
    Trust {
        /// What failed.
        said: String,
    },
}

#[derive(Serialize)]
struct Claims {
    iat: i64,
    exp: i64,
    iss: String,
}

impl Access {
    /// As the app with this number, by its private key in PEM (PKCS#1, as GitHub gives it, or PKCS#8).
    ///
    /// # Errors
    /// When the key is none.
    pub fn app(id: u64, pem: &[u8]) -> Result<Self, SetupError> {
        let key = EncodingKey::from_rsa_pem(pem).map_err(|_| SetupError::Key)?;
        Ok(Self(Kind::App { id, key }))
    }

    /// As a person, by a token of theirs. For trials: all that the person does shares one budget.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn token(text: &str) -> Result<Self, SetupError> {
        let text = text.trim();
        let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if fine { Ok(Self(Kind::Person(text.to_owned().into()))) } else { Err(SetupError::Token) }
    }

    /// The number of the app; none: we are a person.
    pub(super) fn app_id(&self) -> Option<u64> {
        match self.0 {
            Kind::App { id, .. } => Some(id),
            Kind::Person(_) => None,
        }
    }

    /// What proves who we are: of a person the token, of the app one that is made now, for questions about itself alone.
    pub(super) fn proof(&self, now: Timestamp) -> Result<SecretString, ForgeError> {
        match &self.0 {
            Kind::Person(token) => Ok(token.clone()),
            Kind::App { id, key } => {
                let now = now.as_second();
                let claims = Claims { iat: now - SKEW_S, exp: now + LIFE_S, iss: id.to_string() };
                let signed = encode(&Header::new(Algorithm::RS256), &claims, key);
                signed.map(SecretString::from).map_err(|_| ForgeError::Denied { said: "the app's private key does not sign".to_owned() })
            }
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::App { id, .. } => f.debug_struct("App").field("id", id).finish_non_exhaustive(),
            Kind::Person(_) => f.debug_struct("Person").finish_non_exhaustive(),
        }
    }
}

/// A token of an installation.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: SecretString,
    /// From then on another is made.
    pub(super) renew: Timestamp,
}

impl Token {
    pub(super) fn is(&self, other: &SecretString) -> bool {
        self.secret.expose_secret() == other.expose_secret()
    }
}

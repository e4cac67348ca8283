//! The secrets of apps: RSA keys and what they sign, HMACs, and words that nobody guesses twice.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    hmac,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The key of an app; the fake itself needs only the public half, a client gets the private one once, as PEM.
#[derive(Clone, Debug)]
pub struct AppKey {
    public: Vec<u8>,
    /// PKCS#1 (`BEGIN RSA PRIVATE KEY`), the form in which GitHub hands it out.
    pub pem: String,
}

impl AppKey {
    /// A new one of 2048 bits.
    pub fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("PKCS#8");
        Self { public: pair.public_key().as_ref().to_vec(), pem: pem("RSA PRIVATE KEY", pkcs1(der.as_ref())) }
    }

    /// Whether the private half signed this (RS256).
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public).verify(message, signature).is_ok()
    }
}

/// The `RSAPrivateKey` inside of a `PrivateKeyInfo` (RFC 5208 §5): version, algorithm, then an octet string that holds it.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    let (inside, _) = der(pkcs8);
    let (_version, rest) = der(inside);
    let (_algorithm, rest) = der(rest);
    der(rest).0
}

/// The content of the first DER element, and what follows it.
fn der(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (head, rest) = bytes.split_at(2);
    let short = usize::from(*head.last().expect("a length"));
    if short < 0x80 {
        return rest.split_at(short);
    }
    let (long, rest) = rest.split_at(short - 0x80);
    rest.split_at(long.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines(der, 64))
}

/// Base64 in lines of that width, as PEM (64) and the contents API (60) have it.
pub fn lines(bytes: &[u8], width: usize) -> String {
    let text = STANDARD.encode(bytes);
    let line = |chunk: &[u8]| String::from_utf8_lossy(chunk).into_owned() + "\n";
    text.as_bytes().chunks(width).map(line).collect()
}

/// What a JSON Web Token claims, with what was signed and the signature.
#[derive(Debug)]
pub struct Jwt {
    pub header: Value,
    pub claims: Value,
    pub message: Vec<u8>,
    pub signature: Vec<u8>,
}

impl Jwt {
    /// None: it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        parts.next().is_none().then_some(())?;
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            message: format!("{header}.{claims}").into_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }
}

/// GitHub's limit for the life of an app's JWT.
const LONGEST: i64 = 600;

/// What GitHub would say against the claims of an app's JWT; nothing: they are fine.
pub fn against(claims: &Value, now: Timestamp) -> Option<&'static str> {
    let now = now.as_second();
    let Some(exp) = claims.get("exp").and_then(Value::as_i64).filter(|exp| *exp > now) else {
        return Some("'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires");
    };
    if exp - now > LONGEST {
        return Some("'Expiration time' claim ('exp') is too far in the future");
    }
    if claims.get("iat").and_then(Value::as_i64).is_none_or(|iat| iat > now) {
        return Some("'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued");
    }
    None
}

/// The `iss` claim: the id of the app as a number or text, or its client id.
pub fn issuer(claims: &Value) -> Option<String> {
    match claims.get("iss")? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// The headers by which a webhook proves where it comes from.
pub fn signatures(secret: &str, body: &[u8]) -> [(&'static str, String); 2] {
    let sign = |algorithm, name: &str| {
        let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), body);
        format!("{name}={}", hex(tag.as_ref()))
    };
    [("X-Hub-Signature", sign(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, "sha1")), ("X-Hub-Signature-256", sign(hmac::HMAC_SHA256, "sha256"))]
}

/// As many letters and digits as wanted; the same for the same seed, so that a run can be repeated.
pub fn word(seed: &str, length: usize) -> String {
    let mut text = String::new();
    let mut round = 0_u32;
    while text.len() < length {
        let hash = sha256(&[seed.as_bytes(), &round.to_be_bytes()]);
        text.push_str(&STANDARD.encode(hash).replace(['+', '/', '='], "x"));
        round += 1;
    }
    text.truncate(length);
    text
}

/// Of the form of a UUID.
pub fn guid(seed: &str) -> String {
    let hash = sha256(&[b"guid", seed.as_bytes()]);
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// The long form of installation tokens: `ghs_`, the id of the app, and a JWT that says nothing to a client.
pub fn long_token(app: u64, seed: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"{app}","jti":"{}"}}"#, guid(seed)));
    format!("ghs_{app}_{header}.{claims}.{}", word(seed, 342))
}

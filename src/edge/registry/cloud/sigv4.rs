//! Signs a request for AWS (Signature Version 4, "Create a signed AWS API request" in the IAM user guide).

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// Who signs, and for whom.
pub(super) struct Signer<'a> {
    pub(super) key_id: &'a str,
    pub(super) secret: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// What is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// Encoded and in order.
    pub(super) query: &'a str,
    /// In small letters and in order, `host` and `x-amz-date` among them.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a str,
}

/// As `x-amz-date` has it.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

impl Signer<'_> {
    /// The header `Authorization`.
    pub(super) fn authorization(&self, request: &Signed<'_>, at: Timestamp) -> String {
        let date = date(at);
        let day = date.get(..8).unwrap_or_default();
        let names: Vec<&str> = request.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let mut lines = String::new();
        for (name, value) in request.headers {
            // Writing to a text cannot fail.
            let _ = writeln!(lines, "{name}:{}", value.trim());
        }
        let Signed { method, path, query, body, .. } = request;
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{}", hex::encode(Sha256::digest(body)));
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let signature = hex::encode(mac(self.key(day).as_ref(), &text).as_ref());
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", self.key_id)
    }

    fn key(&self, day: &str) -> hmac::Tag {
        let first = mac(format!("AWS4{}", self.secret).as_bytes(), day);
        [self.region, self.service, "aws4_request"].into_iter().fold(first, |key, part| mac(key.as_ref(), part))
    }
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn at() -> Timestamp {
        "2015-08-30T12:36:00Z".parse().unwrap()
    }

    /// The example of the AWS General Reference.
    #[test]
    fn the_example_of_aws_gets_the_signature_of_aws() {
        let signer = Signer { key_id: "AKIDEXAMPLE", secret: SECRET, region: "us-east-1", service: "iam" };
        assert_eq!(hex::encode(signer.key("20150830").as_ref()), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
        let headers = [
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        let request = Signed { method: "GET", path: "/", query: "Action=ListUsers&Version=2010-05-08", headers: &headers, body: "" };
        assert_eq!(
            signer.authorization(&request, at()),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    /// `get-vanilla` and `post-vanilla` of AWS's test suite.
    #[test]
    fn the_test_suite_of_aws_gets_its_signatures() {
        let signer = Signer { key_id: "AKIDEXAMPLE", secret: SECRET, region: "us-east-1", service: "service" };
        let headers = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        for (method, signature) in [
            ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let request = Signed { method, path: "/", query: "", headers: &headers, body: "" };
            assert!(signer.authorization(&request, at()).ends_with(signature), "{method}");
        }
    }
}

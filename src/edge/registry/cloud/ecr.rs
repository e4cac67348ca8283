//! Amazon ECR: our `ServiceAccount`'s token → a role (STS) → a login of twelve hours (ECR).

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Uri};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::sigv4::{Signed, Signer, date};
use super::{Case, Cloud, CloudError, Desk};
use crate::clock::Clock;
use crate::edge::registry::Login;
use crate::edge::registry::wire::SetupError;

const CONTENT: &str = "application/x-amz-json-1.1";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";

/// Logins for private registries at AWS, `<account>.dkr.ecr.<region>.amazonaws.com`.
pub struct Ecr {
    desk: Desk,
    role: String,
    token_file: PathBuf,
    sts: Option<String>,
    api: Option<String>,
}

/// What STS gives for our token.
struct Keys {
    id: String,
    secret: String,
    session: String,
}

/// Where a registry is.
struct Place<'a> {
    region: &'a str,
    domain: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    authorization_data: Vec<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    authorization_token: String,
    /// Seconds since 1970, with parts.
    expires_at: f64,
}

impl Ecr {
    /// As `AWS_ROLE_ARN` and `AWS_WEB_IDENTITY_TOKEN_FILE` say, which EKS sets.
    ///
    /// # Errors
    /// When the extra CA cannot be read.
    pub fn new(role: String, token_file: PathBuf, extra_ca: Option<&[u8]>, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        Ok(Self { desk: Desk::new("AWS", extra_ca, clock)?, role, token_file, sts: None, api: None })
    }

    /// Asks there instead of STS and ECR's API at AWS: private endpoints. Base URLs without a path.
    #[must_use]
    pub fn at(self, sts: Option<String>, api: Option<String>) -> Self {
        Self { sts, api, ..self }
    }

    async fn fetch(&self, case: Case<'_>, place: Place<'_>) -> Result<(String, String, Timestamp), CloudError> {
        let keys = self.assume(&case, &place).await?;
        let Place { region, domain } = place;
        let base = self.api.clone().unwrap_or_else(|| format!("https://api.ecr.{region}.{domain}"));
        let uri: Uri = base.parse().map_err(|_| case.unreadable("the address of ECR is not valid"))?;
        let host = uri.authority().map_or("", http::uri::Authority::as_str);
        let now = self.desk.clock.now();
        let (at, body) = (date(now), "{}");
        let headers = [
            ("content-type", CONTENT),
            ("host", host),
            ("x-amz-date", &at),
            ("x-amz-security-token", &keys.session),
            ("x-amz-target", TARGET),
        ];
        let signer = Signer { key_id: &keys.id, secret: &keys.secret, region, service: "ecr" };
        let what = Signed { method: "POST", path: "/", query: "", headers: &headers, body };
        let request = Request::post(format!("{}/", base.trim_end_matches('/')))
            .header(CONTENT_TYPE, CONTENT)
            .header("x-amz-date", &at)
            .header("x-amz-security-token", &keys.session)
            .header("x-amz-target", TARGET)
            .header(AUTHORIZATION, signer.authorization(&what, now));
        let answer: Answered = case.json(&case.send(request, body.to_owned()).await?)?;
        let data = answer.authorization_data.into_iter().next().ok_or_else(|| case.unreadable("ECR gave no authorization data"))?;
        let pair = STANDARD.decode(&data.authorization_token).ok().and_then(|pair| String::from_utf8(pair).ok());
        let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
        let (username, password) = pair.ok_or_else(|| case.unreadable("ECR gave a token that is not name:password in base64"))?;
        let lives = SignedDuration::try_from_secs_f64(data.expires_at).ok().and_then(|since| Timestamp::from_duration(since).ok());
        let expires = lives.ok_or_else(|| case.unreadable("ECR gave a token without a moment at which it expires"))?;
        Ok((username.to_owned(), password.to_owned(), expires))
    }

    async fn assume(&self, case: &Case<'_>, Place { region, domain }: &Place<'_>) -> Result<Keys, CloudError> {
        let token = case.identity(&self.token_file).await?;
        let base = self.sts.clone().unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.role),
            ("RoleSessionName", "haldane"),
            ("WebIdentityToken", &token),
        ];
        let answer = case.form(format!("{}/", base.trim_end_matches('/')), &fields).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let of = |name: &str| element(&text, name).ok_or_else(|| case.unreadable(format!("STS gave no {name}")));
        Ok(Keys { id: of("AccessKeyId")?, secret: of("SecretAccessKey")?, session: of("SessionToken")? })
    }
}

impl Cloud for Ecr {
    fn login<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Option<Login>, CloudError>> {
        Box::pin(async move {
            let Some(place) = place(host) else { return Ok(None) };
            self.desk.login(host, |case| self.fetch(case, place)).await
        })
    }
}

/// Region and domain, out of `<account>.dkr.ecr[-fips].<region>.amazonaws.com[.cn]`.
fn place(host: &str) -> Option<Place<'_>> {
    let (account, rest) = host.split_once(".dkr.ecr.").or_else(|| host.split_once(".dkr.ecr-fips."))?;
    let (region, domain) = rest.split_once('.')?;
    let fine = account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && !region.is_empty()
        && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && matches!(domain, "amazonaws.com" | "amazonaws.com.cn");
    fine.then_some(Place { region, domain })
}

/// The text of an element of STS's XML. What we read (keys and tokens) has no markup and no entities.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.trim();
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'&'));
    plain.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_and_domain_stand_in_the_name() {
        for (host, means) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some(("eu-west-1", "amazonaws.com"))),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", Some(("us-gov-west-1", "amazonaws.com"))),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some(("cn-north-1", "amazonaws.com.cn"))),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.io", None),
            ("123456789012.dkr.ecr.evil/.amazonaws.com", None),
            ("1.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("public.ecr.aws", None),
            ("ghcr.io", None),
        ] {
            assert_eq!(place(host).map(|place| (place.region, place.domain)), means, "{host}");
        }
    }

    #[test]
    fn an_element_is_its_text() {
        let xml = "<A><AccessKeyId>ASIA1</AccessKeyId>\n<SessionToken>\n a/b+c== \n</SessionToken><E></E><M>a&amp;b</M></A>";
        let of = |name| element(xml, name);
        assert_eq!([of("AccessKeyId").as_deref(), of("SessionToken").as_deref()], [Some("ASIA1"), Some("a/b+c==")]);
        assert_eq!([of("E"), of("M"), of("Absent"), of("A")], [const { None }; 4]);
    }
}

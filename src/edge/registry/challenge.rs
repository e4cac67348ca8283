//! How a registry wants to be spoken to: the header `WWW-Authenticate` (RFC 9110 §11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// What it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of that server.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// Name and word.
    Basic,
}

/// The first that we can answer, a token before name and word.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let all: Vec<Scheme> =
        headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok()).flat_map(schemes).collect();
    let bearer = all.iter().find_map(|scheme| {
        let realm = scheme.get("realm").filter(|_| scheme.is("bearer"))?;
        Some(Challenge::Bearer { realm, service: scheme.get("service"), scope: scheme.get("scope") })
    });
    bearer.or_else(|| all.iter().any(|scheme| scheme.is("basic")).then_some(Challenge::Basic))
}

struct Scheme {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Scheme {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn get(&self, name: &str) -> Option<String> {
        let found = self.parameters.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty());
        found.map(|(_, value)| value.clone())
    }
}

/// A list of schemes, each with a list of parameters, and commas between both: a word that no `=` follows begins a scheme.
fn schemes(text: &str) -> Vec<Scheme> {
    let mut all: Vec<Scheme> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = split(rest, is_token);
        if word.is_empty() {
            // The end, or something that belongs nowhere: one character further.
            let mut characters = rest.chars();
            if characters.next().is_none() {
                return all;
            }
            rest = characters.as_str();
            continue;
        }
        let (value, after) = match after.trim_start().strip_prefix('=') {
            None => {
                all.push(Scheme { name: word.to_owned(), parameters: Vec::new() });
                rest = after;
                continue;
            }
            Some(value) => value_of(value.trim_start()),
        };
        if let Some(scheme) = all.last_mut() {
            scheme.parameters.push((word.to_owned(), value));
        }
        rest = after;
    }
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, after) = split(text, is_token);
        return (word.to_owned(), after);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            '\\' => value.extend(characters.next()),
            c => value.push(c),
        }
    }
    (value, characters.as_str())
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        challenge(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }
    }

    #[test]
    fn what_registries_say_is_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push""#;
        let hub_means =
            Some(bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:library/nginx:pull,push")));
        for (values, means) in [
            (vec![hub], hub_means.clone()),
            (vec![r#"Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#], Some(Challenge::Basic)),
            (vec![r#"Basic realm="r", "#, hub], hub_means.clone()),
            (vec![r#"bearer  REALM = "https://a/t" , Basic realm="x""#], Some(bearer("https://a/t", None, None))),
            (vec![r#"Negotiate abc==, Bearer realm=https://a/t,scope="""#], Some(bearer("https://a/t", None, None))),
            (vec![r#"Bearer realm="https://a/\"t\"\\", service="s"#], Some(bearer("https://a/\"t\"\\", Some("s"), None))),
            (vec![r#"Bearer service="s", Basic"#], Some(Challenge::Basic)),
            (vec![r#"Bearer error="invalid_token""#], None),
            (vec!["Digest realm=\"x\""], None),
            (vec![""], None),
            (vec![], None),
        ] {
            assert_eq!(of(&values), means, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_read_for_ever(text in "[ -~]{0,200}") {
            of(&[&text]);
        }
    }
}

//! A step as a line for a shell, so that a person can ask the same by hand. It has the words of the probe's spec and never a value: what
//! is filled in stays a variable of the shell, `"${TOKEN}"`, and so does what stands in a header for a credential.

use super::{
    Check, RUN, SECRETS, Scheme, Step,
    vars::{Part, parts},
};

/// Words in the names of headers whose values are credentials, also where they are written down in the spec.
const CREDENTIALS: [&str; 6] = ["authorization", "cookie", "token", "secret", "key", "password"];

impl Check {
    /// The line. `local`: it goes to this port of the machine, which is forwarded to a pod, under the real host name.
    #[must_use]
    pub fn curl(&self, step: &Step, local: Option<u16>) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let mut words = vec!["curl -sS -i".to_owned()];
        words.extend(local.map(|port| format!("--connect-to ::127.0.0.1:{port}")));
        match step.method.as_str() {
            "GET" => {}
            "HEAD" => words.push("-I".to_owned()),
            method => words.push(format!("-X {method}")),
        }
        words.push(quoted(&format!("{scheme}://{}{}", self.host, step.path)));
        let typed = step.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        words.extend(
            step.body.iter().filter(|_| !typed).map(|body| format!("-H {}", quoted(&format!("Content-Type: {}", body.content_type())))),
        );
        words.extend(step.headers.iter().map(|(name, value)| format!("-H {}", quoted(&format!("{name}: {}", open(name, value))))));
        words.extend(step.body.iter().map(|body| format!("-d {}", quoted(&String::from_utf8_lossy(&body.bytes())))));
        words.join(" ")
    }
}

/// The value of a header, without what is a credential by the header's name.
fn open(name: &str, value: &str) -> String {
    let small = name.to_ascii_lowercase();
    let hides = CREDENTIALS.iter().any(|word| small.contains(word));
    let has_variable = parts(value).any(|part| matches!(part, Part::Name(_)));
    if hides && !has_variable { format!("${{{name}}}") } else { value.to_owned() }
}

/// What stands for a variable in a shell.
#[must_use]
pub fn shell_name(variable: &str) -> String {
    let name = if variable == RUN { "RUN_ID" } else { variable.strip_prefix(SECRETS).unwrap_or(variable) };
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// For a POSIX shell: everything is taken as it is, but for our own variables.
fn quoted(text: &str) -> String {
    let word = |part: Part<'_>| match part {
        Part::Text(text) => format!("'{}'", text.replace('\'', r"'\''")),
        Part::Name(name) => format!("\"${{{}}}\"", shell_name(name)),
    };
    parts(text).map(word).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::probe::{Body, Expect, Vars};

    fn line(method: &str, path: &str, headers: &[(&str, &str)], body: Option<Body>) -> String {
        let step = Step {
            name: "place".into(),
            method: method.into(),
            path: path.into(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body,
            expect: Expect::default(),
            capture: Vec::new(),
            until: None,
            compare: None,
            deadline: Step::DEADLINE,
        };
        let check = Check {
            name: "order".into(),
            scheme: Scheme::Https,
            host: "shop.example.com".into(),
            setup: Vec::new(),
            steps: Vec::new(),
            knock: None,
            suite: None,
            teardown: Vec::new(),
            sweep: None,
            secrets: Vars::default(),
            deadline: Check::DEADLINE,
            trust: None,
            tester: None,
            answered_by: None,
        };
        check.curl(&step, Some(8080))
    }

    #[test]
    fn variables_stay_variables_and_nothing_else_is_one() {
        let body = Body::Json(json!({"ref": "synth-${run.id}", "note": "it's $HOME `x`"}));
        assert_eq!(
            line("POST", "/orders/${id}?a=1", &[("Authorization", "Bearer ${secrets.token}"), ("X-A", "b")], Some(body)),
            "curl -sS -i --connect-to ::127.0.0.1:8080 -X POST 'https://shop.example.com/orders/'\"${ID}\"'?a=1' \
             -H 'Content-Type: application/json' -H 'Authorization: Bearer '\"${TOKEN}\" -H 'X-A: b' \
             -d '{\"note\":\"it'\\''s $HOME `x`\",\"ref\":\"synth-'\"${RUN_ID}\"'\"}'"
        );
    }

    #[test]
    fn a_credential_that_is_written_down_is_cut_out() {
        let told = line("GET", "/", &[("Authorization", "Bearer tok3n"), ("X-Api-Key", "tok3n"), ("Cookie", "sid=tok3n")], None);
        assert!(!told.contains("tok3n"), "{told}");
        assert!(told.contains(r#"'Authorization: '"${AUTHORIZATION}""#) && told.contains(r#""${X_API_KEY}""#), "{told}");
    }
}

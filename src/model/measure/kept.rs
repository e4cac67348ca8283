//! Numbers that somebody else keeps, such as Datadog: how they are asked for, for the pods of one side and a piece of time, and what the answer
//! counts.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use jsonpath_rust::JsonPath as _;
use serde_json::Value;

use crate::{
    api::{probe::SecretVariable, verify::JsonSpec},
    decide::judge::bet::Side,
    model::{
        external::Address,
        probe::{SECRETS, Vars, names},
    },
};

/// Names of the pods.
const PODS: &str = "pods";
/// The times, in seconds and in milliseconds.
const FROM: [&str; 2] = ["from", "fromMs"];
const TO: [&str; 2] = ["to", "toMs"];
/// Between two names.
const JOIN: &str = ",";
const EVERY: Duration = Duration::from_secs(30);
/// Datadog's own counts are all there after some ten seconds, what agents and logs bring within a minute.
const DELAY: Duration = Duration::from_mins(1);

/// Somebody who keeps numbers, and how he is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Where. Its path has variables in it.
    to: Address,
    headers: Vec<(HeaderName, String)>,
    /// Of a POST; none: a GET.
    body: Option<String>,
    /// Whom the headers and the body are filled in from.
    pub secrets: Vec<SecretVariable>,
    join: String,
    asked: String,
    failed: String,
    /// The least piece of time.
    pub every: Duration,
    /// What is younger is not asked for.
    pub delay: Duration,
}

/// A piece of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first second.
    pub from: Timestamp,
    /// The first second that is not in it.
    pub to: Timestamp,
}

/// A question as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Where.
    pub to: Address,
    /// Any of them may be secret: `Debug` does not tell the values.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Of a POST; none: a GET.
    pub body: Option<Vec<u8>>,
}

impl Kept {
    /// As a spec says it.
    ///
    /// # Errors
    /// What of it cannot be asked or read, in words that begin with the field.
    pub fn read(spec: &JsonSpec) -> Result<Self, String> {
        let header = |header: &crate::api::probe::Header| {
            let name =
                HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| format!("headers: {} is no name of a header", header.name))?;
            Ok((name, header.value.clone()))
        };
        let path = |field: &str, path: &str| {
            let wrong = jsonpath_rust::parser::parse_json_path(path).is_err() || path.matches("..").count() > 1;
            if wrong {
                Err(format!("{field} is no JSONPath (RFC 9535) such as $.series[0].sum, with '..' once at most"))
            } else {
                Ok(path.to_owned())
            }
        };
        let kept = Self {
            to: Address::parse(&spec.url).map_err(|why| format!("url {why}"))?,
            headers: spec.headers.iter().map(header).collect::<Result<_, String>>()?,
            body: spec.body.clone(),
            secrets: spec.secrets.clone(),
            join: spec.join.clone().unwrap_or_else(|| JOIN.to_owned()),
            asked: path("asked", &spec.asked)?,
            failed: path("failed", &spec.failed)?,
            every: spec.interval.map_or(EVERY, |span| span.0),
            delay: spec.delay.map_or(DELAY, |span| span.0),
        };
        kept.variables()?;
        Ok(kept)
    }

    /// Without the pods both sides are one, and without the time every answer is the same.
    fn variables(&self) -> Result<(), String> {
        let in_url: Vec<&str> = names(&self.to.path).collect();
        let mut elsewhere: Vec<&str> = self.body.iter().flat_map(|body| names(body)).collect();
        elsewhere.extend(self.headers.iter().flat_map(|(_, value)| names(value)));
        let known = |name: &&str| *name == PODS || FROM.contains(name) || TO.contains(name);
        let secret = |name: &&str| name.strip_prefix(SECRETS).is_some_and(|name| self.secrets.iter().any(|secret| secret.name == name));
        if let Some(odd) = in_url.iter().find(|name| !known(name)) {
            return Err(format!(
                "url has ${{{odd}}}; write ${{pods}}, ${{from}}, ${{to}}, ${{fromMs}} and ${{toMs}}, and secrets into headers"
            ));
        }
        if let Some(odd) = elsewhere.iter().find(|name| !known(name) && !secret(name)) {
            return Err(format!("body or headers have ${{{odd}}}, which is no variable and none of secrets"));
        }
        let said = |any: &[&str]| in_url.iter().chain(&elsewhere).any(|name| any.contains(name));
        let missing = [(said(&[PODS]), "${pods}"), (said(&FROM), "${from} or ${fromMs}"), (said(&TO), "${to} or ${toMs}")];
        match missing.into_iter().find(|(said, _)| !said) {
            Some((_, what)) => {
                Err(format!("url or body needs {what}: the question is asked for each side, and for one piece of time after the other"))
            }
            None => Ok(()),
        }
    }

    /// What is asked for these pods.
    ///
    /// # Errors
    /// What cannot be sent, in a few words that go on "its metrics …".
    pub fn question(&self, secrets: &Vars, pods: &[&str], window: Window) -> Result<Question, String> {
        let mut vars = secrets.clone();
        vars.set(PODS, pods.join(&self.join));
        for ([seconds, millis], at) in [(FROM, window.from), (TO, window.to)] {
            vars.set(seconds, at.as_second().to_string());
            vars.set(millis, (at.as_second() * 1000).to_string());
        }
        let unset = |name: &str| format!("are not asked for: ${{{name}}} has no value");
        let header = |(name, value): &(HeaderName, String)| {
            let mut value = HeaderValue::try_from(vars.fill(value).map_err(unset)?)
                .map_err(|_| format!("are not asked for: what stands for the header {name} cannot be sent in one"))?;
            value.set_sensitive(true);
            Ok((name.clone(), value))
        };
        Ok(Question {
            to: Address { path: vars.fill_path(&self.to.path).map_err(unset)?, ..self.to.clone() },
            headers: self.headers.iter().map(header).collect::<Result<_, String>>()?,
            body: self.body.as_ref().map(|body| vars.fill(body).map(String::into_bytes)).transpose().map_err(unset)?,
        })
    }

    /// What an answer counts.
    ///
    /// # Errors
    /// Why that is not known, in a few words that go on "its metrics …". What was answered is not in it.
    pub fn count(&self, answer: &Value) -> Result<Side, String> {
        let asked =
            sum(answer, &self.asked)?.ok_or_else(|| format!("are not known: the answer has no number at {} (asked)", self.asked))?;
        let failed = sum(answer, &self.failed)?.unwrap_or_default();
        if failed > asked {
            return Err(format!("cannot be right: {failed} of {asked} requests failed"));
        }
        Ok(Side::new(asked, failed))
    }
}

/// All numbers at a path together; none: there is none.
fn sum(answer: &Value, path: &str) -> Result<Option<u32>, String> {
    let found = answer.query(path).map_err(|_| format!("are not known: {path} cannot be looked up"))?;
    let number = |node: &Value| node.as_f64().or_else(|| node.as_str()?.trim().parse().ok());
    let numbers: Vec<f64> = found.into_iter().filter_map(number).collect();
    if numbers.iter().any(|number| !number.is_finite() || *number < 0.0) {
        return Err(format!("cannot be right: there is a number at {path} that is no count"));
    }
    Ok((!numbers.is_empty()).then(|| super::whole(numbers.iter().sum())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        json!({
            "url": "https://api.example.com/query?from=${from}&to=${to}&query=sum:hits%7Bpod_name%20IN%20(${pods})%7D",
            "headers": [{"name": "DD-API-KEY", "value": "${secrets.key}"}],
            "secrets": [{"name": "key", "secretRef": {"name": "datadog", "key": "api"}}],
            "asked": "$.series[?@.metric=='hits'].pointlist[*][1]", "failed": "$.series[?@.metric=='errors'].pointlist[*][1]",
        })
    }

    fn with(changes: &[(&str, Value)]) -> Result<Kept, String> {
        let mut spec = spec();
        for (field, value) in changes {
            spec[*field] = value.clone();
        }
        Kept::read(&serde_json::from_value(spec).unwrap())
    }

    fn window() -> Window {
        Window { from: Timestamp::from_second(1000).unwrap(), to: Timestamp::from_second(1030).unwrap() }
    }

    fn secrets() -> Vars {
        let mut secrets = Vars::default();
        secrets.set("secrets.key", "canary-of-the-key".to_owned());
        secrets
    }

    #[test]
    fn a_question_names_the_pods_and_the_time_and_shows_no_secret() {
        let question = with(&[]).unwrap().question(&secrets(), &["web-a", "web-b"], window()).unwrap();
        assert_eq!(question.to.path, "/query?from=1000&to=1030&query=sum:hits%7Bpod_name%20IN%20(web-a%2Cweb-b)%7D");
        assert_eq!((question.to.host.as_str(), question.to.https, &question.body), ("api.example.com", true, &None));
        assert_eq!(question.headers[0].1, "canary-of-the-key");
        assert!(!format!("{question:?}").contains("canary-of"), "{question:?}");
    }

    #[test]
    fn a_body_is_a_post_and_names_are_joined_as_it_is_said() {
        let body = "FROM Span WHERE pod IN ('${pods}') SINCE ${fromMs} UNTIL ${toMs}";
        let kept = with(&[("url", json!("https://a.example.com/")), ("body", json!(body)), ("join", json!("','"))]).unwrap();
        let question = kept.question(&secrets(), &["a", "b"], window()).unwrap();
        assert_eq!(question.body.unwrap(), b"FROM Span WHERE pod IN ('a','b') SINCE 1000000 UNTIL 1030000");
    }

    #[test]
    fn what_cannot_be_asked_says_what_to_write() {
        for (field, value, word) in [
            ("url", json!("ftp://example.com/${pods}"), "url is no URL"),
            ("url", json!("https://example.com/?f=${from}&t=${to}"), "needs ${pods}"),
            ("url", json!("https://example.com/?p=${pods}&t=${to}"), "needs ${from}"),
            ("url", json!("https://example.com/?p=${pods}&f=${fromMs}"), "needs ${to}"),
            ("url", json!("https://example.com/?p=${pods}&f=${from}&t=${to}&k=${secrets.key}"), "secrets into headers"),
            ("body", json!("${secrets.other}"), "none of secrets"),
            ("asked", json!("series[0]"), "asked is no JSONPath"),
            ("failed", json!("$..a..b"), "failed is no JSONPath"),
        ] {
            let error = with(&[(field, value)]).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let unset = with(&[]).unwrap().question(&Vars::default(), &["a"], window()).unwrap_err();
        assert_eq!(unset, "are not asked for: ${secrets.key} has no value");
    }

    #[test]
    fn an_answer_is_summed_and_no_failures_are_none() {
        let kept = with(&[]).unwrap();
        let series = |metric: &str, points: Value| json!({"metric": metric, "pointlist": points});
        let hits = series("hits", json!([[1_000_000, 40.0], [1_010_000, null], [1_020_000, 20.4]]));
        let answer = json!({"series": [series("errors", json!([[1_000_000, 3.0]])), hits]});
        assert_eq!(kept.count(&answer), Ok(Side::new(60, 3)));
        assert_eq!(kept.count(&json!({"series": [hits]})), Ok(Side::new(60, 0)));
        let text = with(&[("asked", json!("$.count")), ("failed", json!("$.bad"))]).unwrap();
        assert_eq!(text.count(&json!({"count": "12", "bad": "1"})), Ok(Side::new(12, 1)));
    }

    #[test]
    fn what_is_no_count_is_not_taken_for_one() {
        let kept = with(&[("asked", json!("$.count")), ("failed", json!("$.bad"))]).unwrap();
        for (answer, word) in [
            (json!({}), "no number at $.count"),
            (json!({"count": null}), "no number"),
            (json!({"count": "many"}), "no number"),
            (json!({"count": -1}), "no count"),
            (json!({"count": "NaN"}), "no count"),
            (json!({"count": "inf"}), "no count"),
            (json!({"count": 1, "bad": 2}), "2 of 1 requests"),
            (json!([]), "no number"),
        ] {
            let error = kept.count(&answer).unwrap_err();
            assert!(error.contains(word), "{answer}: {error}");
        }
    }
}

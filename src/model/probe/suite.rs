//! A suite of tests in an image of the owner's, run as a Job: what it is told, and what its end means.
//!
//! Deliberately absent from what leaves: its log. Names of tests that failed leave, cut to harmless letters; the log itself stays with the
//! Job, for those who may read it.

use std::{net::SocketAddr, time::Duration};

use quick_xml::{Reader, events::Event};
use serde_json::{Map, Value, json};

use super::{Class, Outcome, RunName, Scheme};
use crate::model::window::Windows;

/// Names of failed tests in a sentence.
const NAMED: usize = 3;
/// Letters of such a name.
const LETTERS: usize = 60;
/// From its Job being made until its pod runs: an image is pulled in that time, or a node is added.
pub const STARTS_WITHIN: Duration = Duration::from_mins(5);

/// A suite.
#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    /// The `CronJob` that it is made of.
    pub cron_job: String,
    /// `spec.jobTemplate.spec` of that, as stored.
    pub job: Value,
    /// How long it may run.
    pub within: Duration,
    /// The exit codes that say: the target is wrong.
    pub fails_with: Vec<i32>,
    /// When it is not started.
    pub not_within: Windows,
    /// For whatever it draws by chance. The same for both sides of a pair.
    pub seed: u32,
    /// What it sends, where it is a load.
    pub load: Option<Load>,
}

/// What a load sends to each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Requests a second.
    pub per_second: u32,
    /// For how long.
    pub lasts: Duration,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its container did.
    Exited {
        /// With this code.
        code: i32,
        /// With these last words: what it wrote to its termination log, else the end of its log.
        message: String,
    },
    /// It ran longer than it may.
    TooLong,
    /// It never ran, or was taken away: why, in a few words. Not the doing of what it asks.
    Lost(String),
}

impl Suite {
    /// Of one that does not say otherwise.
    pub const WITHIN: Duration = Duration::from_mins(10);

    /// The most that its Job is waited for.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.within.saturating_add(STARTS_WITHIN)
    }

    /// The spec of the Job that runs it once against an address. The owner's, with the environment of the contract in every container,
    /// one try, an end, and a log whose end is kept.
    #[must_use]
    pub fn spec(&self, asks: &Asks<'_>, labels: &Value, kept: Duration) -> Value {
        let mut spec = self.job.as_object().cloned().unwrap_or_default();
        for key in ["selector", "manualSelector", "suspend", "completions", "parallelism", "backoffLimitPerIndex", "podFailurePolicy"] {
            spec.remove(key);
        }
        spec.insert("backoffLimit".to_owned(), json!(0));
        // Its pod may wait for a node or an image first; the suite itself is told of the shorter time.
        spec.insert("activeDeadlineSeconds".to_owned(), json!(self.limit().as_secs()));
        spec.insert("ttlSecondsAfterFinished".to_owned(), json!(kept.as_secs()));
        within(&mut spec, "template", |template| {
            within(template, "metadata", |metadata| {
                within(metadata, "labels", |all| all.extend(labels.as_object().cloned().unwrap_or_default()));
            });
            within(template, "spec", |pod| {
                pod.insert("restartPolicy".to_owned(), json!("Never"));
                let containers = pod.get_mut("containers").and_then(Value::as_array_mut);
                containers.into_iter().flatten().filter_map(Value::as_object_mut).for_each(|container| self.tell(container, asks));
            });
        });
        Value::Object(spec)
    }

    fn tell(&self, container: &mut Map<String, Value>, asks: &Asks<'_>) {
        container.entry("terminationMessagePolicy").or_insert_with(|| json!("FallbackToLogsOnError"));
        let ours = |variable: &Value| variable.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with("HALDANE_"));
        let mut env = container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
        env.retain(|variable| !ours(variable));
        env.extend(self.env(asks).into_iter().map(|(name, value)| json!({"name": name, "value": value})));
        container.insert("env".to_owned(), Value::Array(env));
    }

    /// What it is told.
    fn env(&self, asks: &Asks<'_>) -> Vec<(&'static str, String)> {
        let (scheme, usual) = match asks.scheme {
            Scheme::Http => ("http", 80),
            Scheme::Https => ("https", 443),
        };
        let (name, port) =
            asks.host.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?))).unwrap_or((asks.host, usual));
        let address = match asks.at {
            SocketAddr::V4(at) => at.ip().to_string(),
            SocketAddr::V6(at) => format!("[{}]", at.ip()),
        };
        let load = self.load.iter().flat_map(|load| {
            [("HALDANE_RATE", load.per_second.to_string()), ("HALDANE_DURATION_SECONDS", load.lasts.as_secs().to_string())]
        });
        let told = [
            ("HALDANE_TARGET", format!("{scheme}://{}", asks.at)),
            ("HALDANE_HOST", asks.host.to_owned()),
            ("HALDANE_URL", format!("{scheme}://{}", asks.host)),
            ("HALDANE_CONNECT_TO", format!("{name}:{port}:{address}:{}", asks.at.port())),
            ("HALDANE_RUN_ID", asks.run.as_str().to_owned()),
            ("HALDANE_DEADLINE_SECONDS", self.within.as_secs().to_string()),
            ("HALDANE_SEED", self.seed.to_string()),
        ];
        told.into_iter().chain(load).collect()
    }

    /// What that says about the target.
    #[must_use]
    pub fn outcome(&self, ended: Ended, took: Duration) -> Outcome {
        let fail = |class: Class, said: String| Outcome::Fail { class, step: self.cron_job.clone(), said, status: None, took };
        match ended {
            Ended::Exited { code: 0, .. } => Outcome::Pass { took },
            Ended::Exited { code, message } if self.fails_with.contains(&code) => {
                let named = failed(&message);
                let tests = if named.is_empty() { String::new() } else { format!("; failed: {}", shown(&named)) };
                fail(Class::Assertion, format!("suite {} ended with exit code {code}{tests}", self.cron_job))
            }
            Ended::Exited { code, .. } => Outcome::Void {
                class: Class::Setup,
                said: format!(
                    "suite {} ended with exit code {code}, which says nothing: 0 passes, and {} fails (job.failsWith)",
                    self.cron_job,
                    self.fails_with.iter().map(i32::to_string).collect::<Vec<_>>().join(" or ")
                ),
            },
            Ended::TooLong => fail(Class::Timeout, format!("suite {} did not end within {} s", self.cron_job, self.within.as_secs())),
            Ended::Lost(why) => Outcome::Void { class: Class::Prober, said: format!("suite {} {why}", self.cron_job) },
        }
    }
}

/// Whom a run asks, and as what.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'a> {
    /// The pod.
    pub at: SocketAddr,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// What a customer would ask for.
    pub host: &'a str,
    /// The name of the run.
    pub run: &'a RunName,
}

/// Edits an object in an object; what is none there becomes one.
fn within(map: &mut Map<String, Value>, key: &str, edit: impl FnOnce(&mut Map<String, Value>)) {
    let mut inner = match map.remove(key) {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    edit(&mut inner);
    map.insert(key.to_owned(), Value::Object(inner));
}

/// The tests that failed, by their `JUnit` report, as much of it as there is: the beginning of what is longer than 4 KiB is lost on the way.
fn failed(message: &str) -> Vec<String> {
    let begin = message.find("<testcase").unwrap_or(message.len());
    let mut reader = Reader::from_str(message.get(begin..).unwrap_or_default());
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    let (mut names, mut test) = (Vec::new(), None);
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Eof => break,
            Event::Start(tag) if tag.name().as_ref() == b"testcase" => test = name(&tag),
            Event::End(tag) if tag.name().as_ref() == b"testcase" => test = None,
            Event::Start(tag) | Event::Empty(tag) if matches!(tag.name().as_ref(), b"failure" | b"error") => names.extend(test.take()),
            _ => {}
        }
    }
    names
}

/// `class.name` of a test, in letters that harm nobody.
fn name(tag: &quick_xml::events::BytesStart<'_>) -> Option<String> {
    let text = |key: &str| {
        let value = tag.try_get_attribute(key).ok()??.unescape_value().ok()?;
        Some(value.into_owned()).filter(|value| !value.is_empty())
    };
    let whole = match (text("classname"), text("name")) {
        (Some(class), Some(name)) => format!("{class}.{name}"),
        (one, other) => one.or(other)?,
    };
    let harmless = |c: char| if c.is_ascii_alphanumeric() || " ._-:/()[],".contains(c) { c } else { '?' };
    Some(whole.chars().take(LETTERS).map(harmless).collect())
}

fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let some: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    if more == 0 { some.join(", ") } else { format!("{} and {more} more", some.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::probe::RunName;

    fn suite() -> Suite {
        Suite {
            cron_job: "e2e".to_owned(),
            job: Value::Null,
            within: Duration::from_mins(10),
            fails_with: vec![1, 4],
            not_within: Windows::default(),
            seed: 7,
            load: None,
        }
    }

    fn exited(code: i32, message: &str) -> Outcome {
        suite().outcome(Ended::Exited { code, message: message.to_owned() }, Duration::from_secs(3))
    }

    fn said(outcome: Outcome) -> String {
        match outcome {
            Outcome::Pass { .. } => "passed".to_owned(),
            Outcome::Fail { said, class, .. } => format!("{class} {said}"),
            Outcome::Void { said, class } => format!("void {class} {said}"),
        }
    }

    fn run() -> RunName {
        RunName::new("2026-01-02T03:04:05Z".parse().unwrap(), [7; RunName::RANDOM])
    }

    #[test]
    fn an_exit_code_passes_fails_or_says_nothing() {
        assert_eq!(said(exited(0, "anything")), "passed");
        assert_eq!(said(exited(1, "panicked at secret-token")), "assertion suite e2e ended with exit code 1");
        assert_eq!(said(exited(4, "")), "assertion suite e2e ended with exit code 4");
        assert_eq!(
            said(exited(137, "")),
            "void setup suite e2e ended with exit code 137, which says nothing: 0 passes, and 1 or 4 fails (job.failsWith)"
        );
        assert_eq!(said(suite().outcome(Ended::TooLong, Duration::ZERO)), "timeout suite e2e did not end within 600 s");
        assert_eq!(said(suite().outcome(Ended::Lost("was evicted".to_owned()), Duration::ZERO)), "void prober suite e2e was evicted");
    }

    #[test]
    fn failed_tests_are_named_and_nothing_else_of_the_report() {
        let report = r#"<testsuites tests="4"><testsuite name="shop"><testcase classname="orders" name="places"/>
            <testcase classname="orders" name="pays"><failure message="token=s3cret">s3cret &amp; more</failure></testcase>
            <testcase name="cancels &lt;x&gt;"><error>boom</error></testcase><testcase name="skipped"><skipped/></testcase>
            </testsuite></testsuites>"#;
        assert_eq!(said(exited(1, report)), "assertion suite e2e ended with exit code 1; failed: orders.pays, cancels ?x?");
    }

    #[test]
    fn a_report_that_is_cut_off_or_hostile_gives_what_it_can() {
        let cut = r#"ilure></testcase><testcase name="a"><failure/></testcase><testcase name="b"></testsuite><testcase name="c"><fai"#;
        assert_eq!(said(exited(1, cut)), "assertion suite e2e ended with exit code 1; failed: a");
        let many = (0..9).map(|n| format!(r#"<testcase name="t{n}"><failure/></testcase>"#)).collect::<Vec<_>>().concat();
        assert_eq!(said(exited(1, &many)), "assertion suite e2e ended with exit code 1; failed: t0, t1, t2 and 6 more");
        let long = format!(r#"<testcase name="{}"><failure/></testcase>"#, "\u{1b}<!channel>ä".repeat(999).replace('<', "&lt;"));
        assert!(said(exited(1, &long)).len() < 120, "{}", said(exited(1, &long)));
        assert!(!said(exited(1, &long)).contains(['\u{1b}', '<', '!', 'ä']));
        for hostile in
            ["<testcase", "<testcase name=", "<testcase name='a'><failure>&boom;", "\0\u{feff}<testcase/>", "<testcase <testcase"]
        {
            assert_eq!(said(exited(1, hostile)).split(';').next(), Some("assertion suite e2e ended with exit code 1"), "{hostile}");
        }
    }

    #[test]
    fn the_job_is_the_owners_with_the_contract_in_every_container() {
        let owners = json!({"parallelism": 9, "completions": 9, "backoffLimit": 6, "fieldOfTomorrow": 1, "template": {
            "metadata": {"labels": {"app": "e2e"}},
            "spec": {"newer": 1, "restartPolicy": "OnFailure", "containers": [
                {"name": "a", "env": [{"name": "HALDANE_TARGET", "value": "http://elsewhere"}, {"name": "X", "value": "y"}]},
                {"name": "b", "terminationMessagePolicy": "File"}]}}});
        let suite = Suite { job: owners, ..suite() };
        let (name, at) = (run(), "10.1.2.3:8080".parse().unwrap());
        let asks = Asks { at, scheme: Scheme::Https, host: "shop.example.com:8443", run: &name };
        let spec = suite.spec(&asks, &json!({"haldane.dev/probe": "e2e"}), Duration::from_hours(1));
        assert_eq!(
            (spec["backoffLimit"].as_i64(), spec["activeDeadlineSeconds"].as_i64(), spec["ttlSecondsAfterFinished"].as_i64()),
            (Some(0), Some(900), Some(3600))
        );
        assert!(spec.get("parallelism").is_none() && spec["fieldOfTomorrow"] == 1);
        let pod = &spec["template"]["spec"];
        assert_eq!((pod["restartPolicy"].as_str(), pod["newer"].as_i64()), (Some("Never"), Some(1)));
        assert_eq!(spec["template"]["metadata"]["labels"], json!({"app": "e2e", "haldane.dev/probe": "e2e"}));
        let env = |container: usize| -> Vec<String> {
            let all = pod["containers"][container]["env"].as_array().unwrap();
            all.iter().map(|v| format!("{}={}", v["name"].as_str().unwrap(), v["value"].as_str().unwrap())).collect()
        };
        let told = [
            "HALDANE_TARGET=https://10.1.2.3:8080".to_owned(),
            "HALDANE_HOST=shop.example.com:8443".to_owned(),
            "HALDANE_URL=https://shop.example.com:8443".to_owned(),
            "HALDANE_CONNECT_TO=shop.example.com:8443:10.1.2.3:8080".to_owned(),
            format!("HALDANE_RUN_ID={}", name.as_str()),
            "HALDANE_DEADLINE_SECONDS=600".to_owned(),
            "HALDANE_SEED=7".to_owned(),
        ];
        assert_eq!(env(1), told);
        assert_eq!(env(0), [vec!["X=y".to_owned()], told.to_vec()].concat());
        assert_eq!(pod["containers"][0]["terminationMessagePolicy"], "FallbackToLogsOnError");
        assert_eq!(pod["containers"][1]["terminationMessagePolicy"], "File");
    }

    #[test]
    fn a_load_is_told_how_much_and_for_how_long() {
        let (name, at) = (run(), "10.1.2.3:80".parse().unwrap());
        let asks = Asks { at, scheme: Scheme::Http, host: "shop", run: &name };
        let told = Suite { load: Some(Load { per_second: 50, lasts: Duration::from_mins(1) }), ..suite() }.env(&asks);
        let of = |name: &str| told.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str());
        assert_eq!((of("HALDANE_RATE"), of("HALDANE_DURATION_SECONDS")), (Some("50"), Some("60")));
        assert!(suite().env(&asks).iter().all(|(name, _)| !["HALDANE_RATE", "HALDANE_DURATION_SECONDS"].contains(name)));
    }

    #[test]
    fn a_template_that_is_none_becomes_one_that_the_api_server_refuses_in_its_own_words() {
        let (name, at) = (run(), "[fd00::1]:80".parse().unwrap());
        let asks = Asks { at, scheme: Scheme::Http, host: "shop", run: &name };
        let suite = Suite { job: json!({"template": 7}), ..suite() };
        assert_eq!(suite.spec(&asks, &json!({}), Duration::ZERO)["template"]["spec"]["restartPolicy"], "Never");
        let told = suite.env(&asks);
        assert_eq!((told[0].1.as_str(), told[3].1.as_str()), ("http://[fd00::1]:80", "shop:80:[fd00::1]:80"));
    }
}

//! What of an app's log judges its versions: which lines are errors, which raise an alert, and what lines of one kind have in common.
//!
//! Lines are bytes: a log may hold anything. Absent on purpose: where lines come from, and how many make a verdict.

use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use crate::api::verify::{LogAlert, LogsSpec};

mod signature;

pub use signature::{plain, signature};

/// What a compiled expression may take: many times that of any that names a few words. 9 × 256 KiB = 2.3 MiB an app at worst.
const COMPILED: usize = 256 * 1024;
/// An alert looks back so far.
const WITHIN: Duration = Duration::from_mins(15);
/// Lines of a level from error on, in the ways of the usual loggers (JSON, logfmt, klog, the word in capitals), and how runtimes tell that
/// a program has given up.
const ERRORS: &str = concat!(
    r#"(?i:["']?(?:level|severity|lvl|loglevel)["']?\s*[:=]\s*["']?(?:error|err|fatal|panic|critical|crit|alert|emerg))"#,
    r"|\b(?:ERROR|FATAL|PANIC|CRITICAL|SEVERE)\b",
    r"|^[EF]\d{4} \d\d:",
    r"|^panic: |^fatal error: |\bpanicked at\b|^Traceback \(most recent call last\)|^(?:Uncaught |Unhandled )|^Exception in thread ",
);

/// What of an app's log judges its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRules {
    /// The container whose log is read; none: the one that `kubectl logs` takes.
    pub container: Option<String>,
    /// Which lines are errors.
    pub errors: Pattern,
    /// Lines that should not come.
    pub alerts: Vec<Alert>,
}

/// Lines that should not come.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// Which.
    pub lines: Pattern,
    /// So many are nothing yet.
    pub more_than: u32,
    /// In this time.
    pub within: Duration,
    /// It takes a version back by itself.
    pub absolute: bool,
}

/// Which lines are meant.
#[derive(Clone, Debug)]
pub struct Pattern {
    said: String,
    like: Regex,
}

/// What it says is what it is.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.said == other.said && self.like.as_str() == other.like.as_str()
    }
}

impl Pattern {
    /// Lines with this text in them.
    ///
    /// # Errors
    /// When the text is far longer than any field allows.
    pub fn containing(text: &str) -> Result<Self, String> {
        Self::compiled(text, &regex::escape(text))
    }

    /// Lines of which this regular expression fits a part.
    ///
    /// # Errors
    /// In a sentence, when it is none.
    pub fn matching(expression: &str) -> Result<Self, String> {
        Self::compiled(expression, expression)
    }

    fn compiled(said: &str, expression: &str) -> Result<Self, String> {
        let like = RegexBuilder::new(expression).unicode(false).size_limit(COMPILED).dfa_size_limit(COMPILED).build();
        let like = like.or_else(|_| RegexBuilder::new(expression).size_limit(COMPILED).dfa_size_limit(COMPILED).build());
        let why = |error: regex::Error| match error {
            regex::Error::CompiledTooBig(_) => format!("is too large an expression: {said}; take out large numbers of repetitions"),
            other => format!("is no regular expression ({}): {said}", last_line(&other)),
        };
        like.map(|like| Self { said: said.to_owned(), like }).map_err(why)
    }

    /// Whether this line is one of them.
    #[must_use]
    pub fn hits(&self, line: &[u8]) -> bool {
        self.like.is_match(line)
    }

    /// As it was said.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }
}

/// What the parser says is a drawing of the expression; its last line is the reason.
fn last_line(error: &regex::Error) -> String {
    let said = error.to_string();
    said.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

impl LogRules {
    /// What the owner asked for, with every default filled in.
    ///
    /// # Errors
    /// In a sentence that goes on the name of the field: which expression is none.
    pub fn read(spec: &LogsSpec) -> Result<Self, String> {
        let errors = Pattern::matching(spec.errors.as_deref().unwrap_or(ERRORS)).map_err(|why| format!("errors {why}"))?;
        let alerts = spec.alerts.iter().map(Alert::read).collect::<Result<_, _>>()?;
        Ok(Self { container: spec.container.clone(), errors, alerts })
    }
}

impl Alert {
    fn read(spec: &LogAlert) -> Result<Self, String> {
        let (field, lines) = match (&spec.contains, &spec.matches) {
            (Some(text), _) => ("contains", Pattern::containing(text)),
            (None, expression) => ("matches", Pattern::matching(expression.as_deref().unwrap_or_default())),
        };
        Ok(Self {
            name: spec.name.clone(),
            lines: lines.map_err(|why| format!("alerts[{}].{field} {why}", spec.name))?,
            more_than: spec.more_than.unwrap_or(0),
            within: spec.within.map_or(WITHIN, |span| span.0),
            absolute: spec.absolute.unwrap_or_default(),
        })
    }

    /// As people and the book know it; a kind of error line begins with a quotation mark there.
    #[must_use]
    pub fn title(&self) -> String {
        format!("alert {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(errors: Option<&str>) -> Result<LogRules, String> {
        LogRules::read(&LogsSpec { errors: errors.map(str::to_owned), ..LogsSpec::default() })
    }

    #[test]
    fn lines_of_a_level_from_error_on_are_errors_and_others_are_not() {
        let rules = rules(None).unwrap();
        for line in [
            r#"{"time":"2026-01-01T00:00:00Z","level":"error","msg":"cannot charge"}"#,
            r#"{"severity": "CRITICAL"}"#,
            "time=x level=fatal msg=\"gone\"",
            "2026-01-01 12:00:00,123 ERROR [main] c.a.Shop - lost",
            "E0102 12:00:00.000000 1 shop.go:17] lost",
            "panic: runtime error: index out of range",
            "thread 'main' panicked at src/main.rs:1:1:",
            "Traceback (most recent call last):",
            "Exception in thread \"main\" java.lang.Error",
        ] {
            assert!(rules.errors.hits(line.as_bytes()), "{line}");
        }
        for line in [
            r#"{"level":"info","msg":"0 errors"}"#,
            "INFO handled error=none",
            "GET /errors/17 200",
            "E-mail sent",
            "level=warn msg=\"slow\"",
            "MIRRORED",
        ] {
            assert!(!rules.errors.hits(line.as_bytes()), "{line}");
        }
        assert!(rules.errors.hits(b"\xff\xfe\x00 ERROR \xc3\x28"), "whatever else is in the line");
    }

    #[test]
    fn what_is_no_expression_is_told_with_its_field() {
        let said = rules(Some("lost (")).unwrap_err();
        assert!(said.starts_with("errors is no regular expression (") && said.ends_with("): lost ("), "{said}");
        let said = rules(Some("(a{1000}){1000}")).unwrap_err();
        assert!(said.starts_with("errors is too large an expression: "), "{said}");
        let alert = |matches: &str| LogAlert { name: "flow".into(), matches: Some(matches.into()), ..LogAlert::default() };
        let said = LogRules::read(&LogsSpec { alerts: vec![alert("["), alert("b")], ..LogsSpec::default() }).unwrap_err();
        assert!(said.starts_with("alerts[flow].matches is no regular expression"), "{said}");
        let long = LogAlert { matches: None, contains: Some("*".repeat(256)), ..alert("") };
        assert!(LogRules::read(&LogsSpec { alerts: vec![long], ..LogsSpec::default() }).is_ok(), "the longest text that the schema allows");
    }

    #[test]
    fn a_text_is_taken_letter_by_letter_and_an_alert_has_its_defaults() {
        let spec = LogAlert { name: "flow".into(), contains: Some("Flow.*Error(".into()), ..LogAlert::default() };
        let rules = LogRules::read(&LogsSpec { alerts: vec![spec], ..LogsSpec::default() }).unwrap();
        let alert = &rules.alerts[0];
        assert!(alert.lines.hits(b"a Flow.*Error( b") && !alert.lines.hits(b"FlowXError("));
        assert_eq!((alert.more_than, alert.within, alert.absolute, alert.title().as_str()), (0, WITHIN, false, "alert flow"));
        assert!(rules == rules.clone() && Pattern::containing("a.").unwrap() != Pattern::matching("a.").unwrap());
        assert_eq!(Pattern::matching("p[äö]st").map(|p| p.hits("the päst".as_bytes())), Ok(true), "letters beyond ASCII, too");
    }
}

//! The text in which apps show their metrics: Prometheus' exposition format 0.0.4, and `OpenMetrics` 1.0 as far as both agree.
//!
//! Of a text of megabytes the few lines of one metric are read, and nothing is kept of the rest. A line that is not in the format is no
//! sample; what it may have meant is not guessed.

use std::borrow::Cow;

/// Names and values, in the order of the line.
type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// One line: what it is of and how much.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    labels: Labels<'a>,
    /// A number that can be a count: finite and not negative.
    pub value: f64,
}

impl<'a> Sample<'a> {
    /// A sample that came otherwise.
    pub fn new(labels: impl Iterator<Item = (&'a str, &'a str)>, value: f64) -> Self {
        Self { labels: labels.map(|(name, value)| (name, Cow::Borrowed(value))).collect(), value }
    }

    /// The value of a label; one that is not there is empty, as it is for Prometheus.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value)
    }
}

/// The samples of this metric. Those that are no count (NaN, infinite, below zero) are left out.
pub fn samples<'a>(text: &'a str, name: &str) -> impl Iterator<Item = Sample<'a>> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ', '\t']).then(|| sample(rest)).flatten()
    })
}

/// What stands behind the name.
fn sample(rest: &str) -> Option<Sample<'_>> {
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    // Behind the value: a time, or an exemplar.
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(Sample { labels, value })
}

/// `name="value",…}` and what follows it.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.push((name.trim(), value));
        rest = after;
    }
}

/// A text in quotes, in which `\\`, `\"` and `\n` are escaped, and what follows it.
pub(super) fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|letter: char| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    })?;
    let (raw, rest) = inside.split_at(end);
    Some((plain(raw), rest.strip_prefix('"')?))
}

fn plain(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut letters = raw.chars();
    let mut plain = String::with_capacity(raw.len());
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounterVec, Opts, Registry, TextEncoder};

    use super::*;

    /// The example of Prometheus' own documentation of the format.
    const DOCUMENTED: &str = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320
"#;

    fn read(name: &str) -> Vec<Sample<'static>> {
        samples(DOCUMENTED, name).collect()
    }

    #[test]
    fn the_documented_example_is_read() {
        let requests = read("http_requests_total");
        assert_eq!(requests.iter().map(|s| (s.label("code"), s.value)).collect::<Vec<_>>(), [("200", 1027.0), ("400", 3.0)]);
        let files = read("msdos_file_access_time_seconds");
        assert_eq!(files[0].label("path"), "C:\\DIR\\FILE.TXT");
        assert_eq!(files[0].label("error"), "Cannot find file:\n\"FILE.TXT\"");
        assert!((read("metric_without_timestamp_and_labels")[0].value - 12.47).abs() < 1e-12);
        assert!(read("something_weird").is_empty(), "infinite is no count");
        assert_eq!(read("http_request_duration_seconds_bucket").len(), 2);
        assert!(read("http_requests").is_empty(), "a name is a whole one");
        assert_eq!(requests[0].label("path"), "");
    }

    #[test]
    fn what_a_client_library_writes_is_read() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("c", "C."), &["odd"]).unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        let odd = ["", "a\"b", "back\\slash", "new\nline", "a,b=\"c\"}", "é☂"];
        odd.iter().zip(1..).for_each(|(value, count)| counter.with_label_values(&[value]).inc_by(count));
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for (value, count) in odd.iter().zip(1_u32..) {
            let found = samples(&text, "c").find(|sample| sample.label("odd") == *value);
            assert_eq!(found.map(|sample| sample.value), Some(f64::from(count)), "{value:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_format_is_no_sample() {
        for line in [
            "c",
            "c ",
            "c x",
            "c{",
            "c{a}",
            "c{a=}",
            "c{a=\"}",
            "c{a=\"b\" 1",
            "c{a=\"\\\" 1",
            "c{} ",
            "c{}",
            "c -1",
            "c NaN",
            "c\u{0} 1",
            "c{a=b} 1",
        ] {
            assert_eq!(samples(line, "c").count(), 0, "{line:?}");
        }
        for line in ["c 1", "c{} 1", "c\t1", "c{a=\"b\",} 1", "c{ a = \"b\" , b=\"\" } 1 # {id=\"x\"} 1 1", "c{a=\"b\"}1"] {
            assert_eq!(samples(line, "c").count(), 1, "{line:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_fail(text in "\\PC*", tail in proptest::collection::vec(proptest::char::any(), 0..60)) {
            let hostile: String = tail.into_iter().collect();
            let _ = samples(&text, "c").count();
            let _ = samples(&format!("c{{{hostile}\nc{hostile}\nc{{a=\"{hostile}"), "c").count();
        }
    }
}

//! Which series are meant, in the words of Prometheus: `code=~"5..",method!="HEAD"`.

use regex::Regex;

use super::exposition::quoted;

/// Of a text that says which.
const LONGEST: usize = 512;
/// What a compiled expression may take: many times that of any that names a few codes.
const COMPILED: usize = 256 * 1024;

/// Conditions on labels; all must hold.
#[derive(Clone, Debug)]
pub struct Matchers {
    said: String,
    each: Vec<Matcher>,
}

#[derive(Clone, Debug)]
struct Matcher {
    label: String,
    /// It must be so, or must not.
    wanted: bool,
    is: Is,
}

#[derive(Clone, Debug)]
enum Is {
    Text(String),
    Like(Regex),
}

/// What they say is what they are.
impl PartialEq for Matchers {
    fn eq(&self, other: &Self) -> bool {
        self.said == other.said
    }
}

impl Matchers {
    /// Reads them.
    ///
    /// # Errors
    /// In a sentence: where it cannot be read and how it should be.
    pub fn parse(said: &str) -> Result<Self, String> {
        if said.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} letters"));
        }
        let mut rest = said.trim();
        rest = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(rest).trim();
        let mut each = Vec::new();
        while !rest.is_empty() {
            let (matcher, after) = one(rest)?;
            each.push(matcher);
            rest = after.trim_start();
            rest = match rest.strip_prefix(',') {
                Some(after) => after.trim_start(),
                None if rest.is_empty() => rest,
                None => return Err(format!("cannot be read from {rest}; write conditions with commas between them, as {EXAMPLE}")),
            };
        }
        if each.is_empty() { Err(format!("is empty; write as {EXAMPLE}")) } else { Ok(Self { said: said.to_owned(), each }) }
    }

    /// Whether all hold. A label that is not there is empty.
    pub fn hold<'a>(&self, label: impl Fn(&str) -> &'a str) -> bool {
        self.each.iter().all(|matcher| {
            let value = label(&matcher.label);
            matcher.wanted
                == match &matcher.is {
                    Is::Text(text) => value == text,
                    Is::Like(like) => like.is_match(value),
                }
        })
    }

    /// As they were said.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }
}

const EXAMPLE: &str = "code=~\"5..\",method!=\"HEAD\"";

fn one(text: &str) -> Result<(Matcher, &str), String> {
    let end = text.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).unwrap_or(text.len());
    let (label, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let operators = [("=~", true, true), ("!~", false, true), ("!=", false, false), ("=", true, false)];
    let known = operators.into_iter().find_map(|(operator, wanted, like)| Some((wanted, like, rest.strip_prefix(operator)?)));
    let Some((wanted, like, rest)) = known.filter(|_| !label.is_empty() && !label.starts_with(|first: char| first.is_ascii_digit())) else {
        return Err(format!("cannot be read from {text}; write a label and =, !=, =~ or !~, as {EXAMPLE}"));
    };
    let Some((value, rest)) = quoted(rest.trim_start()) else {
        return Err(format!("has no value in quotes for {label}; write as {EXAMPLE}"));
    };
    let is = if like {
        // As Prometheus: of the whole value.
        let whole = regex::RegexBuilder::new(&format!("^(?s:{value})$")).size_limit(COMPILED).build();
        Is::Like(whole.map_err(|_| format!("has an expression for {label} that is none, or too large: {value}"))?)
    } else {
        Is::Text(value.into_owned())
    };
    Ok((Matcher { label: label.to_owned(), wanted, is }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(said: &str, code: &str, method: &str) -> bool {
        let labels = [("code", code), ("method", method)];
        Matchers::parse(said).unwrap().hold(|name| labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| *value))
    }

    #[test]
    fn as_prometheus_reads_them() {
        assert!(holds("code=~\"5..\"", "503", "GET") && !holds("code=~\"5..\"", "5033", "GET") && !holds("code=~\"5..\"", "200", "GET"));
        assert!(holds("code!=\"200\"", "404", "GET") && holds("code!=\"200\"", "", "GET"));
        assert!(holds("{ code =~ \"5..|429\" , method != \"HEAD\", }", "429", "GET"));
        assert!(!holds("code=~\"5..|429\",method!=\"HEAD\"", "429", "HEAD"));
        assert!(holds("code!~\"2..|3..\"", "404", "GET") && !holds("code!~\"2..|3..\"", "301", "GET"));
        assert!(holds("absent=\"\"", "200", "GET"));
        assert!(holds("method=\"a\\\"b\"", "200", "a\"b"));
    }

    #[test]
    fn what_cannot_be_read_says_where_and_how() {
        for (said, word) in [
            ("", "is empty"),
            ("5xx", "cannot be read from 5xx"),
            ("code", "cannot be read from code"),
            ("code=500", "no value in quotes for code"),
            ("code=~\"5(\"", "an expression for code"),
            ("code=~\"(a{1000}){1000}\"", "an expression for code"),
            ("code=\"1\" method=\"2\"", "cannot be read from method"),
            ("code=\"1", "no value in quotes"),
        ] {
            let error = Matchers::parse(said).unwrap_err();
            assert!(error.contains(word), "{said}: {error}");
        }
        assert!(Matchers::parse(&format!("code=\"{}\"", "5".repeat(600))).unwrap_err().contains("longer"));
    }
}

//! What a step makes of an answer: what it keeps for the steps after it, and what must be true of it.
//!
//! Nothing here shows what the target said: a sentence has the words of the probe's own spec, and never a value of the answer.

use std::{collections::BTreeMap, time::Duration};

use cel::{
    Context, ExecutionError, Program, Value as Cel,
    common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr},
};
use jsonpath_rust::JsonPath as _;
use serde_json::Value;

/// An answer, as far as it is looked at.
#[derive(Clone, Default, PartialEq)]
pub struct Heard {
    /// Its status.
    pub status: u16,
    /// Its headers, by their names in small letters; of several with one name, all of them.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its body; none: it is no JSON.
    pub json: Option<Value>,
    /// From the request to the last byte.
    pub took: Duration,
}

/// What is kept of an answer, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The variable.
    pub name: String,
    /// Where it is.
    pub from: Place,
}

/// Where in an answer a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first node that a `JSONPath` (RFC 9535) finds: a string, a number or a boolean.
    Json(String),
    /// A header.
    Header(String),
    /// A cookie that is set.
    Cookie(String),
}

impl Capture {
    /// Of a path and of an expression: what a person can read, and a bound of what one of them costs.
    pub const MAX_TEXT: usize = 512;
    /// An identifier, a token or a link; it goes into a path or a header.
    pub const MAX_VALUE: usize = 4096;

    /// The value.
    ///
    /// # Errors
    /// What was not found, as a part of a sentence.
    pub fn of(&self, heard: &Heard) -> Result<String, String> {
        let value = match &self.from {
            Place::Json(path) => {
                let Some(json) = &heard.json else { return Err("answered with something that is not JSON".to_owned()) };
                let found = json.query(path).ok().and_then(|nodes| nodes.first().copied().and_then(scalar));
                found.ok_or_else(|| format!("answered without a value at {path} ({})", self.name))?
            }
            Place::Header(name) => {
                let found = heard.headers.get(&name.to_ascii_lowercase()).and_then(|values| values.first().cloned());
                found.ok_or_else(|| format!("answered without the header {name} ({})", self.name))?
            }
            Place::Cookie(name) => {
                cookie(heard, name).ok_or_else(|| format!("answered without setting the cookie {name} ({})", self.name))?
            }
        };
        if value.len() > Self::MAX_VALUE {
            return Err(format!("answered with more than {} bytes for {}", Self::MAX_VALUE, self.name));
        }
        Ok(value)
    }

    /// It needs the body.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        matches!(self.from, Place::Json(_))
    }

    /// What is wrong with it, and what to write instead.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &self.from {
            Place::Json(path) if path.len() > Self::MAX_TEXT => Some(format!("keep to {} bytes", Self::MAX_TEXT)),
            // Each `..` looks at every node below each that was found before: two of them at the square of the body.
            Place::Json(path) if path.matches("..").count() > 1 => Some("use '..' once; name the members on the way".to_owned()),
            Place::Json(path) => {
                let wrong = jsonpath_rust::parser::parse_json_path(path).is_err();
                wrong.then(|| "not a JSONPath (RFC 9535); write one like $.order.id".to_owned())
            }
            Place::Header(name) => http::HeaderName::from_bytes(name.as_bytes()).is_err().then(|| "not the name of a header".to_owned()),
            Place::Cookie(_) => None,
        }
    }
}

pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn cookie(heard: &Heard, name: &str) -> Option<String> {
    let pairs = heard.headers.get("set-cookie").into_iter().flatten().filter_map(|set| set.split(';').next()?.split_once('='));
    pairs.filter(|(set, _)| set.trim() == name).map(|(_, value)| value.trim().to_owned()).next()
}

/// What must be true of an answer: an expression in CEL over `status`, `headers`, `json` and `latency`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct That(pub String);

/// Why an expression does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untrue {
    /// The answer is not as it says.
    Answer(String),
    /// The expression itself is wrong.
    Spec(String),
}

/// The variables of an expression.
const KNOWN: [&str; 4] = ["status", "headers", "json", "latency"];
/// The nodes of a body that expressions are asked about. One comprehension looks at each of them, at about 10 µs: a fifth of a second.
const NODES: usize = 20_000;

impl That {
    /// It needs the body.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        Program::compile(&self.0).is_ok_and(|program| program.references().has_variable("json"))
    }

    /// What is wrong with it, and what to write instead.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.0.len() > Capture::MAX_TEXT {
            return Some(format!("keep to {} bytes", Capture::MAX_TEXT));
        }
        let Ok(program) = Program::compile(&self.0) else {
            let hint = if has_bare_span(&self.0) { "; a span of time is written duration('300ms')" } else { "" };
            return Some(format!("not an expression in CEL{hint}"));
        };
        let mut bound = KNOWN.to_vec();
        if nested(program.expression(), &mut bound) > 1 {
            return Some("all, exists, map and filter inside one another cost too much; use one".to_owned());
        }
        let unknown = program.references().variables().into_iter().find(|name| !bound.contains(name)).map(str::to_owned);
        unknown.map(|name| format!("there is no {name}; use {}", KNOWN.join(", ")))
    }

    /// Whether it is so.
    ///
    /// # Errors
    /// Why not, as a part of a sentence. It never has a value of the answer in it.
    pub fn holds(&self, heard: &Heard) -> Result<(), Untrue> {
        let wrong = |what: &str| Untrue::Spec(format!("{} cannot be asked: {what}", self.0));
        let program = Program::compile(&self.0).map_err(|_| wrong("not an expression in CEL"))?;
        if heard.json.as_ref().is_some_and(|json| nodes(json) > NODES) {
            return Err(wrong("the answer has more than 20,000 values"));
        }
        let mut context = Context::default();
        let headers: BTreeMap<&str, String> = heard.headers.iter().map(|(name, values)| (name.as_str(), values.join(", "))).collect();
        let latency = chrono::Duration::from_std(heard.took).unwrap_or(chrono::Duration::MAX);
        let set = context
            .add_variable("status", i64::from(heard.status))
            .and_then(|()| context.add_variable("headers", headers))
            .and_then(|()| context.add_variable("json", heard.json.clone().unwrap_or_default()));
        set.map_err(|_| wrong("the answer cannot be written in CEL"))?;
        context.add_variable_from_value("latency", Cel::Duration(latency));
        match program.execute(&context) {
            Ok(Cel::Bool(true)) => Ok(()),
            Ok(Cel::Bool(false)) => Err(Untrue::Answer(format!("answered, and {} is not so", self.0))),
            Ok(_) => Err(wrong("it is neither true nor false")),
            Err(ExecutionError::UndeclaredReference(name)) => Err(wrong(&format!("there is no {name}"))),
            // What is missing in an answer, or of another type than it should be, is the answer's doing.
            Err(_) if heard.json.is_none() && self.reads_body() => {
                Err(Untrue::Answer(format!("answered with something that is not JSON, so {} is not so", self.0)))
            }
            Err(_) => Err(Untrue::Answer(format!("answered without what {} asks for, or with another type", self.0))),
        }
    }
}

/// `300ms` outside of quotes is what people write first.
fn has_bare_span(text: &str) -> bool {
    let outside = text.split(['\'', '"']).step_by(2);
    let spans = |part: &str| {
        let ends = part.match_indices("ms").map(|(at, _)| at).chain(part.match_indices('s').map(|(at, _)| at));
        ends.filter_map(|at| part.get(..at)?.chars().last()).any(|before| before.is_ascii_digit())
    };
    outside.into_iter().any(spans)
}

fn nodes(json: &Value) -> usize {
    match json {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(nodes).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// How deep comprehensions lie in one another; the variables that they bind are added to `bound`.
fn nested<'a>(of: &'a IdedExpr, bound: &mut Vec<&'a str>) -> usize {
    let entries = |entries: &'a [IdedEntryExpr]| {
        let of = |entry: &'a IdedEntryExpr| match &entry.expr {
            EntryExpr::StructField(field) => vec![&field.value],
            EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        };
        entries.iter().flat_map(of).collect()
    };
    let (own, inner): (usize, Vec<&IdedExpr>) = match &of.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => (0, Vec::new()),
        Expr::Call(call) => (0, call.args.iter().chain(call.target.as_deref()).collect()),
        Expr::List(list) => (0, list.elements.iter().collect()),
        Expr::Map(map) => (0, entries(&map.entries)),
        Expr::Struct(of) => (0, entries(&of.entries)),
        Expr::Select(select) => (0, vec![&select.operand]),
        Expr::Comprehension(c) => {
            bound.extend([c.iter_var.as_str(), c.accu_var.as_str()].into_iter().chain(c.iter_var2.as_deref()));
            (1, vec![&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result])
        }
    };
    own + inner.into_iter().map(|expr| nested(expr, bound)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn heard(json: Value) -> Heard {
        let headers = [("content-type", vec!["application/json"]), ("set-cookie", vec!["a=1; Path=/", "sid = x9; HttpOnly"])];
        let headers = headers.map(|(name, values)| (name.to_owned(), values.into_iter().map(str::to_owned).collect()));
        Heard { status: 201, headers: headers.into(), json: Some(json), took: Duration::from_millis(40) }
    }

    fn order() -> Heard {
        heard(json!({"id": 17, "state": "open", "total": 19.95, "items": [{"sku": "tea"}, {"sku": "pot"}], "gift": false, "note": null}))
    }

    fn kept(from: Place) -> Result<String, String> {
        Capture { name: "x".into(), from }.of(&order())
    }

    #[test]
    fn values_are_found_where_they_are() {
        assert_eq!(kept(Place::Json("$.id".into())).as_deref(), Ok("17"));
        assert_eq!(kept(Place::Json("$.items[?@.sku == 'pot'].sku".into())).as_deref(), Ok("pot"));
        assert_eq!(kept(Place::Json("$..sku".into())).as_deref(), Ok("tea"));
        assert_eq!(kept(Place::Json("$.gift".into())).as_deref(), Ok("false"));
        assert_eq!(kept(Place::Header("Content-Type".into())).as_deref(), Ok("application/json"));
        assert_eq!(kept(Place::Cookie("sid".into())).as_deref(), Ok("x9"));
    }

    #[test]
    fn what_is_not_there_is_told_without_what_is() {
        for (from, says) in [
            (Place::Json("$.gone".into()), "without a value at $.gone"),
            (Place::Json("$.items".into()), "without a value at $.items"),
            (Place::Json("$.note".into()), "without a value at $.note"),
            (Place::Header("X-Id".into()), "without the header X-Id"),
            (Place::Cookie("b".into()), "without setting the cookie b"),
        ] {
            let said = kept(from).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        let long = heard(json!({"id": "a".repeat(5000)}));
        assert!(Capture { name: "x".into(), from: Place::Json("$.id".into()) }.of(&long).unwrap_err().contains("more than 4096 bytes"));
    }

    #[test]
    fn expressions_hold_or_not() {
        for so in [
            "status == 201 && json.state == 'open'",
            "json.total < 20",
            "json.id == 17",
            "json.items.all(i, i.sku != '')",
            "size(json.items) == 2",
            "latency < duration('300ms')",
            "headers['content-type'].startsWith('application/json')",
            "has(json.state) && !has(json.gone)",
            "json.state.matches('^o')",
        ] {
            assert_eq!(That(so.to_owned()).problem(), None, "{so}");
            assert_eq!(That(so.to_owned()).holds(&order()), Ok(()), "{so}");
        }
        for not in ["status == 200", "json.gone == 1", "json.state > 3", "latency > duration('1s')", "json.items[9].sku == 'x'"] {
            assert!(matches!(That(not.to_owned()).holds(&order()), Err(Untrue::Answer(_))), "{not}");
        }
    }

    #[test]
    fn no_answer_is_ever_shown() {
        let secret = heard(json!({"state": "tok3n-canary", "n": {"deep": "tok3n-canary"}}));
        for that in ["json.state == 1", "json.state > 3", "json.n.gone == 'x'", "json[json.state]", "size(json.n.deep) + json.state == 2"] {
            let said = That(that.to_owned()).holds(&secret).unwrap_err();
            assert!(!format!("{said:?}").contains("tok3n"), "{said:?}");
        }
    }

    #[test]
    fn wrong_expressions_say_what_to_write() {
        let problem = |text: &str| That(text.to_owned()).problem().unwrap_or_default();
        assert!(problem("latency < 300ms").contains("duration('300ms')"), "{}", problem("latency < 300ms"));
        assert!(problem("body.id == 1").contains("there is no body; use status, headers, json, latency"));
        assert!(problem("status ==").starts_with("not an expression"));
        assert!(problem("json.a.all(x, json.b.all(y, x == y))").contains("use one"));
        assert!(problem(&"1".repeat(600)).contains("512"));
        assert!(matches!(That("status".to_owned()).holds(&order()), Err(Untrue::Spec(_))), "neither true nor false");
        assert!(matches!(
            That("json.a == 1".to_owned()).holds(&Heard { json: None, ..order() }),
            Err(Untrue::Answer(said)) if said.contains("not JSON")
        ));
        let capture = |path: &str| Capture { name: "x".into(), from: Place::Json(path.into()) }.problem().unwrap_or_default();
        assert!(capture("id").contains("JSONPath"));
        assert!(capture("$..a..b").contains("'..' once"));
        assert_eq!(capture("$.a[0].b"), "");
    }

    #[test]
    fn a_body_that_is_too_large_for_an_expression_is_no_failure_of_the_target() {
        let many = heard(json!(vec![1; 30_000]));
        assert!(matches!(That("json.all(x, x == 1)".to_owned()).holds(&many), Err(Untrue::Spec(_))));
    }
}

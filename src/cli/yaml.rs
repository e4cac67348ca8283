//! JSON as YAML that people like to edit, with a comment where one helps. Only what our own objects need.

use std::fmt::Write as _;

use serde_json::Value;

/// A value as YAML. `comments` are (pointer of a key, text above it).
pub(crate) fn document(value: &Value, comments: &[(&str, String)]) -> String {
    let mut out = String::new();
    block(value, "", 0, comments, &mut out);
    out
}

fn block(value: &Value, at: &str, depth: usize, comments: &[(&str, String)], out: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                entry(key, inner, &format!("{at}/{key}"), depth, comments, out);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                item(inner, &format!("{at}/{index}"), depth, comments, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => line(out, depth, &scalar(value)),
    }
}

fn entry(key: &str, value: &Value, at: &str, depth: usize, comments: &[(&str, String)], out: &mut String) {
    for (_, text) in comments.iter().filter(|(pointer, _)| *pointer == at) {
        text.lines().for_each(|text| line(out, depth, &format!("# {text}")));
    }
    let key = scalar(&Value::String(key.to_owned()));
    match value {
        Value::Object(map) if !map.is_empty() => {
            line(out, depth, &format!("{key}:"));
            block(value, at, depth + 1, comments, out);
        }
        Value::Array(list) if !list.is_empty() => {
            line(out, depth, &format!("{key}:"));
            block(value, at, depth, comments, out);
        }
        _ => line(out, depth, &format!("{key}: {}", scalar(value))),
    }
}

fn item(value: &Value, at: &str, depth: usize, comments: &[(&str, String)], out: &mut String) {
    let mut inner = String::new();
    block(value, at, depth + 1, comments, &mut inner);
    // The first line that is no comment carries the dash.
    let mut dashed = false;
    for text in inner.lines() {
        let stripped = text.get(depth * 2 + 2..).unwrap_or(text);
        if dashed || stripped.starts_with('#') {
            out.push_str(text);
            out.push('\n');
        } else {
            line(out, depth, &format!("- {stripped}"));
            dashed = true;
        }
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}{text}", "  ".repeat(depth));
}

/// Plain where YAML cannot misread it, else as JSON, which is YAML, too.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let special = matches!(text.to_lowercase().as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n");
    if first && text.chars().all(word) && !special { text.clone() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_reads_like_a_manifest_and_no_text_turns_into_something_else() {
        let value = json!({"kind": "Delivery", "spec": {"empty": {}, "list": [{"name": "a", "port": 1}, {"name": "true"}], "plain": ["10s", "x"], "yes": "a: b #"}});
        let text = document(&value, &[("/spec/list", "first\nsecond".to_owned()), ("/spec/list/0/name", "inner".to_owned())]);
        let expected = "\
kind: Delivery
spec:
  empty: {}
  # first
  # second
  list:
    # inner
  - name: a
    port: 1
  - name: \"true\"
  plain:
  - \"10s\"
  - x
  \"yes\": \"a: b #\"
";
        assert_eq!(text, expected);
    }
}

//! What lines of one kind have in common, fit to be shown: without numbers, ids, addresses, and whatever stands in quotes or behind `=`.
//!
//! A log may hold the data of customers, and a signature is kept in the status and read by people: it has words, and of those only what the
//! line is about. Structured lines are known by their message alone.

use std::borrow::Cow;

use serde_json::Value;

/// Of a signature, in bytes: what fits into the book beside its quotation marks.
const LONGEST: usize = crate::decide::judge::logs::SIGNATURE - 2;
/// Of a word: longer ones are keys, tokens or data.
const WORD: usize = 24;
/// Letters that all are hexadecimal digits, so many in a row, are no word.
const HEX: usize = 8;
/// Where loggers put what they say, in the order in which it is looked for.
const MESSAGES: [&str; 9] = ["message", "msg", "error", "err", "exception", "event", "reason", "text", "log"];
const CUT: &str = "…";
const NUMBER: &str = "#";

/// The line without the colours of a terminal.
#[must_use]
pub fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&0x1b) {
        return Cow::Borrowed(line);
    }
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != 0x1b {
            plain.push(byte);
        } else if rest.next_if_eq(&b'[').is_some() {
            // ECMA-48: parameters up to the final byte.
            while rest.next().is_some_and(|byte| !(0x40..=0x7e).contains(&byte)) {}
        }
    }
    Cow::Owned(plain)
}

/// What this line has in common with others of its kind, in quotation marks; none: nothing that could be shown.
#[must_use]
pub fn signature(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let said = message(&text).unwrap_or(Cow::Borrowed(text.as_ref()));
    let words = words(&unquoted(&said));
    words.chars().any(char::is_alphabetic).then(|| format!("\"{}\"", shortened(&words)))
}

/// What a structured line says. Its first words: what follows is detail.
fn message(line: &str) -> Option<Cow<'_, str>> {
    let line = line.trim();
    if line.starts_with('{') {
        return match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(fields)) => {
                let text = |name: &&str| fields.get(*name).and_then(said);
                MESSAGES.iter().find_map(text).map(Cow::Owned)
            }
            // Cut off, or not what it seems: the message is looked for by its name.
            _ => MESSAGES.iter().find_map(|name| after(line, &format!("\"{name}\":\"")).map(Cow::Borrowed)),
        };
    }
    MESSAGES.iter().take(2).find_map(|name| after(line, &format!("{name}=\"")).map(Cow::Borrowed))
}

fn said(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => MESSAGES.iter().find_map(|name| fields.get(*name)?.as_str().map(str::to_owned)),
        _ => None,
    }
}

/// What stands between this and the next quotation mark.
fn after<'a>(line: &'a str, opening: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(opening)?;
    Some(rest.split('"').next().unwrap_or_default())
}

/// The text without what stands in quotes; one that is not closed goes to the end.
fn unquoted(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut inside: Option<char> = None;
    let mut before = ' ';
    for letter in text.chars() {
        match inside {
            Some(quote) if letter == quote => inside = None,
            Some(_) => {}
            // An apostrophe stands in a word; a quote begins one.
            None if matches!(letter, '"' | '`') || (letter == '\'' && !before.is_alphanumeric()) => {
                inside = Some(letter);
                plain.push_str(CUT);
            }
            None => plain.push(letter),
        }
        before = letter;
    }
    plain
}

/// Its words, with what is no word cut out of it.
fn words(text: &str) -> String {
    let mut kept: Vec<String> = Vec::new();
    for token in text.split_whitespace() {
        let token = cleaned(token);
        // Numbers in a row are one: a date and a time, say. One that leads is when.
        let number = token.trim_matches(|c: char| !c.is_alphabetic() && c != '…').is_empty();
        let repeated = number && kept.last().is_none_or(|last| last == NUMBER);
        if !(token.is_empty() || repeated) {
            kept.push(if number { NUMBER.to_owned() } else { token });
        }
    }
    kept.join(" ")
}

/// One token without what is in it of this one occurrence.
fn cleaned(token: &str) -> String {
    if token.contains('@') {
        return CUT.to_owned();
    }
    if let Some((key, _)) = token.split_once('=') {
        return format!("{}={CUT}", cleaned(key));
    }
    // Dates and UUIDs, of which a part may be letters alone.
    let bare = token.trim_matches(|letter: char| !letter.is_alphanumeric());
    let number = |letter: char| letter.is_ascii_hexdigit() || letter == '-';
    if bare.len() >= HEX && bare.chars().all(number) && bare.contains(|letter: char| letter.is_ascii_digit()) {
        return token.replace(bare, NUMBER);
    }
    let mut cleaned = String::with_capacity(token.len());
    for part in token.split_inclusive(|letter: char| !letter.is_alphanumeric()) {
        let (word, mark) = match part.char_indices().next_back() {
            Some((at, last)) if !last.is_alphanumeric() => part.split_at(at),
            _ => (part, ""),
        };
        cleaned.push_str(kept(word));
        cleaned.extend(mark.chars().filter(|mark| !mark.is_control() && *mark != '\u{fffd}'));
    }
    while let Some(at) = cleaned.find("#-#").or_else(|| cleaned.find("#.#")).or_else(|| cleaned.find("#:#")) {
        cleaned.replace_range(at..at + 3, NUMBER);
    }
    cleaned
}

fn kept(word: &str) -> &str {
    let long = word.chars().count() > WORD;
    if word.chars().any(char::is_numeric) {
        NUMBER
    } else if long || (word.len() >= HEX && word.chars().all(|letter| letter.is_ascii_hexdigit())) {
        CUT
    } else {
        word
    }
}

fn shortened(words: &str) -> &str {
    let end = (0..=LONGEST.min(words.len())).rev().find(|at| words.is_char_boundary(*at)).unwrap_or(0);
    let cut = words.get(..end).unwrap_or_default();
    // A word that was cut is another one.
    let whole = if end < words.len() { cut.rsplit_once(' ').map_or(cut, |(whole, _)| whole) } else { cut };
    whole.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        signature(line.as_bytes()).unwrap_or_default()
    }

    #[test]
    fn lines_of_one_kind_have_one_signature() {
        for (one, other, expected) in [
            ("2026-01-01T10:00:00.123Z ERROR lost order 17", "2026-01-02T11:00:01Z ERROR lost order 18812", r#""ERROR lost order #""#),
            (
                r#"{"time":"2026-01-01","level":"error","msg":"cannot charge card 4111","user":"ana"}"#,
                r#"{"level":"error","msg":"cannot charge card 5500","user":"bob"}"#,
                r#""cannot charge card #""#,
            ),
            (r#"level=error msg="cannot charge" order=17"#, r#"ts=5 level=error msg="cannot charge" order=x"#, r#""cannot charge""#),
            ("ERROR user 'ana smith' of \"ACME\" not found", "ERROR user 'bob' of \"X\" not found", r#""ERROR user … of … not found""#),
            (
                "ERROR trace 550e8400-e29b-41d4-a716-446655440000 failed",
                "ERROR trace 123e4567-abcd-12d3-a456-426614174000 failed",
                r#""ERROR trace # failed""#,
            ),
            (
                "E0102 12:00:00.000000 1 shop.go:17] lost ana@example.com",
                "E0103 13:00:01.5 1 shop.go:17] lost x@example.com",
                r#""shop.go:#] lost …""#,
            ),
            (
                "thread 'main' panicked at src/main.rs:42:7:",
                "thread 'w-1' panicked at src/main.rs:42:9:",
                r#""thread … panicked at src/main.rs:#:""#,
            ),
            ("ERROR token=hunter2 refused", "ERROR token=secret refused", r#""ERROR token=… refused""#),
        ] {
            assert_eq!((of(one).as_str(), of(other).as_str()), (expected, expected));
        }
        assert_ne!(of("thread 'main' panicked at src/main.rs:42:7:"), of("thread 'main' panicked at src/shop.rs:42:7:"));
        assert_eq!(of("ERROR can't open the door"), r#""ERROR can't open the door""#);
    }

    #[test]
    fn nothing_of_a_customer_is_shown() {
        for line in [
            "ERROR ana@example.com lost 4111 1111 1111 1111",
            r#"{"level":"error","message":"lost \"ana\" and 'bob'","card":"4111"}"#,
            "ERROR key AbCdEfGhIjKlMnOpQrStUvWxYzAbCd refused",
            "ERROR password='hunter two' refused",
            "ERROR https://shop.example.com/?name=ana deadbeef",
            "ERROR name=ana",
            "ERROR quote is not closed: \"ana bob",
        ] {
            let said = of(line);
            for secret in ["ana", "bob", "4111", "AbCd", "hunter", "deadbeef"] {
                assert!(!said.contains(secret), "{line}: {said}");
            }
        }
    }

    #[test]
    fn any_bytes_have_a_signature_or_none_and_never_a_long_one() {
        for line in [&b""[..], b"\xff\xfe\x00\x01", b"17 18 19", b"{\"level\":\"error\"", b"\x1b[31m\x1b[0m", "ä".repeat(9000).as_bytes()]
        {
            assert!(signature(line).is_none_or(|said| said.len() <= LONGEST + 2), "{line:?}");
        }
        assert_eq!(signature(b"17 18 19"), None);
        let long = of(&"lost ".repeat(2000));
        assert!(long.len() <= LONGEST + 2 && long.starts_with("\"lost lost") && long.ends_with("lost\""), "{long}");
        assert_eq!(of("ERROR \u{0}\u{7}bell\u{0}"), r#""ERROR bell""#);
        let cut = format!("{{\"level\":\"error\",\"msg\":\"cannot charge\",\"blob\":\"{}", "x".repeat(9000));
        assert_eq!(of(&cut), r#""cannot charge""#, "its end is beyond what is kept of a line");
    }

    #[test]
    fn colours_are_no_letters() {
        assert_eq!(&*plain(b"\x1b[1;31mERROR\x1b[0m lost\x1b"), b"ERROR lost");
        assert_eq!(&*plain(b"as it is"), b"as it is");
    }
}

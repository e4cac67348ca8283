//! What the code of the client says that it asks.

use std::{collections::BTreeSet, fs, path::Path};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/edge/github");

/// Its files, without comments.
fn files() -> Vec<(String, String)> {
    let entries = fs::read_dir(Path::new(CLIENT)).unwrap().map(|entry| entry.unwrap().path());
    let sources = entries.filter(|path| path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs"));
    let code = |text: String| text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    sources.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), code(fs::read_to_string(&path).unwrap()))).collect()
}

/// The files that make calls of REST; one as often as it makes them.
pub fn calls() -> Vec<String> {
    let mut found = Vec::new();
    // The one that knows how a call is made makes none.
    for (name, text) in files().into_iter().filter(|(name, _)| name != "wire.rs") {
        let calls = ["Question::get(", "Call::Get(", "Call::Post("].iter().map(|making| text.matches(making).count()).sum();
        // `Call::Post(..)` in a pattern asks nothing.
        found.extend(vec![name; calls]);
    }
    found.sort_unstable();
    found
}

/// The names of the documents of GraphQL.
pub fn documents() -> BTreeSet<String> {
    let name = |text: &str| text.split('(').next().filter(|name| name.chars().all(char::is_alphanumeric)).map(str::to_owned);
    let all = files();
    all.iter().flat_map(|(_, text)| text.split("\"query ").skip(1).filter_map(name)).collect()
}

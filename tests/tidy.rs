//! The rules of the house that a compiler does not know.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn sources(under: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT).join(under)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(ROOT).unwrap_or(Path::new("")).display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The code without its tests and comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    body.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn offences(files: &[(String, String)], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in files {
        for (at, line) in code(text) {
            found.extend(words.iter().filter(|word| line.contains(**word)).map(|word| format!("{name}:{at}: {word}: {}", line.trim())));
        }
    }
    found
}

#[test]
fn decide_and_model_know_no_client_clock_chance_async_or_kubernetes() {
    let mut files = sources("src/decide");
    files.extend(sources("src/model"));
    assert!(files.len() > 15, "the rooms have moved; tell this test where");
    let words = [
        "kube::",
        "k8s_openapi",
        "tokio",
        "futures",
        "hyper",
        "reqwest",
        "octocrab",
        "async fn",
        "async move",
        ".await",
        "rand::",
        "Instant::",
        "SystemTime",
        "Timestamp::now",
        "std::env",
        "std::fs",
        "std::net::Tcp",
        "crate::edge",
        "crate::act",
        "crate::observe",
        "crate::control",
        "crate::clock",
    ];
    assert_eq!(offences(&files, &words), Vec::<String>::new());
}

#[test]
fn values_go_one_way_through_the_rooms() {
    let act = sources("src/act");
    assert_eq!(
        offences(&act, &["crate::observe", "crate::decide::step", "crate::decide::rest", "crate::web", "crate::cli"]),
        Vec::<String>::new()
    );
    let observe = sources("src/observe");
    assert_eq!(offences(&observe, &["crate::act", ".patch(", ".delete(", ".replace("]), Vec::<String>::new());
    let edge = sources("src/edge");
    assert_eq!(offences(&edge, &["crate::decide", "crate::act", "crate::observe"]), Vec::<String>::new());
}

#[test]
fn time_comes_from_the_clock_alone() {
    let files: Vec<_> = sources("src").into_iter().filter(|(name, _)| name != "src/clock.rs" && !name.contains("tests")).collect();
    assert_eq!(offences(&files, &["Timestamp::now", "SystemTime::now", "std::time::Instant"]), Vec::<String>::new());
}

#[test]
fn yaml_is_written_in_one_place_and_read_in_none() {
    let files: Vec<_> = sources("src").into_iter().filter(|(name, _)| name != "src/api/crd_yaml.rs").collect();
    assert_eq!(offences(&files, &["serde_yaml"]), Vec::<String>::new());
    let writer: Vec<_> = sources("src/api").into_iter().filter(|(name, _)| name == "src/api/crd_yaml.rs").collect();
    assert_eq!(offences(&writer, &["from_str", "from_reader", "from_slice"]), Vec::<String>::new());
}

#[test]
fn anyhow_stays_at_the_door() {
    let door = |name: &str| name == "src/main.rs" || name.starts_with("src/cli") || name.starts_with("src/bin");
    let files: Vec<_> = sources("src").into_iter().filter(|(name, _)| !door(name)).collect();
    assert_eq!(offences(&files, &["anyhow"]), Vec::<String>::new());
}

#[test]
fn nothing_pretends() {
    let files = sources("src");
    assert_eq!(offences(&files, &["todo!(", "unimplemented!(", "dbg!(", "#[ignore"]), Vec::<String>::new());
}

#[test]
fn a_file_holds_one_idea() {
    // Past this a file is almost always two ideas. Tests and generated code may be longer.
    const LINES: usize = 420;
    let long: Vec<String> = sources("src")
        .iter()
        .filter(|(name, _)| !name.contains("tests"))
        .map(|(name, text)| (name, code(text).count()))
        .filter(|(_, lines)| *lines > LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert_eq!(long, Vec::<String>::new());
}

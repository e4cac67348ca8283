//! Commands, run to their end.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended with 0.
    pub ok: bool,
    /// On stdout.
    pub out: String,
    /// On stderr.
    pub err: String,
}

impl Said {
    /// What it wrote to stdout; the test fails with its stderr when it did not end well.
    #[track_caller]
    pub fn good(self) -> String {
        assert!(self.ok, "the command failed:\n{}{}", self.err, self.out);
        self.out
    }
}

/// Runs a command with this text on stdin.
pub fn run(command: &mut Command, stdin: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    let text = stdin.to_owned();
    // A program that fails early closes its stdin; what it says about that is on stderr.
    let writer = std::thread::spawn(move || drop(pipe.write_all(text.as_bytes())));
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("stdin is written");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

/// A file of this repository.
pub fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program of the test cluster: brought by `KUBEBUILDER_ASSETS`, built by `tests/cluster/cluster build`, or on the PATH.
pub fn program(name: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let under = |key: &str| std::env::var_os(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = under("HALDANE_CACHE").unwrap_or_else(|| under("XDG_CACHE_HOME").unwrap_or(home.join(".cache")).join("haldane"));
    let mut folders: Vec<PathBuf> = under("KUBEBUILDER_ASSETS").into_iter().collect();
    let mut built: Vec<_> = std::fs::read_dir(cache.join("components")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    built.sort_by_key(|folder| std::cmp::Reverse(folder.metadata().and_then(|m| m.modified()).ok()));
    folders.append(&mut built);
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing; build it with: tests/cluster/cluster build"))
}

/// Compares a file of this repository with what was generated; with `UPDATE=1` it is written instead.
#[track_caller]
pub fn checked_in(path: &str, generated: &str) {
    let file = repo(path);
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&file, generated).expect("the file is written");
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    let differs =
        stored.lines().zip(generated.lines()).position(|(a, b)| a != b).unwrap_or(stored.lines().count().min(generated.lines().count()));
    assert!(
        stored == generated,
        "{path} differs from what is generated, from line {} on; to write it anew, run this test with UPDATE=1",
        differs + 1
    );
}

/// The definitions of our kinds, wherever they lie. The chart carries them, so what is made from the chart asks here first.
#[track_caller]
pub fn checked_in_definitions() {
    let yaml = haldane::api::crd_yaml::yaml().expect("the definitions");
    for path in ["deploy/crds.yaml", "charts/haldane/files/crds.yaml"] {
        checked_in(path, &yaml);
    }
}

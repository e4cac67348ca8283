//! A running Prism: it knows a description and looks at what passes.
//!
//! It lives below a shell that reads from a pipe of ours: when this process ends, in whatever way, the pipe closes and the shell ends it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use crate::parts::{self, Description};

const KEEPER: &str = r#"
node "$@" 2>&1 </dev/null &
prism=$!
read -r _
kill -9 $prism
"#;

pub struct Prism {
    /// `http://127.0.0.1:1234`
    pub url: String,
    keeper: Child,
    _folder: TempDir,
}

impl Prism {
    /// Lets calls through to `upstream`; its answers carry what is wrong with them and with the call.
    pub fn before(upstream: &str, description: &Description) -> Self {
        Self::start(description, &["proxy"], &[upstream])
    }

    /// Answers by itself: 422 and what is wrong with a call, or 200.
    pub fn alone(description: &Description) -> Self {
        Self::start(description, &["mock"], &[])
    }

    fn start(description: &Description, mode: &[&str], upstream: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let document = folder.path().join("description.json");
        std::fs::write(&document, description.document.to_string()).expect("a file");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(parts::folder().join("node_modules/@stoplight/prism-cli/dist/index.js"))
            .args(mode)
            .arg(document)
            .args(upstream)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let mut lines = BufReader::new(keeper.stdout.take().expect("a pipe")).lines();
        let (mut said, mut url) = (Vec::new(), None);
        for line in lines.by_ref().map_while(Result::ok) {
            url = line.split_once("Prism is listening on ").map(|(_, url)| url.trim().to_owned());
            said.push(line);
            if url.is_some() {
                break;
            }
        }
        let url = url.unwrap_or_else(|| panic!("Prism does not start:\n{}", said.join("\n")));
        // It says a word of every call; unread, they would hold it up.
        thread::spawn(move || lines.for_each(drop));
        Self { url, keeper, _folder: folder }
    }
}

impl Drop for Prism {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

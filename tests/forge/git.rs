//! Bare git repositories on disk, asked and changed by the `git` of the machine.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

use jiff::Timestamp;

const FIELD: char = '\u{1f}';
const RECORD: char = '\u{1e}';
const FORMAT: &str = "--format=%H%x1f%T%x1f%P%x1f%an%x1f%ae%x1f%at%x1f%cn%x1f%ce%x1f%ct%x1f%B%x1e";
/// What a push event says of a side that does not exist.
pub const NOTHING: &str = "0000000000000000000000000000000000000000";

/// Commits that git was asked about. What an id names never changes, whichever repository it is in; so a thousand of them are asked
/// about without a thousand runs of git.
static READ: LazyLock<Mutex<HashMap<String, Commit>>> = LazyLock::new(Mutex::default);
/// And what git said of all that comes before such a commit.
static SAID: LazyLock<Mutex<HashMap<Vec<String>, Vec<u8>>>> = LazyLock::new(Mutex::default);

/// A bare repository.
#[derive(Clone, Debug)]
pub struct Git {
    pub dir: PathBuf,
}

/// Who wrote something, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub email: String,
    pub at: Timestamp,
}

/// A commit as git has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub oid: String,
    pub tree: String,
    pub parents: Vec<String>,
    pub author: Person,
    pub committer: Person,
    pub message: String,
}

/// A file that is another after a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    pub letter: char,
    pub path: String,
    pub oid: String,
    pub added: u64,
    pub removed: u64,
}

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: String,
    pub oid: String,
    pub path: String,
}

/// `git` in that folder, deaf to whatever configuration the machine and the caller have.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command
        // Not `current_dir`: with that the whole address space is copied first, and there are thousands of runs.
        .arg("-C")
        .arg(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_EDITOR", "true")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// Its standard output; the error is what it said.
pub fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let done = command.output().map_err(|error| format!("git does not start: {error}"))?;
    if done.status.success() { Ok(done.stdout) } else { Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()) }
}

impl Git {
    /// A new and empty one, or the one that is there.
    pub fn init(dir: PathBuf, branch: &str) -> Self {
        std::fs::create_dir_all(&dir).expect("a folder for a repository");
        let git = Self { dir };
        for arguments in [
            &["init", "--quiet", "--bare", "--initial-branch", branch] as &[&str],
            &["config", "http.receivepack", "true"],
            // As GitHub: any commit that is there can be asked for.
            &["config", "uploadpack.allowAnySHA1InWant", "true"],
            &["config", "core.logAllRefUpdates", "false"],
            &["config", "gc.auto", "0"],
        ] {
            git.text(arguments).expect("git init");
        }
        git
    }

    /// The same once more, in that folder.
    pub fn copy(&self, dir: PathBuf) -> Self {
        copy(&self.dir, &dir).expect("a copy of a repository");
        Self { dir }
    }

    fn bytes(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let fixed = matches!(arguments, ["log" | "rev-list", .., last] if self.read(last).is_some());
        if !fixed {
            return output(command(&self.dir).args(arguments));
        }
        let asked: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        if let Some(said) = SAID.lock().unwrap_or_else(PoisonError::into_inner).get(&asked) {
            return Ok(said.clone());
        }
        let said = output(command(&self.dir).args(arguments))?;
        SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(asked, said.clone());
        Ok(said)
    }

    fn text(&self, arguments: &[&str]) -> Result<String, String> {
        self.bytes(arguments).map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// The object that an expression (`main`, a sha, `main:deploy.yaml`) names.
    pub fn resolve(&self, expression: &str) -> Option<String> {
        if expression.starts_with('-') || expression.is_empty() {
            return None;
        }
        if self.read(expression).is_some() {
            return Some(expression.to_owned());
        }
        // git takes 40 digits for an object without looking, unless it has to look inside.
        let looked = if expression.contains(':') { expression.to_owned() } else { format!("{expression}^{{object}}") };
        self.text(&["rev-parse", "--verify", "--quiet", &looked]).ok()
    }

    /// A commit that was read before, if it is in this repository: an object that is not packed is a file.
    fn read(&self, oid: &str) -> Option<Commit> {
        let commit = READ.lock().unwrap_or_else(PoisonError::into_inner).get(oid).cloned()?;
        let (folder, file) = oid.split_at(2);
        self.dir.join("objects").join(folder).join(file).exists().then_some(commit)
    }

    /// What a ref points to.
    pub fn tip(&self, name: &str) -> Option<String> {
        // Mostly a file, and git reads the rest: packed ones, and those that are not there.
        let loose = fs::read_to_string(self.dir.join(name)).ok().map(|text| text.trim_end().to_owned());
        let is_id = |text: &String| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        loose.filter(is_id).or_else(|| self.text(&["rev-parse", "--verify", "--quiet", name]).ok())
    }

    /// `commit`, `tree`, `blob` or `tag`.
    pub fn kind(&self, oid: &str) -> Option<String> {
        if self.read(oid).is_some() {
            return Some("commit".to_owned());
        }
        self.text(&["cat-file", "-t", oid]).ok()
    }

    /// The commit that an expression names, through a tag if need be.
    pub fn commit(&self, expression: &str) -> Option<Commit> {
        if let Some(known) = self.read(expression) {
            return Some(known);
        }
        let oid = self.resolve(expression)?;
        self.log(&["--no-walk", &format!("{oid}^{{commit}}")]).pop()
    }

    /// What `git log` says to these arguments; nothing when it fails.
    pub fn log(&self, arguments: &[&str]) -> Vec<Commit> {
        let mut all = vec!["log", FORMAT];
        all.extend(arguments);
        let text = self.bytes(&all).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let found: Vec<Commit> = text.split(RECORD).filter_map(|record| parse(record.trim_start_matches('\n'))).collect();
        READ.lock().unwrap_or_else(PoisonError::into_inner).extend(found.iter().map(|commit| (commit.oid.clone(), commit.clone())));
        found
    }

    /// Merges a change that writes one file, in one run of git; the commit of the merge.
    pub fn land(&self, branch: &str, onto: &str, message: &str, file: &str, at: Timestamp) -> Result<String, String> {
        let (at, size) = (at.as_second(), message.len());
        let of = |name: &str, mark: u8, who: &str, parents: &str| {
            format!(
                "commit refs/{name}\nmark :{mark}\nauthor Ada <ada@acme.test> {at} +0000\ncommitter {who} {at} +0000\n\
                 data {size}\n{message}\n{parents}\nM 100644 inline {file}\ndata {size}\n{message}\n"
            )
        };
        let change = of("land/change", 1, "Ada <ada@acme.test>", &format!("from {onto}"));
        let merge = of(&format!("heads/{branch}"), 2, "GitHub <noreply@github.com>", &format!("from {onto}\nmerge :1"));
        let mut import = command(&self.dir);
        import.args(["fast-import", "--quiet", "--force"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut import = import.spawn().map_err(|error| format!("git does not start: {error}"))?;
        let mut stdin = import.stdin.take().ok_or("no pipe")?;
        write!(stdin, "{change}{merge}get-mark :2\ndone\n").map_err(|error| error.to_string())?;
        drop(stdin);
        let done = import.wait_with_output().map_err(|error| error.to_string())?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// How many commits a range has.
    pub fn count(&self, range: &str) -> usize {
        self.text(&["rev-list", "--count", range]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub fn merge_base(&self, one: &str, other: &str) -> Option<String> {
        self.text(&["merge-base", one, other]).ok()
    }

    pub fn is_ancestor(&self, older: &str, newer: &str) -> bool {
        self.text(&["merge-base", "--is-ancestor", older, newer]).is_ok()
    }

    /// Every ref and what it points to.
    pub fn refs(&self) -> BTreeMap<String, String> {
        let text = self.text(&["for-each-ref", "--format=%(refname) %(objectname)"]).expect("git for-each-ref");
        text.lines().filter_map(|line| line.split_once(' ')).map(|(name, oid)| (name.to_owned(), oid.to_owned())).collect()
    }

    /// The files that differ from one commit to another, or that a commit brought: a letter (`A`, `M`, `D`) and the path.
    pub fn changes(&self, from: Option<&str>, to: &str) -> Vec<(char, String)> {
        let mut arguments = vec!["diff-tree", "-r", "--root", "--no-commit-id", "--no-renames", "--name-status"];
        arguments.extend(from);
        arguments.push(to);
        let text = self.text(&arguments).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once('\t'))
            .filter_map(|(letter, path)| Some((letter.chars().next()?, path.to_owned())))
            .collect()
    }

    /// The same with what each file is now, or was, and its lines that came and went.
    pub fn diff(&self, from: Option<&str>, to: &str) -> Vec<Diff> {
        let mut arguments = vec!["diff-tree", "-r", "--root", "--no-commit-id", "--no-renames", "--raw", "--numstat", "--no-abbrev"];
        arguments.extend(from);
        arguments.push(to);
        let text = self.text(&arguments).unwrap_or_default();
        let mut files = BTreeMap::new();
        for (head, path) in text.lines().filter_map(|line| line.rsplit_once('\t')) {
            let file: &mut Diff = files.entry(path.to_owned()).or_default();
            if let [_, _, old, new, letter] = head.split(' ').collect::<Vec<_>>()[..] {
                file.letter = letter.chars().next().unwrap_or('M');
                path.clone_into(&mut file.path);
                (if file.letter == 'D' { old } else { new }).clone_into(&mut file.oid);
            } else if let Some((added, removed)) = head.split_once('\t') {
                // A dash: it is no text.
                (file.added, file.removed) = (added.parse().unwrap_or(0), removed.parse().unwrap_or(0));
            }
        }
        files.into_values().collect()
    }

    /// What is at a path of a commit; empty: its root.
    pub fn entry(&self, commit: &str, path: &str) -> Option<Entry> {
        if path.is_empty() {
            let oid = self.resolve(&format!("{commit}:"))?;
            return Some(Entry { kind: "tree".to_owned(), oid, path: String::new() });
        }
        self.entries(commit, path).into_iter().find(|entry| entry.path == path)
    }

    /// What is in a folder, or the entry itself (paths from the root); `folder/` lists what is inside.
    pub fn entries(&self, commit: &str, path: &str) -> Vec<Entry> {
        let mut arguments = vec!["ls-tree", "--full-tree", commit];
        if !path.is_empty() {
            arguments.extend(["--", path]);
        }
        let text = self.text(&arguments).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (about, path) = line.split_once('\t')?;
                let mut words = about.split(' ').skip(1);
                Some(Entry { kind: words.next()?.to_owned(), oid: words.next()?.to_owned(), path: path.to_owned() })
            })
            .collect()
    }

    /// The content of a file.
    pub fn blob(&self, oid: &str) -> Option<Vec<u8>> {
        self.bytes(&["cat-file", "blob", oid]).ok()
    }
}

/// All of a repository but its hooks, of which there are only examples.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() && !path.ends_with("hooks") {
            copy(&path, &to)?;
        } else if path.is_file() {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

fn parse(record: &str) -> Option<Commit> {
    let mut fields = record.split(FIELD);
    let mut next = || fields.next().map(str::to_owned);
    let (oid, tree, parents) = (next()?, next()?, next()?);
    let mut person = || {
        let (name, email) = (next()?, next()?);
        Some(Person { name, email, at: Timestamp::from_second(next()?.parse().ok()?).ok()? })
    };
    let (author, committer) = (person()?, person()?);
    let parents = parents.split_whitespace().map(str::to_owned).collect();
    Some(Commit { oid, tree, parents, author, committer, message: next()?.trim_end_matches('\n').to_owned() })
}

/// Characters of a first line that GitHub shows before it cuts it.
const HEADLINE: usize = 72;

impl Commit {
    /// `messageHeadline` and `messageBody`: a first line that is too long goes on in the body, as GitHub shows it.
    pub fn split_message(&self) -> (String, String) {
        let (first, rest) = self.message.split_once('\n').unwrap_or((&self.message, ""));
        let rest = rest.trim_start_matches('\n');
        if first.chars().count() <= HEADLINE {
            return (first.to_owned(), rest.to_owned());
        }
        let cut = first.char_indices().nth(HEADLINE - 1).map_or(first.len(), |(at, _)| at);
        let (head, tail) = first.split_at(cut);
        (format!("{head}…"), format!("…{tail}\n\n{rest}").trim_end().to_owned())
    }
}

//! A real cluster with this checkout's controller in it, and shops with customers, for the tests and the measurements.
//!
//! The witness is kubectl: nothing here links the controller's code, so that a mistake in our types cannot hide itself.

pub(crate) mod audit;
pub(crate) mod changes;
pub(crate) mod controller;
pub(crate) mod follow;
pub(crate) mod load;
pub(crate) mod prometheus;
pub(crate) mod rest;
pub(crate) mod shop;
pub(crate) mod tiny;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Who the controller is in the audit log.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:haldane-system:haldane";

/// A running cluster.
pub(crate) struct Bed {
    pub(crate) name: String,
    pub(crate) registry: String,
    pub(crate) audit_log: PathBuf,
    env: BTreeMap<String, String>,
    top: PathBuf,
    scratch: PathBuf,
}

impl Bed {
    /// Starts the cluster, or uses it if it is up, and installs what was built of this checkout.
    pub(crate) fn up(name: &str) -> Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
        let status = own(Command::new(top.join("tests/support/install")).arg(name)).status().context("tests/support/install")?;
        ensure!(status.success(), "the cluster {name} could not be prepared; the reason stands above");
        let script = r#"eval "$("$1" env "$2")" && echo "$KUBECONFIG" && echo "$HALDANE_REGISTRY" && echo "$HALDANE_AUDIT_LOG" && echo "$PATH" &&
            . "$3" && echo "$built""#;
        let output = own(Command::new("bash").args(["-c", script, "bash"]).arg(top.join("tests/cluster/cluster")).arg(name))
            .arg(top.join("tests/support/env.sh"))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let lines: Vec<&str> = text.lines().collect();
        let [kubeconfig, registry, audit, path, built] = lines.as_slice() else { bail!("cluster env {name} said {text:?}") };
        let scratch = std::env::temp_dir().join(format!("haldane-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&scratch)?;
        let env = [("KUBECONFIG", *kubeconfig), ("PATH", *path), ("BUILT", *built), ("HALDANE_CLUSTER", name)];
        Ok(Self {
            name: name.to_owned(),
            registry: (*registry).to_owned(),
            audit_log: audit.into(),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            top,
            scratch,
        })
    }

    /// Starts a Gateway API data plane in it, or uses the one that is there; where it is reached, as `IP:PORT`.
    pub(crate) fn gateway(&self) -> Result<String> {
        let address = said(self.cluster("gateway").arg(&self.name))?;
        Ok(address.trim().to_owned())
    }

    /// Starts the controllers of Flux in it, or uses those that are there. They are built where nobody has asked for them before, and say so.
    pub(crate) fn gitops(&self) -> Result<()> {
        let status = self.cluster("gitops").arg(&self.name).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "Flux did not start in the cluster {}; the reason stands above", self.name);
        Ok(())
    }

    /// The address of its node.
    pub(crate) fn node(&self) -> Result<Ipv4Addr> {
        self.registry.split(':').next().unwrap_or_default().parse().context("the registry of this cluster has no address of its own")
    }

    /// This machine's end of the cable to the cluster: the other address of its /30.
    pub(crate) fn this_end(&self) -> Result<IpAddr> {
        let [a, b, c, d] = self.node()?.octets();
        Ok(IpAddr::from([a, b, c, d ^ 3]))
    }

    /// A program with the cluster's environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(&self.env).current_dir(&self.top);
        command
    }

    /// A program inside of the cluster's network; it keeps the process id of what this starts.
    pub(crate) fn inside(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.cluster("exec");
        command.args([&self.name, "--"]).arg(program.as_ref());
        command
    }

    /// The cluster tool.
    pub(crate) fn cluster(&self, verb: &str) -> Command {
        let mut command = Command::new(self.top.join("tests/cluster/cluster"));
        command.envs(&self.env).arg(verb);
        command
    }

    /// A binary of ours, as what runs in the cluster: of the release profile, if `HALDANE_PROFILE` says nothing else.
    pub(crate) fn built(&self, name: &str) -> PathBuf {
        Path::new(self.env.get("BUILT").map_or("", String::as_str)).join(name)
    }

    /// A file that goes with the test.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// kubectl's output; its message is the error.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        said(self.command("kubectl").args(args))
    }

    /// The same with something on its standard input.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        fed(self.command("kubectl").args(args), input)
    }

    /// An object as JSON; `None` if it is not there.
    pub(crate) fn object(&self, namespace: &str, kind: &str, name: &str) -> Result<Option<serde_json::Value>> {
        let text = self.kubectl(&["-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json"])?;
        if text.trim().is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&text)?)) }
    }

    /// Objects as JSON.
    pub(crate) fn list(&self, namespace: &str, kind: &str, selector: &str) -> Result<Vec<serde_json::Value>> {
        let text = self.kubectl(&["-n", namespace, "get", kind, "-l", selector, "-o", "json"])?;
        let list: serde_json::Value = serde_json::from_str(&text)?;
        Ok(list.pointer("/items").and_then(|items| items.as_array()).cloned().unwrap_or_default())
    }
}

/// Without what the caller's environment says of another cluster: these tests break things.
fn own(command: &mut Command) -> &mut Command {
    command.env_remove("KUBECONFIG").env_remove("HALDANE_CLUSTER").env_remove("HALDANE_REGISTRY").env_remove("HALDANE_AUDIT_LOG")
}

/// What a program prints; if it fails, what it complains about.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    finished(command, &output)
}

fn fed(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    finished(command, &output)
}

fn finished(command: &Command, output: &std::process::Output) -> Result<String> {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {}: {}", command.get_program().to_string_lossy(), args.join(" "), complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks again until the answer is yes; says what was the last answer when the time is over.
pub(crate) fn until<T>(limit: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let began = begin();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() > limit => return Err(error.context(format!("still so after {limit:?}"))),
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}

/// A stopwatch.
#[expect(clippy::disallowed_methods, reason = "the witness has the wall clock; nothing of the controller runs here")]
pub(crate) fn begin() -> Instant {
    Instant::now()
}

/// Unix µs.
#[expect(clippy::disallowed_methods, reason = "the witness has the wall clock; nothing of the controller runs here")]
pub(crate) fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

//! A real etcd and kube-apiserver, and nothing else: enough to be told what is valid, allowed and stored.
//!
//! They live below a shell that reads from a pipe of ours: when this process ends, in whatever way, the pipe closes, and
//! the shell ends them and removes their folder. So nothing is left, not even after SIGKILL.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread::sleep,
    time::Duration,
};

use super::run::{Said, program, run};

/// The two start in about 5 s on two cores; a crowded machine takes longer.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const KEEPER: &str = r#"
cd "$1"
"$2" --data-dir=etcd --unsafe-no-fsync --listen-peer-urls=http://127.0.0.1:$4 --initial-advertise-peer-urls=http://127.0.0.1:$4 \
  --initial-cluster=default=http://127.0.0.1:$4 --listen-client-urls=http://127.0.0.1:$5 --advertise-client-urls=http://127.0.0.1:$5 \
  >etcd.log 2>&1 </dev/null &
etcd=$!
"$3" --etcd-servers=http://127.0.0.1:$5 --secure-port=$6 --bind-address=127.0.0.1 --advertise-address=127.0.0.1 \
  --endpoint-reconciler-type=none --cert-dir=pki --token-auth-file=tokens.csv --authorization-mode=RBAC \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
  --service-cluster-ip-range=10.0.0.0/24 --disable-admission-plugins=ServiceAccount --profiling=false \
  >apiserver.log 2>&1 </dev/null &
apiserver=$!
read -r _
kill -9 $apiserver $etcd
wait
cd / && rm -rf "$1"
"#;

/// A way to an API server.
pub struct ApiServer {
    /// Of an administrator.
    pub kubeconfig: PathBuf,
    keeper: Option<Child>,
}

impl ApiServer {
    /// The cluster of the user's KUBECONFIG, or else one of our own; one for all tests of this program.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ApiServer> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
            Some(path) => Self { kubeconfig: path.into(), keeper: None },
            None => Self::start(),
        })
    }

    /// One of our own, also where the user has a cluster; one for all tests of this program.
    pub fn own() -> &'static Self {
        static OWN: OnceLock<ApiServer> = OnceLock::new();
        OWN.get_or_init(Self::start)
    }

    /// Starts one and waits until it is ready.
    pub fn start() -> Self {
        let programs = [program("etcd"), program("kube-apiserver"), program("kubectl")];
        let folder = std::env::temp_dir().join(format!("haldane-apiserver-{}-{}", std::process::id(), free_ports::<1>()[0]));
        std::fs::create_dir(&folder).expect("a folder of our own");
        let key = rcgen::KeyPair::generate().expect("a key");
        let [peer, etcd, port] = free_ports();
        let kubeconfig = folder.join("kubeconfig");
        for (name, text) in [
            ("sa.key", key.serialize_pem()),
            ("sa.pub", key.public_key_pem()),
            ("tokens.csv", "admin-token,admin,admin,system:masters\n".to_owned()),
            ("kubeconfig", kubeconfig_text(port, &folder.join("pki/apiserver.crt").display().to_string())),
        ] {
            std::fs::write(folder.join(name), text).expect("a file in our folder");
        }
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .args(&programs[..2])
            .args([peer, etcd, port].map(|port| port.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut server = Self { kubeconfig, keeper: Some(keeper) };
        server.await_ready(&folder);
        server
    }

    fn await_ready(&mut self, folder: &std::path::Path) {
        let tries = PATIENCE.as_millis() / LOOK_AGAIN.as_millis();
        for _ in 0..tries {
            if folder.join("pki/apiserver.crt").exists() && self.kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"]).ok {
                return;
            }
            sleep(LOOK_AGAIN);
        }
        let log = std::fs::read_to_string(folder.join("apiserver.log")).unwrap_or_default();
        let end: Vec<_> = log.lines().rev().take(20).collect();
        panic!("the API server was not ready within {PATIENCE:?}; the end of its log, last line first:\n{}", end.join("\n"));
    }

    /// `kubectl` with these arguments.
    pub fn kubectl(&self, args: &[&str]) -> Said {
        self.kubectl_with(args, "")
    }

    /// `kubectl` with these arguments and this text on stdin.
    pub fn kubectl_with(&self, args: &[&str], stdin: &str) -> Said {
        run(Command::new(program("kubectl")).env("KUBECONFIG", &self.kubeconfig).args(args), stdin)
    }

    /// `kubectl` again and again until it succeeds: for what the API server does a moment later.
    #[track_caller]
    pub fn until(&self, args: &[&str], stdin: &str, reached: impl Fn(&Said) -> bool) -> Said {
        for _ in 0..PATIENCE.as_millis() / LOOK_AGAIN.as_millis() {
            let said = self.kubectl_with(args, stdin);
            if reached(&said) {
                return said;
            }
            sleep(LOOK_AGAIN);
        }
        panic!("not within {PATIENCE:?}: kubectl {}: {:?}", args.join(" "), self.kubectl_with(args, stdin));
    }

    /// Installs our definitions and waits until they are served.
    pub fn install_crds(&self) {
        let yaml = haldane::api::crd_yaml::yaml().expect("the definitions");
        let said = self.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &yaml);
        assert!(said.ok && !said.err.contains("Warning"), "{said:?}");
        let wait = ["wait", "--for=condition=Established", "--timeout=30s", "crd", "deliveries.haldane.dev", "releases.haldane.dev"];
        let wait = [&wait[..], &["productionprobes.haldane.dev", "holds.haldane.dev", "commands.haldane.dev"]].concat();
        self.kubectl(&wait).good();
        // Established comes before the paths and the schema that kubectl reads are there.
        self.until(&["explain", "commands.spec.by", "--api-version=haldane.dev/v1alpha1"], "", |said| said.ok);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            drop(keeper.wait());
        }
    }
}

fn kubeconfig_text(port: u16, authority: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: own\n\
         clusters: [{{name: own, cluster: {{server: \"https://127.0.0.1:{port}\", certificate-authority: \"{authority}\"}}}}]\n\
         users: [{{name: admin, user: {{token: admin-token}}}}]\n\
         contexts: [{{name: own, context: {{cluster: own, user: admin}}}}]\n"
    )
}

/// Ports that nobody had a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("its address").port())
}

//! A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager, with RBAC,
//! tokens for ServiceAccounts, garbage collection and an audit log. There is no kubelet: pods stay Pending.
//!
//! Ready after some 6 s. [`ControlPlane::shared`] is one for all tests, each in a [`Namespace`] of its own;
//! [`ControlPlane::start`] is for a test that kills it.

mod audit;
mod janitor;
mod kubectl;
mod namespace;
mod pki;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell};
use tokio_rustls::TlsAcceptor;

pub use self::audit::Access;
pub use self::kubectl::Output;
pub use self::namespace::Namespace;

use self::janitor::Janitor;
use self::kubectl::Tools;
use super::process::{Process, command_ending_by, tail};
use super::wait::{PATIENCE, wait_at_pace, wait_until};
use super::{http, ports};

/// Far beyond the 6 s that it takes on two free cores: many tests run beside it.
const START: Duration = PATIENCE;
/// A look costs a process.
const PACE: Duration = Duration::from_millis(100);
/// Variable with the folder of the programs; `scripts/test.sh` sets it. Without, `scripts/control-plane.sh`
/// is asked.
const BIN: &str = "CONTROL_PLANE_BIN";
/// The folder with the CustomResourceDefinition, as it is committed.
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds");
/// Asks whether the API server is ready.
const HEALTH: &[&str] = &["get", "--raw", "/readyz"];
/// Asks for what the controllers make.
const ACCOUNTS: &[&str] =
    &["get", "serviceaccount/default", "configmap/kube-root-ca.crt", "--namespace=default"];
/// The user that can do everything.
const ADMIN: &str = "admin";

/// A running control plane. Dropping it kills it and removes its data; so does the end of the test process,
/// by whatever cause.
pub struct ControlPlane {
    processes: Mutex<Processes>,
    port: u16,
    etcd_port: u16,
    peer_port: u16,
    tools: Tools,
    // After the processes that write there, before the one that clears it away.
    dir: TempDir,
    _janitor: Janitor,
}

/// Processes in the order in which they are ended.
struct Processes {
    api_server: Process,
    controller_manager: Process,
    etcd: Process,
}

impl ControlPlane {
    /// Starts one of one's own and waits until it is ready. There is no CustomResourceDefinition in it, see
    /// [`ControlPlane::apply_crds`].
    pub async fn start() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let janitor = Janitor::start(dir.path());
        let (port, etcd_port, peer_port) = (ports::free(), ports::free(), ports::free());
        let clients = [
            (ADMIN, "admin", Some("system:masters")),
            ("controller-manager", "system:kube-controller-manager", None),
        ];
        pki::write(dir.path(), &clients);
        fs::write(dir.path().join("audit.yaml"), audit::POLICY).expect("write the audit policy");
        for (name, ..) in clients {
            let user = json!({
                "client-certificate": dir.path().join(format!("{name}.crt")),
                "client-key": dir.path().join(format!("{name}.key")),
            });
            write_kubeconfig(dir.path(), name, port, &user);
        }
        let mut etcd = spawn("etcd", &dir, etcd_flags(&dir, etcd_port, peer_port));
        let mut api_server = spawn("kube-apiserver", &dir, api_server_flags(&dir, port, etcd_port));
        let home = dir.path().join("home");
        fs::create_dir(&home).expect("a home for the tools");
        let tools = Tools { bin: bin().to_owned(), home, kubeconfig: kubeconfig_path(dir.path(), ADMIN) };
        // The controller manager ends when it has seen no healthy API server, RBAC's own roles included, for
        // 10 s.
        answers(&tools, &mut [&mut etcd, &mut api_server], &[HEALTH]).await;
        let controller_manager = spawn("kube-controller-manager", &dir, controller_manager_flags(&dir));
        let processes = Mutex::new(Processes { api_server, controller_manager, etcd });
        let plane = Self { processes, port, etcd_port, peer_port, tools, dir, _janitor: janitor };
        plane.ready().await;
        plane
    }

    /// The one for the whole test run, with the CustomResourceDefinitions of crds/. The first one to ask
    /// starts it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED
            .get_or_init(async || {
                let plane = Self::start().await;
                plane.apply_crds().await;
                plane
            })
            .await
    }

    /// Applies crds/ and waits until the API server serves what is in it.
    pub async fn apply_crds(&self) {
        self.kubectl(["apply", "--server-side", "-f", CRDS]).await.ok();
        self.kubectl(["wait", "--for=condition=Established", "--timeout=120s", "-f", CRDS]).await.ok();
        // What kubectl knew of the API before lacks the new category and short names.
        let _ = fs::remove_dir_all(self.tools.home.join("kube-cache"));
        // The schema is published some time after the resource is served.
        let explained = async || {
            let answer = self.kubectl(["explain", "registries"]).await;
            if answer.success() { Ok(()) } else { Err(answer.to_string()) }
        };
        wait_at_pace(PACE, explained, START, "the schema of the resource to be published").await;
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The kubeconfig of a user that may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.tools.kubeconfig
    }

    /// Returns the folder of etcd, kube-apiserver, kube-controller-manager, kubectl and helm.
    pub fn bin(&self) -> &Path {
        &self.tools.bin
    }

    /// Variables for a child that is to use kubectl or helm as these methods do: HOME, KUBECONFIG,
    /// HELM_CACHE_HOME, ...
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        self.tools.environment()
    }

    /// Runs kubectl to its end, in the folder of the sources, as a user that may do everything;
    /// `--kubeconfig` among the arguments makes it another one.
    pub async fn kubectl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.tools.run("kubectl", args, "").await
    }

    /// Runs kubectl as `kubectl` does, with this text as standard input, for `-f -`.
    pub async fn kubectl_stdin<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Output {
        self.tools.run("kubectl", args, input).await
    }

    /// Runs helm to its end, in the folder of the sources, as a user that may do everything.
    pub async fn helm<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.tools.run("helm", args, "").await
    }

    /// A new namespace, `PREFIX-NUMBER`.
    pub async fn namespace(&self, prefix: &str) -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{prefix}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.kubectl(["create", "namespace", &name]).await.ok();
        Namespace::new(name, self.tools.clone())
    }

    /// A kubeconfig with a token of a ServiceAccount, good for a day.
    pub async fn service_account_kubeconfig(&self, namespace: &str, account: &str) -> PathBuf {
        self.service_account_kubeconfig_by(namespace, account, self.port).await
    }

    /// The same, with another port of 127.0.0.1: that of a wire to the API server.
    pub async fn service_account_kubeconfig_by(&self, namespace: &str, account: &str, port: u16) -> PathBuf {
        let token =
            self.kubectl(["create", "token", account, "--namespace", namespace, "--duration=24h"]).await.ok();
        let user = json!({ "token": token.trim() });
        write_kubeconfig(self.dir.path(), &format!("{namespace}.{account}.{port}"), port, &user)
    }

    /// The same, with the token in a file of its own, as a pod has it: the file is returned too.
    pub async fn token_file_kubeconfig(&self, namespace: &str, account: &str) -> (PathBuf, PathBuf) {
        let token = self.dir.path().join(format!("{namespace}.{account}.token"));
        self.write_token(namespace, account, &token).await;
        let (name, user) = (format!("{namespace}.{account}.file"), json!({ "tokenFile": token }));
        (write_kubeconfig(self.dir.path(), &name, self.port, &user), token)
    }

    /// Writes a new token of a ServiceAccount into this file.
    pub async fn write_token(&self, namespace: &str, account: &str, file: &Path) {
        let args = ["create", "token", account, "--namespace", namespace, "--duration=24h"];
        let token = self.kubectl(args).await.ok();
        fs::write(file, token.trim()).expect("write a token");
    }

    /// Every request so far to the API server, over all its runs, but for those of the control plane itself.
    pub fn audit(&self) -> Vec<Access> {
        audit::read(&fs::read_to_string(self.dir.path().join("audit.log")).expect("read the audit log"))
    }

    /// Returns the requests of `namespace`'s ServiceAccount.
    pub fn audit_of(&self, namespace: &str, account: &str) -> Vec<Access> {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        self.audit().into_iter().filter(|access| access.user == user).collect()
    }

    /// Ends the API server by SIGKILL and waits until its port is free.
    pub async fn kill_api_server(&self) {
        self.processes.lock().await.api_server.kill().await;
        let port = self.port;
        wait_until(async || ports::is_free(port), START, "the API server's port to be free").await;
    }

    /// Starts the API server on the same port with the same data, and waits until it is ready.
    pub async fn start_api_server(&self) {
        let mut processes = self.processes.lock().await;
        processes.api_server.end();
        processes.api_server =
            spawn("kube-apiserver", &self.dir, api_server_flags(&self.dir, self.port, self.etcd_port));
        drop(processes);
        self.ready().await;
    }

    /// Has etcd forget all versions but the newest of each object: anyone who follows from an older one gets
    /// 410 Gone from the next API server, if not from this one.
    pub async fn compact(&self) {
        let etcd = format!("http://127.0.0.1:{}/v3/kv", self.etcd_port);
        let ask = async |path: &str, body: serde_json::Value| {
            let (status, answer) = http::post(&format!("{etcd}/{path}"), body.to_string()).await.unwrap();
            let text = String::from_utf8_lossy(&answer).into_owned();
            assert!(status.is_success(), "etcd: {path}: {status}: {text}");
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        // "AA==": the key that is one zero byte.
        let revision = ask("range", json!({ "key": "AA==" })).await["header"]["revision"].clone();
        ask("compaction", json!({ "revision": revision, "physical": true })).await;
    }

    /// Freezes the API server: its connections stay, and nothing gets a response.
    pub async fn pause_api_server(&self) {
        self.processes.lock().await.api_server.pause();
    }

    /// Lets it go on.
    pub async fn resume_api_server(&self) {
        self.processes.lock().await.api_server.resume();
    }

    /// Ends etcd by SIGKILL and waits until its port is free. The API server goes on without.
    pub async fn kill_etcd(&self) {
        self.processes.lock().await.etcd.kill().await;
        let port = self.etcd_port;
        wait_until(async || ports::is_free(port), START, "etcd's port to be free").await;
    }

    /// Starts etcd on the same ports with the same data, and waits until the API server is ready with it.
    pub async fn start_etcd(&self) {
        let mut processes = self.processes.lock().await;
        processes.etcd.end();
        processes.etcd = spawn("etcd", &self.dir, etcd_flags(&self.dir, self.etcd_port, self.peer_port));
        drop(processes);
        self.ready().await;
    }

    /// Freezes etcd: the API server's requests to it hang.
    pub async fn pause_etcd(&self) {
        self.processes.lock().await.etcd.pause();
    }

    /// Lets it go on.
    pub async fn resume_etcd(&self) {
        self.processes.lock().await.etcd.resume();
    }

    /// A client that may do everything.
    pub async fn client(&self) -> Client {
        let kubeconfig =
            Kubeconfig::read_from(self.kubeconfig()).expect("the kubeconfig of the administrator");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.expect("a configuration of a client")).expect("a client")
    }

    /// The port of 127.0.0.1 of the API server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Takes connections by TLS as the API server does, with its certificate, for what stands in its place.
    pub fn acceptor(&self) -> TlsAcceptor {
        pki::acceptor(self.dir.path())
    }

    /// The certificate of the authority that has signed all others, in DER.
    pub fn authority(&self) -> Vec<u8> {
        use rustls::pki_types::pem::PemObject as _;
        let file = self.dir.path().join(pki::CA);
        let authority = rustls::pki_types::CertificateDer::from_pem_file(file).expect("the authority");
        authority.as_ref().to_vec()
    }

    /// The ids of its processes.
    pub async fn pids(&self) -> [i32; 3] {
        let processes = self.processes.lock().await;
        [&processes.etcd, &processes.api_server, &processes.controller_manager].map(Process::pid)
    }

    /// Returns the folder in which it keeps everything; gone when it is dropped.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Waits for the API server, RBAC's own roles, and the controllers that make ServiceAccounts.
    async fn ready(&self) {
        let mut processes = self.processes.lock().await;
        let Processes { api_server, controller_manager, etcd } = &mut *processes;
        let mut processes = [etcd, api_server, controller_manager];
        answers(&self.tools, &mut processes, &[HEALTH, ACCOUNTS]).await;
    }
}

/// Waits until kubectl gets a response to each of these, one after the other. Panics when one of the
/// processes ends.
async fn answers(tools: &Tools, processes: &mut [&mut Process], questions: &[&[&str]]) {
    let probe = async || {
        for process in &mut *processes {
            if let Some(status) = process.status() {
                panic!("a program of the control plane ended with {status}; {}", tail(&process.output()));
            }
        }
        for question in questions {
            let answer = tools.run("kubectl", *question, "").await;
            if !answer.success() {
                return Err(answer.to_string());
            }
        }
        Ok(())
    };
    wait_at_pace(PACE, probe, START, "the control plane to be ready").await;
}

/// The folder with etcd, kube-apiserver, kube-controller-manager, kubectl and helm.
pub fn bin() -> &'static Path {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(given) = std::env::var_os(BIN).filter(|given| !given.is_empty()) {
            return given.into();
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/control-plane.sh");
        let said = Command::new(script).stderr(Stdio::inherit()).output().expect("run control-plane.sh");
        assert!(said.status.success(), "{script} failed: {}", said.status);
        String::from_utf8(said.stdout).expect("a path").trim_end().into()
    });
    &FOUND
}

fn spawn(program: &str, dir: &TempDir, flags: Vec<String>) -> Process {
    // On SIGTERM they would wait for each other.
    let path = bin().join(program);
    let mut command = command_ending_by(Signal::SIGKILL, path.to_str().expect("a path that is UTF-8"));
    command.current_dir(dir.path()).args(flags);
    Process::spawn(program, command, &dir.path().join(format!("{program}.log")))
}

fn etcd_flags(dir: &TempDir, port: u16, peer_port: u16) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    vec![
        format!("--data-dir={}", dir.path().join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // Nothing has to outlive a power cut.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server_flags(dir: &TempDir, port: u16, etcd_port: u16) -> Vec<String> {
    let file = |name: &str| dir.path().join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--tls-cert-file={}", file(pki::SERVER_CERTIFICATE)),
        format!("--tls-private-key-file={}", file(pki::SERVER_KEY)),
        format!("--client-ca-file={}", file(pki::CA)),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file(pki::ACCOUNTS_PUBLIC_KEY)),
        format!("--service-account-signing-key-file={}", file(pki::ACCOUNTS_KEY)),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--audit-policy-file={}", file("audit.yaml")),
        format!("--audit-log-path={}", file("audit.log")),
    ]
}

fn controller_manager_flags(dir: &TempDir) -> Vec<String> {
    let file = |name: &str| dir.path().join(name).display().to_string();
    vec![
        format!("--kubeconfig={}", kubeconfig_path(dir.path(), "controller-manager").display()),
        format!("--root-ca-file={}", file(pki::CA)),
        format!("--service-account-private-key-file={}", file(pki::ACCOUNTS_KEY)),
        "--use-service-account-credentials".to_owned(),
        "--controllers=*,-nodeipam,-route,-service-lb-controller".to_owned(),
        "--leader-elect=false".to_owned(),
        // It serves nothing that a test needs.
        "--secure-port=0".to_owned(),
    ]
}

fn kubeconfig_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.kubeconfig"))
}

/// JSON is YAML.
fn write_kubeconfig(folder: &Path, name: &str, port: u16, user: &serde_json::Value) -> PathBuf {
    let path = kubeconfig_path(folder, name);
    let server = json!({ "server": format!("https://127.0.0.1:{port}"), "certificate-authority": folder.join(pki::CA) });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": server }],
        "users": [{ "name": name, "user": user }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": name } }],
        "current-context": "test",
    });
    fs::write(&path, config.to_string()).expect("write a kubeconfig");
    path
}

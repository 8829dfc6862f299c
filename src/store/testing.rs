//! A real `redis-server` for each test that wants one.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::RedisStore;
use crate::config::RedisSettings;
use routr_types::{host::HostPort, secret::Secret};

/// Time limit of anything here before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A `redis-server` on a loopback port of its own, without persistence unless its options say otherwise. It
/// dies with this value.
pub(super) struct RedisServer {
    child: Option<Child>,
    dir: TempDir,
    port: u16,
    tls: bool,
    options: Vec<String>,
}

impl RedisServer {
    /// A server that is not running yet, with a port for it.
    pub(super) fn stopped(options: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let options = options.iter().map(|&o| o.to_owned()).collect();
        Self { child: None, dir, port, tls: false, options }
    }

    /// A running server.
    pub(super) async fn start(options: &[&str]) -> Self {
        let mut server = Self::stopped(options);
        server.run().await;
        server
    }

    /// A running server that speaks only TLS, with a certificate of a test CA for 127.0.0.1.
    pub(super) async fn start_tls() -> Self {
        let mut server = Self::stopped(&[]);
        server.tls = true;
        let (issuer, ca) = authority();
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        server.write("ca.pem", &ca);
        for (option, name, text) in [
            ("cert", "cert.pem", leaf.pem()),
            ("key", "key.pem", key.serialize_pem()),
            ("ca-cert", "ca.pem", ca),
        ] {
            let path = server.write(name, &text);
            server.options.extend([format!("--tls-{option}-file"), path.to_str().unwrap().to_owned()]);
        }
        server.options.extend(["--tls-auth-clients", "no"].map(str::to_owned));
        server.run().await;
        server
    }

    /// Starts it (again), on the same port and with the same files, and waits until it responds.
    pub(super) async fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let (plain, tls) = if self.tls { (0, self.port) } else { (self.port, 0) };
        // Another version, or Valkey.
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &plain.to_string(), "--tls-port", &tls.to_string()])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("redis-server: {e}; install it: sudo apt-get install redis-server"));
        self.child = Some(child);
        let deadline = Instant::now() + DEADLINE;
        while !self.answers().await {
            let status = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(status.is_none(), "redis-server ended: {status:?}, options {:?}", self.options);
            assert!(Instant::now() < deadline, "redis-server does not answer");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await else { return false };
        if self.tls {
            return true;
        }
        let mut answer = [0; 64];
        if stream.write_all(b"PING\r\n").await.is_err() {
            return false;
        }
        match timeout(Duration::from_secs(1), stream.read(&mut answer)).await {
            Ok(Ok(n)) => answer[..n].starts_with(b"+PONG") || answer[..n].starts_with(b"-NOAUTH"),
            _ => false,
        }
    }

    /// SIGKILL: nothing is saved.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().expect("it does not run");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal such as `STOP` to this very server.
    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it does not run").id();
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().unwrap();
        assert!(status.success(), "kill -{name} {pid}");
    }

    /// Writes a file beside those of the server.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Returns how to reach it, without credentials; over TLS with the test CA, where it speaks TLS.
    pub(super) fn settings(&self) -> RedisSettings {
        RedisSettings {
            secure: self.tls,
            ca_file: self.tls.then(|| self.dir.path().join("ca.pem")),
            ..RedisSettings::new(HostPort::new("127.0.0.1", self.port))
        }
    }

    /// The same, with credentials.
    pub(super) fn settings_for(&self, username: Option<&str>, password: Option<&str>) -> RedisSettings {
        RedisSettings {
            username: username.map(str::to_owned),
            password: password.map(Secret::new),
            ..self.settings()
        }
    }

    /// A store that uses it.
    pub(super) fn store(&self, instance: &str) -> RedisStore {
        RedisStore::new(&self.settings(), instance).unwrap()
    }

    /// A connection behind the store's back.
    pub(super) fn admin(&self, password: Option<&str>) -> Admin {
        let login = password.map_or_else(String::new, |p| format!(":{p}@"));
        let client = redis::Client::open(format!("redis://{login}127.0.0.1:{}", self.port)).unwrap();
        Admin(client.get_connection_with_timeout(DEADLINE).unwrap())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A blocking connection that does anything.
pub(super) struct Admin(redis::Connection);

impl Admin {
    /// One command.
    pub(super) fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        self.run(command.arg(&words[1..]))
    }

    /// One command with arguments that need not be text.
    pub(super) fn run<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> T {
        command.query(&mut self.0).unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    /// All keys.
    pub(super) fn keys(&mut self) -> Vec<String> {
        self.ask(&["KEYS", "*"])
    }

    /// All keys with their contents.
    pub(super) fn dump(&mut self) -> BTreeMap<String, Vec<u8>> {
        self.keys().into_iter().map(|k| (k.clone(), self.ask(&["DUMP", &k]))).collect()
    }

    /// A number of INFO.
    pub(super) fn info(&mut self, section: &str, name: &str) -> u64 {
        let text: String = self.ask(&["INFO", section]);
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

/// A new CA: what signs, and its certificate as PEM.
pub(super) fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

//! The product: the real `routr-registry run`, a process of its own, over a backend.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    backend::Backend,
    histogram::Histogram,
    support::{http, ports, process},
    usage::{self, Memory},
};

/// Part of the configuration that differs between measurements. All else is the default, but for the budgets,
/// which are lifted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `registration.expires`, in seconds.
    pub expires: u32,
    /// `registerInterval`, in seconds.
    pub interval: u32,
    /// `apiTimeout`, in seconds: a list in one message takes its time.
    pub api_timeout: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { expires: 7_200, interval: 3_600, api_timeout: 120 }
    }
}

/// A running product. Dropping it kills it.
pub struct Product {
    child: std::process::Child,
    public: String,
    dir: TempDir,
}

impl Product {
    /// Starts one on a backend, and does not wait for anything.
    pub fn start(backend: &Backend, settings: &Settings) -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let file = dir.path().join("registry.yaml");
        fs::write(&file, document(backend, settings))?;
        let (public, private) = (address(), address());
        let log = fs::File::create(dir.path().join("log"))?;
        let mut command = process::command(env!("CARGO_BIN_EXE_routr-registry"));
        command
            .args(["run", "--listen", &public, "--admin-listen", &private, "--config"])
            .arg(&file)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().context("cannot start routr-registry")?;
        Ok(Self { child, public, dir })
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it another configuration, which it takes over by itself.
    pub fn reconfigure(&self, backend: &Backend, settings: &Settings) -> anyhow::Result<()> {
        Ok(fs::write(self.dir.path().join("registry.yaml"), document(backend, settings))?)
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        usage::cpu(self.pid())
    }

    /// Its memory.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        usage::memory(self.pid())
    }

    /// Its metrics.
    pub async fn metrics(&self) -> anyhow::Result<Samples> {
        let (status, body) =
            http::get(&format!("http://{}/metrics", self.public)).await.map_err(anyhow::Error::msg)?;
        ensure!(status.is_success(), "/metrics answers {status}");
        Ok(Samples(String::from_utf8(body.to_vec())?))
    }

    /// Waits until the backend has had a REGISTER of `trunks` different trunks. Looks rarely: looking costs
    /// processor time.
    pub async fn registers(
        &mut self,
        backend: &mut Backend,
        trunks: u64,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + deadline;
        let mut seen = 0;
        while seen < trunks {
            self.lives()?;
            ensure!(
                Instant::now() < end,
                "only {seen} of {trunks} trunks came in {deadline:?}\n{}",
                self.log_end()
            );
            sleep(Duration::from_millis(if trunks > 50_000 { 100 } else { 20 })).await;
            seen = backend.tally()?.trunks;
        }
        Ok(())
    }

    /// Waits until `trunks` trunks count as registered: the last responses have been worked up.
    pub async fn settles(&mut self, trunks: u64, deadline: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + deadline;
        loop {
            self.lives()?;
            // It responds when it has started, and late while it is busy.
            let samples = self.metrics().await.ok();
            let registered =
                samples.and_then(|samples| samples.get("routr_registry_trunks{state=\"registered\"}"));
            if registered.is_some_and(|registered| registered >= trunks as f64) {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{registered:?} of {trunks} trunks are registered after {deadline:?}\n{}",
                self.log_end()
            );
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn lives(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("routr-registry has ended: {status}\n{}", self.log_end());
        }
        Ok(())
    }

    fn log_end(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        let end = &log[log.len().saturating_sub(2_000)..];
        format!("its log ends:\n{}", String::from_utf8_lossy(end))
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address() -> String {
    format!("127.0.0.1:{}", ports::free())
}

fn document(backend: &Backend, settings: &Settings) -> String {
    let Settings { expires, interval, api_timeout } = settings;
    let address = backend.address;
    format!(
        "kind: Registry\napiVersion: v2beta1\nmetadata:\n  name: bench\nspec:\n  requesterAddr: {address}\n  apiAddr: {address}\n  \
         registerInterval: {interval}s\n  apiTimeout: {api_timeout}s\n  edgePorts:\n    - address: edgeport01:5060\n  \
         registration:\n    expires: {expires}s\n    ratePerRegistrar: unlimited\n"
    )
}

/// Samples of one scrape of `/metrics`.
pub struct Samples(String);

impl Samples {
    /// The value of a sample, by its name with labels.
    pub fn get(&self, name: &str) -> Option<f64> {
        let line =
            self.0.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    /// A histogram without labels.
    pub fn histogram(&self, name: &str) -> Histogram {
        let prefix = format!("{name}_bucket{{le=\"");
        let bucket = |line: &str| {
            let (le, rest) = line.strip_prefix(&prefix)?.split_once('"')?;
            let bound = if le == "+Inf" { f64::INFINITY } else { le.parse().ok()? };
            Some((bound, rest.rsplit_once(' ')?.1.parse::<f64>().ok()? as u64))
        };
        Histogram(self.0.lines().filter_map(bucket).collect())
    }
}

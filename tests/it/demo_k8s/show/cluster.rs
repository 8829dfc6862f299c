//! The control plane with the chart in it, and kubectl as a user of it has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::control_plane::ControlPlane;
use crate::support::process::{self, Process, tail};
use crate::support::service::{Service, program};
use crate::support::{http, ports};

use super::{Done, Problem, Screen};

/// The namespace of everything in the demo.
pub const NAMESPACE: &str = "routr";
const RELEASE: &str = "routr-registry";
/// Longest wait for anything; generous, for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Interval between two looks.
pub const POLL: Duration = Duration::from_millis(50);

/// The demo's cluster. Dropping it ends all its processes and removes its folder.
pub struct Cluster {
    pub kubeconfig: PathBuf,
    folder: PathBuf,
    plane: ControlPlane,
}

impl Cluster {
    /// Starts the control plane. The folder is the demo's own, and goes with it.
    pub async fn start() -> Done<Self> {
        let plane = ControlPlane::start().await;
        let folder = plane.folder().join("demo");
        fs::create_dir(&folder)?;
        let mut config: Value = serde_json::from_str(&fs::read_to_string(plane.kubeconfig())?)
            .map_err(|error| Problem::new(error.to_string()))?;
        // What `kubectl config set-context --current --namespace` does.
        config["contexts"][0]["context"]["namespace"] = NAMESPACE.into();
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, config.to_string())?;
        Ok(Self { kubeconfig, folder, plane })
    }

    /// A folder for what the demo shows.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the folders of kubectl, helm and routr-registry, as PATH has them.
    pub fn path(&self) -> String {
        let program = program();
        let own = program.parent().unwrap_or(Path::new("."));
        format!("{}:{}", self.plane.bin().display(), own.display())
    }

    /// Shows the command, runs it, and shows what it says.
    pub async fn show(&self, screen: &Screen, command: &str) -> Done<String> {
        screen.command(command).await?;
        let said = self.ask(command).await?;
        screen.output(&said)?;
        Ok(said)
    }

    /// Runs a command of kubectl or helm, given as a user types it, without quotes.
    pub async fn ask(&self, command: &str) -> Done<String> {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap_or_default();
        let kubeconfig = self.kubeconfig.display().to_string();
        let args = words.chain(["--kubeconfig", &kubeconfig]);
        let said = match program {
            "kubectl" => self.plane.kubectl(args).await,
            _ => self.plane.helm(args).await,
        };
        match said.success() {
            true => Ok(said.stdout),
            false => Err(Problem::new(said.to_string())),
        }
    }

    /// `kubectl get registries --watch`, shown line by line.
    pub async fn watch(&self, screen: &Screen) -> Done<Watch> {
        screen.command("kubectl get registries --watch").await?;
        let kubectl = self.plane.bin().join("kubectl");
        let mut command = process::command(&kubectl.to_string_lossy());
        command.env_clear().envs(self.plane.environment());
        command.env("KUBECONFIG", &self.kubeconfig).args(["get", "registries", "--watch"]);
        let output = self.folder.join(format!("watch-{}", fs::read_dir(&self.folder)?.count()));
        Ok(Watch { process: Process::spawn("kubectl", command, &output), shown: 0 })
    }

    /// The operator as the Deployment would run it in a pod: its arguments and its environment, as its
    /// ServiceAccount.
    pub async fn start_operator(&self) -> Done<Operator> {
        let text = self.ask(&format!("kubectl get deployment {RELEASE} --output=json")).await?;
        let deployment: Value =
            serde_json::from_str(&text).map_err(|error| Problem::new(error.to_string()))?;
        let pod = &deployment["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let account = text(&pod["serviceAccountName"]);
        let list = |name: &str| container[name].as_array().cloned().unwrap_or_default();
        let (public, private) = (ports::free(), ports::free());
        // Port 8080 may be taken here.
        let own = |argument: &String| !argument.starts_with("--listen");
        let mut args: Vec<String> = list("args").iter().map(text).filter(own).collect();
        args.push(format!("--listen=127.0.0.1:{public}"));
        args.push(format!("--admin-listen=127.0.0.1:{private}"));
        let kubeconfig = self.plane.service_account_kubeconfig(NAMESPACE, &account).await;
        let mut env = vec![
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            // The demo's dependencies are on this machine.
            ("ALLOW_ADDRESSES".to_owned(), "127.0.0.0/8".to_owned()),
        ];
        for variable in list("env") {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => "routr-registry-demo".to_owned(),
                Some("metadata.namespace") => NAMESPACE.to_owned(),
                _ => text(&variable["value"]),
            };
            env.push((text(&variable["name"]), value));
        }
        let shown = format!("routr-registry {}", args.join(" "));
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (&**name, &**value)).collect();
        Ok(Operator { service: Service::start(args, &env), shown, account, public, private })
    }
}

/// A `kubectl get --watch` that runs; ended when it is dropped.
pub struct Watch {
    process: Process,
    shown: usize,
}

impl Watch {
    /// Shows its lines as they come, until one says all of this.
    pub async fn until(&mut self, screen: &Screen, wanted: &[&str]) -> Done {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.process.output();
            let whole = output.rfind('\n').map_or("", |end| &output[..=end]);
            let mut found = false;
            for line in whole[self.shown..].lines() {
                screen.output(line)?;
                let columns: Vec<&str> = line.split_whitespace().collect();
                found |= wanted.iter().all(|word| columns.contains(word));
            }
            self.shown = whole.len();
            if found {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let text = format!("no line with {} within {} s", wanted.join(" "), PATIENCE.as_secs());
                return Err(Problem::new(text));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The operator's process; ended when it is dropped.
pub struct Operator {
    /// Its command line.
    pub shown: String,
    /// Its ServiceAccount.
    pub account: String,
    /// Port of its probes and metrics.
    pub public: u16,
    /// Port of the registrations.
    pub private: u16,
    service: Service,
}

impl Operator {
    /// Returns the text of `/readyz`, once it leads.
    pub async fn ready(&mut self) -> Done<String> {
        let url = format!("http://127.0.0.1:{}/readyz", self.public);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = match http::get(&url).await {
                Ok((status, body)) if status.as_u16() == 200 => {
                    let text = String::from_utf8_lossy(&body).into_owned();
                    if text.contains("leads") {
                        return Ok(text);
                    }
                    text
                }
                Ok((status, _)) => format!("{url} says {status}"),
                Err(problem) => problem,
            };
            if Instant::now() >= deadline || self.service.status().is_some() {
                let log = tail(&self.service.output());
                return Err(Problem::new(format!("the operator is not ready: {said}; {log}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// SIGTERM, and how it ended.
    pub async fn end(mut self) -> Done {
        let status = self.service.terminate(PATIENCE).await;
        match status.success() {
            true => Ok(()),
            false => Err(Problem::new(format!(
                "the operator ended with {status}; {}",
                tail(&self.service.output())
            ))),
        }
    }
}

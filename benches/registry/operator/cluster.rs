//! The chart, installed on a real control plane, and replicas of the real binary as its pods.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;

use crate::support::{
    control_plane::{ControlPlane, Namespace},
    http, ports,
    service::Service,
    wait::{wait_at_pace, wait_for},
};

/// The release, and so the name of the ServiceAccount and of the Lease.
const RELEASE: &str = "routr-registry";
/// Deadline of steps that take seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(250);

/// An installation that serves its own namespace alone.
pub struct Cluster<'a> {
    plane: &'a ControlPlane,
    namespace: Namespace,
    kubeconfig: String,
    container: Value,
}

impl<'a> Cluster<'a> {
    /// Installs the chart with its defaults, in a namespace of its own.
    pub async fn install(plane: &'a ControlPlane) -> anyhow::Result<Self> {
        let namespace = plane.namespace("bench").await;
        let watch = format!("watchNamespaces={{{}}}", namespace.name());
        let place = ["--namespace", namespace.name()];
        let install =
            ["install", RELEASE, "charts/routr-registry", "--set", "crds.install=false", "--set", &watch];
        plane.helm(install.iter().chain(&place)).await.ok();
        let deployment = ["get", "deployment", RELEASE, "--output=json"];
        let deployment = plane.kubectl(deployment.iter().chain(&place)).await.json();
        let pod = &deployment["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().context("no ServiceAccount")?;
        let kubeconfig = plane.service_account_kubeconfig(namespace.name(), account).await;
        let kubeconfig = kubeconfig.to_str().context("a path")?.to_owned();
        Ok(Self { plane, kubeconfig, container: pod["containers"][0].clone(), namespace })
    }

    /// Starts a replica with the arguments and the environment that the Deployment gives it, and more
    /// arguments; those replace given ones.
    pub fn start(&self, pod: &str, more: &[&str]) -> anyhow::Result<Replica> {
        let (public, private) = (ports::free(), ports::free());
        let given = self.container["args"].as_array().context("no arguments")?;
        let name = |argument: &str| argument.split('=').next().map(str::to_owned);
        let (listen, admin) =
            (format!("--listen=127.0.0.1:{public}"), format!("--admin-listen=127.0.0.1:{private}"));
        let more: Vec<&str> = more.iter().copied().chain([&*listen, &*admin]).collect();
        let kept = given
            .iter()
            .filter_map(Value::as_str)
            .filter(|one| more.iter().all(|other| name(one) != name(other)));
        let args: Vec<String> = kept.chain(more.iter().copied()).map(str::to_owned).collect();
        let mut env = vec![("KUBECONFIG", self.kubeconfig.as_str()), ("ALLOW_ADDRESSES", "127.0.0.0/8")];
        for variable in self.container["env"].as_array().context("no environment")? {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => pod,
                Some("metadata.namespace") => self.namespace.name(),
                _ => variable["value"].as_str().unwrap_or_default(),
            };
            env.push((variable["name"].as_str().context("a name")?, value));
        }
        Ok(Replica { service: Service::start(args, &env), public })
    }

    /// Applies a Registry with this spec: lines, indented by two.
    pub async fn apply(&self, name: &str, spec: &str) {
        let manifest = format!(
            "apiVersion: routr.io/v2beta1\nkind: Registry\nmetadata:\n  name: {name}\nspec:\n  edgePorts:\n    - address: \
             198.51.100.7:5060\n{spec}"
        );
        let args = ["apply", "--server-side", "--namespace", self.namespace.name(), "-f", "-"];
        self.plane.kubectl_stdin(args, &manifest).await.ok();
    }

    /// Waits until a Registry's status says that `trunks` are registered, and that it is ready.
    pub async fn ready(&self, name: &str, trunks: usize, deadline: Duration) {
        let args = ["get", "registry", name, "--output=json", "--namespace", self.namespace.name()];
        let look = async || {
            let status = self.plane.kubectl(args).await.json()["status"].clone();
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            if ready && status["trunks"]["registered"] == trunks {
                Ok(())
            } else {
                Err(status["trunks"].to_string())
            }
        };
        wait_at_pace(PACE, look, deadline, "the Registry to be ready").await;
    }

    /// Returns the number of requests of this installation's ServiceAccount to the API server so far, by verb
    /// and resource.
    pub fn asked(&self) -> BTreeMap<String, u64> {
        let mut asked = BTreeMap::new();
        for access in self.plane.audit_of(self.namespace.name(), RELEASE) {
            let resource = match &*access.subresource {
                "" => access.resource,
                sub => format!("{}/{sub}", access.resource),
            };
            *asked.entry(format!("{} {resource}", access.verb)).or_default() += 1;
        }
        asked
    }
}

/// A replica.
pub struct Replica {
    pub service: Service,
    public: u16,
}

impl Replica {
    /// Waits until `/readyz` has this in its text.
    pub async fn says_it(&self, text: &str) {
        let look = async || {
            let (_, body) = http::get(&format!("http://127.0.0.1:{}/readyz", self.public)).await?;
            let body = String::from_utf8_lossy(&body).into_owned();
            if body.contains(text) { Ok(()) } else { Err(format!("{body}\n{}", self.service.output())) }
        };
        wait_for(look, SOON, text).await;
    }

    /// Returns the time when its log first said this, in milliseconds since the Unix epoch, and the whole
    /// line.
    pub fn logged(&self, text: &str) -> anyhow::Result<(f64, Value)> {
        let output = self.service.output();
        let line =
            output.lines().find(|line| line.contains(text)).with_context(|| format!("not logged: {text}"))?;
        let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        let at: Timestamp = line["timestamp"].as_str().context("no time")?.parse()?;
        Ok((at.as_microsecond() as f64 / 1_000.0, line))
    }
}

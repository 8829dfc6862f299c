//! The chart, installed on a control plane, and its replicas as processes.

use std::time::Duration;

use routr_registration::{engine::view::Summary, registration::state::TrunkState};
use serde_json::Value;

use super::control_plane::{ControlPlane, Namespace, Output};
use super::process::tail;
use super::service::Service;
use super::wait::{PATIENCE, wait_at_pace, wait_for};
use super::{http, ports};

/// Deadline of steps that should need no more than some seconds; generous, for a loaded machine.
pub const SOON: Duration = PATIENCE;
/// Interval between two looks by kubectl, each of which is a process.
pub const PACE: Duration = Duration::from_millis(250);
/// The chart, relative to where kubectl and helm run.
pub const CHART: &str = "charts/routr-registry";
/// The release, and so the name of the ServiceAccount and of the Lease.
pub const RELEASE: &str = "routr-registry";
/// A lease duration that no busy machine uses up.
const LASTING: &str = "operator.leaseDurationSeconds=30";
/// The default.
pub const SHORT_TERMS: &str = "operator.leaseDurationSeconds=10";

/// The chart, installed in a namespace of its own, which it watches and nothing else.
pub struct Installation<'a> {
    pub plane: &'a ControlPlane,
    pub namespace: Namespace,
    account: String,
    kubeconfig: String,
    container: Value,
}

/// The ports on loopback of what a Registry depends on.
pub trait Dependencies {
    fn api_port(&self) -> u16;
    fn requester_port(&self) -> u16;
}

/// A Registry that reaches these dependencies; `more` are lines of `spec`, indented by two.
pub fn manifest(name: &str, dependencies: &impl Dependencies, more: &str) -> String {
    format!(
        "apiVersion: routr.io/v2beta1\nkind: Registry\nmetadata:\n  name: {name}\nspec:\n  requesterAddr: 127.0.0.1:{}\n  \
         apiAddr: 127.0.0.1:{}\n  registerInterval: 1s\n  edgePorts:\n    - address: 10.0.0.1:5060\n{more}",
        dependencies.requester_port(),
        dependencies.api_port()
    )
}

impl<'a> Installation<'a> {
    /// Applies this Registry; `more` are lines of `spec`, indented by two.
    pub async fn apply(&self, name: &str, dependencies: &impl Dependencies, more: &str) {
        self.apply_manifest(&manifest(name, dependencies, more)).await;
    }

    /// On the shared control plane.
    pub async fn shared(prefix: &str) -> Installation<'static> {
        Installation::on(ControlPlane::shared().await, prefix, &[]).await
    }

    /// Installs on the shared control plane, with the lease duration that is the chart's default: for a test
    /// that kills or freezes a leader, and waits for the end of its term.
    pub async fn with_short_terms(prefix: &str) -> Installation<'static> {
        Installation::on(ControlPlane::shared().await, prefix, &[SHORT_TERMS]).await
    }

    /// `values` are for `helm install --set`.
    pub async fn on(plane: &'a ControlPlane, prefix: &str, values: &[&str]) -> Self {
        let namespace = plane.namespace(prefix).await;
        let watch = format!("watchNamespaces={{{}}}", namespace.name());
        let mut sets = vec!["crds.install=false".to_owned(), watch];
        sets.extend(values.iter().map(|&value| value.to_owned()));
        Self::install(plane, namespace, &sets).await
    }

    /// Installs with exactly these values, and a lease duration that no busy machine uses up, unless they
    /// have another.
    pub async fn install(plane: &'a ControlPlane, namespace: Namespace, values: &[String]) -> Self {
        let mut args = vec!["install", RELEASE, CHART, "--namespace", namespace.name(), "--set", LASTING];
        for value in values {
            args.extend(["--set", value]);
        }
        plane.helm(args).await.ok();
        let deployment = ["get", "deployment", RELEASE, "--namespace", namespace.name(), "--output=json"];
        let deployment = plane.kubectl(deployment).await.json();
        let pod = &deployment["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().unwrap();
        let kubeconfig = plane.service_account_kubeconfig(namespace.name(), account).await;
        Self {
            plane,
            account: account.to_owned(),
            kubeconfig: kubeconfig.to_str().unwrap().to_owned(),
            container: pod["containers"][0].clone(),
            namespace,
        }
    }

    /// The kubeconfig of its ServiceAccount, for an API server at this port of 127.0.0.1: a wire to the real
    /// one.
    pub async fn kubeconfig_by(&self, port: u16) -> String {
        let kubeconfig =
            self.plane.service_account_kubeconfig_by(self.namespace.name(), &self.account, port).await;
        kubeconfig.to_str().unwrap().to_owned()
    }

    /// Starts a replica with the arguments and the environment that the Deployment gives it, as a pod of this
    /// name.
    pub fn start(&self, pod: &str) -> Operator {
        self.start_with(pod, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(&self, pod: &str, more: &[&str]) -> Operator {
        self.start_as(&self.kubeconfig, pod, more)
    }

    /// The same, with more environment variables.
    pub fn start_in(&self, pod: &str, more: &[(&str, &str)]) -> Operator {
        self.start_fully(&self.kubeconfig, pod, &[], more)
    }

    /// The kubeconfig of its ServiceAccount.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// The same, with this kubeconfig instead of that of the ServiceAccount.
    pub fn start_as(&self, kubeconfig: &str, pod: &str, more: &[&str]) -> Operator {
        self.start_fully(kubeconfig, pod, more, &[])
    }

    fn start_fully(
        &self,
        kubeconfig: &str,
        pod: &str,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Operator {
        let (public, private) = (ports::free(), ports::free());
        let mut args: Vec<String> = self.container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|argument| argument.as_str().unwrap().to_owned())
            .filter(|argument| !argument.starts_with("--listen"))
            .collect();
        args.push(format!("--listen=127.0.0.1:{public}"));
        args.push(format!("--admin-listen=127.0.0.1:{private}"));
        args.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut env = vec![("KUBECONFIG".to_owned(), kubeconfig.to_owned())];
        for variable in self.container["env"].as_array().unwrap() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => pod,
                Some("metadata.namespace") => self.namespace.name(),
                Some(other) => panic!("no pod has {other} here"),
                None => variable["value"].as_str().unwrap_or_default(),
            };
            env.push((variable["name"].as_str().unwrap().to_owned(), value.to_owned()));
        }
        // The dependencies of tests are on loopback.
        env.push(("ALLOW_ADDRESSES".to_owned(), "127.0.0.0/8,::1".to_owned()));
        let env = env.iter().map(|(name, value)| (&**name, &**value));
        let env: Vec<(&str, &str)> = env.chain(variables.iter().copied()).collect();
        Operator { service: Service::start(args, &env), public, private }
    }

    /// kubectl as the administrator, in this namespace.
    pub async fn kubectl(&self, args: &[&str]) -> Output {
        let namespace = ["--namespace", self.namespace.name()];
        self.plane.kubectl(args.iter().chain(&namespace)).await
    }

    /// Applies what is in this manifest.
    pub async fn apply_manifest(&self, manifest: &str) {
        let args = ["apply", "--server-side", "--namespace", self.namespace.name(), "-f", "-"];
        self.plane.kubectl_stdin(args, manifest).await.ok();
    }

    /// The Registry as the API server has it.
    pub async fn registry(&self, name: &str) -> Value {
        self.kubectl(&["get", "registry", name, "--output=json"]).await.json()
    }

    /// Waits until the Registry's status passes, and returns it.
    pub async fn status(&self, name: &str, what: &str, passes: impl Fn(&Value) -> bool) -> Value {
        let look = async || {
            let shown = self.kubectl(&["get", "registry", name, "--output=json"]).await;
            let registry: Value = serde_json::from_str(&shown.stdout).map_err(|_| shown.to_string())?;
            let status = registry["status"].clone();
            if passes(&status) { Ok(status) } else { Err(format!("{status:#}")) }
        };
        wait_at_pace(PACE, look, SOON, what).await
    }

    /// Waits until the condition has this status and this reason, and returns the whole status.
    pub async fn condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> Value {
        let what = format!("{kind} of {name} to be {status} because of {reason}");
        self.status(name, &what, |all| {
            let found = condition(all, kind);
            found["status"] == status && found["reason"] == reason
        })
        .await
    }

    /// The reasons of the events about this Registry, oldest first.
    pub async fn events(&self, name: &str) -> Vec<(String, String)> {
        let selector = format!("--field-selector=regarding.name={name}");
        let events = ["get", "events.events.k8s.io", "--output=json", selector.as_str()];
        let events = self.kubectl(&events).await.json();
        let mut events = events["items"].as_array().cloned().unwrap_or_default();
        events.sort_by_key(|event| event["eventTime"].as_str().unwrap_or_default().to_owned());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events.iter().map(|event| (text(&event["reason"]), text(&event["note"]))).collect()
    }

    /// Returns the holder of the Lease, as a pod's name; `None` when there is none.
    pub async fn leader(&self) -> Option<String> {
        let lease = self.kubectl(&["get", "lease", RELEASE, "--output=json"]).await;
        let lease: Value = serde_json::from_str(&lease.stdout).ok()?;
        let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty())?;
        Some(holder.rsplit_once('_').map_or(holder, |(pod, _)| pod).to_owned())
    }
}

/// One of the conditions of a status; null where it is not there.
pub fn condition(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// A replica.
pub struct Operator {
    pub service: Service,
    pub public: u16,
    pub private: u16,
}

impl Operator {
    /// Status and body of a path of the public port.
    pub async fn public(&self, path: &str) -> Result<(u16, String), String> {
        let answer = http::get(&format!("http://127.0.0.1:{}{path}", self.public)).await;
        answer.map(|(status, body)| (status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }

    /// Summary of the one engine of this replica; an error where none or several run.
    pub async fn summary(&self) -> Result<Summary, String> {
        let url = format!("http://127.0.0.1:{}/summary", self.private);
        match http::get(&url).await? {
            (status, body) if status.is_success() => serde_json::from_slice(&body)
                .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&body))),
            (status, body) => Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
        }
    }

    /// Waits until so many trunks are registered, and none is in any other state.
    pub async fn all_registered(&self, count: u64) {
        let look = async || {
            let counts = self.summary().await?.counts;
            let all = counts.registered == count
                && TrunkState::ALL.into_iter().map(|state| counts.of(state)).sum::<u64>() == count;
            if all { Ok(()) } else { Err(format!("{counts:?}; {}", tail(&self.service.output()))) }
        };
        wait_at_pace(Duration::from_millis(100), look, SOON, "all trunks to be registered").await;
    }

    /// Waits until `/readyz` answers with this status and has this in its text.
    pub async fn answers(&self, status: u16, text: &str) -> String {
        let look = async || match self.public("/readyz").await? {
            (code, body) if code == status && body.contains(text) => Ok(body),
            (code, body) => Err(format!("{code}: {body}\n{}", tail(&self.service.output()))),
        };
        wait_for(look, SOON, &format!("/readyz to answer {status}, {text}")).await
    }

    /// Waits until the log has this.
    pub async fn says(&self, text: &str) {
        let look = async || {
            let output = self.service.output();
            if output.contains(text) { Ok(()) } else { Err(tail(&output)) }
        };
        wait_for(look, SOON, text).await;
    }
}

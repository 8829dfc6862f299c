//! The exec plugin of a kubeconfig: a command that prints an `ExecCredential` with a token or a client
//! certificate.
//!
//! It runs for the first request, again shortly before its credentials expire, while they still serve, and
//! after the API server has refused them. A failure is an error of the request, so that it is retried and
//! reported like any other. Of the command, its name and exit status are shown: arguments, environment and
//! output may hold secrets.

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::http::{Request, Response, StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::{
    Client,
    client::Body,
    config::{AuthInfo, ExecConfig, ExecInteractiveMode},
};
use serde::Deserialize;
use tokio::{io::AsyncReadExt as _, process::Command, time::Instant};
use tower::{BoxError, Service};

use routr_types::secret::Secret;

/// Longest run of the command.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest output that is read, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;
/// Pause after a run that failed; requests fail without another run meanwhile.
const RETRY_PERIOD: Duration = Duration::from_secs(3);
/// Time before their expiry at which credentials are renewed; or after three quarters of their life where
/// that is later.
const RENEW_BEFORE_MS: u64 = 60_000;

/// Reason that there are no credentials. Holds nothing of the command but its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExecPluginError {
    #[error("users[].user.exec.command is missing; name the command that prints the credentials")]
    NoCommand,
    #[error("users[].user.exec: {0} asks for a terminal (interactiveMode: Always), and a service has none")]
    Interactive(String),
    #[error("cannot run the kubeconfig's exec plugin {name}: {problem}; install it where PATH finds it")]
    Start { name: String, problem: String },
    #[error(
        "the kubeconfig's exec plugin {name} failed ({status}); run it by hand to see why: its output is not \
         shown here, because it may contain secrets"
    )]
    Exit { name: String, status: ExitStatus },
    #[error("the kubeconfig's exec plugin {name} did not end within {} s", RUN_TIMEOUT.as_secs())]
    Deadline { name: String },
    #[error(
        "the kubeconfig's exec plugin {0} printed no ExecCredential with a token, or a client certificate and its key (exit status: 0)"
    )]
    Output(String),
}

/// Output of a plugin.
#[derive(Debug)]
pub(super) struct Credentials {
    token: Option<Secret>,
    /// Certificate and key, PEM.
    certificate: Option<(String, Secret)>,
    /// Unix milliseconds: when to run the plugin again, and when these serve no longer.
    validity: Option<(u64, u64)>,
}

impl Credentials {
    /// Enters them into the settings of a client.
    pub(super) fn write_into(&self, user: &mut AuthInfo) {
        user.token = self.token.as_ref().map(|token| token.expose().to_owned().into());
        if let Some((certificate, key)) = &self.certificate {
            user.client_certificate_data = Some(BASE64_STANDARD.encode(certificate));
            user.client_key_data = Some(BASE64_STANDARD.encode(key.expose()).into());
        }
    }

    fn is_due(&self, now: u64) -> bool {
        self.validity.is_some_and(|(renew, _)| now >= renew)
    }

    fn has_expired(&self, now: u64) -> bool {
        self.validity.is_some_and(|(_, end)| now >= end)
    }
}

/// A command and its last credentials, shared by all clients.
pub(super) struct ExecPlugin {
    settings: ExecConfig,
    /// The file name of the command.
    name: String,
    current: Mutex<Option<Arc<Credentials>>>,
    /// Held while the command runs: the last failure, and when it was.
    running: tokio::sync::Mutex<Option<(Instant, ExecPluginError)>>,
}

impl ExecPlugin {
    /// Runs nothing yet.
    ///
    /// # Errors
    /// When the settings name no command, or one that needs a terminal.
    pub(super) fn new(settings: ExecConfig) -> Result<Self, ExecPluginError> {
        let command = settings.command.as_deref().filter(|command| !command.trim().is_empty());
        let command = command.ok_or(ExecPluginError::NoCommand)?;
        let name = Path::new(command).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| command.to_owned());
        if settings.interactive_mode == Some(ExecInteractiveMode::Always) {
            return Err(ExecPluginError::Interactive(name));
        }
        Ok(Self { settings, name, current: Mutex::default(), running: tokio::sync::Mutex::default() })
    }

    fn current(&self) -> Option<Arc<Credentials>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets credentials that the API server refused.
    fn reject(&self, credentials: &Arc<Credentials>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, credentials)) {
            *current = None;
        }
    }

    /// Returns credentials that serve now; runs the command where there are none. Where they will expire
    /// soon, it runs beside.
    async fn credentials(self: &Arc<Self>) -> Result<Arc<Credentials>, ExecPluginError> {
        let now = routr_environment::unix_ms();
        match self.current() {
            Some(current) if !current.is_due(now) => Ok(current),
            Some(current) if !current.has_expired(now) => {
                let plugin = self.clone();
                // Only one runs at a time; its failure is reported when the old ones have expired.
                tokio::spawn(async move { drop(plugin.renew(false).await) });
                Ok(current)
            }
            _ => self.renew(true).await,
        }
    }

    /// Runs the command, one at a time. `wait`: for one that runs already.
    async fn renew(&self, wait: bool) -> Result<Arc<Credentials>, ExecPluginError> {
        let mut failure = if wait {
            self.running.lock().await
        } else {
            match self.running.try_lock() {
                Ok(free) => free,
                Err(_) => return Err(ExecPluginError::Deadline { name: self.name.clone() }),
            }
        };
        if let Some(current) = self.current().filter(|current| !current.is_due(routr_environment::unix_ms()))
        {
            return Ok(current);
        }
        if let Some((at, error)) = failure.as_ref()
            && at.elapsed() < RETRY_PERIOD
        {
            return Err(error.clone());
        }
        match self.run().await {
            Ok(credentials) => {
                let credentials = Arc::new(credentials);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials.clone());
                *failure = None;
                Ok(credentials)
            }
            Err(error) => {
                *failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn run(&self) -> Result<Credentials, ExecPluginError> {
        let name = || self.name.clone();
        let failed =
            |error: std::io::Error| ExecPluginError::Start { name: name(), problem: error.to_string() };
        let mut child = self.command().spawn().map_err(failed)?;
        let output = child.stdout.take();
        let run = async {
            let mut printed = Vec::new();
            if let Some(output) = output {
                output.take(MAX_OUTPUT).read_to_end(&mut printed).await?;
            }
            Ok::<_, std::io::Error>((child.wait().await?, printed))
        };
        let (status, printed) = tokio::time::timeout(RUN_TIMEOUT, run)
            .await
            .map_err(|_| ExecPluginError::Deadline { name: name() })?
            .map_err(failed)?;
        if !status.success() {
            return Err(ExecPluginError::Exit { name: name(), status });
        }
        read_output(&printed, routr_environment::unix_ms()).ok_or_else(|| ExecPluginError::Output(name()))
    }

    fn command(&self) -> Command {
        let settings = &self.settings;
        let mut command = Command::new(settings.command.as_deref().unwrap_or_default());
        command.args(settings.args.iter().flatten());
        for variable in settings.env.iter().flatten() {
            if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
                command.env(name, value);
            }
        }
        let mut spec = serde_json::json!({ "interactive": false });
        if let Some(cluster) = &settings.cluster {
            spec["cluster"] = serde_json::to_value(cluster).unwrap_or_default();
        }
        let version = settings.api_version.as_deref().unwrap_or("client.authentication.k8s.io/v1");
        let about = serde_json::json!({ "apiVersion": version, "kind": "ExecCredential", "spec": spec });
        command.env("KUBERNETES_EXEC_INFO", about.to_string());
        // What it writes to standard error is for a person at a terminal, and may hold a secret.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        command
    }
}

#[derive(Deserialize)]
struct Printed {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<String>,
}

/// Reads an `ExecCredential`, JSON or YAML. Without a time that can be read, the credentials serve until they
/// are refused.
fn read_output(printed: &[u8], now: u64) -> Option<Credentials> {
    let status = serde_saphyr::from_slice::<Printed>(printed).ok()?.status?;
    let present = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let token = present(status.token).map(|token| Secret::new(token.trim()));
    let certificate =
        present(status.client_certificate_data).zip(present(status.client_key_data).map(Secret::new));
    let end = status.expiration_timestamp.and_then(|text| text.trim().parse::<jiff::Timestamp>().ok());
    let end = end.and_then(|end| u64::try_from(end.as_millisecond()).ok());
    let validity = end.map(|end| {
        let life = end.saturating_sub(now);
        (now + life - RENEW_BEFORE_MS.min(life / 4), end)
    });
    (token.is_some() || certificate.is_some()).then_some(Credentials { token, certificate, validity })
}

/// Makes the client for one set of credentials.
type MakeClient = dyn Fn(&Credentials) -> Result<Client, kube::Error> + Send + Sync;

/// A client, and the credentials that it was made with.
type LastClient = (Arc<Credentials>, Client);

/// Sends requests with the plugin's credentials: a service below kube's client.
pub(super) struct Authenticated {
    plugin: Arc<ExecPlugin>,
    make: Arc<MakeClient>,
    /// The client of the credentials that were used last.
    client: Arc<Mutex<Option<LastClient>>>,
}

impl Authenticated {
    pub(super) fn new(
        plugin: Arc<ExecPlugin>,
        make: impl Fn(&Credentials) -> Result<Client, kube::Error> + Send + Sync + 'static,
    ) -> Self {
        Self { plugin, make: Arc::new(make), client: Arc::default() }
    }
}

impl Service<Request<Body>> for Authenticated {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (plugin, make, last) = (self.plugin.clone(), self.make.clone(), self.client.clone());
        Box::pin(async move {
            let credentials = plugin.credentials().await?;
            let client = {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                match last.as_ref() {
                    Some((used, client)) if Arc::ptr_eq(used, &credentials) => client.clone(),
                    _ => {
                        let client = make(&credentials)?;
                        *last = Some((credentials.clone(), client.clone()));
                        client
                    }
                }
            };
            let response = client.send(request).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                plugin.reject(&credentials);
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    /// A plugin that is this shell script, with a secret in its arguments and its environment.
    fn plugin(folder: &TempDir, script: &str) -> Arc<ExecPlugin> {
        let path = folder.path().join("my-plugin");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let settings = json!({
            "command": path, "args": ["--password=s3cret"], "env": [{ "name": "PASSWORD", "value": "s3cret" }, { "name": "odd" }],
        });
        Arc::new(ExecPlugin::new(serde_json::from_value(settings).unwrap()).unwrap())
    }

    #[tokio::test]
    async fn k6_of_a_plugin_that_fails_only_its_name_and_exit_status_are_shown() {
        let folder = TempDir::new().unwrap();
        let leaks = "echo $PASSWORD; echo $PASSWORD >&2; ";
        for (script, expected) in [
            (format!("{leaks} exit 3"), "my-plugin failed (exit status: 3)"),
            (format!("{leaks} kill -9 $$"), "my-plugin failed (signal: 9"),
            (format!("{leaks} exit 0"), "my-plugin printed no ExecCredential"),
            (
                "echo '{\"status\":{\"token\":\" \",\"clientKeyData\":\"s3cret\"}}'".to_owned(),
                "printed no ExecCredential",
            ),
        ] {
            let error = plugin(&folder, &script).credentials().await.expect_err(&script);
            let (shown, debug) = (error.to_string(), format!("{error:?}"));
            assert!(shown.contains(expected), "{shown}");
            assert!(!shown.contains("s3cret") && !debug.contains("s3cret"), "{shown} {debug}");
        }
        let missing: ExecConfig =
            serde_json::from_value(json!({ "command": "/nowhere/s3cret/tool" })).unwrap();
        let error =
            Arc::new(ExecPlugin::new(missing).unwrap()).credentials().await.expect_err("it is not there");
        let expected = "cannot run the kubeconfig's exec plugin tool: No such file or directory (os error 2); install it where PATH finds it";
        assert_eq!(error.to_string(), expected);
        for settings in
            [json!({}), json!({ "command": "" }), json!({ "command": "a", "interactiveMode": "Always" })]
        {
            assert!(ExecPlugin::new(serde_json::from_value(settings).unwrap()).is_err());
        }
    }

    #[tokio::test]
    async fn k6_a_plugin_runs_once_and_again_when_its_credentials_are_refused() {
        let folder = TempDir::new().unwrap();
        let count = folder.path().join("count");
        let script = format!(
            "echo x >> {0}; echo '{{\"apiVersion\":\"x\",\"status\":{{\"token\":\"'$(wc -l < {0})$PASSWORD$1'\"}}}}'",
            count.display()
        );
        let plugin = plugin(&folder, &script);
        let token = |credentials: &Credentials| credentials.token.as_ref().unwrap().expose().replace(' ', "");
        let first = plugin.credentials().await.unwrap();
        assert_eq!(token(&first), "1s3cret--password=s3cret");
        assert!(Arc::ptr_eq(&first, &plugin.credentials().await.unwrap()));
        assert!(!format!("{first:?}").contains("s3cret"));
        plugin.reject(&first);
        let second = plugin.credentials().await.unwrap();
        assert_eq!(token(&second), "2s3cret--password=s3cret");
        // Late news of the first.
        plugin.reject(&first);
        assert!(Arc::ptr_eq(&second, &plugin.credentials().await.unwrap()));
    }

    #[test]
    fn credentials_are_renewed_before_they_expire() {
        let now = 1_800_000_000_000;
        let read = |end: &str| {
            let printed = format!("status:\n  token: t\n  expirationTimestamp: {end:?}\n");
            read_output(printed.as_bytes(), now)
                .unwrap()
                .validity
                .map(|(renew, end)| (renew - now, end - now))
        };
        // 1_800_000_000 is 2027-01-15T08:00:00Z.
        assert_eq!(read("2027-01-15T09:00:00Z"), Some((3_540_000, 3_600_000)));
        assert_eq!(read("2027-01-15T08:00:40Z"), Some((30_000, 40_000)));
        assert_eq!(read("soon"), None, "they serve until they are refused");
        let printed = json!({ "status": { "clientCertificateData": "c", "clientKeyData": "k" } }).to_string();
        let mut user = AuthInfo::default();
        read_output(printed.as_bytes(), now).unwrap().write_into(&mut user);
        assert_eq!(user.client_certificate_data.as_deref(), Some("Yw=="));
        assert!(user.client_key_data.is_some() && user.token.is_none());
        for nothing in ["", "[]", "\u{0}", "status: {}", "status: {token: ''}"] {
            assert!(read_output(nothing.as_bytes(), now).is_none(), "{nothing:?}");
        }
    }
}

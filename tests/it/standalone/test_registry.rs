//! The dependencies of a registry, in this process, and the registry itself as a process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::Location;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use routr_registry::devstack::api::ApiServer;
use routr_registry::devstack::registrar::{Registrar, RegistrarOptions};
use routr_registry::proto::credentials::Credentials;
use routr_registry::proto::trunks::{Trunk, TrunkUri};
use routr_registry::requester;
use routr_types::host::Transport;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::SOON;
use crate::support::process::tail;
use crate::support::service::Service;
use crate::support::wait::{wait_for, wait_until};
use crate::support::{http, ports};

/// The password of every trunk. Nothing may ever show it.
pub const PASSWORD: &str = "tr0ub4dor-of-the-trunks";

/// Time that the Requester of a test waits for a registrar. It runs in this process, which a busy machine may
/// hold up; a silence that a test wants must not take long.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// An API server, a Requester (`direct`) and a registrar, and where the registry is to listen.
pub struct TestRegistry {
    pub api: ApiServer,
    pub registrar: Registrar,
    pub api_port: u16,
    pub requester_port: u16,
    pub public: u16,
    pub private: u16,
    pub dir: TempDir,
    api_end: Option<DropGuard>,
    requester_end: Option<DropGuard>,
    _registrar_end: DropGuard,
}

impl TestRegistry {
    /// Only the registrar runs.
    pub async fn bare() -> Self {
        let end = CancellationToken::new();
        let options = RegistrarOptions::default().account("nobody", PASSWORD);
        let registrar = Registrar::start(options, end.clone()).await.unwrap();
        let [api_port, requester_port, public, private] = [(); 4].map(|()| ports::free());
        Self {
            api: ApiServer::from_trunks(Vec::new()),
            registrar,
            api_port,
            requester_port,
            public,
            private,
            dir: TempDir::new().unwrap(),
            api_end: None,
            requester_end: None,
            _registrar_end: end.drop_guard(),
        }
    }

    /// Everything runs, with these trunks.
    pub async fn with(refs: &[&str]) -> Self {
        let mut stage = Self::bare().await;
        stage.trunks(refs);
        stage.start_api().await;
        stage.start_requester().await;
        stage
    }

    pub async fn start_api(&mut self) {
        let listener = listen(self.api_port).await;
        let (end, api) = (CancellationToken::new(), self.api.clone());
        tokio::spawn({
            let end = end.clone();
            async move { api.serve(listener, end).await }
        });
        self.api_end = Some(end.drop_guard());
    }

    pub async fn start_requester(&mut self) {
        let listener = listen(self.requester_port).await;
        let end = CancellationToken::new();
        let options = requester::Options {
            answer_within: ANSWER_WITHIN,
            grace: Duration::ZERO,
            ..requester::Options::default()
        };
        tokio::spawn(requester::serve(listener, options, end.clone()));
        self.requester_end = Some(end.drop_guard());
    }

    pub async fn stop_api(&mut self) {
        self.api_end = None;
        wait_until(async || ports::is_free(self.api_port), SOON, "the API server to be gone").await;
    }

    pub async fn stop_requester(&mut self) {
        self.requester_end = None;
        wait_until(async || ports::is_free(self.requester_port), SOON, "the Requester to be gone").await;
    }

    /// The API server lists these, and the registrar has an account for each.
    pub fn trunks(&self, refs: &[&str]) {
        self.api.set_trunks(refs.iter().map(|reference| self.trunk(reference)).collect());
    }

    /// A good trunk whose account is its ref.
    pub fn trunk(&self, reference: &str) -> Trunk {
        self.registrar.set_password(reference, PASSWORD);
        let address = self.registrar.address(Transport::Udp).unwrap();
        trunk(reference, "127.0.0.1", address.port())
    }

    /// A configuration that reaches these dependencies; `more` are lines of `spec`, indented by two.
    pub fn config(&self, more: &str) -> String {
        format!(
            "kind: Registry\napiVersion: v2beta1\nmetadata:\n  name: test\nspec:\n  requesterAddr: 127.0.0.1:{}\n  apiAddr: \
             127.0.0.1:{}\n  registerInterval: 1s\n  edgePorts:\n    - address: 10.0.0.1:5060\n{more}",
            self.requester_port, self.api_port
        )
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("registry.yaml")
    }

    pub fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    /// Runs the registry with the configuration as written last, with the default one where there is none.
    pub fn run(&self, env: &[(&str, &str)]) -> Service {
        self.run_with(&[], env)
    }

    pub fn run_with(&self, flags: &[&str], env: &[(&str, &str)]) -> Service {
        if !self.path().exists() {
            self.write(&self.config(""));
        }
        let (public, private) = (format!("127.0.0.1:{}", self.public), format!("127.0.0.1:{}", self.private));
        let path = self.path();
        let mut args =
            vec!["run", "--config", path.to_str().unwrap(), "--listen", &public, "--admin-listen", &private];
        args.extend(flags);
        Service::start(args, env)
    }

    /// The program's subcommand, asking this registry.
    pub fn client(&self, args: &[&str]) -> Service {
        let url = format!("http://127.0.0.1:{}", self.private);
        Service::start(args.iter().copied(), &[("ROUTR_REGISTRY_URL", &url)])
    }

    /// Status and body of a path of the public port.
    pub async fn public(&self, path: &str) -> Result<(u16, String), String> {
        let answer = http::get(&format!("http://127.0.0.1:{}{path}", self.public)).await;
        answer.map(|(status, body)| (status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }

    /// JSON of a path of the private port.
    pub async fn private(&self, path: &str) -> Result<Value, String> {
        let (status, body) = http::get(&format!("http://127.0.0.1:{}{path}", self.private)).await?;
        let json = serde_json::from_slice(&body).map_err(|error| format!("{error}: {body:?}"))?;
        if status == StatusCode::OK { Ok(json) } else { Err(format!("{status}: {json}")) }
    }

    /// Waits until no REGISTER of this trunk is in flight: a refresh that is asked for meanwhile sends none.
    pub async fn rests(&self, reference: &str) {
        let rests = async || self.views().await.is_ok_and(|views| views[reference]["inFlight"] == false);
        wait_until(rests, SOON, "the answer to have arrived").await;
    }

    pub async fn refresh(&self, reference: &str) -> Result<StatusCode, String> {
        let url = format!("http://127.0.0.1:{}/registrations/{reference}/refresh", self.private);
        http::post(&url, String::new()).await.map(|(status, _)| status)
    }

    /// All trunks as the private port shows them, by ref.
    pub async fn views(&self) -> Result<BTreeMap<String, Value>, String> {
        let page = self.private("/registrations?limit=500").await?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        Ok(items.into_iter().map(|item| (item["reference"].as_str().unwrap().to_owned(), item)).collect())
    }

    /// Waits until exactly these trunks are there, in these states.
    #[track_caller]
    pub fn settles(&self, expected: &[(&str, &str)]) -> impl Future<Output = ()> {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(r, s)| ((*r).to_owned(), (*s).to_owned())).collect();
        let what = format!("the trunks to be {expected:?}, for {}", Location::caller());
        let look = async move || {
            let views = self.views().await?;
            let state = |view: &Value| view["state"].as_str().unwrap().to_owned();
            let states: BTreeMap<String, String> =
                views.into_iter().map(|(reference, view)| (reference, state(&view))).collect();
            if states == expected { Ok(()) } else { Err(format!("{states:?}")) }
        };
        async move { wait_for(look, SOON, &what).await }
    }

    /// Number of REGISTERs of each user that the registrar has granted so far. One that was retransmitted, as
    /// happens on a busy machine, counts once.
    pub fn granted(&self) -> BTreeMap<String, usize> {
        let granted = self.registrar.log().into_iter().filter(|seen| seen.code == Some(200));
        let transactions: BTreeSet<_> = granted.map(|seen| (seen.user, seen.call_id, seen.cseq)).collect();
        let mut granted = BTreeMap::new();
        for (user, _, _) in transactions {
            *granted.entry(user).or_default() += 1;
        }
        granted
    }

    /// Everything that the two ports and the log show, searched for the password, plain and as
    /// `X-Gateway-Auth` has it. Every line of the log must be JSON.
    pub async fn keeps_secrets(&self, service: &Service) {
        log(service);
        let mut shown = vec![service.output()];
        for path in ["/healthz", "/livez", "/readyz", "/metrics"] {
            shown.push(self.public(path).await.unwrap_or_default().1);
        }
        for path in ["/summary", "/registrations?limit=500"] {
            shown.push(self.private(path).await.unwrap_or_default().to_string());
        }
        for secret in secrets(&["a", "b", "c"]) {
            for text in &shown {
                assert!(!text.contains(&secret), "{secret} is shown in:\n{text}");
            }
        }
    }
}

/// Returns the texts that nothing may show: the password, and user and password in base64 for these users.
pub fn secrets(users: &[&str]) -> Vec<String> {
    let encoded = |user: &&str| base64::prelude::BASE64_STANDARD.encode(format!("{user}:{PASSWORD}"));
    users.iter().map(encoded).chain([PASSWORD.to_owned()]).collect()
}

/// A trunk at that registrar, with its ref as user.
pub fn trunk(reference: &str, host: &str, port: u16) -> Trunk {
    Trunk {
        r#ref: reference.to_owned(),
        name: format!("Trunk {reference}"),
        send_register: true,
        outbound_credentials: Some(Credentials {
            username: reference.to_owned(),
            password: PASSWORD.to_owned(),
            ..Credentials::default()
        }),
        uris: vec![TrunkUri {
            host: host.to_owned(),
            port: i32::from(port),
            transport: "UDP".to_owned(),
            user: reference.to_owned(),
            weight: 1,
            priority: 1,
            enabled: true,
        }],
        ..Trunk::default()
    }
}

/// Listens on that port of 127.0.0.1 again, where a predecessor's connections may still be closing.
pub async fn listen(port: u16) -> TcpListener {
    let bind = async || TcpListener::bind(("127.0.0.1", port)).await;
    wait_for(bind, SOON, "a port to be free").await
}

/// The lines of a service's log. Panics where one is not JSON.
pub fn log(service: &Service) -> Vec<Value> {
    let output = service.output();
    let complete = output.rfind('\n').map_or("", |end| &output[..end]);
    complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the line: {line}")))
        .collect()
}

/// The messages of a service's log that contain `text`.
pub fn told(service: &Service, text: &str) -> Vec<String> {
    let messages = log(service).into_iter().filter_map(|line| Some(line["message"].as_str()?.to_owned()));
    messages.filter(|message| message.contains(text)).collect()
}

/// Waits until the log has this text `times` times.
#[track_caller]
pub fn tells<'s>(service: &'s Service, text: &'s str, times: usize) -> impl Future<Output = ()> + 's {
    wait_for(
        async move || {
            let found = told(service, text).len();
            if found >= times { Ok(()) } else { Err(format!("{found} times; {}", tail(&service.output()))) }
        },
        SOON,
        text,
    )
}

//! Played cases, an API server in this process, and the program as registry and as Requester.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use routr_registry::devstack::api::ApiServer;
use routr_registry::devstack::field::{Case, Library, PlayOptions, Player, Seen};
use routr_registry::proto::credentials::Credentials;
use routr_registry::proto::trunks::{Trunk, TrunkUri};
use routr_types::secret::Secret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::SOON;
use crate::support::process::{self, Process, tail};
use crate::support::service::Service;
use crate::support::wait::{wait_for, wait_until};
use crate::support::{http, ports};

/// The password of every trunk that is right. Nothing may ever show it.
pub const PASSWORD: &str = "field-tests-keep-this";

/// A case by its name.
pub fn case(name: &str) -> Case {
    Library::embedded().unwrap().find(name).unwrap_or_else(|error| panic!("{error}")).case.clone()
}

/// A loopback address for the first node of a play, with room for more nodes behind it: different providers
/// have different hosts, and the registry counts by host.
fn next_host() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let second = NEXT.fetch_add(1, Ordering::Relaxed).max(1);
    SocketAddr::from(([127, second, 0, 1], 0))
}

/// A case that is being played. It ends when it is dropped.
pub struct Play {
    pub player: Player,
    _end: DropGuard,
}

impl Play {
    pub async fn start(name: &str) -> Self {
        Self::of(case(name), PlayOptions::default()).await
    }

    pub async fn of(case: Case, options: PlayOptions) -> Self {
        let end = CancellationToken::new();
        let options = PlayOptions { listen: next_host(), password: Secret::new(PASSWORD), ..options };
        let player = Player::start(&case, options, end.clone()).await;
        let player = player.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        Self { player, _end: end.drop_guard() }
    }

    /// A trunk at the first node.
    pub fn trunk(&self, user: &str, transport: &str) -> Trunk {
        trunk(user, user, self.player.address(), transport)
    }

    /// The REGISTERs of a user, as To has it.
    pub fn of_user(&self, user: &str) -> Vec<Seen> {
        let all = self.player.seen().into_iter();
        all.filter(|seen| seen.method == "REGISTER" && seen.user == user).collect()
    }

    /// Returns the number of requests that offered credentials.
    pub fn offers(&self) -> usize {
        self.player.seen().iter().filter(|seen| seen.offers_credentials()).count()
    }
}

/// A trunk `reference` of `user` at that address.
pub fn trunk(reference: &str, user: &str, at: SocketAddr, transport: &str) -> Trunk {
    Trunk {
        r#ref: reference.to_owned(),
        name: format!("Trunk {reference}"),
        send_register: true,
        outbound_credentials: Some(Credentials {
            username: user.to_owned(),
            password: PASSWORD.to_owned(),
            ..Credentials::default()
        }),
        uris: vec![TrunkUri {
            host: at.ip().to_string(),
            port: at.port().into(),
            transport: transport.to_owned(),
            user: user.to_owned(),
            weight: 1,
            priority: 1,
            enabled: true,
        }],
        ..Trunk::default()
    }
}

/// Configuration of the chain.
pub struct Setup {
    /// YAML of `spec.edgePorts`.
    pub edge_ports: String,
    pub register_interval: &'static str,
    /// Further lines of `spec`, indented by two.
    pub more: String,
    /// Further arguments of the Requester.
    pub requester: Vec<String>,
    /// The name server that the Requester knows; its port must be 53.
    pub name_server: Option<SocketAddr>,
    /// Others that it knows besides.
    pub further_name_servers: Vec<SocketAddr>,
    /// Another Requester at that port of 127.0.0.1, instead of the program.
    pub other_requester: Option<u16>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            edge_ports: "[{ address: 10.0.0.1:5060 }]".to_owned(),
            register_interval: "1s",
            more: "  registration: { ratePerRegistrar: unlimited }\n".to_owned(),
            requester: Vec::new(),
            name_server: None,
            further_name_servers: Vec::new(),
            other_requester: None,
        }
    }
}

impl Setup {
    /// Allows redirections between the nodes of a play, each of which has an address, and so a domain, of its
    /// own.
    pub fn redirecting() -> Self {
        let redirects = "redirects: { domains: [127.0.0.0/8], credentials: true }";
        let more = format!("  registration: {{ ratePerRegistrar: unlimited, {redirects} }}\n");
        Self { more, ..Self::default() }
    }

    /// Registers through these EdgePorts, which answer challenges.
    pub fn proxied(edge_ports: &[String]) -> Self {
        let list = edge_ports.iter().map(|address| format!("{{ address: \"{address}\" }}"));
        Self {
            edge_ports: format!("[{}]", list.collect::<Vec<_>>().join(", ")),
            requester: vec!["--mode".to_owned(), "proxied".to_owned()],
            ..Self::default()
        }
    }
}

/// API server, Requester and registry. On a panic it prints what both processes have said.
pub struct Chain {
    pub api: ApiServer,
    pub registry: Service,
    requester: Option<Requester>,
    setup: Setup,
    api_port: u16,
    requester_port: u16,
    public: u16,
    private: u16,
    dir: TempDir,
    _api_end: DropGuard,
}

impl Chain {
    /// Starts all of it with these trunks.
    pub async fn start(trunks: Vec<Trunk>) -> Self {
        Self::with(trunks, Setup::default()).await
    }

    pub async fn with(trunks: Vec<Trunk>, setup: Setup) -> Self {
        let [api_port, public, private] = [(); 3].map(|()| ports::free());
        let api = ApiServer::from_trunks(trunks);
        let end = CancellationToken::new();
        let listener = TcpListener::bind(("127.0.0.1", api_port)).await.unwrap();
        tokio::spawn({
            let (api, end) = (api.clone(), end.clone());
            async move { api.serve(listener, end).await }
        });
        let requester = match setup.other_requester {
            Some(_) => None,
            None => Some(Requester::start(&setup).await),
        };
        let own_port = requester.as_ref().map(|requester| requester.port);
        let requester_port = setup.other_requester.or(own_port).unwrap();
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("registry.yaml"), config(&setup, api_port, requester_port)).unwrap();
        let file = dir.path().join("registry.yaml");
        let listen = [public, private].map(|port| format!("127.0.0.1:{port}"));
        let args =
            ["run", "--config", file.to_str().unwrap(), "--listen", &listen[0], "--admin-listen", &listen[1]];
        let registry = Service::start(args, &[]);
        Self {
            api,
            registry,
            requester,
            setup,
            api_port,
            requester_port,
            public,
            private,
            dir,
            _api_end: end.drop_guard(),
        }
    }

    /// Writes another configuration, which the registry follows by itself at a SIGHUP.
    pub fn reconfigure(&mut self, setup: Setup) {
        self.setup = setup;
        let text = config(&self.setup, self.api_port, self.requester_port);
        fs::write(self.dir.path().join("registry.yaml"), text).unwrap();
        self.registry.signal(nix::sys::signal::Signal::SIGHUP);
    }

    /// Returns the address of the private port.
    pub fn private_address(&self) -> String {
        format!("127.0.0.1:{}", self.private)
    }

    /// The program as Requester.
    pub fn requester(&mut self) -> &mut Requester {
        self.requester.as_mut().expect("the program is the Requester here")
    }

    /// Returns the text of `/readyz`.
    pub async fn readiness(&self) -> Result<String, String> {
        let (_, body) = http::get(&format!("http://127.0.0.1:{}/readyz", self.public)).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// JSON of a path of the private port.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let (status, body) = http::get(&format!("http://127.0.0.1:{}{path}", self.private)).await?;
        let json = serde_json::from_slice(&body).map_err(|error| format!("{error}: {body:?}"))?;
        if status.is_success() { Ok(json) } else { Err(format!("{status}: {json}")) }
    }

    /// All trunks as `/registrations` shows them.
    pub async fn views(&self) -> Result<BTreeMap<String, View>, String> {
        let page = self.get("/registrations?limit=500").await?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .into_iter()
            .map(|item| (item["reference"].as_str().unwrap().to_owned(), View(item)))
            .collect())
    }

    /// Waits until a trunk is as it should be, and returns how it is then.
    pub async fn becomes(
        &self,
        reference: &str,
        what: &str,
        within: Duration,
        condition: impl Fn(&View) -> bool,
    ) -> View {
        let probe = async || {
            let view = self.views().await?.remove(reference).ok_or("it is not there")?;
            if condition(&view) { Ok(view) } else { Err(view.0.to_string()) }
        };
        wait_for(probe, within, &format!("{reference} to be {what}")).await
    }

    /// Waits until a trunk is registered.
    pub async fn registered(&self, reference: &str) -> View {
        self.becomes(reference, "registered", SOON, View::is_registered).await
    }

    /// Waits until all trunks are, and names those that are not.
    pub async fn all_registered(&self, count: usize, within: Duration) {
        let probe = async || {
            let views = self.views().await?;
            let not = views.iter().filter(|(_, view)| !view.is_registered());
            let not: Vec<String> = not.map(|(reference, view)| format!("{reference}: {}", view.0)).collect();
            if not.is_empty() && views.len() == count { Ok(()) } else { Err(not.join("\n")) }
        };
        wait_for(probe, within, &format!("{count} trunks to be registered")).await;
    }

    /// Waits until a trunk is failing, with a reason.
    pub async fn failing(&self, reference: &str, within: Duration) -> View {
        self.becomes(reference, "failing", within, |view| {
            view.state() == "failing" && !view.message().is_empty()
        })
        .await
    }

    /// Has a trunk registered now, once none of its REGISTERs is in flight.
    pub async fn refresh(&self, reference: &str) {
        self.becomes(reference, "at rest", SOON, |view| view.0["inFlight"] == false).await;
        let url = format!("http://127.0.0.1:{}/registrations/{reference}/refresh", self.private);
        let (status, _) = http::post(&url, String::new()).await.unwrap();
        assert!(status.is_success(), "{status}");
    }

    /// Waits until the registry's log has this, and returns the line.
    pub async fn logs(&self, text: &str, within: Duration) -> String {
        let probe = async || {
            let output = self.registry.output();
            output.lines().find(|line| line.contains(text)).map(str::to_owned).ok_or_else(|| tail(&output))
        };
        wait_for(probe, within, text).await
    }
}

impl Drop for Chain {
    #[allow(clippy::print_stderr, reason = "the output of a test that fails")]
    fn drop(&mut self) {
        let requester = self.requester.as_ref().map(Requester::output).unwrap_or_default();
        let outputs = [self.registry.output(), requester];
        if std::thread::panicking() {
            eprintln!("registry {}\nRequester {}", tail(&outputs[0]), tail(&outputs[1]));
        } else {
            assert!(!outputs.iter().any(|output| output.contains(PASSWORD)), "a log shows a password");
        }
    }
}

fn config(setup: &Setup, api: u16, requester: u16) -> String {
    format!(
        "kind: Registry\napiVersion: v2beta1\nmetadata:\n  name: field\nspec:\n  instanceId: field\n  apiAddr: 127.0.0.1:{api}\n  \
         requesterAddr: 127.0.0.1:{requester}\n  registerInterval: {}\n  edgePorts: {}\n{}",
        setup.register_interval, setup.edge_ports, setup.more
    )
}

/// One trunk as `/registrations` shows it. The names of its fields stand here only.
#[derive(Clone, Debug)]
pub struct View(pub Value);

impl View {
    pub fn state(&self) -> &str {
        self.0["state"].as_str().unwrap_or_default()
    }

    pub fn is_registered(&self) -> bool {
        self.state() == "registered"
    }

    pub fn reason(&self) -> &str {
        self.0["failure"]["reason"].as_str().unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.0["failure"]["message"].as_str().unwrap_or_default()
    }

    pub fn code(&self) -> u64 {
        self.0["failure"]["code"].as_u64().unwrap_or_default()
    }

    pub fn edge_port(&self) -> &str {
        self.0["edgePort"].as_str().unwrap_or_default()
    }

    /// Seconds until the binding expires; 0 where there is none.
    pub fn expires_in(&self) -> u64 {
        seconds_until(&self.0["expiresAtMs"])
    }

    /// Returns the time when the binding expires, in milliseconds since 1970; 0 where there is none.
    pub fn expires_at_ms(&self) -> u64 {
        self.0["expiresAtMs"].as_u64().unwrap_or_default()
    }

    /// Seconds until the next REGISTER; 0 where one is in flight.
    pub fn next_in(&self) -> u64 {
        seconds_until(&self.0["nextAtMs"])
    }
}

#[allow(clippy::disallowed_methods, reason = "the registry shows times of the wall clock")]
fn seconds_until(ms: &Value) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    ms.as_u64().unwrap_or_default().saturating_sub(u64::try_from(now).unwrap()).div_ceil(1000)
}

/// The Requester as a process.
pub struct Requester {
    process: Process,
    port: u16,
    args: Vec<String>,
    name_servers: Vec<SocketAddr>,
    dir: TempDir,
}

impl Requester {
    async fn start(setup: &Setup) -> Self {
        let (dir, port) = (TempDir::new().unwrap(), ports::free());
        let args = setup.requester.clone();
        let name_servers: Vec<SocketAddr> =
            setup.name_server.into_iter().chain(setup.further_name_servers.iter().copied()).collect();
        let process = spawn(dir.path(), port, &args, &name_servers);
        let mut requester = Self { process, port, args, name_servers, dir };
        requester.ready().await;
        requester
    }

    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Its `/etc/resolv.conf`, where it was given name servers.
    pub fn resolv_conf(&self) -> std::path::PathBuf {
        self.dir.path().join("resolv.conf")
    }

    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Kills it and starts another one at the same gRPC port, which sends SIP from another port.
    pub async fn replace(&mut self) {
        self.process.kill().await;
        wait_until(async || ports::is_free(self.port), SOON, "the Requester's port to be free").await;
        self.process = spawn(self.dir.path(), self.port, &self.args, &self.name_servers);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let probe = async || {
            if let Some(status) = self.process.status() {
                panic!("the Requester ended at its start with {status}:\n{}", self.process.output());
            }
            TcpStream::connect(("127.0.0.1", self.port)).await
        };
        wait_for(probe, SOON, "the Requester to listen").await;
    }
}

/// With a name server it runs in a mount namespace of its own, whose `/etc/resolv.conf` names that one: a
/// program has no other way to be pointed at one. That takes root, or user namespaces.
fn spawn(dir: &Path, port: u16, args: &[String], name_servers: &[SocketAddr]) -> Process {
    let program = env!("CARGO_BIN_EXE_routr-registry");
    let mut command = match name_servers {
        [] => process::command(program),
        servers => {
            assert!(servers.iter().all(|server| server.port() == 53), "resolv.conf cannot name a port");
            let file = dir.join("resolv.conf");
            let listed = servers.iter().map(|server| format!("nameserver {}\n", server.ip()));
            let text = format!("{}options timeout:1 attempts:1\n", listed.collect::<String>());
            fs::write(&file, text).unwrap();
            let mut command = process::command("unshare");
            if fs::metadata("/proc/self").unwrap().uid() != 0 {
                command.arg("--map-root-user");
            }
            let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
            command.args(["--mount", "sh", "-c", script]).arg(&file).arg(program);
            command
        }
    };
    command
        .args(["requester", "--listen", &format!("127.0.0.1:{port}"), "--sip-bind", "127.0.0.1"])
        .args(["--http-listen", "127.0.0.1:0"])
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    Process::spawn("the Requester", command, &dir.join("output.log"))
}

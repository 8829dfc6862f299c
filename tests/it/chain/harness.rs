//! The parts of the chain, started and looked at.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use routr_registration::registration::identity::RegistryId;
use routr_registration::{
    engine::view::{Page, Summary, TrunkView},
    registration::state::TrunkState,
};
use routr_registry::devstack::api::ApiServer;
use routr_registry::proto::credentials::Credentials;
use routr_registry::proto::trunks::{Trunk, TrunkUri};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::kamailio::{Kamailio, Options, User};
use crate::support::redis::Redis;
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_for};
use crate::support::{http, ports};

/// Deadline of steps that should need no more than some hundred milliseconds; generous, for a loaded machine.
pub const SOON: Duration = PATIENCE;
/// The registrar's domain in all addresses of record.
pub const DOMAIN: &str = "127.0.0.1";
/// Text that every password of a test contains, those of Redis too.
pub const MARK: &str = "kept-2-Ourselves";
/// All that the program says, as much as it can.
const TALKATIVE: [(&str, &str); 1] = [("LOGS_LEVEL", "silly")];

/// The password of an account.
pub fn password(user: &str) -> String {
    format!("{MARK}-of-{user}")
}

/// Users `{prefix}0` to `{prefix}{count - 1}`.
pub fn users(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

/// A Kamailio that knows these users by their right passwords.
pub async fn kamailio(users: &[String]) -> Kamailio {
    kamailio_with(users, Options::default()).await
}

/// The same, set up otherwise.
pub async fn kamailio_with(users: &[String], options: Options) -> Kamailio {
    let users = users.iter().map(|user| User::new(user, password(user))).collect();
    Kamailio::start(Options { users, ..options }).await
}

/// A trunk `trunk-{user}` that registers `user` with this Kamailio, with the right password.
pub fn trunk(user: &str, kamailio: &Kamailio, transport: &str) -> Trunk {
    Trunk {
        r#ref: format!("trunk-{user}"),
        name: format!("Trunk of {user}"),
        send_register: true,
        outbound_credentials: Some(credentials(user, &password(user))),
        uris: vec![TrunkUri {
            host: DOMAIN.to_owned(),
            port: kamailio.udp_port().into(),
            transport: transport.to_owned(),
            user: user.to_owned(),
            weight: 10,
            priority: 10,
            enabled: true,
        }],
        ..Trunk::default()
    }
}

/// One trunk for each user, over UDP and TCP in turns.
pub fn trunks(users: &[String], kamailio: &Kamailio) -> Vec<Trunk> {
    let transports = ["UDP", "tcp"].into_iter().cycle();
    users.iter().zip(transports).map(|(user, transport)| trunk(user, kamailio, transport)).collect()
}

/// Credentials of a trunk.
pub fn credentials(username: &str, password: &str) -> Credentials {
    Credentials { username: username.to_owned(), password: password.to_owned(), ..Credentials::default() }
}

/// The API server, within this process.
pub struct Api {
    server: ApiServer,
    port: u16,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Api {
    pub async fn start(trunks: Vec<Trunk>) -> Self {
        let (server, port, stop) = (ApiServer::from_trunks(trunks), ports::free(), CancellationToken::new());
        let task = serve(&server, port, &stop).await;
        Self { server, port, stop, task }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it: its port is closed.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        (&mut self.task).await.expect("the API server ends");
    }

    /// Starts it again on the same port after `stop`.
    pub async fn start_again(&mut self) {
        self.stop = CancellationToken::new();
        self.task = serve(&self.server, self.port, &self.stop).await;
    }
}

impl Deref for Api {
    type Target = ApiServer;

    fn deref(&self) -> &ApiServer {
        &self.server
    }
}

async fn serve(server: &ApiServer, port: u16, stop: &CancellationToken) -> JoinHandle<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the API server's port");
    let (server, stop) = (server.clone(), stop.clone());
    tokio::spawn(async move { server.serve(listener, stop).await.expect("the API server runs") })
}

/// The embedded Requester as a process. Derefs to its `Service`.
pub struct Requester {
    service: Service,
    port: u16,
    sip_port: u16,
    /// Output of those that were replaced.
    pub earlier: String,
}

impl Requester {
    pub async fn start() -> Self {
        let (port, sip_port) = (ports::free(), ports::free());
        let mut requester =
            Self { service: spawn_requester(port, sip_port), port, sip_port, earlier: String::new() };
        requester.ready().await;
        requester
    }

    /// Its gRPC port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it and starts another on the same gRPC port, which sends SIP from another one.
    pub async fn replace(&mut self) {
        self.service.kill().await;
        self.start_another().await;
    }

    /// Starts another one after `kill`, as `replace` does.
    pub async fn start_another(&mut self) {
        self.earlier.push_str(&self.service.output());
        let before = std::mem::replace(&mut self.sip_port, ports::free());
        assert_ne!(before, self.sip_port);
        self.service = spawn_requester(self.port, self.sip_port);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let probe = async || {
            if let Some(status) = self.service.status() {
                panic!("the Requester ended at its start with {status}:\n{}", self.service.output());
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await
        };
        wait_for(probe, SOON, "the Requester to listen").await;
    }
}

fn spawn_requester(port: u16, sip_port: u16) -> Service {
    let args =
        ["requester", "--listen", &format!("127.0.0.1:{port}"), "--sip-bind", "127.0.0.1"].map(str::to_owned);
    let sip_port = ["--sip-port".to_owned(), sip_port.to_string()];
    Service::start(args.into_iter().chain(sip_port), &TALKATIVE)
}

impl Deref for Requester {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Requester {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

/// The configuration of a registry, as far as tests differ in it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Expiry to ask for, in seconds.
    pub expires: u32,
    /// `registerInterval`, in seconds: the lead of a refresh over the expiry, half of the expiry at most and
    /// 5 s at least. On a busy machine the lead is what keeps a binding from expiring.
    pub interval: u32,
    /// `registration.ratePerRegistrar`.
    pub rate: &'static str,
    /// `spec.instanceId`; none when empty.
    pub instance: &'static str,
    /// YAML of `spec.cache`.
    pub cache: String,
    /// The one EdgePort.
    pub edge_port: &'static str,
    /// Further command-line arguments of `run`.
    pub args: &'static [&'static str],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            expires: 60,
            interval: 1,
            rate: "unlimited",
            instance: "chain",
            cache: "{ provider: memory }".to_owned(),
            edge_port: "198.51.100.7:5060",
            args: &[],
        }
    }
}

impl Settings {
    /// These, with `redis` as the store.
    pub fn redis(self, redis: &Redis) -> Self {
        Self { cache: cache(redis), ..self }
    }

    fn yaml(&self, api: u16, requester: u16) -> String {
        let Self { expires, interval, rate, instance, cache, edge_port, .. } = self;
        let instance =
            if instance.is_empty() { String::new() } else { format!("  instanceId: {instance}\n") };
        format!(
            "kind: Registry\napiVersion: v2beta1\nspec:\n{instance}  apiAddr: 127.0.0.1:{api}\n  apiTimeout: 1s\n  \
             requesterAddr: 127.0.0.1:{requester}\n  registerInterval: {interval}s\n  methods: [INVITE, MESSAGE]\n  cache: {cache}\n  \
             edgePorts: [{{ address: \"{edge_port}\" }}]\n  registration: {{ expires: {expires}s, ratePerRegistrar: {rate} }}\n"
        )
    }
}

/// A Redis with a password; with `persistent` it keeps its data over `restart`.
pub async fn redis() -> Redis {
    use crate::support::redis::Options;
    Redis::start(Options { password: redis_password(), persistent: false }).await
}

/// YAML of `spec.cache` for it.
pub fn cache(redis: &Redis) -> String {
    let parameters = format!("host=127.0.0.1,port={},password={}", redis.port(), redis_password());
    format!("{{ provider: redis, parameters: \"{parameters}\" }}")
}

fn redis_password() -> String {
    format!("{MARK}=of=redis")
}

/// A registry as a process. Derefs to its `Service`.
pub struct Registry {
    service: Service,
    instance: RegistryId,
    private: u16,
    public: u16,
    _config: TempDir,
}

impl Registry {
    pub fn start(settings: &Settings, api: &Api, requester: &Requester) -> Self {
        let config = TempDir::new().expect("a temporary directory");
        let file = config.path().join("registry.yaml");
        fs::write(&file, settings.yaml(api.port, requester.port)).expect("write the configuration");
        let (private, public) = (ports::free(), ports::free());
        let listen = [format!("127.0.0.1:{public}"), format!("127.0.0.1:{private}")];
        let args = [
            "run",
            "--config",
            &file.to_string_lossy(),
            "--listen",
            &listen[0],
            "--admin-listen",
            &listen[1],
        ];
        let service = Service::start(args.iter().chain(settings.args).copied(), &TALKATIVE);
        Self { service, instance: RegistryId::new(settings.instance), private, public, _config: config }
    }

    /// The Call-ID that a trunk of [`trunk`] must have.
    pub fn call_id(&self, user: &str) -> String {
        self.instance.call_id(&format!("trunk-{user}"), DOMAIN, user)
    }

    pub async fn summary(&self) -> Result<Summary, String> {
        get(self.private, "/summary").await
    }

    /// All trunks by ref, read page by page.
    pub async fn trunks(&self) -> Result<BTreeMap<String, TrunkView>, String> {
        let (mut all, mut path) = (BTreeMap::new(), "/registrations?limit=300".to_owned());
        loop {
            let page: Page = get(self.private, &path).await?;
            all.extend(page.items.into_iter().map(|trunk| (trunk.reference.clone(), trunk)));
            match page.next_page_token {
                Some(token) => path = format!("/registrations?limit=300&page={token}"),
                None => return Ok(all),
            }
        }
    }

    /// The trunk of a user.
    pub async fn trunk(&self, user: &str) -> Result<TrunkView, String> {
        get(self.private, &format!("/registrations/trunk-{user}")).await
    }

    /// Waits until `count` trunks are registered and none is in any other state.
    pub async fn all_registered(&self, count: usize, deadline: Duration) {
        let probe = async || {
            let counts = self.summary().await?.counts;
            let others: u64 = TrunkState::ALL
                .into_iter()
                .filter(|state| *state != TrunkState::Registered)
                .map(|state| counts.of(state))
                .sum();
            if (counts.registered, others) == (count as u64, 0) { Ok(()) } else { Err(format!("{counts:?}")) }
        };
        wait_for(probe, deadline, &format!("{count} trunks to be registered")).await;
    }

    /// Waits until `condition` holds for the summary.
    pub async fn summary_says(&self, what: &str, condition: impl Fn(&Summary) -> bool) {
        let probe = async || {
            let summary = self.summary().await?;
            if condition(&summary) { Ok(()) } else { Err(format!("{summary:?}")) }
        };
        wait_for(probe, SOON, what).await;
    }

    /// Returns the output of `routr-registry` with these arguments when it asks this one.
    async fn ask(&self, args: &[&str]) -> String {
        let url = format!("http://127.0.0.1:{}", self.private);
        let mut client = Service::start(args.iter().copied().chain(["--url", &url]), &TALKATIVE);
        let status = client.exit(SOON).await;
        assert!(status.success(), "{args:?}: {status}: {}", client.output());
        client.output()
    }

    /// Everything that can be read of it: its logs of all runs, each of its pages, its command line.
    pub async fn everything_said(&self) -> Vec<(String, String)> {
        let mut said = vec![("log".to_owned(), self.service.output())];
        let pages = ["/metrics", "/readyz", "/livez", "/healthz"].map(|path| (self.public, path));
        let private = ["/summary", "/registrations?limit=1000"].map(|path| (self.private, path));
        for (port, path) in pages.into_iter().chain(private) {
            let url = format!("http://127.0.0.1:{port}{path}");
            let (_, body) = http::get(&url).await.expect("the port answers");
            said.push((path.to_owned(), String::from_utf8_lossy(&body).into_owned()));
        }
        let registered = |trunk: &TrunkView| trunk.state == TrunkState::Registered;
        let first = self.trunks().await.expect("the list").into_values().find(registered);
        for args in [&["trunks"][..], &["trunks", "--json"]] {
            said.push((args.join(" "), self.ask(args).await));
        }
        if let Some(first) = first {
            said.push(("refresh".to_owned(), self.ask(&["refresh", &first.reference]).await));
        }
        said
    }
}

/// Returns the JSON response of a path on a port of 127.0.0.1.
pub async fn get<T: DeserializeOwned>(port: u16, path: &str) -> Result<T, String> {
    let (status, body) = http::get(&format!("http://127.0.0.1:{port}{path}")).await?;
    let text = String::from_utf8_lossy(&body);
    if !status.is_success() {
        return Err(format!("{path}: {status}: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| format!("{path}: {error}: {text}"))
}

impl Deref for Registry {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Registry {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}

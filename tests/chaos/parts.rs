//! The processes: the API server (this program again), the Requester and the registry.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use routr_registry::devstack::api::ApiServer;
use routr_registry::proto::credentials::Credentials;
use routr_registry::proto::trunks::{FindByResponse, Trunk, TrunkUri};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::ports;
use crate::support::process::{Process, command, tail};
use crate::support::service::Service;
use crate::support::wait::wait_for;

/// Longest time that a start should take.
pub const START: Duration = Duration::from_secs(30);
/// The registrar's domain in all addresses of record.
pub const DOMAIN: &str = "127.0.0.1";
/// Part of every password, that of Redis too: a search for it is a search for all.
pub const MARK: &str = "kept-2-Ourselves";
/// `spec.instanceId`.
pub const INSTANCE: &str = "chaos";
/// Seconds asked for: with an interval of 2 s each trunk is refreshed after 16.6 to 19 s.
pub const EXPIRES: u32 = 24;

/// The password of an account.
pub fn password(user: &str) -> String {
    format!("{MARK}-of-{user}")
}

/// A good trunk `trunk-{user}`.
pub fn trunk(user: &str, port: u16, transport: &str) -> Trunk {
    let uri = TrunkUri {
        host: DOMAIN.to_owned(),
        port: port.into(),
        transport: transport.to_owned(),
        user: user.to_owned(),
        weight: 10,
        priority: 10,
        enabled: true,
    };
    Trunk {
        r#ref: format!("trunk-{user}"),
        name: format!("Trunk of {user}"),
        send_register: true,
        outbound_credentials: Some(Credentials {
            username: user.to_owned(),
            password: password(user),
            ..Credentials::default()
        }),
        uris: vec![uri],
        ..Trunk::default()
    }
}

/// The first argument of this program when it plays an API server.
pub const API_SERVER: &str = "api-server";

/// Acts as an API server: serves the trunks of a file on a port, for good.
pub async fn serve_api(port: &str, file: &Path) {
    let bytes = fs::read(file).expect("the file of the trunks");
    let list = FindByResponse::decode(&bytes[..]).expect("trunks as protobuf");
    let address = (Ipv4Addr::LOCALHOST, port.parse().expect("a port"));
    let listener = TcpListener::bind(address).await.expect("the API server's port");
    let server = ApiServer::from_trunks(list.items);
    server.serve(listener, CancellationToken::new()).await.expect("the API server runs");
}

/// The API server as a process.
pub struct Api {
    process: Process,
    port: u16,
    dir: TempDir,
}

impl Api {
    pub async fn start(trunks: Vec<Trunk>) -> Self {
        let (dir, port) = (TempDir::new().expect("a temporary directory"), ports::free());
        let list = FindByResponse { items: trunks }.encode_to_vec();
        fs::write(dir.path().join("trunks"), list).expect("write the trunks");
        let mut api = Self { process: spawn_api(port, &dir), port, dir };
        listening(&mut api.process, port, "the API server").await;
        api
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// After `kill`.
    pub async fn start_again(&mut self) {
        self.process = spawn_api(self.port, &self.dir);
        listening(&mut self.process, self.port, "the API server").await;
    }
}

fn spawn_api(port: u16, dir: &TempDir) -> Process {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = command(&program.to_string_lossy());
    command.arg(API_SERVER).arg(port.to_string()).arg(dir.path().join("trunks"));
    Process::spawn("the API server", command, &dir.path().join("output.log"))
}

/// The embedded Requester as a process.
pub struct Requester {
    service: Service,
    port: u16,
    pub sip_port: u16,
}

impl Requester {
    pub async fn start() -> Self {
        let (port, sip_port) = (ports::free(), ports::free());
        let args = ["requester", "--listen", &format!("127.0.0.1:{port}"), "--sip-bind", "127.0.0.1"];
        let args = args.into_iter().map(str::to_owned).chain(["--sip-port".to_owned(), sip_port.to_string()]);
        let mut requester = Self { service: Service::start(args, &[]), port, sip_port };
        listening(&mut requester.service, port, "the Requester").await;
        requester
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// After `kill`.
    pub async fn start_again(&mut self) {
        self.service.restart();
        listening(&mut self.service, self.port, "the Requester").await;
    }
}

async fn listening(process: &mut Process, port: u16, what: &str) {
    let probe = async || {
        if let Some(status) = process.status() {
            panic!("{what} ended at its start with {status}; {}", tail(&process.output()));
        }
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
    };
    wait_for(probe, START, &format!("{what} to listen")).await;
}

/// Ports at which the registry finds the others.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub api: u16,
    pub requester: u16,
    pub redis: u16,
}

/// The registry as a process.
pub struct Registry {
    service: Service,
    addresses: Addresses,
    pub private: u16,
    pub public: u16,
    file: PathBuf,
    _dir: TempDir,
}

impl Registry {
    pub fn start(addresses: Addresses, redis_password: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let file = dir.path().join("registry.yaml");
        fs::write(&file, configuration(addresses, redis_password)).expect("write the configuration");
        let (private, public) = (ports::free(), ports::free());
        let path = file.to_string_lossy().into_owned();
        let listen = [format!("127.0.0.1:{public}"), format!("127.0.0.1:{private}")];
        let args = ["run", "--config", &path, "--listen", &listen[0], "--admin-listen", &listen[1]];
        Self { service: Service::start(args, &[]), addresses, private, public, file, _dir: dir }
    }

    /// Edits the configuration: Redis has another password now. The registry follows its file.
    pub fn use_redis_password(&self, password: &str) {
        fs::write(&self.file, configuration(self.addresses, password)).expect("write the configuration");
    }
}

fn configuration(addresses: Addresses, redis_password: &str) -> String {
    let Addresses { api, requester, redis } = addresses;
    format!(
        "kind: Registry\napiVersion: v2beta1\nspec:\n  instanceId: {INSTANCE}\n  apiAddr: 127.0.0.1:{api}\n  apiTimeout: 2s\n  \
         requesterAddr: 127.0.0.1:{requester}\n  registerInterval: 2s\n  methods: [INVITE, MESSAGE]\n  \
         cache: {{ provider: redis, parameters: \"host=127.0.0.1,port={redis},password={redis_password}\" }}\n  \
         edgePorts: [{{ address: \"198.51.100.7:5060\" }}]\n  \
         registration: {{ expires: {EXPIRES}s, ratePerRegistrar: unlimited }}\n"
    )
}

macro_rules! derefs {
    ($($part:ty, $field:ident, $to:ty;)*) => {
        $(impl Deref for $part {
            type Target = $to;
            fn deref(&self) -> &$to {
                &self.$field
            }
        }
        impl DerefMut for $part {
            fn deref_mut(&mut self) -> &mut $to {
                &mut self.$field
            }
        })*
    };
}

derefs! {
    Api, process, Process;
    Requester, service, Service;
    Registry, service, Service;
}

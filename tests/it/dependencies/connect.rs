//! Connections to gRPC dependencies: addresses, targets, certificates, encodings.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use routr_registry::devstack::api::ApiServer;
use routr_registry::devstack::registrar::{Registrar, RegistrarOptions};
use routr_registry::proto::credentials::Credentials;
use routr_registry::proto::trunks::{Trunk, TrunkUri};
use routr_types::host::Transport;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::process::{self, Process, tail};
use crate::support::wait::{PATIENCE, wait_for};
use crate::support::{http, ports, redis::Redis};

const SOON: Duration = PATIENCE;
const PASSWORD: &str = "connect-tests-keep-this";
/// The address that names have first, where nothing responds to a SYN.
const SILENT: &str = "127.0.0.1";
/// Their second one.
const GOOD: &str = "127.0.0.2";

/// A port of [`SILENT`] that does not respond to a SYN: its backlog is full.
struct Silent {
    port: u16,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Silent {
    async fn at(port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(SILENT.parse().unwrap(), port)).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            waiting.push(connected.unwrap());
            assert!(waiting.len() < 16, "the backlog of {address} is never full");
        }
        Self { port, _listener: listener, _waiting: waiting }
    }

    fn good(&self) -> SocketAddr {
        SocketAddr::new(GOOD.parse().unwrap(), self.port)
    }
}

/// Runs the program where `names` have both addresses: in a mount namespace with a hosts file of its own.
fn spawn(name: &str, names: &[&str], dir: &Path, args: &[&str]) -> Process {
    let program = env!("CARGO_BIN_EXE_routr-registry");
    let hosts: String = names.iter().map(|name| format!("{SILENT} {name}\n{GOOD} {name}\n")).collect();
    let file = dir.join(format!("{name}.hosts"));
    fs::write(&file, hosts).unwrap();
    let mut command = process::command("unshare");
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        command.arg("--map-root-user");
    }
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(&file).arg(program);
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    Process::spawn(name, command, &dir.join(format!("{name}.log")))
}

fn trunk(port: u16) -> Trunk {
    Trunk {
        r#ref: "t1".to_owned(),
        name: "t1".to_owned(),
        send_register: true,
        outbound_credentials: Some(Credentials {
            username: "alice".to_owned(),
            password: PASSWORD.to_owned(),
            ..Credentials::default()
        }),
        uris: vec![TrunkUri {
            host: "registrar.test".to_owned(),
            port: port.into(),
            transport: "TCP".to_owned(),
            user: "alice".to_owned(),
            weight: 1,
            priority: 1,
            enabled: true,
        }],
        ..Trunk::default()
    }
}

/// Passes on what comes to `listener`.
async fn forward(listener: TcpListener, to: u16) {
    let mut passing = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        passing.spawn(async move {
            let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

/// API server, Requester, Redis and a registrar over TCP, each by a name whose first address does not respond
/// to a SYN.
#[tokio::test]
async fn g5_every_dependency_is_reached_though_its_first_address_answers_no_syn() {
    let [api, requester, store, registrar] = [
        Silent::at(ports::free()).await,
        Silent::at(ports::free()).await,
        Silent::at(ports::free()).await,
        Silent::at(ports::free()).await,
    ];
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let options = RegistrarOptions {
        listen: vec![(Transport::Tcp, registrar.good())],
        ..RegistrarOptions::default().account("alice", PASSWORD)
    };
    let sip = Registrar::start(options, end.clone()).await.unwrap();
    let server = ApiServer::from_trunks(vec![trunk(registrar.port)]);
    let listener = TcpListener::bind(api.good()).await.unwrap();
    tokio::spawn(async move { server.serve(listener, end).await });
    let redis = Redis::start(Default::default()).await;
    tokio::spawn(forward(TcpListener::bind(store.good()).await.unwrap(), redis.port()));

    let dir = TempDir::new().unwrap();
    let listen = requester.good().to_string();
    let args = ["requester", "--listen", &listen, "--sip-bind", "127.0.0.1"];
    let sender = spawn("requester", &["registrar.test"], dir.path(), &args);
    let probe = async || TcpStream::connect(requester.good()).await;
    wait_for(probe, SOON, "the Requester to listen").await;

    let file = dir.path().join("registry.yaml");
    let text = format!(
        "kind: Registry\napiVersion: v2beta1\nmetadata: {{name: connect}}\nspec:\n  apiAddr: dns:///api.test:{}\n  \
         requesterAddr: requester.test:{}\n  registerInterval: 1s\n  edgePorts: [{{address: 10.0.0.1:5060}}]\n  \
         cache: {{provider: redis, parameters: 'host=store.test,port={}'}}\n",
        api.port, requester.port, store.port
    );
    fs::write(&file, text).unwrap();
    let [public, private] = [(); 2].map(|()| format!("127.0.0.1:{}", ports::free()));
    let args = ["run", "--config", file.to_str().unwrap(), "--listen", &public, "--admin-listen", &private];
    let registry = spawn("registry", &["api.test", "requester.test", "store.test"], dir.path(), &args);
    let said = || format!("registry {}\nRequester {}", tail(&registry.output()), tail(&sender.output()));

    let probe = async || {
        let (_, body) = http::get(&format!("http://{private}/registrations?limit=5")).await?;
        let page: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let registered = page["items"][0]["state"] == "registered";
        if registered { Ok(()) } else { Err(format!("{page}\n{}", said())) }
    };
    wait_for(probe, SOON, "the trunk to be registered").await;
    assert_eq!(sip.bindings().len(), 1);
    let probe = async || {
        let kept = redis.dump().await;
        if kept.contains(":regs:") { Ok(()) } else { Err(format!("{kept}\n{}", said())) }
    };
    wait_for(probe, SOON, "the registration to be kept in Redis").await;
}

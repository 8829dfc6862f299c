//! The real program as registry and as Requester in direct mode, an API server that lists trunks, and many
//! registrars. `benches/registry` uses it too.

use std::{fs, net::Ipv4Addr, ops::Range, time::Duration};

use routr_registration::engine::view::Summary;
use routr_registry::{
    devstack::api::ApiServer,
    proto::trunks::{Trunk, TrunkUri},
};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{
    http, ports,
    process::tail,
    service::Service,
    wait::{PATIENCE, wait_at_pace, wait_for},
};
pub use crate::support::{
    lateness::{Window, lateness},
    registrars::{self, Registrars},
};

/// Deadline of a start, on a loaded machine.
const SOON: Duration = PATIENCE;
/// Interval between two looks at something that lasts for seconds.
const PACE: Duration = Duration::from_millis(50);

/// Registrars with the same number of trunks.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub registrars: usize,
    pub trunks_each: usize,
}

/// Differences between two harnesses.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The trunks of the first group come first in the API server's list.
    pub groups: Vec<Group>,
    /// Longest expiry that the registrars grant, in seconds.
    pub expires: u32,
    /// Lines of the registry's `spec`, indented by two. All else is the default.
    pub spec: String,
}

impl Plan {
    /// The numbers of a group's registrars.
    pub fn registrars(&self, group: usize) -> Range<usize> {
        let before: usize = self.groups[..group].iter().map(|group| group.registrars).sum();
        before..before + self.groups[group].registrars
    }

    /// Returns the number of registrars in all groups.
    pub fn all_registrars(&self) -> usize {
        self.groups.iter().map(|group| group.registrars).sum()
    }

    /// Returns the number of trunks in all groups.
    pub fn trunks(&self) -> usize {
        self.groups.iter().map(|group| group.registrars * group.trunks_each).sum()
    }

    fn list(&self, port: u16) -> Vec<Trunk> {
        let mut trunks = Vec::with_capacity(self.trunks());
        for (group, each) in self.groups.iter().enumerate() {
            for registrar in self.registrars(group) {
                trunks.extend((0..each.trunks_each).map(|number| trunk(registrar, number, port)));
            }
        }
        trunks
    }
}

fn trunk(registrar: usize, number: usize, port: u16) -> Trunk {
    let uri = TrunkUri {
        host: registrars::address(registrar).to_string(),
        port: port.into(),
        transport: "udp".to_owned(),
        user: format!("u{number}"),
        weight: 10,
        priority: 10,
        enabled: true,
    };
    Trunk {
        r#ref: format!("t-{registrar:03}-{number:04}"),
        name: format!("Trunk {number} of registrar {registrar}"),
        send_register: true,
        uris: vec![uri],
        ..Trunk::default()
    }
}

/// All of them, running. Dropping it ends them.
pub struct FairnessHarness {
    pub plan: Plan,
    pub registrars: Registrars,
    registry: Service,
    private: u16,
    _requester: Service,
    _api: DropGuard,
    _dir: TempDir,
}

impl FairnessHarness {
    /// Starts everything, the registry last; `silent` registrars do not respond from the beginning.
    pub async fn start(plan: Plan, silent: Range<usize>) -> Self {
        let registrars = Registrars::start(plan.all_registrars(), ports::free(), plan.expires).await;
        let registrars = registrars.expect("the registrars' addresses");
        registrars.set_silent(silent, true);

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("the API server's port");
        let api_port = listener.local_addr().expect("the API server's address").port();
        let (api, end) = (ApiServer::from_trunks(plan.list(registrars.port())), CancellationToken::new());
        tokio::spawn({
            let end = end.clone();
            async move { api.serve(listener, end).await }
        });

        let requester_port = ports::free();
        let listen = format!("127.0.0.1:{requester_port}");
        let requester = Service::start(["requester", "--listen", &listen, "--sip-bind", "127.0.0.1"], &[]);
        wait_for(async || TcpStream::connect(&listen).await, SOON, "the Requester to listen").await;

        let (dir, private) = (TempDir::new().expect("a temporary directory"), ports::free());
        let file = dir.path().join("registry.yaml");
        let config = format!(
            "kind: Registry\napiVersion: v2beta1\nmetadata:\n  name: fairness\nspec:\n  requesterAddr: {listen}\n  \
             apiAddr: 127.0.0.1:{api_port}\n  edgePorts:\n    - address: 198.51.100.7:5060\n{}",
            plan.spec
        );
        fs::write(&file, config).expect("write the configuration");
        let [public, admin] = [ports::free(), private].map(|port| format!("127.0.0.1:{port}"));
        let args = ["run", "--listen", &public, "--admin-listen", &admin, "--config"].map(str::to_owned);
        let registry = Service::start(args.into_iter().chain([file.to_string_lossy().into_owned()]), &[]);
        Self { plan, registrars, registry, private, _requester: requester, _api: end.drop_guard(), _dir: dir }
    }

    /// Waits until every registrar of a group has been asked. Returns when the first REGISTER of all came,
    /// and when the last of these was asked for the first time.
    pub async fn all_asked(&self, group: usize, deadline: Duration) -> (Instant, Instant) {
        let which = self.plan.registrars(group);
        let probe = async || {
            let asked: Vec<Instant> =
                self.registrars.first_asked(which.clone()).into_iter().flatten().collect();
            match asked.iter().max() {
                Some(last) if asked.len() == which.len() => Ok(*last),
                _ => Err(format!("{} of {} were asked\n{}", asked.len(), which.len(), self.log_end())),
            }
        };
        let last = wait_for(probe, deadline, "every registrar of the group to be asked").await;
        let first = self.registrars.first_asked(0..self.plan.all_registrars()).into_iter().flatten().min();
        (first.unwrap_or(last), last)
    }

    /// Waits until every trunk is registered.
    pub async fn all_registered(&self, deadline: Duration) {
        let trunks = self.plan.trunks() as u64;
        let probe = async || {
            let counts = self.summary().await?.counts;
            if counts.registered == trunks { Ok(()) } else { Err(format!("{counts:?}\n{}", self.log_end())) }
        };
        wait_at_pace(PACE, probe, deadline, &format!("{trunks} trunks to be registered")).await;
    }

    /// Waits until the registry counts a registrar of this group as down.
    pub async fn noticed(&self, deadline: Duration) {
        let probe = async || {
            let down = self.summary().await?.down;
            if down.is_empty() { Err(format!("none is down\n{}", self.log_end())) } else { Ok(()) }
        };
        wait_at_pace(PACE, probe, deadline, "the outage to be noticed").await;
    }

    /// Returns what the registry says of itself.
    pub async fn summary(&self) -> Result<Summary, String> {
        let (status, body) = http::get(&format!("http://127.0.0.1:{}/summary", self.private)).await?;
        let text = String::from_utf8_lossy(&body);
        if !status.is_success() {
            return Err(format!("/summary: {status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("/summary: {error}: {text}"))
    }

    /// Returns everything that the registry has logged.
    pub fn log(&self) -> String {
        self.registry.output()
    }

    /// Returns the last lines of the registry's log.
    pub fn log_end(&self) -> String {
        tail(&self.log())
    }
}

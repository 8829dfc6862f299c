//! Stands in for the engine's loop in tests of the admin port and its client.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{AdminState, Directory, serve};
use crate::registry::RegistryName;
use crate::{
    metrics::Metrics,
    runtime::{
        handle::{Command, EngineHandle},
        ports::Environment,
    },
};
use routr_leader_election::LeadershipStatus;
use routr_registration::{
    engine::{
        history::{HistoryEntry, TrunkDetail},
        view::{
            DeregistrationReport, FailureSummary, Filter, Page, Refresh, Summary, TrunkFailure, TrunkView,
        },
    },
    registration::state::TrunkState,
};

/// The time in all these tests: milliseconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_800_000_000_000;

/// A clock that stands at [`NOW`].
pub(crate) struct Still;

impl Environment for Still {
    fn unix_ms(&self) -> u64 {
        NOW
    }
    fn seed(&self) -> u64 {
        7
    }
}

/// State that the fake engine responds from, and the commands that it received.
#[derive(Default)]
pub(crate) struct FakeState {
    pub trunks: Vec<TrunkView>,
    pub summary: Summary,
    /// History of each trunk.
    pub history: Vec<HistoryEntry>,
    pub refreshed: Vec<String>,
    pub lists: usize,
}

/// A registered trunk that expires in ten minutes and refreshes in eight.
pub(crate) fn trunk(reference: &str, name: &str) -> TrunkView {
    TrunkView {
        reference: reference.to_owned(),
        name: name.to_owned(),
        state: TrunkState::Registered,
        aor: format!("{reference}@sip.example"),
        registrar: "sip.example:5060/UDP".to_owned(),
        edge_port: "edge.example:5060".to_owned(),
        failed_over: false,
        redirected: None,
        omitted_option_tags: Vec::new(),
        expires_at_ms: Some(NOW + 600_000),
        next_at_ms: Some(NOW + 485_000),
        in_flight: false,
        next: "refresh".to_owned(),
        failures: 0,
        failure: None,
        call_id: format!("call-{reference}"),
        cseq: 42,
    }
}

/// The same trunk, refused with 403 for three minutes, tried again in 42 s.
pub(crate) fn failing(reference: &str, name: &str) -> TrunkView {
    TrunkView {
        state: TrunkState::Failing,
        expires_at_ms: None,
        next_at_ms: Some(NOW + 42_000),
        next: "retry".to_owned(),
        failures: 3,
        failure: Some(TrunkFailure {
            reason: "CredentialsRejected".to_owned(),
            code: Some(403),
            message: "the registrar responded with 403 Forbidden".to_owned(),
            since_ms: NOW - 180_000,
        }),
        ..trunk(reference, name)
    }
}

/// An engine that responds from a state which the test can change.
pub(crate) fn engine(trunks: Vec<TrunkView>) -> (EngineHandle, Arc<Mutex<FakeState>>, JoinHandle<()>) {
    let (handle, mut commands) = EngineHandle::new();
    let mut world = FakeState { trunks, ..FakeState::default() };
    for trunk in &world.trunks {
        *world.summary.counts.of_mut(trunk.state) += 1;
    }
    world.summary.last_sync_ms = Some(NOW - 5_000);
    world.summary.requester.ok = Some(true);
    let world = Arc::new(Mutex::new(world));
    let shared = Arc::clone(&world);
    let task = tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            answer(*command, &mut shared.lock().unwrap());
        }
    });
    (handle, world, task)
}

fn answer(command: Command, world: &mut FakeState) {
    match command {
        Command::Summary(respond_to) => drop(respond_to.send(world.summary.clone())),
        Command::SyncNow | Command::Pause(_) => {}
        Command::FailureSummary { respond_to, .. } => drop(respond_to.send(FailureSummary::default())),
        Command::DeregisterAll { respond_to, .. } => drop(respond_to.send(DeregistrationReport::default())),
        Command::Get { reference, respond_to } => {
            drop(respond_to.send(world.trunks.iter().find(|t| t.reference == reference).cloned()));
        }
        Command::Detail { reference, respond_to } => {
            let trunk = world.trunks.iter().find(|t| t.reference == reference).cloned();
            drop(respond_to.send(trunk.map(|trunk| TrunkDetail {
                trunk,
                now_ms: NOW,
                suspended: world.summary.paused,
                stands_by: false,
                history: world.history.clone(),
                history_omitted: 0,
            })));
        }
        Command::Refresh { reference, respond_to } => {
            let trunk = world.trunks.iter().find(|t| t.reference == reference);
            let result = match trunk {
                None => Refresh::NotFound,
                Some(trunk) if trunk.state == TrunkState::Invalid => Refresh::Invalid,
                Some(trunk) if trunk.in_flight => Refresh::InFlight,
                Some(_) => Refresh::Queued,
            };
            world.refreshed.push(reference);
            let _ = respond_to.send(result);
        }
        Command::List { filter, after, limit, respond_to } => {
            world.lists += 1;
            let mut items: Vec<TrunkView> =
                world.trunks.iter().filter(|t| passes(&filter, t)).cloned().collect();
            items.sort_by(|a, b| a.reference.cmp(&b.reference));
            items.retain(|t| after.as_ref().is_none_or(|after| t.reference > *after));
            let more = items.len() > limit;
            items.truncate(limit);
            let next_page_token = items.last().filter(|_| more).map(|t| t.reference.clone());
            drop(respond_to.send(Page { items, next_page_token }));
        }
    }
}

fn passes(filter: &Filter, trunk: &TrunkView) -> bool {
    (filter.states.is_empty() || filter.states.contains(&trunk.state))
        && filter.registrar.as_ref().is_none_or(|host| {
            trunk.registrar.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(host))
        })
        && filter.text.as_ref().is_none_or(|text| {
            [&trunk.reference, &trunk.name, &trunk.aor]
                .iter()
                .any(|field| field.to_lowercase().contains(&text.to_lowercase()))
        })
}

/// Both ports of a running admin side, on real sockets.
pub(crate) struct Ports {
    pub public: SocketAddr,
    pub private: SocketAddr,
    pub world: Arc<Mutex<FakeState>>,
    pub directory: Directory,
    pub metrics: Metrics,
    pub engine: JoinHandle<()>,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<()>,
}

/// Serves a fake engine with these trunks.
pub(crate) async fn start(trunks: Vec<TrunkView>) -> Ports {
    start_with(trunks, |state| state).await
}

/// The same with a changed state.
pub(crate) async fn start_with(
    trunks: Vec<TrunkView>,
    change: impl FnOnce(AdminState) -> AdminState,
) -> Ports {
    let (handle, world, engine) = engine(trunks);
    let directory = Directory::of_one(RegistryName::plain("registry"), handle);
    let metrics = Metrics::new(NOW);
    let state = change(AdminState::new(directory.clone(), metrics.clone(), Arc::new(Still)));
    let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let private = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shutdown = CancellationToken::new();
    let addresses = (public.local_addr().unwrap(), private.local_addr().unwrap());
    let stop = shutdown.clone();
    let serving = tokio::spawn(async move { serve(Some(public), Some(private), state, stop).await.unwrap() });
    Ports { public: addresses.0, private: addresses.1, world, directory, metrics, engine, shutdown, serving }
}

impl Ports {
    /// The private port as `--url` takes it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.private)
    }
}

/// Response to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Sends one request with the given extra header lines; a `Host` among them replaces the usual one.
pub(crate) async fn request(address: SocketAddr, line: &str, headers: &[&str]) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|h| h.starts_with("Host")) {
        request += &format!("Host: {address}\r\n");
    }
    for header in headers {
        request += &format!("{header}\r\n");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// A plain GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path}"), &[]).await
}

/// Ports of an operator's replica at which several registries run.
pub(crate) struct Replica {
    pub ports: Ports,
    pub worlds: Vec<Arc<Mutex<FakeState>>>,
    pub engines: Vec<JoinHandle<()>>,
    pub standing: watch::Sender<LeadershipStatus>,
}

/// Serves fake engines under these names, with these trunks.
pub(crate) async fn replica(
    standing: LeadershipStatus,
    registries: Vec<(RegistryName, Vec<TrunkView>)>,
) -> Replica {
    let (standing, seen) = watch::channel(standing);
    let ports = start_with(Vec::new(), |state| state.with_standing(seen)).await;
    ports.directory.leave(
        &RegistryName::plain("registry"),
        &ports.directory.get(&RegistryName::plain("registry")).unwrap(),
    );
    let (mut worlds, mut engines) = (Vec::new(), Vec::new());
    for (name, trunks) in registries {
        let (handle, world, task) = engine(trunks);
        ports.directory.enter(name, handle);
        worlds.push(world);
        engines.push(task);
    }
    Replica { ports, worlds, engines, standing }
}

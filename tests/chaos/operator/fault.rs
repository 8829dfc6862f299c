//! Faults around an operator, and their repair.

use std::time::Duration;

use super::fake::{Fake, Kind};
use super::truth::UNDER_WAY;
use super::world::World;
use crate::link::Mode;
use crate::support::wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(30);
/// Trunks that someone asks to be refreshed: enough for a silence to be noticed.
const ASKED: usize = 8;

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The replica that leads at that moment.
    Leader,
    /// kube-apiserver.
    Kubernetes,
    Etcd,
    Redis,
    Requester,
    /// The API server that lists the trunks.
    Api,
}

/// One thing broken.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// SIGKILL; fixed by a new start.
    Kill(Part),
    /// SIGSTOP; fixed by SIGCONT.
    Stop(Part),
    /// The wire between both replicas and the API server of Kubernetes does this.
    Net(Mode),
    /// Someone else answers in the place of the API server of Kubernetes.
    Fake(Kind),
    /// Someone asks for trunks to be refreshed at once: so a silent Requester is noticed without waiting for
    /// the next wave.
    AskForRefreshes,
}

impl Fault {
    /// Returns the dependency that may be blamed, rightly.
    pub fn suspect(self) -> Option<&'static str> {
        match self {
            Self::Net(_) | Self::Fake(_) => Some("kubernetes"),
            Self::AskForRefreshes => None,
            Self::Kill(part) | Self::Stop(part) => match part {
                Part::Leader => None,
                Part::Kubernetes | Part::Etcd => Some("kubernetes"),
                Part::Redis => Some("cache"),
                Part::Requester => Some("requester"),
                Part::Api => Some("api"),
            },
        }
    }
}

/// State that is kept while a fault is on.
#[derive(Default)]
pub struct Broken {
    /// The leader that was killed or stopped.
    victim: Option<usize>,
    fake: Option<Fake>,
}

/// Breaks it.
pub async fn begin(fault: Fault, world: &mut World<'_>, broken: &mut Broken) {
    if fault.suspect() == Some("kubernetes") {
        world.watch.facts().cluster_broken = true;
    }
    match fault {
        Fault::Kill(Part::Leader) => {
            let leader = world.leader();
            broken.victim = Some(leader);
            world.watch.facts().replicas[leader] = None;
            world.replicas[leader].service.kill().await;
        }
        Fault::Kill(Part::Kubernetes) => world.plane.kill_api_server().await,
        Fault::Kill(Part::Etcd) => world.plane.kill_etcd().await,
        Fault::Kill(Part::Redis) => world.redis.kill().await,
        Fault::Kill(Part::Requester) => {
            world.watch.facts().requester = None;
            world.requester.kill().await;
        }
        Fault::Kill(Part::Api) => drop(world.api.kill().await),
        Fault::Stop(Part::Leader) => {
            let leader = world.leader();
            broken.victim = Some(leader);
            world.watch.facts().frozen[leader] = true;
            world.replicas[leader].service.pause();
        }
        Fault::Stop(Part::Kubernetes) => world.plane.pause_api_server().await,
        Fault::Stop(Part::Etcd) => world.plane.pause_etcd().await,
        Fault::Stop(Part::Redis) => world.redis.pause(),
        Fault::Stop(Part::Requester) => world.requester.pause(),
        Fault::Stop(Part::Api) => world.api.pause(),
        Fault::Net(mode) => world.wires.kubernetes.set(mode),
        Fault::Fake(kind) => {
            let fake = Fake::start(kind, world.plane).await;
            world.wires.kubernetes.lead_to(fake.port);
            broken.fake = Some(fake);
        }
        Fault::AskForRefreshes => {
            let port = world.replicas[world.leader()].private;
            for user in world.users.iter().take(ASKED) {
                let url = format!("http://127.0.0.1:{port}/registrations/trunk-{user}/refresh");
                let (status, _) =
                    crate::support::http::post(&url, String::new()).await.expect("the port answers");
                assert!(status.is_success(), "{url}: {status}");
            }
        }
    }
}

/// Repairs it.
pub async fn end(fault: Fault, world: &mut World<'_>, broken: &mut Broken) {
    match fault {
        Fault::Kill(Part::Leader) => {
            let Some(victim) = broken.victim.take() else { return };
            world.replicas[victim].service.restart();
            let port = world.replicas[victim].public;
            let live = async || crate::http::get(port, "/livez").await.is_ok_and(|(code, _)| code == 200);
            wait_until(live, PATIENCE, "the replica to live again").await;
            world.note_lives();
        }
        Fault::Kill(Part::Kubernetes) => world.plane.start_api_server().await,
        Fault::Kill(Part::Etcd) => world.plane.start_etcd().await,
        Fault::Kill(Part::Redis) => world.redis.restart().await,
        Fault::Kill(Part::Requester) => {
            world.requester.start_again().await;
            world.note_lives();
        }
        Fault::Kill(Part::Api) => world.api.start_again().await,
        Fault::Stop(Part::Leader) => {
            let Some(victim) = broken.victim.take() else { return };
            world.go_on(victim);
        }
        Fault::Stop(Part::Kubernetes) => world.plane.resume_api_server().await,
        Fault::Stop(Part::Etcd) => world.plane.resume_etcd().await,
        Fault::Stop(Part::Redis) => world.redis.resume(),
        Fault::Stop(Part::Requester) => world.requester.resume(),
        Fault::Stop(Part::Api) => world.api.resume(),
        Fault::Net(_) => world.wires.kubernetes.set(Mode::Pass),
        Fault::Fake(_) => {
            world.wires.kubernetes.lead_home();
            broken.fake = None;
        }
        Fault::AskForRefreshes => {}
    }
    if fault.suspect() == Some("kubernetes") {
        world.watch.facts().cluster_broken = false;
    }
}

impl World<'_> {
    /// The replica that leads. Panics where there is none: nothing was broken so far.
    fn leader(&self) -> usize {
        self.watch.last().and_then(|sample| sample.leader()).expect("one replica leads")
    }

    /// Lets a stopped replica go on, which may send nothing when another one leads by now.
    fn go_on(&mut self, victim: usize) {
        let last = self.watch.last();
        let usurped = last.as_ref().is_some_and(|sample| sample.leader() == Some(1 - victim));
        let sent = last.map(|sample| sample.sent[victim]);
        let mut facts = self.watch.facts();
        facts.limits[victim] = sent.filter(|_| usurped).map(|sent| sent + UNDER_WAY);
        facts.frozen[victim] = false;
        drop(facts);
        self.replicas[victim].service.resume();
    }
}

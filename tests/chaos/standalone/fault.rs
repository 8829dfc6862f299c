//! Faults around a registry, and their repair.

use std::time::Duration;

use routr_environment::unix_ms;

use crate::datagrams::Weather;
use crate::fakes::{Fake, Kind};
use crate::link::Mode;
use crate::pokes::{Poke, Poking};
use crate::standalone::world::{World, redis_password};
use crate::support::wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(20);

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Redis,
    Kamailio,
    Requester,
    Api,
    Registry,
}

impl Part {
    pub const DEPENDENCIES: [Self; 4] = [Self::Redis, Self::Kamailio, Self::Requester, Self::Api];

    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Kamailio => "kamailio",
            Self::Requester => "requester",
            Self::Api => "api",
            Self::Registry => "registry",
        }
    }

    /// By what name the registry tells of it; it tells of a registrar by its trunks.
    pub fn dependency(self) -> Option<&'static str> {
        match self {
            Self::Redis => Some("cache"),
            Self::Requester => Some("requester"),
            Self::Api => Some("api"),
            Self::Kamailio | Self::Registry => None,
        }
    }
}

/// A wire of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Api,
    Requester,
    Redis,
    Sip,
}

impl Wire {
    pub fn dependency(self) -> Option<&'static str> {
        match self {
            Self::Api => Some("api"),
            Self::Requester => Some("requester"),
            Self::Redis => Some("cache"),
            Self::Sip => None,
        }
    }
}

/// One thing broken.
#[derive(Clone, Debug)]
pub enum Fault {
    /// SIGKILL; fixed by a new start.
    Kill(Part),
    /// SIGSTOP; fixed by SIGCONT.
    Stop(Part),
    /// A wire does this; fixed by a wire that does nothing.
    Net(Wire, Mode),
    /// The weather of SIP over UDP.
    Udp(Weather),
    /// Someone else in the place of a dependency.
    Fake(Wire, Kind),
    /// Commands to Redis, and those that fix it. `{}` is its password.
    Redis(&'static [&'static str], &'static [&'static str]),
    /// Connections that others have to Redis are ended.
    DropClientsOfRedis,
    /// Someone sends garbage to one of our own ports.
    Poke(Poke),
}

impl Fault {
    /// Whom the registry may blame, rightly.
    pub fn suspect(&self) -> Option<&'static str> {
        match self {
            Self::Kill(part) | Self::Stop(part) => part.dependency(),
            Self::Net(wire, _) | Self::Fake(wire, _) => wire.dependency(),
            Self::Redis(..) | Self::DropClientsOfRedis => Some("cache"),
            Self::Udp(_) | Self::Poke(_) => None,
        }
    }
}

/// Fakes and senders that live while a fault is on.
#[derive(Default)]
pub struct Broken {
    fakes: Vec<(Wire, Fake)>,
    pokes: Vec<Poking>,
}

/// Breaks it.
pub async fn begin(fault: &Fault, world: &mut World, broken: &mut Broken) {
    match fault {
        Fault::Kill(part) => kill(*part, world).await,
        Fault::Stop(part) => stop(*part, world),
        Fault::Net(Wire::Api, mode) => world.wires.api.set(*mode),
        Fault::Net(Wire::Requester, mode) => world.wires.requester.set(*mode),
        Fault::Net(Wire::Redis, mode) => world.wires.redis.set(*mode),
        Fault::Net(Wire::Sip, mode) => world.wires.sip_tcp.set(*mode),
        Fault::Udp(weather) => world.wires.sip_udp.set(*weather),
        Fault::Fake(wire, kind) => {
            if kind.lies() {
                world.watch.facts().lies_until_ms = u64::MAX;
            }
            let fake = Fake::start(*kind, world).await;
            match wire {
                Wire::Api => world.wires.api.lead_to(fake.port),
                Wire::Requester => world.wires.requester.lead_to(fake.port),
                Wire::Redis => world.wires.redis.lead_to(fake.port),
                Wire::Sip => {
                    world.wires.sip_tcp.lead_to(fake.port);
                    world.wires.sip_udp.lead_to(fake.port);
                }
            }
            broken.fakes.push((*wire, fake));
        }
        Fault::Redis(begin, _) => commands(begin, world).await,
        Fault::DropClientsOfRedis => world.redis.drop_clients(&redis_password()).await,
        Fault::Poke(poke) => broken.pokes.push(Poking::start(*poke, world)),
    }
}

/// Repairs it.
pub async fn end(fault: &Fault, world: &mut World, broken: &mut Broken) {
    match fault {
        Fault::Kill(part) => start_again(*part, world).await,
        Fault::Stop(part) => resume(*part, world),
        Fault::Net(Wire::Api, _) => world.wires.api.set(Mode::Pass),
        Fault::Net(Wire::Requester, _) => world.wires.requester.set(Mode::Pass),
        Fault::Net(Wire::Redis, _) => world.wires.redis.set(Mode::Pass),
        Fault::Net(Wire::Sip, _) => world.wires.sip_tcp.set(Mode::Pass),
        Fault::Udp(_) => world.wires.sip_udp.set(Weather::default()),
        Fault::Fake(..) => {
            for (wire, fake) in broken.fakes.drain(..) {
                match wire {
                    Wire::Api => world.wires.api.lead_home(),
                    Wire::Requester => world.wires.requester.lead_home(),
                    Wire::Redis => world.wires.redis.lead_home(),
                    Wire::Sip => {
                        world.wires.sip_tcp.lead_home();
                        world.wires.sip_udp.lead_home();
                    }
                }
                drop(fake);
            }
            let mut facts = world.watch.facts();
            if facts.lies_until_ms == u64::MAX {
                facts.lies_until_ms = unix_ms();
            }
        }
        Fault::Redis(_, end) => commands(end, world).await,
        Fault::DropClientsOfRedis => {}
        Fault::Poke(_) => broken.pokes.clear(),
    }
}

async fn commands(lines: &[&str], world: &World) {
    for line in lines {
        let line = line.replace("{}", &redis_password());
        let reply = world.redis.command(&line).await.unwrap_or_else(|error| panic!("redis: {line}: {error}"));
        assert!(!reply.starts_with('-'), "redis: {line}: {reply}");
    }
}

async fn kill(part: Part, world: &mut World) {
    match part {
        Part::Redis => world.redis.kill().await,
        Part::Kamailio => world.kamailio.kill().await,
        Part::Requester => {
            world.watch.facts().requester = None;
            world.requester.kill().await;
        }
        Part::Api => drop(world.api.kill().await),
        Part::Registry => {
            world.watch.facts().registry = None;
            world.registry.kill().await;
        }
    }
    if part == Part::Kamailio {
        world.watch.facts().table_lost_ms = u64::MAX;
    }
}

async fn start_again(part: Part, world: &mut World) {
    match part {
        Part::Redis => world.redis.restart().await,
        Part::Kamailio => {
            world.kamailio.restart().await;
            world.watch.facts().table_lost_ms = unix_ms();
        }
        Part::Requester => {
            world.requester.start_again().await;
            world.note_lives();
        }
        Part::Api => world.api.start_again().await,
        Part::Registry => {
            world.registry.restart();
            let port = world.registry.public;
            let live = async || crate::http::get(port, "/livez").await.is_ok_and(|(code, _)| code == 200);
            wait_until(live, PATIENCE, "the registry to live again").await;
            world.note_lives();
        }
    }
}

fn stop(part: Part, world: &mut World) {
    match part {
        Part::Redis => world.redis.pause(),
        Part::Kamailio => world.kamailio.pause(),
        Part::Requester => world.requester.pause(),
        Part::Api => world.api.pause(),
        Part::Registry => {
            world.watch.facts().frozen = true;
            world.registry.pause();
        }
    }
}

fn resume(part: Part, world: &mut World) {
    match part {
        Part::Redis => world.redis.resume(),
        Part::Kamailio => world.kamailio.resume(),
        Part::Requester => world.requester.resume(),
        Part::Api => world.api.resume(),
        Part::Registry => {
            world.registry.resume();
            world.watch.facts().frozen = false;
        }
    }
}

//! Everything that runs: the registry among its real dependencies, each behind a wire, and the watcher.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use routr_environment::unix_ms;
use routr_registration::registration::identity::RegistryId;
use routr_registration::registration::state::TrunkState;
use routr_registry::proto::trunks::Trunk;
use tokio::time::Instant;

use super::sample::{Places, Sample};
use super::truth::Facts;
use crate::datagrams::Datagrams;
use crate::link::Link;
use crate::parts::{Addresses, Api, DOMAIN, INSTANCE, MARK, Registry, Requester, START, password, trunk};
use crate::support::kamailio::{Binding, Kamailio, Options, User};
use crate::support::ports;
use crate::support::redis::{Options as RedisOptions, Redis};
use crate::vitals::{Vitals, alive};
use crate::watch::{Look, Watch};

/// Memory that each process may have more than after the warm-up, once all is well again: a quarter, or 16
/// MiB where that is more.
const MORE_MEMORY: (f64, u64) = (1.25, 16 << 10);
/// And so many descriptors.
const MORE_DESCRIPTORS: usize = 24;
/// And so much of a core, beside twice as much as after the warm-up.
const MORE_CPU: f64 = 0.15;
/// Over so long is that measured.
pub const CPU_SPAN: Duration = Duration::from_secs(2);
/// Longest time until a process is as before.
pub const TO_REST: Duration = Duration::from_secs(20);

/// The wires.
pub struct Wires {
    pub api: Link,
    pub requester: Link,
    pub redis: Link,
    pub sip_tcp: Link,
    pub sip_udp: Datagrams,
}

/// Resources that a process needs when all is well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    pub rss: u64,
    descriptors: usize,
    cpu: f64,
}

/// The registry among its dependencies, the wires, and the watcher.
pub struct World {
    pub users: Vec<String>,
    pub trunks: Vec<Trunk>,
    pub kamailio: Kamailio,
    pub redis: Redis,
    pub api: Api,
    pub requester: Requester,
    pub registry: Registry,
    pub wires: Wires,
    pub watch: Watch<Places>,
    pub usual: (Usual, Usual),
    /// Trunks that the registry has to show as invalid at the moment.
    pub invalid: u64,
    secrets: Vec<String>,
}

/// The password of Redis.
pub fn redis_password() -> String {
    format!("{MARK}=of=redis")
}

impl World {
    /// Starts everything and waits until all trunks are registered and were refreshed, which makes the
    /// figures for [`World::at_rest`].
    pub async fn start(count: usize) -> Result<Self, String> {
        let users: Vec<String> = (0..count).map(|n| format!("user{n:04}")).collect();
        let accounts = users.iter().map(|user| User::new(user, password(user))).collect();
        let kamailio = Kamailio::start(Options { users: accounts, ..Options::default() }).await;
        let redis = Redis::start(RedisOptions { password: redis_password(), persistent: false }).await;
        let sip = ports::free();
        let transports = ["UDP", "tcp"].into_iter().cycle();
        let trunks: Vec<Trunk> =
            users.iter().zip(transports).map(|(user, transport)| trunk(user, sip, transport)).collect();
        let api = Api::start(trunks.clone()).await;
        let requester = Requester::start().await;
        let wires = Wires {
            api: Link::new(api.port()),
            requester: Link::new(requester.port()),
            redis: Link::new(redis.port()),
            sip_tcp: Link::on(sip, kamailio.tcp_port()),
            sip_udp: Datagrams::on(sip, kamailio.udp_port()).await,
        };
        let addresses =
            Addresses { api: wires.api.port(), requester: wires.requester.port(), redis: wires.redis.port() };
        let registry = Registry::start(addresses, &redis_password());
        let call_ids = call_ids(&users);
        let places = Places {
            public: registry.public,
            private: registry.private,
            table: kamailio.table_of_bindings(),
        };
        let facts = Facts {
            registry: None,
            requester: None,
            frozen: false,
            table_lost_ms: unix_ms(),
            lies_until_ms: 0,
            suspects: Vec::new(),
            call_ids,
        };
        let watch = Watch::start(places, facts);
        let secrets = secrets(&users);
        let mut world = Self {
            users,
            trunks,
            kamailio,
            redis,
            api,
            requester,
            registry,
            wires,
            watch,
            usual: Default::default(),
            invalid: 0,
            secrets,
        };
        world.all_well(2 * START).await?;
        world.note_lives();
        world.warm_up().await?;
        Ok(world)
    }

    /// From now on the processes that run must not end.
    pub fn note_lives(&self) {
        let mut facts = self.watch.facts();
        facts.registry = alive(self.registry.pid());
        facts.requester = alive(self.requester.pid());
    }

    /// Every binding was refreshed, so that all buffers have had their use.
    async fn warm_up(&mut self) -> Result<(), String> {
        self.all_refreshed(Duration::from_secs(60)).await?;
        let mut first: Option<Sample> = None;
        let mut usual = (Usual::default(), Usual::default());
        let measure = |sample: &Sample| {
            let first = first.get_or_insert_with(|| sample.clone());
            if sample.at - first.at < 2 * CPU_SPAN {
                return Err("the figures are being taken".to_owned());
            }
            usual.0 = Usual::between((first.at, first.registry), (sample.at, sample.registry))?;
            usual.1 = Usual::between((first.at, first.requester), (sample.at, sample.requester))?;
            Ok(())
        };
        self.watch.until_sample(START, measure).await?;
        self.usual = usual;
        Ok(())
    }

    /// Waits until every binding has a higher CSeq than now. How long that took.
    pub async fn all_refreshed(&mut self, deadline: Duration) -> Result<Duration, String> {
        let mut before: Option<BTreeMap<String, u64>> = None;
        let refreshed = |look: &Look| refreshed(&mut before, look.bindings.as_deref().unwrap_or_default());
        self.watch.until_look(deadline, refreshed).await
    }

    /// Waits until Kamailio has exactly one contact for each trunk, and the registry says so and that all is
    /// well. How long it took until the dependencies were well, and until all was.
    pub async fn all_well(&mut self, deadline: Duration) -> Result<(), String> {
        let began = Instant::now();
        let (count, invalid) = (self.users.len() as u64, self.invalid);
        self.watch.until_sample(deadline, |sample| registered(sample, count, invalid)).await?;
        let users = &self.users;
        let one_each =
            |look: &Look| one_each(look.bindings.as_deref().ok_or("Kamailio does not answer")?, users);
        self.watch.until_look(deadline.saturating_sub(began.elapsed()) + 3 * CPU_SPAN, one_each).await?;
        Ok(())
    }

    /// Waits until the processes need no more than after the warm-up.
    pub async fn at_rest(&mut self) -> Result<(), String> {
        let usual = self.usual;
        let mut kept: Vec<Sample> = Vec::new();
        let rests = |sample: &Sample| {
            kept.push(sample.clone());
            let Some(first) = kept.iter().rev().find(|old| sample.at - old.at >= CPU_SPAN) else {
                return Err("the figures are being taken".to_owned());
            };
            let registry = Usual::between((first.at, first.registry), (sample.at, sample.registry))?;
            let requester = Usual::between((first.at, first.requester), (sample.at, sample.requester))?;
            usual.0.allows("the registry", registry).and(usual.1.allows("the Requester", requester))
        };
        self.watch.until_sample(TO_REST, rests).await.map(drop)
    }

    /// Looks for passwords and for panics in all that was said.
    pub async fn assert_discreet(&self) -> Result<(), String> {
        let mut said = vec![
            ("the log of the registry", self.registry.output()),
            ("the log of the Requester", self.requester.output()),
        ];
        let places = [
            (self.registry.public, "/metrics"),
            (self.registry.public, "/readyz"),
            (self.registry.private, "/summary"),
        ];
        let pages = crate::watch::list(self.registry.private).await?;
        said.push((
            "the list of the trunks",
            serde_json::to_string(&pages).map_err(|error| error.to_string())?,
        ));
        for (port, path) in places {
            let (code, body) = crate::http::get(port, path).await?;
            if code != 200 {
                return Err(format!("{path} answers {code}"));
            }
            said.push((path, String::from_utf8_lossy(&body).into_owned()));
        }
        discreet(&said, &self.secrets)
    }

    /// Returns what is worth keeping after a failure: file names with their contents.
    pub fn logs(&self) -> Vec<(&'static str, String)> {
        vec![
            ("registry.log", self.registry.output()),
            ("requester.log", self.requester.output()),
            ("api.log", self.api.output()),
            ("kamailio.log", self.kamailio.log()),
            ("looks.txt", self.watch.protocol()),
        ]
    }
}

impl Usual {
    /// Returns what a process needed between two looks at it.
    pub fn between(
        first: (Instant, Option<Vitals>),
        last: (Instant, Option<Vitals>),
    ) -> Result<Self, String> {
        let (before, vitals) = (first.1.ok_or("it does not run")?, last.1.ok_or("it does not run")?);
        let cpu = (vitals.cpu - before.cpu) / (last.0 - first.0).as_secs_f64();
        Ok(Self { rss: vitals.rss, descriptors: vitals.descriptors, cpu })
    }

    /// The more of each.
    pub fn or_more(self, other: Self) -> Self {
        Self {
            rss: self.rss.max(other.rss),
            descriptors: self.descriptors.max(other.descriptors),
            cpu: self.cpu.max(other.cpu),
        }
    }

    /// Checks that the process called `name` does not need much more now.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn allows(self, name: &str, now: Self) -> Result<(), String> {
        let memory = ((self.rss as f64 * MORE_MEMORY.0) as u64).max(self.rss + MORE_MEMORY.1);
        if now.rss > memory {
            return Err(format!(
                "{name} has {} KiB, {} after the warm-up, at most {memory} are good",
                now.rss, self.rss
            ));
        }
        if now.descriptors > self.descriptors + MORE_DESCRIPTORS {
            return Err(format!(
                "{name} has {} descriptors, {} after the warm-up",
                now.descriptors, self.descriptors
            ));
        }
        if now.cpu > 2.0 * self.cpu + MORE_CPU {
            return Err(format!("{name} needs {:.2} of a core, {:.2} after the warm-up", now.cpu, self.cpu));
        }
        Ok(())
    }
}

fn registered(sample: &Sample, count: u64, invalid: u64) -> Result<(), String> {
    sample.well()?;
    let counts = TrunkState::ALL.map(|state| sample.count(state));
    let expected = TrunkState::ALL.map(|state| match state {
        TrunkState::Registered => count,
        TrunkState::Invalid => invalid,
        _ => 0,
    });
    if counts == expected { Ok(()) } else { Err(format!("{:?}", sample.summary.as_ref().map(|s| s.counts))) }
}

/// Looks for secrets and panics in what was said, each with its place.
pub fn discreet(said: &[(&str, String)], secrets: &[String]) -> Result<(), String> {
    for (place, text) in said {
        if let Some(line) = text.lines().find(|line| line.contains("panicked at")) {
            return Err(format!("a panic in {place}: {line}"));
        }
        for secret in secrets {
            if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                return Err(format!("{place} gives away {secret:?}: {line}"));
            }
        }
    }
    Ok(())
}

/// Returns what must be said nowhere: passwords, as they are and as they are sent.
pub fn secrets(users: &[String]) -> Vec<String> {
    let encoded =
        users.iter().take(50).map(|user| BASE64_STANDARD.encode(format!("{user}:{}", password(user))));
    encoded.chain(["X-Gateway-Auth: ", "Digest username", MARK].map(str::to_owned)).collect()
}

/// The Call-ID of each good trunk, by user.
pub fn call_ids(users: &[String]) -> BTreeMap<String, String> {
    let id = RegistryId::new(INSTANCE);
    let call_id = |user: &String| id.call_id(&format!("trunk-{user}"), DOMAIN, user).to_string();
    users.iter().map(|user| (user.clone(), call_id(user))).collect()
}

/// Checks that these are one contact for each of the users.
pub fn one_each(bindings: &[Binding], users: &[String]) -> Result<(), String> {
    let users: BTreeSet<String> = users.iter().map(|user| format!("{user}@{DOMAIN}")).collect();
    let there: BTreeSet<String> = bindings.iter().map(|binding| binding.aor.clone()).collect();
    if bindings.len() == users.len() && there == users {
        return Ok(());
    }
    let missing: Vec<&String> = users.difference(&there).take(3).collect();
    Err(format!("Kamailio has {} bindings of {} accounts, missing {missing:?}", bindings.len(), there.len()))
}

/// Checks that every binding has a higher CSeq than at the first call for `before`.
pub fn refreshed(before: &mut Option<BTreeMap<String, u64>>, bindings: &[Binding]) -> Result<(), String> {
    let now: BTreeMap<String, u64> =
        bindings.iter().map(|binding| (binding.call_id.clone(), binding.cseq)).collect();
    let before = before.get_or_insert_with(|| now.clone());
    let old = before.iter().filter(|(id, cseq)| now.get(*id).is_none_or(|now| now <= *cseq)).count();
    if old == 0 { Ok(()) } else { Err(format!("{old} bindings are not refreshed")) }
}

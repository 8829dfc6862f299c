//! Scenarios that are more than faults which begin and end.

use std::time::Duration;

use prost::Message;
use routr_registration::{engine::view::DependencyFailure, registration::state::TrunkState};
use routr_registry::proto::trunks::{FindByResponse, Trunk, TrunkUri};
use tokio::time::Instant;

use super::silent::silent_registrars;
use crate::fakes::{Fake, Kind};
use crate::parts::{DOMAIN, MARK, trunk};
use crate::scenario::Outcome;
use crate::standalone::Special;
use crate::standalone::sample::Sample;
use crate::standalone::world::{World, redis_password};
use crate::watch::Look;

const SOON: Duration = Duration::from_secs(20);

pub async fn play(special: Special, world: &mut World, outcome: &mut Outcome) -> Result<(), String> {
    let began = Instant::now();
    let result = match special {
        Special::PasswordOfRedis => password_of_redis(world).await,
        Special::MalformedTrunks => malformed_trunks(world).await,
        Special::SilentRegistrars => silent_registrars(world).await,
    };
    outcome.out = began.elapsed();
    result
}

/// Redis asks for another password: that is reported, not tried in a loop, and over once the file has the new
/// one.
async fn password_of_redis(world: &mut World) -> Result<(), String> {
    let old = redis_password();
    let new = format!("{MARK}=another");
    world.watch.facts().suspects = vec!["cache"];
    for (from, to) in [(&old, &new), (&new, &old)] {
        change_password(world, from, to).await?;
        let denied = |sample: &Sample| {
            let reason = sample.summary.as_ref().ok().and_then(|summary| summary.cache.reason);
            if reason == Some(DependencyFailure::Unauthorized) && sample.says_down("cache") {
                Ok(())
            } else {
                Err(format!("{reason:?}"))
            }
        };
        let waited = world.watch.until_sample(SOON, denied).await;
        waited.map_err(|last| format!("the refused password is not reported: {last}"))?;
        world.registry.use_redis_password(to);
        world
            .watch
            .until_sample(SOON, Sample::well)
            .await
            .map_err(|last| format!("with the new password: {last}"))?;
    }
    Ok(())
}

/// Sends commands by a connection that logs in with `from`.
async fn change_password(world: &World, from: &str, to: &str) -> Result<(), String> {
    let client = redis::Client::open(format!("redis://:{from}@127.0.0.1:{}/", world.redis.port()));
    let mut connection = client
        .map_err(|e| e.to_string())?
        .get_multiplexed_async_connection()
        .await
        .map_err(|e| e.to_string())?;
    let mut pipeline = redis::pipe();
    pipeline.cmd("CONFIG").arg("SET").arg("requirepass").arg(to).ignore();
    pipeline.cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").ignore();
    pipeline.exec_async(&mut connection).await.map_err(|error| error.to_string())
}

/// A change that spoils a trunk.
type Spoil = fn(&mut Trunk);

/// Each wrong in its own way, with what its report has to name.
const SPOILT: [(&str, &str, Spoil); 14] = [
    ("too-large", "spec.sync.maxTrunkBytes", |trunk| trunk.name = "n".repeat(1 << 20)),
    ("no-uri", "uris", |trunk| trunk.uris.clear()),
    ("no-host", "host", |trunk| trunk.uris[0].host.clear()),
    ("bad-host", "host", |trunk| trunk.uris[0].host = "a b\r\nX-Evil: 1".to_owned()),
    ("giant-host", "host", |trunk| trunk.uris[0].host = "h".repeat(200 << 10)),
    ("bad-port", "port", |trunk| trunk.uris[0].port = 70_000),
    ("negative-port", "port", |trunk| trunk.uris[0].port = i32::MIN),
    ("bad-transport", "transport", |trunk| trunk.uris[0].transport = "carrier-pigeon".to_owned()),
    ("no-user", "user", |trunk| trunk.uris[0].user.clear()),
    ("giant-user", "user", |trunk| trunk.uris[0].user = "u".repeat(200 << 10)),
    ("bad-user", "user", |trunk| trunk.uris[0].user = "a\r\nX-Evil: 1".to_owned()),
    ("all-disabled", "", |trunk| trunk.uris[0].enabled = false),
    ("bad-username", "username", |trunk| {
        if let Some(credentials) = &mut trunk.outbound_credentials {
            credentials.username = "a:b\u{7}".to_owned();
        }
    }),
    ("many-bad-uris", "uris", |trunk| {
        let bad = TrunkUri { port: -5, ..trunk.uris[0].clone() };
        trunk.uris = vec![bad; 500];
    }),
];

/// The trunks are all there, and among them trunks of every wrong kind; each of these is reported, by the
/// field at fault.
async fn malformed_trunks(world: &mut World) -> Result<(), String> {
    let sip = world.trunks[0].uris[0].port as u16;
    let mut bytes = Vec::new();
    for (position, good) in world.trunks.iter().enumerate() {
        if let Some((name, _, spoil)) = SPOILT.get(position / 7).filter(|_| position % 7 == 3) {
            let mut spoilt = Trunk { r#ref: (*name).to_owned(), ..trunk(name, sip, "UDP") };
            spoil(&mut spoilt);
            FindByResponse { items: vec![spoilt] }.encode(&mut bytes).map_err(|error| error.to_string())?;
        }
        FindByResponse { items: vec![good.clone()] }.encode(&mut bytes).map_err(|error| error.to_string())?;
    }
    // The first one twice more, once with another content: the first come is the one.
    let duplicate = Trunk { name: "another".to_owned(), uris: Vec::new(), ..world.trunks[0].clone() };
    let nameless = Trunk { r#ref: String::new(), ..world.trunks[1].clone() };
    let items = vec![duplicate, world.trunks[0].clone(), nameless];
    FindByResponse { items }.encode(&mut bytes).map_err(|error| error.to_string())?;
    // Names that are not UTF-8, which no library of protobuf writes: `AAAA` is replaced by other bytes.
    let not_text = Trunk { r#ref: "not-utf8".to_owned(), name: "AAAA".to_owned(), ..trunk("x", sip, "UDP") };
    let encoded = FindByResponse { items: vec![not_text] }.encode_to_vec();
    let at = encoded.windows(4).position(|four| four == b"AAAA").ok_or("no name to spoil")?;
    bytes.extend([&encoded[..at], &[0xff, 0xfe, 0xc0, 0x80], &encoded[at + 4..]].concat());

    let fake = Fake::start(Kind::List(bytes.leak()), world).await;
    world.watch.facts().suspects = vec!["api"];
    world.wires.api.lead_to(fake.port);
    let result = judge_malformed(world).await;
    world.watch.facts().suspects = vec!["api"];
    world.wires.api.lead_home();
    result
}

async fn judge_malformed(world: &mut World) -> Result<(), String> {
    let invalid = SPOILT.len() as u64 + 1;
    let count = world.users.len() as u64;
    let reported = |sample: &Sample| {
        let (good, bad) = (sample.count(TrunkState::Registered), sample.count(TrunkState::Invalid));
        if (good, bad) == (count, invalid) { sample.well() } else { Err(format!("{good} good, {bad} bad")) }
    };
    let waited = world.watch.until_sample(SOON, reported).await;
    waited.map_err(|last| format!("{count} good and {invalid} bad trunks should be shown: {last}"))?;
    world.watch.facts().suspects = Vec::new();
    let named = |look: &Look| {
        for (name, field, _) in SPOILT.iter().chain(&[("not-utf8", "UTF-8", (|_| ()) as Spoil)]) {
            let shown = look.trunks.as_ref().and_then(|trunks| trunks.get(*name));
            let shown = shown.ok_or_else(|| format!("{name} is not shown"))?;
            let message = shown.failure.as_ref().map_or("", |failure| &failure.message);
            if shown.state != TrunkState::Invalid || !message.contains(field) || message.len() > 20_000 {
                return Err(format!(
                    "{name} is not reported by {field:?}: {:?} {}",
                    shown.state,
                    &message.chars().take(300).collect::<String>()
                ));
            }
        }
        Ok(())
    };
    world.watch.until_look(SOON, named).await?;
    world.all_refreshed(Duration::from_secs(60)).await?;
    let one = world.kamailio.bindings_of(&format!("{}@{DOMAIN}", world.users[0])).await;
    if one.len() == 1 { Ok(()) } else { Err(format!("{one:?} for a trunk that came three times")) }
}

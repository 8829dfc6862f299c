//! Registrars that come first in the list and never respond.

use std::time::Duration;

use prost::Message;
use routr_registration::registration::state::TrunkState;
use routr_registry::proto::trunks::{FindByResponse, Trunk};

use crate::fakes::{Fake, Kind};
use crate::parts::{EXPIRES, trunk};
use crate::standalone::sample::Sample;
use crate::standalone::world::World;
use crate::support::ports;
use crate::support::registrars::{self, Registrars};

const REGISTRARS: usize = 20;
const TRUNKS_EACH: usize = 5;
const SOON: Duration = Duration::from_secs(20);
/// A round of refreshes.
const ROUND: Duration = Duration::from_secs(60);

/// Silent registrars join, take nothing from the trunks that are there, respond in the end, and are removed
/// again.
pub async fn silent_registrars(world: &mut World) -> Result<(), String> {
    let registrars = Registrars::start(REGISTRARS, ports::free(), EXPIRES).await;
    let registrars = registrars.map_err(|error| error.to_string())?;
    registrars.set_silent(0..REGISTRARS, true);
    let mut items: Vec<Trunk> = Vec::new();
    for registrar in 0..REGISTRARS {
        for number in 0..TRUNKS_EACH {
            let mut silent = trunk(&format!("silent-{registrar}-{number}"), registrars.port(), "UDP");
            silent.uris[0].host = registrars::address(registrar).to_string();
            items.push(silent);
        }
    }
    items.extend(world.trunks.iter().cloned());
    let fake = Fake::start(Kind::List(FindByResponse { items }.encode_to_vec().leak()), world).await;
    // The connection to the one before it is lost.
    world.watch.facts().suspects = vec!["api"];
    world.wires.api.lead_to(fake.port);
    let result = judge(world, &registrars).await;
    world.watch.facts().suspects = vec!["api"];
    world.wires.api.lead_home();
    result?;
    // While the registrars are still there to remove the bindings.
    let total = |sample: &Sample| TrunkState::ALL.iter().map(|state| sample.count(*state)).sum::<u64>();
    let count = world.users.len() as u64;
    let removed = |sample: &Sample| match total(sample) {
        total if total == count => Ok(()),
        total => Err(format!("{total} trunks, {} being removed", sample.count(TrunkState::Deregistering))),
    };
    let waited = world.watch.until_sample(SOON, removed).await;
    waited.map(drop).map_err(|last| format!("the trunks at these registrars should be removed: {last}"))
}

async fn judge(world: &mut World, registrars: &Registrars) -> Result<(), String> {
    let (count, more) = (world.users.len() as u64, (REGISTRARS * TRUNKS_EACH) as u64);
    let counted = |sample: &Sample, registered: u64, others: u64| {
        let good = sample.count(TrunkState::Registered);
        let bad = sample.count(TrunkState::Pending) + sample.count(TrunkState::Failing);
        if (good, bad) == (registered, others) { Ok(()) } else { Err(format!("{good} good, {bad} bad")) }
    };
    let waited = world.watch.until_sample(SOON, |sample| counted(sample, count, more)).await;
    waited.map_err(|last| format!("{more} trunks at silent registrars should be shown: {last}"))?;
    world.watch.facts().suspects = Vec::new();
    // Until each silent registrar has had time to count as down, and longer.
    for _ in 0..3 {
        world.all_refreshed(ROUND).await?;
    }
    registrars.set_silent(0..REGISTRARS, false);
    let waited = world.watch.until_sample(SOON, |sample| counted(sample, count + more, 0)).await;
    waited.map(drop).map_err(|last| format!("{SOON:?} after the registrars' return: {last}"))
}

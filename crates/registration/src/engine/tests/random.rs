//! Random faults and edits for hours, then everything is healed: whatever happened, each trunk must be
//! registered in the end, and what must always hold held all along.

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use super::{
    sim::{MINUTE, SECOND_MS, Sim, settings},
    world::{ConcurrencyLimit, Policy, trunk},
};
use crate::{
    registration::state::TrunkState,
    trunk::{Trunk, TrunkProblem},
};
use routr_types::secret::Secret;

const SEEDS: u64 = 200;
const HOSTS: [&str; 5] = ["h0", "h1", "h2", "h3", "h4"];

#[test]
fn whatever_happens_all_is_well_in_the_end() {
    all((0..seeds()).step_by(2));
}

/// The other half of the seeds, so that two cores share the work.
#[test]
fn whatever_else_happens_all_is_well_in_the_end() {
    all((1..seeds()).step_by(2));
}

/// More than usual with `SIM_SEEDS=5000`.
fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

fn all(seeds: impl Iterator<Item = u64>) {
    let failed: Vec<u64> = seeds.filter(|seed| std::panic::catch_unwind(|| one(*seed)).is_err()).collect();
    assert!(failed.is_empty(), "seeds that failed (see above; SIM_SEED=.. runs one of them): {failed:?}");
}

/// To look into a seed that failed: `SIM_SEED=17 c test --lib engine::tests::random::again`.
#[test]
fn again() {
    one(std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEEDS));
}

fn one(seed: u64) {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let rate = *[None, Some(1.0), Some(5.0), Some(20.0)].choose(rng).unwrap();
    let mut settings = settings(rng.random_range(1..4), rate);
    settings.registration.interval_ms = *[10 * SECOND_MS, MINUTE].choose(rng).unwrap();
    settings.registration.expires_s = *[60, 300, 600].choose(rng).unwrap();
    settings.max_in_flight = *[2, 8, 256].choose(rng).unwrap();
    let mut sim = Sim::new(settings, seed);
    for n in 0..rng.random_range(2..16) {
        sim.put(&any_trunk(&format!("t{n}"), rng));
    }
    for _ in 0..rng.random_range(5..40) {
        sim.run(rng.random_range(SECOND_MS..6 * MINUTE));
        disturb(&mut sim, rng);
    }
    heal(&mut sim);
    sim.run(80 * MINUTE);
    let broken: Vec<String> = sim
        .trunks
        .values()
        .filter(|item| item.trunk.is_ok())
        .map(|item| sim.view(item.reference.as_ref().unwrap()))
        .filter(|view| view.state != TrunkState::Registered || !sim.bound(&view.reference, &view.aor))
        .map(|view| format!("{view:?}"))
        .collect();
    assert!(broken.is_empty(), "not registered: {broken:#?}");
    assert_eq!(sim.counts().deregistering, 0);
    sim.wakeups = 0;
    sim.forget_log();
    sim.run(20 * MINUTE);
    let each = sim.log.len() as u64;
    assert!(sim.wakeups <= 20 * each + 500, "{} wakeups for {each} REGISTERs", sim.wakeups);
}

fn any_trunk(reference: &str, rng: &mut SmallRng) -> Trunk {
    let uris: Vec<String> = (0..rng.random_range(1..4))
        .map(|_| {
            let (user, host) = (rng.random_range(0..3), HOSTS.choose(rng).unwrap());
            let way = ["", ":5070", ":5060;tcp"].choose(rng).unwrap();
            format!("u{user}@{host}{way}")
        })
        .collect();
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let mut trunk = trunk(reference, &uris);
    if rng.random_bool(0.1)
        && let Some(credentials) = &mut trunk.credentials
    {
        credentials.password = Secret::new("wrong");
    }
    trunk
}

fn any_policy(rng: &mut impl Rng) -> Policy {
    [
        Policy::Grants(86_400),
        Policy::Grants(45),
        Policy::Grants(90),
        Policy::AtLeast(400),
        Policy::AtLeastUntold(500),
        Policy::busy(700),
        Policy::Later(480, 300),
        Policy::moved(302, "h0", None),
        Policy::moved(302, "h1", Some(500)),
        Policy::moved(301, "h2", None),
        Policy::RefusesTags(true),
        Policy::Password("right"),
        Policy::Password("changed"),
        Policy::Code(500),
        Policy::Code(503),
        Policy::Code(404),
        Policy::Silent,
        Policy::Provisional,
        Policy::Nonsense,
    ]
    .choose(rng)
    .unwrap()
    .clone()
}

fn disturb(sim: &mut Sim, rng: &mut SmallRng) {
    let reference = format!("t{}", rng.random_range(0..18));
    let host = *HOSTS.choose(rng).unwrap();
    match rng.random_range(0..24) {
        0..7 => sim.policy(host, any_policy(rng)),
        7 => sim.registrar(host).delay = *[5, 50, 3_000, 20_000].choose(rng).unwrap(),
        8 => sim.registrar(host).loss = *[0.0, 0.3, 0.9].choose(rng).unwrap(),
        9..12 => {
            let before = std::mem::replace(
                &mut sim.concurrency,
                [
                    ConcurrencyLimit::Up,
                    ConcurrencyLimit::Down,
                    ConcurrencyLimit::Refusing,
                    ConcurrencyLimit::Hanging,
                    ConcurrencyLimit::java(),
                ]
                .choose(rng)
                .unwrap()
                .clone(),
            );
            if before == ConcurrencyLimit::Down && sim.concurrency.passes() {
                sim.reconnected();
            }
        }
        12 => {
            let edge = format!("edge-{}.example", rng.random_range(0..3));
            if !sim.dead_edges.remove(&edge) {
                sim.dead_edges.insert(edge);
            }
        }
        13..16 => sim.put(&any_trunk(&reference, rng)),
        16 => sim.remove(&reference),
        17 => sim.list(&reference, Err(TrunkProblem::AllDisabled)),
        18 => sim.list(&reference, Err(TrunkProblem::Malformed { message: "uris: none".into() })),
        19 => sim.restart(rng.random_range(3..200) * SECOND_MS, rng.random_range(0..3)),
        20 => sim.api_up = !sim.api_up,
        21 => sim.store_up = !sim.store_up,
        22 => {
            sim.refresh(&reference);
        }
        _ => {
            let mut settings = sim.settings.clone();
            settings.registration.tags.rotate_left(1);
            settings.max_in_flight = *[2, 8, 256].choose(rng).unwrap();
            settings.edge_ports.truncate(rng.random_range(1..4));
            sim.reconfigure(settings);
            sim.skew += rng.random_range(0..600_000);
        }
    }
}

fn heal(sim: &mut Sim) {
    for host in HOSTS {
        let registrar = sim.registrar(host);
        registrar.fake.policy = Policy::Grants(86_400);
        (registrar.delay, registrar.loss) = (20, 0.0);
    }
    (sim.api_up, sim.store_up, sim.concurrency) = (true, true, ConcurrencyLimit::Up);
    sim.dead_edges.clear();
}

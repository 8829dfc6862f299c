use clap::Parser as _;

use super::{sockets::Payers, *};
use crate::spec::RegistrySpec;
use crate::{config::Secrets, spec::rules};

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    limits: Limits,
}

fn limits(flags: &[&str]) -> Limits {
    Flags::try_parse_from(["operator"].iter().chain(flags)).unwrap_or_else(|error| panic!("{error}")).limits
}

/// The chart's limit, and what there is as well: the program itself, and 40 KB for each Registry that is
/// suspended.
#[test]
fn the_defaults_fit_below_the_charts_limit() {
    let limits = limits(&[]);
    let values = include_str!("../../charts/routr-registry/values.yaml");
    let limit = values.split("limits:\n").find_map(|part| part.trim().strip_prefix("memory: ")).unwrap();
    let mib: u64 = limit.split("Mi").next().unwrap().parse().unwrap();
    let registries = 3_000 * 40_000 / (1 << 20);
    assert!(limits.trunk_mib + limits.response_mib + registries + 40 < mib, "{limits:?} in {mib} MiB");
}

#[test]
fn no_spec_raises_what_the_operator_allows() {
    let spec: RegistrySpec = serde_json::from_value(serde_json::json!({
        "requesterAddr": "r", "apiAddr": "a", "edgePorts": [{ "address": "10.0.0.1:5060" }],
        "registration": { "maxInFlight": 100_000 },
        "sync": { "maxPages": 1_000_000, "maxTrunks": 10_000_000, "maxBytes": 16_i64 << 30, "maxTrunkBytes": 16 << 20 },
    }))
    .unwrap();
    let mut config = Config::from_resource("x", &spec, &Secrets::default()).unwrap();
    let asked = config.clone();
    limits(&[]).apply(&mut config);
    assert_eq!((config.sync.max_pages, config.sync.max_trunks), (100_000, 1_000_000));
    assert_eq!((config.sync.max_bytes, config.sync.max_trunk_bytes), (512 << 20, 512 << 10));
    assert_eq!(config.registration.max_in_flight, 1_000);
    // What a Registry asks for by default is what it gets.
    const { assert!(rules::SYNC_BYTES.default <= 512 << 20 && rules::TRUNK_BYTES.default <= 512 << 10) };
    let more = limits(&["--max-trunks=20000000", "--max-response-memory=65536", "--max-in-flight=100000"]);
    let mut config = asked.clone();
    more.apply(&mut config);
    assert_eq!(config.sync.max_trunks, asked.sync.max_trunks);
    assert_eq!(config.sync.max_bytes, asked.sync.max_bytes);
    assert_eq!(config.registration.max_in_flight, 100_000);
}

#[test]
fn registries_of_one_namespace_share_its_part_and_give_it_back() {
    let quotas = Quotas::new(limits(&["--max-trunks=1000", "--max-trunk-memory=1"]));
    let [a, b] = [(); 2].map(|()| quotas.registry("a"));
    a.uses(300, 0);
    b.uses(200, 0);
    assert_eq!(a.fits(1, 0), Err(Excess::Trunks), "half of all, of both together");
    let other = quotas.registry("b");
    assert_eq!((other.fits(250, 0), other.fits(251, 0)), (Ok(()), Err(Excess::Trunks)));
    assert_eq!(other.fits(1, 600 << 10), Err(Excess::TrunkMemory));
    drop(a);
    assert_eq!((b.fits(200, 0), other.fits(300, 0)), (Ok(()), Ok(())));
    assert_eq!(Quota::unlimited().fits(u64::MAX, u64::MAX), Ok(()));
}

#[tokio::test]
async fn responses_hold_memory_until_they_are_dropped_and_small_ones_never_wait() {
    let quotas = Quotas::new(limits(&["--max-response-memory=4"]));
    let (greedy, modest) = (quotas.registry("a"), quotas.registry("b"));
    assert_eq!(greedy.max_response(), 1 << 20);
    let all: Vec<_> = (0..4).map(|_| greedy.response()).collect();
    let taken = all.iter().filter(|one| one.grow(1 << 20).is_ok()).count();
    assert_eq!(taken, 2, "half of 4 MiB, and what is free of each");
    assert_eq!(all.iter().filter_map(|one| one.refused()).collect::<Vec<_>>(), [Excess::ResponseMemory; 2]);
    assert_eq!((greedy.exceeds(), modest.exceeds()), (vec![Excess::ResponseMemory], vec![]));
    let small: Vec<_> = (0..100).map(|_| modest.response()).collect();
    assert!(small.iter().all(|one| one.grow(256 << 10).is_ok()));
    assert!(modest.response().grow(1 << 20).is_ok(), "something is left for the others");
    drop(all);
    assert!(greedy.response().grow(1 << 20).is_ok());
    assert!(Quota::unlimited().response().grow(usize::MAX).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_exceeded_is_shown_for_some_minutes() {
    let quota = Quota::unlimited();
    quota.note(Excess::Log);
    tokio::time::advance(SHOWN_FOR / 2).await;
    quota.note(Excess::Trunks);
    assert_eq!(quota.exceeds(), [Excess::Trunks, Excess::Log]);
    tokio::time::advance(SHOWN_FOR / 2).await;
    assert_eq!(quota.exceeds(), [Excess::Trunks]);
}

#[tokio::test]
async fn a_shared_socket_counts_for_one_that_has_room_and_a_namespace_leaves_some_for_the_others() {
    let quotas = Quotas::new(limits(&["--max-connections=64"]));
    let (greedy, modest) = (quotas.registry("a"), quotas.registry("b"));
    let (own, both) = (Payers::default(), Payers::default());
    own.add(&greedy);
    for quota in [&greedy, &modest, &Quota::unlimited()] {
        both.add(quota);
    }
    let held: Vec<_> = std::iter::from_fn(|| own.socket().ok()).collect();
    let connections = quotas.connections();
    assert_eq!(connections.open, [("a".to_owned(), 32), ("b".to_owned(), 0)]);
    assert_eq!(connections.limit, 64);
    assert_eq!((held.len(), greedy.exceeds(), modest.exceeds()), (32, vec![Excess::Connections], vec![]));
    let shared: Vec<_> = std::iter::from_fn(|| both.socket().ok()).collect();
    assert_eq!(shared.len(), 16, "half of the rest: the greedy one may not have them");
    let last = quotas.registry("c");
    let late = Payers::default();
    late.add(&last);
    assert!(late.socket().is_ok(), "something is left for one that comes late");
    drop((held, shared));
    drop(modest);
    assert_eq!(std::iter::from_fn(|| both.socket().ok().map(std::mem::forget)).count(), 32);
    assert!((0..10_000).all(|_| Payers::default().socket().map(std::mem::forget).is_ok()), "nobody pays");
}

#[tokio::test]
async fn a_namespace_whose_names_are_not_found_leaves_turns_for_the_others() {
    use futures_util::FutureExt as _;
    let quotas = Quotas::new(limits(&[]));
    let pays = |namespace: &str| {
        let (payers, quota) = (Payers::default(), quotas.registry(namespace));
        payers.add(&quota);
        (payers, quota)
    };
    let (silent, other) = (pays("silent"), pays("other"));
    let turns: Vec<_> = std::iter::from_fn(|| silent.0.look_up().now_or_never()).collect();
    assert_eq!(turns.len(), sockets::LOOK_UPS_OF_ONE);
    assert!(other.0.look_up().now_or_never().is_some());
    drop(turns);
    assert!(silent.0.look_up().now_or_never().is_some());
}

#[test]
fn connections_fit_into_the_limit_on_open_files() {
    let with = |files| limits(&[]).within_open_files(files).connections;
    assert_eq!(
        [Some(256), Some(1_024), Some(4_096), Some(1 << 20), None].map(with),
        [128, 512, 3_072, 8_192, 8_192]
    );
}

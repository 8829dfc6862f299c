//! Trunks that a complete list does not have, though they are there: the list came in pages, or was cut
//! short.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    sim::{MINUTE, SECOND_MS, Sim},
    world::trunk,
};
use crate::{
    model::{Absence, Excess, MemoryBudget, SourceError},
    registration::state::TrunkState,
};

#[test]
fn g4_what_an_unsure_list_lacks_is_removed_when_a_second_one_says_the_same() {
    for (of, gone) in [(40, 1), (40, 25), (3, 3)] {
        let mut sim = Sim::registered(of);
        sim.absence = Absence::Unconfirmed;
        let all = sim.trunks.clone();
        (0..gone).for_each(|n| sim.remove(&format!("t{n:05}")));
        let report = sim.sync();
        assert_eq!((report.held, report.removed), (gone as u64, 0));
        sim.run(SECOND_MS);
        assert!(sim.log.is_empty(), "deregistered");
        // It was a page that was empty for a moment.
        let lacking = std::mem::replace(&mut sim.trunks, all);
        assert_eq!((sim.sync().held, sim.log.len()), (0, 0));
        // And now they are really gone.
        sim.trunks = lacking;
        assert_eq!(sim.sync().held, gone as u64);
        let report = sim.sync();
        assert_eq!((report.held, report.removed), (0, gone as u64));
        sim.run(5 * SECOND_MS);
        assert_eq!(sim.counts().registered, (of - gone) as u64);
    }
}

#[test]
fn g4_records_of_the_store_outlive_a_first_list_that_is_unsure() {
    let mut sim = Sim::registered(5);
    let all = std::mem::take(&mut sim.trunks);
    sim.absence = Absence::Unconfirmed;
    sim.restart(5 * SECOND_MS, 0);
    sim.run(SECOND_MS);
    assert_eq!((sim.store.len(), sim.engine.summary(sim.now()).removals_pending_confirmation), (5, 1));
    sim.trunks = all;
    sim.sync();
    sim.run(SECOND_MS);
    assert_eq!((sim.counts().registered, sim.log.len()), (5, 0), "registered again");
}

#[test]
fn what_is_missing_is_what_the_next_removal_would_take() {
    let mut sim = Sim::registered(20);
    sim.engine.handle_sync_started();
    assert_eq!((sim.engine.missing(19), sim.engine.missing(20).map(|all| all.len())), (None, Some(20)));
    let now = sim.now();
    for item in sim.trunks.values().skip(3) {
        sim.engine.handle_trunk(item, now);
        sim.engine.handle_trunk(item, now);
    }
    let missing = sim.engine.missing(3).unwrap();
    assert_eq!(missing.len(), 3);
    assert!(missing.iter().all(|reference| ["t00000", "t00001", "t00002"].contains(&&**reference)));
    for item in sim.trunks.values() {
        sim.engine.handle_trunk(item, now);
    }
    assert_eq!(sim.engine.missing(0), Some(vec![]));
    let report = sim.engine.handle_sync_finished(Absence::Certain, now);
    assert_eq!((report.removed, report.duplicates), (0, 0), "the same trunk twice is no other trunk");
    // Those that only the store knows are missing, too.
    let all = std::mem::take(&mut sim.trunks);
    sim.absence = Absence::Unconfirmed;
    sim.restart(5 * SECOND_MS, 0);
    sim.sync();
    sim.engine.handle_sync_started();
    assert_eq!((sim.engine.missing(19), sim.engine.missing(20).map(|all| all.len())), (None, Some(20)));
    sim.engine.handle_trunk(all.values().next().unwrap(), sim.now());
    assert_eq!(sim.engine.missing(20).map(|all| all.len()), Some(19));
}

#[test]
fn two_trunks_of_one_ref_that_differ_are_reported() {
    let mut sim = Sim::registered(2);
    sim.engine.handle_sync_started();
    let now = sim.now();
    let (first, second) = (sim.trunks["t00000"].clone(), sim.trunks["t00001"].clone());
    sim.engine.handle_trunk(&first, now);
    sim.put(&trunk("t00000", &["another@h0"]));
    sim.engine.handle_trunk(&sim.trunks["t00000"].clone(), now);
    sim.engine.handle_trunk(&second, now);
    assert_eq!(sim.engine.handle_sync_finished(Absence::Certain, now).duplicates, 1);
    sim.pump();
    assert_eq!((sim.state("t00000"), sim.log.len()), (TrunkState::Registered, 0), "the first one counts");
}

#[test]
fn g4_lists_that_fail_each_with_other_trunks_do_not_add_up() {
    let mut sim = Sim::registered(20);
    sim.settings.max_trunks = 30;
    sim.reconfigure(sim.settings.clone());
    let all = sim.trunks.clone();
    for round in 0..5 {
        sim.trunks.clear();
        (0..20).for_each(|n| sim.put(&trunk(&format!("new-{round}-{n}"), &[&format!("u{n}@h1")])));
        let now = sim.now();
        sim.engine.handle_sync_started();
        sim.trunks.values().for_each(|item| sim.engine.handle_trunk(item, now));
        sim.engine.handle_sync_failed(&SourceError::TooMuch("no end".into()), now);
        assert_eq!(sim.engine.slots.len(), 30);
    }
    sim.trunks = all;
    assert_eq!((sim.sync().listed, sim.last_sync.surplus, sim.last_sync.removed), (20, 0, 10));
    sim.put(&trunk("one-more", &["u@h1"]));
    sim.run(3 * MINUTE);
    assert_eq!((sim.counts().registered, sim.last_sync.surplus), (21, 0));
}

/// Room for so many trunks.
#[derive(Debug)]
struct Room {
    most: AtomicU64,
    used: AtomicU64,
}

impl MemoryBudget for Room {
    fn fits(&self, trunks: u64, _: u64) -> Result<(), Excess> {
        let fits = self.used.load(Relaxed) + trunks <= self.most.load(Relaxed);
        if fits { Ok(()) } else { Err(Excess::Trunks) }
    }

    fn uses(&self, trunks: u64, bytes: u64) {
        assert!(bytes >= trunks * 100, "{bytes} bytes of {trunks} trunks");
        self.used.store(trunks, Relaxed);
    }
}

#[test]
fn what_there_is_no_room_for_is_left_out_and_nothing_that_is_there_goes() {
    let mut sim = Sim::registered(5);
    let room = Arc::new(Room { most: AtomicU64::new(7), used: AtomicU64::new(5) });
    sim.engine.within(room.clone());
    (0..5).for_each(|n| sim.put(&trunk(&format!("new-{n}"), &[&format!("n{n}@h1")])));
    let report = sim.sync();
    assert_eq!((report.listed, report.surplus, report.excess), (7, 3, Some(Excess::Trunks)));
    sim.run(30 * SECOND_MS);
    let summary = sim.engine.summary(sim.now());
    assert_eq!((summary.counts.registered, summary.left_out, room.used.load(Relaxed)), (7, 3, 7));
    assert!(summary.over_limits[0].contains("--max-trunks"), "{:?}", summary.over_limits);
    // What is there may change, and one that goes makes room for another.
    sim.put(&trunk("t00000", &["other@h0"]));
    sim.remove("t00001");
    sim.run(3 * MINUTE);
    assert_eq!((sim.counts().registered, sim.last_sync.surplus), (7, 2));
    room.most.store(100, Relaxed);
    sim.run(3 * MINUTE);
    assert_eq!((sim.counts().registered, sim.engine.summary(sim.now()).left_out), (9, 0));
}

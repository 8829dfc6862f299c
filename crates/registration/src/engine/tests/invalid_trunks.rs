//! Trunks that are malformed when the process starts: what the store kept of them waits for their next good
//! version.

use super::{
    sim::{HOUR, MINUTE, SECOND_MS, Sim},
    world::trunk,
};
use crate::{registration::state::TrunkState, trunk::TrunkProblem};

fn malformed() -> TrunkProblem {
    TrunkProblem::Malformed { message: "uris[0].port: 70000".into() }
}

fn name(number: usize) -> String {
    format!("t{number:05}")
}

/// So many trunks, registered.
fn registered(count: usize) -> Sim {
    let trunks: Vec<_> = (0..count).map(|n| trunk(&name(n), &[&format!("u{n}@h0")])).collect();
    let mut sim = Sim::with(&trunks);
    sim.run(2 * MINUTE);
    assert_eq!((sim.counts().registered, sim.store.len()), (count as u64, count));
    sim
}

/// The first of them are malformed when the process starts again, and its clock was set back.
fn restarted(count: usize, spoilt: usize) -> Sim {
    let mut sim = registered(count);
    (0..spoilt).for_each(|n| sim.list(&name(n), Err(malformed())));
    sim.skew = -i64::try_from(HOUR).unwrap();
    sim.restart(5 * SECOND_MS, 0);
    sim.sync();
    sim.forget_log();
    sim
}

fn repair(sim: &mut Sim, number: usize) {
    sim.put(&trunk(&name(number), &[&format!("u{number}@h0")]));
}

#[test]
fn it_goes_on_from_its_record_when_it_is_good_again() {
    let mut sim = restarted(2, 1);
    let kept = sim.store[&*name(0)].clone();
    sim.run(90 * SECOND_MS);
    assert_eq!((sim.state(&name(0)), sim.last_sync.held), (TrunkState::Invalid, 0));
    assert_eq!(sim.store.get(&*name(0)), Some(&kept));
    repair(&mut sim, 0);
    sim.sync();
    sim.run(SECOND_MS);
    assert_eq!((sim.state(&name(0)), sim.of(&name(0)).len()), (TrunkState::Registered, 0), "sent again");
    assert_eq!(sim.view(&name(0)).cseq, kept.cseq);
    assert_eq!(sim.engine.restored.len(), 0);
    // The checks see to a rising CSeq, though the clock shows less than when it was last used.
    sim.run(12 * MINUTE);
    assert!(sim.bound(&name(0), "u0@h0") && !sim.of(&name(0)).is_empty());
}

#[test]
fn its_record_is_put_right_when_a_wrong_clock_wrote_it() {
    let mut sim = registered(2);
    let before = sim.store[&*name(0)].clone();
    sim.list(&name(0), Err(malformed()));
    sim.skew = -i64::try_from(HOUR).unwrap();
    sim.restart(5 * SECOND_MS, 0);
    sim.sync();
    let kept = sim.store[&*name(0)].clone();
    assert_eq!(kept.cseq, before.cseq);
    let ahead = kept.expires_at_ms.saturating_sub(sim.now().unix_ms);
    assert!((1..=600 * SECOND_MS).contains(&ahead), "{ahead} ms");
    // Else all others would look overdue beside it.
    sim.restart(5 * SECOND_MS, 0);
    sim.forget_log();
    sim.run(SECOND_MS);
    repair(&mut sim, 0);
    sim.sync();
    assert_eq!((sim.counts().registered, sim.log.len()), (2, 0));
}

#[test]
fn its_record_outlives_other_faults_failed_syncs_and_the_loss_of_the_store() {
    let mut sim = restarted(2, 1);
    let kept = sim.store[&*name(0)].clone();
    sim.list(&name(0), Err(TrunkProblem::Malformed { message: "uris: none".into() }));
    sim.sync();
    assert_eq!(sim.store.get(&*name(0)), Some(&kept));
    sim.api_up = false;
    sim.sync();
    sim.api_up = true;
    sim.sync();
    sim.store.clear();
    sim.engine.handle_store_loss();
    sim.pump();
    assert_eq!((sim.store.len(), sim.store[&*name(0)].cseq), (2, kept.cseq));
    sim.restart(5 * SECOND_MS, 0);
    sim.sync();
    repair(&mut sim, 0);
    sim.sync();
    assert_eq!((sim.state(&name(0)), sim.log.len()), (TrunkState::Registered, 0));
}

#[test]
fn when_it_is_gone_its_record_is_forgotten_and_its_numbers_are_not() {
    for problem in [None, Some(TrunkProblem::AllDisabled)] {
        let mut sim = restarted(2, 1);
        match problem {
            None => sim.remove(&name(0)),
            Some(problem) => sim.list(&name(0), Err(problem)),
        }
        let report = sim.sync();
        assert_eq!((report.held, sim.store.len(), sim.engine.restored.len()), (0, 1, 0));
        repair(&mut sim, 0);
        sim.sync();
        // The checks see to a rising CSeq.
        sim.run(SECOND_MS);
        assert_eq!((sim.state(&name(0)), sim.of(&name(0)).len()), (TrunkState::Registered, 1));
    }
}

#[test]
fn one_with_all_uris_disabled_at_the_start_is_neither_lost_nor_kept() {
    let mut sim = registered(40);
    (0..25).for_each(|n| sim.list(&name(n), Err(TrunkProblem::AllDisabled)));
    sim.skew = -i64::try_from(HOUR).unwrap();
    sim.restart(5 * SECOND_MS, 0);
    let report = sim.sync();
    assert_eq!((report.held, report.removed, sim.store.len()), (0, 0, 15));
    (0..25).for_each(|n| repair(&mut sim, n));
    sim.run(2 * MINUTE);
    assert_eq!(sim.counts().registered, 40);
}

#[test]
fn it_does_not_count_as_lost() {
    let mut sim = restarted(40, 25);
    assert_eq!((sim.last_sync.held, sim.last_sync.removed, sim.store.len()), (0, 0, 40));
    assert_eq!(sim.engine.restored.len(), 25);
    (0..11).for_each(|n| sim.remove(&name(n)));
    let report = sim.sync();
    assert_eq!((report.held, report.removed, sim.store.len()), (0, 11, 29), "11 of 40 are not half");
}

#[test]
fn when_most_of_them_seem_to_be_gone_their_records_wait_for_a_second_sync() {
    let mut sim = restarted(40, 25);
    (0..25).for_each(|n| sim.remove(&name(n)));
    let report = sim.sync();
    assert_eq!((report.held, report.removed, sim.store.len()), (25, 0, 40));
    // Some come back.
    (0..5).for_each(|n| repair(&mut sim, n));
    let report = sim.sync();
    assert_eq!((report.held, report.removed, sim.store.len()), (0, 20, 20));
    sim.run(SECOND_MS);
    assert_eq!((sim.counts().registered, sim.log.len()), (20, 0));
    let mut sim = restarted(40, 25);
    (0..25).for_each(|n| sim.remove(&name(n)));
    let reports = [sim.sync(), sim.sync()].map(|report| (report.held, report.removed));
    assert_eq!((reports, sim.store.len()), ([(25, 0), (0, 25)], 15));
}

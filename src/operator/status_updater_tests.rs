//! The status updater on paused time, with a writer that keeps what it is given.

use std::sync::Mutex;

use futures_util::future::BoxFuture;

use kube::core::Status;

use super::*;
use crate::{
    admin::Directory, operator::status::StatusEvent, registry::RegistryName, runtime::handle::Command,
};
use routr_registration::engine::view::{FailureSummary, Summary};

/// Record of the writes, and the result of the next ones.
struct Desk {
    name: RegistryName,
    written: Mutex<Vec<(Instant, RegistryStatus)>>,
    attempts: Mutex<Vec<Instant>>,
    recorded: Mutex<Vec<&'static str>>,
    refuse: Mutex<Option<fn() -> WriteError>>,
}

impl Desk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            name: RegistryName::of("ns", "main"),
            written: Mutex::default(),
            attempts: Mutex::default(),
            recorded: Mutex::default(),
            refuse: Mutex::default(),
        })
    }

    fn writes(&self) -> usize {
        self.written.lock().unwrap().len()
    }

    fn last(&self) -> RegistryStatus {
        self.written.lock().unwrap().last().unwrap().1.clone()
    }
}

impl StatusWriter for Desk {
    fn name(&self) -> &RegistryName {
        &self.name
    }

    fn write<'a>(&'a self, status: &'a RegistryStatus) -> BoxFuture<'a, Result<StatusForm, WriteError>> {
        Box::pin(async move {
            self.attempts.lock().unwrap().push(Instant::now());
            if let Some(error) = *self.refuse.lock().unwrap() {
                return Err(error());
            }
            self.written.lock().unwrap().push((Instant::now(), status.clone()));
            Ok(StatusForm::Whole)
        })
    }

    fn record_event(&self, event: StatusEvent) -> BoxFuture<'_, ()> {
        self.recorded.lock().unwrap().push(event.reason);
        Box::pin(std::future::ready(()))
    }
}

/// A status updater at work, and the reports of its engine.
struct Harness {
    desk: Arc<Desk>,
    summary: Arc<Mutex<Summary>>,
    assign: watch::Sender<StatusTarget>,
}

fn well(registered: u64) -> Summary {
    let mut summary = Summary { last_sync_ms: Some(1_800_000_000_000), ..Summary::default() };
    summary.counts.registered = registered;
    (summary.api.ok, summary.requester.ok, summary.cache.ok) = (Some(true), Some(true), Some(true));
    summary
}

fn harness(summary: Summary, before: Option<RegistryStatus>) -> Harness {
    let (desk, summary) = (Desk::new(), Arc::new(Mutex::new(summary)));
    let (handle, mut commands) = EngineHandle::new();
    let said = summary.clone();
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            match *command {
                Command::Summary(respond_to) => drop(respond_to.send(said.lock().unwrap().clone())),
                Command::FailureSummary { respond_to, .. } => {
                    drop(respond_to.send(FailureSummary::default()))
                }
                other => panic!("a reporter only looks: {other:?}"),
            }
        }
    });
    let edge_port_advice = Some("set spec.edgePorts[0].publicAddress".into());
    let work = Work::Run { handle, durable: false, suspended: false, edge_port_advice };
    let (assign, assigned) = watch::channel(StatusTarget { generation: 1, stall: None, work });
    let reporter = StatusUpdater::new(desk.clone(), before, Metrics::new(0));
    tokio::spawn(reporter.run(assigned));
    Harness { desk, summary, assign }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_status_is_written_at_once_and_then_only_what_changes() {
    let harness = harness(well(3), None);
    pass(1).await;
    assert_eq!(harness.desk.writes(), 1);
    assert_eq!(harness.desk.last().trunks.unwrap().registered, 3);
    assert_eq!(harness.desk.last().observed_generation, Some(1));
    let ready = harness.desk.last().conditions.into_iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!(ready.message, "all 3 trunks are registered; set spec.edgePorts[0].publicAddress");
    pass(50).await;
    assert_eq!(harness.desk.writes(), 1, "nothing changed");
    pass(20).await;
    assert_eq!(harness.desk.writes(), 2, "that it is still so");
    pass(20).await;
    harness.summary.lock().unwrap().counts.registered = 4;
    pass(2).await;
    assert_eq!(harness.desk.writes(), 3);
    assert_eq!(harness.desk.last().trunks.unwrap().registered, 4);
}

#[tokio::test(start_paused = true)]
async fn what_changes_each_second_is_written_every_few_seconds_and_the_last_change_is_not_lost() {
    let harness = harness(well(0), None);
    for n in 1..=30 {
        harness.summary.lock().unwrap().counts.registered = n;
        pass(1).await;
    }
    let writes = harness.desk.writes();
    assert!((8..=12).contains(&writes), "{writes} writes in 30 s");
    pass(5).await;
    assert_eq!(harness.desk.last().trunks.unwrap().registered, 30);
    let written = harness.desk.written.lock().unwrap();
    for three in written.windows(3) {
        assert!(three[2].0.duration_since(three[0].0) >= WRITE_PERIOD + POLL_PERIOD);
    }
}

#[tokio::test(start_paused = true)]
async fn times_that_move_on_by_themselves_are_written_once_a_minute() {
    let harness = harness(well(3), None);
    for n in 0..300 {
        {
            let mut summary = harness.summary.lock().unwrap();
            summary.last_sync_ms = Some(1_800_000_000_000 + n * 1_000);
            summary.next_expiry_ms = Some(1_800_000_500_000 + n * 1_000);
        }
        pass(1).await;
    }
    let writes = harness.desk.writes();
    assert!((5..=6).contains(&writes), "{writes} writes in 300 s");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_at_growing_pauses_with_what_is_true_by_then() {
    let harness = harness(well(1), None);
    *harness.desk.refuse.lock().unwrap() = Some(|| {
        let refusal = Status::failure("no", "Invalid").with_code(422);
        WriteError::Kubernetes(ApiError::of_status(&refusal))
    });
    pass(120).await;
    assert_eq!(harness.desk.writes(), 0);
    let attempts = harness.desk.attempts.lock().unwrap().len();
    assert!((6..=10).contains(&attempts), "{attempts} attempts in 120 s");
    harness.summary.lock().unwrap().counts.registered = 2;
    *harness.desk.refuse.lock().unwrap() = None;
    pass(32).await;
    assert_eq!(harness.desk.last().trunks.unwrap().registered, 2);
}

#[tokio::test(start_paused = true)]
async fn k1_an_api_server_that_works_again_is_noticed_within_seconds() {
    let harness = harness(well(1), None);
    *harness.desk.refuse.lock().unwrap() =
        Some(|| WriteError::Noted(ApiError::timeout(Duration::from_secs(10))));
    pass(600).await;
    assert_eq!(harness.desk.writes(), 0);
    *harness.desk.refuse.lock().unwrap() = None;
    pass(8).await;
    assert_eq!(harness.desk.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn k4_a_status_says_each_minute_that_it_is_still_so_and_each_five_of_very_many() {
    let one = harness(well(1), None);
    pass(3_600).await;
    let writes = one.desk.writes();
    assert!((55..=61).contains(&writes), "{writes} writes in an hour");
    assert!(one.desk.written.lock().unwrap().iter().all(|(_, status)| status.observed_time.is_some()));
    let directory = Directory::default();
    let listed: Vec<Listed> =
        (0..5_000).map(|n| directory.list(&RegistryName::of("ns", format!("r{n}")), "1")).collect();
    let reporter = StatusUpdater::new(Desk::new(), None, Metrics::new(0));
    assert_eq!(reporter.cosmetic_write_period(), COSMETIC_WRITE_PERIOD);
    let reporter = reporter.listed(directory.list(&RegistryName::of("ns", "main"), "1"));
    assert_eq!(reporter.cosmetic_write_period(), MAX_COSMETIC_WRITE_PERIOD);
    drop(listed);
    assert_eq!(reporter.cosmetic_write_period(), COSMETIC_WRITE_PERIOD);
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_of_an_engine_that_has_not_looked_yet_writes_nothing() {
    let recorded = harness(well(3), None);
    pass(1).await;
    let before = recorded.desk.last();
    let next = harness(Summary::default(), Some(before.clone()));
    pass(5).await;
    assert_eq!(next.desk.writes(), 0, "nothing is known yet");
    *next.summary.lock().unwrap() = well(3);
    pass(30).await;
    assert_eq!(next.desk.writes(), 0, "it is as it was: {:?}", next.desk.written.lock().unwrap());
    assert!(next.desk.recorded.lock().unwrap().is_empty(), "and no event tells it again");
    next.summary.lock().unwrap().counts.failing = 1;
    pass(5).await;
    assert_eq!(next.desk.writes(), 1);
    let ready =
        |status: &RegistryStatus| status.conditions.iter().find(|c| c.type_ == "Ready").unwrap().clone();
    assert_eq!(ready(&before).status, "True");
    assert_eq!(ready(&next.desk.last()).status, "False");
}

#[tokio::test(start_paused = true)]
async fn a_stall_without_an_engine_is_told_with_its_generation() {
    let harness = harness(well(3), None);
    pass(1).await;
    let stall = Stall {
        reason: status::reasons::ConditionReason::InvalidSpec,
        message: "spec.apiAddr: wrong".to_owned(),
    };
    harness.assign.send_replace(StatusTarget { generation: 2, stall: Some(stall), work: Work::Undecided });
    pass(5).await;
    let status = harness.desk.last();
    assert_eq!(status.observed_generation, Some(2));
    let stalled = status.conditions.iter().find(|condition| condition.type_ == "Stalled").unwrap();
    assert_eq!((&*stalled.status, &*stalled.reason), ("True", "InvalidSpec"));
    assert!(stalled.message.contains("spec.apiAddr: wrong"), "{}", stalled.message);
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_gone_is_not_written_to_in_a_loop() {
    let harness = harness(well(1), None);
    *harness.desk.refuse.lock().unwrap() = Some(|| WriteError::Gone);
    pass(300).await;
    let attempts = harness.desk.attempts.lock().unwrap().len();
    assert!(attempts <= 11, "{attempts} attempts in 300 s");
}

//! Leases as others may have written them, one on each line, through the election of one replica. `-` is a
//! response that never came, `x` a Lease that is gone, a number a pause in milliseconds.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use routr_leader_election::{
    api,
    election::{ElectionAction, ElectionState, LeaseTimes, Observed, WriteFailure},
};
use tokio::time::Instant;

use super::support::text;

/// More lines than this show nothing new.
const MAX_STEPS: usize = 64;

pub fn run(data: &[u8]) {
    let text = text(data);
    let times = LeaseTimes::of(Duration::from_secs(10));
    let mut now = Instant::now();
    let mut election = ElectionState::new("me".to_owned(), times, now);
    let (mut wall, mut renewed, mut last) = (1_790_000_000_000_000_i64, i64::MIN, None);
    for line in text.lines().take(MAX_STEPS) {
        if let Ok(ms) = line.parse::<u16>() {
            now += Duration::from_millis(ms.into());
            wall = wall.saturating_add(i64::from(ms) * 1_000);
        }
        let read = serde_json::from_str::<Lease>(line).ok();
        let observed = read.map(|lease| {
            let record = api::record(&lease);
            for time in [record.acquired, record.renewed].into_iter().flatten() {
                let written = api::time(time).expect("a time that was read can be written");
                assert_eq!(written.0.as_microsecond(), time);
            }
            let version = lease.metadata.resource_version.filter(|version| !version.is_empty());
            Observed { record, version: version.unwrap_or_else(|| "1".to_owned()) }
        });
        last = observed.clone().or(last);
        match election.next(now) {
            ElectionAction::Wait(until) => assert!(until > now),
            ElectionAction::Read => match line {
                "-" => election.unread(now),
                "x" => election.read(None, now),
                _ => election.read(last.clone(), now),
            },
            ElectionAction::Write { over } => {
                let record = election.acquire_or_renew(wall);
                assert_eq!(record.holder, "me");
                assert!(record.transitions >= 0 || last.is_some(), "{record:?}");
                assert!(
                    record.renewed.is_some_and(|time| time > renewed),
                    "the others tell a renewal by its time"
                );
                renewed = record.renewed.unwrap();
                let version = format!("{}+", over.unwrap_or_default());
                match line {
                    "-" => election.unwritten(WriteFailure::Unknown, now),
                    "x" => election.unwritten(WriteFailure::Missing, now),
                    line if line.starts_with('{') => election.unwritten(WriteFailure::Conflict, now),
                    _ => election.wrote(Observed { record, version }, now, now),
                }
            }
            ElectionAction::Lose(_) => election.stand(now),
        }
        assert!(election.leads_until().is_none_or(|until| until <= now + times.renew_deadline));
        if let ElectionAction::Wait(until) = election.next(now) {
            assert!(until <= now + times.lease_duration, "no replica looks away for longer than a term");
        }
    }
}

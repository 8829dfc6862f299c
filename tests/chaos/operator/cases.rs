//! The scenarios of the operator, with the times within which things have to be said and to be well again.
//!
//! The times that they go by: the Lease lasts 5 s, so a leader stops 3.5 s after the last renewal that it
//! sent, each of which may take 0.75 s; another replica leads at most 5 s, a look (0.5 s) and two requests
//! after it saw that renewal. A follower says that it could not take over when the Lease was useless for 3 s.
//! Trunks are read every 8 s with a timeout of 2 s; 24 s are asked for, so that a trunk is refreshed after
//! 13.6 to 16 s, 8 s before its binding expires.

use std::time::Duration;

use super::fake::Kind;
use super::fault::Fault::{AskForRefreshes, Fake, Kill, Net, Stop};
use super::fault::{Fault, Part};
use super::{Says, Scenario, Step};
use crate::link::Mode;

/// A leader that loses the API server of Kubernetes, and a follower too.
const BLIND: Says = Says::Blind(ms(6_500));
/// From then on nothing is sent: the end of a term, and what its work may take.
const SILENT: Says = Says::Silent(ms(5_500));
/// A dead leader, or one that is stopped.
const TAKEN_OVER: Says = Says::TakenOver(ms(7_500));

/// Redis is asked at once by a new leader.
const CACHE_OF_A_NEW_LEADER: Says = Says::Down("cache", ms(9_000));
/// And is looked at every 10 s where nothing is written.
const CACHE: Says = Says::Down("cache", ms(12_000));
/// Trunks are read every 8 s.
const API: Says = Says::Down("api", ms(12_000));
/// Three REGISTERs in a row have to run into their deadline of 6 s.
const SILENT_REQUESTER: Says = Says::Down("requester", ms(9_000));

/// All of them.
pub fn all() -> Vec<Scenario> {
    use Part::{Api, Etcd, Kubernetes, Leader, Redis, Requester};
    let away = |fault: Fault| step(vec![fault], 7, &[BLIND, SILENT]);
    // Shorter than a term can do without a renewal.
    let shortly = |fault: Fault| step(vec![fault], 2, &[Says::Leads]);
    vec![
        scenario("operator: kill the leader", vec![step(vec![Kill(Leader)], 9, &[TAKEN_OVER])])
            .kept()
            .quick(),
        scenario(
            "operator: stop the leader",
            vec![shortly(Stop(Leader)), step(vec![Stop(Leader)], 9, &[TAKEN_OVER])],
        )
        .kept(),
        scenario("operator: kill the api server of kubernetes", vec![away(Kill(Kubernetes))]).quick(),
        scenario(
            "operator: stop the api server of kubernetes",
            vec![shortly(Stop(Kubernetes)), away(Stop(Kubernetes))],
        ),
        scenario("operator: kill and stop etcd", vec![away(Kill(Etcd)), away(Stop(Etcd))]),
        scenario(
            "operator: wire to kubernetes",
            vec![
                away(Net(Mode::Cut)),
                // A renewal may take 0.75 s.
                step(vec![Net(Mode::Delay(ms(100)))], 4, &[Says::Leads]),
                away(Net(Mode::Delay(ms(1_000)))),
                step(vec![Net(Mode::CutAfter(20_000))], 3, &[]),
            ],
        ),
        scenario(
            "operator: garbage from kubernetes",
            vec![away(Fake(Kind::Garbage)), away(Fake(Kind::Endless))],
        )
        .peak(128),
        // A leader without what its predecessor knew cannot tell which binding is the next to expire, and
        // when it may send, some have but a second or two left of their 24 s.
        scenario(
            "operator: kill the leader and redis",
            vec![step(vec![Kill(Leader), Kill(Redis)], 16, &[TAKEN_OVER, CACHE_OF_A_NEW_LEADER])],
        ),
        scenario(
            "operator: kill the leader and the api server of kubernetes",
            vec![step(vec![Kill(Leader), Kill(Kubernetes)], 7, &[BLIND, Says::Silent(ms(0))])],
        ),
        scenario(
            "operator: kill the requester and the api server of kubernetes",
            vec![with(away(Kill(Kubernetes)), Kill(Requester))],
        )
        .quick(),
        scenario(
            "operator: stop the requester, kill redis and the api",
            vec![step(
                vec![Stop(Requester), AskForRefreshes, Kill(Redis), Kill(Api)],
                19,
                &[SILENT_REQUESTER, CACHE, API],
            )],
        ),
    ]
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn step(faults: Vec<Fault>, lasts: u64, says: &[Says]) -> Step {
    Step { faults, lasts: Duration::from_secs(lasts), says: says.to_vec() }
}

fn scenario(name: &str, steps: Vec<Step>) -> Scenario {
    Scenario::new(name, steps, Duration::from_secs(75))
}

fn with(mut step: Step, fault: Fault) -> Step {
    step.faults.push(fault);
    step
}

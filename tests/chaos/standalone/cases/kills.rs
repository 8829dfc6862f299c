//! SIGKILL and SIGSTOP: each in turn, in pairs, and the registry itself.

use super::{API, CACHE, REQUESTER, SILENT_CACHE, scenario, secs, step};
use crate::standalone::fault::Fault::{Kill, Stop};
use crate::standalone::fault::Part;
use crate::standalone::{Says, Scenario};

/// A registrar that is gone is noticed by the next refresh over TCP, which may be a whole wave away.
const GONE: Says = Says::Trouble(secs(20));

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    // What a dead one costs: trunks notice that Kamailio lost their bindings only when they refresh them.
    let again = |parts: &[Part]| if parts.contains(&Part::Kamailio) { 120 } else { 45 };
    for part in Part::DEPENDENCIES {
        let says = dead(part);
        let one = scenario(
            format!("kill {}", part.name()),
            vec![step(vec![Kill(part)], long_enough(&[says]), &[says])],
            again(&[part]),
        );
        all.push(if harmless(part) { one.kept().quick() } else { one.quick() });
    }
    for (first, second) in pairs() {
        let name = format!("kill {} and {}", first.name(), second.name());
        let says: Vec<Says> = dead_together(first, second);
        let steps = vec![step(vec![Kill(first), Kill(second)], long_enough(&says), &says)];
        all.push(scenario(name, steps, again(&[first, second])));
    }
    for part in Part::DEPENDENCIES {
        let name = format!("stop {} shortly", part.name());
        let one = scenario(name, vec![step(vec![Stop(part)], 3, &[])], 60);
        all.push(if harmless(part) { one.kept() } else { one });
    }
    all.push(scenario("stop redis", vec![step(vec![Stop(Part::Redis)], 22, &[SILENT_CACHE])], 45).kept());
    all.push(scenario("stop api", vec![step(vec![Stop(Part::Api)], 10, &[API])], 20).kept());
    // Three calls in a row have to run into their deadline of 40 s.
    let silent = Says::Down("requester", secs(60));
    all.push(scenario("stop requester", vec![step(vec![Stop(Part::Requester)], 63, &[silent])], 90));
    // The Requester gives up after 32 s (RFC 3261, timer F).
    let silent = Says::Trouble(secs(52));
    all.push(scenario("stop kamailio", vec![step(vec![Stop(Part::Kamailio)], 53, &[silent])], 150));
    for (first, second) in pairs() {
        let name = format!("stop {} and {}", first.name(), second.name());
        let says: &[Says] = if [first, second].contains(&Part::Api) { &[API] } else { &[] };
        all.push(scenario(name, vec![step(vec![Stop(first), Stop(second)], 8, says)], 60));
    }
    let registry = Part::Registry;
    all.push(scenario("kill registry", vec![step(vec![Kill(registry)], 3, &[])], 45).quick());
    for part in Part::DEPENDENCIES {
        let name = format!("kill registry and {}", part.name());
        // The registry is back first, so that it starts without the other, for as long as that takes to
        // start.
        let steps = vec![step(vec![Kill(part), Kill(registry)], 4, &[])];
        all.push(scenario(name, steps, again(&[part])));
    }
    let steps = vec![step(vec![Stop(registry)], 6, &[]), step(vec![Stop(registry)], 30, &[])];
    all.push(scenario("stop registry", steps, 60));
    all
}

fn pairs() -> Vec<(Part, Part)> {
    let parts = Part::DEPENDENCIES;
    (0..parts.len()).flat_map(|a| (a + 1..parts.len()).map(move |b| (parts[a], parts[b]))).collect()
}

/// Returns whether registrations continue without it.
fn harmless(part: Part) -> bool {
    matches!(part, Part::Redis | Part::Api)
}

/// Seconds after which all of this has to be said, and two more.
fn long_enough(says: &[Says]) -> u64 {
    let within = says.iter().map(|says| match says {
        Says::Down(_, within) | Says::Trouble(within) => within.as_secs(),
    });
    within.max().unwrap_or(6) + 2
}

fn dead(part: Part) -> Says {
    match part {
        Part::Api => API,
        Part::Redis => CACHE,
        Part::Requester => REQUESTER,
        Part::Kamailio | Part::Registry => GONE,
    }
}

/// Without a Requester no one hears of a dead registrar, and nothing is written to a dead Redis but at its
/// next check.
fn dead_together(first: Part, second: Part) -> Vec<Says> {
    let parts = [first, second];
    let without_requester = parts.contains(&Part::Requester);
    let heard = |part: &Part| !without_requester || matches!(part, Part::Requester | Part::Api);
    parts.into_iter().filter(heard).map(dead).collect()
}

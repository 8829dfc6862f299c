//! The words of the table.

use super::outages;
use routr_registration::{
    engine::view::{Counts, Health, Redirection, Summary, TrunkView},
    registration::state::TrunkState,
};
pub use routr_types::text::{duration, one_line as clean, plural};

/// Stands where there is nothing to say.
pub(super) const NOTHING: &str = "-";
/// First word of the next step where nothing can be sent now.
const WAITING: &str = "waiting";

/// The lines under a table: trunks by state and the next expiry, then what is wrong around them.
/// `room` is how many characters the name of what is down may take.
pub(super) fn summary(summary: &Summary, now_ms: u64, room: usize) -> Vec<String> {
    let mut lines = vec![totals(summary, now_ms)];
    lines.extend(around(summary, now_ms, room));
    lines
}

/// Returns what is wrong around the trunks.
pub(super) fn around(summary: &Summary, now_ms: u64, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let dependencies = [
        ("API server", &summary.api, "the trunks of the last sync are kept"),
        ("Requester", &summary.requester, "nothing can be registered"),
        ("cache", &summary.cache, "running from memory"),
    ];
    for (name, health, effect) in dependencies {
        if health.ok == Some(false) {
            lines.push(format!("{name}: {}; {effect}", trouble_with(health, now_ms)));
        }
    }
    lines.extend(outages::lines(summary, now_ms, room));
    if summary.waiting > 0 {
        let down = summary.registrars_down + summary.edge_ports_down > 0;
        lines.push(format!(
            "{} due and waiting for a turn{}; {} of {} requests in flight",
            plural(summary.waiting, "trunk is", "trunks are"),
            if down { ", or for what is down" } else { "" },
            summary.in_flight,
            summary.in_flight_limit
        ));
    }
    if summary.removals_pending_confirmation > 0 {
        lines.push(format!(
            "{} missing from the list; kept until a second sync confirms it",
            plural(summary.removals_pending_confirmation, "trunk is", "trunks are"),
        ));
    }
    if !summary.over_budget.is_empty() {
        let registrars: Vec<String> = summary.over_budget.iter().map(|host| clean(host)).collect();
        lines.push(format!(
            "ratePerRegistrar is too low for the trunks at {}: bindings there will expire before their refresh",
            registrars.join(", ")
        ));
    }
    lines
}

/// Returns what is wrong with the Requester, and what follows.
pub(super) fn requester(summary: &Summary, now_ms: u64) -> String {
    format!("Requester: {}; nothing can be registered", trouble_with(&summary.requester, now_ms))
}

fn totals(summary: &Summary, now: u64) -> String {
    match (states(&summary.counts), summary.last_sync_ms) {
        (Some(states), _) => {
            let over = match summary.failed_over {
                0 => String::new(),
                failed_over => format!("; {failed_over} failed over"),
            };
            let redirected = match summary.redirected {
                0 => String::new(),
                redirected => format!("; {redirected} redirected"),
            };
            format!("{states}{over}{redirected}{}", expiry(summary.next_expiry_ms, now))
        }
        (None, Some(_)) => "No trunks: the API server lists none with sendRegister: true.".to_owned(),
        (None, None) => "No trunks: the API server has not been read yet.".to_owned(),
    }
}

/// Returns how many trunks there are in all and in each state; `None` where there are none.
pub(super) fn states(counts: &Counts) -> Option<String> {
    let counts: Vec<(TrunkState, u64)> =
        TrunkState::ALL.map(|s| (s, counts.of(s))).into_iter().filter(|(_, n)| *n > 0).collect();
    let total: u64 = counts.iter().map(|(_, n)| n).sum();
    let states: Vec<String> = counts.iter().map(|(s, n)| format!("{n} {}", state(*s))).collect();
    (total > 0).then(|| format!("{}: {}", plural(total, "trunk", "trunks"), states.join(", ")))
}

/// Returns what follows about the next expiry.
pub(super) fn expiry(at: Option<u64>, now: u64) -> String {
    match at {
        Some(at) if at > now => format!("; next expiry in {}", duration(at - now)),
        Some(at) => format!("; a registration expired {} ago", duration(now - at)),
        None => String::new(),
    }
}

fn trouble_with(health: &Health, now: u64) -> String {
    let message = health.message.as_deref().map_or_else(|| "does not work".to_owned(), clean);
    format!("not working for {}: {message}", duration(now.saturating_sub(health.since_ms)))
}

pub(super) fn state(state: TrunkState) -> &'static str {
    match state {
        TrunkState::AtRisk => "at risk",
        other => other.name(),
    }
}

/// Returns what a person calls the trunk: its name, else its ref.
pub fn label(trunk: &TrunkView) -> String {
    let name = clean(&trunk.name);
    if name.trim().is_empty() { clean(&trunk.reference) } else { name }
}

pub(super) fn or_nothing(text: String) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { text }
}

pub(super) fn expires(trunk: &TrunkView, now: u64) -> String {
    match trunk.expires_at_ms {
        Some(at) if at > now => duration(at - now),
        Some(_) => "expired".to_owned(),
        None => NOTHING.to_owned(),
    }
}

/// Returns what happens next and when: `refresh in 4 m 12 s`, `retry now`, `under way`.
pub(super) fn next(trunk: &TrunkView, now: u64) -> String {
    if trunk.in_flight {
        return "under way".to_owned();
    }
    let what = clean(&trunk.next);
    match (trunk.next_at_ms, what.is_empty()) {
        (Some(at), true) if at > now => format!("in {}", duration(at - now)),
        // Due now by the service's clock, which was read a moment later.
        (Some(_), false) if what.starts_with(WAITING) => what,
        (Some(at), false) if at > now => format!("{what} in {}", duration(at - now)),
        (Some(_), true) => "now".to_owned(),
        (Some(_), false) => format!("{what} now"),
        (None, _) => or_nothing(what),
    }
}

/// The same for a column headed NEXT TRY, where `refresh` and `retry` go without saying.
pub(super) fn next_time(trunk: &TrunkView, now: u64) -> String {
    let usual = ["refresh", "retry"].contains(&trunk.next.as_str());
    match trunk.next_at_ms.filter(|_| usual && !trunk.in_flight) {
        Some(at) if at > now => format!("in {}", duration(at - now)),
        Some(_) => "now".to_owned(),
        None => next(trunk, now),
    }
}

/// The same for a column of a terminal: what a trunk waits for is named under the table.
pub(super) fn next_brief(trunk: &TrunkView, now: u64) -> String {
    if waits_for_what_is_down(trunk) { WAITING.to_owned() } else { next_time(trunk, now) }
}

fn waits_for_what_is_down(trunk: &TrunkView) -> bool {
    !trunk.in_flight && trunk.next.starts_with(WAITING) && trunk.next.ends_with("which is down")
}

/// The same where there is room for a dozen characters: the time, else the first word.
pub(super) fn next_word(trunk: &TrunkView, now: u64) -> String {
    match trunk.next_at_ms {
        _ if trunk.in_flight => "under way".to_owned(),
        _ if trunk.next.starts_with(WAITING) => WAITING.to_owned(),
        Some(at) if at > now => format!("in {}", duration(at - now)),
        Some(_) => "now".to_owned(),
        None => {
            or_nothing(clean(&trunk.next).split(' ').next().unwrap_or_default().chars().take(12).collect())
        }
    }
}

/// Returns why it is not simply registered: what, code, since when, in the registrar's words. Empty where all
/// is well.
pub(super) fn reason(trunk: &TrunkView, now: u64) -> String {
    let Some(failure) = &trunk.failure else {
        return String::new();
    };
    let code = failure.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let since = match failure.since_ms {
        0 => String::new(),
        since => format!(" for {}", duration(now.saturating_sub(since))),
    };
    let message = clean(&failure.message);
    let message = if message.is_empty() { message } else { format!(": {message}") };
    format!("{}{code}{since}{message}", clean(&failure.reason))
}

/// The reason, then where the trunk is or is tried if that is not the usual place: `usual` is the EdgePort
/// that needs no mention; without it none is mentioned. Empty where there is nothing to say.
pub(super) fn remark(trunk: &TrunkView, usual: Option<&str>, now: u64) -> String {
    let place = redirection(trunk, now);
    let said = unredirected_remark(trunk, usual, now);
    [Some(said).filter(|said| !said.is_empty()), place].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// [`remark`] without where a redirection led.
pub(super) fn unredirected_remark(trunk: &TrunkView, usual: Option<&str>, now: u64) -> String {
    and_place(reason(trunk, now), trunk, usual)
}

/// Returns where a redirection led: `redirected to b.example.com:5060/UDP for 59 m`.
pub(super) fn redirection(trunk: &TrunkView, now: u64) -> Option<String> {
    let Redirection { to, until_ms, .. } = trunk.redirected.as_ref()?;
    Some(format!("redirected to {} for {}", clean(to), duration(until_ms.saturating_sub(now))))
}

/// The same where there is room for a few words: the message alone, for it begins with the cause.
pub(super) fn brief_remark(trunk: &TrunkView, usual: Option<&str>) -> String {
    let failure = trunk.failure.as_ref();
    let said =
        failure.map(|failure| if failure.message.is_empty() { &failure.reason } else { &failure.message });
    let said = and_place(said.map_or_else(String::new, |said| clean(said)), trunk, usual);
    let place =
        trunk.redirected.as_ref().map(|redirection| format!("redirected to {}", clean(&redirection.to)));
    [Some(said).filter(|said| !said.is_empty()), place].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn and_place(reason: String, trunk: &TrunkView, usual: Option<&str>) -> String {
    let edge_port = usual.filter(|usual| !trunk.edge_port.is_empty() && trunk.edge_port != **usual);
    let place = match (trunk.failed_over, edge_port) {
        (true, Some(_)) => format!("failed over, through EdgePort {}", clean(&trunk.edge_port)),
        (true, None) => "failed over".to_owned(),
        (false, Some(_)) => format!("through EdgePort {}", clean(&trunk.edge_port)),
        (false, None) => String::new(),
    };
    // The cause first: the end may be cut.
    match (reason, place) {
        (reason, place) if place.is_empty() => reason,
        (reason, place) if reason.is_empty() => place,
        (reason, place) => format!("{reason}; {place}"),
    }
}

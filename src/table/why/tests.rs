use jiff::tz::TimeZone;

use super::*;
use crate::admin::fake::{NOW, failing, trunk};
use routr_registration::engine::view::{Down, Health};

/// [`NOW`] is 2027-01-15 09:00:00 there, 08:00:00 UTC.
fn berlin() -> Clock {
    Clock::in_zone(TimeZone::get("Europe/Berlin").unwrap())
}

fn detail(trunk: TrunkView, history: Vec<HistoryEntry>) -> TrunkDetail {
    TrunkDetail { trunk, now_ms: NOW, suspended: false, stands_by: false, history, history_omitted: 0 }
}

fn once(ago_s: u64, event: HistoryEvent) -> HistoryEntry {
    let at = NOW - ago_s * 1_000;
    HistoryEntry { first_ms: at, last_ms: at, times: 1, event }
}

fn state(from: TrunkState, to: TrunkState) -> HistoryEvent {
    HistoryEvent::State { from, to, failed_over: false }
}

fn refused() -> HistoryAttempt {
    HistoryAttempt {
        registrar: "sip.example:5060/UDP".into(),
        edge_port: "edge.example:5060".into(),
        failed_over: false,
        probe: false,
        reason: Some("CredentialsRejected".into()),
        code: Some(403),
        message: "the registrar responded with 403 Forbidden; check username and password".into(),
        next_at_ms: Some(NOW + 42_000),
    }
}

/// Refused for three minutes, three times.
fn locked() -> TrunkDetail {
    let entry = HistoryEntry {
        first_ms: NOW - 180_000,
        last_ms: NOW - 60_000,
        times: 3,
        event: HistoryEvent::Attempt(refused()),
    };
    detail(failing("t-2", "South"), vec![once(180, state(TrunkState::Pending, TrunkState::Failing)), entry])
}

fn text(detail: &TrunkDetail, summary: &Summary, clock: &Clock, width: Option<u16>) -> String {
    why(detail, summary, clock, width, false).join("\n")
}

#[test]
fn the_first_lines_say_what_is_wrong_since_when_why_and_what_happens_next() {
    assert_eq!(
        text(&locked(), &Summary::default(), &berlin(), None),
        "South (t-2) is failing: not registered, for 3 m, since 08:57:00 (07:57:00 UTC)\n\
         Why    CredentialsRejected (403) for 3 m: the registrar responded with 403 Forbidden (3 rounds in a row failed)\n\
         Do     correct the trunk's Credentials; a change is tried immediately\n\
         Where  the next attempt goes to sip.example:5060/UDP through EdgePort edge.example:5060 (its preferred target)\n\
         Next   retry in 42 s, at 09:00:42 (08:00:42 UTC)\n\
         \n\
         TIME (CET)  UTC       WHAT             TARGET                EDGEPORT           OUTCOME\n\
         08:57:00    07:57:00  state            -                     -                  pending -> failing\n\
         08:59:00    07:59:00  tried preferred  sip.example:5060/UDP  edge.example:5060  CredentialsRejected (403): the \
         registrar responded with 403 Forbidden; check username and password; next due at 09:00:42; 3 times since 08:57:00"
    );
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_is_lost() {
    for width in [60, 80, 100, 120, 160, 200] {
        let lines = why(&locked(), &Summary::default(), &berlin(), Some(width), false);
        for line in &lines {
            assert!(line.chars().count() <= usize::from(width), "{width}: {line:?}");
        }
        let words = lines.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["since 08:57:00 (07:57:00 UTC)", "at 09:00:42", "pending -> failing", "tried preferred"]
        {
            assert!(words.contains(part), "{width}: {part} in {words}");
        }
    }
}

#[test]
fn utc_alone_is_one_column_and_another_day_has_its_date() {
    let mut detail = locked();
    let utc = text(&detail, &Summary::default(), &Clock::utc(), None);
    assert!(utc.contains(", for 3 m, since 07:57:00 UTC\n") && utc.contains("TIME (UTC)  WHAT"), "{utc}");
    assert!(!utc.contains("CET"), "{utc}");
    detail.history[0].last_ms = NOW - 86_400_000;
    let dated = text(&detail, &Summary::default(), &berlin(), None);
    assert!(dated.contains(", for 1 d, since 2027-01-14 09:00:00 (08:00:00 UTC)\n"), "{dated}");
    assert!(dated.contains("2027-01-15 08:59:00  2027-01-15 07:59:00  tried preferred"), "{dated}");
    let zulu = Clock::in_zone(TimeZone::UTC);
    assert!(text(&locked(), &Summary::default(), &zulu, None).contains("TIME (UTC)  WHAT"));
}

#[test]
fn suspended_is_shown_as_suspended_and_waiting_as_waiting() {
    let suspended = TrunkDetail { suspended: true, ..locked() };
    let shown = text(&suspended, &Summary::default(), &Clock::utc(), None);
    assert!(shown.lines().next().unwrap().ends_with("; its registry is suspended"), "{shown}");
    assert!(shown.contains("\nNext   nothing is sent while the registry is suspended"), "{shown}");
    assert!(!shown.contains("retry in"), "{shown}");
    let stands_by = TrunkDetail { stands_by: true, ..locked() };
    let shown = text(&stands_by, &Summary::default(), &Clock::utc(), None);
    assert!(shown.contains("\nNext   nothing is sent while another process acts"), "{shown}");

    let mut waiting = locked();
    waiting.trunk.next = "waiting for registrar sip.example:5060, which is down".to_owned();
    waiting.trunk.next_at_ms = Some(NOW);
    waiting
        .history
        .push(once(5, HistoryEvent::Wait { waited_for: "registrar sip.example:5060, which is down".into() }));
    let down = |what: &str, name: &str| Down {
        what: what.to_owned(),
        name: name.to_owned(),
        since_ms: NOW - 120_000,
        message: "no response".to_owned(),
    };
    let summary = Summary {
        down: vec![down("registrar", "sip.example:5060"), down("registrar", "another:5060")],
        ..Summary::default()
    };
    let shown = text(&waiting, &summary, &Clock::utc(), None);
    assert!(shown.contains("\nNext   waiting for registrar sip.example:5060, which is down\n"), "{shown}");
    assert!(shown.contains("\nAlso   registrar sip.example:5060: down for 2 m: no response; one trunk"));
    assert!(!shown.contains("another:5060"), "no business of this trunk");
    assert!(
        shown.contains("waited           -                     -                  for registrar sip"),
        "{shown}"
    );
}

#[test]
fn a_requester_that_does_not_work_is_named() {
    let requester = Health {
        ok: Some(false),
        message: Some("connection refused".to_owned()),
        reason: None,
        since_ms: NOW - 60_000,
    };
    let summary = Summary { requester, ..Summary::default() };
    let shown = text(&locked(), &summary, &Clock::utc(), None);
    let note = "\nAlso   Requester: not working for 1 m: connection refused; nothing can be registered\n";
    assert!(shown.contains(note), "{shown}");
}

#[test]
fn failed_over_is_told_from_the_preferred_target_with_its_reason() {
    let mut over = trunk("t-1", "North");
    (over.failed_over, over.registrar) = (true, "backup.example:5060/UDP".to_owned());
    let backup = HistoryAttempt {
        registrar: "backup.example:5060/UDP".into(),
        failed_over: true,
        reason: None,
        code: None,
        message: "".into(),
        ..refused()
    };
    let history = vec![
        once(600, HistoryEvent::Attempt(refused())),
        once(599, HistoryEvent::Attempt(backup)),
        once(
            599,
            HistoryEvent::State {
                from: TrunkState::Registered,
                to: TrunkState::Registered,
                failed_over: true,
            },
        ),
        once(30, HistoryEvent::Attempt(HistoryAttempt { probe: true, ..refused() })),
    ];
    let shown = text(&detail(over, history), &Summary::default(), &Clock::utc(), None);
    assert!(
        shown.starts_with("North (t-1) is registered, but failed over, for 9 m 59 s, since 07:50:01 UTC\n")
    );
    assert!(
        shown.contains(
            "Why    the preferred target, sip.example:5060/UDP through EdgePort edge.example:5060, failed at \
             07:59:30 UTC: CredentialsRejected (403): "
        ),
        "{shown}"
    );
    for part in
        ["(failed over, not its preferred target)", " failed over ", " tried another ", " probed preferred "]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let narrow =
        text(&detail(trunk("t-1", "North"), Vec::new()), &Summary::default(), &Clock::utc(), Some(80));
    assert!(narrow.starts_with("North (t-1) is registered\nWhere  registered at sip.example"), "{narrow}");
    assert!(!narrow.contains("history") && !narrow.contains("History"), "{narrow}");
}

#[test]
fn a_trunk_in_trouble_without_a_history_says_so_and_foreign_words_are_harmless() {
    let mut odd = failing("t-\u{1b}[2J", "S\u{202e}outh");
    odd.failure.as_mut().unwrap().message = "\u{1b}]0;x\u{7}".to_owned();
    let shown = text(&detail(odd, Vec::new()), &Summary::default(), &Clock::utc(), Some(80));
    assert!(shown.contains("No history: "), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
    let omitted = TrunkDetail { history_omitted: 1, ..locked() };
    let shown = text(&omitted, &Summary::default(), &Clock::utc(), Some(80));
    assert!(shown.contains("\n(1 entry before, no longer kept)\n"), "{shown}");
}

#[test]
fn colours_are_on_the_first_lines_only_where_they_are_welcome() {
    let coloured = why(&locked(), &Summary::default(), &Clock::utc(), Some(80), true);
    assert!(
        coloured[0].starts_with("\u{1b}[1;31mSouth") && coloured[0].ends_with("\u{1b}[0m"),
        "{coloured:?}"
    );
    assert!(!text(&locked(), &Summary::default(), &Clock::utc(), Some(80)).contains('\u{1b}'));
}

//! Registrars and EdgePorts that are down, in the messages of conditions and events.

use super::*;

pub(super) fn registrar(name: &str, message: &str) -> Down {
    Down {
        what: "registrar".to_owned(),
        name: name.to_owned(),
        since_ms: NOW - 7 * MINUTE,
        message: message.to_owned(),
    }
}

pub(super) fn edge_port(name: &str) -> Down {
    Down { what: "edgePort".to_owned(), ..registrar(name, "") }
}

const SILENT: &str = "no response from registrar sip.provider.net through EdgePort edge:5060 within 32 s";

fn failing(down: Vec<Down>) -> Snapshot {
    let refs: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    let refs: Vec<&str> = refs.iter().map(String::as_str).collect();
    let mut now = rejecting(snapshot(counts(0, 0, 0, 0, 0)), &refs, "Timeout");
    now.summary.edge_ports_down = down.iter().filter(|down| down.is_edge_port()).count() as u64;
    now.summary.registrars_down = down.len() as u64 - now.summary.edge_ports_down;
    now.summary.down = down;
    now
}

fn ready(now: Snapshot) -> String {
    message(&status(None, &running(now)), reasons::READY)
}

#[test]
fn a_registrar_that_is_down_is_named_before_the_trunks_that_wait_for_it() {
    let words = ready(failing(vec![registrar("sip.provider.net", SILENT)]));
    let expected = "20 of 20 trunks are not registered; registrar sip.provider.net is down since \
                    2026-09-21T14:06:20Z: no response from registrar sip.provider.net through EdgePort edge:5060 within \
                    32 s; the trunks: t0 (pbx of t0 at sip.provider.net:5060/UDP) since 2026-09-21T14:06:20Z: the registrar";
    assert!(words.starts_with(expected), "{words}");
}

#[test]
fn an_edge_port_that_is_down_comes_first_with_what_to_do() {
    let down = vec![registrar("a.example", SILENT), edge_port("10.0.0.1:5060"), registrar("b.example", "no")];
    let words = ready(failing(down));
    let expected = "20 of 20 trunks are not registered; EdgePort 10.0.0.1:5060 is down since \
                    2026-09-21T14:06:20Z: no registrar responds through it; check that it runs, and its \
                    address in spec.edgePorts; registrar a.example is down since ";
    assert!(words.starts_with(expected), "{words}");
    assert!(words.contains("; 1 more registrar is down; the trunks: t0 ("), "{words}");
}

#[test]
fn outages_beyond_those_that_are_listed_are_counted() {
    let mut now = failing(vec![edge_port("10.0.0.1:5060"), edge_port("10.0.0.2:5060")]);
    now.summary.registrars_down = 480;
    assert!(ready(now).contains("spec.edgePorts; 480 registrars are down; the trunks: "));
}

#[test]
fn it_is_said_whatever_else_is_said_of_the_trunks() {
    let down = |counts| {
        let mut now = snapshot(counts);
        (now.summary.down, now.summary.registrars_down) = (vec![registrar("a.example", "no response")], 1);
        now
    };
    const DOWN: &str = "; registrar a.example is down since 2026-09-21T14:06:20Z: no response";
    for (counts, head) in [
        (counts(20, 0, 0, 0, 0), "all 20 trunks are registered"),
        (counts(18, 2, 0, 0, 0), "2 of 20 trunks are registered, but the last refresh failed"),
        (counts(18, 0, 0, 0, 2), "18 of 20 trunks are registered, 2 wait for the first response"),
        (counts(18, 0, 0, 2, 0), "2 of 20 trunks are not valid"),
    ] {
        assert_eq!(ready(down(counts)), format!("{head}{DOWN}"));
    }
    let deregistering = Phase::Deregistering { snapshot: down(counts(20, 0, 0, 0, 0)), deadline_ms: NOW };
    let words = message(&status(None, &situation(deregistering)), reasons::READY);
    assert!(words.ends_with(DOWN), "{words}");
    // Without a Requester nothing is known of registrars.
    let mut lost = down(counts(20, 0, 0, 0, 0));
    lost.summary.requester = broken(DependencyFailure::Unreachable, "connection refused");
    assert!(!ready(lost).contains("a.example"));
}

#[test]
fn the_event_has_it_too_and_another_moment_is_no_other_message() {
    let fine = status(None, &running(snapshot(counts(20, 0, 0, 0, 0))));
    let down = || running(failing(vec![registrar("sip.provider.net", SILENT)]));
    let after = status(Some(&fine), &down());
    let all = events(Some(&fine), &after);
    assert!(all.len() == 1 && all[0].message.contains("registrar sip.provider.net is down since"), "{all:?}");
    let later = status(Some(&after), &later(down(), 20_000));
    assert_eq!(message(&after, reasons::READY), message(&later, reasons::READY));
}

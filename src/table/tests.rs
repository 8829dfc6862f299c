use super::*;
use crate::admin::fake::{NOW, failing, trunk};
use routr_registration::engine::view::{Counts, Down, Health, TrunkFailure};

fn at_risk() -> TrunkView {
    TrunkView {
        state: TrunkState::AtRisk,
        registrar: "registrar-with-a-long-name.provider.example:5061/TLS".to_owned(),
        expires_at_ms: Some(NOW + 95_000),
        in_flight: true,
        failure: Some(TrunkFailure {
            reason: "Timeout".to_owned(),
            code: Some(408),
            message: "no answer from the registrar: it is silent, or the password is wrong".to_owned(),
            since_ms: NOW - 4_000,
        }),
        ..trunk("t-3", "A trunk with quite a long name, as people write them")
    }
}

fn invalid() -> TrunkView {
    TrunkView {
        state: TrunkState::Invalid,
        registrar: String::new(),
        aor: String::new(),
        edge_port: String::new(),
        expires_at_ms: None,
        next_at_ms: None,
        next: String::new(),
        failure: Some(TrunkFailure {
            reason: "InvalidTrunk".to_owned(),
            code: None,
            message: "uris[0].port: 70000 is not a port; use 1 to 65535".to_owned(),
            since_ms: NOW - 7_200_000,
        }),
        ..trunk("t-4", "")
    }
}

fn trunks() -> Vec<TrunkView> {
    vec![failing("t-2", "South"), invalid(), at_risk(), trunk("t-1", "North")]
}

fn summary() -> Summary {
    Summary {
        counts: Counts { registered: 1, at_risk: 1, failing: 1, invalid: 1, ..Counts::default() },
        last_sync_ms: Some(NOW),
        next_expiry_ms: Some(NOW + 95_000),
        ..Summary::default()
    }
}

#[test]
fn at_80_columns_the_reason_stands_under_its_trunk() {
    let expected = [
        "TRUNK                 REGISTRAR             STATE       EXPIRES IN  NEXT TRY",
        "South                 sip.example:5060/UDP  failing     -           in 42 s",
        "    CredentialsRejected (403) for 3 m: the registrar responded with 403",
        "    Forbidden",
        "t-4                   -                     invalid     -           -",
        "    InvalidTrunk for 2 h: uris[0].port: 70000 is not a port; use 1 to 65535",
        "A trunk with quite …  registrar-with-a-lo…  at risk     1 m 35 s    under way",
        "    A trunk with quite a long name, as people write them at",
        "    registrar-with-a-long-name.provider.example:5061/TLS",
        "    Timeout (408) for 4 s: no answer from the registrar: it is silent, or the",
        "    password is wrong",
        "North                 sip.example:5060/UDP  registered  10 m        in 8 m 5 s",
        "",
        "All through EdgePort edge.example:5060.",
        "4 trunks: 1 registered, 1 at risk, 1 failing, 1 invalid; next expiry in 1 m 35 s",
    ];
    assert_eq!(render(&trunks(), &summary(), NOW, Some(80), false).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn at_140_columns_the_reason_has_its_own_column() {
    let expected = [
        "TRUNK                       REGISTRAR                          STATE       EXPIRES IN  NEXT TRY    REASON",
        "South                       sip.example:5060/UDP               failing     -           in 42 s     CredentialsRejected (403) for 3 m: the",
        "                                                                                                   registrar responded with 403 Forbidden",
        "t-4                         -                                  invalid     -           -           InvalidTrunk for 2 h: uris[0].port:",
        "                                                                                                   70000 is not a port; use 1 to 65535",
        "A trunk with quite a long   registrar-with-a-long-name.provid  at risk     1 m 35 s    under way   Timeout (408) for 4 s: no answer from",
        "name, as people write them  er.example:5061/TLS                                                    the registrar: it is silent, or the",
        "                                                                                                   password is wrong",
        "North                       sip.example:5060/UDP               registered  10 m        in 8 m 5 s",
        "",
        "All through EdgePort edge.example:5060.",
        "4 trunks: 1 registered, 1 at risk, 1 failing, 1 invalid; next expiry in 1 m 35 s",
    ];
    assert_eq!(render(&trunks(), &summary(), NOW, Some(140), false).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let mut trunks = trunks();
    trunks.push(trunk("t-5", "完全に異なる文字で書かれた長いトランク名です、幅は二倍"));
    for width in 60..=200 {
        for line in render(&trunks, &summary(), NOW, Some(width), false).lines() {
            let columns = columns(line);
            assert!(columns <= usize::from(width), "{columns} > {width}: {line}");
        }
    }
}

/// Width of a line on a terminal: East Asian characters take two columns.
fn columns(line: &str) -> usize {
    line.chars().map(|c| if ('\u{3000}'..'\u{A000}').contains(&c) { 2 } else { 1 }).sum()
}

#[test]
fn without_a_width_each_trunk_has_one_whole_line() {
    let text = render(&trunks(), &summary(), NOW, None, false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 4 + 1 + 1, "{text}");
    assert!(lines[3].contains("A trunk with quite a long name, as people write them"), "{text}");
    assert!(lines[3].ends_with("it is silent, or the password is wrong"), "{text}");
}

#[test]
fn colours_come_only_when_asked_for() {
    let plain = render(&trunks(), &summary(), NOW, Some(140), false);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let coloured = render(&trunks(), &summary(), NOW, Some(140), true);
    for (paint, state) in [("9", "failing"), ("9", "invalid"), ("11", "at risk"), ("10", "registered")] {
        assert!(coloured.contains(&format!("\u{1b}[38;5;{paint}m{state}")), "{state}: {coloured:?}");
    }
}

#[test]
fn nothing_from_outside_can_move_the_cursor_or_break_a_line() {
    let evil = "\u{1b}[2J\u{9b}31mx\r\nforged\u{7}\u{202e}\u{61c}\u{8}";
    let mut trunk = failing("t-1", evil);
    trunk.registrar = format!("{evil}:5060/UDP");
    trunk.next = evil.to_owned();
    let failure = trunk.failure.as_mut().unwrap();
    failure.message = evil.to_owned();
    failure.reason = evil.to_owned();
    let mut summary = summary();
    summary.over_budget = vec![evil.to_owned()];
    summary.api = Health { ok: Some(false), message: Some(evil.to_owned()), since_ms: NOW, reason: None };
    let harmless =
        |text: &str| !text.chars().any(|c| (c.is_control() && c != '\n') || "\u{202e}\u{61c}".contains(c));
    for width in [None, Some(80), Some(140)] {
        let text = render(std::slice::from_ref(&trunk), &summary, NOW, width, false);
        assert!(harmless(&text), "{text:?}");
        assert!(text.contains("[2J"), "what was sent stays visible: {text}");
    }
    let line = line(&trunk, NOW);
    assert!(harmless(&line) && !line.contains('\n'), "{line:?}");
    // One line each for heading, trunk, gap; totals, API server, budget.
    assert_eq!(render(&[trunk], &summary, NOW, None, false).lines().count(), 6);
}

#[test]
fn one_line_says_it_all() {
    assert_eq!(
        line(&at_risk(), NOW),
        "A trunk with quite a long name, as people write them: at risk at \
         registrar-with-a-long-name.provider.example:5061/TLS through EdgePort edge.example:5060, expires in 1 m 35 s; next: under way; \
         Timeout (408) for 4 s: no answer from the registrar: it is silent, or the password is wrong"
    );
    assert_eq!(
        line(&invalid(), NOW),
        "t-4: invalid; InvalidTrunk for 2 h: uris[0].port: 70000 is not a port; use 1 to 65535"
    );
    let mut expired = failing("t-1", "North");
    expired.expires_at_ms = Some(NOW - 61_000);
    assert!(line(&expired, NOW).contains("expired 1 m 1 s ago"), "{}", line(&expired, NOW));
}

#[test]
fn what_comes_next_in_words() {
    let next = |next: &str, at: Option<u64>, in_flight: bool| {
        text::next(&TrunkView { next: next.to_owned(), next_at_ms: at, in_flight, ..trunk("t", "t") }, NOW)
    };
    assert_eq!(next("refresh", Some(NOW + 252_000), false), "refresh in 4 m 12 s");
    assert_eq!(next("retry", Some(NOW), false), "retry now");
    assert_eq!(next("retry", Some(NOW - 1), false), "retry now");
    assert_eq!(next("waiting for the Requester", None, false), "waiting for the Requester");
    assert_eq!(next("waiting for the Requester", Some(NOW - 1), false), "waiting for the Requester");
    assert_eq!(next("", Some(NOW + 1_000), false), "in 1 s");
    assert_eq!(next("", None, false), "-");
    assert_eq!(next("retry", None, true), "under way");
    let column = |next: &str, at: Option<u64>| {
        let trunk = TrunkView { next: next.to_owned(), next_at_ms: at, ..trunk("t", "t") };
        (text::next_time(&trunk, NOW), text::next_word(&trunk, NOW))
    };
    let pair = |wide: &str, narrow: &str| (wide.to_owned(), narrow.to_owned());
    assert_eq!(column("refresh", Some(NOW + 252_000)), pair("in 4 m 12 s", "in 4 m 12 s"));
    assert_eq!(column("retry", Some(NOW)), pair("now", "now"));
    assert_eq!(column("waiting for the Requester", None), pair("waiting for the Requester", "waiting"));
    assert_eq!(column("", None), pair("-", "-"));
}

#[test]
fn durations_have_their_two_largest_units() {
    const S: u64 = 1000;
    for (milliseconds, expected) in [
        (0, "0 s"),
        (999, "0 s"),
        (S, "1 s"),
        (59 * S + 999, "59 s"),
        (60 * S, "1 m"),
        (252 * S, "4 m 12 s"),
        (3_599 * S, "59 m 59 s"),
        (3_600 * S, "1 h"),
        (3_601 * S, "1 h"),
        (7_500 * S, "2 h 5 m"),
        (86_400 * S, "1 d"),
        (100_000 * S, "1 d 3 h"),
    ] {
        assert_eq!(duration(milliseconds), expected, "{milliseconds}");
    }
}

#[test]
fn the_summary_says_what_is_wrong_around_the_trunks() {
    let quiet = Summary {
        counts: Counts { registered: 9, at_risk: 1, failing: 2, ..Counts::default() },
        next_expiry_ms: Some(NOW + 42_000),
        ..Summary::default()
    };
    assert_eq!(
        summary_lines(&quiet, NOW, None),
        ["12 trunks: 9 registered, 1 at risk, 2 failing; next expiry in 42 s"]
    );
    let down = |message: &str| Health {
        ok: Some(false),
        message: Some(message.to_owned()),
        since_ms: NOW - 65_000,
        reason: None,
    };
    let loud = Summary {
        counts: Counts { failing: 1, ..Counts::default() },
        next_expiry_ms: Some(NOW - 2_000),
        api: down("timed out"),
        requester: down("connection refused"),
        cache: Health { message: None, ..down("") },
        waiting: 1,
        in_flight: 4,
        in_flight_limit: 4,
        removals_pending_confirmation: 12,
        over_budget: vec!["a.example".to_owned(), "b.example".to_owned()],
        ..Summary::default()
    };
    assert_eq!(
        summary_lines(&loud, NOW, None),
        [
            "1 trunk: 1 failing; a registration expired 2 s ago",
            "API server: not working for 1 m 5 s: timed out; the trunks of the last sync are kept",
            "Requester: not working for 1 m 5 s: connection refused; nothing can be registered",
            "cache: not working for 1 m 5 s: does not work; running from memory",
            "1 trunk is due and waiting for a turn; 4 of 4 requests in flight",
            "12 trunks are missing from the list; kept until a second sync confirms it",
            "ratePerRegistrar is too low for the trunks at a.example, b.example: bindings there will expire before their refresh",
        ]
    );
}

#[test]
fn no_trunks_is_explained() {
    let read = Summary { last_sync_ms: Some(NOW), ..Summary::default() };
    assert_eq!(
        render(&[], &read, NOW, Some(80), false),
        "No trunks: the API server lists none with sendRegister: true."
    );
    assert_eq!(
        render(&[], &Summary::default(), NOW, Some(80), false),
        "No trunks: the API server has not been read yet."
    );
}

#[test]
fn those_that_need_somebody_come_first() {
    let mut trunks =
        vec![trunk("t-1", "North"), at_risk(), invalid(), failing("t-9", "B"), failing("t-8", "A")];
    sort_by_urgency(&mut trunks);
    let refs: Vec<&str> = trunks.iter().map(|t| t.reference.as_str()).collect();
    assert_eq!(refs, ["t-8", "t-9", "t-4", "t-3", "t-1"]);
}

#[test]
fn a_small_screen_shows_more_trunks_and_one_line_of_each_reason() {
    let (whole, cut) = (
        trunk_lines_within(12, &trunks(), NOW, 80, false),
        trunk_lines_within(11, &trunks(), NOW, 80, false),
    );
    assert_eq!(whole, trunk_lines(&trunks(), NOW, Some(80), false));
    assert_eq!(whole.len(), 12);
    assert_eq!(cut.len(), 8);
    assert!(cut.iter().all(|line| line.chars().count() <= 80), "{cut:?}");
    assert_eq!(cut[6], "    Timeout (408) for 4 s: no answer from the registrar: it is silent, or th…");
    let wide = trunk_lines_within(2, &trunks(), NOW, 140, false);
    assert_eq!(wide.len(), 5, "{wide:?}");
}

#[test]
fn a_trouble_of_unknown_age_names_none() {
    let mut trunk = trunks().remove(0);
    trunk.failure.as_mut().unwrap().since_ms = 0;
    assert!(
        line(&trunk, NOW).ends_with(
            "; CredentialsRejected (403): the registrar responded with 403 \
                                     Forbidden"
        ),
        "{}",
        line(&trunk, NOW)
    );
}

/// Another EdgePort, another registrar, and one that waits for a registrar that is down.
fn elsewhere() -> Vec<TrunkView> {
    let waiting = TrunkView {
        state: TrunkState::Pending,
        next: "waiting for registrar sip.down.example, which is down".to_owned(),
        registrar: "sip.down.example:5060/UDP".to_owned(),
        expires_at_ms: None,
        next_at_ms: Some(NOW),
        ..trunk("t-7", "Waits")
    };
    let other = "10.0.0.2:5060".to_owned();
    vec![
        trunk("t-1", "North"),
        TrunkView { failed_over: true, edge_port: other.clone(), ..trunk("t-2", "East") },
        TrunkView {
            failed_over: true,
            registrar: "sip2.example:5060/UDP".to_owned(),
            ..trunk("t-3", "West")
        },
        TrunkView { edge_port: other, failed_over: true, ..failing("t-4", "South") },
        waiting,
    ]
}

#[test]
fn at_80_columns_a_trunk_that_failed_over_says_so_under_its_row() {
    let mut lines = trunk_lines(&elsewhere(), NOW, Some(80), false);
    lines.extend(edge_port_line(&elsewhere(), Some(80)));
    assert_eq!(
        lines,
        [
            "TRUNK  REGISTRAR                  STATE       EXPIRES IN  NEXT TRY",
            "North  sip.example:5060/UDP       registered  10 m        in 8 m 5 s",
            "East   sip.example:5060/UDP       registered  10 m        in 8 m 5 s",
            "    failed over, through EdgePort 10.0.0.2:5060",
            "West   sip2.example:5060/UDP      registered  10 m        in 8 m 5 s",
            "    failed over",
            "South  sip.example:5060/UDP       failing     -           in 42 s",
            "    CredentialsRejected (403) for 3 m: the registrar responded with 403",
            "    Forbidden; failed over, through EdgePort 10.0.0.2:5060",
            "Waits  sip.down.example:5060/UDP  pending     -           waiting",
            "Through EdgePort edge.example:5060 where no other is named.",
        ]
    );
}

#[test]
fn at_160_columns_the_edge_port_has_its_own_column() {
    let lines = trunk_lines(&elsewhere(), NOW, Some(160), false);
    assert_eq!(
        lines[0],
        "TRUNK  REGISTRAR                  EDGEPORT           STATE       EXPIRES IN  NEXT TRY    REASON"
    );
    assert_eq!(
        lines[2],
        "East   sip.example:5060/UDP       10.0.0.2:5060      registered  10 m        in 8 m 5 s  failed over"
    );
    assert_eq!(edge_port_line(&elsewhere(), Some(160)), None);
    assert_eq!(edge_port_line(&[], Some(80)), None);
}

#[test]
fn one_line_has_the_edge_port_and_whether_it_failed_over() {
    assert_eq!(
        line(&elsewhere()[1], NOW),
        "East: registered at sip.example:5060/UDP through EdgePort 10.0.0.2:5060 (failed over), expires in 10 m; next: \
         refresh in 8 m 5 s"
    );
    assert_eq!(
        line(&elsewhere()[4], NOW),
        "Waits: pending at sip.down.example:5060/UDP through EdgePort edge.example:5060; next: waiting for registrar \
         sip.down.example, which is down"
    );
}

fn down(what: &str, name: &str, message: &str) -> Down {
    Down { what: what.to_owned(), name: name.to_owned(), since_ms: NOW - 65_000, message: message.to_owned() }
}

#[test]
fn what_is_down_has_a_line_with_why_and_what_happens_next() {
    let mut summary = Summary {
        counts: Counts { pending: 20, ..Counts::default() },
        waiting: 19,
        in_flight: 1,
        in_flight_limit: 4,
        registrars_down: 1,
        edge_ports_down: 1,
        down: vec![
            down("edgePort", "10.0.0.3:5060", ""),
            down("registrar", "sip.example", "no response from registrar sip.example within 32 s"),
        ],
        ..Summary::default()
    };
    assert_eq!(
        summary_lines(&summary, NOW, None)[1..],
        [
            "EdgePort 10.0.0.3:5060: down for 1 m 5 s: no registrar responds through it; check that it runs, \
             and its address in spec.edgePorts; trunks use another EdgePort, or wait while one of them tries \
             it every few seconds",
            "registrar sip.example: down for 1 m 5 s: no response from registrar sip.example within 32 s; one trunk tries it \
             every 5 to 10 s, the others wait",
            "19 trunks are due and waiting for a turn, or for what is down; 1 of 4 requests in flight",
        ]
    );
    summary.registrars_down = 480;
    summary.down = (0..20).map(|n| down("registrar", &format!("r{n}"), "refused")).collect();
    let lines = summary_lines(&summary, NOW, None);
    assert!(lines[1].starts_with("1 EdgePort is down: …"), "{lines:#?}");
    assert!(lines[4].starts_with("registrar r2: "), "{lines:#?}");
    assert!(lines[5].starts_with("477 more registrars are down: r3, r4, "), "{lines:#?}");
    assert!(lines[5].ends_with("r19, …"), "{lines:#?}");
    // On a small screen each has one row.
    let cut = summary_lines_within(4, &summary, NOW, 80);
    assert_eq!(cut.len(), lines.len());
    assert!(cut.iter().all(|line| line.chars().count() <= 80), "{cut:#?}");
}

#[test]
fn the_usual_edge_port_is_named_on_a_screen_where_that_hides_no_trunk() {
    let trunks = elsewhere();
    let footer = || vec!["total".to_owned()];
    let shown = |height| page(&trunks, footer(), NOW, (80, height), false);
    let cut = trunk_lines_within(1, &trunks, NOW, 80, false);
    let line = edge_port_line(&trunks, Some(80)).unwrap();
    let height = u16::try_from(cut.len()).unwrap() + 2;
    assert_eq!(shown(height), (cut.clone(), footer()), "a gap and the total take the rest");
    assert_eq!(shown(height + 1), (cut, vec![line.clone(), "total".to_owned()]));
    let (whole, _) = shown(60);
    assert_eq!(whole, trunk_lines(&trunks, NOW, Some(80), false));
}

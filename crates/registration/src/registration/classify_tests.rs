use super::*;
use crate::model::{RedirectContact, RedirectTarget};
use routr_types::{extension::ReportedBinding, host::HostPort};

const TAGS: [&str; 3] = ["path", "gin", "outbound"];

fn verdict_of(response: RegisterResponse, expires: u32, without_tags: u32) -> (Outcome, Failure) {
    let tags = TAGS.map(String::from);
    let policy = RedirectPolicy::default();
    let redirects = Some(("sip.example.com", &policy));
    classify(
        &Ok(response),
        RequestContext { expires, tags: &tags, without_tags, redirects, ..RequestContext::default() },
    )
}

fn outcome(code: u16, change: impl FnOnce(&mut RegisterResponse)) -> Outcome {
    let mut response = RegisterResponse { code: Some(code), ..RegisterResponse::default() };
    change(&mut response);
    verdict_of(response, 600, 0).0
}

#[test]
fn n7_a_416_names_the_setting_for_the_scheme() {
    let response = RegisterResponse { code: Some(416), ..RegisterResponse::default() };
    let (outcome, failure) = verdict_of(response, 600, 0);
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    let message = &failure.message;
    assert!(message.starts_with("the registrar responded with 416; "), "{message}");
    assert!(message.contains("tlsUriScheme in spec.registration or the trunk's extended"), "{message}");
}

#[test]
fn the_granted_expiry_is_the_contacts_else_the_headers_else_what_was_asked() {
    let cases = [
        (Some(300), None, Some(300)),
        (Some(300), Some(200), Some(300)),
        (Some(0), Some(200), Some(200)),
        (None, Some(200), Some(200)),
        (None, None, Some(600)),
        // Another binding's Contact came back (RFC 3261 §10.3 step 8 lists all of them).
        (Some(892), None, Some(600)),
        (Some(i32::MAX), None, Some(600)),
        (Some(1), None, Some(1)),
        (Some(0), None, None),
        (None, Some(0), None),
        (Some(-5), None, None),
    ];
    for (contact, header, expected) in cases {
        let got = outcome(200, |response| (response.contact_expires, response.expires) = (contact, header));
        match expected {
            Some(expires_s) => assert_eq!(got, Outcome::Registered { expires_s }, "{contact:?} {header:?}"),
            None => assert!(matches!(got, Outcome::Failed { .. }), "{contact:?} {header:?} gave {got:?}"),
        }
    }
}

#[test]
fn a_removal_is_granted_by_any_200() {
    let response =
        RegisterResponse { code: Some(200), contact_expires: Some(892), ..RegisterResponse::default() };
    assert_eq!(verdict_of(response, 0, 0).0, Outcome::Registered { expires_s: 0 });
}

#[test]
fn a_day_is_the_longest_expiry_that_is_believed() {
    let response =
        RegisterResponse { code: Some(200), contact_expires: Some(1_000_000), ..RegisterResponse::default() };
    assert_eq!(verdict_of(response, 500_000, 0).0, Outcome::Registered { expires_s: 86_400 });
}

#[test]
fn too_brief_asks_for_min_expires_or_twice_as_much() {
    assert_eq!(
        outcome(423, |response| response.min_expires = Some(3_600)),
        Outcome::IntervalTooBrief { ask: 3_600, from_registrar: true }
    );
    assert_eq!(outcome(423, |_| {}), Outcome::IntervalTooBrief { ask: 1_200, from_registrar: false });
    assert!(matches!(outcome(423, |response| response.min_expires = Some(86_401)), Outcome::Failed { .. }));
    assert!(matches!(outcome(423, |response| response.min_expires = Some(600)), Outcome::Failed { .. }));
    assert!(matches!(outcome(423, |response| response.min_expires = Some(0)), Outcome::Failed { .. }));
}

#[test]
fn a_420_names_tags_or_means_gin() {
    let named = outcome(420, |response| response.unsupported = vec!["OUTBOUND".into(), "100rel".into()]);
    assert_eq!(named, Outcome::BadExtension { tags: 0b100, guessed: false });
    assert_eq!(outcome(420, |_| {}), Outcome::BadExtension { tags: 0b010, guessed: false });
    let stranger = outcome(420, |response| response.unsupported = vec!["100rel".into()]);
    assert_eq!(stranger, Outcome::BadExtension { tags: 0b010, guessed: false });
    let response = RegisterResponse { code: Some(420), ..RegisterResponse::default() };
    assert_eq!(
        verdict_of(response.clone(), 600, 0b010).0,
        Outcome::BadExtension { tags: 0b101, guessed: false }
    );
    assert_eq!(verdict_of(response, 600, 0b111).0, Outcome::BadExtension { tags: 0, guessed: false });
}

#[test]
fn a_redirection_to_another_domain_is_a_failure_that_names_the_target_and_the_setting() {
    let contact = |host: &str| {
        let to = RedirectTarget { address: HostPort::new(host, 5060), transport: None };
        RedirectContact { to, expires: None }
    };
    let response = |hosts: &[&str]| RegisterResponse {
        code: Some(302),
        targets: hosts.iter().map(|host| contact(host)).collect(),
        ..RegisterResponse::default()
    };
    let (outcome, cause) = verdict_of(response(&["evil.example.net", "192.0.2.7"]), 600, 0);
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert_eq!(cause.reason, Reason::RedirectNotAllowed);
    for part in
        ["evil.example.net:5060, 192.0.2.7:5060", "sip.example.com", "spec.registration.redirects.domains"]
    {
        assert!(cause.message.contains(part), "{}", cause.message);
    }
    // Beside one that is allowed, the others are passed over.
    let (outcome, _) = verdict_of(response(&["evil.example.net", "b.example.com"]), 600, 0);
    let Outcome::Redirected { targets } = outcome else { panic!("{outcome:?}") };
    assert_eq!(targets.iter().map(|one| &*one.to.address.host).collect::<Vec<_>>(), ["b.example.com"]);
}

#[test]
fn a_challenge_where_no_credentials_may_be_offered_is_no_refusal_of_them() {
    for code in [401, 403, 407] {
        let asked = RequestContext { expires: 600, without_credentials: true, ..RequestContext::default() };
        let response = RegisterResponse { code: Some(code), ..RegisterResponse::default() };
        let (outcome, cause) = classify(&Ok(response), asked);
        assert!(matches!(outcome, Outcome::Failed { .. }), "{code}: {outcome:?}");
        assert_eq!(cause.reason, Reason::RedirectNotAllowed);
        assert!(cause.message.contains("redirects.credentials"), "{}", cause.message);
    }
}

#[test]
fn redirections_hold_as_long_as_they_say() {
    let to = RedirectTarget { address: HostPort::new("other.example.com", 5070), transport: None };
    let with = |code, expires| {
        outcome(code, |response| {
            response.targets = vec![RedirectContact { to: to.clone(), expires: None }];
            response.contact_expires = expires;
        })
    };
    let held = |hold| {
        let offer = RedirectOffer { to: to.clone(), hold, without_credentials: false };
        Outcome::Redirected { targets: vec![offer] }
    };
    // A 301 may be forged as well as a 302: neither holds for ever.
    assert_eq!(with(301, None), held(RedirectLifetime::Seconds(3_600)));
    assert_eq!(with(301, Some(90)), held(RedirectLifetime::Seconds(90)));
    for code in [301, 302] {
        assert_eq!(with(code, Some(i32::MAX)), held(RedirectLifetime::Seconds(3_600)));
    }
    assert_eq!(with(302, Some(90)), held(RedirectLifetime::Seconds(90)));
    assert_eq!(with(302, None), held(RedirectLifetime::Once));
    assert_eq!(with(305, Some(90)), held(RedirectLifetime::Once));
    assert_eq!(with(300, None), held(RedirectLifetime::Once));
    assert!(matches!(outcome(302, |_| {}), Outcome::Failed { .. }));
}

#[test]
fn each_code_has_its_meaning() {
    for code in [401, 403, 407] {
        assert!(matches!(outcome(code, |_| {}), Outcome::CredentialsRejected { inferred: false }), "{code}");
    }
    for code in [404, 410, 604] {
        assert!(matches!(outcome(code, |_| {}), Outcome::UnknownAccount { .. }), "{code}");
    }
    for code in [100, 180, 183] {
        assert_eq!(outcome(code, |_| {}), Outcome::Unknown, "{code}");
    }
    assert_eq!(outcome(408, |_| {}), Outcome::Timeout);
    for code in [300, 405, 433, 480, 500, 501, 513, 600, 603, 606, 699, 0, 999] {
        assert!(matches!(outcome(code, |_| {}), Outcome::Failed { edge_port_suspect: false, .. }), "{code}");
    }
    for code in [502, 503, 504] {
        assert!(matches!(outcome(code, |_| {}), Outcome::Failed { edge_port_suspect: true, .. }), "{code}");
    }
    let none = verdict_of(RegisterResponse::default(), 600, 0);
    assert!(matches!(none.0, Outcome::Failed { .. }));
    assert_eq!(none.1.reason, Reason::MalformedResponse);
}

#[test]
fn retry_after_counts_for_the_codes_that_may_carry_it() {
    for code in [500, 413, 480, 486, 600, 603, 503] {
        let got = outcome(code, |response| response.retry_after = Some(9));
        let Outcome::Failed { retry_after_s, whole_registrar, .. } = got else { panic!("{code}: {got:?}") };
        assert_eq!(retry_after_s, Some(9), "{code}");
        assert_eq!(whole_registrar, code == 503, "{code}");
    }
    assert_eq!(outcome(404, |r| r.retry_after = Some(9)), Outcome::UnknownAccount { retry_after_s: Some(9) });
    assert!(matches!(outcome(501, |r| r.retry_after = Some(9)), Outcome::Failed { retry_after_s: None, .. }));
}

#[test]
fn a_failure_is_told_in_plain_words() {
    let response = RegisterResponse {
        code: Some(403),
        phrase: "Go\u{7} away\r\n".into(),
        ..RegisterResponse::default()
    };
    let cause = verdict_of(response, 600, 0).1;
    assert_eq!(cause.reason.name(), "CredentialsRejected");
    assert_eq!(cause.code, Some(403));
    assert_eq!(
        &*cause.message,
        "the registrar responded with 403 Go\\u{7} away; check username and \
                                 password"
    );
    let waiting = RegisterResponse {
        code: Some(503),
        phrase: "Busy".into(),
        retry_after: Some(120),
        ..RegisterResponse::default()
    };
    let cause = verdict_of(waiting, 600, 0).1;
    assert_eq!(&*cause.message, "the registrar responded with 503 Busy, and asked to wait 120 s");
    assert_eq!(cause.reason, Reason::RetryAfter);
}

#[test]
fn errors_of_the_way_are_not_the_trunks() {
    let judge_error =
        |error| classify(&Err(error), RequestContext { expires: 600, ..RequestContext::default() }).0;
    assert_eq!(judge_error(SendError::Deadline(std::time::Duration::from_secs(40))), Outcome::Timeout);
    assert_eq!(judge_error(SendError::Unavailable("refused".into())), Outcome::RequesterUnavailable);
    assert_eq!(judge_error(SendError::Refused("UNKNOWN".into())), Outcome::RequesterRefused);
    assert_eq!(judge_error(SendError::Failed("HTTP 502".into())), Outcome::CallFailed { broken: false });
    assert_eq!(
        judge_error(SendError::Disconnected { cause: "reset".into(), after_response: false }),
        Outcome::CallFailed { broken: true }
    );
}

fn local(code: u16, kind: LocalKind, at: Option<Hop>, phrase: &str) -> (Outcome, Failure) {
    let local = Some(Local { kind, at });
    verdict_of(
        RegisterResponse { code: Some(code), phrase: phrase.into(), local, ..RegisterResponse::default() },
        600,
        0,
    )
}

#[test]
fn w4_what_the_requester_made_up_is_not_put_into_the_registrars_mouth() {
    let said = "no response from registrar 127.0.0.1:5060 (UDP) within 32.0 s";
    let (outcome, cause) = local(408, LocalKind::Timeout, Some(Hop::Registrar), said);
    assert_eq!((outcome, cause.reason, cause.code), (Outcome::Timeout, Reason::Timeout, None));
    assert_eq!(&*cause.message, said);
    for (kind, at, reason, edge_port_suspect) in [
        (LocalKind::UnknownHost, Some(Hop::Registrar), Reason::UnknownHost, false),
        (LocalKind::Tls, Some(Hop::Registrar), Reason::TlsFailed, false),
        (LocalKind::Transport, Some(Hop::Registrar), Reason::Unreachable, false),
        (LocalKind::Transport, None, Reason::Unreachable, true),
        (LocalKind::UnknownHost, Some(Hop::EdgePort), Reason::EdgePortFailed, true),
    ] {
        let (outcome, cause) = local(503, kind, at, "host name no.such.name is unknown to the DNS");
        let expected =
            Outcome::Failed { edge_port_suspect, retry_after_s: None, whole_registrar: false, outage: true };
        assert_eq!((outcome, cause.reason, cause.code), (expected, reason, None));
        assert!(cause.message.starts_with("host name no.such.name is unknown"), "{}", cause.message);
        assert!(!cause.message.contains("the registrar responded"), "{}", cause.message);
    }
    // Routr's Java Requester does not mark it.
    let java = RegisterResponse {
        code: Some(503),
        phrase: "Transport error sending request.".into(),
        ..RegisterResponse::default()
    };
    let (outcome, cause) = verdict_of(java, 600, 0);
    assert!(
        matches!(outcome, Outcome::Failed { edge_port_suspect: true, whole_registrar: false, .. }),
        "{outcome:?}"
    );
    assert_eq!((cause.reason, cause.code), (Reason::Unreachable, None));
    assert!(cause.message.contains("the Requester's own words"), "{}", cause.message);
}

/// A 408 after so many seconds that no one marks, as Routr's pair has it.
fn timeout(seconds: u64, change: impl FnOnce(&mut RequestContext<'_>)) -> (Outcome, Failure) {
    let route = RouteHealth {
        registrar: "sip.example:5060",
        edge_port: "edge:5060",
        has_credentials: true,
        ..RouteHealth::default()
    };
    let (sent_at, took_ms) = (Moment(1_000_000), seconds * 1_000);
    let mut asked = RequestContext { expires: 600, sent_at, took_ms, route, ..RequestContext::default() };
    change(&mut asked);
    let response =
        RegisterResponse { code: Some(408), phrase: "Request Timeout".into(), ..RegisterResponse::default() };
    classify(&Ok(response), asked)
}

#[test]
fn w3_silence_names_the_edge_port_and_what_speaks_against_it() {
    let message = |edge| {
        let (outcome, cause) = timeout(32, |asked| asked.route.edge = edge);
        assert_eq!((outcome, cause.code), (Outcome::Timeout, None));
        (cause.reason, cause.message.to_string())
    };
    let (reason, text) = message(EdgePortHealth::Silent);
    assert_eq!(reason, Reason::EdgePortFailed);
    assert!(text.starts_with("EdgePort edge:5060 does not respond"), "{text}");
    let (reason, text) = message(EdgePortHealth::Answering);
    assert_eq!(reason, Reason::Timeout);
    assert!(text.starts_with("no response from registrar sip.example:5060"), "{text}");
    assert!(text.contains("EdgePort edge:5060 works for others"), "{text}");
    let (_, text) = message(EdgePortHealth::NeverAnswered);
    assert!(text.contains("nothing has come through this EdgePort so far"), "{text}");
    let deadline = SendError::Deadline(std::time::Duration::from_secs(40));
    let route = RouteHealth {
        edge_port: "sip01.edgeport.net:5060",
        edge: EdgePortHealth::NeverAnswered,
        ..RouteHealth::default()
    };
    let text = classify(&Err(deadline), RequestContext { expires: 600, route, ..RequestContext::default() })
        .1
        .message;
    assert!(text.contains("EdgePort sip01.edgeport.net:5060") && text.contains("resolves"), "W2: {text}");
}

#[test]
fn f4_a_timeout_that_is_this_trunks_alone_is_taken_for_refused_credentials() {
    let inferred = |change: fn(&mut RequestContext<'_>)| {
        let (outcome, cause) = timeout(32, change);
        let inferred = outcome == Outcome::CredentialsRejected { inferred: true };
        assert_eq!(inferred, cause.reason == Reason::CredentialsRejected);
        assert_eq!(inferred, cause.message.starts_with("check username and password"), "{}", cause.message);
        inferred
    };
    assert!(!inferred(|_| {}), "one alone says nothing");
    // It was sent at 1,000,000; others registered after that, and its EdgePort worked.
    let after = |asked: &mut RequestContext<'_>| {
        asked.route.others_registered = Some(Moment(1_000_000));
        asked.route.edge_responded = Some(Moment(1_000_500));
    };
    assert!(inferred(after));
    assert!(
        !inferred(|asked| asked.route.others_registered = Some(Moment(1_000_500))),
        "its EdgePort may have died"
    );
    assert!(
        !inferred(|asked| asked.route.edge_responded = Some(Moment(1_000_500))),
        "its registrar may have died"
    );
    let before = |asked: &mut RequestContext<'_>| {
        asked.route.others_registered = Some(Moment(990_000));
        asked.route.edge_responded = Some(Moment(990_000));
    };
    assert!(!inferred(before), "both may have died since");
    assert!(inferred(|asked| {
        asked.route.others_registered = Some(Moment(990_000));
        asked.route.edge_responded = Some(Moment(990_000));
        asked.silent_since = Some(Moment(980_000));
    }));
    assert!(inferred(|asked| {
        asked.route.others_registered = Some(Moment(990_000));
        asked.route.edge_responded = Some(Moment(990_000));
        asked.never_registered = true;
    }));
    let failed_over = |asked: &mut RequestContext<'_>| {
        asked.route.others_registered = Some(Moment(990_000));
        asked.route.edge_responded = Some(Moment(990_000));
        (asked.never_registered, asked.silent_elsewhere) = (true, true);
    };
    assert!(!inferred(failed_over), "an outage of both may have begun a moment ago");
    assert!(inferred(|asked| {
        asked.route.others_registered = Some(Moment(990_000));
        asked.route.edge_responded = Some(Moment(990_000));
        (asked.never_registered, asked.silent_elsewhere) = (true, true);
        asked.silent_since = Some(Moment(980_000));
    }));
    let twice = |asked: &mut RequestContext<'_>| {
        (asked.silent_since, asked.never_registered) = (Some(Moment(900_000)), true);
    };
    assert!(!inferred(twice), "it may be the registrar");
    assert!(inferred(|asked| {
        (asked.silent_since, asked.never_registered) = (Some(Moment(900_000)), true);
        asked.route.alone = true;
    }));
    assert!(inferred(|asked| asked.refused_before = true));
    assert!(!inferred(|asked| {
        (asked.refused_before, asked.route.has_credentials) = (true, false);
    }));
    assert!(!inferred(|asked| (asked.refused_before, asked.expires) = (true, 0)), "a removal");
    let quick = timeout(5, |asked| asked.refused_before = true).0;
    assert_eq!(quick, Outcome::Timeout, "it is the registrar that says so");
}

#[test]
fn d3_what_was_not_answered_is_no_matter_of_the_password() {
    let said = |code, asked: &str| {
        let authentication = Some(Authentication::NotSent(asked.to_owned()));
        verdict_of(
            RegisterResponse { code: Some(code), authentication, ..RegisterResponse::default() },
            600,
            0,
        )
    };
    for (code, asked, reason) in [
        (401, "Digest with algorithm SHA3-256", Reason::ChallengeNotSupported),
        (407, "NTLM", Reason::ChallengeNotSupported),
        (401, "", Reason::ChallengeNotSupported),
        (403, "no challenge", Reason::Forbidden),
    ] {
        let (outcome, cause) = said(code, asked);
        assert!(matches!(outcome, Outcome::Failed { outage: false, .. }), "{outcome:?}");
        assert_eq!((cause.reason, cause.code), (reason, Some(code)));
        assert!(reason == Reason::Forbidden || cause.message.contains(asked), "{}", cause.message);
        assert!(!cause.message.contains("check username and password"), "{}", cause.message);
    }
}

#[test]
fn d4_a_stale_nonce_for_ever_is_no_matter_of_the_password() {
    let stale = RegisterResponse {
        code: Some(401),
        authentication: Some(Authentication::Stale),
        ..RegisterResponse::default()
    };
    let (outcome, cause) = verdict_of(stale, 600, 0);
    assert!(matches!(outcome, Outcome::Failed { outage: false, .. }), "{outcome:?}");
    assert_eq!(cause.reason, Reason::StaleNonce);
    assert!(cause.message.contains("it accepts the password"), "{}", cause.message);
    let refused = RegisterResponse {
        code: Some(401),
        authentication: Some(Authentication::Refused),
        ..RegisterResponse::default()
    };
    assert_eq!(verdict_of(refused, 600, 0).0, Outcome::CredentialsRejected { inferred: false });
}

/// Returns what is granted where 600 s were asked for and a binding of `granted_s` with `left` seconds was
/// held.
fn granted_with(
    bindings: &[(Option<u32>, bool)],
    first: Option<i32>,
    held: Option<(u32, u64)>,
) -> Option<u32> {
    let bindings = bindings.iter().map(|(expires, own)| ReportedBinding { expires: *expires, own: *own });
    let response = RegisterResponse {
        code: Some(200),
        bindings: bindings.collect(),
        contact_expires: first,
        ..RegisterResponse::default()
    };
    let held = held.map(|(granted_s, left)| PriorBinding {
        left_then: left * 1_000,
        left_now: left * 1_000 - 40,
        granted_s,
    });
    match classify(&Ok(response), RequestContext { expires: 600, held, ..RequestContext::default() }).0 {
        Outcome::Registered { expires_s } => Some(expires_s),
        _ => None,
    }
}

#[test]
fn r1_where_no_binding_is_ours_the_least_positive_expiry_counts() {
    let listed = [(Some(3_600), false), (Some(60), false)];
    assert_eq!(granted_with(&listed, Some(3_600), None), Some(60));
    assert_eq!(granted_with(&[(Some(3_600), false), (Some(60), true)], Some(60), None), Some(60));
    assert_eq!(granted_with(&[(Some(60), false), (Some(300), true)], Some(60), None), Some(300));
    assert_eq!(granted_with(&[(Some(3_600), true)], None, None), Some(600), "more than was asked");
    assert_eq!(granted_with(&[(None, true), (Some(9), false)], None, None), Some(600));
}

#[test]
fn r2_a_first_contact_that_has_ended_is_not_ours() {
    assert_eq!(granted_with(&[(Some(0), false), (Some(600), true)], Some(0), None), Some(600));
    assert_eq!(granted_with(&[(Some(0), false), (Some(600), false)], Some(0), None), Some(600), "R3");
    assert_eq!(granted_with(&[(Some(0), true), (Some(600), false)], Some(0), None), None, "ours has ended");
    assert_eq!(granted_with(&[(Some(0), false), (Some(0), false)], Some(0), None), None);
}

#[test]
fn r4_what_is_left_of_the_binding_before_says_nothing_of_the_new_one() {
    // Routr's Java Requester hands over the first Contact alone: that of the process before.
    assert_eq!(granted_with(&[], Some(87), Some((300, 87))), Some(300));
    assert_eq!(granted_with(&[], Some(85), Some((300, 87))), Some(300));
    assert_eq!(granted_with(&[], Some(83), Some((300, 87))), Some(83), "it is another one's");
    assert_eq!(granted_with(&[], Some(87), None), Some(87));
    assert_eq!(granted_with(&[(Some(87), false), (Some(120), false)], None, Some((300, 87))), Some(120));
    // Ours, which was granted a second ago, is among those that equal what is left; the long one is another
    // device's.
    let listed = [(Some(2_094), false), (Some(298), false), (Some(300), false)];
    assert_eq!(granted_with(&listed, None, Some((300, 299))), Some(300));
    assert_eq!(granted_with(&[(Some(2_095), false), (Some(121), false)], None, Some((261, 121))), Some(261));
    assert_eq!(granted_with(&[(Some(87), false), (Some(86), true)], None, Some((300, 87))), Some(86), "ours");
}

#[test]
fn r9_a_400_with_option_tags_is_asked_again_without_them() {
    assert_eq!(outcome(400, |_| {}), Outcome::BadExtension { tags: 0b111, guessed: true });
    let response = RegisterResponse { code: Some(400), ..RegisterResponse::default() };
    let (outcome, cause) = verdict_of(response, 600, 0b111);
    assert!(matches!(outcome, Outcome::Failed { outage: false, .. }), "{outcome:?}");
    assert_eq!(cause.reason, Reason::Refused);
}

#[test]
fn no_cause_is_cut_off_at_its_beginning() {
    let long = format!("certificate is for other.example, not sip.example{}", "x".repeat(5_000));
    let (_, cause) = local(503, LocalKind::Tls, Some(Hop::Registrar), &long);
    assert!(cause.message.starts_with("certificate is for other.example, not sip.example"));
    assert!(cause.message.len() < 1_000, "{} bytes", cause.message.len());
}

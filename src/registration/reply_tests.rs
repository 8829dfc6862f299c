use super::*;
use crate::{
    ports::{Local, LocalKind, RedirectContact},
    trunk::HostPort,
};

const TAGS: [&str; 3] = ["path", "gin", "outbound"];

fn verdict_of(reply: Reply, expires: u32, without_tags: u32) -> (Verdict, Cause) {
    let tags = TAGS.map(String::from);
    judge(&Ok(reply), Asked { expires, tags: &tags, without_tags })
}

fn verdict(code: u16, change: impl FnOnce(&mut Reply)) -> Verdict {
    let mut reply = Reply { code: Some(code), ..Reply::default() };
    change(&mut reply);
    verdict_of(reply, 600, 0).0
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
        let got = verdict(200, |reply| (reply.contact_expires, reply.expires) = (contact, header));
        match expected {
            Some(expires_s) => assert_eq!(got, Verdict::Registered { expires_s }, "{contact:?} {header:?}"),
            None => assert!(matches!(got, Verdict::Failed { .. }), "{contact:?} {header:?} gave {got:?}"),
        }
    }
}

#[test]
fn a_removal_is_granted_by_any_200() {
    let reply = Reply { code: Some(200), contact_expires: Some(892), ..Reply::default() };
    assert_eq!(verdict_of(reply, 0, 0).0, Verdict::Registered { expires_s: 0 });
}

#[test]
fn a_day_is_the_longest_expiry_that_is_believed() {
    let reply = Reply { code: Some(200), contact_expires: Some(1_000_000), ..Reply::default() };
    assert_eq!(verdict_of(reply, 500_000, 0).0, Verdict::Registered { expires_s: 86_400 });
}

#[test]
fn too_brief_asks_for_min_expires_or_twice_as_much() {
    assert_eq!(
        verdict(423, |reply| reply.min_expires = Some(3_600)),
        Verdict::TooBrief { ask: 3_600, told: true }
    );
    assert_eq!(verdict(423, |_| {}), Verdict::TooBrief { ask: 1_200, told: false });
    assert!(matches!(verdict(423, |reply| reply.min_expires = Some(86_401)), Verdict::Failed { .. }));
    assert!(matches!(verdict(423, |reply| reply.min_expires = Some(600)), Verdict::Failed { .. }));
    assert!(matches!(verdict(423, |reply| reply.min_expires = Some(0)), Verdict::Failed { .. }));
}

#[test]
fn a_420_names_tags_or_means_gin() {
    let named = verdict(420, |reply| reply.unsupported = vec!["OUTBOUND".into(), "100rel".into()]);
    assert_eq!(named, Verdict::BadExtension { tags: 0b100 });
    assert_eq!(verdict(420, |_| {}), Verdict::BadExtension { tags: 0b010 });
    let stranger = verdict(420, |reply| reply.unsupported = vec!["100rel".into()]);
    assert_eq!(stranger, Verdict::BadExtension { tags: 0b010 });
    let reply = Reply { code: Some(420), ..Reply::default() };
    assert_eq!(verdict_of(reply.clone(), 600, 0b010).0, Verdict::BadExtension { tags: 0b101 });
    assert_eq!(verdict_of(reply, 600, 0b111).0, Verdict::BadExtension { tags: 0 });
}

#[test]
fn redirections_hold_as_long_as_they_say() {
    let to = RedirectTarget { address: HostPort::new("other.example.com", 5070), transport: None };
    let with = |code, expires| {
        verdict(code, |reply| {
            reply.targets = vec![RedirectContact { to: to.clone(), expires: None }];
            reply.contact_expires = expires;
        })
    };
    assert_eq!(with(301, None), Verdict::Redirected { to: to.clone(), hold: Hold::Lasting });
    assert_eq!(with(302, Some(90)), Verdict::Redirected { to: to.clone(), hold: Hold::Seconds(90) });
    assert_eq!(with(302, None), Verdict::Redirected { to: to.clone(), hold: Hold::Once });
    assert_eq!(with(305, Some(90)), Verdict::Redirected { to: to.clone(), hold: Hold::Once });
    assert!(matches!(with(300, None), Verdict::Failed { .. }));
    assert!(matches!(verdict(302, |_| {}), Verdict::Failed { .. }));
}

#[test]
fn each_code_has_its_meaning() {
    for code in [401, 403, 407] {
        assert!(matches!(verdict(code, |_| {}), Verdict::Rejected), "{code}");
    }
    for code in [404, 410, 604] {
        assert!(matches!(verdict(code, |_| {}), Verdict::UnknownAccount { .. }), "{code}");
    }
    for code in [100, 180, 183] {
        assert_eq!(verdict(code, |_| {}), Verdict::Unknown, "{code}");
    }
    assert_eq!(verdict(408, |_| {}), Verdict::Silent);
    for code in [300, 400, 405, 433, 480, 500, 501, 513, 600, 603, 606, 699, 0, 999] {
        assert!(matches!(verdict(code, |_| {}), Verdict::Failed { way: false, .. }), "{code}");
    }
    for code in [502, 503, 504] {
        assert!(matches!(verdict(code, |_| {}), Verdict::Failed { way: true, .. }), "{code}");
    }
    let none = verdict_of(Reply::default(), 600, 0);
    assert!(matches!(none.0, Verdict::Failed { .. }));
    assert_eq!(none.1.reason, Reason::MalformedReply);
}

#[test]
fn retry_after_counts_for_the_codes_that_may_carry_it() {
    for code in [500, 413, 480, 486, 600, 603, 503] {
        let got = verdict(code, |reply| reply.retry_after = Some(9));
        let Verdict::Failed { retry_after_s, whole_registrar, .. } = got else { panic!("{code}: {got:?}") };
        assert_eq!(retry_after_s, Some(9), "{code}");
        assert_eq!(whole_registrar, code == 503, "{code}");
    }
    assert_eq!(verdict(404, |r| r.retry_after = Some(9)), Verdict::UnknownAccount { retry_after_s: Some(9) });
    assert!(matches!(verdict(501, |r| r.retry_after = Some(9)), Verdict::Failed { retry_after_s: None, .. }));
}

#[test]
fn a_failure_is_told_in_plain_words() {
    let reply = Reply { code: Some(403), phrase: "Go\u{7} away\r\n".into(), ..Reply::default() };
    let cause = verdict_of(reply, 600, 0).1;
    assert_eq!(cause.reason.name(), "CredentialsRejected");
    assert_eq!(cause.code, Some(403));
    assert_eq!(&*cause.message, "the registrar answered 403 Go away; check username and password");
    let waiting =
        Reply { code: Some(503), phrase: "Busy".into(), retry_after: Some(120), ..Reply::default() };
    let cause = verdict_of(waiting, 600, 0).1;
    assert_eq!(&*cause.message, "the registrar answered 503 Busy, and asked to wait 120 s");
    assert_eq!(cause.reason, Reason::AskedToWait);
}

#[test]
fn errors_of_the_way_are_not_the_trunks() {
    let judge_error = |error| judge(&Err(error), Asked { expires: 600, tags: &[], without_tags: 0 }).0;
    assert_eq!(judge_error(SendError::Deadline(std::time::Duration::from_secs(40))), Verdict::Silent);
    assert_eq!(judge_error(SendError::Unavailable("refused".into())), Verdict::Unavailable);
    assert_eq!(judge_error(SendError::Refused("UNKNOWN".into())), Verdict::WayRefused);
}

#[test]
fn what_the_requester_made_up_is_not_put_into_the_registrars_mouth() {
    let local = |code, phrase: &str| {
        let reply = Reply {
            code: Some(code),
            phrase: phrase.into(),
            local: Some(Local { kind: LocalKind::Timeout, at: None }),
            ..Reply::default()
        };
        verdict_of(reply, 600, 0)
    };
    let (verdict, cause) = local(408, "no final answer from 127.0.0.1:5060 (UDP) within 3.0 s");
    assert_eq!((verdict, cause.reason, cause.code), (Verdict::Silent, Reason::NoAnswer, None));
    assert_eq!(&*cause.message, "nobody answered: no final answer from 127.0.0.1:5060 (UDP) within 3.0 s");
    let (verdict, cause) = local(503, "unknown host: no.such.name");
    assert!(matches!(verdict, Verdict::Failed { way: true, retry_after_s: None, .. }), "{verdict:?}");
    assert_eq!((cause.reason, cause.code), (Reason::Unreachable, None));
    assert_eq!(&*cause.message, "the REGISTER could not be delivered: unknown host: no.such.name");
}

#[test]
fn a_timeout_of_the_java_requester_names_both_of_its_causes() {
    let reply = Reply { code: Some(408), phrase: "Request Timeout".into(), ..Reply::default() };
    let (verdict, cause) = verdict_of(reply, 600, 0);
    assert_eq!((verdict, cause.reason, cause.code), (Verdict::Silent, Reason::NoAnswer, Some(408)));
    let message = "no answer in time (Request Timeout): the registrar is silent, or the password is wrong";
    assert_eq!(&*cause.message, message);
}

//! Answers that tell how to ask instead: 423, 420 and redirections.

use super::*;

#[test]
fn min_expires_of_a_423_is_asked_for_at_once_and_twice_at_most() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    let effect = harness.answer(&attempt, RegisterResponse { min_expires: Some(1_800), ..response(423) });
    assert_eq!(effect.min_expires, None, "nothing has confirmed it so far");
    assert_eq!((harness.wait_of_next(), harness.registration.class()), (0, Priority::Refresh));
    let attempt = harness.attempt();
    assert_eq!(attempt.expires, 1_800);
    harness.answer(&attempt, response(423));
    assert_eq!(harness.wait_of_next(), 0);
    let attempt = harness.attempt();
    assert_eq!(attempt.expires, 3_600);
    harness.answer(&attempt, response(423));
    between(harness.wait_of_next(), 30_000, 60_000);
    assert_eq!(harness.reason(), Some("IntervalTooBrief"));
}

#[test]
fn min_expires_of_a_423_counts_for_others_once_the_registrar_has_granted_that_much() {
    for (min_expires, granted, learned) in [
        (Some(1_800), 1_800, Some(1_800)),
        (Some(1_800), 3_000, Some(1_800)),
        // A registrar that rejects less than that would not grant less.
        (Some(1_800), 900, None),
        (None, 1_200, Some(1_200)),
        (None, 900, None),
    ] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        assert_eq!(
            harness.answer(&attempt, RegisterResponse { min_expires, ..response(423) }).min_expires,
            None
        );
        let attempt = harness.attempt();
        let effect = harness.answer(&attempt, ok(granted));
        assert_eq!(effect.min_expires, learned, "{min_expires:?} {granted}");
        // Its own next request asks for what is configured: the 423 is forgotten.
        assert_eq!(harness.attempt().expires, 600);
    }
}

#[test]
fn min_expires_of_a_day_is_bounded_by_an_hour_unless_it_comes_again() {
    let day = || RegisterResponse { min_expires: Some(86_400), ..response(423) };
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, day());
    let attempt = harness.attempt();
    assert_eq!(attempt.expires, 3_600, "a forged one makes it no longer");
    assert_eq!(harness.answer(&attempt, ok(86_400)).min_expires, None, "nor is it passed on to others");
    assert!(harness.registration.remaining_ms(Moment(harness.at)).unwrap() <= 3_600_000);

    let mut harness = Harness::new(1, 1);
    for _ in 0..2 {
        let attempt = harness.attempt();
        harness.answer(&attempt, day());
    }
    let attempt = harness.attempt();
    assert_eq!(attempt.expires, 86_400, "a registrar that insists gets it");
    assert_eq!(harness.answer(&attempt, ok(86_400)).min_expires, Some(3_600), "others begin with an hour");
    assert!(
        harness.registration.remaining_ms(Moment(harness.at)).unwrap() <= 3_600_000,
        "it is refreshed within an hour"
    );
}

#[test]
fn a_423_without_min_expires_is_guessed_at_up_to_an_hour_in_the_next_round_too() {
    let mut harness = Harness::new(1, 1);
    let mut first = 600;
    for _ in 0..10 {
        for doublings in 0..3 {
            let attempt = harness.attempt();
            assert_eq!(attempt.expires, first << doublings);
            assert_eq!(harness.answer(&attempt, response(423)).min_expires, None);
        }
        between(harness.wait_of_next(), 15_000, 1_800_000);
        first = 3_600;
    }
}

#[test]
fn each_target_has_a_min_expires_of_its_own() {
    let mut harness = Harness::new(2, 1);
    for _ in 0..2 {
        for _ in 0..2 {
            harness.round(423, 0);
            assert_eq!(harness.wait_of_next(), 0);
        }
        let rank = harness.registration.ranks().0;
        harness.round(423, 0);
        assert!(harness.registration.ranks().0 != rank);
    }
    between(harness.wait_of_next(), 30_000, 60_000);
}

#[test]
fn a_420_drops_the_tags_and_sends_again_at_once_once() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, RegisterResponse { unsupported: vec!["gin".into()], ..response(420) });
    assert_eq!(harness.wait_of_next(), 0);
    let attempt = harness.attempt();
    assert_eq!(attempt.without_tags, 0b01);
    harness.answer(&attempt, response(420));
    between(harness.wait_of_next(), 30_000, 60_000);
    let attempt = harness.attempt();
    assert_eq!(attempt.without_tags, 0b11);
    harness.answer(&attempt, ok(600));
    assert_eq!(harness.attempt().without_tags, 0b11, "a refresh would be refused again");
}

#[test]
fn redirections_are_followed_at_once_but_not_in_a_circle() {
    for code in [301, 302, 305] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        harness.answer(&attempt, redirect(code, "elsewhere", None));
        assert_eq!(harness.wait_of_next(), 0);
        let attempt = harness.attempt();
        assert_eq!(&*attempt.redirect.as_ref().unwrap().address.host, "elsewhere");
        harness.answer(&attempt, redirect(code, "host-0", None));
        between(harness.wait_of_next(), 30_000, 60_000);
        assert_eq!(harness.reason(), Some("RedirectFailed"));
        assert_eq!(harness.attempt().redirect, None);
    }
}

#[test]
fn another_transport_is_no_circle_but_a_way_out_of_tls_is_refused() {
    let to = |transport| {
        let address = HostPort::new("host-0", 5060);
        let to = RedirectTarget { address, transport: Some(transport) };
        RegisterResponse { targets: vec![RedirectContact { to, expires: None }], ..response(302) }
    };
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, to(Transport::Tcp));
    assert_eq!(harness.wait_of_next(), 0);
    let attempt = harness.attempt();
    harness.answer(&attempt, to(Transport::Udp));
    between(harness.wait_of_next(), 30_000, 60_000);
    let mut harness = Harness::new(1, 1);
    harness.transport = Transport::Tls;
    let attempt = harness.attempt();
    harness.answer(&attempt, to(Transport::Udp));
    assert_eq!((harness.reason(), harness.attempt().redirect), (Some("RedirectFailed"), None));
}

#[test]
fn at_most_five_redirections_are_followed() {
    let mut harness = Harness::new(1, 1);
    let mut followed = 0;
    loop {
        let attempt = harness.attempt();
        harness.answer(&attempt, redirect(302, &format!("hop-{followed}"), None));
        if harness.wait_of_next() > 0 {
            break;
        }
        followed += 1;
    }
    assert_eq!(followed, 5);
}

#[test]
fn a_redirect_by_302_holds_for_its_expiry_by_301_until_it_fails_by_305_once() {
    let where_next = |code, expires| {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        harness.answer(&attempt, redirect(code, "elsewhere", expires));
        let attempt = harness.attempt();
        harness.answer(&attempt, ok(600));
        let first = harness.attempt();
        harness.answer(&first, ok(600));
        let second = harness.attempt();
        (first.redirect.is_some(), second.redirect.is_some())
    };
    assert_eq!(where_next(302, None), (false, false));
    assert_eq!(where_next(305, None), (false, false));
    assert_eq!(where_next(302, Some(700)), (true, false));
    assert_eq!(where_next(301, None), (true, true));
}

#[test]
fn being_told_to_ask_otherwise_is_no_failure() {
    for hint in [
        RegisterResponse { min_expires: Some(900), ..response(423) },
        response(420),
        redirect(302, "elsewhere", None),
    ] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        harness.answer(&attempt, hint);
        assert_eq!((harness.state(), harness.reason()), (TrunkState::Pending, None));
    }
}

#[test]
fn a_redirection_without_transport_and_port_means_the_port_of_the_transport_that_stays() {
    for (transport, port) in [(Transport::Udp, 5060), (Transport::Tcp, 5060), (Transport::Tls, 5061)] {
        let mut harness = Harness::new(1, 1);
        harness.transport = transport;
        let attempt = harness.attempt();
        harness.answer(&attempt, redirect(302, "elsewhere", None));
        let to = harness.attempt().redirect.unwrap();
        assert_eq!((to.address.port, to.transport), (port, Some(transport)));
    }
}

#[test]
fn what_was_in_flight_when_the_contact_may_have_changed_is_followed_by_an_early_refresh() {
    for changed in [false, true] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        if changed {
            let now = Moment(harness.at);
            harness.registration.refresh_early(now, &mut harness.rng);
        }
        harness.answer(&attempt, ok(600));
        assert_eq!(harness.wait_of_next() <= 150_000, changed, "{}", harness.wait_of_next());
        harness.round(200, 0);
        assert!(harness.wait_of_next() > 150_000, "once");
    }
}

#[test]
fn no_time_at_all_is_nothing_to_wait_for() {
    for (seconds, held) in [(0, None), (1, Some(1_000))] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        let effect =
            harness.answer(&attempt, RegisterResponse { retry_after: Some(seconds), ..response(503) });
        assert_eq!(effect.hold_registrar_until, held.map(|ms| Moment(harness.at + ms)));
    }
}

#[test]
fn a_guess_below_what_was_asked_is_no_knowledge() {
    for (expires, learnt) in [(600, Some(1_200)), (3_000, Some(3_600)), (4_000, None)] {
        let mut harness = Harness::new(1, 1);
        harness.settings.expires_s = expires;
        let attempt = harness.attempt();
        harness.answer(&attempt, response(423));
        let attempt = harness.attempt();
        assert_eq!(attempt.expires, 2 * expires, "the trunk itself asks for more");
        assert_eq!(harness.answer(&attempt, ok(86_400)).min_expires, learnt);
    }
}

fn redirect_to(code: u16, hosts: &[&str]) -> RegisterResponse {
    let target = |host: &&str| RedirectContact {
        to: RedirectTarget { address: HostPort::new(host, 5060), transport: None },
        expires: None,
    };
    RegisterResponse { targets: hosts.iter().map(target).collect(), ..response(code) }
}

fn redirected_to(attempt: &Attempt) -> Option<&str> {
    attempt.redirect.as_ref().map(|to| &*to.address.host)
}

#[test]
fn r7_all_targets_of_a_redirection_are_tried_in_order() {
    for failure in [response(503), response(480), response(405)] {
        let mut harness = Harness::new(1, 1);
        let attempt = harness.attempt();
        harness.answer(&attempt, redirect_to(302, &["alive", "spare", "last"]));
        for expected in ["alive", "spare", "last"] {
            assert_eq!(harness.wait_of_next(), 0, "not at once to {expected}");
            let attempt = harness.attempt();
            assert_eq!(redirected_to(&attempt), Some(expected));
            harness.answer(&attempt, failure.clone());
        }
        between(harness.wait_of_next(), 30_000, 60_000);
        assert_eq!(redirected_to(&harness.attempt()), None, "the next round starts at the trunk's own URI");
    }
}

#[test]
fn r8_a_target_that_fails_gives_way_to_the_next_one_and_that_registers() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, redirect_to(302, &["dead", "alive"]));
    let attempt = harness.attempt();
    harness.answer(&attempt, response(503));
    let attempt = harness.attempt();
    assert_eq!(redirected_to(&attempt), Some("alive"));
    harness.answer(&attempt, ok(600));
    assert_eq!(harness.state(), TrunkState::Registered);
    // After a silence not at once: it may be a password that an EdgePort keeps offering.
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, redirect_to(302, &["silent", "alive"]));
    let attempt = harness.attempt();
    harness.answer(&attempt, response(408));
    between(harness.wait_of_next(), 5_000, 10_000);
    assert_eq!(redirected_to(&harness.attempt()), Some("alive"));
}

#[test]
fn targets_that_were_tried_are_no_way_back() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, redirect_to(302, &["a", "b"]));
    let attempt = harness.attempt();
    harness.answer(&attempt, redirect_to(302, &["host-0", "c"]));
    let attempt = harness.attempt();
    assert_eq!(redirected_to(&attempt), Some("c"), "a circle");
    harness.answer(&attempt, redirect_to(302, &["a"]));
    let attempt = harness.attempt();
    assert_eq!(redirected_to(&attempt), Some("b"), "what the first one named is still untried");
    harness.answer(&attempt, response(500));
    between(harness.wait_of_next(), 30_000, 60_000);
}

#[test]
fn r9_without_its_option_tags_a_400_is_asked_once_and_remembered_where_that_works() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, response(400));
    assert_eq!(harness.wait_of_next(), 0);
    let attempt = harness.attempt();
    assert_eq!(attempt.without_tags, 0b11);
    let effect = harness.answer(&attempt, ok(600));
    assert_eq!(effect.dropped_tags, 0b11, "not reported");
    assert_eq!(harness.attempt().without_tags, 0b11, "not remembered");
    // Where it does not, the tags were not what it was about.
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, response(400));
    let attempt = harness.attempt();
    harness.answer(&attempt, response(400));
    between(harness.wait_of_next(), 30_000, 60_000);
    assert_eq!(harness.reason(), Some("Refused"));
    assert_eq!(harness.attempt().without_tags, 0);
}

#[test]
fn a_redirect_by_301_ends_in_time_and_the_configured_registrar_is_asked_again() {
    let mut harness = Harness::new(1, 1);
    harness.settings.redirects.max_s = 900;
    let attempt = harness.attempt();
    harness.answer(&attempt, redirect(301, "elsewhere", Some(86_400)));
    let began = harness.at;
    let mut elsewhere = 0;
    let home = loop {
        let attempt = harness.attempt();
        if redirected_to(&attempt).is_none() {
            break attempt;
        }
        elsewhere += 1;
        let effect = harness.answer(&attempt, ok(600));
        assert_eq!(effect.redirection_changed, elsewhere == 1);
        let shown = harness.registration.redirected(Moment(harness.at)).unwrap();
        assert_eq!((&*shown.to.address.host, shown.until), ("elsewhere", Moment(began + 900_000)));
    };
    assert!(elsewhere >= 2 && harness.at >= began + 900_000, "{elsewhere} within {} ms", harness.at - began);
    assert!(harness.registration.redirected(Moment(harness.at)).is_some(), "the binding is there still");
    assert!(harness.answer(&home, ok(600)).redirection_changed);
    assert_eq!(harness.registration.redirected(Moment(harness.at)), None);
}

#[test]
fn a_redirection_for_one_request_shows_as_long_as_its_binding() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, redirect(302, "elsewhere", None));
    let attempt = harness.attempt();
    harness.answer(&attempt, ok(600));
    let until = harness.registration.binding().unwrap().expires_at;
    let shown = harness.registration.redirected(Moment(harness.at)).unwrap();
    assert_eq!((&*shown.to.address.host, shown.until), ("elsewhere", until));
    assert_eq!(harness.registration.redirected(until), None);
}

#[test]
fn a_redirection_to_another_domain_is_followed_only_where_it_is_allowed() {
    let attempt_after = |policy: RedirectPolicy| {
        let mut harness = Harness::new(1, 1);
        harness.settings.redirects = policy;
        let attempt = harness.attempt();
        harness.answer(&attempt, redirect(301, "evil.example.net", None));
        let reason = harness.reason();
        let attempt = harness.attempt();
        (reason, redirected_to(&attempt).map(str::to_owned), attempt.without_credentials)
    };
    let refused = attempt_after(RedirectPolicy::default());
    assert_eq!(refused, (Some("RedirectNotAllowed"), None, false));
    let followed = attempt_after(RedirectPolicy { credentials: false, ..anywhere() });
    assert_eq!(followed, (None, Some("evil.example.net".to_owned()), true));
    let followed = attempt_after(anywhere());
    assert_eq!(followed, (None, Some("evil.example.net".to_owned()), false));
}

#[test]
fn a_redirection_that_is_allowed_no_longer_is_forgotten() {
    let mut harness = Harness::new(1, 1);
    let attempt = harness.attempt();
    harness.answer(&attempt, redirect(301, "elsewhere", None));
    let attempt = harness.attempt();
    assert_eq!(redirected_to(&attempt), Some("elsewhere"));
    harness.answer(&attempt, ok(600));
    harness.settings.redirects = RedirectPolicy::default();
    harness.registration.forget_redirections();
    assert_eq!(redirected_to(&harness.attempt()), None);
}

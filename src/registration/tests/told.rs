//! Answers that tell how to ask instead: 423, 420 and redirections.

use super::*;

#[test]
fn a_423_is_answered_by_what_it_asks_at_once_and_twice_at_most() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let effect = bench.answer(&attempt, Reply { min_expires: Some(1_800), ..reply(423) });
    assert_eq!(effect.min_expires, None, "nothing has confirmed it so far");
    assert_eq!((bench.wait_of_next(), bench.registration.class()), (0, Class::Refresh));
    let attempt = bench.attempt();
    assert_eq!(attempt.expires, 1_800);
    bench.answer(&attempt, reply(423));
    assert_eq!(bench.wait_of_next(), 0);
    let attempt = bench.attempt();
    assert_eq!(attempt.expires, 3_600);
    bench.answer(&attempt, reply(423));
    between(bench.wait_of_next(), 30_000, 60_000);
    assert_eq!(bench.reason(), Some("IntervalTooBrief"));
}

#[test]
fn a_423_counts_for_others_once_the_registrar_has_granted_that_much() {
    for (min_expires, granted, learned) in [
        (Some(1_800), 1_800, Some(1_800)),
        (Some(1_800), 3_000, Some(1_800)),
        // A registrar that rejects less than that would not grant less.
        (Some(1_800), 900, None),
        (None, 1_200, Some(1_200)),
        (None, 900, None),
    ] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        assert_eq!(bench.answer(&attempt, Reply { min_expires, ..reply(423) }).min_expires, None);
        let attempt = bench.attempt();
        let effect = bench.answer(&attempt, ok(granted));
        assert_eq!(effect.min_expires, learned, "{min_expires:?} {granted}");
        // Its own next request asks for what is configured: the 423 is forgotten.
        assert_eq!(bench.attempt().expires, 600);
    }
}

#[test]
fn a_423_of_a_day_is_bounded_by_an_hour_unless_it_comes_again() {
    let day = || Reply { min_expires: Some(86_400), ..reply(423) };
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, day());
    let attempt = bench.attempt();
    assert_eq!(attempt.expires, 3_600, "a forged one makes it no longer");
    assert_eq!(bench.answer(&attempt, ok(86_400)).min_expires, None, "nor is it passed on to others");
    assert!(bench.registration.left(Moment(bench.at)).unwrap() <= 3_600_000);

    let mut bench = Bench::new(1, 1);
    for _ in 0..2 {
        let attempt = bench.attempt();
        bench.answer(&attempt, day());
    }
    let attempt = bench.attempt();
    assert_eq!(attempt.expires, 86_400, "a registrar that insists gets it");
    assert_eq!(bench.answer(&attempt, ok(86_400)).min_expires, Some(3_600), "others begin with an hour");
    assert!(
        bench.registration.left(Moment(bench.at)).unwrap() <= 3_600_000,
        "it is refreshed within an hour"
    );
}

#[test]
fn a_guess_after_a_423_goes_on_in_the_next_round_up_to_an_hour() {
    let mut bench = Bench::new(1, 1);
    let mut first = 600;
    for _ in 0..10 {
        for doublings in 0..3 {
            let attempt = bench.attempt();
            assert_eq!(attempt.expires, first << doublings);
            assert_eq!(bench.answer(&attempt, reply(423)).min_expires, None);
        }
        between(bench.wait_of_next(), 15_000, 1_800_000);
        first = 3_600;
    }
}

#[test]
fn each_target_may_be_too_brief_for_itself() {
    let mut bench = Bench::new(2, 1);
    for _ in 0..2 {
        for _ in 0..2 {
            bench.round(423, 0);
            assert_eq!(bench.wait_of_next(), 0);
        }
        let rank = bench.registration.ranks().0;
        bench.round(423, 0);
        assert!(bench.registration.ranks().0 != rank);
    }
    between(bench.wait_of_next(), 30_000, 60_000);
}

#[test]
fn a_420_drops_the_tags_and_sends_again_at_once_once() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { unsupported: vec!["gin".into()], ..reply(420) });
    assert_eq!(bench.wait_of_next(), 0);
    let attempt = bench.attempt();
    assert_eq!(attempt.without_tags, 0b01);
    bench.answer(&attempt, reply(420));
    between(bench.wait_of_next(), 30_000, 60_000);
    let attempt = bench.attempt();
    assert_eq!(attempt.without_tags, 0b11);
    bench.answer(&attempt, ok(600));
    assert_eq!(bench.attempt().without_tags, 0b11, "a refresh would be refused again");
}

#[test]
fn redirections_are_followed_at_once_but_not_in_a_circle() {
    for code in [301, 302, 305] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect(code, "elsewhere", None));
        assert_eq!(bench.wait_of_next(), 0);
        let attempt = bench.attempt();
        assert_eq!(&*attempt.redirect.as_ref().unwrap().address.host, "elsewhere");
        bench.answer(&attempt, redirect(code, "host-0", None));
        between(bench.wait_of_next(), 30_000, 60_000);
        assert_eq!(bench.reason(), Some("RedirectFailed"));
        assert_eq!(bench.attempt().redirect, None);
    }
}

#[test]
fn another_transport_is_no_circle_but_a_way_out_of_tls_is_refused() {
    let to = |transport| {
        let address = HostPort::new("host-0", 5060);
        let to = RedirectTarget { address, transport: Some(transport) };
        Reply { targets: vec![RedirectContact { to, expires: None }], ..reply(302) }
    };
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, to(Transport::Tcp));
    assert_eq!(bench.wait_of_next(), 0);
    let attempt = bench.attempt();
    bench.answer(&attempt, to(Transport::Udp));
    between(bench.wait_of_next(), 30_000, 60_000);
    let mut bench = Bench::new(1, 1);
    bench.transport = Transport::Tls;
    let attempt = bench.attempt();
    bench.answer(&attempt, to(Transport::Udp));
    assert_eq!((bench.reason(), bench.attempt().redirect), (Some("RedirectFailed"), None));
}

#[test]
fn at_most_five_redirections_are_followed() {
    let mut bench = Bench::new(1, 1);
    let mut followed = 0;
    loop {
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect(302, &format!("hop-{followed}"), None));
        if bench.wait_of_next() > 0 {
            break;
        }
        followed += 1;
    }
    assert_eq!(followed, 5);
}

#[test]
fn a_302_holds_for_its_expiry_a_301_until_it_fails_a_305_once() {
    let where_next = |code, expires| {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect(code, "elsewhere", expires));
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(600));
        let first = bench.attempt();
        bench.answer(&first, ok(600));
        let second = bench.attempt();
        (first.redirect.is_some(), second.redirect.is_some())
    };
    assert_eq!(where_next(302, None), (false, false));
    assert_eq!(where_next(305, None), (false, false));
    assert_eq!(where_next(302, Some(700)), (true, false));
    assert_eq!(where_next(301, None), (true, true));
}

#[test]
fn being_told_to_ask_otherwise_is_no_failure() {
    for told in [Reply { min_expires: Some(900), ..reply(423) }, reply(420), redirect(302, "elsewhere", None)]
    {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, told);
        assert_eq!((bench.state(), bench.reason()), (TrunkState::Pending, None));
    }
}

#[test]
fn a_redirection_without_transport_and_port_means_the_port_of_the_transport_that_stays() {
    for (transport, port) in [(Transport::Udp, 5060), (Transport::Tcp, 5060), (Transport::Tls, 5061)] {
        let mut bench = Bench::new(1, 1);
        bench.transport = transport;
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect(302, "elsewhere", None));
        let to = bench.attempt().redirect.unwrap();
        assert_eq!((to.address.port, to.transport), (port, Some(transport)));
    }
}

#[test]
fn what_was_in_flight_when_the_contact_may_have_changed_is_followed_by_an_early_refresh() {
    for changed in [false, true] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        if changed {
            let now = Moment(bench.at);
            bench.registration.refresh_early(now, &mut bench.rng);
        }
        bench.answer(&attempt, ok(600));
        assert_eq!(bench.wait_of_next() <= 150_000, changed, "{}", bench.wait_of_next());
        bench.round(200, 0);
        assert!(bench.wait_of_next() > 150_000, "once");
    }
}

#[test]
fn no_time_at_all_is_nothing_to_wait_for() {
    for (seconds, held) in [(0, None), (1, Some(1_000))] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        let effect = bench.answer(&attempt, Reply { retry_after: Some(seconds), ..reply(503) });
        assert_eq!(effect.hold_registrar_until, held.map(|ms| Moment(bench.at + ms)));
    }
}

#[test]
fn a_guess_below_what_was_asked_is_no_knowledge() {
    for (expires, learnt) in [(600, Some(1_200)), (3_000, Some(3_600)), (4_000, None)] {
        let mut bench = Bench::new(1, 1);
        bench.settings.expires_s = expires;
        let attempt = bench.attempt();
        bench.answer(&attempt, reply(423));
        let attempt = bench.attempt();
        assert_eq!(attempt.expires, 2 * expires, "the trunk itself asks for more");
        assert_eq!(bench.answer(&attempt, ok(86_400)).min_expires, learnt);
    }
}

fn redirect_to(code: u16, hosts: &[&str]) -> Reply {
    let target = |host: &&str| RedirectContact {
        to: RedirectTarget { address: HostPort::new(host, 5060), transport: None },
        expires: None,
    };
    Reply { targets: hosts.iter().map(target).collect(), ..reply(code) }
}

fn redirected_to(attempt: &Attempt) -> Option<&str> {
    attempt.redirect.as_ref().map(|to| &*to.address.host)
}

#[test]
fn r7_all_targets_of_a_redirection_are_tried_in_order() {
    for failure in [reply(503), reply(480), reply(405)] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect_to(302, &["alive", "spare", "last"]));
        for expected in ["alive", "spare", "last"] {
            assert_eq!(bench.wait_of_next(), 0, "not at once to {expected}");
            let attempt = bench.attempt();
            assert_eq!(redirected_to(&attempt), Some(expected));
            bench.answer(&attempt, failure.clone());
        }
        between(bench.wait_of_next(), 30_000, 60_000);
        assert_eq!(redirected_to(&bench.attempt()), None, "the next round starts at the trunk's own URI");
    }
}

#[test]
fn r8_a_target_that_fails_gives_way_to_the_next_one_and_that_registers() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, redirect_to(302, &["dead", "alive"]));
    let attempt = bench.attempt();
    bench.answer(&attempt, reply(503));
    let attempt = bench.attempt();
    assert_eq!(redirected_to(&attempt), Some("alive"));
    bench.answer(&attempt, ok(600));
    assert_eq!(bench.state(), TrunkState::Registered);
    // After a silence not at once: it may be a password that an EdgePort keeps offering.
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, redirect_to(302, &["silent", "alive"]));
    let attempt = bench.attempt();
    bench.answer(&attempt, reply(408));
    between(bench.wait_of_next(), 5_000, 10_000);
    assert_eq!(redirected_to(&bench.attempt()), Some("alive"));
}

#[test]
fn targets_that_were_tried_are_no_way_back() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, redirect_to(302, &["a", "b"]));
    let attempt = bench.attempt();
    bench.answer(&attempt, redirect_to(302, &["host-0", "c"]));
    let attempt = bench.attempt();
    assert_eq!(redirected_to(&attempt), Some("c"), "a circle");
    bench.answer(&attempt, redirect_to(302, &["a"]));
    let attempt = bench.attempt();
    assert_eq!(redirected_to(&attempt), Some("b"), "what the first one named is still untried");
    bench.answer(&attempt, reply(500));
    between(bench.wait_of_next(), 30_000, 60_000);
}

#[test]
fn r9_without_its_option_tags_a_400_is_asked_once_and_remembered_where_that_works() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, reply(400));
    assert_eq!(bench.wait_of_next(), 0);
    let attempt = bench.attempt();
    assert_eq!(attempt.without_tags, 0b11);
    let effect = bench.answer(&attempt, ok(600));
    assert_eq!(effect.dropped_tags, 0b11, "not reported");
    assert_eq!(bench.attempt().without_tags, 0b11, "not remembered");
    // Where it does not, the tags were not what it was about.
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, reply(400));
    let attempt = bench.attempt();
    bench.answer(&attempt, reply(400));
    between(bench.wait_of_next(), 30_000, 60_000);
    assert_eq!(bench.reason(), Some("Refused"));
    assert_eq!(bench.attempt().without_tags, 0);
}

#[test]
fn a_301_ends_in_time_and_the_configured_registrar_is_asked_again() {
    let mut bench = Bench::new(1, 1);
    bench.settings.redirects.max_s = 900;
    let attempt = bench.attempt();
    bench.answer(&attempt, redirect(301, "elsewhere", Some(86_400)));
    let began = bench.at;
    let mut elsewhere = 0;
    let home = loop {
        let attempt = bench.attempt();
        if redirected_to(&attempt).is_none() {
            break attempt;
        }
        elsewhere += 1;
        let effect = bench.answer(&attempt, ok(600));
        assert_eq!(effect.redirection_changed, elsewhere == 1);
        let shown = bench.registration.redirected(Moment(bench.at)).unwrap();
        assert_eq!((&*shown.to.address.host, shown.until), ("elsewhere", Moment(began + 900_000)));
    };
    assert!(elsewhere >= 2 && bench.at >= began + 900_000, "{elsewhere} within {} ms", bench.at - began);
    assert!(bench.registration.redirected(Moment(bench.at)).is_some(), "the binding is there still");
    assert!(bench.answer(&home, ok(600)).redirection_changed);
    assert_eq!(bench.registration.redirected(Moment(bench.at)), None);
}

#[test]
fn a_redirection_for_one_request_shows_as_long_as_its_binding() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, redirect(302, "elsewhere", None));
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(600));
    let until = bench.registration.binding().unwrap().expires_at;
    let shown = bench.registration.redirected(Moment(bench.at)).unwrap();
    assert_eq!((&*shown.to.address.host, shown.until), ("elsewhere", until));
    assert_eq!(bench.registration.redirected(until), None);
}

#[test]
fn a_redirection_to_another_domain_is_followed_only_where_it_is_allowed() {
    let attempt_after = |policy: RedirectPolicy| {
        let mut bench = Bench::new(1, 1);
        bench.settings.redirects = policy;
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect(301, "evil.example.net", None));
        let reason = bench.reason();
        let attempt = bench.attempt();
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
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, redirect(301, "elsewhere", None));
    let attempt = bench.attempt();
    assert_eq!(redirected_to(&attempt), Some("elsewhere"));
    bench.answer(&attempt, ok(600));
    bench.settings.redirects = RedirectPolicy::default();
    bench.registration.forget_redirections();
    assert_eq!(redirected_to(&bench.attempt()), None);
}

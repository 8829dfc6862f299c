//! Whatever is answered, in whatever order: the properties that always hold.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use routr_types::extension::{Local, LocalKind};

fn any_answer() -> impl Strategy<Value = Result<RegisterResponse, SendError>> {
    let code = prop_oneof![
        3 => Just(Some(200)), 2 => Just(Some(408)), 1 => Just(Some(503)), 1 => Just(Some(423)), 1 => Just(Some(302)),
        1 => Just(Some(420)), 1 => Just(Some(401)), 1 => Just(Some(100)), 2 => proptest::option::of(0_u16..1_000)
    ];
    let number = || proptest::option::of(-2_i32..100_000);
    let whole = || proptest::option::of(any::<u32>());
    let response = (code, number(), number(), whole(), whole(), whole(), 0_u8..4).prop_map(
        |(code, contact_expires, expires, min_expires, retry_after, cseq, host)| {
            let to =
                RedirectTarget { address: HostPort::new(&format!("host-{host}"), 5060), transport: None };
            let contact = (host > 0).then_some(to);
            let unsupported = if host == 1 { vec!["gin".into()] } else { vec![] };
            Ok(RegisterResponse {
                code,
                contact_expires,
                expires,
                min_expires,
                retry_after,
                cseq,
                targets: contact.into_iter().map(|to| RedirectContact { to, expires: None }).collect(),
                unsupported,
                phrase: "x".into(),
                bindings: Vec::new(),
                authentication: None,
                requester_contact: None,
                local: (host == 2).then_some(Local { kind: LocalKind::Timeout, at: None }),
            })
        },
    );
    prop_oneof![
        8 => response,
        1 => Just(Err(SendError::Deadline(Duration::from_secs(40)))),
        1 => Just(Err(SendError::Unavailable("down".into()))),
        1 => Just(Err(SendError::Refused("no".into()))),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Answer(Result<RegisterResponse, SendError>, u64),
    Change(bool),
    Early,
    Refresh,
    Leave,
    Stale,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (any_answer(), 0_u64..45_000).prop_map(|(answer, took)| Step::Answer(answer, took)),
        1 => any::<bool>().prop_map(Step::Change),
        1 => Just(Step::Early),
        1 => Just(Step::Refresh),
        1 => Just(Step::Leave),
        1 => Just(Step::Stale),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is answered, and whatever happens in between: CSeq rises, nothing is due while a request is
    /// in flight, leaving is final and ends, waits are bounded, late answers are harmless, and no refresh is
    /// planned past the expiry.
    #[test]
    fn whatever_happens(uris in 1_u8..5, edges in 1_u8..4, steps in proptest::collection::vec(any_step(), 1..60)) {
        let mut harness = Harness::new(uris, edges);
        let (mut last_cseq, mut left, mut last) = (0, false, None);
        for step in steps {
            if harness.registration.due() == Moment::NEVER {
                prop_assert!(left, "a registration stopped by itself");
                break;
            }
            let now = harness.now();
            match step {
                Step::Answer(answer, took) => {
                    let attempt = harness.attempt();
                    prop_assert!(attempt.cseq > last_cseq && attempt.cseq < 1 << 31);
                    prop_assert_eq!(harness.registration.due(), Moment::NEVER);
                    prop_assert!(attempt.expires <= 86_400);
                    prop_assert_eq!(left, attempt.purpose == Purpose::Deregister);
                    prop_assert_eq!(left, attempt.expires == 0);
                    last_cseq = attempt.cseq;
                    harness.at += took;
                    let (outcome, effect) = harness.answer_with(&attempt, &answer);
                    if !effect.finished {
                        prop_assert!(harness.wait_of_next() <= 24 * 3_600_000);
                        if matches!(outcome, Outcome::Registered { .. }) && !left {
                            let expiry = harness.registration.binding().unwrap().expires_at;
                            // An answer may come after the expiry of what it grants.
                            let latest = expiry.max(harness.now().at);
                            prop_assert!(harness.registration.due() <= latest, "due after the expiry");
                        }
                    }
                    last = Some(attempt);
                }
                Step::Change(same) if !left => {
                    harness.registration.changed(|_| same.then_some(UriIndex(0)), |_| None, 1, now.at);
                    prop_assert_eq!(harness.wait_of_next(), 0);
                }
                Step::Early => harness.registration.refresh_early(now.at, &mut SmallRng::seed_from_u64(1)),
                Step::Refresh => harness.registration.refresh_now(now.at),
                Step::Leave => {
                    left = true;
                    harness.registration.deregister(now);
                }
                Step::Stale => {
                    if let Some(old) = &last {
                        let before = format!("{:?}", harness.registration);
                        harness.answer_with(old, &Ok(ok(600)));
                        prop_assert_eq!(before, format!("{:?}", harness.registration));
                    }
                }
                Step::Change(_) => {}
            }
            prop_assert_eq!(left, harness.registration.is_deregistering());
        }
    }
}

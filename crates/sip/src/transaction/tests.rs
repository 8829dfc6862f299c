use proptest::prelude::*;

use super::*;

/// Runs a transaction to its end with each timer on the dot, and says what was due when, in milliseconds.
fn run(transaction: &mut ClientTransaction, start: Instant) -> Vec<(u128, OnTimer)> {
    let mut log = Vec::new();
    while let Some(at) = transaction.deadline() {
        let due = transaction.on_timer(at);
        assert_ne!(due, OnTimer::Idle);
        log.push(((at - start).as_millis(), due));
    }
    log
}

fn resends(log: &[(u128, OnTimer)]) -> Vec<u128> {
    log.iter().filter(|(_, due)| *due == OnTimer::Retransmit).map(|(at, _)| *at).collect()
}

#[test]
fn timer_e_doubles_up_to_t2_and_timer_f_ends_it() {
    let start = Instant::now();
    let log = run(&mut ClientTransaction::start(Timers::default(), false, start), start);
    // 0.5, then 1, 2, 4, 4 ... after each other.
    assert_eq!(resends(&log), [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    assert_eq!(log.last(), Some(&(32_000, OnTimer::TimedOut)));
}

#[test]
fn nothing_is_sent_again_on_a_reliable_transport() {
    let start = Instant::now();
    let mut transaction = ClientTransaction::start(Timers::default(), true, start);
    assert_eq!(run(&mut transaction.clone(), start), [(32_000, OnTimer::TimedOut)]);
    assert_eq!(transaction.on_response(200, start), OnResponse::Final);
    assert_eq!((transaction.state(), transaction.deadline()), (State::Terminated, None));
}

#[test]
fn after_a_provisional_timer_e_is_t2() {
    let start = Instant::now();
    let mut transaction = ClientTransaction::start(Timers::default(), false, start);
    assert_eq!(transaction.on_response(100, start + Duration::from_millis(100)), OnResponse::Provisional);
    assert_eq!(transaction.state(), State::Proceeding);
    let log = run(&mut transaction, start);
    // The timer that is set still fires at 500 ms.
    assert_eq!(resends(&log), [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500]);
    assert_eq!(log.last(), Some(&(32_000, OnTimer::TimedOut)));
}

#[test]
fn a_final_response_is_delivered_once_and_timer_k_ends_it() {
    let start = Instant::now();
    let mut transaction = ClientTransaction::start(Timers::default(), false, start);
    let answered = start + Duration::from_secs(2);
    assert_eq!(transaction.on_response(401, answered), OnResponse::Final);
    assert_eq!(transaction.on_response(401, answered), OnResponse::Absorb);
    assert_eq!(transaction.on_response(100, answered), OnResponse::Absorb);
    assert_eq!(transaction.on_timer(answered), OnTimer::Idle);
    assert_eq!(run(&mut transaction, start), [(7_000, OnTimer::Over)]);
    assert_eq!(transaction.on_response(200, answered), OnResponse::Absorb);
    assert_eq!(transaction.on_timer(answered + Duration::from_secs(60)), OnTimer::Idle);
}

#[test]
fn a_late_call_sends_once() {
    let start = Instant::now();
    let mut transaction = ClientTransaction::start(Timers::default(), false, start);
    let late = start + Duration::from_secs(20);
    assert_eq!(transaction.on_timer(late), OnTimer::Retransmit);
    assert_eq!(transaction.on_timer(late), OnTimer::Idle);
    assert_eq!(transaction.on_timer(start + Duration::from_secs(32)), OnTimer::TimedOut);
}

proptest! {
    /// Whatever comes in whatever order: it ends by Timer F or K, one outcome at most, nothing sent after
    /// that.
    #[test]
    fn it_always_ends_with_one_outcome(
        reliable: bool,
        events in proptest::collection::vec((0u64..8_000, proptest::option::of(100u16..700)), 0..40),
    ) {
        let start = Instant::now();
        let mut transaction = ClientTransaction::start(Timers::default(), reliable, start);
        let (mut now, mut outcomes) = (start, 0);
        let events = events.into_iter().chain([(32_000, None), (5_000, None)]);
        for (wait, response) in events {
            now += Duration::from_millis(wait);
            let before = outcomes;
            match response {
                Some(code) => outcomes += u32::from(transaction.on_response(code, now) == OnResponse::Final),
                None => match transaction.on_timer(now) {
                    OnTimer::TimedOut => outcomes += 1,
                    OnTimer::Retransmit => {
                        prop_assert!(!reliable && outcomes == 0);
                        prop_assert!(now < start + Timers::default().f());
                    }
                    _ => {}
                },
            }
            prop_assert!(outcomes <= 1 && outcomes >= before);
            if let Some(deadline) = transaction.deadline() {
                prop_assert!(deadline <= start + Timers::default().f() || transaction.state() == State::Completed);
            }
        }
        prop_assert_eq!((transaction.state(), outcomes), (State::Terminated, 1));
    }
}

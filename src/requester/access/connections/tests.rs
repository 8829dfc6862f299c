//! Places of callers, and what ends a connection.

use super::*;

fn host(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn working(usage: &Arc<Usage>) -> Call {
    let mut call = usage.begin();
    call.work();
    call
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_takes_the_place_of_the_one_that_is_missed_least() {
    let (all, access) = (
        Arc::new(Connections::default()),
        AccessOptions {
            max_connections: 4,
            token: Some(Arc::new(crate::requester::access::Token::given("x".repeat(32)))),
            ..AccessOptions::default()
        },
    );
    let admit = |from: u8| {
        let all = all.clone();
        let access = access.clone();
        async move {
            tokio::time::advance(Duration::from_millis(10)).await;
            all.admit(host(from), &access)
        }
    };
    let (known, many, more) = (admit(1).await.unwrap(), admit(2).await.unwrap(), admit(2).await.unwrap());
    let busy = admit(2).await.unwrap();
    known.is_known();
    let _call = working(&busy);
    // The host with most of them, the oldest first; one with a call stays.
    let next = admit(3).await.unwrap();
    assert!(many.close.is_cancelled() && !more.close.is_cancelled());
    let after = admit(3).await.unwrap();
    assert!(more.close.is_cancelled());
    let _calls = [working(&next), working(&after)];
    // Only now the one who showed who it is.
    let last = admit(4).await.unwrap();
    assert!(known.close.is_cancelled());
    let _last = working(&last);
    assert!(admit(5).await.is_none(), "each has a call in progress");
    drop((many, more, known));
    assert_eq!(all.open().len(), 4);
    drop((_last, last));
    assert!(admit(5).await.is_some());
}

/// Attackers never run out of calls whose messages do not come, and of responses that they do not take.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_their_own_caller_keep_no_place_and_no_host_keeps_more_than_half() {
    let access = AccessOptions { max_connections: 4, ..AccessOptions::default() };
    let all = Arc::new(Connections::default());
    let crowd: Vec<_> = (0..4).map(|_| all.admit(host(1), &access).unwrap()).collect();
    let mut calls: Vec<_> = crowd.iter().map(Usage::begin).collect();
    calls[1].work();
    calls[1].respond();
    crowd.iter().for_each(|usage| usage.is_known());
    // One who has not called yet stays: where no one has to show anything, being known says nothing.
    let honest = all.admit(host(2), &access).unwrap();
    for _ in 0..3 {
        all.admit(host(1), &access).unwrap();
    }
    assert!(!honest.close.is_cancelled());
    drop((crowd, calls, honest));
    let busy: Vec<_> = (0..4).map(|_| all.admit(host(1), &access).unwrap()).collect();
    let _calls: Vec<_> = busy.iter().map(working).collect();
    assert!(all.admit(host(1), &access).is_none(), "of the same host");
    let other = all.admit(host(2), &access).unwrap();
    assert_eq!(busy.iter().filter(|usage| usage.close.is_cancelled()).count(), 1);
    assert!(all.admit(host(1), &access).is_none() && !other.close.is_cancelled(), "it has not called yet");
    let _other = working(&other);
    let third = all.admit(host(2), &access).unwrap();
    let _third = working(&third);
    assert!(all.admit(host(2), &access).is_none(), "no host has more than half");
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_or_takes_nothing_is_ended() {
    let (all, access) = (Arc::new(Connections::default()), AccessOptions::default());
    let admit = || all.admit(host(1), &access).unwrap();
    let [silent, unknown, known, busy, untaken] = [admit(), admit(), admit(), admit(), admit()];
    for usage in [&unknown, &known, &busy, &untaken] {
        usage.read(PREFACE_BYTES);
    }
    known.is_known();
    let _busy = busy.begin();
    let mut call = untaken.begin();
    call.respond();
    let mut ended = Vec::new();
    for (at, expected) in [(9, 0), (10, 1), (30, 2), (60, 3), (599, 3), (600, 4)] {
        tokio::time::advance(Duration::from_secs(at) - silent.opened.elapsed()).await;
        all.sweep(&access);
        let all = [&silent, &untaken, &unknown, &known, &busy];
        ended = all.map(|usage| usage.close.is_cancelled()).to_vec();
        assert_eq!(ended.iter().filter(|ended| **ended).count(), expected, "after {at} s: {ended:?}");
    }
    assert_eq!(ended, [true, true, true, true, false]);
}

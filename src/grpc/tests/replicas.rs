//! Several Requesters: a trunk is kept at one while that one lives.

use std::collections::BTreeMap;

use super::{reaching::Pod, *};

/// REGISTERs of so many registrations.
const REGISTRATIONS: usize = 300;

/// Address that each Call-ID came to.
type Places = BTreeMap<String, SocketAddr>;

fn requester_at(addresses: &[SocketAddr]) -> GrpcRequester {
    let all: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    GrpcRequester::new(&settings(&format!("'ipv4:{}'", all.join(",")), "")).unwrap()
}

fn call_id(number: usize) -> String {
    format!("{number:x}@registry")
}

async fn send(requester: &GrpcRequester, number: usize) {
    let request = RegisterRequest { call_id: call_id(number).into(), ..register() };
    assert_eq!(requester.register(request, TIMEOUT).await.unwrap().code, Some(200));
}

/// Call-IDs that came to each since the last time.
fn seen(pods: &mut [Pod]) -> Vec<(SocketAddr, Vec<String>)> {
    let ids = |pod: &mut Pod| {
        let requests = std::iter::from_fn(|| pod.seen.try_recv().ok());
        requests.map(|request| request.message.unwrap().call_id.unwrap().call_id).collect()
    };
    pods.iter_mut().map(|pod| (pod.address, ids(pod))).collect()
}

/// Sends a REGISTER of each registration, and returns where each went: to one place, once.
async fn round(requester: &GrpcRequester, pods: &mut [Pod]) -> Places {
    seen(pods);
    for number in 0..REGISTRATIONS {
        send(requester, number).await;
    }
    let came = seen(pods).into_iter();
    let all: Vec<_> = came.flat_map(|(at, ids)| ids.into_iter().map(move |id| (id, at))).collect();
    assert_eq!(all.len(), REGISTRATIONS, "each once");
    all.into_iter().collect()
}

/// Sends until each of them is used.
async fn all_used(requester: &GrpcRequester, pods: &mut [Pod]) {
    let end = tokio::time::Instant::now() + TIMEOUT;
    let mut used = vec![false; pods.len()];
    while used.contains(&false) {
        assert!(tokio::time::Instant::now() < end, "one of them is not used: {used:?}");
        for number in 0..20 {
            send(requester, number).await;
        }
        for (used, (_, ids)) in used.iter_mut().zip(seen(pods)) {
            *used |= !ids.is_empty();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_trunk_is_kept_at_one_replica_and_the_share_of_each_is_even() {
    let mut pods = [Pod::start(1).await, Pod::start(2).await, Pod::start(3).await];
    let addresses = pods.each_ref().map(|pod| pod.address);
    let requester = requester_at(&addresses);
    all_used(&requester, &mut pods).await;
    let first = round(&requester, &mut pods).await;
    for at in addresses {
        let share = first.values().filter(|other| **other == at).count();
        assert!((50..=150).contains(&share), "{share} of {REGISTRATIONS} at {at}");
    }
    for _ in 0..3 {
        assert_eq!(round(&requester, &mut pods).await, first);
    }
    // Another registry, or the replica of this one that takes over, and in another order of the addresses.
    let [one, two, three] = addresses;
    let other = requester_at(&[three, one, two]);
    all_used(&other, &mut pods).await;
    assert_eq!(round(&other, &mut pods).await, first);
}

#[tokio::test]
async fn when_a_replica_ends_its_trunks_alone_move_and_come_back_with_it() {
    let mut pods = vec![Pod::start(1).await, Pod::start(2).await, Pod::start(3).await];
    let addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
    let requester = requester_at(&addresses);
    all_used(&requester, &mut pods).await;
    let before = round(&requester, &mut pods).await;

    // No call fails meanwhile: `send` would.
    let gone = pods.pop().unwrap().stop().await;
    let without = round(&requester, &mut pods).await;
    for (id, at) in &before {
        match *at == gone {
            true => assert_ne!(without[id], gone, "{id}"),
            false => assert_eq!(without[id], *at, "{id}"),
        }
    }
    assert_eq!(round(&requester, &mut pods).await, without, "they stay there, too");

    pods.push(Pod::at(gone).await);
    all_used(&requester, &mut pods).await;
    assert_eq!(round(&requester, &mut pods).await, before);
}

/// Sends REGISTERs until the Requesters' capacity is so much.
async fn until_capacity(requester: &GrpcRequester, capacity: u32) {
    let (link, end) = (requester.link(), tokio::time::Instant::now() + TIMEOUT);
    while link.borrow().capacity != Some(capacity) {
        assert!(tokio::time::Instant::now() < end, "{:?}", *link.borrow());
        for number in 0..20 {
            send(requester, number).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_second_replica_adds_its_capacity_and_is_no_restart_of_the_first() {
    let any = |last: u8| SocketAddr::from(([127, 0, 0, last], 0));
    let first = Pod::named(any(1), Some(("first", 10))).await;
    // The address is known to be free, and nobody listens there yet.
    let second = Pod::start(2).await.stop().await;
    let requester = requester_at(&[first.address, second]);
    let link = requester.link();
    until_capacity(&requester, 10).await;

    let pod = Pod::named(second, Some(("second", 20))).await;
    until_capacity(&requester, 30).await;
    assert_eq!(link.borrow().restarts, 0, "the second one appeared");
    let second = pod.stop().await;
    until_capacity(&requester, 10).await;
    assert_eq!(link.borrow().restarts, 0, "the second one ended");
    let _pod = Pod::named(second, Some(("third", 40))).await;
    until_capacity(&requester, 50).await;
    assert_eq!(link.borrow().restarts, 1, "another one at the second one's address");
}

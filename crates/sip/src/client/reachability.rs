//! Addresses that do not respond, where a destination has several: they are passed over for a while.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::resolve::Located;
use routr_types::host::Transport;

/// First and longest time that an address is passed over.
const PASSED_OVER: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
/// Time in which one request alone tries an address again; the others pass it over until then.
const PROBE_TIME: Duration = Duration::from_secs(10);
/// Most addresses of which something is known.
const MAX_KNOWN: usize = 4096;

/// Addresses that did not respond, with the time until which they are passed over.
#[derive(Debug, Default)]
pub(super) struct Reachability(Mutex<HashMap<(SocketAddr, Transport), Known>>);

#[derive(Debug)]
struct Known {
    /// Passed over until then; `None`: it responds.
    until: Option<Instant>,
    /// The last time that it was passed over.
    pause: Duration,
    responded: Option<Instant>,
}

impl Reachability {
    fn lock(&self) -> MutexGuard<'_, HashMap<(SocketAddr, Transport), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts those that are passed over last, and `preferred` first of its group. Where the time of one is
    /// over, this request tries it.
    pub(super) fn order(
        &self,
        mut all: Vec<Located>,
        transport: Transport,
        preferred: Option<SocketAddr>,
    ) -> Vec<SocketAddr> {
        if all.len() > 1 {
            all.sort_by_key(|one| (one.group, Some(one.address) != preferred));
            let (now, mut known) = (Instant::now(), self.lock());
            let mut is_passed_over = |address: SocketAddr| {
                let Some(one) = known.get_mut(&(address, transport)) else { return false };
                let passed_over = one.until.is_some_and(|until| until > now);
                if one.until.is_some() && !passed_over {
                    one.until = Some(now + PROBE_TIME);
                }
                passed_over
            };
            all.sort_by_cached_key(|one| is_passed_over(one.address));
        }
        all.into_iter().map(|one| one.address).collect()
    }

    /// It responded.
    pub(super) fn responded(&self, address: SocketAddr, transport: Transport) {
        let mut known = self.lock();
        make_room(&mut known);
        let now = Some(Instant::now());
        let new = Known { until: None, pause: Duration::ZERO, responded: now };
        let before = known.insert((address, transport), new);
        if before.is_some_and(|before| before.until.is_some()) {
            tracing::info!(%address, %transport, "the registrar's address responds again");
        }
    }

    /// It did not respond to a request that was sent `since`, for that reason; it is passed over, for
    /// `at_least` so long. One that responded to others meanwhile is not at fault.
    pub(super) fn failed(
        &self,
        address: SocketAddr,
        transport: Transport,
        since: Instant,
        at_least: Duration,
        why: &str,
    ) {
        let mut known = self.lock();
        make_room(&mut known);
        let (first, longest) = PASSED_OVER;
        let one = known.entry((address, transport)).or_insert(Known {
            until: None,
            pause: Duration::ZERO,
            responded: None,
        });
        if one.responded.is_some_and(|at| at >= since) {
            return;
        }
        let now = Instant::now();
        let news = one.until.is_none();
        // Of many requests that were sent at the same time, the first counts.
        if one.until.is_none_or(|until| until <= now + PROBE_TIME) {
            one.pause = (one.pause * 2).clamp(first, longest).max(at_least.min(longest));
            one.until = Some(now + one.pause);
        }
        let seconds = one.pause.as_secs();
        drop(known);
        if news {
            tracing::warn!(
                %address, %transport, seconds,
                "the registrar's address is passed over: {why}; its others are used"
            );
        }
    }
}

fn make_room(known: &mut HashMap<(SocketAddr, Transport), Known>) {
    if known.len() < MAX_KNOWN {
        return;
    }
    let now = Instant::now();
    known.retain(|_, one| one.until.is_some_and(|until| until > now));
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 5060))
    }

    fn all() -> Vec<Located> {
        [(1, 0), (2, 0), (3, 1)].map(|(number, group)| Located { address: at(number), group }).into()
    }

    fn order(reachability: &Reachability, preferred: Option<SocketAddr>) -> Vec<SocketAddr> {
        reachability.order(all(), Transport::Udp, preferred)
    }

    fn fail(reachability: &Reachability, number: u8) {
        reachability.failed(at(number), Transport::Udp, Instant::now(), Duration::ZERO, "silence");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_is_passed_over_for_a_while_and_tried_by_one() {
        let reachability = Reachability::default();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(order(&reachability, None), [at(1), at(2), at(3)]);
        fail(&reachability, 1);
        assert_eq!(order(&reachability, None), [at(2), at(3), at(1)]);
        assert_eq!(
            reachability.order(all(), Transport::Tcp, None)[0],
            at(1),
            "over TCP it is another matter"
        );
        tokio::time::advance(PASSED_OVER.0).await;
        assert_eq!(order(&reachability, None)[0], at(1), "one tries");
        assert_eq!(order(&reachability, None)[0], at(2), "and no other");
        // Each time for longer.
        fail(&reachability, 1);
        tokio::time::advance(PASSED_OVER.0).await;
        assert_eq!(order(&reachability, None)[0], at(2));
        tokio::time::advance(PASSED_OVER.0).await;
        assert_eq!(order(&reachability, None)[0], at(1));
        reachability.responded(at(1), Transport::Udp);
        assert_eq!(order(&reachability, None), [at(1), at(2), at(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_dead_all_are_tried_in_their_order() {
        let reachability = Reachability::default();
        (1..=3).for_each(|number| fail(&reachability, number));
        assert_eq!(order(&reachability, None), [at(1), at(2), at(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_responds_to_others_is_not_at_fault() {
        let reachability = Reachability::default();
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        reachability.responded(at(1), Transport::Udp);
        reachability.failed(at(1), Transport::Udp, since, Duration::ZERO, "silence");
        assert_eq!(order(&reachability, None)[0], at(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_preferred_address_goes_first_among_those_that_are_as_good() {
        let reachability = Reachability::default();
        assert_eq!(order(&reachability, Some(at(2))), [at(2), at(1), at(3)]);
        assert_eq!(order(&reachability, Some(at(3))), [at(1), at(2), at(3)], "a worse one does not");
        fail(&reachability, 2);
        assert_eq!(order(&reachability, Some(at(2))), [at(1), at(3), at(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_bounded() {
        let reachability = Reachability::default();
        for port in 1..10_000 {
            reachability.responded(SocketAddr::from(([192, 0, 2, 1], port)), Transport::Udp);
        }
        assert!(reachability.lock().len() <= MAX_KNOWN);
    }
}

//! nginx and HAProxy with the time-outs that they have by themselves: a registry behind them sends no
//! REGISTER more than without.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::DropGuard;

use super::grpc::{all_registered, granting, names, run_through, start_requester};
use crate::standalone::test_registry::{TestRegistry, told};
use crate::support::proxy::Proxy;
use crate::support::service::Service;

/// Time that the registries are watched, in seconds; the variable PROXY_SECONDS has another number: with 600,
/// each time-out comes several times.
const WATCHED: u64 = 15;
/// Expiries that registrars grant, in seconds: refreshes at every moment, after less than the time-outs, and
/// after more.
const GRANTED: [u32; 3] = [10, 60, 240];

/// A registry with its dependencies, and what is between it and the Requester.
struct Behind {
    stage: TestRegistry,
    service: Service,
    granted: u32,
    _proxy: Option<Proxy>,
    _ends: [DropGuard; 2],
}

impl Behind {
    async fn start(granted: u32, proxy: impl AsyncFnOnce(u16) -> Option<Proxy>) -> Self {
        let (stage, end) = granting(granted).await;
        let requester = start_requester(&stage).await;
        let proxy = proxy(stage.requester_port).await;
        let port = proxy.as_ref().map_or(stage.requester_port, Proxy::port);
        let service = run_through(&stage, port);
        all_registered(&stage, &BTreeSet::new()).await;
        Self { stage, service, granted, _proxy: proxy, _ends: [end, requester] }
    }

    /// Grants so far. Fails where a trunk was refreshed early, or has expired.
    fn grants(&self, what: &str) -> usize {
        let granted = Duration::from_secs(u64::from(self.granted));
        // The lead is 5 s, and the refresh is drawn from the tenth before that. On a busy machine a REGISTER
        // comes late.
        let earliest = granted * 9 / 10 - Duration::from_secs(5) - Duration::from_millis(1_500);
        let log = self.stage.registrar.log();
        for name in names() {
            let of = log.iter().filter(|seen| seen.user == name && seen.code == Some(200));
            let times: Vec<Duration> = of.map(|seen| seen.at).collect();
            for pair in times.windows(2) {
                let between = pair[1].saturating_sub(pair[0]);
                assert!(between > earliest, "{what}: {name} was refreshed early, at {times:?}");
                assert!(between < granted, "{what}: {name} expired, at {times:?}");
            }
        }
        for event in ["restarted", "Requester fails", "hangs", "Requester responds again"] {
            assert_eq!(told(&self.service, event), Vec::<String>::new(), "{what}");
        }
        log.iter().filter(|seen| seen.code == Some(200)).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_behind_proxies_with_their_default_time_outs_no_register_more_is_sent() {
    let seconds = std::env::var("PROXY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(WATCHED);
    let direct = join_all(GRANTED.map(|granted| Behind::start(granted, async |_| None))).await;
    let nginx = join_all(
        GRANTED.map(|granted| Behind::start(granted, async |port| Some(Proxy::nginx_by_default(port).await))),
    )
    .await;
    let haproxy = join_all(
        GRANTED
            .map(|granted| Behind::start(granted, async |port| Some(Proxy::haproxy_by_default(port).await))),
    )
    .await;
    // What is watched for is that nothing happens.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for (what, all) in [("direct", &direct), ("nginx", &nginx), ("HAProxy", &haproxy)] {
        let grants: Vec<usize> = all.iter().map(|behind| behind.grants(what)).collect();
        println!(
            "{what}, {seconds} s, {} trunks each: granted for {GRANTED:?} s, {grants:?} REGISTERs",
            names().len()
        );
    }
    for behind in direct.iter().chain(&nginx).chain(&haproxy) {
        all_registered(&behind.stage, &BTreeSet::new()).await;
    }
}

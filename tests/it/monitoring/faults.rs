//! A real Prometheus watches a real operator and a real Requester while one thing after the other breaks:
//! each alert is silent before and fires then, and each query of the dashboards returns something.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use nix::sys::signal::Signal;
use routr_registry::proto::trunks::Trunk;
use tokio::time::Instant;

use super::dashboards::queries;
use super::prometheus::Prometheus;
use super::{RULES, name, rules, text};
use crate::operator::harness::{Dependencies, Installation, SOON, TestRegistry, manifest};
use crate::standalone::test_registry::trunk;
use crate::support::control_plane::ControlPlane;
use crate::support::process;
use crate::support::redis::{Options, Redis};
use crate::support::service::Service;
use crate::support::wait::{wait_for, wait_until};
use crate::support::{http, ports};

/// Alerts of faults that cannot be caused from outside: an engine that neither ends nor responds.
const NOT_CAUSED: [&str; 1] = ["RoutrEngineDown"];

/// The rules with times for a test: what `for` waits for, and bounds on ages and windows.
fn hasty_rules() -> String {
    let mut rules = String::new();
    for line in text(RULES).lines() {
        let line = match line.trim_start().strip_prefix("for: ") {
            Some(_) => "        for: 0s",
            None => line,
        };
        writeln!(rules, "{line}").unwrap();
    }
    for (patient, hasty) in [
        ("[15m]", "[20s]"),
        ("[10m]", "[8s]"),
        (" < 900)", " < 3)"),
        (" < 300)", " < 3600)"),
        ("]) > 3", "]) > 0"),
    ] {
        assert!(rules.contains(patient), "{patient} in {rules}");
        rules = rules.replace(patient, hasty);
    }
    rules
}

/// A Prometheus that watches, and what it has shown so far.
struct Watch {
    prometheus: Prometheus,
    /// Panels that have shown nothing so far, with their queries.
    open: BTreeMap<String, String>,
    /// Each alert that has fired, with the fault before it and the milliseconds since then.
    fired: BTreeMap<String, (&'static str, u128)>,
}

impl Watch {
    /// Asks the queries that have shown nothing so far.
    async fn look_at_panels(&mut self) {
        for (panel, query) in self.open.clone() {
            let found =
                self.prometheus.query(&query).await.unwrap_or_else(|error| panic!("{panel}: {error}"));
            if found.iter().any(|(_, value)| value != "NaN") {
                self.open.remove(&panel);
            }
        }
    }

    /// Waits until each of these alerts fires, because of this fault.
    async fn fire(&mut self, fault: &'static str, alerts: &[&str]) {
        let began = Instant::now();
        let mut missing: BTreeSet<String> = alerts.iter().map(|&alert| alert.to_owned()).collect();
        let look = async || {
            for alert in self.prometheus.firing(2).await? {
                if missing.remove(&alert) {
                    self.fired.entry(alert).or_insert((fault, began.elapsed().as_millis()));
                }
            }
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} do not fire")) }
        };
        wait_for(look, SOON, &format!("the alerts of: {fault}")).await;
        self.look_at_panels().await;
    }
}

/// Trunks that the registrar takes.
fn good(stage: &TestRegistry) -> Vec<Trunk> {
    (0..10).map(|n| stage.trunk(&format!("good-{n}"))).collect()
}

/// Trunks that fail: rejected, not configured as they should be, and at a registrar that is not there.
fn bad(stage: &TestRegistry) -> Vec<Trunk> {
    let mut rejected = stage.trunk("rejected");
    if let Some(credentials) = &mut rejected.outbound_credentials {
        credentials.password = "of-another-trunk".to_owned();
    }
    let mut invalid = stage.trunk("invalid");
    invalid.uris[0].host = String::new();
    let closed = ports::free();
    // By TCP the refusal of the connection is known at once; by UDP it takes half a minute of silence.
    let lost = (0..4).map(|n| {
        let mut lost = trunk(&format!("lost-{n}"), "127.0.0.1", closed);
        lost.uris[0].transport = "TCP".to_owned();
        lost
    });
    [rejected, invalid].into_iter().chain(lost).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_fires_by_its_fault_and_not_before_and_each_panel_shows_something() {
    let values = ["rbac.namespaceFinalizerCleanup=false"];
    let cluster = Installation::on(ControlPlane::shared().await, "monitoring", &values).await;
    let namespace = cluster.namespace.name().to_owned();
    let mut redis = Redis::start(Options::default()).await;
    let mut stage = TestRegistry::bare().await;
    stage.api.set_trunks(good(&stage));
    stage.start_api().await;
    let (bind, requester_public) = (format!("127.0.0.1:{}", stage.requester_port()), ports::free());
    let listen = format!("127.0.0.1:{requester_public}");
    let mut requester = Service::start(["requester", "--http-listen", &listen], &[("BIND_ADDR", &bind)]);
    let operator = cluster.start("pod-a");
    let targets = [("operator", operator.public), ("requester", requester_public)];
    let prometheus = Prometheus::start(&hasty_rules(), &targets).await;
    let open: BTreeMap<String, String> = queries().into_iter().collect();
    let mut watch = Watch { prometheus, open, fired: BTreeMap::new() };

    let cache =
        format!("  cache:\n    provider: redis\n    parameters: host=127.0.0.1,port={}\n", redis.port());
    cluster.apply("main", &stage, &format!("{cache}  registration:\n    expires: 10s\n")).await;
    let well = async || {
        let registered = r#"routr_registry_trunks{registry="main",state="registered"} == 10 and on () up{job="requester"} == 1"#;
        let registered = watch.prometheus.query(registered).await?;
        // Of a start, too, nothing may be left.
        let firing = watch.prometheus.firing(4).await?;
        if registered.len() == 1 && firing.is_empty() {
            Ok(())
        } else {
            Err(format!("{registered:?}, {firing:?}; {}", process::tail(&operator.service.output())))
        }
    };
    wait_for(well, SOON, "all trunks to be registered and no alert to fire").await;
    // A refresh, so that its lateness is there.
    let refreshed = async || {
        let query = "sum(rate(routr_registry_refresh_delay_seconds_count[8s])) > 0";
        watch.prometheus.query(query).await.is_ok_and(|found| !found.is_empty())
    };
    wait_until(refreshed, SOON, "a refresh").await;
    let firing = watch.prometheus.firing(4).await.unwrap();
    assert!(firing.is_empty(), "all is well: {firing:?}");
    watch.look_at_panels().await;

    // A registrar rejects what it took before; others have never been good.
    let trunks = || good(&stage).into_iter().chain(bad(&stage)).collect::<Vec<_>>();
    stage.api.set_trunks(trunks());
    stage.registrar.set_password("good-0", "changed-at-the-provider");
    let missing =
        "  cache:\n    provider: redis\n    passwordSecretRef: { name: not-there, key: password }\n";
    cluster.apply("stalled", &stage, missing).await;
    let tight = "  registration:\n    expires: 10s\n    ratePerRegistrar: \"0.5\"\n";
    cluster.apply("tight", &stage, tight).await;
    let alerts =
        ["RoutrCredentialsRejected", "RoutrTrunksFailing", "RoutrTrunksInvalid", "RoutrBindingsExpiring"];
    watch.fire("trunks that are rejected or invalid", &alerts).await;
    watch.fire("a registrar that is not there", &["RoutrRegistrarDown"]).await;
    watch.fire("a Secret that is not there", &["RoutrRegistryStalled"]).await;
    watch.fire("a rate that is too low", &["RoutrBudgetTooSmall"]).await;

    // It takes requests and does nothing with them.
    requester.signal(Signal::SIGSTOP);
    let many = (0..200).map(|n| stage.trunk(&format!("more-{n}")));
    stage.api.set_trunks(trunks().into_iter().chain(many).collect());
    watch.fire("a Requester that is too slow", &["RoutrRequesterSaturated"]).await;
    requester.kill().await;
    watch.fire("no Requester", &["RoutrRequesterDown"]).await;

    redis.kill().await;
    let refresh = format!(
        "http://127.0.0.1:{}/registrations/good-1/refresh?registry={namespace}/main",
        operator.private
    );
    http::post(&refresh, String::new()).await.unwrap();
    watch.fire("no Redis", &["RoutrCacheDown"]).await;
    stage.stop_api().await;
    watch.fire("no API server", &["RoutrAPIServerDown", "RoutrSyncStale"]).await;

    // The rights are taken away, and there is something to write and to follow.
    cluster.kubectl(&["delete", "rolebinding", "routr-registry"]).await.ok();
    stage.start_api().await;
    cluster.apply_manifest(&manifest("late", &stage, "")).await;
    watch.fire("no rights", &["RoutrStatusWritesFailing", "RoutrReconcilesFailing"]).await;

    drop(operator);
    watch.fire("no operator", &["RoutrLeaderMissing"]).await;

    for (alert, (fault, after)) in &watch.fired {
        println!("{alert:26} {after:6} ms after: {fault}");
    }
    let expected = rules()
        .iter()
        .map(|rule| name(rule).to_owned())
        .filter(|alert| !NOT_CAUSED.contains(&&**alert))
        .collect();
    assert_eq!(watch.fired.into_keys().collect::<BTreeSet<String>>(), expected, "what fired");
    assert!(watch.open.is_empty(), "panels that never showed anything: {:#?}", watch.open.keys());
}

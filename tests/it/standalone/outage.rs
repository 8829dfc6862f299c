//! Dependencies that are not there: at the start, later, and again.

use super::SOON;
use super::test_registry::{TestRegistry, log, tells, told};
use crate::support::redis::{Options, Redis};
use crate::support::wait::{wait_for, wait_until};

const REDIS_PASSWORD: &str = "only-for-redis";

fn cache(redis: &Redis) -> String {
    format!(
        "  cache:\n    provider: redis\n    parameters: host=127.0.0.1,port={},password={REDIS_PASSWORD}\n",
        redis.port()
    )
}

/// Value of a metric, by its name and labels as they are written.
pub fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split(' ').next()?.parse().ok()
}

#[tokio::test]
async fn it_starts_without_any_dependency_says_so_and_recovers_as_they_come() {
    let mut stage = TestRegistry::bare().await;
    let mut redis = Redis::start(Options { password: REDIS_PASSWORD.to_owned(), persistent: false }).await;
    redis.kill().await;
    stage.write(&stage.config(&cache(&redis)));
    stage.trunks(&["a", "b"]);
    let service = stage.run(&[]);

    let down = async || {
        let (status, text) = stage.public("/readyz").await?;
        let all = status == 503
            && text.starts_with("not ready\n")
            && text.contains("trunks    failed   not read yet: the API server cannot be reached: ")
            && text.contains("api       degraded not working for ")
            && text.contains("cache     degraded not working for ");
        if all { Ok(()) } else { Err(text) }
    };
    wait_for(down, SOON, "/readyz to tell that nothing is there").await;
    assert_eq!(stage.public("/livez").await, Ok((200, "OK".to_owned())), "a restart would repair nothing");
    let (_, metrics) = stage.public("/metrics").await.unwrap();
    assert_eq!(metric(&metrics, "routr_registry_dependency_up{dependency=\"api\"}"), Some(0.0), "{metrics}");
    assert_eq!(metric(&metrics, "routr_registry_dependency_up{dependency=\"cache\"}"), Some(0.0));
    assert_eq!(
        metric(&metrics, "routr_registry_dependency_up{dependency=\"requester\"}"),
        None,
        "never tried"
    );

    stage.start_api().await;
    let waiting = async || {
        let (status, text) = stage.public("/readyz").await?;
        let told = status == 503 && text.contains("requester failed   not working for ");
        if told { Ok(()) } else { Err(text) }
    };
    // Nothing is sent while the cache is awaited.
    wait_for(waiting, 3 * SOON, "/readyz to miss the Requester").await;
    let (_, metrics) = stage.public("/metrics").await.unwrap();
    assert_eq!(
        metric(&metrics, "routr_registry_dependency_up{dependency=\"requester\"}"),
        Some(0.0),
        "{metrics}"
    );
    assert_eq!(metric(&metrics, "routr_registry_trunks{state=\"registered\"}"), Some(0.0), "{metrics}");
    let views = stage.views().await.unwrap();
    assert_eq!(views.len(), 2);
    assert!(views.values().any(|view| view["failure"]["reason"] == "RequesterUnavailable"), "{views:?}");
    assert!(views.values().all(|view| view["failures"] == 0), "the way is broken, not a trunk: {views:?}");

    stage.start_requester().await;
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    let (status, text) = stage.public("/readyz").await.unwrap();
    assert!(status == 200 && text.starts_with("ready\n"), "{text}");

    redis.restart().await;
    tells(&service, "the cache is back", 1).await;
    let kept = async || match redis.command("DBSIZE").await {
        Ok(size) if size != ":0" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(kept, SOON, "the registrations to be written to Redis").await;
    assert_eq!(told(&service, "the API server is back").len(), 1);
    assert_eq!(stage.granted().values().sum::<usize>(), 2, "one REGISTER for each trunk");
    service.assert_never_said(REDIS_PASSWORD);
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn a_scrape_and_the_probes_tell_the_truth_while_everything_is_down() {
    let mut stage = TestRegistry::with(&["a", "b"]).await;
    let redis = Redis::start(Options { password: REDIS_PASSWORD.to_owned(), persistent: false }).await;
    stage.write(&stage.config(&cache(&redis)));
    let service = stage.run(&[]);
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    let ready = async || stage.public("/readyz").await.is_ok_and(|(status, _)| status == 200);
    wait_until(ready, SOON, "/readyz to be ready").await;
    let (_, well) = stage.public("/metrics").await.unwrap();
    for dependency in ["api", "requester", "cache"] {
        let name = format!("routr_registry_dependency_up{{dependency=\"{dependency}\"}}");
        let up = async || match stage.public("/metrics").await?.1 {
            text if metric(&text, &name) == Some(1.0) => Ok(()),
            text => Err(text),
        };
        wait_for(up, SOON, &name).await;
    }
    well_formed(&well);

    drop(redis);
    // Something to write: an idle cache is looked at more rarely.
    stage.refresh("b").await.unwrap();
    let cache_down =
        async || stage.public("/readyz").await.is_ok_and(|(_, text)| text.contains("cache     degraded "));
    wait_until(cache_down, SOON, "/readyz to tell that the cache is down").await;
    assert_eq!(stage.public("/readyz").await.unwrap().0, 200, "registrations continue from memory");
    stage.stop_api().await;
    stage.stop_requester().await;
    stage.refresh("a").await.unwrap();
    let down = async || {
        let (status, text) = stage.public("/readyz").await?;
        let all = ["requester failed ", "api       degraded ", "cache     degraded "]
            .iter()
            .all(|reason| text.contains(reason));
        if status == 503 && all { Ok(()) } else { Err(text) }
    };
    wait_for(down, SOON, "/readyz to report all three outages").await;
    // The lost connection shows before the REGISTER that needs it has failed.
    let failed =
        "routr_registry_register_requests_total{outcome=\"requesterUnavailable\",registrar=\"127.0.0.1\"}";
    let counted = async || {
        let (_, text) = stage.public("/metrics").await?;
        if metric(&text, failed).is_some_and(|count| count >= 1.0) { Ok(text) } else { Err(text) }
    };
    let text = wait_for(counted, SOON, "a REGISTER that the Requester did not take").await;
    well_formed(&text);
    for dependency in ["api", "requester", "cache"] {
        let name = format!("routr_registry_dependency_up{{dependency=\"{dependency}\"}}");
        assert_eq!(metric(&text, &name), Some(0.0), "{text}");
    }
    // The bindings are still there, and say for how long.
    let (registered, at_risk) =
        ("routr_registry_trunks{state=\"registered\"}", "routr_registry_trunks{state=\"atRisk\"}");
    assert_eq!(metric(&text, registered).unwrap() + metric(&text, at_risk).unwrap(), 2.0, "{text}");
    let expiry = metric(&text, "routr_registry_next_expiry_timestamp_seconds").unwrap();
    assert!(expiry > metric(&text, "process_start_time_seconds").unwrap(), "{text}");
    let granted = "routr_registry_register_requests_total{outcome=\"registered\",registrar=\"127.0.0.1\"}";
    assert_eq!(metric(&text, granted), Some(3.0), "{text}");
    assert!(metric(&text, "routr_registry_syncs_total{result=\"error\"}").unwrap() >= 1.0, "{text}");

    stage.start_api().await;
    stage.start_requester().await;
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    assert_eq!(stage.public("/livez").await.unwrap().0, 200);
    assert!(log(&service).iter().all(|line| line["level"] != "ERROR"), "an outage is no error of its own");
    stage.keeps_secrets(&service).await;
}

/// Asserts the demands of Prometheus on a scrape in its text format.
fn well_formed(text: &str) {
    assert!(text.ends_with('\n') && !text.contains("# EOF"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        assert!(
            (name.starts_with("process_") || name.starts_with("routr_registry_")) && !name.contains(' '),
            "{line}"
        );
    }
    let mut series: Vec<&str> =
        text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.rsplit_once(' ')?.0)).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "a series is there twice:\n{text}");
}

#[tokio::test]
async fn a_redis_that_hangs_does_not_make_the_service_look_dead() {
    let stage = TestRegistry::with(&["a"]).await;
    let mut redis = Redis::start(Options { password: REDIS_PASSWORD.to_owned(), persistent: false }).await;
    redis.pause();
    stage.write(&stage.config(&format!("  instanceId: fixed\n{}", cache(&redis))));
    let service = stage.run(&[]);
    let live = async || match stage.public("/livez").await? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(live, SOON, "/livez to answer while Redis does not").await;
    redis.resume();
    stage.settles(&[("a", "registered")]).await;
    stage.keeps_secrets(&service).await;
}

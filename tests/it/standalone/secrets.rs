//! A search of every output for known passwords, with everything that can be logged, logged.

use super::SOON;
use super::test_registry::{PASSWORD, TestRegistry, secrets};
use crate::support::redis::{Options, Redis};
use crate::support::wait::wait_until;
use routr_registry::devstack::registrar::Behaviour;

const REDIS_PASSWORD: &str = "only-for-redis=and,only";

#[tokio::test]
async fn no_password_is_shown_however_much_is_logged() {
    let mut stage = TestRegistry::with(&["a", "b", "c"]).await;
    let mut redis = Redis::start(Options { password: REDIS_PASSWORD.to_owned(), persistent: false }).await;
    std::fs::write(stage.dir.path().join("redis-password"), REDIS_PASSWORD).unwrap();
    let cache = format!(
        "  cache:\n    provider: redis\n    parameters: host=127.0.0.1,port={},passwordFile=redis-password\n",
        redis.port()
    );
    stage.write(&stage.config(&cache));
    stage.registrar.set_password("b", "another password");
    stage.registrar.behave("c", Behaviour::Silence);
    let mut service = stage.run(&[("RUST_LOG", "trace"), ("LOGS_FORMAT", "text")]);
    stage.settles(&[("a", "registered"), ("b", "failing"), ("c", "failing")]).await;
    // Through an outage of each, and a reload.
    redis.kill().await;
    stage.refresh("a").await.unwrap();
    wait_until(async || service.output().contains("running from memory"), SOON, "the cache to fail").await;
    stage.stop_requester().await;
    stage.refresh("a").await.unwrap();
    stage.stop_api().await;
    stage.write(
        &stage
            .config(&cache)
            .replace(REDIS_PASSWORD, "x")
            .replace("registerInterval: 1s", "registerInterval: 2s"),
    );
    let all = async || {
        let output = service.output();
        ["applied the new configuration", "cannot read the trunks", "running from memory", "the Requester"]
            .iter()
            .all(|t| output.contains(t))
    };
    wait_until(all, SOON, "all outages and the reload to be in the log").await;
    let mut shown = Vec::new();
    for path in ["/readyz", "/metrics"] {
        shown.push(stage.public(path).await.unwrap().1);
    }
    for path in ["/summary", "/registrations", "/registrations/a"] {
        shown.push(stage.private(path).await.unwrap().to_string());
    }
    for args in [&["trunks"][..], &["trunks", "--json"], &["refresh", "b"]] {
        let mut client = stage.client(args);
        client.exit(SOON).await;
        shown.push(client.output());
    }
    let mut check =
        crate::support::service::Service::start(["check", "--config", stage.path().to_str().unwrap()], &[]);
    check.exit(SOON).await;
    shown.push(check.output());
    service.terminate(SOON).await;
    shown.push(service.output());
    assert!(shown.iter().all(|text| !text.is_empty()));
    assert!(shown.last().unwrap().contains("TRACE h2::"), "the search is worth something");
    for secret in secrets(&["a", "b", "c"]).iter().map(String::as_str).chain([PASSWORD, REDIS_PASSWORD]) {
        for text in &shown {
            let said: Vec<&str> = text.lines().filter(|line| line.contains(secret)).collect();
            assert!(said.is_empty(), "{secret} is shown:\n{}", said.join("\n"));
        }
    }
}

#[tokio::test]
async fn the_cache_holds_no_password() {
    let stage = TestRegistry::with(&["a"]).await;
    let redis = Redis::start(Options::default()).await;
    let cache =
        format!("  cache: {{ provider: redis, parameters: 'host=127.0.0.1,port={}' }}\n", redis.port());
    stage.write(&stage.config(&cache));
    let service = stage.run(&[]);
    stage.settles(&[("a", "registered")]).await;
    let kept = async || redis.command("DBSIZE").await.is_ok_and(|size| size == ":4");
    wait_until(kept, SOON, "the registration, the mark, the owner and the instance id to be in Redis").await;
    // All that is in Redis, in its own dump format.
    let script = "local all = {} for _, k in ipairs(redis.call('KEYS','*')) do all[#all+1] = k .. redis.call('DUMP', k) end \
                  local text = table.concat(all) for _, w in ipairs(ARGV) do if string.find(text, w, 1, true) then return 1 end end return 0";
    for (secret, expected) in
        secrets(&["a"]).into_iter().map(|s| (s, ":0")).chain([("routr-registry:".to_owned(), ":1")])
    {
        let found = redis.command(&format!("EVAL \"{script}\" 0 {secret}")).await;
        assert_eq!(found.as_deref(), Ok(expected), "{secret}");
    }
    stage.keeps_secrets(&service).await;
}

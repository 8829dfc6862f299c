//! Cost of a registry while it has no trunks. Prints figures, for anyone who changes what an engine is made
//! of: `make test ARGS='--lib instance::cost -- --ignored --nocapture'`.

use std::{any::Any, fs};

use super::*;
use crate::{
    config::Secrets,
    devstack::api::ApiServer as Server,
    metrics::{Metrics, RegistryMetrics},
    registry::RegistryName,
    spec::RegistrySpec,
};

const COUNT: usize = 500;

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Prints the bytes that each of these takes.
fn each(what: &str, mut make: impl FnMut(usize) -> Box<dyn Any>) -> Vec<Box<dyn Any>> {
    let before = resident();
    let kept: Vec<_> = (0..COUNT).map(&mut make).collect();
    println!("{what}: {} bytes", resident().saturating_sub(before) / COUNT);
    kept
}

#[ignore = "prints figures"]
#[tokio::test]
async fn cost() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let end = CancellationToken::new();
    let server = end.clone();
    tokio::spawn(async move { Server::from_trunks(Vec::new()).serve(listener, server).await });
    let spec: RegistrySpec = serde_json::from_value(serde_json::json!({
        "requesterAddr": format!("127.0.0.1:{port}"), "apiAddr": format!("127.0.0.1:{port}"),
        "edgePorts": [{ "address": "10.0.0.1:5060" }],
    }))
    .unwrap();
    let (metrics, connections) = (Metrics::new(0), Connections::default());
    let config = Config::from_resource("x", &spec, &Secrets::default()).unwrap();
    type RealDriver = Driver<ApiServer, Fenced<GrpcRequester>, Fenced<AnyStore>, RegistryMetrics>;
    println!("driver: {}, of it engine: {}", size_of::<RealDriver>(), size_of::<Engine>());
    let name = |n: usize| RegistryName::of("ns", format!("registry-{n}"));
    let settings = || EngineSettings::from(&config);
    let parts = [
        each("configuration", |_| Box::new(Config::from_resource("x", &spec, &Secrets::default()).unwrap())),
        each("engine", |_| Box::new(Engine::new(RegistryId::new("x"), settings(), 1))),
        each("metrics", |n| Box::new(metrics.registry(name(n)))),
        each("API server", |_| Box::new(ApiServer::sharing(&config.api, config.sync, &connections).unwrap())),
        each("Requester", |_| Box::new(GrpcRequester::sharing(&config, &connections).unwrap())),
    ];
    let mut handles = Vec::new();
    let whole = each("all of it, before its first sync", |n| {
        let identity = Identity {
            id: RegistryId::new(&n.to_string()),
            kept_as: None,
            proposed: false,
            exclusive: false,
        };
        let (fence, connections) = (Fence::always(), connections.clone());
        let options =
            RunOptions { grace: Duration::ZERO, paused: true, fence, connections, quota: Quota::unlimited() };
        let instance = start(&config, &identity, metrics.registry(name(n)), &options, end.clone()).unwrap();
        handles.push(instance.handle.clone());
        Box::new(instance)
    });
    let before = resident();
    for handle in &handles {
        while handle.summary().await.unwrap().last_sync_ms.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    println!("more after it, with the server's part: {} bytes", resident().saturating_sub(before) / COUNT);
    drop((parts, whole));
}

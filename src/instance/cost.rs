//! What a registry costs while it has no trunks: bytes of memory, and descriptors.

use std::fs;

use super::*;
use crate::{
    admin::RegistryName, config::Secrets, devstack::api::ApiServer as Server, metrics::Metrics,
    spec::RegistrySpec,
};

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[ignore = "prints figures"]
#[tokio::test]
async fn cost() {
    let paused = std::env::var_os("PAUSED").is_some();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let end = CancellationToken::new();
    let server = end.clone();
    tokio::spawn(async move { Server::from_trunks(Vec::new()).serve(listener, server).await });
    let spec: RegistrySpec = serde_json::from_value(serde_json::json!({
        "requesterAddr": format!("127.0.0.1:{port}"), "apiAddr": format!("127.0.0.1:{port}"), "edgePorts": [{ "address": "10.0.0.1:5060" }],
    }))
    .unwrap();
    let metrics = Metrics::new(0);
    let connections = Connections::default();
    println!(
        "engine {} driver {} config {}",
        size_of::<Engine>(),
        size_of::<
            Driver<ApiServer, Permitted<GrpcRequester>, Permitted<AnyStore>, crate::metrics::RegistryMetrics>,
        >(),
        size_of::<Config>()
    );
    let each = |what: &str, make: &mut dyn FnMut(usize) -> Box<dyn std::any::Any>| {
        let before = resident();
        let kept: Vec<_> = (0..1_000).map(|n| make(n)).collect();
        println!("{what}: {}", (resident().saturating_sub(before)) / 1_000);
        std::mem::forget(kept);
    };
    let config = Config::from_resource("x", &spec, &Secrets::default()).unwrap();
    each("config", &mut |_| Box::new(Config::from_resource("x", &spec, &Secrets::default()).unwrap()));
    each("engine", &mut |_| Box::new(Engine::new(RegistryId::new("x"), EngineSettings::from(&config), 1)));
    each("metrics", &mut |n| Box::new(metrics.registry(RegistryName::of("a", &format!("x{n}")))));
    each("api", &mut |_| Box::new(ApiServer::sharing(&config.api, &connections).unwrap()));
    each("requester", &mut |_| Box::new(GrpcRequester::sharing(&config, &connections).unwrap()));
    each("store", &mut |_| Box::new(AnyStore::open(&config.cache, "x", None).unwrap()));
    each("span", &mut |_| Box::new(tracing::info_span!(parent: None, "engine", registry = "a")));
    let make = |n: usize| {
        let ports = Ports {
            source: Arc::new(ApiServer::sharing(&config.api, &connections).unwrap()),
            requester: Arc::new(Permitted::new(
                GrpcRequester::sharing(&config, &connections).unwrap(),
                &Permit::always(),
            )),
            store: Arc::new(Permitted::new(
                AnyStore::open(&config.cache, "x", None).unwrap(),
                &Permit::always(),
            )),
        };
        let engine = Engine::new(RegistryId::new("x"), EngineSettings::from(&config), 1);
        Driver::new(
            engine,
            ports,
            metrics.registry(RegistryName::of("b", &format!("x{n}"))),
            Clock::start(Arc::new(environment::System)),
        )
    };
    each("driver", &mut |n| Box::new(make(n)));
    each("run", &mut |n| {
        let (driver, controls) = make(n);
        let run = driver.run(CancellationToken::new(), Duration::ZERO);
        if n == 0 {
            println!("future {}", size_of_val(&run));
        }
        Box::new((controls, Box::pin(run)))
    });
    each("spawned", &mut |n| {
        let (driver, controls) = make(n);
        Box::new((controls, tokio::spawn(driver.run(end.clone(), Duration::ZERO).in_current_span())))
    });
    let mut kept = Vec::new();
    let before = (resident(), descriptors());
    let count = 400;
    for n in 0..count {
        let name = RegistryName::of("ns", &format!("registry-{n}"));
        let config = Config::from_resource(&name.name, &spec, &Secrets::default()).unwrap();
        let identity = Identity { id: RegistryId::new(&format!("{n}")), kept_as: None };
        let life = Life {
            grace: Duration::ZERO,
            paused,
            permit: Permit::always(),
            connections: connections.clone(),
        };
        kept.push((start(&config, &identity, metrics.registry(name), &life, end.clone()).unwrap(), config));
    }
    println!("started {} each", (resident() - before.0) / count);
    loop {
        let mut left = 0;
        for (instance, _) in &kept {
            if instance.handle.summary().await.unwrap().last_sync_ms.is_none() {
                left += 1;
            }
        }
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "synced {} bytes each, {} descriptors each",
        (resident() - before.0) / count,
        (descriptors() - before.1) as f32 / count as f32
    );
}

//! Redis as it is run: a database, a prefix, URLs, sockets, client certificates, Sentinel and Cluster. Each
//! is shown by a restart that sends nothing: all was kept, and found again.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::cluster::Cluster;
use super::harness::{Registered, SOON, at, config, redis, says, server};
use crate::standalone::test_registry::TestRegistry;
use crate::support::ports;
use crate::support::process::{self, Process};
use crate::support::redis::{self, Options, Redis};
use crate::support::service::Service;
use crate::support::wait::wait_for;

const TRUNKS: usize = 10;

/// Registers, restarts, and sees that all was kept.
async fn keeps(parameters: &str) -> Registered {
    let mut registered = Registered::start(TRUNKS, parameters, None).await;
    registered.cache_works().await;
    registered.service.terminate(SOON).await;
    registered.service.restart();
    registered.nothing_was_sent_and_the_call_ids_are_the_same().await;
    registered
}

#[tokio::test]
async fn s2_a_database_and_a_prefix_are_used_and_nothing_else_is_touched() {
    let redis = redis(&[]).await;
    keeps(&format!("{},db=3,prefix=telephony:", at(redis.port()))).await;
    assert_eq!(redis.dump().await, "", "the database 0");
    let client = ::redis::Client::open(format!("redis://127.0.0.1:{}/3", redis.port())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert!(
        keys.len() > 3 && keys.iter().all(|key| key.starts_with("telephony:routr-registry:")),
        "{keys:?}"
    );
}

#[tokio::test]
async fn s2_a_url_says_it_all() {
    let password = "p,w:d";
    let redis = Redis::start(Options { password: password.to_owned(), persistent: true }).await;
    let registered = keeps(&format!("redis://:p%2Cw%3Ad@127.0.0.1:{}/1", redis.port())).await;
    registered.service.assert_never_said(password);
    registered.service.assert_never_said("p%2Cw%3Ad");
}

#[tokio::test]
async fn s2_a_unix_socket_is_used() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("redis.sock");
    let socket = socket.to_str().unwrap();
    let _redis = redis(&["--unixsocket", socket, "--unixsocketperm", "700"]).await;
    keeps(&format!("socket={socket}")).await;
    keeps(&format!("redis+unix://{socket}?db=2")).await;
}

#[tokio::test]
async fn s2_a_client_certificate_is_shown_and_a_renewed_one_is_used() {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test CA");
    let key = KeyPair::generate().unwrap();
    let ca = file("ca.pem", &params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    let leaf = || {
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    };
    let (cert, key) = leaf();
    let (cert, key) = (file("cert.pem", &cert), file("key.pem", &key));
    let tls = ports::free();
    let port = tls.to_string();
    let redis = redis(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ])
    .await;
    let (mine, my_key) = leaf();
    let (mine, my_key) = (file("client.pem", &mine), file("client-key.pem", &my_key));
    let parameters = format!("rediss://127.0.0.1:{tls},caFile={ca},certFile={mine},keyFile={my_key}");
    let mut registered = keeps(&parameters).await;
    // Of another authority: the file is read for the next connection.
    let other = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    file("client.pem", &other.cert.pem());
    file("client-key.pem", &other.signing_key.serialize_pem());
    redis.drop_clients("").await;
    let fails = async || {
        let summary = registered.stage.private("/summary").await?;
        if summary["cache"]["ok"] == false { Ok(()) } else { Err(summary["cache"].to_string()) }
    };
    wait_for(fails, SOON, "the cache to fail").await;
    let (cert, key) = leaf();
    file("client.pem", &cert);
    file("client-key.pem", &key);
    registered.cache_works().await;
    registered.service.terminate(SOON).await;
}

#[tokio::test]
async fn s2_sentinels_name_the_master_and_after_a_failover_the_next_one() {
    let dir = TempDir::new().unwrap();
    let [one, two, sentinel] = [(); 3].map(|()| ports::free());
    let mut first = server(&dir, one, &["--save", ""]);
    says(one, "PING", "PONG").await;
    let _second = server(&dir, two, &["--save", "", "--replicaof", "127.0.0.1", &one.to_string()]);
    says(two, "INFO replication", "master_link_status:up").await;
    let conf = dir.path().join("sentinel.conf");
    let text = format!(
        "port {sentinel}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {one} 1\n\
         sentinel down-after-milliseconds mymaster 3000\nsentinel failover-timeout mymaster 5000\n",
        dir.path().display()
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = process::command(&redis::program());
    command.arg(&conf).arg("--sentinel");
    let _sentinel = Process::spawn("redis-server", command, &dir.path().join("sentinel.log"));
    says(sentinel, "SENTINEL replicas mymaster", &two.to_string()).await;

    let dead = ports::free();
    let parameters = format!("sentinels=127.0.0.1:{dead};127.0.0.1:{sentinel},sentinelMaster=mymaster");
    let mut registered = keeps(&parameters).await;
    says(two, "DBSIZE", ":").await;
    first.kill().await;
    says(sentinel, "SENTINEL get-master-addr-by-name mymaster", &two.to_string()).await;
    says(two, "ROLE", "master").await;
    registered.cache_works().await;
    registered.service.terminate(SOON).await;
    registered.service.restart();
    registered.all_registered().await;
    registered.next_registers_have_the_same_call_ids().await;
}

#[tokio::test]
async fn s2_a_cluster_of_three_is_used_whichever_node_has_the_keys() {
    let cluster = Cluster::start(0).await;
    let nodes = cluster.nodes.clone();
    // Whichever node is named, and whichever instance id there is.
    for port in &nodes {
        let mut registered = keeps(&format!("cluster=true,host=127.0.0.1,port={port}")).await;
        registered.service.terminate(SOON).await;
    }
    let dead = ports::free();
    keeps(&format!("nodes=127.0.0.1:{dead};127.0.0.1:{}", nodes[1])).await;

    // Without a word of the cluster, it is said what is missing.
    let stage = TestRegistry::with(&["a"]).await;
    let mut said = 0;
    for port in &nodes {
        stage.write(&config(&stage, &at(*port)));
        let mut service = stage.run(&[]);
        let look = async || {
            let summary = stage.private("/summary").await?;
            if summary["cache"]["ok"].is_null() { Err(summary["cache"].to_string()) } else { Ok(summary) }
        };
        let summary = wait_for(look, SOON, "the cache to be tried").await;
        said += usize::from(summary.to_string().contains("this is a cluster: write cluster=true"));
        service.kill().await;
    }
    assert!(said >= 2, "one node at most has the slot of the id");
}

#[tokio::test]
async fn s2_what_cannot_be_is_refused_with_a_word() {
    let stage = TestRegistry::bare().await;
    for (parameters, problem) in [
        ("sentinels=a;b", "sentinels is given without sentinelMaster"),
        ("cluster=true,db=1", "a cluster has the database 0 alone"),
        ("sentinels=a,sentinelMaster=m,cluster", "both sentinels and cluster are given"),
        ("prefix=a{b}", "prefix is wrong"),
        ("http://a", "the URL is wrong: its scheme is none of"),
        ("redis://a,host=b", "host is given twice"),
        ("host=b,redis://a", "host is given twice, once in the URL"),
        ("certFile=a,secure", "certFile is given without keyFile"),
        ("socket=/x,host=a", "socket is given with host"),
    ] {
        stage.write(&config(&stage, parameters));
        let path = stage.path();
        let mut check = Service::start(["check", "--config", path.to_str().unwrap()], &[]);
        assert_eq!(check.exit(SOON).await.code(), Some(1), "{parameters}");
        assert!(check.output().contains(problem), "{parameters}: {}", check.output());
    }
}

//! A cluster whose keys move from one node to another: by a migration of their slot, and by a failover.

use tempfile::TempDir;

use super::harness::{Registered, SOON, says, server};
use crate::standalone::test_registry::told;
use crate::support::process::Process;
use crate::support::wait::wait_for;
use crate::support::{ports, redis};

/// Masters of a cluster.
const MASTERS: usize = 3;

/// Three masters that have all slots, and some servers that are no one's replicas yet. Dropping it ends them.
pub struct Cluster {
    pub nodes: Vec<u16>,
    servers: Vec<Process>,
    _dir: TempDir,
}

impl Cluster {
    /// Starts it, and waits until all of them know each other.
    pub async fn start(more: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let port = || loop {
            // The nodes talk to each other on a port that is 10,000 higher.
            let port = ports::free();
            if port < 32_000 && ports::is_free(port + 10_000) {
                break port;
            }
        };
        let nodes: Vec<u16> = (0..MASTERS + more).map(|_| port()).collect();
        let options = ["--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let servers = nodes.iter().map(|port| server(&dir, *port, &options)).collect();
        for (n, port) in nodes.iter().enumerate() {
            says(*port, "PING", "PONG").await;
            if n < MASTERS {
                let slots = (0..16_384).filter(|slot| slot * MASTERS / 16_384 == n);
                let slots: String = slots.map(|slot| format!(" {slot}")).collect();
                says(*port, &format!("CLUSTER ADDSLOTS{slots}"), "+OK").await;
            }
            says(nodes[0], &format!("CLUSTER MEET 127.0.0.1 {port}"), "+OK").await;
        }
        for port in &nodes {
            says(*port, "CLUSTER INFO", "cluster_state:ok").await;
            says(*port, "CLUSTER INFO", &format!("cluster_known_nodes:{}", nodes.len())).await;
        }
        Self { nodes, servers, _dir: dir }
    }

    /// The parameters of a cache for this node.
    fn at(port: u16) -> String {
        format!("nodes=127.0.0.1:{port}")
    }

    /// The index of the node that has the registrations, and their slot.
    async fn home(&self) -> (usize, String) {
        for (n, port) in self.nodes.iter().take(MASTERS).enumerate() {
            let keys = redis::all(*port, "KEYS *:alive").await.unwrap();
            if let Some(key) = keys.lines().find(|line| line.ends_with(":alive")) {
                return (n, ask(*port, &format!("CLUSTER KEYSLOT {key}")).await);
            }
        }
        panic!("no node has any registration");
    }

    async fn id(&self, node: usize) -> String {
        let said = redis::all(self.nodes[node], "CLUSTER MYID").await.unwrap();
        said.lines().nth(1).expect("an id").to_owned()
    }

    /// Moves keys of a slot, and returns how many.
    async fn migrate(&self, from: usize, to: usize, slot: &str, most: usize) -> usize {
        let keys =
            redis::all(self.nodes[from], &format!("CLUSTER GETKEYSINSLOT {slot} {most}")).await.unwrap();
        let keys: Vec<&str> = keys.lines().filter(|line| line.contains("routr-registry")).collect();
        for key in &keys {
            let command = format!("MIGRATE 127.0.0.1 {} {key} 0 5000", self.nodes[to]);
            says(self.nodes[from], &command, "+OK").await;
        }
        keys.len()
    }
}

/// The number that a server responds with.
async fn ask(port: u16, command: &str) -> String {
    redis::command(port, "", command).await.unwrap().trim_start_matches(':').to_owned()
}

/// Restarts the registry; it must find all, and send nothing.
async fn restarts_without_a_register(registered: &mut Registered) {
    registered.service.terminate(SOON).await;
    let sent = registered.stage.registrar.log().len();
    registered.service.restart();
    registered.all_registered().await;
    registered.cache_works().await;
    assert_eq!(registered.stage.registrar.log().len(), sent, "sent without need");
}

#[tokio::test]
async fn s2_a_slot_that_is_migrated_is_followed_with_ask_and_nothing_is_lost() {
    let cluster = Cluster::start(0).await;
    let mut registered = Registered::start(50, &Cluster::at(cluster.nodes[0]), None).await;
    registered.cache_works().await;
    // All that is kept is written by then.
    restarts_without_a_register(&mut registered).await;
    let (from, slot) = cluster.home().await;
    let to = (from + 1) % MASTERS;
    let (from_id, to_id) = (cluster.id(from).await, cluster.id(to).await);
    says(cluster.nodes[to], &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"), "+OK").await;
    says(cluster.nodes[from], &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"), "+OK").await;
    assert_eq!(cluster.migrate(from, to, &slot, 20).await, 20, "of some 45 keys");

    // Reads and writes go on meanwhile, on either node.
    registered.next_registers_have_the_same_call_ids().await;
    restarts_without_a_register(&mut registered).await;
    registered.next_registers_have_the_same_call_ids().await;
    registered.cache_works().await;
    restarts_without_a_register(&mut registered).await;

    // It ends, and the new node is used.
    while cluster.migrate(from, to, &slot, 100).await > 0 {}
    for port in &cluster.nodes {
        says(*port, &format!("CLUSTER SETSLOT {slot} NODE {to_id}"), "+OK").await;
    }
    registered.next_registers_have_the_same_call_ids().await;
    registered.cache_works().await;
    restarts_without_a_register(&mut registered).await;
    assert_eq!(cluster.home().await.0, to);
    let left = redis::all(cluster.nodes[from], "KEYS *:regs:*").await.unwrap();
    assert_eq!(left, "*0\r\n", "nothing is written to the old node");
    assert_eq!(told(&registered.service, "has lost"), [""; 0]);
    assert_eq!(told(&registered.service, "cache fails"), [""; 0]);
}

#[tokio::test]
async fn s2_after_a_failover_of_the_node_with_the_keys_its_replica_is_used() {
    let mut cluster = Cluster::start(1).await;
    let mut registered = Registered::start(20, &Cluster::at(cluster.nodes[0]), None).await;
    registered.cache_works().await;
    let (home, _) = cluster.home().await;
    let replica = cluster.nodes[MASTERS];
    let id = cluster.id(home).await;
    says(replica, &format!("CLUSTER REPLICATE {id}"), "+OK").await;
    says(replica, "INFO replication", "master_link_status:up").await;
    // The nodes that are named outlive the one that has the keys.
    let nodes = (0..MASTERS).map(|n| format!("127.0.0.1:{}", cluster.nodes[n]));
    let nodes = nodes.collect::<Vec<_>>().join(";");
    registered.stage.write(&super::harness::config(&registered.stage, &format!("nodes={nodes}")));
    restarts_without_a_register(&mut registered).await;
    says(replica, "INFO replication", "master_link_status:up").await;

    cluster.servers[home].kill().await;
    says(replica, "ROLE", "master").await;
    registered.next_registers_have_the_same_call_ids().await;
    let kept = async || {
        let summary = registered.stage.private("/summary").await?;
        if summary["cache"]["ok"] == true && summary["cache"]["unsaved"].as_u64().unwrap_or(0) == 0 {
            Ok(())
        } else {
            Err(summary["cache"].to_string())
        }
    };
    wait_for(kept, SOON, "all to be kept by the replica").await;
    restarts_without_a_register(&mut registered).await;
    assert_eq!(told(&registered.service, "has lost"), [""; 0]);
}

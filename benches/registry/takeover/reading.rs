//! The reference: what is read at a take-over, by a client that does nothing else.

use anyhow::ensure;
use redis::{Client, aio::MultiplexedConnection};
use routr_registry::proto::trunks::{ListTrunkRequest, trunks_client::TrunksClient};
use tokio::time::Instant;

use crate::{backend::Backend, support::redis::Redis};

/// Keys that are read in one round trip: of a million trunks each has some 4,000 records.
const AT_ONCE: usize = 8;
/// Trunks in a page, as the product asks.
const PAGE: i32 = 1_000;

/// Duration of a read, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The records.
    pub cache_ms: f64,
    /// The list of trunks.
    pub list_ms: f64,
}

/// Reads all of it.
pub async fn all(redis: &Redis, backend: &Backend, trunks: usize) -> anyhow::Result<Read> {
    let mut connection = connect(redis).await?;
    let began = Instant::now();
    let keys = keys(&mut connection).await?;
    let mut records = 0;
    for some in keys.chunks(AT_ONCE) {
        let mut pipeline = redis::pipe();
        for key in some {
            pipeline.cmd("HGETALL").arg(key);
        }
        let hashes: Vec<Vec<(Vec<u8>, Vec<u8>)>> = pipeline.query_async(&mut connection).await?;
        records += hashes.iter().map(Vec::len).sum::<usize>();
    }
    let cache_ms = began.elapsed().as_secs_f64() * 1e3;
    ensure!(records == trunks, "{records} of {trunks} records");

    let mut client = TrunksClient::connect(format!("http://{}", backend.address)).await?;
    client = client.max_decoding_message_size(usize::MAX);
    let began = Instant::now();
    let (mut listed, mut page_token) = (0, String::new());
    loop {
        let request = ListTrunkRequest { page_size: PAGE, page_token };
        let page = client.list(request).await?.into_inner();
        listed += page.items.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    ensure!(listed == trunks, "{listed} of {trunks} trunks");
    Ok(Read { cache_ms, list_ms: began.elapsed().as_secs_f64() * 1e3 })
}

/// Returns the number of records.
pub async fn records(redis: &Redis) -> anyhow::Result<u64> {
    let mut connection = connect(redis).await?;
    let mut pipeline = redis::pipe();
    for key in keys(&mut connection).await? {
        pipeline.cmd("HLEN").arg(key);
    }
    let lengths: Vec<u64> = pipeline.query_async(&mut connection).await?;
    Ok(lengths.iter().sum())
}

async fn connect(redis: &Redis) -> anyhow::Result<MultiplexedConnection> {
    let client = Client::open(format!("redis://127.0.0.1:{}/", redis.port()))?;
    // The library waits for half a second by default; a chunk of a million records may take longer on a busy
    // machine.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn keys(connection: &mut MultiplexedConnection) -> anyhow::Result<Vec<String>> {
    Ok(redis::cmd("KEYS").arg("routr-registry:*:regs:*").query_async(connection).await?)
}

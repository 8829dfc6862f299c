//! Bytes over TCP that are no protocol, or a Redis gone mad.

use std::io;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{ENOUGH, Kind, Resp};

pub async fn run(kind: Kind, listener: TcpListener) {
    let mut seed = 0;
    while let Ok((stream, _)) = listener.accept().await {
        seed += 1;
        tokio::spawn(async move {
            // It ends when the other side has enough.
            let _ = serve(kind, stream, SmallRng::seed_from_u64(seed)).await;
        });
    }
}

async fn serve(kind: Kind, mut stream: TcpStream, mut rng: SmallRng) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    match kind {
        Kind::Noise => {
            rng.fill_bytes(&mut bytes);
            stream.write_all(&bytes).await?;
        }
        Kind::EndlessNoise => {
            for _ in 0..ENOUGH / bytes.len() {
                rng.fill_bytes(&mut bytes);
                stream.write_all(&bytes).await?;
            }
        }
        Kind::Resp(resp) => return redis(resp, stream).await,
        _ => {
            let page = "<html>\u{1b}[31mnothing to see</html>".repeat(1_000);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
                page.len()
            );
            stream.write_all((head + &page).as_bytes()).await?;
        }
    }
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// An answer for each piece that arrives.
async fn redis(resp: Resp, mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    let mut turn = 0_usize;
    while stream.read(&mut bytes).await? > 0 {
        turn += 1;
        match resp {
            Resp::Nested => stream.write_all("*1\r\n".repeat(100_000).as_bytes()).await?,
            Resp::GiantBulk => {
                stream.write_all(b"$2147483647\r\n").await?;
                for _ in 0..ENOUGH / bytes.len() {
                    stream.write_all(&bytes).await?;
                }
            }
            Resp::GiantArray => stream.write_all(b"*2147483647\r\n:1\r\n:2\r\n").await?,
            Resp::BadLengths => {
                let bad = [
                    "$-7\r\n",
                    "*-9\r\n",
                    "$x\r\n",
                    ":none\r\n",
                    "%-1\r\n",
                    "?\r\n",
                    "\r\n",
                    "$99999999999999999999\r\n",
                ];
                stream.write_all(bad[turn % bad.len()].as_bytes()).await?;
            }
            Resp::GiantError => {
                let text = format!("-ERR {}\r\n", "\u{1b}[31mno ".repeat(100_000));
                stream.write_all(text.as_bytes()).await?;
            }
            Resp::Agrees => stream.write_all("+OK\r\n".repeat(64).as_bytes()).await?,
        }
    }
    Ok(())
}

//! The smallest HTTP client that does: one GET, one connection.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than `/livez` may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Status and body of a path of a port of 127.0.0.1, in JSON where there is a choice.
pub async fn get(port: u16, path: &str) -> Result<(u16, Bytes), String> {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|e| e.to_string())?;
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(|e| e.to_string())?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no end of the header")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
        Ok((code, Bytes::from(answer).slice(end + 4..)))
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("no answer in {DEADLINE:?}")))
        .map_err(|error: String| format!("{path}: {error}"))
}

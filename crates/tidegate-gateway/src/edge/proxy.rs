//! A CONNECT proxy on loopback for programs whose push address is fixed in their code.
//!
//! It takes `CONNECT {apiId}.execute-api.{anything}:443` and nothing else, and hands the tunnel to the TLS side
//! of the gateway itself. With `HTTPS_PROXY`, `NO_PROXY` and a CA bundle, neither DNS nor port 443 is needed.

use std::sync::Arc;

use tidegate_core::limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::listener;
use super::service::Via;
use crate::gateway::Gateway;

/// Longest request head that the proxy reads, in bytes.
const MAX_HEAD: usize = 4096;

/// Accepts tunnels until the gateway stops.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener, tls: TlsAcceptor) {
    let stop = gateway.stop_accepting.clone();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((mut stream, address)) => {
                let (gateway, tls) = (Arc::clone(&gateway), tls.clone());
                let tasks = gateway.tasks.clone();
                tasks.spawn(async move {
                    let opened = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, open_tunnel(&mut stream));
                    let opened = gateway.stop_accepting.run_until_cancelled(opened).await;
                    if matches!(opened, Some(Ok(true))) {
                        listener::handle(gateway, stream, address, 443, (Via::Proxy, Some(tls))).await;
                    }
                });
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

/// Reads the CONNECT request and answers it. Byte for byte, because what follows the head is TLS and not ours.
async fn open_tunnel(stream: &mut TcpStream) -> bool {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if head.len() < MAX_HEAD => head.push(byte),
            _ => return false,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let target = head
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("CONNECT "))
        .and_then(|rest| rest.split(' ').next());
    let is_ours = target.is_some_and(|target| target.contains(".execute-api."));
    let answer: &[u8] = match (target, is_ours) {
        (None, _) => b"HTTP/1.1 405 Method Not Allowed\r\nallow: CONNECT\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        (_, false) => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        (_, true) => b"HTTP/1.1 200 Connection established\r\n\r\n",
    };
    stream.write_all(answer).await.is_ok() && is_ours
}

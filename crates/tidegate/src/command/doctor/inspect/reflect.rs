//! `doctor reflect`: stands in for a backend and tells which headers arrive.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tidegate_doctor::inspect::reflect;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cli::doctor::inspect::ReflectArgs;

/// Open connections; more wait.
const MAX_CONNECTIONS: usize = 64;

/// How long a client may take for its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

pub(in super::super) async fn run(args: ReflectArgs) -> anyhow::Result<ExitCode> {
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
    let address = listener.local_addr().context("read the address")?;
    eprintln!(
        "reflecting on {address}; now run `tidegate doctor --api ID` where the gateway is; Ctrl-C ends"
    );
    if let Some(path) = &args.address_file {
        let unfinished = path.with_extension("unfinished");
        let text = json!({ "listen": address.to_string() }).to_string();
        std::fs::write(&unfinished, text)
            .and_then(|()| std::fs::rename(&unfinished, path))
            .with_context(|| format!("write {}", path.display()))?;
    }
    let n_probes = Arc::new(AtomicU64::new(0));
    let done = Arc::new(tokio::sync::Notify::new());
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = done.notified() => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (n_probes, done, wanted) = (Arc::clone(&n_probes), Arc::clone(&done), args.count);
        connections.spawn(async move {
            let service = hyper::service::service_fn(|request: Request<Incoming>| {
                let reply = reply(&request);
                let is_probe = reply.status() == StatusCode::OK;
                if is_probe && Some(n_probes.fetch_add(1, Ordering::Relaxed) + 1) == wanted {
                    done.notify_one();
                }
                async move { Ok::<_, Infallible>(reply) }
            });
            // A caller who breaks off is its own trouble.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
    // The answers that are under way.
    let ending = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), ending).await;
    Ok(ExitCode::SUCCESS)
}

fn reply(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let headers: Vec<(&str, &[u8])> = headers.take(reflect::MAX_HEADERS).collect();
    let (status, body) = match reflect::answer(&headers) {
        Some(answer) => {
            let n_headers = request.headers().len();
            eprintln!("a probe arrived with {n_headers} headers");
            (StatusCode::OK, answer)
        }
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "message": "`tidegate doctor reflect` stands here in place of the backend" }),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("tidegate-reflect", HeaderValue::from_static("1"));
    response
}

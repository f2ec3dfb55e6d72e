//! Connections: refused, lost, and the two addresses of localhost.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tidegate_doctor::probe::Admin;
use tidegate_doctor::report::ProbeResult;

use crate::server::{After, Reply, answer, serve, serve_on, tidegate};
use crate::{finding, healthy, ids, look, look_with, options, probe_of, proven};

fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn nobody_listens() {
    // net.refused handshake.server-down DX-31
    let mut options = options(&format!("ws://127.0.0.1:{}/chat", unused_port()));
    let report = look(&options).await;
    let found = proven(&report, "net.refused");
    assert_eq!(found.evidence[0].facts["addresses"][0], "127.0.0.1");
    assert_ne!(
        finding(&report, "handshake.server-down").confidence,
        tidegate_doctor::report::Confidence::Proven
    );
    let handshake = probe_of(&report, "handshake");
    assert_eq!(handshake.result, ProbeResult::Skipped);
    assert!(handshake.measurements["reason"].as_str().unwrap().contains("refused"));
    assert_eq!(report.doctor_exit_code(false), 1);

    // With the admin listener gone as well it is proven.
    options.admin = Some(Admin {
        ticket: None,
        installation: None,
        answers: false,
        url: "http://127.0.0.1:1".to_owned(),
    });
    proven(&look(&options).await, "handshake.server-down");
}

#[tokio::test]
async fn packets_are_dropped() {
    // net.timeout: the backlog is full, so the kernel answers no further first packet.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<Socket> = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let report = look(&options(&format!("ws://{address}/chat"))).await;
    proven(&report, "net.timeout");
    assert!(!ids(&report).contains(&"net.refused"));
    drop(fill);
}

#[tokio::test]
async fn localhost_has_two_addresses() {
    // net.localhost-ipv6
    if TcpListener::bind("[::1]:0").is_err()
        || !tokio::net::lookup_host("localhost:0").await.unwrap().any(|address| address.is_ipv6())
    {
        eprintln!("SKIPPED: localhost has no IPv6 address on this machine");
        return;
    }
    let server = serve(tidegate).await;
    let options = options(&format!("ws://localhost:{}/chat", server.address.port()));
    let report = look_with(&options, &["tcp"]).await;
    proven(&report, "net.localhost-ipv6");
}

#[tokio::test]
async fn a_port_that_is_filtered_while_tls_passes() {
    // proxy.port-80-filter
    let (acceptor, roots) = crate::tls::trusted(&["127.0.0.1"]);
    let encrypted = serve_on("127.0.0.1:0", Some(acceptor), |_| Reply::Upgrade("", After::Echo)).await;
    let plain = serve(|head| match head.is_upgrade() {
        true => Reply::Drop,
        false => answer("200 OK", "Content-Type: text/plain\r\n", "hello"),
    })
    .await;
    let mut options = options(&plain.url("/chat"));
    options.roots = Arc::new(roots);
    options.surroundings.plain_port = plain.address.port();
    options.surroundings.tls_port = encrypted.address.port();
    proven(&look_with(&options, &["handshake"]).await, "proxy.port-80-filter");

    // Without a TLS listener that opens there is no such finding.
    options.surroundings.tls_port = unused_port();
    assert!(!ids(&look_with(&options, &["handshake"]).await).contains(&"proxy.port-80-filter"));
}

#[tokio::test]
async fn a_healthy_gateway_has_no_findings() {
    // DX-31 DX-62
    let server = serve(tidegate).await;
    let report = look(&options(&server.url("/chat"))).await;
    healthy(&report);
    assert_eq!(report.doctor_exit_code(true), 0, "{:#?}", report.probes);
    let names: Vec<&str> = report.probes.iter().map(|probe| probe.name.as_str()).collect();
    assert_eq!(names, tidegate_doctor::probe::NAMES[..12]);
}

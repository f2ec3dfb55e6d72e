//! Names: a fake name server, and a fake owner of the zone on another loopback address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tidegate_auth::Secret;
use tidegate_doctor::probe::{Admin, Resolve};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::server::{answer, serve, serve_on, tidegate};
use crate::{healthy, ids, look_with, options, proven};

/// Answers by name and kind: code and records (kind, seconds, data).
type Records = (u8, Vec<(u8, u32, Vec<u8>)>);

async fn name_server(
    address: &str,
    answer: impl Fn(&str, u8) -> Records + Send + 'static,
) -> (SocketAddr, JoinSet<()>) {
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut packet = [0; 512];
        loop {
            let (n, from) = socket.recv_from(&mut packet).await.unwrap();
            let (mut at, mut labels) = (12, Vec::new());
            while packet[at] != 0 {
                let length = usize::from(packet[at]);
                labels.push(String::from_utf8_lossy(&packet[at + 1..at + 1 + length]).into_owned());
                at += length + 1;
            }
            let (code, records) = answer(&labels.join("."), packet[at + 2]);
            let mut reply = packet[..n].to_vec();
            reply[2..4].copy_from_slice(&[0x81, 0x80 | code]);
            reply[7] = records.len() as u8;
            for (kind, ttl, data) in records {
                reply.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1]);
                reply.extend_from_slice(&ttl.to_be_bytes());
                reply.extend_from_slice(&(data.len() as u16).to_be_bytes());
                reply.extend_from_slice(&data);
            }
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (address, tasks)
}

fn a(ttl: u32, last: u8) -> (u8, u32, Vec<u8>) {
    (1, ttl, vec![127, 0, 0, last])
}

fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

#[tokio::test]
async fn a_name_that_two_servers_do_not_know() {
    // dns.no-record
    let (first, _one) = name_server("127.0.0.1:0", |_, _| (3, Vec::new())).await;
    let (second, _two) = name_server("127.0.0.1:0", |_, _| (0, Vec::new())).await;
    let mut options = options("ws://ws.example.test/chat");
    options.resolvers = vec![first, second];
    let report = look_with(&options, &["dns"]).await;
    proven(&report, "dns.no-record");

    // One witness alone does not prove it, and silence says nothing at all.
    options.resolvers = vec![first];
    let report = look_with(&options, &["dns"]).await;
    assert_eq!(
        crate::finding(&report, "dns.no-record").confidence,
        tidegate_doctor::report::Confidence::Likely
    );
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    options.resolvers = vec![silent.local_addr().unwrap()];
    let report = look_with(&options, &["dns"]).await;
    healthy(&report);
    assert_eq!(report.doctor_exit_code(false), 3);
}

#[tokio::test]
async fn a_record_that_was_changed() {
    // dns.stale
    let server = serve(tidegate).await;
    let port = server.address.port();
    let (resolver, _one) = name_server("127.0.0.1:0", |asked, kind| match (asked, kind) {
        ("ws.example.test", 1) => (0, vec![a(120, 1)]),
        ("example.test", 2) => (0, vec![(2, 300, name("ns1.example.test"))]),
        ("ns1.example.test", 1) => (0, vec![a(300, 2)]),
        _ => (0, Vec::new()),
    })
    .await;
    let owner = format!("127.0.0.2:{}", resolver.port());
    let (_, _two) =
        name_server(&owner, |_, kind| if kind == 1 { (0, vec![a(300, 9)]) } else { (0, Vec::new()) }).await;
    let mut options = options(&format!("ws://ws.example.test:{port}/chat"));
    options.resolvers = vec![resolver];
    options.surroundings.dns_port = resolver.port();
    let report = look_with(&options, &["dns", "tcp", "handshake"]).await;
    let found = proven(&report, "dns.stale");
    assert_eq!(found.evidence[0].facts["ttl"], 120);
    assert_eq!(found.evidence[0].facts["authoritative"][0], "127.0.0.9");
}

#[tokio::test]
async fn a_record_that_all_agree_on() {
    // dns.stale: the negative.
    let server = serve(tidegate).await;
    let (resolver, _one) = name_server("127.0.0.1:0", |asked, kind| match (asked, kind) {
        ("ws.example.test", 1) => (0, vec![a(120, 1)]),
        ("example.test", 2) => (0, vec![(2, 300, name("ns1.example.test"))]),
        ("ns1.example.test", 1) => (0, vec![a(300, 2)]),
        _ => (0, Vec::new()),
    })
    .await;
    let owner = format!("127.0.0.2:{}", resolver.port());
    let (_, _two) =
        name_server(&owner, |_, kind| if kind == 1 { (0, vec![a(300, 1)]) } else { (0, Vec::new()) }).await;
    let mut options = options(&format!("ws://ws.example.test:{}/chat", server.address.port()));
    options.resolvers = vec![resolver];
    options.surroundings.dns_port = resolver.port();
    healthy(&look_with(&options, &["dns", "tcp", "handshake"]).await);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere() {
    // dns.wrong-target bypass.not-the-gateway
    let foreign = serve(|_| answer("404 Not Found", "Server: nginx\r\n", "nothing")).await;
    let admin = Admin {
        ticket: Some(Secret::new("t1")),
        installation: None,
        answers: true,
        url: "http://127.0.0.1:1".to_owned(),
    };
    let fixed = |port| {
        vec![Resolve { host: "ws.example.test".to_owned(), port, address: Ipv4Addr::LOCALHOST.into() }]
    };
    let port = foreign.address.port();
    let mut options = options(&format!("ws://ws.example.test:{port}/chat"));
    options.resolve = fixed(port);
    options.admin = Some(admin);
    proven(&look_with(&options, &["identity"]).await, "dns.wrong-target");
    assert_eq!(foreign.heads()[0].target, "/_tidegate/probe?ticket=t1");

    // A Tidegate, but another one: it does not take the ticket.
    let other =
        serve(|_| answer("200 OK", "Content-Type: application/json\r\n", r#"{"installation":"inst-2"}"#))
            .await;
    let port = other.address.port();
    options.url = format!("ws://ws.example.test:{port}/chat");
    options.resolve = fixed(port);
    let report = look_with(&options, &["identity"]).await;
    assert_eq!(proven(&report, "dns.wrong-target").evidence[0].facts["installation"], "inst-2");

    // The right one.
    let right = serve(tidegate).await;
    let port = right.address.port();
    options.url = format!("ws://ws.example.test:{port}/chat");
    options.resolve = fixed(port);
    healthy(&look_with(&options, &["identity"]).await);

    // A ticket that is taken by another installation, because peers on this machine need none.
    let mut expecting = options.clone();
    expecting.admin.as_mut().unwrap().installation = Some("inst-9".to_owned());
    proven(&look_with(&expecting, &["identity"]).await, "dns.wrong-target");

    // By its address there is no record to correct.
    options.url = foreign.url("/chat");
    proven(&look_with(&options, &["identity"]).await, "bypass.not-the-gateway");
}

#[tokio::test]
async fn a_cdn_without_websockets() {
    // proxy.websockets-off: the origin opens, the CDN that the name leads to refuses.
    let origin = serve(tidegate).await;
    let port = origin.address.port();
    let _cdn = serve_on(&format!("127.0.0.3:{port}"), None, |_| {
        answer("400 Bad Request", "Server: cloudflare\r\nCF-RAY: 1-FRA\r\n", "")
    })
    .await;
    let (resolver, _one) =
        name_server("127.0.0.1:0", |_, kind| if kind == 1 { (0, vec![a(60, 3)]) } else { (0, Vec::new()) })
            .await;
    let mut options = options(&format!("ws://ws.example.test:{port}/chat"));
    options.resolvers = vec![resolver];
    options.resolve =
        vec![Resolve { host: "ws.example.test".to_owned(), port, address: IpAddr::from([127, 0, 0, 1]) }];
    proven(&look_with(&options, &["handshake"]).await, "proxy.websockets-off");

    // Through the CDN alone it is likely.
    options.resolve.clear();
    let report = look_with(&options, &["handshake"]).await;
    assert_eq!(ids(&report), ["proxy.websockets-off"]);
    assert_eq!(report.findings[0].confidence, tidegate_doctor::report::Confidence::Likely);
}

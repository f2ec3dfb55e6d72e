//! Secrets are sent through every door, and then looked for in everything that is kept, logged and answered.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::journal::unpack;
use crate::serve::{KEY, Serve, data, exchange, log, read_frame, text_frame};

/// A backend whose answers have secrets in body and headers; `/refuse` says no.
fn backend(body_secret: &'static str, header_secret: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, body_secret, header_secret));
        }
    });
    address
}

fn answer(stream: TcpStream, body_secret: &str, header_secret: &str) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().filter_map(|line| line.split_once(": "));
        let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.filter_map(|(_, value)| value.parse().ok()).next().unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let status = if head.starts_with("POST /refuse") { "403 Forbidden" } else { "200 OK" };
        // Long, because a short sentence of a refusal is kept on purpose.
        let body = format!("{{\"secret\":\"{body_secret}\",\"more\":\"{}\"}}", "x".repeat(300));
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nX-Secret: {header_secret}\r\n\r\n{body}"
        );
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// How a secret may look where somebody encoded it.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.as_bytes().to_vec(), hex::encode(secret).into_bytes()];
    let percent: String =
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
    forms.push(percent.into_bytes());
    // In the middle of something, base64 has three forms, whose edges depend on what stands beside.
    for offset in 0..3 {
        let padded = format!("{}{secret}", "x".repeat(offset));
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let inner = encoded.get(4..encoded.len() - 4).expect("a long secret");
            forms.push(inner.as_bytes().to_vec());
        }
    }
    forms
}

fn holds(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).expect("read it")));
        }
    }
    found
}

/// What stages log of themselves, as far as it goes without `dataTraceEnabled`.
const LOGGED: &str = r#"logging_level = "INFO"
access_log.destination_arn = "arn:aws:logs:us-east-1:000000000000:log-group:access"
access_log.format = "$context.requestId $context.eventType $context.routeKey $context.status $context.connectionId $context.messageId $context.domainName $context.disconnectReason $context.error.message $context.error.messageString $context.error.responseType $context.error.validationErrorString $context.identity.sourceIp $context.identity.userAgent $context.identity.caller $context.identity.userArn $context.identity.apiKey $context.authorizer.principalId $context.authorizer.error $context.authorize.error $context.authenticate.error $context.integration.error $context.integration.status"
"#;

#[test]
fn no_secret_is_kept_logged_or_answered() {
    // DX-10, DX-64, AG-28
    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwcml2YWN5LXRlc3QifQ.bm90LXRoZS1zaWduYXR1cmUtYXQtYWxs";
    const UNKNOWN: &str = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592";
    const COOKIE: &str = "cookie-Zq81LmW0xTrk4v";
    const AUTHORIZATION: &str = "authz-Bn72KdP3yUio9c";
    const QUERY: &str = "query-Gh55RtQ1wSdf7m";
    const HEADER: &str = "header-Xc33VbN6eRty2k";
    const SUBPROTOCOL: &str = "subproto-Mn90AsD4fGhj8l7QwErTy1UiOp5";
    const PAYLOAD: &str = "payload-Jk68HgF2dSaz5x";
    const PUSH: &str = "push-Po17IuY9tRew3q";
    const BODY: &str = "backend-body-Lk44JhG8fDsa6z";
    const BODY_HEADER: &str = "backend-header-Qw26ErT7yUio1p";
    const API_KEY: &str = "apikey-Vb83CxZ5aSdf0g";
    const WRONG_KEY: &str = "wrongkey-Ty59UiO3pLkj2h";
    let secrets = [
        JWT,
        UNKNOWN,
        COOKIE,
        AUTHORIZATION,
        QUERY,
        HEADER,
        SUBPROTOCOL,
        PAYLOAD,
        PUSH,
        BODY,
        BODY_HEADER,
        API_KEY,
        WRONG_KEY,
        KEY,
    ];
    let backend = backend(BODY, BODY_HEADER);
    let folder = tempfile::tempdir().expect("a folder");
    let node = Serve::start(
        folder.path(),
        &[
            ("TIDEGATE_LOG", "debug"),
            ("TIDEGATE_LOGS_EXECUTION", "steps"),
            ("TIDEGATE_LOGS_UNMATCHED", "stray"),
        ],
    );
    node.apply(
        folder.path(),
        &format!(
            r#"
[[apis]]
id = "open000001"
name = "open"
route_selection_expression = "$request.body.action"
integrations = {{ echo = {{ uri = "tidegate://echo" }}, ask = {{ uri = "http://{backend}/ask" }} }}
routes = {{ "$connect" = {{ integration = "ask" }}, "echo" = {{ integration = "echo", two_way = true }}, "ask" = {{ integration = "ask", two_way = true }} }}

[apis.stages.prod]
{LOGGED}
[[apis]]
id = "shut000001"
name = "shut"
route_selection_expression = "$request.body.action"
integrations = {{ no = {{ uri = "http://{backend}/refuse" }} }}
routes = {{ "$connect" = {{ integration = "no" }} }}

[apis.stages.prod]
{LOGGED}
[[apis]]
id = "guard00001"
name = "guard"
route_selection_expression = "$request.body.action"
integrations = {{ echo = {{ uri = "tidegate://echo" }} }}
routes = {{ "$default" = {{ integration = "echo", two_way = true }} }}

[apis.stages.prod]
{LOGGED}
[apis.stages.prod.policy]
admission = {{ checks = ["token", "jwt"] }}
connect_tokens = {{ cookie = "sessionid" }}
jwt = {{ keys = [{{ secret = "0123456789abcdefghijABCDEFGHIJ!$%&/()", algorithms = ["HS256"] }}] }}
"#
        ),
    );
    let base = "/_aws/execute-api";
    let headers = format!(
        "Cookie: sessionid={COOKIE}; other={COOKIE}\r\nAuthorization: Bearer {AUTHORIZATION}\r\nX-Custom: {HEADER}\r\n\
         X-Api-Key: {API_KEY}\r\nOrigin: https://example.com\r\n"
    );
    // Accepted by a backend, refused by a backend, refused by tokens of each kind, in each place.
    let mut open = node.connect(&format!("{base}/open000001/prod?secret={QUERY}&v=1"), &headers);
    let issued = node.json(&["token", "create", "--api", "guard00001", "--user", "alice"]);
    let token = issued["token"].as_str().expect("a token").to_owned();
    let mut known = node.connect(&format!("{base}/guard00001/prod?ws_token={token}"), "");
    for (target, more) in [
        (format!("{base}/shut000001/prod?secret={QUERY}"), String::new()),
        (format!("{base}/guard00001/prod?ws_token={token}"), String::new()),
        (format!("{base}/guard00001/prod?ws_token={UNKNOWN}"), String::new()),
        (format!("{base}/guard00001/prod?token={JWT}"), String::new()),
        (format!("{base}/guard00001/prod"), format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}, {JWT}\r\n")),
        (format!("{base}/guard00001/prod"), String::new()),
        (format!("{base}/none000001/prod?secret={QUERY}"), String::new()),
        (format!("/{JWT}/{UNKNOWN}?secret={QUERY}"), String::new()),
    ] {
        let (head, _) = node.handshake(&target, &format!("{headers}{more}"));
        assert!(head.starts_with("HTTP/1.1 4"), "{target}: {head}");
    }
    let (head, _) = node.handshake(&format!("{base}/guard00001/prod?token={JWT}"), "");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    // Malformed: no key, no upgrade, no HTTP.
    let target = format!("{base}/open000001/prod?secret={QUERY}");
    for request in [
        format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{headers}\r\n"
        ),
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"),
        format!("{QUERY} {HEADER}\r\n\r\n"),
    ] {
        node.send(&request);
    }
    // Messages: answered, refused, of no route, no JSON.
    let say = |stream: &mut TcpStream, action: &str| {
        let message = format!("{{\"action\":\"{action}\",\"text\":\"{PAYLOAD}\"}}");
        stream.write_all(&text_frame(&message)).expect("send");
        assert!(!read_frame(stream).is_empty());
    };
    for action in ["echo", "ask", "none"] {
        say(&mut open, action);
    }
    say(&mut known, "x");
    known.write_all(&text_frame(PAYLOAD)).expect("send");
    assert_eq!(read_frame(&mut known), PAYLOAD);
    // Pushes: by the admin API, and by the public listener with a wrong key.
    let listed = node.json(&["connections", "ls", "--user", "alice"]);
    let id = listed[0]["connection_id"].as_str().expect("an id").to_owned();
    assert_eq!(node.run(&["connections", "send", &id, PUSH]).code, 0);
    assert_eq!(read_frame(&mut known), PUSH);
    assert_eq!(node.run(&["broadcast", PUSH, "--api", "guard00001"]).code, 0);
    assert_eq!(read_frame(&mut known), PUSH);
    let post = |address: SocketAddr, path: &str, key: &str, body: &str| {
        let length = body.len();
        exchange(
            address,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nCookie: sessionid={COOKIE}\r\n\
                 Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            ),
        )
    };
    let connections = format!("{base}/guard00001/prod/@connections/{}", id.replace('=', "%3D"));
    assert!(post(node.public, &connections, WRONG_KEY, PUSH).starts_with("HTTP/1.1 403"));
    assert!(post(node.public, &connections, KEY, PUSH).starts_with("HTTP/1.1 200"));
    post(node.public, &format!("{base}/guard00001/prod/@token?secret={QUERY}"), WRONG_KEY, PAYLOAD);
    // Administration and control plane: wrong keys, and bodies that are no good.
    assert!(post(node.admin, "/api/tokens", WRONG_KEY, "{}").starts_with("HTTP/1.1 403"));
    assert!(
        post(node.admin, "/api/tokens", KEY, &format!("{{\"x\":\"{PAYLOAD}\"}}")).starts_with("HTTP/1.1 400")
    );
    post(node.admin, &format!("/v2/apis?secret={QUERY}"), WRONG_KEY, PAYLOAD);
    drop((open, known));
    node.wait_for_connections(0);

    let entries = node.run(&["journal", "ls", "--limit", "10000", "--json"]).stdout;
    // What was done is there: otherwise nothing is proven by what is not.
    for expected in [
        "\"handshake\"",
        "\"message\"",
        "\"post\"",
        "\"close\"",
        "\"control\"",
        "token.unknown",
        "jwt.ambiguous",
        "route.no-match",
    ] {
        assert!(entries.contains(expected), "{expected} in {entries}");
    }
    let archive = folder.path().join("report.tar.gz");
    let reported = node.run(&["report", &id, "--output", archive.to_str().expect("a path")]);
    assert_eq!(reported.code, 0, "{reported:?}");
    // DX-16: what is asked for first is there.
    let parts = unpack(&archive);
    let part = |wanted: &str| &parts.iter().find(|(name, _)| name.ends_with(wanted)).expect(wanted).1;
    assert!(part("explain.json").contains("\"tidegate.diagnosis/1\""), "{}", part("explain.json"));
    assert!(part("doctor.json").contains("\"guard00001\": {") && part("doctor.json").contains("\"probes\""));
    assert!(part("certificates.json").starts_with('['));
    assert!(part("log.txt").contains("standard error"));
    let failures = node.run(&["journal", "ls", "--failures"]).stdout;
    // Every file as it stands while the node runs, and after its end.
    let mut kept = files(&data(folder.path()));
    node.stop();
    kept.extend(files(&data(folder.path())));
    // What was logged is there, too.
    let text_of = |wanted: &str| {
        let file = kept.iter().rev().find(|(name, _)| name.ends_with(wanted));
        String::from_utf8_lossy(&file.expect(wanted).1).into_owned()
    };
    let (access, steps) = (text_of("logs/access.log"), text_of("logs/steps.log"));
    for expected in [
        " CONNECT $connect 200 ",
        " CONNECT $connect 403 ",
        " MESSAGE ask 200 ",
        " MESSAGE - 403 ",
        " CONNECTION_API ",
    ] {
        assert!(access.contains(expected), "{expected} in {access}");
    }
    for expected in [
        "Endpoint request URI: ",
        "Execution failed: Forbidden",
        "Gateway response body: ",
        "connected to API",
    ] {
        assert!(steps.contains(expected), "{expected} in {steps}");
    }
    assert!(text_of("logs/stray.log").contains("\"CONNECT\""));
    kept.push(("the log".to_owned(), log(folder.path()).into_bytes()));
    kept.push(("the journal".to_owned(), entries.into_bytes()));
    kept.push(("its failures".to_owned(), failures.into_bytes()));
    kept.extend(
        unpack(&archive).into_iter().map(|(name, text)| (format!("report: {name}"), text.into_bytes())),
    );
    assert!(kept.iter().any(|(name, bytes)| name.ends_with("journal.db") && holds(bytes, id.as_bytes())));
    for secret in secrets.iter().copied().chain([token.as_str()]) {
        for form in forms(secret) {
            for (name, bytes) in &kept {
                assert!(!holds(bytes, &form), "{secret} as {} is in {name}", String::from_utf8_lossy(&form));
            }
        }
    }
}

//! The crate for axum services behind the real gateway.

use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use tidegate_backend::{
    Accept, AdminClient, Connect, ConnectionFilter, ConnectionPage, Disconnect, GatewayRouter, PushClient,
    PushError, PushOptions, RawMessage, Refuse, Reply, SigV4, TokenRequest,
};
use tokio::sync::{OnceCell, mpsc};

/// What the service knows: how to push, once the gateway's address is known, and where to say who left.
#[derive(Clone)]
struct Service {
    push: std::sync::Arc<OnceCell<PushClient>>,
    left: mpsc::Sender<String>,
}

async fn connect(connect: Connect) -> Result<Accept, Refuse> {
    let is_known = connect.query("user") == Some("ann smith") && connect.head.client_address.is_loopback();
    if is_known { Ok(Accept::new()) } else { Err(Refuse::forbidden("not you")) }
}

/// Pushes to the sender while its message is still being handled, then replies.
async fn say(State(service): State<Service>, message: RawMessage) -> Result<Reply, Refuse> {
    let push = service.push.get().ok_or(Refuse::forbidden("too early"))?;
    let pushed = push.post(&message.head.connection_id, "pushed").await;
    let info = push.get(&message.head.connection_id).await;
    Ok(Reply::json(&(pushed.is_ok(), info.is_ok_and(|info| info.identity.source_ip == "127.0.0.1"))))
}

async fn disconnect(State(service): State<Service>, disconnect: Disconnect) {
    service.left.send(disconnect.head.connection_id).await.expect("the test listens");
}

struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn tidegate(arguments: Vec<String>) -> Output {
    let run =
        move || Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).stdin(Stdio::null()).output();
    tokio::task::spawn_blocking(run).await.expect("no panic").expect("run tidegate")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_and_pushes_go_out() {
    // S0-37, S0-50, S0-55, S0-84, S0-97
    let (left, mut who_left) = mpsc::channel(8);
    let service = Service { push: std::sync::Arc::default(), left };
    let gateway = GatewayRouter::new()
        .api_ids(["dev0000000"])
        .on_connect(connect)
        .on("say", say)
        .default(async |_: RawMessage| Reply::text("default"))
        .on_disconnect(disconnect);
    let app = Router::new().nest("/ws", gateway.into_router()).with_state(service.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let backend = format!("http://{}/ws/", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("addresses.json");
    let dev = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--backend", &backend])
        .arg("--address-file")
        .arg(&file)
        .env_clear()
        .env("TIDEGATE_API_KEY", "a-bearer-key")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _dev = Dev(dev.expect("start tidegate dev"));
    let deadline = Instant::now() + Duration::from_secs(20);
    let addresses: serde_json::Value = loop {
        let mut text = String::new();
        if std::fs::File::open(&file).and_then(|mut file| file.read_to_string(&mut text)).is_ok() {
            break serde_json::from_str(&text).expect("JSON");
        }
        assert!(Instant::now() < deadline, "tidegate dev is not ready after 20 s");
        tokio::task::yield_now().await;
    };
    let url = addresses["url"].as_str().expect("a URL").to_owned();
    let management = addresses["management"].as_str().expect("an address");
    let signed = PushClient::new(management).expect("a client");
    let signed = signed.sigv4(SigV4::new("tidegate", "tidegate-secret", "us-east-1"));
    service.push.set(signed.clone()).expect("set once");

    let refused = tidegate(vec!["connect".into(), url.clone()]).await;
    assert!(!refused.status.success());
    let text =
        String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(text.contains("403"), "{text}");

    let mut arguments: Vec<String> = vec!["connect".into(), format!("{url}?user=ann%20smith")];
    for text in [r#"{"handler":"say"}"#, "plain text"] {
        arguments.extend(["--send".into(), text.into()]);
    }
    arguments.extend(["--count".into(), "3".into(), "--json".into()]);
    let talked = tidegate(arguments).await;
    assert!(talked.status.success(), "{talked:?}");
    let received: Vec<String> = String::from_utf8_lossy(&talked.stdout)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line"))
        .filter(|line| line["direction"] == "<-")
        .map(|line| line["text"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(received, ["pushed", "[true,true]", "default"]);

    let gone = tokio::time::timeout(Duration::from_secs(20), who_left.recv()).await;
    let gone = gone.expect("a disconnect in time").expect("an id");
    let bearer = PushClient::new(management).expect("a client").bearer("a-bearer-key").expect("a key");
    for push in [&signed, &bearer] {
        let error = push.post(&gone, "late").await.expect_err("it is gone");
        assert!(
            matches!(&error, PushError::Gone { diagnosis: Some(id) } if id == "connections.gone-client-closed"),
            "{error:?}"
        );
    }
    let wrong = PushClient::new(management).expect("a client").bearer("another-key").expect("a key");
    let error = wrong.post(&gone, "x").await.expect_err("it is denied");
    assert!(matches!(error, PushError::Denied { .. }), "{error:?}");
    serving.abort();
}

/// A stage whose clients need a token and may join rooms.
const STAGE: &str = r#"
[[apis]]
id = "chat000000"
name = "chat"
route_selection_expression = "$request.body.action"
integrations = { echo = { uri = "tidegate://echo" } }
routes = { "$default" = { integration = "echo", two_way = true } }

[apis.stages.dev.policy]
admission = { checks = ["token"] }
channels = { rules = [{ match = "room-*", join = "allow" }] }
"#;

/// Ids that have to be encoded on their way.
const ANN: &str = "ann@example.com/\u{e4}";
const FIRST_LOGIN: &str = "login 1/\u{e4}+%";

/// Waits until this many connections are listed.
async fn listed(push: &PushClient, filter: &ConnectionFilter, n: usize) -> ConnectionPage {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = push.list(filter).await.expect("a list");
        if page.connections.len() == n {
            return page;
        }
        assert!(Instant::now() < deadline, "not {n} connections: {page:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_of_a_service_and_the_real_addresses_agree() {
    // S0-58, S0-61, S0-72, S0-88, S0-90
    let dev = crate::dev::Dev::with_document(STAGE);
    let root = SigV4::new("tidegate", "tidegate-secret", "us-east-1");
    let management = dev.addresses["management"].as_str().expect("an address");
    let push = PushClient::new(management).expect("a client").sigv4(root.clone());
    let admin = |key: &str| AdminClient::new(&dev.admin_url()).expect("a client").bearer(key).expect("a key");
    let (admin, reader) = (admin("key-of-operate"), admin("key-of-read"));
    let signed = AdminClient::new(&dev.admin_url()).expect("a client").sigv4(root);

    let asked = |user: &str, session: &str| {
        let mut request = TokenRequest::new("chat000000", "dev", user);
        request.session = Some(session.to_owned());
        request
    };
    let error = reader.issue_token(&asked(ANN, FIRST_LOGIN)).await.expect_err("a reader issues nothing");
    assert!(matches!(&error, PushError::Denied { text } if text.contains("operate")), "{error:?}");
    let issued = admin.issue_token(&asked(ANN, FIRST_LOGIN)).await.expect("a token");
    assert_eq!((issued.token.len(), issued.expires_in), (64, 60));
    assert!(issued.expires_at.is_string(), "{issued:?}");
    let in_room = |url: Option<&String>| format!("{}&channel=room-1", url.expect("a URL"));
    let mut first = dev.connect(&in_room(issued.url.as_ref()));
    listed(&push, &ConnectionFilter::default(), 1).await;
    let issued = signed.issue_token(&asked(ANN, "login-2")).await.expect("a token for a signature");
    let mut second = dev.connect(&in_room(issued.url.as_ref()));
    let issued = admin.issue_token(&asked("bob", "login-3")).await.expect("a token");
    let mut bob = dev.connect(&in_room(issued.url.as_ref()));
    listed(&push, &ConnectionFilter::default(), 3).await;

    let id_of = async |session: &str| {
        let filter = ConnectionFilter { session: Some(session.to_owned()), ..ConnectionFilter::default() };
        listed(&push, &filter, 1).await.connections.remove(0).connection_id
    };
    let (first_id, bob_id) = (id_of(FIRST_LOGIN).await, id_of("login-3").await);
    let mut filter =
        ConnectionFilter { user: Some(ANN.to_owned()), limit: Some(1), ..ConnectionFilter::default() };
    let mut sessions = Vec::new();
    for n in 1..=2 {
        let page = listed(&push, &filter, 1).await;
        let connection = &page.connections[0];
        assert_eq!((page.count, connection.user.as_deref()), (1, Some(ANN)));
        assert_eq!(connection.channels, ["room-1"]);
        assert_eq!(connection.source_ip.as_deref(), Some("127.0.0.1"));
        assert!(connection.connected_at.as_ref().is_some_and(|time| time.ends_with('Z')), "{connection:?}");
        assert!(connection.last_active_at.is_some());
        sessions.push(connection.session.clone().expect("a session"));
        assert_eq!(page.next_token.is_some(), n == 1, "{page:?}");
        filter.next_token = page.next_token;
    }
    sessions.sort_unstable();
    assert_eq!(sessions, [FIRST_LOGIN, "login-2"]);

    let all = PushOptions::default();
    let counts = push.push_channel("room-1", "one", &PushOptions::except(&first_id)).await.expect("counts");
    assert_eq!((counts.delivered, counts.gone, counts.slow), (2, 0, 0));
    let once = PushOptions { idempotency_key: Some("key 1".to_owned()), want_gone_ids: true, ..all.clone() };
    for _ in 0..2 {
        assert_eq!(push.push_channel("room-1", "two", &once).await.expect("counts").delivered, 3);
    }
    let error = push.push_channel("room-1", "other", &once).await.expect_err("the key has been used");
    assert!(matches!(&error, PushError::Other { status, .. } if status.as_u16() == 409), "{error:?}");
    assert_eq!(push.push_user(ANN, "three", &all).await.expect("counts").delivered, 2);
    let without_bob = PushOptions::except(&bob_id);
    assert_eq!(push.broadcast("four", &without_bob).await.expect("counts").delivered, 2);

    push.join("room-2", &bob_id).await.expect("bob joins");
    push.leave("room-1", &bob_id).await.expect("bob leaves");
    let in_second_room =
        ConnectionFilter { channel: Some("room-2".to_owned()), ..ConnectionFilter::default() };
    assert_eq!(listed(&push, &in_second_room, 1).await.connections[0].connection_id, bob_id);
    assert_eq!(push.push_channel("room-1", "five", &all).await.expect("counts").delivered, 2);
    assert_eq!(push.push_channel("room-2", "six", &all).await.expect("counts").delivered, 1);
    let texts = |n: usize, client: &mut crate::dev::Client| {
        (0..n).map(|_| client.message()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(texts(4, &mut first), "two three four five");
    assert_eq!(texts(5, &mut second), "one two three four five");
    assert_eq!(texts(3, &mut bob), "one two six");

    let long = push.clone().max_message(usize::MAX);
    let error = long.push_channel("room-1", vec![b'x'; 131_073], &all).await.expect_err("too long");
    let is_told = matches!(&error, PushError::TooLarge { size: 131_073, limit: Some(131_072) });
    assert!(is_told, "{error:?}");

    let mut request = asked(ANN, FIRST_LOGIN);
    request.roles = vec!["staff".to_owned()];
    request.claims.insert("tenant".to_owned(), 7.into());
    request.channels = Some(vec!["room-1".to_owned()]);
    request.address = Some("127.0.0.1".to_owned());
    request.lifetime = Some(300);
    let unspent = admin.issue_token(&request).await.expect("a token with everything");
    assert_eq!(unspent.expires_in, 300);
    admin.end_session(FIRST_LOGIN).await.expect("an end");
    let ended = (serde_json::json!(1008), serde_json::json!("Session ended"));
    let line = first.line();
    assert_eq!((&line["code"], &line["reason"]), (&ended.0, &ended.1), "{line}");
    let refused = dev.run(&["connect", &in_room(unspent.url.as_ref())]);
    assert!(refused.code != 0 && (refused.stdout + &refused.stderr).contains("403"));
    let error = push.join("room-2", &first_id).await.expect_err("it is gone");
    assert!(matches!(&error, PushError::Gone { diagnosis: Some(_) }), "{error:?}");

    assert_eq!(push.push_user(ANN, "seven", &all).await.expect("counts").delivered, 1);
    assert_eq!(second.message(), "seven");
    signed.end_user(ANN).await.expect("an end");
    let line = second.line();
    assert_eq!((&line["code"], &line["reason"]), (&ended.0, &ended.1), "{line}");
    assert_eq!(push.broadcast("eight", &all).await.expect("counts").delivered, 1);
    assert_eq!(bob.message(), "eight");
}

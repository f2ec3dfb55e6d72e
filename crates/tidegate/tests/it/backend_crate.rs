//! The crate for axum services behind the real gateway.

use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use tidegate_backend::{
    Accept, Connect, Disconnect, GatewayRouter, PushClient, PushError, RawMessage, Refuse, Reply, SigV4,
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

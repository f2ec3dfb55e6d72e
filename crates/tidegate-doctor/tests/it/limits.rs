//! What every run keeps to: its budget, its name, its silence about secrets.

use tidegate_auth::Secret;
use tidegate_doctor::probe::{MAX_CONNECTIONS, MAX_IDLE_CONNECTIONS, MAX_REQUESTS, name_of, user_agent};
use tidegate_doctor::report::Style;

use crate::server::{After, Reply, jwt, serve, tidegate};
use crate::{look, options};

#[tokio::test]
async fn the_budget_is_kept() {
    // DX-47: every probe at once, with all that makes them send more.
    let server = serve(|head| match head.is_upgrade() {
        true => Reply::Upgrade("", After::Echo),
        false => tidegate(head),
    })
    .await;
    let mut options = options(&server.url("/api/api/chat?a=b"));
    options.token = Some(Secret::new(jwt(serde_json::json!({ "exp": 4_000_000_000_i64 }))));
    options.origin = Some("https://www.example.com".to_owned());
    options.subprotocols = vec!["a".to_owned()];
    options.idle = Some(options.surroundings.second * 20);
    options.heartbeat = Some(options.surroundings.second * 5);
    let report = look(&options).await;
    let heads = server.heads();
    let upgrades = heads.iter().filter(|head| head.is_upgrade()).count();
    assert!(heads.len() <= MAX_REQUESTS, "{}", heads.len());
    assert!(upgrades <= MAX_CONNECTIONS + MAX_IDLE_CONNECTIONS, "{upgrades}");
    assert!(upgrades > MAX_IDLE_CONNECTIONS, "{upgrades}");
    for head in &heads {
        assert_eq!(head.header("user-agent"), Some(user_agent().as_str()));
        assert!(matches!(head.method.as_str(), "GET"), "{head:?}");
    }
    assert!(report.notes.iter().any(|note| note.contains("requests were sent")), "{:?}", report.notes);
}

#[tokio::test]
async fn nothing_secret_is_repeated() {
    // DX-30 DX-64
    let server = serve(tidegate).await;
    let mut options =
        options(&server.url("/chat?password=hunter2&token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"));
    options.headers = vec![("Authorization".to_owned(), "Basic c2VjcmV0".to_owned())];
    let report = look(&options).await;
    let debug = format!("{options:?}");
    let texts =
        [debug, serde_json::to_string(&report).unwrap(), report.text(Style { color: false, verbose: true })];
    for text in texts {
        for secret in ["hunter2", "eyJ", "c2VjcmV0"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[test]
fn probes_have_names_and_numbers() {
    // DX-30
    assert_eq!(name_of("8"), Some("handshake"));
    assert_eq!(name_of("upgrade-path"), Some("upgrade-path"));
    assert_eq!(name_of("14"), Some("browser"));
    assert_eq!(name_of("15"), Some("chat"));
    assert_eq!(name_of("16"), Some("publish"));
    for bad in ["0", "17", "", "handshakes"] {
        assert_eq!(name_of(bad), None, "{bad}");
    }
}

//! Positions, broadcasts to an area, and what their receivers say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_store::sql::{Database as _, Outcome, SqliteDatabase, Tx};

use super::fake::{Client, Node, node, node_of};
use crate::history::{MAX_BROADCASTS, MIGRATIONS};
use crate::positions::KEEP_MS;
use crate::settings::{Settings, Zone};

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.roles.insert("tourist".to_owned(), vec!["tourist".to_owned()]);
    settings.broadcast_roles = vec!["tourist".to_owned()];
    let zone = |radius_km| Zone { name: "Harbor".to_owned(), lat: 0.0, lon: 0.0, radius_km };
    settings.zones = BTreeMap::from([("7".to_owned(), zone(None)), ("big".to_owned(), zone(Some(200.0)))]);
    settings
}

/// Tourists on the equator, at each of these degrees east.
async fn tourists(node: &Node, degrees: &[f64]) -> Vec<Client> {
    let mut clients = Vec::new();
    for (idx, lon) in degrees.iter().enumerate() {
        let user = format!("t{idx}");
        clients.push(node.open(&user, "tourist").await);
        let body = json!({ "lat": 0, "lon": lon }).to_string();
        let (status, _) =
            node.call(&format!("jwt.tourist.{user}"), Method::PUT, "/api/alerts/position", &body).await;
        assert_eq!(status, 200);
    }
    clients
}

async fn broadcast(node: &Node, kind: &str, own: Value) -> (u16, Value) {
    let mut body = json!({ "title": "Storm", "message": "Go inside", "severity": "high" });
    for (name, value) in own.as_object().unwrap() {
        body[name] = value.clone();
    }
    node.call("jwt.authority.9", Method::POST, &format!("/api/broadcast/{kind}"), &body.to_string()).await
}

#[tokio::test]
async fn a_broadcast_reaches_those_who_are_there() {
    // S3-51, S3-53, S3-40, S3-42
    let node = node(settings());
    let clients = tourists(&node, &[0.0, 0.5, 1.5, -179.9]).await;
    let authority = node.open("9", "authority").await;
    let second = node.open("t0", "tourist").await;
    let got = || {
        clients
            .iter()
            .chain([&authority, &second])
            .map(|client| node.received(client).len())
            .collect::<Vec<_>>()
    };
    let center = json!({ "center_latitude": 0, "center_longitude": 0, "radius_km": 60, "action_required": "leave", "alert_type": "weather", "expires_at": "2025-01-16T00:00:00Z" });
    let (status, answer) = broadcast(&node, "radius", center).await;
    assert_eq!(status, 200);
    assert_eq!((&answer["tourists_notified"], &answer["devices_notified"]), (&json!(2), &json!(3)));
    assert_eq!(
        (&answer["status"], &answer["severity"], &answer["area_covered"]),
        (&json!("success"), &json!("high"), &json!("60 km radius"))
    );
    let text = node.received(&clients[0]).remove(0);
    let id = answer["broadcast_id"].as_str().unwrap();
    assert_eq!(
        text,
        format!(
            r#"{{"type":"broadcast","broadcast_id":"{id}","broadcast_type":"radius","title":"Storm","message":"Go inside","severity":"high","alert_type":"weather","action_required":"leave","location":{{"lat":0.0,"lon":0.0,"radius_km":60.0}},"expires_at":"2025-01-16T00:00:00Z","timestamp":"2025-01-15T12:00:00.000Z"}}"#
        )
    );
    assert_eq!(got(), [0, 1, 0, 0, 0, 1]);
    let (_, answer) = broadcast(&node, "zone", json!({ "zone_id": 7 })).await;
    assert_eq!((&answer["zone_name"], got()), (&json!("Harbor"), vec![1, 0, 0, 0, 0, 1]));
    broadcast(&node, "zone", json!({ "zone_id": "big" })).await;
    assert_eq!(got(), [1, 1, 1, 0, 0, 1]);
    let bounds = json!({ "min_lat": 0, "max_lat": 0, "min_lon": 1.5, "max_lon": -179.9 });
    let (_, answer) = broadcast(&node, "region", json!({ "region_bounds": bounds })).await;
    assert_eq!((&answer["region"]["min_lon"], got()), (&json!(1.5), vec![0, 0, 1, 1, 0, 0]));
    let (status, answer) =
        node.call("jwt.authority.9", Method::POST, "/api/broadcast/all", r#"{"title":"a","body":"b"}"#).await;
    assert_eq!((status, &answer["scope"], &answer["severity"]), (200, &json!("all_tourists"), &json!("low"))); // S3-41
    assert_eq!((&answer["tourists_notified"], got()), (&json!(4), vec![1, 1, 1, 1, 0, 1]));
    let (status, answer) =
        broadcast(&node, "radius", json!({ "center_latitude": 80, "center_longitude": 0, "radius_km": 1 }))
            .await;
    assert_eq!(
        (status, &answer["tourists_notified"], &answer["devices_notified"]),
        (200, &json!(0), &json!(0))
    );
    node.later(KEEP_MS); // S3-52
    let (_, answer) = broadcast(&node, "zone", json!({ "zone_id": "big" })).await;
    assert_eq!(answer["tourists_notified"], 0);
    assert_eq!(node.call("jwt.tourist.t0", Method::POST, "/api/broadcast/all", "{}").await.0, 403);
}

#[tokio::test]
async fn what_is_wrong_with_a_broadcast_is_named() {
    // S3-54
    let node = node(settings());
    let circle = |name: &str, value: Value| {
        let mut body = json!({ "center_latitude": 0, "center_longitude": 0, "radius_km": 1 });
        body[name] = value;
        body
    };
    for (kind, body, field) in [
        ("radius", circle("severity", json!("urgent")), "severity"),
        ("radius", circle("severity", json!(1)), "severity"),
        ("radius", circle("title", json!(" ")), "title"),
        ("radius", circle("message", Value::Null), "message"),
        ("radius", circle("center_latitude", json!(90.5)), "center_latitude"),
        ("radius", circle("center_latitude", json!("12")), "center_latitude"),
        ("radius", circle("center_longitude", json!(-181)), "center_longitude"),
        ("radius", circle("radius_km", json!(0)), "radius_km"),
        ("radius", circle("radius_km", json!(-3)), "radius_km"),
        ("radius", circle("expires_at", json!(5)), "expires_at"),
        ("zone", json!({}), "zone_id"),
        ("region", json!({}), "region_bounds"),
        (
            "region",
            json!({ "region_bounds": { "min_lat": 0, "max_lat": 1, "min_lon": 0 } }),
            "region_bounds.max_lon",
        ),
        (
            "region",
            json!({ "region_bounds": { "min_lat": 2, "max_lat": 1, "min_lon": 0, "max_lon": 1 } }),
            "region_bounds.min_lat",
        ),
    ] {
        let (status, answer) = broadcast(&node, kind, body.clone()).await;
        assert_eq!((status, &answer["field"]), (422, &json!(field)), "{body}");
    }
    let (status, _) = broadcast(&node, "zone", json!({ "zone_id": "nowhere" })).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn ids_of_one_second_differ() {
    // S3-55
    let node = node(settings());
    node.host.same_random.store(true, Ordering::Relaxed);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let (_, answer) = broadcast(&node, "all", json!({})).await;
        let id = answer["broadcast_id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("BCAST-20250115-120000-"), "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn positions_are_told_by_their_users_or_by_a_service() {
    // S3-52
    let node = node(settings());
    node.open("t1", "tourist").await;
    let put =
        async |caller: &str, body: &str| node.call(caller, Method::PUT, "/api/alerts/position", body).await.0;
    assert_eq!(put("jwt.tourist.t2", r#"{"lat":0,"lon":0,"user":"t1"}"#).await, 403);
    assert_eq!(put("", r#"{"lat":0,"lon":0}"#).await, 401);
    assert_eq!(put("key-a", r#"{"lat":0,"lon":0}"#).await, 422);
    for body in [r#"{"lat":91,"lon":0}"#, r#"{"lat":0,"lon":181}"#, r#"{"lat":"0","lon":0}"#, r#"{"lon":0}"#]
    {
        assert_eq!(put("jwt.tourist.t1", body).await, 422, "{body}");
    }
    let reached =
        async || broadcast(&node, "zone", json!({ "zone_id": 7 })).await.1["tourists_notified"].clone();
    assert_eq!(reached().await, 0);
    assert_eq!(put("jwt.service.s", r#"{"lat":0.0,"lon":0.0,"user":"t1"}"#).await, 200);
    assert_eq!(reached().await, 1);
    put("jwt.tourist.t1", r#"{"lat":12.3456,"lon":65.4321}"#).await;
    let told = format!("{:?} {:?}", node.host.notices.lock(), node.app);
    assert!(!told.contains("12.3456") && !told.contains("65.4321"));
    assert_eq!(reached().await, 0, "only the last position counts");
}

#[tokio::test]
async fn receivers_say_how_they_are() {
    // S3-56, S3-57
    let node = node(settings());
    let clients = tourists(&node, &[0.0, 0.0]).await;
    let authority = node.open("9", "authority").await;
    let (_, answer) = broadcast(&node, "zone", json!({ "zone_id": 7 })).await;
    let id = answer["broadcast_id"].as_str().unwrap().to_owned();
    let acknowledge = async |user: &str, body: &str| {
        let path = format!("/api/broadcasts/{id}/acknowledge");
        node.call(&format!("jwt.tourist.{user}"), Method::POST, &path, body).await.0
    };
    assert_eq!(acknowledge("t0", "").await, 200);
    assert_eq!(acknowledge("t0", r#"{"status":"safe","notes":"fine","lat":0,"lon":0}"#).await, 200);
    assert_eq!(acknowledge("t5", "{}").await, 403, "who did not get it");
    assert_eq!(acknowledge("t0", r#"{"status":"great"}"#).await, 422);
    assert_eq!(acknowledge("t0", r#"{"lat":0}"#).await, 422);
    assert_eq!(
        node.call("jwt.tourist.t0", Method::POST, "/api/broadcasts/BCAST-0/acknowledge", "{}").await.0,
        404
    );
    assert!(node.received(&authority).is_empty());
    assert_eq!(acknowledge("t1", r#"{"status":"need_help","notes":"stuck","lat":1,"lon":2}"#).await, 200);
    assert_eq!(acknowledge("t1", r#"{"status":"need_help"}"#).await, 200);
    let texts = node.received(&authority);
    assert_eq!(texts.len(), 1, "said twice, published once");
    let help: Value = serde_json::from_str(&texts[0]).unwrap();
    assert_eq!(
        (&help["type"], &help["alert_type"], &help["tourist_id"]),
        (&json!("alert"), &json!("broadcast_help_request"), &json!("t1"))
    );
    assert_eq!(
        (&help["location"], &help["description"], &help["tourist_name"]),
        (&json!({ "lat": 1.0, "lon": 2.0 }), &json!("stuck"), &json!("t1@example.com"))
    );
    assert!(help["alert_id"].is_string() && help["severity"] == "critical" && help["title"].is_string());
    assert!(node.received(&clients[0]).iter().all(|text| !text.contains("help")));

    let get = async |caller: &str, path: &str| node.call(caller, Method::GET, path, "").await;
    let (status, details) = get("jwt.authority.9", &format!("/api/broadcast/{id}")).await;
    assert_eq!(
        (status, &details["acknowledgment_count"], &details["acknowledgment_rate"]),
        (200, &json!(2), &json!(100.0))
    );
    assert_eq!(details["status_breakdown"], json!({ "need_help": 1, "safe": 1 }));
    assert_eq!(details["acknowledgments"].as_array().unwrap().len(), 2, "one of each user");
    assert_eq!(get("jwt.authority.8", &format!("/api/broadcast/{id}")).await.0, 404, "somebody else's");
    assert_eq!(get("jwt.admin.8", &format!("/api/broadcast/{id}")).await.0, 200);
    assert_eq!(get("jwt.tourist.t0", &format!("/api/broadcast/{id}")).await.0, 403);
    for _ in 0..4 {
        broadcast(&node, "all", json!({})).await;
    }
    let (_, page) = get("jwt.authority.9", "/api/broadcast/history?limit=2&offset=4").await;
    assert_eq!((&page["total"], page["broadcasts"].as_array().unwrap().len()), (&json!(5), 1));
    assert_eq!(page["broadcasts"][0]["broadcast_id"], id);
    assert_eq!(get("jwt.authority.8", "/api/broadcast/history").await.1["total"], 0);
    assert_eq!(get("jwt.authority.9", "/api/broadcast/history?limit=x").await.0, 422);
}

#[tokio::test]
async fn broadcasts_and_answers_survive_a_restart() {
    // S3-56, S3-57
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let start = async || {
        let database = Arc::new(SqliteDatabase::open(&path, MIGRATIONS).unwrap());
        let node = node_of(settings(), None, Some(Arc::clone(&database) as _));
        node.app.restore().await.unwrap();
        (node, database)
    };
    let get = async |node: &Node, path: &str| {
        let (status, mut body) = node.call("jwt.authority.9", Method::GET, path, "").await;
        body.as_object_mut().unwrap().remove("requestId");
        (status, body)
    };
    let acknowledge = async |node: &Node, id: &str, user: &str, body: &str| {
        let path = format!("/api/broadcasts/{id}/acknowledge");
        node.call(&format!("jwt.tourist.{user}"), Method::POST, &path, body).await.0
    };
    let (node, database) = start().await;
    let clients = tourists(&node, &[0.0, 0.0]).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (_, answer) = broadcast(&node, "zone", json!({ "zone_id": 7 })).await;
        ids.push(answer["broadcast_id"].as_str().unwrap().to_owned());
    }
    for status in ["received", "evacuating"] {
        let body = json!({ "status": status, "notes": "n", "lat": 1, "lon": 2 }).to_string();
        assert_eq!(acknowledge(&node, &ids[0], "t0", &body).await, 200);
    }
    let path_of = |id: &str| format!("/api/broadcast/{id}");
    let before = (get(&node, &path_of(&ids[0])).await, get(&node, "/api/broadcast/history?limit=10").await);
    assert_eq!(before.0.1["status_breakdown"], json!({ "evacuating": 1 }));
    assert_eq!((&before.0.1["devices_notified"], &before.1.1["total"]), (&json!(2), &json!(2)));
    drop((node, database, clients));

    let (node, database) = start().await;
    let after = (get(&node, &path_of(&ids[0])).await, get(&node, "/api/broadcast/history?limit=10").await);
    assert_eq!(before, after);
    // Receivers are known too, and new broadcasts come behind the old ones.
    assert_eq!(acknowledge(&node, &ids[1], "t1", "").await, 200);
    assert_eq!(acknowledge(&node, &ids[1], "t7", "").await, 403);
    let (_, third) = broadcast(&node, "all", json!({})).await;
    drop((node, database));
    let (node, database) = start().await;
    let (_, page) = get(&node, "/api/broadcast/history").await;
    let listed: Vec<&Value> =
        page["broadcasts"].as_array().unwrap().iter().map(|one| &one["broadcast_id"]).collect();
    assert_eq!(listed, [&third["broadcast_id"], &json!(ids[1]), &json!(ids[0])]);
    assert_eq!(page["broadcasts"][1]["acknowledgment_count"], 1);
    drop((node, database));
}

#[tokio::test]
async fn the_file_is_bounded_too() {
    // S3-56
    let database = Arc::new(SqliteDatabase::open_in_memory(MIGRATIONS).unwrap());
    let mut settings = settings();
    settings.publish_rate = 0.0;
    let node = node_of(settings, None, Some(Arc::clone(&database) as _));
    node.open("t0", "tourist").await;
    let mut first = String::new();
    for number in 0..=MAX_BROADCASTS {
        let (status, answer) = broadcast(&node, "all", json!({})).await;
        assert_eq!(status, 200);
        if number == 0 {
            first = answer["broadcast_id"].as_str().unwrap().to_owned();
            let path = format!("/api/broadcasts/{first}/acknowledge");
            assert_eq!(node.call("jwt.tourist.t0", Method::POST, &path, "").await.0, 200);
        }
    }
    let rows = Arc::new(Mutex::new((0, 0)));
    let counted = Arc::clone(&rows);
    let count = move |tx: &mut dyn Tx| {
        let broadcasts = tx.query("SELECT count(*) FROM alerts_broadcast", &[])?[0].int(0)?;
        let said = tx.query("SELECT count(*) FROM alerts_acknowledgement", &[])?[0].int(0)?;
        *counted.lock() = (broadcasts, said);
        Ok(Outcome::Rollback(Box::new(|| ())))
    };
    database.read(Box::new(count)).await.unwrap();
    assert_eq!(*rows.lock(), (i64::try_from(MAX_BROADCASTS).unwrap(), 0));
    assert_eq!(node.call("jwt.admin.1", Method::GET, &format!("/api/broadcast/{first}"), "").await.0, 404);
}

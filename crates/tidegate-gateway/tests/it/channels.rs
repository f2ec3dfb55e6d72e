//! Joining and leaving channels, by the client's wish and by the backend's, and the rules that say who may.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_core::identity::Identity;

use crate::backend::{Answer, Request};
use crate::client::{Client, PATH};
use crate::harness::{API_ID, Deployed, Plane, STAGE, users_policy};
use crate::record::eventually;

/// Channels that everybody may join.
fn open_channels() -> Value {
    users_policy(json!({ "channels": { "unlisted": "allow" } }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_domain_has_a_default_channel_of_its_own() {
    let plane = Plane::start().await;
    let mut deployed = Deployed::with_policy(json!({
        "channels": {
            "default": "lobby",
            "default_by_domain": { "ws.example.com": "vip", "quiet.example.com": "" },
            "unlisted": "allow",
        },
    }));
    deployed.domains = vec!["ws.example.com".to_owned(), "quiet.example.com".to_owned()];
    plane.deploy(&deployed);

    // S0-71
    for (host, path, channels) in [
        ("localhost", PATH, "lobby"),
        ("ws.example.com", "/", "vip"),
        ("quiet.example.com", "/", ""),
        ("ws.example.com", "/?channel=named", "named"),
    ] {
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake_at(path, host, "")).await;
        assert_eq!(client.status().await, 101, "{host}");
        assert_eq!(plane.channels_of(&client).await.join(","), channels, "{host}");
        client.close(1000, "").await;
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_names_channels_that_must_be_permitted() {
    let plane = Plane::start_with_policy(json!({
        "channels": {
            "rules": [{ "match": "open*", "join": "allow" }, { "match": "closed" }],
            "max_per_connection": 3,
        },
    }))
    .await;
    // S0-66, S0-67: a listed channel that nobody may join, and one without a rule.
    assert_eq!(plane.knock("?channel=open&channel=closed", "").await, 403);
    assert_eq!(plane.knock("?channel=unknown", "").await, 403);
    // S0-64: full match of the name, also without a line feed at its end; as many as the limit says.
    assert_eq!(plane.knock("?channel=open%0A", "").await, 400);
    assert_eq!(plane.knock("?channel=open1&channel=open2&channel=open3&channel=open4", "").await, 400);
    let mut client = plane.connect_as("?channel=open2&channel=open1&channel=open2", "").await;
    assert_eq!(plane.channels_of(&client).await, ["open2", "open1"]);
    assert_eq!(plane.manage("POST", "@channels/open1", "hello").await.json()["delivered"], 1);
    assert_eq!(client.text().await, "hello");
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_moves_connections_and_no_rule_binds_it() {
    let plane = Plane::start_with_policy(users_policy(json!({
        "channels": { "rules": [{ "match": "room" }], "max_per_connection": 2 },
    })))
    .await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await.replace('=', "%3D");
    let member = |channel: &str| format!("@channels/{channel}/connections/{id}");
    // S0-54: also a second time, and where there was nothing to leave.
    for _ in 0..2 {
        assert_eq!(plane.manage("PUT", &member("room"), "").await.status, 204);
    }
    assert_eq!(plane.manage("PUT", &member("hall"), "").await.status, 204);
    assert_eq!(plane.channels_of(&client).await, ["room", "hall"]);
    let over = plane.manage("PUT", &member("third"), "").await;
    assert_eq!(over.status, 409, "{over:?}");
    assert_eq!(plane.manage("PUT", &member("no%20name"), "").await.status, 400);
    assert_eq!(plane.manage("POST", "@channels/room", "one").await.json()["delivered"], 1);
    assert_eq!(client.text().await, "one");

    // S0-70: rules for clients do not end what the backend has made.
    assert_eq!(plane.gateway.recheck_channels(None, None).await, 0);
    assert_eq!(plane.channels_of(&client).await, ["room", "hall"]);

    for _ in 0..2 {
        assert_eq!(plane.manage("DELETE", &member("room"), "").await.status, 204);
    }
    assert_eq!(plane.manage("POST", "@channels/room", "two").await.json()["delivered"], 0);
    client.hears_nothing().await;
    assert_eq!(plane.channels_of(&client).await, ["hall"]);
    client.close(1000, "").await;
    plane.nobody_is_left().await;
    assert_eq!(plane.manage("PUT", &member("room"), "").await.status, 410);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_join_leave_and_change_by_control_messages() {
    let plane = Plane::start_with_policy(users_policy(json!({
        "channels": {
            "rules": [{ "match": "a*", "join": "allow" }, { "match": "closed" }],
            "max_per_connection": 2,
        },
    })))
    .await;
    let mut client = plane.connect().await;
    // S0-54
    let answer = client.ask(json!({ "action": "join", "channel": "a1", "ref": [7] })).await;
    assert_eq!(answer, json!({ "type": "joined", "channel": "a1", "ref": [7] }));
    client.ask(json!({ "action": "join", "channel": "a2" })).await;
    // S0-64: over the limit, and joining twice is no second channel.
    let answer = client.ask(json!({ "action": "join", "channel": "a3", "ref": "x" })).await;
    assert_eq!(
        (&answer["type"], &answer["id"], &answer["ref"]),
        (&json!("error"), &json!("channel.too-many"), &json!("x"))
    );
    assert_eq!(client.ask(json!({ "action": "join", "channel": "a2" })).await["type"], "joined");
    // S0-66, S0-67
    for (channel, id) in [
        ("closed", "channel.forbidden"),
        ("unknown", "channel.unlisted"),
        ("a\n", "channel.invalid"),
        ("", "channel.invalid"),
    ] {
        let answer = client.ask(json!({ "action": "join", "channel": channel })).await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("error"), &json!(id)), "{channel:?}");
        // Whoever may not change stays.
        let answer = client.ask(json!({ "action": "change", "channel": channel })).await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("error"), &json!(id)), "{channel:?}");
    }
    assert_eq!(plane.channels_of(&client).await, ["a1", "a2"]);
    // At its limit it may change all the same.
    assert_eq!(client.ask(json!({ "action": "change", "channel": "a3" })).await["type"], "joined");
    assert_eq!(plane.channels_of(&client).await, ["a3"]);
    let left = client.ask(json!({ "action": "leave", "channel": "a3" })).await;
    assert_eq!(left, json!({ "type": "left", "channel": "a3" }));
    assert!(plane.channels_of(&client).await.is_empty());
    for malformed in [json!({ "action": "dance" }), json!(7), json!({ "action": 7 })] {
        let answer = client.ask(malformed).await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("error"), &json!("control.malformed")));
    }
    // A message without the member, or with it elsewhere, is for the backend.
    client.send(r#"{"deep":{"tidegate":{"action":"ping"}}}"#).await;
    plane.backend.events("MESSAGE", 1).await;
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_key_control_messages_are_ordinary() {
    let plane = Plane::start_with_policy(json!({ "channels": { "unlisted": "allow" } })).await;
    let mut client = plane.connect().await;
    // S0-54: off by default.
    client.send(r#"{"tidegate":{"action":"join","channel":"a"}}"#).await;
    plane.backend.events("MESSAGE", 1).await;
    assert!(plane.channels_of(&client).await.is_empty());
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_to_join_publish_and_see_are_separate() {
    let plane = Plane::start_with_policy(users_policy(json!({
        "channels": { "rules": [
            { "match": "news", "join": "allow", "publish": { "any": [["role:editor"]] } },
            { "match": "room", "join": "authenticated", "presence": "authenticated", "presence_events": true },
        ] },
    })))
    .await;
    let mut editor = plane.connect_user(json!({ "sub": "eve", "role": "editor" }), "").await;
    let mut reader = plane.connect_user(json!({ "sub": "rob" }), "&channel=news").await;
    assert_eq!(reader.told().await["type"], "joined");
    // S0-68: whoever may publish need not be there, and who is there may not publish for that.
    let refused = reader.ask(json!({ "action": "publish", "channel": "news", "data": 1 })).await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("channel.forbidden")));
    let refused = reader.ask(json!({ "action": "presence", "channel": "news" })).await;
    assert_eq!(refused["id"], "channel.forbidden");
    let published =
        editor.ask(json!({ "action": "publish", "channel": "news", "data": { "n": 1.50 } })).await;
    assert_eq!(published, json!({ "type": "published", "channel": "news" }));
    assert_eq!(reader.text().await, r#"{"n":1.5}"#);
    editor.ask(json!({ "action": "publish", "channel": "news", "data": "text" })).await;
    assert_eq!(reader.text().await, "text");

    // Presence: events about others only, and a list.
    assert_eq!(editor.ask(json!({ "action": "join", "channel": "room" })).await["type"], "joined");
    assert_eq!(reader.ask(json!({ "action": "join", "channel": "room" })).await["type"], "joined");
    let id = plane.id_of(&reader).await;
    let came = editor.told().await;
    assert_eq!(came, json!({ "type": "join", "channel": "room", "connectionId": id, "user": "rob" }));
    // Once more is no second arrival.
    reader.ask(json!({ "action": "join", "channel": "room" })).await;
    editor.hears_nothing().await;
    let present = editor.ask(json!({ "action": "presence", "channel": "room" })).await;
    assert_eq!(present["userIds"], json!(["eve", "rob"]));
    assert_eq!((&present["connections"], &present["users"]), (&json!(2), &json!(2)));
    reader.reset();
    let went = editor.told().await;
    assert_eq!((&went["type"], &went["connectionId"]), (&json!("leave"), &json!(id)));
    let present = editor.ask(json!({ "action": "presence", "channel": "room" })).await;
    assert_eq!(present["userIds"], json!(["eve"]));
    editor.close(1000, "").await;
    plane.end().await;
}

/// Requests to the address that rules ask.
fn is_question(request: &Request) -> bool {
    request.target == "/may"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_asks_the_backend() {
    let plane = Plane::start().await;
    let url = format!("http://{}/may", plane.backend.address);
    let with_cache = |seconds: u64| {
        Deployed::with_policy(users_policy(json!({ "channels": { "rules": [
            { "match": "cached", "join": { "ask": url, "cache": seconds } },
            { "match": "each", "join": { "ask": url } },
        ] } })))
    };
    plane.deploy(&with_cache(60));
    plane.backend.plan(|request| match is_question(request) && request.body.contains("\"user\":\"bad\"") {
        true => Answer::Status(403),
        false => Answer::Status(200),
    });
    let n_asked = || plane.backend.requests.count(is_question);

    // S0-69
    let mut good = plane.connect_user(json!({ "sub": "good", "sid": "s1", "role": "r" }), "").await;
    assert_eq!(good.ask(json!({ "action": "join", "channel": "cached" })).await["type"], "joined");
    let question = plane.backend.requests.until("question", 1, is_question).await.remove(0);
    let question: Value = serde_json::from_str(&question.body).unwrap();
    assert_eq!(
        question,
        json!({
            "api": API_ID, "stage": STAGE, "connectionId": plane.id_of(&good).await, "channel": "cached",
            "right": "join", "user": "good", "session": "s1", "roles": ["r"],
        })
    );
    good.ask(json!({ "action": "leave", "channel": "cached" })).await;
    assert_eq!(good.ask(json!({ "action": "join", "channel": "cached" })).await["type"], "joined");
    assert_eq!(n_asked(), 1, "the answer holds for its time");
    for expected in [2, 3] {
        assert_eq!(good.ask(json!({ "action": "join", "channel": "each" })).await["type"], "joined");
        assert_eq!(n_asked(), expected, "without a time each one is asked");
    }
    let mut bad = plane.connect_user(json!({ "sub": "bad" }), "").await;
    for _ in 0..2 {
        let refused = bad.ask(json!({ "action": "join", "channel": "cached" })).await;
        assert_eq!(refused["id"], "channel.forbidden");
    }
    assert_eq!(n_asked(), 4, "a no holds as well");

    // Failure is no.
    plane.backend.plan(|request| match is_question(request) {
        true => Answer::Garbage,
        false => Answer::Status(200),
    });
    let refused = good.ask(json!({ "action": "join", "channel": "each" })).await;
    assert_eq!(refused["id"], "channel.forbidden");

    // S0-70: another policy forgets what was answered under the one before, and asks about who is there.
    assert_eq!(plane.channels_of(&good).await, ["cached", "each"]);
    plane.deploy(&with_cache(61));
    for _ in 0..2 {
        assert_eq!(good.told().await["type"], "removed");
    }
    assert!(plane.channels_of(&good).await.is_empty());
    good.close(1000, "").await;
    bad.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_loses_the_right_is_removed_and_told() {
    let plane = Plane::start().await;
    let staff_only = |others: &str| {
        Deployed::with_policy(users_policy(json!({ "channels": { "rules": [
            { "match": "staff", "join": { "any": [["role:staff"]] } },
            { "match": "all", "join": others },
        ] } })))
    };
    plane.deploy(&staff_only("allow"));
    let mut client =
        plane.connect_user(json!({ "sub": "ann", "role": "staff" }), "&channel=staff&channel=all").await;
    for _ in 0..2 {
        assert_eq!(client.told().await["type"], "joined");
    }
    // S0-70: the rules change.
    plane.deploy(&staff_only("deny"));
    let removed = client.told().await;
    assert_eq!(
        (&removed["type"], &removed["channel"], &removed["id"]),
        (&json!("removed"), &json!("all"), &json!("perm.channel"))
    );
    assert_eq!(plane.manage("POST", "@channels/all", "x").await.json()["delivered"], 0);
    assert_eq!(plane.channels_of(&client).await, ["staff"]);
    // Another deployment with the same policy asks nobody.
    plane.deploy(&staff_only("deny"));
    client.hears_nothing().await;

    // The claims change.
    let without_roles = |before: &Identity| Identity { roles: Vec::new(), ..before.clone() };
    let changed = plane.gateway.set_claims("ann", Some(API_ID), Some(STAGE), without_roles).await;
    assert_eq!(changed, (1, 1));
    let removed = client.told().await;
    assert_eq!((&removed["type"], &removed["channel"]), (&json!("removed"), &json!("staff")));
    assert!(plane.channels_of(&client).await.is_empty());
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_change_while_connect_runs_count() {
    let plane = Plane::start().await;
    let with = |join: &str| {
        Deployed::with_policy(users_policy(
            json!({ "channels": { "rules": [{ "match": "room", "join": join }] } }),
        ))
    };
    plane.deploy(&with("allow"));
    let gate = crate::backend::Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.is_event("CONNECT") {
        true => Answer::Gated(200, held.clone()),
        false => Answer::Status(200),
    });
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("?channel=room", "")).await;
    plane.backend.events("CONNECT", 1).await;
    plane.deploy(&with("deny"));
    gate.open();
    assert_eq!(client.status().await, 101);
    // S0-70: in whichever order, it is not there in the end.
    eventually("no member", || {
        let stage = plane.gateway.find_stage(API_ID, STAGE).unwrap();
        plane.gateway.presence(&stage, &"room".parse().unwrap(), 9)["connections"] == 0
    })
    .await;
    assert_eq!(plane.manage("POST", "@channels/room", "x").await.json()["delivered"], 0);
    assert!(plane.channels_of(&client).await.is_empty());
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_hears_of_joins_in_order_and_nobody_can_forge_them() {
    let plane = Plane::start().await;
    let mut deployed = Deployed::with_policy(open_channels());
    deployed.routes = vec!["tidegate.join".to_owned(), "tidegate.leave".to_owned()];
    deployed.headers = vec![("x-route".to_owned(), "context.routeKey".to_owned())];
    plane.deploy(&deployed);
    let mut client = plane.connect_user(json!({ "sub": "ann" }), "").await;
    client.send(r#"{"n":1}"#).await;
    client.ask(json!({ "action": "join", "channel": "a" })).await;
    client.send(r#"{"n":2}"#).await;
    client.ask(json!({ "action": "join", "channel": "a" })).await;
    client.ask(json!({ "action": "change", "channel": "b" })).await;
    client.ask(json!({ "action": "leave", "channel": "b" })).await;
    client.ask(json!({ "action": "leave", "channel": "b" })).await;
    client.send(r#"{"action":"tidegate.join","channel":"forged"}"#).await;
    let events = plane.backend.events("MESSAGE", 7).await;
    let events: Vec<_> =
        events.iter().map(|request| (request.value("x-route"), request.body.as_str())).collect();
    // S0-54: each change once, in its place among the messages; what a client sends under that name is an ordinary
    // message.
    let (a, b) = (r#"{"channel":"a","user":"ann"}"#, r#"{"channel":"b","user":"ann"}"#);
    assert_eq!(
        events,
        [
            ("$default", r#"{"n":1}"#),
            ("tidegate.join", a),
            ("$default", r#"{"n":2}"#),
            ("tidegate.leave", a),
            ("tidegate.join", b),
            ("tidegate.leave", b),
            ("$default", r#"{"action":"tidegate.join","channel":"forged"}"#),
        ]
    );
    client.close(1000, "").await;
    plane.end().await;
}

/// Scenario: the backend puts a connection into a channel while the client leaves it, again and again. What the
/// connection's list says and who gets the channel's messages must agree whenever both have answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn list_and_group_agree_whoever_wins() {
    let plane = Plane::start_with_policy(open_channels()).await;
    let client = plane.connect().await;
    let id = plane.id_of(&client).await;
    let channel = "room".parse().unwrap();
    let reading = tokio::spawn(async move {
        let mut client = client;
        client.closed().await;
    });
    let stage = plane.gateway.find_stage(API_ID, STAGE).unwrap();
    for _ in 0..2000 {
        let tasks: Vec<_> = [true, false]
            .map(|joins| {
                let gateway = Arc::clone(&plane.gateway);
                let id = id.clone();
                let channel = tidegate_core::channel::ChannelName::clone(&channel);
                tokio::task::spawn_blocking(move || match joins {
                    true => gateway.join(&id, &channel),
                    false => gateway.leave(&id, &channel),
                })
            })
            .into();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let is_listed = !plane.gateway.connection(&id).unwrap().channels.is_empty();
        let is_member = plane.gateway.presence(&stage, &channel, 0)["connections"] == 1;
        assert_eq!(is_listed, is_member);
    }
    assert!(plane.gateway.kick(&id, 1000, ""));
    tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
    plane.nobody_is_left().await;
    // Nor does anybody stay in a channel after the end.
    assert!(plane.gateway.list_channels(None, None).is_empty());
    plane.end().await;
}

//! Messages that a channel keeps, and clients that come back for them, over real sockets.

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_gateway::{Publish, Target};

use crate::client::Client;
use crate::harness::{API_ID, Deployed, Plane, STAGE, users_policy};

/// A place in a channel: epoch and position.
fn place(id: &Value) -> (String, u64) {
    let (epoch, position) = id.as_str().unwrap().split_once('-').unwrap();
    (epoch.to_owned(), position.parse().unwrap())
}

fn kept(on_join: bool, envelope: bool) -> Value {
    users_policy(json!({ "channels": { "rules": [{
        "match": "room", "join": "allow", "envelope": envelope,
        "history": { "count": 1000, "age": 600, "on_join": on_join },
    }] } }))
}

async fn say(plane: &Plane, text: &str) -> Value {
    let reply = plane.manage("POST", "@channels/room", text).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_bare_or_in_an_envelope() {
    let plane = Plane::start_with_policy(kept(false, true)).await;
    let mut client = plane.connect_as("?channel=room", "").await;
    assert_eq!(client.told().await, json!({ "type": "joined", "channel": "room" }));
    // S0-90: JSON stays as it is written, other text becomes a JSON text.
    for (sent, data) in [(r#"{"b":1.50,"a":[ ]}"#, r#"{"b":1.50,"a":[ ]}"#), ("a \"b\"", r#""a \"b\"""#)] {
        let id = say(&plane, sent).await["messageId"].as_str().unwrap().to_owned();
        let wanted =
            format!(r#"{{"tidegate":{{"type":"message","channel":"room","id":"{id}","data":{data}}}}}"#);
        assert_eq!(client.text().await, wanted);
    }
    // Without the key of control messages there is no outer member.
    let mut policy = kept(false, true);
    policy.as_object_mut().unwrap().remove("control");
    plane.deploy(&Deployed::with_policy(policy));
    say(&plane, "1").await;
    let message: Value = serde_json::from_str(&client.text().await).unwrap();
    assert_eq!((&message["type"], &message["data"]), (&json!("message"), &json!(1)));
    // And without the envelope there is the message alone.
    plane.deploy(&Deployed::with_policy(kept(false, false)));
    say(&plane, "a \"b\"").await;
    assert_eq!(client.text().await, "a \"b\"");
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_joiners_and_resumes() {
    let plane = Plane::start_with_policy(kept(true, true)).await;
    let first = say(&plane, "1").await["messageId"].clone();
    say(&plane, "2").await;
    // S0-90: who joins gets what is kept, and then the answer, whichever way it joins.
    let mut late = plane.connect_as("?channel=room", "").await;
    let mut asking = plane.connect().await;
    asking.send(r#"{"tidegate":{"action":"join","channel":"room"}}"#).await;
    for client in [&mut late, &mut asking] {
        for data in [1, 2] {
            assert_eq!(client.told().await["data"], data);
        }
        let joined = client.told().await;
        assert_eq!((&joined["type"], &joined["replayed"]), (&json!("joined"), &json!(2)));
    }
    // By the handshake and by a control message, with the last id that was seen.
    let after = first.as_str().unwrap();
    let mut resumed = plane.connect_as(&format!("?channel=room&after=room:{after}"), "").await;
    assert_eq!(resumed.told().await["data"], 2);
    let joined = resumed.told().await;
    assert_eq!((&joined["recovered"], &joined["replayed"]), (&json!(true), &json!(1)));
    let answer = late.ask(json!({ "action": "join", "channel": "room", "after": after })).await;
    assert_eq!((&answer["recovered"], &answer["replayed"]), (&json!(true), &json!(0)), "it has them");
    // What is no place, or one of another life of the channel, recovers nothing.
    for after in ["nonsense", "1-1", &format!("{}-99", place(&first).0)] {
        let answer = late.ask(json!({ "action": "join", "channel": "room", "after": after })).await;
        assert_eq!((&answer["type"], &answer["recovered"]), (&json!("joined"), &json!(false)), "{after}");
    }
    for mut client in [late, asking, resumed] {
        client.close(1000, "").await;
    }
    plane.end().await;
}

/// Reads envelopes until there is one at `position`, or the connection is cut after `cut_after` of them. Whatever is
/// out of turn is a failure.
async fn read_in_turn(client: &mut Client, last: &mut u64, until: u64, cut_after: u64) {
    for _ in 0..cut_after {
        if *last == until {
            return;
        }
        let told = client.told().await;
        if told["type"] == "joined" {
            assert_eq!(told["recovered"], true);
            continue;
        }
        assert_eq!(place(&told["id"]).1, *last + 1, "{told}");
        assert_eq!(told["data"], *last + 1);
        *last += 1;
    }
}

/// S0-90: clients that are cut off at any time and come back with the last id they have seen get every message of a
/// channel once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_cut_off_miss_nothing() {
    const MESSAGES: u64 = 600;
    let plane = Plane::start_with_policy(kept(false, true)).await;
    let first = say(&plane, "1").await["messageId"].clone();
    let epoch = place(&first).0;
    let gateway = std::sync::Arc::clone(&plane.gateway);
    let publishing = tokio::spawn(async move {
        let stage = gateway.find_stage(API_ID, STAGE).unwrap();
        for number in 2..=MESSAGES {
            let publish = Publish {
                targets: vec![Target::Channel("room".parse().unwrap())],
                payload: Bytes::from(number.to_string()),
                except: Default::default(),
            };
            gateway.push_to_many(&stage, publish, &Default::default()).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    let reading = (0..3_u64).map(|number| {
        let (plane, epoch) = (&plane, &epoch);
        async move {
            let mut last = 1;
            let mut n_connections = number;
            while last < MESSAGES {
                let query = format!("?channel=room&after=room:{epoch}-{last}");
                let mut client = plane.connect_as(&query, "").await;
                n_connections += 1;
                read_in_turn(&mut client, &mut last, MESSAGES, n_connections * 7 % 23 + 2).await;
                match n_connections % 2 {
                    0 => client.reset(),
                    _ => client.close(1000, "").await,
                }
            }
            assert!(n_connections > number + 10, "it was cut off often enough to matter");
        }
    });
    futures_util::future::join_all(reading).await;
    publishing.await.unwrap();
    plane.end().await;
}

//! A directory of users that is not the chat's table.

use super::*;
use crate::extension::UserDirectory;
use crate::settings::Directory;

/// Staff: everybody from 100 to 199.
struct Staff;

impl UserDirectory for Staff {
    fn get(&self, tx: &mut dyn Tx, id: &UserId) -> Result<Option<User>, ChatError> {
        let number: i64 = id.as_str().parse().unwrap();
        if !(100..200).contains(&number) {
            return self.next().get(tx, id);
        }
        Ok(Some(User {
            id: id.clone(),
            username: format!("staff-{number}").into(),
            email: "".into(),
            first_name: "".into(),
            last_name: "".into(),
            is_disabled: false,
            claims: Value::Null,
        }))
    }
}

/// S2-121: users that events name are those of the directory, beside those of the table; so are users of servers' calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_name_users_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let extensions = Extensions { users: Arc::new(Staff), ..Extensions::default() };
        let bench = Bench::with(Settings::default(), database, extensions, FakeHost::default());
        let (ana, _) = (bench.open(7).await, bench.open(8).await);
        bench.frames(&ana);
        let data = json!({ "type": "GroupChat", "name": "Reef", "participants": [8, 101, 250] });
        bench.event(&ana, "room.create", data).await;
        let made = bench.frames(&ana).pop().unwrap()["data"].clone();
        let names: Vec<&Value> =
            made["participants"].as_array().unwrap().iter().map(|user| &user["username"]).collect();
        assert_eq!(names, ["u7", "u8", "staff-101"], "{name}");
        let data = json!({ "room_id": made["id"], "members": [102] });
        bench.event(&ana, "room.add_members", data).await;
        assert_eq!(bench.frames(&ana)[0]["data"]["new_members"], json!(["staff-102"]), "{name}");
        let text =
            json!({ "event_type": "room.add_members", "data": { "room_id": made["id"], "members": [250] } });
        assert_eq!(bench.refused(&ana, &text.to_string()).await.0["error"]["code"], 4004, "{name}");
    }
}

/// S2-113: users of a file are entered as `PUT users/{id}` enters them; what is wrong is told by its field.
#[tokio::test]
async fn users_of_a_document() {
    let bench = Bench::in_memory(Settings { directory: Directory::Closed, ..Settings::default() });
    let settings = bench.chat.settings().load();
    let read = |document: Value| crate::server::users_of(&settings, document);
    let users =
        read(json!({ "users": [{ "id": 7, "username": "ana" }, { "id": "8", "disabled": true }] })).unwrap();
    bench.chat.enter_users(users).await.unwrap();
    assert!(bench.connect(&bench.facts(), Some("7"), &[], false).await.is_ok());
    let refusal = bench.connect(&bench.facts(), Some("8"), &[], false).await.unwrap_err();
    assert_eq!(refusal.facts.get("check"), Some(json!("disabled")));
    for (document, field) in [
        (json!([]), "users"),
        (json!({}), "users"),
        (json!({ "users": [{ "id": 7 }, { "username": "x" }] }), "users[1].id"),
    ] {
        let ChatError::Fields(fields) = read(document).unwrap_err() else { panic!("other") };
        assert_eq!(fields.keys().collect::<Vec<_>>(), [field]);
    }
    let wrong = read(json!({ "users": [{ "id": 9, "username": true }] })).unwrap();
    assert!(matches!(bench.chat.enter_users(wrong).await, Err(ChatError::Fields(_))));
}

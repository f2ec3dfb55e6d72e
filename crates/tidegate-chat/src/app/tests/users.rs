//! Who may connect, and as whom.

use super::*;
use crate::settings::{Directory, RefusalForm};

/// S2-3, S2-4, S2-5, I-2, `chat.auth-failed`: whoever is not authenticated is told by 4001, or by 403.
#[tokio::test]
async fn whoever_is_nobody_is_refused() {
    let bench = Bench::in_memory(Settings::default());
    let connection = bench.facts();
    for user in
        [None, Some(""), Some("ana"), Some("050"), Some("5.0"), Some("-5"), Some("1234567890123456789")]
    {
        let refusal = bench.connect(&connection, user, &[], false).await.unwrap_err();
        assert_eq!((refusal.status, refusal.close_code), (403, Some(4001)), "{user:?}");
        assert_eq!(refusal.message, "Authentication failed");
        assert_eq!(refusal.diagnosis, Diagnosis::CHAT_AUTH_FAILED);
        assert_eq!(refusal.facts.get("check"), Some(json!("user id")));
    }
    assert!(bench.chat.dispatcher().connections.is_empty());
    // What the gateway has refused itself keeps its cause.
    let refused = Refused {
        diagnosis: Diagnosis::find("jwt.expired").unwrap(),
        status: 403,
        address: [127, 0, 0, 1].into(),
        now: 0,
        is_dry_run: false,
        facts: &Facts::none().with("exp", 5),
    };
    let told = bench.chat.as_ref();
    let refusal = App::refusal(told, &refused).unwrap();
    assert_eq!((refusal.close_code, refusal.diagnosis.as_str()), (Some(4001), "jwt.expired"));
    assert_eq!(refusal.facts.get("exp"), Some(json!(5)));
    let elsewhere = Diagnosis::find("origin.not-allowed").unwrap_or(Diagnosis::LIMIT_CONNECTIONS);
    assert!(App::refusal(told, &Refused { diagnosis: elsewhere, ..refused }).is_none());
    let unavailable = Refused { status: 503, ..refused };
    assert!(App::refusal(told, &unavailable).is_none());

    let settings = Settings { refusal: RefusalForm::Http, ..Settings::default() };
    let bench = Bench::in_memory(settings);
    let refusal = bench.connect(&connection, None, &[], false).await.unwrap_err();
    assert_eq!((refusal.status, refusal.close_code), (403, None));
    assert_eq!(App::refusal(bench.chat.as_ref(), &refused).unwrap().close_code, None);
}

/// S2-4: with text ids any text is a user, and written as text.
#[tokio::test]
async fn user_ids_may_be_texts() {
    let settings = Settings { user_ids: crate::settings::UserIds::Text, ..Settings::default() };
    let bench = Bench::in_memory(settings);
    let connection = bench.facts();
    bench.connect(&connection, Some("ana"), &[("username", "ana")], false).await.unwrap();
    bench.chat.opened(&connection);
    bench.event(&connection, "room.create", json!({ "type": "GroupChat", "name": "x" })).await;
    assert_eq!(bench.frames(&connection)[0]["data"]["creator"]["id"], "ana");
}

/// S2-3, S2-113, I-26: users come from their tokens; absent claims leave what is known, taken names get the id, disabled
/// users and, where the directory is closed, unknown ones are nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_what_their_tokens_say() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Bench::new(Settings::default(), Arc::clone(&database));
        let connections = &bench.chat.dispatcher().connections;
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], [&'a str; 4]);
        let cases: [Case<'_>; 6] = [
            (
                "7",
                &[("username", "ana"), ("email", "a@x.test"), ("first_name", "Ana")],
                ["ana", "a@x.test", "Ana", ""],
            ),
            (
                "7",
                &[("preferred_username", "ana"), ("family_name", "Lima")],
                ["ana", "a@x.test", "Ana", "Lima"],
            ),
            ("7", &[], ["ana", "a@x.test", "Ana", "Lima"]),
            ("8", &[("name", " ana "), ("given_name", "Ben")], ["ana-8", "", "Ben", ""]),
            ("8", &[("name", "ana")], ["ana-8", "", "Ben", ""]),
            ("9", &[], ["user-9", "", "", ""]),
        ];
        for (id, claims, expected) in cases {
            let connection = bench.facts();
            bench.connect(&connection, Some(id), claims, false).await.unwrap();
            let user = connections.touch(connection.connection_id, 0).unwrap();
            let found = [&*user.username, &*user.email, &*user.first_name, &*user.last_name];
            assert_eq!(found, expected, "{name}: {id} {claims:?}");
        }
        let disable = |tx: &mut dyn Tx| {
            tx.execute("UPDATE chat_user SET disabled = 1 WHERE id = '8'", &[])?;
            Ok(Outcome::Commit(Box::new(|| ())))
        };
        database.write(Vec::new(), Box::new(disable)).await.unwrap();
        let refusal = bench.connect(&bench.facts(), Some("8"), &[], false).await.unwrap_err();
        assert_eq!(refusal.facts.get("check"), Some(json!("disabled")));
        // A dry run decides the same and leaves nothing.
        assert!(bench.connect(&bench.facts(), Some("8"), &[], true).await.is_err());
        let before = connections.len();
        assert!(bench.connect(&bench.facts(), Some("44"), &[], true).await.unwrap().first.is_empty());
        assert_eq!(connections.len(), before);
        let closed = Settings { directory: Directory::Closed, ..Settings::default() };
        let bench = Bench::new(closed, database);
        let refusal = bench.connect(&bench.facts(), Some("44"), &[], false).await.unwrap_err();
        assert_eq!(refusal.facts.get("check"), Some(json!("directory")));
        assert!(bench.connect(&bench.facts(), Some("7"), &[("username", "anna")], false).await.is_ok());
    }
}

/// S2-106: devices are without limit unless there is one.
#[tokio::test]
async fn devices_are_limited_where_that_is_wanted() {
    let bench = Bench::in_memory(Settings { max_devices: 2, ..Settings::default() });
    let (one, _two) = (bench.open(7).await, bench.open(7).await);
    let third = bench.facts();
    let refusal = bench.connect(&third, Some("7"), &[], false).await.unwrap_err();
    assert_eq!((refusal.status, refusal.close_code), (429, Some(1008)));
    assert_eq!((refusal.facts.get("limit"), refusal.facts.get("count")), (Some(json!(2)), Some(json!(2))));
    bench.chat.disconnect(&one, End { code: 1000, reason: "" }).await;
    assert!(bench.connect(&third, Some("7"), &[], false).await.is_ok());
}

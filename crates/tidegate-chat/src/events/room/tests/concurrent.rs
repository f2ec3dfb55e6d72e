use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_store::sql::{Database, Outcome, SqlError, SqliteDatabase, Tx};

use super::{ANA, BEN};
use crate::error::ChatError;
use crate::event::{Ctx, Dispatch};
use crate::settings::Settings;
use crate::store::{MIGRATIONS, users};
use crate::test_database::{START, event_data, user_id};

type Answer = Result<Vec<Dispatch>, ChatError>;

fn event(tx: &mut dyn Tx, user: i64, event_type: &str, data: &Value) -> Answer {
    let settings = Settings::default();
    let actor = users::find(tx, &user_id(user))?.unwrap();
    let mut ctx = Ctx::new(tx, &settings, &actor, None, START);
    (crate::router::find(event_type).unwrap().handler)(&mut ctx, data.as_object().unwrap())?;
    Ok(ctx.dispatches)
}

/// Runs events of different users at the same time; gives what became of each.
async fn at_once(database: &Arc<SqliteDatabase>, events: Vec<(i64, &'static str, Value)>) -> Vec<Answer> {
    let mut tasks = Vec::new();
    for (user, event_type, data) in events {
        let database = Arc::clone(database);
        tasks.push(tokio::spawn(async move {
            let answer = Arc::new(Mutex::new(None));
            let place = Arc::clone(&answer);
            let work = Box::new(move |tx: &mut dyn Tx| -> Result<Outcome, SqlError> {
                let answer = event(tx, user, event_type, &data);
                let is_kept = answer.is_ok();
                *place.lock() = Some(answer);
                Ok(if is_kept {
                    Outcome::Commit(Box::new(|| ()))
                } else {
                    Outcome::Rollback(Box::new(|| ()))
                })
            });
            database.write(Vec::new(), work).await.unwrap();
            let answer = answer.lock().take();
            answer.unwrap()
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

async fn enter_users(database: &Arc<SqliteDatabase>, ids: std::ops::Range<i64>) {
    let work = Box::new(move |tx: &mut dyn Tx| {
        for id in ids.clone() {
            let sql = "INSERT INTO chat_user (id, username) VALUES (?1, ?2)";
            tx.execute(sql, &[id.to_string().into(), format!("user{id}").into()])?;
        }
        Ok(Outcome::Commit(Box::new(|| ())))
    });
    database.write(Vec::new(), work).await.unwrap();
}

fn open() -> (tempfile::TempDir, Arc<SqliteDatabase>) {
    let folder = tempfile::tempdir().unwrap();
    let database = SqliteDatabase::open(&folder.path().join("chat.db"), MIGRATIONS).unwrap();
    (folder, Arc::new(database))
}

/// S2-87, S2-35: both ask, on several devices, at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_asks_at_once_has_one_chat() {
    let (_folder, database) = open();
    enter_users(&database, 7..10).await;
    let ask =
        |from: i64, to: i64| (from, "room.create", json!({ "type": "OneToOneChat", "participants": [to] }));
    let events = (0..20).map(|n| if n % 2 == 0 { ask(ANA, BEN) } else { ask(BEN, ANA) }).collect();
    let answers = at_once(&database, events).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(error.frame()["error"], json!({ "code": 4005, "detail": "Chat already exists" }));
    }
}

/// S2-97, S2-96: a cap holds however many come at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_holds_when_all_come_at_once() {
    let (_folder, database) = open();
    enter_users(&database, 7..40).await;
    let data = json!({ "type": "Channel", "name": "n", "is_public": true, "max_subscribers": 11 });
    let made = at_once(&database, vec![(ANA, "room.create", data)]).await;
    let room = event_data(&made[0].as_ref().unwrap()[0])["id"].clone();
    let joins = (8..40).map(|user| (user, "room.join", json!({ "room_id": room }))).collect();
    let answers = at_once(&database, joins).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        let expected = json!(["Maximum number of channel subscribers exceeded"]);
        assert_eq!(error.frame()["error"]["detail"], expected);
    }
    let info = at_once(&database, vec![(ANA, "room.info", json!({ "room_id": room }))]).await;
    let info = event_data(&info[0].as_ref().unwrap()[0])["subscribers"].clone();
    assert_eq!(super::ids(&info).len(), 11);
}

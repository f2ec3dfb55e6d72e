//! The chat's tables in memory, and events that run on them one after the other.

use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_core::id::ConnectionId;
use tidegate_store::sql::{MemoryDatabase, SqlError, SqlRow, SqlValue, Tx, open_in_memory};
use uuid::Uuid;

use crate::error::ChatError;
use crate::event::{Audience, Ctx, Dispatch, Frame};
use crate::model::{Micros, RoomKind, User, UserId};
use crate::settings::Settings;
use crate::store::{MIGRATIONS, users};

/// First time on the clock: 2026-01-01T00:00:00Z.
pub const START: Micros = 1_767_225_600_000_000;

/// A database, a clock that moves on by a second with each event, and what the last event took.
pub struct TestDatabase {
    database: MemoryDatabase,
    /// Changed freely between events. Notifications are off at first.
    pub settings: Settings,
    /// Time of the next event.
    pub now: Micros,
    /// Statements of the last event, in order.
    pub statements: Vec<String>,
}

/// A transaction that remembers its statements.
struct Recording<'a> {
    tx: &'a mut dyn Tx,
    statements: &'a mut Vec<String>,
}

impl Tx for Recording<'_> {
    fn execute(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<usize, SqlError> {
        self.statements.push(sql.to_owned());
        self.tx.execute(sql, parameters)
    }

    fn query(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        self.statements.push(sql.to_owned());
        self.tx.query(sql, parameters)
    }
}

impl TestDatabase {
    /// Tables without rows.
    pub fn new() -> Self {
        let settings = Settings { notifications: false, ..Settings::default() };
        let database = open_in_memory(MIGRATIONS).unwrap();
        Self { database, settings, now: START, statements: Vec::new() }
    }

    /// Ana is 7, Ben is 8, Cy is 9, Dee is 10.
    pub fn with_users() -> Self {
        let mut database = Self::new();
        for (id, name) in [(7, "ana"), (8, "ben"), (9, "cy"), (10, "dee")] {
            database.enter_user(id, name);
        }
        database
    }

    /// A user with an address and a first name made of its name.
    pub fn enter_user(&mut self, id: i64, username: &str) {
        let parameters = [
            SqlValue::from(id.to_string()),
            SqlValue::from(username),
            SqlValue::from(format!("{username}@example.test")),
            SqlValue::from(username.to_uppercase()),
        ];
        let sql =
            "INSERT INTO chat_user (id, username, email, first_name, last_name) VALUES (?1, ?2, ?3, ?4, '')";
        assert_eq!(self.execute(sql, &parameters), 1);
    }

    /// A room with these members in this order, the first of whom made it and is its admin, but for a one-to-one chat.
    pub fn enter_room(&mut self, kind: RoomKind, members: &[i64]) -> Uuid {
        let room = Uuid::now_v7();
        let creator = (kind != RoomKind::OneToOne).then(|| members[0].to_string());
        let parameters = [
            SqlValue::from(room.into_bytes()),
            SqlValue::from(kind.as_str()),
            SqlValue::from(creator),
            SqlValue::Int(self.now),
        ];
        let sql = "INSERT INTO chat_room (id, kind, creator, name, cap, created_at, updated_at) \
                   VALUES (?1, ?2, ?3, 'Reef', 100, ?4, ?4)";
        assert_eq!(self.execute(sql, &parameters), 1);
        for (position, user) in (0_i64..).zip(members) {
            let is_admin = position == 0 && kind != RoomKind::OneToOne;
            self.enter_member(room, *user, is_admin, position);
        }
        room
    }

    /// Somebody in a room.
    pub fn enter_member(&mut self, room: Uuid, user: i64, is_admin: bool, position: i64) {
        let parameters = [
            SqlValue::from(room.into_bytes()),
            SqlValue::from(user.to_string()),
            SqlValue::from(is_admin),
            SqlValue::Int(self.now),
            SqlValue::Int(position),
        ];
        let sql = "INSERT INTO chat_member (room, user_id, is_admin, joined_at, position) VALUES (?1, ?2, ?3, ?4, ?5)";
        assert_eq!(self.execute(sql, &parameters), 1);
    }

    /// Takes somebody out of a room.
    pub fn remove_member(&mut self, room: Uuid, user: i64) {
        let key = [SqlValue::from(room.into_bytes()), SqlValue::from(user.to_string())];
        assert_eq!(self.execute("DELETE FROM chat_member WHERE room = ?1 AND user_id = ?2", &key), 1);
    }

    /// A user as handlers get it.
    pub fn user(&mut self, id: i64) -> User {
        let id = user_id(id);
        let found: Result<_, ChatError> = self.database.transaction(|tx| users::find(tx, &id));
        found.unwrap().unwrap()
    }

    /// The connection that events of a user come in on.
    pub fn connection(user: i64) -> ConnectionId {
        ConnectionId::new(1, 0, u32::try_from(user).unwrap(), 0)
    }

    /// Runs one event as a user; after an error nothing has changed.
    pub fn run(&mut self, user: i64, event_type: &str, data: Value) -> Result<Vec<Dispatch>, ChatError> {
        let route = crate::router::find(event_type).ok_or(ChatError::InvalidEventType)?;
        let data = match data {
            Value::Object(data) => data,
            other if route.needs_data => panic!("{event_type} with {other}: that is the envelope's matter"),
            _ => Map::new(),
        };
        let actor = self.user(user);
        let now = self.now;
        self.now += 1_000_000;
        self.statements.clear();
        let Self { database, settings, statements, .. } = self;
        database.transaction(|tx| {
            let mut tx = Recording { tx, statements };
            let mut ctx = Ctx::new(&mut tx, settings, &actor, Some(Self::connection(user)), now);
            (route.handler)(&mut ctx, &data)?;
            Ok(ctx.dispatches)
        })
    }

    /// Runs something with what handlers have, as a user, at the time of the next event.
    pub fn with_ctx<T>(
        &mut self,
        user: i64,
        work: impl FnOnce(&mut Ctx<'_>) -> Result<T, ChatError>,
    ) -> Result<T, ChatError> {
        let actor = self.user(user);
        self.statements.clear();
        let Self { database, settings, statements, now } = self;
        database.transaction(|tx| {
            let mut tx = Recording { tx, statements };
            let connection = Some(Self::connection(user));
            work(&mut Ctx::new(&mut tx, settings, &actor, connection, *now))
        })
    }

    /// Runs one event that must succeed with one dispatch; gives the users that it is for and its data.
    pub fn one(&mut self, user: i64, event_type: &str, data: Value) -> (Vec<i64>, Value) {
        let dispatches = self.run(user, event_type, data).unwrap();
        assert_eq!(dispatches.len(), 1, "{dispatches:?}");
        (audience(&dispatches[0]), event_data(&dispatches[0]).clone())
    }

    /// Runs one event that must be refused; gives code and detail of the frame.
    pub fn refused(&mut self, user: i64, event_type: &str, data: Value) -> (u64, Value) {
        let error = self.run(user, event_type, data).unwrap_err();
        assert!(!matches!(error, ChatError::Internal(_)), "{error}");
        let frame = error.frame();
        (frame["error"]["code"].as_u64().unwrap(), frame["error"]["detail"].clone())
    }

    /// A statement of the test's own; gives the number of changed rows.
    pub fn execute(&mut self, sql: &str, parameters: &[SqlValue]) -> usize {
        self.database.transaction(|tx| tx.execute(sql, parameters)).unwrap()
    }

    /// A query of the test's own.
    pub fn query(&mut self, sql: &str, parameters: &[SqlValue]) -> Vec<SqlRow> {
        self.database.transaction(|tx| tx.query(sql, parameters)).unwrap()
    }

    /// The number that a `SELECT count(*)` gives.
    pub fn count(&mut self, sql: &str) -> i64 {
        self.query(sql, &[])[0].int(0).unwrap()
    }
}

/// The id of a user.
pub fn user_id(id: i64) -> UserId {
    UserId(Arc::from(id.to_string()))
}

/// The users that a dispatch is for, ascending.
pub fn audience(dispatch: &Dispatch) -> Vec<i64> {
    match &dispatch.audience {
        Audience::Users(users) => {
            let mut users: Vec<i64> = users.iter().map(|user| user.as_str().parse().unwrap()).collect();
            users.sort_unstable();
            users
        }
        Audience::Connection(connection) => panic!("for one connection: {connection:?}"),
    }
}

/// The type of a dispatch.
pub fn event_type(dispatch: &Dispatch) -> &str {
    match &dispatch.frame {
        Frame::Event { event_type, .. } => event_type,
        Frame::Raw(value) => panic!("no event: {value}"),
    }
}

/// The data of a dispatch.
pub fn event_data(dispatch: &Dispatch) -> &Value {
    match &dispatch.frame {
        Frame::Event { data, .. } => data,
        Frame::Raw(value) => panic!("no event: {value}"),
    }
}

/// What has changed must be nothing after an error.
#[test]
fn an_event_that_fails_leaves_nothing() {
    let mut database = TestDatabase::with_users();
    let refused = database.with_ctx(7, |ctx| -> Result<(), ChatError> {
        ctx.tx.execute("DELETE FROM chat_user WHERE id <> '7'", &[])?;
        Err(ChatError::Internal("on purpose".to_owned()))
    });
    assert!(refused.is_err());
    assert_eq!(database.count("SELECT count(*) FROM chat_user"), 4);
    assert_eq!(database.user(8).username.as_ref(), "ben");
    assert_eq!(&*database.statements, ["DELETE FROM chat_user WHERE id <> '7'"]);
}

/// S2-111: where messages pass nothing asks for sessions, or writes them.
#[test]
fn messages_cost_nothing_in_the_table_of_sessions() {
    let mut database = TestDatabase::with_users();
    database.settings.notifications = true;
    let room = database.enter_room(RoomKind::Group, &[7, 8]).to_string();
    let data = serde_json::json!({ "room_id": room, "content": "x" });
    let (_, message) = database.one(7, "message.send", data);
    let mut statements = database.statements.clone();
    let id = serde_json::json!({ "message_id": message["id"] });
    for event_type in ["message.acknowledged", "message.read"] {
        database.run(8, event_type, id.clone()).unwrap();
        statements.append(&mut database.statements);
    }
    database.run(8, "session.heartbeat", Value::Null).unwrap();
    statements.append(&mut database.statements);
    assert!(statements.iter().any(|sql| sql.contains("chat_message")), "{statements:?}");
    assert!(!statements.iter().any(|sql| sql.contains("chat_session") || sql.contains("chat_node")));
}

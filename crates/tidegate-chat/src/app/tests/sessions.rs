//! The table of sessions, on both databases.

use std::sync::atomic::AtomicBool;

use tokio::task::JoinHandle;

use super::super::sessions::Timing;
use super::*;
use crate::connections::Connections;
use crate::extension::ChatHandler;
use crate::store::sessions::{SessionRow, insert};

/// A node whose background work runs; it is dead once that is aborted.
struct Node {
    bench: Bench,
    work: JoinHandle<()>,
}

impl Node {
    fn start(
        settings: Settings,
        database: &Arc<dyn Database>,
        handler: Option<Arc<dyn ChatHandler>>,
    ) -> Self {
        let mut extensions = Extensions::default();
        if let Some(handler) = handler {
            extensions.handler = handler;
        }
        let ms = Duration::from_millis;
        let settings = Arc::new(LiveSettings::new(settings));
        let extensions = Arc::new(extensions);
        let mut chat = Chat::with_extensions(settings, Arc::clone(database), extensions, Ports::default());
        chat.sessions.timing = Timing { flush: ms(5), seen: ms(5), beat: ms(10), dead: ms(1000) };
        let host = Arc::new(FakeHost::default());
        host.now.store(1_767_225_600_000, Ordering::Relaxed);
        chat.start(Arc::clone(&host) as _);
        let chat = Arc::new(chat);
        let work = tokio::spawn(Arc::clone(&chat).run());
        let id = u64::from(chat.session_node().as_bytes()[15]) << 20;
        Self { bench: Bench { chat, host, n_connections: AtomicU64::new(id) }, work }
    }

    /// As `kill -9` does.
    async fn crash(&mut self) {
        self.work.abort();
        assert!((&mut self.work).await.unwrap_err().is_cancelled());
    }
}

/// All rows: user, connection, microseconds of the last event.
async fn rows(database: &Arc<dyn Database>) -> Vec<(String, String, i64)> {
    let found: Arc<Mutex<Vec<(String, String, i64)>>> = Arc::default();
    let result = Arc::clone(&found);
    let work = move |tx: &mut dyn Tx| {
        let sql = "SELECT s.user_id, s.connection, s.last_seen FROM chat_session s JOIN chat_node n ON n.id = s.node \
                   ORDER BY s.user_id, s.connection";
        let all = tx.query(sql, &[])?;
        *result.lock() = all
            .iter()
            .map(|row| {
                let connection = String::from_utf8(row.id(1).unwrap().to_vec()).unwrap();
                (row.text(0).unwrap().to_string(), connection, row.int(2).unwrap())
            })
            .collect();
        Ok(Outcome::Rollback(Box::new(|| ())))
    };
    database.read(Box::new(work)).await.unwrap();
    std::mem::take(&mut *found.lock())
}

/// Waits until the users in the table are these.
async fn until_users(database: &Arc<dyn Database>, expected: &[&str]) -> Vec<(String, String, i64)> {
    let begun = Instant::now();
    loop {
        let found = rows(database).await;
        let users: Vec<&str> = found.iter().map(|row| row.0.as_str()).collect();
        if users == expected {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{users:?} and not {expected:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until each of the nodes has moved its beat on so many times.
async fn until_beats(database: &Arc<dyn Database>, nodes: &[&Node], count: i64) {
    let begun = Instant::now();
    let mut first = None;
    loop {
        let found: Arc<Mutex<Vec<i64>>> = Arc::default();
        let ids: Vec<Uuid> = nodes.iter().map(|node| node.bench.chat.session_node()).collect();
        let result = Arc::clone(&found);
        let work = move |tx: &mut dyn Tx| {
            let beat = |id: &Uuid| {
                let sql = "SELECT beat FROM chat_node WHERE id = ?1";
                let rows = tx.query(sql, &[SqlValue::from(id.into_bytes())]).unwrap();
                rows.first().map_or(0, |row| row.int(0).unwrap())
            };
            *result.lock() = ids.iter().map(beat).collect();
            Ok(Outcome::Rollback(Box::new(|| ())))
        };
        database.read(Box::new(work)).await.unwrap();
        let now = std::mem::take(&mut *found.lock());
        let first = first.get_or_insert_with(|| now.clone());
        if now.iter().zip(first.iter()).all(|(now, first)| now - first >= count) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{now:?} after {first:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn execute(database: &Arc<dyn Database>, sql: &'static str) {
    let work = move |tx: &mut dyn Tx| {
        tx.execute(sql, &[])?;
        Ok(Outcome::Commit(Box::new(|| ())))
    };
    database.write(Vec::new(), Box::new(work)).await.unwrap();
}

/// S2-111, S2-13: a session is in the table while its connection is, and what it was heard of follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_in_the_table_as_long_as_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let node = Node::start(Settings::default(), &database, None);
        let (ana, ben) = (node.bench.open(7).await, node.bench.open(8).await);
        node.bench.open(7).await;
        let found = until_users(&database, &["7", "7", "8"]).await;
        assert!(found.iter().any(|row| row.1 == ana.connection_id.to_string()), "{name}: {found:?}");
        assert!(found.iter().all(|row| row.2 == 1_767_225_600_000_000), "{name}: {found:?}");
        // A dry run, and whoever is refused, leave nothing.
        node.bench.connect(&node.bench.facts(), Some("9"), &[], true).await.unwrap();
        node.bench.connect(&node.bench.facts(), None, &[], false).await.unwrap_err();
        node.bench.host.now.fetch_add(1_000, Ordering::Relaxed);
        node.bench.event(&ben, "session.heartbeat", Value::Null).await;
        node.bench.chat.disconnect(&ana, End { code: 1000, reason: "" }).await;
        let begun = Instant::now();
        while until_users(&database, &["7", "8"]).await[1].2 != 1_767_225_601_000_000 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The end of the node takes the rest along.
        node.bench.chat.stopped().await;
        until_users(&database, &[]).await;
        node.work.abort();
    }
}

/// S2-111: a row that was written after all rows had gone, and before that was known, goes with its session.
#[tokio::test]
async fn a_row_in_doubt_is_removed_with_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let databases = databases(folder.path()).await;
    let bench = Bench::new(Settings::default(), Arc::clone(&databases[0].1));
    let connections = Connections::default();
    let begin = || {
        let connection = bench.facts();
        connections.begin(&UserId("7".into()), &connection, 1, 0).unwrap();
        connections.registered(connection.connection_id, 1, 0);
        connection.connection_id
    };
    let (before, after, late) = (begin(), begin(), begin());
    connections.remove(before);
    connections.all_rows_are_gone();
    connections.remove(after);
    // Its row was written by whoever still took the rows for there.
    connections.registered(late, 1, 0);
    connections.remove(late);
    let changes = connections.take_changes(10);
    assert!(changes.new.is_empty() && !changes.is_lost);
    assert_eq!(changes.ended, [before, after, late]);
}

/// S2-111: what a process has left that was killed goes: on a database of its own with the next start, on a shared one when
/// the others no longer see its beat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_a_dead_node_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let mut first = Node::start(Settings::default(), &database, None);
        first.bench.open(7).await;
        until_users(&database, &["7"]).await;
        if !database.is_shared() {
            first.crash().await;
            until_users(&database, &["7"]).await;
            let second = Node::start(Settings::default(), &database, None);
            second.bench.open(8).await;
            until_users(&database, &["8"]).await;
            second.work.abort();
            continue;
        }
        let second = Node::start(Settings { max_devices: 2, ..Settings::default() }, &database, None);
        second.bench.open(8).await;
        until_users(&database, &["7", "8"]).await;
        let elsewhere = second.bench.chat.sessions_elsewhere("", 10).await.unwrap();
        assert_eq!(elsewhere.len(), 1, "{name}");
        assert_eq!((elsewhere[0].user.as_str(), elsewhere[0].node), ("7", first.bench.chat.session_node()));
        let behind = second.bench.chat.sessions_elsewhere(&elsewhere[0].connection.to_string(), 10).await;
        assert_eq!(behind.unwrap(), []);
        // S2-106: devices at other nodes count, too.
        second.bench.open(7).await;
        let third = second.bench.connect(&second.bench.facts(), Some("7"), &[], false).await.unwrap_err();
        assert_eq!((third.status, third.facts.get("count")), (429, Some(json!(2))));
        // Both are alive for longer than a silent one would be, however slowly they run.
        until_beats(&database, &[&first, &second], 150).await;
        until_users(&database, &["7", "7", "8"]).await;
        // Taken out by mistake, a node enters itself again.
        execute(&database, "DELETE FROM chat_node").await;
        let ben = second.bench.open(8).await;
        first.bench.open(9).await;
        until_users(&database, &["7", "7", "8", "8", "9"]).await;
        first.crash().await;
        until_users(&database, &["7", "8", "8"]).await;
        second.bench.chat.disconnect(&ben, End { code: 1000, reason: "" }).await;
        until_users(&database, &["7", "8"]).await;
        second.work.abort();
    }
}

/// Wants nobody but Ana, and panics at Cy; nobody at all once it is closed.
#[derive(Default)]
struct OnlyAna {
    is_closed: AtomicBool,
}

impl ChatHandler for OnlyAna {
    fn register_session(&self, ctx: &mut Ctx<'_>, session: &SessionRow) -> Result<(), ChatError> {
        assert_eq!((&session.user, Some(session.connection)), (&ctx.actor.id, ctx.connection));
        let refused = |text: &str| Err(ChatError::Custom { code: 4010, detail: json!(text) });
        match session.user.as_str() {
            _ if self.is_closed.load(Ordering::Relaxed) => refused("Closed."),
            "7" => insert(ctx.tx, session),
            "8" => refused("One at a time."),
            _ => panic!("on purpose"),
        }
    }
}

/// S2-121, S2-122: `register_session` is asked before the handshake is answered; it may refuse, or fail, and others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_registers_sessions() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let handler = Arc::new(OnlyAna::default());
        let node = Node::start(Settings::default(), &database, Some(Arc::clone(&handler) as _));
        let mut all = Vec::new();
        for user in ["7", "8", "9", "7", "8", "7"] {
            let connection = node.bench.facts();
            let connected = node.bench.connect(&connection, Some(user), &[("username", user)], false).await;
            let told = |refused: Box<Refusal>| {
                (refused.close_code, refused.message.to_string(), refused.diagnosis.as_str())
            };
            let told = connected.err().map(told);
            let expected = match user {
                "7" => None,
                "8" => Some((Some(4010), "One at a time.".to_owned(), "chat.auth-failed")),
                _ => Some((Some(4006), "Internal server error.".to_owned(), "chat.extension-failed")),
            };
            assert_eq!(told, expected, "{name}");
            if user == "7" {
                // No waiting: whoever was let in is there.
                let is_there = |row: &(String, String, i64)| row.1 == connection.connection_id.to_string();
                assert!(rows(&database).await.iter().any(is_there), "{name}");
                node.bench.chat.opened(&connection);
                all.push(connection);
            }
        }
        until_users(&database, &["7", "7", "7"]).await;
        assert_eq!(node.bench.chat.dispatcher().connections.len(), 3, "{name}: who was refused is forgotten");
        assert!(node.bench.host.closed.lock().is_empty(), "{name}");
        // A node that was taken out by mistake writes its sessions again, and asks again.
        handler.is_closed.store(true, Ordering::Relaxed);
        execute(&database, "DELETE FROM chat_node").await;
        let refused = node.bench.connect(&node.bench.facts(), Some("7"), &[], false).await.unwrap_err();
        assert_eq!(refused.message, "Closed.", "{name}");
        let begun = Instant::now();
        while node.bench.host.closed.lock().len() < 3 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let key = |connection: ConnectionId| connection.to_string();
        let mut closed: Vec<_> =
            node.bench.host.closed.lock().iter().map(|closed| (key(closed.0), closed.1)).collect();
        closed.sort();
        let expected: Vec<_> = all.iter().map(|facts| (key(facts.connection_id), 4010)).collect();
        assert_eq!(closed, expected, "{name}");
        for connection in &all {
            node.bench.chat.disconnect(connection, End { code: 1000, reason: "" }).await;
        }
        until_users(&database, &[]).await;
        node.work.abort();
    }
}

/// S2-111: a client that leaves while its session is written leaves no row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_during_the_handshake_leaves_no_row() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let node = Node::start(Settings::default(), &database, None);
        node.bench.open(7).await;
        for round in 0..40_u32 {
            let (bench, connection) = (&node.bench, node.bench.facts());
            let connect = bench.connect(&connection, Some("8"), &[("username", "u8")], false);
            // Sooner or later in what is done, from before the first statement to after the commit.
            let end = tokio::time::timeout(Duration::from_micros(u64::from(round) * 100), connect).await;
            if end.is_ok() {
                bench.chat.disconnect(&connection, End { code: 1006, reason: "" }).await;
            }
        }
        node.bench.open(9).await;
        until_users(&database, &["7", "9"]).await;
        assert_eq!(node.bench.chat.dispatcher().connections.len(), 2, "{name}");
        node.work.abort();
    }
}

/// S2-121: nobody is let in whose session the database does not take.
#[tokio::test]
async fn without_a_database_nobody_is_let_in() {
    let bench = Bench::in_memory(Settings::default());
    bench.open(7).await;
    let database = Arc::clone(bench.chat.database());
    execute(&database, "ALTER TABLE chat_node RENAME TO chat_gone").await;
    let refused = bench.connect(&bench.facts(), Some("7"), &[("username", "u7")], false).await.unwrap_err();
    assert_eq!((refused.status, refused.close_code, refused.retry_after), (503, None, Some(1)));
    assert_eq!(bench.chat.dispatcher().connections.len(), 1);
}

/// More ends than is remembered while the database does not take it: then the whole table is made anew.
#[test]
fn what_has_ended_is_remembered_up_to_a_bound() {
    let bench = Bench::in_memory(Settings::default());
    let connections = &bench.chat.dispatcher().connections;
    let stays = bench.facts();
    let register = |facts: &Arc<ConnectionFacts>| {
        let user = UserId(facts.connection_id.to_string().into());
        connections.begin(&user, facts, 1, 0).unwrap();
        connections.set_user(Arc::new(User {
            id: user.clone(),
            username: "ana".into(),
            email: "".into(),
            first_name: "".into(),
            last_name: "".into(),
            is_disabled: false,
            claims: Value::Null,
        }));
        connections.registered(facts.connection_id, 0, connections.generation());
    };
    let ended: Vec<_> = (0..=1 << 16).map(|_| bench.facts()).collect();
    ended.iter().chain([&stays]).for_each(register);
    assert_eq!(connections.len(), ended.len() + 1);
    for facts in &ended {
        connections.remove(facts.connection_id);
    }
    let changes = connections.take_changes(10);
    assert!(changes.is_lost && changes.ended.is_empty());
    connections.all_rows_are_gone();
    let changes = connections.take_changes(10);
    assert!(!changes.is_lost);
    assert_eq!(changes.new[0].0.connection.connection_id, stays.connection_id);
}

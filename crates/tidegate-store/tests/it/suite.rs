//! Promises of every [`DefinitionStore`], whatever is below it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::port::{Change, DefinitionStore, Document};

pub type Store = Arc<dyn DefinitionStore>;

pub fn document(kind: &str, parent: &str, id: &str, sequence: u64, body: &str) -> Document {
    Document {
        kind: kind.to_owned(),
        parent: parent.to_owned(),
        id: id.to_owned(),
        sequence,
        body: body.to_owned(),
    }
}

pub fn put(kind: &str, parent: &str, id: &str, sequence: u64, body: &str) -> Change {
    Change::Put(document(kind, parent, id, sequence, body))
}

pub async fn ids(store: &Store) -> Vec<String> {
    store.load().await.expect("load").into_iter().map(|d| d.id).collect()
}

/// Runs every check, each on a store of its own from `fresh`.
pub async fn run(fresh: impl Fn() -> Store) {
    keeps_bodies_byte_for_byte(fresh()).await;
    loads_in_creation_order(fresh()).await;
    an_update_keeps_the_place(fresh()).await;
    deletes_one_and_ignores_absent(fresh()).await;
    deletes_a_tree_and_nothing_beside_it(fresh()).await;
    a_failing_batch_changes_nothing(fresh()).await;
    takes_writes_from_many_callers(fresh()).await;
    a_dropped_call_is_whole_or_absent(fresh()).await;
}

async fn keeps_bodies_byte_for_byte(store: Store) {
    let body = "{\"a\":\"\u{0}é\u{1F600}\\u0000 '\\\" \"}";
    let wanted = document("route", "api/x", "$default", 7, body);
    store.apply(vec![Change::Put(wanted.clone())]).await.expect("write");
    assert_eq!(store.load().await.expect("load"), [wanted]);
}

async fn loads_in_creation_order(store: Store) {
    for (id, sequence) in [("c", 3), ("a", 9), ("b", 1)] {
        store.apply(vec![put("api", "", id, sequence, "{}")]).await.expect("write");
    }
    assert_eq!(ids(&store).await, ["b", "c", "a"]);
}

async fn an_update_keeps_the_place(store: Store) {
    store.apply(vec![put("api", "", "a", 1, "1"), put("api", "", "b", 2, "2")]).await.expect("write");
    store.apply(vec![put("api", "", "a", 1, "changed")]).await.expect("write");
    let bodies: Vec<String> = store.load().await.expect("load").into_iter().map(|d| d.body).collect();
    assert_eq!(bodies, ["changed", "2"]);
}

async fn deletes_one_and_ignores_absent(store: Store) {
    let delete = |id: &str| Change::Delete { kind: "api".into(), parent: String::new(), id: id.into() };
    store.apply(vec![put("api", "", "a", 1, "{}"), put("stage", "", "a", 2, "{}")]).await.expect("write");
    store.apply(vec![delete("a"), delete("absent")]).await.expect("write");
    let left = store.load().await.expect("load");
    assert_eq!(left.iter().map(|d| d.kind.as_str()).collect::<Vec<_>>(), ["stage"]);
}

async fn deletes_a_tree_and_nothing_beside_it(store: Store) {
    let parents = ["a", "a/b", "a/b/c", "a!", "a.b", "a0", "aa", "A", "b/a", ""];
    let puts = (1..).zip(parents).map(|(n, parent)| put("x", parent, &format!("in {parent}"), n, "{}"));
    store.apply(puts.collect()).await.expect("write");
    store.apply(vec![Change::DeleteTree { parent: "a".into() }]).await.expect("delete");
    assert_eq!(ids(&store).await, ["in a!", "in a.b", "in a0", "in aa", "in A", "in b/a", "in "]);
}

async fn a_failing_batch_changes_nothing(store: Store) {
    store.apply(vec![put("api", "", "a", 1, "before")]).await.expect("write");
    let failing = vec![
        put("api", "", "a", 1, "after"),
        put("api", "", "b", 2, "{}"),
        // No store can keep this place in order, and none may delete everything.
        put("api", "", "c", u64::MAX, "{}"),
        Change::DeleteTree { parent: String::new() },
    ];
    store.apply(failing).await.expect_err("must fail");
    assert_eq!(store.load().await.expect("load"), [document("api", "", "a", 1, "before")]);
    store.apply(vec![put("api", "", "d", 4, "{}")]).await.expect("the next write works");
    assert_eq!(ids(&store).await, ["a", "d"]);
}

async fn takes_writes_from_many_callers(store: Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..64_u64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for n in 0..5_u64 {
                let sequence = writer * 5 + n + 1;
                let id = format!("{writer}-{n}");
                // Every fourth writer sends a batch that must fail, between those of the others.
                let mut changes = vec![put("x", "p", &id, sequence, "{}")];
                if writer % 4 == 0 {
                    changes.push(Change::DeleteTree { parent: String::new() });
                }
                assert_eq!(store.apply(changes).await.is_err(), writer % 4 == 0);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a writer");
    }
    assert_eq!(ids(&store).await.len(), 48 * 5);
}

async fn a_dropped_call_is_whole_or_absent(store: Store) {
    for n in 0..50_u64 {
        let changes = vec![
            put("x", "p", &format!("{n}-a"), 2 * n + 1, "{}"),
            put("x", "p", &format!("{n}-b"), 2 * n + 2, "{}"),
        ];
        let _ = tokio::time::timeout(Duration::from_micros(n * 20), store.apply(changes)).await;
    }
    store.apply(vec![put("x", "p", "last", 1000, "{}")]).await.expect("write");
    let ids = ids(&store).await;
    for n in 0..50 {
        let has = |part: &str| ids.contains(&format!("{n}-{part}"));
        assert_eq!(has("a"), has("b"), "{n}");
    }
}

//! Histories and resuming, on real groups and real outboxes.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Waker};

use proptest::prelude::*;
use tidegate_core::context::ConnectionFacts;
use tidegate_core::settings::Settings;
use tidegate_core::snapshot::Stage;
use tidegate_ws::{Decoder, Incoming, Limits, Role};

use super::*;

/// Bytes of an outbox: a hundred messages, but not a replay of more than about thirty.
const OUTBOX: usize = 2000;

const HISTORY: History = History { count: 20, age: 10, on_join: false };

fn key() -> Key {
    Key { api_id: "api".into(), stage: "prod".into(), kind: Kind::Channel, name: "room".into() }
}

fn handle(number: u32, outbox: usize) -> Arc<Handle> {
    let mut settings = Settings::default();
    settings.data_plane.outbound_buffer_bytes = outbox;
    let stage = Stage {
        api_id: "api".into(),
        name: "prod".into(),
        variables: Arc::default(),
        default_throttle: None,
        throttles: HashMap::new(),
        deployment: None,
        settings: Arc::new(settings),
        policy: None,
        logs: None,
    };
    let facts = ConnectionFacts {
        connection_id: ConnectionId::new(1, 0, number % 1000, number),
        api_id: "api".into(),
        stage: "prod".into(),
        domain_name: "localhost".into(),
        source_ip: [127, 0, 0, 1].into(),
        user_agent: None,
        is_secure: false,
        client_port: 80,
        connected_at: 1,
    };
    let handle = Arc::new(Handle::new(Arc::new(facts), Arc::new(stage), None, false, u64::MAX));
    handle.open(None);
    handle
}

/// What has arrived in an outbox, as texts.
fn read(handle: &Handle) -> Vec<String> {
    let limits = Limits { max_frame: 1 << 24, max_message: 1 << 24 };
    let mut frames = VecDeque::new();
    let _ = handle.take_outbox(&mut frames, &mut Context::from_waker(Waker::noop()));
    handle.written(frames.iter().map(Bytes::len).sum());
    let texts = frames.iter().map(|frame| {
        let mut decoder = Decoder::new(Role::Client, limits, None);
        match decoder.decode(&mut frame.to_vec()).unwrap().event {
            Some(Incoming::Text(text)) => text,
            other => panic!("{other:?}"),
        }
    });
    texts.collect()
}

/// Members get the id of a message as its text, so that everything about it can be told from that.
fn publish(groups: &Groups, history: Option<History>, now: u64, epoch: u64) -> Outcome {
    groups.publish(&key(), history, &mut Except::default(), now, epoch, |id| {
        Bytes::from(id.map_or_else(|| "none".to_owned(), |id| id.to_string()))
    })
}

fn join(groups: &Groups, handle: &Arc<Handle>, past: Past, now: u64) -> Joined {
    let seal = |joined: Joined| {
        let last = joined.last.map_or_else(|| "-".to_owned(), |last| last.to_string());
        let text = format!("joined {} {last}", joined.is_recovered.is_some_and(|recovered| recovered));
        handle.push(&OutboundMessage::text(Bytes::from(text)), now).unwrap();
    };
    groups.join(&key(), &Member::new(handle, false), past, Some(HISTORY), now, seal)
}

/// A client that reconnects, and checks what it is given.
#[derive(Default)]
struct Client {
    handle: Option<Arc<Handle>>,
    /// Came out of the socket and was not yet looked at.
    arrived: VecDeque<String>,
    /// Epoch of what it knows.
    epoch: u64,
    /// Everything up to here is known, or was before it was there.
    since: u64,
    /// Positions behind that.
    has: BTreeSet<u64>,
    /// A message was refused by its outbox, so it may have to ask for what it has.
    has_gap: bool,
    /// What it asked for with its last join; nothing when it did not resume.
    asked: Option<u64>,
    /// It is told the beginning by the next answer.
    is_new: bool,
}

impl Client {
    /// The last position of which it knows that nothing is missing before.
    fn last(&self) -> u64 {
        (self.since + 1..).find(|position| !self.has.contains(position)).unwrap_or(0) - 1
    }

    fn look_at(&mut self, text: &str) {
        if let Some(answer) = text.strip_prefix("joined ") {
            let (is_recovered, last) = answer.split_once(' ').unwrap();
            let last = last.parse::<MessageId>().ok();
            match (self.asked, is_recovered == "true") {
                (Some(after), true) => {
                    let last = last.unwrap().position;
                    let missing: Vec<_> =
                        (after + 1..=last).filter(|position| !self.has.contains(position)).collect();
                    assert!(self.is_new || missing.is_empty(), "recovered, but without {missing:?}");
                    self.has_gap = false;
                }
                _ if self.is_new || self.asked.is_some() => {
                    // It knows that it has to start anew.
                    (self.epoch, self.since) = last.map_or((0, 0), |last| (last.epoch, last.position));
                    self.has.clear();
                    self.has_gap = false;
                }
                _ => {}
            }
            self.is_new = false;
            self.asked = None;
            return;
        }
        let Ok(id) = text.parse::<MessageId>() else { return };
        if self.epoch == 0 {
            // The channel had no message when it joined.
            (self.epoch, self.since) = (id.epoch, id.position - 1);
        }
        assert_eq!(id.epoch, self.epoch);
        assert!(id.position > self.since);
        let is_first = self.has.insert(id.position);
        assert!(is_first || self.has_gap, "{} came twice", id.position);
        let is_next = id.position == self.last();
        assert!(is_next || self.has_gap || self.asked.is_some(), "{} came out of turn", id.position);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    /// While the policy gave the channel no history.
    PublishUnkept,
    /// The client comes, or joins once more; with what it has seen, or without.
    Join {
        client: usize,
        resumes: bool,
    },
    /// It takes what is in its socket and looks at so many messages.
    Read {
        client: usize,
        count: usize,
    },
    /// Its connection ends; what it had not looked at is lost.
    Cut(usize),
    /// Seconds pass.
    Pass(u64),
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..3_usize;
    prop_oneof![
        6 => (1..6_usize).prop_map(Step::Publish),
        1 => (20..60_usize).prop_map(Step::Publish),
        1 => Just(Step::PublishUnkept),
        6 => (client.clone(), prop::bool::weighted(0.8))
            .prop_map(|(client, resumes)| Step::Join { client, resumes }),
        6 => (client.clone(), prop_oneof![Just(usize::MAX), 0..8_usize])
            .prop_map(|(client, count)| Step::Read { client, count }),
        3 => client.prop_map(Step::Cut),
        1 => (1..12_u64).prop_map(Step::Pass),
        1 => Just(Step::Trim),
    ]
}

/// Everything together.
struct World {
    groups: Groups,
    clients: [Client; 3],
    now: u64,
    n_connections: u32,
    n_epochs: u64,
    /// Ids of the messages and when they came; of those without history no id.
    published: Vec<(Option<MessageId>, u64)>,
}

impl World {
    fn run(&mut self, step: &Step) {
        match *step {
            Step::Publish(count) => (0..count).for_each(|_| self.publish(Some(HISTORY))),
            Step::PublishUnkept => self.publish(None),
            Step::Join { client, resumes } => self.join(client, resumes),
            Step::Read { client, count } => self.read(client, count),
            Step::Cut(client) => {
                let client = &mut self.clients[client];
                client.arrived.clear();
                if let Some(handle) = client.handle.take() {
                    handle.finish();
                    assert!(self.groups.leave(&key(), handle.facts.connection_id));
                }
            }
            Step::Pass(seconds) => self.now += seconds * 1000,
            Step::Trim => self.groups.trim(self.now, |_| Some(HISTORY)),
        }
    }

    fn publish(&mut self, history: Option<History>) {
        self.n_epochs += 1;
        let outcome = publish(&self.groups, history, self.now, self.n_epochs);
        self.published.push((outcome.message_id, self.now));
        if history.is_none() {
            // It has a position that nobody is told, so those who have it cannot know that they have everything.
            self.clients.iter_mut().for_each(|client| client.has_gap = true);
        }
        for (slow, _) in &outcome.slow {
            let id = slow.facts.connection_id;
            let is_it = |client: &&mut Client| {
                client.handle.as_ref().is_some_and(|handle| handle.facts.connection_id == id)
            };
            self.clients.iter_mut().find(is_it).unwrap().has_gap = true;
        }
    }

    fn join(&mut self, client: usize, resumes: bool) {
        self.read(client, usize::MAX);
        let client = &mut self.clients[client];
        // A client that has lost one without history knows of no gap but by being told.
        let is_new_connection = client.handle.is_none();
        let handle = Arc::clone(client.handle.get_or_insert_with(|| {
            self.n_connections += 1;
            handle(self.n_connections, OUTBOX)
        }));
        let resumes = resumes && client.epoch > 0;
        let (past, after) = match resumes {
            true => {
                let place = MessageId { epoch: client.epoch, position: client.last() };
                (Past::After(place), Some(place))
            }
            false => (Past::None, None),
        };
        client.asked = after.map(|place| place.position);
        client.is_new = is_new_connection && !resumes;
        let joined = join(&self.groups, &handle, past, self.now);
        assert_eq!(joined.is_new, is_new_connection);
        if let Some(after) = after {
            assert_eq!(joined.is_recovered == Some(true), self.can_recover(after, &joined));
        }
        self.read_of(&handle);
    }

    /// Whether a place must be recoverable: the bounds of count and age are promises in both directions.
    fn can_recover(&self, after: MessageId, joined: &Joined) -> bool {
        let Some(last) = joined.last.filter(|last| last.epoch == after.epoch) else { return false };
        let n_since = (last.position - after.position) as usize;
        // The latest messages, one for each position.
        let since = &self.published[self.published.len() - n_since..];
        let is_young = |at: u64| at + HISTORY.age * 1000 >= self.now;
        n_since <= HISTORY.count && since.iter().all(|(id, at)| id.is_some() && is_young(*at))
    }

    fn read(&mut self, client: usize, count: usize) {
        let client = &mut self.clients[client];
        if let Some(handle) = &client.handle {
            client.arrived.extend(read(handle));
        }
        for _ in 0..count.min(client.arrived.len()) {
            let text = client.arrived.pop_front().unwrap();
            client.look_at(&text);
        }
    }

    /// Reads all of a client by its connection.
    fn read_of(&mut self, handle: &Arc<Handle>) {
        let is_its = |client: &Client| client.handle.as_ref().is_some_and(|its| Arc::ptr_eq(its, handle));
        let client = self.clients.iter().position(is_its).unwrap();
        self.read(client, usize::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// S0-90: whatever happens in whichever order, a client that resumes has everything once and in order, or is told
    /// that it has not.
    #[test]
    fn no_gap_and_no_duplicate(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World {
            groups: Groups::new(),
            clients: Default::default(),
            now: 1_000_000,
            n_connections: 0,
            n_epochs: 0,
            published: Vec::new(),
        };
        for step in &steps {
            world.run(step);
        }
        for client in 0..3 {
            world.read(client, usize::MAX);
            world.run(&Step::Cut(client));
        }
        // Nothing stays behind.
        world.groups.trim(u64::MAX, |_| Some(HISTORY));
        prop_assert_eq!(world.groups.history_bytes.load(Ordering::Relaxed), 0);
        prop_assert!(world.groups.list(Kind::Channel, None, None).is_empty());
    }
}

/// S0-90: the same with threads that do not wait for each other.
#[test]
fn publishers_and_resuming_clients_at_once() {
    const MESSAGES: u64 = 4000;
    let groups = Groups::new();
    let history = History { count: 10_000, age: 3600, on_join: false };
    let is_over = AtomicBool::new(false);
    // A first message, so that there is a place to resume from.
    let first = publish(&groups, Some(history), 1, 7).message_id.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..MESSAGES / 2).for_each(|_| drop(publish(&groups, Some(history), 1, 7))));
        }
        let clients: Vec<_> = (0..2)
            .map(|number| {
                let (groups, is_over) = (&groups, &is_over);
                scope.spawn(move || {
                    let mut last = first;
                    for connection in (number * 100_000).. {
                        let is_last = is_over.load(Ordering::Acquire);
                        let handle = handle(connection, usize::MAX);
                        let seal = |_| {};
                        let member = Member::new(&handle, false);
                        let joined = groups.join(&key(), &member, Past::After(last), Some(history), 1, seal);
                        assert_eq!(joined.is_recovered, Some(true));
                        for _ in 0..connection % 7 {
                            std::thread::yield_now();
                        }
                        groups.leave(&key(), handle.facts.connection_id);
                        for text in read(&handle) {
                            let id: MessageId = text.parse().unwrap();
                            assert_eq!((id.epoch, id.position), (last.epoch, last.position + 1));
                            last = id;
                        }
                        if is_last {
                            return last.position;
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        while publish_count(&groups) < MESSAGES + 1 {
            std::thread::yield_now();
        }
        is_over.store(true, Ordering::Release);
        for client in clients {
            assert_eq!(client.join().unwrap(), MESSAGES + 1);
        }
    });
}

fn publish_count(groups: &Groups) -> u64 {
    groups.find(&key()).map_or(0, |group| group.state.lock().log.as_ref().map_or(0, |log| log.last))
}

#[test]
fn a_replay_that_does_not_fit_is_no_replay() {
    let groups = Groups::new();
    let history = History { count: 1000, age: 3600, on_join: true };
    let first = publish(&groups, Some(history), 1, 7).message_id.unwrap();
    (0..500).for_each(|_| drop(publish(&groups, Some(history), 1, 7)));
    let handle = handle(1, OUTBOX);
    // S0-90: half of it would be a gap that nobody knows of.
    for past in [Past::After(first), Past::Unknown, Past::After(MessageId { epoch: 8, position: 1 })] {
        let joined = groups.join(&key(), &Member::new(&handle, false), past, Some(history), 1, |_| {});
        assert_eq!((joined.is_recovered, joined.n_replayed), (Some(false), 0), "{past:?}");
    }
    let joined = groups.join(&key(), &Member::new(&handle, false), Past::All, Some(history), 1, |_| {});
    assert_eq!((joined.is_recovered, joined.n_replayed), (None, 0));
    assert!(read(&handle).is_empty());
    // What was refused can still be had in parts that fit, by whoever is a member already.
    let near = MessageId { epoch: 7, position: 491 };
    let joined =
        groups.join(&key(), &Member::new(&handle, false), Past::After(near), Some(history), 1, |_| {});
    assert_eq!((joined.is_recovered, joined.n_replayed), (Some(true), 10));
    assert_eq!(read(&handle).first().map(String::as_str), Some("7-492"));
    // And only once.
    let joined =
        groups.join(&key(), &Member::new(&handle, false), Past::After(near), Some(history), 1, |_| {});
    assert_eq!((joined.is_recovered, joined.n_replayed), (Some(true), 0));
}

#[test]
fn histories_are_bounded_in_bytes_together() {
    const SIZE: usize = 1 << 20;
    let groups = Groups::new();
    let history = History { count: 10_000, age: 3600, on_join: false };
    let payload = Bytes::from(vec![b'x'; SIZE]);
    let word = |_| payload.clone();
    let mut none = Except::default();
    let other = Key { name: "other".into(), ..key() };
    let small = groups.publish(&other, Some(history), &mut none, 1, 5, word).message_id.unwrap();
    let mut ids = Vec::new();
    for _ in 0..limits::MAX_HISTORY_BYTES / SIZE + 10 {
        ids.push(groups.publish(&key(), Some(history), &mut none, 1, 7, word).message_id.unwrap());
        assert!(groups.history_bytes.load(Ordering::Relaxed) <= limits::MAX_HISTORY_BYTES);
    }
    // The oldest of the channel that is published to have gone, not those of another.
    let recovers = |key: &Key, id: MessageId, number: u32| {
        let handle = handle(number, usize::MAX);
        groups.join(key, &Member::new(&handle, false), Past::After(id), Some(history), 1, |_| {}).is_recovered
    };
    assert_eq!(recovers(&key(), ids[0], 1), Some(false));
    assert_eq!(recovers(&key(), ids[ids.len() / 2], 2), Some(true));
    let before = MessageId { position: small.position - 1, ..small };
    assert_eq!(recovers(&other, before, 3), Some(true));
    // A channel that finds no room at all: its members get the message, and whoever resumes is told.
    let third = Key { name: "third".into(), ..key() };
    let id = groups.publish(&third, Some(history), &mut none, 1, 9, word).message_id.unwrap();
    assert_eq!(recovers(&third, MessageId { position: id.position - 1, ..id }, 4), Some(false));
    assert_eq!(recovers(&third, id, 5), Some(true));
}

#[test]
fn a_channel_that_died_has_another_epoch() {
    let groups = Groups::new();
    let before = publish(&groups, Some(HISTORY), 1000, 7).message_id.unwrap();
    groups.trim(1000 + HISTORY.age * 1000, |_| Some(HISTORY));
    assert_eq!(groups.list(Kind::Channel, None, None).len(), 1, "young enough");
    groups.trim(1001 + HISTORY.age * 1000, |_| Some(HISTORY));
    assert!(groups.list(Kind::Channel, None, None).is_empty());
    let first = handle(1, OUTBOX);
    assert_eq!(join(&groups, &first, Past::After(before), 2000).is_recovered, Some(false));
    let after = publish(&groups, Some(HISTORY), 2000, 8).message_id.unwrap();
    assert_eq!((before.position, after.position), (1, 1));
    assert_ne!(before.epoch, after.epoch);
    let second = handle(2, OUTBOX);
    assert_eq!(join(&groups, &second, Past::After(before), 2000).is_recovered, Some(false));
}

#[test]
fn late_joiners_get_what_is_kept_where_they_shall() {
    let groups = Groups::new();
    (0..HISTORY.count + 5).for_each(|_| drop(publish(&groups, Some(HISTORY), 1000, 7)));
    let handle = handle(1, OUTBOX);
    let joined = join(&groups, &handle, Past::All, 1000);
    assert_eq!((joined.n_replayed, joined.is_recovered), (HISTORY.count, None));
    let texts = read(&handle);
    assert_eq!((texts.first().unwrap().as_str(), texts.len()), ("7-6", HISTORY.count + 1));
    // Once more is not twice.
    assert_eq!(join(&groups, &handle, Past::All, 1000).n_replayed, 0);
    // What is too old is not given out, even before anybody has removed it.
    let late = self::handle(2, OUTBOX);
    assert_eq!(join(&groups, &late, Past::All, 1001 + HISTORY.age * 1000).n_replayed, 0);
}

#[test]
fn what_a_full_outbox_refused_can_be_had_by_resuming() {
    let groups = Groups::new();
    let history = History { count: 1000, age: 3600, on_join: false };
    let handle = handle(1, OUTBOX);
    join(&groups, &handle, Past::None, 1);
    let mut last_taken = None;
    let mut n_refused = 0;
    while n_refused < 3 {
        let outcome = publish(&groups, Some(history), 1, 7);
        match outcome.slow.is_empty() {
            true => last_taken = outcome.message_id,
            false => n_refused += 1,
        }
    }
    let last_taken = last_taken.unwrap();
    assert_eq!(read(&handle).last().unwrap(), &last_taken.to_string());
    let joined =
        groups.join(&key(), &Member::new(&handle, false), Past::After(last_taken), Some(history), 1, |_| {});
    assert_eq!((joined.is_recovered, joined.n_replayed), (Some(true), 3));
    let next = MessageId { position: last_taken.position + 1, ..last_taken };
    assert_eq!(read(&handle)[0], next.to_string());
}

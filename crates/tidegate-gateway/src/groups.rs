//! Who belongs together: the members of a channel, the connections of a user, of a session, of an address.
//!
//! A group exists while it has members or history. What happens in one group happens in one order: joining, leaving,
//! publishing and replaying hold the group's lock, so whoever resumes misses nothing and gets nothing twice. Outboxes
//! take frames without waiting, so that lock is short; other groups are not concerned.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::id::ConnectionId;
use tidegate_core::limits;
use tidegate_core::policy::History;
use tidegate_ws::OutboundMessage;

use crate::connection::handle::{Handle, PushRefusal};

/// Locks that the groups are spread over.
const N_SHARDS: usize = 16;

/// What the members of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Channel,
    User,
    Session,
    /// Client address, as it is counted: IPv6 by its prefix.
    Address,
    /// All connections of the stage, where their number is limited.
    Stage,
}

/// Name of a group within its stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) api_id: Arc<str>,
    pub(crate) stage: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
}

impl Key {
    pub(crate) fn of(handle: &Handle, kind: Kind, name: Arc<str>) -> Self {
        let facts = &handle.facts;
        Self { api_id: Arc::clone(&facts.api_id), stage: Arc::clone(&facts.stage), kind, name }
    }
}

/// All groups of this node.
#[derive(Debug)]
pub(crate) struct Groups {
    shards: [Mutex<HashMap<Key, Arc<Group>>>; N_SHARDS],
    hasher: RandomState,
    /// Bytes of all histories.
    history_bytes: AtomicUsize,
}

#[derive(Debug)]
struct Group {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    members: HashMap<ConnectionId, Member>,
    /// Set under the lock when the group leaves the map: whoever still holds it looks again.
    is_removed: bool,
    /// Kept messages, where the channel has history or has had any.
    log: Option<Box<Log>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) handle: Arc<Handle>,
    /// Is told who comes and goes.
    pub(crate) hears_presence: bool,
    /// Position behind which it has been given every message, live or replayed.
    has_since: u64,
}

impl Member {
    pub(crate) fn new(handle: &Arc<Handle>, hears_presence: bool) -> Self {
        Self { handle: Arc::clone(handle), hears_presence, has_since: 0 }
    }
}

/// The messages of a channel, oldest first. Positions count from 1 within an epoch; an epoch is a life of the group.
#[derive(Debug)]
struct Log {
    epoch: u64,
    /// Position of the last message, kept or not.
    last: u64,
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    position: u64,
    at: u64,
    message: OutboundMessage,
}

/// Place of a message in its channel, as clients present it to resume: `{epoch in hex}-{position}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageId {
    epoch: u64,
    position: u64,
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.position)
    }
}

impl std::str::FromStr for MessageId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, position) = text.split_once('-').ok_or(())?;
        Ok(Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| ())?,
            position: position.parse().map_err(|_| ())?,
        })
    }
}

/// What became of a message to many.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) delivered: usize,
    /// Members whose connection was ending.
    pub(crate) gone: Vec<ConnectionId>,
    /// Members whose outbox was full.
    pub(crate) slow: Vec<(Arc<Handle>, OutboundMessage)>,
    /// Its place, in a channel with history.
    pub(crate) message_id: Option<MessageId>,
}

impl Outcome {
    /// Counts one attempt.
    pub(crate) fn note(
        &mut self,
        handle: &Arc<Handle>,
        message: &OutboundMessage,
        result: Result<(), PushRefusal>,
    ) {
        match result {
            Ok(()) => self.delivered += 1,
            Err(PushRefusal::Full) => self.slow.push((Arc::clone(handle), message.clone())),
            Err(PushRefusal::Gone) => self.gone.push(handle.facts.connection_id),
            // Not yet a member to anybody outside.
            Err(PushRefusal::Pending) => {}
        }
    }
}

/// Who does not get a message to many.
#[derive(Debug, Default)]
pub(crate) struct Except {
    ids: HashSet<ConnectionId>,
    /// Whoever gets it is added, so that nobody gets it twice.
    is_growing: bool,
}

impl Except {
    /// `is_growing`: the message goes to several groups that may have members in common.
    pub(crate) fn new(ids: HashSet<ConnectionId>, is_growing: bool) -> Self {
        Self { ids, is_growing }
    }

    /// Whether a connection is to get the message.
    pub(crate) fn admits(&mut self, id: ConnectionId) -> bool {
        match self.is_growing {
            true => self.ids.insert(id),
            false => self.ids.is_empty() || !self.ids.contains(&id),
        }
    }
}

/// What joining brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joined {
    /// It was not a member before.
    pub(crate) is_new: bool,
    /// Place of the channel's last message.
    pub(crate) last: Option<MessageId>,
    /// Messages that were replayed.
    pub(crate) n_replayed: usize,
    /// Nothing is missing since the place that was asked for. Absent when none was.
    pub(crate) is_recovered: Option<bool>,
}

/// What somebody who joins wants of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Past {
    /// Nothing.
    #[default]
    None,
    /// Everything kept, as far as it fits.
    All,
    /// What came after this place.
    After(MessageId),
    /// Resuming was asked for with something that is no place: nothing can be recovered.
    Unknown,
}

impl Groups {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            history_bytes: AtomicUsize::new(0),
        }
    }

    fn shard(&self, key: &Key) -> &Mutex<HashMap<Key, Arc<Group>>> {
        &self.shards[self.hasher.hash_one(key) as usize % N_SHARDS]
    }

    fn find(&self, key: &Key) -> Option<Arc<Group>> {
        self.shard(key).lock().get(key).cloned()
    }

    /// Runs `act` on the group, which is made if it is missing.
    fn with<R>(&self, key: &Key, mut act: impl FnMut(&mut State) -> R) -> R {
        loop {
            let group = {
                let mut shard = self.shard(key).lock();
                Arc::clone(
                    shard.entry(key.clone()).or_insert_with(|| Arc::new(Group { state: Mutex::default() })),
                )
            };
            let mut state = group.state.lock();
            if !state.is_removed {
                return act(&mut state);
            }
        }
    }

    /// Adds a member unless the group has `limit` already; 0 = no limit. True when it is one now.
    pub(crate) fn join_limited(&self, key: &Key, handle: &Arc<Handle>, limit: usize) -> bool {
        self.with(key, |state| {
            if limit > 0 && state.members.len() >= limit {
                return false;
            }
            state.members.insert(handle.facts.connection_id, Member::new(handle, false));
            true
        })
    }

    /// Adds a member and replays what it wants of the past, in one step: what is published meanwhile comes after. `seal`
    /// is called as the last part of that step, to tell the member what it got. `history` is what the channel may keep
    /// now.
    pub(crate) fn join(
        &self,
        key: &Key,
        member: &Member,
        past: Past,
        history: Option<History>,
        now: u64,
        seal: impl Fn(Joined),
    ) -> Joined {
        self.with(key, |state| {
            let id = member.handle.facts.connection_id;
            if let Some(log) = state.log.as_deref_mut() {
                self.trim_log(log, history, now);
            }
            let last = state.log.as_ref().map_or(0, |log| log.last);
            let before = state.members.get(&id).map(|member| member.has_since);
            // A member that resumes gets what came before it joined, and only once.
            let until = before.unwrap_or(last);
            let mut joined =
                Joined { is_new: before.is_none(), last: None, n_replayed: 0, is_recovered: None };
            let mut has_since = until;
            if let Some(log) = &state.log {
                joined.last = Some(MessageId { epoch: log.epoch, position: log.last });
                // Where nothing was replayed it may ask again.
                if let Some(since) = log.replay(&member.handle, past, until, now, &mut joined) {
                    has_since = since.min(until);
                }
            } else if matches!(past, Past::After(_) | Past::Unknown) {
                joined.is_recovered = Some(false);
            }
            state.members.insert(id, Member { has_since, ..member.clone() });
            seal(joined);
            joined
        })
    }

    /// Whether a member is told who comes and goes, from now on.
    pub(crate) fn set_hears_presence(&self, key: &Key, id: ConnectionId, hears_presence: bool) {
        let Some(group) = self.find(key) else { return };
        if let Some(member) = group.state.lock().members.get_mut(&id) {
            member.hears_presence = hears_presence;
        }
    }

    /// Removes a member. True when it was one.
    pub(crate) fn leave(&self, key: &Key, id: ConnectionId) -> bool {
        let Some(group) = self.find(key) else { return false };
        let mut state = group.state.lock();
        let was_member = state.members.remove(&id).is_some();
        // A map that was large once should not stay so for the few that are left.
        if state.members.len() < state.members.capacity() / 8 {
            state.members.shrink_to_fit();
        }
        let is_over = state.is_over();
        drop(state);
        if is_over {
            self.remove_if_over(key);
        }
        was_member
    }

    /// Takes a group that has ended out of the map, unless somebody has come meanwhile.
    fn remove_if_over(&self, key: &Key) {
        let mut shard = self.shard(key).lock();
        let Some(group) = shard.get(key).cloned() else { return };
        let mut state = group.state.lock();
        if state.is_over() {
            state.is_removed = true;
            shard.remove(key);
        }
    }

    /// Gives a message to all members but `except`. With `history` it gets a place in the channel and is kept; `word`
    /// makes the bytes that members get, and is told that place.
    pub(crate) fn publish(
        &self,
        key: &Key,
        history: Option<History>,
        except: &mut Except,
        now: u64,
        epoch: u64,
        word: impl Fn(Option<MessageId>) -> Bytes,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut deliver = |state: &mut State| {
            if history.is_some() && state.log.is_none() {
                state.log = Some(Box::new(Log { epoch, last: 0, kept: VecDeque::new() }));
            }
            let mut position = None;
            if let Some(log) = state.log.as_deref_mut() {
                log.last += 1;
                position = Some(log.last);
                outcome.message_id = history.map(|_| MessageId { epoch: log.epoch, position: log.last });
            }
            let message = OutboundMessage::text(word(outcome.message_id));
            for member in state.members.values_mut() {
                let handle = &member.handle;
                if except.admits(handle.facts.connection_id) {
                    let result = handle.push(&message, now);
                    if let (Err(PushRefusal::Full), Some(position)) = (result, position) {
                        // It may have the message by resuming.
                        member.has_since = position;
                    }
                    outcome.note(handle, &message, result);
                }
            }
            if let Some(log) = state.log.as_deref_mut() {
                self.keep(log, message, history, now);
            }
        };
        if history.is_some() {
            // A channel with history remembers what was published while nobody was there.
            self.with(key, deliver);
        } else if let Some(group) = self.find(key) {
            deliver(&mut group.state.lock());
        }
        outcome
    }

    /// Keeps a message within the bounds of its channel and of the node. At the node's bound the oldest of the same
    /// channel go first; a message that still does not fit is not kept, and whoever resumes is told of the gap. So it is
    /// with one that came while the channel had no history.
    fn keep(&self, log: &mut Log, message: OutboundMessage, history: Option<History>, now: u64) {
        let Some(history) = history else { return self.trim_log(log, None, now) };
        let room = History { count: history.count.saturating_sub(1), ..history };
        self.trim_log(log, Some(room), now);
        let size = message.len();
        while self.history_bytes.load(Ordering::Relaxed) + size > limits::MAX_HISTORY_BYTES {
            let Some(oldest) = log.kept.pop_front() else { return };
            self.history_bytes.fetch_sub(oldest.message.len(), Ordering::Relaxed);
        }
        self.history_bytes.fetch_add(size, Ordering::Relaxed);
        log.kept.push_back(Kept { position: log.last, at: now, message });
    }

    /// Forgets what the channel may not keep at `now`; everything without a history.
    fn trim_log(&self, log: &mut Log, history: Option<History>, now: u64) {
        let (count, oldest) = match history {
            Some(history) => (history.count, now.saturating_sub(history.age.saturating_mul(1000))),
            None => (0, 0),
        };
        while log.kept.len() > count || log.kept.front().is_some_and(|kept| kept.at < oldest) {
            let Some(kept) = log.kept.pop_front() else { return };
            self.history_bytes.fetch_sub(kept.message.len(), Ordering::Relaxed);
        }
    }

    /// Forgets messages that are too old, and groups that are over. `history` tells what a channel may keep now.
    pub(crate) fn trim(&self, now: u64, history: impl Fn(&Key) -> Option<History>) {
        for shard in &self.shards {
            let channels: Vec<(Key, Arc<Group>)> = shard
                .lock()
                .iter()
                .filter(|(key, _)| key.kind == Kind::Channel)
                .map(|(key, group)| (key.clone(), Arc::clone(group)))
                .collect();
            for (key, group) in channels {
                let history = history(&key);
                let mut state = group.state.lock();
                let Some(log) = state.log.as_deref_mut() else { continue };
                self.trim_log(log, history, now);
                let is_over = state.is_over();
                drop(state);
                if is_over {
                    self.remove_if_over(&key);
                }
            }
        }
    }

    /// The members of a group, in no order.
    pub(crate) fn members(&self, key: &Key) -> Vec<Member> {
        self.find(key).map(|group| group.state.lock().members.values().cloned().collect()).unwrap_or_default()
    }

    /// Names and sizes of the groups of one kind. `api_id` and `stage` narrow it down.
    pub(crate) fn list(&self, kind: Kind, api_id: Option<&str>, stage: Option<&str>) -> Vec<(Key, usize)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let groups: Vec<(Key, Arc<Group>)> = shard
                .lock()
                .iter()
                .filter(|(key, _)| {
                    key.kind == kind
                        && api_id.is_none_or(|api_id| *key.api_id == *api_id)
                        && stage.is_none_or(|stage| *key.stage == *stage)
                })
                .map(|(key, group)| (key.clone(), Arc::clone(group)))
                .collect();
            found.extend(groups.into_iter().map(|(key, group)| {
                let n_members = group.state.lock().members.len();
                (key, n_members)
            }));
        }
        found.sort_by(|(a, _), (b, _)| (&a.api_id, &a.stage, &a.name).cmp(&(&b.api_id, &b.stage, &b.name)));
        found
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.members.is_empty() && self.log.as_ref().is_none_or(|log| log.kept.is_empty())
    }
}

/// Bytes of an outbox that a replay leaves free for what tells the member about it.
const SEAL_ROOM: usize = 1024;

impl Log {
    /// Replays what `past` asks for, as far as `until`. Answers the position behind which the member has been given
    /// everything now; nothing where nothing was replayed.
    fn replay(&self, handle: &Handle, past: Past, until: u64, now: u64, joined: &mut Joined) -> Option<u64> {
        let first_kept = self.kept.front().map_or(self.last + 1, |kept| kept.position);
        let after = match past {
            Past::None => return None,
            Past::All => first_kept - 1,
            Past::Unknown => {
                joined.is_recovered = Some(false);
                return None;
            }
            Past::After(place) => {
                let is_known = place.epoch == self.epoch
                    && place.position <= self.last
                    && place.position + 1 >= first_kept;
                joined.is_recovered = Some(is_known);
                if !is_known {
                    return None;
                }
                place.position
            }
        };
        let missing = self.kept.iter().filter(|kept| kept.position > after && kept.position <= until);
        let (n_missing, n_bytes) =
            missing.clone().fold((0, SEAL_ROOM), |(n, bytes), kept| (n + 1, bytes + kept.message.len() + 16));
        // All of it or nothing: half of it would be a gap that nobody knows of. One frame more for what seals it.
        let has_room = n_missing == 0 || handle.has_room(n_missing + 1, n_bytes);
        if !has_room {
            joined.is_recovered = joined.is_recovered.map(|_| false);
            return None;
        }
        for kept in missing {
            if handle.push(&kept.message, now).is_err() {
                joined.is_recovered = joined.is_recovered.map(|_| false);
                return None;
            }
            joined.n_replayed += 1;
        }
        Some(after)
    }
}

#[cfg(test)]
mod tests;

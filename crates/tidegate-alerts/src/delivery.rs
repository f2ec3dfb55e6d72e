//! Who is connected, in which channels, and what each channel remembers.
//!
//! One lock for both, so that a connection which asks for what it missed gets each alert once: what was published before
//! it joined comes from memory, what comes after it waits until the connection can be pushed to. Texts are handed to the
//! gateway after the lock is given back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::app::Sent;
use tidegate_core::id::ConnectionId;

use crate::channels::USER_PREFIX;

/// Alerts that wait for a connection between its yes and its 101.
const MAX_WAITING: usize = 256;

/// Bytes that wait for it.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Bytes that a channel remembers; what is older goes first.
const MAX_HISTORY_BYTES: usize = 8 << 20;

/// Connections by channel and role.
pub type Members = BTreeMap<Arc<str>, BTreeMap<Arc<str>, usize>>;

/// Whom an alert is for. Whoever fits any of them gets it, once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Everybody.
    pub all: bool,
    /// Channels, with aliases resolved; users' own ones too.
    pub channels: Vec<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Users' ids.
    pub users: Vec<String>,
}

impl Selectors {
    /// Selects nothing, whoever is there.
    pub fn is_empty(&self) -> bool {
        !self.all && self.channels.is_empty() && self.roles.is_empty() && self.users.is_empty()
    }
}

/// Where a client wants to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Behind this alert; from the oldest that is kept when it is not kept any more.
    Alert(String),
    /// At this time or later, in milliseconds since 1970.
    Time(u64),
}

/// A connection that was let in.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Which.
    pub id: ConnectionId,
    /// Whose.
    pub user: Arc<str>,
    /// The role that let it in: the label of statistics.
    pub role: Arc<str>,
    /// All its roles.
    pub roles: Vec<String>,
    /// Its channels, without the user's own.
    pub channels: Vec<Arc<str>>,
}

/// What is done next about a connection that can be pushed to.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// Send these, then ask again.
    Send(Vec<Bytes>),
    /// Nothing waits; alerts go to it directly from now on.
    Done,
    /// More was published to it than may wait: it has to go.
    Overflowed,
}

/// Who is meant by an alert, at one moment.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Connections that can be pushed to.
    pub open: Vec<ConnectionId>,
    /// Those among them for which it was laid aside until they can.
    pub waiting: usize,
    /// Those that had no room for it.
    pub overflowed: usize,
    /// Different users of all these.
    pub users: BTreeSet<Arc<str>>,
    /// Channels among the selectors in which nobody is.
    pub without_members: Vec<String>,
}

impl Chosen {
    /// Connections that got it, and that did not, once the gateway has said what became of those that are open.
    pub fn total(&self, sent: &Sent) -> (usize, usize) {
        (sent.delivered + self.waiting, sent.gone + sent.slow + self.overflowed)
    }
}

#[derive(Debug)]
enum State {
    Joining { waiting: Vec<Bytes>, bytes: usize, is_over: bool },
    Open,
}

#[derive(Debug)]
struct Member {
    user: Arc<str>,
    role: Arc<str>,
    roles: Vec<String>,
    channels: Vec<Arc<str>>,
    state: State,
}

struct Kept {
    number: u64,
    time: u64,
    id: Option<Arc<str>>,
    text: Bytes,
}

#[derive(Default)]
struct Memory {
    kept: VecDeque<Arc<Kept>>,
    bytes: usize,
}

impl Memory {
    fn shrink(&mut self, most: usize) {
        while self.kept.len() > most || self.bytes > MAX_HISTORY_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.text.len();
        }
    }
}

#[derive(Default)]
struct Table {
    members: HashMap<ConnectionId, Member>,
    channels: BTreeMap<Arc<str>, HashSet<ConnectionId>>,
    users: HashMap<Arc<str>, Vec<ConnectionId>>,
    history: HashMap<String, Memory>,
    /// Alerts that each memory has at most.
    most: usize,
    published: u64,
}

/// See the module. As large as there are connections; histories have the bound that they are given.
pub struct Delivery {
    table: Mutex<Table>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("connections", &self.table.lock().members.len())
            .finish_non_exhaustive()
    }
}

impl Delivery {
    /// Each declared channel remembers `history` alerts.
    pub fn new(history: usize) -> Self {
        Self { table: Mutex::new(Table { most: history, ..Table::default() }) }
    }

    /// From now on each declared channel remembers so many; what is more is forgotten.
    pub fn keep_history(&self, most: usize, is_declared: impl Fn(&str) -> bool) {
        let mut table = self.table.lock();
        table.most = most;
        table.history.retain(|channel, _| most > 0 && is_declared(channel));
        table.history.values_mut().for_each(|memory| memory.shrink(most));
    }

    /// Lets a connection in; gives what it missed. Until [`Self::opened`] says `Done`, alerts for it wait.
    pub fn join(&self, arrival: Arrival, since: Option<&Since>) -> Vec<Bytes> {
        let Arrival { id, user, role, roles, channels } = arrival;
        let mut table = self.table.lock();
        let first = since.map_or_else(Vec::new, |since| table.replay(&channels, since));
        for channel in &channels {
            table.channels.entry(Arc::clone(channel)).or_default().insert(id);
        }
        table.users.entry(Arc::clone(&user)).or_default().push(id);
        let state = State::Joining { waiting: Vec::new(), bytes: 0, is_over: false };
        table.members.insert(id, Member { user, role, roles, channels, state });
        first
    }

    /// What is to be done now that a connection can be pushed to. Asked until it says `Done` or `Overflowed`.
    pub fn opened(&self, id: ConnectionId) -> Opened {
        let mut table = self.table.lock();
        let Some(member) = table.members.get_mut(&id) else { return Opened::Done };
        match &mut member.state {
            State::Joining { is_over: true, .. } => Opened::Overflowed,
            State::Joining { waiting, bytes, .. } if !waiting.is_empty() => {
                *bytes = 0;
                Opened::Send(std::mem::take(waiting))
            }
            State::Joining { .. } | State::Open => {
                member.state = State::Open;
                Opened::Done
            }
        }
    }

    /// Takes a connection out of everything; false when it was not in.
    pub fn leave(&self, id: ConnectionId) -> bool {
        let mut table = self.table.lock();
        let Some(member) = table.members.remove(&id) else { return false };
        for channel in &member.channels {
            if let Some(ids) = table.channels.get_mut(channel) {
                ids.remove(&id);
                if ids.is_empty() {
                    table.channels.remove(channel);
                }
            }
        }
        if let Some(ids) = table.users.get_mut(&member.user) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                table.users.remove(&member.user);
            }
        }
        true
    }

    /// Chooses who gets a text, lays it aside for those that cannot take it yet, and remembers it in the channels of
    /// `remembered`.
    pub fn choose(
        &self,
        selectors: &Selectors,
        text: &Bytes,
        id: Option<&Arc<str>>,
        remembered: &[String],
        now: u64,
    ) -> Chosen {
        let mut table = self.table.lock();
        let mut chosen = Chosen::default();
        let ids = table.select(selectors, &mut chosen.without_members);
        table.published += 1;
        if table.most > 0 {
            let kept = Kept { number: table.published, time: now, id: id.cloned(), text: text.clone() };
            table.remember(remembered, &Arc::new(kept));
        }
        table.hand_out(ids, text, &mut chosen);
        chosen
    }

    /// As [`Self::choose`] for those connections of `roles` (all where it is empty) whose user `is_meant`.
    pub fn choose_where(&self, roles: &[String], is_meant: impl Fn(&str) -> bool, text: &Bytes) -> Chosen {
        let mut table = self.table.lock();
        let mut chosen = Chosen::default();
        let has_role =
            |member: &Member| roles.is_empty() || member.roles.iter().any(|role| roles.contains(role));
        let fits = |member: &Member| has_role(member) && is_meant(&member.user);
        let ids = table.members.iter().filter(|(_, member)| fits(member)).map(|(id, _)| *id).collect();
        table.hand_out(ids, text, &mut chosen);
        chosen
    }

    /// Channels that have members.
    pub fn channels(&self) -> Vec<Arc<str>> {
        self.table.lock().channels.keys().cloned().collect()
    }

    /// All connections, and for each channel how many of each role are in it. Users' own channels are left out.
    pub fn count(&self) -> (usize, Members) {
        let table = self.table.lock();
        let mut channels = Members::new();
        for member in table.members.values() {
            for channel in &member.channels {
                let roles = channels.entry(Arc::clone(channel)).or_default();
                *roles.entry(Arc::clone(&member.role)).or_default() += 1;
            }
        }
        (table.members.len(), channels)
    }
}

impl Table {
    /// Each once.
    fn select(&self, selectors: &Selectors, without_members: &mut Vec<String>) -> Vec<ConnectionId> {
        if selectors.all {
            return self.members.keys().copied().collect();
        }
        let mut ids = HashSet::new();
        for channel in &selectors.channels {
            let of_user = channel.strip_prefix(USER_PREFIX).and_then(|user| self.users.get(user));
            match (self.channels.get(channel.as_str()), of_user) {
                (Some(members), _) => ids.extend(members),
                (None, Some(of_user)) => ids.extend(of_user),
                (None, None) => without_members.push(channel.clone()),
            }
        }
        for user in &selectors.users {
            ids.extend(self.users.get(user.as_str()).into_iter().flatten());
        }
        if !selectors.roles.is_empty() {
            let has = |member: &Member| member.roles.iter().any(|role| selectors.roles.contains(role));
            ids.extend(self.members.iter().filter(|(_, member)| has(member)).map(|(id, _)| *id));
        }
        ids.into_iter().collect()
    }

    fn hand_out(&mut self, ids: Vec<ConnectionId>, text: &Bytes, chosen: &mut Chosen) {
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            match &mut member.state {
                State::Open => chosen.open.push(id),
                State::Joining { waiting, bytes, is_over } => {
                    if *is_over || waiting.len() == MAX_WAITING || *bytes + text.len() > MAX_WAITING_BYTES {
                        *is_over = true;
                        chosen.overflowed += 1;
                        continue;
                    }
                    *bytes += text.len();
                    waiting.push(text.clone());
                    chosen.waiting += 1;
                }
            }
            chosen.users.insert(Arc::clone(&member.user));
        }
    }

    fn remember(&mut self, channels: &[String], kept: &Arc<Kept>) {
        for channel in channels {
            let memory = self.history.entry(channel.clone()).or_default();
            memory.bytes += kept.text.len();
            memory.kept.push_back(Arc::clone(kept));
            memory.shrink(self.most);
        }
    }

    /// In the order of publishing, each once though it went to several channels.
    fn replay(&self, channels: &[Arc<str>], since: &Since) -> Vec<Bytes> {
        let memories = channels.iter().filter_map(|channel| self.history.get(&**channel));
        let all: BTreeMap<u64, &Arc<Kept>> =
            memories.flat_map(|memory| &memory.kept).map(|kept| (kept.number, kept)).collect();
        let is_missed: Box<dyn Fn(&Kept) -> bool> = match since {
            Since::Time(time) => Box::new(move |kept| kept.time >= *time),
            Since::Alert(id) => {
                let seen = all.values().rev().find(|kept| kept.id.as_deref() == Some(id.as_str()));
                let seen = seen.map_or(0, |kept| kept.number);
                Box::new(move |kept| kept.number > seen)
            }
        };
        all.values().filter(|kept| is_missed(kept)).map(|kept| kept.text.clone()).collect()
    }
}

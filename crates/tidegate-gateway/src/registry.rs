//! Who is connected: a sharded slab, addressed by the connection id itself.
//!
//! The id carries its slot, so a look-up is one short lock and one comparison. It never asks a store: an id of
//! another node, of another installation or of yesterday simply is not here.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::{ConnectionId, MAX_SLOTS};
use tidegate_core::limits;

use crate::connection::handle::Handle;

/// Locks that the slots are spread over: enough that two threads seldom meet.
const N_SHARDS: usize = 16;

/// Bits of the check value that say which installation made an id; the others say which process.
const OF_INSTALLATION: u32 = 0xFF_FF00;

/// All connections of this node, from the start of their `$connect` to their end.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: [Mutex<Shard>; N_SHARDS],
    next_shard: AtomicUsize,
    n_connections: AtomicUsize,
    node: u8,
    /// The same for all processes of an installation: by it an id of an earlier one is told from a foreign one.
    installation: u64,
    /// New for every process, so that no id comes twice even if the clock was set back.
    process: RandomState,
    /// Milliseconds since 1970.
    started_at: u64,
    gone: Mutex<GoneMemory>,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    /// In the order in which they became free: the longest unused first.
    free: VecDeque<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    handle: Option<Arc<Handle>>,
    /// Sixteenths of a second of the last id issued here, which must not be issued again.
    issued_at: u64,
}

/// How an id that is not connected came to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    /// What posts are told.
    pub(crate) diagnosis: Diagnosis,
    /// Why it ended, or why it was refused.
    pub(crate) reason: Option<Diagnosis>,
    /// Close code, 0 when the connection never opened.
    pub(crate) code: u16,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// Posts to it since.
    pub(crate) n_posts: u32,
}

impl Gone {
    pub(crate) fn new(diagnosis: Diagnosis, reason: Diagnosis, code: u16, at: u64) -> Self {
        Self { diagnosis, reason: Some(reason), code, at, n_posts: 0 }
    }
}

/// Where an id comes from that is neither connected nor remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This process made it; its end is forgotten.
    Here,
    /// An earlier process of this node made it.
    Earlier,
    /// Nobody here made it.
    Elsewhere,
}

#[derive(Debug, Default)]
struct GoneMemory {
    by_id: HashMap<ConnectionId, Gone>,
    order: VecDeque<ConnectionId>,
}

/// A place for a connection whose handle is still to be made.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) connection_id: ConnectionId,
}

impl Registry {
    /// `installation`: what ids of this installation are known by; `now`: milliseconds since 1970.
    pub(crate) fn new(node: u8, installation: u64, now: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next_shard: AtomicUsize::new(0),
            n_connections: AtomicUsize::new(0),
            node,
            installation,
            process: RandomState::new(),
            started_at: now,
            gone: Mutex::default(),
        }
    }

    /// A new id with a slot that nobody else has. Nothing when all slots are taken.
    pub(crate) fn reserve(&self, now: u64) -> Option<Reservation> {
        let ticks = now * 16 / 1000;
        let first = self.next_shard.fetch_add(1, Ordering::Relaxed);
        (0..N_SHARDS).find_map(|step| {
            let shard_idx = (first + step) % N_SHARDS;
            let mut shard = self.shards[shard_idx].lock();
            // The slot freed longest ago; if even that one issued an id in this tick, a fresh slot.
            let reusable = shard.free.front().copied().filter(|slot_idx| {
                shard.slots.get(*slot_idx as usize).is_some_and(|slot| slot.issued_at < ticks)
            });
            let slot_idx = match reusable {
                Some(slot_idx) => {
                    shard.free.pop_front();
                    slot_idx
                }
                None if shard.slots.len() < MAX_SLOTS / N_SHARDS => {
                    shard.slots.push(Slot::default());
                    (shard.slots.len() - 1) as u32
                }
                None => return None,
            };
            shard.slots[slot_idx as usize].issued_at = ticks;
            let slot = slot_idx * N_SHARDS as u32 + shard_idx as u32;
            let head = ConnectionId::new(ticks, self.node, slot, 0).head();
            let connection_id = ConnectionId::new(ticks, self.node, slot, self.check(head));
            Some(Reservation { connection_id })
        })
    }

    /// Fills a reserved slot.
    pub(crate) fn insert(&self, handle: &Arc<Handle>) {
        self.slot(handle.facts.connection_id, |slot| slot.handle = Some(Arc::clone(handle)));
        self.n_connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The connection of an id, pending or open.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<Arc<Handle>> {
        self.slot(id, |slot| slot.handle.clone())?.filter(|handle| handle.facts.connection_id == id)
    }

    /// Frees the slot and remembers why.
    pub(crate) fn remove(&self, id: ConnectionId, diagnosis: Diagnosis, code: u16, now: u64) {
        self.remove_because(id, Gone { diagnosis, reason: None, code, at: now, n_posts: 0 });
    }

    /// As [`Self::remove`], with everything that is known.
    pub(crate) fn remove_because(&self, id: ConnectionId, gone: Gone) {
        let shard_idx = id.slot() as usize % N_SHARDS;
        let slot_idx = id.slot() as usize / N_SHARDS;
        let mut shard = self.shards[shard_idx].lock();
        let is_present = shard
            .slots
            .get(slot_idx)
            .is_some_and(|slot| slot.handle.as_ref().is_some_and(|handle| handle.facts.connection_id == id));
        if !is_present {
            return;
        }
        let handle = shard.slots[slot_idx].handle.take();
        shard.free.push_back(slot_idx as u32);
        drop(shard);
        drop(handle);
        self.n_connections.fetch_sub(1, Ordering::Relaxed);
        self.gone.lock().remember(id, gone);
    }

    /// Counts a post to an id that is remembered.
    pub(crate) fn posted(&self, id: ConnectionId) {
        if let Some(gone) = self.gone.lock().by_id.get_mut(&id) {
            gone.n_posts = gone.n_posts.saturating_add(1);
        }
    }

    /// Adds why a handshake was refused whose id is remembered.
    pub(crate) fn refused_because(&self, id: ConnectionId, reason: Diagnosis) {
        if let Some(gone) = self.gone.lock().by_id.get_mut(&id) {
            gone.reason = Some(reason);
        }
    }

    /// Where an id comes from.
    pub(crate) fn origin(&self, id: ConnectionId) -> Origin {
        let is_own =
            id.node() == self.node && id.check() & OF_INSTALLATION == self.check(id.head()) & OF_INSTALLATION;
        // A tick of tolerance: times in ids are rounded down.
        match (is_own, id.check() == self.check(id.head()) && id.made_at() + 63 >= self.started_at) {
            (false, _) => Origin::Elsewhere,
            (true, true) => Origin::Here,
            (true, false) => Origin::Earlier,
        }
    }

    /// When this process began, in milliseconds since 1970.
    pub(crate) fn started_at(&self) -> u64 {
        self.started_at
    }

    fn check(&self, head: u64) -> u32 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.installation);
        hasher.write_u64(head);
        (hasher.finish() as u32 & OF_INSTALLATION)
            | (self.process.hash_one(head) as u32 & !OF_INSTALLATION & 0xFF_FFFF)
    }

    /// Why an id is not connected, if that is remembered.
    pub(crate) fn gone(&self, id: ConnectionId) -> Option<Gone> {
        self.gone.lock().by_id.get(&id).copied()
    }

    /// Pending and open connections.
    pub(crate) fn len(&self) -> usize {
        self.n_connections.load(Ordering::Relaxed)
    }

    /// Calls `visit` for every connection, shard by shard, without holding a lock meanwhile.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<Handle>)) {
        for shard in &self.shards {
            let handles: Vec<Arc<Handle>> =
                shard.lock().slots.iter().filter_map(|slot| slot.handle.clone()).collect();
            handles.iter().for_each(&mut visit);
        }
    }

    /// At most `limit` connections that fit, in the order of their slots from `from` on.
    pub(crate) fn page(&self, from: u32, limit: usize, fits: impl Fn(&Handle) -> bool) -> Vec<Arc<Handle>> {
        let mut found = Vec::new();
        let n_slots = self.shards.iter().map(|shard| shard.lock().slots.len()).max().unwrap_or(0);
        // Slots are dealt out over the shards in turn, so the order of slots goes across them.
        let mut slot = from as usize;
        while slot / N_SHARDS < n_slots && found.len() < limit {
            let handle = {
                let shard = self.shards[slot % N_SHARDS].lock();
                shard.slots.get(slot / N_SHARDS).and_then(|slot| slot.handle.clone())
            };
            found.extend(handle.filter(|handle| fits(handle)));
            slot += 1;
        }
        found
    }

    fn slot<R>(&self, id: ConnectionId, act: impl FnOnce(&mut Slot) -> R) -> Option<R> {
        let mut shard = self.shards[id.slot() as usize % N_SHARDS].lock();
        shard.slots.get_mut(id.slot() as usize / N_SHARDS).map(act)
    }
}

impl GoneMemory {
    fn remember(&mut self, id: ConnectionId, gone: Gone) {
        if self.order.len() >= limits::MAX_GONE_MEMORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        self.order.push_back(id);
        self.by_id.insert(id, gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_issued_twice() {
        let registry = Registry::new(1, 7, 0);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let reservation = registry.reserve(1_000_000).expect("a slot");
            assert!(seen.insert(reservation.connection_id));
        }
    }

    #[test]
    fn a_foreign_id_is_not_found() {
        let registry = Registry::new(1, 7, 0);
        let id = registry.reserve(1_000_000).expect("a slot").connection_id;
        assert!(registry.find(id).is_none());
        assert!(registry.find(ConnectionId::new(1, 1, MAX_SLOTS as u32 - 1, 0)).is_none());
        assert_eq!(registry.gone(id), None);
    }

    #[test]
    fn an_id_says_whose_it_is() {
        // connections.gone-restart, connections.unknown-id
        let minute = 60_000;
        let before = Registry::new(1, 7, minute);
        let id = before.reserve(2 * minute).expect("a slot").connection_id;
        assert_eq!(before.origin(id), Origin::Here);
        let first = before.reserve(minute).expect("a slot").connection_id;
        assert_eq!(before.origin(first), Origin::Here);
        let after = Registry::new(1, 7, 3 * minute);
        assert_eq!(after.origin(id), Origin::Earlier);
        assert_eq!(Registry::new(1, 8, 3 * minute).origin(id), Origin::Elsewhere);
        assert_eq!(Registry::new(2, 7, 3 * minute).origin(id), Origin::Elsewhere);
        assert!(id.made_at().abs_diff(2 * minute) < 63);
    }
}

//! What is counted instead of written: successes that come in thousands.
//!
//! Failures are always written. Handled messages are counted for each route and minute. Of accepted handshakes, ends of
//! connections and pushes only a part is written above a rate, a power of two fewer, and each of them says so. The part
//! is chosen by the connection's id: an end that is written belongs to a handshake that is.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::{Facts, Kind};
use tidegate_core::notice::{Notice, Place};

use super::entry;

/// Routes whose messages one thread counts at a time; messages of further ones are not counted until the minute ends.
const MAX_ROUTES: usize = 4096;

/// Counts of handled messages that threads share among them. Source: workers of a machine of middle size.
const N_SHARDS: usize = 8;

/// What becomes of a notice.
pub(super) enum Kept {
    /// It is counted, or its facts stand in another one.
    No,
    /// It is written, whatever comes.
    Failure,
    /// It is written, and stands for so many.
    OneIn(u32),
}

/// Addresses of the texts of API, stage and route, and what was remarked; much cheaper to compare than the texts.
type RouteId = (usize, usize, usize, Option<Diagnosis>);

#[derive(Debug)]
struct Count {
    place: Place,
    handled: u64,
    bytes: u64,
    dropped_replies: u64,
}

/// Successes of one kind, by the second.
#[derive(Debug)]
struct Rate {
    threshold: u32,
    second: u64,
    n: u32,
    one_in: u32,
}

impl Rate {
    fn new(threshold: u32) -> Self {
        Self { threshold: threshold.max(1), second: 0, n: 0, one_in: 1 }
    }

    /// One more; of how many it is one.
    fn count(&mut self, at: u64) -> u32 {
        let second = at / 1_000_000;
        if second != self.second {
            // As in the second before, so that a steady rate is sampled evenly.
            let is_next = second == self.second + 1;
            self.one_in =
                if is_next { self.n.div_ceil(self.threshold).max(1).next_power_of_two() } else { 1 };
            self.second = second;
            self.n = 0;
        }
        self.n = self.n.saturating_add(1);
        let needed = self.n.div_ceil(self.threshold).next_power_of_two();
        self.one_in = self.one_in.max(needed);
        self.one_in
    }
}

/// Which accepted handshakes are written at present: those of a part of all connection ids.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Second of the last handshake, and of how many one is written: 32 bits each.
    state: AtomicU64,
    hasher: RandomState,
}

impl Share {
    fn set(&self, at: u64, one_in: u32) {
        let state = (at / 1_000_000) << 32 | u64::from(one_in);
        // Nearly always it is this already, and other threads have it in their caches.
        if self.state.load(Ordering::Relaxed) != state {
            self.state.store(state, Ordering::Relaxed);
        }
    }

    fn hash(&self, value: impl Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    /// Will a handshake of this time be written? Where the part changes meanwhile, one may be written without facts.
    pub(super) fn has(&self, id: ConnectionId, at: u64) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        let (second, one_in) = (state >> 32, state & u64::from(u32::MAX));
        // After a pause all are.
        one_in <= 1 || at / 1_000_000 > second + 1 || self.hash(id).is_multiple_of(one_in)
    }
}

/// Decides what is written.
#[derive(Debug)]
pub(super) struct Sampler {
    handshakes: Rate,
    ends: Rate,
    posts: Rate,
    share: Arc<Share>,
    n_sampled: u64,
}

impl Sampler {
    pub(super) fn new(handshakes: u32, posts: u32) -> Self {
        Self {
            handshakes: Rate::new(handshakes),
            ends: Rate::new(handshakes),
            posts: Rate::new(posts),
            share: Arc::default(),
            n_sampled: 0,
        }
    }

    /// Which handshakes are written at present.
    pub(super) fn share(&self) -> Arc<Share> {
        Arc::clone(&self.share)
    }

    /// Successes that were not written.
    pub(super) fn n_sampled(&self) -> u64 {
        self.n_sampled
    }

    /// Decides about a notice of a time in microseconds.
    pub(super) fn look(&mut self, notice: &Notice, at: u64) -> Kept {
        if entry::is_failure(notice) {
            return Kept::Failure;
        }
        let (rate, place) = match notice {
            Notice::IntegrationCalled { .. } => return Kept::No,
            Notice::ConnectionOpened { place, .. } | Notice::TokenRequested { place, .. } => {
                (&mut self.handshakes, place)
            }
            Notice::ConnectionClosed { place, .. } => (&mut self.ends, place),
            Notice::Pushed { place, .. }
            | Notice::Published { place, .. }
            | Notice::Decided { place, .. }
            | Notice::MembershipChanged { place, .. } => (&mut self.posts, place),
            _ => return Kept::OneIn(1),
        };
        let one_in = rate.count(at);
        let n = rate.n;
        if matches!(notice, Notice::ConnectionOpened { .. }) {
            self.share.set(at, one_in);
        }
        if one_in == 1 {
            return Kept::OneIn(1);
        }
        let hash = match place.connection_id {
            Some(id) => self.share.hash(id),
            None => self.share.hash(n),
        };
        if hash % u64::from(one_in) == 0 {
            return Kept::OneIn(one_in);
        }
        self.n_sampled += 1;
        Kept::No
    }
}

/// Handled messages, counted for each route until the minute ends. Threads count apart from each other: there are so many
/// messages that one lock for all of them would be waited for.
#[derive(Debug, Default)]
pub(super) struct Handled {
    shards: [Mutex<Counts>; N_SHARDS],
}

type Counts = HashMap<RouteId, Count, BuildHasherDefault<AddressHasher>>;

/// Of addresses, which nobody chooses: each is mixed in with one multiplication.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

/// Which shard a thread counts in.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % N_SHARDS;
    }
    SHARD.with(|shard| *shard)
}

impl Handled {
    /// Counts one. True for the first with this remark on its route since the last minute's end.
    pub(super) fn count(
        &self,
        place: &Place,
        size: usize,
        dropped_reply: bool,
        remark: Option<Diagnosis>,
    ) -> bool {
        let address = |text: &Arc<str>| text.as_ptr() as usize;
        let route = place.route_key.as_ref().map_or(0, address);
        let id = (address(&place.api_id), address(&place.stage), route, remark);
        // Of remarkable ones the first is an example: all threads have to agree on it.
        let shard = if remark.is_some() { 0 } else { shard() };
        let mut counts = self.shards[shard].lock();
        let n_routes = counts.len();
        let count = match counts.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) if n_routes < MAX_ROUTES => {
                // The texts are held, so that no other text gets their addresses meanwhile.
                let place = Place {
                    api_id: Arc::clone(&place.api_id),
                    stage: Arc::clone(&place.stage),
                    route_key: place.route_key.clone(),
                    ..Place::default()
                };
                new.insert(Count { place, handled: 0, bytes: 0, dropped_replies: 0 })
            }
            std::collections::hash_map::Entry::Vacant(_) => return false,
        };
        count.handled += 1;
        count.bytes += size as u64;
        count.dropped_replies += u64::from(dropped_reply);
        count.handled == 1
    }

    /// The counts so far as notices; they begin anew.
    pub(super) fn conclude(&self) -> Vec<Notice> {
        let mut all = Counts::default();
        for shard in &self.shards {
            for (id, count) in std::mem::take(&mut *shard.lock()) {
                match all.entry(id) {
                    std::collections::hash_map::Entry::Occupied(mut known) => {
                        let known = known.get_mut();
                        known.handled += count.handled;
                        known.bytes += count.bytes;
                        known.dropped_replies += count.dropped_replies;
                    }
                    std::collections::hash_map::Entry::Vacant(new) => drop(new.insert(count)),
                }
            }
        }
        let mut counts: Vec<(RouteId, Count)> = all.into_iter().collect();
        counts.sort_by(|(_, a), (_, b)| {
            (&a.place.api_id, &a.place.stage, &a.place.route_key).cmp(&(
                &b.place.api_id,
                &b.place.stage,
                &b.place.route_key,
            ))
        });
        let notice = |((.., remark), count): (RouteId, Count)| {
            let mut facts = Facts::none().with("handled", count.handled).with("bytes", count.bytes);
            if count.dropped_replies > 0 {
                facts.add("droppedReplies", count.dropped_replies);
            }
            Notice::Decided { place: count.place, kind: Kind::Message, remark, facts }
        };
        counts.into_iter().map(notice).collect()
    }
}

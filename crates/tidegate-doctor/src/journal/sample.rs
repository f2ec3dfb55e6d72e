//! What is counted instead of written: successes that come in thousands.
//!
//! Failures are always written. Handled messages are counted for each route and minute. Of accepted handshakes, ends of
//! connections and pushes only a part is written above a rate, a power of two fewer, and each of them says so. The part
//! is chosen by the connection's id: an end that is written belongs to a handshake that is.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::{Facts, Kind};
use tidegate_core::notice::{Notice, Place};

use super::entry;

/// Routes whose messages are counted at a time; messages of further ones are not counted until the minute ends.
const MAX_ROUTES: usize = 4096;

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
    messages: HashMap<RouteId, Count>,
    share: Arc<Share>,
    n_sampled: u64,
}

impl Sampler {
    pub(super) fn new(handshakes: u32, posts: u32) -> Self {
        Self {
            handshakes: Rate::new(handshakes),
            ends: Rate::new(handshakes),
            posts: Rate::new(posts),
            messages: HashMap::new(),
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
        if let Notice::MessageHandled { place, size, dropped_reply, remark, .. } = notice {
            // The first of a minute with something remarkable is written, as an example.
            let is_first = self.count_message(place, *size, *dropped_reply, *remark);
            return if remark.is_some() && is_first { Kept::Failure } else { Kept::No };
        }
        if entry::is_failure(notice) {
            return Kept::Failure;
        }
        let (rate, place) = match notice {
            // What a handshake asked its backend stands in the handshake's own entry; messages are counted.
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

    /// True for the first of its kind since the last minute's end.
    fn count_message(
        &mut self,
        place: &Place,
        size: usize,
        dropped_reply: bool,
        remark: Option<Diagnosis>,
    ) -> bool {
        let address = |text: &Arc<str>| text.as_ptr() as usize;
        let route = place.route_key.as_ref().map_or(0, address);
        let id = (address(&place.api_id), address(&place.stage), route, remark);
        let n_routes = self.messages.len();
        let count = match self.messages.entry(id) {
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
    pub(super) fn conclude(&mut self) -> Vec<Notice> {
        let mut counts: Vec<(RouteId, Count)> = self.messages.drain().collect();
        self.messages.shrink_to_fit();
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

//! The newest messages of a connection: when they passed, which way, how long they were. Nothing of what they said.
//!
//! They show what an open connection is doing, and whether the heartbeats of its client have slowed down. A connection
//! without messages has none of it; one with messages pays two stores for each.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use serde::Serialize;

/// Messages of each way that are kept; both ways together are the twenty newest.
pub(crate) const EACH_WAY: usize = 10;

/// Bits of a slot for the size. Longer messages have the largest.
const SIZE_BITS: u32 = 24;

/// Says that a slot is used: the first message may have come at once, and be empty.
const USED: u64 = 1 << 63;

/// Timers of a tab in the background run once a minute: pauses of this length, in milliseconds, are one of them. Source:
/// what browsers do, with half a minute's twelfth for the way.
const THROTTLED: std::ops::RangeInclusive<u64> = 55_000..=65_000;

/// Heartbeats before that were regular: so many pauses in a row.
const REGULAR: usize = 3;

/// Longest pause between heartbeats of a tab in the foreground, in milliseconds.
const FOREGROUND: u64 = 45_000;

/// Heartbeats are alike: by so many bytes they may differ, for a time or a number in them.
const ALIKE: u64 = 16;

/// The newest messages.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    received: [AtomicU64; EACH_WAY],
    sent: [AtomicU64; EACH_WAY],
    /// Milliseconds between heartbeats before they slowed down; 0 = they have not.
    usual: AtomicU32,
    /// Pauses of a minute since then.
    n_throttled: AtomicU8,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RecentMessage {
    /// Milliseconds since 1970.
    pub at: u64,
    /// From the client.
    pub is_received: bool,
    /// Payload in bytes; of more than 16 MiB the limit.
    pub size: u64,
}

/// Heartbeats that came once a minute at the end, and more often before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slowed {
    /// Milliseconds between heartbeats before.
    pub(crate) usual: u32,
    /// Pauses of a minute at the end.
    pub(crate) n_pauses: u8,
}

impl Recent {
    /// Notes the message from the client that has this number; `since_open`: milliseconds since the connection opened. Only
    /// its own task calls it.
    pub(crate) fn received(&self, number: u64, since_open: u64, size: usize) {
        set(&self.received, number, since_open, size);
    }

    /// Notes the message to the client that has this number. To be called under the lock that gives the numbers.
    pub(crate) fn sent(&self, number: u64, since_open: u64, size: usize) {
        set(&self.sent, number, since_open, size);
    }

    /// All that are kept, in the order of time; those of one moment as they came. `n_received` and `n_sent`: so many there
    /// were in all.
    pub(crate) fn messages(&self, opened_at: u64, n_received: u64, n_sent: u64) -> Vec<RecentMessage> {
        let of = |slots: &[AtomicU64; EACH_WAY], n_all: u64, is_received: bool| -> Vec<RecentMessage> {
            // The slot that is written next has the oldest.
            let (newer, older) = slots.split_at((n_all % EACH_WAY as u64) as usize);
            let known = older.iter().chain(newer).filter_map(read);
            known.map(|(since, size)| RecentMessage { at: opened_at + since, is_received, size }).collect()
        };
        let mut messages = of(&self.received, n_received, true);
        messages.extend(of(&self.sent, n_sent, false));
        messages.sort_by_key(|message| (message.at, !message.is_received));
        messages
    }

    /// Looks at a pause of the client, before the message that ended it is noted. `scale`: so many times faster time passes.
    pub(crate) fn paused(&self, pause: u64, scale: u64) {
        if !THROTTLED.contains(&(pause * scale)) {
            // It is back, or was gone: from here on everything begins anew.
            if self.n_throttled.load(Ordering::Relaxed) > 0 {
                self.usual.store(0, Ordering::Relaxed);
                self.n_throttled.store(0, Ordering::Relaxed);
            }
            return;
        }
        if self.usual.load(Ordering::Relaxed) == 0 {
            let Some(usual) = self.rhythm(scale) else { return };
            self.usual.store(usual, Ordering::Relaxed);
        }
        let n_pauses = self.n_throttled.load(Ordering::Relaxed).saturating_add(1);
        self.n_throttled.store(n_pauses, Ordering::Relaxed);
    }

    /// Whether a pause is worth a look: a minute, or any while the last ones were minutes.
    pub(crate) fn may_be_pause(&self, pause: u64, scale: u64) -> bool {
        pause * scale >= *THROTTLED.start() || self.n_throttled.load(Ordering::Relaxed) > 0
    }

    /// Milliseconds between the newest messages of the client, where they are regular and alike.
    fn rhythm(&self, scale: u64) -> Option<u32> {
        let mut known: Vec<(u64, u64)> = self.received.iter().filter_map(read).collect();
        known.sort_unstable();
        let newest = known.get(known.len().checked_sub(REGULAR + 1)?..)?;
        let pauses: Vec<u64> = newest.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        let (shortest, longest) = (pauses.iter().min()?, pauses.iter().max()?);
        let sizes = newest.iter().map(|(_, size)| *size);
        let are_alike = sizes.clone().max()? - sizes.min()? <= ALIKE;
        // A quarter more or less, and what a busy machine adds.
        let are_regular = *longest <= shortest + shortest / 4 + 100;
        (are_alike && are_regular && *shortest > 0 && longest * scale <= FOREGROUND)
            .then(|| u32::try_from(pauses.iter().sum::<u64>() / REGULAR as u64).unwrap_or(u32::MAX))
    }

    /// Whether the heartbeats of the client have slowed down to one in a minute, and stayed so.
    pub(crate) fn slowed(&self) -> Option<Slowed> {
        let (usual, n_pauses) =
            (self.usual.load(Ordering::Relaxed), self.n_throttled.load(Ordering::Relaxed));
        (usual > 0 && n_pauses >= 2).then_some(Slowed { usual, n_pauses })
    }
}

fn set(slots: &[AtomicU64; EACH_WAY], number: u64, since_open: u64, size: usize) {
    let largest = (1 << SIZE_BITS) - 1;
    let size = (size as u64).min(largest);
    let since = since_open.min((1 << (63 - SIZE_BITS)) - 1);
    if let Some(slot) = slots.get((number % EACH_WAY as u64) as usize) {
        slot.store(USED | since << SIZE_BITS | size, Ordering::Relaxed);
    }
}

fn read(slot: &AtomicU64) -> Option<(u64, u64)> {
    let value = slot.load(Ordering::Relaxed);
    (value & USED != 0).then_some(((value & !USED) >> SIZE_BITS, value & ((1 << SIZE_BITS) - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of a client at these seconds, each looked at as a connection does.
    fn heard(seconds: &[u64], size: impl Fn(usize) -> usize) -> Recent {
        let recent = Recent::default();
        let mut last = 0;
        for (number, at) in seconds.iter().map(|second| second * 1000).enumerate() {
            if number > 0 && recent.may_be_pause(at - last, 1) {
                recent.paused(at - last, 1);
            }
            recent.received(number as u64, at, size(number));
            last = at;
        }
        recent
    }

    #[test]
    fn the_newest_of_each_way_are_kept_in_the_order_of_time() {
        // DX-18, DX-50
        let recent = Recent::default();
        assert_eq!(recent.messages(1000, 0, 0), []);
        for number in 0..25_u64 {
            recent.received(number, number * 10, number as usize);
        }
        recent.sent(0, 245, usize::MAX);
        recent.sent(1, u64::MAX, 0);
        let messages = recent.messages(1000, 25, 2);
        assert_eq!(messages.len(), 12);
        assert_eq!(messages[0], RecentMessage { at: 1150, is_received: true, size: 15 });
        assert_eq!(messages[10], RecentMessage { at: 1245, is_received: false, size: (1 << 24) - 1 });
        assert!(messages.is_sorted_by_key(|message| message.at));
        // Those of one moment stay in their order, wherever the newest has its place.
        let recent = Recent::default();
        (0..13_u64).for_each(|number| recent.received(number, 5, number as usize));
        let sizes: Vec<u64> = recent.messages(0, 13, 0).iter().map(|message| message.size).collect();
        assert_eq!(sizes, (3..13).collect::<Vec<u64>>());
        // An idle connection holds a pointer; one with messages not much more than the slots.
        assert_eq!(size_of::<Recent>(), 2 * EACH_WAY * 8 + 8);
    }

    #[test]
    fn heartbeats_that_slow_down_to_one_in_a_minute_are_seen() {
        // client.background-throttle
        let slowed = |seconds: &[u64]| heard(seconds, |_| 20).slowed();
        assert_eq!(slowed(&[0, 25, 50, 75, 135, 195, 255]), Some(Slowed { usual: 25_000, n_pauses: 3 }));
        for seconds in [
            // Once a minute from the beginning: the client wants it so.
            &[0, 60, 120, 180, 240, 300][..],
            // One pause is chance.
            &[0, 25, 50, 75, 135],
            // The tab came back.
            &[0, 25, 50, 75, 135, 195, 220],
            // Two minutes are no timer.
            &[0, 25, 50, 75, 195, 315],
            // A person who types, and stops typing.
            &[0, 3, 4, 11, 71, 131],
            &[0, 25, 50, 75, 100],
        ] {
            assert_eq!(slowed(seconds), None, "{seconds:?}");
        }
        // It may happen again.
        let again = slowed(&[0, 25, 50, 75, 135, 195, 220, 245, 270, 295, 355, 415]);
        assert_eq!(again, Some(Slowed { usual: 25_000, n_pauses: 2 }));
        // What is not alike is no heartbeat.
        assert_eq!(heard(&[0, 25, 50, 75, 135, 195], |number| 20 + number % 2 * 100).slowed(), None);
        // A long time in the background is remembered, however many minutes.
        let long: Vec<u64> = (0..4).map(|n| n * 25).chain((1..40).map(|n| 75 + n * 60)).collect();
        assert_eq!(slowed(&long), Some(Slowed { usual: 25_000, n_pauses: 39 }));
    }
}

//! References that clients make for their attempts: a browser sees neither status nor headers of a refused handshake,
//! so it may ask afterwards, once, what became of the attempt with its reference.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::RequestId;

/// The query parameter; no backend sees it. Source: DX-14.
pub(crate) const PARAMETER: &str = "_tgref";

/// Shortest and longest reference, in characters. Source: our choice; random enough not to be guessed in a minute.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=64;

/// How long a reference can be redeemed, in milliseconds. Source: DX-14.
const LIFETIME: u64 = 60_000;

/// References that are kept at a time; at the bound the oldest is forgotten.
const MAX_REFERENCES: usize = 10_000;

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) request_id: Option<RequestId>,
    /// Absent for an attempt that opened.
    pub(crate) diagnosis: Option<Diagnosis>,
    pub(crate) status: u16,
}

/// The outcomes of the last minute, by reference.
#[derive(Debug, Default)]
pub(crate) struct ClientReferences {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// With the time it ended; of several attempts with one reference the newest counts.
    by_reference: HashMap<Arc<str>, (u64, Ended)>,
    /// In the order of time; also references that were redeemed or used again since.
    in_order: VecDeque<(u64, Arc<str>)>,
}

impl ClientReferences {
    /// Notes how an attempt ended.
    pub(crate) fn note(&self, reference: &Arc<str>, ended: Ended, now: u64) {
        let mut known = self.known.lock();
        known.forget_old(now);
        if known.in_order.len() >= MAX_REFERENCES {
            known.forget_first();
        }
        known.by_reference.insert(Arc::clone(reference), (now, ended));
        known.in_order.push_back((now, Arc::clone(reference)));
    }

    /// What became of the attempt; answered once.
    pub(crate) fn redeem(&self, reference: &str, now: u64) -> Option<Ended> {
        let mut known = self.known.lock();
        known.forget_old(now);
        known.by_reference.remove(reference).map(|(_, ended)| ended)
    }
}

impl Known {
    fn forget_old(&mut self, now: u64) {
        while self.in_order.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= LIFETIME) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((at, reference)) = self.in_order.pop_front() else { return };
        // A later attempt with the same reference has an entry of its own in the order.
        if self.by_reference.get(&reference).is_some_and(|(newest, _)| *newest <= at) {
            self.by_reference.remove(&reference);
        }
    }
}

/// The reference in a query, if it is one.
pub(crate) fn find(query: &str) -> Option<&str> {
    value(query, PARAMETER)
}

/// A reference that stands as the value of a parameter.
pub(crate) fn value<'a>(query: &'a str, parameter: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, reference) = pairs.find(|(name, _)| *name == parameter)?;
    let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (LENGTH.contains(&reference.len()) && reference.bytes().all(is_of_alphabet)).then_some(reference)
}

/// The query without references; what is no valid one goes too, as the name is reserved.
pub(crate) fn strip(query: &str) -> String {
    if !query.contains(PARAMETER) {
        return query.to_owned();
    }
    let is_other = |pair: &&str| pair.split('=').next() != Some(PARAMETER);
    query.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: u16) -> Ended {
        Ended { request_id: None, diagnosis: Some(Diagnosis::JWT_EXPIRED), status }
    }

    #[test]
    fn references_leave_the_query() {
        // DX-14
        assert_eq!(find("a=b&_tgref=abcdefgh"), Some("abcdefgh"));
        assert_eq!(strip("a=b&_tgref=abcdefgh&c=d&c=%20"), "a=b&c=d&c=%20");
        assert_eq!(strip("_tgref=abcdefgh"), "");
        assert_eq!(strip("a=_tgref&b"), "a=_tgref&b");
        for other in ["_tgref=short", "_tgref=abcd%65fgh", "x_tgref=abcdefgh", "_tgref", ""] {
            assert_eq!(find(other), None, "{other}");
        }
        assert_eq!(find(&format!("_tgref={}", "x".repeat(65))), None);
    }

    #[test]
    fn the_newest_is_told_once_and_for_a_minute() {
        // DX-14, S0-101
        let references = ClientReferences::default();
        let reference: Arc<str> = "abcdefgh".into();
        references.note(&reference, ended(403), 1000);
        references.note(&reference, ended(429), 2000);
        assert_eq!(references.redeem("abcdefgi", 2000), None);
        assert_eq!(references.redeem("abcdefgh", 2000).map(|ended| ended.status), Some(429));
        assert_eq!(references.redeem("abcdefgh", 2000), None);
        references.note(&reference, ended(403), 3000);
        // The entry of the attempts before must not take the newest one with it.
        references.note(&"another-one".into(), ended(403), 62_500);
        assert_eq!(references.redeem("abcdefgh", 62_999).map(|ended| ended.status), Some(403));
        references.note(&reference, ended(403), 3000);
        assert_eq!(references.redeem("abcdefgh", 63_000), None);
    }

    #[test]
    fn references_are_bounded() {
        let references = ClientReferences::default();
        for n in 0..MAX_REFERENCES + 5 {
            references.note(&format!("reference-{n}").into(), ended(403), 1000);
        }
        assert_eq!(references.known.lock().by_reference.len(), MAX_REFERENCES);
        assert_eq!(references.redeem("reference-0", 1000), None);
        assert!(references.redeem(&format!("reference-{}", MAX_REFERENCES + 4), 1000).is_some());
    }
}

//! Signing keys, and a small cache of them.
//!
//! A signing key costs four HMACs and holds for a day, so a verifier that remembers it needs one HMAC per request.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::TERMINATOR;
use crate::secret::Secret;

/// Most signing keys that a cache holds; at this bound the one used longest ago goes.
///
/// Source: our choice. An entry is below 1 KiB; an installation has few credentials, each signing for today.
pub const MAX_SIGNING_KEYS: usize = 64;

/// For whom, for which day and for what a signing key is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyScope<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) day: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl KeyScope<'_> {
    /// The scope as in a string to sign.
    pub(crate) fn credential_scope(&self) -> String {
        format!("{}/{}/{}/{TERMINATOR}", self.day, self.region, self.service)
    }
}

/// The signing keys used last, at most [`MAX_SIGNING_KEYS`].
///
/// Only known access keys get here, and only for days within their validity, so strangers cannot push entries out.
pub struct SigningKeyCache {
    /// Used last comes first.
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    access_key_id: String,
    /// Kept so that a rotated secret makes the entry useless.
    secret: Secret,
    day: String,
    region: String,
    service: String,
    key: Arc<Key>,
}

impl Entry {
    fn is_for(&self, scope: &KeyScope<'_>, secret: &Secret) -> bool {
        self.access_key_id == scope.access_key_id
            && self.day == scope.day
            && self.region == scope.region
            && self.service == scope.service
            && self.secret.matches(secret.expose())
    }
}

impl SigningKeyCache {
    /// An empty cache; it allocates with its first entry.
    pub const fn new() -> Self {
        Self { entries: Mutex::new(Vec::new()) }
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.entries.lock().is_empty()
    }

    /// The key from the cache, or a new one that goes into it. The lock is not held while a key is derived.
    pub(crate) fn signing_key(&self, scope: &KeyScope<'_>, secret: &Secret) -> Arc<Key> {
        {
            let mut entries = self.entries.lock();
            if let Some(idx) = entries.iter().position(|entry| entry.is_for(scope, secret)) {
                entries[..=idx].rotate_right(1);
                return Arc::clone(&entries[0].key);
            }
        }
        let key = Arc::new(derive(scope, secret));
        let entry = Entry {
            access_key_id: scope.access_key_id.to_owned(),
            secret: secret.clone(),
            day: scope.day.to_owned(),
            region: scope.region.to_owned(),
            service: scope.service.to_owned(),
            key: Arc::clone(&key),
        };
        let mut entries = self.entries.lock();
        // Two threads that derive the same key at the same time leave two equal entries: harmless, the unused one ages.
        entries.truncate(MAX_SIGNING_KEYS - 1);
        entries.insert(0, entry);
        key
    }
}

impl Default for SigningKeyCache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SigningKeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeyCache").field("len", &self.len()).finish()
    }
}

fn derive(scope: &KeyScope<'_>, secret: &Secret) -> Key {
    let start = Zeroizing::new(format!("AWS4{}", secret.expose()));
    [scope.day, scope.region, scope.service, TERMINATOR]
        .into_iter()
        .fold(Key::new(HMAC_SHA256, start.as_bytes()), |key, part| {
            Key::new(HMAC_SHA256, sign(&key, part.as_bytes()).as_ref())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope<'a>(access_key_id: &'a str, day: &'a str) -> KeyScope<'a> {
        KeyScope { access_key_id, day, region: "us-east-1", service: "iam" }
    }

    /// The example of "Deriving the signing key" (AWS general reference).
    #[test]
    fn the_published_key_is_derived() {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let key = derive(&scope("AKIDEXAMPLE", "20150830"), &secret);
        let text = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                    f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        assert_eq!(
            hex::encode(sign(&key, text.as_bytes())),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn a_key_is_derived_once_and_again_after_rotation() {
        let cache = SigningKeyCache::new();
        let (old, new) = (Secret::new("old"), Secret::new("new"));
        let first = cache.signing_key(&scope("a", "20250115"), &old);
        assert!(Arc::ptr_eq(&first, &cache.signing_key(&scope("a", "20250115"), &old)));
        assert!(!Arc::ptr_eq(&first, &cache.signing_key(&scope("a", "20250115"), &new)));
        assert!(!Arc::ptr_eq(&first, &cache.signing_key(&scope("a", "20250116"), &old)));
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn the_cache_is_bounded_and_drops_what_was_used_longest_ago() {
        let cache = SigningKeyCache::new();
        let secret = Secret::new("secret");
        let first = cache.signing_key(&scope("first", "20250115"), &secret);
        let second = cache.signing_key(&scope("second", "20250115"), &secret);
        for number in 2..MAX_SIGNING_KEYS {
            cache.signing_key(&scope(&number.to_string(), "20250115"), &secret);
        }
        assert!(Arc::ptr_eq(&first, &cache.signing_key(&scope("first", "20250115"), &secret)));
        cache.signing_key(&scope("one more", "20250115"), &secret);
        assert_eq!(cache.len(), MAX_SIGNING_KEYS);
        assert!(Arc::ptr_eq(&first, &cache.signing_key(&scope("first", "20250115"), &secret)));
        assert!(!Arc::ptr_eq(&second, &cache.signing_key(&scope("second", "20250115"), &secret)));
        assert_eq!(cache.len(), MAX_SIGNING_KEYS);
    }
}

//! What a connection has beyond API Gateway: who its client is, and which groups it belongs to.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tidegate_core::channel::ChannelName;
use tidegate_core::identity::Identity;
use tidegate_core::throttle::Bucket;

use crate::groups::Key;

/// Part of a handle.
#[derive(Debug)]
pub(crate) struct Membership {
    identity: ArcSwap<Identity>,
    /// Held while a channel is joined or left, so that what is noted here and the groups cannot differ in the end.
    /// Taken before the lock of any group.
    changing: Mutex<()>,
    /// In the order of joining.
    channels: Mutex<Channels>,
    /// Groups that follow from identity and address; left at the end.
    keys: Mutex<Vec<Key>>,
    /// Messages that the client may still send.
    pub(crate) messages: Mutex<Option<Bucket>>,
}

#[derive(Debug, Default)]
struct Channels {
    names: Vec<Noted>,
    /// The connection has ended: nothing is joined any more.
    is_over: bool,
}

#[derive(Debug)]
struct Noted {
    name: ChannelName,
    /// The backend has put the connection there, so the rules for clients do not end it.
    is_by_backend: bool,
}

/// Why a channel could not be noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unnoted {
    /// The connection is in as many channels as it may.
    Limit,
    /// The connection has ended.
    Over,
}

impl Default for Membership {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Membership {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity: ArcSwap::new(identity),
            changing: Mutex::default(),
            channels: Mutex::default(),
            keys: Mutex::default(),
            messages: Mutex::default(),
        }
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    pub(crate) fn set_identity(&self, identity: Arc<Identity>) {
        self.identity.store(identity);
    }

    /// To be held from noting or forgetting a channel until the group has been joined or left.
    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    /// The channels, in the order of joining.
    pub(crate) fn channels(&self) -> Vec<ChannelName> {
        self.channels.lock().names.iter().map(|noted| noted.name.clone()).collect()
    }

    /// The channels that it is in by the rules and not by the backend's will.
    pub(crate) fn channels_by_rule(&self) -> Vec<ChannelName> {
        let channels = self.channels.lock();
        let by_rule = channels.names.iter().filter(|noted| !noted.is_by_backend);
        by_rule.map(|noted| noted.name.clone()).collect()
    }

    /// Notes a channel. False when it was noted already.
    pub(crate) fn note(
        &self,
        channel: &ChannelName,
        limit: usize,
        is_by_backend: bool,
    ) -> Result<bool, Unnoted> {
        let mut channels = self.channels.lock();
        if channels.is_over {
            return Err(Unnoted::Over);
        }
        if let Some(noted) = channels.names.iter_mut().find(|noted| noted.name == *channel) {
            noted.is_by_backend |= is_by_backend;
            return Ok(false);
        }
        if channels.names.len() >= limit {
            return Err(Unnoted::Limit);
        }
        channels.names.push(Noted { name: channel.clone(), is_by_backend });
        Ok(true)
    }

    /// Forgets a channel. False when it was not noted.
    pub(crate) fn forget(&self, channel: &ChannelName) -> bool {
        let mut channels = self.channels.lock();
        let before = channels.names.len();
        channels.names.retain(|noted| noted.name != *channel);
        channels.names.len() < before
    }

    /// Notes a group to leave at the end.
    pub(crate) fn note_key(&self, key: Key) {
        self.keys.lock().push(key);
    }

    /// Everything that has to be left. The list of channels stays readable: `$disconnect` tells it.
    pub(crate) fn end(&self) -> (Vec<ChannelName>, Vec<Key>) {
        let mut channels = self.channels.lock();
        channels.is_over = true;
        let names = channels.names.iter().map(|noted| noted.name.clone()).collect();
        (names, std::mem::take(&mut *self.keys.lock()))
    }
}

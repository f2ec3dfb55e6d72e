//! What a connection has beyond API Gateway: who its client is, and which groups it belongs to.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidegate_core::channel::ChannelName;
use tidegate_core::identity::Identity;
use tidegate_core::throttle::Bucket;

use crate::groups::Key;

/// Part of a handle.
#[derive(Debug)]
pub(crate) struct Membership {
    identity: ArcSwap<Identity>,
    /// In the order of joining.
    channels: Mutex<Channels>,
    /// Groups that follow from identity and address; left at the end.
    keys: Mutex<Vec<Key>>,
    /// Messages that the client may still send.
    pub(crate) messages: Mutex<Option<Bucket>>,
}

#[derive(Debug, Default)]
struct Channels {
    names: Vec<ChannelName>,
    /// The connection has ended: nothing is joined any more.
    is_over: bool,
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

    /// The channels, in the order of joining.
    pub(crate) fn channels(&self) -> Vec<ChannelName> {
        self.channels.lock().names.clone()
    }

    /// Notes a channel. False when it was noted already.
    pub(crate) fn note(&self, channel: &ChannelName, limit: usize) -> Result<bool, Unnoted> {
        let mut channels = self.channels.lock();
        if channels.is_over {
            return Err(Unnoted::Over);
        }
        if channels.names.contains(channel) {
            return Ok(false);
        }
        if channels.names.len() >= limit {
            return Err(Unnoted::Limit);
        }
        channels.names.push(channel.clone());
        Ok(true)
    }

    /// Forgets a channel. False when it was not noted.
    pub(crate) fn forget(&self, channel: &ChannelName) -> bool {
        let mut channels = self.channels.lock();
        let before = channels.names.len();
        channels.names.retain(|name| name != channel);
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
        (channels.names.clone(), std::mem::take(&mut *self.keys.lock()))
    }
}

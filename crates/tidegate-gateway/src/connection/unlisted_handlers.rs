//! Names of handlers that are on no list and have been reported: each is reported once.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::snapshot::Stage;

/// Names that are remembered; at the bound no more are reported.
const MAX_NAMES: usize = 1000;

type Seen = HashSet<(Arc<str>, Arc<str>, String)>;

#[derive(Debug, Default)]
pub(crate) struct UnlistedHandlers {
    seen: Mutex<Seen>,
}

impl UnlistedHandlers {
    /// True the first time.
    pub(crate) fn is_new(&self, stage: &Stage, handler: &str) -> bool {
        let key = (Arc::clone(&stage.api_id), Arc::clone(&stage.name), handler.to_owned());
        let mut seen = self.seen.lock();
        seen.len() < MAX_NAMES && seen.insert(key)
    }
}

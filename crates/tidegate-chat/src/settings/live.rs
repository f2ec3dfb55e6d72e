//! Settings that change while connections are open.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Settings;
use super::extension::Problem;

/// The settings of a running application. An event loads them once and keeps what it loaded.
#[derive(Debug)]
pub struct LiveSettings(ArcSwap<Settings>);

impl LiveSettings {
    /// Begins with these.
    pub fn new(settings: Settings) -> Self {
        Self(ArcSwap::from_pointee(settings))
    }

    /// Those of now.
    pub fn load(&self) -> Arc<Settings> {
        self.0.load_full()
    }

    /// Replaces them as a whole. Connections stay; their next event sees the new ones.
    ///
    /// # Errors
    /// Everything that is wrong with the new ones, and a `path` that changed: then the old ones stay.
    pub fn replace(&self, new: Settings) -> Result<(), Vec<Problem>> {
        let mut problems = new.problems();
        let path = &self.0.load().path;
        if *path != new.path {
            problems.push(Problem {
                path: "chat.path".to_owned(),
                message: format!("is \"{path}\" and can only change with a restart").into(),
            });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.0.store(Arc::new(new));
        Ok(())
    }
}

//! A list that grows while a test runs, and on whose content it waits.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Everything that happened so far.
#[derive(Debug)]
pub(crate) struct Record<T> {
    items: Mutex<Vec<T>>,
    len: watch::Sender<usize>,
}

impl<T> Default for Record<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), len: watch::Sender::new(0) }
    }
}

impl<T: Clone> Record<T> {
    pub(crate) fn push(&self, item: T) {
        let mut items = self.items.lock();
        items.push(item);
        self.len.send_replace(items.len());
    }

    /// Forgets what happened so far.
    pub(crate) fn clear(&self) {
        let mut items = self.items.lock();
        items.clear();
        self.len.send_replace(0);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.items.lock().clone()
    }

    pub(crate) fn count(&self, is_wanted: impl Fn(&T) -> bool) -> usize {
        self.items.lock().iter().filter(|item| is_wanted(item)).count()
    }

    /// Waits until `wanted` items fit, and returns those that do.
    pub(crate) async fn until(&self, what: &str, wanted: usize, is_wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let enough = async {
            let mut len = self.len.subscribe();
            loop {
                len.borrow_and_update();
                if self.count(&is_wanted) >= wanted {
                    return;
                }
                let _ = len.changed().await;
            }
        };
        if tokio::time::timeout(DEADLINE, enough).await.is_err() {
            panic!("{what}: {} of {wanted}", self.count(&is_wanted));
        }
        self.items.lock().iter().filter(|item| is_wanted(item)).cloned().collect()
    }
}

/// Waits until a value that nobody announces is as wanted.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let looks = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while !is_so() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, looks).await.is_ok(), "{what} never came to be");
}

//! The last lines of an instance, for callers that ask for them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// What is kept, in bytes. Source: AWS Lambda API reference, `Invoke`, `LogType`: the last 4 KB.
const MAX_BYTES: usize = 4096;

/// Between two looks whether more output has come.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks at most.
const LOOKS: usize = 10;

/// The end of a text that grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    n_lines: u64,
}

impl Tail {
    pub(crate) fn clear(&self) {
        self.0.lock().bytes.clear();
    }

    pub(crate) fn push(&self, line: &str) {
        let mut kept = self.0.lock();
        kept.n_lines += 1;
        kept.bytes.extend_from_slice(line.as_bytes());
        kept.bytes.push(b'\n');
        let surplus = kept.bytes.len().saturating_sub(MAX_BYTES);
        kept.bytes.drain(..surplus);
    }

    /// At most 4 KB; a character that was cut through is left out.
    pub(crate) fn text(&self) -> String {
        let kept = self.0.lock();
        let is_inner = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
        let cut = kept.bytes.iter().take_while(is_inner).count();
        String::from_utf8_lossy(kept.bytes.get(cut..).unwrap_or_default()).into_owned()
    }

    /// Waits until no more lines come, for a moment: output has another way than answers, and may be behind.
    pub(crate) async fn settle(&self) {
        let mut before = None;
        for _ in 0..LOOKS {
            let n_lines = self.0.lock().n_lines;
            if before == Some(n_lines) {
                return;
            }
            before = Some(n_lines);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_no_half_character() {
        let tail = Tail::default();
        tail.push("first");
        assert_eq!(tail.text(), "first\n");
        // Three bytes each: 4096 is no multiple of them.
        tail.push(&"€".repeat(2000));
        let text = tail.text();
        assert!(text.len() <= MAX_BYTES && text.len() > MAX_BYTES - 3, "{}", text.len());
        assert!(text.starts_with('€') && text.ends_with("€\n"));
        tail.clear();
        assert_eq!(tail.text(), "");
    }
}

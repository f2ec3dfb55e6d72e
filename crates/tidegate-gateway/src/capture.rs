//! Payloads of the messages of one route, kept for a short time because an operator asked for it.
//!
//! The one exception to the rule that payloads are kept nowhere. It lives in the memory of the process alone: it ends by itself,
//! is gone after a restart, and neither log lines nor the journal have any of it. What looks like a secret is taken out before it
//! is kept. While nothing is captured a message costs one load of a flag.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tidegate_core::json::Json;
use tidegate_core::log::is_credential;
use tidegate_core::notice::Place;
use tidegate_core::signature::without_tokens;

use crate::clock::now_millis;
use crate::gateway::Gateway;

/// Longest time that may be captured, in seconds. Source: our choice.
pub const MAX_SECONDS: u64 = 3600;

/// Most payload that may be kept, in bytes. Source: our choice.
pub const MAX_BYTES: usize = 8 << 20;

/// Most payloads that are kept, however short they are. Source: our choice.
const MAX_PAYLOADS: usize = 10_000;

/// How long payloads can be read after the end of their capture, in milliseconds. Source: our choice.
const KEPT_AFTER: u64 = 15 * 60 * 1000;

/// Stands for the value of a member whose name says that it is a credential.
const MASKED: &str = "****";

/// What is to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOrder {
    /// Key of the route whose messages and answers are kept.
    pub route_key: String,
    /// Only of this API.
    pub api_id: Option<String>,
    /// Only of this stage.
    pub stage: Option<String>,
    /// For so long, 1 to [`MAX_SECONDS`].
    pub seconds: u64,
    /// At most so many bytes of payload, 1 to [`MAX_BYTES`].
    pub bytes: usize,
}

/// Why no capture begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// One at a time.
    #[error("another capture is active")]
    Active,
    /// Time or bytes are outside of their bounds.
    #[error("1 to {MAX_SECONDS} seconds and 1 to {MAX_BYTES} bytes expected")]
    OutOfRange,
}

/// How a capture is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureState {
    /// What was ordered.
    pub order: CaptureOrder,
    /// Milliseconds since 1970.
    pub started_at: u64,
    /// When it ends, or when it ended; milliseconds since 1970.
    pub ends_at: u64,
    /// Whether messages are still captured.
    pub is_active: bool,
    /// Payloads that are kept.
    pub n_payloads: usize,
    /// Their bytes.
    pub n_bytes: usize,
}

/// Which way a payload went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A message of the client.
    In,
    /// What its route answered, whether or not the client gets it.
    Out,
}

impl Way {
    /// `in` or `out`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// One payload. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Captured {
    /// Milliseconds since 1970.
    pub at: u64,
    /// Of the connection.
    pub connection_id: String,
    /// Of the event.
    pub request_id: String,
    /// Which way it went.
    pub way: Way,
    /// Size of the whole payload, in bytes.
    pub size: usize,
    /// The payload without secrets, as much of it as had room; none of what is no text.
    pub text: Option<String>,
    /// There was no room for all of it.
    pub is_cut: bool,
}

impl std::fmt::Debug for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Captured").field("at", &self.at).field("way", &self.way).finish_non_exhaustive()
    }
}

/// What is captured, and what was.
#[derive(Debug, Default)]
pub(crate) struct Captures {
    is_on: AtomicBool,
    current: Mutex<Option<Capture>>,
}

#[derive(Debug)]
struct Capture {
    order: CaptureOrder,
    started_at: u64,
    ends_at: u64,
    is_active: bool,
    payloads: Vec<Captured>,
    n_bytes: usize,
}

impl Captures {
    /// Whether messages are captured; nearly never.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    fn start(&self, order: CaptureOrder, now: u64) -> Result<CaptureState, CaptureError> {
        if !(1..=MAX_SECONDS).contains(&order.seconds) || !(1..=MAX_BYTES).contains(&order.bytes) {
            return Err(CaptureError::OutOfRange);
        }
        let mut current = self.current.lock();
        self.settle(&mut current, now);
        if current.as_ref().is_some_and(|capture| capture.is_active) {
            return Err(CaptureError::Active);
        }
        let ends_at = now + order.seconds * 1000;
        let capture =
            Capture { order, started_at: now, ends_at, is_active: true, payloads: Vec::new(), n_bytes: 0 };
        let state = capture.state();
        *current = Some(capture);
        self.is_on.store(true, Ordering::Relaxed);
        Ok(state)
    }

    fn state(&self, now: u64) -> Option<CaptureState> {
        let mut current = self.current.lock();
        self.settle(&mut current, now);
        current.as_ref().map(Capture::state)
    }

    fn end(&self) -> Option<CaptureState> {
        let ended = self.current.lock().take();
        self.is_on.store(false, Ordering::Relaxed);
        ended.map(|capture| CaptureState { is_active: false, ..capture.state() })
    }

    fn of(&self, connection_id: Option<&str>, now: u64) -> Vec<Captured> {
        let mut current = self.current.lock();
        self.settle(&mut current, now);
        let payloads = current.iter().flat_map(|capture| &capture.payloads);
        payloads
            .filter(|payload| connection_id.is_none_or(|id| payload.connection_id == id))
            .cloned()
            .collect()
    }

    /// Ends what is over and forgets what is old.
    pub(crate) fn sweep(&self, now: u64) {
        // Nearly always there is nothing, and looking costs a lock that nobody holds.
        self.settle(&mut self.current.lock(), now);
    }

    fn settle(&self, current: &mut Option<Capture>, now: u64) {
        let Some(capture) = current else { return };
        if capture.is_active && now >= capture.ends_at {
            capture.is_active = false;
            self.is_on.store(false, Ordering::Relaxed);
        }
        if !capture.is_active && now >= capture.ends_at + KEPT_AFTER {
            *current = None;
        }
    }

    fn take(&self, place: &Place, way: Way, payload: &[u8], is_binary: bool, now: u64) {
        let is_wanted = |current: &Option<Capture>| {
            current.as_ref().is_some_and(|capture| capture.is_active && capture.wants(place, now))
        };
        if !is_wanted(&self.current.lock()) {
            return;
        }
        // Taking secrets out of a long message may take a while: not under the lock.
        let text = if is_binary { None } else { std::str::from_utf8(payload).ok().map(redacted) };
        let mut current = self.current.lock();
        self.settle(&mut current, now);
        let Some(capture) = current.as_mut().filter(|capture| capture.is_active && capture.wants(place, now))
        else {
            return;
        };
        let room = capture.order.bytes - capture.n_bytes;
        let kept = text.map(|text| cut(text, room));
        let is_cut = kept.as_ref().is_some_and(|(_, is_cut)| *is_cut);
        let text = kept.map(|(text, _)| text);
        capture.n_bytes += text.as_ref().map_or(0, String::len);
        let id = |id: Option<String>| id.unwrap_or_default();
        capture.payloads.push(Captured {
            at: now,
            connection_id: id(place.connection_id.map(|id| id.to_string())),
            request_id: id(place.request_id.map(|id| id.to_string())),
            way,
            size: payload.len(),
            text,
            is_cut,
        });
        if is_cut || capture.n_bytes >= capture.order.bytes || capture.payloads.len() >= MAX_PAYLOADS {
            capture.is_active = false;
            capture.ends_at = now;
            self.is_on.store(false, Ordering::Relaxed);
        }
    }
}

impl Capture {
    fn wants(&self, place: &Place, now: u64) -> bool {
        let CaptureOrder { route_key, api_id, stage, .. } = &self.order;
        now < self.ends_at
            && place.route_key.as_deref() == Some(route_key.as_str())
            && api_id.as_deref().is_none_or(|api_id| *place.api_id == *api_id)
            && stage.as_deref().is_none_or(|stage| *place.stage == *stage)
    }

    fn state(&self) -> CaptureState {
        CaptureState {
            order: self.order.clone(),
            started_at: self.started_at,
            ends_at: self.ends_at,
            is_active: self.is_active,
            n_payloads: self.payloads.len(),
            n_bytes: self.n_bytes,
        }
    }
}

impl Gateway {
    /// Keeps the payloads of a route from now on; what an earlier capture kept is forgotten.
    ///
    /// # Errors
    /// [`CaptureError`]; nothing changes.
    pub fn start_capture(&self, order: CaptureOrder, now: u64) -> Result<CaptureState, CaptureError> {
        self.captures.start(order, now)
    }

    /// The capture that is active, or the last one while its payloads can be read.
    pub fn capture(&self) -> Option<CaptureState> {
        self.captures.state(now_millis())
    }

    /// Ends the capture and forgets its payloads; how it was.
    pub fn end_capture(&self) -> Option<CaptureState> {
        self.captures.end()
    }

    /// What was captured, in the order of time; of one connection, or all of it.
    pub fn captured(&self, connection_id: Option<&str>) -> Vec<Captured> {
        self.captures.of(connection_id, now_millis())
    }

    /// Keeps a payload if somebody asked for it.
    pub(crate) fn capture_payload(&self, place: &Place, way: Way, payload: &[u8], is_binary: bool, now: u64) {
        if self.captures.is_on() {
            self.captures.take(place, way, payload, is_binary, now);
        }
    }
}

/// As much of a text as has room, and whether that is not all.
fn cut(mut text: String, room: usize) -> (String, bool) {
    if text.len() <= room {
        return (text, false);
    }
    let mut end = room;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.shrink_to_fit();
    (text, true)
}

/// A payload as it may be kept: values of members with the name of a credential are masked, and whatever has the shape of a
/// token is replaced, wherever it stands. Order and numbers stay as they are written.
fn redacted(text: &str) -> String {
    let begins_json = text.trim_start().starts_with(['{', '[']);
    let Some(mut document) = begins_json.then(|| Json::parse(text).ok()).flatten() else {
        return without_tokens(text);
    };
    mask(&mut document);
    let mut kept = String::with_capacity(text.len());
    match document.write_json(&mut kept, usize::MAX) {
        true => kept,
        false => without_tokens(text),
    }
}

fn mask(value: &mut Json<'_>) {
    match value {
        Json::Text(text) => *text = without_tokens(text).into(),
        Json::Array(items) => items.iter_mut().for_each(mask),
        Json::Object(members) => {
            for (name, value) in members {
                // Null and booleans open nothing, and whether there is one may be what is looked for.
                if is_credential(name) && !matches!(value, Json::Null | Json::Bool(_)) {
                    *value = Json::Text(MASKED.into());
                } else {
                    mask(value);
                }
                *name = without_tokens(name).into();
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_core::id::RequestId;

    use super::*;

    fn order(seconds: u64, bytes: usize) -> CaptureOrder {
        CaptureOrder { route_key: "send".to_owned(), api_id: None, stage: None, seconds, bytes }
    }

    fn place(route: &str) -> Place {
        Place {
            api_id: Arc::from("a1"),
            stage: Arc::from("prod"),
            request_id: Some(RequestId::new(1, 1)),
            route_key: Some(Arc::from(route)),
            ..Place::default()
        }
    }

    fn texts(captures: &Captures, now: u64) -> Vec<String> {
        captures.of(None, now).into_iter().map(|payload| payload.text.unwrap_or_default()).collect()
    }

    #[test]
    fn only_the_route_that_was_ordered_is_kept() {
        // DX-10
        let captures = Captures::default();
        assert!(!captures.is_on());
        let narrow =
            CaptureOrder { api_id: Some("a1".to_owned()), stage: Some("prod".to_owned()), ..order(5, 100) };
        captures.start(narrow.clone(), 1000).unwrap();
        assert!(captures.is_on());
        captures.take(&place("send"), Way::In, b"one", false, 1001);
        captures.take(&place("other"), Way::In, b"two", false, 1002);
        let elsewhere = Place { stage: Arc::from("beta"), ..place("send") };
        captures.take(&elsewhere, Way::In, b"three", false, 1002);
        captures.take(&place("send"), Way::Out, b"four", false, 1003);
        assert_eq!(texts(&captures, 1004), ["one", "four"]);
        assert_eq!(captures.start(narrow, 1004), Err(CaptureError::Active));
    }

    #[test]
    fn it_ends_after_its_time_and_is_forgotten_later() {
        // DX-10
        let captures = Captures::default();
        captures.start(order(5, 100), 1000).unwrap();
        captures.take(&place("send"), Way::In, b"in time", false, 5999);
        captures.take(&place("send"), Way::In, b"too late", false, 6000);
        captures.sweep(6000);
        assert!(!captures.is_on());
        assert_eq!(texts(&captures, 6000), ["in time"]);
        let state = captures.state(6000).unwrap();
        assert_eq!((state.is_active, state.n_payloads, state.n_bytes), (false, 1, 7));
        captures.sweep(6000 + KEPT_AFTER);
        assert_eq!(captures.state(6000 + KEPT_AFTER), None);
    }

    #[test]
    fn it_ends_when_its_bytes_are_used_up() {
        // DX-10
        let captures = Captures::default();
        captures.start(order(5, 10), 1000).unwrap();
        captures.take(&place("send"), Way::In, b"12345678", false, 1001);
        captures.take(&place("send"), Way::In, "ab\u{e9}".as_bytes(), false, 1002);
        captures.take(&place("send"), Way::In, b"x", false, 1003);
        assert!(!captures.is_on());
        assert_eq!(texts(&captures, 1004), ["12345678", "ab"]);
        assert!(captures.of(None, 1004)[1].is_cut);
        for wrong in [order(0, 1), order(MAX_SECONDS + 1, 1), order(1, 0), order(1, MAX_BYTES + 1)] {
            assert_eq!(captures.start(wrong, 2000), Err(CaptureError::OutOfRange));
        }
        // What is over makes room for the next one, and an order to end takes everything away.
        captures.start(order(5, 10), 2000).unwrap();
        assert_eq!(texts(&captures, 2000), [""; 0]);
        captures.take(&place("send"), Way::In, b"y", false, 2001);
        assert_eq!(captures.end().unwrap().n_payloads, 1);
        assert!(!captures.is_on() && captures.of(None, 2002).is_empty());
    }

    #[test]
    fn secrets_are_taken_out_before_anything_is_kept() {
        // DX-10
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";
        for (text, expected) in [
            (format!("hello {jwt}!"), "hello <token>!".to_owned()),
            (format!(r#"{{"{jwt}":1}}"#), r#"{"<token>":1}"#.to_owned()),
            (
                format!(
                    r#"{{"action":"send","accessToken":"abc","pin":{{"password":1234}},"x":["{jwt}"],"n":1.50}}"#
                ),
                r#"{"action":"send","accessToken":"****","pin":{"password":"****"},"x":["<token>"],"n":1.50}"#
                    .to_owned(),
            ),
            (
                r#"{"cookies":["a=b"],"token":null}"#.to_owned(),
                r#"{"cookies":"****","token":null}"#.to_owned(),
            ),
        ] {
            let captures = Captures::default();
            captures.start(order(5, 1000), 1000).unwrap();
            captures.take(&place("send"), Way::In, text.as_bytes(), false, 1001);
            let kept = captures.of(None, 1002).remove(0);
            assert_eq!(kept.text.as_deref(), Some(expected.as_str()));
            assert_eq!(kept.size, text.len());
            assert!(!format!("{kept:?}").contains("hello"));
        }
        // Of what is no text only the size is kept.
        let captures = Captures::default();
        captures.start(order(5, 1000), 1000).unwrap();
        captures.take(&place("send"), Way::In, b"AAECAwQ=", true, 1001);
        captures.take(&place("send"), Way::In, b"\xff\xfe", false, 1001);
        assert!(captures.of(None, 1002).iter().all(|kept| kept.text.is_none()));
    }
}

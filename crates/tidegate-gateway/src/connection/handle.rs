//! What the rest of the gateway holds of a connection: its facts, its state and its outbox.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tidegate_core::context::{Authorized, ConnectionFacts, SessionFacts};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{FactValue, Facts};
use tidegate_core::limits;
use tidegate_core::notice::ClosedBy;
use tidegate_core::snapshot::Stage;
use tidegate_ws::{CloseCode, CloseFrame, DeflateParams, OutboundMessage};

use super::close_reason;
use super::membership::Membership;
use super::recent::{Recent, RecentMessage};

/// Why a connection ends, as its client and its backend will see it.
#[derive(Debug, Clone)]
pub(crate) struct CloseCause {
    /// Sent to the client; none when it can no longer hear it.
    pub(crate) frame: Option<CloseFrame>,
    /// `disconnectStatusCode`.
    pub(crate) code: u16,
    /// `disconnectReason`.
    pub(crate) reason: String,
    pub(crate) by: ClosedBy,
    pub(crate) diagnosis: Diagnosis,
    /// What later posts are told.
    pub(crate) gone: Diagnosis,
    /// What the catalogue names as proof.
    pub(crate) facts: Facts,
}

impl CloseCause {
    /// The gateway ends a connection, and says so. `reason` is one of [`super::close_reason`].
    pub(crate) fn by_gateway(code: CloseCode, reason: &str, diagnosis: Diagnosis) -> Self {
        Self {
            code: code.as_u16(),
            frame: Some(CloseFrame::new(code, reason)),
            reason: reason.to_owned(),
            by: ClosedBy::Gateway,
            diagnosis,
            gone: Diagnosis::GONE_SERVER_CLOSED,
            facts: Facts::none(),
        }
    }

    /// The gateway ends a connection that has broken a rule: 1008.
    pub(crate) fn policy_violation(reason: &str, diagnosis: Diagnosis) -> Self {
        Self::by_gateway(CloseCode::POLICY_VIOLATION, reason, diagnosis)
    }

    /// No close frame came and none can be sent: 1006.
    pub(crate) fn lost(diagnosis: Diagnosis) -> Self {
        Self {
            frame: None,
            code: 1006,
            reason: close_reason::ABNORMALLY.to_owned(),
            by: ClosedBy::Network,
            diagnosis,
            gone: Diagnosis::GONE_NETWORK,
            facts: Facts::none(),
        }
    }

    /// A management call or an administrator ends a connection.
    pub(crate) fn requested(frame: CloseFrame, diagnosis: Diagnosis) -> Self {
        Self {
            code: frame.code.as_u16(),
            reason: frame.reason.clone(),
            frame: Some(frame),
            by: ClosedBy::Backend,
            diagnosis,
            gone: Diagnosis::GONE_SERVER_CLOSED,
            facts: Facts::none(),
        }
    }

    /// With one more fact.
    pub(crate) fn with(mut self, name: &'static str, value: impl FactValue) -> Self {
        self.facts.add(name, value);
        self
    }
}

/// Why a push was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushRefusal {
    /// The handshake is not over.
    Pending,
    /// The connection has ended.
    Gone,
    /// The client reads too slowly: its outbox is at its bound.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `$connect` is running; nothing may be pushed.
    Pending,
    /// As [`State::Pending`], but pushes wait for the 101.
    PendingQueue,
    Open,
    Closed,
}

/// One connection, shared. Dropping the last reference frees it; the registry holds one while it is open.
pub(crate) struct Handle {
    pub(crate) facts: Arc<ConnectionFacts>,
    /// The reference that the client made for its attempt.
    pub(crate) client_ref: Option<Arc<str>>,
    /// Stage of the handshake; its settings apply for the life of the connection.
    pub(crate) stage: Arc<Stage>,
    /// Handshake headers that go with every event, where that is switched on.
    pub(crate) kept_headers: Option<Box<http::HeaderMap>>,
    /// Identity and groups; only where there are any.
    membership: OnceLock<Box<Membership>>,
    /// What the authorization of the `$connect` route established; only where it demands one.
    authorized: OnceLock<Arc<Authorized>>,
    outbox: Mutex<Outbox>,
    /// Milliseconds since 1970: last message in either direction.
    last_active: AtomicU64,
    /// Milliseconds since 1970: last message from the client; 0 = none yet.
    last_received: AtomicU64,
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    /// Milliseconds since 1970 of the ping that waits for an answer; 0 = none.
    pinged_at: AtomicU64,
    /// Pings of the gateway since the client was last heard.
    n_unanswered: AtomicU32,
    /// Milliseconds since 1970 of the last pong; 0 = none yet.
    ponged_at: AtomicU64,
    /// Milliseconds since 1970 of the last application heartbeat without a reply; 0 = none.
    heartbeat_at: AtomicU64,
    /// Remarks that were made about it, one bit for each kind.
    remarks: AtomicU32,
    /// Milliseconds of the longest time for which the socket took nothing.
    longest_block: AtomicU64,
    /// Milliseconds since 1970 since when the socket takes nothing; 0 = it does.
    blocked_since: AtomicU64,
    /// The wheel holds an entry that looks after `blocked_since`.
    has_stall_entry: AtomicBool,
    /// Milliseconds since 1970; `u64::MAX` = never.
    pub(crate) age_deadline: u64,
    /// Set at the 101 when compression was agreed on.
    deflate: OnceLock<DeflateParams>,
    /// When the newest messages passed; made by the first.
    recent: OnceLock<Box<Recent>>,
}

#[derive(Debug)]
struct Outbox {
    frames: VecDeque<Bytes>,
    /// Bytes in `frames` and on their way into the socket.
    queued_bytes: usize,
    /// Most bytes that have waited at a time.
    high_water: usize,
    state: State,
    close: Option<Box<CloseCause>>,
    waker: Option<Waker>,
    messages_out: u64,
    bytes_out: u64,
    /// Milliseconds since 1970: last message to the client; 0 = none yet.
    last_sent: u64,
}

/// What has passed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    /// Payload.
    pub(crate) bytes_in: u64,
    /// Payload.
    pub(crate) bytes_out: u64,
    /// Milliseconds since 1970; 0 = never.
    pub(crate) last_received_at: u64,
    /// Milliseconds since 1970; 0 = never.
    pub(crate) last_sent_at: u64,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("connection_id", &self.facts.connection_id).finish_non_exhaustive()
    }
}

impl Handle {
    /// A connection whose handshake is under way. `accepts_pending`: pushes wait for the 101.
    pub(crate) fn new(
        facts: Arc<ConnectionFacts>,
        stage: Arc<Stage>,
        kept_headers: Option<Box<http::HeaderMap>>,
        accepts_pending: bool,
        age_deadline: u64,
    ) -> Self {
        let last_active = AtomicU64::new(facts.connected_at);
        Self {
            facts,
            client_ref: None,
            stage,
            kept_headers,
            membership: OnceLock::new(),
            authorized: OnceLock::new(),
            outbox: Mutex::new(Outbox {
                frames: VecDeque::new(),
                queued_bytes: 0,
                high_water: 0,
                state: if accepts_pending { State::PendingQueue } else { State::Pending },
                close: None,
                waker: None,
                messages_out: 0,
                bytes_out: 0,
                last_sent: 0,
            }),
            last_active,
            last_received: AtomicU64::new(0),
            messages_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            pinged_at: AtomicU64::new(0),
            n_unanswered: AtomicU32::new(0),
            ponged_at: AtomicU64::new(0),
            heartbeat_at: AtomicU64::new(0),
            remarks: AtomicU32::new(0),
            longest_block: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            has_stall_entry: AtomicBool::new(false),
            age_deadline,
            deflate: OnceLock::new(),
            recent: OnceLock::new(),
        }
    }

    /// Puts a message into the outbox without waiting. The bytes are shared, not copied.
    ///
    /// # Errors
    /// [`PushRefusal`]; nothing was queued.
    pub(crate) fn push(&self, message: &OutboundMessage, now: u64) -> Result<(), PushRefusal> {
        let mut outbox = self.enqueue(message, now)?;
        let waker = outbox.waker.take();
        drop(outbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// As [`Self::push`], for the connection's own task only: it is awake and looks at its outbox before it sleeps,
    /// so waking it would be one more turn for nothing, and often another thread that looks for work.
    ///
    /// # Errors
    /// [`PushRefusal`]; nothing was queued.
    pub(crate) fn push_reply(&self, message: &OutboundMessage, now: u64) -> Result<(), PushRefusal> {
        self.enqueue(message, now).map(drop)
    }

    fn enqueue(&self, message: &OutboundMessage, now: u64) -> Result<MutexGuard<'_, Outbox>, PushRefusal> {
        // Compressing may take a while: not under the lock.
        let frames = message.frames(self.deflate.get().copied());
        let mut outbox = self.outbox.lock();
        match outbox.state {
            State::Open | State::PendingQueue => {}
            State::Pending => return Err(PushRefusal::Pending),
            State::Closed => return Err(PushRefusal::Gone),
        }
        if outbox.close.is_some() {
            return Err(PushRefusal::Gone);
        }
        let limit = self.stage.settings.data_plane.outbound_buffer_bytes;
        let is_over = outbox.queued_bytes > 0 && outbox.queued_bytes + frames.len() > limit;
        if is_over || outbox.frames.len() >= limits::MAX_OUTBOX_FRAMES {
            return Err(PushRefusal::Full);
        }
        outbox.queued_bytes += frames.len();
        outbox.high_water = outbox.high_water.max(outbox.queued_bytes);
        self.recent().sent(outbox.messages_out, now.saturating_sub(self.facts.connected_at), message.len());
        outbox.messages_out += 1;
        outbox.bytes_out += message.len() as u64;
        outbox.last_sent = now;
        outbox.frames.push_back(frames);
        self.touch(now);
        Ok(outbox)
    }

    /// Puts a control frame into the outbox; dropped when the outbox is at its bound, because a peer that does
    /// not read needs no pong.
    pub(crate) fn push_control(&self, frame: Bytes) {
        let mut outbox = self.outbox.lock();
        if outbox.state == State::Open && outbox.frames.len() < limits::MAX_OUTBOX_FRAMES {
            outbox.queued_bytes += frame.len();
            outbox.frames.push_back(frame);
            if let Some(waker) = outbox.waker.take() {
                drop(outbox);
                waker.wake();
            }
        }
    }

    /// As [`Self::push_reply`], but before everything that waits. Dropped where the outbox is at its bound in frames.
    pub(crate) fn push_first(&self, message: &OutboundMessage, now: u64) {
        let frames = message.frames(self.deflate.get().copied());
        let mut outbox = self.outbox.lock();
        if outbox.state == State::Open && outbox.frames.len() < limits::MAX_OUTBOX_FRAMES {
            outbox.queued_bytes += frames.len();
            let since_open = now.saturating_sub(self.facts.connected_at);
            self.recent().sent(outbox.messages_out, since_open, message.len());
            outbox.messages_out += 1;
            outbox.bytes_out += message.len() as u64;
            outbox.last_sent = now;
            outbox.frames.push_front(frames);
            self.touch(now);
        }
    }

    /// Asks the connection to end. The first cause wins; false when it was ending or over already.
    pub(crate) fn close(&self, cause: CloseCause) -> bool {
        let mut outbox = self.outbox.lock();
        if outbox.close.is_some() || outbox.state == State::Closed {
            return false;
        }
        outbox.close = Some(Box::new(cause));
        if let Some(waker) = outbox.waker.take() {
            drop(outbox);
            waker.wake();
        }
        true
    }

    /// Why it is ending, if it is.
    pub(crate) fn ending(&self) -> Option<Box<CloseCause>> {
        self.outbox.lock().close.clone()
    }

    /// The 101 has been written: pushes are taken from now on.
    pub(crate) fn open(&self, deflate: Option<DeflateParams>) {
        let mut outbox = self.outbox.lock();
        if matches!(outbox.state, State::Pending | State::PendingQueue) {
            outbox.state = State::Open;
            if let Some(deflate) = deflate {
                let _ = self.deflate.set(deflate);
            }
        }
    }

    /// Nothing is taken any more. Returns what still waited.
    pub(crate) fn finish(&self) -> VecDeque<Bytes> {
        let mut outbox = self.outbox.lock();
        outbox.state = State::Closed;
        outbox.waker = None;
        std::mem::take(&mut outbox.frames)
    }

    /// Identity and groups; made on the first call.
    pub(crate) fn membership(&self) -> &Membership {
        self.membership.get_or_init(Box::default)
    }

    /// Identity and groups, unless there are none.
    pub(crate) fn membership_if_any(&self) -> Option<&Membership> {
        self.membership.get().map(AsRef::as_ref)
    }

    /// What authorizer, signature and API key established.
    pub(crate) fn authorized(&self) -> Option<Arc<Authorized>> {
        self.authorized.get().cloned()
    }

    /// Sets what authorizer, signature and API key established; once, before `$connect`.
    pub(crate) fn set_authorized(&self, authorized: Authorized) {
        let _ = self.authorized.set(Arc::new(authorized));
    }

    /// Milliseconds since 1970 from which on the authorizer's decision is too old, where that ends a connection.
    pub(crate) fn authorization_ends_at(&self) -> Option<u64> {
        let max_age = self.stage.settings.authorizer.max_age;
        let is_authorizers = self.authorized.get().is_some_and(|authorized| authorized.authorizer.is_some());
        (max_age > 0 && is_authorizers).then(|| self.facts.connected_at.saturating_add(max_age * 1000))
    }

    /// What backends are told of identity and channels; nothing for a connection without them.
    pub(crate) fn session_facts(&self) -> Option<SessionFacts> {
        let membership = self.membership_if_any()?;
        let channels = membership.channels();
        let names: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
        Some(SessionFacts { identity: membership.identity(), channels: names.join(",") })
    }

    /// Whether the outbox takes so many messages of so many bytes, frame headers included, at once.
    pub(crate) fn has_room(&self, n_messages: usize, n_bytes: usize) -> bool {
        let outbox = self.outbox.lock();
        outbox.queued_bytes + n_bytes <= self.stage.settings.data_plane.outbound_buffer_bytes
            && outbox.frames.len() + n_messages <= limits::MAX_OUTBOX_FRAMES
    }

    fn recent(&self) -> &Recent {
        self.recent.get_or_init(Box::default)
    }

    /// The newest messages of both ways, in the order of time.
    pub(crate) fn recent_messages(&self) -> Vec<RecentMessage> {
        let Some(recent) = self.recent.get() else { return Vec::new() };
        let traffic = self.traffic();
        recent.messages(self.facts.connected_at, traffic.messages_in, traffic.messages_out)
    }

    /// Counts a message from the client.
    pub(crate) fn received(&self, n_bytes: usize, now: u64) {
        let number = self.messages_in.fetch_add(1, Ordering::Relaxed);
        let recent = self.recent();
        let (before, scale) = (self.last_received.load(Ordering::Relaxed), self.time_scale());
        let pause = now.saturating_sub(before);
        if before > 0 && recent.may_be_pause(pause, scale) {
            recent.paused(pause, scale);
        }
        recent.received(number, now.saturating_sub(self.facts.connected_at), n_bytes);
        self.bytes_in.fetch_add(n_bytes as u64, Ordering::Relaxed);
        self.last_received.store(now, Ordering::Relaxed);
        self.touch(now);
    }

    fn time_scale(&self) -> u64 {
        u64::from(self.stage.settings.data_plane.time_scale.max(1))
    }

    /// What has passed so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let outbox = self.outbox.lock();
        Traffic {
            messages_in: self.messages_in.load(Ordering::Relaxed),
            messages_out: outbox.messages_out,
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: outbox.bytes_out,
            last_received_at: self.last_received.load(Ordering::Relaxed),
            last_sent_at: outbox.last_sent,
        }
    }

    /// Whether the handshake is still under way.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.outbox.lock().state, State::Pending | State::PendingQueue)
    }

    /// Whether the connection can be pushed to.
    pub(crate) fn is_open(&self) -> bool {
        let outbox = self.outbox.lock();
        outbox.state == State::Open && outbox.close.is_none()
    }

    /// Takes everything that waits into `writing`, or leaves a waker. `Err` when the connection is to end and
    /// nothing waits before the end.
    pub(crate) fn take_outbox(
        &self,
        writing: &mut VecDeque<Bytes>,
        context: &mut Context<'_>,
    ) -> Result<(), Box<CloseCause>> {
        let mut outbox = self.outbox.lock();
        if !outbox.frames.is_empty() {
            // The emptied queue goes back and its buffer with it: an idle connection holds neither.
            *writing = std::mem::take(&mut outbox.frames);
            return Ok(());
        }
        if let Some(cause) = outbox.close.clone() {
            return Err(cause);
        }
        if !outbox.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            outbox.waker = Some(context.waker().clone());
        }
        Ok(())
    }

    /// The cause to end for, even when frames wait before it; otherwise leaves a waker for it.
    pub(crate) fn close_requested(&self, context: &mut Context<'_>) -> Option<Box<CloseCause>> {
        let mut outbox = self.outbox.lock();
        if outbox.close.is_none()
            && !outbox.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
        {
            outbox.waker = Some(context.waker().clone());
        }
        outbox.close.clone()
    }

    /// `written` bytes have left.
    pub(crate) fn written(&self, written: usize) {
        let mut outbox = self.outbox.lock();
        outbox.queued_bytes = outbox.queued_bytes.saturating_sub(written);
    }

    /// Data passed in either direction.
    pub(crate) fn touch(&self, now: u64) {
        self.last_active.store(now, Ordering::Relaxed);
    }

    pub(crate) fn last_active(&self) -> u64 {
        self.last_active.load(Ordering::Relaxed)
    }

    /// Any frame of the peer answers a ping: it is alive.
    pub(crate) fn heard(&self) {
        if self.pinged_at.load(Ordering::Relaxed) != 0 {
            self.pinged_at.store(0, Ordering::Relaxed);
            self.n_unanswered.store(0, Ordering::Relaxed);
        }
    }

    /// When the client sent a message or a pong, or connected; milliseconds since 1970.
    pub(crate) fn last_heard(&self) -> u64 {
        let received = self.last_received.load(Ordering::Relaxed);
        received.max(self.ponged_at.load(Ordering::Relaxed)).max(self.facts.connected_at)
    }

    /// A pong has come.
    pub(crate) fn ponged(&self, now: u64) {
        self.ponged_at.store(now, Ordering::Relaxed);
    }

    /// True the first time for each kind of remark.
    pub(crate) fn remark_once(&self, kind: u32) -> bool {
        // A look first: most messages give no reason for another remark.
        self.remarks.load(Ordering::Relaxed) & kind == 0
            && self.remarks.fetch_or(kind, Ordering::Relaxed) & kind == 0
    }

    pub(crate) fn heartbeat_at(&self) -> u64 {
        self.heartbeat_at.load(Ordering::Relaxed)
    }

    pub(crate) fn set_heartbeat_at(&self, now: u64) {
        self.heartbeat_at.store(now, Ordering::Relaxed);
    }

    /// The socket takes bytes again.
    pub(crate) fn unblocked(&self, now: u64) {
        let since = self.blocked_since.swap(0, Ordering::Relaxed);
        self.longest_block.fetch_max(now.saturating_sub(since), Ordering::Relaxed);
    }

    /// What explains the end of a connection. To be asked before [`Self::finish`].
    pub(crate) fn end_facts(&self, cause: &CloseCause, now: u64) -> Facts {
        let (queue_bytes, high_water) = {
            let outbox = self.outbox.lock();
            (outbox.queued_bytes, outbox.high_water)
        };
        let mut facts = Facts::with_capacity(128);
        facts.extend(cause.facts.clone());
        if !facts.has("queueBytes") {
            facts.add("queueBytes", queue_bytes);
        }
        facts.add("by", cause.by.as_str());
        facts.add("closeCode", cause.code);
        facts.add("ageMs", now.saturating_sub(self.facts.connected_at));
        facts.add("idleMs", now.saturating_sub(self.last_active()));
        facts.add("queueHighWater", high_water);
        let unanswered = self.n_unanswered.load(Ordering::Relaxed);
        if unanswered > 0 {
            facts.add("pingsUnanswered", unanswered);
        }
        let ponged_at = self.ponged_at.load(Ordering::Relaxed);
        if ponged_at > 0 {
            facts.add("lastPongMs", now.saturating_sub(ponged_at));
        }
        let expires_at = self.membership_if_any().and_then(|membership| membership.identity().expires_at);
        facts.add_some("expiresAt", expires_at);
        if let Some(slowed) = self.recent.get().and_then(|recent| recent.slowed()) {
            facts.add("heartbeatUsualMs", slowed.usual);
            facts.add("heartbeatPauses", slowed.n_pauses);
        }
        facts
    }

    /// It reads too slowly: what waits for it at this moment is the proof.
    pub(crate) fn too_slow(&self, now: u64) -> CloseCause {
        let (queue_bytes, queue_frames) = {
            let outbox = self.outbox.lock();
            (outbox.queued_bytes, outbox.frames.len())
        };
        let since = self.blocked_since();
        let present = if since > 0 { now.saturating_sub(since) } else { 0 };
        CloseCause::policy_violation(close_reason::TOO_SLOW, Diagnosis::CONN_SLOW_CONSUMER)
            .with("queueLength", queue_frames)
            .with("queueBytes", queue_bytes)
            .with("longestWriteMs", present.max(self.longest_block.load(Ordering::Relaxed)))
    }

    pub(crate) fn pinged_at(&self) -> u64 {
        self.pinged_at.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pinged_at(&self, now: u64) {
        self.pinged_at.store(now, Ordering::Relaxed);
        self.n_unanswered.fetch_add(1, Ordering::Relaxed);
    }

    /// True once, until [`Self::release_stall_entry`].
    pub(crate) fn claim_stall_entry(&self) -> bool {
        !self.has_stall_entry.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn release_stall_entry(&self) {
        self.has_stall_entry.store(false, Ordering::Relaxed);
    }

    pub(crate) fn blocked_since(&self) -> u64 {
        self.blocked_since.load(Ordering::Relaxed)
    }

    pub(crate) fn set_blocked_since(&self, now: u64) {
        self.blocked_since.store(now, Ordering::Relaxed);
    }
}

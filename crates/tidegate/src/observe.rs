//! Where notices go: log line and metric together, and the journal for whoever asks why later.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tidegate_admin::LogLines;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::Level;
use tidegate_core::id::ConnectionId;
use tidegate_core::notice::{Notice, NoticeSink, Place};
use tidegate_doctor::journal::Journal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;
use crate::metrics::Metrics;

/// Log lines that are kept for reports, and bytes of each.
const KEPT_LINES: usize = 1000;
const KEPT_BYTES: usize = 2048;

/// The newest log lines of this process, for reports: at most [`KEPT_LINES`] of at most [`KEPT_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct RecentLog {
    lines: Mutex<VecDeque<String>>,
}

static RECENT: LazyLock<Arc<RecentLog>> = LazyLock::new(Arc::default);

/// What was logged last.
pub(crate) fn recent_log() -> Arc<RecentLog> {
    Arc::clone(&RECENT)
}

impl RecentLog {
    fn add(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(KEPT_BYTES)]);
        let line = plain(text.trim_end());
        let mut lines = self.lines.lock();
        if lines.len() >= KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl LogLines for RecentLog {
    fn lines(&self) -> Vec<String> {
        self.lines.lock().iter().cloned().collect()
    }
}

/// Without the colors of a terminal.
fn plain(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, colored)) = rest.split_once('\u{1b}') {
        kept.push_str(before);
        rest = colored.split_once('m').map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept
}

/// Name of the log lines that are an API's own execution log: they may hold payloads, if its owner wants them to.
const EXECUTION: &str = "tidegate::execution";

/// Writes lines to standard error, and keeps those of the gateway itself.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Tee;

    fn make_writer(&'a self) -> Tee {
        Tee { is_kept: true }
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Tee {
        Tee { is_kept: metadata.target() != EXECUTION }
    }
}

/// Writes a line to standard error, and keeps it for reports.
struct Tee {
    is_kept: bool,
}

impl io::Write for Tee {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_kept {
            RECENT.add(line);
        }
        // As a whole: lines of other threads must not come in between.
        io::stderr().lock().write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts logging to standard error. `TIDEGATE_LOG` replaces `level` by filters.
pub(crate) fn start_logging(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines).with_target(false);
    // A second start in one process is a test's; the first stays.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}

/// Takes every notice of the data plane.
#[derive(Debug)]
pub(crate) struct Observer {
    metrics: Arc<Metrics>,
    /// None where nothing is kept.
    journal: Option<Arc<Journal>>,
}

impl Observer {
    pub(crate) fn new(metrics: Arc<Metrics>, journal: Option<Arc<Journal>>) -> Self {
        Self { metrics, journal }
    }
}

impl NoticeSink for Observer {
    fn take(&self, notice: Notice) {
        self.metrics.count(&notice);
        log(&notice);
        if let Some(journal) = &self.journal {
            journal.take(notice);
        }
    }

    fn keeps_facts(&self) -> bool {
        self.journal.is_some()
    }

    fn wants_success(&self, connection_id: ConnectionId) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.wants_success(connection_id))
    }
}

/// The fields of a place that are known, for a log line.
struct Fields<'a>(&'a Place);

impl Fields<'_> {
    fn connection_id(&self) -> Option<tracing::field::DisplayValue<tidegate_core::id::ConnectionId>> {
        self.0.connection_id.map(tracing::field::display)
    }

    fn request_id(&self) -> Option<tracing::field::DisplayValue<tidegate_core::id::RequestId>> {
        self.0.request_id.map(tracing::field::display)
    }

    fn route_key(&self) -> Option<&str> {
        self.0.route_key.as_deref()
    }
}

/// A log line at a level that is known only at run time.
macro_rules! at_level {
    ($level:expr, $($fields:tt)*) => {
        match $level {
            Level::Debug => tracing::debug!($($fields)*),
            Level::Info => tracing::info!($($fields)*),
            Level::Warn => tracing::warn!($($fields)*),
            Level::Error => tracing::error!($($fields)*),
        }
    };
}

/// A log line with the place in front.
macro_rules! line {
    ($level:expr, $place:expr, $($fields:tt)*) => {{
        let place = Fields($place);
        at_level!(
            $level,
            api_id = &*place.0.api_id,
            stage = &*place.0.stage,
            connection_id = place.connection_id(),
            request_id = place.request_id(),
            route_key = place.route_key(),
            $($fields)*
        )
    }};
}

fn log(notice: &Notice) {
    match notice {
        Notice::ConnectionOpened { place, duration, .. } => {
            line!(Level::Debug, place, duration_ms = duration.as_millis() as u64, "connection opened");
        }
        Notice::HandshakeRefused { place, status, code, diagnosis, detail, duration, .. } => line!(
            code.row().level,
            place,
            status,
            code = code.as_str(),
            diag = diagnosis.as_str(),
            detail,
            duration_ms = duration.as_millis() as u64,
            "handshake refused"
        ),
        Notice::SubprotocolTrouble { place, diagnosis, .. } => {
            let is_backends =
                [Diagnosis::SUBPROTOCOL_NOT_OFFERED, Diagnosis::SUBPROTOCOL_SEVERAL].contains(diagnosis);
            let level = if is_backends { Level::Warn } else { Level::Info };
            line!(level, place, diag = diagnosis.as_str(), "subprotocol not agreed");
        }
        Notice::MessageHandled { place, size, status, dropped_reply, remark, .. } => {
            let dropped = dropped_reply.then_some(Diagnosis::REPLY_NO_ROUTE_RESPONSE);
            let diag = remark.or(dropped).map(Diagnosis::as_str);
            line!(Level::Debug, place, size, status, diag, "message handled");
        }
        Notice::MessageFailed { place, size, code, diagnosis, detail, .. } => line!(
            code.row().level,
            place,
            size,
            code = code.as_str(),
            diag = diagnosis.as_str(),
            detail,
            "message failed"
        ),
        Notice::BackendRefusedMessage { place, status, diagnosis, .. } => {
            line!(Level::Info, place, status, diag = diagnosis.as_str(), "backend refused a message");
        }
        Notice::IntegrationCalled { place, event_type, status, duration, .. } => {
            line!(
                Level::Debug,
                place,
                event_type,
                status,
                duration_ms = duration.as_millis() as u64,
                "integration called"
            );
        }
        Notice::ConnectionClosed {
            place,
            by,
            close_code,
            diagnosis,
            age,
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
            ..
        } => line!(
            Level::Debug,
            place,
            by = by.as_str(),
            close_code,
            diag = diagnosis.as_str(),
            age_ms = age.as_millis() as u64,
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
            "connection closed"
        ),
        Notice::DisconnectLost { place, diagnosis, detail, .. } => {
            line!(Level::Warn, place, diag = diagnosis.as_str(), detail, "disconnect event not delivered");
        }
        Notice::Pushed { place, size, .. } => line!(Level::Debug, place, size, "pushed"),
        Notice::Published { place, target, size, delivered, gone, slow, .. } => {
            line!(Level::Debug, place, target, size, delivered, gone, slow, "published");
        }
        Notice::ChannelRefused { place, channel, diagnosis, detail, .. } => {
            let channel = &**channel;
            line!(Level::Info, place, channel, diag = diagnosis.as_str(), detail, "channel refused");
        }
        Notice::WouldBeLimited { place, diagnosis, detail, .. } => {
            line!(Level::Info, place, diag = diagnosis.as_str(), detail, "limit reached, dry run");
        }
        Notice::HandlerNotAllowed { place, handler, nearest, .. } => {
            let diag = Diagnosis::HANDLER_NOT_ALLOWED.as_str();
            line!(Level::Info, place, handler, nearest, diag, "handler is not on the list");
        }
        Notice::KeySetNotFetched { place, diagnosis, detail, .. } => {
            line!(Level::Warn, place, diag = diagnosis.as_str(), detail, "key set not fetched");
        }
        Notice::PushRefused { place, status, code, diagnosis, .. } => {
            line!(
                code.row().level,
                place,
                status,
                code = code.as_str(),
                diag = diagnosis.as_str(),
                "management call refused"
            );
        }
        Notice::TokenRequested { place, refused, .. } => {
            let level = if refused.is_some() { Level::Info } else { Level::Debug };
            line!(level, place, diag = refused.map(Diagnosis::as_str), "connect token asked for");
        }
        Notice::Decided { place, kind, remark, .. } => {
            line!(Level::Debug, place, kind = kind.as_str(), diag = remark.map(Diagnosis::as_str), "decided");
        }
        Notice::MembershipChanged { place, channel, change, by } => {
            let channel = &**channel;
            line!(Level::Debug, place, channel, change, by, "channel membership changed");
        }
        Notice::Controlled { what: "capture", actor, facts, .. } => {
            let route = facts.text("object").unwrap_or_default();
            let diag = Diagnosis::LOG_PAYLOADS_CAPTURED.as_str();
            tracing::warn!(actor, route, diag, "payloads of a route are being captured");
        }
        Notice::Controlled { place, what, actor, refused, .. } => {
            line!(Level::Debug, place, what, actor, diag = refused.map(Diagnosis::as_str), "controlled");
        }
        Notice::AcceptFailed { error, diagnosis } => {
            tracing::warn!(error, diag = diagnosis.as_str(), "listener cannot accept");
        }
        Notice::ConnectionPanicked { place } => {
            line!(Level::Error, place, diag = Diagnosis::INTERNAL.as_str(), "connection task panicked");
        }
    }
}

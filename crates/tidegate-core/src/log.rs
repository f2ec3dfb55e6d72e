//! What stages log of themselves: which level, where to, and the form of a line of an execution log.
//!
//! Texts and levels are those of *Setting up CloudWatch logging for WebSocket APIs* in the API Gateway developer guide.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::access_log::{Format, target_name};
use crate::definition;
use crate::id::ConnectionId;

/// Form of the log of requests that lead to no stage.
const UNMATCHED: &str = r#"{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","time":"$context.requestTime","event":"$context.eventType","route":"$context.routeKey","domain":"$context.domainName","userAgent":"$context.identity.userAgent","status":"$context.status","error":$context.error.messageString,"responseType":"$context.error.responseType"}"#;

/// What a stage logs.
#[derive(Debug, PartialEq, Eq)]
pub struct StageLogs {
    /// One line for each event.
    pub access: Option<AccessLog>,
    default: Execution,
    /// By route key.
    routes: HashMap<String, Execution>,
}

/// Where the lines of a stage's access log go, and their form.
#[derive(Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Name of the target.
    pub target: Arc<str>,
    /// The template.
    pub format: Format,
}

/// What a stage, or one of its routes, writes into its execution log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Execution {
    /// Which lines.
    pub level: Level,
    /// Headers and payloads too: the owner of the API has asked for them.
    pub has_trace: bool,
}

/// `loggingLevel`, and the level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Nothing.
    #[default]
    Off,
    /// Failures.
    Error,
    /// Everything.
    Info,
}

impl Level {
    /// As settings and lines name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Error => "ERROR",
            Self::Info => "INFO",
        }
    }

    fn find(text: &str) -> Self {
        match text {
            "INFO" => Self::Info,
            "ERROR" => Self::Error,
            _ => Self::Off,
        }
    }
}

impl StageLogs {
    /// What a stage's settings ask for; nothing where they ask for no logs. A route's entry overrides the default member by
    /// member.
    pub fn compile(stage: &definition::Stage) -> Option<Arc<Self>> {
        let access = stage.access_log_settings.as_ref().and_then(|settings| {
            let destination = settings.destination_arn.as_deref()?;
            // The control plane has checked it; a template that slipped through logs nothing.
            let format = Format::parse(settings.format.as_deref()?).ok()?;
            Some(AccessLog { target: target_name(destination).into(), format })
        });
        let default = over(Execution::default(), &stage.default_route_settings);
        let routes: HashMap<String, Execution> = stage
            .route_settings
            .iter()
            .map(|(key, settings)| (key.clone(), over(default, settings)))
            .filter(|(_, of_route)| *of_route != default)
            .collect();
        let is_silent = default.level == Level::Off && routes.values().all(|route| route.level == Level::Off);
        (access.is_some() || !is_silent).then(|| Arc::new(Self { access, default, routes }))
    }

    /// The log of requests that lead to no stage: an access log in JSON, whose form is Tidegate's own.
    pub fn of_unmatched(target: &str) -> Arc<Self> {
        let access = Format::parse(UNMATCHED).ok().map(|format| AccessLog { target: target.into(), format });
        Arc::new(Self { access, default: Execution::default(), routes: HashMap::new() })
    }

    /// What a route writes; without one the stage's default.
    pub fn execution(&self, route_key: Option<&str>) -> Execution {
        let of_route = route_key.and_then(|key| self.routes.get(key));
        of_route.copied().unwrap_or(self.default)
    }
}

fn over(default: Execution, settings: &definition::RouteSettings) -> Execution {
    Execution {
        level: settings.logging_level.as_deref().map_or(default.level, Level::find),
        has_trace: settings.data_trace_enabled.unwrap_or(default.has_trace),
    }
}

/// One line of an execution log, and where it belongs.
#[derive(Debug, Clone)]
pub struct ExecutionLine<'a> {
    /// Its API.
    pub api_id: &'a str,
    /// Its stage.
    pub stage: &'a str,
    /// Once it is chosen.
    pub route_key: Option<&'a str>,
    /// Once it exists.
    pub connection_id: Option<ConnectionId>,
    /// Stands in front of the line too.
    pub request_id: &'a str,
    /// [`Level::Error`] or [`Level::Info`].
    pub level: Level,
    /// Holds headers or payload.
    pub is_trace: bool,
    /// The line, complete, without a line break.
    pub line: &'a str,
}

/// Takes lines. Called on hot paths: it must not block and must not wait; what it cannot take it drops and counts.
pub trait LogSink: Send + Sync + std::fmt::Debug {
    /// Takes a line of an access log, without a line break.
    fn access(&self, target: &Arc<str>, line: String);

    /// Takes a line of an execution log.
    fn execution(&self, line: &ExecutionLine<'_>);
}

/// Takes nothing: where nobody has configured logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLogs;

impl LogSink for NoLogs {
    fn access(&self, _: &Arc<str>, _: String) {}

    fn execution(&self, _: &ExecutionLine<'_>) {}
}

/// What stands for what was cut.
const TRUNCATED: &str = "[TRUNCATED]";

/// `({request_id}) {text}`, at most `limit` bytes of it, as one line: line breaks and other control characters of payloads
/// are escaped.
pub fn execution_line(request_id: &str, text: &str, limit: usize) -> String {
    let mut line = String::with_capacity((request_id.len() + text.len() + 3).min(limit));
    let _ = write!(line, "({request_id}) ");
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\u{2028}' | '\u{2029}' => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
        // The rest would only be cut.
        if line.len() > limit {
            break;
        }
    }
    if line.len() > limit {
        let mut end = limit.saturating_sub(TRUNCATED.len());
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push_str(TRUNCATED);
    }
    line
}

/// Characters of a masked value that stay.
const SHOWN: usize = 6;

/// A credential as logs show it: `*` for all but the last six characters, and for all of a short one.
pub fn masked(value: &str) -> String {
    let n_chars = value.chars().count();
    let shown = if n_chars >= 2 * SHOWN { SHOWN } else { 0 };
    value.chars().enumerate().map(|(idx, c)| if idx + shown < n_chars { '*' } else { c }).collect()
}

/// Whether a header or a query parameter of this name holds a credential. By words in it, because backends have names of
/// their own.
pub fn is_credential(name: &str) -> bool {
    const WORDS: [&str; 15] = [
        "auth",
        "cookie",
        "token",
        "secret",
        "key",
        "sign",
        "passw",
        "pwd",
        "jwt",
        "credential",
        "session",
        "ticket",
        "bearer",
        "csrf",
        "sid",
    ];
    // What a client's library sends with every handshake is no secret, and needed to see what it was.
    const KNOWN: [&str; 3] = ["sec-websocket-key", "sec-websocket-accept", "x-amz-signedheaders"];
    let name = name.to_ascii_lowercase();
    // A token may stand in the list of subprotocols.
    let is_list = name == "sec-websocket-protocol";
    is_list || (!KNOWN.contains(&name.as_str()) && WORDS.iter().any(|word| name.contains(word)))
}

/// A query string whose credentials are masked.
pub fn masked_query(query: &str) -> String {
    let masked_pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if is_credential(name) => format!("{name}={}", masked(value)),
        _ => pair.to_owned(),
    };
    query.split('&').map(masked_pair).collect::<Vec<_>>().join("&")
}

/// The JSON of an event for a function, with masked credentials in its headers and query parameters; other text as it is.
pub fn masked_event(body: &str) -> String {
    let is_event = body.starts_with('{') && body.contains("\"requestContext\"");
    let Some(mut event) = is_event.then(|| serde_json::from_str::<serde_json::Value>(body).ok()).flatten()
    else {
        return body.to_owned();
    };
    for group in [
        "headers",
        "multiValueHeaders",
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "stageVariables",
    ] {
        let members = event.get_mut(group).and_then(serde_json::Value::as_object_mut);
        for (_, value) in members.into_iter().flatten().filter(|(name, _)| is_credential(name)) {
            mask_value(value);
        }
    }
    if let Some(key) = event.pointer_mut("/requestContext/identity/apiKey") {
        mask_value(key);
    }
    event.to_string()
}

fn mask_value(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = masked(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(mask_value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{AccessLogSettings, RouteSettings, Stage};

    fn settings(level: Option<&str>, trace: Option<bool>) -> RouteSettings {
        RouteSettings {
            logging_level: level.map(str::to_owned),
            data_trace_enabled: trace,
            ..RouteSettings::default()
        }
    }

    #[test]
    fn a_route_overrides_the_default_member_by_member() {
        // AG-28
        let mut stage =
            Stage { default_route_settings: settings(Some("ERROR"), Some(true)), ..Stage::default() };
        stage.route_settings.insert("loud".to_owned(), settings(Some("INFO"), None));
        stage.route_settings.insert("plain".to_owned(), settings(None, Some(false)));
        stage.route_settings.insert("silent".to_owned(), settings(Some("OFF"), None));
        let logs = StageLogs::compile(&stage).unwrap();
        let execution = |key| logs.execution(Some(key));
        assert_eq!(execution("loud"), Execution { level: Level::Info, has_trace: true });
        assert_eq!(execution("plain"), Execution { level: Level::Error, has_trace: false });
        assert_eq!(execution("silent"), Execution { level: Level::Off, has_trace: true });
        assert_eq!(execution("other"), Execution { level: Level::Error, has_trace: true });
        assert_eq!(logs.execution(None), execution("other"));
    }

    #[test]
    fn a_stage_without_logs_has_none() {
        let mut stage =
            Stage { default_route_settings: settings(Some("OFF"), Some(true)), ..Stage::default() };
        assert_eq!(StageLogs::compile(&stage), None);
        stage.access_log_settings = Some(AccessLogSettings {
            destination_arn: Some("arn:aws:logs:us-east-1:0:log-group:chat".to_owned()),
            format: Some("no id".to_owned()),
        });
        assert_eq!(StageLogs::compile(&stage), None);
        stage.access_log_settings.as_mut().unwrap().format = Some("$context.requestId".to_owned());
        let logs = StageLogs::compile(&stage).unwrap();
        assert_eq!(&*logs.access.as_ref().unwrap().target, "chat");
    }

    #[test]
    fn long_lines_are_cut() {
        // AG-28
        assert_eq!(execution_line("id=", "Starting", 1024), "(id=) Starting");
        let cut = execution_line("id=", &"é".repeat(2000), 1024);
        assert!(cut.len() <= 1024 && cut.len() > 1020, "{}", cut.len());
        assert!(cut.starts_with("(id=) é") && cut.ends_with("é[TRUNCATED]"));
        let fits = "x".repeat(1024 - "(id=) ".len());
        assert_eq!(execution_line("id=", &fits, 1024).len(), 1024);
        assert!(!execution_line("id=", &fits, 1024).contains("TRUNCATED"));
    }

    #[test]
    fn payloads_cannot_forge_lines() {
        assert_eq!(
            execution_line("a", "x\n(b) y\r\u{1b}[31m\u{2028}", 1024),
            "(a) x\\n(b) y\\r\\u001b[31m\\u2028"
        );
    }

    #[test]
    fn credentials_are_masked() {
        // AG-28
        assert_eq!(masked("Bearer abcdefghijk"), "************fghijk");
        assert_eq!(masked("short"), "*****");
        assert_eq!(masked(""), "");
        for name in [
            "Authorization",
            "Cookie",
            "set-cookie",
            "X-Api-Key",
            "X-Amz-Security-Token",
            "Tidegate-Signature",
            "Sec-WebSocket-Protocol",
            "access_token",
            "X-Amz-Signature",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in
            ["Host", "User-Agent", "Sec-WebSocket-Key", "Origin", "Content-Type", "room", "x-amzn-trace-id"]
        {
            assert!(!is_credential(name), "{name}");
        }
        assert_eq!(masked_query("room=a&token=0123456789abcdef&x"), "room=a&token=**********abcdef&x");
    }

    #[test]
    fn events_of_functions_are_masked() {
        let event = r#"{"headers":{"Cookie":"session=0123456789"},"multiValueHeaders":{"Cookie":["session=0123456789"]},"queryStringParameters":{"token":"abcdefghijklmnop"},"requestContext":{"identity":{"apiKey":"0123456789abcdef"}},"body":"{\"token\":\"mine\"}"}"#;
        let masked = masked_event(event);
        for secret in ["session=0", "abcdefghij", "0123456789abc"] {
            assert!(!masked.contains(secret), "{secret} in {masked}");
        }
        assert!(masked.contains("mine"), "payloads are what a trace is for: {masked}");
        assert_eq!(masked_event("plain \"requestContext\""), "plain \"requestContext\"");
    }
}

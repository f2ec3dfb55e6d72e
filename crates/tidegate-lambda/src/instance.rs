//! One instance of a function: a process, and one event at a time.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::process::Process;
use crate::runtime_api::{Api, Report, Work};
use crate::tail::Tail;
use crate::{FunctionSettings, Log, RunnerSettings};

/// How long a process may take until it asks for its first event. Source: Lambda, init phase.
const INIT_LIMIT: Duration = Duration::from_secs(10);

/// How long a process has to end when it is asked to.
const PATIENCE: Duration = Duration::from_millis(500);

/// Says of a process that are not yet taken up; a process that says more waits.
const MAX_REPORTS: usize = 16;

/// An instance that waits for events.
pub(crate) struct Instance {
    process: Process,
    work: mpsc::Sender<Work>,
    reports: mpsc::Receiver<Report>,
    server: Server,
    /// Of the function's files when it was started.
    pub(crate) fingerprint: u64,
    pub(crate) idle_since: Instant,
    /// What it and its owner have said last.
    pub(crate) tail: Tail,
    /// From the start to the first request for an event.
    pub(crate) init: Duration,
}

/// What a function has made of an event.
pub(crate) struct Ran {
    pub(crate) payload: Bytes,
    /// It raised, took too long, or its process ended.
    pub(crate) is_error: bool,
    /// The instance may get another event.
    pub(crate) is_reusable: bool,
}

/// Why there is no instance.
pub(crate) enum NotStarted {
    /// The program cannot be run at all.
    Broken(std::io::Error),
    /// The function failed before its first event; JSON.
    Failed(Bytes),
}

impl Instance {
    /// Starts a process and waits until it asks for an event.
    pub(crate) async fn start(
        function: &FunctionSettings,
        common: &RunnerSettings,
        fingerprint: u64,
        request_id: &str,
        log: &Log,
    ) -> Result<Self, NotStarted> {
        let began = Instant::now();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(NotStarted::Broken)?;
        let address = listener.local_addr().map_err(NotStarted::Broken)?;
        let environment = environment(function, common, &address.to_string());
        let tail = Tail::default();
        let log: Log = {
            let (tail, log) = (tail.clone(), Log::clone(log));
            Arc::new(move |name, line| {
                tail.push(line);
                log(name, line);
            })
        };
        let process =
            Process::start(&function.name, &function.command, &function.directory, &environment, &log)
                .map_err(NotStarted::Broken)?;
        let (work, work_of_api) = mpsc::channel(1);
        let (reports_of_api, reports) = mpsc::channel(MAX_REPORTS);
        let serving = tokio::spawn(Api::new(work_of_api, reports_of_api).serve(listener));
        let server = Server(serving.abort_handle());
        let (idle_since, init) = (began, Duration::ZERO);
        let mut instance = Self { process, work, reports, server, fingerprint, idle_since, init, tail };
        match tokio::time::timeout(INIT_LIMIT, instance.first_report()).await {
            Ok(Begun::Ready) => {
                instance.init = began.elapsed();
                Ok(instance)
            }
            Ok(Begun::Failed(payload)) => Err(NotStarted::Failed(payload)),
            Ok(Begun::Ended(status)) => Err(NotStarted::Failed(exit_error(request_id, status))),
            Err(_) => Err(NotStarted::Failed(timeout_error(request_id, INIT_LIMIT))),
        }
    }

    async fn first_report(&mut self) -> Begun {
        loop {
            tokio::select! {
                biased;
                report = self.reports.recv() => match report {
                    Some(Report::Ready) => return Begun::Ready,
                    Some(Report::InitFailed(payload)) => return Begun::Failed(payload),
                    Some(Report::Done { .. }) => {}
                    None => return Begun::Ended(None),
                },
                status = self.process.wait() => {
                    // What it said last may be on its way still.
                    let last = tokio::time::timeout(Duration::from_millis(50), self.reports.recv()).await;
                    return match last {
                        Ok(Some(Report::InitFailed(payload))) => Begun::Failed(payload),
                        _ => Begun::Ended(status.ok()),
                    };
                }
            }
        }
    }

    /// Whether its process has ended while nobody needed it.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    pub(crate) fn peak_memory_mb(&self) -> Option<u64> {
        self.process.peak_memory_mb()
    }

    /// Gives it an event and waits for the answer, at most for `limit`.
    pub(crate) async fn run(&mut self, work: Work, limit: Duration) -> Ran {
        while self.reports.try_recv().is_ok() {}
        let id = work.id.clone();
        let failed = |payload| Ran { payload, is_error: true, is_reusable: false };
        if self.work.try_send(work).is_err() {
            return failed(exit_error(&id, None));
        }
        let mut is_over = std::pin::pin!(tokio::time::sleep(limit));
        let mut ended: Option<Option<ExitStatus>> = None;
        loop {
            tokio::select! {
                biased;
                report = self.reports.recv() => match report {
                    Some(Report::Done { id: of, payload, is_error }) if of == id => {
                        return Ran { payload, is_error, is_reusable: ended.is_none() };
                    }
                    Some(Report::InitFailed(payload)) => return failed(payload),
                    Some(_) => {}
                    None => return failed(exit_error(&id, ended.flatten())),
                },
                status = self.process.wait(), if ended.is_none() => {
                    ended = Some(status.ok());
                    // What it said last may be on its way still.
                    is_over.as_mut().reset(tokio::time::Instant::now() + Duration::from_millis(50));
                }
                () = &mut is_over => {
                    return failed(match ended {
                        Some(status) => exit_error(&id, status),
                        None => timeout_error(&id, limit),
                    });
                }
            }
        }
    }

    /// Lets its process end in order.
    pub(crate) async fn end(self) {
        let Self { process, server: _server, .. } = self;
        process.end(PATIENCE).await;
    }
}

/// The task of a Runtime API; it ends with its instance.
struct Server(AbortHandle);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Begun {
    Ready,
    Failed(Bytes),
    Ended(Option<ExitStatus>),
}

fn environment(function: &FunctionSettings, common: &RunnerSettings, api: &str) -> Vec<(OsString, OsString)> {
    let today = jiff::Timestamp::now().strftime("%Y/%m/%d").to_string();
    let stream = format!("{today}/[$LATEST]{}", uuid::Uuid::new_v4().simple());
    let directory = function.directory.as_os_str();
    let mut environment = common.environment.clone();
    let own = [
        ("_HANDLER", function.handler.as_str()),
        ("AWS_REGION", &common.region),
        ("AWS_DEFAULT_REGION", &common.region),
        ("AWS_LAMBDA_FUNCTION_NAME", &function.name),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &function.memory_mb.to_string()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", &format!("/aws/lambda/{}", function.name)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", &stream),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        // Output that waits in a buffer would come after its event.
        ("PYTHONUNBUFFERED", "1"),
    ]
    .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    environment.extend(own);
    environment.push(("LAMBDA_TASK_ROOT".into(), directory.to_owned()));
    environment.extend(function.environment.iter().map(|(name, value)| (name.into(), value.into())));
    environment.push(("AWS_LAMBDA_RUNTIME_API".into(), api.into()));
    environment
}

/// As the service words it.
fn exit_error(request_id: &str, status: Option<ExitStatus>) -> Bytes {
    let reason = match status {
        Some(status) if status.success() => "Runtime exited without providing a reason".to_owned(),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
            (None, Some(signal)) => format!("Runtime exited with error: signal {signal}"),
            (None, None) => "Runtime exited".to_owned(),
        },
        None => "Runtime exited".to_owned(),
    };
    error("Runtime.ExitError", &format!("RequestId: {request_id} Error: {reason}"))
}

fn timeout_error(request_id: &str, limit: Duration) -> Bytes {
    let seconds = limit.as_secs_f64();
    error(
        "Sandbox.Timedout",
        &format!("RequestId: {request_id} Error: Task timed out after {seconds:.2} seconds"),
    )
}

fn error(error_type: &str, message: &str) -> Bytes {
    let error = serde_json::json!({ "errorType": error_type, "errorMessage": message });
    Bytes::from(error.to_string())
}

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

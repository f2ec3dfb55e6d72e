//! All functions of this machine, and who runs when.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::function::{FunctionRunner, Invocation, InvokeError, Invoked};
use tidegate_core::port::BoxFuture;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::instance::{Instance, NotStarted, Ran, now_millis};
use crate::runtime_api::Work;
use crate::{FunctionSettings, Log, RunnerSettings, files};

/// How long an instance waits for its next event before it ends. Source: our choice; the service says nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(600);

/// How often idle instances are looked at.
const SWEEP: Duration = Duration::from_secs(30);

/// A look at a function's files counts for so long.
const LOOK: Duration = Duration::from_millis(250);

/// How long [`Runner::stop`] waits for processes.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// The functions of this machine. Dropping it kills their processes.
pub struct Runner {
    functions: HashMap<String, Arc<Function>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A function and its instances.
struct Function {
    settings: FunctionSettings,
    common: Arc<RunnerSettings>,
    log: Log,
    /// The right to an instance.
    turns: Semaphore,
    n_waiting: AtomicUsize,
    /// Asynchronous events between two attempts.
    n_retrying: AtomicUsize,
    /// The one that was used last is behind.
    idle: Mutex<Vec<Instance>>,
    looked: Mutex<Option<(Instant, u64)>>,
}

impl Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("functions", &self.functions.keys().collect::<Vec<_>>()).finish()
    }
}

impl Runner {
    /// Functions that start with their first event. To be called inside of a runtime.
    pub fn new(functions: Vec<FunctionSettings>, common: RunnerSettings, log: Log) -> Self {
        let common = Arc::new(common);
        let functions: HashMap<String, Arc<Function>> = functions
            .into_iter()
            .map(|settings| {
                let function = Function {
                    turns: Semaphore::new(settings.concurrency),
                    common: Arc::clone(&common),
                    log: Log::clone(&log),
                    n_waiting: AtomicUsize::new(0),
                    n_retrying: AtomicUsize::new(0),
                    idle: Mutex::default(),
                    looked: Mutex::default(),
                    settings,
                };
                (function.settings.name.clone(), Arc::new(function))
            })
            .collect();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let sweeping = sweep(functions.values().cloned().collect());
        tasks.spawn({
            let stop = stop.clone();
            async move {
                stop.run_until_cancelled(sweeping).await;
            }
        });
        Self { functions, stop, tasks }
    }

    /// Runs a function once, waits for its result, and tells the last 4 KB of what it wrote and of what was said of it.
    ///
    /// # Errors
    /// As [`FunctionRunner::invoke`].
    pub async fn invoke_with_log(&self, invocation: Invocation) -> Result<(Invoked, String), InvokeError> {
        self.call(invocation, true).await
    }

    async fn call(&self, invocation: Invocation, wants_log: bool) -> Result<(Invoked, String), InvokeError> {
        let name = invocation.name.clone();
        let function = self.functions.get(&name).ok_or(InvokeError::Unknown { name })?;
        let waiting = Waiting::enter(function)?;
        let request_id = uuid::Uuid::new_v4().to_string();
        let (is_async, limit) = (invocation.is_async, invocation.timeout);
        let stop = self.stop.clone();
        if is_async {
            let run = run_async(waiting, invocation, request_id.clone());
            self.tasks.spawn(async move {
                stop.run_until_cancelled(run).await;
            });
            let payload = Bytes::new();
            let request_id = Some(request_id);
            return Ok((Invoked { status: 202, payload, function_error: None, request_id }, String::new()));
        }
        let (tell, told) = oneshot::channel();
        let run = run(waiting, invocation, wants_log, request_id, tell);
        // A task of its own: an event that has begun runs to its end, whoever still waits for it.
        self.tasks.spawn(async move {
            stop.run_until_cancelled(run).await;
        });
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(InvokeError::CannotStart {
                name: function.settings.name.clone(),
                reason: "the gateway stops".to_owned(),
            }),
            Err(_) => Err(InvokeError::TimedOut { after: limit }),
        }
    }

    /// Ends all processes: idle ones are asked to, busy ones are killed.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        let idle = self.functions.values().flat_map(|function| std::mem::take(&mut *function.idle.lock()));
        let ending: Vec<_> = idle.map(|instance| tokio::spawn(instance.end())).collect();
        let all = async {
            for instance in ending {
                // A task that failed has dropped its instance.
                let _ = instance.await;
            }
            self.tasks.wait().await;
        };
        let _ = tokio::time::timeout(STOP_LIMIT, all).await;
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Ends instances that nobody has needed for a while.
async fn sweep(functions: Vec<Arc<Function>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        for function in &functions {
            let is_old = |instance: &mut Instance| instance.idle_since.elapsed() >= IDLE_LIMIT;
            let old: Vec<Instance> = function.idle.lock().extract_if(.., is_old).collect();
            for instance in old {
                instance.end().await;
            }
        }
    }
}

impl FunctionRunner for Runner {
    fn has(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Invoked, InvokeError>> {
        Box::pin(async move { Ok(self.call(invocation, false).await?.0) })
    }
}

/// An event that waits for an instance.
struct Waiting(Arc<Function>);

impl Waiting {
    fn enter(function: &Arc<Function>) -> Result<Self, InvokeError> {
        let FunctionSettings { name, concurrency, queue, .. } = &function.settings;
        // Those that find an instance at once count for a moment too.
        let limit = queue + function.turns.available_permits();
        let more = |n_waiting| (n_waiting < limit).then_some(n_waiting + 1);
        match function.n_waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self(Arc::clone(function))),
            Err(_) => Err(InvokeError::TooMany { name: name.clone(), limit: *concurrency }),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.n_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An asynchronous event that has failed and is tried again.
struct Retrying(Arc<Function>);

impl Retrying {
    /// Nothing when as many wait as may.
    fn enter(function: &Arc<Function>) -> Option<Self> {
        let more = |n_retrying| (n_retrying < function.settings.queue).then_some(n_retrying + 1);
        let entered = function.n_retrying.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.is_ok().then(|| Self(Arc::clone(function)))
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.n_retrying.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs one event on an instance, an idle one or a new one.
async fn run(
    waiting: Waiting,
    invocation: Invocation,
    wants_log: bool,
    id: String,
    mut tell: oneshot::Sender<Result<(Invoked, String), InvokeError>>,
) {
    let function = Arc::clone(&waiting.0);
    let turn = tokio::select! {
        turn = function.turns.acquire() => turn,
        // Whoever wanted it has given up before it began.
        () = tell.closed() => return,
    };
    let Ok(_turn) = turn else { return };
    drop(waiting);
    let result = function.run(invocation, wants_log, &id).await;
    // Nobody may wait for it any more.
    let _ = tell.send(result);
}

/// Runs an event for whose result nobody waits; again, after a while, when it fails. The id stays.
///
/// Source: *How Lambda handles errors and retries with asynchronous invocation* in the Lambda developer guide.
async fn run_async(waiting: Waiting, invocation: Invocation, id: String) {
    let function = Arc::clone(&waiting.0);
    let mut waiting = Some(waiting);
    for attempt in 0.. {
        let Ok(turn) = function.turns.acquire().await else { return };
        drop(waiting.take());
        let result = function.run(invocation.clone(), false, &id).await;
        drop(turn);
        match result {
            Ok((Invoked { function_error: None, .. }, _)) => return,
            Ok(_) => {}
            Err(error) => function.say(&format!("RequestId: {id} Error: {error}")),
        }
        let n_attempts = attempt + 1;
        let Some(pause) = function.common.async_retries.get(attempt) else {
            function.say(&format!("RequestId: {id} Error: given up after {n_attempts} attempts"));
            return;
        };
        let Some(_place) = Retrying::enter(&function) else {
            function.say(&format!("RequestId: {id} Error: given up, too many wait for another attempt"));
            return;
        };
        tokio::time::sleep(*pause).await;
    }
}

impl Function {
    /// The text is the end of the log, where somebody wants it.
    async fn run(
        &self,
        invocation: Invocation,
        wants_log: bool,
        id: &str,
    ) -> Result<(Invoked, String), InvokeError> {
        let invoked = |payload: Bytes, is_error: bool| Invoked {
            status: 200,
            payload,
            function_error: is_error.then(|| "Unhandled".to_owned()),
            request_id: Some(id.to_owned()),
        };
        let fingerprint = self.fingerprint().await;
        let (mut instance, is_new) = match self.take_idle(fingerprint) {
            Some(instance) => (instance, false),
            None => {
                let started = Instance::start(&self.settings, &self.common, fingerprint, id, &self.log).await;
                match started {
                    Ok(instance) => (instance, true),
                    Err(NotStarted::Failed(payload)) => {
                        let line = format!("INIT_REPORT Status: error\tRequestId: {id}");
                        self.say(&line);
                        return Ok((invoked(payload, true), line));
                    }
                    Err(NotStarted::Broken(error)) => {
                        let name = self.settings.name.clone();
                        let program = self.settings.command.first().map_or("", String::as_str);
                        return Err(InvokeError::CannotStart { name, reason: format!("{program}: {error}") });
                    }
                }
            }
        };
        let tail = instance.tail.clone();
        if !is_new {
            tail.clear();
        }
        let say = |line: &str| {
            tail.push(line);
            self.say(line);
        };
        say(&format!("START RequestId: {id} Version: $LATEST"));
        let limit = self.settings.timeout;
        let work = Work {
            id: id.to_owned(),
            deadline: now_millis() + u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            arn: invocation.arn,
            trace_id: invocation.trace_id,
            payload: invocation.payload,
        };
        let began = Instant::now();
        let Ran { payload, is_error, is_reusable } = instance.run(work, limit).await;
        let duration = began.elapsed();
        if wants_log {
            tail.settle().await;
        }
        say(&format!("END RequestId: {id}"));
        say(&self.report(id, duration, is_new.then_some(instance.init), instance.peak_memory_mb()));
        let log = if wants_log { tail.text() } else { String::new() };
        if is_reusable {
            instance.idle_since = Instant::now();
            self.idle.lock().push(instance);
        } else {
            say(&format!("RequestId: {id} Error: the instance was ended"));
        }
        Ok((invoked(payload, is_error), log))
    }

    /// The instance that was used last, as what it has read is most likely in memory still. Those of older files end.
    fn take_idle(&self, fingerprint: u64) -> Option<Instance> {
        let mut over = Vec::new();
        let mut idle = self.idle.lock();
        let is_old = |instance: &mut Instance| instance.fingerprint != fingerprint;
        over.extend(idle.extract_if(.., is_old));
        while let Some(mut instance) = idle.pop() {
            if !instance.has_ended() {
                return Some(instance);
            }
            over.push(instance);
        }
        // Processes are killed behind the lock.
        drop(idle);
        None
    }

    /// Of the function's files, as they were a moment ago; always the same where nobody asked for reloads.
    async fn fingerprint(&self) -> u64 {
        if !self.settings.reload {
            return 0;
        }
        let looked = *self.looked.lock();
        if let Some((at, fingerprint)) = looked
            && at.elapsed() < LOOK
        {
            return fingerprint;
        }
        let folder = self.settings.directory.clone();
        let at = Instant::now();
        let found =
            tokio::task::spawn_blocking(move || files::fingerprint(&folder)).await.unwrap_or_default();
        *self.looked.lock() = Some((at, found));
        found
    }

    fn report(&self, id: &str, duration: Duration, init: Option<Duration>, peak_mb: Option<u64>) -> String {
        let millis = duration.as_secs_f64() * 1e3;
        let billed = millis.ceil();
        let memory = self.settings.memory_mb;
        let mut line = format!(
            "REPORT RequestId: {id}\tDuration: {millis:.2} ms\tBilled Duration: {billed} ms\tMemory Size: {memory} MB"
        );
        if let Some(peak_mb) = peak_mb {
            line.push_str(&format!("\tMax Memory Used: {peak_mb} MB"));
        }
        if let Some(init) = init {
            line.push_str(&format!("\tInit Duration: {:.2} ms", init.as_secs_f64() * 1e3));
        }
        line
    }

    fn say(&self, line: &str) {
        (self.log)(&self.settings.name, line);
    }
}

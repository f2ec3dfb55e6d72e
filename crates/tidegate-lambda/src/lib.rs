//! Functions that run on this machine, as processes that speak the Lambda Runtime API.
//!
//! [`Runner`] is what the data plane sees. Each function has instances (`instance.rs`): one process each, with a Runtime
//! API of its own on a loopback port (`runtime_api.rs`), used again for the next event, one event at a time. Whatever
//! implements the Runtime API can be a function: the runtime interface clients that AWS publishes for Python, Node, Java,
//! Go, Ruby, .NET and Rust do.
//!
//! It never looks into events or answers. Processes get nothing of the gateway's environment but what
//! [`RunnerSettings::environment`] names.

mod files;
mod instance;
mod process;
mod runner;
mod runtime_api;
mod tail;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use runner::Runner;

/// Takes lines of functions: the function's name, and the line without its end.
pub type Log = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// What is common to all functions.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// `AWS_REGION`.
    pub region: String,
    /// Of the functions' ARNs.
    pub account_id: String,
    /// Environment of every process, before what belongs to a function.
    pub environment: Vec<(OsString, OsString)>,
    /// Pauses before an asynchronous event that failed is tried again, one for each further attempt.
    pub async_retries: Vec<Duration>,
}

/// One function.
#[derive(Clone, PartialEq, Eq)]
pub struct FunctionSettings {
    /// As integrations name it.
    pub name: String,
    /// Program and arguments; whatever it is must speak the Runtime API.
    pub command: Vec<String>,
    /// `_HANDLER`.
    pub handler: String,
    /// Where it runs, and `LAMBDA_TASK_ROOT`.
    pub directory: PathBuf,
    /// Further variables; they win over all but the address of the Runtime API.
    pub environment: BTreeMap<String, String>,
    /// What the function is told that it may use, in MB. Nothing holds it to that.
    pub memory_mb: u32,
    /// How long one event may take.
    pub timeout: Duration,
    /// Instances at a time.
    pub concurrency: usize,
    /// Events that wait while all instances are busy; further ones are refused. As many asynchronous ones that have
    /// failed may wait for their next attempt; further ones are given up.
    pub queue: usize,
    /// A change in the directory replaces its instances.
    pub reload: bool,
}

/// Values of the environment may be secret.
impl std::fmt::Debug for FunctionSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionSettings")
            .field("name", &self.name)
            .field("command", &self.command)
            .field("directory", &self.directory)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

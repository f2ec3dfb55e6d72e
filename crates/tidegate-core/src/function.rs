//! Functions in the sense of AWS Lambda: something that gets one JSON document and answers with another.
//!
//! The data plane calls them for integrations of type `AWS_PROXY` and `AWS` and for authorizers. Those that this process
//! runs itself are behind [`FunctionRunner`]; all others are reached through the Invoke API of an endpoint.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;

use crate::port::BoxFuture;

/// Functions that run on this machine.
pub trait FunctionRunner: Send + Sync + Debug {
    /// Whether a function of this name (no ARN, no qualifier) runs here.
    fn has(&self, name: &str) -> bool;

    /// Runs it once and waits for its result; with [`Invocation::is_async`] only until it is queued.
    ///
    /// # Errors
    /// [`InvokeError`]; a function that raises is no error here but [`Invoked::function_error`].
    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Invoked, InvokeError>>;
}

/// One call of a function.
#[derive(Clone)]
pub struct Invocation {
    /// Name without account and region.
    pub name: String,
    /// Version or alias.
    pub qualifier: Option<String>,
    /// The whole ARN, as the function's context shows it.
    pub arn: String,
    /// JSON text.
    pub payload: Bytes,
    /// Nobody waits for the result (`X-Amz-Invocation-Type: Event`).
    pub is_async: bool,
    /// After which the caller gives up.
    pub timeout: Duration,
    /// `X-Amzn-Trace-Id`.
    pub trace_id: Option<String>,
}

/// Payloads stay out of logs.
impl Debug for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invocation")
            .field("name", &self.name)
            .field("qualifier", &self.qualifier)
            .field("bytes", &self.payload.len())
            .field("is_async", &self.is_async)
            .finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Clone)]
pub struct Invoked {
    /// Status of the Invoke API: 200, or 202 for calls without a waiting caller.
    pub status: u16,
    /// JSON text; of a failed function `{"errorMessage": ..., "errorType": ...}`.
    pub payload: Bytes,
    /// `X-Amz-Function-Error`: `Handled` or `Unhandled`. The function raised, or its process ended.
    pub function_error: Option<String>,
    /// The runtime's id of this call.
    pub request_id: Option<String>,
}

impl Debug for Invoked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invoked")
            .field("status", &self.status)
            .field("bytes", &self.payload.len())
            .field("function_error", &self.function_error)
            .field("request_id", &self.request_id)
            .finish()
    }
}

/// Why a function was not run, or its result is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// Nobody has a function of this name.
    #[error("there is no function {name}")]
    Unknown {
        /// As called.
        name: String,
    },
    /// It runs as often as it may at a time, and as many callers wait as may.
    #[error("{name} runs {limit} times already")]
    TooMany {
        /// The function.
        name: String,
        /// Instances.
        limit: usize,
    },
    /// The caller's time is over.
    #[error("no result within {} ms", after.as_millis())]
    TimedOut {
        /// The caller's limit.
        after: Duration,
    },
    /// Its process cannot be started.
    #[error("{name} cannot be started: {reason}")]
    CannotStart {
        /// The function.
        name: String,
        /// For operators.
        reason: String,
    },
}

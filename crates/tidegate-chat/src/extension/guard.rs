//! A panic of an extension ends its event and nothing else.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

use crate::error::ChatError;

fn panicked(payload: &(dyn Any + Send)) -> ChatError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(|text| &**text));
    ChatError::Internal(format!("a handler panicked: {}", text.unwrap_or("without a text")))
}

/// Runs something that must not take its caller along. What it has left half done is given up with the transaction.
///
/// # Errors
/// Those of `work`; [`ChatError::Internal`] for a panic.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, ChatError>) -> Result<T, ChatError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(panicked(&*payload)))
}

/// As [`guarded`], for what runs outside of transactions.
///
/// # Errors
/// Those of `work`; [`ChatError::Internal`] for a panic.
pub async fn guarded_async<T>(work: impl Future<Output = Result<T, ChatError>>) -> Result<T, ChatError> {
    let mut work = pin!(work);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(payload) => std::task::Poll::Ready(Err(panicked(&*payload))),
    })
    .await
}

//! `integration.retries`: a message whose backend gave no answer is sent again.
//!
//! The request id is the same each time, so that a backend can tell a repetition from a second message. All attempts
//! together have the integration's timeout; what waited for its turn in vain is not repeated, because that would only
//! make the queue longer.

use std::time::{Duration, Instant};

use tidegate_core::context::EventKind;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::snapshot::HttpIntegration;

use super::{Answer, Call, Failure, Trace, call};
use crate::gateway::Gateway;

/// Before the second attempt; each further pause is twice as long.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// As [`call`], again and again while the backend does not begin to answer.
///
/// # Cancel safety
/// As [`call`].
pub(in crate::integration) async fn call_again(
    gateway: &Gateway,
    backend: &HttpIntegration,
    one: &Call<'_>,
    now: Instant,
    trace: &mut Trace,
) -> Result<Answer, Failure> {
    let is_message = matches!(one.event.kind, EventKind::Message { .. });
    let most = if is_message { one.stage.settings.integration.retries } else { 0 };
    let mut pause = FIRST_PAUSE;
    let mut n_retries = 0;
    loop {
        let result = call(gateway, backend, one, now, trace).await;
        let is_over = match &result {
            Ok(_) => true,
            Err(failure) => {
                failure.code != ErrorCode::IntegrationFailure
                    || failure.diagnosis == Diagnosis::INTEGRATION_HOST_NOT_ALLOWED
                    || trace.first_byte.is_some()
            }
        };
        if is_over || n_retries >= most {
            return result.map_err(|failure| match n_retries {
                0 => failure,
                retries => failure.with("attempts", retries + 1),
            });
        }
        n_retries += 1;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        *trace = Trace::default();
    }
}

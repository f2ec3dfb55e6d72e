//! `AWS_PROXY`: one event is one call of a function.

use tidegate_core::snapshot::LambdaIntegration;

use super::{Answer, Call, Failure};
use crate::functions;
use crate::gateway::Gateway;

/// Calls the function with the event and reads its answer. The caller sets the time limit.
pub(super) async fn call(
    gateway: &Gateway,
    integration: &LambdaIntegration,
    call: &Call<'_>,
) -> Result<Answer, Failure> {
    let function = functions::resolve(integration, call.stage)?;
    Err(functions::unreachable(gateway, &function))
}

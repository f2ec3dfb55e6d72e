//! Calling functions: those of this machine, and those behind the Invoke API of an endpoint.

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::snapshot::{FunctionName, LambdaIntegration, Stage};

use crate::gateway::Gateway;
use crate::integration::Failure;

/// The function of an integration, with the stage's variables as they are now.
pub(crate) fn resolve(integration: &LambdaIntegration, stage: &Stage) -> Result<FunctionName, Failure> {
    integration.function.resolve(&stage.variables).map_err(|error| {
        Failure::new(ErrorCode::Misconfigured, Diagnosis::INTEGRATION_MISSING, error.to_string())
    })
}

/// Nobody here knows where the function is.
pub(crate) fn unreachable(gateway: &Gateway, function: &FunctionName) -> Failure {
    let is_here = gateway.config.functions.as_ref().is_some_and(|runner| runner.has(&function.name));
    let detail = match is_here {
        true => format!("the function {} cannot be called", function.name),
        false => format!("there is no function {} here, and no endpoint to ask", function.name),
    };
    Failure::new(ErrorCode::Misconfigured, Diagnosis::INTEGRATION_MISSING, detail)
}

//! Checks of selection expressions, data mappings and templates: what would fail at the first message is refused
//! when it is written.

use tidegate_core::definition::Map;
use tidegate_core::mapping::Mapping;
use tidegate_core::select::Expression;
use tidegate_core::template::Template;

use crate::error::ApiError;
use crate::limits;
use crate::members::check_length;

/// Refuses what is not a selection expression.
pub(crate) fn check_selection(member: &str, text: &str) -> Result<(), ApiError> {
    Expression::parse(text).map(drop).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        ApiError::bad_request(format!("Invalid expression specified for {member}: {text} ({error}{cause})"))
    })
}

/// Refuses a route selection expression that reads anything but the message.
pub(crate) fn check_route_selection(text: &str) -> Result<(), ApiError> {
    check_selection("routeSelectionExpression", text)?;
    match Expression::parse(text).is_ok_and(|expression| expression.reads_only_body()) {
        true => Ok(()),
        false => Err(ApiError::bad_request(format!(
            "Invalid expression specified for routeSelectionExpression: {text} (only $request.body can be read)"
        ))),
    }
}

/// Refuses what is not a data mapping of an integration.
pub(crate) fn check_mapping(key: &str, value: &str) -> Result<(), ApiError> {
    check_length("requestParameters", value, limits::MAPPING_VALUE)?;
    Mapping::parse(key, value).map(drop).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Refuses templates that are too long, and texts that are no templates. What goes wrong when one runs is a configuration
/// error of the event that needs it, as it is for the service.
pub(crate) fn check_templates(member: &str, templates: &Map) -> Result<(), ApiError> {
    for (key, text) in templates {
        check_length(member, key, limits::CONTENT_TYPE)?;
        if text.len() > limits::TEMPLATE {
            return Err(ApiError::bad_request(format!(
                "Invalid value for {member}: a template has at most {} bytes",
                limits::TEMPLATE
            )));
        }
        if let Err(error) = Template::parse(text) {
            let message = format!("Invalid template specified for {member} {key}: {error}");
            return Err(ApiError::bad_request(message));
        }
    }
    Ok(())
}

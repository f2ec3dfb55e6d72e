//! Secrets that documents and sentences show as `****`, and that stay as they are when `****` comes back.
//!
//! Beside the secrets of a policy these are literal values of mapped headers and the like whose name says that they
//! are secret, and credentials in the address of a backend.

use tidegate_core::definition::Integration;

use super::document::IntegrationForm;

/// What stands in place of a secret.
pub(super) const MASK: &str = "****";

/// Parts of a name that say that the value is secret; lower case.
const NAMES: [&str; 9] = [
    "secret",
    "token",
    "password",
    "passwd",
    "authorization",
    "credential",
    "api-key",
    "apikey",
    "signature",
];

/// Whether a request parameter holds a secret: a literal, which is written in single quotes, under a telling name.
fn is_secret(key: &str, value: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    value.starts_with('\'') && NAMES.iter().any(|part| name.contains(part))
}

/// The place of the credentials in an address: between `://` and `@`.
fn credentials(uri: &str) -> Option<std::ops::Range<usize>> {
    let start = uri.find("://")? + 3;
    let authority = uri[start..].split(['/', '?', '#']).next()?;
    Some(start..start + authority.rfind('@')?)
}

fn mask_uri(uri: &str) -> Option<String> {
    let mut masked = uri.to_owned();
    masked.replace_range(credentials(uri)?, MASK);
    Some(masked)
}

pub(super) fn mask_integration(form: &mut IntegrationForm) {
    if let Some(masked) = form.uri.as_deref().and_then(mask_uri) {
        form.uri = Some(masked);
    }
    for (key, value) in &mut form.request_parameters {
        if is_secret(key, value) {
            *value = format!("'{MASK}'");
        }
    }
}

/// Puts what is stored in place of masks. Answers the members whose mask stands for nothing that is stored.
pub(super) fn unmask_integration(form: &mut IntegrationForm, stored: Option<&Integration>) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(uri) = form.uri.clone().filter(|uri| credentials(uri).is_some_and(|at| &uri[at] == MASK)) {
        let before = stored.and_then(|i| i.integration_uri.as_deref());
        let credentials_before = before.and_then(|before| Some(&before[credentials(before)?]));
        match (credentials_before, credentials(&uri)) {
            (Some(stored), Some(at)) => {
                let mut uri = uri;
                uri.replace_range(at, stored);
                form.uri = Some(uri);
            }
            _ => unknown.push("uri".to_owned()),
        }
    }
    for (key, value) in &mut form.request_parameters {
        if value == &format!("'{MASK}'") || value == MASK {
            match stored.and_then(|i| i.request_parameters.as_ref()?.get(key)) {
                Some(stored) => value.clone_from(stored),
                None => unknown.push(format!("request_parameters.{}", super::quote(key))),
            }
        }
    }
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_stands_for_what_is_stored() {
        let key = "integration.request.header.X-Gateway-Secret".to_owned();
        let plain = "integration.request.header.X-Plain".to_owned();
        let open = IntegrationForm {
            uri: Some("https://user:pw@host/a@b".to_owned()),
            request_parameters: [(key.clone(), "'s3cret'".to_owned()), (plain.clone(), "'open'".to_owned())]
                .into(),
            ..IntegrationForm::default()
        };
        let mut form = open.clone();
        mask_integration(&mut form);
        assert_eq!(form.uri.as_deref(), Some("https://****@host/a@b"));
        assert_eq!(form.request_parameters[&key], "'****'");
        assert_eq!(form.request_parameters[&plain], "'open'");
        let stored = Integration {
            integration_uri: open.uri.clone(),
            request_parameters: Some(open.request_parameters.clone()),
            ..Integration::default()
        };
        let mut again = form.clone();
        assert_eq!(unmask_integration(&mut again, Some(&stored)), Vec::<String>::new());
        assert_eq!(again, open);
        let unknown = unmask_integration(&mut form, None);
        assert_eq!(unknown, ["uri", "request_parameters.\"integration.request.header.X-Gateway-Secret\""]);
    }
}

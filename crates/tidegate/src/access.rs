//! Who may call on the admin listener: signatures of the control plane and of the Invoke API.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tidegate_admin::{Callers, Configured};
use tidegate_auth::{CredentialKeys, RequestParts, Verifier};
use tidegate_control::{AuthFailure, Authenticate, Because};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;

use crate::admin;
use crate::config::Config;

/// Access key ids that an entry about an unknown one names.
const MAX_SHOWN_KEYS: usize = 10;

/// Verifies signatures on the admin listener.
pub(crate) fn control_verifier(config: &Config, is_loopback: bool) -> Verifier {
    let mut verifier = Verifier::new(config.region.clone(), "apigateway");
    verifier.clock_skew = Duration::from_secs(config.sigv4.clock_skew);
    verifier.explain_mismatch = config.sigv4.explain_mismatch.unwrap_or(is_loopback);
    verifier.allowed_hosts.clone_from(&config.sigv4.allowed_hosts);
    verifier
}

/// Whom the admin API lets in.
pub(crate) fn callers(config: &Config, is_loopback: bool) -> Callers {
    Callers {
        keys: config.admin_keys.clone(),
        credentials: config.credentials.clone(),
        verifier: control_verifier(config, is_loopback),
    }
}

/// Signatures of control-plane callers; each request looks at the credentials of its moment.
pub(crate) fn authenticate(configured: Arc<ArcSwap<Configured>>) -> Authenticate {
    Arc::new(move |head: &http::request::Parts, body: &[u8]| {
        let configured = configured.load();
        let Callers { credentials, verifier, .. } = &configured.callers;
        let parts = RequestParts {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
        };
        let keys = |id: &str| {
            let known = credentials.iter().find(|known| known.access_key_id == id)?;
            Some(CredentialKeys::permanent(known.secret.clone()))
        };
        let failure = |error_type: &str, message: String, because: Option<Because>| AuthFailure {
            status: http::StatusCode::FORBIDDEN,
            error_type: error_type.to_owned(),
            message,
            because: because.map(Box::new),
        };
        let verified = verifier.verify(&parts, Some(body), &keys, SystemTime::now()).map_err(|error| {
            let because = not_let_in(error.diagnosis(), head, &verifier.region, credentials);
            failure(error.error_type(), error.message(), because)
        })?;
        let action = format!("apigateway:{}", head.method);
        let resource = format!("arn:aws:apigateway:{}::{}", verifier.region, head.uri.path());
        let caller = credentials.iter().find(|known| known.access_key_id == verified.access_key_id);
        match caller.is_some_and(|caller| caller.allows(&action, &resource)) {
            true => Ok(()),
            false => {
                let user = verified.access_key_id;
                let facts = Facts::none()
                    .with("caller", user.as_str())
                    .with("action", action.as_str())
                    .with("resource", resource.as_str());
                let because = Because { diagnosis: Diagnosis::PROVISION_DENIED, facts };
                Err(failure(
                    "AccessDeniedException",
                    format!("User: {user} is not authorized to perform: {action} on resource: {resource}"),
                    Some(because),
                ))
            }
        }
    })
}

/// Why a caller of the control plane was not let in. What the signature proves has its id there; three causes are
/// mistakes of tools, and have ids of their own.
fn not_let_in(
    diagnosis: &str,
    head: &http::request::Parts,
    region: &str,
    credentials: &[tidegate_auth::Credential],
) -> Option<Because> {
    let scope = admin::credential_scope(head);
    let part = |idx: usize| {
        let part = scope.as_ref()?.split('/').nth(idx)?;
        let is_plain = part.len() <= 128 && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        is_plain.then(|| part.to_owned())
    };
    let mut facts = Facts::none();
    facts.add_some("caller", part(0));
    let diagnosis = match diagnosis {
        "management.unsigned" => Diagnosis::PROVISION_NO_CREDENTIALS,
        "management.wrong-region" => {
            facts.add_some("region", part(2));
            facts.add("expected", region);
            Diagnosis::PROVISION_WRONG_REGION
        }
        "management.unknown-key" => {
            let known = credentials.iter().take(MAX_SHOWN_KEYS).map(|known| known.access_key_id.as_str());
            facts.add("expected", known.collect::<Vec<_>>());
            Diagnosis::COMMAND_WRONG_PROFILE
        }
        other => Diagnosis::find(other)?,
    };
    Some(Because { diagnosis, facts })
}

//! Who calls, and what they may do.

use std::time::SystemTime;

use http::StatusCode;
use http::header::AUTHORIZATION;
use tidegate_auth::{AdminKeys, Credential, CredentialKeys, RequestParts, Role, Verifier, bearer_token};
use tidegate_core::diagnosis::Diagnosis;

use crate::refusal::Refusal;

/// Everybody who may call the admin API.
#[derive(Debug)]
pub struct Callers {
    /// Bearer keys.
    pub keys: AdminKeys,
    /// Access keys; each has the role that its rules give it.
    pub credentials: Vec<Credential>,
    /// Verifies signatures of the service `apigateway`.
    pub verifier: Verifier,
}

/// Somebody who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Name of the key, or access key id.
    pub(crate) name: String,
    pub(crate) kind: CallerKind,
    pub(crate) role: Role,
}

/// How somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallerKind {
    Key,
    AccessKey,
}

impl CallerKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::AccessKey => "access_key",
        }
    }
}

/// What was found before the body was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presented {
    /// A key, which needs no body.
    Key(Caller),
    /// A signature, which covers the body.
    Signature,
}

impl Callers {
    /// What the head of a request presents.
    ///
    /// # Errors
    /// 401 when that is nothing, 403 for a key that is none.
    pub(crate) fn look(&self, parts: &http::request::Parts, needed: Role) -> Result<Presented, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        let is_presigned = query.split('&').any(|pair| pair.starts_with("X-Amz-Signature="));
        let is_bearer = parts.headers.get(AUTHORIZATION).is_some_and(|value| {
            value.as_bytes().get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
        });
        if is_bearer {
            let key = bearer_token(&parts.headers).and_then(|presented| self.keys.find(presented));
            let caller =
                key.map(|key| Caller { name: key.name.clone(), kind: CallerKind::Key, role: key.role });
            return caller.map(Presented::Key).ok_or_else(|| {
                let message = format!("This key is not known here; a key with the role {needed} is needed");
                Refusal::new(StatusCode::FORBIDDEN, Diagnosis::MANAGEMENT_UNKNOWN_KEY, message)
            });
        }
        if parts.headers.contains_key(AUTHORIZATION) || is_presigned {
            return Ok(Presented::Signature);
        }
        let message = format!(
            "Send Authorization: Bearer with a key of the role {needed}, or sign with AWS Signature Version 4"
        );
        Err(Refusal::new(StatusCode::UNAUTHORIZED, Diagnosis::MANAGEMENT_UNSIGNED, message))
    }

    /// Who signed.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn verify(
        &self,
        parts: &http::request::Parts,
        body: &[u8],
        needed: Role,
    ) -> Result<Caller, Refusal> {
        let request = RequestParts {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            headers: &parts.headers,
        };
        let known = |id: &str| self.credentials.iter().find(|known| known.access_key_id == id);
        let keys = |id: &str| known(id).map(|known| CredentialKeys::permanent(known.secret.clone()));
        let verified =
            self.verifier.verify(&request, Some(body), &keys, SystemTime::now()).map_err(|error| {
                let diagnosis =
                    Diagnosis::find(error.diagnosis()).unwrap_or(Diagnosis::MANAGEMENT_BAD_SIGNATURE);
                Refusal::new(StatusCode::FORBIDDEN, diagnosis, error.message())
            })?;
        let name = verified.access_key_id;
        match known(&name).and_then(Credential::role) {
            Some(role) => Ok(Caller { name, kind: CallerKind::AccessKey, role }),
            None => {
                let message = format!("The access key {name} has no role here; the role {needed} is needed");
                Err(Refusal::new(StatusCode::FORBIDDEN, Diagnosis::MANAGEMENT_DENIED, message))
            }
        }
    }
}

impl Caller {
    /// Whether they may do what needs a role.
    ///
    /// # Errors
    /// 403 with the role that is needed.
    pub(crate) fn demand(&self, needed: Role) -> Result<(), Refusal> {
        match self.role.permits(needed) {
            true => Ok(()),
            false => {
                let message =
                    format!("{} has the role {}; the role {needed} is needed", self.name, self.role);
                Err(Refusal::new(StatusCode::FORBIDDEN, Diagnosis::MANAGEMENT_DENIED, message))
            }
        }
    }
}

//! Authorizers of type `JWT`: the token of a handshake, verified with the keys of its issuer.

use std::time::{Duration, Instant};

use tidegate_auth::jwt::{JwtReason, JwtRefusal, MalformedPart};
use tidegate_core::authorizer::{ClaimsRefusal, JwtAuthorizer};
use tidegate_core::context::AuthorizerAnswer;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;

use super::{Consent, Refusal};
use crate::admission::jwt_facts;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::{Call, Failure};

/// What clients read whose token lacks a scope. Source: HTTP APIs of the service.
const FORBIDDEN: &str = "Forbidden";

/// Decides by the token of a handshake. `call` is that of `$connect`.
///
/// # Cancel safety
/// Nothing is lost.
pub(crate) async fn check(
    gateway: &Gateway,
    authorizer: &JwtAuthorizer,
    call: &Call<'_>,
) -> Result<Consent, Refusal> {
    let started = Instant::now();
    let tell = |failure: Failure| {
        failure
            .with("authorizer", authorizer.name.as_str())
            .with("authorizerId", authorizer.authorizer_id.as_str())
            .with("authorizerTarget", "jwt")
    };
    let no_headers = http::HeaderMap::new();
    let inputs = call.inputs(&no_headers);
    let Some(token) = authorizer.token(&inputs) else {
        let places = authorizer.places();
        let detail = format!("no token in {}", places.join(", "));
        let failure = Failure::new(ErrorCode::Unauthorized, Diagnosis::JWT_MISSING, detail);
        let refusal = Refusal::from(tell(failure.with("missing", places)));
        return Err(Refusal { challenge: Some("Bearer".to_owned()), ..refusal });
    };
    let fingerprint = gateway.tokens.fingerprint(&token);
    let limit = Duration::from_millis(call.stage.settings.authorizer.timeout_ms);
    let keys = async {
        let issuer = gateway.issuers.get(&authorizer.issuer)?;
        let verifier = issuer.verifier().await?;
        Some((issuer, verifier))
    };
    let Ok(Some((issuer, verifier))) = tokio::time::timeout(limit, keys).await else {
        // Nobody can be verified, and that is not their fault.
        let detail = "the issuer's keys could not be fetched";
        let failure = Failure::new(ErrorCode::AuthorizerFailed, Diagnosis::JWT_JWKS_UNREACHABLE, detail);
        return Err(tell(failure.with("errorClass", "keys")).into());
    };
    let now = now_millis();
    let refuse = |refusal: &JwtRefusal| {
        let diagnosis = Diagnosis::find(refusal.diagnosis()).unwrap_or(Diagnosis::JWT_MALFORMED);
        let mut failure = Failure::new(ErrorCode::Unauthorized, diagnosis, refusal.to_string());
        failure.facts.extend(jwt_facts(refusal, now));
        let challenge = Some(challenge(authorizer, "invalid_token", described(&refusal.reason)));
        Refusal { challenge, ..Refusal::from(tell(failure.with("fingerprint", fingerprint.clone()))) }
    };
    let verified = verifier.verify(&token, now).map_err(|refusal| {
        if matches!(refusal.reason, JwtReason::UnknownKey { .. }) {
            gateway.issuers.want(&issuer);
        }
        refuse(&refusal)
    })?;
    let claims = authorizer.judge(verified.claims()).map_err(|refusal| match refusal {
        ClaimsRefusal::Audience => {
            let expected = authorizer.audience.join(", ");
            let refusal = JwtRefusal { reason: JwtReason::Audience { expected }, token: None };
            refuse(&refusal)
        }
        ClaimsRefusal::Scopes => {
            let detail = "the token has none of the route's scopes";
            let failure = Failure::new(ErrorCode::AccessDenied, Diagnosis::AUTHORIZER_DENIED, detail)
                .with("scopes", authorizer.scopes.clone())
                .with("fingerprint", fingerprint.clone());
            let challenge = challenge(authorizer, "insufficient_scope", "the token has none of the scopes");
            Refusal { challenge: Some(challenge), ..Refusal::worded(tell(failure), FORBIDDEN) }
        }
    })?;
    let answer = AuthorizerAnswer {
        principal_id: claims.claims.get("sub").cloned().unwrap_or_default(),
        latency_ms: started.elapsed().as_millis() as u64,
        token: Some(Box::new(claims)),
        ..AuthorizerAnswer::default()
    };
    Ok(Consent { answer, usage_identifier_key: None })
}

/// `WWW-Authenticate` of a refused token, as HTTP APIs of the service write it: without commas, and with the scopes of the
/// route.
fn challenge(authorizer: &JwtAuthorizer, error: &str, description: &str) -> String {
    let scopes = authorizer.scopes.join(" ");
    format!(r#"Bearer scope="{scopes}" error="{error}" error_description="{description}""#)
}

/// What a client is told of its token. Audience, time and form are told in the words of the service; for the others ours
/// are of the same kind. Nothing of the token or of what is configured is in them.
fn described(reason: &JwtReason) -> &'static str {
    match reason {
        JwtReason::Audience { .. } => "the token does not have a valid audience",
        JwtReason::Expired { .. } => "the token has expired",
        JwtReason::Malformed { part: MalformedPart::Parts { .. }, .. } => {
            "token contains an invalid number of segments"
        }
        JwtReason::NotYetValid { .. } => "the token is not valid yet",
        JwtReason::Issuer { .. } => "the token does not have a valid issuer",
        JwtReason::Signature => "the token does not have a valid signature",
        JwtReason::UnknownKey { .. } => "the token does not have a valid key id",
        JwtReason::AlgorithmNotAllowed => "the token does not have a valid algorithm",
        JwtReason::ClaimsMissing { .. } => "the token does not have all claims",
        JwtReason::TooLong { .. } => "the token is too long",
        JwtReason::Missing
        | JwtReason::WrongPlace(_)
        | JwtReason::Ambiguous { .. }
        | JwtReason::Malformed { .. }
        | JwtReason::JwksUnreachable => "the token is not valid",
    }
}

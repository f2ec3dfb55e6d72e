//! Authorizers of type `JWT`: the token of a handshake, verified with the keys of its issuer.

use std::time::{Duration, Instant};

use tidegate_auth::jwt::{JwtReason, JwtRefusal};
use tidegate_core::authorizer::{ClaimsRefusal, JwtAuthorizer};
use tidegate_core::context::AuthorizerAnswer;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::mapping::Inputs;

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
    let inputs = Inputs {
        event: call.event,
        headers: call.headers.unwrap_or(&no_headers),
        query: call.query,
        body: "",
        stage_variables: &call.stage.variables,
    };
    let Some(token) = authorizer.token(&inputs) else {
        let places = authorizer.places();
        let detail = format!("no token in {}", places.join(", "));
        let failure = Failure::new(ErrorCode::Unauthorized, Diagnosis::JWT_MISSING, detail);
        return Err(tell(failure.with("missing", places)).into());
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
        tell(failure.with("fingerprint", fingerprint.clone()))
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
            Refusal::from(refuse(&refusal))
        }
        ClaimsRefusal::Scopes => {
            let detail = "the token has none of the route's scopes";
            let failure = Failure::new(ErrorCode::AccessDenied, Diagnosis::AUTHORIZER_DENIED, detail)
                .with("scopes", authorizer.scopes.clone())
                .with("fingerprint", fingerprint.clone());
            Refusal::worded(tell(failure), FORBIDDEN)
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

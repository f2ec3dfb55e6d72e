//! The gateway's own checks of a handshake, in their order: policy, origin, attempts, channel names, identity, bans, the
//! user's limits, permissions. A one-time token is spent by [`spend`], once nothing but `$connect` can refuse any more.
//!
//! A stage without a policy asks nothing. Whoever is refused is told which check it was and no more; the reason is for
//! operators.

mod attempts;
mod jwt;

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{COOKIE, HeaderMap, ORIGIN};
use tidegate_auth::{ApiKey, BEARER_SUBPROTOCOL, ConnectTokenProblem, find_connect_token};
use tidegate_core::channel::{ChannelName, Right};
use tidegate_core::context::SessionFacts;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::identity::{AuthKind, Identity};
use tidegate_core::journal::{self, FactValue, Facts};
use tidegate_core::mapping::query_values;
use tidegate_core::nearest::nearest;
use tidegate_core::policy::IdentityCheck;
use tidegate_core::snapshot::{Stage, StagePolicy};

pub use self::attempts::AttemptRecord;
pub(crate) use self::attempts::{ATTEMPTS_KEPT, Attempts, Outcome};
pub(crate) use self::jwt::{JwtKeys, facts as jwt_facts};
use crate::clock::now_millis;
use crate::connection::handle::Handle;
use crate::edge::remark;
use crate::gateway::Gateway;
use crate::groups::{Key, Kind};
use crate::tokens::{FirstUse, Presented, Showing, TokenRefusal};

/// Most names that a fact lists. Source: our choice.
const MAX_LISTED: usize = 20;

/// Most channel rules that a refused name is compared with. Source: our choice; refusals must not cost much.
const MAX_COMPARED: usize = 200;

/// A handshake as the checks see it. There is no `Debug`: query and headers hold the proofs of identity.
#[derive(Clone, Copy)]
pub(crate) struct Handshake<'a> {
    pub(crate) stage: &'a Arc<Stage>,
    pub(crate) policy: &'a Arc<StagePolicy>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: &'a str,
    /// Host the client used.
    pub(crate) domain: &'a str,
    pub(crate) address: IpAddr,
    pub(crate) now: u64,
    /// Somebody keeps facts.
    pub(crate) keeps_facts: bool,
}

/// Something that was decided on the way and went well.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) kind: journal::Kind,
    /// Why it is worth a look.
    pub(crate) remark: Option<Diagnosis>,
    pub(crate) facts: Facts,
}

/// What the checks have established.
#[derive(Default)]
pub(crate) struct Established {
    pub(crate) identity: Arc<Identity>,
    /// To be joined once the connection is open.
    pub(crate) channels: Vec<ChannelName>,
    /// Subprotocol that carried the proof, to be answered if nobody chooses another.
    pub(crate) subprotocol: Option<&'static str>,
    /// For operators; none where nobody keeps facts.
    pub(crate) decisions: Vec<Decision>,
    /// A one-time token that was good when it was looked up, and is not spent yet.
    presented: Option<Presented>,
}

impl Established {
    /// What `$connect` is told.
    pub(crate) fn facts(&self) -> SessionFacts {
        let names: Vec<&str> = self.channels.iter().map(ChannelName::as_str).collect();
        SessionFacts { identity: Arc::clone(&self.identity), channels: names.join(",") }
    }
}

/// A refusal by one of the checks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    pub(crate) diagnosis: Diagnosis,
    /// For the operator: names and numbers.
    pub(crate) detail: String,
    /// Which check, for the client.
    pub(crate) check: &'static str,
    /// In place of the table's text, where the catalogue has another.
    pub(crate) text: Option<&'static str>,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
    /// What the catalogue names as proof.
    pub(crate) facts: Facts,
}

impl Refused {
    pub(crate) fn new(
        code: ErrorCode,
        diagnosis: Diagnosis,
        check: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let (detail, facts) = (detail.into(), Facts::none());
        Self { code, diagnosis, detail, check, text: None, retry_after: None, facts }
    }

    /// How the log of attempts has it.
    pub(crate) fn outcome(&self, status: u16) -> Outcome<'_> {
        Outcome { status, diagnosis: Some(self.diagnosis), user: None, connection_id: None }
    }

    fn of_token(refusal: TokenRefusal) -> Self {
        let TokenRefusal { code, diagnosis, detail, retry_after, facts } = refusal;
        Self { code, diagnosis, detail, check: "token", text: None, retry_after, facts }
    }

    fn with(mut self, name: &'static str, value: impl FactValue) -> Self {
        self.facts.add(name, value);
        self
    }
}

/// What one proof of identity came to.
struct Proof {
    identity: Arc<Identity>,
    presented: Option<Presented>,
    subprotocol: Option<&'static str>,
    decision: Option<Decision>,
}

/// Whose bearer token the headers carry, for calls that are no handshakes.
pub(crate) fn identify_bearer(
    gateway: &Gateway,
    handshake: &Handshake<'_>,
) -> Result<Arc<Identity>, Refused> {
    let identity = jwt::check(gateway, handshake)?.identity;
    refuse_banned(gateway, handshake, &identity)?;
    Ok(identity)
}

/// Checks that need neither a slot nor an identity.
pub(crate) fn check_arrival(gateway: &Gateway, handshake: &Handshake<'_>) -> Result<(), Refused> {
    let Handshake { policy, headers, .. } = *handshake;
    if let Some(problem) = &policy.broken {
        return Err(Refused::new(
            ErrorCode::PolicyBroken,
            Diagnosis::CONFIG_INVALID_VALUE,
            "policy",
            problem.clone(),
        ));
    }
    let rules = &policy.policy.admission;
    // Capacity is nobody's fault: it comes first and counts as no attempt. Who gets the last place is decided later.
    if rules.max_connections > 0 {
        let (api_id, stage) = (Arc::clone(&handshake.stage.api_id), Arc::clone(&handshake.stage.name));
        let key = Key { api_id, stage, kind: Kind::Stage, name: "".into() };
        if gateway.groups.n_members(&key) >= rules.max_connections {
            return Err(stage_full(rules.max_connections));
        }
    }
    // Before the origin: whoever comes from a wrong page again and again is counted too.
    let arrival = gateway.attempts.on_arrival(handshake);
    if !rules.origins.is_empty() {
        let refuse = |detail: String| {
            let origins: Vec<&str> = rules.origins.iter().take(MAX_LISTED).map(String::as_str).collect();
            let diagnosis = Diagnosis::ORIGIN_NOT_ALLOWED;
            let refused = Refused::new(ErrorCode::OriginRejected, diagnosis, "origin", detail);
            Err(refused.with("allowedOrigins", origins))
        };
        match headers.get(ORIGIN).map(|origin| origin.to_str()) {
            None if rules.allow_missing_origin => {}
            None => return refuse("no Origin".to_owned()),
            Some(Ok(origin)) if policy.origins.contains(origin) => {}
            Some(Ok(origin)) => {
                return refuse(format!(
                    "{} is not on the list",
                    origin.chars().take(200).collect::<String>()
                ));
            }
            Some(Err(_)) => return refuse("an Origin that is no text".to_owned()),
        }
    }
    arrival.or_else(|limited| gateway.attempts.enforce(gateway, handshake, limited))
}

/// Checks that need the connection: its limits, its client's identity and rights.
pub(crate) async fn establish(
    gateway: &Gateway,
    handshake: &Handshake<'_>,
    handle: &Arc<Handle>,
) -> Result<Established, Refused> {
    let Handshake { policy, address, .. } = *handshake;
    let rules = &policy.policy.admission;
    let limited = |what: &str, limit: usize| {
        let mut refused = too_many(ErrorCode::ConnectionsExceeded, what, limit);
        refused.retry_after = Some(1);
        Err(refused)
    };
    if rules.max_connections > 0 && !join(gateway, handle, Kind::Stage, "".into(), rules.max_connections) {
        return Err(stage_full(rules.max_connections));
    }
    if rules.connections_per_address > 0 {
        let name = gateway.attempts.address_key(policy, address).to_string();
        if !join(gateway, handle, Kind::Address, name.into(), rules.connections_per_address) {
            return limited("the address", rules.connections_per_address);
        }
    }
    let channels = channel_names(handshake)?;
    let Proof { identity, presented, subprotocol, decision } = identify(gateway, handshake)?;
    let mut decisions: Vec<Decision> = decision.into_iter().filter(|_| handshake.keeps_facts).collect();
    // Known from here on, so that the log of attempts has the user of a refusal too.
    handle.membership().set_identity(Arc::clone(&identity));
    if let Some(user) = &identity.user {
        gateway
            .attempts
            .on_user(handshake, user)
            .or_else(|limited| gateway.attempts.enforce(gateway, handshake, limited))?;
        // Joined whatever the limit is: pushes to a user find their connections by it.
        if !join(gateway, handle, Kind::User, Arc::clone(user), rules.connections_per_user) {
            return limited("the user", rules.connections_per_user);
        }
    }
    if let Some(session) = &identity.session {
        join(gateway, handle, Kind::Session, Arc::clone(session), 0);
    }
    // Not before: whoever bans from here on finds this connection among those of its user, and closes it.
    refuse_banned(gateway, handshake, &identity)?;
    for channel in &channels {
        let may = gateway.may(policy, handle, &identity, channel, Right::Join).await;
        may.map_err(|refusal| {
            let code = ErrorCode::ChannelRejected;
            let refused = Refused::new(code, refusal.diagnosis, "permission", refusal.detail.clone())
                .with("channel", channel.as_str())
                .with("rule", refusal.detail);
            match refusal.diagnosis == Diagnosis::CHANNEL_UNLISTED {
                true => nearest_channel(policy, channel, refused),
                false => refused,
            }
        })?;
    }
    decisions.extend(cookie_not_available(handshake, &identity));
    Ok(Established { identity, channels, subprotocol, decisions, presented })
}

/// Spends the one-time token of a handshake, if it has one. Of any number of handshakes that were established with the
/// same token one passes.
///
/// It comes after whatever the route demands, so that a client whom an authorizer refuses, or could not be asked about,
/// may try again with its token.
///
/// # Cancel safety
/// The token counts as spent from the first poll on.
pub(crate) async fn spend(
    gateway: &Gateway,
    established: &mut Established,
    address: IpAddr,
    handle: &Handle,
) -> Result<(), Refused> {
    let Some(presented) = established.presented.take() else { return Ok(()) };
    let id = handle.facts.connection_id;
    gateway.tokens.spend(&presented, address, id, now_millis()).await.map_err(Refused::of_token)
}

/// Adds the listed name that looks most like a channel that is not listed.
fn nearest_channel(policy: &StagePolicy, channel: &ChannelName, refused: Refused) -> Refused {
    let rules = policy.channels.rules().iter().take(MAX_COMPARED);
    match nearest(channel.as_str(), rules.map(|rule| &*rule.pattern)) {
        Some(nearest) => refused.with("nearest", nearest),
        None => refused,
    }
}

/// A client that goes on as nobody although the stage looks for a session cookie, which did not come.
fn cookie_not_available(handshake: &Handshake<'_>, identity: &Identity) -> Option<Decision> {
    let name = &handshake.policy.policy.connect_tokens.cookie;
    let is_absent = cookie(handshake.headers, name).is_none_or(|value| value.is_empty());
    if name.is_empty() || identity.user.is_some() || !is_absent || !handshake.keeps_facts {
        return None;
    }
    // A program has no cookies: only of a page is it known that it ought to have one.
    handshake.headers.get(ORIGIN)?;
    let (diagnosis, facts) = remark::cookie_missing(handshake.headers, handshake.domain);
    Some(Decision {
        kind: journal::Kind::Handshake,
        remark: Some(diagnosis),
        facts: facts.with("wantedCookie", name.as_str()),
    })
}

fn too_many(code: ErrorCode, what: &str, limit: usize) -> Refused {
    let detail = format!("{what} has {limit} connections already");
    let of = what.trim_start_matches("the ").to_owned();
    Refused::new(code, Diagnosis::LIMIT_CONNECTIONS, "connections", detail)
        .with("limit", limit)
        .with("count", limit)
        .with("of", of)
}

fn stage_full(limit: usize) -> Refused {
    too_many(ErrorCode::StageFull, "the stage", limit)
}

fn refuse_banned(gateway: &Gateway, handshake: &Handshake<'_>, identity: &Identity) -> Result<(), Refused> {
    let Some(ban) = gateway.bans.find(identity, &handshake.stage.api_id, handshake.now) else {
        return Ok(());
    };
    let seconds = ban.until.saturating_sub(handshake.now).div_ceil(1000);
    let detail = format!("banned for another {seconds} s");
    Err(Refused::new(ErrorCode::IdentityRejected, Diagnosis::USER_BANNED, "identity", detail))
}

fn join(gateway: &Gateway, handle: &Arc<Handle>, kind: Kind, name: Arc<str>, limit: usize) -> bool {
    let key = Key::of(handle, kind, name);
    let has_joined = gateway.groups.join_limited(&key, handle, limit);
    if has_joined {
        handle.membership().note_key(key);
    }
    has_joined
}

/// The channels that the handshake names, or the stage's own.
fn channel_names(handshake: &Handshake<'_>) -> Result<Vec<ChannelName>, Refused> {
    let settings = &handshake.policy.policy.channels;
    let mut names: Vec<ChannelName> = Vec::new();
    let refuse = |detail: String| {
        Err(Refused::new(ErrorCode::InvalidChannel, Diagnosis::CHANNEL_INVALID, "channel", detail))
    };
    if !settings.parameter.is_empty() {
        for text in query_values(handshake.query, &settings.parameter).filter(|text| !text.is_empty()) {
            let Ok(name) = text.parse::<ChannelName>() else {
                return refuse(format!("a name of {} characters", text.chars().count()));
            };
            if !names.contains(&name) {
                names.push(name);
            }
            if names.len() > settings.max_per_connection {
                return refuse(format!("more than {} channels", settings.max_per_connection));
            }
        }
    }
    if names.is_empty() {
        // Mappings of a domain may have a default of their own.
        let host = handshake.domain.split(':').next();
        names.extend(handshake.policy.channels.default_channel(host).cloned());
    }
    Ok(names)
}

/// The first proof of identity that the handshake carries, in the policy's order.
fn identify(gateway: &Gateway, handshake: &Handshake<'_>) -> Result<Proof, Refused> {
    let rules = &handshake.policy.policy.admission;
    let nobody = || Proof { identity: Arc::default(), presented: None, subprotocol: None, decision: None };
    let mut missing = None;
    for check in &rules.checks {
        let proof = match check {
            IdentityCheck::Token => by_token(gateway, handshake),
            IdentityCheck::Jwt => jwt::check(gateway, handshake),
            IdentityCheck::ApiKey => by_api_key(handshake),
        };
        match proof {
            Ok(proof) => return Ok(proof),
            // Not there: the next one may be. Wrong is refused, whatever else there is.
            Err(refused) if is_missing(refused.diagnosis) => {
                // A token that is somewhere else says more than one that is nowhere.
                let says_more = refused.diagnosis == Diagnosis::JWT_WRONG_PLACE;
                if says_more || missing.is_none() {
                    missing = Some(refused);
                }
            }
            Err(refused) => return Err(refused),
        }
    }
    match missing {
        Some(refused) if rules.required => Err(refused),
        _ => Ok(nobody()),
    }
}

fn is_missing(diagnosis: Diagnosis) -> bool {
    matches!(
        diagnosis,
        Diagnosis::TOKEN_MISSING
            | Diagnosis::JWT_MISSING
            | Diagnosis::JWT_WRONG_PLACE
            | Diagnosis::APIKEY_MISSING
    )
}

fn by_token(gateway: &Gateway, handshake: &Handshake<'_>) -> Result<Proof, Refused> {
    let Handshake { stage, policy, headers, query, address, now, .. } = *handshake;
    let settings = &policy.policy.connect_tokens;
    let found = find_connect_token(query, headers, &settings.parameter).map_err(|problem| {
        let diagnosis = Diagnosis::find(problem.diagnosis()).unwrap_or(Diagnosis::TOKEN_UNKNOWN);
        let refused = Refused::new(ErrorCode::IdentityRejected, diagnosis, "token", problem.to_string())
            .with("parameter", settings.parameter.as_str());
        match problem {
            ConnectTokenProblem::Missing => refused,
            ConnectTokenProblem::Length { length } => refused.with("length", length),
            ConnectTokenProblem::Alphabet => refused.with("alphabet", false),
        }
    })?;
    let cookie = cookie(headers, &settings.cookie);
    let showing = Showing {
        stage,
        cookie: cookie.as_deref(),
        origin: headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()),
        address,
        now,
    };
    let first_use = |id| match (gateway.registry.find(id), gateway.registry.gone(id)) {
        (Some(_), _) => FirstUse::Open,
        (None, Some(gone)) if gone.diagnosis == Diagnosis::GONE_REFUSED => FirstUse::Refused,
        (None, _) => FirstUse::Ended,
    };
    let presented = gateway.tokens.look_up(&found.token, &showing, first_use).map_err(Refused::of_token)?;
    let decision = handshake.keeps_facts.then(|| Decision {
        kind: journal::Kind::Token,
        remark: presented.identity.user.is_none().then_some(Diagnosis::IDENTITY_TOKEN_ANONYMOUS),
        facts: Facts::none()
            .with("fingerprint", gateway.tokens.fingerprint(found.token.expose()))
            .with("tokenAgeMs", presented.age),
    });
    Ok(Proof {
        identity: Arc::clone(&presented.identity),
        presented: Some(presented),
        subprotocol: found.answers_bearer.then_some(BEARER_SUBPROTOCOL),
        decision,
    })
}

fn by_api_key(handshake: &Handshake<'_>) -> Result<Proof, Refused> {
    let refuse = |detail: &str| {
        Refused::new(ErrorCode::IdentityRejected, Diagnosis::APIKEY_MISSING, "api_key", detail)
    };
    let key = handshake.headers.get("x-api-key").ok_or_else(|| refuse("no x-api-key"))?;
    let key = String::from_utf8_lossy(key.as_bytes());
    let mut found = None;
    for known in &handshake.policy.policy.admission.api_keys {
        // All are compared: which one fits must not show in the time.
        if ApiKey::from_hash_hex(&known.sha256).is_some_and(|hash| hash.verify(&key)) {
            found = Some(known);
        }
    }
    let Some(known) = found else {
        return Err(Refused::new(
            ErrorCode::IdentityRejected,
            Diagnosis::APIKEY_UNKNOWN,
            "api_key",
            "not one of the policy's keys",
        ));
    };
    let identity = Identity {
        user: Some(known.user.as_str().into()),
        auth: AuthKind::ApiKey,
        roles: known.roles.clone(),
        ..Identity::default()
    };
    Ok(Proof { identity: Arc::new(identity), presented: None, subprotocol: None, decision: None })
}

/// Value of a cookie; nothing for an empty name.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

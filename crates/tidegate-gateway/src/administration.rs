//! What administrators do to sessions: end them, ban users, revoke tokens, ask who may what.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_auth::Secret;
use tidegate_core::channel::{ChannelName, Decision, Right};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::identity::Identity;
use tidegate_core::snapshot::Stage;

use crate::bans::{Ban, BanError, BanKind};
use crate::channels::{By, presence};
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::sessions::{Ending, Subject};

/// What ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Connections that are being closed.
    pub connections: usize,
    /// Unspent connect tokens that are worth nothing any more.
    pub tokens: usize,
}

/// Why something about a channel was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// No such connection, or it is not open.
    #[error("the connection is gone")]
    Gone,
    /// A limit.
    #[error("{0}")]
    Refused(String),
}

impl Gateway {
    /// A stage as it is now.
    pub fn find_stage(&self, api_id: &str, stage: &str) -> Option<Arc<Stage>> {
        self.stage(api_id, stage)
    }

    /// Ends a session or a user: their connections close within a second, their unspent tokens are worth nothing.
    pub async fn end(
        &self,
        subject: &Subject,
        api_id: Option<&str>,
        stage: Option<&str>,
        ending: Ending,
    ) -> Ended {
        // Tokens first, so that nobody comes back with one between the two.
        let tokens = self
            .tokens
            .revoke(|of_api, of_stage, identity| {
                api_id.is_none_or(|api_id| api_id == of_api)
                    && stage.is_none_or(|stage| stage == of_stage)
                    && concerns(subject, identity)
            })
            .await;
        Ended { connections: self.end_connections(subject, api_id, stage, ending), tokens }
    }

    /// Refuses a user, a session or a token until a time, and ends what they have open.
    ///
    /// # Errors
    /// The ban could not be stored; then nothing has ended either.
    pub async fn ban(&self, ban: Ban) -> Result<Ended, BanError> {
        let subject = match ban.kind {
            BanKind::User => Subject::User(ban.id.clone()),
            BanKind::Session => Subject::Session(ban.id.clone()),
            BanKind::TokenId => Subject::TokenId(ban.id.clone()),
        };
        let api_id = ban.api.clone();
        self.bans.add(ban).await?;
        Ok(self.end(&subject, api_id.as_deref(), None, Ending::AccessRevoked).await)
    }

    /// Lifts a ban. False when there was none.
    ///
    /// # Errors
    /// The store fails; the ban holds.
    pub async fn lift_ban(&self, kind: BanKind, id: &str, api_id: Option<&str>) -> Result<bool, BanError> {
        self.bans.lift(kind, id, api_id).await
    }

    /// Bans that hold, the newest first.
    pub fn list_bans(&self) -> Vec<Ban> {
        let mut bans = self.bans.list(now_millis());
        bans.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.id.cmp(&b.id)));
        bans
    }

    /// Puts a connection into a channel, whatever the rules say. False when it was there.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub fn join(&self, connection_id: &str, channel: &ChannelName) -> Result<bool, ChannelError> {
        let handle = self.open_handle(connection_id).ok_or(ChannelError::Gone)?;
        let joined = self.put_into_channel(&handle, channel, By::Administrator);
        joined.map(|joined| joined.is_new).map_err(|refusal| ChannelError::Refused(refusal.text))
    }

    /// Takes a connection out of a channel. False when it was not there.
    ///
    /// # Errors
    /// [`ChannelError::Gone`].
    pub fn leave(&self, connection_id: &str, channel: &ChannelName) -> Result<bool, ChannelError> {
        let handle = self.open_handle(connection_id).ok_or(ChannelError::Gone)?;
        Ok(self.leave_channel(&handle, channel, By::Administrator))
    }

    fn open_handle(&self, id: &str) -> Option<Arc<crate::connection::handle::Handle>> {
        let id = ConnectionId::parse(id).ok()?;
        self.registry.find(id).filter(|handle| handle.is_open())
    }

    /// Who is in a channel: `connections`, `users`, and at most `limit` `userIds`.
    pub fn presence(&self, stage: &Stage, channel: &ChannelName, limit: usize) -> Value {
        presence(self, stage, channel, limit)
    }

    /// What the rules of a stage say, as JSON: `{"decision": "allow" | "deny" | "ask", ...}`. The backend is not asked.
    pub fn decide(&self, stage: &Stage, identity: &Identity, channel: &ChannelName, right: Right) -> Value {
        let Some(policy) = &stage.policy else {
            return serde_json::json!({ "decision": "deny", "id": "channel.unlisted", "message": "the stage has no policy" });
        };
        match policy.channels.decide(channel, identity, right) {
            Decision::Allow => {
                let rule = policy.channels.rule(channel, identity).map(|rule| rule.pattern.to_string());
                serde_json::json!({ "decision": "allow", "rule": rule })
            }
            Decision::Deny { diagnosis, rule } => serde_json::json!({
                "decision": "deny",
                "id": diagnosis.as_str(),
                "rule": rule.as_deref(),
                "nearest": if rule.is_none() { policy.channels.nearest(channel.as_str()) } else { None },
            }),
            Decision::Ask { url, cache_s, rule } => {
                serde_json::json!({ "decision": "ask", "url": &*url, "cache": cache_s, "rule": &*rule })
            }
        }
    }

    /// Asks the channel rules again about everybody, or about one user. Answers how many memberships ended.
    pub async fn recheck_channels(&self, api_id: Option<&str>, user: Option<&str>) -> usize {
        self.recheck(|handle| {
            api_id.is_none_or(|api_id| *handle.facts.api_id == *api_id)
                && user.is_none_or(|user| {
                    let membership = handle.membership_if_any();
                    membership.is_some_and(|m| m.identity().user.as_deref() == Some(user))
                })
        })
        .await
    }

    /// Signs a JSON Web Token with the first HMAC secret of a stage: for tests and service accounts.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn sign_jwt(&self, stage: &Stage, claims: &Map<String, Value>) -> Result<Secret, String> {
        let verifier = self.jwt.verifier(stage).ok_or("the stage's policy has no working [jwt]")?;
        verifier.sign(claims).map_err(|error| error.to_string())
    }

    /// The id of the session that the value of a session cookie belongs to, where its backend gave it none.
    pub fn session_of_cookie(&self, cookie: &str) -> String {
        self.tokens.session_of_cookie(cookie)
    }

    /// Why there is no connection of this id, as far as it is remembered.
    pub fn why_gone(&self, id: &str) -> Diagnosis {
        match ConnectionId::parse(id) {
            Err(_) => Diagnosis::GONE_MALFORMED_ID,
            Ok(id) => self.explain_gone(id, now_millis()).diagnosis,
        }
    }

    /// Unspent connect tokens that may still be presented.
    pub fn n_unspent_tokens(&self) -> usize {
        self.tokens.n_unspent()
    }
}

fn concerns(subject: &Subject, identity: &Identity) -> bool {
    match subject {
        Subject::Session(session) => identity.session.as_deref() == Some(session),
        Subject::User(user) => identity.user.as_deref() == Some(user),
        Subject::TokenId(_) => false,
    }
}

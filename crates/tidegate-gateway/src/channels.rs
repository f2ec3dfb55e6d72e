//! Joining and leaving channels, and who may.
//!
//! Clients are bound by the rules of the stage's policy; the backend is not. The rules are asked on joining and again
//! whenever they or the user's claims change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_core::channel::{ChannelName, Decision, Right, Rule};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::identity::Identity;
use tidegate_core::journal::Facts;
use tidegate_core::mapping::query_values;
use tidegate_core::notice::Notice;
use tidegate_core::snapshot::{Stage, StagePolicy};
use tidegate_ws::OutboundMessage;

use crate::clock::now_millis;
use crate::connection::control::joined_frame;
use crate::connection::handle::Handle;
use crate::connection::membership::Unnoted;
use crate::gateway::Gateway;
use crate::groups::{Joined, Key, Kind, Member, MessageId, Past};

/// Channels of one connection where no policy says otherwise.
const DEFAULT_CHANNELS: usize = 32;

/// Connections whose memberships are checked again at a time.
const RECHECKED_AT_A_TIME: usize = 32;

/// Answers of backends that are remembered.
const MAX_ANSWERS: usize = 100_000;

/// Why somebody is not in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRefusal {
    pub(crate) diagnosis: Diagnosis,
    /// Safe for clients.
    pub(crate) text: String,
    /// For the operator: the rule that refused.
    pub(crate) detail: String,
}

impl JoinRefusal {
    fn new(diagnosis: Diagnosis, text: impl Into<String>) -> Self {
        Self { diagnosis, text: text.into(), detail: String::new() }
    }
}

/// What backends have said to rules that ask them.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The answer, and until when it holds.
    by_question: HashMap<Question, (bool, u64)>,
    /// Grows whenever something is forgotten: an answer to a question from before is not remembered.
    generation: u64,
}

/// What the rules said when a client wanted to join.
#[derive(Debug)]
pub(crate) struct Permission {
    policy: Arc<StagePolicy>,
    identity: Arc<Identity>,
    hears_presence: bool,
}

/// How somebody comes into a channel.
struct Entrance<'a> {
    handle: &'a Arc<Handle>,
    channel: &'a ChannelName,
    policy: Option<&'a StagePolicy>,
    hears_presence: bool,
    by: By,
    past: Past,
}

/// On whose behalf somebody joins or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The handshake named the channel.
    Handshake,
    /// The client asked.
    Client,
    /// A management call.
    Management,
    /// An administrator.
    Administrator,
    /// The rules no longer admit them.
    Rules,
}

impl By {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Client => "client",
            Self::Management => "management",
            Self::Administrator => "administrator",
            Self::Rules => "rules",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    api_id: Arc<str>,
    stage: Arc<str>,
    url: Arc<str>,
    right: Right,
    channel: ChannelName,
    /// The user, or the connection of nobody.
    who: String,
}

impl Gateway {
    /// The stage's policy as it is now, for a connection of it.
    pub(crate) fn policy(&self, handle: &Handle) -> Option<Arc<StagePolicy>> {
        self.stage(&handle.facts.api_id, &handle.facts.stage)?.policy.clone()
    }

    /// Whether `identity` has a right. Asks the backend where a rule says so.
    pub(crate) async fn may(
        &self,
        policy: &StagePolicy,
        handle: &Handle,
        identity: &Identity,
        channel: &ChannelName,
        right: Right,
    ) -> Result<(), JoinRefusal> {
        match policy.channels.decide(channel, identity, right) {
            Decision::Allow => Ok(()),
            Decision::Deny { diagnosis, rule } => Err(JoinRefusal {
                diagnosis,
                text: "Access denied".to_owned(),
                detail: match rule {
                    Some(rule) => format!("rule `{rule}` refuses"),
                    None => "no rule names the channel".to_owned(),
                },
            }),
            Decision::Ask { url, cache_s, rule } => {
                let who = match &identity.user {
                    Some(user) => format!("user {user}"),
                    None => handle.facts.connection_id.to_string(),
                };
                let (api_id, stage) = (Arc::clone(&handle.facts.api_id), Arc::clone(&handle.facts.stage));
                let question = Question { api_id, stage, url, right, channel: channel.clone(), who };
                let now = now_millis();
                let (known, generation) = self.answers.find(&question, now);
                let is_yes = match known {
                    Some(is_yes) => is_yes,
                    None => {
                        let is_yes = self.ask(&question, handle, identity).await;
                        if cache_s > 0 {
                            let until = now.saturating_add(cache_s.saturating_mul(1000));
                            self.answers.remember(question, is_yes, until, now, generation);
                        }
                        is_yes
                    }
                };
                match is_yes {
                    true => Ok(()),
                    false => Err(JoinRefusal {
                        diagnosis: Diagnosis::CHANNEL_FORBIDDEN,
                        text: "Access denied".to_owned(),
                        detail: format!("the backend that rule `{rule}` asks said no, or nothing"),
                    }),
                }
            }
        }
    }

    async fn ask(&self, question: &Question, handle: &Handle, identity: &Identity) -> bool {
        let facts = &handle.facts;
        let body = json!({
            "api": &*facts.api_id,
            "stage": &*facts.stage,
            "connectionId": facts.connection_id.to_string(),
            "channel": question.channel.as_str(),
            "right": match question.right {
                Right::Join => "join",
                Right::Publish => "publish",
                Right::Presence => "presence",
            },
            "user": identity.user.as_deref(),
            "session": identity.session.as_deref(),
            "roles": identity.roles,
        });
        let answer = self.backends.post_json(&question.url, &body, &[]).await;
        matches!(answer, Ok((200..=299, _)))
    }

    /// Whether a client may join a channel now; to be used at once, see [`Self::enter_with`].
    pub(crate) async fn may_enter(
        &self,
        handle: &Handle,
        channel: &ChannelName,
    ) -> Result<Permission, JoinRefusal> {
        let Some(policy) = self.policy(handle) else {
            return Err(JoinRefusal::new(Diagnosis::CHANNEL_UNLISTED, "Access denied"));
        };
        let identity = handle.membership().identity();
        self.may(&policy, handle, &identity, channel, Right::Join).await?;
        let hears_presence = self.may_hear(&policy, handle, &identity, channel).await;
        Ok(Permission { policy, identity, hears_presence })
    }

    /// Whether a member is told who comes and goes.
    async fn may_hear(
        &self,
        policy: &StagePolicy,
        handle: &Handle,
        identity: &Identity,
        channel: &ChannelName,
    ) -> bool {
        policy.channels.delivery(channel).is_some_and(|rule| rule.presence_events)
            && self.may(policy, handle, identity, channel, Right::Presence).await.is_ok()
    }

    /// Joins on behalf of the client. `seal` is told what joining brought, before anything published later.
    pub(crate) async fn enter_with(
        &self,
        permission: Permission,
        handle: &Arc<Handle>,
        channel: &ChannelName,
        past: Past,
        seal: impl Fn(Joined),
    ) -> Result<Joined, JoinRefusal> {
        let Permission { policy, identity, hears_presence } = permission;
        let entrance =
            Entrance { handle, channel, policy: Some(&policy), hears_presence, by: By::Client, past };
        let joined = self.enter(entrance, seal)?;
        // Whoever changed rules or claims since the question may have looked for members before this one was there.
        let is_current = self.policy(handle).is_some_and(|now| Arc::ptr_eq(&now.policy, &policy.policy))
            && Arc::ptr_eq(&handle.membership().identity(), &identity);
        if !is_current {
            self.recheck_one(handle, channel).await;
        }
        Ok(joined)
    }

    /// Joins a channel that the handshake named and the rules have admitted. The parameter `after` of the query, as
    /// `channel:id`, resumes.
    pub(crate) async fn join_at_handshake(&self, handle: &Arc<Handle>, channel: &ChannelName, query: &str) {
        let Some(policy) = self.policy(handle) else { return };
        let wanted = query_values(query, "after").find_map(|value| {
            Some(value.split_once(':').filter(|(name, _)| *name == channel.as_str())?.1.to_owned())
        });
        let past = match wanted {
            Some(after) => after.parse().map_or(Past::Unknown, Past::After),
            None => on_join(policy.channels.delivery(channel)),
        };
        let identity = handle.membership().identity();
        let hears_presence = self.may_hear(&policy, handle, &identity, channel).await;
        // A client that knows the gateway's own messages is told; others never asked for one.
        let has_protocol = !policy.policy.control.key.is_empty();
        let seal = |joined: Joined| {
            if has_protocol {
                let event = frame(&policy, joined_frame(channel, joined));
                let _ = handle.push(&OutboundMessage::text(event), now_millis());
            }
        };
        let entrance =
            Entrance { handle, channel, policy: Some(&policy), hears_presence, by: By::Handshake, past };
        // The limit was looked at when the names were read; since then only the backend can have put it anywhere.
        if let Err(refusal) = self.enter(entrance, seal) {
            return self.note_refusal(handle, channel, refusal.diagnosis, refusal.text);
        }
        // `$connect` may have taken half a minute, and the rules or the claims may have changed meanwhile. A backend
        // that was asked is not asked again unless they have.
        let is_same = handle.stage.policy.as_ref().is_some_and(|then| {
            self.policy(handle).is_some_and(|now| Arc::ptr_eq(&now.policy, &then.policy))
        });
        let decision = policy.channels.decide(channel, &handle.membership().identity(), Right::Join);
        if !is_same || matches!(decision, Decision::Deny { .. }) {
            self.recheck_one(handle, channel).await;
        }
    }

    /// Joins because the backend says so; no rule is asked, now or later.
    pub(crate) fn put_into_channel(
        &self,
        handle: &Arc<Handle>,
        channel: &ChannelName,
        by: By,
    ) -> Result<Joined, JoinRefusal> {
        let policy = self.policy(handle);
        let rule = policy.as_ref().and_then(|policy| policy.channels.delivery(channel));
        let past = on_join(rule);
        // Whoever the backend puts there may be told who comes; asking a backend again would be asking itself.
        let identity = handle.membership().identity();
        let hears_presence = rule.is_some_and(|rule| rule.presence_events)
            && policy.as_ref().is_some_and(|policy| {
                policy.channels.decide(channel, &identity, Right::Presence) == Decision::Allow
            });
        let policy = policy.as_deref();
        self.enter(Entrance { handle, channel, policy, hears_presence, by, past }, |_| {})
    }

    fn enter(&self, entrance: Entrance<'_>, seal: impl Fn(Joined)) -> Result<Joined, JoinRefusal> {
        let Entrance { handle, channel, policy, hears_presence, by, past } = entrance;
        let limit = policy.map_or(DEFAULT_CHANNELS, |policy| policy.policy.channels.max_per_connection);
        let membership = handle.membership();
        let _change = membership.change();
        let is_by_backend = matches!(by, By::Management | By::Administrator);
        membership.note(channel, limit, is_by_backend).map_err(|unnoted| match unnoted {
            Unnoted::Limit => JoinRefusal::new(
                Diagnosis::CHANNEL_TOO_MANY,
                format!("a connection may be in {limit} channels at a time"),
            ),
            Unnoted::Over => JoinRefusal::new(Diagnosis::GONE_CLIENT_CLOSED, "the connection has ended"),
        })?;
        let key = Key::of(handle, Kind::Channel, channel.to_shared());
        let member = Member::new(handle, hears_presence);
        let history = policy.and_then(|policy| policy.channels.delivery(channel)?.history);
        let joined = self.groups.join(&key, &member, past, history, now_millis(), seal);
        if joined.is_new {
            self.tell_presence(handle, channel, policy, &key, "join");
            self.note_membership(handle, channel, "join", by);
        }
        Ok(joined)
    }

    /// Leaves a channel. False when the connection was not in it.
    pub(crate) fn leave_channel(&self, handle: &Arc<Handle>, channel: &ChannelName, by: By) -> bool {
        let membership = handle.membership();
        let _change = membership.change();
        if !membership.forget(channel) {
            return false;
        }
        let key = Key::of(handle, Kind::Channel, channel.to_shared());
        self.groups.leave(&key, handle.facts.connection_id);
        let policy = self.policy(handle);
        self.tell_presence(handle, channel, policy.as_deref(), &key, "leave");
        self.note_membership(handle, channel, "leave", by);
        true
    }

    fn note_membership(&self, handle: &Handle, channel: &ChannelName, change: &'static str, by: By) {
        let place = self.place(handle);
        let channel = channel.to_shared();
        self.notice(Notice::MembershipChanged { place, channel, change, by: by.as_str() });
    }

    /// Leaves everything, because the connection has ended.
    pub(crate) fn leave_all(&self, handle: &Arc<Handle>) {
        let Some(membership) = handle.membership_if_any() else { return };
        let _change = membership.change();
        let (channels, keys) = membership.end();
        for key in keys {
            self.groups.leave(&key, handle.facts.connection_id);
        }
        let policy = if channels.is_empty() { None } else { self.policy(handle) };
        for channel in channels {
            let key = Key::of(handle, Kind::Channel, channel.to_shared());
            self.groups.leave(&key, handle.facts.connection_id);
            self.tell_presence(handle, &channel, policy.as_deref(), &key, "leave");
        }
    }

    /// Tells members who may know that somebody came or went.
    fn tell_presence(
        &self,
        handle: &Handle,
        channel: &ChannelName,
        policy: Option<&StagePolicy>,
        key: &Key,
        what: &str,
    ) {
        let Some(policy) = policy else { return };
        if !policy.channels.delivery(channel).is_some_and(|rule| rule.presence_events) {
            return;
        }
        let id = handle.facts.connection_id;
        let mut event = json!({ "type": what, "channel": channel.as_str(), "connectionId": id.to_string() });
        if let Some(user) = &handle.membership().identity().user {
            event["user"] = (**user).into();
        }
        let message = OutboundMessage::text(frame(policy, event));
        let now = now_millis();
        for member in self.groups.members(key) {
            if member.hears_presence && member.handle.facts.connection_id != id {
                let _ = member.handle.push(&message, now);
            }
        }
    }

    /// Asks the rules again about everybody whom `concerns`; those who may not stay are taken out and told so. Whom the
    /// backend has put somewhere stays. Answers how many memberships ended.
    pub(crate) async fn recheck(&self, concerns: impl Fn(&Handle) -> bool) -> usize {
        let mut concerned = Vec::new();
        self.registry.for_each(|handle| {
            if handle.membership_if_any().is_some() && handle.is_open() && concerns(handle) {
                concerned.push(Arc::clone(handle));
            }
        });
        let n_removed = AtomicUsize::new(0);
        // A backend that has to be asked about many is not asked one after the other, nor all at once.
        futures_util::stream::iter(concerned)
            .for_each_concurrent(RECHECKED_AT_A_TIME, async |handle| {
                for channel in handle.membership().channels_by_rule() {
                    let is_removed = self.recheck_one(&handle, &channel).await;
                    n_removed.fetch_add(usize::from(is_removed), Ordering::Relaxed);
                }
            })
            .await;
        n_removed.into_inner()
    }

    /// Asks the rules again about one membership. True when it ended by that.
    async fn recheck_one(&self, handle: &Arc<Handle>, channel: &ChannelName) -> bool {
        let Some(policy) = self.policy(handle) else { return false };
        let identity = handle.membership().identity();
        let Err(refusal) = self.may(&policy, handle, &identity, channel, Right::Join).await else {
            let hears_presence = self.may_hear(&policy, handle, &identity, channel).await;
            let key = Key::of(handle, Kind::Channel, channel.to_shared());
            self.groups.set_hears_presence(&key, handle.facts.connection_id, hears_presence);
            return false;
        };
        if !self.leave_channel(handle, channel, By::Rules) {
            return false;
        }
        let event = json!({
            "type": "removed",
            "channel": channel.as_str(),
            "id": Diagnosis::PERM_CHANNEL.as_str(),
            "message": "you may no longer use this channel",
        });
        let _ = handle.push(&OutboundMessage::text(frame(&policy, event)), now_millis());
        self.note_refusal(handle, channel, Diagnosis::PERM_CHANNEL, refusal.detail);
        true
    }

    pub(crate) fn note_refusal(
        &self,
        handle: &Handle,
        channel: &ChannelName,
        diagnosis: Diagnosis,
        detail: String,
    ) {
        let place = self.place(handle);
        self.notice(Notice::ChannelRefused {
            facts: Facts::none(),
            place,
            channel: channel.to_shared(),
            diagnosis,
            detail,
        });
    }

    /// Rules of these stages have changed: answers of backends are forgotten, memberships checked again.
    pub(crate) fn policies_changed(self: &Arc<Self>, stages: HashSet<(Arc<str>, Arc<str>)>) {
        self.answers.forget(|_| true);
        let gateway = Arc::clone(self);
        let recheck = async move {
            let concerns = |handle: &Handle| {
                stages.contains(&(Arc::clone(&handle.facts.api_id), Arc::clone(&handle.facts.stage)))
            };
            gateway.recheck(concerns).await;
        };
        // Definitions may be published before there is a runtime, and then nobody is connected.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.spawn_on(recheck, &runtime);
        }
    }
}

impl Answers {
    /// What is known, and what [`Self::remember`] wants to be told with the answer otherwise.
    fn find(&self, question: &Question, now: u64) -> (Option<bool>, u64) {
        let known = self.known.lock();
        let answer = known.by_question.get(question).filter(|(_, until)| *until > now);
        (answer.map(|(is_yes, _)| *is_yes), known.generation)
    }

    fn remember(&self, question: Question, is_yes: bool, until: u64, now: u64, generation: u64) {
        let mut known = self.known.lock();
        if known.generation != generation {
            return;
        }
        let answers = &mut known.by_question;
        if answers.len() >= MAX_ANSWERS {
            answers.retain(|_, (_, until)| *until > now);
            if answers.len() >= MAX_ANSWERS {
                // Asked again: slower, never wrong.
                answers.clear();
            }
        }
        answers.insert(question, (is_yes, until));
    }

    fn forget(&self, is_meant: impl Fn(&Question) -> bool) {
        let mut known = self.known.lock();
        known.generation += 1;
        known.by_question.retain(|question, _| !is_meant(question));
    }

    /// Forgets what was said about a user.
    pub(crate) fn forget_user(&self, user: &str) {
        let who = format!("user {user}");
        self.forget(|question| question.who == who);
    }
}

/// What somebody who asks for nothing gets of the past.
pub(crate) fn on_join(rule: Option<&Rule>) -> Past {
    match rule.and_then(|rule| rule.history) {
        Some(history) if history.on_join => Past::All,
        _ => Past::None,
    }
}

/// A message of the gateway itself: below the reserved member where there is one.
pub(crate) fn frame(policy: &StagePolicy, event: Value) -> Bytes {
    let key = &policy.policy.control.key;
    let text = match key.is_empty() {
        true => event.to_string(),
        false => {
            let mut outer = serde_json::Map::new();
            outer.insert(key.clone(), event);
            Value::Object(outer).to_string()
        }
    };
    Bytes::from(text)
}

/// A published message in its envelope. `payload` that is no JSON becomes a JSON text.
pub(crate) fn envelope(
    policy: &StagePolicy,
    channel: &ChannelName,
    id: Option<MessageId>,
    payload: &Bytes,
) -> Bytes {
    let text = String::from_utf8_lossy(payload);
    let data = match serde_json::from_str::<&serde_json::value::RawValue>(&text) {
        Ok(raw) => raw.get().to_owned(),
        Err(_) => Value::from(text.as_ref()).to_string(),
    };
    let id = id.map(|id| format!(r#","id":"{id}""#)).unwrap_or_default();
    // Put together by hand, so that the data keep their numbers and their order.
    let inner = format!(r#"{{"type":"message","channel":"{channel}"{id},"data":{data}}}"#);
    let key = &policy.policy.control.key;
    Bytes::from(match key.is_empty() {
        true => inner,
        false => format!("{{{}:{inner}}}", Value::from(key.as_str())),
    })
}

/// Members of a channel, as `presence` shows them.
pub(crate) fn presence(gateway: &Gateway, stage: &Stage, channel: &ChannelName, limit: usize) -> Value {
    let key = Key {
        api_id: Arc::clone(&stage.api_id),
        stage: Arc::clone(&stage.name),
        kind: Kind::Channel,
        name: channel.to_shared(),
    };
    let members = gateway.groups.members(&key);
    let mut users: Vec<String> = members
        .iter()
        .filter_map(|member| member.handle.membership().identity().user.as_deref().map(str::to_owned))
        .collect();
    users.sort_unstable();
    users.dedup();
    let n_users = users.len();
    users.truncate(limit);
    json!({ "connections": members.len(), "users": n_users, "userIds": users })
}

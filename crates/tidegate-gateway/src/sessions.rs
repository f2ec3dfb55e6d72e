//! What is connected, as operators and backends see it, and how it ends by their will.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use tidegate_core::context::ConnectionFacts;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::identity::{AuthKind, Identity};
use tidegate_ws::{CloseCode, CloseFrame};

use crate::clock::now_millis;
use crate::connection::close_reason;
use crate::connection::handle::{CloseCause, Handle};
use crate::connection::recent::RecentMessage;
use crate::gateway::Gateway;
use crate::groups::{Key, Kind};

/// One connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectionInfo {
    /// Its id.
    pub connection_id: String,
    /// API.
    pub api: String,
    /// Stage.
    pub stage: String,
    /// Node that holds it.
    pub node: u8,
    /// `open`, `pending` while its `$connect` runs, `closing`.
    pub state: &'static str,
    /// Address of the client.
    pub source_ip: IpAddr,
    /// User id, when the gateway knows one.
    pub user: Option<String>,
    /// What established it.
    pub auth: AuthKind,
    /// Session id.
    pub session: Option<String>,
    /// Roles of the user.
    pub roles: Vec<String>,
    /// Channels, in the order of joining.
    pub channels: Vec<String>,
    /// Milliseconds since 1970.
    pub connected_at: u64,
    /// Milliseconds since 1970: last message in either direction.
    pub last_active_at: u64,
    /// Milliseconds since 1970: last message from the client; 0 = none.
    pub last_received_at: u64,
    /// Milliseconds since 1970: last message to the client; 0 = none.
    pub last_sent_at: u64,
    /// Messages from the client.
    pub messages_in: u64,
    /// Messages to the client.
    pub messages_out: u64,
    /// Their payload, in bytes.
    pub bytes_in: u64,
    /// Their payload, in bytes.
    pub bytes_out: u64,
    /// As the client sent it.
    pub user_agent: Option<String>,
    /// The newest messages of both ways, in the order of time; only where one connection is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<RecentMessage>,
}

/// Which connections; every member narrows it down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectionFilter {
    /// API id.
    pub api_id: Option<String>,
    /// Stage name.
    pub stage: Option<String>,
    /// User id.
    pub user: Option<String>,
    /// Session id.
    pub session: Option<String>,
    /// Channel name.
    pub channel: Option<String>,
    /// Address of the client.
    pub source_ip: Option<IpAddr>,
    /// Connected at least this many seconds ago.
    pub min_age: Option<u64>,
    /// Connected at most this many seconds ago.
    pub max_age: Option<u64>,
    /// Only those that are open: none whose `$connect` has not said yes, none that is ending.
    pub is_open: bool,
}

/// Where a listing goes on. A connection that is there all the time is listed exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u32);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "c{:x}", self.0)
    }
}

impl std::str::FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        u32::from_str_radix(text.strip_prefix('c').ok_or(())?, 16).map(Self).map_err(|_| ())
    }
}

/// Whom an administrator ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All connections of a session.
    Session(String),
    /// All connections of a user.
    User(String),
    /// All connections that a JSON Web Token opened.
    TokenId(String),
}

/// How an administrator ends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The login has ended.
    SessionEnded,
    /// The right to be here was taken away.
    AccessRevoked,
}

impl ConnectionFilter {
    fn fits(&self, handle: &Handle, now: u64) -> bool {
        let facts = &handle.facts;
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| value == Some(wanted))
        };
        let age = now.saturating_sub(facts.connected_at) / 1000;
        if !is(&self.api_id, Some(&facts.api_id))
            || !is(&self.stage, Some(&facts.stage))
            || self.source_ip.is_some_and(|wanted| wanted != facts.source_ip)
            || self.min_age.is_some_and(|wanted| age < wanted)
            || self.max_age.is_some_and(|wanted| age > wanted)
            || (self.is_open && !handle.is_open())
        {
            return false;
        }
        if self.user.is_none() && self.session.is_none() && self.channel.is_none() {
            return true;
        }
        let Some(membership) = handle.membership_if_any() else { return false };
        let identity = membership.identity();
        is(&self.user, identity.user.as_deref())
            && is(&self.session, identity.session.as_deref())
            && self
                .channel
                .as_deref()
                .is_none_or(|wanted| membership.channels().iter().any(|channel| channel.as_str() == wanted))
    }
}

impl Gateway {
    /// Connections of this node in the order of their places, at most `limit`, and where the rest begins.
    pub fn connections(
        &self,
        filter: &ConnectionFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> (Vec<ConnectionInfo>, Option<Cursor>) {
        let now = now_millis();
        let mut page = self.page(filter, after, limit.saturating_add(1), now);
        let next = (page.len() > limit).then(|| {
            page.truncate(limit);
            page.last().map(|handle| Cursor(handle.facts.connection_id.slot()))
        });
        (page.iter().map(|handle| info(handle)).collect(), next.flatten())
    }

    fn page(
        &self,
        filter: &ConnectionFilter,
        after: Option<Cursor>,
        limit: usize,
        now: u64,
    ) -> Vec<Arc<Handle>> {
        let from = after.map_or(0, |Cursor(slot)| slot.saturating_add(1));
        if let Some(mut members) = self.members(filter) {
            members.retain(|handle| handle.facts.connection_id.slot() >= from && filter.fits(handle, now));
            members.sort_unstable_by_key(|handle| handle.facts.connection_id.slot());
            members.truncate(limit);
            return members;
        }
        self.registry.page(from, limit, |handle| filter.fits(handle, now))
    }

    /// Candidates out of the smallest group that the filter names, so that nobody walks over everything for one user.
    fn members(&self, filter: &ConnectionFilter) -> Option<Vec<Arc<Handle>>> {
        let (Some(api_id), Some(stage)) = (&filter.api_id, &filter.stage) else { return None };
        let (kind, name) = match filter {
            ConnectionFilter { user: Some(user), .. } => (Kind::User, user),
            ConnectionFilter { session: Some(session), .. } => (Kind::Session, session),
            ConnectionFilter { channel: Some(channel), .. } => (Kind::Channel, channel),
            _ => return None,
        };
        let key = Key {
            api_id: api_id.as_str().into(),
            stage: stage.as_str().into(),
            kind,
            name: name.as_str().into(),
        };
        Some(self.groups.members(&key).into_iter().map(|member| member.handle).collect())
    }

    /// How many connections fit.
    pub fn count_connections(&self, filter: &ConnectionFilter) -> usize {
        let now = now_millis();
        if let Some(members) = self.members(filter) {
            return members.iter().filter(|handle| filter.fits(handle, now)).count();
        }
        let mut n_connections = 0;
        self.registry.for_each(|handle| n_connections += usize::from(filter.fits(handle, now)));
        n_connections
    }

    /// One connection, by the text of its id.
    pub fn connection(&self, id: &str) -> Option<ConnectionInfo> {
        let handle = self.registry.find(ConnectionId::parse(id).ok()?)?;
        Some(ConnectionInfo { recent: handle.recent_messages(), ..info(&handle) })
    }

    /// Closes a connection because an administrator says so. False when it is not there.
    pub fn kick(&self, id: &str, code: u16, reason: &str) -> bool {
        let handle = ConnectionId::parse(id).ok().and_then(|id| self.registry.find(id));
        let code = CloseCode::new(code).unwrap_or(CloseCode::POLICY_VIOLATION);
        handle.is_some_and(|handle| {
            let cause =
                CloseCause::requested(CloseFrame::new(code, reason), Diagnosis::CLOSE_BACKEND_REQUESTED);
            handle.close(cause.with("actor", "administrator").with("requestedAt", now_millis()))
        })
    }

    /// Closes every connection of a subject, within one stage or API where they are named. Answers how many there were.
    pub fn end_connections(
        &self,
        subject: &Subject,
        api_id: Option<&str>,
        stage: Option<&str>,
        ending: Ending,
    ) -> usize {
        let mut n_ended = 0;
        let mut end = |handle: &Arc<Handle>| n_ended += usize::from(handle.close(ended(ending)));
        let (kind, name) = match subject {
            Subject::Session(session) => (Kind::Session, session),
            Subject::User(user) => (Kind::User, user),
            Subject::TokenId(token_id) => {
                self.registry.for_each(|handle| {
                    let identity = handle.membership_if_any().map(|membership| membership.identity());
                    if identity.is_some_and(|identity| identity.token_id.as_ref() == Some(token_id))
                        && is_in(&handle.facts, api_id, stage)
                    {
                        end(handle);
                    }
                });
                return n_ended;
            }
        };
        for (key, _) in self.groups.list(kind, api_id, stage) {
            if *key.name == **name {
                self.groups.members(&key).iter().for_each(|member| end(&member.handle));
            }
        }
        n_ended
    }

    /// Names of the groups of one kind with their numbers of connections, in the order of API, stage and name.
    fn list_groups(&self, kind: Kind, api_id: Option<&str>, stage: Option<&str>) -> Vec<GroupInfo> {
        let groups = self.groups.list(kind, api_id, stage).into_iter();
        groups
            .map(|(key, n_connections)| GroupInfo {
                api: key.api_id.to_string(),
                stage: key.stage.to_string(),
                name: key.name.to_string(),
                connections: n_connections,
            })
            .collect()
    }

    /// Channels that have members or history.
    pub fn list_channels(&self, api_id: Option<&str>, stage: Option<&str>) -> Vec<GroupInfo> {
        self.list_groups(Kind::Channel, api_id, stage)
    }

    /// Users that are connected.
    pub fn list_users(&self, api_id: Option<&str>, stage: Option<&str>) -> Vec<GroupInfo> {
        self.list_groups(Kind::User, api_id, stage)
    }

    /// Sessions that are connected.
    pub fn list_sessions(&self, api_id: Option<&str>, stage: Option<&str>) -> Vec<GroupInfo> {
        self.list_groups(Kind::Session, api_id, stage)
    }

    /// Gives a connected user other roles and claims, and asks the channel rules again. Answers how many connections that
    /// concerned, and how many memberships ended by it.
    pub async fn set_claims(
        &self,
        user: &str,
        api_id: Option<&str>,
        stage: Option<&str>,
        change: impl Fn(&Identity) -> Identity,
    ) -> (usize, usize) {
        let mut n_connections = 0;
        for (key, _) in self.groups.list(Kind::User, api_id, stage) {
            if *key.name != *user {
                continue;
            }
            for member in self.groups.members(&key) {
                let membership = member.handle.membership();
                let before = membership.identity();
                let mut identity = change(&before);
                // Who they are, and until when, is not for claims to say.
                identity.user.clone_from(&before.user);
                identity.session.clone_from(&before.session);
                identity.expires_at = before.expires_at;
                membership.set_identity(Arc::new(identity));
                n_connections += 1;
            }
        }
        self.answers.forget_user(user);
        let n_removed = self
            .recheck(|handle| {
                is_in(&handle.facts, api_id, stage)
                    && handle.membership_if_any().is_some_and(|m| m.identity().user.as_deref() == Some(user))
            })
            .await;
        (n_connections, n_removed)
    }
}

/// A channel, a user or a session with its connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupInfo {
    /// API.
    pub api: String,
    /// Stage.
    pub stage: String,
    /// Its name or id.
    pub name: String,
    /// Connections.
    pub connections: usize,
}

fn is_in(facts: &ConnectionFacts, api_id: Option<&str>, stage: Option<&str>) -> bool {
    api_id.is_none_or(|api_id| *facts.api_id == *api_id) && stage.is_none_or(|stage| *facts.stage == *stage)
}

fn ended(ending: Ending) -> CloseCause {
    let (reason, diagnosis) = match ending {
        Ending::SessionEnded => (close_reason::SESSION_ENDED, Diagnosis::CLOSE_SESSION_ENDED),
        Ending::AccessRevoked => (close_reason::ACCESS_REVOKED, Diagnosis::CLOSE_ACCESS_REVOKED),
    };
    CloseCause::requested(CloseFrame::new(CloseCode::POLICY_VIOLATION, reason), diagnosis)
        .with("requestedAt", now_millis())
}

fn info(handle: &Handle) -> ConnectionInfo {
    let facts = &handle.facts;
    let membership = handle.membership_if_any();
    let identity = membership.map(|membership| membership.identity()).unwrap_or_default();
    let traffic = handle.traffic();
    ConnectionInfo {
        connection_id: facts.connection_id.to_string(),
        api: facts.api_id.to_string(),
        stage: facts.stage.to_string(),
        node: facts.connection_id.node(),
        state: match (handle.is_pending(), handle.is_open()) {
            (true, _) => "pending",
            (false, true) => "open",
            (false, false) => "closing",
        },
        source_ip: facts.source_ip,
        user: identity.user.as_deref().map(str::to_owned),
        auth: identity.auth,
        session: identity.session.as_deref().map(str::to_owned),
        roles: identity.roles.clone(),
        channels: membership
            .map(|membership| membership.channels().iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        connected_at: facts.connected_at,
        last_active_at: handle.last_active(),
        last_received_at: traffic.last_received_at,
        last_sent_at: traffic.last_sent_at,
        messages_in: traffic.messages_in,
        messages_out: traffic.messages_out,
        bytes_in: traffic.bytes_in,
        bytes_out: traffic.bytes_out,
        user_agent: facts.user_agent.as_deref().map(str::to_owned),
        recent: Vec::new(),
    }
}

//! Who is let in: from what a token says to a session and the first frame.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_core::app::{Connect, Connected, Refusal};
use tidegate_core::context::ConnectionFacts;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::port::StoreError;
use tidegate_store::sql::{Outcome, SqlError, Tx};

use super::{Chat, FIRST_EVENT, NOT_AUTHENTICATED, NOT_AUTHENTICATED_REASON};
use crate::connections::Session;
use crate::dispatcher::Dispatcher;
use crate::error::ChatError;
use crate::event::{Ctx, Frame, encode};
use crate::extension::{UserDirectory, guarded};
use crate::front::Front;
use crate::model::{Micros, User, UserId};
use crate::settings::{Directory, RefusalForm, Settings};
use crate::store::sessions as table;
use crate::store::users::{self, Claimed, Entry};
use crate::value;

impl Chat {
    /// Not authenticated.
    pub(super) fn not_authenticated(settings: &Settings, diagnosis: Diagnosis) -> Refusal {
        Refusal {
            close_code: (settings.refusal == RefusalForm::Close).then_some(NOT_AUTHENTICATED),
            ..Refusal::new(403, NOT_AUTHENTICATED_REASON, diagnosis)
        }
    }

    async fn nobody(&self, settings: &Settings, why: &'static str, is_dry_run: bool) -> Box<Refusal> {
        if !is_dry_run {
            self.front.refused(why).await;
        }
        let mut refusal = Self::not_authenticated(settings, Diagnosis::CHAT_AUTH_FAILED);
        refusal.detail = why.to_owned();
        refusal.facts = Facts::none().with("check", why);
        Box::new(refusal)
    }

    pub(super) async fn admit(&self, connect: Connect<'_>) -> Result<Connected, Box<Refusal>> {
        let settings = self.settings.load();
        let is_dry_run = connect.is_dry_run;
        let named = connect.identity.user.as_deref();
        let id = named.and_then(|user| value::user_id(&Value::from(user), &settings));
        let Some(id) = id else {
            return Err(self.nobody(&settings, "user id", is_dry_run).await);
        };
        let now = self.dispatcher.host().map_or(0, |host| host.now());
        let connection = connect.connection;
        // Before anything is read: what happens from now on waits for this connection.
        let begun = match is_dry_run {
            true => None,
            false => {
                let connections = &self.dispatcher.connections;
                if let Err(too_many) = connections.begin(&id, connection, now, settings.max_devices) {
                    return Err(too_many_devices(&settings, too_many.count));
                }
                Some(Begun { dispatcher: &self.dispatcher, connection, is_kept: false })
            }
        };
        let claimed = Claimed::of(connect.identity, |claim| settings.render.user.keeps(claim));
        let welcome = self.welcome(&settings, &id, claimed, is_dry_run).await;
        let (user, first) = match welcome {
            Ok(Welcome::Nobody(why)) => return Err(self.nobody(&settings, why, is_dry_run).await),
            Ok(Welcome::TooMany(count)) => return Err(too_many_devices(&settings, count)),
            Ok(Welcome::User { user, first }) => (user, first),
            Err(error) => {
                return Err(no_database(&error));
            }
        };
        let Some(mut begun) = begun else { return Ok(Connected::default()) };
        let user = Arc::new(user);
        self.dispatcher.connections.set_user(Arc::clone(&user));
        if let Err(refused) = self.front.connected(&settings, &user, connection.connection_id, now).await {
            let facts = Facts::none().with("check", "hook").with("closeCode", refused.code);
            let refusal = Refusal::new(403, refused.reason, Diagnosis::CHAT_AUTH_FAILED);
            return Err(Box::new(Refusal { close_code: Some(refused.code), facts, ..refusal }));
        }
        let session = Session { connection: Arc::clone(connection), user: id, last_seen: now };
        if let Err(refusal) = self.register(&settings, session, &user).await {
            // It was said to have connected.
            self.front.disconnected(&settings, &user, connection.connection_id, now).await;
            return Err(refusal);
        }
        begun.is_kept = true;
        Ok(Connected { channels: Vec::new(), first })
    }

    /// Who connects, written down where that is new, and the first frame.
    async fn welcome(
        &self,
        settings: &Arc<Settings>,
        id: &UserId,
        claimed: Claimed,
        is_dry_run: bool,
    ) -> Result<Welcome, StoreError> {
        let answer: Arc<Mutex<Option<Result<Welcome, ChatError>>>> = Arc::default();
        let work = |may_write: bool| {
            let (settings, id, claimed) = (Arc::clone(settings), id.clone(), claimed.clone());
            let (answer, clock) = (Arc::clone(&answer), Arc::clone(&self.clock));
            let front = Arc::clone(&self.front);
            // Devices at other nodes count too, as far as those have written them; this one is among those here.
            let elsewhere = (settings.max_devices > 0 && !is_dry_run && self.database.is_shared())
                .then(|| (self.sessions.node, self.dispatcher.connections.devices(&id).saturating_sub(1)));
            move |tx: &mut dyn Tx| {
                let found = guarded(|| {
                    let directory = &*front.extensions.users;
                    let entered = enter(tx, directory, &settings, &id, &claimed, may_write, is_dry_run)?;
                    let Entered::User(user) = entered else { return Ok(entered.into_welcome()) };
                    if let Some((node, here)) = elsewhere {
                        let count = here + table::count_elsewhere(tx, node, &id)?;
                        if count >= settings.max_devices {
                            return Ok(Some(Welcome::TooMany(count)));
                        }
                    }
                    let first = match settings.notifications && !is_dry_run {
                        true => vec![first_frame(tx, &settings, &front, &user, clock.now())?],
                        false => Vec::new(),
                    };
                    Ok(Some(Welcome::User { user, first }))
                });
                let is_kept = matches!(found, Ok(Some(Welcome::User { .. })));
                *answer.lock() = found.transpose();
                let after = Box::new(|| ());
                Ok::<_, SqlError>(if is_kept { Outcome::Commit(after) } else { Outcome::Rollback(after) })
            }
        };
        self.database.read(Box::new(work(false))).await?;
        let mut found = answer.lock().take();
        if found.is_none() {
            // Two devices of a new user come at the same time, or two users of one name: one waits, or tries again.
            for _ in 0..3 {
                self.database.write(vec![lock_of_user(id)], Box::new(work(true))).await?;
                found = answer.lock().take();
                if !matches!(found, Some(Err(ChatError::Integrity { .. }))) {
                    break;
                }
            }
        }
        let none =
            || StoreError::Unavailable { operation: "read", source: "a work without an answer".into() };
        let failed = |error: ChatError| StoreError::Unavailable { operation: "read", source: error.into() };
        found.ok_or_else(none)?.map_err(failed)
    }
}

/// A connection under way: forgotten again unless it is kept.
struct Begun<'a> {
    dispatcher: &'a Dispatcher,
    connection: &'a Arc<ConnectionFacts>,
    is_kept: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.dispatcher.connections.remove(self.connection.connection_id);
        }
    }
}

/// Nobody can be let in.
pub(super) fn no_database(error: &StoreError) -> Box<Refusal> {
    tracing::error!(%error, diag = Diagnosis::STORE_UNAVAILABLE.as_str(), "nobody can connect to the chat");
    let refusal = Refusal::new(503, "Service Unavailable", Diagnosis::STORE_UNAVAILABLE);
    Box::new(Refusal { retry_after: Some(1), ..refusal })
}

fn too_many_devices(settings: &Settings, count: usize) -> Box<Refusal> {
    let facts = Facts::none().with("limit", settings.max_devices).with("count", count);
    let close_code = (settings.refusal == RefusalForm::Close).then_some(1008);
    let refusal = Refusal::new(429, "Too many devices", Diagnosis::LIMIT_CONNECTIONS);
    Box::new(Refusal { close_code, facts, ..refusal })
}

/// Somebody at the door.
#[derive(Debug, Clone)]
enum Welcome {
    Nobody(&'static str),
    /// So many devices, all nodes together.
    TooMany(usize),
    User {
        user: User,
        first: Vec<Bytes>,
    },
}

enum Entered {
    User(User),
    Nobody(&'static str),
    /// Only in a transaction that may write.
    NotYet,
}

impl Entered {
    fn into_welcome(self) -> Option<Welcome> {
        match self {
            Self::Nobody(why) => Some(Welcome::Nobody(why)),
            Self::User(user) => Some(Welcome::User { user, first: Vec::new() }),
            Self::NotYet => None,
        }
    }
}

fn enter(
    tx: &mut dyn Tx,
    directory: &dyn UserDirectory,
    settings: &Settings,
    id: &UserId,
    claimed: &Claimed,
    may_write: bool,
    is_dry_run: bool,
) -> Result<Entered, ChatError> {
    if settings.directory == Directory::Closed && directory.get(tx, id)?.is_none() {
        return Ok(Entered::Nobody("directory"));
    }
    Ok(match directory.upsert_from_claims(tx, id, claimed)? {
        Entry::Known(user) | Entry::New(user) if user.is_disabled => Entered::Nobody("disabled"),
        Entry::Known(user) => Entered::User(user),
        Entry::New(user) if is_dry_run => Entered::User(user),
        Entry::New(_) if !may_write => Entered::NotYet,
        Entry::New(user) => {
            users::write(tx, &user)?;
            Entered::User(user)
        }
    })
}

fn first_frame(
    tx: &mut dyn Tx,
    settings: &Settings,
    front: &Front,
    user: &User,
    now: Micros,
) -> Result<Bytes, ChatError> {
    let mut ctx = Ctx::new(tx, settings, user, None, now);
    ctx.extensions = &front.extensions;
    let handler = &front.extensions.handler;
    let data = handler.pending_notifications(&mut ctx)?;
    let frame = Frame::Raw(json!({ "eventType": FIRST_EVENT, "data": data }));
    Ok(encode(&frame, settings).as_bytes().to_vec().into())
}

/// FNV-1a: the same on every node and in every version.
fn lock_of_user(id: &UserId) -> u64 {
    let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

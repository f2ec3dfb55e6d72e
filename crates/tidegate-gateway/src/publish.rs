//! One message to many: channels, users, sessions, everyone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tidegate_core::channel::ChannelName;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{self, Facts};
use tidegate_core::nearest::nearest;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::policy::SlowReader;
use tidegate_core::snapshot::Stage;
use tidegate_ws::OutboundMessage;
use tokio::sync::watch;

use crate::channels::envelope;
use crate::clock::now_millis;
use crate::connection::handle::PushRefusal;
use crate::gateway::Gateway;
use crate::groups::{Except, Key, Kind, Outcome};
use crate::push::LOOK_AGAIN;
use crate::push::idempotency::Claim;

/// Milliseconds between two looks for channels of nearly the same name.
const SIMILAR_PAUSE: u64 = 100;

/// Names that such a look tells.
const MAX_SIMILAR: usize = 5;

pub use tidegate_core::push::{Publish, PushResult, Target};

/// Why a push with an idempotency key was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OnceError {
    /// The key was used for another one.
    #[error("the idempotency key was used for another push")]
    OtherPush,
    /// No more keys can be remembered; those that are expire.
    #[error("too many idempotency keys")]
    Full,
    /// The push did not come to its end, and nobody knows how far it came.
    #[error("the push was interrupted")]
    Interrupted,
}

async fn concluded(
    mut result: watch::Receiver<Option<Arc<PushResult>>>,
) -> Result<Arc<PushResult>, OnceError> {
    let concluded = result.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
    concluded.ok_or(OnceError::Interrupted)
}

impl Gateway {
    /// Largest push to many of a stage, in bytes.
    pub fn push_limit(&self, stage: &Stage) -> usize {
        let own = stage.policy.as_ref().map_or(0, |policy| policy.policy.push.max_bytes);
        if own > 0 { own } else { stage.settings.data_plane.max_message_bytes }
    }

    /// As [`Self::push_to_many`], once for each `key` of the stage while it is remembered: whoever repeats it gets the
    /// first result, and true. `subject` says, beside the payload, what makes two pushes the same.
    ///
    /// # Errors
    /// [`OnceError`]; but for [`OnceError::Interrupted`] nothing was sent.
    pub async fn push_once(
        &self,
        stage: &Arc<Stage>,
        key: String,
        subject: String,
        publish: Publish,
        place: &Place,
    ) -> Result<(Arc<PushResult>, bool), OnceError> {
        self.push_once_for(stage, key, subject, publish, place, Facts::none()).await
    }

    /// As [`Self::push_once`]; `caller` says in the journal who asked for it.
    ///
    /// # Errors
    /// As [`Self::push_once`].
    pub async fn push_once_for(
        &self,
        stage: &Arc<Stage>,
        key: String,
        subject: String,
        publish: Publish,
        place: &Place,
        caller: Facts,
    ) -> Result<(Arc<PushResult>, bool), OnceError> {
        let window = stage.policy.as_ref().map_or(300, |policy| policy.policy.push.idempotency_window);
        let key = (Arc::clone(&stage.api_id), Arc::clone(&stage.name), key);
        let subject = (subject, publish.payload.clone());
        match self.idempotency.claim(key.clone(), &subject, now_millis(), window.saturating_mul(1000)) {
            Claim::Other => Err(OnceError::OtherPush),
            Claim::Full => Err(OnceError::Full),
            Claim::First(sender) => {
                let result = sender.subscribe();
                let gateway = self.this().ok_or(OnceError::Interrupted)?;
                let (stage, place) = (Arc::clone(stage), place.clone());
                // A task of its own: a caller that loses patience and repeats must not make two pushes of it.
                self.tasks.spawn(async move {
                    let pushed = gateway.push_to_many_for(&stage, publish, &place, caller).await;
                    gateway.idempotency.conclude(&key, &sender, pushed);
                });
                Ok((concluded(result).await?, false))
            }
            // Whoever repeats the key while the first push is under way waits for its result.
            Claim::Repeated(result) => Ok((concluded(result).await?, true)),
        }
    }

    /// Gives a message to everybody it is for, and says how many there were. Encoded once; nobody waits for anybody, but
    /// where the policy says `slow = "wait"` the caller waits for slow readers.
    pub async fn push_to_many(&self, stage: &Stage, publish: Publish, place: &Place) -> PushResult {
        self.push_to_many_for(stage, publish, place, Facts::none()).await
    }

    /// As [`Self::push_to_many`]; `caller` says in the journal who asked for it.
    pub async fn push_to_many_for(
        &self,
        stage: &Stage,
        publish: Publish,
        place: &Place,
        caller: Facts,
    ) -> PushResult {
        let Publish { targets, payload, except } = publish;
        let label = targets.first().map_or("broadcast", Target::as_str);
        let mut total = Outcome::default();
        // Whoever is in several of the targets gets it once.
        let is_one = matches!(&targets[..], [target] if !matches!(target, Target::ChannelPrefix(_)));
        let has_exceptions = !except.is_empty();
        let mut except = Except::new(except, !is_one);
        for target in &targets {
            let outcome = self.publish_to(stage, target, &payload, &mut except);
            total.delivered += outcome.delivered;
            total.gone.extend(outcome.gone);
            total.slow.extend(outcome.slow);
            total.message_id = outcome.message_id.filter(|_| is_one);
        }
        self.treat_slow(stage, &mut total).await;
        let result = PushResult {
            delivered: total.delivered,
            gone: total.gone,
            slow: total.slow.iter().map(|(handle, _)| handle.facts.connection_id).collect(),
            message_id: total.message_id.map(|id| id.to_string()),
        };
        let facts = self.facts(|| {
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_ok();
            let mut facts = caller
                .with("target", label)
                .with("size", payload.len())
                .with("isJson", is_json)
                .with("delivered", result.delivered)
                .with("gone", result.gone.len())
                .with("slow", result.slow.len());
            if let [Target::Channel(name)] = &targets[..] {
                let n_members = self.groups.n_members(&self.key(stage, Kind::Channel, name.to_shared()));
                facts.add("channel", name.as_str());
                facts.add("members", n_members);
                if n_members == 0 && !has_exceptions {
                    facts.add("similar", self.similar_channels(stage, name));
                }
            }
            facts
        });
        // A channel without members is normal life; one beside a channel of nearly its name is a mistake.
        let has_similar =
            facts.get("similar").is_some_and(|similar| similar.as_array().is_some_and(|all| !all.is_empty()));
        if has_similar {
            self.notice(Notice::Decided {
                place: place.clone(),
                kind: journal::Kind::Post,
                remark: Some(Diagnosis::PUBLISH_NO_SUBSCRIBERS),
                facts: facts.clone(),
            });
        }
        self.notice(Notice::Published {
            facts,
            place: place.clone(),
            target: label,
            size: payload.len(),
            delivered: result.delivered,
            gone: result.gone.len(),
            slow: result.slow.len(),
        });
        result
    }

    /// Channels with members whose names are nearly this one. Looks at most ten times a second, as it looks at all.
    fn similar_channels(&self, stage: &Stage, name: &ChannelName) -> Vec<String> {
        let now = now_millis();
        let before = self.similar_looked_at.load(Ordering::Relaxed);
        if now.saturating_sub(before) < SIMILAR_PAUSE
            || self
                .similar_looked_at
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return Vec::new();
        }
        let all = self.groups.list(Kind::Channel, Some(&stage.api_id), Some(&stage.name));
        let names: Vec<&str> =
            all.iter().filter(|(_, n_members)| *n_members > 0).map(|(key, _)| &*key.name).collect();
        let mut similar: Vec<String> = Vec::new();
        let mut rest = names;
        while similar.len() < MAX_SIMILAR
            && let Some(found) = nearest(name.as_str(), rest.iter().copied())
        {
            similar.push(found.to_owned());
            rest.retain(|other| *other != found);
        }
        similar
    }

    fn key(&self, stage: &Stage, kind: Kind, name: Arc<str>) -> Key {
        Key { api_id: Arc::clone(&stage.api_id), stage: Arc::clone(&stage.name), kind, name }
    }

    fn channels_with(&self, stage: &Stage, prefix: &str) -> Vec<ChannelName> {
        let all = self.groups.list(Kind::Channel, Some(&stage.api_id), Some(&stage.name));
        let fitting = all.into_iter().filter(|(key, _)| key.name.starts_with(prefix));
        fitting.filter_map(|(key, _)| key.name.parse().ok()).collect()
    }

    fn publish_to(&self, stage: &Stage, target: &Target, payload: &Bytes, except: &mut Except) -> Outcome {
        let now = now_millis();
        let plain = |_| payload.clone();
        match target {
            Target::Everyone => {
                let message = OutboundMessage::text(payload.clone());
                let mut outcome = Outcome::default();
                self.registry.for_each(|handle| {
                    let facts = &handle.facts;
                    if *facts.api_id == *stage.api_id
                        && *facts.stage == *stage.name
                        && except.admits(facts.connection_id)
                    {
                        outcome.note(handle, &message, handle.push(&message, now));
                    }
                });
                outcome
            }
            Target::Connection(id) => {
                let message = OutboundMessage::text(payload.clone());
                let mut outcome = Outcome::default();
                if !except.admits(*id) {
                    return outcome;
                }
                match self.registry.find(*id).filter(|handle| *handle.facts.api_id == *stage.api_id) {
                    Some(handle) => outcome.note(&handle, &message, handle.push(&message, now)),
                    None => outcome.gone.push(*id),
                }
                outcome
            }
            Target::Channel(name) => {
                let key = self.key(stage, Kind::Channel, name.to_shared());
                let policy = stage.policy.as_deref();
                let rule = policy.and_then(|policy| policy.channels.delivery(name));
                let history = rule.and_then(|rule| rule.history);
                let enveloping = policy.filter(|_| rule.is_some_and(|rule| rule.envelope));
                self.groups.publish(&key, history, except, now, self.next_random(), |id| match enveloping {
                    Some(policy) => envelope(policy, name, id, payload),
                    None => payload.clone(),
                })
            }
            Target::ChannelPrefix(prefix) => {
                let mut outcome = Outcome::default();
                for name in self.channels_with(stage, prefix) {
                    let one = self.publish_to(stage, &Target::Channel(name), payload, except);
                    outcome.delivered += one.delivered;
                    outcome.gone.extend(one.gone);
                    outcome.slow.extend(one.slow);
                }
                outcome
            }
            Target::User(user) => self.groups.publish(
                &self.key(stage, Kind::User, Arc::clone(user)),
                None,
                except,
                now,
                0,
                plain,
            ),
            Target::Session(session) => {
                let key = self.key(stage, Kind::Session, Arc::clone(session));
                self.groups.publish(&key, None, except, now, 0, plain)
            }
        }
    }

    /// What the policy wants done about readers that are too slow.
    async fn treat_slow(&self, stage: &Stage, outcome: &mut Outcome) {
        if outcome.slow.is_empty() {
            return;
        }
        let Some(push) = stage.policy.as_ref().map(|policy| &policy.policy.push) else { return };
        match push.slow {
            SlowReader::Drop => {}
            SlowReader::Close => {
                for (handle, _) in &outcome.slow {
                    let limit = handle.stage.settings.data_plane.outbound_buffer_bytes;
                    handle.close(handle.too_slow(now_millis()).with("limit", limit));
                }
            }
            SlowReader::Wait => {
                let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(push.wait_ms);
                while !outcome.slow.is_empty() && tokio::time::Instant::now() < deadline {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    let now = now_millis();
                    for (handle, message) in std::mem::take(&mut outcome.slow) {
                        match handle.push(&message, now) {
                            Err(PushRefusal::Full) => outcome.slow.push((handle, message)),
                            result => outcome.note(&handle, &message, result),
                        }
                    }
                }
            }
        }
    }
}

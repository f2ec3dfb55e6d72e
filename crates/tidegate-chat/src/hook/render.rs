//! Frames that a hook may change before they are encoded, still in the order of their commits.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Answer, HookFailure, Hooks, host, signed};
use crate::event::{Audience, Dispatch, Frame};
use crate::settings::Settings;
use crate::settings::extension::{Hook, Moment, OnFailure};

/// Frames that wait for their hook. Where no more fit, `on_failure` decides about a frame at once.
const MAX_WAITING: usize = 10_000;
/// Hooks that are asked ahead of the frame that goes out next.
const AHEAD: usize = 32;

/// A frame with what its hook is told.
struct Job {
    settings: Arc<Settings>,
    event_type: String,
    now: u64,
    dispatch: Dispatch,
}

/// The way into the queue.
#[derive(Clone)]
pub struct RenderQueue {
    jobs: mpsc::Sender<Job>,
}

impl std::fmt::Debug for RenderQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RenderQueue(..)")
    }
}

/// The way out of it.
pub struct RenderOutlet {
    jobs: mpsc::Receiver<Job>,
}

/// An empty queue.
pub fn queue() -> (RenderQueue, RenderOutlet) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (RenderQueue { jobs: sender }, RenderOutlet { jobs: receiver })
}

/// Whether any frame has to take the queue: then all do, so that they stay in order.
pub fn is_needed(settings: &Settings) -> bool {
    settings.hooks.iter().any(|hook| hook.on == Moment::Render)
}

impl RenderQueue {
    /// Takes the dispatches of an event, in order; never waits. `event_type` is that of the event, `now` in milliseconds since 1970.
    pub fn push(&self, settings: &Arc<Settings>, event_type: &str, now: u64, dispatches: Vec<Dispatch>) {
        for dispatch in dispatches {
            let job =
                Job { settings: Arc::clone(settings), event_type: event_type.to_owned(), now, dispatch };
            if self.jobs.try_send(job).is_err() {
                // What a hook might have hidden must not go out unseen, and what stands before it must not be overtaken.
                tracing::warn!(
                    limit = MAX_WAITING,
                    diag = Diagnosis::CHAT_HOOK_LOST.as_str(),
                    "a frame found no place before the chat's render hook and is lost"
                );
            }
        }
    }
}

impl RenderOutlet {
    /// Gives frames to `send` in the order of [`RenderQueue::push`], until it is dropped.
    pub async fn run(self, hooks: &Hooks, send: impl Fn(&Settings, Dispatch)) {
        let jobs = futures_util::stream::unfold(self.jobs, |mut jobs| async move {
            let job = jobs.recv().await?;
            Some((job, jobs))
        });
        let rendered = jobs
            .map(|job| async move {
                let settings = Arc::clone(&job.settings);
                (settings, hooks.render(job).await)
            })
            .buffered(AHEAD);
        let mut rendered = std::pin::pin!(rendered);
        while let Some((settings, dispatch)) = rendered.next().await {
            if let Some(dispatch) = dispatch {
                send(&settings, dispatch);
            }
        }
    }
}

impl Hooks {
    /// The frame as it goes out; nothing for one that must not.
    async fn render(&self, mut job: Job) -> Option<Dispatch> {
        // Answers to one connection have no audience to be rendered for.
        let Frame::Event { event_type, data } = &mut job.dispatch.frame else { return Some(job.dispatch) };
        let settings = &job.settings;
        let wanted = settings.hooks.iter().filter(|hook| hook.on == Moment::Render);
        for hook in wanted.filter(|hook| hook.takes(event_type) || hook.takes(&job.event_type)) {
            let body = json!({
                "hook": "render",
                "event_type": job.event_type,
                "eventType": event_type,
                "audience": audience(settings, &job.dispatch.audience),
                "data": data,
            });
            match self.ask_render(hook, job.now, &body).await {
                Ok(None) => {}
                Ok(Some(replaced)) => *data = replaced,
                Err(failure) => {
                    tracing::warn!(target = %host(&hook.target), %failure, diag = Diagnosis::CHAT_HOOK_FAILED.as_str(), "a chat hook has not rendered a frame");
                    if hook.on_failure == OnFailure::Deny {
                        return None;
                    }
                }
            }
        }
        Some(job.dispatch)
    }

    async fn ask_render(&self, hook: &Hook, now: u64, body: &Value) -> Result<Option<Value>, HookFailure> {
        let call = signed(hook, Uuid::now_v7(), now, body.to_string().into());
        let answered = self.call(call).await?;
        if let Ok(mut answer) = serde_json::from_slice::<Value>(&answered.body)
            && answer.get("allow") != Some(&Value::Bool(false))
            && let Some(data) = answer.get_mut("data")
        {
            // Unlike that of events, the data of frames may also be a list.
            return Ok(Some(data.take()));
        }
        match Answer::read(&answered.body)? {
            Answer::Allow(_) => Ok(None),
            _ => Err(HookFailure::Answer("a frame can only be replaced".to_owned())),
        }
    }
}

fn audience(settings: &Settings, audience: &Audience) -> Value {
    match audience {
        Audience::Users(users) => {
            json!({ "users": users.iter().map(|id| settings.user_json(id)).collect::<Vec<_>>() })
        }
        Audience::Connection(id) => json!({ "connection": id.to_string() }),
    }
}

//! Three extensions in Rust: a filter of words, a sink for push notifications, and an event of one's own, `message.pin`.
//!
//! `cargo run -p tidegate-chat --example chat_extensions` makes them and shows what the filter does.

use std::sync::Arc;

use serde_json::json;
use tidegate_chat::error::ChatError;
use tidegate_chat::event::Ctx;
use tidegate_chat::extension::{ContentFilter, Extensions, NotificationSink, Notified, Routes};
use tidegate_chat::permission;
use tidegate_chat::value::{self, RoomIdStyle};
use tidegate_core::port::BoxFuture;

/// Refuses some words, and stars out others.
pub struct Words {
    /// Messages with one of these are refused.
    pub refused: Vec<String>,
    /// These become stars.
    pub hidden: Vec<String>,
}

impl Words {
    /// What becomes of a text.
    ///
    /// # Errors
    /// What the client is told.
    pub fn apply(&self, mut text: String) -> Result<String, String> {
        if self.refused.iter().any(|word| text.contains(word.as_str())) {
            return Err("Mind your language.".to_owned());
        }
        for word in &self.hidden {
            text = text.replace(word.as_str(), &"*".repeat(word.chars().count()));
        }
        Ok(text)
    }
}

impl ContentFilter for Words {
    fn clean(&self, _: &mut Ctx<'_>, text: String) -> Result<String, String> {
        self.apply(text)
    }
}

/// Tells a push service of everybody who is not there.
pub struct Push;

impl NotificationSink for Push {
    fn notified<'a>(&'a self, notification: &'a Notified) -> BoxFuture<'a, Result<(), ChatError>> {
        Box::pin(async move {
            for recipient in notification.recipients.iter().filter(|recipient| !recipient.is_connected) {
                // A real one calls its service here; it runs after the commit and may wait.
                println!("push {} to {}", notification.kind.as_str(), recipient.user.username);
            }
            Ok(())
        })
    }
}

/// The built-in events, and `message.pin`: whoever may write into the room tells everybody in it.
pub fn events() -> Routes {
    Routes::new().register("message.pin", |ctx, data| {
        let Some(room) = value::room_id(data, RoomIdStyle::Required)? else { return Ok(()) };
        permission::message::can_send(ctx, room)?;
        let message = value::message_id(data.get("message_id").unwrap_or(&serde_json::Value::Null))?;
        let pinned = json!({ "message_id": message.to_string(), "by": &*ctx.actor.username });
        ctx.dispatch_to_room(room, "message.pinned", pinned)
    })
}

/// All three. A binary gives them to `Chat::with_extensions`.
pub fn extensions() -> Extensions {
    let words = Words { refused: vec!["swindle".to_owned()], hidden: vec!["darn".to_owned()] };
    Extensions {
        content: vec![Arc::new(words)],
        notifications: vec![Arc::new(Push)],
        router: Arc::new(events()),
        ..Extensions::default()
    }
}

fn main() {
    let words = Words { refused: vec!["swindle".to_owned()], hidden: vec!["darn".to_owned()] };
    for text in ["darn it", "a swindle"] {
        println!("{text}: {:?}", words.apply(text.to_owned()));
    }
    println!("{:?}", extensions());
}

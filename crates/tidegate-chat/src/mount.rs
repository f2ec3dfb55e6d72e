//! Where the chat lives on a gateway, and what is demanded there.

use std::sync::Arc;

use tidegate_core::app::Mount;
use tidegate_core::policy::{Admission, Attempts, Channels, IdentityCheck, Jwt, Policy};
use tidegate_core::settings::{Binary, DataPlane, Settings as StageSettings};

use crate::app::Chat;
use crate::settings::Settings;

/// Id of the API that stands for the chat.
pub const API_ID: &str = "chat";

/// Name of its stage.
pub const STAGE: &str = "live";

/// Query parameter that clients of the package put their token into.
const TOKEN: &str = "token";

/// Bytes that may wait for one client, at least; a page of history is one frame.
const MIN_OUTBOX: usize = 16 << 20;

/// What an operator demands of those who connect, beside a token.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// Keys, times, issuer. Names of the user's claims and the parameter are the chat's own.
    pub jwt: Jwt,
    /// How often somebody may try.
    pub attempts: Attempts,
    /// Origins and numbers of connections; its checks are the chat's own.
    pub admission: Admission,
}

/// The chat's place on the public listener.
pub fn mount(chat: &Arc<Chat>, door: Door) -> Mount {
    let settings = chat.settings().load();
    Mount {
        app: Arc::clone(chat) as _,
        api_id: API_ID.to_owned(),
        stage: STAGE.to_owned(),
        paths: vec![settings.path.clone()],
        http: Vec::new(),
        max_body: 0,
        policy: policy(&settings, door),
        settings: Arc::new(stage_settings(&settings)),
    }
}

/// A JSON Web Token, and nothing else that a stage could offer.
fn policy(settings: &Settings, door: Door) -> Policy {
    let mut jwt = door.jwt;
    TOKEN.clone_into(&mut jwt.parameter);
    let mut names = settings.claims.user.iter().cloned();
    if let Some(first) = names.next() {
        jwt.claims.user = first;
        jwt.claims.user_fallback = names.collect();
    }
    Policy {
        admission: Admission { checks: vec![IdentityCheck::Jwt], required: true, ..door.admission },
        jwt: Some(jwt),
        attempts: door.attempts,
        channels: Channels { parameter: String::new(), ..Channels::default() },
        ..Policy::default()
    }
}

fn stage_settings(settings: &Settings) -> StageSettings {
    StageSettings {
        data_plane: DataPlane {
            idle_timeout: settings.idle_close_seconds,
            max_duration: 0,
            duration_jitter: 0,
            server_ping_interval: settings.ping_seconds,
            server_ping_timeout: settings.ping_timeout_seconds,
            max_frame_bytes: settings.max_event_bytes,
            max_message_bytes: settings.max_event_bytes,
            binary: Binary::Base64,
            outbound_buffer_bytes: MIN_OUTBOX.max(settings.max_event_bytes.saturating_mul(8)),
            ..DataPlane::default()
        },
        ..StageSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::policy::JwtKey;
    use tidegate_store::sql::SqliteDatabase;

    use super::*;
    use crate::settings::live::LiveSettings;
    use crate::store::MIGRATIONS;

    /// S2-1, S2-2, S2-3, S2-9, S2-12: path, token, limits and pings are those of the settings.
    #[tokio::test]
    async fn it_is_mounted_as_the_settings_say() {
        let settings = Settings { max_event_bytes: 1 << 20, ..Settings::default() };
        let database = SqliteDatabase::open_in_memory(MIGRATIONS).unwrap();
        let chat = Arc::new(Chat::new(Arc::new(LiveSettings::new(settings)), Arc::new(database)));
        let key = JwtKey { secret: Some("s".repeat(32)), ..JwtKey::default() };
        let jwt = Jwt { keys: vec![key], parameter: "jwt".to_owned(), ..Jwt::default() };
        let mounted = mount(&chat, Door { jwt, ..Door::default() });
        assert_eq!((mounted.api_id.as_str(), mounted.stage.as_str()), ("chat", "live"));
        assert_eq!(mounted.paths, ["/messaging/"]);
        let jwt = mounted.policy.jwt.as_ref().unwrap();
        assert_eq!(jwt.parameter, "token");
        assert_eq!(
            (jwt.claims.user.as_str(), &*jwt.claims.user_fallback),
            ("user_id", &["sub".to_owned()][..])
        );
        assert!(jwt.claims.required.is_empty());
        assert_eq!(mounted.policy.admission.checks, [IdentityCheck::Jwt]);
        assert!(mounted.policy.admission.required && mounted.policy.admission.origins.is_empty());
        let data_plane = &mounted.settings.data_plane;
        assert_eq!((data_plane.max_message_bytes, data_plane.max_frame_bytes), (1 << 20, 1 << 20));
        assert_eq!((data_plane.server_ping_interval, data_plane.server_ping_timeout), (20, 30));
        assert_eq!((data_plane.idle_timeout, data_plane.max_duration), (0, 0));
        assert_eq!(data_plane.binary, Binary::Base64);
        assert!(mounted.policy.control.key.is_empty() && mounted.policy.channels.parameter.is_empty());
    }
}

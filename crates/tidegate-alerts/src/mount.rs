//! The application as the gateway mounts it.

use std::sync::Arc;

use tidegate_core::app::Mount;
use tidegate_core::policy::{self, Admission, Excess, IdentityCheck, Jwt, Policy, SlowReader};
use tidegate_core::settings::{Binary, DataPlane, ErrorFrames, Settings as StageSettings};
use tidegate_store::sql::Database;

use crate::alert::MAX_BYTES;
use crate::app::Alerts;
use crate::settings::Settings;
use crate::user_check::Directory;

/// Id of the API.
pub const API_ID: &str = "alerts";

/// Name of its stage.
pub const STAGE: &str = "live";

/// Role of a token without one, where `[jwt]` names none. Source: the guide that the application follows.
const DEFAULT_ROLE: &str = "tourist";

/// Seconds between pings.
const PING_SECONDS: u64 = 25;

/// Seconds that a peer may leave them unanswered.
const PING_TIMEOUT_SECONDS: u64 = 60;

/// What `settings` make of the application: paths, what the gateway checks, and the application itself, which is also
/// given alone for its [`Alerts::metrics`] and [`Alerts::restore`]. `jwt` is the `[jwt]` of the configuration; `directory`
/// is needed with a `user_check`; `database` has the tables of [`crate::history::MIGRATIONS`]. `settings` have no
/// [`Settings::problems`].
pub fn mount(
    settings: Settings,
    jwt: Jwt,
    directory: Option<Directory>,
    database: Option<Arc<dyn Database>>,
) -> (Mount, Arc<Alerts>) {
    let policy = policy(&settings, jwt);
    let stage = stage_settings(&settings);
    let paths = settings.mounts.clone();
    let app = Arc::new(Alerts::new(settings, directory, database));
    let http = ["/api/alerts/", "/api/broadcast/", "/api/broadcasts/", "/health"];
    let mount = Mount {
        app: Arc::clone(&app) as _,
        api_id: API_ID.to_owned(),
        stage: STAGE.to_owned(),
        paths,
        http: http.map(str::to_owned).to_vec(),
        // A full alert with white space, and lists of receivers.
        max_body: 3 * MAX_BYTES,
        policy,
        settings: Arc::new(stage),
    };
    (mount, app)
}

/// What the gateway demands of those who connect.
pub fn policy(settings: &Settings, mut jwt: Jwt) -> Policy {
    if jwt.default_role.is_empty() {
        DEFAULT_ROLE.clone_into(&mut jwt.default_role);
    }
    let email = &settings.email_claim;
    if !email.is_empty() && !jwt.claims.required.contains(email) {
        jwt.claims.required.push(email.clone());
    }
    jwt.close_on_expiry = settings.close_on_expiry;
    Policy {
        admission: Admission {
            checks: vec![IdentityCheck::Jwt],
            required: true,
            origins: settings.allowed_origins.clone(),
            allow_missing_origin: !settings.require_origin,
            max_connections: settings.max_connections,
            connections_per_address: settings.max_connections_per_address,
            connections_per_user: settings.max_connections_per_user,
            ..Admission::default()
        },
        jwt: Some(jwt),
        attempts: settings.attempts(),
        messages: policy::Messages {
            rate: settings.message_rate,
            burst: settings.message_burst,
            excess: Excess::Close,
        },
        // Channels are the application's to give; the handshake's own are not read twice.
        channels: policy::Channels {
            parameter: String::new(),
            max_per_connection: 128,
            ..Default::default()
        },
        push: policy::Push { slow: SlowReader::Close, ..policy::Push::default() },
        ..Policy::default()
    }
}

/// Settings of the application's stage.
pub fn stage_settings(settings: &Settings) -> StageSettings {
    StageSettings {
        data_plane: DataPlane {
            idle_timeout: 0,
            max_duration: settings.max_duration,
            server_ping_interval: PING_SECONDS,
            server_ping_timeout: PING_TIMEOUT_SECONDS,
            binary: Binary::Reject,
            error_frames: ErrorFrames::None,
            ..DataPlane::default()
        },
        ..StageSettings::default()
    }
}

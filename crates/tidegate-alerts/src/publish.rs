//! `POST /api/alerts/publish`, `PUT /api/alerts/position` and `GET /api/alerts/stats`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidegate_core::app::{Request, Response};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Facts, Kind};
use tidegate_core::nearest::nearest;
use tidegate_core::notice::Notice;

use crate::alert::{Alert, AlertProblem, MAX_BYTES};
use crate::app::Alerts;
use crate::broadcast::point;
use crate::call::{self, CallRefused, Caller, Told, answer, not_started, place};
use crate::channels;
use crate::delivery::Selectors;
use crate::idempotency::Seen;
use crate::statistics;

/// Most names in one list of a call.
const MAX_SELECTED: usize = 1000;

/// Longest idempotency key, in characters.
const MAX_KEY: usize = 255;

/// Body of a publish call.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    users: Vec<Value>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    dedupe: Option<bool>,
    #[serde(default)]
    alert: Option<Box<RawValue>>,
}

/// Body of a position.
#[derive(Deserialize)]
struct PositionBody {
    #[serde(default)]
    lat: Option<Value>,
    #[serde(default)]
    lon: Option<Value>,
    #[serde(default)]
    user: Option<Value>,
}

/// What became of an alert.
pub(crate) struct Published {
    pub(crate) id: String,
    pub(crate) connections: usize,
    pub(crate) failed: usize,
}

impl Alerts {
    pub(crate) fn publish(&self, request: &Request) -> Response {
        self.try_publish(request).unwrap_or_else(|refused| self.refused(request, refused))
    }

    fn try_publish(&self, request: &Request) -> Result<Response, CallRefused> {
        let caller = self.publisher(request)?;
        let host = self.host().ok_or_else(not_started)?;
        let now = host.now();
        let body: Body = call::read(request)?;
        let selectors = self.selectors(&body)?;
        let written = body.alert.as_deref();
        let written =
            written.ok_or_else(|| CallRefused::field("alert", "an object with a `type` expected"))?;
        let alert = Alert::new(written, now).map_err(|problem| match problem {
            AlertProblem::NotAnObject => CallRefused::field("alert", "an object with a `type` expected"),
            AlertProblem::NoType => CallRefused::field("alert.type", "a text expected that is not empty"),
            AlertProblem::TooLarge => {
                let mut refused =
                    CallRefused::new(413, "The alert is over 128 KB", Some(Diagnosis::MESSAGE_TOO_LARGE));
                refused.facts = Facts::none().with("size", written.get().len()).with("limit", MAX_BYTES);
                refused
            }
        })?;
        let is_deduped = body.dedupe.unwrap_or(self.rules().settings.dedupe);
        let keys = self.keys(request, &caller, alert.id.as_deref().filter(|_| is_deduped))?;
        for (idx, key) in keys.iter().enumerate() {
            let seen = self.idempotency.begin(key, now);
            if seen != Seen::First {
                for begun in &keys[..idx] {
                    self.idempotency.forget(begun);
                }
            }
            match seen {
                Seen::First => {}
                Seen::Answered(first) => return Ok(call::answer_bytes(request, 200, first)),
                Seen::UnderWay => {
                    let mut refused = CallRefused::new(409, "A call with this key is under way", None);
                    refused.retry_after = Some(1);
                    return Err(refused);
                }
            }
        }
        let published = self.send_alert(request, &caller, &selectors, &alert)?;
        let response = answer(
            request,
            200,
            &json!({
                "status": "published",
                "alert_id": published.id,
                "channels": selectors.channels,
                "connections": published.connections,
                "failed": published.failed,
            }),
        );
        for key in &keys {
            self.idempotency.done(key, response.body.clone());
        }
        Ok(response)
    }

    /// What calls must not be repeated.
    fn keys(&self, request: &Request, caller: &Caller, id: Option<&str>) -> Result<Vec<String>, CallRefused> {
        let credential = caller.credential();
        let mut keys = Vec::new();
        if let Some(value) = request.headers.get("idempotency-key") {
            let is_key = |key: &&str| (1..=MAX_KEY).contains(&key.len());
            let key = value.to_str().ok().filter(is_key);
            let key = key.ok_or_else(|| {
                CallRefused::field("Idempotency-Key", "1 to 255 visible characters expected")
            })?;
            keys.push(format!("{credential} key {key}"));
        }
        keys.extend(id.map(|id| format!("{credential} alert {id}")));
        Ok(keys)
    }

    fn selectors(&self, body: &Body) -> Result<Selectors, CallRefused> {
        let lists =
            [("channels", body.channels.len()), ("roles", body.roles.len()), ("users", body.users.len())];
        for (name, length) in lists {
            if length > MAX_SELECTED {
                return Err(CallRefused::field(name, "at most 1000 expected"));
            }
        }
        let rules = self.rules();
        let mut names = Vec::new();
        for name in body.channel.iter().chain(&body.channels) {
            if !channels::is_name(name) {
                return Err(CallRefused::field("channel", channels::RULE));
            }
            let name = rules.settings.resolve(name).to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let users = body.users.iter().map(|user| id_text(user, "users")).collect::<Result<_, _>>()?;
        let selectors = Selectors { all: body.all, channels: names, roles: body.roles.clone(), users };
        if selectors.is_empty() {
            return Err(CallRefused::field(
                "channel",
                "channel, channels, roles, users or `all: true` expected",
            ));
        }
        Ok(selectors)
    }

    /// Hands an alert to everybody it is for.
    pub(crate) fn send_alert(
        &self,
        request: &Request,
        caller: &Caller,
        selectors: &Selectors,
        alert: &Alert,
    ) -> Result<Published, CallRefused> {
        let host = self.host().ok_or_else(not_started)?;
        let rules = self.rules();
        // Names that anybody can make up are not remembered.
        let remembered: Vec<String> =
            selectors.channels.iter().filter(|name| rules.settings.is_declared(name)).cloned().collect();
        let id = alert.id.clone().unwrap_or_else(|| format!("{:016x}", host.random()).into());
        let chosen = self.delivery.choose(selectors, &alert.text, Some(&id), &remembered, host.now());
        let sent = host.send(&chosen.open, alert.text.clone());
        let (connections, failed) = chosen.total(&sent);
        self.counters.published(connections, failed);
        let target = if selectors.all {
            "broadcast"
        } else if selectors.channels.is_empty() && selectors.roles.is_empty() {
            "user"
        } else {
            "channel"
        };
        let told = Told {
            target,
            channels: selectors.channels.clone(),
            size: alert.text.len(),
            delivered: connections,
            gone: sent.gone,
            slow: sent.slow + chosen.overflowed,
        };
        self.tell_published(request, caller, &told);
        let own =
            |name: &&String| !name.starts_with(channels::USER_PREFIX) && !rules.settings.is_declared(name);
        for channel in chosen.without_members.iter().filter(own) {
            self.tell_nobody_there(request, caller, channel);
        }
        Ok(Published { id: id.to_string(), connections, failed })
    }

    /// A channel that nobody is in and that the configuration does not name is probably misspelt.
    fn tell_nobody_there(&self, request: &Request, caller: &Caller, channel: &str) {
        let Some(host) = self.host() else { return };
        let with_members = self.delivery.channels();
        let rules = self.rules();
        let declared = rules.settings.roles.values().flatten().map(String::as_str);
        let similar = nearest(channel, with_members.iter().map(|name| &**name).chain(declared));
        let facts = Facts::none()
            .with("target", "channel")
            .with("channel", channel)
            .with("members", 0)
            .with("similar", similar.into_iter().collect::<Vec<_>>());
        host.notice(Notice::Decided {
            place: place(request, Some(caller)),
            kind: Kind::Post,
            remark: Some(Diagnosis::PUBLISH_NO_SUBSCRIBERS),
            facts,
        });
    }

    pub(crate) fn put_position(&self, request: &Request) -> Response {
        self.try_put_position(request).unwrap_or_else(|refused| self.refused(request, refused))
    }

    fn try_put_position(&self, request: &Request) -> Result<Response, CallRefused> {
        let caller = self.caller(request)?;
        self.count(&caller)?;
        let body: PositionBody = call::read(request)?;
        let named = body.user.as_ref().map(|user| id_text(user, "user")).transpose()?;
        let user = match (&caller, named) {
            (Caller::User { id, .. }, None) => id.to_string(),
            (Caller::User { id, .. }, Some(named)) => {
                if **id != named {
                    self.demand_role(&caller, &["service".to_owned()])?;
                }
                named
            }
            (Caller::Key(_), Some(named)) => named,
            (Caller::Key(_), None) => return Err(CallRefused::field("user", "the id of a user expected")),
        };
        let point = point(("lat", body.lat.as_ref()), ("lon", body.lon.as_ref()))?;
        let now = self.host().ok_or_else(not_started)?.now();
        self.positions.put(&user, point, now);
        Ok(answer(request, 200, &json!({ "status": "success" })))
    }

    pub(crate) fn stats(&self, request: &Request) -> Response {
        let allowed =
            self.caller(request).and_then(|caller| self.demand_role(&caller, &["admin".to_owned()]));
        match allowed {
            Ok(()) => {
                let numbers = statistics::stats(&self.delivery, statistics::NODE);
                call::answer_bytes(request, 200, numbers.to_string().into())
            }
            Err(refused) => self.refused(request, refused),
        }
    }
}

/// Ids of users are texts or whole numbers.
pub(crate) fn id_text(value: &Value, field: &'static str) -> Result<String, CallRefused> {
    match value {
        Value::String(text) if (1..=256).contains(&text.len()) => Ok(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        _ => Err(CallRefused::field(field, "an id expected: a text or a whole number")),
    }
}

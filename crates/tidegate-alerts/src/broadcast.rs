//! Broadcasts to an area, what is remembered of them, and what their receivers say.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tidegate_core::app::{Request, Response};
use tidegate_core::context::iso_time;

use crate::alert::Alert;
use crate::app::Alerts;
use crate::area::{Area, Bounds, Point, is_latitude, is_longitude, is_radius};
use crate::call::{self, CallRefused, Caller, Told, answer, not_started};
use crate::delivery::Selectors;
use crate::history::{Acknowledgement, Remembered, Taken};
use crate::publish::id_text;
use crate::settings::DEFAULT_ZONE_RADIUS_KM;

/// Longest `notes` of an acknowledgement, in characters.
const MAX_NOTES: usize = 2000;

/// Longest title, in characters.
const MAX_TITLE: usize = 500;

/// Where people who need help are told of.
const HELP_CHANNEL: &str = "police_dashboard";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Also `info`.
    Low,
    /// In between.
    Medium,
    /// Much.
    High,
    /// Most.
    Critical,
}

impl Severity {
    /// Letter case counts for nothing.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "low" | "info" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "critical" => Self::Critical,
            _ => return None,
        })
    }
}

/// What all broadcasts have. Members are looked at one by one, so that a wrong one can be named.
#[derive(Deserialize)]
struct Common {
    title: Option<Value>,
    message: Option<Value>,
    /// Another name of `message`, in broadcasts to everybody.
    body: Option<Value>,
    severity: Option<Value>,
    alert_type: Option<Value>,
    #[serde(default)]
    action_required: Option<Value>,
    expires_at: Option<Value>,
}

#[derive(Deserialize)]
struct RadiusBody {
    #[serde(flatten)]
    common: Common,
    center_latitude: Option<Value>,
    center_longitude: Option<Value>,
    radius_km: Option<Value>,
}

#[derive(Deserialize)]
struct ZoneBody {
    #[serde(flatten)]
    common: Common,
    zone_id: Option<Value>,
}

#[derive(Deserialize)]
struct RegionBody {
    #[serde(flatten)]
    common: Common,
    region_bounds: Option<Value>,
}

#[derive(Default, Deserialize)]
struct AcknowledgeBody {
    #[serde(default)]
    status: Option<Value>,
    #[serde(default)]
    notes: Option<Value>,
    #[serde(default)]
    lat: Option<Value>,
    #[serde(default)]
    lon: Option<Value>,
}

/// The object that receivers get, in the order of its members.
#[derive(Serialize)]
struct Sent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    broadcast_id: &'a str,
    broadcast_type: &'static str,
    title: &'a str,
    message: &'a str,
    severity: Severity,
    alert_type: Option<&'a str>,
    action_required: Option<&'a Value>,
    location: Option<Location>,
    expires_at: Option<&'a str>,
    timestamp: &'a str,
}

#[derive(Clone, Copy, Serialize)]
struct Location {
    lat: f64,
    lon: f64,
    radius_km: f64,
}

/// Whom a broadcast is for.
struct Scope {
    kind: &'static str,
    area: Option<Area>,
    location: Option<Location>,
    /// Member of the answer that says it.
    said: (&'static str, Value),
}

impl Alerts {
    pub(crate) async fn broadcast_radius(&self, request: &Request) -> Response {
        self.broadcast(request, |body: RadiusBody| {
            let center = point(
                ("center_latitude", body.center_latitude.as_ref()),
                ("center_longitude", body.center_longitude.as_ref()),
            )?;
            let radius_km = body.radius_km.as_ref().and_then(Value::as_f64).filter(|km| is_radius(*km));
            let radius_km =
                radius_km.ok_or_else(|| CallRefused::field("radius_km", "more than 0 expected"))?;
            let said = ("area_covered", format!("{radius_km} km radius").into());
            Ok((body.common, circle("radius", center, radius_km, said)))
        })
        .await
    }

    pub(crate) async fn broadcast_zone(&self, request: &Request) -> Response {
        self.broadcast(request, |body: ZoneBody| {
            let id = body.zone_id.unwrap_or_default();
            let id = id_text(&id, "zone_id")?;
            let not_found = || CallRefused::new(404, "Zone not found", None);
            let rules = self.rules();
            let zone = rules.settings.zones.get(&id).ok_or_else(not_found)?;
            let center = Point::new(zone.lat, zone.lon).ok_or_else(not_found)?;
            let radius_km = zone.radius_km.unwrap_or(DEFAULT_ZONE_RADIUS_KM);
            Ok((body.common, circle("zone", center, radius_km, ("zone_name", zone.name.clone().into()))))
        })
        .await
    }

    pub(crate) async fn broadcast_region(&self, request: &Request) -> Response {
        self.broadcast(request, |body: RegionBody| {
            let bounds = bounds(body.region_bounds.as_ref())?;
            let said = ("region", json!(bounds));
            Ok((body.common, Scope { kind: "region", area: Some(Area::Box(bounds)), location: None, said }))
        })
        .await
    }

    pub(crate) async fn broadcast_all(&self, request: &Request) -> Response {
        self.broadcast(request, |mut common: Common| {
            common.message = common.message.or(common.body.take());
            // The backend that the call is from has a default that it does not know itself.
            common.severity.get_or_insert_with(|| "info".into());
            let said = ("scope", "all_tourists".into());
            Ok((common, Scope { kind: "all", area: None, location: None, said }))
        })
        .await
    }

    async fn broadcast<T: DeserializeOwned>(
        &self,
        request: &Request,
        scope: impl FnOnce(T) -> Result<(Common, Scope), CallRefused>,
    ) -> Response {
        let wanted = self.publisher(request).and_then(|caller| {
            let (common, scope) = scope(call::read(request)?)?;
            Ok((caller, common, scope))
        });
        let done = match wanted {
            Ok((caller, common, scope)) => self.send_broadcast(request, &caller, &common, scope).await,
            Err(refused) => Err(refused),
        };
        done.unwrap_or_else(|refused| self.refused(request, refused))
    }

    async fn send_broadcast(
        &self,
        request: &Request,
        caller: &Caller,
        common: &Common,
        scope: Scope,
    ) -> Result<Response, CallRefused> {
        let host = self.host().ok_or_else(not_started)?;
        let now = host.now();
        let title = text("title", common.title.as_ref(), MAX_TITLE)?;
        let message = text("message", common.message.as_ref(), usize::MAX)?;
        let severity = common.severity.as_ref().and_then(Value::as_str).and_then(Severity::parse);
        let severity = severity
            .ok_or_else(|| CallRefused::field("severity", "low, medium, high or critical expected"))?;
        let timestamp = iso_time(now);
        let id = self.broadcast_id(now, || host.random());
        let sent = Sent {
            kind: "broadcast",
            broadcast_id: &id,
            broadcast_type: scope.kind,
            title,
            message,
            severity,
            alert_type: optional_text("alert_type", common.alert_type.as_ref())?,
            action_required: common.action_required.as_ref(),
            location: scope.location,
            expires_at: optional_text("expires_at", common.expires_at.as_ref())?,
            timestamp: &timestamp,
        };
        let object = alert(&sent, now)?;
        let inside = scope.area.as_ref().map(|area| self.positions.inside(area, now));
        let is_meant = |user: &str| inside.as_ref().is_none_or(|inside| inside.contains(user));
        let chosen =
            self.delivery.choose_where(&self.rules().settings.broadcast_roles, is_meant, &object.text);
        let mut about = serde_json::from_slice::<Value>(&object.text).unwrap_or_default();
        if let Some(about) = about.as_object_mut() {
            about.remove("type");
        }
        let unwritten = self.history.begin(
            id.as_str().into(),
            Remembered {
                sender: caller.credential(),
                about,
                receivers: Arc::new(chosen.users.clone()),
                acknowledgements: BTreeMap::new(),
            },
        );
        let outcome = host.send(&chosen.open, object.text.clone());
        let (connections, failed) = chosen.total(&outcome);
        self.counters.published(connections, failed);
        let told = Told {
            target: "broadcast",
            size: object.text.len(),
            delivered: connections,
            gone: outcome.gone,
            slow: outcome.slow + chosen.overflowed,
            ..Told::default()
        };
        self.tell_published(request, caller, &told);
        let (scope_name, scope_value) = scope.said;
        let mut body = json!({
            "broadcast_id": id,
            "status": "success",
            "tourists_notified": chosen.users.len(),
            "devices_notified": connections,
            "severity": severity,
            "timestamp": timestamp,
        });
        body[scope_name] = scope_value;
        let told = |about: &mut Value| {
            for name in ["tourists_notified", "devices_notified"] {
                about[name] = body[name].clone();
            }
        };
        self.history.finish(unwritten, told).await;
        Ok(answer(request, 200, &body))
    }

    /// `BCAST-20250115-120005-` and something random.
    fn broadcast_id(&self, now: u64, random: impl Fn() -> u64) -> String {
        let time = iso_time(now);
        let digits: String = time.bytes().take(19).filter(u8::is_ascii_digit).map(char::from).collect();
        let (date, time) = digits.split_at(8.min(digits.len()));
        loop {
            let id = format!("BCAST-{date}-{time}-{:012x}", random() >> 16);
            if !self.history.knows(&id) {
                return id;
            }
        }
    }

    pub(crate) fn broadcast_history(&self, request: &Request) -> Response {
        let done = self.caller_with_history(request).and_then(|caller| {
            let number = |name: &'static str, default: usize| {
                let mut values = form_urlencoded::parse(request.query.as_bytes());
                let Some((_, value)) = values.find(|(key, _)| key == name) else { return Ok(default) };
                value.parse().map_err(|_| CallRefused::field(name, "a whole number expected"))
            };
            let limit = number("limit", 50)?.clamp(1, 100);
            let offset = number("offset", 0)?;
            let (page, total) = self.history.page(&caller.credential(), offset, limit);
            let body = json!({ "broadcasts": page, "total": total, "limit": limit, "offset": offset });
            Ok(answer(request, 200, &body))
        });
        done.unwrap_or_else(|refused| self.refused(request, refused))
    }

    pub(crate) fn broadcast_details(&self, request: &Request, id: &str) -> Response {
        let done = self.caller_with_history(request).and_then(|caller| {
            let may_see_all = self.demand_role(&caller, &["admin".to_owned()]).is_ok();
            let own = caller.credential();
            let found = self.history.find(id).filter(|broadcast| may_see_all || broadcast.sender == own);
            let found = found.ok_or_else(no_broadcast)?;
            let mut body = found.summary();
            let statuses = found.acknowledgements.values().map(|one| &*one.status);
            let mut by_status: BTreeMap<&str, usize> = BTreeMap::new();
            for status in statuses {
                *by_status.entry(status).or_default() += 1;
            }
            body["acknowledgments"] = json!(found.acknowledgements.values().collect::<Vec<_>>());
            body["status_breakdown"] = json!(by_status);
            Ok(answer(request, 200, &body))
        });
        done.unwrap_or_else(|refused| self.refused(request, refused))
    }

    fn caller_with_history(&self, request: &Request) -> Result<Caller, CallRefused> {
        let caller = self.caller(request)?;
        self.demand_role(&caller, &self.rules().settings.publish_roles)?;
        Ok(caller)
    }

    pub(crate) async fn acknowledge(&self, request: &Request, id: &str) -> Response {
        self.try_acknowledge(request, id).await.unwrap_or_else(|refused| self.refused(request, refused))
    }

    async fn try_acknowledge(&self, request: &Request, id: &str) -> Result<Response, CallRefused> {
        let caller = self.caller(request)?;
        self.count(&caller)?;
        let Caller::User { id: user, identity } = &caller else {
            return Err(CallRefused::new(403, "Access denied", None));
        };
        let body: AcknowledgeBody =
            if request.body.is_empty() { AcknowledgeBody::default() } else { call::read(request)? };
        let status = match optional_text("status", body.status.as_ref())?.unwrap_or("received") {
            "received" => "received",
            "safe" => "safe",
            "need_help" => "need_help",
            "evacuating" => "evacuating",
            _ => {
                return Err(CallRefused::field("status", "received, safe, need_help or evacuating expected"));
            }
        };
        let notes = optional_text("notes", body.notes.as_ref())?.map(str::to_owned);
        if notes.as_ref().is_some_and(|notes| notes.chars().count() > MAX_NOTES) {
            return Err(CallRefused::field("notes", "at most 2000 characters expected"));
        }
        let location = match (body.lat.as_ref(), body.lon.as_ref()) {
            (None, None) => None,
            (lat, lon) => Some(point(("lat", lat), ("lon", lon))?),
        };
        let now = self.host().ok_or_else(not_started)?.now();
        let said = Acknowledgement {
            user_id: Arc::clone(user),
            status: status.into(),
            notes,
            location,
            acknowledged_at: iso_time(now),
        };
        let asks_for_help = match self.history.acknowledge(id, &said) {
            Taken::Yes { asks_for_help } => asks_for_help,
            Taken::NotAReceiver => return Err(CallRefused::new(403, "Access denied", None)),
            Taken::NoBroadcast => return Err(no_broadcast()),
        };
        // Before the disk is asked: help is on its way even if it refuses.
        if asks_for_help {
            let name = identity
                .claim_text("name")
                .or_else(|| identity.claim_text(&self.rules().settings.email_claim));
            let name = name.unwrap_or_else(|| user.as_ref().into());
            self.call_for_help(request, &caller, id, &said, &name, now)?;
        }
        if let Err(error) = self.history.write_acknowledgement(id, &said).await {
            tracing::error!(%error, diag = "store.unavailable", "an acknowledgement is not written down");
            return Err(not_started());
        }
        let body = json!({
            "status": "success",
            "broadcast_id": id,
            "acknowledgment_status": status,
            "acknowledged_at": said.acknowledged_at,
        });
        Ok(answer(request, 200, &body))
    }

    fn call_for_help(
        &self,
        request: &Request,
        caller: &Caller,
        broadcast_id: &str,
        said: &Acknowledgement,
        name: &str,
        now: u64,
    ) -> Result<(), CallRefused> {
        let host = self.host().ok_or_else(not_started)?;
        let help = Help {
            kind: "alert",
            alert_id: format!("HELP-{:016x}", host.random()),
            tourist_id: &said.user_id,
            tourist_name: name,
            alert_type: "broadcast_help_request",
            severity: Severity::Critical,
            title: "Help requested",
            description: said.notes.as_deref().unwrap_or("A receiver of a broadcast needs help."),
            location: said.location,
            broadcast_id,
            timestamp: &said.acknowledged_at,
        };
        let channel = self.rules().settings.resolve(HELP_CHANNEL).to_owned();
        let selectors = Selectors { channels: vec![channel], ..Selectors::default() };
        self.send_alert(request, caller, &selectors, &alert(&help, now)?)?;
        Ok(())
    }
}

/// What those who can help are told.
#[derive(Serialize)]
struct Help<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    alert_id: String,
    tourist_id: &'a str,
    tourist_name: &'a str,
    alert_type: &'static str,
    severity: Severity,
    title: &'static str,
    description: &'a str,
    location: Option<Point>,
    broadcast_id: &'a str,
    timestamp: &'a str,
}

fn alert(object: &impl Serialize, now: u64) -> Result<Alert, CallRefused> {
    let written: Result<Box<RawValue>, _> = to_raw_value(object);
    let made = written.ok().and_then(|written| Alert::new(&written, now).ok());
    made.ok_or_else(|| CallRefused::new(413, "The message is over 128 KB", None))
}

fn circle(kind: &'static str, center: Point, radius_km: f64, said: (&'static str, Value)) -> Scope {
    let location = Location { lat: center.lat(), lon: center.lon(), radius_km };
    Scope { kind, area: Some(Area::Circle { center, radius_km }), location: Some(location), said }
}

fn no_broadcast() -> CallRefused {
    CallRefused::new(404, "Broadcast not found", None)
}

fn text<'a>(field: &'static str, value: Option<&'a Value>, limit: usize) -> Result<&'a str, CallRefused> {
    let text = value.and_then(Value::as_str);
    let text = text.filter(|text| !text.trim().is_empty() && text.chars().count() <= limit);
    text.ok_or_else(|| CallRefused::field(field, "a text expected that is neither empty nor too long"))
}

/// Null is as good as absent.
fn optional_text<'a>(field: &'static str, value: Option<&'a Value>) -> Result<Option<&'a str>, CallRefused> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(CallRefused::field(field, "a text expected")),
    }
}

/// A position whose members have these names.
pub(crate) fn point(
    lat: (&'static str, Option<&Value>),
    lon: (&'static str, Option<&Value>),
) -> Result<Point, CallRefused> {
    let wrong_lat = || CallRefused::field(lat.0, "a number from -90 to 90 expected");
    let wrong_lon = || CallRefused::field(lon.0, "a number from -180 to 180 expected");
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    let degrees_lat = number(lat.1).filter(|degrees| is_latitude(*degrees)).ok_or_else(wrong_lat)?;
    let degrees_lon = number(lon.1).filter(|degrees| is_longitude(*degrees)).ok_or_else(wrong_lon)?;
    Point::new(degrees_lat, degrees_lon).ok_or_else(wrong_lat)
}

fn bounds(given: Option<&Value>) -> Result<Bounds, CallRefused> {
    let given =
        given.ok_or_else(|| CallRefused::field("region_bounds", "an object with four bounds expected"))?;
    let bound = |name: &'static str, is_valid: fn(f64) -> bool| {
        let value = given.get(name).and_then(Value::as_f64).filter(|degrees| is_valid(*degrees));
        let field = format!("region_bounds.{name}");
        value.ok_or_else(|| CallRefused::field(field, "a number of degrees on the globe expected"))
    };
    let bounds = Bounds {
        min_lat: bound("min_lat", is_latitude)?,
        max_lat: bound("max_lat", is_latitude)?,
        min_lon: bound("min_lon", is_longitude)?,
        max_lon: bound("max_lon", is_longitude)?,
    };
    if bounds.min_lat > bounds.max_lat {
        return Err(CallRefused::field("region_bounds.min_lat", "not more than `max_lat` expected"));
    }
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_four_and_info_is_the_lowest() {
        // S3-41
        for (text, name) in [
            ("low", "low"),
            ("INFO", "low"),
            ("info", "low"),
            ("Medium", "medium"),
            ("high", "high"),
            ("CRITICAL", "critical"),
        ] {
            assert_eq!(serde_json::to_value(Severity::parse(text).unwrap()).unwrap(), name);
        }
        assert!(Severity::parse("urgent").is_none() && Severity::parse("").is_none());
    }
}

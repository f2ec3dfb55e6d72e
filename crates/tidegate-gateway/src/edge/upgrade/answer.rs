//! The 101 and the headers that clients see of backends' answers.

use http::header::{HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::RequestId;
use tidegate_core::journal::Facts;
use tidegate_core::notice::Notice;
use tidegate_core::settings::Switch;
use tidegate_ws::{DeflateParams, extension};

use super::super::Reply;
use super::super::attempt::{is_token_shaped, offered, short_value, without_token};
use super::{Admitted, UpgradeRequest};
use crate::gateway::Gateway;
use crate::integration::Answer;
use crate::integration::http::is_hop_by_hop;

impl UpgradeRequest {
    /// The stage's own choice of a subprotocol, where no backend chooses.
    pub(super) fn own_subprotocol(&self) -> Option<&str> {
        let known = &self.stage.settings.api.subprotocols;
        known.iter().find(|known| self.offered.contains(known)).map(String::as_str)
    }

    /// The 101, with the headers that the backend adds to it.
    pub(super) fn switching_protocols(
        &self,
        request_id: RequestId,
        answered: Option<&HeaderMap>,
        subprotocol: Option<&str>,
    ) -> (Reply, Option<DeflateParams>) {
        let mut reply = super::super::empty(101);
        let headers = reply.headers_mut();
        for (name, value) in answered.into_iter().flatten().filter(|(name, _)| is_passed_on(name)) {
            headers.append(name.clone(), value.clone());
        }
        if let Some(value) = subprotocol.and_then(|name| HeaderValue::from_str(name).ok()) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        let mut deflate = None;
        if self.stage.settings.data_plane.compression == Switch::On
            && let offers = list(&self.headers, "sec-websocket-extensions").join(", ")
            && let Some((params, response)) = extension::negotiate(&offers)
            && let Ok(value) = HeaderValue::from_str(&response)
        {
            headers.insert("sec-websocket-extensions", value);
            deflate = Some(params);
        }
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        headers.insert("connection", HeaderValue::from_static("Upgrade"));
        if let Ok(value) = HeaderValue::from_str(&self.accept_key) {
            headers.insert("sec-websocket-accept", value);
        }
        set_ids(headers, &request_id.to_string());
        (reply, deflate)
    }
}

impl Admitted {
    /// The subprotocol that the backend names, if the client offered it: browsers drop the connection otherwise.
    pub(super) fn backend_subprotocol(
        &self,
        gateway: &Gateway,
        answer: &Answer,
        of_proof: Option<&'static str>,
    ) -> Option<&str> {
        let offered = &self.request.offered;
        let mut named = list(&answer.headers, "sec-websocket-protocol");
        named.retain(|name| Some(name.as_str()) != of_proof);
        let chosen = named.iter().find_map(|name| offered.iter().find(|offered| *offered == name));
        let chosen = chosen.map(String::as_str);
        if named.is_empty() && of_proof.is_some() {
            return chosen;
        }
        self.note_subprotocol(gateway, &named, chosen);
        chosen
    }

    /// Tells operators of a choice that will not please the client. `named` is what the backend wants.
    pub(super) fn note_subprotocol(&self, gateway: &Gateway, named: &[String], chosen: Option<&str>) {
        let offered_names = &self.request.offered;
        let diagnosis = match (named.len(), chosen) {
            (0, _) if offered_names.is_empty() => return,
            (0, _) => match offered_names.as_slice() {
                // What a script makes of a value that is not there.
                [only] if ["null", "undefined", "[object Object]"].contains(&only.as_str()) => {
                    Diagnosis::SUBPROTOCOL_NULL
                }
                names if names.iter().any(|name| is_token_shaped(name)) => Diagnosis::SUBPROTOCOL_TOKEN,
                _ => Diagnosis::SUBPROTOCOL_NOT_CONFIRMED,
            },
            (1.., None) => Diagnosis::SUBPROTOCOL_NOT_OFFERED,
            (2.., Some(_)) => Diagnosis::SUBPROTOCOL_SEVERAL,
            (1, Some(_)) => return,
        };
        let mut place = self.request.attempt.place.clone();
        place.route_key = Some("$connect".into());
        let mut facts = Facts::none();
        if self.request.attempt.keeps_facts {
            facts.add("offeredSubprotocols", offered(&self.request.headers));
            let program = self.request.headers.get(http::header::USER_AGENT);
            facts.add_some("userAgent", program.map(|value| short_value(value, 256)));
            facts.add_list("answeredSubprotocols", named.iter().take(10).map(|name| without_token(name)));
            facts.add_some("chosenSubprotocol", chosen.map(without_token));
        }
        gateway.notice(Notice::SubprotocolTrouble { facts, place, diagnosis });
    }
}

/// Headers of the `$connect` answer that a client may see.
pub(super) fn is_passed_on(name: &HeaderName) -> bool {
    !is_hop_by_hop(name.as_str())
        && !name.as_str().starts_with("sec-websocket-")
        && !matches!(name.as_str(), "content-length" | "date" | "server" | "location")
}

pub(super) fn set_ids(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert("x-amz-apigw-id", value.clone());
        headers.insert("x-amzn-requestid", value.clone());
        headers.insert("tidegate-request-id", value);
    }
}

/// All items of a header that holds comma-separated lists.
pub(super) fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

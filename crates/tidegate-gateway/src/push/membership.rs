//! `PUT` and `DELETE @channels/{channel}/connections/{id}`: the backend moves a connection.

use http::Method;
use tidegate_core::error::ErrorCode;
use tidegate_core::notice::Place;

use super::many::channel_name;
use super::{Call, Refusal, connection, gone};
use crate::channels::{By, JoinRefusal};
use crate::edge::{Reply, empty};

/// Joins or leaves; both are 204, also when nothing had to be done. The backend is not bound by the channel's rules.
pub(super) async fn serve(
    call: &Call<'_>,
    channel: &str,
    id: &str,
    place: &mut Place,
) -> Result<Reply, Refusal> {
    let channel = channel_name(channel)?;
    let handle = connection::find(call, id, place)?;
    if !handle.is_open() {
        return Err(gone(call.gateway, handle.facts.connection_id, call.now));
    }
    if call.method == Method::DELETE {
        call.gateway.leave_channel(&handle, &channel, By::Management);
        return Ok(empty(204));
    }
    match call.gateway.put_into_channel(&handle, &channel, By::Management) {
        Ok(_) => Ok(empty(204)),
        Err(JoinRefusal { diagnosis, text, .. }) => {
            Err(Refusal::with_text(ErrorCode::Conflict, diagnosis, &text))
        }
    }
}

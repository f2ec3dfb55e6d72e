//! Diagnosis ids: the stable names of causes.
//!
//! Every refusal, failure and close carries one, in the log, in the stream of notices and, for those who may
//! see it, in the answer. An id never changes its meaning.

use std::fmt;

/// The stable name of one cause.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Diagnosis(&'static str);

impl Diagnosis {
    /// The diagnosis of an id.
    pub fn find(id: &str) -> Option<Self> {
        Self::ALL.iter().map(|(diagnosis, _)| *diagnosis).find(|diagnosis| diagnosis.as_str() == id)
    }

    /// The id, as `explain` takes it.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! diagnoses {
    ($($name:ident $id:literal $text:literal)*) => {
        impl Diagnosis {
            $(#[doc = $text] pub const $name: Diagnosis = Diagnosis($id);)*

            /// Every id with its sentence, in the order of the table.
            pub const ALL: &'static [(Diagnosis, &'static str)] = &[$((Diagnosis($id), $text)),*];
        }
    };
}

// A macro and not a function, so that an id exists exactly when it is in the list.
diagnoses! {
    HANDSHAKE_WRONG_PATH "handshake.wrong-path" "The path belongs to no API, stage or mapping."
    HANDSHAKE_MALFORMED "handshake.malformed" "The upgrade request has no key, a bad key or another version than 13."
    HANDSHAKE_NOT_WEBSOCKET "handshake.not-websocket" "An ordinary HTTP request came to a WebSocket address."
    HANDSHAKE_URL_TOO_LONG "handshake.url-too-long" "Request line or headers are over the limit."
    HANDSHAKE_CLIENT_GAVE_UP "handshake.client-gave-up" "The client left while $connect was running."
    HANDSHAKE_TLS_ON_PLAIN "handshake.tls-on-plain" "A TLS handshake came to a port without TLS."
    HANDSHAKE_PLAIN_ON_TLS "handshake.plain-on-tls" "A plain request came to a TLS port."
    CLIENT_SOCKETIO "client.socketio" "A Socket.IO client talks to a plain WebSocket address."
    PATH_MISSING_STAGE "path.missing-stage" "The stage is missing from the path."
    API_UNKNOWN "api.unknown" "No API has this id."
    API_DEFAULT_ENDPOINT_DISABLED "api.default-endpoint-disabled" "The API is reachable by custom domain only."
    API_BEING_DELETED "api.being-deleted" "The API or stage was deleted."
    STAGE_UNKNOWN "stage.unknown" "The API has no stage of this name."
    STAGE_NOT_DEPLOYED "stage.not-deployed" "The stage has no deployment."
    DOMAIN_NO_MAPPING "domain.no-mapping" "The domain maps no API to this path."
    DOMAIN_UNKNOWN_HOST "domain.unknown-host" "No domain or API owns this host name."
    PROXY_UPGRADE_STRIPPED "proxy.upgrade-stripped" "A proxy removed the Upgrade header."
    PROXY_HTTP10 "proxy.http10" "A proxy speaks HTTP/1.0 to the gateway."
    SUBPROTOCOL_NOT_CONFIRMED "subprotocol.not-confirmed" "The client offered subprotocols and $connect chose none."
    SUBPROTOCOL_NOT_OFFERED "subprotocol.not-offered" "The backend chose a subprotocol that the client did not offer."
    SUBPROTOCOL_SEVERAL "subprotocol.several" "The backend returned a list of subprotocols."
    AUTHORIZER_UNSUPPORTED "authorizer.failed" "The authorizer could not be asked."
    IAM_CONNECT_UNSIGNED "iam.connect-unsigned" "The route wants IAM and the handshake is not signed."
    APIKEY_MISSING "apikey.missing" "The route wants an API key."
    BACKEND_REDIRECT "backend.redirect" "The backend redirects; redirects are not followed."
    BACKEND_METHOD "backend.method" "The backend does not accept this method."
    BACKEND_REFUSED "backend.refused" "The backend refused with a 4xx status."
    BACKEND_HEADERS_MISSING "backend.headers-missing" "The backend misses a header."
    BACKEND_SECRET_MISMATCH "backend.secret-mismatch" "The backend does not accept the gateway secret."
    BACKEND_USERAGENT_CHECK "backend.useragent-check" "The backend insists on the gateway's user agent."
    BACKEND_CONNECTION_HEADERS_MISSING "backend.connection-headers-missing" "The client sent no Cookie, Origin or extension header."
    BACKEND_CONNECTION_ID_FORMAT "backend.connection-id-format" "The backend does not accept the form of the connection id."
    BACKEND_HOST_NOT_ALLOWED "backend.host-not-allowed" "The backend does not allow the host it was called by."
    BACKEND_ORIGIN_MISMATCH "backend.origin-mismatch" "The backend's host and the page's origin differ."
    BACKEND_SESSION_UNKNOWN "backend.session-unknown" "The backend has no live session for this connection."
    BACKEND_CSRF "backend.csrf" "The backend's view is not exempt from CSRF."
    BACKEND_ROUTE_PARAM_MISNAMED "backend.route-param-misnamed" "The backend's URL parameter is not called route."
    CHANNEL_INVALID "channel.invalid" "The channel name is too long or has other characters."
    CHANNEL_FORBIDDEN "channel.forbidden" "The channel is not allowed for this user."
    CHANNEL_UNLISTED "channel.unlisted" "The channel has no rule, and channels without one are refused."
    ORIGIN_NOT_ALLOWED "origin.not-allowed" "The page's origin is not on the list."
    JWT_MISSING "jwt.missing" "The handshake carries no JSON Web Token."
    JWT_WRONG_PLACE "jwt.wrong-place" "A token is under another name or in a place that is not read."
    JWT_MALFORMED "jwt.malformed" "The token is not three base64url parts."
    JWT_TOO_LONG "jwt.too-long" "The token is over 8 KB."
    JWT_AMBIGUOUS "jwt.ambiguous" "Two sources carry different tokens."
    JWT_ALG_NOT_ALLOWED "jwt.alg-not-allowed" "The token's algorithm is none, or not configured for the key."
    JWT_UNKNOWN_KEY "jwt.unknown-key" "The token's key id is not among the keys."
    JWT_SIGNATURE "jwt.signature" "The token was signed with another key than is configured."
    JWT_EXPIRED "jwt.expired" "The token has expired."
    JWT_NOT_YET_VALID "jwt.not-yet-valid" "The token is from the future: a clock is off."
    JWT_ISSUER "jwt.issuer" "The token is from another issuer."
    JWT_AUDIENCE "jwt.audience" "The token is for another audience."
    JWT_CLAIMS_MISSING "jwt.claims-missing" "The token lacks a claim that must be there."
    JWT_JWKS_UNREACHABLE "jwt.jwks-unreachable" "The key set cannot be fetched."
    JWT_NO_EXPIRY "jwt.no-expiry" "Tokens that never expire are accepted."
    TOKEN_SESSION_MISSING "token.session-missing" "The handshake has no session for the token."
    TOKEN_MISSING "token.missing" "The handshake carries no one-time token."
    TOKEN_UNKNOWN "token.unknown" "The one-time token was never issued here, was altered, or is badly encoded."
    TOKEN_EXPIRED "token.expired" "The one-time token was used too late."
    TOKEN_REUSED "token.reused" "The one-time token was used before."
    TOKEN_REUSED_ON_RECONNECT "token.reused-on-reconnect" "A reconnect repeats the one-time token of its last connection."
    TOKEN_SESSION_CHANGED "token.session-changed" "The session cookie changed after the token was issued."
    TOKEN_OTHER_BROWSER "token.other-browser" "The token comes from another browser than it was issued to."
    TOKEN_ORIGIN_MISMATCH "token.origin-mismatch" "The token was issued for another origin, address, API or stage."
    TOKEN_CLOCK "token.clock" "Issuing and checking host disagree about the time."
    TOKENREQ_ANONYMOUS "tokenreq.anonymous" "Who asked for a token is not logged in."
    TOKENREQ_CSRF_MISSING "tokenreq.csrf-missing" "The token request has no CSRF header."
    TOKENREQ_CSRF_INVALID "tokenreq.csrf-invalid" "The CSRF header of the token request does not match the cookie."
    TOKENREQ_CSRF_COOKIE "tokenreq.csrf-cookie" "Domain or SameSite keeps the CSRF cookie from the token request."
    TOKENREQ_CSRF_ORIGIN "tokenreq.csrf-origin" "The site does not trust the origin of the token request."
    TOKENREQ_NO_SESSION_COOKIE "tokenreq.no-session-cookie" "The token request has no session cookie."
    TOKENREQ_COOKIES_NOT_SENT "tokenreq.cookies-not-sent" "The token request was made without credentials."
    TOKENREQ_RATE_LIMITED "tokenreq.rate-limited" "Too many tokens were asked for in a minute."
    TOKENREQ_WRONG_URL "tokenreq.wrong-url" "The token endpoint's address is wrong."
    IDENTITY_TOKEN_PROTECTION_OFF "identity.token-protection-off" "No check establishes who the user is."
    IDENTITY_TOKEN_ANONYMOUS "identity.token-anonymous" "The token was issued to nobody."
    USER_NOT_FOUND "user.not-found" "There is no such user."
    USER_INACTIVE "user.inactive" "The user exists and is suspended."
    USER_BANNED "user.banned" "The user was banned."
    USER_CHECK_FAILED "user.check-failed" "Who the user is cannot be looked up."
    HANDLER_KEY_MISSING "handler.key-missing" "The message lacks the handler or action key."
    HANDLER_NOT_ALLOWED "handler.not-allowed" "The handler is not on the list of allowed ones."
    PERM_USER_LACKS "perm.user-lacks" "The user lacks a permission."
    PERM_CHANNEL "perm.channel" "The user is in a channel that they may not use."
    INTEGRATION_DNS "integration.dns" "The integration's host does not resolve."
    INTEGRATION_REFUSED "integration.refused" "Nothing listens at the integration's address."
    INTEGRATION_CONNECT_TIMEOUT "integration.connect-timeout" "The integration's address does not answer."
    INTEGRATION_TLS "integration.tls" "The backend's certificate is not valid for its name."
    INTEGRATION_WRONG_URL "integration.wrong-url" "The backend does not know this path."
    INTEGRATION_TIMEOUT "integration.timeout" "The backend gave no complete answer within the limit."
    INTEGRATION_ERROR_STATUS "integration.error-status" "The backend answered with a 5xx status."
    INTEGRATION_BAD_ANSWER "integration.bad-answer" "The backend's answer is no valid HTTP answer, or too large."
    INTEGRATION_RESET_ON_REUSE "integration.reset-on-reuse" "The backend closed an idle connection as the request was sent."
    INTEGRATION_HOST_NOT_ALLOWED "integration.host-not-allowed" "The integration's host is not on the list."
    INTEGRATION_MISSING "integration.missing" "The route has no working integration."
    INTEGRATION_OVERLOAD "integration.overload" "Too many calls to this backend are under way."
    RATELIMIT_CONNECT "ratelimit.connect" "Too many connection attempts."
    RATELIMIT_STAGE "ratelimit.stage" "The throttle of the stage or route is exhausted."
    RATELIMIT_MESSAGES "ratelimit.messages" "Too many messages on one connection."
    RATELIMIT_TOKEN_REQUESTS "ratelimit.token-requests" "A page asks for tokens again and again."
    ROUTE_NONE "route.none" "The API has no routes."
    ROUTE_CONNECT_MISSING "route.connect-missing" "The API has no $connect route."
    ROUTE_NO_MATCH "route.no-match" "No route matches and there is no $default."
    REPLY_NO_ROUTE_RESPONSE "reply.no-route-response" "The backend answered with a body and the route has no route response."
    REPLY_TIMEOUT "reply.timeout" "The backend is slower than the limit."
    REPLY_BACKEND_FAILED "reply.backend-failed" "The backend failed on a message."
    REPLY_TEMPLATE "reply.template" "A template or a selection failed."
    MESSAGE_TOO_LARGE "message.too-large" "The client's message is over the limit."
    MESSAGE_FRAME_TOO_LARGE "message.frame-too-large" "One frame of the client is over the limit."
    MESSAGE_TOO_LARGE_OUT "message.too-large-out" "The pushed message is over the limit."
    MESSAGE_BINARY "message.binary" "A binary frame on a text-only API."
    MESSAGE_NOT_UTF8 "message.not-utf8" "A text frame is not valid UTF-8."
    PROTOCOL_VIOLATION "protocol.violation" "The client broke the WebSocket protocol."
    MESSAGE_INFLATE_LIMIT "message.inflate-limit" "A compressed message expands over the limit."
    GONE_NEVER_ESTABLISHED "connections.gone-never-established" "The post came before the connection was established."
    GONE_REFUSED "connections.gone-refused" "$connect was refused, the connection never opened."
    GONE_CLIENT_CLOSED "connections.gone-client-closed" "The client closed the connection."
    GONE_NETWORK "connections.gone-network" "The network connection was lost."
    GONE_IDLE "connections.gone-idle" "The idle limit closed the connection."
    GONE_MAX_AGE "connections.gone-max-age" "The duration limit closed the connection."
    GONE_SERVER_CLOSED "connections.gone-server-closed" "The gateway, an operator or a DELETE closed the connection."
    GONE_UNKNOWN_ID "connections.unknown-id" "The id was not issued by this installation, or long ago."
    GONE_MALFORMED_ID "connections.malformed-id" "The id has the wrong form."
    GONE_OTHER_STAGE "connections.other-stage" "The id belongs to another API."
    MANAGEMENT_UNSIGNED "management.unsigned" "The management call has no signature."
    MANAGEMENT_BAD_SIGNATURE "management.bad-signature" "The signature does not match."
    MANAGEMENT_UNKNOWN_KEY "management.unknown-key" "The access key is not known here."
    MANAGEMENT_DENIED "management.denied" "The access key may not do this."
    MANAGEMENT_WRONG_REGION "management.wrong-region" "Signed for another region."
    MANAGEMENT_WRONG_SERVICE "management.wrong-service" "Signed for another service."
    MANAGEMENT_CLOCK_SKEW "management.clock-skew" "The caller's clock is off by more than five minutes."
    MANAGEMENT_PATH_REWRITTEN "management.path-rewritten" "A proxy changed the encoding of the path."
    MANAGEMENT_STAGE_WITH_DOMAIN "management.stage-with-domain" "The stage was added to a custom domain's address."
    MANAGEMENT_WRONG_LISTENER "management.wrong-listener" "The call went to the other listener."
    ADMIN_MALFORMED "admin.malformed" "A request to the admin API has a value of a wrong form."
    ADMIN_UNKNOWN_PATH "admin.unknown-path" "The admin API has nothing at this path."
    ADMIN_WRONG_METHOD "admin.wrong-method" "The path of the admin API has other methods."
    ADMIN_CONTENT_TYPE "admin.content-type" "The body has a type that the path of the admin API does not take."
    ADMIN_TOO_LARGE "admin.too-large" "The body is longer than the path of the admin API takes."
    ADMIN_NOT_POSSIBLE "admin.not-possible" "The state of things does not permit what was asked of the admin API."
    ADMIN_NO_POLICY "admin.no-policy" "The stage has no policy."
    CLOSE_IDLE_TIMEOUT "close.idle-timeout" "The idle limit was reached."
    CLOSE_MAX_DURATION "close.max-duration" "The duration limit was reached."
    CLOSE_BACKEND_REQUESTED "close.backend-requested" "The backend deleted the connection."
    CLOSE_TOKEN_EXPIRED "close.token-expired" "The token of the connection expired."
    CLOSE_ACCESS_REVOKED "close.access-revoked" "The user or the token was revoked."
    CHANNEL_TOO_MANY "channel.too-many" "The connection is in as many channels as it may."
    CONTROL_MALFORMED "control.malformed" "A message to the gateway itself cannot be understood."
    APIKEY_UNKNOWN "apikey.unknown" "The API key is not one of the stage's."
    PUSH_KEY_REUSED "push.key-reused" "An idempotency key was used for another push."
    CLOSE_SESSION_ENDED "close.session-ended" "The session that the connection belongs to was ended."
    PUSH_CONNECTION_CLOSED "push.connection-closed" "The connection that was pushed to is closed."
    PUSH_WRONG_CHANNEL "push.wrong-channel" "The channel that was sent to does not have this connection."
    PUSH_CHANGED_CHANNEL "push.changed-channel" "The user moved to another channel."
    PUSH_OTHER_API "push.other-api" "The connection belongs to another API or stage than was posted to."
    PUBLISH_NO_SUBSCRIBERS "publish.no-subscribers" "The channel has no members."
    CONFIG_INVALID_VALUE "config.invalid-value" "A setting has a value of a wrong type or range."
    CLIENT_PAGE_LEFT "client.page-left" "The client closed or left the page."
    CONN_PING_TIMEOUT "conn.ping-timeout" "The peer answered no ping."
    CONN_RESET "conn.reset" "The connection ended without a close frame."
    CONN_SLOW_CONSUMER "conn.slow-consumer" "The client reads too slowly."
    NODE_DRAINING "node.draining" "The gateway is shutting down."
    LIMIT_FILE_DESCRIPTORS "limit.file-descriptors" "The process's limit of open files is reached."
    LIMIT_CONNECTIONS "limit.connections" "The limit of connections is reached."
    STORE_UNAVAILABLE "store.unavailable" "The store cannot be read or written."
    CLEANUP_DISCONNECT_LOST "cleanup.disconnect-lost" "A $disconnect did not reach the backend."
    INTERNAL "auth.internal" "An unexpected fault in the gateway."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let mut seen = std::collections::HashSet::new();
        for (diagnosis, text) in Diagnosis::ALL {
            assert!(seen.insert(diagnosis.as_str()), "{diagnosis} twice");
            let (symptom, cause) = diagnosis.as_str().split_once('.').expect("two parts");
            for part in [symptom, cause] {
                assert!(
                    part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                    "{diagnosis}"
                );
            }
            assert!(text.ends_with('.'), "{diagnosis}");
        }
    }
}

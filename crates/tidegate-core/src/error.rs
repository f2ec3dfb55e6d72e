//! The one table from a failure to everything that follows from it.
//!
//! A failure on the public listener has one [`ErrorCode`]; status, AWS name, client text, response type, log
//! level and default diagnosis id are columns of its row. A new failure is a new row.

use crate::diagnosis::Diagnosis;

/// How loud a failure is in the log. An operator must be able to alert on `Error` lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Normal life.
    Debug,
    /// Somebody else's mistake.
    Info,
    /// A backend or a setting needs attention.
    Warn,
    /// A person must look.
    Error,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct ErrorRow {
    /// HTTP status of a handshake or a management call.
    pub status: u16,
    /// `x-amzn-ErrorType`.
    pub aws_name: &'static str,
    /// The text that a client sees; nothing about the inside.
    pub message: &'static str,
    /// `$context.error.responseType`.
    pub response_type: &'static str,
    /// Log level.
    pub level: Level,
    /// Used when nothing more exact is known.
    pub diagnosis: Diagnosis,
}

macro_rules! error_table {
    ($($name:ident $status:literal $aws:literal $message:literal $kind:literal $level:ident $diagnosis:ident $doc:literal)*) => {
        /// What went wrong, as clients and operators may know it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $(#[doc = $doc] $name),* }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),*];

            /// The code's row.
            pub const fn row(self) -> ErrorRow {
                match self {
                    $(ErrorCode::$name => ErrorRow {
                        status: $status,
                        aws_name: $aws,
                        message: $message,
                        response_type: $kind,
                        level: Level::$level,
                        diagnosis: Diagnosis::$diagnosis,
                    }),*
                }
            }

            /// The text of an error message on an open connection. Backends' troubles are one text to clients, as the
            /// real service words them for messages.
            pub const fn message_text(self) -> &'static str {
                match self {
                    ErrorCode::IntegrationFailure | ErrorCode::BackendBusy | ErrorCode::ReplyTooLarge => {
                        "Internal server error"
                    }
                    _ => self.row().message,
                }
            }

            /// Label of metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name)),* }
            }
        }
    };
}

error_table! {
    Forbidden 403 "ForbiddenException" "Forbidden" "ACCESS_DENIED" Info HANDSHAKE_WRONG_PATH "No API, stage or mapping at this address, or no route for the message."
    NoRoute 403 "ForbiddenException" "Forbidden" "ACCESS_DENIED" Info ROUTE_NO_MATCH "No route matches the message and there is no `$default`."
    UpgradeRequired 426 "UpgradeRequiredException" "Upgrade Required" "BAD_REQUEST_PARAMETERS" Info HANDSHAKE_NOT_WEBSOCKET "A plain request at a WebSocket address."
    BadHandshake 400 "BadRequestException" "Bad Request" "BAD_REQUEST_PARAMETERS" Info HANDSHAKE_MALFORMED "An upgrade request that breaks RFC 6455."
    UrlTooLong 414 "RequestTooLargeException" "Request too large" "REQUEST_TOO_LARGE" Info HANDSHAKE_URL_TOO_LONG "The request target is over 4096 characters."
    HeadTooLarge 431 "RequestTooLargeException" "Request too large" "REQUEST_TOO_LARGE" Info HANDSHAKE_URL_TOO_LONG "The request head is over 16 KB."
    MissingParameters 400 "BadRequestException" "Missing required request parameters" "BAD_REQUEST_PARAMETERS" Info HANDSHAKE_MALFORMED "A declared handshake parameter is absent."
    Throttled 429 "TooManyRequestsException" "Too Many Requests" "THROTTLED" Info RATELIMIT_STAGE "A throttle of stage or route is exhausted."
    Unauthorized 401 "UnauthorizedException" "Unauthorized" "UNAUTHORIZED" Info AUTHORIZER_IDENTITY_MISSING "An identity source is missing, or the authorizer knows nobody like this."
    AccessDenied 403 "AccessDeniedException" "User is not authorized to access this resource" "ACCESS_DENIED" Info AUTHORIZER_DENIED "The authorizer's policy, or the signing credential, does not allow it."
    InvalidSignature 403 "InvalidSignatureException" "Forbidden" "INVALID_SIGNATURE" Info IAM_CONNECT_UNSIGNED "The signature of a handshake does not hold."
    ExpiredToken 403 "ExpiredTokenException" "Forbidden" "EXPIRED_TOKEN" Info IAM_CONNECT_UNSIGNED "The credential that signed a handshake has ended."
    ApiKeyRejected 403 "ForbiddenException" "Forbidden" "INVALID_API_KEY" Info APIKEY_MISSING "The API key is missing or unknown."
    UsageThrottled 429 "TooManyRequestsException" "Too Many Requests" "THROTTLED" Info APIKEY_OVER_LIMIT "The API key is over the rate of its usage plan."
    QuotaExceeded 429 "LimitExceededException" "Limit Exceeded" "QUOTA_EXCEEDED" Info APIKEY_OVER_LIMIT "The API key has used up the quota of its usage plan."
    AuthorizerFailed 500 "InternalServerErrorException" "Internal server error" "AUTHORIZER_FAILURE" Warn AUTHORIZER_UNSUPPORTED "The authorizer cannot be asked, or has failed."
    AuthorizerBadAnswer 500 "AuthorizerConfigurationException" "Internal server error" "AUTHORIZER_CONFIGURATION_ERROR" Warn AUTHORIZER_BAD_ANSWER "The authorizer's answer is none."
    Misconfigured 500 "InternalServerErrorException" "Internal server error" "API_CONFIGURATION_ERROR" Warn INTEGRATION_MISSING "The integration cannot work as it is defined."
    InvalidBody 400 "BadRequestException" "Bad request body" "BAD_REQUEST_BODY" Info MESSAGE_INVALID_MODEL "The message does not fit the model that its route demands."
    UnsupportedMediaType 415 "UnsupportedMediaTypeException" "Unsupported Media Type" "UNSUPPORTED_MEDIA_TYPE" Info REPLY_TEMPLATE "No template fits and passthrough is refused."
    IntegrationTimeout 504 "IntegrationTimeoutException" "Endpoint request timed out" "INTEGRATION_TIMEOUT" Warn INTEGRATION_TIMEOUT "The backend gave no complete answer within its limit."
    IntegrationFailure 504 "IntegrationFailureException" "Network error communicating with endpoint" "INTEGRATION_FAILURE" Warn INTEGRATION_REFUSED "The backend could not be reached, or broke off."
    FunctionFailed 502 "InternalServerErrorException" "Internal server error" "INTEGRATION_FAILURE" Warn INTEGRATION_FUNCTION_FAILED "The function raised, timed out by itself, answered what is no answer, or cannot be called."
    BackendBusy 503 "ServiceUnavailableException" "Service Unavailable" "INTEGRATION_FAILURE" Warn INTEGRATION_OVERLOAD "The backend has as many calls of the gateway as it may have."
    BackendRefused 403 "ForbiddenException" "Forbidden" "INTEGRATION_FAILURE" Info BACKEND_REFUSED "The backend answered `$connect` with another status than 2xx."
    ReplyTooLarge 413 "PayloadTooLargeException" "Message too long" "REQUEST_TOO_LARGE" Warn MESSAGE_TOO_LARGE_OUT "A two-way answer is over the message limit."
    Draining 503 "ServiceUnavailableException" "Service Unavailable" "DEFAULT_5XX" Info NODE_DRAINING "The node is shutting down."
    ConnectionsExhausted 503 "ServiceUnavailableException" "Service Unavailable" "DEFAULT_5XX" Warn LIMIT_CONNECTIONS "The node holds as many connections as it may."
    StageFull 503 "ServiceUnavailableException" "Service Unavailable" "DEFAULT_5XX" Info LIMIT_CONNECTIONS "The stage holds as many connections as its policy permits."
    IdentityUnavailable 503 "ServiceUnavailableException" "Service Unavailable" "DEFAULT_5XX" Warn JWT_JWKS_UNREACHABLE "What is needed to establish the identity cannot be had now."
    PolicyBroken 500 "InternalServerErrorException" "Internal server error" "API_CONFIGURATION_ERROR" Warn CONFIG_INVALID_VALUE "The stage's policy has errors; it admits nobody."
    OriginRejected 403 "ForbiddenException" "Forbidden" "ACCESS_DENIED" Info ORIGIN_NOT_ALLOWED "The page's origin is not on the stage's list."
    IdentityRejected 403 "ForbiddenException" "Forbidden" "ACCESS_DENIED" Info TOKEN_MISSING "The proof of identity is missing or does not hold."
    ChannelRejected 403 "ForbiddenException" "Forbidden" "ACCESS_DENIED" Info CHANNEL_FORBIDDEN "The channel's rules do not admit this identity."
    InvalidChannel 400 "BadRequestException" "Bad Request" "BAD_REQUEST_PARAMETERS" Info CHANNEL_INVALID "The text is no channel name, or too many channels are named."
    AttemptsExceeded 429 "TooManyRequestsException" "Too Many Requests" "THROTTLED" Info RATELIMIT_CONNECT "Too many handshakes of one address or user."
    ConnectionsExceeded 429 "TooManyRequestsException" "Too Many Requests" "THROTTLED" Info LIMIT_CONNECTIONS "Too many connections of one address or user at a time."
    MessagesExceeded 429 "TooManyRequestsException" "Too Many Requests" "THROTTLED" Info RATELIMIT_MESSAGES "Too many messages on one connection."
    TokenRequestRejected 403 "ForbiddenException" "Forbidden" "ACCESS_DENIED" Info TOKENREQ_ANONYMOUS "Who asks for a connect token may not have one."
    TokenRequestsExceeded 429 "TooManyRequestsException" "Too Many Requests" "THROTTLED" Info RATELIMIT_TOKEN_REQUESTS "Too many connect tokens for one user."
    Gone 410 "GoneException" "" "DEFAULT_4XX" Debug GONE_UNKNOWN_ID "The connection does not exist, any more or yet."
    InvalidConnectionId 400 "BadRequestException" "Invalid connectionId" "DEFAULT_4XX" Info GONE_MALFORMED_ID "The text is no connection id."
    PayloadTooLarge 413 "PayloadTooLargeException" "Message too long" "REQUEST_TOO_LARGE" Info MESSAGE_TOO_LARGE_OUT "A pushed message is over the limit."
    SlowConsumer 429 "LimitExceededException" "" "THROTTLED" Info CONN_SLOW_CONSUMER "The client's outbox is full."
    PushThrottled 429 "LimitExceededException" "" "THROTTLED" Info RATELIMIT_STAGE "Too many management calls."
    MissingAuthentication 403 "MissingAuthenticationTokenException" "Missing Authentication Token" "MISSING_AUTHENTICATION_TOKEN" Info MANAGEMENT_UNSIGNED "No signature, or another method than the resource has."
    NotMapped 404 "NotFoundException" "No method found matching route" "RESOURCE_NOT_FOUND" Info DOMAIN_NO_MAPPING "The path below a custom domain matches no mapping."
    Conflict 409 "ConflictException" "Conflict" "DEFAULT_4XX" Info PUSH_KEY_REUSED "The call contradicts an earlier one."
    BadRequest 400 "BadRequestException" "Bad Request" "BAD_REQUEST_BODY" Info HANDSHAKE_MALFORMED "The request cannot be understood."
    Internal 500 "InternalServerErrorException" "Internal server error" "DEFAULT_5XX" Error INTERNAL "A fault of the gateway itself."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_complete() {
        for code in ErrorCode::ALL {
            let row = code.row();
            assert!((400..600).contains(&row.status), "{code:?}");
            assert!(row.aws_name.ends_with("Exception"), "{code:?}");
            assert!(!row.response_type.is_empty(), "{code:?}");
            // The SDKs know these without members, so their bodies are empty. A quota is about handshakes, which no
            // SDK makes.
            let is_empty = matches!(row.aws_name, "GoneException" | "LimitExceededException")
                && *code != ErrorCode::QuotaExceeded;
            assert_eq!(row.message.is_empty(), is_empty, "{code:?}");
        }
    }

    #[test]
    fn refusals_of_the_session_layer_have_one_status_for_each_reason() {
        // S0-42
        for (code, status) in [
            (ErrorCode::OriginRejected, 403),
            (ErrorCode::IdentityRejected, 403),
            (ErrorCode::ChannelRejected, 403),
            (ErrorCode::InvalidChannel, 400),
            (ErrorCode::AttemptsExceeded, 429),
            (ErrorCode::ConnectionsExceeded, 429),
            (ErrorCode::TokenRequestsExceeded, 429),
            (ErrorCode::StageFull, 503),
            (ErrorCode::IdentityUnavailable, 503),
        ] {
            let row = code.row();
            assert_eq!(row.status, status, "{code:?}");
            // Which check it was, is for operators: clients of one status read one text.
            let generic = match status {
                400 => ErrorCode::BadRequest,
                403 => ErrorCode::Forbidden,
                429 => ErrorCode::Throttled,
                _ => ErrorCode::Draining,
            };
            assert_eq!(row.message, generic.row().message, "{code:?}");
        }
    }
}

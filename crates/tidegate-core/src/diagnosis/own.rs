//! Causes that only Tidegate knows: its own API, its own session layer.

causes! {
    USER_BANNED "user.banned" 0 "" "G"
        title "The user was banned."
        cause "The user was banned."
        proof "The user was banned."
        client "none"
        fix "See the log line.";
    ADMIN_MALFORMED "admin.malformed" 0 "" "G"
        title "A request to the admin API has a value of a wrong form."
        cause "A request to the admin API has a value of a wrong form."
        proof "A request to the admin API has a value of a wrong form."
        client "none"
        fix "See the log line.";
    ADMIN_UNKNOWN_PATH "admin.unknown-path" 0 "" "G"
        title "The admin API has nothing at this path."
        cause "The admin API has nothing at this path."
        proof "The admin API has nothing at this path."
        client "none"
        fix "See the log line.";
    ADMIN_WRONG_METHOD "admin.wrong-method" 0 "" "G"
        title "The path of the admin API has other methods."
        cause "The path of the admin API has other methods."
        proof "The path of the admin API has other methods."
        client "none"
        fix "See the log line.";
    ADMIN_CONTENT_TYPE "admin.content-type" 0 "" "G"
        title "The body has a type that the path of the admin API does not take."
        cause "The body has a type that the path of the admin API does not take."
        proof "The body has a type that the path of the admin API does not take."
        client "none"
        fix "See the log line.";
    ADMIN_TOO_LARGE "admin.too-large" 0 "" "G"
        title "The body is longer than the path of the admin API takes."
        cause "The body is longer than the path of the admin API takes."
        proof "The body is longer than the path of the admin API takes."
        client "none"
        fix "See the log line.";
    ADMIN_NOT_POSSIBLE "admin.not-possible" 0 "" "G"
        title "The state of things does not permit what was asked of the admin API."
        cause "The state of things does not permit what was asked of the admin API."
        proof "The state of things does not permit what was asked of the admin API."
        client "none"
        fix "See the log line.";
    ADMIN_NO_POLICY "admin.no-policy" 0 "" "G"
        title "The stage has no policy."
        cause "The stage has no policy."
        proof "The stage has no policy."
        client "none"
        fix "See the log line.";
    CHANNEL_TOO_MANY "channel.too-many" 0 "" "G"
        title "The connection is in as many channels as it may."
        cause "The connection is in as many channels as it may."
        proof "The connection is in as many channels as it may."
        client "none"
        fix "See the log line.";
    CONTROL_MALFORMED "control.malformed" 0 "" "G"
        title "A message to the gateway itself cannot be understood."
        cause "A message to the gateway itself cannot be understood."
        proof "A message to the gateway itself cannot be understood."
        client "none"
        fix "See the log line.";
    APIKEY_UNKNOWN "apikey.unknown" 0 "" "G"
        title "The API key is not one of the stage's."
        cause "The API key is not one of the stage's."
        proof "The API key is not one of the stage's."
        client "none"
        fix "See the log line.";
    PUSH_KEY_REUSED "push.key-reused" 0 "" "G"
        title "An idempotency key was used for another push."
        cause "An idempotency key was used for another push."
        proof "An idempotency key was used for another push."
        client "none"
        fix "See the log line.";
    CLOSE_SESSION_ENDED "close.session-ended" 0 "" "G"
        title "The session that the connection belongs to was ended."
        cause "The session that the connection belongs to was ended."
        proof "The session that the connection belongs to was ended."
        client "none"
        fix "See the log line.";
}

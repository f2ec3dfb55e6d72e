//! Causes that only Tidegate knows: its own API, its own session layer.

causes! {
    RATELIMIT_ACCOUNT "ratelimit.account" 0 "" "G"
        title "The limit of all APIs together was reached."
        cause "More handshakes, messages or management calls arrive than `limits.requests_per_second` or \
            `limits.connects_per_second` allow; with `limits.profile = \"aws\"` these have the service's quotas."
        proof "The bucket of the account was empty, with its rate and size (`limit`, `burst`)."
        client "HTTP 429 for a handshake and for a push; on messages the error `Too Many Requests`."
        fix "Raise the limit, as one would ask AWS for a higher quota, or send fewer messages: one push to a \
            channel is one request, however many it reaches.";
    LOG_NOT_WRITTEN "log.not-written" 0 "" "G"
        title "Lines of access or execution logs are lost."
        cause "The disk of the log is full, its file is not writable, or more lines come than the disk takes."
        proof "The target, the error and the number of lost lines in the gateway's own log, and `tidegate_log_lines_total`."
        client "Nothing: connections and messages go on."
        fix "Make room on the disk, correct `logs.targets`, or log less: `loggingLevel` and `dataTraceEnabled` of the \
            stage.";
    LOG_PAYLOADS_CAPTURED "log.payloads-captured" 0 "" "G"
        title "Payloads of a route are being kept, because an operator asked for it."
        cause "`tidegate capture start`, or `POST /api/capture`, keeps the messages of one route and their answers for a \
            limited time, so that somebody can see what is really said."
        proof "`tidegate status` shows the route, when it ends and how much of its room is used; the record of changes \
            says who began it."
        client "Nothing."
        fix "It ends by itself; `tidegate capture stop` ends it now and forgets what was kept.";
    USER_BANNED "user.banned" 0 "" "G"
        title "The user, session or token is banned."
        cause "An operator banned it for a time."
        proof "The ban that holds, and until when."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer does \
            not say why."
        fix "`tidegate users bans` lists the bans that hold; `tidegate users unban ID` lifts one.";
    ADMIN_MALFORMED "admin.malformed" 0 "" "G"
        title "A request to the admin API has a value of a wrong form."
        cause "A member of the body or a parameter does not follow its rule."
        proof "The message of the answer names it."
        client "The caller gets 400."
        fix "Correct the value that the message names; the admin API's page has the form of each.";
    ADMIN_UNKNOWN_PATH "admin.unknown-path" 0 "" "G"
        title "The admin API has nothing at this path."
        cause "The path is misspelled or of another version."
        proof "The path."
        client "The caller gets 404."
        fix "Take the path from the admin API's page or from `GET /api/openapi.json`.";
    ADMIN_WRONG_METHOD "admin.wrong-method" 0 "" "G"
        title "The path of the admin API has other methods."
        cause "The path exists and does not take this method."
        proof "The header `Allow` of the answer."
        client "The caller gets 405."
        fix "Use one of the methods that `Allow` names.";
    ADMIN_CONTENT_TYPE "admin.content-type" 0 "" "G"
        title "The body has a type that the path of the admin API does not take."
        cause "Most paths take `application/json` only."
        proof "The type that was sent."
        client "The caller gets 415."
        fix "Send the header `Content-Type: application/json` with the body.";
    ADMIN_TOO_LARGE "admin.too-large" 0 "" "G"
        title "The body is longer than the path of the admin API takes."
        cause "Each path has a limit of its own."
        proof "The limit in the message."
        client "The caller gets 413."
        fix "Send less at a time.";
    ADMIN_NOT_POSSIBLE "admin.not-possible" 0 "" "G"
        title "The state of things does not permit what was asked of the admin API."
        cause "For example a signing key that the policy does not have, or a definition that somebody else \
            changed meanwhile."
        proof "The message of the answer says what is in the way."
        client "The caller gets 409."
        fix "Change what the message names, then repeat the call.";
    ADMIN_NO_POLICY "admin.no-policy" 0 "" "G"
        title "The stage has no policy."
        cause "What was asked needs one: users, sessions, tokens and channels exist with a policy only."
        proof "The stage without a policy."
        client "The caller gets 404 or 409."
        fix "Store one: `tidegate permissions policy set FILE`, or `[apis.stages.NAME.policy]` in the document.";
    CHANNEL_TOO_MANY "channel.too-many" 0 "" "G"
        title "The connection is in as many channels as it may."
        cause "It joined more and more and left none."
        proof "The limit and the number of its channels."
        client "The join is refused; the connection stays open."
        fix "Leave channels that are not needed any more, or use fewer and wider ones.";
    CONTROL_MALFORMED "control.malformed" 0 "" "G"
        title "A message to the gateway itself cannot be understood."
        cause "It is addressed by the policy's `control.key` and is no object with a known `action`."
        proof "What was expected, in the answer."
        client "An error message; the connection stays open."
        fix "Send `{\"tidegate\": {\"action\": \"join\", \"channel\": \"NAME\"}}`, with the name of `control.key` \
            in front.";
    APIKEY_UNKNOWN "apikey.unknown" 0 "" "G"
        title "The API key is not one of the stage's."
        cause "It was removed or disabled, belongs to another stage or environment, is in no usage plan of the stage, or \
            was copied incompletely."
        proof "A key is there, and its hash is none of `admission.api_keys`, or of the usage plans of the stage."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Add the SHA-256 of the key to `admission.api_keys`, or the key to a usage plan of the stage \
            (`[usage_plans.NAME]`), or use another key.";
    APIKEY_OVER_LIMIT "apikey.over-limit" 0 "" "G"
        title "The usage plan of the API key permits no more handshakes for now."
        cause "More handshakes come with the key than the plan's rate and burst, or its quota of a period, allow."
        proof "The plan, the id of the key, and which of its limits was reached (`limit`, `count`)."
        client "HTTP 429 `Too Many Requests` for the rate, `Limit Exceeded` for the quota; a browser shows only close \
            code 1006."
        fix "Raise `rate`, `burst` or `quota` of `[usage_plans.NAME]`, or give the client a key of another plan.";
    CLOSE_AUTHORIZATION_EXPIRED "close.authorization-expired" 0 "" "G"
        title "The authorizer's decision about the connection is too old."
        cause "`authorizer.max_age` has passed since the authorizer let the client in."
        proof "The setting, in seconds (`limit`)."
        client "Close code 1008 `Authorization expired`."
        fix "Reconnect: the authorizer is asked again. To let connections live longer raise `authorizer.max_age`, or \
            set it to 0.";
    PUSH_KEY_REUSED "push.key-reused" 0 "" "G"
        title "An idempotency key was used for another push."
        cause "The same key stands for the same content only."
        proof "The key and that the content differs."
        client "The caller gets 409."
        fix "Make a new key for each message and repeat it only for repeated calls.";
    CLOSE_SESSION_ENDED "close.session-ended" 0 "" "G"
        title "The session that the connection belongs to was ended."
        cause "The user logged out everywhere, or an operator ended it."
        proof "Who ended it and when."
        client "Close code 1008 `Session ended`."
        fix "Nothing, if it was meant; otherwise let the user log in again.";
    CHAT_HOOK_FAILED "chat.hook-failed" 0 "" "G"
        title "A hook of the chat has not answered as it should."
        cause "Its receiver cannot be reached, is slow, answers another status than 2xx, or answers something that \
            is not understood."
        proof "The moment, the host of the target and the failure, in the log."
        client "With `on_failure = \"deny\"` error 4006 for the event; otherwise nothing. Deliveries of `after` and \
            `notify` are repeated for 24 hours."
        fix "Look at the receiver; `GET /api/chat/hooks/deliveries` lists what waits with its last error.";
    CHAT_HOOK_LOST "chat.hook-lost" 0 "" "G"
        title "Something that a hook of the chat should have got is lost."
        cause "Too much waited for a receiver that does not answer, or 24 hours were over."
        proof "How many, and the limit, in the log."
        client "Nothing, or a frame that did not come."
        fix "Bring the receiver back; fetch from it what it missed through the chat's own calls.";
    CHAT_EXTENSION_FAILED "chat.extension-failed" 0 "" "G"
        title "An extension of the chat has failed."
        cause "A trait's method returned an error or panicked, outside of an event."
        proof "The error, in the log."
        client "Nothing."
        fix "Correct the method that the log line is about; clients are served without it meanwhile.";
    CONFIG_NO_CREDENTIALS "config.no-credentials" 0 "" "C"
        title "No credential is configured."
        cause "Nobody could sign a call, so `serve` does not start."
        proof "The setting."
        client "Nothing."
        fix "Set `access_key_id` and `secret_access_key_file`, or an `api_key`.";
    CONFIG_ADMIN_OPEN "config.admin-open" 0 "" "C"
        title "The admin listener can be reached from other machines."
        cause "It has no TLS of its own, and its metrics and health need no credential."
        proof "The address of `admin`."
        client "Nothing."
        fix "Bind `admin` to `127.0.0.1` or to a private network.";
    CONFIG_NO_TLS "config.no-tls" 0 "" "C"
        title "The public listener has neither TLS nor a proxy that ends it."
        cause "Clients speak in the clear, tokens included."
        proof "The settings `listen`, `tls` and `trusted_proxies`."
        client "Nothing: connections open."
        fix "Configure `[tls]`, or put a proxy with TLS in front and name it in `trusted_proxies`.";
    CONFIG_NO_BACKEND_SECRET "config.no-backend-secret" 0 "" "C"
        title "The backend cannot tell the gateway from others."
        cause "The policy has no secret that both share."
        proof "The setting `backend.secrets`."
        client "Nothing."
        fix "Set `[backend] secrets` and check the header `x-ws-gateway-secret` in the backend.";
    CONFIG_UNLISTED_OPEN "config.unlisted-open" 0 "" "C"
        title "Everybody may join channels that no rule names."
        cause "`channels.unlisted` is `\"allow\"`."
        proof "The setting."
        client "Nothing: joins succeed."
        fix "Set `channels.unlisted = \"deny\"`, and write rules for the channels that are in use.";
    CONFIG_ORIGINS_OPEN "config.origins-open" 0 "" "C"
        title "Pages of any origin may use the cookie that identifies users."
        cause "A cookie proves who the user is, and `admission.origins` is empty."
        proof "The settings `jwt.cookie` and `admission.origins`."
        client "Nothing: connections open, also those that a foreign page opens."
        fix "List the origins of your pages in `admission.origins`.";
    CONFIG_WEAK_SECRET "config.weak-secret" 0 "" "C"
        title "A secret can be guessed."
        cause "It is shorter than 32 bytes or a published sample."
        proof "Its length; the secret is not kept."
        client "Nothing."
        fix "Make one with `openssl rand -base64 48`, and give it to both sides.";
    CONFIG_OPEN_PREFIX "config.open-prefix" 0 "" "C"
        title "A channel rule also fits names that begin with the id of somebody else."
        cause "The pattern ends with a placeholder and `*`: `12` fits the channels of `123`."
        proof "The pattern."
        client "Nothing: joins succeed."
        fix "Put a separator before the `*`: `user_{user}_*`.";
    PUBLISH_MALFORMED "publish.malformed" 0 "" "G"
        title "A call that publishes an alert has a body of a wrong form."
        cause "The body is no JSON, a member is missing or has a value that it cannot have, or nobody is selected."
        proof "The name of the member (`field`)."
        client "The caller gets 422 with the same name; nobody gets the alert."
        fix "Correct the member that the answer names; the manual's page on alerts has an example of each call.";
}

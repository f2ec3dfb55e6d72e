//! Causes of symptoms 24 to 27: messages to clients, the calls that send them, and the errors of the chat.

causes! {
    // Symptom 24.
    PUBLISH_NO_SUBSCRIBERS "publish.no-subscribers" 24 "[3][s]" "G"
        title "The channel has no members."
        cause "The name differs from the one that clients join, or nobody has joined yet."
        proof "The channel, its members (0), and similar names that have some (`similar`)."
        client "Nothing: no error, and no message."
        fix "Correct the name: `tidegate channels ls` shows the channels that have members.";
    PUBLISH_ROLE_NOT_MAPPED "publish.role-not-mapped" 24 "[3]" "G"
        title "No channel belongs to this role."
        cause "Users join by their role, and the rules do not name this one."
        proof "The role and the rules."
        client "Nothing: no error, and no message."
        fix "Add a rule for the role to `channels.rules`, and let clients join again.";
    PUBLISH_SINGLE_PROCESS "publish.single-process" 24 "[s][+]" "(D)"
        title "Only a part of the clients gets messages: connections are kept in each process's own memory."
        cause "The application runs with several workers, and a message reaches the clients of one worker only."
        proof "The closest sign: of several test connections a share near 1/workers gets a message. The server's \
            number of workers would prove it."
        client "Some clients get the message, others do not."
        fix "Push through the gateway (`tidegate publish CHANNEL`, `POST /@connections`), or use a message bus \
            between the workers.";
    PUBLISH_PATTERN_SUBSCRIBE "publish.pattern-subscribe" 24 "[s][+]" "-"
        title "The old server subscribes to a name with a wildcard as if it were a plain name."
        cause "Its subscription to the message bus is literal, so that messages for actual names never arrive."
        proof "Nothing of it is visible to the gateway. The closest sign: no deliveries with the bus, and \
            deliveries without it."
        client "Nothing: no error, and no message."
        fix "Check by hand that the server subscribes by pattern (`PSUBSCRIBE` in Redis), or use the gateway's \
            channels.";
    PUBLISH_LAYER_OVERFLOW "publish.layer-overflow" 24 "[+]" "-"
        title "The old server's channel layer drops messages over its capacity."
        cause "Channels keeps at most 100 unread messages for each channel unless configured otherwise."
        proof "Nothing of it is visible to the gateway. The closest sign: losses begin at a round number of \
            unread messages, and the server's log says `over capacity`."
        client "Some clients miss messages."
        fix "Check the server's log by hand, raise `capacity` in `CHANNEL_LAYERS`, or use the gateway's channels.";
    PUBLISH_DEAD_ENTRIES "publish.dead-entries" 24 "[3]" "G*"
        title "A list of connections keeps closed ones, and sending fails at them."
        cause "Connections are not removed from the list when they end."
        proof "The counter of failed deliveries. The gateway's own channels cannot have such entries."
        client "Others wait longer, or miss the message."
        fix "Remove connections from the list when they end and when a send fails with 410, or publish to a \
            channel of the gateway.";
    PUBLISH_SERIAL_SEND "publish.serial-send" 24 "[3]" "G* (D)"
        title "One slow client delays all the others."
        cause "Messages are sent one after the other, each waiting for the one before."
        proof "The spread of delivery times of one publish."
        client "Messages arrive late."
        fix "Send in parallel with a time limit for each, or publish to a channel of the gateway, where each \
            client has a queue of its own.";
    PUBLISH_PARTIAL_CLUSTER "publish.partial-cluster" 24 "[g]" "G"
        title "A node did not confirm a publish."
        cause "A node of the cluster is not reachable or too slow."
        proof "The nodes that were asked and those that answered."
        client "Clients of that node miss the message."
        fix "Check the node and the bus between the nodes.";

    // Symptom 25.
    GONE_NEVER_ESTABLISHED "connections.gone-never-established" 25 "[1][+]" "G"
        title "The message was pushed before the connection was open."
        cause "It was pushed from inside `$connect`, whose answer the gateway still waits for: the client is not \
            connected yet."
        proof "The push lies between beginning and end of that connection's `$connect`."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Push after `$connect` has been answered: from a task that starts later, or when the client sends its \
            first message. `management.pending_posts = \"queue\"` keeps such pushes and delivers them right after \
            the opening.";
    GONE_REFUSED "connections.gone-refused" 25 "[g]" "G"
        title "The connection was refused and never opened."
        cause "`$connect` or a check of the gateway said no, and the backend had stored the id before."
        proof "The id of the refusal."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Store the id only when `$connect` succeeds, and look at the refusal: `tidegate explain \
            CONNECTION_ID`.";
    GONE_CLIENT_CLOSED "connections.gone-client-closed" 25 "[0][1]" "G"
        title "The client closed the connection."
        cause "A tab was closed, the page was left, or the code called `close()`."
        proof "When it ended and with which code: 1000, 1001 or 1005."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Take it as normal: mark the record as closed and do not push again.";
    GONE_NETWORK "connections.gone-network" 25 "[0]" "G"
        title "The connection was lost with the network."
        cause "The device went offline or changed its network, and no close frame came."
        proof "A reset, or pings without an answer since a certain time."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Take it as normal: delete the record on 410; the client reconnects with a new id.";
    GONE_IDLE "connections.gone-idle" 25 "[0]" "G"
        title "The connection was closed by the idle limit."
        cause "Nothing was sent in either direction for `data_plane.idle_timeout` (10 minutes unless set)."
        proof "The last activity and the limit."
        client "Close code 1001 at that time. The caller gets 410 GoneException."
        fix "Send a heartbeat more often than the limit, or raise `data_plane.idle_timeout`.";
    GONE_MAX_AGE "connections.gone-max-age" 25 "[0]" "G"
        title "The connection was closed by the age limit."
        cause "It was open for `data_plane.max_duration` (2 hours unless set)."
        proof "When it opened and the limit."
        client "Close code 1001 at that time. The caller gets 410 GoneException."
        fix "Let the client reconnect and the backend store the new id, or raise `data_plane.max_duration` (0 = \
            no limit).";
    GONE_ROOM_CHANGE "connections.gone-room-change" 25 "[0]" "G"
        title "The client reconnected for another room, so the old id is gone."
        cause "It opened a new connection and closed the old one."
        proof "The same user or session opened another id within 10 s of the end of this one."
        client "Nothing arrives at the old id. The caller gets 410 GoneException."
        fix "Use the new id, or let clients change channels on the open connection (`control.key`).";
    GONE_REUSED_ID "connections.gone-reused-id" 25 "[1]" "G"
        title "The backend uses the id of an earlier connection."
        cause "The client came back and was given a new id. An id never becomes valid again."
        proof "The same user has a newer id that is open."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Store the id of each `$connect`, and delete the one before.";
    GONE_SERVER_CLOSED "connections.gone-server-closed" 25 "[1]" "G"
        title "The connection was closed by the gateway, an operator or the backend."
        cause "A rule, a command or a `DELETE` ended it."
        proof "Who ended it and the id of the reason."
        client "The close code of that end. The caller gets 410 GoneException."
        fix "Follow the id of the reason: `tidegate explain CONNECTION_ID`.";
    GONE_RESTART "connections.gone-restart" 25 "[g]" "G"
        title "The connection ended when its node stopped."
        cause "The gateway was restarted or lost; connections live in its memory."
        proof "End of the node against the opening of the connection."
        client "Close code 1001, or 1006 after a crash. The caller gets 410 GoneException."
        fix "Let clients reconnect, and delete the id on 410.";
    CONNECTIONS_STALE_RECORD "connections.stale-record" 25 "[0]" "G"
        title "The backend keeps pushing to a connection that ended long ago."
        cause "Its record was not removed when the connection ended or at the first 410."
        proof "The connection ended over an hour ago, or it is the third push after the first 410."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Delete the record at the first 410 (`GoneException`), and schedule the clean-up of old ones.";
    GONE_UNKNOWN_ID "connections.unknown-id" 25 "[1]" "G"
        title "This installation never issued the id."
        cause "The id comes from another environment, or the endpoint is that of another installation."
        proof "The journal reaches back far enough and does not know it; otherwise it is only possible."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Compare environment and endpoint of the backend with those that the client connected to.";
    GONE_MALFORMED_ID "connections.malformed-id" 25 "[1][+]" "G"
        title "The connection id has a wrong form."
        cause "It was cut, padded or changed on its way through the backend."
        proof "The character or length that is wrong."
        client "The caller gets 400 BadRequestException."
        fix "Store ids as opaque text with room for 64 characters and pass them on unchanged, the `=` at the end \
            included.";
    CONNECTIONS_DOUBLE_ENCODED "connections.double-encoded" 25 "[g]" "G"
        title "The connection id was encoded twice or cut at its `=`."
        cause "The path is built by hand and encoded again by the library, or a query parser removed the `=`."
        proof "Decoding once more, or appending `=`, gives an id that is open."
        client "The caller gets 410 or 400."
        fix "Encode the id once: `=` becomes `%3D`. SDKs do it by themselves.";
    GONE_OTHER_STAGE "connections.other-stage" 25 "[g]" "G"
        title "The connection belongs to another API or stage."
        cause "The endpoint in the backend's configuration is that of another one."
        proof "Where the connection belongs."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Build the endpoint from the event of `$connect`: `https://{domainName}/{stage}`.";

    // Symptom 26.
    MANAGEMENT_UNSIGNED "management.unsigned" 26 "[g]" "G"
        title "The call has no signature."
        cause "It was made with a plain HTTP client, or without credentials."
        proof "`Authorization` is absent."
        client "The caller gets 403 `Missing Authentication Token`."
        fix "Use an AWS SDK with `endpoint_url`, sign with Signature Version 4 for `execute-api`, or send \
            `Authorization: Bearer KEY` with `api_key`.";
    MANAGEMENT_BAD_SIGNATURE "management.bad-signature" 26 "[g]" "G"
        title "The signature of the call does not match."
        cause "The secret differs from the one of this access key, often because of another environment or a line \
            end in a file."
        proof "The access key is known and the signature is wrong, and no other known reason fits."
        client "The caller gets 403."
        fix "Give the caller the secret of its access key. `sigv4.explain_mismatch = true` shows what should have \
            been signed.";
    MANAGEMENT_UNKNOWN_KEY "management.unknown-key" 26 "[g]" "G C"
        title "The access key is not known here."
        cause "The caller uses a key of AWS or of another installation."
        proof "The id of the key."
        client "The caller gets 403. Text: `The security token included in the request is invalid`."
        fix "Use a key of this installation (`access_key_id` or `[[credentials]]`), for example with \
            `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.";
    MANAGEMENT_DENIED "management.denied" 26 "[0][+]" "G C"
        title "The access key may not do this."
        cause "None of its rules covers the action on this API and stage."
        proof "The action, the resource and the rules of the key."
        client "The caller gets 403."
        fix "Allow `execute-api:ManageConnections` on \
            `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/POST/@connections/*`: in `allow` of `[[credentials]]`.";
    MANAGEMENT_WRONG_REGION "management.wrong-region" 26 "[+]" "G"
        title "The call is signed for another region."
        cause "The SDK takes its region from the environment or a default, often together with a custom domain."
        proof "The region in the credential scope and the configured one."
        client "The caller gets 403. Text: `Credential should be scoped to a valid region`."
        fix "Set the SDK's region to the gateway's `region`: `boto3.client(..., region_name=\"us-east-1\")` or \
            `AWS_REGION`.";
    MANAGEMENT_WRONG_SERVICE "management.wrong-service" 26 "[g]" "G"
        title "The call is signed for another service than `execute-api`."
        cause "It was signed by hand or with the client of another service."
        proof "The service in the credential scope."
        client "The caller gets 403."
        fix "Use the client `apigatewaymanagementapi`, or sign for `execute-api`.";
    MANAGEMENT_CLOCK_SKEW "management.clock-skew" 26 "[g]" "G"
        title "The caller's clock is off by more than the permitted difference."
        cause "Signatures are valid for a few minutes around the time they name."
        proof "The date of the call and the gateway's clock."
        client "The caller gets 403. Text: `Signature expired` or `Signature not yet current`."
        fix "Synchronize the caller's clock (`timedatectl`, `chronyc tracking`). The difference is \
            `sigv4.clock_skew` (300 s).";
    MANAGEMENT_PATH_REWRITTEN "management.path-rewritten" 26 "[g]" "G"
        title "A proxy changed the path, so the signature fails."
        cause "The path is part of what is signed, and the proxy decoded or encoded `@connections` or the id."
        proof "The signature holds with the other encoding of the path."
        client "The caller gets 403."
        fix "Pass the path on unchanged: in nginx `proxy_pass http://gateway;` without a path of its own, or let \
            calls of the backend go to the gateway directly.";
    MANAGEMENT_STAGE_WITH_DOMAIN "management.stage-with-domain" 26 "[+]" "G"
        title "The call to a custom domain has the stage in its path."
        cause "The endpoint was built from domain and stage, and the domain's mapping leads to the stage already."
        proof "The path has `/{stage}/@connections` on a mapped domain."
        client "The caller gets 403 or 404."
        fix "Leave the stage out of the endpoint, or set `management.accept_stage_on_domain = true`.";
    MANAGEMENT_NO_ENDPOINT "management.no-endpoint" 26 "[+]" "-"
        title "The caller's SDK has no endpoint and calls a host without an API."
        cause "Without `endpoint_url` it builds an address of AWS."
        proof "Nothing arrives here. The closest sign is the absence of calls; the caller's own text is `Could \
            not connect to the endpoint URL` or `no such host`."
        client "The caller's SDK reports that the host cannot be found; clients get nothing."
        fix "Check the SDK's endpoint by hand and set it: `boto3.client(\"apigatewaymanagementapi\", \
            endpoint_url=\"https://DOMAIN/STAGE\")`.";
    MANAGEMENT_BAD_SCHEME "management.bad-scheme" 26 "[+]" "-"
        title "The endpoint in the caller's SDK has no `https://`, or has `wss://`."
        cause "The address of the WebSocket was used for calls."
        proof "Nothing arrives here. The closest sign is the absence of calls; the caller's own text is `Invalid \
            URL` or `Invalid endpoint`."
        client "The caller's SDK refuses the endpoint; clients get nothing."
        fix "Check the SDK's endpoint by hand: it must begin with `https://` (or `http://` for a local one), \
            without `/@connections`.";
    MANAGEMENT_NO_EGRESS "management.no-egress" 26 "[+]" "D (run there)"
        title "The caller's network cannot reach the gateway."
        cause "No route or rule lets its calls out, for example from a private subnet."
        proof "Connecting from the backend's machine times out."
        client "The calls time out; clients get nothing."
        fix "Run `tidegate doctor URL` on the backend's machine, then open the route or security group.";
    MANAGEMENT_NOT_REDIRECTED "management.not-redirected" 26 "[s]" "D (run there)"
        title "The backend's library builds an address of Amazon itself, so pushes never come here."
        cause "It takes API id and region and has no setting for the endpoint."
        proof "On the backend's machine `{api}.execute-api.{region}.amazonaws.com` leads elsewhere than here."
        client "Pushes go elsewhere and fail; clients get nothing."
        fix "Lead the name here: with the gateway's CONNECT proxy (`[proxy]`, `HTTPS_PROXY`) or a DNS or hosts \
            entry, and a certificate the backend trusts (`tidegate certs`).";
    MANAGEMENT_CA_UNTRUSTED "management.ca-untrusted" 26 "[s]" "D (run there) G"
        title "The caller does not trust the gateway's certificate."
        cause "The certificate for the management name is signed by an authority that the caller does not know."
        proof "The TLS alert `unknown CA` of that peer, or a probe from the backend's machine."
        client "The calls fail with a certificate error; clients get nothing."
        fix "Give the caller the authority's certificate: `AWS_CA_BUNDLE=/path/ca.pem`, `REQUESTS_CA_BUNDLE` or \
            `NODE_EXTRA_CA_CERTS`.";
    MANAGEMENT_WRONG_LISTENER "management.wrong-listener" 26 "[g]" "G"
        title "The call went to the other listener."
        cause "Pushes belong to the public listener, the control plane and the admin API to the admin listener."
        proof "The path of the other API."
        client "The caller gets 404."
        fix "Swap the endpoints: `@connections` at `listen`, `/v2` and `/api` at `admin`.";
    MANAGEMENT_THROTTLED "management.throttled" 26 "[0]" "G"
        title "Too many calls of the management API."
        cause "The caller is over its rate."
        proof "The bucket was empty."
        client "The caller gets 429 LimitExceededException."
        fix "Push to a channel or user with one call instead of to each connection, and repeat with a growing \
            pause.";

    // Symptom 27.
    CHAT_AUTH_FAILED "chat.auth-failed" 27 "[2]" "G"
        title "The chat could not tell who the user is."
        cause "The user is anonymous, or the token was refused."
        proof "The id of the refused token or of the missing identity."
        client "The connection opens, then closes with 4001."
        fix "Log in and refresh the token, then connect again; follow the id of the refusal.";
    CHAT_AUTH_HIDDEN "chat.auth-hidden" 27 "[2][s][+]" "D"
        title "The old chat server refuses before it accepts, so 4001 is never seen."
        cause "A close before the accept is an HTTP refusal without a code."
        proof "403 with an empty body from the old server."
        client "HTTP 403; a browser shows close code 1006 instead of 4001."
        fix "Let that server accept first and then close with 4001, or let its clients treat 403 at the handshake \
            as 4001.";
    CHAT_NOT_MEMBER "chat.not-member" 27 "[2]" "G*"
        title "The user is not a member of the room."
        cause "Reading and sending are for members."
        proof "The user and the room."
        client "An error message with code 4002; the connection stays open."
        fix "Join the room, or ask its owner to add the user, and send again.";
    CHAT_NOT_OWNER "chat.not-owner" 27 "[2]" "G*"
        title "The user may not administer this room or message."
        cause "Only the creator and administrators may delete and change it."
        proof "The user, the room and the right that is needed."
        client "An error message with code 4002; the connection stays open."
        fix "Ask the owner of the room, or give the user the right.";
    CHAT_INVALID_ROOM_TYPE "chat.invalid-room-type" 27 "[2]" "G*"
        title "The kind of room is unknown, or the operation is not for it."
        cause "The message names another kind than those that exist."
        proof "The value."
        client "An error message with code 4003; the connection stays open."
        fix "Correct the kind of room in the message.";
    CHAT_MISSING_FIELD "chat.missing-field" 27 "[2]" "G*"
        title "The message lacks a required field."
        cause "The client left it out or spelled it differently."
        proof "The names of the fields."
        client "An error message with code 4003 and the fields; the connection stays open."
        fix "Send the fields that the error names.";
    CHAT_BAD_PAYLOAD "chat.bad-payload" 27 "[2]" "G*"
        title "The message does not have the form of its event."
        cause "A member has another type or stands in another place."
        proof "The path of the first one that is wrong."
        client "An error message with code 4003; the connection stays open."
        fix "Correct the member that the error names.";
    CHAT_ROOM_NOT_FOUND "chat.room-not-found" 27 "[2]" "G*"
        title "The room does not exist."
        cause "It was deleted, or the client's list is old."
        proof "The id of the room."
        client "An error message with code 4004; the connection stays open."
        fix "Fetch the list of rooms again.";
    CHAT_MESSAGE_NOT_FOUND "chat.message-not-found" 27 "[2]" "G*"
        title "The message does not exist."
        cause "It was deleted, or belongs to another room."
        proof "The id of the message."
        client "An error message with code 4004; the connection stays open."
        fix "Fetch the messages of the room again.";
    CHAT_DUPLICATE_REACTION "chat.duplicate-reaction" 27 "[2]" "G*"
        title "The user has reacted like this already."
        cause "The same reaction was sent twice, for example by a double click."
        proof "The rule that there is one reaction of a kind."
        client "An error message with code 4005; the connection stays open."
        fix "Ignore the error in the client.";
    CHAT_DUPLICATE_RECEIPT "chat.duplicate-receipt" 27 "[2]" "G*"
        title "The message was marked as read already."
        cause "The same receipt was sent twice."
        proof "The rule that there is one receipt."
        client "An error message with code 4005; the connection stays open."
        fix "Ignore the error in the client.";
    CHAT_DUPLICATE_ONE_TO_ONE "chat.duplicate-one-to-one" 27 "[2]" "G*"
        title "These two users have a conversation already."
        cause "There is one room for each pair of users."
        proof "The room that exists."
        client "An error message with code 4005; the connection stays open."
        fix "Open the existing room of these two users in the client.";
    CHAT_INTERNAL "chat.internal" 27 "[2]" "G"
        title "The chat failed unexpectedly."
        cause "A fault in the chat itself or in its store."
        proof "The request id and the error in the log."
        client "An error message with code 4006 and a general text; the connection stays open."
        fix "Read the log entry of the request id.";
    CHAT_INVALID_EVENT_TYPE "chat.invalid-event-type" 27 "[2]" "G"
        title "The chat does not know this kind of event."
        cause "`event_type` is spelled differently, or belongs to another version."
        proof "The value and the nearest known one (`nearest`)."
        client "The message `{\"error\": \"invalid event type\"}`; the connection stays open."
        fix "Correct `event_type` in the client.";
    CHAT_FIELD_ERROR_AS_EVENT_TYPE "chat.field-error-as-event-type" 27 "[s]" "D"
        title "A custom handler of the old server reports a missing field as an unknown kind of event."
        cause "Any missing key inside of the handler is caught as if the kind of event was not found."
        proof "An event that exists gets that answer."
        client "The message `{\"error\": \"invalid event type\"}`; the connection stays open."
        fix "Catch errors inside the handler, and answer 4003 with the name of the field.";
    CHAT_SHAPE_AS_INTERNAL "chat.shape-as-internal" 27 "[s]" "D"
        title "The old server calls a malformed message an internal error."
        cause "It does not check that `data` is there and an object."
        proof "A known event without `data` gets 4006."
        client "An error message with code 4006."
        fix "Send `data` as an object. In the server check its form first and answer 4003.";
    CHAT_NOT_JSON "chat.not-json" 27 "[s][+]" "G D"
        title "The message is not a JSON object."
        cause "The client sent text or an array; old servers drop the connection at it."
        proof "The error of the parser."
        client "An error message with code 4003, and the connection stays open; from old servers close code 1011 \
            or 1006."
        fix "Send JSON objects, for example `JSON.stringify({\"event_type\": \"...\", \"data\": {}})`.";
    CHAT_TWO_FORMATS "chat.two-formats" 27 "[2]" "L"
        title "The client understands only one of the two forms of errors."
        cause "Errors are an object with `code` and `detail`, or a plain text."
        proof "An error that the client did not handle."
        client "The error arrives and is not shown."
        fix "Handle both: `typeof message.error === \"string\"` and the object.";
    CHAT_DETAIL_SHAPE "chat.detail-shape" 27 "[2]" "L"
        title "The client expects text where an error has a list or an object."
        cause "`detail` may be text, a list or nested objects by field."
        proof "The type of `detail`."
        client "The error arrives and is shown wrongly or not at all."
        fix "Handle text, lists and objects in `detail`.";
    CHAT_CUSTOM_HANDLER "chat.custom-handler" 27 "[2]" "D C"
        title "A custom handler of the server changed the form of errors."
        cause "The project replaced the function that makes error messages."
        proof "Sample errors differ from the documented form."
        client "Errors in another form."
        fix "Adapt the client to that form, or remove the custom handler.";
    CHAT_HEARTBEAT_MISSED "chat.heartbeat-missed" 27 "[s]" "G*"
        title "The device sent no sign of life in time and counts as idle."
        cause "No event, heartbeat or pong came within the threshold (60 s)."
        proof "The last heartbeat and the threshold."
        client "Nothing; messages are still delivered."
        fix "Send `session.heartbeat` two or three times within the threshold. Timers of background tabs may run \
            once a minute only.";
}

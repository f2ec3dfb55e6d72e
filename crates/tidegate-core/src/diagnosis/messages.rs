//! Causes of symptoms 19 to 23: messages of clients, the route they take, and its answer.

causes! {
    // Symptom 19.
    HANDLER_KEY_MISSING "handler.key-missing" 19 "[0]" "G B"
        title "The message lacks the key that chooses the handler."
        cause "The client calls the key otherwise, or wraps the message in another object."
        proof "The top-level names of the message and the name that is wanted; Django backends say `Invalid \
            request format (1)`."
        client "The answer of the default handler, or an error with 400."
        fix "Send the key that the route selection expression names, for example `{\"action\": \"join\"}` for \
            `$request.body.action`. `tidegate route test API MESSAGE` shows what is selected.";
    HANDLER_SELECTION_MISMATCH "handler.selection-mismatch" 19 "[0]" "G C"
        title "The route selection expression does not fit the messages."
        cause "It reads another name or level than the one where the messages have the route."
        proof "Expression and top-level names; a name that is nested or spelled differently holds a known route \
            key."
        client "`$default` answers."
        fix "Change the expression (`$request.body.action`) or the messages, deploy, and try it with `tidegate \
            route test API MESSAGE`.";
    HANDLER_BACKEND_KEY_DIFFERS "handler.backend-key-differs" 19 "[0]" "(G) (B)"
        title "Gateway and backend read different keys of the message."
        cause "The gateway selects by one key and the view looks for its handler under another one."
        proof "The closest sign: the gateway matched a route, and the view answers as if no handler was named. \
            The view's own setting would prove it."
        client "The answer of the default handler."
        fix "Use one key on both sides: the name in the route selection expression and the one that the view \
            reads.";
    HANDLER_NOT_ALLOWED "handler.not-allowed" 19 "[0]" "-"
        title "The backend may not call the requested handler: it is not on its list."
        cause "Views call only the handlers that they list as allowed, and fall back to the default one without a \
            word."
        proof "Nothing of it is visible to the gateway. The closest sign: the value is a plain name that matches \
            no route, while other values of the same key are answered differently."
        client "The answer of the default handler."
        fix "Check the view's list of allowed handlers by hand and add the name.";
    HANDLER_NAME_MISMATCH "handler.name-mismatch" 19 "[0]" "-"
        title "The backend has no method of the requested name."
        cause "The name in the message and the name of the method differ, for example in case or an underscore."
        proof "Nothing of it is visible to the gateway. The closest sign: the values that were seen, by their \
            spelling."
        client "The answer of the default handler."
        fix "Compare the names in the messages with the methods of the view by hand and rename one of them.";
    HANDLER_INVALID_NAME "handler.invalid-name" 19 "[0]" "G"
        title "The requested handler's name cannot be the name of a method."
        cause "It has a dash, blank or dot, or begins with a digit or an underscore."
        proof "The value fails the rule for names."
        client "The answer of the default handler."
        fix "Use letters, digits and underscores, beginning with a letter.";
    HANDLER_NOT_JSON "handler.not-json" 19 "[g]" "G"
        title "The message is not JSON, so nothing can be selected by it."
        cause "The client sends plain text or something cut off."
        proof "The position of the first error (`errorPosition`)."
        client "`$default` answers, or `Forbidden` where there is none."
        fix "Send JSON (`JSON.stringify(value)`). Plain text is for APIs with `$default` only.";

    // Symptom 20.
    ROUTE_NOT_CREATED "route.not-created" 20 "[0]" "G C"
        title "The message chose a route that does not exist."
        cause "There is no route of this key in the deployed state."
        proof "The selected value and the route keys (`selectedValue`, `routeKeys`)."
        client "`$default` answers, or `Forbidden` where there is none."
        fix "Create the route with this key and an integration, then deploy.";
    ROUTE_KEY_MISMATCH "route.key-mismatch" 20 "[0]" "G C"
        title "The message chose a key that differs from a route only in its spelling."
        cause "Case, blanks or the form of the value are not those of the route."
        proof "The nearest key and the difference (`nearest`)."
        client "`$default` answers, or `Forbidden` where there is none."
        fix "Spell both alike; upper and lower case count. `tidegate route test API MESSAGE` tries a message.";
    ROUTE_INTEGRATION_WRONG "route.integration-wrong" 20 "[0]" "B C"
        title "The address of this route's own integration is wrong."
        cause "The other routes reach the backend, and this one has another URI."
        proof "404 or 405 on this route only."
        client "An error message `{\"message\": \"Internal server error\", \"connectionId\", \"requestId\"}` on \
            the open connection. Routes without a response answer nothing."
        fix "Correct the URI of the route's integration and deploy; `tidegate doctor --api ID` compares all of \
            them.";

    // Symptom 21.
    ROUTE_NO_MATCH "route.no-match" 21 "[+]" "G C"
        title "No route fits the message and there is no `$default`."
        cause "The selected value is no route key, and nothing takes what is left over."
        proof "The selected value and the route keys (`selectedValue`, `routeKeys`)."
        client "An error message `{\"message\": \"Forbidden\", \"connectionId\", \"requestId\"}` on the open \
            connection."
        fix "Create `$default` or the missing route, then deploy. `tidegate route test API MESSAGE` shows what a \
            message selects.";
    REPLY_NO_ROUTE_RESPONSE "reply.no-route-response" 21 "[+]" "G C"
        title "The backend answered, but the route sends no answers."
        cause "Routes are one-way unless they have a route response; the body was dropped."
        proof "Status and length of the dropped body."
        client "Nothing: no error, and no message."
        fix "Create a route response: `aws apigatewayv2 create-route-response --api-id ID --route-id ROUTE \
            --route-response-key '$default'` and `--route-response-selection-expression '$default'` on the route, \
            then deploy. Or push the answer to `@connections/{id}`.";
    REPLY_EMPTY_MESSAGE "reply.empty-message" 21 "[+]" "G"
        title "The route sends answers, and the backend answers with nothing."
        cause "The route has a response, and the view returns an empty body or `{}`."
        proof "Length of the reply, and that the route has a response."
        client "A message that is empty or `{}`, at which the client's JSON parser may fail."
        fix "Return JSON from the backend, or remove the route response and deploy.";
    REPLY_TIMEOUT "reply.timeout" 21 "[+]" "G"
        title "The backend took too long to answer a message."
        cause "It works longer than the integration's limit (`TimeoutInMillis`, at most 29 s)."
        proof "Time to the first byte and in all."
        client "An error message `{\"message\": \"Endpoint request timed out\", \"connectionId\", \
            \"requestId\"}`."
        fix "Answer at once and push the result to `@connections/{id}` when it is there.";
    REPLY_BACKEND_FAILED "reply.backend-failed" 21 "[+]" "G B"
        title "The backend could not be reached for a message, or failed."
        cause "It is down, refuses the connection, or answered with a status from 500 on."
        proof "The id of the integration's failure, or the status."
        client "An error message `{\"message\": \"Internal server error\", \"connectionId\", \"requestId\"}` on \
            the open connection."
        fix "Follow the integration's id in the entry: `tidegate explain REQUEST_ID`.";
    REPLY_TEMPLATE "reply.template" 21 "[g]" "G C"
        title "A mapping template or its selection failed."
        cause "The template does not parse, throws, needs too much, or gives no status; or nothing fits: no integration \
            response, no template where passthrough is refused."
        proof "The error, with the line of a template that does not parse."
        client "An error message `{\"message\": \"Internal server error\", \"connectionId\", \"requestId\"}` on \
            the open connection."
        fix "Correct the template and deploy.";
    MESSAGE_INVALID_MODEL "message.invalid-model" 21 "[g]" "G"
        title "The message does not have the form that the route's model demands."
        cause "A required member is missing or has another type."
        proof "The first rule that failed."
        client "An error message `Bad request body`."
        fix "Correct the message, or the model, and deploy.";
    BACKEND_SESSION_UNKNOWN "backend.session-unknown" 21 "[0][s]" "B"
        title "The backend has no live session for this connection."
        cause "Its record was removed, the user logged out, changed the password or was disabled."
        proof "`Invalid connection ID` as the answer to a message, and since when the connection is open."
        client "The route's answer with 400."
        fix "Let the client reconnect. If records vanish too early raise the age at which the backend's clean-up \
            removes them above the longest connection (`data_plane.max_duration`).";
    MESSAGE_BACKEND_BODY_LIMIT "message.backend-body-limit" 21 "[s]" "B G"
        title "The backend drops bodies over a limit of its own."
        cause "It then sees an empty message and refuses its form."
        proof "The length of the message near or over 128 KB, and the answer `Invalid request format (1)`."
        client "The route's answer with 400."
        fix "Send smaller messages, or raise the backend's limit (`DATA_UPLOAD_MAX_MEMORY_SIZE` in Django).";

    // Symptom 22.
    MESSAGE_TOO_LARGE "message.too-large" 22 "[0][+]" "G L"
        title "The message is larger than is accepted."
        cause "Messages have at most 128 KB, over all their frames."
        proof "The size and the limit (`size`, `limit`)."
        client "Close code 1009."
        fix "Send a reference and fetch the content by HTTPS, or raise `data_plane.max_message_bytes`.";
    MESSAGE_FRAME_TOO_LARGE "message.frame-too-large" 22 "[+]" "G L"
        title "A frame is larger than is accepted."
        cause "The client's library sends a whole message as one frame, and frames have at most 32 KB."
        proof "Size of the frame and the limit (`size`, `limit`)."
        client "Close code 1009."
        fix "Let the library send fragments, or raise `data_plane.max_frame_bytes`.";
    MESSAGE_TOO_LARGE_OUT "message.too-large-out" 22 "[0]" "G"
        title "A pushed message is larger than is accepted."
        cause "Pushes have at most 128 KB, like messages of clients."
        proof "Size and caller."
        client "The caller gets 413 PayloadTooLargeException; the client gets nothing."
        fix "Push a reference and let the client fetch the content, or raise `data_plane.max_message_bytes`.";
    MESSAGE_BINARY "message.binary" 22 "[3]" "G"
        title "A binary message came to an API that takes text only."
        cause "The client sends an `ArrayBuffer` or `Blob`, or a library sends bytes instead of text."
        proof "The opcode of the frame."
        client "Close code 1003."
        fix "Send text, bytes as base64 in it, or set `data_plane.binary = \"base64\"`.";
    MESSAGE_NOT_UTF8 "message.not-utf8" 22 "[3]" "G"
        title "A text message is not valid UTF-8."
        cause "The client put bytes of another encoding into a text frame."
        proof "The offset of the first wrong byte."
        client "Close code 1007."
        fix "Encode text as UTF-8, and send bytes as base64.";
    PROTOCOL_VIOLATION "protocol.violation" 22 "[3]" "G"
        title "The client broke the WebSocket protocol."
        cause "Reserved bits, an unknown opcode, a frame without a mask or an oversized control frame, from a \
            faulty library or a proxy that changes the stream."
        proof "The rule that was broken (`rule`)."
        client "Close code 1002."
        fix "Update the client's library. If several clients are concerned look for a proxy: `tidegate doctor \
            URL`.";
    MESSAGE_INFLATE_LIMIT "message.inflate-limit" 22 "[g]" "G"
        title "A compressed message grows over the limit."
        cause "It is small on the way and larger than messages may be once it is decompressed."
        proof "The ratio and the limit."
        client "Close code 1009."
        fix "Send smaller messages, or raise `data_plane.max_message_bytes`.";

    // Symptom 23.
    PUSH_CONNECTION_CLOSED "push.connection-closed" 23 "[0]" "G"
        title "The message was pushed to a connection that had ended."
        cause "The client left, or the connection was closed before."
        proof "The record of the end: when, by whom and with which code."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Take it as normal: delete the id on 410 and push to the ids that are open.";
    PUSH_WRONG_CHANNEL "push.wrong-channel" 23 "[0]" "G*"
        title "The message was sent to a channel that the connection is not in."
        cause "The name differs, or the client joined another channel."
        proof "The channel of the push and the channels of the connection."
        client "Nothing: no error, and no message."
        fix "Compare the names: `tidegate connections get ID` lists the channels, `tidegate channels show NAME` \
            the members.";
    PUSH_SESSION_MARKED_CLOSED "push.session-marked-closed" 23 "[0]" "(G)"
        title "The backend's own record says that the connection is closed, so nothing is sent."
        cause "Often a late `$disconnect` of an older connection was taken for the newer one."
        proof "The closest sign: the connection is open and nobody posted to it, while others of the channel got \
            a message. The backend's record would prove it."
        client "Nothing: no error, and no message."
        fix "Compare the backend's record with `tidegate connections ls --user ID`, and let a `$disconnect` \
            change only the record with its own connection id.";
    PUSH_STALE_RECORDS "push.stale-records" 23 "[0]" "G"
        title "The backend pushes to old ids only."
        cause "The user has reconnected, and the backend has not stored the new id."
        proof "Posts to ids that are gone, of a user who has a newer open one."
        client "Nothing: no error, and no message."
        fix "Store the id of each `$connect`, delete ids on 410, or push to the user instead of an id.";
    PUSH_GONE "push.gone" 23 "[0]" "G"
        title "The gateway answered the push with 410."
        cause "The connection is gone; why, says the id that the answer and the journal have."
        proof "The id of the answer."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Follow the id: `tidegate explain CONNECTION_ID`.";
    PUSH_CLIENT_HANDLER_ERROR "push.client-handler-error" 23 "[0]" "L (G)"
        title "The page received the message and failed to handle it."
        cause "The code in `onmessage` raises an error."
        proof "The error in the client; at the gateway only that the message was written and the connection stays \
            open."
        client "The message arrives and is not shown."
        fix "Open the browser's console, and catch errors in `onmessage`.";
    PUSH_NOT_JSON "push.not-json" 23 "[0][3]" "G L"
        title "The pushed text is not JSON, which the page expects."
        cause "The backend sent plain text, or the text form of an object of its language."
        proof "The payload of that push does not parse; only this is recorded, never the payload."
        client "The message arrives, and the page's parser fails."
        fix "Push the output of `json.dumps(value)` or `JSON.stringify(value)`, not the value itself.";
    PUSH_CHANGED_CHANNEL "push.changed-channel" 23 "[0]" "G*"
        title "The user had moved to another channel."
        cause "The push went to the channel of before."
        proof "When the user moved and to which channel."
        client "Nothing: no error, and no message."
        fix "Push to the present channel, or to the user.";
    PUSH_NEVER_SENT "push.never-sent" 23 "[g]" "G"
        title "Nobody pushed anything."
        cause "The code that should push was not reached, or it failed before the call."
        proof "No push, publish or broadcast for the connection or its channels in that time."
        client "Nothing: no error, and no message."
        fix "Look at the backend's log for that time. `tidegate connections send ID TEXT` shows whether the way \
            itself works.";
    PUSH_OTHER_API "push.other-api" 23 "[g]" "G"
        title "The connection belongs to another API or stage than the one that was called."
        cause "The endpoint in the backend's configuration is that of another API or stage."
        proof "Both names: the one that was called and the one that the connection belongs to."
        client "Nothing arrives. The caller gets 410 GoneException."
        fix "Build the endpoint from the event of `$connect`: `https://{domainName}/{stage}`.";
}

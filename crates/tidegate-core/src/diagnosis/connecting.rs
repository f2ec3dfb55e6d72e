//! Causes of symptoms 13 to 16: what the backend says to `$connect`, attempts, and connections that end at once.

causes! {
    // Symptom 13.
    BACKEND_HEADERS_MISSING "backend.headers-missing" 13 "[0]" "B G"
        title "A header that the backend demands was not sent."
        cause "The view wants headers beyond those that the gateway sends by default."
        proof "The answer `Invalid request headers`, and the list of what was sent against the list of what the \
            view demands."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Add the header as a request parameter of the integration (`integration.request.header.NAME`) and \
            deploy, or list it in `integration.forward_handshake` for messages too.";
    BACKEND_SERVER_DROPS_FORWARDED "backend.server-drops-forwarded" 13 "[s]" "(B) D"
        title "The backend's own web server discards the forwarded headers."
        cause "Some web servers drop `X-Forwarded-*` of peers that they were not told to trust; waitress does so in \
            its default configuration."
        proof "The closest sign: `Invalid request headers` although all were sent and the API is known. Proof is \
            reflect mode, which shows which headers arrive."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Name the gateway as a trusted proxy of that server: `waitress-serve --trusted-proxy=GATEWAY_ADDRESS \
            --trusted-proxy-headers=\"x-forwarded-for x-forwarded-proto x-forwarded-port\"`, or \
            `--no-clear-untrusted-proxy-headers`. `tidegate doctor reflect` under the same server shows the result.";
    BACKEND_HEADERS_STRIPPED "backend.headers-stripped" 13 "[0]" "D C"
        title "Headers are removed or rewritten between gateway and backend."
        cause "A tunnel, proxy or firewall on the way does not pass on all the headers."
        proof "The names that were sent and did not arrive, from reflect mode."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Run `tidegate doctor reflect --listen 127.0.0.1:8000` in place of the backend and `tidegate doctor \
            --api ID`, then let the tunnel or proxy pass the named headers.";
    BACKEND_CONNECTION_HEADERS_MISSING "backend.connection-headers-missing" 13 "[s]" "B G"
        title "The client did not send headers that the backend expects of browsers."
        cause "The view wants `Cookie`, `Origin` or `Sec-WebSocket-Extensions`, and the client is a program or a \
            browser without a cookie yet."
        proof "The answer `Missing n headers`, and the names that the handshake lacked."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Connect from a page with a session, send the headers from the program (`tidegate connect --header`), \
            or relax the list of required headers in the view.";
    BACKEND_NOT_FROM_GATEWAY "backend.not-from-gateway" 13 "[0]" "(G)"
        title "A request reached the backend without passing the gateway."
        cause "The backend's address is open, and somebody calls it directly."
        proof "The closest sign: the backend's log has a refusal whose request id the journal does not know. \
            Proof would be that log."
        client "Whoever called directly gets the backend's refusal."
        fix "Let the backend accept calls of the gateway's network only, and set a secret that both share \
            (`[backend] secrets`).";
    BACKEND_SECRET_MISMATCH "backend.secret-mismatch" 13 "[s]" "B C"
        title "The backend does not accept the gateway's secret."
        cause "The secret header is not sent, or the two sides have different values."
        proof "The answer 403 `Invalid request`; the parameter that is not configured."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Set the same secret on both sides: `[backend] secrets` in the policy (header `x-ws-gateway-secret`) \
            or a request parameter of the integration, which needs a deployment.";
    BACKEND_USERAGENT_CHECK "backend.useragent-check" 13 "[s]" "B"
        title "The backend expects another user agent."
        cause "The view compares `User-Agent` with that of the original gateway."
        proof "The answer `Unexpected Useragent`."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Set `integration.user_agent = \"gateway\"`, or switch the check off in the view; a shared secret \
            proves more.";
    BACKEND_API_ID_UNKNOWN "backend.api-id-unknown" 13 "[0]" "(B) D"
        title "The backend does not know the id of the API."
        cause "The API was created anew or by another tool, and the backend's record has another id."
        proof "The closest sign: `Invalid request headers` although all headers were sent. It is proven when \
            reflect mode shows that they also arrive."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Enter the id that `tidegate apis ls` prints into the backend's record of the gateway. To keep an id \
            for ever create the API with the tag `_custom_id_`.";
    BACKEND_HOST_NOT_ALLOWED "backend.host-not-allowed" 13 "[0][+]" "B D"
        title "The backend does not serve the host name that the gateway calls."
        cause "The host of the integration's address is not on the framework's list of allowed hosts."
        proof "The answer says so (`Host is not in AllowedHosts`, `Invalid HTTP_HOST header`) or is the \
            framework's plain 400; the exact text to add."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Add the host, with `:port` when it is not the default one, to `ALLOWED_HOSTS`; or set \
            `integration.host_header` to a name that is on the list.";
    BACKEND_ORIGIN_MISMATCH "backend.origin-mismatch" 13 "[0]" "B G"
        title "The backend refuses the page's origin, because it is not its own host."
        cause "The view wants the host of `Origin` to be the backend's host or below it."
        proof "The answer `Host is not in Origin`, with both values."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Call the backend by a host that fits the pages (`integration.host_header = \"app.example.com\"`), or \
            override the check in the view and use `admission.origins` in the gateway.";
    BACKEND_CONNECTION_ID_FORMAT "backend.connection-id-format" 13 "[0]" "B G"
        title "The backend refuses the form of the connection id."
        cause "The view permits fewer characters than ids have: they are base64 and end with `=`."
        proof "The answer `Invalid connection ID` to `$connect`, and the id."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Accept letters, digits, `+`, `/`, `-`, `_` and `=` in connection ids. The gateway makes them as the \
            original does.";
    CHANNEL_INVALID "channel.invalid" 13 "[0]" "G* B"
        title "The name of the channel is too long or has other characters."
        cause "Names have 1 to 128 letters, digits, dashes and underscores."
        proof "The name fails that rule; Django backends say `Invalid channel`."
        client "HTTP 400; a browser shows only close code 1006."
        fix "Use a name of letters, digits, `-` and `_`, for example by replacing blanks and dots before \
            connecting.";
    BACKEND_ROUTE_PARAM_MISSING "backend.route-param-missing" 13 "[0]" "B D C"
        title "The backend's URL pattern has no part for the route."
        cause "The gateway calls `BASE/connect`, `BASE/default` and so on, and the pattern fits the base only."
        proof "404 for `.../connect` while the base answers with 200 or 400."
        client "The handshake is answered with HTTP 404; a browser shows only close code 1006."
        fix "Write the pattern with the segment: `path(\"ws/<slug:route>\", view)`.";
    BACKEND_ROUTE_PARAM_MISNAMED "backend.route-param-misnamed" 13 "[0]" "B D"
        title "The backend's URL pattern calls the route by another name."
        cause "The view reads the keyword `route`, and the pattern gives it under another one, so `$connect` is \
            taken for a message."
        proof "`$connect` was answered with `Invalid request format (1)`, which only the branch for messages \
            does."
        client "The handshake is answered with HTTP 400; a browser shows only close code 1006."
        fix "Rename the parameter: `path(\"ws/<slug:route>\", view)`.";
    BACKEND_CSRF "backend.csrf" 13 "[g]" "B D"
        title "The backend demands a CSRF token of the gateway."
        cause "The view is not exempt from the check, which is meant for forms of pages."
        proof "A 403 page with `CSRF verification failed`."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Put `@csrf_exempt` (for classes `@method_decorator(csrf_exempt, name=\"dispatch\")`) on the view, \
            and prove the gateway by a shared secret.";
    BACKEND_REDIRECT "backend.redirect" 13 "[0]" "B D"
        title "The backend answers with a redirect."
        cause "It wants https, a slash at the end, or a login. Integrations do not follow redirects."
        proof "Status 3xx and its `Location`."
        client "HTTP 502; a browser shows only close code 1006."
        fix "Use the final address as the integration's URI and deploy. If it wants https behind a proxy, set \
            `integration.forwarded_https = true` and `SECURE_PROXY_SSL_HEADER` in Django.";
    BACKEND_METHOD "backend.method" 13 "[g]" "B D"
        title "The backend does not accept POST at this address."
        cause "Integrations call with POST unless configured otherwise, and the view or route has other methods."
        proof "405 and the header `Allow`."
        client "HTTP 405; a browser shows only close code 1006."
        fix "Accept POST in the view, or correct the URI or the integration's method, then deploy.";
    BACKEND_REFUSED "backend.refused" 13 "[0]" "B"
        title "The backend refused the connection."
        cause "It answered `$connect` with a status from 400 to 499 whose reason only the backend knows."
        proof "Status, content type and length of the answer, and its sentence where it is short."
        client "The handshake is answered with the backend's status; a browser shows only close code 1006."
        fix "Look for the request id (`x-amzn-requestid`) in the backend's log. `tidegate explain REQUEST_ID` \
            shows what was sent and answered.";

    // Symptom 14.
    INTEGRATION_DNS "integration.dns" 14 "[0]" "G C"
        title "The host of the integration does not resolve."
        cause "The name has a spelling error, is known in another network only, or its record is gone."
        proof "The resolver's error and the host."
        client "HTTP 502 on `$connect`; on messages the error `Internal server error`."
        fix "Correct the integration's URI and deploy. In containers use the service's name of the same network.";
    INTEGRATION_REFUSED "integration.refused" 14 "[0]" "G C"
        title "Nothing listens at the integration's address."
        cause "The backend is down, or listens on another address or port."
        proof "The connection was refused, and the address."
        client "HTTP 502 on `$connect`; on messages the error `Internal server error`."
        fix "Start the backend and compare its port with the URI. A backend in a container must listen on \
            `0.0.0.0`; from a container `localhost` is the container itself.";
    INTEGRATION_CONNECT_TIMEOUT "integration.connect-timeout" 14 "[0]" "G C"
        title "The integration's address does not answer to a connection."
        cause "A firewall drops the packets, or the address belongs to a network that the gateway cannot reach."
        proof "The time that was spent connecting, without an answer."
        client "HTTP 504 on `$connect`; on messages the error `Internal server error`."
        fix "Open the way from the gateway to the backend, and try it there: `curl -v URI`.";
    INTEGRATION_TLS "integration.tls" 14 "[0]" "G C"
        title "The backend's certificate is not accepted."
        cause "It is for another name, has expired, or is signed by an authority that the gateway does not know."
        proof "The error of the verification."
        client "HTTP 502 on `$connect`; on messages the error `Internal server error`."
        fix "Correct the backend's certificate or the host in the URI. For an authority of your own set \
            `backend_ca`.";
    INTEGRATION_NOT_HTTPS "integration.not-https" 14 "[0]" "C"
        title "The integration uses plain http to another machine."
        cause "Messages, cookies and tokens travel readable between gateway and backend."
        proof "The URI begins with `http://` and its host is not local."
        client "Nothing: it works."
        fix "Use an `https://` URI, or keep the way within a network that you trust.";
    INTEGRATION_WRONG_URL "integration.wrong-url" 14 "[0]" "B C D"
        title "The backend does not know the path of the integration."
        cause "The base of the URI is wrong: prefix, version or spelling."
        proof "404 with the not-found page of the backend; the base that does answer, where one was found."
        client "The handshake is answered with HTTP 404; a browser shows only close code 1006."
        fix "Correct the URI of the integration and deploy. `tidegate doctor --api ID` tries variants of it and \
            names the one that answers.";
    INTEGRATION_MISSING_SLASH "integration.missing-slash" 14 "[0]" "C B D"
        title "The base of the integration's address lacks the slash at its end."
        cause "The route name is appended directly, so that the backend is called at `.../wsconnect`."
        proof "The URI ends with a name that is glued to the route; with a slash between them it answers."
        client "The handshake is answered with HTTP 404; a browser shows only close code 1006."
        fix "End the base with `/`, for example `https://app.example.com/ws/`, apply it again and deploy.";
    INTEGRATION_PRIVATE_ADDRESS "integration.private-address" 14 "[0]" "C G"
        title "The integration's address is not reachable from the gateway's network."
        cause "It is a loopback or private address of another machine."
        proof "The address is loopback or private, and connecting to it fails."
        client "HTTP 502 or 504 on `$connect`; on messages the error `Internal server error`."
        fix "Use an address that the gateway's machine can reach, a tunnel, or run the gateway beside the backend \
            (`tidegate dev --backend URL`).";
    INTEGRATION_TIMEOUT "integration.timeout" 14 "[+]" "G"
        title "The backend did not answer in time."
        cause "It works longer than the integration's limit (`TimeoutInMillis`, at most 29 s) before it answers."
        proof "Time to the first byte and in all."
        client "HTTP 504 on `$connect`; on messages the error `Endpoint request timed out`."
        fix "Answer first and do long work afterwards, with results pushed to `@connections`. The upper bound is \
            `integration.max_timeout_ms`.";
    INTEGRATION_ERROR_STATUS "integration.error-status" 14 "[g]" "B"
        title "The backend answered with an error of its own."
        cause "It failed while it handled the call."
        proof "The status from 500 to 599 and the backend's `Server` header."
        client "The same status on `$connect`; on messages the error `Internal server error`."
        fix "Look for the request id in the backend's log.";
    INTEGRATION_HANDLER_UNDEFINED "integration.handler-undefined" 14 "[s]" "B"
        title "The backend's view has no handler for messages without a route of their own."
        cause "Messages that choose no handler go to the view's default one, which is not defined."
        proof "Status 500 for `$default` only."
        client "An error message `{\"message\": \"Internal server error\", \"connectionId\", \"requestId\"}` on \
            the open connection."
        fix "Define the default handler in the view, or let clients name a handler that exists.";
    INTEGRATION_BAD_ANSWER "integration.bad-answer" 14 "[g]" "G"
        title "The backend's answer cannot be read."
        cause "It ended early, was not HTTP, or was larger than the gateway takes (10 MB)."
        proof "The error and how many bytes were read."
        client "HTTP 502 on `$connect`; on messages the error `Internal server error`."
        fix "Look into the log of the backend or of the proxy in front of it: a crashed worker, or plain http \
            answered at a TLS port.";
    INTEGRATION_RESET_ON_REUSE "integration.reset-on-reuse" 14 "[g]" "G"
        title "The backend closed an idle connection just as a call was sent over it."
        cause "Its keep-alive time is shorter than the gateway keeps idle connections. A call of which bytes have \
            left is never repeated, because it may have had effects."
        proof "A reset on a connection that was used before, with the call sent and no answer."
        client "HTTP 502 on `$connect`; on messages the error `Internal server error`."
        fix "Let the backend keep idle connections longer than `integration.pool_idle_ms` (1 s unless set): \
            `gunicorn --keep-alive 5`, `uvicorn --timeout-keep-alive 5`, in Node `server.keepAliveTimeout`.";
    INTEGRATION_FUNCTION_FAILED "integration.function-failed" 14 "[+]" "G"
        title "The function behind the route failed."
        cause "It raised an error, is missing, or the gateway may not invoke it."
        proof "The function's error or the status of the invocation."
        client "HTTP 502 on `$connect`; on messages the error `Internal server error`."
        fix "Read the function's log, and permit the invocation (`lambda:InvokeFunction`).";
    INTEGRATION_HOST_NOT_ALLOWED "integration.host-not-allowed" 14 "[s]" "G C"
        title "The host of the integration is not on the operator's list."
        cause "`integration.allowed_hosts` permits certain hosts only."
        proof "The host and the list."
        client "Creating such an integration gets 400; an older one answers 502."
        fix "Add the host to `integration.allowed_hosts` (`*.example.com` covers sub-domains), or correct the \
            URI.";
    BACKEND_FAILS_UNDER_LOAD "backend.fails-under-load" 14 "[s]" "(G)"
        title "The backend fails when several clients connect at once."
        cause "Its database or its pool of workers cannot serve calls at the same time, for example a database \
            file that is locked."
        proof "The closest sign: the share of answers from 500 to 599 rises with parallel calls while single ones \
            succeed. The backend's log would prove it."
        client "The backend's status; a browser shows only close code 1006."
        fix "Use a database for parallel writers in the backend, or let SQLite wait for its lock (`\"OPTIONS\": \
            {\"timeout\": 20}` in Django's `DATABASES`), and add workers.";
    INTEGRATION_MISSING "integration.missing" 14 "[0]" "C G"
        title "The route has no integration."
        cause "None was attached, or it was deleted and the route still names it."
        proof "The target of the route leads to nothing."
        client "HTTP 500 on `$connect`; on messages the error `Internal server error`."
        fix "Create an integration, set it as the route's target (`integrations/ID`), and deploy.";
    INTEGRATION_OVERLOAD "integration.overload" 14 "[g]" "G"
        title "Too many calls to the backend are under way."
        cause "The gateway's limit of parallel calls is reached, because the backend is slower than messages \
            arrive."
        proof "Length of the queue and the time calls waited in it."
        client "HTTP 503 on `$connect`; on messages the error `Internal server error`."
        fix "Make the backend faster or run more of it, then raise the limit.";

    // Symptom 15.
    RATELIMIT_CONNECT "ratelimit.connect" 15 "[0]" "G B"
        title "Too many attempts to connect in a short time."
        cause "An address or a user is over the limit of the stage. Why there are so many attempts is a cause of \
            its own."
        proof "The counter, its limit, the window and when it ends (`count`, `limit`, `windowSeconds`, \
            `resetAt`); Django backends say `Too many connection attempts`."
        client "HTTP 429 with `Retry-After` (400 from a Django backend); a browser shows only close code 1006."
        fix "Wait as long as `Retry-After` says, and look for the reason: `tidegate explain 429`. The limits are \
            `attempts.per_address`, `attempts.per_user` and `attempts.window`.";
    RATELIMIT_RECONNECT_LOOP "ratelimit.reconnect-loop" 15 "[0]" "G L"
        title "A client reconnects again and again without waiting."
        cause "Its reconnect logic has no growing pause."
        proof "The time between attempts is constant and under 2 s."
        client "HTTP 429 with `Retry-After`; a browser shows only close code 1006."
        fix "Wait 3 s before the first attempt, double the pause up to 60 s, and add a random part to it.";
    RATELIMIT_TOKEN_REQUESTS "ratelimit.token-requests" 15 "[0]" "G* L"
        title "The page asks for far more tokens than it uses."
        cause "It fetches a token at each rendering or on a timer, not when it connects."
        proof "The number of issued tokens against the number of used ones."
        client "The token request gets 429 from the gateway and 403 from a Django backend."
        fix "Fetch a token only right before connecting.";
    RATELIMIT_MANY_TABS "ratelimit.many-tabs" 15 "[0]" "G"
        title "Several tabs of one user connect at once."
        cause "Each tab opens its own connection, and together they are over the limit of the user or address."
        proof "Parallel connections of one user with one user agent."
        client "HTTP 429 with `Retry-After`; a browser shows only close code 1006."
        fix "Share one connection between tabs (`SharedWorker`, `BroadcastChannel`), or raise `attempts.per_user` \
            and `admission.connections_per_user`.";
    RATELIMIT_FAILING_RETRIES "ratelimit.failing-retries" 15 "[0]" "G"
        title "Attempts fail for another reason and are repeated until the limit."
        cause "The limit is only what was noticed; the first refusals have the actual cause."
        proof "Most of the attempts before ended with one other id, which is reported first."
        client "HTTP 429 with `Retry-After`; a browser shows only close code 1006."
        fix "Remove the cause of the other id, then wait until the window is over.";
    RATELIMIT_TOO_LOW "ratelimit.too-low" 15 "[0]" "G C"
        title "The limit is too low for the legitimate use."
        cause "Many users share an address (an office, a proxy), or connect more often than was expected."
        proof "Many different users, mostly successful attempts, at a steady rate."
        client "HTTP 429 with `Retry-After`; a browser shows only close code 1006."
        fix "Raise `attempts.per_address`, or exempt the network with `attempts.exempt`. `attempts.dry_run = \
            true` shows what a limit would refuse.";
    RATELIMIT_ABUSE "ratelimit.abuse" 15 "[0]" "(G)"
        title "Automated traffic tries to connect."
        cause "A scanner or an attacker tries addresses or tokens."
        proof "The closest sign: many attempts of few addresses, unusual user agents and no success. Proof would \
            need knowledge of who is behind them."
        client "HTTP 429 with `Retry-After`; a browser shows only close code 1006."
        fix "Block the addresses in the firewall or at the CDN, set `attempts.failed_per_address`, and \
            `attempts.penalty = true`.";
    RATELIMIT_STAGE "ratelimit.stage" 15 "[g]" "G"
        title "The throttle of the stage or route was reached."
        cause "More handshakes or messages arrive than its rate and burst allow."
        proof "The bucket of the stage or route was empty."
        client "HTTP 429 for a handshake; on messages the error `Too many requests`."
        fix "Raise `throttlingRateLimit` and `throttlingBurstLimit` of the stage's route settings, or send fewer \
            messages.";
    RATELIMIT_MESSAGES "ratelimit.messages" 15 "[g]" "G"
        title "One connection sends too many messages."
        cause "The client is over the rate of the policy, or its user over that of the chat, often because of a loop or a handler for each key \
            press."
        proof "Rate and limit of the connection (`count`, `limit`)."
        client "Close code 1008, or an error message with `messages.excess = \"drop\"`; in the chat error 4029."
        fix "Send fewer messages (collect them, wait between them), or raise `messages.rate` and \
            `messages.burst`; in the chat `chat.event_rate` and `chat.event_burst`.";

    // Symptom 16.
    APP_DOUBLE_ACCEPT "app.double-accept" 16 "[3]" "D"
        title "The application accepts the connection twice."
        cause "The handler calls `accept()` and a connection manager calls it again."
        proof "The connection opens and drops within 100 ms without a close frame, whatever the token; the \
            server's log has `but got 'websocket.accept'`."
        client "The connection ends without a close frame: close code 1006."
        fix "Call `accept()` in one place only, in the handler or in the manager.";
    APP_EXCEPTION_AFTER_ACCEPT "app.exception-after-accept" 16 "[3][+]" "D"
        title "The application's handler fails after it accepted."
        cause "An error in its code is raised once the connection is open, often for certain users or messages \
            only."
        proof "The connection opens and drops at once for some users or messages; the reason stands in the \
            server's log only."
        client "Close code 1006, from some servers 1011."
        fix "Read the server's log at that time, and catch the error in the handler.";
    APP_REASON_TOO_LONG "app.reason-too-long" 16 "[s]" "D"
        title "The application's close reason is longer than a close frame can carry."
        cause "A reason has at most 123 bytes. A longer one breaks the close."
        proof "Close code 1006 where a close with a code was meant."
        client "The connection ends without a close frame: close code 1006."
        fix "Shorten the reason to 123 bytes of UTF-8, and send details as a message before the close.";
    CLOSE_REFUSED_AFTER_OPEN "close.refused-after-open" 16 "[2][3]" "G"
        title "The connection was refused after it had been opened."
        cause "The stage is set to refuse with a close frame, so that pages can see a code."
        proof "The refusal that was decided, with its own id."
        client "Close code 1008, or 4001 in the chat; with `connect.reject_as_close` 4000 + status."
        fix "Follow the id of the refusal: `tidegate explain REQUEST_ID`.";
    CLOSE_BACKEND_REQUESTED "close.backend-requested" 16 "[g]" "G"
        title "The backend closed the connection."
        cause "It called `DELETE /@connections/{id}`, sometimes in or right after `$connect`."
        proof "The call, its caller and its time."
        client "Close code 1000, or the code that the call chose."
        fix "Look in the backend for who deletes connections; the journal names the caller's key.";
}

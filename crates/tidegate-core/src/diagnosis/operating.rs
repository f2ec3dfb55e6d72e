//! Causes: staying connected, and operating.

causes! {
    // Symptom 28.
    CLOSE_IDLE_TIMEOUT "close.idle-timeout" 28 "[0][+]" "G"
        title "The connection was idle for too long."
        cause "Nothing was sent in either direction for `data_plane.idle_timeout` (10 minutes unless set)."
        proof "The last activity and the limit (`idleMs`, `limit`)."
        client "Close code 1001 `Going away`."
        fix "Send a heartbeat more often than the limit, or raise `data_plane.idle_timeout` (0 = no limit); \
            `data_plane.server_ping_interval = 30` lets the gateway ping.";
    PROXY_IDLE_60 "proxy.idle-60" 28 "[+]" "D G"
        title "A proxy or load balancer drops connections that are idle for 60 s."
        cause "60 s is the default of many proxies and load balancers."
        proof "The gateway sees the end without a close frame 60 s (one more or less) after the last frame, for \
            many clients."
        client "The connection ends without a close frame: close code 1006."
        fix "Raise the proxy's time, in nginx `proxy_read_timeout 3600s; proxy_send_timeout 3600s;`, and let the \
            gateway ping: `data_plane.server_ping_interval = 25`. `tidegate doctor URL --idle` measures it.";
    PROXY_IDLE_100 "proxy.idle-100" 28 "[+]" "D G"
        title "A CDN drops connections that are idle for 100 s."
        cause "100 s is the limit at the edge of some CDNs."
        proof "The gateway sees the end without a close frame 100 s after the last frame, for many clients."
        client "The connection ends without a close frame: close code 1006."
        fix "Set `data_plane.server_ping_interval = 25`, or send a heartbeat from the client. `tidegate doctor \
            URL --idle` measures it.";
    PROXY_IDLE_OTHER "proxy.idle-other" 28 "[+]" "D G"
        title "Something on the way drops idle connections."
        cause "NAT, a firewall, a tunnel or another load balancer forgets connections after a time of its own."
        proof "The gateway sees the end without a close frame always the same time after the last frame."
        client "The connection ends without a close frame: close code 1006."
        fix "Set `data_plane.server_ping_interval` to less than half of that time, or send heartbeats. `tidegate \
            doctor URL --idle` measures it.";
    PROXY_IDLE_COUNTS_DATA_ONLY "proxy.idle-counts-data-only" 28 "[g]" "D"
        title "Something on the way does not count pings as activity."
        cause "It looks for messages with data and drops connections that only have pings."
        proof "A silent connection with pings is dropped, one with text messages stays."
        client "The connection ends without a close frame: close code 1006."
        fix "Send a short text from the client every 25 s, for example `{\"action\": \"ping\"}`, with a route \
            that answers it.";
    IDLE_HEARTBEAT_RACE "idle.heartbeat-race" 28 "[+]" "D G"
        title "The heartbeat comes exactly when the idle limit ends."
        cause "Its interval equals the limit, so that either may win."
        proof "Drops at the limit although heartbeats are seen."
        client "Close code 1001, or 1006 where something in between drops the connection."
        fix "Send the heartbeat at half of the limit or more often.";
    IDLE_NO_HEARTBEAT "idle.no-heartbeat" 28 "[3]" "G L"
        title "Neither side sends anything."
        cause "There is no heartbeat, and the connection has long pauses."
        proof "No frames between the opening and the end."
        client "Close code 1001, or 1006 where something in between drops the connection."
        fix "Set `data_plane.server_ping_interval = 25`, or send a heartbeat from the client every 25 to 30 s.";

    // Symptom 29.
    CLOSE_MAX_DURATION "close.max-duration" 29 "[+]" "G"
        title "The connection reached the age limit."
        cause "Connections end after `data_plane.max_duration` (2 hours unless set, as at AWS)."
        proof "Age and limit (`ageMs`, `limit`)."
        client "Close code 1001 `Going away`."
        fix "Let the client reconnect, or raise `data_plane.max_duration` (0 = no limit). \
            `data_plane.duration_jitter` spreads the ends.";
    CLOSE_TOKEN_EXPIRED "close.token-expired" 29 "[3]" "G"
        title "The token of the connection has expired."
        cause "The connection lives as long as its token (`jwt.close_on_expiry`)."
        proof "`exp` of the token (`expiresAt`)."
        client "Close code 1008 `Token expired`."
        fix "Reconnect with a fresh token, a little before the old one ends. To let connections outlive their \
            tokens set `jwt.close_on_expiry = false`.";
    CLOSE_ACCESS_REVOKED "close.access-revoked" 29 "[g]" "G"
        title "The access of the user was withdrawn."
        cause "The user was banned, or a token or right was revoked."
        proof "Who did it and when."
        client "Close code 1008."
        fix "Nothing, if it was meant. `tidegate users bans` lists bans, `tidegate users unban ID` lifts one.";
    NODE_RESTART "node.restart" 29 "[3]" "G"
        title "The gateway restarts."
        cause "It was restarted by an operator or its supervisor."
        proof "The record of the restart."
        client "Close code 1012 `Service Restart` where the gateway was told by SIGUSR2 that it comes back, otherwise 1001 \
            `Service restart`."
        fix "Nothing: clients reconnect. Let them wait a random time first.";
    NODE_DRAINING "node.draining" 29 "[3]" "G"
        title "The gateway stops and closes its connections."
        cause "It was told to end, for example for an update."
        proof "The record of the shutdown."
        client "Close code 1001 `Service restart`; new handshakes get HTTP 503."
        fix "Nothing: clients reconnect. `shutdown_timeout` is the time that this may take.";
    NODE_CRASH "node.crash" 29 "[g]" "G"
        title "The gateway ended without stopping its connections."
        cause "It was killed, ran out of memory, or the machine was lost."
        proof "No record of a shutdown before the next start."
        client "The connection ends without a close frame: close code 1006."
        fix "Look for the reason in the system's log (`journalctl -k`, `dmesg`: `Out of memory`) and in the \
            supervisor's, then report it with `tidegate report ID`.";
    PROXY_RELOAD "proxy.reload" 29 "[+]" "(G)"
        title "The proxy was reloaded and closed the connections of its old workers."
        cause "A reload starts new workers; old ones end after a time, and their WebSockets with them."
        proof "The closest sign: many ends without a close frame within a short time, from one proxy address, at \
            any age. The proxy's own log would prove it."
        client "The connection ends without a close frame: close code 1006."
        fix "Reload less often and give old workers more time: in nginx `worker_shutdown_timeout 1h;`.";
    PROXY_ROLLOUT "proxy.rollout" 29 "[+]" "(G)"
        title "The platform replaced the proxy or the node."
        cause "An update or a move to another machine ended the connections."
        proof "The closest sign: many ends within a short time, together with the draining of a node. The \
            platform's events would prove it."
        client "Close code 1006 or 1001."
        fix "Let the platform drain before it stops (`terminationGracePeriodSeconds`, `preStop`, deregistration \
            delay), and clients wait a random time before they reconnect.";
    PROXY_CDN_RESTART "proxy.cdn-restart" 29 "[+]" "(G)"
        title "The CDN restarted its edge."
        cause "Edges are updated at any time and end their connections."
        proof "The closest sign: bursts of ends from addresses of the CDN, sometimes 1001 with a reason of its \
            own. The CDN's status page would prove it."
        client "Close code 1001 or 1006."
        fix "Nothing: clients reconnect after a random time.";
    CLIENT_PAGE_LEFT "client.page-left" 29 "[3]" "G"
        title "The client left the page."
        cause "It was closed, reloaded or navigated, or the program ended the connection."
        proof "The close frame of the client, 1001 or another code of its own."
        client "Its own close."
        fix "Nothing needs to be done: this is how connections normally end.";

    // Symptom 30.
    CONN_PING_TIMEOUT "conn.ping-timeout" 30 "[+]" "G"
        title "The client answers no pings any more."
        cause "The device sleeps, lost its network, or the connection is half open."
        proof "Pings that were sent and the time of the last pong (`pingsUnanswered`, `lastPongMs`)."
        client "Close code 1006 on its side, once it notices."
        fix "Let the client check for itself that answers come, and reconnect. The times are \
            `data_plane.server_ping_interval` and `data_plane.server_ping_timeout`.";
    CONN_RESET "conn.reset" 30 "[3]" "G"
        title "The connection ended without a close frame."
        cause "The network was lost, the program ended, or something on the way cut the connection."
        proof "A reset or the end of the stream, with age and bytes; a single event."
        client "The connection ends without a close frame: close code 1006."
        fix "Single ones are normal, above all on mobile networks: let the client reconnect. If many end at the \
            same age or after the same pause look there: `tidegate explain 1006`.";
    CONN_NETWORK_CHANGE "conn.network-change" 30 "[0]" "(G)"
        title "The device changed its network."
        cause "From WLAN to mobile, for example: the old connection is lost without a word."
        proof "The closest sign: a ping timeout, and a new connection of the same user from another address. The \
            device's own log would prove it."
        client "The connection ends without a close frame: close code 1006."
        fix "Reconnect at the browser's events `online` and `visibilitychange`.";
    CONN_HALF_OPEN_CLIENT "conn.half-open-client" 30 "[+]" "L (G)"
        title "The client does not notice that its connection is lost."
        cause "It sends and never checks for answers, so the loss shows late or never."
        proof "The client's own record; the closest sign at the gateway is a ping timeout while the user sends \
            nothing for minutes."
        client "Nothing: it believes to be connected."
        fix "Let the client send a ping every 25 s and reconnect when no answer comes within 10 s.";
    CLIENT_BACKGROUND_THROTTLE "client.background-throttle" 30 "[+]" "G L"
        title "The browser slows down the timers of a page in the background."
        cause "They run once a minute there, so heartbeats come late."
        proof "Gaps of 60 s between heartbeats that were regular before, from browsers."
        client "Close code 1006, or the end of a session that waits for heartbeats."
        fix "Rely on pings of the gateway (`data_plane.server_ping_interval`), which browsers answer by \
            themselves, and use thresholds of 90 s and more.";
    CLIENT_KEEPALIVE_1011 "client.keepalive-1011" 30 "[+]" "G"
        title "The Python client's own ping got no answer in time."
        cause "The library closes after 20 s without a pong, because its event loop was blocked or the network \
            slow."
        proof "A close of the client with 1011 and the reason `keepalive ping timeout`."
        client "Its own close with 1011."
        fix "Do not block the event loop (`await asyncio.to_thread(...)`), and allow more time: `connect(url, \
            ping_timeout=60)`.";
    CONN_SLOW_CONSUMER "conn.slow-consumer" 30 "[+]" "G"
        title "The client takes its messages too slowly."
        cause "Its queue at the gateway is full, or it took no bytes for 30 s."
        proof "Length of the queue, its bytes and the longest write (`queueHighWater`, `queueBytes`)."
        client "Close code 1008 `Too slow`, if it can still be told; pushes to it get 429 before."
        fix "Send fewer or smaller messages, and handle them outside of `onmessage`. The room for one client is \
            `data_plane.outbound_buffer_bytes`.";
    CONN_APP_HEARTBEAT_UNANSWERED "conn.app-heartbeat-unanswered" 30 "[3]" "G"
        title "The client's own ping message is not answered."
        cause "The message goes to a route whose backend returns nothing, or that sends no answers."
        proof "The message was routed to an integration that returned nothing."
        client "It gives up and reconnects."
        fix "Answer it: a route for it with a route response, or a `MOCK` integration that returns `pong`.";
    CLIENT_CRASHED "client.crashed" 30 "[3]" "(G)"
        title "The client's program ended unexpectedly."
        cause "Its system closed the TCP connection without a close frame."
        proof "The closest sign: an end without a close frame and no new connection. The client's own log would \
            prove it."
        client "Nothing: it is gone."
        fix "Look at the client's log or crash report.";

    // Symptom 31.
    CLIENT_NO_RECONNECT "client.no-reconnect" 31 "[3]" "G L"
        title "The client does not reconnect."
        cause "It has no logic for it, or takes 1000 as the end that was meant."
        proof "An end with 1000 or 1006 and no further attempt."
        client "Nothing more: it stays disconnected."
        fix "Reconnect at all codes but 1000, with a growing and random pause.";
    CLIENT_GAVE_UP "client.gave-up" 31 "[3]" "L (G)"
        title "The client stopped trying to reconnect."
        cause "It has a number of tries; five with doubling pauses are over after about a minute."
        proof "Attempts with doubling pauses and then none; the client knows its counter."
        client "Nothing more: it stays disconnected."
        fix "Do not limit the number of tries, but the pause (60 s).";
    CLIENT_RETRY_STORM "client.retry-storm" 31 "[+]" "G"
        title "All clients reconnect at the same moment."
        cause "They lost their connections together and wait equally long."
        proof "Attempts for each second after a restart, and the spread of the pauses."
        client "HTTP 429 or 503 for a part of them; a browser shows only close code 1006."
        fix "Add a random part to the pause of the clients. The gateway spreads its closes at a shutdown; \
            `data_plane.duration_jitter` spreads the age limit.";
    CLIENT_COUNTER_RESET_LOOP "client.counter-reset-loop" 31 "[s]" "G"
        title "The client reconnects every moment without end."
        cause "It resets its counter when a connection opens, and the connection is closed at once each time."
        proof "Connections under 1 s of one client in a constant interval."
        client "It opens and closes again and again."
        fix "Reset the counter only after the connection was stable for some seconds, and refuse before the \
            upgrade rather than after it.";
    CLIENT_REUSES_EXPIRED_JWT "client.reuses-expired-jwt" 31 "[3]" "G L"
        title "The client reconnects with a token that has expired."
        cause "It keeps the token of the first connection."
        proof "The same fingerprint with an `exp` that is over, in several attempts."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Fetch a fresh token before each attempt.";

    // Symptom 32.
    LOCAL_NOT_PUBLIC "local.not-public" 32 "[0]" "C G"
        title "The local backend cannot be reached from the gateway."
        cause "The integration names `localhost` or a private address, and the gateway runs on another machine."
        proof "The address is loopback or private, and the gateway is elsewhere."
        client "HTTP 502 or 504; a browser shows only close code 1006."
        fix "Run the gateway on the developer's machine: `tidegate dev --backend http://127.0.0.1:8000`. \
            Otherwise use a tunnel.";
    LOCAL_NOT_HTTPS "local.not-https" 32 "[0]" "C"
        title "The local backend speaks http only, and https was configured."
        cause "A development server has no TLS."
        proof "The scheme of the integration; the TLS handshake fails."
        client "HTTP 502; a browser shows only close code 1006."
        fix "Write `http://` for a backend on the same machine, or use a tunnel that has https.";
    LOCAL_TUNNEL_CHANGED "local.tunnel-changed" 32 "[0]" "C G"
        title "The tunnel has a new address."
        cause "Free tunnels get another name at each start, and the integration still has the old one."
        proof "The host does not resolve, or answers with the tunnel's not-found page."
        client "HTTP 404 or 502; a browser shows only close code 1006."
        fix "Put the new address into the integration, apply it and deploy; or reserve a fixed name at the \
            tunnel's service.";
    LOCAL_OLD_TARGET "local.old-target" 32 "[0]" "C G"
        title "The integration still has a former address."
        cause "The configuration was changed and not applied."
        proof "The address differs from the one in the document; when it answered last."
        client "HTTP 404 or 502; a browser shows only close code 1006."
        fix "Run `tidegate apply FILE`, which deploys too.";
    LOCAL_TUNNEL_STRIPS_HEADERS "local.tunnel-strips-headers" 32 "[0]" "D C"
        title "The tunnel removes or rewrites headers."
        cause "It puts its own in place of those of the gateway."
        proof "The names that were sent and did not arrive, from reflect mode."
        client "HTTP 400; a browser shows only close code 1006."
        fix "Run `tidegate doctor reflect` in place of the backend to see what arrives, then change the tunnel's \
            settings.";
    LOCAL_TUNNEL_HOST_NOT_ALLOWED "local.tunnel-host-not-allowed" 32 "[0]" "B D"
        title "The backend does not accept the tunnel's host name."
        cause "The name is not on the framework's list of allowed hosts."
        proof "The backend's refusal of the host, with the name of a tunnel."
        client "HTTP 400; a browser shows only close code 1006."
        fix "Add the name to `ALLOWED_HOSTS` and `CSRF_TRUSTED_ORIGINS` (`\".ngrok-free.app\"` covers all), or \
            set `integration.host_header`.";
    LOCAL_TUNNEL_INTERSTITIAL "local.tunnel-interstitial" 32 "[g]" "B"
        title "The tunnel shows a warning page instead of passing the call on."
        cause "Free tunnels ask visitors to confirm first."
        proof "200 with HTML of the tunnel's service where JSON is expected."
        client "The connection may open, but the backend was never asked."
        fix "Send the header that skips the page as a request parameter (for ngrok `ngrok-skip-browser-warning`), \
            or use a plan without it.";

    // Symptom 33.
    DOMAIN_NO_MAPPING "domain.no-mapping" 33 "[0]" "G C D"
        title "The custom domain maps nothing to this path."
        cause "The API mapping is missing."
        proof "The domain is known, and no mapping fits the path."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Create the mapping: `aws apigatewayv2 create-api-mapping --domain-name NAME --api-id ID --stage \
            STAGE`, or in the document.";
    DOMAIN_MAPPING_WRONG_STAGE "domain.mapping-wrong-stage" 33 "[0]" "C D"
        title "The custom domain leads to another API or stage than expected."
        cause "Its mapping was never changed, or names another one by mistake."
        proof "The target of the mapping against the expected one, and when that was deployed."
        client "The behavior of the other stage."
        fix "Correct the mapping. `tidegate export` shows all of them.";
    DOMAIN_MAPPING_PATH "domain.mapping-path" 33 "[0]" "G C"
        title "The path is not the key of a mapping."
        cause "The domain has mappings, and the first part of the path is none of their keys."
        proof "The path and the keys."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Use the key in the address, or map the empty key to take everything else.";
    DOMAIN_WRONG_REGION "domain.wrong-region" 33 "[0]" "C"
        title "The custom domain was created in another region or installation."
        cause "This one does not have it."
        proof "The region in the domain's record; the domain is not in this installation."
        client "Whatever answers there."
        fix "Create the domain and its mapping here.";
    DOMAIN_UNKNOWN_HOST "domain.unknown-host" 33 "[g]" "G"
        title "No domain or API has this host name."
        cause "The name leads here, and nothing was created for it."
        proof "The host and the nearest known one (`nearest`)."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Create a domain name with an API mapping, or correct the name in the client.";

    // Symptom 34.
    PROVISION_DENIED "provision.denied" 34 "[0]" "G C"
        title "The credentials may not change the gateway in this way."
        cause "No rule of the access key covers the action."
        proof "The action, the resource and the id of the key."
        client "The tool gets 403."
        fix "Allow the action, for example `apigateway:* *` in `allow` of `[[credentials]]`.";
    PROVISION_WRONG_REGION "provision.wrong-region" 34 "[0]" "G"
        title "The tool signs its calls for another region."
        cause "The tool's region differs from the gateway's."
        proof "The region in the credential scope."
        client "The tool gets 403."
        fix "Set `AWS_REGION` or the tool's option to the gateway's `region`.";
    PROVISION_INVALID_TARGET "provision.invalid-target" 34 "[0]" "G C"
        title "The address of the backend is not valid."
        cause "It is no complete URL, or lacks the scheme or the host."
        proof "The error of the parser, and whether a slash is at its end."
        client "The tool gets 400."
        fix "Write a complete address with scheme and host, for example `https://app.example.com/ws/`.";
    PROVISION_INVALID_CERTIFICATE "provision.invalid-certificate" 34 "[0]" "G C"
        title "The certificate cannot be used."
        cause "The name is not well-formed, a file cannot be read, or key and certificate do not fit each other."
        proof "The form, the error of the file, or that the key does not fit."
        client "The tool gets 400; a start with such a file ends with 1."
        fix "Give PEM files that belong together: `openssl x509 -noout -pubkey -in CERT` and `openssl pkey \
            -pubout -in KEY` must print the same.";
    PROVISION_INVALID_DOMAIN "provision.invalid-domain" 34 "[0]" "G C"
        title "The domain name is not valid."
        cause "A part of it is empty, too long, or has characters that names cannot have."
        proof "The rule that failed."
        client "The tool gets 400."
        fix "Use letters, digits and dashes, without scheme, port and path.";
    PROVISION_SERVICE_ROLE "provision.service-role" 34 "[0]" "C"
        title "AWS asks for a service-linked role."
        cause "The tool talks to AWS itself, not to this gateway."
        proof "The tool's configuration has no endpoint of its own."
        client "An error of AWS in the tool."
        fix "Set the tool's endpoint: `--endpoint-url ADMIN_URL` or `AWS_ENDPOINT_URL_APIGATEWAYV2`. The gateway \
            needs no such role.";
    PROVISION_NO_CREDENTIALS "provision.no-credentials" 34 "[0]" "G (-)"
        title "The tool has no credentials."
        cause "None is configured in its environment."
        proof "A call without a signature arrived; or none at all."
        client "The tool gets 403, or stops before it calls."
        fix "Set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or for `tidegate` `TIDEGATE_KEY`.";
    PROVISION_WRONG_ENDPOINT "provision.wrong-endpoint" 34 "[g]" "G (-)"
        title "The tool talks to AWS or to the public listener."
        cause "Its endpoint is not the admin listener."
        proof "A path of the control plane at the public listener; or nothing arrives."
        client "The tool gets 404."
        fix "Set the endpoint to the admin listener: `--endpoint-url http://127.0.0.1:8081`.";
    PROVISION_CONFLICT "provision.conflict" 34 "[0][+]" "G C"
        title "The resource exists already."
        cause "An earlier, interrupted run or another tool made it."
        proof "Its name and when it was created."
        client "The tool gets 409."
        fix "Continue with the existing one or delete it. `tidegate apply FILE` is safe to repeat.";
    PROVISION_THROTTLED "provision.throttled" 34 "[g]" "G"
        title "Too many calls of the control plane."
        cause "The tool calls faster than its rate."
        proof "The bucket was empty."
        client "The tool gets 429."
        fix "Repeat with a growing pause, or apply everything at once with `tidegate apply FILE`.";
    PROVISION_INCOMPLETE "provision.incomplete" 34 "[0]" "C"
        title "The API is incomplete after a run that failed."
        cause "It has no routes, stage or deployment."
        proof "The missing parts by name."
        client "Depends on what is missing: 403, or an error for each message."
        fix "Run the tool again. `tidegate doctor --api ID` lists what is missing.";

    // Symptom 35.
    COMMAND_NO_ENVIRONMENT "command.no-environment" 35 "[0]" "-"
        title "The command was not found or lacks its packages: the virtual environment is not active."
        cause "The shell uses another Python than the project's."
        proof "Nothing of it is visible to the gateway. The closest sign is that no call of the control plane \
            arrived at that time."
        client "Nothing."
        fix "Check by hand which Python runs (`which python`), then activate the environment: `source \
            .venv/bin/activate`.";
    COMMAND_NO_SETTINGS "command.no-settings" 35 "[0]" "-"
        title "The project's settings module is not configured."
        cause "`DJANGO_SETTINGS_MODULE` is missing or names another module."
        proof "Nothing of it is visible to the gateway. The closest sign is that no call of the control plane \
            arrived at that time."
        client "Nothing."
        fix "Check the variable by hand (`echo $DJANGO_SETTINGS_MODULE`) and set it, or run the command through \
            the project's `manage.py`.";
    COMMAND_NO_CREDENTIALS "command.no-credentials" 35 "[0]" "G (-)"
        title "The command has no credentials."
        cause "None is configured in its environment."
        proof "A call without a signature arrived; or none at all."
        client "The command gets 403, or stops before it calls."
        fix "Set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` in the environment of the command, also in that \
            of a scheduler.";
    COMMAND_WRONG_PROFILE "command.wrong-profile" 35 "[0]" "G C"
        title "The command uses the key of another profile."
        cause "`AWS_PROFILE` or a default profile is in the way."
        proof "The id of the key against the expected one."
        client "403, or success in the wrong place."
        fix "Name the profile (`AWS_PROFILE=NAME`, `--profile NAME`) and check it with the id in the journal.";
    COMMAND_DENIED "command.denied" 35 "[0]" "G"
        title "The key of the command may not do this."
        cause "No rule of the access key covers the action."
        proof "The action, the resource and the id of the key."
        client "The command gets 403."
        fix "Allow the action in `allow` of `[[credentials]]`.";
    COMMAND_BAD_ARGUMENTS "command.bad-arguments" 35 "[0]" "(G)"
        title "The command was given the wrong arguments."
        cause "For example the primary key of another record, so that it works on another API."
        proof "The closest sign: the call names an API that is not the intended one. Only the person who ran it \
            can prove it."
        client "404, or success on the wrong API."
        fix "Compare the argument with the list that the command or `tidegate apis ls` prints.";
    COMMAND_CANNOT_REACH "command.cannot-reach" 35 "[g]" "C"
        title "The command line cannot reach the node."
        cause "The node does not run, listens elsewhere, or the file belongs to another user."
        proof "The error of the connection, or the owner of the file."
        client "Nothing."
        fix "Name the admin listener: `--admin-url http://127.0.0.1:8081` or `TIDEGATE_ADMIN_URL`, and check that \
            it runs with `curl ADMIN_URL/readyz`.";

    // Symptom 36.
    CLEANUP_NOT_SCHEDULED "cleanup.not-scheduled" 36 "[0]" "C G"
        title "The clean-up never runs."
        cause "Nothing calls it: the scheduler has no entry for it."
        proof "When it ran last; for a backend the share of pushes to ids that closed over a day ago."
        client "More 410 and slower pushes."
        fix "Schedule the backend's clean-up command, for example hourly in cron. The gateway cleans up its own \
            data by itself.";
    CLEANUP_WRONG_ENVIRONMENT "cleanup.wrong-environment" 36 "[0]" "(G)"
        title "The clean-up works on another database."
        cause "The job has other settings than the application."
        proof "The closest sign: somebody reports runs, and pushes to old ids do not become fewer. The job's \
            environment would prove it."
        client "More 410 and slower pushes."
        fix "Print the database's name in the job and compare it with the application's.";
    CLEANUP_BAD_COMMAND "cleanup.bad-command" 36 "[0]" "-"
        title "The scheduled clean-up has a wrong name or arguments."
        cause "The scheduler calls something that does not exist."
        proof "Nothing of it is visible to the gateway. The closest sign: pushes to old ids go on; the scheduler \
            has the exit status."
        client "More 410 and slower pushes."
        fix "Run the line of the scheduler once by hand and read its output.";
    CLEANUP_NO_ACCESS "cleanup.no-access" 36 "[0]" "-"
        title "The scheduler cannot reach the project or its database."
        cause "Rights, paths or the network differ from those of the application."
        proof "Nothing of it is visible to the gateway. The closest sign: pushes to old ids go on; the \
            scheduler's log has the error."
        client "More 410 and slower pushes."
        fix "Run the command by hand as the scheduler's user, and correct rights and network.";
    CLEANUP_NOT_PRUNING "cleanup.not-pruning" 36 "[0]" "G"
        title "The clean-up runs, and stale records stay."
        cause "Its condition does not fit them, for example because they are still marked as connected."
        proof "The share of pushes to old ids stays the same over several runs."
        client "More 410 and slower pushes."
        fix "Compare its condition with the ids that are gone (`tidegate explain CONNECTION_ID`), and delete \
            records on 410 too.";
    CLEANUP_DISCONNECT_LOST "cleanup.disconnect-lost" 36 "[+]" "G"
        title "The end of the connection did not reach the backend."
        cause "The call for `$disconnect` failed or took too long. It is attempted once unless configured \
            otherwise."
        proof "The failed call for `$disconnect`, its id and its error."
        client "Nothing; the backend keeps a stale record."
        fix "Set `data_plane.disconnect_retries`, or `backend.durable_disconnect = true` in the policy, and \
            delete records on 410.";

    // Symptom 37.
    LIMIT_FILE_DESCRIPTORS "limit.file-descriptors" 37 "[+]" "G C"
        title "The process has as many files open as it may."
        cause "Each client takes one, each call to a backend another."
        proof "`EMFILE` when accepting, with limit and use."
        client "The connection hangs or is reset; a browser shows close code 1006."
        fix "Raise the limit: `LimitNOFILE=1048576` in the systemd unit, `--ulimit nofile=1048576` for a \
            container. `tidegate doctor --system` computes the need.";
    LIMIT_CONNECTIONS "limit.connections" 37 "[g]" "G"
        title "There are as many connections as are permitted."
        cause "The limit of the node, the stage, the address or the user is reached."
        proof "Limit and count (`limit`, `count`)."
        client "HTTP 503, or 429 where the limit is that of an address or user; a browser shows only close code \
            1006."
        fix "Raise `max_connections`, `admission.max_connections`, `admission.connections_per_address` or \
            `admission.connections_per_user`, whichever the entry names.";
    LIMIT_MEMORY "limit.memory" 37 "[g]" "G"
        title "The gateway has no memory left for new connections."
        cause "The limit of memory is reached."
        proof "The bytes in use and the budget."
        client "HTTP 503; a browser shows only close code 1006."
        fix "Lower `data_plane.outbound_buffer_bytes` or `max_connections`, or add memory.";
    LIMIT_EPHEMERAL_PORTS "limit.ephemeral-ports" 37 "[+]" "G C"
        title "There are no source ports left between two machines."
        cause "Each connection from one address to one address and port needs a port of its own, and there are \
            some 28,000 of them."
        proof "`EADDRNOTAVAIL`, and how many connections go to this peer."
        client "HTTP 502; a browser shows only close code 1006."
        fix "Widen the range (`sysctl net.ipv4.ip_local_port_range=\"1024 65535\"`), give one side more \
            addresses, and use keep-alive towards backends.";
    LIMIT_ACCEPT_QUEUE "limit.accept-queue" 37 "[g]" "G"
        title "The system drops new connections: the queue of the listener is full."
        cause "More connections arrive at once than are accepted."
        proof "The kernel's counter of overflows (`nstat TcpExtListenOverflows`)."
        client "Attempts to connect time out."
        fix "Raise `net.core.somaxconn`, spread reconnecting clients over time, or add nodes.";
    LIMIT_OVERLOAD "limit.overload" 37 "[g]" "G"
        title "The gateway is overloaded."
        cause "Its processors are busy, so that everything waits."
        proof "The delay in the scheduling of tasks."
        client "Late answers, or HTTP 503."
        fix "Give the machine more processors, or spread the load.";
    STORE_UNAVAILABLE "store.unavailable" 37 "[g]" "G C"
        title "The database of the gateway cannot be used."
        cause "The disk is full, the file is not writable, or the server does not answer."
        proof "The error, and the free bytes."
        client "HTTP 503 where the database is needed; open connections go on."
        fix "Make room on the disk of `data_dir`, or restore the database.";
    CLUSTER_BUS_DOWN "cluster.bus-down" 37 "[g]" "G C"
        title "The bus between the nodes cannot be reached."
        cause "It is down, or the network between the nodes is."
        proof "The time since the last contact."
        client "Messages reach only the clients of the same node."
        fix "Restore the bus or the network.";

    // Symptom 38.
    LOG_DISABLED "log.disabled" 38 "[1]" "C"
        title "Logging is switched off, so the cause was not recorded."
        cause "The level is too low or the execution log is off."
        proof "The settings, and the gap in the journal."
        client "Nothing."
        fix "Keep the journal on, which it is by default; raise the level with `TIDEGATE_LOG=info`.";
    LOG_RETENTION_TOO_SHORT "log.retention-too-short" 38 "[g]" "C"
        title "The event is older than the journal."
        cause "Entries are removed after the time or size that is configured."
        proof "The oldest entry of the journal."
        client "Nothing."
        fix "Keep entries longer, or ask sooner after an event.";
    DEBUG_EXPOSED "debug.exposed" 38 "[0]" "B C"
        title "Details for developers reach users."
        cause "The backend runs in debug mode, or the gateway's developer mode is open to others."
        proof "The backend answers with a debug page or a traceback, or the setting is on."
        client "The text is replaced by a general one."
        fix "Set `DEBUG = False` in Django, `debug=False` in FastAPI and Flask.";
    ERROR_DETAIL_LEAK "error.detail-leak" 38 "[3]" "B"
        title "Texts of exceptions stand in answers of the backend."
        cause "The handler returns `str(error)`."
        proof "A traceback or the text of an exception in a body that was about to be passed on."
        client "The text is replaced by a general one."
        fix "Return a general text and a request id, and log the exception.";
    LOG_TOKEN_IN_QUERY "log.token-in-query" 38 "[3][+]" "C D"
        title "Tokens in the address are written to logs."
        cause "Proxies and servers log the whole address of a request."
        proof "A line of the log that was given to `tidegate doctor --check-log FILE`."
        client "Nothing."
        fix "Log without the query (in nginx `$uri` instead of `$request`), use tokens that live shortly, or send \
            them as the subprotocol pair `tidegate.bearer, TOKEN`.";
    LOG_SECRET_PRINTED "log.secret-printed" 38 "[3]" "-"
        title "The application prints parts of tokens or secrets."
        cause "A line for debugging was left in the code."
        proof "Nothing of it is visible to the gateway. The closest evidence is a log file of the application \
            that is given to `tidegate doctor --check-log FILE`."
        client "Nothing."
        fix "Check the application's log by hand or with `tidegate doctor --check-log FILE`, remove the line, and \
            replace the secret.";
    CONFIG_UNKNOWN_KEY "config.unknown-key" 38 "[s]" "C"
        title "A setting has a name that does not exist."
        cause "It is misspelled, or stands in another section."
        proof "The key and the nearest known one (`nearest`)."
        client "Nothing: the gateway does not start with it."
        fix "Correct the name: `tidegate config` prints all settings, `tidegate check` all problems at once.";
    CONFIG_INVALID_VALUE "config.invalid-value" 38 "[s]" "C"
        title "A setting has a value that is not permitted."
        cause "It has another type, or lies outside of its range."
        proof "The key and its rule."
        client "Nothing: the gateway does not start with it; a stage with such a policy answers HTTP 500."
        fix "Correct the value as `tidegate check` says.";
    SECURITY_UNTRUSTED_INPUT "security.untrusted-input" 38 "[3]" "-"
        title "The backend does not check what clients send."
        cause "Messages are passed on as they are unless a model checks them."
        proof "Nothing of it is visible to the gateway. The closest evidence: no route has a request model."
        client "Nothing."
        fix "Check by hand that the backend validates each message, and add request models to the routes.";
}

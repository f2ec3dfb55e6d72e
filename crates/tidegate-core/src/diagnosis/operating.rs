//! Causes: staying connected, and operating.

causes! {
    // Symptom 28.
    CLOSE_IDLE_TIMEOUT "close.idle-timeout" 28 "[0][+]" "G"
        title "The idle limit was reached."
        cause "Gateway's own idle limit, 10 min by default."
        proof "Last activity, limit."
        client "C1001"
        fix "Heartbeat, or raise the stage limit.";
    PROXY_IDLE_60 "proxy.idle-60" 28 "[+]" "D G"
        title "Reverse proxy or balancer with 60 s."
        cause "Reverse proxy or balancer with 60 s."
        proof "Gateway sees EOF without close frame 60 s (+-1) after the last frame, for many clients."
        client "C1006"
        fix "Read/send timeout of the proxy up; pings every 25 s.";
    PROXY_IDLE_100 "proxy.idle-100" 28 "[+]" "D G"
        title "CDN edge with 100 s."
        cause "CDN edge with 100 s."
        proof "As above with 100 s."
        client "C1006"
        fix "Pings every 25 s.";
    PROXY_IDLE_OTHER "proxy.idle-other" 28 "[+]" "D G"
        title "Another intermediary (NAT, firewall, tunnel)."
        cause "Another intermediary (NAT, firewall, tunnel)."
        proof "As above with the measured time."
        client "C1006"
        fix "As above.";
    PROXY_IDLE_COUNTS_DATA_ONLY "proxy.idle-counts-data-only" 28 "[g]" "D"
        title "Intermediary ignores WebSocket pings."
        cause "Intermediary ignores WebSocket pings."
        proof "Silent socket with pings dies, socket with text survives."
        client "C1006"
        fix "Application-level `ping` text.";
    IDLE_HEARTBEAT_RACE "idle.heartbeat-race" 28 "[+]" "D G"
        title "Heartbeat interval equals the idle limit."
        cause "Heartbeat interval equals the idle limit."
        proof "Drops at the limit although heartbeats are seen."
        client "C1006"
        fix "Interval at most half the limit.";
    IDLE_NO_HEARTBEAT "idle.no-heartbeat" 28 "[3]" "G L"
        title "Neither side sends anything."
        cause "Neither side sends anything."
        proof "No frames between open and drop."
        client "C1001/C1006"
        fix "Heartbeat every 25-30 s.";

    // Symptom 29.
    CLOSE_MAX_DURATION "close.max-duration" 29 "[+]" "G"
        title "The duration limit was reached."
        cause "Duration limit of the stage, 2 h on AWS."
        proof "Age, limit."
        client "C1001"
        fix "Reconnect; raise or remove the limit here.";
    CLOSE_TOKEN_EXPIRED "close.token-expired" 29 "[3]" "G"
        title "The token of the connection expired."
        cause "Token of the connection expired."
        proof "`exp`."
        client "C1008 `Token expired`"
        fix "Reconnect with a fresh token.";
    CLOSE_ACCESS_REVOKED "close.access-revoked" 29 "[g]" "G"
        title "The user or the token was revoked."
        cause "User or token revoked."
        proof "Actor, time."
        client "C1008"
        fix "Expected.";
    NODE_RESTART "node.restart" 29 "[3]" "G"
        title "Gateway restarting."
        cause "Gateway restarting."
        proof "Node event."
        client "C1012"
        fix "Client reconnects.";
    NODE_DRAINING "node.draining" 29 "[3]" "G"
        title "The gateway is shutting down."
        cause "Gateway shutting down or being drained."
        proof "Node event."
        client "C1001; H503 for new ones"
        fix "Client reconnects to another node.";
    NODE_CRASH "node.crash" 29 "[g]" "G"
        title "Gateway died."
        cause "Gateway died."
        proof "No stop record before the next start."
        client "C1006"
        fix "Crash report.";
    PROXY_RELOAD "proxy.reload" 29 "[+]" "(G)"
        title "Proxy reloaded its configuration and closed old workers."
        cause "Proxy reloaded its configuration and closed old workers."
        proof "Many EOFs without close frame within one drain period, one proxy address, at any age."
        client "C1006"
        fix "Long drain timeout; fewer reloads.";
    PROXY_ROLLOUT "proxy.rollout" 29 "[+]" "(G)"
        title "Orchestrator moved or replaced the proxy or node."
        cause "Orchestrator moved or replaced the proxy or node."
        proof "As above plus node drain events."
        client "C1006/C1001"
        fix "Drain before stop.";
    PROXY_CDN_RESTART "proxy.cdn-restart" 29 "[+]" "(G)"
        title "CDN edge restarted."
        cause "CDN edge restarted."
        proof "Bursts from CDN addresses; sometimes 1001 with the CDN's reason."
        client "C1001/C1006"
        fix "Client reconnects.";
    CLIENT_PAGE_LEFT "client.page-left" 29 "[3]" "G"
        title "The client closed or left the page."
        cause "Page closed or navigated."
        proof "Client close 1001."
        client "own"
        fix "Normal.";

    // Symptom 30.
    CONN_PING_TIMEOUT "conn.ping-timeout" 30 "[+]" "G"
        title "The peer answered no ping."
        cause "Peer answered no ping for 60 s: sleeping device, lost network, half-open connection."
        proof "Pings sent, last pong."
        client "C1006 on its side"
        fix "Client must notice and reconnect.";
    CONN_RESET "conn.reset" 30 "[3]" "G"
        title "The connection ended without a close frame."
        cause "TCP reset or EOF without close frame."
        proof "RST or FIN, age, bytes; single event."
        client "C1006"
        fix "Normal on mobile networks.";
    CONN_NETWORK_CHANGE "conn.network-change" 30 "[0]" "(G)"
        title "Device changed network."
        cause "Device changed network."
        proof "Ping timeout and a new connection of the same user from another address."
        client "C1006"
        fix "Reconnect.";
    CONN_HALF_OPEN_CLIENT "conn.half-open-client" 30 "[+]" "L (G)"
        title "Client does not notice the loss: no check of answers."
        cause "Client does not notice the loss: no check of answers."
        proof "Old connection ping-timeout while the user sends nothing new for minutes."
        client "nothing"
        fix "Check `pong`, reconnect.";
    CLIENT_BACKGROUND_THROTTLE "client.background-throttle" 30 "[+]" "G L"
        title "Browser throttles timers of background tabs to once a minute: heartbeats late."
        cause "Browser throttles timers of background tabs to once a minute: heartbeats late."
        proof "Heartbeat gaps of 60 s from browsers, regular before."
        client "C1006 or session expiry"
        fix "Rely on gateway pings; thresholds of 90 s and more.";
    CLIENT_KEEPALIVE_1011 "client.keepalive-1011" 30 "[+]" "G"
        title "Python client's own ping got no answer in 20 s and closes with 1011."
        cause "Python client's own ping got no answer in 20 s and closes with 1011."
        proof "Client close 1011 `keepalive ping timeout`; event loop of the client blocked or slow network."
        client "own C1011"
        fix "Do not block the loop; longer ping timeout.";
    CONN_SLOW_CONSUMER "conn.slow-consumer" 30 "[+]" "G"
        title "The client reads too slowly."
        cause "Client reads too slowly, its queue overflowed."
        proof "Queue length, bytes, longest write."
        client "C1008 `Too slow`"
        fix "Read faster, fewer messages.";
    CONN_APP_HEARTBEAT_UNANSWERED "conn.app-heartbeat-unanswered" 30 "[3]" "G"
        title "Application-level `ping` not answered by the backend route."
        cause "Application-level `ping` not answered by the backend route."
        proof "Message `ping` routed to an integration that returns nothing."
        client "client gives up"
        fix "Answer `pong` (built in for alerts).";
    CLIENT_CRASHED "client.crashed" 30 "[3]" "(G)"
        title "Client process died."
        cause "Client process died."
        proof "FIN without close frame, no reconnect."
        client "-"
        fix "Client logs.";

    // Symptom 31.
    CLIENT_NO_RECONNECT "client.no-reconnect" 31 "[3]" "G L"
        title "Client has no reconnect logic, or got 1000, which means do not reconnect."
        cause "Client has no reconnect logic, or got 1000, which means do not reconnect."
        proof "Close by 1000 or 1006 and no new attempt."
        client "-"
        fix "Reconnect on all codes but 1000.";
    CLIENT_GAVE_UP "client.gave-up" 31 "[3]" "L (G)"
        title "Client used up its tries (5 tries take 62 s)."
        cause "Client used up its tries (5 tries take 62 s)."
        proof "Five attempts 2, 4, 8, 16, 32 s apart, then none."
        client "-"
        fix "More tries, cap on delay.";
    CLIENT_RETRY_STORM "client.retry-storm" 31 "[+]" "G"
        title "All clients reconnect at the same moment."
        cause "All clients reconnect at the same moment."
        proof "Attempts per second after a restart, spread of delays."
        client "H429/H503"
        fix "Jitter; spread closes.";
    CLIENT_COUNTER_RESET_LOOP "client.counter-reset-loop" 31 "[s]" "G"
        title "Counter reset on open while the server closes at once: endless loop every 2 s."
        cause "Counter reset on open while the server closes at once: endless loop every 2 s."
        proof "Opens under 1 s, same client, constant interval."
        client "repeated closes"
        fix "Reset after stable seconds; refuse before the upgrade.";
    CLIENT_REUSES_EXPIRED_JWT "client.reuses-expired-jwt" 31 "[3]" "G L"
        title "Reconnect with an expired token."
        cause "Reconnect with an expired token."
        proof "Same fingerprint, `exp` passed, several attempts."
        client "H403"
        fix "Refresh before reconnecting.";

    // Symptom 32.
    LOCAL_NOT_PUBLIC "local.not-public" 32 "[0]" "C G"
        title "Local server not reachable from the gateway."
        cause "Local server not reachable from the gateway."
        proof "Integration URL loopback or private, gateway elsewhere."
        client "H502/H504"
        fix "Run Tidegate locally (no tunnel needed), or tunnel.";
    LOCAL_NOT_HTTPS "local.not-https" 32 "[0]" "C"
        title "Local server speaks http only."
        cause "Local server speaks http only."
        proof "Scheme; TLS handshake fails."
        client "H502"
        fix "Allowed for loopback here; otherwise tunnel with https.";
    LOCAL_TUNNEL_CHANGED "local.tunnel-changed" 32 "[0]" "C G"
        title "Tunnel has a new URL."
        cause "Tunnel has a new URL."
        proof "Host does not resolve or answers with the tunnel's not-found page."
        client "H404/H502"
        fix "Update the integration, deploy.";
    LOCAL_OLD_TARGET "local.old-target" 32 "[0]" "C G"
        title "Target still points to a former URL."
        cause "Target still points to a former URL."
        proof "URL differs from the one in the configuration file; last success time."
        client "H404/H502"
        fix "Update, deploy.";
    LOCAL_TUNNEL_STRIPS_HEADERS "local.tunnel-strips-headers" 32 "[0]" "D C"
        title "Tunnel removes or rewrites headers."
        cause "Tunnel removes or rewrites headers."
        proof "Reflect mode."
        client "H400"
        fix "Tunnel settings.";
    LOCAL_TUNNEL_HOST_NOT_ALLOWED "local.tunnel-host-not-allowed" 32 "[0]" "B D"
        title "Tunnel's host missing from the allowed hosts."
        cause "Tunnel's host missing from the allowed hosts."
        proof "As backend.host-not-allowed with a tunnel name."
        client "H400"
        fix "Add it, also to the CSRF origins.";
    LOCAL_TUNNEL_INTERSTITIAL "local.tunnel-interstitial" 32 "[g]" "B"
        title "Tunnel shows a warning page first."
        cause "Tunnel shows a warning page first."
        proof "200 HTML with the tunnel's signature where JSON is expected."
        client "opens, but backend never asked"
        fix "Skip header or paid plan.";

    // Symptom 33.
    DOMAIN_NO_MAPPING "domain.no-mapping" 33 "[0]" "G C D"
        title "The domain maps no API to this path."
        cause "API mapping missing."
        proof "Domain known, no mapping for the path."
        client "H403"
        fix "Create the mapping.";
    DOMAIN_MAPPING_WRONG_STAGE "domain.mapping-wrong-stage" 33 "[0]" "C D"
        title "Mapping leads to another API or stage."
        cause "Mapping leads to another API or stage."
        proof "Mapping target against the expected one; its deployment time."
        client "behaviour of the other stage"
        fix "Correct it.";
    DOMAIN_MAPPING_PATH "domain.mapping-path" 33 "[0]" "G C"
        title "Mapping key is not the path used."
        cause "Mapping key is not the path used."
        proof "Path and keys."
        client "H403"
        fix "Use the key or map the empty one.";
    DOMAIN_WRONG_REGION "domain.wrong-region" 33 "[0]" "C"
        title "Domain created in another region or installation."
        cause "Domain created in another region or installation."
        proof "Domain's region label; not in this installation."
        client "depends"
        fix "Create it here.";
    DOMAIN_UNKNOWN_HOST "domain.unknown-host" 33 "[g]" "G"
        title "No domain or API owns this host name."
        cause "Host name arrives that no domain or API owns."
        proof "Host, nearest known."
        client "H403"
        fix "Create the domain.";

    // Symptom 34.
    PROVISION_DENIED "provision.denied" 34 "[0]" "G C"
        title "Credentials may not do this."
        cause "Credentials may not do this."
        proof "Action, resource, key id."
        client "A403"
        fix "Allow the action.";
    PROVISION_WRONG_REGION "provision.wrong-region" 34 "[0]" "G"
        title "Wrong region configured."
        cause "Wrong region configured."
        proof "Credential scope."
        client "A403"
        fix "Correct it.";
    PROVISION_INVALID_TARGET "provision.invalid-target" 34 "[0]" "G C"
        title "Target base endpoint not a valid URL."
        cause "Target base endpoint not a valid URL."
        proof "Parse error; trailing slash."
        client "A400"
        fix "Correct it.";
    PROVISION_INVALID_CERTIFICATE "provision.invalid-certificate" 34 "[0]" "G C"
        title "Certificate ARN or file invalid."
        cause "Certificate ARN or file invalid."
        proof "Form; file unreadable; key does not fit."
        client "A400"
        fix "Correct it.";
    PROVISION_INVALID_DOMAIN "provision.invalid-domain" 34 "[0]" "G C"
        title "Domain name invalid."
        cause "Domain name invalid."
        proof "Label rule."
        client "A400"
        fix "Correct it.";
    PROVISION_SERVICE_ROLE "provision.service-role" 34 "[0]" "C"
        title "AWS asks for a service-linked role."
        cause "AWS asks for a service-linked role."
        proof "Only possible when the client talks to AWS itself: endpoint override missing."
        client "-"
        fix "Set the endpoint URL; Tidegate needs no such role.";
    PROVISION_NO_CREDENTIALS "provision.no-credentials" 34 "[0]" "G (-)"
        title "No credentials available to the tool."
        cause "No credentials available to the tool."
        proof "Unsigned request arrives, or nothing arrives."
        client "A403"
        fix "Configure them.";
    PROVISION_WRONG_ENDPOINT "provision.wrong-endpoint" 34 "[g]" "G (-)"
        title "Tool talks to AWS instead of Tidegate, or to the public port."
        cause "Tool talks to AWS instead of Tidegate, or to the public port."
        proof "Control-plane path on the public listener; or nothing arrives."
        client "A404"
        fix "Endpoint URL of the admin listener.";
    PROVISION_CONFLICT "provision.conflict" 34 "[0][+]" "G C"
        title "Resource exists from an earlier, interrupted run or another tool."
        cause "Resource exists from an earlier, interrupted run or another tool."
        proof "Name and creation time."
        client "A409"
        fix "Continue or delete it.";
    PROVISION_THROTTLED "provision.throttled" 34 "[g]" "G"
        title "Too many control calls."
        cause "Too many control calls."
        proof "Bucket."
        client "A429"
        fix "Backoff.";
    PROVISION_INCOMPLETE "provision.incomplete" 34 "[0]" "C"
        title "API without routes, stage or deployment after a failed run."
        cause "API without routes, stage or deployment after a failed run."
        proof "Missing parts by name."
        client "-"
        fix "Rerun; `doctor --api` lists what is missing.";

    // Symptom 35.
    COMMAND_NO_ENVIRONMENT "command.no-environment" 35 "[0]" "-"
        title "Virtual environment not active."
        cause "Virtual environment not active."
        proof "The tool fails before any request; closest: no control call at that time."
        client "none"
        fix "Activate it.";
    COMMAND_NO_SETTINGS "command.no-settings" 35 "[0]" "-"
        title "Settings module not configured."
        cause "Settings module not configured."
        proof "As above."
        client "none"
        fix "Set it.";
    COMMAND_NO_CREDENTIALS "command.no-credentials" 35 "[0]" "G (-)"
        title "Credentials missing."
        cause "Credentials missing."
        proof "As provision.no-credentials."
        client "A403"
        fix "Configure.";
    COMMAND_WRONG_PROFILE "command.wrong-profile" 35 "[0]" "G C"
        title "Another profile's key is used."
        cause "Another profile's key is used."
        proof "Key id of the call against the expected one."
        client "A403, or success in the wrong place"
        fix "Select the profile.";
    COMMAND_DENIED "command.denied" 35 "[0]" "G"
        title "Permissions insufficient."
        cause "Permissions insufficient."
        proof "As provision.denied."
        client "A403"
        fix "Allow.";
    COMMAND_BAD_ARGUMENTS "command.bad-arguments" 35 "[0]" "(G)"
        title "Arguments wrong, for example the primary key of another record."
        cause "Arguments wrong, for example the primary key of another record."
        proof "Call names an API that is not the intended one."
        client "A404, or success on the wrong API"
        fix "Check the argument.";
    COMMAND_CANNOT_REACH "command.cannot-reach" 35 "[g]" "C"
        title "Tidegate's own CLI cannot reach the admin listener or database file."
        cause "Tidegate's own CLI cannot reach the admin listener or database file."
        proof "Connect error, file owner."
        client "none"
        fix "`--admin`, permissions.";

    // Symptom 36.
    CLEANUP_NOT_SCHEDULED "cleanup.not-scheduled" 36 "[0]" "C G"
        title "Clean-up never runs."
        cause "Clean-up never runs."
        proof "Own: last run; backend: share of posts to ids closed over a day ago."
        client "more P410, slower sends"
        fix "Schedule it; Tidegate's own clean-up is on by default.";
    CLEANUP_WRONG_ENVIRONMENT "cleanup.wrong-environment" 36 "[0]" "(G)"
        title "Job runs against another database or settings."
        cause "Job runs against another database or settings."
        proof "Operator reports runs, stale posts do not fall."
        client "as above"
        fix "Compare environment.";
    CLEANUP_BAD_COMMAND "cleanup.bad-command" 36 "[0]" "-"
        title "Command name or arguments wrong."
        cause "Command name or arguments wrong."
        proof "Scheduler's exit status only."
        client "as above"
        fix "Run it by hand once.";
    CLEANUP_NO_ACCESS "cleanup.no-access" 36 "[0]" "-"
        title "Task runner cannot reach the project."
        cause "Task runner cannot reach the project."
        proof "Scheduler's log only."
        client "as above"
        fix "Permissions, network.";
    CLEANUP_NOT_PRUNING "cleanup.not-pruning" 36 "[0]" "G"
        title "Runs, but stale sessions stay."
        cause "Runs, but stale sessions stay."
        proof "Stale share constant over runs."
        client "as above"
        fix "Compare its condition with the journal's list of closed ids (`tidegate connections closed --since`).";
    CLEANUP_DISCONNECT_LOST "cleanup.disconnect-lost" 36 "[+]" "G"
        title "A $disconnect did not reach the backend."
        cause "`$disconnect` did not reach the backend: event is best effort."
        proof "`$disconnect` call failed or timed out, id and error."
        client "stale record"
        fix "Retry option for `$disconnect`; prune on 410.";

    // Symptom 37.
    LIMIT_FILE_DESCRIPTORS "limit.file-descriptors" 37 "[+]" "G C"
        title "The process's limit of open files is reached."
        cause "Process's open-file limit reached."
        proof "EMFILE on accept; limit and use."
        client "none or reset"
        fix "Raise the limit; doctor computes the need.";
    LIMIT_CONNECTIONS "limit.connections" 37 "[g]" "G"
        title "The limit of connections is reached."
        cause "Configured connection limit (total, user, address)."
        proof "Limit and count."
        client "H503/H429"
        fix "Raise or add nodes.";
    LIMIT_MEMORY "limit.memory" 37 "[g]" "G"
        title "Memory limit: new connections refused."
        cause "Memory limit: new connections refused."
        proof "Bytes, budget."
        client "H503"
        fix "Fewer connections per node, smaller buffers.";
    LIMIT_EPHEMERAL_PORTS "limit.ephemeral-ports" 37 "[+]" "G C"
        title "Source ports used up between proxy and gateway, or gateway and backend (about 28,000 to 64,000 per pair)."
        cause "Source ports used up between proxy and gateway, or gateway and backend (about 28,000 to 64,000 per pair)."
        proof "EADDRNOTAVAIL; count per peer pair."
        client "H502"
        fix "More addresses, keep-alive.";
    LIMIT_ACCEPT_QUEUE "limit.accept-queue" 37 "[g]" "G"
        title "Connection backlog overflows."
        cause "Connection backlog overflows."
        proof "Kernel overflow counter."
        client "connect timeouts"
        fix "Larger backlog, more nodes.";
    LIMIT_OVERLOAD "limit.overload" 37 "[g]" "G"
        title "Event loop or CPU saturated."
        cause "Event loop or CPU saturated."
        proof "Scheduling delay."
        client "late answers, H503"
        fix "Scale.";
    STORE_UNAVAILABLE "store.unavailable" 37 "[g]" "G C"
        title "The store cannot be read or written."
        cause "Session or journal database unavailable or disk full."
        proof "Error, free bytes."
        client "H503 or degraded mode, as configured"
        fix "Free space, restore.";
    CLUSTER_BUS_DOWN "cluster.bus-down" 37 "[g]" "G C"
        title "Cluster bus unreachable."
        cause "Cluster bus unreachable."
        proof "Time since last contact."
        client "local delivery only"
        fix "Restore.";

    // Symptom 38.
    LOG_DISABLED "log.disabled" 38 "[1]" "C"
        title "Execution logging off or at error level only: the cause was not recorded."
        cause "Execution logging off or at error level only: the cause was not recorded."
        proof "Settings; journal gap."
        client "-"
        fix "Tidegate's journal is on by default; raise the level.";
    LOG_RETENTION_TOO_SHORT "log.retention-too-short" 38 "[g]" "C"
        title "Event older than the journal."
        cause "Event older than the journal."
        proof "Oldest event."
        client "-"
        fix "Longer retention.";
    DEBUG_EXPOSED "debug.exposed" 38 "[0]" "B C"
        title "Debug details reach users."
        cause "Debug details reach users."
        proof "Backend answers with a debug page or traceback; debug setting on."
        client "text replaced by generic one"
        fix "Turn debug off.";
    ERROR_DETAIL_LEAK "error.detail-leak" 38 "[3]" "B"
        title "Exception text in close reasons or error bodies."
        cause "Exception text in close reasons or error bodies."
        proof "Traceback or exception signature in a body about to be forwarded."
        client "replaced when `hide_backend_errors` (default)"
        fix "Return generic text.";
    LOG_TOKEN_IN_QUERY "log.token-in-query" 38 "[3][+]" "C D"
        title "Token in the URL is logged by proxies or servers."
        cause "Token in the URL is logged by proxies or servers."
        proof "Sample log line given to `doctor --check-log`; server fingerprint known to log queries (measured for one)."
        client "-"
        fix "Log format without query, short expiry.";
    LOG_SECRET_PRINTED "log.secret-printed" 38 "[3]" "-"
        title "Code prints parts of token or secret."
        cause "Code prints parts of token or secret."
        proof "Only in the application's own output; `doctor --check-log` finds token shapes in a file."
        client "-"
        fix "Remove.";
    CONFIG_UNKNOWN_KEY "config.unknown-key" 38 "[s]" "C"
        title "Setting misspelt, therefore ignored."
        cause "Setting misspelt, therefore ignored."
        proof "Key and nearest known key."
        client "start-up fails"
        fix "Correct it.";
    CONFIG_INVALID_VALUE "config.invalid-value" 38 "[s]" "C"
        title "A setting has a value of a wrong type or range."
        cause "Value of wrong type or range."
        proof "Key and rule."
        client "start-up fails"
        fix "Correct it.";
    SECURITY_UNTRUSTED_INPUT "security.untrusted-input" 38 "[3]" "-"
        title "Incoming data not validated by the backend."
        cause "Incoming data not validated by the backend."
        proof "Not visible; closest: request models missing on all routes."
        client "-"
        fix "Add models.";
}

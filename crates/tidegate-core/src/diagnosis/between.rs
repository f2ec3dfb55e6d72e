//! Causes of symptoms 4 to 7: what lies between client and gateway, the server that was there before, the browser.

causes! {
    // Symptom 4.
    PROXY_UPGRADE_STRIPPED "proxy.upgrade-stripped" 4 "[0][+]" "G D"
        title "A proxy removed the Upgrade header."
        cause "The proxy in front treats the handshake as an ordinary request and does not pass on `Upgrade` and \
            `Connection`, which HTTP wants to be set anew on each hop."
        proof "`Sec-WebSocket-Key` or `Sec-WebSocket-Version` arrived without `Upgrade`."
        client "The handshake is answered with HTTP 426; a browser shows only close code 1006."
        fix "In nginx, for this location: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
            proxy_set_header Connection \"upgrade\";`. In Apache: `ProxyPass /path ws://gateway:8080/path` with \
            `mod_proxy_wstunnel`, or `upgrade=websocket`. Then run `tidegate doctor URL`.";
    PROXY_HTTP10 "proxy.http10" 4 "[+]" "G D"
        title "A proxy speaks HTTP/1.0 to the gateway."
        cause "WebSockets need HTTP/1.1. Some proxies speak 1.0 to what is behind them unless told otherwise."
        proof "A request of version 1.0 that has `Sec-WebSocket-Key`."
        client "The handshake is answered with HTTP 426; a browser shows only close code 1006."
        fix "In nginx set `proxy_http_version 1.1;` in the location of the WebSocket, together with \
            `proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";`.";
    PROXY_LOCATION_MISMATCH "proxy.location-mismatch" 4 "[s]" "D"
        title "The proxy's rule for WebSockets covers another path than the one used."
        cause "The headers are passed on for one location only, and this path is served by another one."
        proof "The upgrade succeeds at the probe path or a neighboring path, and not at this one."
        client "HTTP 426, or the status of whatever serves the path; a browser shows only close code 1006."
        fix "Extend the rule to the path that clients use. In nginx compare `location` blocks: a longer prefix or \
            a regular expression may win over yours.";
    PROXY_RESPONSE_STRIPPED "proxy.response-stripped" 4 "[+]" "D L"
        title "The answer 101 arrives without `Upgrade` or `Connection`."
        cause "A proxy passes the request on correctly and removes the same headers from the answer."
        proof "The journal says that the connection opened, and the probe from outside misses the header in the \
            answer."
        client "The browser says `'Upgrade' header is missing`; libraries say `Invalid Upgrade header`."
        fix "Let the proxy pass the headers of 101 answers unchanged; remove rules such as `proxy_hide_header \
            Upgrade` or a header filter of the CDN for this path.";
    PROXY_REDIRECT "proxy.redirect" 4 "[+]" "D"
        title "The handshake is answered with a redirect."
        cause "A rule sends http to https, adds a slash, demands a login, or a captive portal answers. WebSocket \
            clients do not follow redirects."
        proof "Status 301, 302, 307 or 308 and its `Location`, with no entry in the journal."
        client "HTTP 301, 302, 307 or 308 from the proxy; a browser shows only close code 1006."
        fix "Put the final address into the client (`wss://`, with or without the slash as `Location` shows), and \
            exempt the path from redirects.";
    PROXY_HTML_200 "proxy.html-200" 4 "[+]" "D"
        title "A page is served where the WebSocket should be."
        cause "The path falls to a static site or to the fallback of a single-page application, so the request \
            never reaches the gateway."
        proof "200 with `text/html`, and no entry in the journal."
        client "HTTP 200 from the proxy, which is no handshake; a browser shows only close code 1006."
        fix "Route the path to the gateway before the fallback. In nginx give it a `location` of its own; in a \
            development server set `ws: true` for the proxied path.";
    PROXY_BAD_GATEWAY "proxy.bad-gateway" 4 "[+]" "D"
        title "The proxy cannot reach the gateway."
        cause "The address or port in the proxy is wrong, the gateway is down, or the proxy speaks TLS to a plain \
            port."
        proof "502 without the gateway's headers, and no entry in the journal."
        client "HTTP 502 from the proxy; a browser shows only close code 1006."
        fix "Compare the proxy's upstream with `listen`, and try it from the proxy's machine: `tidegate doctor \
            ws://GATEWAY:8080/STAGE`. In containers use the service's name, not `localhost`. The proxy's error \
            log names the reason.";
    PROXY_GATEWAY_TIMEOUT "proxy.gateway-timeout" 4 "[g]" "D G"
        title "The proxy stopped waiting for the answer to the handshake."
        cause "`$connect` at the backend takes longer than the proxy waits for an answer."
        proof "504 from the proxy, and at the same time `handshake.client-gave-up` in the journal."
        client "HTTP 504 from the proxy; a browser shows only close code 1006."
        fix "Answer `$connect` faster, and give the proxy more time: in nginx `proxy_read_timeout 75s;`.";
    PROXY_CAPACITY "proxy.capacity" 4 "[+]" "(D) (G)"
        title "The proxy has as many connections as it may."
        cause "Each WebSocket takes two connections of the proxy, for as long as it is open; the limit of workers \
            or files is reached."
        proof "The closest sign: failures under load only, and a number of open connections that stops at a round \
            figure for each proxy address. Proof would be the proxy's own log, for example `worker_connections \
            are not enough`."
        client "HTTP 500, 502 or a reset connection; a browser shows only close code 1006."
        fix "Raise the limits of the proxy to more than twice the number of WebSockets: in nginx \
            `worker_connections 16384;` and `worker_rlimit_nofile 32768;`.";
    PROXY_WEBSOCKETS_OFF "proxy.websockets-off" 4 "[+]" "D"
        title "WebSockets are switched off at the CDN or load balancer."
        cause "The service refuses upgrades until they are allowed for the site, or the plan does not have them."
        proof "The handshake fails with the CDN's header in the answer and works against the origin (`tidegate \
            doctor URL --resolve HOST:443:ADDRESS`)."
        client "HTTP 4xx from the CDN; a browser shows only close code 1006."
        fix "Switch WebSockets on in the settings of the CDN or load balancer (for example under Network), or let \
            this host name bypass it.";
    PROXY_BOT_PROTECTION "proxy.bot-protection" 4 "[+]" "D"
        title "A CDN or firewall blocks or challenges the client."
        cause "Rules against bots answer with a challenge page that a WebSocket client cannot solve."
        proof "403, 429 or 503 with a challenge page and the header of the CDN."
        client "HTTP 403 from the CDN; a browser shows only close code 1006."
        fix "Exempt the path of the WebSocket from challenges and managed rules, and limit attempts in the \
            gateway instead (`attempts.per_address`).";
    PROXY_H2_ONLY "proxy.h2-only" 4 "[+]" "D"
        title "The TLS endpoint speaks HTTP/2 only and has no WebSockets on it."
        cause "The negotiation of protocols chose HTTP/2, the server does not offer WebSockets there (RFC 8441), \
            and HTTP/1.1 is refused."
        proof "ALPN selected `h2`, the setting for extended CONNECT is absent, and `http/1.1` was refused."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006."
        fix "Let the endpoint offer `http/1.1` beside `h2` for this host name, or switch on WebSockets over \
            HTTP/2.";
    PROXY_H2_UPSTREAM "proxy.h2-upstream" 4 "[+]" "G D"
        title "A proxy speaks HTTP/2 to the gateway for WebSockets."
        cause "The proxy uses HTTP/2 towards what is behind it, where the classic upgrade does not exist."
        proof "An HTTP/2 preface, or a request of HTTP/2 with `Upgrade`, at the listener."
        client "HTTP 502 from the proxy; a browser shows only close code 1006."
        fix "Use HTTP/1.1 towards the gateway for this path: in nginx `proxy_http_version 1.1;`, in Envoy an \
            upgrade of type `websocket` with HTTP/1 for the cluster, in an AWS target group protocol version \
            HTTP1.";
    PROXY_PORT_80_FILTER "proxy.port-80-filter" 4 "[+]" "D"
        title "The network filters WebSockets without TLS."
        cause "A transparent proxy or filter reads traffic of port 80 and does not understand the upgrade."
        proof "A plain upgrade fails or loses headers while the same upgrade over TLS works."
        client "It depends on the filter: HTTP 400 or 426, a hanging attempt, or close code 1006."
        fix "Use `wss://` everywhere: TLS hides the upgrade from such filters.";
    PROXY_INSPECTION "proxy.inspection" 4 "[+]" "D"
        title "Antivirus software or TLS inspection rewrites the stream."
        cause "A program on the client's machine or in its network ends TLS itself and handles frames as ordinary \
            web traffic."
        proof "The issuer of the certificate is not the expected one, and echoed messages return late, short or \
            changed."
        client "Close codes 1002 or 1006 at random times."
        fix "Exempt the host in the antivirus software or inspection proxy, and use `wss://`.";
    PROXY_BUFFERING "proxy.buffering" 4 "[+]" "D"
        title "Something in between holds messages back."
        cause "A proxy collects bytes before it passes them on, as it does with ordinary answers."
        proof "Echoed messages take far longer than the TCP round trip, and several arrive at once."
        client "Messages arrive late and in groups."
        fix "Switch buffering off for the path: in nginx `proxy_buffering off;`, at a CDN the streaming or \
            WebSocket mode.";
    PROXY_DEFLATE_BROKEN "proxy.deflate-broken" 4 "[+]" "D L"
        title "Compression is negotiated by one side only."
        cause "Something changes `Sec-WebSocket-Extensions` in the request or in the answer, so that one side \
            sends compressed frames that the other does not expect."
        proof "The connection works without `permessage-deflate` and fails with it."
        client "Close code 1002 or 1006, with texts such as `Invalid frame header` or `RSV1 must be clear`."
        fix "Pass `Sec-WebSocket-Extensions` through unchanged in both directions. Until then set \
            `data_plane.compression = \"off\"`.";
    PROXY_INJECTED_BYTES "proxy.injected-bytes" 4 "[+]" "D L"
        title "An HTTP answer was written into the open WebSocket."
        cause "A proxy or a second handler answered on a connection that was already upgraded, for example with \
            an error page."
        proof "The first bytes after the 101 are `HTTP/1.`."
        client "Close code 1002 or 1006, with texts such as `Invalid frame header`."
        fix "Make sure that one handler alone serves the path and port; look for error pages and health checks \
            that the proxy writes into open connections.";
    PROXY_HOST_REWRITTEN "proxy.host-rewritten" 4 "[0]" "G C"
        title "A proxy replaced the Host header."
        cause "The proxy sends its own name for the gateway, so that API and domain cannot be found by the host."
        proof "`Host` is an internal name and `X-Forwarded-Host` has another one."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Pass the host on: in nginx `proxy_set_header Host $host;`, in Apache `ProxyPreserveHost On`. For \
            signed management calls list the names in `sigv4.allowed_hosts`.";
    PROXY_FORWARDED_MISSING "proxy.forwarded-missing" 4 "[0]" "G C"
        title "The proxy in front sends no X-Forwarded-For."
        cause "Without `X-Forwarded-For` and `X-Forwarded-Proto` the gateway takes the proxy's address and scheme \
            for the client's."
        proof "All peers are private addresses and the header is absent."
        client "Connections open; address and scheme are wrong for the backend, in logs and in limits."
        fix "In nginx: `proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header \
            X-Forwarded-Proto $scheme;`, and name the proxy in `trusted_proxies`.";
    PROXY_CLIENT_IP_COLLAPSED "proxy.client-ip-collapsed" 4 "[+][s]" "G C"
        title "All clients seem to have one address."
        cause "The proxy is not in `trusted_proxies`, or the entry that it adds cannot be read as an address, for \
            example because it has a port. Limits per address then count everybody together."
        proof "One peer address carries many users, and `trusted_proxies` does not name it."
        client "HTTP 429 for clients that did nothing wrong; a browser shows only close code 1006."
        fix "Set `trusted_proxies = [\"10.0.0.0/8\"]` with the networks of your proxies, and let them add bare \
            addresses to `X-Forwarded-For`.";
    PROXY_FORWARDED_SPOOFED "proxy.forwarded-spoofed" 4 "[+]" "G C"
        title "A peer that is not a trusted proxy sent X-Forwarded-For."
        cause "Either a real proxy is missing from the list, or a client made the header up."
        proof "The header is there, and the peer is not in `trusted_proxies`."
        client "Nothing: the header is ignored."
        fix "If the peer is your proxy, add it to `trusted_proxies`. If it is not, nothing needs to be done.";

    // Symptom 5.
    BYPASS_NOT_THE_GATEWAY "bypass.not-the-gateway" 5 "[0]" "D"
        title "Something else than the gateway answers at this address."
        cause "DNS record, proxy rule or address of the client still lead to the application that answered \
            before."
        proof "The answer has no header of the gateway, and the probe address is answered by something else. The \
            journal has no entry."
        client "Whatever that server answers; a browser shows close code 1006."
        fix "Point the DNS record, the proxy's rule or the client's address to the gateway. `tidegate doctor URL` \
            names the server that answered.";
    BYPASS_WSGI "bypass.wsgi" 5 "[+]" "D"
        title "Django under a WSGI server answers, which has no WebSockets."
        cause "The handshake reaches the application directly, and WSGI treats it as a request of a page."
        proof "404 with an HTML page for the upgrade, from a server that serves pages at the same address."
        client "The handshake is answered with HTTP 404; a browser shows only close code 1006."
        fix "Point clients at the gateway. If the application itself is to serve WebSockets, run it under ASGI \
            (`uvicorn`, `daphne`).";
    BYPASS_NO_WS_LIBRARY "bypass.no-ws-library" 5 "[+]" "D"
        title "An application server without a WebSocket library answers."
        cause "The handshake reaches the application directly, and its ASGI server was installed without support \
            for WebSockets."
        proof "404, 400 or 426 for upgrades while ordinary requests work."
        client "The handshake is answered with HTTP 404; a browser shows only close code 1006."
        fix "Point clients at the gateway. For the server itself: `pip install 'uvicorn[standard]'`.";
    BYPASS_UNKNOWN_ROUTE_403 "bypass.unknown-route-403" 5 "[3][+]" "D"
        title "A FastAPI or Starlette application answers 403 because it has no such path."
        cause "The handshake reaches the application directly, and these frameworks refuse unknown WebSocket \
            paths with 403 instead of 404."
        proof "403 with an empty body, for a random path at the same address too."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Check path and prefix rather than the token, and point clients at the gateway.";
    BYPASS_NO_ROUTE_500 "bypass.no-route-500" 5 "[+]" "D"
        title "A Channels application fails because it has no such path."
        cause "The handshake reaches the application directly, and no pattern of its `URLRouter` fits, often \
            because of a slash."
        proof "500 for a random path at the same address too; the application's log has `No route found for \
            path`."
        client "The handshake is answered with HTTP 500; a browser shows only close code 1006."
        fix "Point clients at the gateway. In the application compare the slash at the end of the pattern with \
            the address.";
    BYPASS_CLOSE_BEFORE_ACCEPT "bypass.close-before-accept" 5 "[2][3][+]" "D L"
        title "The application refuses before it accepts, so its close code is lost."
        cause "A close before the accept is sent as an HTTP refusal, which has neither code nor reason."
        proof "403 with an empty body where a close code was expected."
        client "HTTP 403; a browser shows close code 1006 and an empty reason, not the code of the application."
        fix "Accept first and close then if clients must see the code, or expect 403. In the gateway, \
            `connect.reject_as_close = true` shows the status as 4000 + status.";
    BYPASS_ORIGIN_VALIDATOR "bypass.origin-validator" 5 "[+]" "D"
        title "The application's own origin check refuses the page."
        cause "`AllowedHostsOriginValidator` or a similar check refuses without a message when the page's host is \
            not on its list."
        proof "A 403 that disappears when the probe sends the origin of the page (`--origin`)."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Add the page's host to `ALLOWED_HOSTS` or to the validator's list, or let the gateway check origins \
            with `admission.origins`.";
    APP_DEPENDENCY_INJECTION "app.dependency-injection" 5 "[3][+]" "D"
        title "The application's handler fails on WebSockets because of a dependency made for HTTP."
        cause "Security classes for HTTP need a request object that older frameworks do not have on WebSocket \
            routes, or a query parameter was not declared and is never read."
        proof "500 or close code 1006 with and without a token; it works once the dependency is removed."
        client "HTTP 500, or close code 1006."
        fix "Read the token from the query or a header in the handler itself, and declare each parameter (`token: \
            str = Query()`).";

    // Symptom 6.
    BROWSER_MIXED_CONTENT "browser.mixed-content" 6 "[3][+]" "D L"
        title "A page loaded by HTTPS tries to open `ws://`."
        cause "Browsers do not let secure pages open connections without TLS."
        proof "The page's address begins with `https` and the WebSocket's with `ws://` (`tidegate doctor URL \
            --page PAGE`)."
        client "The browser raises a security error and sends nothing."
        fix "Use `wss://`, and give the gateway TLS (`[tls]`) or a proxy in front that ends it.";
    BROWSER_CSP "browser.csp" 6 "[+]" "D L"
        title "The page's content security policy does not permit the WebSocket host."
        cause "`connect-src` does not list the host. Older browsers do not count WebSockets as part of `'self'`."
        proof "The policy that the page is served with, read by `tidegate doctor URL --page PAGE`."
        client "The browser says `Refused to connect ... Content Security Policy` and sends nothing."
        fix "Add the host to the policy: `connect-src 'self' wss://ws.example.com`.";
    BROWSER_HEADERS_UNSUPPORTED "browser.headers-unsupported" 6 "[3][+]" "L (G)"
        title "The page tries to send headers with the WebSocket, which browsers do not offer."
        cause "The second argument of `new WebSocket(url, ...)` is a list of subprotocols and not of headers."
        proof "The constructor raised an error; or attempts arrive with neither token nor the expected header."
        client "An error of the constructor (`The subprotocol '[object Object]' is invalid`), or HTTP 403."
        fix "Send the token in the query (`?ws_token=`), as the subprotocol pair `[\"tidegate.bearer\", TOKEN]`, \
            or as a cookie of the same site.";
    BROWSER_SOCKET_LIMIT "browser.socket-limit" 6 "[+]" "L (G)"
        title "The browser has no more room for WebSockets."
        cause "A browser opens about 255 WebSockets in all, fewer for one host; sockets that are never closed use \
            them up."
        proof "The construction failed; the closest sign at the gateway is more than 200 connections of one \
            address and user agent."
        client "The browser says `Insufficient resources` and sends nothing."
        fix "Open one connection for each page, close it when it is no longer needed, and share it between tabs \
            with a `SharedWorker`.";
    BROWSER_DOUBLE_MOUNT "browser.double-mount" 6 "[+]" "G L"
        title "The page opened two connections and dropped the first."
        cause "During development React's strict mode mounts components twice, and the first socket is closed \
            before it is open."
        proof "Two handshakes of one user within 100 ms, the first of which the client closed just before or \
            after it opened."
        client "Close code 1006 for the first connection and `WebSocket is closed before the connection is \
            established`; a one-time token may be used up."
        fix "Close the socket in the clean-up function of the effect, and fetch a new token for each attempt. \
            Built pages do not do this.";

    // Symptom 7.
    SUBPROTOCOL_NOT_CONFIRMED "subprotocol.not-confirmed" 7 "[+]" "G D L"
        title "The client offered subprotocols and `$connect` chose none."
        cause "Browsers end a connection when they offered subprotocols and the answer names none of them."
        proof "The offer was recorded, the answer 101 had no `Sec-WebSocket-Protocol`, and the client left within \
            a second."
        client "Close code 1006 in browsers, with `Sent non-empty 'Sec-WebSocket-Protocol' header but no response \
            was received`."
        fix "Return one of the offered names in the header `Sec-WebSocket-Protocol` of the answer to `$connect`, \
            list the names in `api.subprotocols` where there is no `$connect` route, or offer none in the client.";
    SUBPROTOCOL_NOT_OFFERED "subprotocol.not-offered" 7 "[g]" "G"
        title "The backend chose a subprotocol that the client did not offer."
        cause "The name in the answer to `$connect` differs from all the names in the request; upper and lower \
            case count."
        proof "Both lists: what was offered and what was chosen."
        client "The header is left out, so a browser that offered names ends the connection with 1006."
        fix "Return one of the names in the request's `Sec-WebSocket-Protocol`, spelled as there.";
    SUBPROTOCOL_SEVERAL "subprotocol.several" 7 "[g]" "G"
        title "The backend returned a list of subprotocols."
        cause "The answer to `$connect` repeats the whole offer. A server has to choose one name."
        proof "The header of the answer has several names with commas between them."
        client "The first of the names that was offered is used."
        fix "Return one name in `Sec-WebSocket-Protocol`.";
    SUBPROTOCOL_NULL "subprotocol.null" 7 "[+]" "G"
        title "The client offers a subprotocol called `null` or `undefined`."
        cause "The second argument of `new WebSocket(url, protocols)` was null or an object, which becomes text."
        proof "The offer is exactly `null`, `undefined` or `[object Object]`."
        client "Close code 1006 in browsers, because nobody confirms that name."
        fix "Pass `[]` or leave the second argument out when there is no subprotocol.";
    SUBPROTOCOL_TOKEN "subprotocol.token" 7 "[+]" "G"
        title "A token was sent as a subprotocol and not answered."
        cause "Browsers expect one of the offered names in the answer, and a bare token is a name that the answer \
            should not repeat."
        proof "One of the offered items has the form of a token; its value is not kept."
        client "Close code 1006 in browsers."
        fix "Offer the pair `[\"tidegate.bearer\", TOKEN]`: the gateway reads the token and answers \
            `tidegate.bearer`.";
}

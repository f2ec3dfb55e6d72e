//! Causes: opening the connection.

causes! {
    // Symptom 1.
    HANDSHAKE_HTTPS_SCHEME "handshake.https-scheme" 1 "[0]" "D L (G)"
        title "The address begins with `https://` instead of `wss://`."
        cause "The address of a page or an API was used for the WebSocket. Some libraries refuse the scheme, \
            others ask for an ordinary page at that address."
        proof "The address that was given to doctor or to the client library. At the gateway: a GET on a \
            WebSocket path without `Sec-WebSocket-Key`."
        client "Libraries that refuse the scheme raise an error before anything is sent; newer browsers convert \
            the scheme silently; opened as a page, the address answers 426."
        fix "Write `wss://` where the address has `https://`, and `ws://` where it has `http://`. In a page: \
            `location.protocol === \"https:\" ? \"wss://\" : \"ws://\"`.";
    HANDSHAKE_PLAIN_ON_TLS "handshake.plain-on-tls" 1 "[0][3]" "G D"
        title "A plain request came to a TLS port."
        cause "The address begins with `ws://` or `http://` and names the port of the TLS listener, so the first \
            bytes were no TLS handshake."
        proof "The first bytes at the TLS listener were an HTTP request line."
        client "HTTP 400 in clear text; a browser shows only close code 1006."
        fix "Begin the address with `wss://`. If plain text is meant, use the port of `listen` instead of the one \
            of `tls.listen`.";
    HANDSHAKE_TLS_ON_PLAIN "handshake.tls-on-plain" 1 "[3]" "G D"
        title "A TLS handshake came to a port without TLS."
        cause "The address begins with `wss://`, but the port that it names speaks plain text."
        proof "The first bytes at the plain listener were a TLS ClientHello."
        client "A TLS error such as `wrong version number` or `ERR_SSL_PROTOCOL_ERROR`; a browser shows close \
            code 1006."
        fix "Name the port of the TLS proxy or of `tls.listen` in the address. Without TLS, for example during \
            development, use `ws://`. For TLS in the gateway set `tls.listen`, `tls.certificate` and `tls.key`.";
    HANDSHAKE_WRONG_PATH "handshake.wrong-path" 1 "[0][3]" "G D"
        title "The path belongs to no API, stage or mapping."
        cause "The host is right, but the path leads to nothing: a spelling error, a stage that is called \
            otherwise, or a segment too many."
        proof "Host and path as they arrived, and the nearest path that exists (`nearest`)."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. Some mounts answer \
            404."
        fix "Use the path that `tidegate apis ls` prints. If the handshake may have further segments behind the \
            stage, set `data_plane.extra_path = \"ignore\"`.";
    PATH_DOUBLE_PREFIX "path.double-prefix" 1 "[3]" "G D"
        title "The path has a part twice, such as `/api/api/`."
        cause "Two places add the same prefix, for example a base URL in the client and a rule of the proxy."
        proof "The path without the repeated segment is one that exists."
        client "The handshake is answered with HTTP 404; a browser shows only close code 1006."
        fix "Keep the prefix in one place only. In nginx, `proxy_pass http://gateway/;` with a slash at its end \
            replaces the prefix of the location; without the slash it keeps it.";
    PATH_MISSING_STAGE "path.missing-stage" 1 "[0]" "G D"
        title "The stage is missing from the path."
        cause "The address ends with the host of the API. Without a custom domain the first segment of the path \
            names the stage."
        proof "The path was empty on the host of an API."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Append the stage, for example `wss://HOST/prod`. To have addresses without a stage, create a domain \
            name and an API mapping.";
    HANDSHAKE_BAD_URL_SYNTAX "handshake.bad-url-syntax" 1 "[3]" "L D (G)"
        title "The address has a fragment, is relative, or was built from an undefined value."
        cause "A variable was not set when the address was put together, or a part such as `#...` is not \
            permitted in WebSocket addresses."
        proof "The constructor's error in the client; at the gateway `undefined`, `null`, `${` or `[object \
            Object]` in path or query names."
        client "An error of the constructor, or HTTP 403 or 404, which a browser shows as close code 1006."
        fix "Build the address from one setting and print it once, without the token, before it is used. Remove \
            everything from `#` on.";
    HANDSHAKE_HARDCODED_HOST "handshake.hardcoded-host" 1 "[3]" "-"
        title "The client still connects to a development address such as `localhost`."
        cause "The address is fixed in the code or in a build that was made for another environment, so the \
            attempt never leaves the client's machine."
        proof "Nothing arrives at the gateway. The closest sign: pages are loaded and no handshake follows from \
            the same client; the browser's console shows the address that it tried."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006."
        fix "Look at the address in the browser's console or network tab. Derive host and scheme from the page \
            (`location.host`) or from a setting that each environment has, and build again.";
    HANDSHAKE_MALFORMED "handshake.malformed" 1 "[3]" "G D"
        title "The upgrade request has no key, a bad key or another version than 13."
        cause "The request was not made by a current WebSocket client, or something on the way changed its \
            `Sec-WebSocket-*` headers."
        proof "Which of the headers were there and which were not well-formed (`keyPresent`, `version`)."
        client "HTTP 400, or 426 with `Sec-WebSocket-Version: 13` for another version; a browser shows only close \
            code 1006."
        fix "Use a client that speaks RFC 6455. If it does, run `tidegate doctor URL` through the same proxies: \
            it shows which headers arrive.";
    HANDSHAKE_NOT_WEBSOCKET "handshake.not-websocket" 1 "[g]" "G"
        title "An ordinary HTTP request came to a WebSocket address."
        cause "A health check, a crawler, a browser tab or an HTTP client asked the address as if it were a page."
        proof "A GET without any `Sec-WebSocket-*` header."
        client "HTTP 426 with the address to use in the body."
        fix "Point health checks at `/healthz` of the admin listener. Programs need a WebSocket client: try \
            `tidegate connect URL`.";
    HANDSHAKE_URL_TOO_LONG "handshake.url-too-long" 1 "[+]" "G D"
        title "The address or the headers are longer than is accepted."
        cause "Usually a long token in the query, or many and large cookies of the parent domain."
        proof "The length that arrived (`urlLength`, `headBytes`). Outside of the gateway: 400, 413, 414 or 431 \
            with the `Server` header of whoever answered."
        client "HTTP 414 or 431; a browser shows only close code 1006."
        fix "Shorten the token or send it in a header or as the subprotocol pair `tidegate.bearer, TOKEN`; remove \
            cookies that the host does not need. The gateway takes 4096 characters of address and 16 KB of \
            headers. For a proxy raise its buffer, in nginx `large_client_header_buffers 4 16k;`.";
    CLIENT_SOCKETIO "client.socketio" 1 "[+]" "G D"
        title "A Socket.IO client talks to a plain WebSocket address."
        cause "Socket.IO is a protocol of its own on top of HTTP and WebSocket and needs a Socket.IO server."
        proof "The query has `EIO` and `transport`, or the path is `/socket.io/`."
        client "HTTP 400; where it gets through, the connection opens and the client reconnects again and again."
        fix "Use the browser's `WebSocket` or a plain library such as `ws` or `websockets` in place of Socket.IO.";
    CLIENT_OTHER_PROTOCOL "client.other-protocol" 1 "[+]" "G"
        title "The client speaks SockJS, SignalR or a similar protocol."
        cause "Such clients negotiate first and wrap each message, which only their own servers understand."
        proof "The path ends with `/info` or `/negotiate`, or the first message is that protocol's handshake."
        client "HTTP 403 or 404, or the connection opens and each message goes to `$default`."
        fix "Use a plain WebSocket client. For SignalR alone: `skipNegotiation` does not help, the messages stay \
            wrapped.";
    HANDSHAKE_CLIENT_GAVE_UP "handshake.client-gave-up" 1 "[g]" "G"
        title "The client left while `$connect` was running."
        cause "The backend took longer to answer `$connect` than the client, or a proxy in between, was ready to \
            wait."
        proof "The TCP connection ended before the handshake was answered, and the time that had passed."
        client "The client's own timeout; it never sees an answer."
        fix "Answer `$connect` faster: do slow work after the answer. Raise the client's limit, for example \
            `open_timeout` of Python `websockets` or `handshakeTimeout` of `ws`, and the proxy's \
            `proxy_read_timeout`.";
    HANDSHAKE_SERVER_DOWN "handshake.server-down" 1 "[3]" "D"
        title "The gateway does not run, or does not listen there."
        cause "The process is stopped, still starting, or bound to another address or port."
        proof "The TCP connection was refused, and `/readyz` of the admin listener cannot be reached either."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006."
        fix "Start it, and compare `listen` with the address: `127.0.0.1` is reachable from the same machine or \
            container only. `tidegate config` prints what counts.";

    // Symptom 2.
    DNS_NO_RECORD "dns.no-record" 2 "[0]" "D"
        title "The host name does not resolve."
        cause "There is no DNS record for the name, or the name has a spelling error."
        proof "Two resolvers answered that the name does not exist, or with no address."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006. \
            Texts: `ERR_NAME_NOT_RESOLVED`, `ENOTFOUND`, `Name or service not known`."
        fix "Check the spelling, then create an A, AAAA or CNAME record for the name that leads to the gateway or \
            to the proxy in front of it.";
    DNS_WRONG_TARGET "dns.wrong-target" 2 "[0]" "D C"
        title "The name points elsewhere than to this gateway."
        cause "The DNS record still leads to another server, for example to the application that answered before."
        proof "The addresses differ from the target of the domain, and what answers there has no probe address or \
            belongs to another installation."
        client "Whatever that server answers, often 404 or 502; a browser shows only close code 1006."
        fix "Change the record so that it leads to the gateway or its proxy. `tidegate doctor URL` prints the \
            addresses it found.";
    DNS_STALE "dns.stale" 2 "[g]" "D"
        title "Some resolvers still give the old address."
        cause "The record was changed and caches keep the old answer until its lifetime (TTL) is over."
        proof "The authoritative server and the local resolver answer differently; the TTL that is left."
        client "It depends on which address a client was given: some connect, others fail."
        fix "Wait until the TTL is over. Before the next change lower the TTL a day ahead, and keep the old \
            address answering meanwhile.";
    NET_REFUSED "net.refused" 2 "[3]" "D"
        title "Nothing listens on the port."
        cause "The machine is there, but no process has the port open, or a container does not publish it."
        proof "The connection was refused, with the address and its family."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006. \
            Texts: `ERR_CONNECTION_REFUSED`, `ECONNREFUSED`."
        fix "Check that the process runs and on which address it listens (`ss -ltn`). In a container set `listen \
            = \"0.0.0.0:8080\"` and publish the port (`-p 8080:8080`).";
    NET_TIMEOUT "net.timeout" 2 "[3]" "D"
        title "No answer comes from the address: packets are dropped on the way."
        cause "A firewall or security group does not let the port through, or the address is routed nowhere."
        proof "No address of the name accepted a connection within 5 s, and none refused it."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006. \
            Texts: `ERR_CONNECTION_TIMED_OUT`, `ETIMEDOUT`."
        fix "Open the port in the firewall or security group for the clients' networks, then run `tidegate doctor \
            URL` from the client's side.";
    NET_LOCALHOST_IPV6 "net.localhost-ipv6" 2 "[+]" "D"
        title "`localhost` leads to `::1`, where nothing listens."
        cause "The name `localhost` resolves to the IPv6 address first, and the server is bound to `127.0.0.1` \
            only."
        proof "The connection to `::1` was refused while `127.0.0.1` accepts."
        client "The client reports `ECONNREFUSED ::1`; some clients try the other address by themselves."
        fix "Write `127.0.0.1` in the address, or bind to both, for example with `listen = \"[::]:8080\"`.";
    TLS_EXPIRED "tls.expired" 2 "[0]" "D C"
        title "The certificate has expired."
        cause "It was not renewed in time, or the new one was not loaded: the gateway reads certificates at its \
            start."
        proof "`notAfter` of the served certificate lies in the past (a warning from 21 days before)."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006. \
            Texts: `ERR_CERT_DATE_INVALID`, `certificate has expired`."
        fix "Renew the certificate, restart the process that serves it, and check the job that renews it.";
    TLS_NOT_YET_VALID "tls.not-yet-valid" 2 "[g]" "D C"
        title "The certificate is not valid yet."
        cause "The clock of the client or of the machine that made the certificate is wrong, or the certificate \
            was issued for later."
        proof "`notBefore` of the served certificate against a clock that was compared with the server's `Date`."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006."
        fix "Set the clock (`timedatectl`), or issue the certificate again.";
    TLS_HOSTNAME_MISMATCH "tls.hostname-mismatch" 2 "[0]" "D C"
        title "The certificate does not cover the WebSocket host."
        cause "The certificate was issued for other names, often for the website and not for the name of the \
            WebSocket. A wildcard covers one label only."
        proof "The names in the served certificate, none of which fits."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006. \
            Texts: `ERR_CERT_COMMON_NAME_INVALID`, `Hostname mismatch`."
        fix "Issue a certificate that has exactly this name: `*.example.com` covers `ws.example.com`, but not \
            `a.ws.example.com`.";
    TLS_NOT_ISSUED "tls.not-issued" 2 "[0]" "D C"
        title "A default certificate is served, because the right one is not installed."
        cause "The certificate was requested and not validated, or it was issued and not configured for this \
            name."
        proof "The domain waits for its certificate, or the served certificate is the fallback of whoever \
            answers."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006. \
            The client names a wrong host or an unknown authority."
        fix "Finish the validation (for DNS validation create the CNAME record), then install the certificate \
            with `tls.certificate` and `tls.key`, or in the proxy that ends TLS.";
    TLS_SELF_SIGNED "tls.self-signed" 2 "[+]" "D"
        title "The certificate is not signed by an authority that clients trust."
        cause "It was made locally, or by an authority of your own that the client does not know."
        proof "The served chain ends with a root that is not in the trust store."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006. \
            Browsers offer no way to accept such a certificate for a WebSocket. Texts: \
            `ERR_CERT_AUTHORITY_INVALID`, `self-signed certificate`."
        fix "Install a certificate of a public authority. During development make clients trust the local \
            authority (`tidegate certs`), or open the same address as a page once and accept it there.";
    TLS_INCOMPLETE_CHAIN "tls.incomplete-chain" 2 "[+]" "D C"
        title "The server does not send the intermediate certificate."
        cause "Only the certificate itself is configured. Browsers often fetch or remember the missing one, other \
            programs do not."
        proof "The chain is complete only after the missing certificate was fetched from the address that the \
            certificate names."
        client "Browsers may connect while Node, Python and others fail with `unable to verify the first \
            certificate` or `unable to get local issuer certificate`."
        fix "Serve the full chain: in `tls.certificate` (or nginx `ssl_certificate`) the server's certificate \
            first, then the intermediate ones, as in `fullchain.pem`.";
    TLS_NO_COMMON_VERSION "tls.no-common-version" 2 "[+]" "G D"
        title "Client and server have no TLS version or cipher in common."
        cause "One side is limited to old or to very new versions."
        proof "The alert that ended the TLS handshake, and the versions that were offered."
        client "Nothing reaches the gateway; the client reports a failed connection, a browser close code 1006. \
            Texts: `ERR_SSL_VERSION_OR_CIPHER_MISMATCH`, `handshake failure`."
        fix "Enable TLS 1.2 and 1.3 on both sides, in nginx `ssl_protocols TLSv1.2 TLSv1.3;`. Old clients need an \
            update.";
    TLS_NO_SNI "tls.no-sni" 2 "[g]" "G D"
        title "The client sends no server name and gets the default certificate."
        cause "Old or simple TLS clients leave out the extension SNI, or they connect to a bare address."
        proof "A ClientHello without a server name."
        client "A certificate for another name, and therefore a TLS error."
        fix "Connect by name and with a client that sends SNI, or make the right certificate the default one of \
            the TLS server.";
    CLOCK_CLIENT "clock.client" 2 "[+]" "D L"
        title "The client's clock is so wrong that certificates or tokens seem expired."
        cause "The time of the device was set by hand, or its battery or time service failed."
        proof "The local time differs from the server's `Date` header by more than the round trip explains."
        client "A TLS error, or HTTP 403 because of a token's times."
        fix "Switch on automatic time on the device. For tokens allow a small difference with `jwt.leeway` (at \
            most 300 s).";

    // Symptom 3.
    API_UNKNOWN "api.unknown" 3 "[0]" "G C"
        title "No API has this id."
        cause "The id in host or path belongs to an API that was deleted, to another installation, or has a \
            spelling error."
        proof "The id that arrived, and the ids that differ in one character (`nearest`)."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Take the address from `tidegate apis ls`. If the API is missing there, create it or apply the \
            document again (`tidegate apply FILE`).";
    API_DEFAULT_ENDPOINT_DISABLED "api.default-endpoint-disabled" 3 "[g]" "G C"
        title "The API can be reached by its custom domain only."
        cause "`disableExecuteApiEndpoint` is set on the API, so its generated address is closed."
        proof "The setting of the API, and the host that arrived."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Connect by the custom domain, or set `disableExecuteApiEndpoint` to false.";
    STAGE_UNKNOWN "stage.unknown" 3 "[0]" "G C"
        title "The API has no stage of this name."
        cause "The stage is spelled differently (upper and lower case count), was deleted, or a mapping leads to \
            one that is gone."
        proof "The segment of the path, and the stages that the API has."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Use a stage that `tidegate apis ls` shows, or create the stage and deploy to it.";
    STAGE_NOT_DEPLOYED "stage.not-deployed" 3 "[0][+]" "G C"
        title "The stage has no deployment."
        cause "The stage was created and nothing was deployed to it, so it has no routes to serve."
        proof "The stage has no deployment id."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Deploy: `aws apigatewayv2 create-deployment --api-id ID --stage-name STAGE --endpoint-url \
            ADMIN_URL`, or let `tidegate apply FILE` do it.";
    STAGE_REDEPLOY_NEEDED "stage.redeploy-needed" 3 "[0][+]" "G C"
        title "The API was changed after its last deployment."
        cause "Routes, integrations, authorizers and the selection expression take effect with a deployment. The \
            stage still serves the older state."
        proof "The hash of the deployed state differs from the present definition, with the list of differences."
        client "The behavior from before the change."
        fix "Deploy to the stage again, or set `autoDeploy` on it. `tidegate doctor --api ID` lists what differs.";
    ROUTE_NONE "route.none" 3 "[0]" "G C"
        title "The API has no routes."
        cause "The deployed state has an empty route table: routes were never created, or were created after the \
            deployment."
        proof "The empty route table of the deployed state."
        client "The connection opens, and every message is answered with `Forbidden`."
        fix "Create at least `$default` with an integration, then deploy.";
    ROUTE_CONNECT_MISSING "route.connect-missing" 3 "[0]" "G C"
        title "The API has no `$connect` route."
        cause "Without it no backend checks or records connections; everybody is let in who passes the gateway's \
            own checks."
        proof "The handshake was accepted without a call of an integration."
        client "The connection opens; a backend that expects a record of it fails later."
        fix "If the backend must know connections, create a `$connect` route with an integration and deploy.";
    API_BEING_DELETED "api.being-deleted" 3 "[g]" "G"
        title "The API or stage was deleted."
        cause "Somebody removed it while clients were connected."
        proof "The change, who made it and when."
        client "Close code 1001."
        fix "Nothing, if the deletion was meant. Otherwise apply the document again (`tidegate apply FILE`); \
            clients reconnect by themselves.";

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

    // Symptom 8.
    JWT_MISSING "jwt.missing" 8 "[3]" "G D"
        title "The handshake carries no JSON Web Token."
        cause "The policy of the stage asks for one, and none of the places where it is looked for had any, or it \
            was empty."
        proof "None of the configured places was there: query parameter, `Authorization`, subprotocol pair, \
            cookie."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is missing."
        fix "Pass the token in the query (`?token=`, see `jwt.parameter`), with programs as `Authorization: \
            Bearer TOKEN`, or as the subprotocol pair `tidegate.bearer, TOKEN`.";
    JWT_WRONG_PLACE "jwt.wrong-place" 8 "[3]" "G"
        title "A token is under another name or in a place that is not read."
        cause "The client sends its token where the gateway does not look for it, for example as `access_token` \
            instead of `token`."
        proof "A parameter, header or cookie of another name has the form of a token; the name is recorded."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is missing."
        fix "Use the configured place, or configure the place in use: `jwt.parameter` for the query, `jwt.cookie` \
            for a cookie.";
    JWT_MALFORMED "jwt.malformed" 8 "[3]" "G D"
        title "The token is not three base64url parts."
        cause "Something was added or lost: the word `Bearer ` in the query, quotes around the token, a cut-off \
            end, or encoding twice."
        proof "Which of the parts could not be read, and a prefix or encoding that was recognized."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid."
        fix "Send the bare token and encode it for the URL once (`encodeURIComponent`). Compare its length with \
            the issuer's.";
    JWT_TOO_LONG "jwt.too-long" 8 "[+]" "G"
        title "The token is over 8 KB."
        cause "It has many claims, such as lists of groups or permissions."
        proof "The length of the token."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid."
        fix "Issue a token with fewer claims for the WebSocket, or look groups up in the backend.";
    JWT_AMBIGUOUS "jwt.ambiguous" 8 "[g]" "G"
        title "Two places carry different tokens."
        cause "For example an old cookie beside a new query parameter. The gateway does not guess which one is \
            meant."
        proof "The names of the places."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid."
        fix "Send one token only, or the same one in both places. Delete the cookie that is no longer used.";
    JWT_ALG_NOT_ALLOWED "jwt.alg-not-allowed" 8 "[g]" "G"
        title "The token's algorithm is `none`, or not configured for the key."
        cause "Issuer and gateway were set up differently, or somebody tried a token without a signature."
        proof "The algorithm in the token's header (`alg`)."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid."
        fix "Name the issuer's algorithm at its key: `jwt.keys = [{ jwks_url = \"...\", algorithms = [\"RS256\"] \
            }]`. `none` is never accepted.";
    JWT_UNKNOWN_KEY "jwt.unknown-key" 8 "[g]" "G C"
        title "The token's key id is not among the keys."
        cause "The issuer signs with a key that it has not published, or the gateway reads another key set."
        proof "The key id (`kid`), and when the keys were fetched last."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid."
        fix "Check that `jwks_url` is the one of the issuer and that its key set has this `kid`. A new key is \
            fetched when it is first seen, at most every 30 seconds.";
    JWT_SIGNATURE "jwt.signature" 8 "[3]" "G"
        title "The token was signed with another key than is configured."
        cause "Issuer and gateway do not have the same secret or key pair; if it happens to one client only, the \
            token may be forged."
        proof "Form and times of the token are right and its signature is not; whether all users or only one fail \
            in this way."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid."
        fix "Give both sides the same secret. A line end in a file and quotes in an environment variable belong \
            to a secret on many systems; compare lengths and hashes rather than the secrets.";
    JWT_EXPIRED "jwt.expired" 8 "[3]" "G D"
        title "The token has expired."
        cause "Its time (`exp`) was over when the client connected, for example because a page was open for long \
            or an old token is used again for reconnecting."
        proof "`exp` of the token, the time of the check and the permitted difference (`leeway`)."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token has expired."
        fix "Fetch a fresh token before each attempt, also before each reconnect. If clocks differ a little, \
            raise `jwt.leeway`.";
    JWT_NOT_YET_VALID "jwt.not-yet-valid" 8 "[+]" "G D"
        title "The token is from the future: a clock is off."
        cause "The issuer's clock is ahead of the gateway's, so `nbf` or `iat` has not come yet."
        proof "The difference between the token's times and the gateway's clock; it has the same sign for every \
            token of the issuer."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid yet."
        fix "Synchronize the clocks of issuer and gateway (`timedatectl`, `chronyc tracking`). Up to 300 s can be \
            tolerated with `jwt.leeway`.";
    JWT_ISSUER "jwt.issuer" 8 "[g]" "G"
        title "The token is from another issuer."
        cause "The claim `iss` differs from `jwt.issuer`, often by a slash at the end or by the environment that \
            it names."
        proof "The name of the claim and the value that is configured."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid."
        fix "Set `jwt.issuer` to exactly what the issuer writes, the slash at its end included, or use a token of \
            the right environment.";
    JWT_AUDIENCE "jwt.audience" 8 "[g]" "G"
        title "The token is for another audience."
        cause "The claim `aud` does not have the value of `jwt.audience`: the token was issued for another \
            application."
        proof "The name of the claim and the value that is configured."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token is not valid."
        fix "Ask the issuer for a token with this audience, or set `jwt.audience` to what the tokens have.";
    JWT_CLAIMS_MISSING "jwt.claims-missing" 8 "[3]" "G"
        title "The token lacks a claim that must be there."
        cause "The claim of the user (`claims.user`, normally `sub`) or one of `claims.required` is absent or \
            empty."
        proof "The names of the missing claims."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer says \
            that the token's content is not complete."
        fix "Let the issuer add the claims, or name the ones that it uses in `claims.user` and `claims.required`.";
    JWT_JWKS_UNREACHABLE "jwt.jwks-unreachable" 8 "[g]" "G C"
        title "The key set cannot be fetched."
        cause "The address of the key set does not answer: the issuer is down, the address is wrong, or the \
            gateway has no way out to it."
        proof "The error of the last attempt and the age of the last key set that was fetched."
        client "HTTP 503 once there is no key left; a browser shows only close code 1006. Keys that were fetched \
            before stay in use."
        fix "Fetch the address from the gateway's machine (`curl -v JWKS_URL`), then correct `jwks_url`, DNS or \
            the rule for outgoing traffic. `jwks_file` needs no network.";
    JWT_NO_EXPIRY "jwt.no-expiry" 8 "[3]" "C G"
        title "Tokens that never expire are accepted."
        cause "`require_exp` is off, and tokens without `exp` were let in. Such a token that is lost can be used \
            for ever."
        proof "The number of accepted tokens without `exp`, or the setting."
        client "Nothing: the connection opens."
        fix "Let the issuer add `exp`, then set `jwt.require_exp = true`.";
    AUTH_NOT_CONFIGURED "auth.not-configured" 8 "[3]" "C G"
        title "Clients should prove who they are, but no key is configured."
        cause "The policy asks for tokens and has no key or secret to check them with, so no token can be right."
        proof "The check is switched on and its list of keys is empty."
        client "HTTP 503; a browser shows only close code 1006."
        fix "Add a key: `[jwt] keys = [{ secret_file = \"/run/secrets/jwt\", algorithms = [\"HS256\"] }]`, or \
            take `jwt` out of `admission.checks`.";
    INTERNAL "auth.internal" 8 "[3]" "G"
        title "The gateway failed unexpectedly."
        cause "A fault in the gateway itself, not in the request."
        proof "The request id and the ERROR line of the log that has it."
        client "HTTP 500, or close code 1011 on an open connection."
        fix "Read the log entry of the request id, collect it with `tidegate report ID`, and report it to those \
            who maintain the gateway.";

    // Symptom 9.
    ROLE_INSUFFICIENT "role.insufficient" 9 "[3]" "G"
        title "The role is not among those that may connect here."
        cause "The token is right, and the rules of the stage or channel admit other roles. Upper and lower case \
            count."
        proof "The role of the token and the roles that are allowed; whether they differ by case only."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Give the user the role at the issuer, or add the role to the rule (`channels.rules`, `join = { any = \
            [[\"role:NAME\"]] }`). `tidegate permissions check CHANNEL --role ROLE` tries it.";
    ROLE_DEFAULTED "role.defaulted" 9 "[3]" "G"
        title "The token names no role, so the default role was used, and it may not connect here."
        cause "The claim that `claims.roles` names is missing in the token."
        proof "The claim was absent and `default_role` was applied."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Let the issuer add the claim, point `claims.roles` to where the roles are (`realm_access.roles` is a \
            path), or change `jwt.default_role`.";
    USER_NOT_FOUND "user.not-found" 9 "[3]" "G"
        title "The user of the token does not exist."
        cause "The token is right, and the check of users finds nobody with its `sub`: deleted, not created yet, \
            or looked for in another environment."
        proof "Kind and result of the check, and the user id of the token."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer does \
            not say why."
        fix "Create the user, or correct what the check looks up. Make sure that issuer and check use the same \
            environment.";
    USER_INACTIVE "user.inactive" 9 "[s]" "G"
        title "The user of the token is suspended."
        cause "The user exists and is marked as not active."
        proof "The result of the check."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. The answer does \
            not say why."
        fix "Reactivate the user if that is meant; otherwise nothing needs to be done.";
    USER_CHECK_FAILED "user.check-failed" 9 "[3]" "G C"
        title "Who the user is could not be looked up."
        cause "The database, directory or service behind the check did not answer."
        proof "Class of the error and how long it took."
        client "HTTP 503, or close code 1011 after an accept; clients may try again."
        fix "Restore the service that the check asks; the entry of the request (`tidegate explain REQUEST_ID`) \
            names its target.";
    CHANNEL_UNLISTED "channel.unlisted" 9 "[s]" "G* B"
        title "The channel has no rule, and channels without one are refused."
        cause "`channels.unlisted` refuses names that no rule covers, often because of a spelling error."
        proof "The name and the nearest one that has a rule (`nearest`)."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Correct the name, or add a rule: `[[channels.rules]] match = \"NAME\"` with `join`. `tidegate \
            permissions check NAME` shows which rule applies.";
    CHANNEL_FORBIDDEN "channel.forbidden" 9 "[0][3]" "G* B"
        title "The channel is not allowed for this user."
        cause "A rule covers the channel and does not admit the user, or the backend refuses it."
        proof "The channel and the rule that refused."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. On an open \
            connection the join is refused and the connection stays."
        fix "Ask `tidegate permissions check CHANNEL --user ID` which rule decides, then change the rule, the \
            user's roles or the channel that is asked for.";
    ORIGIN_NOT_ALLOWED "origin.not-allowed" 9 "[0]" "G D"
        title "The origin of the page is not on the list."
        cause "The page that opened the connection is served from another scheme, host or port than \
            `admission.origins` has."
        proof "The `Origin` that arrived and the list."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Add the origin as the browser sends it, without a path: `origins = [\"https://app.example.com\", \
            \"http://localhost:3000\"]`.";

    // Symptom 10.
    AUTHORIZER_IDENTITY_MISSING "authorizer.identity-missing" 10 "[+]" "G C"
        title "The request lacks what the authorizer identifies clients by, so it was not asked."
        cause "A header or query parameter that the authorizer's identity source names was absent."
        proof "The names of the missing sources."
        client "HTTP 401; a browser shows only close code 1006."
        fix "Send it (browsers: in the query), or correct the identity source, for example \
            `route.request.querystring.token`, and deploy.";
    AUTHORIZER_DENIED "authorizer.denied" 10 "[g]" "G"
        title "The authorizer denied the connection."
        cause "It was asked and answered with a policy that denies."
        proof "Effect and principal of the policy."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Check the rule in the authorizer; its log has the reason.";
    AUTHORIZER_RESOURCE_MISMATCH "authorizer.resource-mismatch" 10 "[+]" "G"
        title "The authorizer allows another resource than the one that was asked for."
        cause "The policy has an ARN of another API, stage or route, often because a cached policy names one \
            route only."
        proof "The resource in the statement and the ARN of the request."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Return the `methodArn` of the event as `Resource`, or a pattern that covers `STAGE/$connect`.";
    AUTHORIZER_BAD_ANSWER "authorizer.bad-answer" 10 "[+]" "G"
        title "The authorizer's answer is not a policy."
        cause "It returned something else, for example a status code, or more than 8 KB."
        proof "Form and length of the answer."
        client "The handshake is answered with HTTP 500; a browser shows only close code 1006."
        fix "Return `principalId` and `policyDocument`. For 401 raise an error with the text `Unauthorized`.";
    AUTHORIZER_UNSUPPORTED "authorizer.failed" 10 "[g]" "G C"
        title "The authorizer could not be asked."
        cause "It is unreachable, raised another error than `Unauthorized`, took longer than `authorizer.timeout_ms`, \
            or is of a kind that the gateway cannot call."
        proof "Class of the error and how long it took."
        client "The handshake is answered with HTTP 500; a browser shows only close code 1006."
        fix "Check that the authorizer runs and that the gateway reaches it; `tidegate doctor --api ID` tries it. \
            To decide without one use the checks of a policy (`admission.checks`).";
    AUTHORIZER_WRONG_ROUTE "authorizer.wrong-route" 10 "[+]" "C"
        title "An authorizer on another route than `$connect` has no effect."
        cause "Clients are authorized once, when they connect. Authorizers of other routes are never asked."
        proof "The route table."
        client "Nothing: messages are handled without it."
        fix "Attach the authorizer to `$connect` and deploy. For rights of single messages check in the backend, \
            or use the rules of channels.";
    IAM_CONNECT_UNSIGNED "iam.connect-unsigned" 10 "[g]" "G"
        title "The route wants a signed handshake."
        cause "`$connect` has the authorization type `AWS_IAM`, and the handshake has no signature or a wrong \
            one."
        proof "Which part of the signature was missing or wrong."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Sign the address of the handshake with Signature Version 4 for the service `execute-api`, or set \
            another authorization type on `$connect` and deploy.";
    APIKEY_MISSING "apikey.missing" 10 "[+]" "G C"
        title "The stage wants an API key and the handshake has none."
        cause "`api_key` is among the checks, or the route requires a key, and the header `x-api-key` was absent."
        proof "Where a key was looked for."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Send the header `x-api-key`. Browsers cannot: give them one-time tokens (`connect_tokens`) instead.";

    // Symptom 11.
    TOKENREQ_ANONYMOUS "tokenreq.anonymous" 11 "[0]" "G* D L"
        title "Whoever asked for a token is not logged in."
        cause "The request had no session, or a session without a user, so there is nobody to issue a token for."
        proof "The session was absent or had no user; backends say `Authentication required`."
        client "The token request gets 403."
        fix "Log in before the page asks for a token, and send the request with the session cookie (`credentials: \
            \"same-origin\"` or `\"include\"`).";
    TOKENREQ_CSRF_MISSING "tokenreq.csrf-missing" 11 "[0]" "G* D L"
        title "The token request has no CSRF header."
        cause "The page did not send `X-CSRFToken`, which the site demands for POST requests."
        proof "The name of the header is absent from the request."
        client "The token request gets 403."
        fix "Read the cookie `csrftoken` and send its value: `headers: {\"X-CSRFToken\": value}`.";
    TOKENREQ_CSRF_INVALID "tokenreq.csrf-invalid" 11 "[0]" "G* D"
        title "The CSRF header of the token request does not match the cookie."
        cause "The page keeps an older value; the cookie changes at login."
        proof "Header and cookie are both there and differ."
        client "The token request gets 403."
        fix "Read the cookie `csrftoken` at each request instead of keeping its value.";
    TOKENREQ_CSRF_COOKIE "tokenreq.csrf-cookie" 11 "[0]" "D L"
        title "The CSRF cookie does not reach the page or the request."
        cause "Its `Domain` or `SameSite` attribute keeps it from the page's host or from requests across sites."
        proof "The attributes of the cookie against the hosts of page and token endpoint."
        client "The token request gets 403."
        fix "Set `CSRF_COOKIE_DOMAIN` and `CSRF_COOKIE_SAMESITE` like the session cookie's, and across sites \
            `CSRF_COOKIE_SECURE = True` with `SameSite=None`.";
    TOKENREQ_CSRF_ORIGIN "tokenreq.csrf-origin" 11 "[0][+]" "D L"
        title "The site does not trust the origin of the page that asks for a token."
        cause "The page's origin is not in the site's list, or the site believes to be served by http because the \
            proxy does not pass the scheme on."
        proof "The refusal names the origin check (`Origin checking failed`)."
        client "The token request gets 403."
        fix "Add the origin to `CSRF_TRUSTED_ORIGINS`, with its scheme. Behind a proxy pass `X-Forwarded-Proto` \
            on and set `SECURE_PROXY_SSL_HEADER`.";
    TOKENREQ_NO_SESSION_COOKIE "tokenreq.no-session-cookie" 11 "[0]" "G* D L"
        title "The browser has no session cookie for the token endpoint."
        cause "The user never logged in at this site, or the cookie belongs to another host."
        proof "The name of the session cookie is absent although the request sends cookies."
        client "The token request gets 403."
        fix "Log in at the site of the token endpoint, or set `SESSION_COOKIE_DOMAIN` to the common parent \
            domain.";
    TOKENREQ_COOKIES_NOT_SENT "tokenreq.cookies-not-sent" 11 "[0]" "L (G*)"
        title "The page asks for a token without sending its cookies."
        cause "`fetch` sends no cookies to other sites unless told to, and none at all with `credentials: \
            \"omit\"`."
        proof "The option in the client; at the token endpoint no cookie at all arrives from a browser that has \
            one elsewhere."
        client "The token request gets 403."
        fix "Use `fetch(url, {method: \"POST\", credentials: \"same-origin\"})`, or `\"include\"` across sites, \
            where the endpoint must permit it (`endpoint.origins`).";
    TOKENREQ_RATE_LIMITED "tokenreq.rate-limited" 11 "[0]" "G* D L"
        title "A user asked for too many tokens in a minute."
        cause "The page asks for a token more often than it connects, or reconnects in a loop."
        proof "The counter of the user, or the answer `Rate limit exceeded`."
        client "The token request gets 403 from a Django backend and 429 from the gateway."
        fix "Ask for a token right before connecting and wait between attempts. If the use is legitimate raise \
            `connect_tokens.per_minute`.";
    TOKENREQ_WRONG_URL "tokenreq.wrong-url" 11 "[0]" "D L"
        title "The address of the token endpoint is wrong."
        cause "Nothing is there, or a page of the site answers in its place."
        proof "404, or HTML instead of JSON."
        client "The token request gets 404, or a page."
        fix "Correct the address in the client. The gateway's own endpoint is `POST {stage}/@token`.";

    // Symptom 12.
    TOKEN_MISSING "token.missing" 12 "[0]" "G"
        title "The handshake carries no one-time token."
        cause "The policy or the backend asks for one, and the parameter is not in the address."
        proof "The name of the parameter (`ws_token`) is absent; from a Django backend also its answer."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Fetch a token right before connecting and add it: `wss://HOST/STAGE?ws_token=TOKEN` (see \
            `connect_tokens.parameter`).";
    TOKEN_EXPIRED "token.expired" 12 "[0]" "G* (B)"
        title "The one-time token is too old."
        cause "The page waited too long between fetching the token and connecting."
        proof "Time of issue and age of the token. For tokens of the backend, it is only likely: refused, and the \
            same token was never seen before."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Fetch the token immediately before connecting. If clients are slow raise `connect_tokens.lifetime` \
            (5 to 300 s).";
    TOKEN_REUSED "token.reused" 12 "[0]" "G B"
        title "The one-time token was used before."
        cause "A token opens one connection. A second attempt with the same one is refused."
        proof "The token's fingerprint was seen in an earlier attempt, with its time and outcome."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Fetch a new token for each attempt, also after one that failed.";
    TOKEN_REUSED_ON_RECONNECT "token.reused-on-reconnect" 12 "[0]" "G L"
        title "A reconnect used the token of the connection before it."
        cause "The client keeps the address with the token and opens it again, as most reconnecting libraries do."
        proof "The same fingerprint, and the earlier connection with it had opened and closed."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Build the address anew for each attempt, for example with a function as the URL of \
            `reconnecting-websocket` that fetches a token first.";
    TOKEN_SESSION_CHANGED "token.session-changed" 12 "[0]" "G* (B)"
        title "The session changed between the token's issue and the connection."
        cause "Logging in gives the browser a new session cookie, and the token is bound to the one before."
        proof "The hash of the session cookie differs. For tokens of the backend, it is only likely: the token is \
            fresh and unused, and the cookie is there."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Fetch the token after the login has finished, and again after each login.";
    TOKEN_OTHER_BROWSER "token.other-browser" 12 "[0]" "G* (G)"
        title "The token is used by another browser than the one that fetched it."
        cause "It was copied, passed on by a server, or the page runs in another context without the same \
            cookies."
        proof "The hash of the session is unknown; user agent or address differ from those of the token request."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Let the page that connects fetch its own token. For tokens that a server passes on leave out the \
            bindings (`session_cookie`, `origin`, `address`).";
    TOKEN_SESSION_MISSING "token.session-missing" 12 "[0]" "G B"
        title "The session cookie that the token is bound to does not arrive."
        cause "The cookie belongs to another host than the WebSocket's, or the browser keeps it back."
        proof "The names of the cookies that arrived; Django backends say `Invalid session`."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Let the session cookie cover the WebSocket host: same parent domain, `SESSION_COOKIE_DOMAIN = \
            \".example.com\"`, and `wss://` if it is `Secure`.";
    TOKEN_ORIGIN_MISMATCH "token.origin-mismatch" 12 "[g]" "G*"
        title "The token was issued for another place than it is used at."
        cause "It is bound to an origin, address, API or stage, and that is another one now."
        proof "Which of the bindings differs."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006."
        fix "Fetch the token where it is used, for the same API and stage; bind it to the page's own origin or \
            not at all.";
    TOKEN_UNKNOWN "token.unknown" 12 "[0]" "G* (B)"
        title "The one-time token was never issued here, or was changed on the way."
        cause "It comes from another installation or environment, was encoded twice, cut off, or removed when its \
            session ended."
        proof "The store has no such token; length or characters may be wrong."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Encode the token for the URL once, and make sure that the side that issues it and the side that \
            checks it use the same store and environment.";
    TOKEN_CLOCK "token.clock" 12 "[g]" "G* D"
        title "The hosts that issue and check tokens disagree about the time."
        cause "A fresh token looks too old or comes from the future."
        proof "The age is negative, or over the limit by about the same time for every token."
        client "The handshake is answered with HTTP 403; a browser shows only close code 1006. From a Django \
            backend it is 400."
        fix "Synchronize the clocks of both hosts (`timedatectl`, `chronyc tracking`).";

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

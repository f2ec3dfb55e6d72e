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
        fix "Use `wss://` everywhere.";
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
        title "The client offered subprotocols and $connect chose none."
        cause "Client offers a subprotocol, `$connect` chose none."
        proof "Offer recorded, 101 without the header, client leaves within 1 s; \"Sent non-empty 'Sec-WebSocket-Protocol' header\"."
        client "C1006 in browsers"
        fix "Return one offered name from `$connect`, or stop offering.";
    SUBPROTOCOL_NOT_OFFERED "subprotocol.not-offered" 7 "[g]" "G"
        title "The backend chose a subprotocol that the client did not offer."
        cause "Backend chose a name the client did not offer."
        proof "Both lists."
        client "header dropped, then as above"
        fix "Return an offered name.";
    SUBPROTOCOL_SEVERAL "subprotocol.several" 7 "[g]" "G"
        title "The backend returned a list of subprotocols."
        cause "Backend returned a list."
        proof "Header value with commas."
        client "first offered one is used"
        fix "Return one.";
    SUBPROTOCOL_NULL "subprotocol.null" 7 "[+]" "G"
        title "Client passes `null`/`undefined`, which becomes the literal name."
        cause "Client passes `null`/`undefined`, which becomes the literal name."
        proof "Offer is exactly `null`, `undefined` or `[object Object]` (measured for null)."
        client "as not-confirmed"
        fix "Pass `[]` or nothing.";
    SUBPROTOCOL_TOKEN "subprotocol.token" 7 "[+]" "G"
        title "Token carried as subprotocol and not answered."
        cause "Token carried as subprotocol and not answered."
        proof "An offered item has token shape; value never stored."
        client "as not-confirmed"
        fix "Use the pair form `tidegate.bearer, <token>`.";

    // Symptom 8.
    JWT_MISSING "jwt.missing" 8 "[3]" "G D"
        title "The handshake carries no JSON Web Token."
        cause "No token, or an empty one."
        proof "None of the configured sources present."
        client "H403 `Missing token`"
        fix "Pass it in the query (browsers) or header.";
    JWT_WRONG_PLACE "jwt.wrong-place" 8 "[3]" "G"
        title "A token is under another name or in a place that is not read."
        cause "Token under another name or in a place that is not read."
        proof "A parameter, header or cookie of token shape under another name; the name is recorded."
        client "H403 `Missing token`"
        fix "Use the configured source.";
    JWT_MALFORMED "jwt.malformed" 8 "[3]" "G D"
        title "The token is not three base64url parts."
        cause "Not three base64url parts: prefix `Bearer `, quotes, cut off, double encoded."
        proof "Which part failed; recognised prefix or encoding."
        client "H403 `Invalid token`"
        fix "Send the bare token, URL-encoded once.";
    JWT_TOO_LONG "jwt.too-long" 8 "[+]" "G"
        title "The token is over 8 KB."
        cause "Over 8 KB."
        proof "Length."
        client "H403 `Invalid token`"
        fix "Fewer claims.";
    JWT_AMBIGUOUS "jwt.ambiguous" 8 "[g]" "G"
        title "Two sources carry different tokens."
        cause "Two sources with different tokens."
        proof "Names of the sources."
        client "H403 `Invalid token`"
        fix "Send one.";
    JWT_ALG_NOT_ALLOWED "jwt.alg-not-allowed" 8 "[g]" "G"
        title "The token's algorithm is none, or not configured for the key."
        cause "Algorithm `none` or not configured for the key."
        proof "Header `alg`."
        client "H403 `Invalid token`"
        fix "Align issuer and configuration.";
    JWT_UNKNOWN_KEY "jwt.unknown-key" 8 "[g]" "G C"
        title "The token's key id is not among the keys."
        cause "`kid` not among the keys."
        proof "`kid`, time of the last key fetch."
        client "H403 `Invalid token`"
        fix "Publish the key, check the JWKS URL.";
    JWT_SIGNATURE "jwt.signature" 8 "[3]" "G"
        title "The token was signed with another key than is configured."
        cause "Signed with another secret than configured."
        proof "Structure and times fine, signature wrong; count of other users failing likewise (all: secret; one: forged)."
        client "H403 `Invalid token`"
        fix "Same secret on both sides; watch for newline at the end of a secret file.";
    JWT_EXPIRED "jwt.expired" 8 "[3]" "G D"
        title "The token has expired."
        cause "`exp` passed."
        proof "`exp`, now, leeway."
        client "H403 `Token expired`"
        fix "Fetch a fresh token before each connect.";
    JWT_NOT_YET_VALID "jwt.not-yet-valid" 8 "[+]" "G D"
        title "The token is from the future: a clock is off."
        cause "Issuer's clock ahead: `nbf`/`iat` in the future."
        proof "Difference; same sign for every token of that issuer."
        client "H403 `Token not yet valid`"
        fix "Synchronise clocks, set leeway.";
    JWT_ISSUER "jwt.issuer" 8 "[g]" "G"
        title "The token is from another issuer."
        cause "`iss` differs."
        proof "Name of the claim; expected value from the configuration."
        client "H403 `Invalid token`"
        fix "Correct issuer or configuration.";
    JWT_AUDIENCE "jwt.audience" 8 "[g]" "G"
        title "The token is for another audience."
        cause "`aud` lacks the configured value."
        proof "As above."
        client "H403 `Invalid token`"
        fix "As above.";
    JWT_CLAIMS_MISSING "jwt.claims-missing" 8 "[3]" "G"
        title "The token lacks a claim that must be there."
        cause "`sub` or `email` absent or empty."
        proof "Names of missing claims."
        client "H403 `Invalid token payload`"
        fix "Issue complete tokens.";
    JWT_JWKS_UNREACHABLE "jwt.jwks-unreachable" 8 "[g]" "G C"
        title "The key set cannot be fetched."
        cause "Key set cannot be fetched."
        proof "Fetch error, age of last good set."
        client "H503 when no key is left"
        fix "Restore the URL; egress rule.";
    JWT_NO_EXPIRY "jwt.no-expiry" 8 "[3]" "C G"
        title "Tokens that never expire are accepted."
        cause "Tokens without `exp` accepted."
        proof "Counter."
        client "none (warning)"
        fix "Add `exp`, set `require_exp`.";
    AUTH_NOT_CONFIGURED "auth.not-configured" 8 "[3]" "C G"
        title "Authentication wanted but no key or secret configured: server \"does not recognise\" any token."
        cause "Authentication wanted but no key or secret configured: server \"does not recognise\" any token."
        proof "App enabled, key list empty."
        client "H503"
        fix "Configure a key.";
    INTERNAL "auth.internal" 8 "[3]" "G"
        title "An unexpected fault in the gateway."
        cause "Unexpected fault while authenticating."
        proof "Request id and internal error in the log."
        client "H500, or C1011 `Authentication failed`"
        fix "Read the log entry.";

    // Symptom 9.
    ROLE_INSUFFICIENT "role.insufficient" 9 "[3]" "G"
        title "Role not among those allowed."
        cause "Role not among those allowed."
        proof "Role of the verified token, allowed roles; hint when they differ only in letter case."
        client "H403 `Access denied: ... role required`"
        fix "Give the role or use another endpoint.";
    ROLE_DEFAULTED "role.defaulted" 9 "[3]" "G"
        title "Claim `role` missing, default role applied."
        cause "Claim `role` missing, default role applied."
        proof "Claim absent, default used."
        client "as above"
        fix "Issue the claim.";
    USER_NOT_FOUND "user.not-found" 9 "[3]" "G"
        title "There is no such user."
        cause "User check finds no such user."
        proof "Check kind and result; `sub`."
        client "H403 `Authority not found`"
        fix "Create the user, or fix the query.";
    USER_INACTIVE "user.inactive" 9 "[s]" "G"
        title "The user exists and is suspended."
        cause "User exists but is suspended."
        proof "Check result."
        client "H403 `Authority not found`"
        fix "Reactivate.";
    USER_CHECK_FAILED "user.check-failed" 9 "[3]" "G C"
        title "Who the user is cannot be looked up."
        cause "Database or directory for the check unreachable."
        proof "Error class, duration."
        client "H503, or C1011 `User verification failed`"
        fix "Restore it; explain names the target.";
    CHANNEL_UNLISTED "channel.unlisted" 9 "[s]" "G* B"
        title "The channel has no rule, and channels without one are refused."
        cause "Channel has no rule and unlisted channels are refused."
        proof "Name, nearest listed one."
        client "H403"
        fix "List it, or allow unlisted channels.";
    CHANNEL_FORBIDDEN "channel.forbidden" 9 "[0][3]" "G* B"
        title "The channel is not allowed for this user."
        cause "Channel not allowed for role or user."
        proof "Channel, rule that refused."
        client "H403 `Access denied`"
        fix "Adjust rule or request.";
    ORIGIN_NOT_ALLOWED "origin.not-allowed" 9 "[0]" "G D"
        title "The page's origin is not on the list."
        cause "Page origin not on the list."
        proof "`Origin` and the list."
        client "H403"
        fix "Add the origin.";

    // Symptom 10.
    AUTHORIZER_IDENTITY_MISSING "authorizer.identity-missing" 10 "[+]" "G C"
        title "Configured identity source absent: authorizer not even called."
        cause "Configured identity source absent: authorizer not even called."
        proof "Names of missing sources."
        client "H401"
        fix "Send it, or correct the identity source.";
    AUTHORIZER_DENIED "authorizer.denied" 10 "[g]" "G"
        title "Policy says Deny."
        cause "Policy says Deny."
        proof "Effect and principal."
        client "H403"
        fix "Check the rule in the authorizer.";
    AUTHORIZER_RESOURCE_MISMATCH "authorizer.resource-mismatch" 10 "[+]" "G"
        title "Allow for another resource than `.../$connect`."
        cause "Allow for another resource than `.../$connect`."
        proof "Statement resource against the request's ARN."
        client "H403"
        fix "Use the method ARN given in the event.";
    AUTHORIZER_BAD_ANSWER "authorizer.bad-answer" 10 "[+]" "G"
        title "Answer is not a policy (for example a status code), or over 8 KB."
        cause "Answer is not a policy (for example a status code), or over 8 KB."
        proof "Shape and size."
        client "H500"
        fix "Return principal and policy; throw `Unauthorized` for 401.";
    AUTHORIZER_UNSUPPORTED "authorizer.failed" 10 "[g]" "G C"
        title "The authorizer could not be asked."
        cause "Authorizer unreachable, raised, or timed out."
        proof "Error class and duration."
        client "H500"
        fix "Fix it.";
    AUTHORIZER_WRONG_ROUTE "authorizer.wrong-route" 10 "[+]" "C"
        title "Authorizer attached to a route other than `$connect` has no effect."
        cause "Authorizer attached to a route other than `$connect` has no effect."
        proof "Route table."
        client "none"
        fix "Attach to `$connect`.";
    IAM_CONNECT_UNSIGNED "iam.connect-unsigned" 10 "[g]" "G"
        title "The route wants IAM and the handshake is not signed."
        cause "Route wants IAM, handshake not signed or wrongly signed."
        proof "Which part of the signature failed."
        client "H403"
        fix "Sign the handshake URL.";
    APIKEY_MISSING "apikey.missing" 10 "[+]" "G C"
        title "The route wants an API key."
        cause "Route wants an API key."
        proof "Header absent or unknown."
        client "H403"
        fix "Send `x-api-key` (not possible in browsers).";

    // Symptom 11.
    TOKENREQ_ANONYMOUS "tokenreq.anonymous" 11 "[0]" "G* D L"
        title "Who asked for a token is not logged in."
        cause "User not logged in."
        proof "Session absent or without user; body \"Authentication required\"."
        client "403"
        fix "Log in first.";
    TOKENREQ_CSRF_MISSING "tokenreq.csrf-missing" 11 "[0]" "G* D L"
        title "The token request has no CSRF header."
        cause "`X-CSRFToken` header absent."
        proof "Header name absent."
        client "403"
        fix "Send the header.";
    TOKENREQ_CSRF_INVALID "tokenreq.csrf-invalid" 11 "[0]" "G* D"
        title "The CSRF header of the token request does not match the cookie."
        cause "Header does not match the cookie."
        proof "Both present, unequal."
        client "403"
        fix "Read the current cookie; it changes at login.";
    TOKENREQ_CSRF_COOKIE "tokenreq.csrf-cookie" 11 "[0]" "D L"
        title "Domain or SameSite keeps the CSRF cookie from the token request."
        cause "Domain or `SameSite` of the CSRF cookie keeps it from page or request."
        proof "Cookie attributes against page and token host."
        client "403"
        fix "Set the CSRF cookie's domain and SameSite like the session cookie's.";
    TOKENREQ_CSRF_ORIGIN "tokenreq.csrf-origin" 11 "[0][+]" "D L"
        title "The site does not trust the origin of the token request."
        cause "Page origin not trusted by the site."
        proof "CSRF page naming the origin check."
        client "403"
        fix "Add to the trusted origins; forward the https scheme.";
    TOKENREQ_NO_SESSION_COOKIE "tokenreq.no-session-cookie" 11 "[0]" "G* D L"
        title "The token request has no session cookie."
        cause "Session cookie missing in the browser."
        proof "Cookie name absent although credentials are sent."
        client "403"
        fix "Log in on the same site.";
    TOKENREQ_COOKIES_NOT_SENT "tokenreq.cookies-not-sent" 11 "[0]" "L (G*)"
        title "The token request was made without credentials."
        cause "Request made without credentials."
        proof "Client option; no cookie at all arrives from a browser that has one elsewhere."
        client "403"
        fix "`credentials: \"same-origin\"` (or `include` across sites).";
    TOKENREQ_RATE_LIMITED "tokenreq.rate-limited" 11 "[0]" "G* D L"
        title "Too many tokens were asked for in a minute."
        cause "Too many tokens per minute."
        proof "Body \"Rate limit exceeded\"; counter."
        client "403 (429 from Tidegate)"
        fix "Request only before connecting.";
    TOKENREQ_WRONG_URL "tokenreq.wrong-url" 11 "[0]" "D L"
        title "The token endpoint's address is wrong."
        cause "Token endpoint URL wrong."
        proof "404 or an HTML page."
        client "404"
        fix "Correct the URL.";

    // Symptom 12.
    TOKEN_MISSING "token.missing" 12 "[0]" "G"
        title "The handshake carries no one-time token."
        cause "`ws_token` not in the URL."
        proof "Parameter name absent; with a Django backend also the body signature."
        client "H400 (H403 own tokens)"
        fix "Add the parameter.";
    TOKEN_EXPIRED "token.expired" 12 "[0]" "G* (B)"
        title "The one-time token was used too late."
        cause "Connection opened too late."
        proof "Own: issue time and age; backend: refused, fingerprint never seen before."
        client "H400/H403"
        fix "Request immediately before opening.";
    TOKEN_REUSED "token.reused" 12 "[0]" "G B"
        title "The one-time token was used before."
        cause "Token already used."
        proof "Fingerprint seen in an earlier attempt, its time and outcome."
        client "H400/H403"
        fix "One token per attempt.";
    TOKEN_REUSED_ON_RECONNECT "token.reused-on-reconnect" 12 "[0]" "G L"
        title "A reconnect repeats the one-time token of its last connection."
        cause "Reconnect repeats the old URL."
        proof "As above, and the earlier connection of that token had opened and closed."
        client "H400/H403"
        fix "Rebuild the URL on each reconnect.";
    TOKEN_SESSION_CHANGED "token.session-changed" 12 "[0]" "G* (B)"
        title "The session cookie changed after the token was issued."
        cause "Session cookie changed between request and connect, for example by login."
        proof "Own: session hash differs; backend: token fresh and unused, session cookie present."
        client "H400/H403"
        fix "Request the token after login.";
    TOKEN_OTHER_BROWSER "token.other-browser" 12 "[0]" "G* (G)"
        title "The token comes from another browser than it was issued to."
        cause "Connection comes from another browser context."
        proof "Own: session hash unknown; user agent or address differs from the token request."
        client "H400/H403"
        fix "Use it where it was issued.";
    TOKEN_SESSION_MISSING "token.session-missing" 12 "[0]" "G B"
        title "The handshake has no session for the token."
        cause "No session cookie at the WebSocket host."
        proof "Cookie names; body \"Invalid session\"."
        client "H400/H403"
        fix "See cookie rows of Y17.";
    TOKEN_ORIGIN_MISMATCH "token.origin-mismatch" 12 "[g]" "G*"
        title "The token was issued for another origin, address, API or stage."
        cause "Token used from another origin, address, API or stage than it was bound to."
        proof "Which binding differs."
        client "H403"
        fix "Request the token where it is used.";
    TOKEN_UNKNOWN "token.unknown" 12 "[0]" "G* (B)"
        title "The one-time token was never issued here, was altered, or is badly encoded."
        cause "Never issued here, altered or badly encoded."
        proof "Own: no such token; length or alphabet wrong."
        client "H400/H403"
        fix "URL-encode once; check that both sides use one store.";
    TOKEN_CLOCK "token.clock" 12 "[g]" "G* D"
        title "Issuing and checking host disagree about the time."
        cause "Issuing and checking host disagree about the time."
        proof "Age negative or over the limit by a constant."
        client "H400/H403"
        fix "Synchronise clocks.";

    // Symptom 13.
    BACKEND_HEADERS_MISSING "backend.headers-missing" 13 "[0]" "B G"
        title "The backend misses a header."
        cause "A header the view requires was not sent."
        proof "Signature \"Invalid request headers\" and the list sent against the list required."
        client "H400"
        fix "Tidegate sends all the package demands; add what the view demands beyond as request parameter.";
    BACKEND_SERVER_DROPS_FORWARDED "backend.server-drops-forwarded" 13 "[s]" "(B) D"
        title "The backend's own web server discards forwarded headers from peers it does not trust."
        cause "The backend's own web server discards forwarded headers from peers it does not trust."
        proof "Signature \"Invalid request headers\", all headers sent, API id registered; reflect mode under that server."
        client "H400"
        fix "Name Tidegate as trusted proxy in that server.";
    BACKEND_HEADERS_STRIPPED "backend.headers-stripped" 13 "[0]" "D C"
        title "Tunnel or proxy between gateway and backend removes or rewrites headers."
        cause "Tunnel or proxy between gateway and backend removes or rewrites headers."
        proof "Reflect mode (DX-49): names and values that did not arrive."
        client "H400"
        fix "Configure the tunnel.";
    BACKEND_CONNECTION_HEADERS_MISSING "backend.connection-headers-missing" 13 "[s]" "B G"
        title "The client sent no Cookie, Origin or extension header."
        cause "Client sent no `Cookie`, `Origin` or WebSocket extension header."
        proof "Signature \"Missing n headers\"; names absent from the handshake (non-browser client or no cookie yet)."
        client "H400"
        fix "Connect from a browser with a session, or relax the view.";
    BACKEND_NOT_FROM_GATEWAY "backend.not-from-gateway" 13 "[0]" "(G)"
        title "Request reached the backend without passing the gateway."
        cause "Request reached the backend without passing the gateway."
        proof "Backend logs a refusal for which the journal has no request id."
        client "-"
        fix "Block direct access; set a gateway secret.";
    BACKEND_SECRET_MISMATCH "backend.secret-mismatch" 13 "[s]" "B C"
        title "The backend does not accept the gateway secret."
        cause "Gateway secret header missing or different."
        proof "Signature \"Invalid request\", 403; configured parameter absent."
        client "H403"
        fix "Same secret on both sides, then redeploy.";
    BACKEND_USERAGENT_CHECK "backend.useragent-check" 13 "[s]" "B"
        title "The backend insists on the gateway's user agent."
        cause "View insists on the gateway's user agent on connect."
        proof "Signature \"Unexpected Useragent\"."
        client "H400"
        fix "Switch the check off.";
    BACKEND_API_ID_UNKNOWN "backend.api-id-unknown" 13 "[0]" "(B) D"
        title "API id of the call not in the backend's records."
        cause "API id of the call not in the backend's records."
        proof "Signature \"Invalid request headers\" although all headers were sent; proven when reflect mode shows that they also arrive."
        client "H400"
        fix "Correct the record's API id.";
    BACKEND_HOST_NOT_ALLOWED "backend.host-not-allowed" 13 "[0][+]" "B D"
        title "The backend does not allow the host it was called by."
        cause "`Host` of the integration URL not in the allowed hosts."
        proof "Signature \"AllowedHosts\" or the framework's plain 400; the exact text to add, with `:port` when not default (patterns do not count for the package)."
        client "H400"
        fix "Add exactly that text.";
    BACKEND_ORIGIN_MISMATCH "backend.origin-mismatch" 13 "[0]" "B G"
        title "The backend's host and the page's origin differ."
        cause "Page origin is not the backend's host or below it."
        proof "Signature \"Host is not in Origin\"; both values."
        client "H400"
        fix "Align host names or override the check.";
    BACKEND_CONNECTION_ID_FORMAT "backend.connection-id-format" 13 "[0]" "B G"
        title "The backend does not accept the form of the connection id."
        cause "Connection id has characters the backend refuses."
        proof "Signature \"Invalid connection ID\" on `$connect`; the id."
        client "H400"
        fix "Report; ids use the AWS alphabet.";
    CHANNEL_INVALID "channel.invalid" 13 "[0]" "G* B"
        title "The channel name is too long or has other characters."
        cause "Channel name too long or with other characters."
        proof "Signature \"Invalid channel\"; value fails `[A-Za-z0-9_-]{1,128}`."
        client "H400"
        fix "Correct the name.";
    BACKEND_ROUTE_PARAM_MISSING "backend.route-param-missing" 13 "[0]" "B D C"
        title "URL pattern has no route segment."
        cause "URL pattern has no route segment."
        proof "404 for `.../connect`, 200/400 for the base."
        client "H404"
        fix "Add `<slug:route>`.";
    BACKEND_ROUTE_PARAM_MISNAMED "backend.route-param-misnamed" 13 "[0]" "B D"
        title "The backend's URL parameter is not called route."
        cause "Slug exists but is not called `route`."
        proof "`$connect` answered with signature \"Invalid request format (1)\", which only the message branch produces."
        client "H400"
        fix "Rename the parameter.";
    BACKEND_CSRF "backend.csrf" 13 "[g]" "B D"
        title "The backend's view is not exempt from CSRF."
        cause "View not exempt from CSRF: the gateway's POST is refused."
        proof "403 page \"CSRF verification failed\"."
        client "H403"
        fix "Exempt the view.";
    BACKEND_REDIRECT "backend.redirect" 13 "[0]" "B D"
        title "The backend redirects; redirects are not followed."
        cause "Backend redirects (https, slash, login)."
        proof "3xx and `Location`."
        client "H502"
        fix "Use the final URL; forward the scheme.";
    BACKEND_METHOD "backend.method" 13 "[g]" "B D"
        title "The backend does not accept this method."
        cause "Backend does not accept POST."
        proof "405 and `Allow`."
        client "H405"
        fix "Correct method or URL.";
    BACKEND_REFUSED "backend.refused" 13 "[0]" "B"
        title "The backend refused with a 4xx status."
        cause "Any other 4xx from `$connect`."
        proof "Status, content type, length."
        client "same status"
        fix "Read the backend's log with the request id.";

    // Symptom 14.
    INTEGRATION_DNS "integration.dns" 14 "[0]" "G C"
        title "The integration's host does not resolve."
        cause "Integration host does not resolve."
        proof "Resolver error."
        client "H502"
        fix "Correct the URL.";
    INTEGRATION_REFUSED "integration.refused" 14 "[0]" "G C"
        title "Nothing listens at the integration's address."
        cause "Nothing listens there."
        proof "Refused, address."
        client "H502"
        fix "Start the backend.";
    INTEGRATION_CONNECT_TIMEOUT "integration.connect-timeout" 14 "[0]" "G C"
        title "The integration's address does not answer."
        cause "No answer to connect: firewall, wrong network."
        proof "Time spent connecting."
        client "H504"
        fix "Open the path.";
    INTEGRATION_TLS "integration.tls" 14 "[0]" "G C"
        title "The backend's certificate is not valid for its name."
        cause "Backend's certificate invalid for its name."
        proof "Verification error."
        client "H502"
        fix "Fix the certificate.";
    INTEGRATION_NOT_HTTPS "integration.not-https" 14 "[0]" "C"
        title "Plain http to a host that is not local."
        cause "Plain http to a host that is not local."
        proof "URL."
        client "none (warning)"
        fix "Use https.";
    INTEGRATION_WRONG_URL "integration.wrong-url" 14 "[0]" "B C D"
        title "The backend does not know this path."
        cause "Path unknown to the backend."
        proof "404 with the backend's not-found signature; probing finds the right base."
        client "H404"
        fix "Correct the base.";
    INTEGRATION_MISSING_SLASH "integration.missing-slash" 14 "[0]" "C B D"
        title "Base endpoint without trailing slash: `.../wsconnect`."
        cause "Base endpoint without trailing slash: `.../wsconnect`."
        proof "URL ends in a glued route name; with slash it answers."
        client "H404"
        fix "End the base with `/`.";
    INTEGRATION_PRIVATE_ADDRESS "integration.private-address" 14 "[0]" "C G"
        title "Gateway cannot reach an address of another machine's loopback or private network."
        cause "Gateway cannot reach an address of another machine's loopback or private network."
        proof "URL is loopback or private and not reachable."
        client "H502/H504"
        fix "Tunnel or public address.";
    INTEGRATION_TIMEOUT "integration.timeout" 14 "[+]" "G"
        title "The backend gave no complete answer within the limit."
        cause "No complete answer within the limit (29 s)."
        proof "Time to first byte and total."
        client "H504"
        fix "Answer faster; do long work after answering.";
    INTEGRATION_ERROR_STATUS "integration.error-status" 14 "[g]" "B"
        title "The backend answered with a 5xx status."
        cause "5xx from the backend."
        proof "Status, server header."
        client "same status"
        fix "Backend log.";
    INTEGRATION_HANDLER_UNDEFINED "integration.handler-undefined" 14 "[s]" "B"
        title "View has no default handler."
        cause "View has no default handler."
        proof "500 on `$default` only."
        client "M\"Internal server error\""
        fix "Define it.";
    INTEGRATION_BAD_ANSWER "integration.bad-answer" 14 "[g]" "G"
        title "The backend's answer is no valid HTTP answer, or too large."
        cause "Connection closed early, invalid HTTP, too large."
        proof "Parse error, bytes read."
        client "H502"
        fix "Backend or proxy log.";
    INTEGRATION_RESET_ON_REUSE "integration.reset-on-reuse" 14 "[g]" "G"
        title "The backend closed an idle connection as the request was sent."
        cause "Backend closed an idle keep-alive connection as the request was sent."
        proof "Reset on a reused connection, request bytes already sent, no answer."
        client "H502; M\"Internal server error\" (never repeated once a byte has left; a connection found closed before writing is replaced silently)"
        fix "Backend keep-alive longer than the gateway's pool.";
    INTEGRATION_FUNCTION_FAILED "integration.function-failed" 14 "[+]" "G"
        title "Lambda raised, was denied or missing."
        cause "Lambda raised, was denied or missing."
        proof "Function error, invoke status."
        client "H502; M\"Internal server error\""
        fix "Function log, permission.";
    INTEGRATION_HOST_NOT_ALLOWED "integration.host-not-allowed" 14 "[s]" "G C"
        title "The integration's host is not on the list."
        cause "Integration host not on the operator's allow-list."
        proof "Host and list."
        client "A400 on creation; H502 for older ones"
        fix "Add the host or correct the URL.";
    BACKEND_FAILS_UNDER_LOAD "backend.fails-under-load" 14 "[s]" "(G)"
        title "Backend answers 5xx only when several connects arrive together, for example a locked embedded database."
        cause "Backend answers 5xx only when several connects arrive together, for example a locked embedded database."
        proof "5xx share rises with parallel calls, single calls pass."
        client "same status"
        fix "Backend's database settings.";
    INTEGRATION_MISSING "integration.missing" 14 "[0]" "C G"
        title "The route has no working integration."
        cause "Route has no integration, or it was deleted."
        proof "Dangling target."
        client "H500; M\"Internal server error\""
        fix "Attach one, deploy.";
    INTEGRATION_OVERLOAD "integration.overload" 14 "[g]" "G"
        title "Too many calls to this backend are under way."
        cause "Gateway's limit of parallel calls to this backend reached."
        proof "Queue length and wait."
        client "H503"
        fix "Scale the backend, raise the limit.";

    // Symptom 15.
    RATELIMIT_CONNECT "ratelimit.connect" 15 "[0]" "G B"
        title "Too many connection attempts."
        cause "Attempts per address or user over the limit (the fact; the rows below name the reason)."
        proof "Counter, limit, window, reset time; backend signature \"Too many connection attempts\"."
        client "H429 with `Retry-After` (H400 from a Django backend)"
        fix "See the reason.";
    RATELIMIT_RECONNECT_LOOP "ratelimit.reconnect-loop" 15 "[0]" "G L"
        title "Client retries without backoff."
        cause "Client retries without backoff."
        proof "Interval between attempts constant and under 2 s."
        client "H429"
        fix "Backoff: 3 s to 10 s and more, with jitter.";
    RATELIMIT_TOKEN_REQUESTS "ratelimit.token-requests" 15 "[0]" "G* L"
        title "A page asks for tokens again and again."
        cause "Page requests tokens again and again."
        proof "Tokens issued against tokens used."
        client "429/403"
        fix "Request only when connecting.";
    RATELIMIT_MANY_TABS "ratelimit.many-tabs" 15 "[0]" "G"
        title "Several tabs of one user."
        cause "Several tabs of one user."
        proof "Parallel connections of one user, same user agent."
        client "H429"
        fix "Share one connection, raise the per-user limit.";
    RATELIMIT_FAILING_RETRIES "ratelimit.failing-retries" 15 "[0]" "G"
        title "Attempts fail for another reason and are repeated."
        cause "Attempts fail for another reason and are repeated."
        proof "Most attempts end in one other id; that id is reported first."
        client "H429"
        fix "Fix that id.";
    RATELIMIT_TOO_LOW "ratelimit.too-low" 15 "[0]" "G C"
        title "Legitimate use above the limit."
        cause "Legitimate use above the limit."
        proof "Many distinct users, high success share, steady rate."
        client "H429"
        fix "Raise the limit.";
    RATELIMIT_ABUSE "ratelimit.abuse" 15 "[0]" "(G)"
        title "Automated traffic."
        cause "Automated traffic."
        proof "Many attempts, few users, odd user agents, no successes."
        client "H429"
        fix "Block upstream.";
    RATELIMIT_STAGE "ratelimit.stage" 15 "[g]" "G"
        title "The throttle of the stage or route is exhausted."
        cause "Stage or account throttle."
        proof "Token bucket of the stage."
        client "H429; M\"Too many requests\" style error"
        fix "Raise the throttle.";
    RATELIMIT_MESSAGES "ratelimit.messages" 15 "[g]" "G"
        title "Too many messages on one connection."
        cause "Too many messages on one connection."
        proof "Rate and limit."
        client "C1008"
        fix "Slow the client.";

    // Symptom 16.
    APP_DOUBLE_ACCEPT "app.double-accept" 16 "[3]" "D"
        title "Application accepts twice, or its manager accepts again."
        cause "Application accepts twice, or its manager accepts again."
        proof "Opens, drops within 100 ms without close frame, whatever the token; server log \"got 'websocket.accept'\" (the guide says 1008; measured: 1006)."
        client "C1006"
        fix "Accept once.";
    APP_EXCEPTION_AFTER_ACCEPT "app.exception-after-accept" 16 "[3][+]" "D"
        title "Handler raises after accepting."
        cause "Handler raises after accepting."
        proof "As above but only for some users or messages; 1011 from some servers (measured)."
        client "C1006/1011"
        fix "Server log.";
    APP_REASON_TOO_LONG "app.reason-too-long" 16 "[s]" "D"
        title "Close reason over 123 bytes."
        cause "Close reason over 123 bytes."
        proof "1006 where a coded close was meant (measured)."
        client "C1006"
        fix "Shorten.";
    CLOSE_REFUSED_AFTER_OPEN "close.refused-after-open" 16 "[2][3]" "G"
        title "Authentication refused after the upgrade (`refusal = \"close\"`, chat 4001)."
        cause "Authentication refused after the upgrade (`refusal = \"close\"`, chat 4001)."
        proof "Decision id of Y8/Y9."
        client "C1008/C4001"
        fix "As that id.";
    CLOSE_BACKEND_REQUESTED "close.backend-requested" 16 "[g]" "G"
        title "The backend deleted the connection."
        cause "Backend deleted the connection in or right after `$connect`."
        proof "Management call with caller and time."
        client "close code of the call"
        fix "Backend logic.";
}

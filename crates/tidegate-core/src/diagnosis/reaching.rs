//! Causes of symptoms 1 to 3: reaching the gateway, and the right API, stage and route of it.

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
}

//! Tables against the catalogue, and texts as people paste them.

use super::*;

#[track_caller]
fn first(text: &str) -> TextMatch {
    match_text(text).into_iter().next().unwrap_or_else(|| panic!("nothing recognized in {text:?}"))
}

/// The first match leads to exactly these ids, in this order.
#[track_caller]
fn leads(text: &str, ids: &[&str]) {
    let found = first(text);
    let causes: Vec<_> = found.causes.iter().map(|cause| cause.as_str()).collect();
    assert_eq!(causes, ids, "{text:?} by {:?}", found.pattern);
}

/// The first match leads to the causes of these leads.
#[track_caller]
fn leads_to(text: &str, expected: &[Lead]) {
    let found = first(text);
    assert_eq!(found.causes, follow(expected), "{text:?} by {:?}", found.pattern);
}

#[test]
fn every_alias_leads_to_ids_of_the_catalogue() {
    // DX-1
    assert_eq!(ALIASES.len(), 17);
    for (alias, ids) in ALIASES {
        assert!(!ids.is_empty(), "{alias}");
        assert!(Diagnosis::exact(alias).is_none(), "{alias} is an id too");
        assert_eq!(named(alias), *ids);
        assert_eq!(Diagnosis::find(alias), ids.first().copied());
        assert!(aliases_of(ids[0]).any(|other| other == *alias));
    }
    // The set of the symptom whose token was issued and is refused.
    assert_eq!(named("token.invalid"), causes_of(12));
    assert_eq!(named("jwt.expired"), [Diagnosis::JWT_EXPIRED]);
    assert!(named("no.such").is_empty());
}

#[test]
fn symptoms_cover_the_catalogue() {
    // DX-1
    assert_eq!(SYMPTOMS.len(), 38);
    let mut reached = std::collections::BTreeSet::new();
    for (i, symptom) in SYMPTOMS.iter().enumerate() {
        assert_eq!(usize::from(symptom.number), i + 1);
        assert!(!symptom.words.is_empty());
        for word in symptom.words {
            assert_eq!(*word, word.to_lowercase());
        }
        let causes = causes_of(symptom.number);
        assert!(!causes.is_empty(), "{}", symptom.title);
        reached.extend(causes);
    }
    let own: Vec<_> = Diagnosis::all().filter(|cause| cause.symptom > 0).collect();
    assert_eq!(reached.len(), own.len());
    assert!(causes_of(31).contains(&Diagnosis::TOKEN_REUSED_ON_RECONNECT));
    assert!(causes_of(33).contains(&Diagnosis::TLS_NOT_ISSUED));
    for id in [
        Diagnosis::STAGE_REDEPLOY_NEEDED,
        Diagnosis::INTEGRATION_REFUSED,
        Diagnosis::HANDLER_SELECTION_MISMATCH,
    ] {
        assert!(causes_of(20).contains(&id));
    }
    assert!(causes_of(0).is_empty() && causes_of(39).is_empty());
}

#[test]
fn close_codes_lead_to_causes() {
    let codes: Vec<_> = CLOSE_CODES.iter().map(|row| row.code).collect();
    assert!(codes.is_sorted());
    for row in CLOSE_CODES {
        assert!(!row.all_causes().is_empty(), "{}", row.code);
        assert_eq!(first(&format!("closed with code: {}", row.code)).causes, row.all_causes());
    }
    let lost = close_code(1006).expect("1006");
    assert_eq!(lost.causes_after_open()[0], Diagnosis::PROXY_IDLE_60);
    assert!(!lost.causes_after_open().contains(&Diagnosis::JWT_EXPIRED));
    assert!(lost.all_causes().contains(&Diagnosis::JWT_EXPIRED));
    assert_eq!(close_code(1015).expect("1015").all_causes(), causes_of(2));
    assert!(close_code(4004).expect("4004").all_causes().contains(&Diagnosis::BYPASS_NOT_THE_GATEWAY));
    assert!(close_code(1004).is_none());
    assert_eq!((refused_with(4403), refused_with(4001), refused_with(1006)), (Some(403), None, None));
}

#[test]
fn statuses_lead_to_causes() {
    for row in STATUSES {
        assert!(!row.causes().is_empty() || !row.management_causes().is_empty(), "{}", row.status);
    }
    let forbidden = status(403).expect("403").causes();
    // Families in the order of the catalogue.
    let at = |id: Diagnosis| forbidden.iter().position(|cause| *cause == id).expect("there");
    assert!(at(Diagnosis::API_UNKNOWN) < at(Diagnosis::JWT_MISSING));
    assert!(at(Diagnosis::JWT_MISSING) < at(Diagnosis::JWT_EXPIRED));
    assert!(at(Diagnosis::JWT_EXPIRED) < at(Diagnosis::ROLE_INSUFFICIENT));
    assert!(at(Diagnosis::ORIGIN_NOT_ALLOWED) < at(Diagnosis::AUTHORIZER_DENIED));
    assert!(at(Diagnosis::TOKEN_CLOCK) < at(Diagnosis::BYPASS_UNKNOWN_ROUTE_403));
    let distinct: std::collections::BTreeSet<_> = forbidden.iter().collect();
    assert_eq!(distinct.len(), forbidden.len());
    assert!(status(503).expect("503").causes().contains(&Diagnosis::LIMIT_MEMORY));
    assert_eq!(status(426).expect("426").causes()[0], Diagnosis::PROXY_UPGRADE_STRIPPED);
    assert_eq!(status(410).expect("410").management_causes(), causes_of(25));
    assert!(status(418).is_none());
}

#[test]
fn texts_of_names_and_networks() {
    // DX-3
    for text in [
        "WebSocket connection to 'wss://ws.exmaple.com/chat' failed: Error in connection establishment: net::ERR_NAME_NOT_RESOLVED",
        "Error: getaddrinfo ENOTFOUND ws.exmaple.com\n    at GetAddrInfoReqWrap.onlookup [as oncomplete] (node:dns:107:26) {\n  errno: -3008,\n  code: 'ENOTFOUND',\n  syscall: 'getaddrinfo'\n}",
        "socket.gaierror: [Errno -2] Name or service not known",
    ] {
        leads(text, &["dns.no-record"]);
    }
    leads(
        "WebSocket connection to 'ws://localhost:8080/' failed: Error in connection establishment: net::ERR_CONNECTION_REFUSED",
        &["net.refused"],
    );
    leads("Error: connect ECONNREFUSED 127.0.0.1:8080\n    at TCPConnectWrap.afterConnect", &["net.refused"]);
    leads(
        "Error: connect ECONNREFUSED ::1:8080\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16)",
        &["net.localhost-ipv6", "net.refused"],
    );
    leads(
        "WebSocket connection to 'wss://ws.example.com/' failed: Error in connection establishment: net::ERR_CONNECTION_TIMED_OUT",
        &["net.timeout"],
    );
    leads("Error: connect ETIMEDOUT 203.0.113.7:443", &["net.timeout"]);
}

#[test]
fn texts_of_tls() {
    // DX-3
    leads(
        "WebSocket connection to 'wss://ws.example.com/' failed: Error in connection establishment: net::ERR_CERT_DATE_INVALID",
        &["tls.expired"],
    );
    leads(
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)",
        &["tls.expired"],
    );
    leads(
        "WebSocket connection to 'wss://ws.example.com/' failed: Error in connection establishment: net::ERR_CERT_COMMON_NAME_INVALID",
        &["tls.hostname-mismatch"],
    );
    leads(
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for 'ws.example.com'. (_ssl.c:1007)",
        &["tls.hostname-mismatch"],
    );
    leads(
        "WebSocket connection to 'wss://10.0.0.7/' failed: Error in connection establishment: net::ERR_CERT_AUTHORITY_INVALID",
        &["tls.self-signed"],
    );
    leads(
        "Error: self-signed certificate\n    at TLSSocket.onConnectSecure (node:_tls_wrap:1674:34) {\n  code: 'DEPTH_ZERO_SELF_SIGNED_CERT'\n}",
        &["tls.self-signed"],
    );
    leads(
        "ssl.SSLCertVerificationError: certificate verify failed: self signed certificate (_ssl.c:1129)",
        &["tls.self-signed"],
    );
    for text in [
        "Error: unable to verify the first certificate\n    at TLSSocket.onConnectSecure (node:_tls_wrap:1674:34)",
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1000)",
    ] {
        leads(text, &["tls.incomplete-chain", "tls.self-signed"]);
    }
    for text in [
        "WebSocket connection to 'wss://localhost:8080/' failed: Error in connection establishment: net::ERR_SSL_PROTOCOL_ERROR",
        "Error: write EPROTO 139784:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/openssl/ssl/record/ssl3_record.c:355:",
        "ssl.SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)",
    ] {
        leads(text, &["handshake.tls-on-plain", "tls.no-common-version"]);
    }
}

#[test]
fn texts_with_a_status() {
    // DX-3
    for (text, code) in [
        (
            "WebSocket connection to 'wss://ws.example.com/chat?token=abc' failed: Error during WebSocket handshake: Unexpected response code: 403",
            403,
        ),
        (
            "Error: Unexpected server response: 426\n    at ClientRequest.<anonymous> (/app/node_modules/ws/lib/websocket.js:912:7)",
            426,
        ),
        ("websockets.exceptions.InvalidStatus: server rejected WebSocket connection: HTTP 502", 502),
        ("websockets.exceptions.InvalidStatusCode: server rejected WebSocket connection: HTTP 404", 404),
        (
            "websocket._exceptions.WebSocketBadStatusException: Handshake status 429 Too Many Requests -+-+- {'server': 'nginx'}",
            429,
        ),
        ("Error: non-101 status code: 500", 500),
        ("java.net.ProtocolException: Expected HTTP 101 response but was '503 Service Unavailable'", 503),
        (
            "System.Net.WebSockets.WebSocketException (0x80004005): The server returned status code '401' when status code '101' was expected.",
            401,
        ),
        (
            "aiohttp.client_exceptions.WSServerHandshakeError: 405, message='Invalid response status', url='wss://ws.example.com/'",
            405,
        ),
        (
            "10.0.0.9 - - [21/Nov/2026:10:00:00 +0000] \"GET /ws/ HTTP/1.1\" 504 167 \"-\" \"Mozilla/5.0\"",
            504,
        ),
        ("< HTTP/1.1 400 Bad Request\n< Server: nginx", 400),
    ] {
        let expected = follow(&[Lead::Status(code)]);
        assert!(match_text(text).iter().any(|found| found.causes == expected), "{text:?}");
    }
    leads_to(
        "WebSocket connection to 'wss://x/' failed: Error during WebSocket handshake: Unexpected response code: 403",
        &[Lead::Status(403)],
    );
    assert_eq!(
        first(
            "WebSocketException: Connection to 'https://ws.example.com:0/chat#' was not upgraded to websocket"
        )
        .causes[0],
        Diagnosis::PROXY_UPGRADE_STRIPPED
    );
    // A number in an address is no status.
    assert!(match_text("https://example.com/403?code=1006").is_empty());
}

#[test]
fn texts_of_browsers() {
    // DX-3
    leads_to(
        "WebSocket connection to 'wss://ws.example.com/chat' failed: ",
        &[Lead::Symptom(1), Lead::Symptom(2), Lead::Symptom(4)],
    );
    leads_to(
        "Firefox can\u{2019}t establish a connection to the server at wss://ws.example.com/chat.",
        &[Lead::Symptom(1), Lead::Symptom(2), Lead::Symptom(4)],
    );
    for text in [
        "Mixed Content: The page at 'https://app.example.com/' was loaded over HTTPS, but attempted to connect to the insecure WebSocket endpoint 'ws://ws.example.com/chat'. This request has been blocked; this endpoint must be available over WSS.",
        "Uncaught DOMException: Failed to construct 'WebSocket': An insecure WebSocket connection may not be initiated from a page loaded over HTTPS.",
    ] {
        leads(text, &["browser.mixed-content"]);
    }
    for text in [
        "Refused to connect to 'wss://ws.example.com/chat' because it violates the following Content Security Policy directive: \"connect-src 'self'\".",
        "Content-Security-Policy: The page\u{2019}s settings blocked the loading of a resource (connect-src) at wss://ws.example.com/ because it violates the following directive: \u{201c}connect-src \u{2018}self\u{2019}\u{201d}",
    ] {
        leads(text, &["browser.csp"]);
    }
    leads(
        "WebSocket connection to 'ws://localhost:8080/chat' failed: WebSocket is closed before the connection is established.",
        &["browser.double-mount", "handshake.client-gave-up"],
    );
    leads(
        "WebSocket connection to 'wss://x/' failed: Error during WebSocket handshake: Sent non-empty 'Sec-WebSocket-Protocol' header but no response was received",
        &["subprotocol.not-confirmed", "subprotocol.null", "subprotocol.token"],
    );
    leads(
        "WebSocket connection to 'wss://x/' failed: Error during WebSocket handshake: Response must not include 'Sec-WebSocket-Protocol' header if not present in request: chat",
        &["subprotocol.not-offered"],
    );
    for text in [
        "WebSocket connection to 'wss://x/' failed: Error during WebSocket handshake: 'Upgrade' header is missing",
        "Error: Invalid Upgrade header\n    at ClientRequest.<anonymous> (/app/node_modules/ws/lib/websocket.js:929:7)",
    ] {
        leads(text, &["proxy.response-stripped", "proxy.upgrade-stripped"]);
    }
    for text in [
        "WebSocket connection to 'wss://x/' failed: Invalid frame header",
        "WebSocket connection to 'wss://x/' failed: One or more reserved bits are on: reserved1 = 1, reserved2 = 0, reserved3 = 0",
        "RangeError: Invalid WebSocket frame: RSV1 must be clear\n    at Receiver.getInfo (/app/node_modules/ws/lib/receiver.js:176:14)",
    ] {
        leads(text, &["proxy.deflate-broken", "proxy.injected-bytes", "proxy.inspection"]);
    }
    leads(
        "Uncaught SyntaxError: Failed to construct 'WebSocket': The subprotocol '[object Object]' is invalid.",
        &["browser.headers-unsupported"],
    );
    for text in [
        "Uncaught SyntaxError: Failed to construct 'WebSocket': The URL's scheme must be either 'ws' or 'wss'. 'https' is not allowed.",
        "websockets.exceptions.InvalidURI: https://ws.example.com/ isn't a valid URI: scheme isn't ws or wss",
    ] {
        leads(text, &["handshake.https-scheme"]);
    }
    leads("WebSocket connection to 'wss://x/' failed: Insufficient resources", &["browser.socket-limit"]);
}

#[test]
fn texts_of_application_servers() {
    // DX-3
    leads(
        "RuntimeError: Expected ASGI message 'websocket.send' or 'websocket.close', but got 'websocket.accept'.",
        &["app.double-accept"],
    );
    leads(
        "RuntimeError: Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.",
        &["app.exception-after-accept"],
    );
    leads(
        "WARNING:  No supported WebSocket library detected. Please use \"pip install 'uvicorn[standard]'\", or install 'websockets' or 'wsproto' manually.",
        &["bypass.no-ws-library"],
    );
    leads("WARNING:  Unsupported upgrade request.", &["bypass.no-ws-library"]);
    leads(
        "  File \"/app/channels/routing.py\", line 134, in __call__\nValueError: No route found for path 'ws/chat'.",
        &["bypass.no-route-500"],
    );
    leads(
        "TypeError: OAuth2PasswordBearer.__call__() missing 1 required positional argument: 'request'",
        &["app.dependency-injection"],
    );
    leads("Exception: Cannot resolve dependency", &["app.dependency-injection"]);
    leads(
        "websockets.exceptions.ConnectionClosedError: sent 1011 (internal error) keepalive ping timeout; no close frame received",
        &["client.keepalive-1011", "conn.ping-timeout"],
    );
    leads_to(
        "websockets.exceptions.ConnectionClosedError: no close frame received or sent",
        &[Lead::Close(1006)],
    );
}

#[test]
fn texts_of_the_management_api() {
    // DX-3
    for text in [
        "botocore.errorfactory.GoneException: An error occurred (GoneException) when calling the PostToConnection operation: ",
        "GoneException: UnknownError\n    at de_GoneExceptionRes (/var/task/node_modules/@aws-sdk/client-apigatewaymanagementapi/dist-cjs/index.js:420:21) {\n  '$fault': 'client',\n  '$metadata': { httpStatusCode: 410 }",
        "UnknownError: 410",
        "requests.exceptions.HTTPError: 410 Client Error: Gone for url: https://ws.example.com/prod/@connections/abc\nHTTP 410",
    ] {
        leads_to(text, &[Lead::Symptom(25)]);
    }
    leads(
        "botocore.exceptions.ClientError: An error occurred (ForbiddenException) when calling the PostToConnection operation: Forbidden",
        &["management.denied", "management.bad-signature"],
    );
    leads(
        "POST https://x.example.com/prod/@connections/abc= -> {\"message\": \"Forbidden\"}",
        &["management.denied", "management.bad-signature"],
    );
    leads("{\"message\":\"Missing Authentication Token\"}", &["management.unsigned", "handshake.wrong-path"]);
    leads(
        "An error occurred (SignatureException) when calling the PostToConnection operation: Credential should be scoped to a valid region, not 'us-east-1'.",
        &["management.wrong-region"],
    );
    leads(
        "An error occurred (403): Signature expired: 20261121T100000Z is now earlier than 20261121T100500Z (20261121T101000Z - 5 min.)",
        &["management.clock-skew"],
    );
    leads(
        "Signature not yet current: 20261121T102000Z is still later than 20261121T101500Z",
        &["management.clock-skew"],
    );
    leads(
        "botocore.exceptions.ClientError: An error occurred (UnrecognizedClientException) when calling the PostToConnection operation: The security token included in the request is invalid.",
        &["management.unknown-key"],
    );
    leads(
        "{\"message\":\"No method found matching route prod/@connections/abc%3D for http method POST.\"}",
        &["management.stage-with-domain"],
    );
    for text in [
        "botocore.exceptions.EndpointConnectionError: Could not connect to the endpoint URL: \"https://execute-api.eu-central-1.amazonaws.com/@connections/abc\"",
        "dial tcp: lookup execute-api.eu-central-1.amazonaws.com on 10.0.0.2:53: no such host",
        "TypeError [ERR_INVALID_URL]: Invalid URL\n    at new URL (node:internal/url:775:36)",
    ] {
        leads(text, &["management.no-endpoint", "management.bad-scheme", "management.no-egress"]);
    }
    leads(
        "An error occurred (PayloadTooLargeException) when calling the PostToConnection operation: ",
        &["message.too-large-out", "message.too-large"],
    );
    leads(
        "{\"message\": \"Message too long\", \"connectionId\":\"awG5KiAAAAA6jW0=\", \"requestId\":\"awG5KiAAAAA6jW0=\"}",
        &["message.too-large-out", "message.too-large"],
    );
    leads(
        "An error occurred (LimitExceededException) when calling the PostToConnection operation (reached max retries: 4): Too Many Requests",
        &["management.throttled", "ratelimit.stage"],
    );
}

#[test]
fn texts_of_error_messages() {
    // DX-3
    for text in [
        "{\"message\": \"Forbidden\", \"connectionId\":\"awG5KiAAAAA6jW0=\", \"requestId\":\"bwG5KiAAAAA6jW0=\"}",
        "{\"message\":\"Forbidden\",\"connectionId\":\"awG5KiAAAAA6jW0=\",\"requestId\":\"bwG5KiAAAAA6jW0=\"}",
    ] {
        leads(text, &["route.no-match", "route.none"]);
    }
    leads(
        "{\"message\": \"Internal server error\", \"connectionId\":\"awG5KiAAAAA6jW0=\", \"requestId\":\"b\"}",
        &["reply.backend-failed", "integration.function-failed", "integration.missing"],
    );
    leads(
        "{\"message\":\"Endpoint request timed out\",\"connectionId\":\"awG5KiAAAAA6jW0=\",\"requestId\":\"b\"}",
        &["reply.timeout"],
    );
}

#[test]
fn texts_of_backends() {
    // DX-3 DX-4
    leads(
        "400 {\"error\": \"Invalid or expired token\"}",
        &["token.expired", "token.reused", "token.session-changed", "token.unknown"],
    );
    leads(
        "Bad Request: Invalid request headers",
        &[
            "backend.headers-missing",
            "backend.api-id-unknown",
            "backend.headers-stripped",
            "backend.server-drops-forwarded",
        ],
    );
    leads("Invalid request format (1)", &["backend.route-param-misnamed", "handler.key-missing"]);
    leads("Unexpected Useragent", &["backend.useragent-check"]);
    leads("Missing 3 headers", &["backend.connection-headers-missing"]);
    leads("Invalid connection ID", &["backend.connection-id-format", "backend.session-unknown"]);
    leads("Host is not in AllowedHosts", &["backend.host-not-allowed"]);
    leads("Host is not in Origin", &["backend.origin-mismatch"]);
    leads("Invalid channel", &["channel.invalid"]);
    leads("Invalid session", &["token.session-missing"]);
    leads("Too many connection attempts", &["ratelimit.connect"]);
    leads_to("Permission Denied", &[Lead::Cause(Diagnosis::CHANNEL_FORBIDDEN), Lead::Symptom(18)]);
    leads("{\"error\": \"Authentication required\"}", &["tokenreq.anonymous"]);
    leads(
        "{\"detail\": \"Not Found\"}",
        &["integration.wrong-url", "integration.missing-slash", "backend.route-param-missing"],
    );
    leads(
        "RuntimeError: You called this URL via POST, but the URL doesn't end in a slash and you have APPEND_SLASH set.",
        &["integration.missing-slash", "backend.redirect"],
    );
    for text in [
        "<h1>Forbidden <span>(403)</span></h1>\n<p>CSRF verification failed. Request aborted.</p>",
        "Forbidden (CSRF cookie not set.): /ws/connect\nCSRF verification failed.",
    ] {
        leads(text, &["tokenreq.csrf-missing", "tokenreq.csrf-origin", "backend.csrf"]);
    }
    assert_eq!(
        first("{\"detail\":\"CSRF Failed: Origin checking failed - https://app.example.com does not match any trusted origins.\"}").causes[0],
        Diagnosis::TOKENREQ_CSRF_ORIGIN
    );
    for text in [
        "Invalid HTTP_HOST header: 'abc.ngrok.app'. You may need to add 'abc.ngrok.app' to ALLOWED_HOSTS.",
        "django.core.exceptions.DisallowedHost: Invalid HTTP_HOST header: '10.0.0.7:8000'.",
    ] {
        leads(text, &["backend.host-not-allowed"]);
    }
}

#[test]
fn texts_of_json_web_tokens() {
    // DX-3
    leads("jwt.exceptions.ImmatureSignatureError: The token is not yet valid (iat)", &["jwt.not-yet-valid"]);
    leads("jwt.exceptions.ExpiredSignatureError: Signature has expired", &["jwt.expired"]);
    leads("Token expired", &["jwt.expired"]);
    leads("jwt.exceptions.InvalidSignatureError: Signature verification failed", &["jwt.signature"]);
    leads("jwt.exceptions.DecodeError: Not enough segments", &["jwt.malformed"]);
    leads("{\"message\":\"Invalid token\"}", &["jwt.malformed"]);
    leads("Access denied: admin role required", &["role.insufficient", "role.defaulted"]);
    leads("Authority not found", &["user.not-found"]);
}

#[test]
fn texts_of_chat_and_capacity() {
    // DX-3
    leads(
        "{\"error\": \"invalid event type\"}",
        &["chat.invalid-event-type", "chat.field-error-as-event-type"],
    );
    leads("OSError: [Errno 24] Too many open files", &["limit.file-descriptors"]);
    leads("Error: accept EMFILE", &["limit.file-descriptors"]);
    leads("2026/11/21 10:00:00 [alert] 31#31: 1024 worker_connections are not enough", &["proxy.capacity"]);
    leads(
        "2026/11/21 10:00:00 [error] 31#31: *7 connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.9, server: _, request: \"GET /ws HTTP/1.1\", upstream: \"http://127.0.0.1:8080/ws\"",
        &["proxy.bad-gateway"],
    );
    leads(
        "2026/11/21 10:00:00 [error] 31#31: *7 upstream timed out (110: Connection timed out) while reading response header from upstream, client: 10.0.0.9",
        &["proxy.gateway-timeout"],
    );
}

#[test]
fn ids_and_codes_inside_of_texts_are_recognized() {
    // DX-3
    leads("WARN handshake refused diag=jwt.expired status=403", &["jwt.expired"]);
    leads("see token.session-mismatch.", &["token.session-changed"]);
    leads_to(
        "CloseEvent {isTrusted: true, wasClean: false, code: 1006, reason: '', type: 'close'}",
        &[Lead::Close(1006)],
    );
    leads_to("websocket: close 1009 (message too big)", &[Lead::Close(1009)]);
    leads_to("received 1001 (going away); then sent 1001 (going away)", &[Lead::Close(1001)]);
    assert_eq!(
        ids_in(
            "{\"message\": \"Forbidden\", \"connectionId\":\"awG5KiAAAAA6jW0=\", \"requestId\":\"bwG5KiAAAAA6jW0=\"}"
        ),
        ["awG5KiAAAAA6jW0=", "bwG5KiAAAAA6jW0="]
    );
    assert_eq!(ids_in("refused requestId=bwG5KiAAAAA6jW0= status=403"), ["bwG5KiAAAAA6jW0="]);
    assert!(ids_in("nothing here, and not ================ either").is_empty());
    // Words of symptoms, where nothing else is there.
    leads_to("my users are AnonymousUser in the consumer", &[Lead::Symptom(17)]);
    leads_to("it drops after 60 seconds", &[Lead::Symptom(28)]);
    assert!(match_text("barcode 10060, the 1006th").is_empty());
    assert!(match_text("").is_empty());
}

#[test]
fn quotes_case_and_layout_do_not_matter() {
    // DX-3
    for text in [
        "ERROR DURING WEBSOCKET HANDSHAKE:\n\tSENT NON-EMPTY \u{2018}SEC-WEBSOCKET-PROTOCOL\u{2019}   HEADER BUT NO RESPONSE WAS RECEIVED",
        "sent non-empty \"Sec-WebSocket-Protocol\" header but no response was received",
        "Sent non-empty `Sec-WebSocket-Protocol` header but no response was received.",
    ] {
        assert_eq!(first(text).causes[0], Diagnosis::SUBPROTOCOL_NOT_CONFIRMED, "{text}");
    }
}

#[test]
fn the_longest_text_comes_first() {
    // DX-3
    let found = match_text(
        "GoneException ... expected asgi message 'websocket.send' or 'websocket.close', but got 'websocket.accept'",
    );
    let lengths: Vec<_> = found.iter().map(|found| found.pattern.len()).collect();
    assert!(found.len() > 1 && lengths.is_sorted_by(|a, b| a >= b), "{found:?}");
}

#[test]
fn every_known_text_is_recognized_and_leads_somewhere() {
    // DX-3
    for (patterns, causes) in error_texts() {
        assert!(!causes.is_empty(), "{patterns:?}");
        for pattern in patterns {
            assert_eq!(**pattern, pattern.to_lowercase(), "not in its plain form");
            let text = pattern.replace('#', "41");
            assert!(
                match_text(&text).iter().any(|found| found.causes == causes),
                "{pattern:?} is not recognized: {:?}",
                match_text(&text)
            );
        }
    }
}

#[test]
fn hostile_texts_cost_a_bounded_time() {
    // DX-3
    let long = "code: 1006 http 403 refused to connect to ".repeat(500_000);
    let started = std::time::Instant::now();
    for text in [long.clone(), "\u{2018}".repeat(1_000_000), "a ".repeat(1_000_000), "://".repeat(1_000_000)]
    {
        let found = match_text(&text);
        assert!(found.len() < 50);
        assert!(ids_in(&text).len() <= 16);
    }
    // What stands behind the first 16 KB is not read.
    assert!(match_text(&format!("{}goneexception", " ".repeat(MAX_TEXT))).is_empty());
    // A generous bound that only quadratic work can miss: 20 MB were given, 64 KB are read.
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

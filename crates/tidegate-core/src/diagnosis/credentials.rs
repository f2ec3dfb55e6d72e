//! Causes of symptoms 8 to 12: tokens, roles, authorizers, one-time tokens.

causes! {
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
}

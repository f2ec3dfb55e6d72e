//! Causes: who the user is, and what they may.

causes! {
    // Symptom 17.
    IDENTITY_TOKEN_PROTECTION_OFF "identity.token-protection-off" 17 "[0]" "C (B)"
        title "The token check is switched off, so only cookies could identify the user."
        cause "No check is configured for the stage, or the backend's own is disabled."
        proof "The setting; at a backend it is only likely: connections open without the token parameter."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Switch the check on: `admission.checks = [\"token\"]`, or in the backend's settings.";
    IDENTITY_TOKEN_ANONYMOUS "identity.token-anonymous" 17 "[0]" "G*"
        title "The token was issued to a request without a user."
        cause "The token endpoint lets anonymous requests in, so the token belongs to nobody."
        proof "The record of the token has no user."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Demand a login at the token endpoint, and pass the user on (`tidegate token create --user ID`).";
    IDENTITY_COOKIE_NOT_AVAILABLE "identity.cookie-not-available" 17 "[0]" "G"
        title "The session cookie does not reach the WebSocket host."
        cause "The cookie belongs to another host or site, or the browser keeps it back."
        proof "The names of the handshake's cookies, of which the session cookie is none."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Run `tidegate doctor URL --page PAGE`: it says which attribute keeps the cookie back. One-time \
            tokens need no cookie.";
    COOKIE_DOMAIN_NOT_COVERING "cookie.domain-not-covering" 17 "[0]" "D C"
        title "The domain of the session cookie does not cover the WebSocket host."
        cause "The cookie has no `Domain`, so that it goes to its own host only, or one that is too narrow."
        proof "The attribute `Domain` of the cookie against the WebSocket host."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Set the common parent domain: `SESSION_COOKIE_DOMAIN = \".example.com\"` in Django, then log in \
            again.";
    COOKIE_DIFFERENT_PARENT_DOMAIN "cookie.different-parent-domain" 17 "[0]" "D C"
        title "Site and WebSocket host have different parent domains."
        cause "No cookie can belong to both, because they are different sites."
        proof "The registrable domains of the two hosts differ."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Put the WebSocket below the site's domain (`ws.example.com` for `www.example.com`), or use one-time \
            tokens with the user in them.";
    COOKIE_SAMESITE "cookie.samesite" 17 "[0][+]" "D G"
        title "The cookie's `SameSite` keeps it from the handshake."
        cause "`Lax` and `Strict` cookies are not sent when a page of another site opens the WebSocket."
        proof "The attribute, the sites of page and host, and that no cookie arrived."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Serve page and WebSocket from one site, or set `SESSION_COOKIE_SAMESITE = \"None\"` and \
            `SESSION_COOKIE_SECURE = True`, likewise for the CSRF cookie.";
    COOKIE_SECURE_ON_PLAIN "cookie.secure-on-plain" 17 "[g]" "D"
        title "A `Secure` cookie is not sent to a `ws://` address."
        cause "Such cookies go over TLS only."
        proof "The attribute of the cookie and the scheme of the address."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Use `wss://`. For development without TLS set `SESSION_COOKIE_SECURE = False`.";
    COOKIE_THIRD_PARTY_BLOCKED "cookie.third-party-blocked" 17 "[+]" "(D)"
        title "The browser blocks cookies of other sites altogether."
        cause "It is its default, or a setting or extension of the user."
        proof "The closest sign: the attributes are right, the page is of another site, and still no cookie \
            arrives. Trying it in the user's browser with the setting changed would prove it."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Serve page and WebSocket from one site, or use one-time tokens.";
    COOKIE_NOT_FORWARDED "cookie.not-forwarded" 17 "[0]" "C D B"
        title "The cookie reaches the gateway but not the backend."
        cause "A mapping of the integration or something on the way to the backend drops `Cookie`."
        proof "The cookie's name arrived at the gateway, and reflect mode shows that the header did not arrive at \
            the backend."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Remove the mapping that overwrites `Cookie`, list it in `integration.forward_handshake` for \
            messages, and let tunnels pass it.";
    IDENTITY_SESSION_EXPIRED "identity.session-expired" 17 "[0]" "G* (B)"
        title "The session had expired before the connection was opened."
        cause "The page was open longer than the session lasts."
        proof "End of the session; at a backend it is only likely: the cookie is there and the user still \
            anonymous."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Log in again; let sessions last longer or renew them with use (`SESSION_COOKIE_AGE`, \
            `SESSION_SAVE_EVERY_REQUEST`).";
    IDENTITY_LOGGED_OUT "identity.logged-out" 17 "[0]" "G* (B)"
        title "The user had logged out before the connection was opened."
        cause "The session was ended, in another tab for example."
        proof "The logout; at a backend it is only likely: the cookie is there and the user anonymous."
        client "The connection opens, but as nobody: the backend sees an anonymous user."
        fix "Nothing: it is meant so. The page should stop reconnecting after a logout.";

    // Symptom 18.
    PERM_USER_LACKS "perm.user-lacks" 18 "[0]" "G* (B)"
        title "The user lacks a permission that the message needs."
        cause "The view or rule demands a permission that this user does not have."
        proof "Required and held permissions; at a backend: others pass on this route and this user does not."
        client "The route's answer with 403, or `Permission denied`; the connection stays open."
        fix "Grant the permission to the user or one of their groups.";
    PERM_VIEW_TOO_STRICT "perm.view-too-strict" 18 "[0]" "C (B)"
        title "Nobody has the permissions that the view demands."
        cause "The list of required permissions is too strict or names one that does not exist."
        proof "No user has passed this route since the deployment."
        client "The route's answer with 403; the connection stays open."
        fix "Correct the list of permissions of the view.";
    PERM_HANDLER_CHECK "perm.handler-check" 18 "[0]" "(B)"
        title "A check inside one handler refuses."
        cause "The handler has conditions of its own beyond the view's permissions."
        proof "The closest sign: other handlers of the view pass for this user. The backend's log would prove it."
        client "The route's answer with 403; the connection stays open."
        fix "Read the check in the handler and log which condition fails.";
    PERM_CHANNEL "perm.channel" 18 "[0]" "G* (B)"
        title "The user is in a channel that they may not use."
        cause "Rules or rights changed after the user had joined, or joining is checked less strictly than using."
        proof "The rule of the channel and when the user joined."
        client "The route's answer with 403, or `Permission denied`; the connection stays open."
        fix "Change the rule, or ask the rules again with `tidegate channels recheck --user ID`: who lost the \
            right leaves.";
    PERM_OBJECT "perm.object" 18 "[0]" "(B)"
        title "The user may not touch the object that the message names."
        cause "Rights of single objects refuse, not those of the view."
        proof "The closest sign: the same user passes with the same handler and another payload. The backend's \
            log would prove it."
        client "The route's answer with 403; the connection stays open."
        fix "Give the user access to the object, or correct the id in the message.";
}

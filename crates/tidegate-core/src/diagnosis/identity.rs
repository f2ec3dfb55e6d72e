//! Causes: who the user is, and what they may.

causes! {
    // Symptom 17.
    IDENTITY_TOKEN_PROTECTION_OFF "identity.token-protection-off" 17 "[0]" "C (B)"
        title "No check establishes who the user is."
        cause "Token check disabled: only cookies could identify the user."
        proof "Own setting; backend: opens without token parameter."
        client "opens as anonymous"
        fix "Enable tokens.";
    IDENTITY_TOKEN_ANONYMOUS "identity.token-anonymous" 17 "[0]" "G*"
        title "The token was issued to nobody."
        cause "Token was issued to an anonymous request."
        proof "Token record without user."
        client "opens as anonymous"
        fix "Require login at the token endpoint.";
    IDENTITY_COOKIE_NOT_AVAILABLE "identity.cookie-not-available" 17 "[0]" "G"
        title "Session cookie does not reach the WebSocket endpoint."
        cause "Session cookie does not reach the WebSocket endpoint."
        proof "Cookie names of the handshake lack the session cookie."
        client "opens as anonymous"
        fix "Rows below.";
    COOKIE_DOMAIN_NOT_COVERING "cookie.domain-not-covering" 17 "[0]" "D C"
        title "Cookie's domain does not cover the WebSocket host."
        cause "Cookie's domain does not cover the WebSocket host."
        proof "`Domain` attribute (or host-only) against the host."
        client "as above"
        fix "Set the session cookie domain to the common parent.";
    COOKIE_DIFFERENT_PARENT_DOMAIN "cookie.different-parent-domain" 17 "[0]" "D C"
        title "Site and WebSocket host have different registrable domains."
        cause "Site and WebSocket host have different registrable domains."
        proof "Registrable domains differ."
        client "as above"
        fix "One parent domain; or token with user id.";
    COOKIE_SAMESITE "cookie.samesite" 17 "[0][+]" "D G"
        title "`SameSite` Lax/Strict and the handshake is cross-site."
        cause "`SameSite` Lax/Strict and the handshake is cross-site."
        proof "Attribute; `Origin` site against host site; no cookie."
        client "as above"
        fix "Same site, or `None; Secure` for session and CSRF cookies.";
    COOKIE_SECURE_ON_PLAIN "cookie.secure-on-plain" 17 "[g]" "D"
        title "`Secure` cookie, `ws://` endpoint."
        cause "`Secure` cookie, `ws://` endpoint."
        proof "Attribute and scheme."
        client "as above"
        fix "`wss://`.";
    COOKIE_THIRD_PARTY_BLOCKED "cookie.third-party-blocked" 17 "[+]" "(D)"
        title "Browser blocks cookies of another site altogether."
        cause "Browser blocks cookies of another site altogether."
        proof "Attributes are right, cross-site, cookie still absent."
        client "as above"
        fix "Same site or token.";
    COOKIE_NOT_FORWARDED "cookie.not-forwarded" 17 "[0]" "C D B"
        title "Cookie arrives at the gateway but not at the backend."
        cause "Cookie arrives at the gateway but not at the backend."
        proof "Mapping or middlebox drops it; reflect mode."
        client "as above"
        fix "Forward `Cookie`.";
    IDENTITY_SESSION_EXPIRED "identity.session-expired" 17 "[0]" "G* (B)"
        title "Session expired before connecting."
        cause "Session expired before connecting."
        proof "Own: session end; backend: cookie sent, user still anonymous."
        client "as above"
        fix "Log in again; longer session.";
    IDENTITY_LOGGED_OUT "identity.logged-out" 17 "[0]" "G* (B)"
        title "User logged out before connecting."
        cause "User logged out before connecting."
        proof "Own: logout event; else as above."
        client "as above"
        fix "Expected.";

    // Symptom 18.
    PERM_USER_LACKS "perm.user-lacks" 18 "[0]" "G* (B)"
        title "The user lacks a permission."
        cause "User lacks the required permission."
        proof "Own: required and held permissions; backend: others pass on this route."
        client "403 answer as the route defines; own: M`4002` or `Permission denied`"
        fix "Grant it.";
    PERM_VIEW_TOO_STRICT "perm.view-too-strict" 18 "[0]" "C (B)"
        title "View-level list too strict."
        cause "View-level list too strict."
        proof "No user has passed this route since the deployment."
        client "as above"
        fix "Correct the list.";
    PERM_HANDLER_CHECK "perm.handler-check" 18 "[0]" "(B)"
        title "Handler's own check fails."
        cause "Handler's own check fails."
        proof "Other handlers of the view pass for this user."
        client "as above"
        fix "Handler logic.";
    PERM_CHANNEL "perm.channel" 18 "[0]" "G* (B)"
        title "The user is in a channel that they may not use."
        cause "User sits in a channel they may not use."
        proof "Channel rule, join time."
        client "as above"
        fix "Rule, or leave.";
    PERM_OBJECT "perm.object" 18 "[0]" "(B)"
        title "Object-level check fails."
        cause "Object-level check fails."
        proof "Same user and handler pass with other payloads."
        client "as above"
        fix "Object access.";
}

//! The token of a URL: what can be read from it without its key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tidegate_auth::Secret;

/// Names of query parameters that carry tokens.
const NAMES: [&str; 9] =
    ["token", "ws_token", "access_token", "connect_token", "id_token", "jwt", "ticket", "auth_token", "auth"];

/// Does a parameter of this name carry a token?
pub(super) fn is_token_name(name: &str) -> bool {
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// A token and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// Name of the query parameter.
    pub(super) name: String,
    /// Its decoded value.
    pub(super) value: Secret,
}

/// What the payload of a JSON Web Token says about times, in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Times {
    pub(super) exp: Option<f64>,
    pub(super) nbf: Option<f64>,
    pub(super) iat: Option<f64>,
}

impl Token {
    /// Meant as a JSON Web Token: every one begins with an encoded `{"`.
    pub(super) fn is_jwt(&self) -> bool {
        looks_like_jwt(self.value.expose())
    }

    /// What keeps a JSON Web Token from being one; nothing for other tokens.
    pub(super) fn defect(&self) -> Option<&'static str> {
        let value = self.value.expose();
        let lower = value.to_ascii_lowercase();
        if lower.starts_with("bearer ") || lower.starts_with("bearer%20") {
            return Some("it begins with `Bearer `");
        }
        if value.trim() != value {
            return Some("there are blanks or line ends around it");
        }
        if value.starts_with(['"', '\'']) || value.ends_with(['"', '\'']) {
            return Some("there are quotes around it");
        }
        if !self.is_jwt() {
            return None;
        }
        if value.contains('%') {
            return Some("it is URL-encoded twice");
        }
        let parts: Vec<&str> = value.split('.').collect();
        if parts.len() != 3 {
            return Some("it has not three parts");
        }
        for (part, defect) in parts.iter().zip([
            "its header is not base64url",
            "its payload is not base64url",
            "its signature is not base64url",
        ]) {
            if URL_SAFE_NO_PAD.decode(part).is_err() {
                return Some(defect);
            }
        }
        let parses = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
            serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value.is_object())
        };
        match (parses(parts[0]), parses(parts[1])) {
            (false, _) => Some("its header is not JSON"),
            (_, false) => Some("its payload is not JSON"),
            _ => None,
        }
    }

    /// The times in its payload; nothing for other tokens.
    pub(super) fn times(&self) -> Option<Times> {
        let mut parts = self.value.expose().split('.');
        let payload = URL_SAFE_NO_PAD.decode(parts.nth(1)?).ok()?;
        let payload: Value = serde_json::from_slice(&payload).ok()?;
        let time = |name: &str| payload.get(name)?.as_f64();
        Some(Times { exp: time("exp"), nbf: time("nbf"), iat: time("iat") })
    }

    /// A token of the same form that nobody issued.
    pub(super) fn broken(&self) -> String {
        let value = self.value.expose();
        let kept = match self.is_jwt() {
            // The signature alone is changed, so that only the signature is wrong.
            true => value.rfind('.').map_or(0, |at| at + 1),
            false => 0,
        };
        let mut random = vec![0; value.len() - kept];
        // Without random numbers it is still nobody's token.
        let _ = getrandom::fill(&mut random);
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let tail = random.iter().map(|byte| char::from(letters[usize::from(*byte & 63)]));
        value[..kept].chars().chain(tail).collect()
    }
}

/// Does a text have the shape of a JSON Web Token? Shape: `eyJ...`, also in parts or badly encoded.
pub(super) fn looks_like_jwt(text: &str) -> bool {
    let text = text.trim_start_matches(['"', '\'', ' ']);
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    text.starts_with("eyJ") && text.len() > 20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: &str) -> Token {
        Token { name: "token".to_owned(), value: Secret::new(value) }
    }

    fn jwt(payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(payload), part("signature"))
    }

    #[test]
    fn defects_of_json_web_tokens() {
        let good = jwt(r#"{"sub":"ada","exp":100}"#);
        assert_eq!(token(&good).defect(), None);
        assert_eq!(token("opaque-token-of-a-session").defect(), None);
        for bad in [
            format!("Bearer {good}"),
            format!("\"{good}\""),
            format!("{good}\n"),
            good[..good.len() - 14].to_owned(),
            good.replace('.', "%2E"),
            good.replacen("eyJ", "eyJ!", 1),
            jwt("no JSON at all"),
        ] {
            assert!(token(&bad).defect().is_some(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_from_the_payload() {
        let times = token(&jwt(r#"{"exp":100,"nbf":50.5}"#)).times().unwrap();
        assert_eq!(times, Times { exp: Some(100.0), nbf: Some(50.5), iat: None });
        assert_eq!(token("opaque").times(), None);
    }

    #[test]
    fn a_broken_token_keeps_its_form() {
        let good = jwt("{}");
        let broken = token(&good).broken();
        assert_ne!(broken, good);
        assert_eq!(broken.len(), good.len());
        assert_eq!(broken.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().0);
        assert_ne!(token("opaque-token").broken(), "opaque-token");
    }
}

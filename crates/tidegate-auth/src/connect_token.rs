//! One-time connect tokens: 256 random bits that open one connection, and the keyed hashes under which they are kept.
//!
//! A token is 64 lower-case hexadecimal characters. It is never stored: the store holds its HMAC-SHA-256 under a key
//! of the node's configuration ([`TokenKeys`]), so whoever reads the store can neither use a token nor test a guess.
//! Keys rotate: the first makes new hashes, all of them find old ones.
//!
//! A presented token is looked up by its hashes ([`TokenKeys::candidates`]). The look-up needs no constant time: a
//! caller without the key cannot choose hashes, so how far one agrees with a stored one tells nothing about a token.

use std::fmt;

use aws_lc_rs::hmac;
use http::HeaderMap;

use crate::secret::{Secret, is_equal};
use crate::subprotocol::{offered_subprotocols, query_values};

/// Characters of a token. Source: S0-72.
pub const CONNECT_TOKEN_LENGTH: usize = 64;

/// Fewest bytes of a key. Source: the output of SHA-256; a shorter key would be the weakest part.
pub const MIN_TOKEN_KEY: usize = 32;

/// Most keys of a ring: the present one, and those before it for as long as their tokens live. Source: our choice.
pub const MAX_TOKEN_KEYS: usize = 8;

/// What is hashed begins with one of these, so that no hash of one kind can pass for one of another.
const TOKEN_DOMAIN: &[u8] = b"tidegate connect token 1\0";
const SESSION_DOMAIN: &[u8] = b"tidegate session cookie 1\0";
const KEY_ID_DOMAIN: &[u8] = b"tidegate token key id 1\0";
/// Labels of keys that are derived: no use of one can be turned into a use of another.
const FINGERPRINT_KEY: &[u8] = b"tidegate fingerprint key 1\0";
const INSTALLATION: &[u8] = b"tidegate installation id 1\0";
const PROBE_KEY: &[u8] = b"tidegate probe ticket key 1\0";

/// Bytes of a fingerprint and of an installation id; twice as many digits. Source: DX-9.
const FINGERPRINT: usize = 8;

/// Bytes of the check value of a probe ticket. Source: our choice.
const TICKET_CHECK: usize = 16;

/// A one-time token in clear: just made, or just presented.
///
/// `Debug` prints `****`; there is no `Display`.
#[derive(Clone)]
pub struct ConnectToken(Secret);

/// A presented text that cannot be one of our tokens. It holds nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectTokenProblem {
    /// None was presented.
    #[error("no connect token")]
    Missing,
    /// Not [`CONNECT_TOKEN_LENGTH`] characters.
    #[error("the connect token has {length} bytes and not {CONNECT_TOKEN_LENGTH}")]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// A character that is not `0-9` or `a-f`.
    #[error("the connect token has a character that is not 0-9 or a-f")]
    Alphabet,
}

impl ConnectTokenProblem {
    /// The id of the catalogue.
    pub fn diagnosis(self) -> &'static str {
        match self {
            Self::Missing => "token.missing",
            Self::Length { .. } | Self::Alphabet => "token.unknown",
        }
    }
}

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes from the system")]
pub struct NoRandomBytes;

impl ConnectToken {
    /// A new token of 32 random bytes.
    ///
    /// # Errors
    /// [`NoRandomBytes`]; do not go on with anything else instead.
    pub fn generate() -> Result<Self, NoRandomBytes> {
        let mut bytes = zeroize::Zeroizing::new([0; CONNECT_TOKEN_LENGTH / 2]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| NoRandomBytes)?;
        Ok(Self(Secret::new(hex::encode(bytes.as_slice()))))
    }

    /// A presented token, if it has the shape of one. Nothing is trimmed, and upper case is no token.
    ///
    /// # Errors
    /// [`ConnectTokenProblem`]; the empty text is [`ConnectTokenProblem::Missing`].
    pub fn parse(text: &str) -> Result<Self, ConnectTokenProblem> {
        if text.is_empty() {
            return Err(ConnectTokenProblem::Missing);
        }
        if text.len() != CONNECT_TOKEN_LENGTH {
            return Err(ConnectTokenProblem::Length { length: text.len() });
        }
        if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ConnectTokenProblem::Alphabet);
        }
        Ok(Self(Secret::new(text)))
    }

    /// The text, for the one answer that hands it out.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for ConnectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectToken(****)")
    }
}

/// A connect token that a handshake presents.
#[derive(Debug, Clone)]
pub struct FoundConnectToken {
    /// The token.
    pub token: ConnectToken,
    /// The handshake offers `tidegate.bearer`, so that is the subprotocol to answer; the token never is.
    pub answers_bearer: bool,
}

/// The connect token of a handshake: the first value of query parameter `parameter` that is not empty; without one the
/// second half of the subprotocol pair, unless it has dots and so is a JSON Web Token.
///
/// # Errors
/// [`ConnectTokenProblem`].
pub fn find_connect_token(
    query: &str,
    headers: &HeaderMap,
    parameter: &str,
) -> Result<FoundConnectToken, ConnectTokenProblem> {
    let offered = offered_subprotocols(headers);
    let in_query = query_values(query, parameter).next().map(Secret::new);
    let token = match &in_query {
        Some(token) => token.expose(),
        None => offered.token.filter(|token| !token.contains('.')).unwrap_or_default(),
    };
    Ok(FoundConnectToken { token: ConnectToken::parse(token)?, answers_bearer: offered.has_bearer })
}

/// The keyed hash of a token or of a session, as it is stored: `{key id}.{64 hexadecimal digits}`.
///
/// The key id is 8 hexadecimal digits that follow from the key. Whether two are equal does not depend on time
/// ([`TokenHash::matches`]); there is no `==`.
#[derive(Debug, Clone)]
pub struct TokenHash(String);

impl TokenHash {
    /// The text to store.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `stored` is this hash, in constant time for equal lengths.
    pub fn matches(&self, stored: &str) -> bool {
        is_equal(self.0.as_bytes(), stored.as_bytes())
    }
}

/// What is wrong with the keys of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeyError {
    /// There is none.
    #[error("no token key")]
    None,
    /// Over [`MAX_TOKEN_KEYS`].
    #[error("{n_keys} token keys, at most {MAX_TOKEN_KEYS} expected")]
    TooMany {
        /// How many there are.
        n_keys: usize,
    },
    /// Under [`MIN_TOKEN_KEY`].
    #[error("token key {key} has {n_bytes} bytes, at least {MIN_TOKEN_KEY} expected")]
    Short {
        /// Its position, from 0.
        key: usize,
        /// Its length.
        n_bytes: usize,
    },
}

/// The keys under which tokens and sessions are hashed; the first is the present one.
#[derive(Clone)]
pub struct TokenKeys {
    keys: Vec<TokenKey>,
}

#[derive(Clone)]
struct TokenKey {
    id: String,
    key: hmac::Key,
    fingerprints: hmac::Key,
    probe: hmac::Key,
}

impl TokenKeys {
    /// A ring of `keys`, the present one first, each of at least [`MIN_TOKEN_KEY`] random bytes.
    ///
    /// # Errors
    /// [`TokenKeyError`] for the first problem. The keys are not in it.
    pub fn new<K: AsRef<[u8]>>(keys: &[K]) -> Result<Self, TokenKeyError> {
        if keys.is_empty() {
            return Err(TokenKeyError::None);
        }
        if keys.len() > MAX_TOKEN_KEYS {
            return Err(TokenKeyError::TooMany { n_keys: keys.len() });
        }
        let short = keys.iter().position(|key| key.as_ref().len() < MIN_TOKEN_KEY);
        if let Some((key, bytes)) = short.and_then(|key| Some((key, keys.get(key)?.as_ref()))) {
            return Err(TokenKeyError::Short { key, n_bytes: bytes.len() });
        }
        Ok(Self { keys: keys.iter().map(|key| TokenKey::new(key.as_ref())).collect() })
    }

    /// The hash of a new token, under the present key.
    pub fn hash(&self, token: &ConnectToken) -> TokenHash {
        self.present(TOKEN_DOMAIN, token.expose())
    }

    /// The hashes under which a presented token may be stored, the present key's first; at most [`MAX_TOKEN_KEYS`].
    pub fn candidates(&self, token: &ConnectToken) -> Vec<TokenHash> {
        self.keys.iter().map(|key| key.hash(TOKEN_DOMAIN, token.expose())).collect()
    }

    /// The hash of a session's cookie, to which a token is bound at issue. It can never equal the hash of a token.
    pub fn hash_session(&self, cookie_value: &str) -> TokenHash {
        self.present(SESSION_DOMAIN, cookie_value)
    }

    /// Whether `stored`, from [`TokenKeys::hash_session`], is the hash of `cookie_value` under any key. Constant time
    /// with respect to the value.
    pub fn is_session(&self, stored: &str, cookie_value: &str) -> bool {
        // Not `any`: every key is asked, so that the time does not tell which one it was.
        self.keys
            .iter()
            .fold(false, |is_equal, key| is_equal | key.hash(SESSION_DOMAIN, cookie_value).matches(stored))
    }

    /// By what two presentations of one token are recognized, whatever kind of token it is: 16 hexadecimal digits.
    ///
    /// Without the key nobody can test a guess against it. It changes with the present key.
    pub fn fingerprint(&self, token: &str) -> String {
        let tag = hmac::sign(&self.first().fingerprints, token.as_bytes());
        hex::encode(tag.as_ref().get(..FINGERPRINT).unwrap_or_default())
    }

    /// Tells this installation from others: 16 hexadecimal digits, the same on every node with these keys. Not secret.
    pub fn installation(&self) -> String {
        let tag = hmac::sign(&self.first().key, INSTALLATION);
        hex::encode(tag.as_ref().get(..FINGERPRINT).unwrap_or_default())
    }

    /// A ticket for the probe endpoint that is good until `expires_at`, in milliseconds since 1970:
    /// `{12 hexadecimal digits of that time}{32 digits}`. Nothing has to be kept of it.
    pub fn probe_ticket(&self, expires_at: u64) -> String {
        format!("{expires_at:012x}{}", self.first().ticket_check(expires_at))
    }

    /// Whether `ticket` is one of [`TokenKeys::probe_ticket`], under any key, whose time has not come at `now`.
    pub fn is_probe_ticket(&self, ticket: &str, now: u64) -> bool {
        let Some((time, check)) = ticket.split_at_checked(12) else { return false };
        let Ok(expires_at) = u64::from_str_radix(time, 16) else { return false };
        let is_ours = self.keys.iter().fold(false, |is_ours, key| {
            is_ours | is_equal(key.ticket_check(expires_at).as_bytes(), check.as_bytes())
        });
        is_ours && now < expires_at
    }

    fn first(&self) -> &TokenKey {
        // `new` has refused an empty ring.
        self.keys.first().expect("a ring has a key")
    }

    fn present(&self, domain: &[u8], text: &str) -> TokenHash {
        self.first().hash(domain, text)
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl TokenKey {
    fn new(bytes: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let id = hex::encode(hmac::sign(&key, KEY_ID_DOMAIN).as_ref().get(..4).unwrap_or_default());
        let derive = |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, label).as_ref());
        Self { id, fingerprints: derive(FINGERPRINT_KEY), probe: derive(PROBE_KEY), key }
    }

    fn ticket_check(&self, expires_at: u64) -> String {
        let tag = hmac::sign(&self.probe, &expires_at.to_be_bytes());
        hex::encode(tag.as_ref().get(..TICKET_CHECK).unwrap_or_default())
    }

    fn hash(&self, domain: &[u8], text: &str) -> TokenHash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(domain);
        context.update(text.as_bytes());
        TokenHash(format!("{}.{}", self.id, hex::encode(context.sign())))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::SEC_WEBSOCKET_PROTOCOL;
    use proptest::prelude::*;

    use super::*;

    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 40] = [2; 40];

    fn ring(keys: &[&[u8]]) -> TokenKeys {
        TokenKeys::new(keys).unwrap()
    }

    // S0-72: 64 lower-case hexadecimal characters, 256 random bits.
    #[test]
    fn tokens_are_random_and_have_the_shape_of_the_contract() {
        let tokens: std::collections::BTreeSet<String> =
            (0..200).map(|_| ConnectToken::generate().unwrap().expose().to_owned()).collect();
        assert_eq!(tokens.len(), 200);
        for token in &tokens {
            assert_eq!(token.len(), 64);
            assert!(ConnectToken::parse(token).is_ok());
        }
        // Every hexadecimal digit occurs at every position.
        for position in 0..64 {
            let digits: std::collections::BTreeSet<u8> =
                tokens.iter().map(|token| token.as_bytes()[position]).collect();
            assert!(digits.len() > 8, "{position}");
        }
    }

    // DX-9: 8 bytes of an HMAC under a key of its own.
    #[test]
    fn fingerprints_recognize_a_token_and_tell_nothing_else() {
        let keys = ring(&[&OLD]);
        let token = "0123456789abcdef".repeat(4);
        let fingerprint = keys.fingerprint(&token);
        assert_eq!(fingerprint.len(), 16);
        assert_eq!(fingerprint, ring(&[&OLD, &NEW]).fingerprint(&token));
        assert_ne!(fingerprint, keys.fingerprint(&token[1..]));
        assert_ne!(fingerprint, ring(&[&NEW]).fingerprint(&token));
        // Neither the key itself nor the stored hash gives it away.
        let plain = hmac::Key::new(hmac::HMAC_SHA256, &OLD);
        assert_ne!(fingerprint, hex::encode(&hmac::sign(&plain, token.as_bytes()).as_ref()[..8]));
        let stored = keys.hash(&ConnectToken::parse(&token).unwrap());
        assert!(!stored.as_str().contains(&fingerprint));
    }

    // DX-35: nodes that share their keys are one installation, and take each other's tickets.
    #[test]
    fn tickets_hold_until_their_time_and_only_here() {
        let keys = ring(&[&OLD]);
        assert_eq!(keys.installation().len(), 16);
        assert_eq!(keys.installation(), ring(&[&OLD]).installation());
        assert_ne!(keys.installation(), ring(&[&NEW]).installation());
        let ticket = keys.probe_ticket(1_000_000);
        assert!(keys.is_probe_ticket(&ticket, 999_999));
        assert!(!keys.is_probe_ticket(&ticket, 1_000_000));
        // After a rotation the old ones are still good.
        assert!(ring(&[&NEW, &OLD]).is_probe_ticket(&ticket, 0));
        assert!(!ring(&[&NEW]).is_probe_ticket(&ticket, 0));
        let later = keys.probe_ticket(2_000_000);
        let forged = format!("{}{}", &later[..12], &ticket[12..]);
        for text in [forged.as_str(), "", "\u{e9}", &ticket[..43], &ticket[1..]] {
            assert!(!keys.is_probe_ticket(text, 0), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let token = "0123456789abcdef".repeat(4);
        assert_eq!(ConnectToken::parse(&token).unwrap().expose(), token);
        let check = |text: &str, problem: ConnectTokenProblem, diagnosis| {
            assert_eq!(ConnectToken::parse(text).unwrap_err(), problem);
            assert_eq!(problem.diagnosis(), diagnosis);
        };
        check("", ConnectTokenProblem::Missing, "token.missing");
        check(&token[1..], ConnectTokenProblem::Length { length: 63 }, "token.unknown");
        check(&format!("{token} "), ConnectTokenProblem::Length { length: 65 }, "token.unknown");
        check(&token.to_uppercase(), ConnectTokenProblem::Alphabet, "token.unknown");
        check(&"g".repeat(64), ConnectTokenProblem::Alphabet, "token.unknown");
        check(&"é".repeat(32), ConnectTokenProblem::Alphabet, "token.unknown");
    }

    // S0-73: in the query, or as subprotocol pair.
    #[test]
    fn tokens_are_found_in_the_query_and_in_the_pair() {
        let (first, second) = ("0a".repeat(32), "1b".repeat(32));
        let offer = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(value).unwrap());
            headers
        };
        let find = |query: &str, headers: &HeaderMap| {
            find_connect_token(query, headers, "ws_token")
                .map(|found| (found.token.expose().to_owned(), found.answers_bearer))
        };
        let none = HeaderMap::new();
        let pair = offer(&format!("tidegate.bearer, {second}"));
        assert_eq!(find(&format!("ws_token={first}"), &none), Ok((first.clone(), false)));
        assert_eq!(find("ws_token=&channel=a", &pair), Ok((second, true)));
        assert_eq!(find(&format!("ws_token={first}"), &pair), Ok((first, true)));
        assert_eq!(find("token=a", &none), Err(ConnectTokenProblem::Missing));
        assert_eq!(find("", &offer("tidegate.bearer, a.b.c")), Err(ConnectTokenProblem::Missing));
        assert_eq!(find("", &offer("tidegate.bearer, abc")), Err(ConnectTokenProblem::Length { length: 3 }));
    }

    // S0-62: only keyed hashes are stored, and keys rotate.
    #[test]
    fn a_token_is_found_after_the_key_was_rotated() {
        let token = ConnectToken::generate().unwrap();
        let before = ring(&[&OLD]);
        let after = ring(&[&NEW, &OLD]);
        let stored = before.hash(&token);
        let candidates = after.candidates(&token);
        assert_eq!(candidates.len(), 2);
        assert!(candidates[1].matches(stored.as_str()) && !candidates[0].matches(stored.as_str()));
        assert!(candidates[0].matches(after.hash(&token).as_str()));
        let gone = ring(&[&NEW]);
        assert!(!gone.candidates(&token).iter().any(|hash| hash.matches(stored.as_str())));
        // The token is not in what is stored, and the key id is.
        assert!(!stored.as_str().contains(&token.expose()[..8]));
        assert_eq!(
            stored.as_str().split_once('.').unwrap().0,
            format!("{before:?}").trim_matches(['[', ']', '"'])
        );
    }

    // S0-74: bound to the session by a keyed hash.
    #[test]
    fn sessions_are_compared_by_hash() {
        let before = ring(&[&OLD]);
        let after = ring(&[&NEW, &OLD]);
        let stored = before.hash_session("s3ss10n");
        assert!(before.is_session(stored.as_str(), "s3ss10n"));
        assert!(after.is_session(stored.as_str(), "s3ss10n"));
        assert!(!after.is_session(stored.as_str(), "other"));
        assert!(!after.is_session("", "s3ss10n"));
        assert!(!ring(&[&NEW]).is_session(stored.as_str(), "s3ss10n"));
    }

    #[test]
    fn hashes_of_one_kind_never_pass_for_another() {
        let keys = ring(&[&OLD]);
        let token = ConnectToken::generate().unwrap();
        assert!(!keys.is_session(keys.hash(&token).as_str(), token.expose()));
    }

    /// Computed with Python: `hmac.new(bytes([1]) * 32, b"tidegate connect token 1\0" + token, "sha256")`.
    #[test]
    fn the_stored_form_never_changes() {
        let keys = ring(&[&OLD]);
        let token = ConnectToken::parse(&"0123456789abcdef".repeat(4)).unwrap();
        assert_eq!(
            keys.hash(&token).as_str(),
            "808d28b4.74f179ff848aed92d45b63c8c0099c93de16509529c4c48f3772fc223cb6782c"
        );
        assert_eq!(
            keys.hash_session("s3ss10n").as_str(),
            "808d28b4.a56afbd06af5415ccb02e9e9153499c9e2a281b927c50333dd130575d5939e5c"
        );
    }

    #[test]
    fn bad_keys_are_refused() {
        let error = |keys: &[&[u8]]| TokenKeys::new(keys).unwrap_err();
        assert_eq!(error(&[]), TokenKeyError::None);
        assert_eq!(error(&[&OLD, &OLD[..31]]), TokenKeyError::Short { key: 1, n_bytes: 31 });
        assert_eq!(error(&[&OLD as &[u8]; 9]), TokenKeyError::TooMany { n_keys: 9 });
    }

    #[test]
    fn nothing_secret_prints() {
        let token = ConnectToken::parse(&"0a".repeat(32)).unwrap();
        assert_eq!(format!("{token:?}"), "ConnectToken(****)");
    }

    proptest! {
        #[test]
        fn only_sixty_four_lower_case_hex_digits_parse(text in "[0-9a-fA-F.é]{60,66}") {
            let is_token = text.len() == 64 && hex::decode(&text).is_ok() && text.to_lowercase() == text;
            prop_assert_eq!(ConnectToken::parse(&text).is_ok(), is_token);
        }
    }
}

//! What may be asked: ids, codes, diagnosis ids, texts.

use tidegate_core::diagnosis::{Diagnosis, search};

/// Longest question, in bytes: a pasted log line or error page, not a file.
pub const MAX_QUESTION: usize = 16 * 1024;

/// Longest word that can be an id, in bytes.
const MAX_ID: usize = 128;

/// A question, understood as far as that is possible without the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A request id, a connection id or a client reference: which of them only the journal knows.
    Id(String),
    /// The connections of a session.
    Session(String),
    /// A close code, 1000 to 4999.
    CloseCode(u16),
    /// A status of a handshake or of a call, 100 to 599.
    Status(u16),
    /// A diagnosis id, or an alias, which may stand for several.
    Causes {
        /// As it was asked.
        name: String,
        /// What it stands for; at least one.
        causes: Vec<Diagnosis>,
    },
    /// A symptom by its number, `Y1` to `Y38`.
    Symptom(u8),
    /// An error text or anything else.
    Text(String),
    /// The newest failures; that many.
    Last(usize),
    /// Nothing but a user, an address or an API: what failed for them.
    Everything,
}

/// A question that cannot be answered because of how it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Neither words nor anything that narrows the question.
    #[error("nothing was asked: give an id, a close code, a status, a diagnosis id or an error text")]
    Nothing,
    /// Longer than [`MAX_QUESTION`].
    #[error("the question is longer than {MAX_QUESTION} bytes")]
    TooLong,
    /// A number that is neither a status nor a close code.
    #[error("{0} is neither a status (100 to 599) nor a close code (1000 to 4999)")]
    Number(String),
}

impl Question {
    /// Understands a question. Several words are one text, as if they stood in quotes.
    ///
    /// # Errors
    /// [`QuestionError`].
    pub fn parse(words: &str) -> Result<Self, QuestionError> {
        if words.len() > MAX_QUESTION {
            return Err(QuestionError::TooLong);
        }
        let text = words.trim().trim_matches(['"', '\'', '`']).trim();
        if text.is_empty() {
            return Err(QuestionError::Nothing);
        }
        let mut parts = text.split_whitespace();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(word), None, _) => Self::word(word),
            (Some(first), Some(second), None) => {
                Ok(Self::pair(first, second).unwrap_or_else(|| Self::Text(text.to_owned())))
            }
            _ => Ok(Self::Text(text.to_owned())),
        }
    }

    fn word(word: &str) -> Result<Self, QuestionError> {
        // As log lines write it.
        let word = word.strip_prefix("diag=").unwrap_or(word);
        let lower = word.to_ascii_lowercase();
        let causes = search::named(&lower);
        if !causes.is_empty() {
            return Ok(Self::Causes { name: lower, causes });
        }
        if let Some(number) = word.strip_prefix(['Y', 'y']).and_then(|number| number.parse().ok())
            && search::SYMPTOMS.iter().any(|symptom| symptom.number == number)
        {
            return Ok(Self::Symptom(number));
        }
        if word.len() <= 5 && word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::number(word).ok_or_else(|| QuestionError::Number(word.to_owned()));
        }
        if let Some((name, value)) = word.split_once([':', '='])
            && let Some(question) = Self::pair(name, value)
        {
            return Ok(question);
        }
        let id = decoded(word);
        let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
        let is_id = id.len() <= MAX_ID && id.bytes().all(is_id_byte);
        Ok(if is_id { Self::Id(id) } else { Self::Text(word.to_owned()) })
    }

    /// `HTTP 403`, `close 1006`, `session abc`, `request: xyz=`.
    fn pair(name: &str, value: &str) -> Option<Self> {
        let name = name.trim_end_matches([':', '=']).to_ascii_lowercase();
        if value.is_empty() {
            return None;
        }
        match name.as_str() {
            "http" | "status" | "code" | "close" | "closecode" => Self::number(value),
            "session" | "sessionid" => Some(Self::Session(value.to_owned())),
            "request" | "requestid" | "connection" | "connectionid" | "reference" | "clientref"
            | "_tgref" => Some(Self::Id(decoded(value))),
            _ => None,
        }
    }

    fn number(text: &str) -> Option<Self> {
        match text.parse().ok()? {
            code @ 1000..=4999 => Some(Self::CloseCode(code)),
            status @ 100..=599 => Some(Self::Status(status)),
            _ => None,
        }
    }

    /// What was asked, for the head of the answer: query values are `*`, and so is what looks like a token.
    pub fn target(&self) -> String {
        match self {
            Self::Id(id) => safe(id),
            Self::Session(session) => format!("session {}", safe(session)),
            Self::CloseCode(code) => format!("close code {code}"),
            Self::Status(status) => format!("status {status}"),
            Self::Causes { name, .. } => name.clone(),
            Self::Symptom(number) => {
                let symptom = search::SYMPTOMS.iter().find(|symptom| symptom.number == *number);
                format!("Y{number} {}", symptom.map_or("", |symptom| symptom.title))
            }
            Self::Text(text) => safe(text),
            Self::Last(n) => format!("the last {n} failures"),
            Self::Everything => "everything that failed".to_owned(),
        }
    }
}

/// An id as it stands in a URL, or as it is.
fn decoded(id: &str) -> String {
    id.replace("%3D", "=").replace("%3d", "=")
}

/// Longest part of a pasted text that is shown again, in characters.
const SHOWN: usize = 200;

/// Longest piece of a word that is no token, in bytes: ids of connections have 16.
const LONGEST_PIECE: usize = 31;

/// A pasted text without query values and without anything that looks like a token.
fn safe(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let (before, query) = match word.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (word, None),
        };
        let mut pieces = before.split(['/', '.', ',', ';', ':', '"', '\'', '(', ')', '=']);
        let is_secret = before.contains("eyJ") || pieces.any(|piece| piece.len() > LONGEST_PIECE);
        let before = if is_secret { "*" } else { before };
        let Some(query) = query else { return before.to_owned() };
        let names = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if name.len() <= LONGEST_PIECE => format!("{name}=*"),
            _ => "*".to_owned(),
        });
        format!("{before}?{}", names.collect::<Vec<_>>().join("&"))
    });
    let joined = words.collect::<Vec<_>>().join(" ");
    match joined.chars().count() > SHOWN {
        true => joined.chars().take(SHOWN).chain(['…']).collect(),
        false => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_understood() {
        // DX-17
        let id = |id: &str| Question::Id(id.to_owned());
        for (words, expected) in [
            ("R0oXAdfD0kwCH6w=", id("R0oXAdfD0kwCH6w=")),
            ("R0oXAdfD0kwCH6w%3D", id("R0oXAdfD0kwCH6w=")),
            ("requestId: R0oXAdfD0kwCH6w=", id("R0oXAdfD0kwCH6w=")),
            ("_tgref=a1b2c3", id("a1b2c3")),
            ("1006", Question::CloseCode(1006)),
            ("4001", Question::CloseCode(4001)),
            ("close 1011", Question::CloseCode(1011)),
            ("403", Question::Status(403)),
            ("HTTP 502", Question::Status(502)),
            ("y25", Question::Symptom(25)),
            ("session abc", Question::Session("abc".to_owned())),
            ("Unexpected response code: 403", Question::Text("Unexpected response code: 403".to_owned())),
            (
                "diag=JWT.expired",
                Question::Causes { name: "jwt.expired".to_owned(), causes: vec![Diagnosis::JWT_EXPIRED] },
            ),
        ] {
            assert_eq!(Question::parse(words), Ok(expected), "{words}");
        }
        let set = Question::parse("token.invalid");
        assert!(matches!(set, Ok(Question::Causes { causes, .. }) if causes.len() > 3));
        assert_eq!(Question::parse("  \"\" "), Err(QuestionError::Nothing));
        assert_eq!(Question::parse("999"), Err(QuestionError::Number("999".to_owned())));
        assert_eq!(Question::parse(&"x".repeat(MAX_QUESTION + 1)), Err(QuestionError::TooLong));
    }

    #[test]
    fn what_was_asked_is_shown_without_secrets() {
        // DX-64
        let target = |text: &str| Question::parse(text).expect("a question").target();
        let text = target("GET wss://a.example/chat?token=s3cret&v=1 failed with 403");
        assert_eq!(text, "GET wss://a.example/chat?token=*&v=* failed with 403");
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc";
        assert!(!target(&format!("token {jwt} refused today")).contains("eyJ"));
        assert!(!target(&format!("why is {} refused", "a1".repeat(32))).contains("a1a1"));
        assert_eq!(target(&"word ".repeat(100)).chars().count(), SHOWN + 1);
    }
}

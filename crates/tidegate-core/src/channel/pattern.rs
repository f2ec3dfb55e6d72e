//! Patterns of channel names.

use std::borrow::Cow;
use std::cmp::Reverse;

use super::{MAX_NAME_LENGTH, is_name_part};
use crate::identity::Identity;

/// `general`, `news_*`, `tenant_{claim.tenant}` or `user_{user}_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
    is_prefix: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    User,
    Session,
    Claim(Box<str>),
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("a pattern must not be empty; `*` fits every channel")]
    Empty,
    #[error("`{{` without closing `}}`")]
    Unclosed,
    #[error("unknown placeholder `{{{name}}}`: {{user}}, {{session}} or {{claim.NAME}} expected")]
    UnknownPlaceholder { name: String },
    #[error("`*` only at the end")]
    StarInside,
    #[error("`{character}` is no character of a channel name: letters, digits, `_` and `-` are")]
    Character { character: char },
    #[error("longer than a channel name can be ({MAX_NAME_LENGTH} characters)")]
    TooLong,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let (mut rest, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut segments = Vec::new();
        while !rest.is_empty() {
            let (literal, tail) = match rest.split_once('{') {
                Some((literal, tail)) => (literal, Some(tail)),
                None => (rest, None),
            };
            if !literal.is_empty() {
                check_literal(literal)?;
                segments.push(Segment::Literal(literal.into()));
            }
            let Some(tail) = tail else { break };
            let (name, after) = tail.split_once('}').ok_or(PatternError::Unclosed)?;
            segments.push(placeholder(name)?);
            rest = after;
        }
        let pattern = Self { segments, is_prefix };
        // A placeholder stands for at least one character.
        if pattern.literal_length() + pattern.n_placeholders() > MAX_NAME_LENGTH {
            return Err(PatternError::TooLong);
        }
        Ok(pattern)
    }

    /// The text before the `*`, or all of it, when there are no placeholders.
    pub(super) fn literal(&self) -> Option<&str> {
        match &*self.segments {
            [] => Some(""),
            [Segment::Literal(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    /// The pattern with one spelling for each placeholder.
    pub(super) fn canonical(&self) -> String {
        let mut text = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => text.push_str(literal),
                Segment::User => text.push_str("{user}"),
                Segment::Session => text.push_str("{session}"),
                Segment::Claim(name) => {
                    text.push_str("{claim.");
                    text.push_str(name);
                    text.push('}');
                }
            }
        }
        if self.is_prefix {
            text.push('*');
        }
        text
    }

    /// The smaller, the sooner it counts among patterns with placeholders; no two that differ are equal.
    pub(super) fn rank(&self) -> (Reverse<usize>, usize, String) {
        (Reverse(self.literal_length()), self.n_placeholders(), self.canonical())
    }

    fn literal_length(&self) -> usize {
        let length = |segment: &Segment| match segment {
            Segment::Literal(text) => text.len(),
            _ => 0,
        };
        self.segments.iter().map(length).sum()
    }

    fn n_placeholders(&self) -> usize {
        self.segments.iter().filter(|segment| !matches!(segment, Segment::Literal(_))).count()
    }

    /// How many bytes of the name the pattern stands for with the identity's values, or nothing when it does
    /// not fit. A value that is absent, or that could not be part of a name, fits nothing.
    pub(super) fn fits(&self, name: &str, identity: &Identity) -> Option<usize> {
        let mut rest = name;
        for segment in &self.segments {
            let value = match segment {
                Segment::Literal(text) => Cow::Borrowed(&**text),
                Segment::User => Cow::Borrowed(identity.user.as_deref()?),
                Segment::Session => Cow::Borrowed(identity.session.as_deref()?),
                Segment::Claim(name) => identity.claim_text(name)?,
            };
            // Of a value that could not be part of a name only the empty one could still fit: the name itself is
            // legal.
            if value.is_empty() {
                return None;
            }
            rest = rest.strip_prefix(&*value)?;
        }
        (self.is_prefix || rest.is_empty()).then_some(name.len() - rest.len())
    }
}

impl Pattern {
    /// The least number of bytes that the pattern stands for in the name if its placeholders may stand for anything, or
    /// nothing when it cannot fit.
    pub(super) fn could_fit(&self, name: &str) -> Option<usize> {
        could_fit(&self.segments, name, self.is_prefix).then(|| self.literal_length() + self.n_placeholders())
    }
}

/// Recursion is as deep as the pattern has segments, and each placeholder is tried at most once per byte of the name.
fn could_fit(segments: &[Segment], name: &str, is_prefix: bool) -> bool {
    match segments {
        [] => is_prefix || name.is_empty(),
        [Segment::Literal(text), rest @ ..] => {
            name.strip_prefix(&**text).is_some_and(|name| could_fit(rest, name, is_prefix))
        }
        // Names are ASCII, so every byte is a character.
        [_, rest @ ..] => (1..=name.len()).any(|length| could_fit(rest, &name[length..], is_prefix)),
    }
}

fn check_literal(literal: &str) -> Result<(), PatternError> {
    match literal.chars().find(|c| !is_name_part(c.encode_utf8(&mut [0; 4]))) {
        None => Ok(()),
        Some('*') => Err(PatternError::StarInside),
        Some(character) => Err(PatternError::Character { character }),
    }
}

fn placeholder(name: &str) -> Result<Segment, PatternError> {
    Ok(match name {
        // S0-65 writes `{sub}`; the user's id is the subject whatever the claim is called.
        "user" | "sub" | "claim.sub" => Segment::User,
        "session" => Segment::Session,
        _ => match name.strip_prefix("claim.") {
            Some(claim) if !claim.is_empty() && !claim.contains(['{', '*']) => Segment::Claim(claim.into()),
            _ => return Err(PatternError::UnknownPlaceholder { name: name.to_owned() }),
        },
    })
}

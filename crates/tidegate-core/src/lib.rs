//! Placeholder until its first content is committed.

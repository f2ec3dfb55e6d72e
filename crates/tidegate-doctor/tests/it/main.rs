//! What `doctor` finds, from whole definitions to findings.

#![allow(missing_docs, clippy::unwrap_used)]

mod inspect;

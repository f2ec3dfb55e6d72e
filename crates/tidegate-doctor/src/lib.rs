//! Says why something failed.
//!
//! - [`journal`] keeps what happened: notices of the data plane become entries of a bounded store.
//! - `explain` answers a question (an id, a code, a pasted error) from the journal; `check` has one file for each
//!   symptom with the rules that need more than one entry.
//! - `probe` looks at a WebSocket address from outside, step by step.
//! - `inspect` looks at definitions, backends and the system from inside.
//! - [`page`] shows the catalogue: help pages, the manual's chapter on failures, JSON.
//! - [`report`] is what all of them answer, for people and as JSON.
//!
//! What is said about a cause stands in `tidegate_core::diagnosis` and nowhere else.

pub mod check;
pub mod explain;
pub mod inspect;
pub mod journal;
pub mod page;
pub mod probe;
pub mod report;

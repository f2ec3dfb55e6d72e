//! Tidegate's own administration API: everything below `/api` of the admin listener.
//!
//! [`AdminApi::handle`] takes a request and answers it: who calls, may they, what was asked, the operation, the record of
//! it. One table of routes (`route.rs`, filled by the files below `operation/`) is the router, the check of what callers
//! send, and the OpenAPI document; so none of them can say something else than the others.
//!
//! This crate opens no listener and no file. It acts on the data plane through `Gateway` and on definitions through
//! `ControlPlane`. Start with `api.rs`.

mod api;
mod audit;
mod call;
mod caller;
mod document;
mod operation;
mod paging;
mod refusal;
mod reload;
mod route;
mod shape;

pub use api::{AdminApi, LogLines, Parts, Surroundings};
pub use audit::{AUDIT_KEPT, AuditRecord};
pub use caller::Callers;
pub use reload::{Configured, Reload, ReloadFailure, Reloaded, SettingChange};

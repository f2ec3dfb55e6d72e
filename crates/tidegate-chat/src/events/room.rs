//! Events about rooms.

pub mod create;
pub mod info;
pub mod join;
pub mod leave;
pub mod list;
pub mod members;
pub mod modify;

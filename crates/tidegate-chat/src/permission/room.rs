//! Permissions about rooms.

//! Permissions about messages.

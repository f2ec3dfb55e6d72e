//! Who may do what: the answer is `Ok` or the error with the text that clients match on.

pub mod message;
pub mod room;

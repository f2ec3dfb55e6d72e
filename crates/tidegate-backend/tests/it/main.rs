//! The crate as its users see it: requests as a gateway sends them, and a gateway that records what it is sent.

mod checks;
mod events;
mod gateway;
mod log;
mod push;
mod requests;
mod routes;

//! Behavior of the codec as its users see it, one file per promise.

mod errors;
mod fuzz_corpus;
mod limits;
mod memory;
mod round_trip;
mod stalls;
mod wire;

//! A selection expression and a message.
#![no_main]

#[path = "../core_bodies.rs"]
#[allow(dead_code, reason = "each target runs one of the bodies")]
mod core_bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| core_bodies::expression(data));

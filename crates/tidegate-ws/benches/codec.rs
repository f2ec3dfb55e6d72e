//! Cost of decoding and encoding on one core.
fn main() {}

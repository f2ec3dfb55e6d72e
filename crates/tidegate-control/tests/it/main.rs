//! The control plane through its HTTP surface, over a real store and a sink that remembers.

mod deployment;
mod durability;
mod frame;
mod harness;
mod patch;
mod provisioning;
mod refusal;
mod resource;
mod unknown_id;

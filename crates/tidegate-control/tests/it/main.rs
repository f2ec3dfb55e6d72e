//! The control plane through its HTTP surface, over a real store and a sink that remembers.

mod declarative;
mod deployment;
mod durability;
mod frame;
mod harness;
mod patch;
mod policy;
mod provisioning;
mod quotas;
mod refusal;
mod resource;
mod round_trip;
mod unknown_id;

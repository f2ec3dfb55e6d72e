//! Promises of the whole: who may depend on whom, and what the command line answers.

mod command_line;
mod crate_edges;
mod dev;
mod dev_and_connect;
mod node_commands;

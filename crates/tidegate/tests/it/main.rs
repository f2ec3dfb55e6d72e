//! Promises of the whole: who may depend on whom, and what the command line answers.

mod backend_crate;
mod command_line;
mod crate_edges;
mod dev;
mod dev_and_connect;
mod doctor;
mod explain;
mod journal;
mod kill;
mod log_lines;
mod manual;
mod node_commands;
mod privacy;
mod serve;

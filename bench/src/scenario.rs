//! One file per benchmark. Each starts what it needs, measures for a bounded time, and ends it all.

pub mod alerts;
pub mod chat;
pub mod connect;
pub mod contract;
pub mod echo_builtin;
pub mod echo_http;
pub mod fanout;
pub mod idle;
pub mod journal;
pub mod push;
pub mod startup;
pub mod tokens;

use std::time::Duration;

use anyhow::Result;

use crate::child::cpu_time;

/// Runs `work` and answers its result with the processor time that the process `pid` used meanwhile.
fn with_cpu<T>(pid: u32, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let before = cpu_time(pid)?;
    let result = work()?;
    Ok((result, cpu_time(pid)?.saturating_sub(before)))
}

/// Processor time for one of `count`, in microseconds.
fn micros_each(cpu: Duration, count: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count.max(1) as f64
}

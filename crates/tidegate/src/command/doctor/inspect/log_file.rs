//! `doctor --check-log FILE`.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use tidegate_doctor::inspect::log_file::LogSearch;
use tidegate_doctor::report::Report;

use crate::admin_client::ClientError;
use crate::config;

/// Bytes that are read at a time.
const CHUNK: usize = 256 * 1024;

/// Searches a file; `-` is the standard input.
pub(super) fn check(file: &Path, configuration: Option<&Path>, report: &mut Report) -> anyhow::Result<()> {
    let secrets = configuration.map(config::secrets).unwrap_or_default();
    let mut search = LogSearch::new(secrets.into_iter().map(|(_, value)| value), &[], &[]);
    let mut source: Box<dyn std::io::Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let opened = std::fs::File::open(file);
            Box::new(opened.map_err(|error| ClientError::Usage(format!("{}: {error}", file.display())))?)
        }
    };
    let mut chunk = vec![0; CHUNK];
    loop {
        let n_read = source.read(&mut chunk).with_context(|| format!("read {}", file.display()))?;
        if n_read == 0 {
            break;
        }
        search.take(&chunk[..n_read]);
    }
    let (probe, findings, notes) = search.finish();
    report.probes.push(probe);
    report.findings.extend(findings);
    report.notes.extend(notes);
    Ok(())
}

//! Where log lines go: to standard error.

use tracing_subscriber::EnvFilter;

use super::CommandError;
use crate::config::{Log, LogFormat};

/// What is let through.
pub(super) fn filter(log: &Log) -> Result<EnvFilter, CommandError> {
    let filter = EnvFilter::builder().parse(&log.level);
    filter.map_err(|_| CommandError::LogLevel(log.level.clone()))
}

/// Starts to log.
pub(super) fn start(log: &Log) -> Result<(), CommandError> {
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter(log)?).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

//! Where log lines go: standard error, one line each, with a level that can be set.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::CliError;

/// The variable that overrides the configured level.
pub(crate) const LEVEL_VARIABLE: &str = "MILLPOND_LOG";

/// Starts logging. A second start (in tests) is ignored.
pub(crate) fn start(level: &str) -> Result<(), CliError> {
    let overridden = std::env::var(LEVEL_VARIABLE).ok();
    let wanted = overridden.as_deref().unwrap_or(level);
    let filter = EnvFilter::try_new(wanted).map_err(|e| {
        CliError::usage(format!(
            "log.level {wanted:?}: {e}; write \"info\", or \"info,millpond=debug\""
        ))
    })?;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    Ok(())
}

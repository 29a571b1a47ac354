//! The figures: each measures the broker against a bound in the same run, interleaved, and gives
//! lines with their spread.

pub(crate) mod ack_latency;
pub(crate) mod bulk;
pub(crate) mod deploy;
pub(crate) mod devices;
pub(crate) mod footprint;
pub(crate) mod groups;
pub(crate) mod handshakes;
pub(crate) mod history;
pub(crate) mod hostile;
pub(crate) mod packing;
pub(crate) mod path;
pub(crate) mod produce;
pub(crate) mod quic;
pub(crate) mod recovery;
pub(crate) mod requests;
pub(crate) mod transform;
pub(crate) mod visible;
pub(crate) mod wear;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::broker::Broker;
use crate::error::{Context, Outcome};
use crate::load::saturate::Pressure;

/// What all figures share.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// The broker's program.
    pub(crate) binary: PathBuf,
    /// Where everything is written.
    pub(crate) dir: PathBuf,
    /// How often each pair is measured.
    pub(crate) rounds: usize,
    /// How hard the saturating figures push.
    pub(crate) pressure: Pressure,
    /// Everything shorter, to see that it works.
    pub(crate) quick: bool,
}

impl Bench {
    /// An empty directory on the file system that is measured; removed when dropped.
    pub(crate) fn scratch(&self) -> Outcome<TempDir> {
        scratch(&self.dir)
    }

    /// A broker on a data directory of its own.
    pub(crate) fn broker(&self) -> Outcome<(Broker, TempDir)> {
        self.broker_with("")
    }

    /// The same with a configuration, as TOML.
    pub(crate) fn broker_with(&self, config: &str) -> Outcome<(Broker, TempDir)> {
        let home = self.scratch()?;
        Ok((Broker::start_with(&self.binary, home.path(), config)?, home))
    }

    /// How long one measurement takes: so many seconds, or a quarter of them.
    pub(crate) fn seconds(&self, seconds: f64) -> Duration {
        let part = if self.quick { 4.0 } else { 1.0 };
        Duration::from_secs_f64(seconds / part)
    }
}

/// An empty directory below `dir`.
pub(crate) fn scratch(dir: &Path) -> Outcome<TempDir> {
    tempfile::Builder::new()
        .prefix("millpond-bench-")
        .tempdir_in(dir)
        .context(format!("a directory in {}", dir.display()))
}

/// What is being measured, for the person who waits.
pub(crate) fn progress(text: &str) {
    eprintln!("  {text}");
}

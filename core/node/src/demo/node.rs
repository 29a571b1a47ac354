//! The node of a demonstration: the same as `millpond serve`, in this process, on free ports of loopback, with its
//! data in a directory of its own that is gone afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use millpond_client::{ClientConfig, Trust};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::device::{NOTABLE_ABOVE_MILLI, NOTABLE_FIELD, Thousandths};
use crate::cli::{CliError, HttpClient};
use crate::config::Config;
use crate::http::Shown;
use crate::metrics::scrape::Scrape;
use crate::serve::{self, Inside, Reached};
use millpond_http::{Action, DEPLOY_HEADER, Description};

/// The topic of the devices.
pub(crate) const TELEMETRY: &str = "telemetry";
/// The topic of this machine's counters.
pub(crate) const MACHINE: &str = "machine";
/// Partitions of [`TELEMETRY`].
pub(crate) const TELEMETRY_PARTITIONS: i32 = 4;
/// The filter's name.
pub(crate) const FILTER: &str = "notable";

/// `statfs` of a file system in memory (linux/magic.h).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// How often the data directory is removed before that counts as failed, and the pause between.
const REMOVE_TRIES: u32 = 40;
const REMOVE_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A running node.
pub(crate) struct DemoNode {
    pub(crate) reached: Reached,
    http: Arc<HttpClient>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<(), CliError>>,
}

/// Where a node's data is.
pub(crate) struct DataDir {
    dir: TempDir,
}

impl DataDir {
    /// A new directory: where `TMPDIR` says, else in `/tmp`, or in `/var/tmp` if `/tmp` is memory and not a disk.
    pub(crate) fn new() -> Result<Self, CliError> {
        let mut parent = std::env::temp_dir();
        let chosen = std::env::var_os("TMPDIR").is_some_and(|dir| !dir.is_empty());
        let other = Path::new("/var/tmp");
        if !chosen && is_memory(&parent) && other.is_dir() && !is_memory(other) {
            parent = other.to_owned();
        }
        let made = tempfile::Builder::new().prefix("millpond-demo-").tempdir_in(&parent);
        let dir = made.map_err(|e| {
            CliError::failed(format!("cannot make a directory in {}: {e}", parent.display()))
                .hint("set TMPDIR to a directory on a disk that this user may write to")
        })?;
        Ok(Self { dir })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Whether it is memory and not a disk, so that nothing measured on it tells of flash.
    pub(crate) fn is_memory(&self) -> bool {
        is_memory(self.path())
    }

    /// Lets it stay.
    pub(crate) fn keep(self) -> PathBuf {
        self.dir.keep()
    }

    /// Removes it.
    pub(crate) fn remove(self) -> Result<(), CliError> {
        let path = self.dir.keep();
        let mut tries = 0;
        loop {
            match std::fs::remove_dir_all(&path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                // A node that was ended at once may still be writing its last file.
                Err(_) if tries < REMOVE_TRIES => tries += 1,
                Err(error) => {
                    let what = format!("cannot remove {}: {error}", path.display());
                    return Err(CliError::failed(what));
                }
            }
            thread::sleep(REMOVE_AGAIN_AFTER);
        }
    }
}

#[allow(clippy::useless_conversion)] // The number has another type on other targets.
fn is_memory(path: &Path) -> bool {
    rustix::fs::statfs(path)
        .is_ok_and(|found| i64::try_from(found.f_type).is_ok_and(|kind| kind == TMPFS_MAGIC))
}

impl DemoNode {
    /// Starts a node and waits until it serves.
    ///
    /// # Errors
    /// What kept it from starting.
    pub(crate) async fn start(data_dir: &Path) -> Result<Self, CliError> {
        let config = config(data_dir);
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let body = move || serve::run_inside(&config, Inside { ready, stop: stopped });
        let thread = thread::Builder::new().name("node".into()).spawn(body)?;
        let Ok(reached) = is_ready.await else {
            return Err(joined(thread)
                .await
                .err()
                .unwrap_or_else(|| CliError::failed("the node ended at its start")));
        };
        let http = reached.http.ok_or_else(|| CliError::failed("the node serves no HTTP"))?;
        Ok(Self { reached, http: Arc::new(HttpClient::new(&http.to_string())), stop, thread })
    }

    /// How a device finds the node and knows that it is it.
    pub(crate) fn over_quic(&self, client_id: &str) -> Result<ClientConfig, CliError> {
        let fingerprint = self.reached.fingerprint.as_deref().unwrap_or_default();
        let trust = Trust::fingerprint(fingerprint).map_err(|e| CliError::failed(e.to_string()))?;
        Ok(self.config("quic", client_id)?.trust(trust))
    }

    /// How a Kafka client finds the node.
    pub(crate) fn over_tcp(&self, client_id: &str) -> Result<ClientConfig, CliError> {
        self.config("tcp", client_id)
    }

    fn config(&self, scheme: &str, client_id: &str) -> Result<ClientConfig, CliError> {
        let config = ClientConfig::new(&format!("{scheme}://{}", self.reached.kafka));
        Ok(config.map_err(|e| CliError::failed(e.to_string()))?.client_id(client_id))
    }

    /// Puts the threshold filter in force on the devices' topic, as `millpond transform deploy` does.
    pub(crate) async fn deploy_filter(&self) -> Result<Shown, CliError> {
        let http = Arc::clone(&self.http);
        blocking(move || {
            let header =
                serde_json::to_string(&filter()).map_err(|e| CliError::failed(e.to_string()))?;
            http.post_bytes("/v1/transforms", (DEPLOY_HEADER, &header), millpond_guests::THRESHOLD)
        })
        .await
    }

    /// What the node says of itself now.
    pub(crate) async fn scrape(&self) -> Result<Scrape, CliError> {
        let http = Arc::clone(&self.http);
        blocking(move || Ok(Scrape::parse(&http.get_text("/metrics")?))).await
    }

    /// Completes when the node has ended by itself, which it should not.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops it in order: requests are finished, a checkpoint is written.
    ///
    /// # Errors
    /// What went wrong in it, now or earlier.
    pub(crate) async fn stop(self) -> Result<(), CliError> {
        // A node that has ended needs no word.
        let _ = self.stop.send(());
        joined(self.thread).await
    }
}

fn config(data_dir: &Path) -> Config {
    let mut config = Config::default();
    config.node.data_dir = data_dir.to_string_lossy().into_owned();
    if let Some(listener) = config.listeners.first_mut() {
        listener.address = "127.0.0.1:0".into();
    }
    config.http.address = "127.0.0.1:0".into();
    // Lines of the log would stand in the table.
    config.log.level = "error".into();
    config
}

/// The filter, as a user would describe it.
fn filter() -> Description {
    let limit = Thousandths(i64::from(NOTABLE_ABOVE_MILLI)).to_string();
    let settings = [
        ("field", NOTABLE_FIELD.to_owned()),
        ("min", format!("-{limit}")),
        ("max", limit),
        ("keep", "outside".to_owned()),
        ("missing", "keep".to_owned()),
    ];
    Description {
        name: FILTER.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        topics: vec![TELEMETRY.into()],
        settings: settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        // A record that the filter cannot judge is stored as it came.
        on_failure: Action::Pass,
        ..Description::default()
    }
}

async fn joined(thread: thread::JoinHandle<Result<(), CliError>>) -> Result<(), CliError> {
    blocking(move || {
        thread.join().unwrap_or_else(|_| Err(CliError::failed("the node's thread panicked")))
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| {
        Err(CliError::failed(format!("a thread of the demonstration failed: {e}")))
    })
}

/// How long a question over HTTP may keep the table waiting.
pub(crate) const SCRAPE_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_described_as_a_user_may() {
        let json = serde_json::to_string(&filter()).unwrap();
        assert!(json.is_ascii());
        let description = Description::parse(&json).unwrap();
        assert_eq!(description.settings["min"], "-2.000");
        assert_eq!(description.settings["max"], "2.000");
        assert_eq!(description.settings["field"], "deviation");
    }

    #[test]
    fn a_data_directory_is_gone_afterwards_unless_it_is_kept() {
        let dir = DataDir::new().unwrap();
        let path = dir.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        dir.remove().unwrap();
        assert!(!path.exists());
        let path = DataDir::new().unwrap().keep();
        assert!(path.is_dir());
        std::fs::remove_dir(path).unwrap();
    }

    #[test]
    fn memory_is_told_from_disks() {
        assert!(!is_memory(Path::new("/proc")));
        assert!(!is_memory(Path::new("/no/such/path")));
    }
}

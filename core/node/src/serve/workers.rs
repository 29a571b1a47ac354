//! The threads that are not the engine's, in two crews: one for TLS, QUIC and HTTP, one for
//! transforms. A module that computes without end must never take a processor from those who serve
//! others, so the crew of the transforms is nicer; a crew of its own, for a thread that was made
//! nicer cannot go back.

use tokio::runtime::{Builder, Handle, Runtime};

use super::WORKERS_END_WITHIN;
use crate::cli::CliError;
use crate::config::Config;

/// Steps by which threads of transforms are nicer than the engine's: they get a third of a processor
/// that both want, and give it up at once when the engine wakes. Not more: producers of their topics
/// wait for them.
const TRANSFORM_NICE_STEPS: i32 = 5;
/// Threads of each crew for compiling modules and for files of modules.
const BLOCKING_THREADS_MAX: usize = 4;

/// Both crews.
pub(super) struct Workers {
    doors: Runtime,
    transforms: Runtime,
}

impl Workers {
    /// As many threads in each as the configuration says.
    pub(super) fn start(config: &Config) -> Result<Self, CliError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match config.transforms.workers {
            0 => cores.saturating_sub(1).max(1),
            set => set as usize,
        };
        let transforms = crew("transform", threads).on_thread_start(be_nice).build();
        Ok(Self {
            doors: crew("worker", threads).build().map_err(|e| not_started(&e))?,
            transforms: transforms.map_err(|e| not_started(&e))?,
        })
    }

    /// Those of TLS, QUIC and HTTP.
    pub(super) fn doors(&self) -> &Runtime {
        &self.doors
    }

    /// Those of the transforms.
    pub(super) fn transforms(&self) -> &Handle {
        self.transforms.handle()
    }

    /// Ends both.
    pub(super) fn end(self) {
        self.transforms.shutdown_background();
        self.doors.shutdown_timeout(WORKERS_END_WITHIN);
    }
}

fn crew(name: &str, threads: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .thread_name(name)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all();
    builder
}

/// On Linux this is a matter of the thread alone. It is a courtesy: refused is fine.
fn be_nice() {
    let _ = rustix::process::nice(TRANSFORM_NICE_STEPS);
}

fn not_started(error: &std::io::Error) -> CliError {
    CliError::failed(format!("cannot start worker threads: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn transforms_run_on_threads_that_are_nicer_than_those_that_serve_clients() {
        let workers = Workers::start(&Config::default()).expect("threads");
        // Of the calling thread, on Linux.
        let niceness = || getpriority_process(None).expect("a priority");
        let here = niceness();
        let on = |crew: &Handle| futures::executor::block_on(crew.spawn(async move { niceness() }));
        assert_eq!(on(workers.doors().handle()).expect("a thread"), here);
        let nicer = (here + TRANSFORM_NICE_STEPS).min(19);
        assert_eq!(on(workers.transforms()).expect("a thread"), nicer);
        workers.end();
    }
}

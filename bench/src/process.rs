//! A server under test: a process of its own with a home of its own, its output in a file there. It is
//! stopped by its process id and never outlives the measurement.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{BenchError, Context, Outcome};
use crate::procfs::{IoCounters, Memory, ProcessStat, peak_rss_bytes, switches};

/// How long a server may take to become ready, or to stop when asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A server that wrote nothing for so long has nothing left to write.
const QUIET_FOR: Duration = Duration::from_millis(300);
/// The wait for that is not endless.
const QUIET_WITHIN: Duration = Duration::from_secs(8);
/// What it prints, in its home.
pub(crate) const LOG: &str = "output.log";

/// A running server.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it in `home` and waits for nothing.
    pub(crate) fn start(name: &str, mut command: Command, home: &Path) -> Outcome<Self> {
        let log = home.join(LOG);
        let out = File::create(&log).context(format!("making {}", log.display()))?;
        let err = out.try_clone().context(format!("the log of {name}"))?;
        command.current_dir(home).stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().context(format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that it sent to the device so far.
    pub(crate) fn written_bytes(&self) -> Outcome<u64> {
        Ok(IoCounters::of(self.pid())?.write_bytes)
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Outcome<Memory> {
        Memory::of(self.pid())
    }

    /// The most memory that it ever had resident, in bytes.
    pub(crate) fn peak_rss_bytes(&self) -> Outcome<u64> {
        peak_rss_bytes(self.pid())
    }

    /// Processor time that it took so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        Ok(ProcessStat::of(self.pid())?.cpu_seconds())
    }

    /// How often its threads that still run were taken off a processor or left it.
    pub(crate) fn switches(&self) -> Outcome<u64> {
        switches(self.pid())
    }

    /// Waits until it wrote nothing for a while.
    pub(crate) fn wait_until_quiet(&self) -> Outcome<()> {
        let give_up = Instant::now() + QUIET_WITHIN;
        let mut written = self.written_bytes()?;
        let mut since = Instant::now();
        while since.elapsed() < QUIET_FOR && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(50));
            let now = self.written_bytes()?;
            if now != written {
                (written, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Stops it as an operator would; gives the bytes that it sent to the device in all its life.
    pub(crate) fn stop(mut self) -> Outcome<u64> {
        let stopping = format!("stopping {}", self.name);
        kill_process(Pid::from_child(&self.child), Signal::TERM).context(stopping)?;
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            // Not waited for, so that its counters can still be read.
            if ProcessStat::of(self.pid())?.state == 'Z' {
                let written = self.written_bytes()?;
                let status = self.child.wait().context(format!("waiting for {}", self.name))?;
                // A JVM that was asked to end says so with 128 + SIGTERM.
                return match status.success() || status.code() == Some(143) {
                    true => Ok(written),
                    false => Err(self.complaint(&format!("it ended with {status}"))),
                };
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(self.complaint("it did not stop when asked"))
    }

    /// Ends it as a power cut would: at once, with nothing written.
    pub(crate) fn kill(mut self) -> Outcome<()> {
        self.child.kill().context(format!("killing {}", self.name))?;
        self.child.wait().context(format!("waiting for {}", self.name)).map(drop)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// An error with the end of what it printed.
    pub(crate) fn complaint(&self, why: &str) -> BenchError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        BenchError::new(&self.name, format!("{why}\n{}", tail.join("\n")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// An address on loopback that is free for TCP and UDP, below the kernel's ephemeral range so that
/// no outgoing connection can sit on it.
pub(crate) fn free_address() -> Outcome<SocketAddr> {
    const LOWEST: u16 = 11_000;
    const SPAN: u16 = 4_000;
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(7919) % u32::from(SPAN)) as u16;
    for _ in 0..SPAN {
        let step = ASKED.fetch_add(1, Ordering::Relaxed).wrapping_mul(13);
        let port = LOWEST + start.wrapping_add(step) % SPAN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(BenchError::new("a port for a server", "none is free on 127.0.0.1"))
}

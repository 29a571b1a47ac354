//! Contenders that take turns: one runs its round while the others idle, and before each turn all that
//! was written so far is on the device. What a turn cost its server is taken from the kernel.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::compare::results::{Board, Measure};
use crate::error::{Context, Outcome};
use crate::figures::{Bench, progress};
use crate::peers::{Installed, Peer, Seat, Server};
use crate::procfs::Device;

pub(crate) const CPU: Measure = Measure::less("server's CPU", "us/record");
pub(crate) const SWITCHES: Measure = Measure::less("context switches", "1/record");
pub(crate) const WRITTEN: Measure = Measure::less("written by the server in the turn", "B/B");
pub(crate) const DEVICE: Measure = Measure::less("written to the device in the turn", "B/B");
pub(crate) const FLUSHES: Measure = Measure::aside("device flushes", "1/1000 records");
pub(crate) const RSS: Measure = Measure::less("resident memory after the turn", "MiB");
pub(crate) const PEAK: Measure = Measure::less("peak resident memory", "MiB").plotted();
/// Of a life that ends with a graceful stop, by the values of all its records.
pub(crate) const LIFE: Measure =
    Measure::less("written by the server in its life", "B/B").plotted();

/// What all comparisons share.
pub(crate) struct Ring<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) installed: &'a Installed,
    pub(crate) peers: &'a [Peer],
}

/// A running broker with the samples that are its own.
pub(crate) struct Contender {
    pub(crate) peer: Peer,
    pub(crate) server: Server,
    // Removed when the server is gone.
    pub(crate) seat: Seat,
    /// Bytes of values that it acknowledged in its life.
    payload_bytes: f64,
    written_at_first: u64,
}

impl Ring<'_> {
    /// A place for one, in an empty directory.
    pub(crate) fn seat(&self, peer: Peer) -> Outcome<Seat> {
        Seat::new(peer, self.bench.scratch()?)
    }

    /// Starts all peers of which `takes_part` holds, and lets `prepare` make what they need.
    pub(crate) fn enter(
        &self,
        case: &str,
        board: &mut Board,
        takes_part: impl Fn(Peer) -> bool,
        mut prepare: impl FnMut(&Server, Peer) -> Outcome<()>,
    ) -> Vec<Contender> {
        let mut contenders = Vec::new();
        for peer in self.peers.iter().copied().filter(|peer| takes_part(*peer)) {
            progress(&format!("{case}: starting {}", peer.name()));
            let entered = self.seat(peer).and_then(|seat| {
                let server = seat.start(self.installed)?;
                prepare(&server, peer)?;
                let written_at_first = server.process().written_bytes()?;
                Ok(Contender { peer, server, seat, payload_bytes: 0.0, written_at_first })
            });
            match entered {
                Ok(contender) => contenders.push(contender),
                Err(error) => board.fail(case, peer.name(), &error),
            }
        }
        contenders
    }

    /// Lets each have its turn, `rounds` times. Round 0 comes before the first and is not to be counted: queues,
    /// caches and compilers get warm. Who fails is out.
    pub(crate) fn rounds(
        &self,
        case: &str,
        board: &mut Board,
        contenders: &mut Vec<Contender>,
        mut turn: impl FnMut(usize, &mut Contender, &mut Board) -> Outcome<()>,
    ) -> Outcome<()> {
        for round in 0..=self.bench.rounds {
            let mut out = Vec::new();
            for (at, contender) in contenders.iter_mut().enumerate() {
                let name = contender.peer.name();
                progress(&format!("{case}: {name}, round {round}"));
                settle(&self.bench.dir)?;
                if let Err(error) = turn(round, contender, board) {
                    board.fail(case, name, &error);
                    out.push(at);
                }
            }
            out.into_iter().rev().for_each(|at| drop(contenders.remove(at)));
        }
        Ok(())
    }

    /// Runs a load on a server and says what it cost. `count` tells requests of what the load gave.
    pub(crate) fn measured<T>(
        &self,
        contender: &mut Contender,
        payload_bytes_each: usize,
        load: impl FnOnce(&Server) -> Outcome<T>,
        count: impl FnOnce(&T) -> u64,
    ) -> Outcome<(T, Cost)> {
        let process = contender.server.process();
        process.wait_until_quiet()?;
        let device = Device::holding(&self.bench.dir)?;
        let written = process.written_bytes()?;
        let (cpu, switches) = (process.cpu_seconds()?, process.switches()?);
        let done = load(&contender.server)?;
        let cpu = process.cpu_seconds()? - cpu;
        let switches = process.switches()?.saturating_sub(switches);
        let rss_bytes = process.memory()?.rss_bytes;
        process.wait_until_quiet()?;
        settle(&self.bench.dir)?;
        let device = Device::holding(&self.bench.dir)?.since(device);
        let written = process.written_bytes()?.saturating_sub(written);
        let requests = count(&done) as f64;
        let payload_bytes = requests * payload_bytes_each as f64;
        contender.payload_bytes += payload_bytes;
        let cost = Cost { cpu, switches, written, device, rss_bytes, requests, payload_bytes };
        Ok((done, cost))
    }

    /// Ends all; what their lives cost.
    pub(crate) fn leave(&self, case: &str, board: &mut Board, contenders: Vec<Contender>) {
        for contender in contenders {
            let Contender { peer, server, seat, payload_bytes, written_at_first } = contender;
            let ended =
                server.process().peak_rss_bytes().and_then(|peak| Ok((peak, server.stop()?)));
            match ended {
                Ok((peak, written)) => {
                    board.add(case, PEAK, peer.name(), mib(peak));
                    let written = written.saturating_sub(written_at_first) as f64;
                    if payload_bytes > 0.0 {
                        board.add(case, LIFE, peer.name(), written / payload_bytes);
                    }
                }
                Err(error) => board.fail(case, peer.name(), &error),
            }
            drop(seat);
        }
    }

    /// So many seconds of load before the first round: a JVM compiles meanwhile.
    pub(crate) fn warm_up(&self) -> Duration {
        self.bench.seconds(10.0)
    }
}

/// What a turn cost a server.
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    switches: u64,
    written: u64,
    device: Device,
    rss_bytes: u64,
    requests: f64,
    payload_bytes: f64,
}

impl Cost {
    /// Tells it, per record and per byte of records' values.
    pub(crate) fn tell(&self, case: &str, label: &str, records_each: usize, board: &mut Board) {
        let records = (self.requests * records_each as f64).max(1.0);
        let payload_bytes = self.payload_bytes.max(1.0);
        for (measure, value) in [
            (CPU, self.cpu * 1e6 / records),
            (SWITCHES, self.switches as f64 / records),
            (WRITTEN, self.written as f64 / payload_bytes),
            (DEVICE, self.device.written_bytes as f64 / payload_bytes),
            (FLUSHES, self.device.flushes as f64 * 1e3 / records),
            (RSS, mib(self.rss_bytes)),
        ] {
            board.add(case, measure, label, value);
        }
    }
}

/// In MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// All that was written to the file system is on its device when this returns: nobody pays for what somebody else
/// left in the page cache.
pub(crate) fn settle(dir: &Path) -> Outcome<()> {
    let dir = File::open(dir).context(format!("opening {}", dir.display()))?;
    rustix::fs::syncfs(&dir).context("syncing the file system")
}

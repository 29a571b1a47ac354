//! The brokers that are measured side by side: each a process of its own on loopback, with a home of
//! its own on the same file system, with its default or with its safest settings. What those promise
//! is said here, and stands beside each figure. None may be held back: a setting that differs from a
//! peer's default is there because it cannot run on one machine, or keep what is measured, without.

mod kafka;
mod mosquitto;
mod nats;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::broker::Broker;
use crate::error::{BenchError, Context, Outcome};
use crate::load::answers::Language;
use crate::load::topics::create_topic;
use crate::load::{mqtt, nats as nats_load};
use crate::process::{PATIENCE, Process, free_address};

pub(crate) use kafka::java;

/// For a fleet on one machine: all its devices come from one address. The peers have no such limits.
const MILLPOND_CONFIG: &str = "[limits]\nconnections_max = 16384\nconnections_per_ip_max = 16384\n\
                               connections_per_ip_per_second = 0\n";
/// Records carry a time of their own, and none is to be deleted for its age.
const KEEP: [(&str, &str); 1] = [("retention.ms", "-1")];
/// Between two looks whether a server answers.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A broker with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// Millpond with its defaults.
    Millpond,
    /// Apache Kafka with its defaults.
    Kafka,
    /// Apache Kafka that syncs each append.
    KafkaFlush,
    /// NATS JetStream with its defaults.
    Nats,
    /// NATS JetStream that syncs each message.
    NatsAlways,
    /// Mosquitto that saves its queues now and then.
    Mosquitto,
    /// Mosquitto that saves its queues after each change.
    MosquittoAutosave,
}

/// What a peer's settings are, and what they promise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Promise {
    /// What was set, beyond what one machine needs.
    pub(crate) settings: String,
    /// Where a record is when it is acknowledged.
    pub(crate) acknowledged: String,
    /// What a power cut takes of what was acknowledged.
    pub(crate) lost: String,
}

impl Peer {
    /// All, in the order of tables.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Its name on the command line and in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Millpond => "millpond",
            Self::Kafka => "kafka",
            Self::KafkaFlush => "kafka-flush",
            Self::Nats => "nats",
            Self::NatsAlways => "nats-always",
            Self::Mosquitto => "mosquitto",
            Self::MosquittoAutosave => "mosquitto-autosave",
        }
    }

    /// How it is spoken to.
    pub(crate) fn language(self) -> Language {
        match self {
            Self::Millpond | Self::Kafka | Self::KafkaFlush => Language::Kafka,
            Self::Nats | Self::NatsAlways => Language::Nats,
            Self::Mosquitto | Self::MosquittoAutosave => Language::Mqtt,
        }
    }

    /// What it promises.
    pub(crate) fn promise(self) -> Promise {
        let (settings, acknowledged, lost) = match self {
            Self::Millpond => (
                "defaults, limits of connections raised to 16,384",
                "written and synced",
                "nothing",
            ),
            Self::Kafka => (
                "defaults, heap of 1 GiB as its start script has it",
                "in the page cache",
                "what the kernel has not written back: up to some 30 s",
            ),
            Self::KafkaFlush => ("log.flush.interval.messages=1", "written and synced", "nothing"),
            Self::Nats => (
                "defaults, stream in files",
                "in memory or the page cache",
                "what was not synced: up to 2 min (sync_interval)",
            ),
            Self::NatsAlways => {
                ("sync_interval: always, stream in files", "written and synced", "nothing")
            }
            Self::Mosquitto => (
                "persistence true, QoS 1, a subscriber that is away, max_queued_messages 0",
                "in memory",
                "what came since the last save: up to 30 min (autosave_interval)",
            ),
            Self::MosquittoAutosave => (
                "as mosquitto, with autosave_on_changes true, autosave_interval 1",
                "in memory; saved after that, not before",
                "what came since the last save: as long as that one takes",
            ),
        };
        Promise {
            settings: settings.to_owned(),
            acknowledged: acknowledged.to_owned(),
            lost: lost.to_owned(),
        }
    }
}

/// Where the peers are installed, and Millpond's program.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    /// Millpond's program.
    pub(crate) millpond: PathBuf,
    /// What `bench/peers/setup` fetched.
    pub(crate) peers: PathBuf,
}

impl Installed {
    /// Its version, as it says itself; an error if it is not there.
    pub(crate) fn version(&self, peer: Peer) -> Outcome<String> {
        match peer {
            Peer::Millpond => first_line(Command::new(&self.millpond).arg("--version")),
            Peer::Kafka | Peer::KafkaFlush => kafka::version(&self.peers),
            Peer::Nats | Peer::NatsAlways => nats::version(&self.peers),
            Peer::Mosquitto | Peer::MosquittoAutosave => mosquitto::version(&self.peers),
        }
    }

    /// What it consists of; directories stand for all that is in them.
    pub(crate) fn programs(&self, peer: Peer) -> Outcome<Vec<PathBuf>> {
        match peer {
            Peer::Millpond => Ok(vec![self.millpond.clone()]),
            Peer::Kafka | Peer::KafkaFlush => Ok(vec![self.peers.join("kafka")]),
            Peer::Nats | Peer::NatsAlways => Ok(vec![self.peers.join("nats/nats-server")]),
            Peer::Mosquitto | Peer::MosquittoAutosave => {
                Ok(vec![self.peers.join("mosquitto/usr/sbin/mosquitto")])
            }
        }
    }
}

/// The first line that a program prints.
fn first_line(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let advice = format!("{name} (bench/peers/setup installs the peers)");
    let output = command.output().context(advice)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().context(format!("a version of {name}"))?.trim().to_owned())
}

/// A place to run a broker, again and again: its home and its addresses stay the same.
pub(crate) struct Seat {
    pub(crate) peer: Peer,
    pub(crate) home: TempDir,
    pub(crate) address: SocketAddr,
    /// For a broker's own use.
    pub(crate) control: SocketAddr,
}

impl Seat {
    /// A new one, in an empty directory.
    pub(crate) fn new(peer: Peer, home: TempDir) -> Outcome<Self> {
        Ok(Self { peer, home, address: free_address()?, control: free_address()? })
    }

    /// Starts the broker here and waits for nothing. What has to be done once before that, such as formatting, is
    /// done first.
    pub(crate) fn spawn(&self, installed: &Installed) -> Outcome<Server> {
        let name = self.peer.name();
        let home = self.home.path();
        let running = match self.peer {
            Peer::Millpond => Running::Millpond(Broker::spawn_at(
                &installed.millpond,
                home,
                MILLPOND_CONFIG,
                self.address,
            )?),
            peer => {
                let command = match peer {
                    Peer::Kafka | Peer::KafkaFlush => kafka::command(&installed.peers, self)?,
                    Peer::Nats | Peer::NatsAlways => nats::command(&installed.peers, self)?,
                    _ => mosquitto::command(&installed.peers, self)?,
                };
                Running::Other(Process::start(name, command, home)?)
            }
        };
        Ok(Server { peer: self.peer, address: self.address, running })
    }

    /// Makes what has to be there before the first start.
    pub(crate) fn prepare(&self, installed: &Installed) -> Outcome<()> {
        match self.peer {
            Peer::Kafka | Peer::KafkaFlush => kafka::format(&installed.peers, self),
            _ => Ok(()),
        }
    }

    /// Starts the broker and waits until it serves.
    pub(crate) fn start(&self, installed: &Installed) -> Outcome<Server> {
        self.prepare(installed)?;
        let mut server = self.spawn(installed)?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            match server.ask() {
                Ok(()) => return Ok(server),
                Err(error) if server.has_ended() || Instant::now() > give_up => {
                    return Err(server.process().complaint(&format!("it does not serve: {error}")));
                }
                Err(_) => thread::sleep(LOOK_EVERY),
            }
        }
    }
}

enum Running {
    Millpond(Broker),
    Other(Process),
}

/// A running broker.
pub(crate) struct Server {
    peer: Peer,
    address: SocketAddr,
    running: Running,
}

impl Server {
    /// Where records are sent.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the kernel knows of it.
    pub(crate) fn process(&self) -> &Process {
        match &self.running {
            Running::Millpond(broker) => broker.process(),
            Running::Other(process) => process,
        }
    }

    /// Where there is one, Millpond.
    pub(crate) fn millpond(&self) -> Option<&Broker> {
        match &self.running {
            Running::Millpond(broker) => Some(broker),
            Running::Other(_) => None,
        }
    }

    fn has_ended(&mut self) -> bool {
        match &mut self.running {
            Running::Millpond(_) => false,
            Running::Other(process) => process.has_ended(),
        }
    }

    /// Whether it serves: an error if it does not, or not yet.
    fn ask(&self) -> Outcome<()> {
        match self.peer.language() {
            Language::Kafka => match self.make_topic("asked", 1) {
                Err(error) if error.to_string().to_lowercase().contains("exist") => Ok(()),
                asked => asked,
            },
            language => language.connect(self.address, 0).map(drop),
        }
    }

    /// Makes a topic, or what is nearest to it, that keeps what it gets.
    pub(crate) fn make_topic(&self, topic: &str, partitions: usize) -> Outcome<()> {
        match self.peer.language() {
            Language::Kafka => create_topic(self.address, topic, partitions, &KEEP),
            Language::Nats => nats_load::create_stream(self.address, topic),
            Language::Mqtt => mqtt::keep(self.address, topic),
        }
    }

    /// Stops it as an operator would; the bytes that it sent to the device in all its life.
    pub(crate) fn stop(self) -> Outcome<u64> {
        match self.running {
            Running::Millpond(broker) => broker.stop(),
            Running::Other(process) => process.stop(),
        }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(self) -> Outcome<()> {
        match self.running {
            Running::Millpond(broker) => broker.kill(),
            Running::Other(process) => process.kill(),
        }
    }
}

/// Writes a peer's configuration into its home.
fn configure(home: &Path, file: &str, text: &str) -> Outcome<PathBuf> {
    let path = home.join(file);
    std::fs::write(&path, text).context(format!("writing {}", path.display()))?;
    Ok(path)
}

/// The peers that are asked for and are there; an error if one that was named is not.
pub(crate) fn present(installed: &Installed, named: &[Peer]) -> Outcome<Vec<Peer>> {
    let mut found = Vec::new();
    for peer in if named.is_empty() { Peer::all() } else { named } {
        match installed.version(*peer) {
            Ok(_) => found.push(*peer),
            Err(error) if named.is_empty() => eprintln!("without {}: {error}", peer.name()),
            Err(error) => return Err(error),
        }
    }
    // The others are compared with it.
    match found.first() {
        Some(Peer::Millpond) => Ok(found),
        _ if found.contains(&Peer::Millpond) => {
            found.sort();
            Ok(found)
        }
        _ => Err(BenchError::new("the peers", "millpond must be among them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_is_called_what_the_command_line_calls_it() {
        for peer in Peer::all() {
            assert_eq!(Peer::from_str(peer.name(), false), Ok(*peer));
            assert_eq!(serde_json::to_value(peer).unwrap(), peer.name());
        }
    }

    #[test]
    fn who_syncs_before_acknowledging_loses_nothing() {
        for peer in Peer::all() {
            let promise = peer.promise();
            let is_synced = promise.acknowledged == "written and synced";
            assert_eq!(is_synced, promise.lost == "nothing", "{peer:?}");
        }
    }
}

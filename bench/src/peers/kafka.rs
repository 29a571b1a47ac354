//! Apache Kafka as one KRaft node: the settings that its own `config/server.properties` ships with, and
//! the JVM that its start scripts ask for.

use std::path::Path;
use std::process::Command;

use super::{Peer, Seat, configure};
use crate::error::{BenchError, Context, Outcome};

/// As `kafka-server-start.sh` and `kafka-run-class.sh` have it.
const JVM: [&str; 9] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
    // Less than its own logging does.
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];
/// Any: the data directory knows it by this.
const CLUSTER: &str = "bWlsbHBvbmQtYmVuY2gtMA";

/// Its version, of the name of its jar.
pub(crate) fn version(peers: &Path) -> Outcome<String> {
    let dir = peers.join("kafka");
    let advice = format!("{} (bench/peers/setup installs the peers)", dir.display());
    let names = std::fs::read_dir(&dir).context(advice)?.flatten();
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let version = names
        .find_map(|name| Some(name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?.to_owned()));
    Ok(format!("Apache Kafka {}", version.context("a kafka_2.13 jar")?))
}

/// A class of what `bench/peers/setup` fetched or compiled, in a JVM with these flags.
pub(crate) fn java(peers: &Path, flags: &[&str], class: &str) -> Command {
    let mut path = peers.join("classes").into_os_string();
    path.push(":");
    path.push(peers.join("kafka/*"));
    let mut command = Command::new("java");
    command.args(flags).arg("-cp").arg(path).arg(class);
    command
}

/// The server.
pub(crate) fn command(peers: &Path, seat: &Seat) -> Outcome<Command> {
    let config = configure(seat.home.path(), "server.properties", &properties(seat))?;
    let mut command = java(peers, &JVM, "kafka.Kafka");
    command.arg(config);
    Ok(command)
}

/// Makes its data directory, once.
pub(crate) fn format(peers: &Path, seat: &Seat) -> Outcome<()> {
    let home = seat.home.path();
    if home.join("data").exists() {
        return Ok(());
    }
    let config = configure(home, "server.properties", &properties(seat))?;
    let mut command = java(peers, &[], "kafka.tools.StorageTool");
    command.args(["format", "--standalone", "-t", CLUSTER, "-c"]).arg(config);
    let output = command.output().context("formatting Kafka's data directory")?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(BenchError::new("formatting Kafka's data directory", text))
        }
    }
}

fn properties(seat: &Seat) -> String {
    let flush = match seat.peer {
        Peer::KafkaFlush => "log.flush.interval.messages=1\n",
        _ => "",
    };
    let (address, control) = (seat.address, seat.control);
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers={control}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{control}\n\
         advertised.listeners=PLAINTEXT://{address},CONTROLLER://{control}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         num.network.threads=3\n\
         num.io.threads=8\n\
         socket.send.buffer.bytes=102400\n\
         socket.receive.buffer.bytes=102400\n\
         socket.request.max.bytes=104857600\n\
         log.dirs={}\n\
         num.partitions=1\n\
         num.recovery.threads.per.data.dir=2\n\
         offsets.topic.replication.factor=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         log.segment.bytes=1073741824\n\
         {flush}",
        seat.home.path().join("data").display(),
    )
}

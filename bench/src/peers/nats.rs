//! NATS with JetStream in files.

use std::path::Path;
use std::process::Command;

use super::{Peer, Seat, configure, first_line};
use crate::error::Outcome;

const PROGRAM: &str = "nats/nats-server";

/// Its version, as it says.
pub(crate) fn version(peers: &Path) -> Outcome<String> {
    let said = first_line(Command::new(peers.join(PROGRAM)).arg("--version"))?;
    Ok(said.replace("nats-server: ", "NATS "))
}

/// The server.
pub(crate) fn command(peers: &Path, seat: &Seat) -> Outcome<Command> {
    let sync = match seat.peer {
        Peer::NatsAlways => "  sync_interval: always\n",
        _ => "",
    };
    let home = seat.home.path();
    let text = format!(
        "listen: \"{}\"\njetstream {{\n  store_dir: \"{}\"\n{sync}}}\n",
        seat.address,
        home.join("data").display(),
    );
    let config = configure(home, "nats.conf", &text)?;
    let mut command = Command::new(peers.join(PROGRAM));
    command.arg("--config").arg(config);
    Ok(command)
}

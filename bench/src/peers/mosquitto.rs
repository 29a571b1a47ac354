//! Mosquitto with persistence, from Debian's packages as they were unpacked.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Peer, Seat, configure, first_line};
use crate::error::{Context, Outcome};

const HOME: &str = "mosquitto";

/// Its version, as its help says.
pub(crate) fn version(peers: &Path) -> Outcome<String> {
    let said = first_line(program(peers).arg("-h"))?;
    Ok(said.replace("mosquitto version", "Mosquitto"))
}

/// The program, with the libraries that came with it.
fn program(peers: &Path) -> Command {
    let home = peers.join(HOME);
    let dirs = ["usr/lib", "lib"].into_iter().filter_map(|dir| fs::read_dir(home.join(dir)).ok());
    // Below a directory for the machine's architecture.
    let dirs = dirs.flatten().flatten().map(|entry| entry.path());
    let libraries = std::env::join_paths(dirs.filter(|path| path.is_dir())).unwrap_or_default();
    let mut command = Command::new(home.join("usr/sbin/mosquitto"));
    command.env("LD_LIBRARY_PATH", libraries);
    command
}

/// The broker.
pub(crate) fn command(peers: &Path, seat: &Seat) -> Outcome<Command> {
    let autosave = match seat.peer {
        Peer::MosquittoAutosave => "autosave_on_changes true\nautosave_interval 1\n",
        _ => "",
    };
    let home = seat.home.path();
    let data = home.join("data");
    fs::create_dir_all(&data).context(format!("making {}", data.display()))?;
    // As root it would become a user who cannot write here.
    let text = format!(
        "user root\n\
         listener {} {}\n\
         allow_anonymous true\n\
         log_type error\n\
         log_type warning\n\
         persistence true\n\
         persistence_location {}/\n\
         max_queued_messages 0\n\
         {autosave}",
        seat.address.port(),
        seat.address.ip(),
        data.display(),
    );
    let config = configure(home, "mosquitto.conf", &text)?;
    let mut command = program(peers);
    command.arg("-c").arg(config);
    Ok(command)
}

//! A network namespace: a machine of its own as far as the network goes, made by `ip netns` and
//! removed when dropped. Its name carries our process id; what a killed run left is removed by the
//! next one.
//!
//! A thread that entered one never leaves it: [`Namespace::run`] gives the work a thread of its own.
//! Threads and programs that it starts are in there too.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::PathError;

const PREFIX: &str = "millpond-path";
static MADE: AtomicU32 = AtomicU32::new(0);

/// A namespace with nothing in it but loopback.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; `role` is part of its name.
    ///
    /// # Errors
    /// What is missing: root, or `ip`.
    pub fn make(role: &str) -> Result<Namespace, PathError> {
        remove_stale();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{role}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Runs `ip` in it.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, words: &[&str]) -> Result<(), PathError> {
        ip(&[&["-n", &self.name], words].concat())
    }

    /// The calling thread enters it, for good.
    ///
    /// # Errors
    /// If it is gone, or we are not root.
    pub fn enter(&self) -> Result<(), PathError> {
        let place = Path::new("/run/netns").join(&self.name);
        let failed =
            |error: std::io::Error| PathError(format!("entering {}: {error}", place.display()));
        let file = File::open(&place).map_err(failed)?;
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), kind).map_err(|error| failed(error.into()))
    }

    /// Does `work` inside, on a thread of its own, and waits for it; a panic goes on in the caller.
    ///
    /// # Panics
    /// If the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            self.enter().unwrap_or_else(|error| panic!("{error}"));
            work()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Sets `net.ipv4.NAME`.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<(), PathError> {
        let file = format!("/proc/sys/net/ipv4/{name}");
        let written = self.run(|| std::fs::write(&file, value));
        written.map_err(|error| PathError(format!("{file} = {value}: {error}")))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.name]).ok();
    }
}

/// Removes the namespaces of processes that are gone.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let pid = rest.split('-').nth(1).unwrap_or_default();
        if !pid.is_empty() && !Path::new("/proc").join(pid).exists() {
            ip(&["netns", "del", &name]).ok();
        }
    }
}

fn ip(words: &[&str]) -> Result<(), PathError> {
    let line = format!("ip {}", words.join(" "));
    let outcome = Command::new("ip").args(words).output();
    let outcome = outcome.map_err(|error| {
        PathError(format!("{line}: {error}; tests/setup installs it (package iproute2)"))
    })?;
    match outcome.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&outcome.stderr);
            Err(PathError(format!("{line}: {}; network namespaces need root", said.trim())))
        }
    }
}

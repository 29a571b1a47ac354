//! A client in a process of its own, in another language: started anew whenever it ends, asked to
//! finish at the end. Must never hide that it failed by itself.

use super::Deck;
use crate::dice::Dice;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to finish.
const FINISH: Duration = Duration::from_secs(30);
/// It may fail by itself so often in a run.
const FAILURES_MAX: u32 = 3;

/// What is run: `interpreter script role bootstrap file name seed`.
#[derive(Clone, Debug)]
pub struct ProcessPlan {
    /// Runs the script.
    pub interpreter: PathBuf,
    /// What it runs.
    pub script: PathBuf,
    /// What the script is to do.
    pub role: String,
    /// Its name in the history.
    pub name: String,
    /// Where it writes what it does and is told.
    pub diary: PathBuf,
}

pub(super) fn run(deck: Deck, mut dice: Dice, plan: &ProcessPlan) {
    let mut failures = 0;
    while !deck.is_over() {
        let mut child = start(&deck, &mut dice, plan);
        let ended = loop {
            match child.try_wait() {
                Ok(None) if !deck.is_over() => deck.pause_ms(20),
                Ok(status) => break status,
                Err(error) => panic!("{}: {error}", plan.name),
            }
        };
        let status = match ended {
            Some(status) => status,
            None => finish(&mut child, plan, &deck),
        };
        // A signal is what it chose, and so is an end without a complaint.
        failures += u32::from(status.code().is_some_and(|code| code != 0));
        assert!(failures <= FAILURES_MAX, "{} fails again and again", plan.name);
    }
}

fn start(deck: &Deck, dice: &mut Dice, plan: &ProcessPlan) -> Child {
    let mut command = Command::new(&plan.interpreter);
    command.arg(&plan.script).arg(&plan.role).arg(deck.address.to_string());
    command.arg(&plan.diary).arg(&plan.name).arg((dice.bits() >> 1).to_string());
    match command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => panic!("{}: {error}", plan.name),
    }
}

fn finish(child: &mut Child, plan: &ProcessPlan, deck: &Deck) -> std::process::ExitStatus {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM).ok();
    }
    let give_up = Instant::now() + FINISH;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status,
            Ok(None) if Instant::now() < give_up => deck.pause_ms(20),
            _ => {
                child.kill().ok();
                child.wait().ok();
                panic!("{} did not finish within {FINISH:?}", plan.name);
            }
        }
    }
}

//! `millpond transform logs`: what a module said, once or as it comes.

use std::thread;
use std::time::Duration;

use clap::Args;

use super::super::http_client::HttpClient;
use super::super::{CliError, text};
use super::path;
use crate::transforms::LogLine;

/// How long to wait between two questions for new lines.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// Its name.
    name: String,
    /// The newest lines.
    #[arg(long, short = 'n', default_value_t = 100)]
    lines: usize,
    /// Go on with what comes, until interrupted.
    #[arg(long, short)]
    follow: bool,
}

pub(super) fn run(node: &HttpClient, args: &LogsArgs, json: bool) -> Result<(), CliError> {
    let first = format!("/logs?lines={}", args.lines);
    let mut lines: Vec<LogLine> = node.get(&path(&args.name, &first)?)?;
    let (mut start, mut after) = (String::new(), 0);
    let mut is_away = false;
    loop {
        show(&lines, args.follow, json)?;
        if !args.follow {
            return Ok(());
        }
        if let Some(line) = lines.last() {
            (start, after) = (line.start.clone(), line.number);
        }
        thread::sleep(FOLLOW_PAUSE);
        let rest = match start.as_str() {
            "" => "/logs".to_owned(),
            start => format!("/logs?after={after}&start={start}"),
        };
        lines = match node.get(&path(&args.name, &rest)?) {
            Ok(lines) => lines,
            // It may be starting again; what it says then has another start.
            Err(error) if error.is_for_now() => {
                if !std::mem::replace(&mut is_away, true) {
                    eprintln!("the node is away, waiting for it: {error}");
                }
                lines.clear();
                continue;
            }
            Err(error) => return Err(error),
        };
        is_away = false;
    }
}

/// As JSON: an array, or while following one line for each line.
fn show(lines: &[LogLine], follow: bool, json: bool) -> Result<(), CliError> {
    if json && !follow {
        return text::print_json(&lines);
    }
    for line in lines {
        match json {
            true => {
                let line = serde_json::to_string(line);
                let line = line.map_err(|error| CliError::failed(error.to_string()))?;
                text::print(&format!("{line}\n"))?;
            }
            false => text::print(&format!(
                "{}  {:<5}  [{}] {}\n",
                clock(line.wall_ms),
                line.level,
                line.partition,
                line.text
            ))?,
        }
    }
    Ok(())
}

/// The time of day in UTC, to the millisecond.
fn clock(wall_ms: i64) -> String {
    let of_day = wall_ms.rem_euclid(86_400_000);
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_shows_the_time_of_day() {
        assert_eq!(clock(0), "00:00:00.000");
        assert_eq!(clock(86_400_000 + 3_723_004), "01:02:03.004");
    }
}

//! Writing to standard output: a closed pipe (`millpond consume t | head`) ends a command quietly.

use std::io::{self, Write};

use serde::Serialize;

use super::CliError;

/// Writes a text as it is.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    write_bytes(text.as_bytes())
}

/// Writes a value as indented JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|e| CliError::failed(e.to_string()))?;
    text.push('\n');
    print(&text)
}

/// Writes bytes as they are.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => {
            result.map_err(|e| CliError::failed(format!("cannot write to standard output: {e}")))
        }
    }
}

/// A number of bytes for people: three digits and a unit.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss)]
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match unit {
        0 => format!("{n} B"),
        _ if value < 10.0 => format!("{value:.1} {name}"),
        _ => format!("{value:.0} {name}"),
    }
}

/// A time in ms since 1970 in UTC: `2026-11-21 11:15:04.123`; a dash where there is none.
pub(crate) fn utc(ms: i64) -> String {
    if ms < 0 {
        return "-".to_owned();
    }
    let (days, of_day) = (ms / DAY_MS, ms % DAY_MS);
    let (year, month, day) = date(days);
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{ms:03}")
}

const DAY_MS: i64 = 86_400_000;

/// Year, month and day of a day since 1970, in the Gregorian calendar. The year is taken to begin
/// in March, so that the leap day is its last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{bytes, utc};

    #[test]
    fn times_are_dates_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (1_795_259_704_123, "2026-11-21 11:15:04.123"),
            (-1, "-"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }

    #[test]
    fn bytes_are_rounded_for_people() {
        for (n, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (50 << 20, "50 MiB")] {
            assert_eq!(bytes(n), text);
        }
    }
}

//! What a running node's load does to its card, and what would spare it: read from `/metrics`,
//! judged by arithmetic that is written down here. It must never promise: every effect is an
//! estimate from averages since the node started.

use std::time::Duration;

use serde::Serialize;

use super::text;
use crate::metrics::scrape::Scrape;
use crate::metrics::wear::{DAY_SECONDS, LIFE_KNOWN_AFTER, is_of_load};

/// The unit of a journal write.
const BLOCK_BYTES: f64 = 4096.0;
/// What a commit adds to its entries, on average: its header, and half a block of padding.
const COMMIT_EXTRA_BYTES: f64 = 96.0 + BLOCK_BYTES / 2.0;
/// What a batch of one record adds to it: the batch's header, and the entry's around it.
const BATCH_EXTRA_BYTES: f64 = 61.0 + ENTRY_EXTRA_BYTES;
/// Of these, the entry's.
const ENTRY_EXTRA_BYTES: f64 = 45.0;
/// Advice that saves less of all bytes is not worth a reader's time.
const SAVING_LEAST: f64 = 0.05;

/// Rates of a node's load, averages since its start.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Wear {
    pub(super) uptime_seconds: f64,
    /// Bytes a day, by cause, without causes that wrote nothing.
    bytes_per_day: Vec<(String, f64)>,
    total_bytes_per_day: f64,
    payload_bytes_per_day: f64,
    write_amplification: Option<f64>,
    syncs_per_second: f64,
    /// By cause, without causes that never synced.
    syncs_per_second_by_cause: Vec<(String, f64)>,
    commits_per_second: f64,
    records_per_second: f64,
    entries_per_second: f64,
    card_endurance_bytes: Option<u64>,
    /// Of a new card at this load.
    card_life_days: Option<f64>,
    pub(super) advice: Vec<Advice>,
}

/// Something that would spare the card.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Advice {
    /// What to do, and what it costs.
    pub(super) text: String,
    /// Bytes a day that would be left, all causes together.
    bytes_per_day: f64,
    /// The part of all bytes that it saves.
    saves: f64,
}

impl Wear {
    /// The rates that a scrape tells.
    pub(super) fn of(scrape: &Scrape) -> Self {
        let uptime = scrape.sum("millpond_uptime_seconds", &[]).max(1.0);
        let (per_second, per_day) = (|n: f64| n / uptime, |n: f64| n / uptime * DAY_SECONDS);
        let not_none = |causes: Vec<(String, f64)>, rate: &dyn Fn(f64) -> f64| -> Vec<_> {
            let some = causes.into_iter().filter(|(cause, n)| *n > 0.0 && is_of_load(cause));
            some.map(|(cause, n)| (cause, rate(n))).collect()
        };
        let written = scrape.by("millpond_disk_written_bytes_total", "cause");
        let syncs = scrape.by("millpond_disk_syncs_total", "cause");
        let bytes_per_day = not_none(written, &per_day);
        let syncs_per_second_by_cause = not_none(syncs, &per_second);
        let total: f64 = bytes_per_day.iter().map(|(_, n)| n).sum();
        let payload = per_day(scrape.sum("millpond_payload_bytes_total", &[]));
        let endurance = scrape.count("millpond_card_endurance_bytes", &[]);
        let mut wear = Self {
            uptime_seconds: uptime,
            total_bytes_per_day: total,
            payload_bytes_per_day: payload,
            write_amplification: (payload > 0.0).then(|| total / payload),
            syncs_per_second: syncs_per_second_by_cause.iter().map(|(_, n)| n).sum(),
            syncs_per_second_by_cause,
            commits_per_second: per_second(scrape.sum("millpond_journal_commits_total", &[])),
            records_per_second: per_second(scrape.sum("millpond_records_appended_total", &[])),
            entries_per_second: per_second(
                scrape.sum("millpond_commit_latency_seconds_count", &[]),
            ),
            card_endurance_bytes: (endurance > 0).then_some(endurance),
            #[allow(clippy::cast_precision_loss)] // Days are wanted.
            card_life_days: (endurance > 0 && total > 0.0).then(|| endurance as f64 / total),
            bytes_per_day,
            advice: Vec::new(),
        };
        wear.advice = advise(&wear);
        wear
    }

    fn cause(&self, name: &str) -> f64 {
        self.bytes_per_day.iter().find(|(cause, _)| cause == name).map_or(0.0, |(_, n)| *n)
    }

    /// Journal bytes a day if commits gathered for `linger_ms`.
    fn journal_with_linger(&self, linger_ms: f64) -> f64 {
        // A commit begins with an entry, and takes all that come within the linger.
        let entries = self.entries_per_second;
        let commits = entries / (1.0 + entries * linger_ms / 1000.0);
        let commits = commits.min(self.commits_per_second) * DAY_SECONDS;
        let now = self.commits_per_second * DAY_SECONDS;
        // What the entries take: no more than what was accepted needs, whatever the padding.
        let accepted = self.payload_bytes_per_day + entries * ENTRY_EXTRA_BYTES * DAY_SECONDS;
        let content = (self.cause("journal") - now * COMMIT_EXTRA_BYTES).clamp(0.0, accepted);
        let wanted = content + commits * COMMIT_EXTRA_BYTES;
        wanted.max(commits * BLOCK_BYTES).min(self.cause("journal"))
    }

    /// For people, each line ended.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        let mut line = |label: &str, value: String| out.push_str(&format!("{label:<14}{value}\n"));
        line("wear", format!("averages of {}", duration(self.uptime_seconds)));
        let causes: Vec<String> = self
            .bytes_per_day
            .iter()
            .map(|(cause, n)| format!("{cause} {}", per_day(*n)))
            .collect();
        line("  written", format!("{} a day", per_day(self.total_bytes_per_day)));
        if !causes.is_empty() {
            line("  of it", causes.join(", "));
        }
        if let Some(amplification) = self.write_amplification {
            let payload = per_day(self.payload_bytes_per_day);
            line(
                "  per byte",
                format!("{amplification:.2} written for each of {payload} accepted"),
            );
        }
        let per_commit = self.records_per_second / self.commits_per_second.max(f64::MIN_POSITIVE);
        line("  syncs", format!("{:.2} a second", self.syncs_per_second));
        if self.commits_per_second > 0.0 {
            line("  commits", format!("{per_commit:.1} records in each"));
        }
        line("  card life", self.life());
        out
    }

    fn life(&self) -> String {
        let Some(endurance) = self.card_endurance_bytes else {
            return "not known: set storage.card_endurance to what the maker states".into();
        };
        let Some(days) = self.card_life_days else { return "nothing was written yet".into() };
        let span = match days {
            ..730.0 => format!("{days:.0} days"),
            _ => format!("{:.1} years", days / 365.25),
        };
        let known = match self.uptime_seconds >= LIFE_KNOWN_AFTER.as_secs_f64() {
            true => "",
            false => "; too short a time to tell yet",
        };
        format!(
            "{span} at this load for {} (without what other programs and the file system \
             write){known}",
            text::bytes(endurance)
        )
    }
}

/// What would spare the card, most first.
fn advise(wear: &Wear) -> Vec<Advice> {
    let total = wear.total_bytes_per_day;
    if total <= 0.0 {
        return Vec::new();
    }
    let mut all: Vec<Advice> = Vec::new();
    let mut add = |saved: f64, text: String| {
        let saves = saved / total;
        if saves >= SAVING_LEAST {
            let left = total - saved;
            let (percent, left_text) = (saves * 100.0, per_day(left));
            let text = format!("{text}: about {percent:.0} % less, {left_text} a day");
            all.push(Advice { text, bytes_per_day: left, saves });
        }
    };
    let journal = wear.cause("journal");
    for (linger_ms, cost) in [(10.0, "10 ms"), (100.0, "0.1 s")] {
        let saved = journal - wear.journal_with_linger(linger_ms);
        add(saved, format!("journal.linger_ms = {linger_ms} (every acknowledgement {cost} later)"));
    }
    let saved = journal - wear.journal_with_linger(1_000.0);
    let what = "flush.ms=1000 on topics that may lose their last second at a power cut (answers at \
                once)";
    add(saved, what.to_owned());
    add(batching(wear), "linger.ms=100 and larger batches at the clients".to_owned());
    let checkpoints = wear.cause("checkpoint");
    let what = "twice the journal (journal.files) and storage.tail_bytes, so half the checkpoints";
    add(checkpoints / 2.0, what.to_owned());
    let compaction = wear.cause("compaction");
    let what = "min.cleanable.dirty.ratio=0.75 or a min.compaction.lag.ms on compacted topics";
    add(compaction / 2.0, what.to_owned());
    let stored = wear.cause("segment") + wear.cause("packing");
    let expected = wear.payload_bytes_per_day * PACKED_LEAST;
    let what = "storage.pack = true, or compression.type=zstd at the clients (unless what they \
                send is compressed already)";
    add((wear.cause("segment") - expected).clamp(0.0, stored), what.to_owned());
    all.sort_by(|a, b| b.saves.total_cmp(&a.saves));
    all
}

/// What packing leaves of telemetry, carefully.
const PACKED_LEAST: f64 = 0.3;

/// Bytes a day that clients would save by sending ten records at a time.
fn batching(wear: &Wear) -> f64 {
    let entries = wear.entries_per_second;
    if entries <= 0.0 || wear.records_per_second / entries > 5.0 {
        return 0.0;
    }
    let fewer = entries - wear.records_per_second / 10.0;
    fewer.max(0.0) * BATCH_EXTRA_BYTES * DAY_SECONDS
}

fn per_day(bytes: f64) -> String {
    // Never negative; what is beyond u64 saturates.
    text::bytes(bytes as u64)
}

fn duration(seconds: f64) -> String {
    let seconds = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 500 records a second, one in each batch, one batch in each commit, for a day.
    fn small_batches(endurance: u64) -> Wear {
        let day = 86_400_u64;
        let text = format!(
            "millpond_uptime_seconds {day}\nmillpond_payload_bytes_total {}\n\
             millpond_disk_written_bytes_total{{cause=\"journal\"}} {}\n\
             millpond_disk_written_bytes_total{{cause=\"packing\"}} {}\n\
             millpond_disk_written_bytes_total{{cause=\"metadata\"}} 120000000\n\
             millpond_disk_syncs_total{{cause=\"journal\"}} {}\n\
             millpond_journal_commits_total {}\nmillpond_records_appended_total {}\n\
             millpond_commit_latency_seconds_count {}\nmillpond_card_endurance_bytes {endurance}\n",
            500 * day * 260,
            500 * day * 4096,
            500 * day * 50,
            500 * day,
            500 * day,
            500 * day,
            500 * day,
        );
        Wear::of(&Scrape::parse(&text))
    }

    #[test]
    fn a_linger_saves_most_where_every_record_is_a_commit() {
        let wear = small_batches(0);
        assert!((wear.write_amplification.unwrap() - 15.9).abs() < 0.1, "{wear:?}");
        let texts: Vec<&str> = wear.advice.iter().map(|advice| advice.text.as_str()).collect();
        assert!(texts.first().is_some_and(|text| text.starts_with("flush.ms")), "{texts:?}");
        let linger = wear.advice.iter().find(|advice| advice.text.contains("linger_ms = 10 "));
        // 6 records in a commit of one block instead of one: a sixth of the journal's bytes.
        assert!(linger.is_some_and(|advice| advice.saves > 0.7), "{texts:?}");
        assert!(!texts.iter().any(|text| text.contains("storage.pack")), "{texts:?}");
    }

    #[test]
    fn a_life_needs_an_endurance() {
        assert!(small_batches(0).render().contains("set storage.card_endurance"));
        let text = small_batches(30_000_000_000_000).render();
        assert!(text.contains("167 days at this load for 27 TiB"), "{text}");
    }

    #[test]
    fn a_node_without_load_gets_no_advice() {
        let wear = Wear::of(&Scrape::parse("millpond_uptime_seconds 10\n"));
        assert!(wear.advice.is_empty() && wear.write_amplification.is_none());
        assert!(wear.render().contains("0 B a day"));
    }
}

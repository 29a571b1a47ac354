//! This machine's own counters, from `/proc` and `/sys`, as flat JSON. What a machine does not have is left out; what
//! it writes in another form is left out too. It only reads, and never more than a bounded part of a file.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Read of one file; the longest that is wanted, `/proc/stat` of a large machine, begins with what is wanted.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Disks, interfaces, sensors or processors that one sample tells of.
const PARTS_MAX: usize = 16;

/// The counters of one source at one time.
pub(crate) type Values = Map<String, Value>;

/// What is read together and becomes one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Cpu,
    Memory,
    Load,
    Disks,
    Network,
    Pressure,
    Thermal,
    Hwmon,
    Frequency,
    Power,
}

impl Source {
    pub(crate) const ALL: [Self; 10] = [
        Self::Cpu,
        Self::Memory,
        Self::Load,
        Self::Disks,
        Self::Network,
        Self::Pressure,
        Self::Thermal,
        Self::Hwmon,
        Self::Frequency,
        Self::Power,
    ];

    /// The key of its records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "machine-cpu",
            Self::Memory => "machine-memory",
            Self::Load => "machine-load",
            Self::Disks => "machine-disks",
            Self::Network => "machine-network",
            Self::Pressure => "machine-pressure",
            Self::Thermal => "machine-thermal",
            Self::Hwmon => "machine-hwmon",
            Self::Frequency => "machine-frequency",
            Self::Power => "machine-power",
        }
    }

    /// Reads it; `None` where the machine has nothing of the kind.
    pub(crate) fn read(self, root: &Root) -> Option<Values> {
        let values = match self {
            Self::Cpu => cpu(&root.text("proc/stat")?),
            Self::Memory => memory(&root.text("proc/meminfo")?),
            Self::Load => load(&root.text("proc/loadavg")?),
            Self::Disks => disks(&root.text("proc/diskstats")?),
            Self::Network => network(&root.text("proc/net/dev")?),
            Self::Pressure => pressure_of_all(root),
            Self::Thermal => sensors(root, "sys/class/thermal", "thermal_zone", "type", &["temp"]),
            Self::Hwmon => sensors(
                root,
                "sys/class/hwmon",
                "hwmon",
                "name",
                &["temp1_input", "in1_input", "fan1_input"],
            ),
            Self::Frequency => frequency(root),
            Self::Power => sensors(
                root,
                "sys/class/power_supply",
                "",
                "type",
                &["capacity", "voltage_now", "current_now", "online"],
            ),
        };
        (!values.is_empty()).then_some(values)
    }
}

/// Where the files are: `/`, or a directory that looks like it in tests.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// This machine.
    pub(crate) fn machine() -> Self {
        Self("/".into())
    }

    fn text(&self, path: &str) -> Option<String> {
        read(&self.0.join(path))
    }

    /// Entries of a directory that begin with `prefix`, in order.
    fn entries(&self, path: &str, prefix: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.0.join(path)) else { return Vec::new() };
        let wanted = |entry: &PathBuf| {
            entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        };
        let mut entries: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(wanted).collect();
        entries.sort_unstable();
        entries.truncate(PARTS_MAX);
        entries
    }
}

/// A record's value: the source, its number and what was read.
pub(crate) fn json(source: Source, seq: u32, values: &Values) -> String {
    let mut whole = Map::new();
    whole.insert("source".into(), source.name().into());
    whole.insert("seq".into(), seq.into());
    whole.insert("values".into(), Value::Object(values.clone()));
    Value::Object(whole).to_string()
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn cpu(text: &str) -> Values {
    const STATES: [&str; 8] =
        ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
    const COUNTS: [&str; 4] = ["ctxt", "processes", "procs_running", "procs_blocked"];
    let mut values = Values::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("cpu") => {
                STATES.iter().zip(words).for_each(|(name, word)| put(&mut values, name, word))
            }
            Some(name) if COUNTS.contains(&name) => {
                words.take(1).for_each(|word| put(&mut values, name, word))
            }
            _ => {}
        }
    }
    values
}

fn memory(text: &str) -> Values {
    const WANTED: [&str; 9] = [
        "MemTotal",
        "MemFree",
        "MemAvailable",
        "Buffers",
        "Cached",
        "Dirty",
        "Writeback",
        "SwapTotal",
        "SwapFree",
    ];
    let mut values = Values::new();
    for (name, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        if let (true, Some(kib)) = (WANTED.contains(&name), rest.split_whitespace().next()) {
            put(&mut values, &format!("{name}_kib"), kib);
        }
    }
    values
}

fn load(text: &str) -> Values {
    let mut values = Values::new();
    let words: Vec<&str> = text.split_whitespace().collect();
    for (name, word) in ["load_1", "load_5", "load_15"].iter().zip(&words) {
        put(&mut values, name, word);
    }
    if let Some((running, total)) = words.get(3).and_then(|word| word.split_once('/')) {
        put(&mut values, "running", running);
        put(&mut values, "threads", total);
    }
    values
}

fn disks(text: &str) -> Values {
    let mut values = Values::new();
    let whole = |name: &str| {
        !["loop", "ram", "zram", "fd", "sr"].iter().any(|prefix| name.starts_with(prefix))
    };
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    for words in lines.filter(|words| words.get(2).is_some_and(|name| whole(name))).take(PARTS_MAX)
    {
        let Some(name) = words.get(2) else { continue };
        for (what, index) in [
            ("reads", 3),
            ("sectors_read", 5),
            ("writes", 7),
            ("sectors_written", 9),
            ("busy_ms", 12),
        ] {
            if let Some(word) = words.get(index) {
                put(&mut values, &format!("{name}_{what}"), word);
            }
        }
    }
    values
}

fn network(text: &str) -> Values {
    let mut values = Values::new();
    for (name, rest) in text.lines().filter_map(|line| line.split_once(':')).take(PARTS_MAX) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let wanted = [
            ("rx_bytes", 0),
            ("rx_packets", 1),
            ("rx_errors", 2),
            ("tx_bytes", 8),
            ("tx_packets", 9),
        ];
        for (what, index) in wanted {
            if let Some(word) = words.get(index) {
                put(&mut values, &format!("{}_{what}", name.trim()), word);
            }
        }
    }
    values
}

fn pressure_of_all(root: &Root) -> Values {
    let mut values = Values::new();
    for what in ["cpu", "io", "memory"] {
        if let Some(text) = root.text(&format!("proc/pressure/{what}")) {
            values.extend(pressure(what, &text));
        }
    }
    values
}

fn pressure(what: &str, text: &str) -> Values {
    let mut values = Values::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(share) = words.next() else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            put(&mut values, &format!("{what}_{share}_{name}"), value);
        }
    }
    values
}

fn frequency(root: &Root) -> Values {
    let mut values = Values::new();
    for processor in root.entries("sys/devices/system/cpu", "cpu") {
        let khz = read(&processor.join("cpufreq/scaling_cur_freq"));
        if let (Some(khz), Some(name)) = (khz, processor.file_name()) {
            put(&mut values, &format!("{}_khz", name.to_string_lossy()), khz.trim());
        }
    }
    values
}

/// The `files` of each entry of a class of `/sys`, named after the entry and what its `label` says.
fn sensors(root: &Root, class: &str, prefix: &str, label: &str, files: &[&str]) -> Values {
    let mut values = Values::new();
    for entry in root.entries(class, prefix) {
        let Some(name) = entry.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        let label = read(&entry.join(label)).unwrap_or_default();
        for file in files {
            if let Some(text) = read(&entry.join(file)) {
                put(&mut values, &format!("{name}_{}_{file}", label.trim()), text.trim());
            }
        }
    }
    values
}

/// Keeps a word that is a number.
fn put(values: &mut Values, name: &str, word: &str) {
    let number = word.parse::<u64>().map(Value::from).ok();
    let number =
        number.or_else(|| word.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from));
    if let Some(number) = number {
        values.insert(name.to_owned(), number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 2 30 4000 5 6 7 8 0 0\ncpu0 50 1 15 2000 2 3 3 4 0 0\nintr 12345 1 2 3\n\
                        ctxt 987654\nbtime 1700000000\nprocesses 4321\nprocs_running 2\nprocs_blocked 0\n";

    #[test]
    fn processor_time_is_that_of_all_processors() {
        let values = cpu(STAT);
        assert_eq!(values["user"], 100);
        assert_eq!(values["steal"], 8);
        assert_eq!(values["ctxt"], 987_654);
        assert_eq!(values.len(), 12);
    }

    #[test]
    fn memory_is_told_in_kib() {
        let values = memory(
            "MemTotal:       24661124 kB\nHugePages_Total:       0\nMemFree:         1024 kB\nDirty: x kB\n",
        );
        assert_eq!(values["MemTotal_kib"], 24_661_124);
        assert_eq!(values["MemFree_kib"], 1024);
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn the_load_has_three_averages_and_the_threads() {
        let values = load("0.52 0.58 0.59 2/391 12345\n");
        assert_eq!(values["load_1"], 0.52);
        assert_eq!(values["running"], 2);
        assert_eq!(values["threads"], 391);
    }

    #[test]
    fn disks_are_told_without_those_in_memory() {
        let text = "   7       0 loop0 1 0 2 0 0 0 0 0 0 0 0\n 254       0 vda 35 1 4000 9 7 0 512 3 0 44 12 0 0 0 0\n";
        let values = disks(text);
        assert_eq!(values["vda_reads"], 35);
        assert_eq!(values["vda_sectors_written"], 512);
        assert_eq!(values["vda_busy_ms"], 44);
        assert!(values.keys().all(|key| key.starts_with("vda")));
    }

    #[test]
    fn interfaces_are_told_in_both_directions() {
        let text = "Inter-|   Receive                        |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n\
                    \x20   lo: 500 5 0 0 0 0 0 0 600 6 0 0 0 0 0 0\n  eth0:1500 15 1 0 0 0 0 0 1600 16 0 0 0 0 0 0\n";
        let values = network(text);
        assert_eq!(values["lo_tx_bytes"], 600);
        assert_eq!(values["eth0_rx_bytes"], 1500);
        assert_eq!(values["eth0_rx_errors"], 1);
        assert_eq!(values.len(), 10);
    }

    #[test]
    fn pressure_is_told_for_some_and_full() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=45\n";
        let values = pressure("io", text);
        assert_eq!(values["io_some_avg10"], 1.5);
        assert_eq!(values["io_full_total"], 45);
    }

    #[test]
    fn sensors_are_named_after_their_entry_and_label() {
        let root = tempfile::tempdir().unwrap();
        let zone = root.path().join("sys/class/thermal/thermal_zone0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("type"), "soc\n").unwrap();
        fs::write(zone.join("temp"), "48312\n").unwrap();
        let processor = root.path().join("sys/devices/system/cpu/cpu1/cpufreq");
        fs::create_dir_all(&processor).unwrap();
        fs::write(processor.join("scaling_cur_freq"), "1800000\n").unwrap();
        let root = Root(root.path().to_owned());
        assert_eq!(Source::Thermal.read(&root).unwrap()["thermal_zone0_soc_temp"], 48_312);
        assert_eq!(Source::Frequency.read(&root).unwrap()["cpu1_khz"], 1_800_000);
    }

    #[test]
    fn what_a_machine_does_not_have_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let root = Root(root.path().to_owned());
        assert!(Source::ALL.iter().all(|source| source.read(&root).is_none()));
        for parse in [cpu, memory, load, disks, network] {
            for text in ["", "\0\u{fffd} nonsense: :\n\n a b c d e f g h", "cpu\n cpu x y\n :"] {
                assert!(parse(text).values().all(Value::is_number));
            }
        }
    }

    #[test]
    fn a_record_says_whence_it_is() {
        let record = json(Source::Load, 7, &load("1.00 2.00 3.00 1/2 3"));
        let record: Value = serde_json::from_str(&record).unwrap();
        assert_eq!(record["source"], "machine-load");
        assert_eq!(record["seq"], 7);
        assert_eq!(record["values"]["load_15"], 3.0);
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let root = Root::machine();
        assert!(Source::Cpu.read(&root).is_some());
        assert!(Source::Memory.read(&root).is_some());
    }
}

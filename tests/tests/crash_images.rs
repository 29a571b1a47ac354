//! Power cuts of a real file system under a real broker (see `millpond_tests::images`): at random
//! moments, while segments change, while topics are deleted, at the first start and during recovery
//! itself. On each image a broker starts, and everything that was acknowledged before the cut is
//! there: records, committed offsets, producer sequences. Nothing there contradicts them.
//!
//! Needs root, loop devices, xfsprogs and e2fsprogs; where they lack it says SKIPPED. The short form
//! takes about a minute, the full one about half an hour:
//!
//!     cargo test -p millpond-tests --test crash_images -- --nocapture
//!     MILLPOND_CRASH_IMAGE_CUTS=300 cargo test -p millpond-tests --test crash_images -- --nocapture
//!
//! `MILLPOND_SEED` repeats the choices of a run, though not the timing of the machine.
//! `MILLPOND_CRASH_IMAGE_KEEP=DIR` keeps the image that failed. `tests/mutants --images` shows that
//! it fails on a broker that does not sync.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_tests::autopsy::{Complaints, Sight, judge_writer, read_stream};
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::dice::Dice;
use millpond_tests::history::History;
use millpond_tests::images::{Image, Lab, Mount};
use millpond_tests::kafka::{CallError, Kafka};
use millpond_tests::load::{GROUP, Load, Progress, Stream};
use millpond_tests::writer::{Kept, Ledger, Plan, Presence, Writer};
use millpond_wire::record::Codec;

/// Cuts of the short form.
const CUTS: u64 = 12;
/// Cuts between two new disks: what a run writes should stay small.
const CUTS_PER_ERA: u64 = 12;

/// A small journal and tail: checkpoints come often, a start is quick. What works in the background
/// works all the time.
const CONFIG: &str = "
[journal]
file_bytes = \"37MiB\"
files = 2
[storage]
tail_bytes = \"2MiB\"
check_interval_ms = 1000
compaction_check_ms = 200
background_bytes_per_second = 0
";

/// The topic of the small records.
const SMALL: &str = "small";
const SMALL_PARTITIONS: i32 = 4;

/// What is written beside the small records of [`Load`]. A topic with other settings goes here,
/// with what its settings allow to be gone.
const PLANS: [Plan; 6] = [
    // Batches of 64 KiB and more: the direct path.
    Plan { topic: "bulk", records: 2..5, value_bytes: 40_000..200_000, pace: 40, ..PLAIN },
    // Made, filled and deleted, over and over.
    Plan {
        topic: "brief",
        codec: Codec::Gzip,
        records: 1..20,
        deleted_after: Some(5..40),
        ..PLAIN
    },
    Plan {
        topic: "brief-bulk",
        records: 2..5,
        value_bytes: 100_000..250_000,
        pace: 20,
        deleted_after: Some(10..60),
        ..PLAIN
    },
    Plan {
        topic: "trimmed",
        kept: Kept::FromLogStart,
        value_bytes: 100..5_000,
        trimmed_every: Some(20),
        ..PLAIN
    },
    Plan {
        topic: "expiring",
        settings: &[("retention.bytes", "4194304"), ("segment.bytes", "1048576")],
        kept: Kept::FromLogStart,
        records: 1..20,
        value_bytes: 100..9_000,
        ..PLAIN
    },
    Plan {
        topic: "compacted",
        settings: &[
            ("cleanup.policy", "compact"),
            ("segment.bytes", "1048576"),
            ("min.cleanable.dirty.ratio", "0.1"),
        ],
        kept: Kept::NewestPerKey,
        value_bytes: 100..9_000,
        ..PLAIN
    },
];

const PLAIN: Plan = Plan {
    topic: "",
    settings: &[],
    kept: Kept::All,
    records: 1..10,
    value_bytes: 8..300,
    codec: Codec::None,
    pace: 5,
    deleted_after: None,
    trimmed_every: None,
};

#[test]
fn what_was_acknowledged_survives_power_cuts_of_a_real_file_system() {
    let asked = std::env::var("MILLPOND_CRASH_IMAGE_CUTS").ok();
    let cuts = asked.as_ref().map_or(CUTS, |text| {
        text.parse().unwrap_or_else(|_| panic!("MILLPOND_CRASH_IMAGE_CUTS={text}: not a number"))
    });
    let lab = match Lab::open() {
        Ok(lab) => lab,
        Err(lacking) => {
            let line = format!(
                "SKIPPED: crash images need root, loop devices, xfsprogs and e2fsprogs; {lacking}"
            );
            println!("{line}");
            assert!(asked.is_none(), "{line}");
            return;
        }
    };
    let seed = Dice::seed_from_environment();
    println!(
        "again: MILLPOND_SEED={seed} MILLPOND_CRASH_IMAGE_CUTS={cuts} \
         cargo test -p millpond-tests --test crash_images -- --nocapture"
    );
    let (mut dice, mut tally, begun) = (Dice::new(seed), Tally::default(), Instant::now());
    while tally.cuts < cuts {
        let count = CUTS_PER_ERA.min(cuts - tally.cuts);
        for cut in Era::open(&lab, &mut dice).run(count, &mut tally) {
            tally.cuts += 1;
            cut.examine(&mut dice, &mut tally);
        }
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        println!("{} of {cuts} cuts in {minutes:.1} min: {tally:?}", tally.cuts);
    }
    tally.expect_not_vacuous();
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cuts: u64,
    /// Of a node that started for the first time.
    at_first_start: u64,
    /// Between the files of a checkpoint and its name.
    in_checkpoint: u64,
    /// In the middle of making or deleting a topic.
    around_deletion: u64,
    /// Of a node that recovered from another cut.
    in_recovery: u64,
    /// After which the load went on upon what was left.
    blackouts: u64,
    checkpoints: u64,
    commits: u64,
    over_quic: u64,
    /// Records that were read back from images.
    records: u64,
    /// Images on which retention, or compaction, had taken something.
    expired: u64,
    compacted: u64,
    absent: u64,
    slowest_start_ms: u128,
}

impl Tally {
    /// A run that did nothing proves nothing.
    fn expect_not_vacuous(&self) {
        let Tally { cuts, .. } = *self;
        assert!(self.records >= cuts * 1000, "too few records: {self:?}");
        assert!(self.checkpoints >= cuts / 24, "too few checkpoints: {self:?}");
        assert!(self.commits >= cuts && self.over_quic >= cuts, "too little load: {self:?}");
        assert!(self.around_deletion > 0 && self.blackouts > 0, "too few kinds: {self:?}");
        if cuts >= 100 {
            assert!(self.in_checkpoint > 0 && self.absent > 0, "too few kinds: {self:?}");
            assert!(self.expired > 0 && self.compacted > 0, "too few kinds: {self:?}");
            assert!(self.at_first_start > 0 && self.in_recovery > 0, "too few kinds: {self:?}");
        }
    }

    fn saw(&mut self, plan: &Plan, sight: Sight) {
        self.records += sight.records;
        self.absent += u64::from(sight.is_absent);
        self.expired += u64::from(plan.kept == Kept::FromLogStart && sight.log_start > 0);
        self.compacted += u64::from(plan.kept == Kept::NewestPerKey && sight.has_gaps);
    }
}

/// What the load knew at a moment.
#[derive(Clone)]
struct Look {
    /// Of the small records; none before their topic was made.
    small: Option<History>,
    /// Of the writers of [`PLANS`].
    ledgers: Vec<Ledger>,
}

impl Default for Look {
    fn default() -> Look {
        Look { small: None, ledgers: vec![Ledger::default(); PLANS.len()] }
    }
}

/// When the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    FirstStart,
    Any,
    /// While a checkpoint, packing, compaction or retention changes files.
    Segments,
    /// While a topic is made or deleted.
    Deletion,
    Blackout,
}

/// A new disk, a broker on it, and load.
struct Era {
    broker: Broker,
    /// None only between two mounts. Goes after the broker.
    disk: Option<Mount>,
    image: Image,
    load: Load,
    small: Stream,
    writers: Vec<Writer>,
    progress: Arc<Progress>,
    dice: Dice,
    cuts: Vec<Cut>,
}

impl Era {
    fn open(lab: &Lab, dice: &mut Dice) -> Era {
        let mut dice = dice.fork();
        let image = lab.new_disk().unwrap_or_else(|error| panic!("{error}"));
        let disk = mounted(&image, "live");
        let mut broker = broker_on(&disk).start_without_waiting();
        let mut cuts = Vec::new();
        if dice.within(0, 2) == 0 {
            broker.log().wait_for_news(Duration::from_millis(dice.within(1, 800)));
            let (before, after) = (Look::default(), Look::default());
            cuts.push(Cut { moment: Moment::FirstStart, image: cut(&image), before, after });
        }
        broker.wait_until_ready();
        let progress = Arc::new(Progress::default());
        let small = Stream::new(SMALL, SMALL_PARTITIONS, false, &progress);
        kafka(&broker).create_topic(small.topic, small.partitions).expect("a topic");
        let address = broker.kafka();
        let mut load = Load::new(address, dice.fork());
        load.steady_over_tcp(&small);
        load.fleeting_over_quic(&small);
        load.committer(&small);
        let start = |plan| Writer::start(plan, address, &progress, dice.fork());
        let writers = PLANS.map(start).into_iter().collect();
        let disk = Some(disk);
        Era { broker, disk, image, load, small, writers, progress, dice, cuts }
    }

    fn run(mut self, count: u64, tally: &mut Tally) -> Vec<Cut> {
        let blackout_at = self.dice.within(1, count.max(2));
        while (self.cuts.len() as u64) < count {
            let came = self.dice.within(1, 1500);
            let came = self.progress.wait_for(came, Duration::from_millis(1500))
                + self.progress.wait_for(1, PATIENCE);
            assert!(came > 0, "nothing is acknowledged any more");
            if self.cuts.len() as u64 == blackout_at {
                self.black_out(tally);
            } else {
                self.cut();
            }
        }
        tally.checkpoints += checkpoints(&self.broker);
        self.writers.iter_mut().for_each(Writer::finish);
        let totals = self.load.finish();
        tally.commits += totals.commits;
        tally.over_quic += totals.over_quic;
        self.cuts
    }

    fn look(&self) -> Look {
        Look {
            small: Some(self.small.history().clone()),
            ledgers: self.writers.iter().map(|writer| writer.ledger().clone()).collect(),
        }
    }

    /// The broker does not notice, and runs on.
    fn cut(&mut self) {
        let moment = match self.dice.within(0, 3) {
            0 => self.wait_for_segments(),
            1 => self.wait_for_deletion(),
            _ => Moment::Any,
        };
        self.broker.expect_alive();
        let before = self.look();
        let image = cut(&self.image);
        let after = self.look();
        self.cuts.push(Cut { moment, image, before, after });
    }

    /// Until the first sign of a checkpoint, of packing, compaction or retention, but not for ever;
    /// then a little more.
    fn wait_for_segments(&mut self) -> Moment {
        let topics = self.broker.data_dir().join("topics");
        let (before, start) = (files_under(&topics), Instant::now());
        while start.elapsed() < Duration::from_secs(2) && files_under(&topics) == before {
            self.progress.wait_for(1, Duration::from_millis(5));
        }
        let more = self.dice.within(0, 40);
        self.progress.wait_for(u64::MAX / 2, Duration::from_millis(more));
        Moment::Segments
    }

    /// Until a topic is being made or deleted, but not for ever.
    fn wait_for_deletion(&mut self) -> Moment {
        let start = Instant::now();
        let is_steady = |writer: &Writer| writer.ledger().presence == Presence::Present;
        while start.elapsed() < Duration::from_secs(2) && self.writers.iter().all(is_steady) {
            self.progress.wait_for(1, Duration::from_millis(1));
        }
        Moment::Deletion
    }

    /// The power is really cut, and comes back: all that follows is built upon what was left.
    fn black_out(&mut self, tally: &mut Tally) {
        tally.checkpoints += checkpoints(&self.broker);
        // What only the page cache knows goes as well: the image is taken before any of it can be
        // written back by an unmount.
        self.broker.kill();
        let left = cut(&self.image);
        self.load.end_fleeting();
        let look = self.look();
        let (image, before, after) = (cut(&left), look.clone(), look);
        self.cuts.push(Cut { moment: Moment::Blackout, image, before, after });
        self.disk = None;
        self.disk = Some(mounted(&left, "live"));
        self.image = left;
        self.broker.restart();
        self.load.fleeting_over_quic(&self.small);
    }
}

/// An image, and what was known when it was taken.
struct Cut {
    moment: Moment,
    image: Image,
    before: Look,
    after: Look,
}

impl Cut {
    /// Start a broker on what is left and judge it.
    fn examine(self, dice: &mut Dice, tally: &mut Tally) {
        let number = tally.cuts;
        let Cut { moment, mut image, before, after } = self;
        while dice.within(0, 3) == 0 {
            image = cut_in_recovery(&image, dice);
            tally.in_recovery += 1;
        }
        let _evidence = Evidence { image: cut(&image), number };
        let disk = mounted(&image, "cut");
        let files = files_under(&disk.point().join("data/checkpoint"));
        let has_unnamed = files.iter().any(|(path, _)| path.extension() == Some("tmp".as_ref()));
        match moment {
            Moment::FirstStart => tally.at_first_start += 1,
            Moment::Deletion => tally.around_deletion += 1,
            Moment::Blackout => tally.blackouts += 1,
            Moment::Any | Moment::Segments => {}
        }
        let started = Instant::now();
        let mut broker = broker_on(&disk).start_without_waiting();
        let mut complaints = Complaints::new();
        complaints.extend(broker.ready().err());
        let started_ms = started.elapsed().as_millis();
        tally.slowest_start_ms = tally.slowest_start_ms.max(started_ms);
        if complaints.is_empty() {
            tally.in_checkpoint += u64::from(has_unnamed || strays(&broker) > 0);
            let judged = judge(&mut kafka(&broker), &before, &after, tally, &mut complaints);
            complaints.extend(judged.err().map(|error| format!("it cannot be judged: {error}")));
        }
        broker.kill();
        drop(disk);
        complaints.extend(image.complaints());
        let (count, shown) = (complaints.len(), complaints.iter().take(20));
        let shown = shown.cloned().collect::<Vec<_>>().join("\n  ");
        assert!(count == 0, "cut {number} ({moment:?}): {count} complaints, first\n  {shown}");
        println!("cut {number:4} {moment:?}: back in {started_ms} ms");
    }
}

/// A cut of a node that is recovering from another.
fn cut_in_recovery(image: &Image, dice: &mut Dice) -> Image {
    let disk = mounted(image, "cut");
    let broker = broker_on(&disk).start_without_waiting();
    broker.log().wait_for_news(Duration::from_secs(2));
    broker.log().wait_for_news(Duration::from_millis(dice.within(0, 200)));
    let again = cut(image);
    drop(broker);
    drop(disk);
    again
}

fn judge(
    kafka: &mut Kafka,
    before: &Look,
    after: &Look,
    tally: &mut Tally,
    complaints: &mut Complaints,
) -> Result<(), CallError> {
    let small = before.small.as_ref().zip(after.small.as_ref());
    for (partition, (before, after)) in (0..SMALL_PARTITIONS).zip(small.into_iter().cycle()) {
        let found = read_stream(kafka, SMALL, partition)?;
        tally.records += found.len() as u64;
        let violations = after.check_partition(before, partition, 0, found);
        complaints.extend(violations.iter().map(|violation| format!("{SMALL}, {violation}")));
        let found = kafka.committed(GROUP, SMALL, partition)?;
        let violation = after.check_commit(before, GROUP, partition, found);
        complaints.extend(violation.map(|violation| violation.to_string()));
    }
    for (plan, (before, after)) in PLANS.iter().zip(before.ledgers.iter().zip(&after.ledgers)) {
        let sight = judge_writer(kafka, plan, before, after, complaints)?;
        tally.saw(plan, sight);
    }
    Ok(())
}

/// Keeps the image that a failing test was about, if it is asked to.
struct Evidence {
    image: Image,
    number: u64,
}

impl Drop for Evidence {
    fn drop(&mut self) {
        let dir = std::env::var_os("MILLPOND_CRASH_IMAGE_KEEP");
        if let Some(dir) = dir.filter(|_| std::thread::panicking()) {
            let path = Path::new(&dir).join(format!("cut-{}.img", self.number));
            let kept = self.image.keep(&path);
            eprintln!("{}: {kept:?}", path.display());
        }
    }
}

fn broker_on(disk: &Mount) -> Setup {
    Setup::without_config().config(CONFIG).data_dir(disk.point().join("data"))
}

#[track_caller]
fn mounted(image: &Image, name: &str) -> Mount {
    image.mount(name).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn cut(image: &Image) -> Image {
    image.cut().unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

/// Of this life of the broker.
fn checkpoints(broker: &Broker) -> u64 {
    broker.metric("millpond_checkpoints_total").unwrap_or_default() as u64
}

/// Files of segments that no checkpoint named when this life of the broker began.
fn strays(broker: &Broker) -> u64 {
    let stray = |line: &str| line.split_once("strays=")?.1.split(' ').next()?.parse().ok();
    broker.log().wait_until(Duration::from_millis(100), stray).unwrap_or_default()
}

/// Every file below a directory, with its size.
fn files_under(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => found.extend(files_under(&entry.path())),
            Ok(about) => found.push((entry.path(), about.len())),
            Err(_) => {}
        }
    }
    found.sort();
    found
}

//! Groups: what many of them cost in memory and time, and how long a large one takes to rebalance,
//! with both protocols.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::error::{BenchError, Context, Outcome};
use crate::figures::{Bench, progress};
use crate::load::conversation::Conversation;
use crate::load::member::{ClassicMember, ConsumerMember, Standing};
use crate::report::Figure;
use crate::spread::Spread;

const TOPIC: &str = "groups";
/// Partitions of the topic that all groups read.
const PARTITIONS: usize = 100;
/// Groups of the crowd, and members of each.
const CROWD: (usize, usize) = (1_000, 10);
/// Groups that form at the same time.
const LANES: usize = 16;
/// Members of the group that rebalances; half of them leave and come back.
const LARGE: usize = 50;
/// From one heartbeat of a member to its next. Clients take 3 to 5 s, which would hide the broker.
const BEAT_MS: u64 = 20;
/// A rebalance that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let (groups, members) = CROWD;
    let mut figure = Figure::new(
        "groups",
        format!(
            "{groups} groups of {members} members, {LANES} of them forming at a time; {} members of \
             a group of {LARGE} leave and join at once, heartbeats every {BEAT_MS} ms; until every \
             member has its part of all {PARTITIONS} partitions in one generation",
            LARGE / 2
        ),
    );
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        progress(&format!("groups, a crowd, {}", protocol.name()));
        crowd(bench, protocol, &mut figure)?;
    }
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        rebalances(bench, protocol, &mut figure)?;
    }
    Ok(figure)
}

#[derive(Clone, Copy)]
enum Protocol {
    Classic,
    /// KIP-848.
    Consumer,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer (KIP-848)",
        }
    }
}

/// Memory and time of many groups, and of the start with them.
fn crowd(bench: &Bench, protocol: Protocol, figure: &mut Figure) -> Outcome<()> {
    let (groups, members) = CROWD;
    let groups = if bench.quick { groups / 10 } else { groups };
    let home = bench.scratch()?;
    let broker = Broker::start(&bench.binary, home.path())?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let (before, written) = (broker.memory()?, broker.written_bytes()?);
    let started = Instant::now();
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            let (address, own) = (broker.kafka(), (lane..groups).step_by(LANES));
            thread::spawn(move || match protocol {
                Protocol::Classic => form_classic(address, own, members),
                Protocol::Consumer => form_consumer(address, own, members),
            })
        })
        .collect();
    for lane in lanes {
        lane.join().ok().context("a lane's thread")??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = broker.memory()?;
    broker.wait_until_quiet()?;
    let written = broker.written_bytes()?.saturating_sub(written);
    broker.kill()?;
    let started = Instant::now();
    let broker = Broker::start(&bench.binary, home.path())?;
    let start_ms = started.elapsed().as_secs_f64() * 1e3;
    broker.stop()?;
    let name = |what: &str| format!("{}, {groups} groups: {what}", protocol.name());
    #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    let per_member = |bytes: u64| bytes as f64 / 1024.0 / (groups * members) as f64;
    let grown = after.rss_bytes.saturating_sub(before.rss_bytes);
    figure.line(name("RSS for each member"), Some(Spread::one(per_member(grown))), "KiB");
    figure.line(name("written for each member"), Some(Spread::one(per_member(written))), "KiB");
    figure.line(name("until all have formed"), Some(Spread::one(seconds)), "s");
    figure.line(name("start to ready after kill -9"), Some(Spread::one(start_ms)), "ms");
    Ok(())
}

/// One thread for each member: a classic member's join is answered when all have joined.
fn form_classic(
    broker: SocketAddr,
    groups: impl Iterator<Item = usize> + Clone + Send + 'static,
    members: usize,
) -> Outcome<()> {
    let columns: Vec<JoinHandle<Outcome<()>>> = (0..members)
        .map(|_| {
            let groups = groups.clone();
            thread::spawn(move || {
                let mut conversation = Conversation::with(broker)?;
                for group in groups {
                    let name = format!("classic-{group}");
                    let mut member = ClassicMember::over(conversation, &name, PARTITIONS);
                    member.beat()?;
                    conversation = member.into_conversation();
                }
                Ok(())
            })
        })
        .collect();
    columns.into_iter().try_for_each(|column| column.join().ok().context("a member")?)
}

/// All members of a group over one connection, in turns, until they own everything.
fn form_consumer(
    broker: SocketAddr,
    groups: impl Iterator<Item = usize>,
    members: usize,
) -> Outcome<()> {
    let mut broker = Conversation::with(broker)?;
    for group in groups {
        let name = format!("consumer-{group}");
        let member = |at: usize| ConsumerMember::new(&name, format!("{name}-{at}"), TOPIC);
        let mut members: Vec<ConsumerMember> = (0..members).map(member).collect();
        let give_up = Instant::now() + PATIENCE;
        loop {
            let beats = members.iter_mut().map(|member| member.beat(&mut broker));
            let standings = beats.collect::<Outcome<Vec<_>>>()?;
            if is_settled(&standings) {
                break;
            }
            if Instant::now() > give_up {
                return Err(BenchError::new(name, "its members did not settle"));
            }
        }
    }
    Ok(())
}

/// All in one generation, and nothing left over.
fn is_settled(standings: &[Standing]) -> bool {
    let epoch = standings.first().map(|standing| standing.epoch);
    let same = standings.iter().all(|standing| Some(standing.epoch) == epoch);
    same && standings.iter().map(|standing| standing.partitions).sum::<usize>() == PARTITIONS
}

/// One group that grows, shrinks and grows.
fn rebalances(bench: &Bench, protocol: Protocol, figure: &mut Figure) -> Outcome<()> {
    let (broker, _home) = bench.broker()?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let (mut left, mut joined) = (Vec::new(), Vec::new());
    let mut group = LargeGroup::new(broker.kafka(), protocol);
    group.join(LARGE);
    group.settle()?;
    for round in 1..=bench.rounds * 3 {
        progress(&format!("groups, {}, rebalance {round}", protocol.name()));
        let started = Instant::now();
        group.leave(LARGE / 2)?;
        group.settle()?;
        left.push(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        group.join(LARGE / 2);
        group.settle()?;
        joined.push(started.elapsed().as_secs_f64() * 1e3);
    }
    group.leave(LARGE)?;
    broker.stop()?;
    let name = |what: &str| format!("{}, {} of {LARGE} {what}", protocol.name(), LARGE / 2);
    figure.line(name("leave"), Spread::of(&left), "ms");
    figure.line(name("join"), Spread::of(&joined), "ms");
    Ok(())
}

/// What a member reports: who it is, and what it knows now.
type News = (usize, Outcome<Standing>);

/// A group whose members run in threads of their own, each with its connection.
struct LargeGroup {
    broker: SocketAddr,
    protocol: Protocol,
    next: usize,
    members: BTreeMap<usize, Running>,
    standings: BTreeMap<usize, Standing>,
    tell: Sender<News>,
    news: Receiver<News>,
}

struct Running {
    is_to_leave: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<()>>,
}

impl LargeGroup {
    fn new(broker: SocketAddr, protocol: Protocol) -> Self {
        let (tell, news) = mpsc::channel();
        let (members, standings) = (BTreeMap::new(), BTreeMap::new());
        Self { broker, protocol, next: 0, members, standings, tell, news }
    }

    fn join(&mut self, count: usize) {
        for _ in 0..count {
            let (at, broker, protocol) = (self.next, self.broker, self.protocol);
            self.next += 1;
            let is_to_leave = Arc::new(AtomicBool::new(false));
            let (tell, leaves) = (self.tell.clone(), Arc::clone(&is_to_leave));
            let thread = thread::spawn(move || {
                let result = live(broker, protocol, at, &leaves, &tell);
                if let Err(error) = &result {
                    let _ = tell.send((at, Err(BenchError::new("a member", error))));
                }
                result
            });
            self.members.insert(at, Running { is_to_leave, thread });
        }
    }

    /// The oldest go.
    fn leave(&mut self, count: usize) -> Outcome<()> {
        let going: Vec<usize> = self.members.keys().take(count).copied().collect();
        let going: Vec<Running> = going.iter().filter_map(|at| self.members.remove(at)).collect();
        going.iter().for_each(|member| member.is_to_leave.store(true, Ordering::Release));
        going.into_iter().try_for_each(|member| member.thread.join().ok().context("a member")?)
    }

    /// Waits until every member has its part in one generation.
    fn settle(&mut self) -> Outcome<()> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let (at, standing) = self.news.recv_timeout(left).context("a rebalance")?;
            self.standings.insert(at, standing?);
            self.standings.retain(|at, _| self.members.contains_key(at));
            let all: Vec<Standing> = self.standings.values().copied().collect();
            if all.len() == self.members.len() && is_settled(&all) {
                return Ok(());
            }
        }
    }
}

/// A member's life: tells each change.
fn live(
    broker: SocketAddr,
    protocol: Protocol,
    at: usize,
    is_to_leave: &AtomicBool,
    tell: &Sender<News>,
) -> Outcome<()> {
    let mut member = Member::connect(broker, protocol, at)?;
    let mut known = Standing::default();
    while !is_to_leave.load(Ordering::Acquire) {
        let standing = member.beat()?;
        if standing != known {
            known = standing;
            // The group is gone when nobody listens.
            let _ = tell.send((at, Ok(standing)));
        }
        thread::sleep(Duration::from_millis(BEAT_MS));
    }
    member.leave()
}

enum Member {
    Classic(ClassicMember),
    Consumer(ConsumerMember, Conversation),
}

impl Member {
    fn connect(broker: SocketAddr, protocol: Protocol, at: usize) -> Outcome<Self> {
        let group = "large";
        Ok(match protocol {
            Protocol::Classic => Self::Classic(ClassicMember::connect(broker, group, PARTITIONS)?),
            Protocol::Consumer => {
                let member = ConsumerMember::new(group, format!("member-{at}"), TOPIC);
                Self::Consumer(member, Conversation::with(broker)?)
            }
        })
    }

    fn beat(&mut self) -> Outcome<Standing> {
        match self {
            Self::Classic(member) => member.beat(),
            Self::Consumer(member, broker) => member.beat(broker),
        }
    }

    fn leave(self) -> Outcome<()> {
        match self {
            Self::Classic(member) => member.leave(),
            Self::Consumer(member, mut broker) => member.leave(&mut broker),
        }
    }
}

//! Consumer groups of the new protocol under random behaviour: members join, leave, die, lose
//! answers, are slow to give up, read other topics; the node restarts. No partition is ever read by
//! two members that keep the rules, and when all of them do, everything is shared out evenly.
//! `MILLPOND_CHAOS_SEED` runs one seed alone.

use super::consumer_client::{Client, Owned, call};
use super::rig::Rig;
use crate::rng::Rng;
use crate::{EngineConfig, GroupState};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use millpond_wire::messages::create_partitions_request::CreatePartitionsTopic;
use millpond_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerProtocolAssignment, CreatePartitionsRequest, Request,
};
use millpond_wire::{Message, Reader, Uuid};
use std::collections::BTreeSet;

const MEMBERS: usize = 5;
const REBALANCE_TIMEOUT_MS: u64 = 20_000;

/// A process: the client, and what its user does with it.
struct Process {
    client: Client,
    /// What it was told to have; it reads `client.owned` until it has got round to it.
    told: Option<Owned>,
    /// Since when the group may wait for it to do so.
    told_ms: Option<u64>,
    /// What it said last that it has: what it takes up counts when it has said so, as it does for
    /// the group.
    said: Owned,
    heard_ms: u64,
    is_dead: bool,
}

struct World {
    seed: u64,
    rng: Rng,
    rig: Rig,
    processes: Vec<Process>,
    partitions: i32,
    born: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rig = Rig::new();
        rig.create_topic("t", 4);
        rig.create_topic("u", 3);
        let rng = Rng::new(seed);
        let mut world = World { seed, rng, rig, processes: Vec::new(), partitions: 4, born: 0 };
        for place in 0..MEMBERS {
            let process = world.process(place);
            world.processes.push(process);
        }
        world
    }

    fn process(&mut self, place: usize) -> Process {
        self.born += 1;
        let id = format!("m{}", self.born);
        let client = match place {
            0 => Client::fixed(&id, "static", &["t", "u"]),
            _ => Client::new(&id, &["t", "u"]),
        };
        let heard_ms = self.rig.now.mono_ms;
        Process { client, told: None, told_ms: None, said: Owned::new(), heard_ms, is_dead: false }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn step(&mut self) {
        let place = self.below(MEMBERS as u64) as usize;
        match self.below(24) {
            0 => self.leave(place),
            1 => self.processes[place].is_dead = true,
            2 => self.beat_in_vain(place),
            3 => self.subscribe(place),
            4 => self.add_partition(),
            5 => {
                let ms = self.below(9_000);
                self.rig.pass_ms(ms);
            }
            6 if self.below(4) == 0 => self.restart(),
            6..=9 => self.obey(place),
            _ => self.beat(place),
        }
        self.check_readers();
    }

    fn beat(&mut self, place: usize) {
        let process = &mut self.processes[place];
        if process.is_dead {
            // Another process starts in its place.
            let fresh = self.process(place);
            self.processes[place] = fresh;
            return;
        }
        let request = process.client.request();
        let response = call(&mut self.rig, request);
        let owned = process.client.owned.clone();
        process.said = owned.clone();
        let code = process.client.take(&response);
        if code == ErrorCode::None {
            // What it did in the meantime the group knows now.
            process.told_ms = process.told_ms.filter(|_| process.told.is_some());
            process.heard_ms = self.rig.now.mono_ms;
            if response.assignment.is_some() {
                process.told = Some(std::mem::replace(&mut process.client.owned, owned));
                process.told_ms.get_or_insert(process.heard_ms);
            }
        } else {
            (process.told, process.told_ms) = (None, None);
            assert!(
                matches!(
                    code,
                    ErrorCode::UnknownMemberId
                        | ErrorCode::FencedMemberEpoch
                        | ErrorCode::UnreleasedInstanceId
                ),
                "seed {}: {code}",
                self.seed
            );
        }
    }

    /// The answer is lost on its way. By the second time it has got round to what it was told.
    fn beat_in_vain(&mut self, place: usize) {
        if self.processes[place].client.is_full {
            self.obey(place);
        }
        let process = &mut self.processes[place];
        if !process.is_dead {
            process.said = process.client.owned.clone();
            process.told_ms.get_or_insert(self.rig.now.mono_ms);
            process.client.send_in_vain(&mut self.rig);
        }
    }

    /// It does what it was told: gives up, takes over.
    fn obey(&mut self, place: usize) {
        let process = &mut self.processes[place];
        if let Some(told) = process.told.take() {
            process.client.owned = told;
        }
    }

    /// The node is killed and starts again: everybody is where they were.
    fn restart(&mut self) {
        let now = self.rig.now;
        let before = self.rig.engine.group("g");
        self.rig = self.rig.reborn(None);
        self.rig.now = now;
        assert_eq!(self.rig.engine.group("g"), before, "seed {}", self.seed);
    }

    fn leave(&mut self, place: usize) {
        let process = &mut self.processes[place];
        if !process.is_dead {
            let epoch = if process.client.instance.is_some() { -2 } else { -1 };
            process.client.leave(&mut self.rig, epoch);
        }
        let fresh = self.process(place);
        self.processes[place] = fresh;
    }

    fn subscribe(&mut self, place: usize) {
        let choice = self.below(4);
        let client = &mut self.processes[place].client;
        let topics: &[&str] = if choice == 0 { &["t"] } else { &["t", "u"] };
        client.topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        client.regex = (choice == 1).then(|| "[a-z]".to_owned());
        client.is_full = true;
    }

    fn add_partition(&mut self) {
        if self.partitions == 12 {
            return;
        }
        self.partitions += 1;
        let topic = CreatePartitionsTopic {
            name: "t".to_owned(),
            count: self.partitions,
            ..CreatePartitionsTopic::default()
        };
        let request =
            CreatePartitionsRequest { topics: vec![topic], ..CreatePartitionsRequest::default() };
        self.rig.call(Request::CreatePartitions(request), 3);
    }

    /// Two readers of one partition, of those that beat and give up in time.
    fn check_readers(&self) {
        let (now_ms, config) = (self.rig.now.mono_ms, EngineConfig::default());
        let mut read = BTreeSet::new();
        for process in &self.processes {
            let told_ms = process.told_ms.unwrap_or(now_ms);
            let is_late = now_ms - told_ms >= REBALANCE_TIMEOUT_MS;
            let is_silent = now_ms - process.heard_ms >= config.consumer_session_timeout_ms;
            if process.is_dead || is_late || is_silent {
                continue;
            }
            for (topic, partitions) in &process.client.owned {
                let said = process.said.get(topic).into_iter().flatten();
                let said: BTreeSet<&i32> = said.collect();
                for partition in partitions.iter().filter(|partition| said.contains(partition)) {
                    assert!(
                        read.insert((*topic, *partition)),
                        "seed {}: two read partition {partition} of {topic}",
                        self.seed
                    );
                }
            }
        }
    }

    /// From now on all keep the rules.
    fn behave(&mut self) {
        for place in 0..MEMBERS {
            let client = &mut self.processes[place].client;
            client.topics = vec!["t".to_owned(), "u".to_owned()];
            client.regex = client.regex.take().map(|_| String::new());
            client.is_full = true;
        }
        for _ in 0..40 {
            for place in 0..MEMBERS {
                self.beat(place);
                self.check_readers();
                self.obey(place);
                self.check_readers();
            }
            self.rig.pass_ms(5_000);
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..400 {
        world.step();
    }
    world.behave();
    let group = world.rig.engine.group("g").expect("a group");
    assert_eq!(group.state, GroupState::Stable, "seed {seed}: {group:#?}");
    assert_eq!(group.members.len(), MEMBERS, "seed {seed}");
    let sizes = world.processes.iter().map(|process| process.client.parts().len());
    let sizes: Vec<usize> = sizes.collect();
    assert_eq!(sizes.iter().sum::<usize>(), world.partitions as usize + 3, "seed {seed}");
    let (most, least) = (sizes.iter().max(), sizes.iter().min());
    assert!(
        most.zip(least).is_some_and(|(most, least)| most - least <= 1),
        "seed {seed}: {sizes:?}"
    );
}

#[test]
fn no_partition_has_two_readers_and_in_the_end_all_have_their_share() {
    if let Some(seed) = option_env!("MILLPOND_CHAOS_SEED").and_then(|s| s.parse().ok()) {
        return run(seed);
    }
    (0..400).for_each(run);
}

/// A heartbeat that keeps no rule: ids, epochs and what is owned come from the dice.
fn hostile(rng: &mut Rng, topics: &[Uuid]) -> ConsumerGroupHeartbeatRequest {
    let mut below = |bound: u64| rng.next_u64() % bound;
    let owned = |below: &mut dyn FnMut(u64) -> u64| TopicPartitions {
        topic_id: topics[below(topics.len() as u64) as usize],
        partitions: (0..below(4)).map(|_| below(9) as i32 - 1).collect(),
    };
    let names = [&["t"][..], &["t", "u"], &["nowhere"], &[]];
    let mut request = ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: format!("m{}", below(5)),
        member_epoch: [0, 0, 0, -1, -2, -3, i32::MAX, i32::MIN, below(40) as i32]
            [below(9) as usize],
        instance_id: (below(3) == 0).then(|| format!("i{}", below(3))),
        rebalance_timeout_ms: [-1, 0, 1_000, i32::MAX][below(4) as usize],
        subscribed_topic_names: (below(3) > 0)
            .then(|| names[below(4) as usize].iter().map(|name| (*name).to_owned()).collect()),
        subscribed_topic_regex: (below(3) == 0)
            .then(|| ["", "t|u", "(", ".*"][below(4) as usize].to_owned()),
        server_assignor: (below(3) == 0)
            .then(|| ["uniform", "range", "worst"][below(3) as usize].to_owned()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    if below(4) > 0 {
        let count = if request.member_epoch == 0 { 0 } else { below(3) };
        request.topic_partitions = Some((0..count).map(|_| owned(&mut below)).collect());
    }
    request
}

#[test]
fn whatever_members_say_no_partition_is_assigned_twice_and_the_good_end_up_with_all() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::new();
        rig.create_topic("t", 5);
        rig.create_topic("u", 3);
        let topics = [rig.key("t", 0).topic_id, rig.key("u", 0).topic_id, Uuid([9; 16])];
        for _ in 0..400 {
            let request = hostile(&mut rng, &topics);
            if rng.next_u64().is_multiple_of(8) {
                rig.pass_ms(rng.next_u64() % 30_000);
            }
            call(&mut rig, request);
            let mut seen = BTreeSet::new();
            let group = rig.engine.group("g");
            for member in group.into_iter().flat_map(|group| group.members) {
                let mut bytes = Reader::new(member.assignment);
                bytes.i16().expect("a version");
                let said = ConsumerProtocolAssignment::decode(&mut bytes, 0).expect("our own");
                for topic in said.assigned_partitions {
                    for partition in topic.partitions {
                        let place = (topic.topic.clone(), partition);
                        assert!(seen.insert(place), "seed {seed}: {partition} twice");
                    }
                }
            }
        }
        let mut client = Client::new("good", &["t", "u"]);
        for _ in 0..60 {
            client.beat(&mut rig);
            rig.pass_ms(5_000);
        }
        assert_eq!(client.parts().len(), 8, "seed {seed}: it alone is left");
    }
}

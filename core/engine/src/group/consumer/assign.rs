//! The server-side assignors of KIP-848: `uniform` and `range`. Pure: the same members, topics and
//! previous shares give the same shares. Never gives a partition to two members, nor to one that
//! does not subscribe to its topic.

use super::Shares;
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, BTreeSet};

/// How partitions are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Assignor {
    /// As evenly as can be over all topics; who has a partition keeps it where that costs nothing.
    #[default]
    Uniform,
    /// Topic by topic in contiguous ranges, so that equal keys of several topics meet.
    Range,
}

impl Assignor {
    /// Every assignor, as error texts list them.
    pub(crate) const NAMES: &str = "uniform, range";

    /// Kafka's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Assignor> {
        [Assignor::Uniform, Assignor::Range].into_iter().find(|assignor| assignor.name() == name)
    }

    /// The shares of all members, by member id.
    pub(crate) fn assign(self, input: &Input<'_>) -> BTreeMap<String, Shares> {
        match self {
            Assignor::Uniform => uniform(input),
            Assignor::Range => range(input),
        }
    }
}

/// What an assignor knows.
pub(crate) struct Input<'a> {
    pub(crate) members: Vec<Candidate<'a>>,
    /// Partitions of each topic that anybody subscribes to.
    pub(crate) topics: &'a BTreeMap<Uuid, i32>,
}

/// One member.
pub(crate) struct Candidate<'a> {
    pub(crate) id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    /// What it subscribes to.
    pub(crate) topics: &'a BTreeSet<Uuid>,
    /// What it was to have so far.
    pub(crate) had: Option<&'a Shares>,
}

/// Each topic's partitions in order: a range for each subscriber, the first ones get one more.
/// Static members stand first, by their instance ids, so that restarts move nothing.
fn range(input: &Input<'_>) -> BTreeMap<String, Shares> {
    let mut shares = nothing(input);
    let mut order: Vec<&Candidate<'_>> = input.members.iter().collect();
    order.sort_by_key(|member| (member.instance_id.is_none(), member.instance_id, member.id));
    for (topic, count) in input.topics {
        let readers: Vec<&&Candidate<'_>> =
            order.iter().filter(|member| member.topics.contains(topic)).collect();
        let Ok(readers_len) = i32::try_from(readers.len()) else { continue };
        if readers_len == 0 {
            continue;
        }
        let (each, more) = (count / readers_len, count % readers_len);
        let mut next = 0;
        for (place, reader) in (0..).zip(readers) {
            let upto = next + each + i32::from(place < more);
            if let Some(share) = shares.get_mut(reader.id).filter(|_| upto > next) {
                share.insert(*topic, (next..upto).collect());
            }
            next = upto;
        }
    }
    shares
}

fn nothing(input: &Input<'_>) -> BTreeMap<String, Shares> {
    input.members.iter().map(|member| (member.id.to_owned(), Shares::new())).collect()
}

/// A partition, and the place of the member that is to have it.
type Owned = BTreeMap<(Uuid, i32), usize>;

fn uniform(input: &Input<'_>) -> BTreeMap<String, Shares> {
    let readers = readers_by_topic(input);
    let mut loads = vec![0_usize; input.members.len()];
    let mut owned = kept(input, &mut loads);
    let is_homogeneous = input.members.windows(2).all(|pair| match pair {
        [a, b] => a.topics == b.topics,
        _ => true,
    });
    if is_homogeneous {
        give_back_above_quota(input, &mut owned, &mut loads);
    }
    give_out(input, &readers, &mut owned, &mut loads);
    if !is_homogeneous {
        even_out(&readers, &mut owned, &mut loads);
    }
    let mut shares = nothing(input);
    for ((topic, partition), place) in owned {
        let member = input.members.get(place).and_then(|member| shares.get_mut(member.id));
        if let Some(share) = member {
            share.entry(topic).or_default().insert(partition);
        }
    }
    shares
}

/// The places of the members that subscribe to each topic.
fn readers_by_topic(input: &Input<'_>) -> BTreeMap<Uuid, Vec<usize>> {
    let readers = |topic: &Uuid| -> Vec<usize> {
        let members = input.members.iter().enumerate();
        members
            .filter(|(_, member)| member.topics.contains(topic))
            .map(|(place, _)| place)
            .collect()
    };
    input.topics.keys().map(|topic| (*topic, readers(topic))).collect()
}

/// What members had and may still have.
fn kept(input: &Input<'_>, loads: &mut [usize]) -> Owned {
    let mut owned = Owned::new();
    for ((place, member), load) in input.members.iter().enumerate().zip(loads) {
        for (topic, partitions) in member.had.into_iter().flatten() {
            let count = input.topics.get(topic).copied().unwrap_or(0);
            if !member.topics.contains(topic) {
                continue;
            }
            for partition in partitions.range(..count) {
                if owned.insert((*topic, *partition), place).is_none() {
                    *load += 1;
                }
            }
        }
    }
    owned
}

/// Where all read the same: everybody has the quota, and as many as must have one more.
fn give_back_above_quota(input: &Input<'_>, owned: &mut Owned, loads: &mut [usize]) {
    let Some(first) = input.members.first() else { return };
    let counts = input.topics.iter().filter(|(topic, _)| first.topics.contains(*topic));
    let total: usize = counts.map(|(_, count)| usize::try_from(*count).unwrap_or(0)).sum();
    let (quota, mut extra) = (total / loads.len(), total % loads.len());
    let mut caps = Vec::with_capacity(loads.len());
    for load in loads.iter() {
        let has_extra = *load > quota && extra > 0;
        extra -= usize::from(has_extra);
        caps.push(quota + usize::from(has_extra));
    }
    owned.retain(|_, place| {
        let (Some(load), Some(cap)) = (loads.get_mut(*place), caps.get(*place)) else {
            return false;
        };
        let keeps = *load <= *cap;
        *load -= usize::from(!keeps);
        keeps
    });
}

/// Partitions without an owner go to the least loaded reader; topics with few readers first.
fn give_out(
    input: &Input<'_>,
    readers: &BTreeMap<Uuid, Vec<usize>>,
    owned: &mut Owned,
    loads: &mut [usize],
) {
    let mut topics: Vec<(&Uuid, &Vec<usize>)> = readers.iter().collect();
    topics.sort_by_key(|(topic, readers)| (readers.len(), **topic));
    for (topic, readers) in topics {
        let count = input.topics.get(topic).copied().unwrap_or(0);
        let mut queue: BTreeSet<(usize, usize)> = BTreeSet::new();
        queue.extend(readers.iter().filter_map(|place| Some((*loads.get(*place)?, *place))));
        for partition in 0..count {
            if owned.contains_key(&(*topic, partition)) {
                continue;
            }
            let Some((load, place)) = queue.pop_first() else { break };
            owned.insert((*topic, partition), place);
            queue.insert((load + 1, place));
            if let Some(load) = loads.get_mut(place) {
                *load += 1;
            }
        }
    }
}

/// Where members read different topics: moves single partitions while that makes it more even.
fn even_out(readers: &BTreeMap<Uuid, Vec<usize>>, owned: &mut Owned, loads: &mut [usize]) {
    for _ in 0..EVEN_OUT_ROUNDS {
        let mut has_moved = false;
        for ((topic, _), owner) in owned.iter_mut() {
            let of_topic = readers.get(topic).into_iter().flatten();
            let least = of_topic.filter_map(|place| Some((*loads.get(*place)?, *place))).min();
            let own = loads.get(*owner).copied().unwrap_or(0);
            let Some((load, place)) = least.filter(|(load, _)| load + 1 < own) else { continue };
            if let Some(own) = loads.get_mut(*owner) {
                *own -= 1;
            }
            if let Some(least) = loads.get_mut(place) {
                *least = load + 1;
            }
            *owner = place;
            has_moved = true;
        }
        if !has_moved {
            return;
        }
    }
}

/// Each round makes it more even or is the last; the bound is for time, not for the result.
const EVEN_OUT_ROUNDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const A: Uuid = Uuid([1; 16]);
    const B: Uuid = Uuid([2; 16]);

    struct Case {
        members: Vec<(String, BTreeSet<Uuid>)>,
        topics: BTreeMap<Uuid, i32>,
        had: BTreeMap<String, Shares>,
    }

    impl Case {
        fn new(topics: &[(Uuid, i32)], members: &[(&str, &[Uuid])]) -> Case {
            let member = |(id, topics): &(&str, &[Uuid])| {
                ((*id).to_owned(), topics.iter().copied().collect())
            };
            Case {
                members: members.iter().map(member).collect(),
                topics: topics.iter().copied().collect(),
                had: BTreeMap::new(),
            }
        }

        fn assign(&mut self, assignor: Assignor) -> BTreeMap<String, Shares> {
            let members = self.members.iter().map(|(id, topics)| Candidate {
                id,
                instance_id: None,
                topics,
                had: self.had.get(id),
            });
            let input = Input { members: members.collect(), topics: &self.topics };
            let shares = assignor.assign(&input);
            self.check(&shares);
            self.had = shares.clone();
            shares
        }

        /// Every partition that somebody reads has one owner, who reads it.
        fn check(&self, shares: &BTreeMap<String, Shares>) {
            let mut seen = BTreeSet::new();
            for (id, topics) in &self.members {
                for (topic, partitions) in &shares[id] {
                    assert!(topics.contains(topic), "{id} does not read {topic}");
                    for partition in partitions {
                        assert!(seen.insert((*topic, *partition)), "two owners of {partition}");
                    }
                }
            }
            let is_read = |topic: &Uuid| self.members.iter().any(|(_, t)| t.contains(topic));
            let read = self.topics.iter().filter(|(topic, _)| is_read(topic));
            assert_eq!(seen.len(), read.map(|(_, count)| *count as usize).sum::<usize>());
        }
    }

    fn sizes(shares: &BTreeMap<String, Shares>) -> Vec<usize> {
        shares.values().map(|share| share.values().map(BTreeSet::len).sum()).collect()
    }

    #[test]
    fn range_gives_equal_ranges_of_all_topics() {
        let mut case = Case::new(&[(A, 5), (B, 5)], &[("m1", &[A, B]), ("m2", &[A, B])]);
        let shares = case.assign(Assignor::Range);
        assert_eq!(shares["m1"][&A], BTreeSet::from([0, 1, 2]));
        assert_eq!(shares["m1"][&A], shares["m1"][&B]);
        assert_eq!(shares["m2"][&B], BTreeSet::from([3, 4]));
    }

    #[test]
    fn uniform_moves_no_more_than_it_must_when_a_member_comes_or_goes() {
        let mut case = Case::new(&[(A, 9)], &[("m1", &[A]), ("m2", &[A])]);
        let two = case.assign(Assignor::Uniform);
        assert_eq!(sizes(&two), [5, 4]);
        case.members.push(("m3".to_owned(), BTreeSet::from([A])));
        let three = case.assign(Assignor::Uniform);
        assert_eq!(sizes(&three), [3, 3, 3]);
        for id in ["m1", "m2"] {
            assert!(three[id][&A].is_subset(&two[id][&A]), "{id} is given nothing that moves");
        }
        case.members.remove(1);
        let left = case.assign(Assignor::Uniform);
        assert!(left["m1"][&A].is_superset(&three["m1"][&A]));
        assert_eq!(sizes(&left), [5, 4]);
    }

    #[test]
    fn a_topic_that_few_read_is_weighed_against_what_they_have_besides() {
        let mut case = Case::new(&[(A, 4), (B, 4)], &[("m1", &[A, B]), ("m2", &[A])]);
        assert_eq!(sizes(&case.assign(Assignor::Uniform)), [4, 4]);
    }

    #[test]
    fn any_members_and_topics_are_shared_fully_and_equal_readers_evenly() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut below = |bound: u64| rng.next_u64() % bound;
            let topics: Vec<(Uuid, i32)> =
                (0..4).map(|n| (Uuid([n; 16]), below(7) as i32)).collect();
            let mut case = Case::new(&topics, &[]);
            for step in 0..12 {
                if below(3) > 0 || case.members.is_empty() {
                    let read =
                        topics.iter().map(|(id, _)| *id).filter(|_| seed % 2 == 0 || below(2) == 0);
                    case.members.push((format!("m{step}"), read.collect()));
                } else {
                    let gone = below(case.members.len() as u64) as usize;
                    case.members.remove(gone);
                }
                let assignor = if below(2) == 0 { Assignor::Uniform } else { Assignor::Range };
                let shares = case.assign(assignor);
                if assignor == Assignor::Uniform && seed % 2 == 0 && !shares.is_empty() {
                    let sizes = sizes(&shares);
                    let spread = sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
                    assert!(spread <= 1, "seed {seed}: {sizes:?}");
                }
            }
        }
    }
}

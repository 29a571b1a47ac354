//! How a group shares out partitions: Kafka's range assignor, topic by topic.
//!
//! Pure; the leader of a group computes it, the others receive it.

use std::collections::BTreeMap;

/// The partitions of one member, by topic.
pub(crate) type Assignment = BTreeMap<String, Vec<i32>>;

/// Gives each subscriber of a topic a contiguous range of its partitions, those first in order of
/// member id one more where it does not come out even (`RangeAssignor` of the Java client).
pub(crate) fn range(
    members: &BTreeMap<String, Vec<String>>,
    partitions: impl Fn(&str) -> u32,
) -> BTreeMap<String, Assignment> {
    let mut subscribers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (member, topics) in members {
        for topic in topics {
            let of_topic = subscribers.entry(topic).or_default();
            // A topic named twice by a member counts once.
            if of_topic.last() != Some(&member.as_str()) {
                of_topic.push(member);
            }
        }
    }
    let nobody = |member: &String| (member.clone(), Assignment::new());
    let mut assigned: BTreeMap<String, Assignment> = members.keys().map(nobody).collect();
    for (topic, of_topic) in subscribers {
        let count = u32::try_from(of_topic.len()).unwrap_or(u32::MAX);
        let all = partitions(topic);
        let (each, extra) = (all / count, all % count);
        let mut next = 0;
        for (rank, member) in (0..).zip(of_topic) {
            let end = next + each + u32::from(rank < extra);
            let range: Vec<i32> = (next..end).filter_map(|p| i32::try_from(p).ok()).collect();
            next = end;
            if let (Some(assignment), false) = (assigned.get_mut(member), range.is_empty()) {
                assignment.insert(topic.to_owned(), range);
            }
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(of: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let topics = |topics: &[&str]| topics.iter().map(|t| (*t).to_owned()).collect();
        of.iter().map(|(member, named)| ((*member).to_owned(), topics(named))).collect()
    }

    #[test]
    fn two_members_share_four_partitions() {
        let assigned = range(&members(&[("a", &["t"]), ("b", &["t"])]), |_| 4);
        assert_eq!(assigned["a"]["t"], vec![0, 1]);
        assert_eq!(assigned["b"]["t"], vec![2, 3]);
    }

    #[test]
    fn the_first_members_take_what_does_not_come_out_even() {
        let three = members(&[("a", &["t"]), ("b", &["t"]), ("c", &["t"])]);
        let assigned = range(&three, |_| 7);
        assert_eq!(assigned["a"]["t"], vec![0, 1, 2]);
        assert_eq!(assigned["b"]["t"], vec![3, 4]);
        assert_eq!(assigned["c"]["t"], vec![5, 6]);
    }

    #[test]
    fn members_without_a_partition_are_told_so() {
        let assigned = range(&members(&[("a", &["t", "t"]), ("b", &["t"]), ("c", &[])]), |_| 1);
        assert_eq!(assigned["a"]["t"], vec![0]);
        assert!(assigned["b"].is_empty() && assigned["c"].is_empty());
    }
}

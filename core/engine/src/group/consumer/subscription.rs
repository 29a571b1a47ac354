//! What members of a consumer group read: topics by name and by regular expression, resolved
//! against the catalogue. Patterns come from peers: their number has a cap too.

use super::{ConsumerGroup, Refusal, World};
use crate::acl::Principal;
use crate::pattern;
use crate::topic::Catalog;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::uuid::Uuid;
use regex_lite::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// A pattern, and the topics whose whole names it matches.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    matches: BTreeSet<Uuid>,
}

impl Pattern {
    fn compile(text: &str) -> Result<Pattern, Refusal> {
        let regex = pattern::whole(text).map_err(|why| Refusal {
            code: ErrorCode::InvalidRegularExpression,
            message: format!(
                "SubscribedTopicRegex `{text}` is not a valid regular expression: {why}."
            ),
        })?;
        Ok(Pattern { regex, matches: BTreeSet::new() })
    }

    fn look(&mut self, catalog: &Catalog) {
        let topics = catalog.iter().filter(|topic| self.regex.is_match(&topic.name));
        self.matches = topics.map(|topic| topic.id).collect();
    }
}

impl ConsumerGroup {
    /// Makes a pattern ready for members to use.
    pub(super) fn learn_pattern(&mut self, catalog: &Catalog, text: &str) -> Result<(), Refusal> {
        if text.is_empty() || self.patterns.contains_key(text) {
            return Ok(());
        }
        if self.patterns.len() >= limits::GROUP_REGEXES_MAX {
            let message = "The members of the group use too many regular expressions.".to_owned();
            return Err(Refusal { code: ErrorCode::GroupMaxSizeReached, message });
        }
        let mut pattern = Pattern::compile(text)?;
        pattern.look(catalog);
        self.patterns.insert(text.to_owned(), pattern);
        Ok(())
    }

    /// Resolves all subscriptions again. True: they mean other topics or partitions than before.
    pub(super) fn refresh(&mut self, world: &World<'_>) -> bool {
        let used = self.members.values().filter_map(|member| member.words.regex.clone());
        let used: BTreeSet<String> = used.collect();
        self.patterns.retain(|text, _| used.contains(text));
        if self.seen_catalog != world.catalog_seq {
            for pattern in self.patterns.values_mut() {
                pattern.look(world.catalog);
            }
            self.seen_catalog = world.catalog_seq;
        }
        self.seen_rules = world.sight_seq;
        let mut topics = BTreeMap::new();
        let mut has_changed = false;
        for member in self.members.values_mut() {
            let named = member.words.topics.iter().filter_map(|name| world.catalog.by_name(name));
            let mut reads: BTreeSet<Uuid> = named.map(|topic| topic.id).collect();
            let pattern = member.words.regex.as_ref().and_then(|text| self.patterns.get(text));
            let found = pattern.into_iter().flat_map(|pattern| pattern.matches.iter().copied());
            reads.extend(found.filter(|id| may_find(world, member.sender.as_ref(), *id)));
            for id in &reads {
                let count = world.catalog.by_id(*id).map_or(0, |topic| topic.partitions.len());
                topics.insert(*id, i32::try_from(count).unwrap_or(i32::MAX));
            }
            has_changed |= reads != member.reads;
            member.reads = reads;
        }
        has_changed |= topics != self.topics;
        self.topics = topics;
        has_changed
    }

    /// Whether a member reads a topic.
    pub(crate) fn subscribes(&self, topic: Uuid) -> bool {
        self.topics.contains_key(&topic)
    }
}

/// Whether a pattern may find a topic for a member: whoever may not describe it does not learn of it by
/// its name fitting (KIP-848). A member that was not heard since the start keeps what it has.
fn may_find(world: &World<'_>, sender: Option<&(Principal, String)>, topic: Uuid) -> bool {
    let (Some(sight), Some((principal, host))) = (&world.sight, sender) else { return true };
    world.catalog.by_id(topic).is_some_and(|topic| sight.describes(principal, host, &topic.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::compile(pattern).expect("a pattern").regex.is_match(name)
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        assert!(matches("a|ab", "ab"));
        assert!(matches("site-[0-9]+", "site-12"));
        assert!(!matches("site-[0-9]+", "site-12-old"));
        assert!(!matches("site", "my-site"));
        assert!(matches(".*", ""));
    }

    #[test]
    fn patterns_that_cannot_be_read_or_grow_too_large_are_refused() {
        for pattern in ["(", "a)|(b", "[z-a]", "*", "((a{1000}){1000}){1000}", r"(a)\1"] {
            let refusal = Pattern::compile(pattern).expect_err(pattern);
            assert_eq!(refusal.code, ErrorCode::InvalidRegularExpression);
        }
        assert!(Pattern::compile(&"a".repeat(limits::MEMBER_REGEX_BYTES_MAX + 1)).is_err());
    }
}

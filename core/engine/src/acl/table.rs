//! All rules, and what they say together. A question costs a search by name and one by each length that
//! a prefix has, whatever the number of rules. Never more rules than `limits::ACLS_MAX`.

use super::{
    ACL_BYTES_MIN, Acl, AclFact, AclTarget, AclWord, EVERYBODY, Pattern, Permission, WILDCARD,
    put_acl, take_acl,
};
use crate::codec::{CodecError, Take, put_count};
use bytes::BufMut;
use millpond_wire::limits;
use millpond_wire::permission::{Operation, Resource};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All rules of the node; a clone costs nothing until one changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct AclTable(Arc<Rules>);

#[derive(Clone, Debug, Default)]
struct Rules {
    by_kind: BTreeMap<(Resource, Pattern), BTreeMap<String, BTreeSet<AclWord>>>,
    /// Bytes that the names of prefixed rules have, and how many names have so many.
    prefix_lens: BTreeMap<(Resource, usize), usize>,
    len: usize,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) principal: &'a str,
    pub(crate) host: &'a str,
}

impl AclWord {
    /// Whether it is about this.
    fn is_about(&self, asker: Asker<'_>, operation: Operation) -> bool {
        let principal = self.principal.as_str();
        (principal == asker.principal || principal == EVERYBODY)
            && (self.host == WILDCARD || self.host == asker.host)
            && (self.operation == operation || self.operation == Operation::All)
    }
}

impl AclTable {
    pub(crate) fn len(&self) -> usize {
        self.0.len
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Acl> {
        self.0.by_kind.iter().flat_map(|((resource, pattern), names)| {
            names.iter().flat_map(|(name, words)| {
                words.iter().map(|word| Acl {
                    target: AclTarget {
                        resource: *resource,
                        pattern: *pattern,
                        name: name.clone(),
                    },
                    word: word.clone(),
                })
            })
        })
    }

    pub(crate) fn contains(&self, acl: &Acl) -> bool {
        let names = self.0.by_kind.get(&(acl.target.resource, acl.target.pattern));
        names.and_then(|names| names.get(&acl.target.name)).is_some_and(|w| w.contains(&acl.word))
    }

    pub(crate) fn apply(&mut self, fact: &AclFact) {
        let rules = Arc::make_mut(&mut self.0);
        if fact.holds { rules.insert(fact.acl.clone()) } else { rules.remove(&fact.acl) }
    }

    /// What the rules say, deny before allow; `None`: no rule is about the resource.
    pub(crate) fn says(
        &self,
        asker: Asker<'_>,
        operation: Operation,
        resource: Resource,
        name: &str,
    ) -> Option<bool> {
        let (mut is_known, mut is_allowed) = (false, false);
        for words in self.0.about(resource, name) {
            is_known = true;
            for word in words {
                match word.permission {
                    Permission::Deny if word.is_about(asker, operation) => return Some(false),
                    Permission::Deny => {}
                    Permission::Allow => {
                        let implied = operation.implied_by().iter();
                        is_allowed = is_allowed
                            || word.is_about(asker, operation)
                            || implied.copied().any(|other| word.is_about(asker, other));
                    }
                }
            }
        }
        is_known.then_some(is_allowed)
    }

    /// Whether there can be a resource of the kind to which somebody may do this (KIP-679).
    pub(crate) fn allows_some(
        &self,
        asker: Asker<'_>,
        operation: Operation,
        resource: Resource,
    ) -> bool {
        let named = |pattern, permission| {
            let names = self.0.by_kind.get(&(resource, pattern)).into_iter().flatten();
            names.filter(move |(_, words)| {
                words
                    .iter()
                    .any(|word| word.permission == permission && word.is_about(asker, operation))
            })
        };
        let denied: BTreeSet<&str> =
            named(Pattern::Literal, Permission::Deny).map(|(name, _)| name.as_str()).collect();
        let denied_below: Vec<&str> =
            named(Pattern::Prefixed, Permission::Deny).map(|(name, _)| name.as_str()).collect();
        if denied.contains(WILDCARD) {
            return false;
        }
        let is_free = |name: &str| !denied_below.iter().any(|prefix| name.starts_with(prefix));
        let mut literal = named(Pattern::Literal, Permission::Allow).map(|(name, _)| name.as_str());
        literal.any(|name| name == WILDCARD || is_free(name) && !denied.contains(name))
            || named(Pattern::Prefixed, Permission::Allow).any(|(name, _)| is_free(name))
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_count(out, self.len());
        for acl in self.iter() {
            put_acl(out, &acl);
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<AclTable, CodecError> {
        let count = take.count("rules of access", ACL_BYTES_MIN)?;
        if count > limits::ACLS_MAX {
            return Err(CodecError::Impossible { what: "rules of access", value: count as i64 });
        }
        let mut rules = Rules::default();
        for _ in 0..count {
            rules.insert(take_acl(take)?);
        }
        Ok(AclTable(Arc::new(rules)))
    }
}

impl Rules {
    fn insert(&mut self, acl: Acl) {
        let AclTarget { resource, pattern, name } = acl.target;
        let name_bytes = name.len();
        let words = self.by_kind.entry((resource, pattern)).or_default().entry(name).or_default();
        if words.is_empty() && pattern == Pattern::Prefixed {
            *self.prefix_lens.entry((resource, name_bytes)).or_default() += 1;
        }
        self.len += usize::from(words.insert(acl.word));
    }

    fn remove(&mut self, acl: &Acl) {
        let AclTarget { resource, pattern, name } = &acl.target;
        let Some(names) = self.by_kind.get_mut(&(*resource, *pattern)) else { return };
        let Some(words) = names.get_mut(name) else { return };
        self.len -= usize::from(words.remove(&acl.word));
        if !words.is_empty() {
            return;
        }
        names.remove(name);
        let length = (*resource, name.len());
        if *pattern == Pattern::Prefixed
            && let Some(count) = self.prefix_lens.get_mut(&length)
        {
            *count -= 1;
            if *count == 0 {
                self.prefix_lens.remove(&length);
            }
        }
    }

    /// The words of all rules about a resource.
    fn about(&self, resource: Resource, name: &str) -> impl Iterator<Item = &BTreeSet<AclWord>> {
        let literal = self.by_kind.get(&(resource, Pattern::Literal));
        let wildcard = (name != WILDCARD).then_some(WILDCARD);
        let named = [Some(name), wildcard].into_iter().flatten();
        let literal = literal
            .into_iter()
            .flat_map(move |names| named.clone().filter_map(|name| names.get(name)));
        let prefixed = self.by_kind.get(&(resource, Pattern::Prefixed));
        let lengths = self.prefix_lens.range((resource, 0)..=(resource, name.len()));
        let prefixes = lengths.filter_map(|((_, length), _)| name.get(..*length));
        literal.chain(prefixes.filter_map(move |prefix| prefixed?.get(prefix)))
    }
}

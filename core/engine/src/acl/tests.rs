//! Rules against a model that knows nothing of how they are stored, and their bytes.

use super::table::Asker;
use super::*;
use crate::codec::Take;
use crate::rng::Rng;
use bytes::{Bytes, BytesMut};

fn acl(resource: Resource, pattern: Pattern, name: &str, who: &str, op: Operation) -> Acl {
    Acl {
        target: AclTarget { resource, pattern, name: name.to_owned() },
        word: AclWord {
            principal: Principal::parse(who).expect("a principal"),
            host: WILDCARD.to_owned(),
            operation: op,
            permission: Permission::Allow,
        },
    }
}

/// The rules of Kafka's authorizer, one by one, over a plain list.
fn model(
    rules: &[Acl],
    asker: Asker<'_>,
    operation: Operation,
    kind: Resource,
    name: &str,
) -> Option<bool> {
    let about: Vec<&Acl> = rules
        .iter()
        .filter(|rule| {
            rule.target.resource == kind
                && match (rule.target.pattern, rule.target.name.as_str()) {
                    (Pattern::Literal, "*") => true,
                    (Pattern::Literal, own) => own == name,
                    (Pattern::Prefixed, own) => name.starts_with(own),
                }
        })
        .collect();
    if about.is_empty() {
        return None;
    }
    let fits = |rule: &&&Acl, operation: Operation| {
        let word = &rule.word;
        [asker.principal, "User:*"].contains(&word.principal.as_str())
            && [asker.host, "*"].contains(&word.host.as_str())
            && [operation, Operation::All].contains(&word.operation)
    };
    let denied = about.iter().any(|r| r.word.permission == Permission::Deny && fits(&r, operation));
    let enough: Vec<Operation> = match operation {
        Operation::Describe => vec![
            Operation::Describe,
            Operation::Read,
            Operation::Write,
            Operation::Delete,
            Operation::Alter,
        ],
        Operation::DescribeConfigs => vec![Operation::DescribeConfigs, Operation::AlterConfigs],
        other => vec![other],
    };
    let allowed = about
        .iter()
        .any(|r| r.word.permission == Permission::Allow && enough.iter().any(|op| fits(&r, *op)));
    Some(allowed && !denied)
}

struct Dice(Rng);

impl Dice {
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.0.bytes16()[0]) % of.len()]
    }

    fn acl(&mut self) -> Acl {
        let kind = self.pick(&[Resource::Topic, Resource::Group]);
        let pattern = self.pick(&[Pattern::Literal, Pattern::Literal, Pattern::Prefixed]);
        let name = self.pick(&["*", "a", "ab", "abc", "b", "\u{e9}", "\u{e9}a"]);
        let who = self.pick(&["User:ann", "User:bob", "User:*", "Group:ann"]);
        let mut acl = acl(kind, pattern, name, who, self.pick(&Operation::EACH));
        acl.word.host = self.pick(&["*", "10.0.0.1", "10.0.0.2"]).to_owned();
        acl.word.permission = self.pick(&[Permission::Allow, Permission::Allow, Permission::Deny]);
        acl
    }
}

#[test]
fn the_table_says_what_a_plain_list_of_the_same_rules_says() {
    let (mut granted, mut refused, mut unknown) = (0, 0, 0);
    for seed in 0..60 {
        let mut dice = Dice(Rng::new(seed));
        let (mut table, mut list) = (AclTable::default(), Vec::new());
        for _ in 0..40 {
            let acl = dice.acl();
            let holds = dice.pick(&[true, true, false]);
            list.retain(|other| *other != acl);
            if holds {
                list.push(acl.clone());
            }
            table.apply(&AclFact { acl, holds });
            for _ in 0..10 {
                let principal = dice.pick(&["User:ann", "User:bob", "User:eve"]);
                let host = dice.pick(&["10.0.0.1", "10.0.0.3"]);
                let asker = Asker { principal, host };
                let operation = dice.pick(&Operation::EACH[1..]);
                let kind = dice.pick(&[Resource::Topic, Resource::Group, Resource::Cluster]);
                let name = dice.pick(&["a", "ab", "abcd", "b", "\u{e9}b", "\u{e8}", "z"]);
                let said = table.says(asker, operation, kind, name);
                let expected = model(&list, asker, operation, kind, name);
                assert_eq!(said, expected, "seed {seed}: {asker:?} {operation:?} {kind:?} {name}");
                match said {
                    Some(true) => granted += 1,
                    Some(false) => refused += 1,
                    None => unknown += 1,
                }
            }
        }
        assert_eq!(table.len(), list.len(), "seed {seed}");
        assert!(list.iter().all(|acl| table.contains(acl)), "seed {seed}");
        let mut bytes = BytesMut::new();
        table.put(&mut bytes);
        let back = AclTable::take(&mut Take::new(bytes.freeze())).expect("our own bytes");
        assert!(back.iter().eq(table.iter()), "seed {seed}");
    }
    assert!(granted > 200 && refused > 200 && unknown > 200, "each happens");
}

#[test]
fn some_topic_may_be_written_unless_every_way_to_one_is_barred() {
    use Pattern::{Literal, Prefixed};
    let ann = Asker { principal: "User:ann", host: "h" };
    let may = |rules: &[(Pattern, &str, Permission)]| {
        let mut table = AclTable::default();
        for (pattern, name, permission) in rules {
            let mut acl = acl(Resource::Topic, *pattern, name, "User:ann", Operation::Write);
            acl.word.permission = *permission;
            table.apply(&AclFact { acl, holds: true });
        }
        table.allows_some(ann, Operation::Write, Resource::Topic)
    };
    let (allow, deny) = (Permission::Allow, Permission::Deny);
    assert!(!may(&[]));
    assert!(may(&[(Literal, "a", allow)]));
    assert!(!may(&[(Literal, "a", allow), (Literal, "a", deny)]));
    assert!(!may(&[(Literal, "ab", allow), (Prefixed, "a", deny)]));
    assert!(!may(&[(Literal, "*", allow), (Literal, "*", deny)]));
    assert!(may(&[(Literal, "*", allow), (Prefixed, "a", deny)]));
    assert!(may(&[(Prefixed, "a", allow), (Prefixed, "ab", deny), (Literal, "a", deny)]));
    assert!(!may(&[(Prefixed, "ab", allow), (Prefixed, "a", deny)]));
}

#[test]
fn a_rule_stands_in_the_journal_as_drawn() {
    let acl = acl(Resource::Topic, Pattern::Prefixed, "t", "User:a", Operation::Read);
    let drawn =
        [&[2, 4, 1, 0, 0, 0, b't', 6, 0, 0, 0][..], b"User:a", &[1, 0, 0, 0, b'*', 3, 3]].concat();
    for (holds, tag) in [(true, 62), (false, 63)] {
        let fact = AclFact { acl: acl.clone(), holds };
        let mut out = BytesMut::new();
        fact.put(&mut out);
        assert_eq!((fact.tag(), &out[..]), (tag, &drawn[..]));
        let take = |bytes: &[u8]| AclFact::take(tag, &mut Take::new(Bytes::copy_from_slice(bytes)));
        assert_eq!(take(&drawn), Ok(Some(fact)));
        for end in 0..drawn.len() {
            assert!(take(&drawn[..end]).is_err(), "cut at byte {end}");
        }
    }
    assert_eq!(AclFact::take(64, &mut Take::new(Bytes::new())), Ok(None), "not a rule");
}

#[test]
fn a_filter_finds_by_name_by_what_a_rule_is_about_and_by_nothing() {
    let rules = [
        acl(Resource::Topic, Pattern::Literal, "abc", "User:a", Operation::Read),
        acl(Resource::Topic, Pattern::Literal, "*", "User:a", Operation::Read),
        acl(Resource::Topic, Pattern::Prefixed, "ab", "User:b", Operation::All),
        acl(Resource::Group, Pattern::Literal, "abc", "User:a", Operation::Read),
    ];
    let (name, who) = ("abc".to_owned(), "User:a".to_owned());
    let any = filter::RawFilter {
        resource: 1,
        name: None,
        pattern: 1,
        principal: None,
        host: None,
        operation: 1,
        permission: 1,
    };
    let found = |raw: filter::RawFilter<'_>| {
        let filter = AclFilter::of(raw).expect("a filter");
        rules.iter().map(|rule| filter.matches(rule)).collect::<Vec<_>>()
    };
    assert_eq!(found(any.clone()), [true; 4]);
    let named = filter::RawFilter { name: Some(&name), ..any.clone() };
    assert_eq!(found(named.clone()), [true, false, false, true]);
    let about = filter::RawFilter { pattern: 2, resource: 2, ..named };
    assert_eq!(found(about), [true, true, true, false]);
    let of_a = filter::RawFilter { principal: Some(&who), resource: 2, ..any.clone() };
    assert_eq!(found(of_a), [true, true, false, false]);
    let all = filter::RawFilter { operation: Operation::All as i8, ..any.clone() };
    assert_eq!(found(all), [false, false, true, false], "ALL is one operation here");
    for wrong in [
        filter::RawFilter { pattern: 0, ..any.clone() },
        filter::RawFilter { operation: 0, ..any.clone() },
        filter::RawFilter { permission: 9, ..any },
    ] {
        assert!(AclFilter::of(wrong).is_err());
    }
}

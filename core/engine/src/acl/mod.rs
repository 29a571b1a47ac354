//! Rules of access as in Kafka: who, from where, may or may not do what to which resources. Decides
//! only what the rules say; whether they are asked at all, and of what, `crate::access` knows.

mod fact;
mod filter;
mod table;

pub use fact::AclFact;
pub(crate) use filter::{AclFilter, RawFilter};
pub(crate) use table::{AclTable, Asker};

use crate::codec::{CodecError, Take, put_string};
use bytes::BufMut;
use millpond_wire::permission::{Operation, Resource};
use std::fmt;

/// Who somebody is: a kind, a colon and a name. Kinds other than `User` stand in rules and are nobody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(String);

/// How the name of a rule means resources, with Kafka's code of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Pattern {
    /// The resource of this name; `*`: all of the kind.
    Literal = 3,
    /// All whose names begin with it.
    Prefixed = 4,
}

/// Whether a rule lets or forbids, with Kafka's code of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Permission {
    /// Forbids; comes before all that lets.
    Deny = 2,
    /// Lets.
    Allow = 3,
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclTarget {
    /// The kind of resource.
    pub resource: Resource,
    /// How the name is meant.
    pub pattern: Pattern,
    /// Of a resource, of several, or `*`.
    pub name: String,
}

/// What a rule says of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclWord {
    /// Whom; `User:*` is everybody.
    pub principal: Principal,
    /// An address; `*`: from anywhere.
    pub host: String,
    /// What.
    pub operation: Operation,
    /// May or may not.
    pub permission: Permission,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// About what.
    pub target: AclTarget,
    /// What.
    pub word: AclWord,
}

impl Principal {
    /// Who nobody asked.
    pub const ANONYMOUS: &str = "User:ANONYMOUS";

    /// Of a name that was proved; `None`: nobody was asked.
    #[must_use]
    pub fn user(name: Option<&str>) -> Principal {
        Principal(name.map_or_else(|| Self::ANONYMOUS.to_owned(), |name| format!("User:{name}")))
    }

    /// As it stands in rules and in the configuration: `None` if there is no kind or no name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Principal> {
        let (kind, name) = text.split_once(':')?;
        (!kind.is_empty() && !name.is_empty()).then(|| Principal(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    pub(crate) fn from_code(code: i8) -> Option<Pattern> {
        [Pattern::Literal, Pattern::Prefixed].into_iter().find(|pattern| *pattern as i8 == code)
    }
}

impl Permission {
    pub(crate) fn from_code(code: i8) -> Option<Permission> {
        [Permission::Deny, Permission::Allow]
            .into_iter()
            .find(|permission| *permission as i8 == code)
    }
}

impl AclTarget {
    /// Whether it means the resource of a name.
    fn covers(&self, resource: Resource, name: &str) -> bool {
        self.resource == resource
            && match self.pattern {
                Pattern::Literal => self.name == name || self.name == WILDCARD,
                Pattern::Prefixed => name.starts_with(&self.name),
            }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AclTarget { resource, pattern, name } = &self.target;
        let AclWord { principal, host, operation, permission } = &self.word;
        write!(
            f,
            "{permission:?} {principal} from {host} to {operation:?} {resource:?}:{pattern:?}:{name}"
        )
    }
}

/// As it stands in the journal and in a snapshot.
pub(crate) fn put_acl(out: &mut impl BufMut, acl: &Acl) {
    out.put_u8(acl.target.resource as u8);
    out.put_u8(acl.target.pattern as u8);
    put_string(out, &acl.target.name);
    put_string(out, acl.word.principal.as_str());
    put_string(out, &acl.word.host);
    out.put_u8(acl.word.operation as u8);
    out.put_u8(acl.word.permission as u8);
}

pub(crate) fn take_acl(take: &mut Take) -> Result<Acl, CodecError> {
    let resource = take_code(take, "kind of resource", Resource::from_code)?;
    let pattern = take_code(take, "kind of pattern", Pattern::from_code)?;
    let name = take.string("resource")?;
    let principal = take.string("principal")?;
    let impossible = CodecError::Impossible { what: "principal", value: principal.len() as i64 };
    let principal = Principal::parse(&principal).ok_or(impossible)?;
    let host = take.string("host")?;
    let operation = take_code(take, "operation", Operation::from_code)?;
    let permission = take_code(take, "permission", Permission::from_code)?;
    let target = AclTarget { resource, pattern, name };
    Ok(Acl { target, word: AclWord { principal, host, operation, permission } })
}

fn take_code<T>(
    take: &mut Take,
    what: &'static str,
    known: impl Fn(i8) -> Option<T>,
) -> Result<T, CodecError> {
    let code = take.u8(what)?;
    let found = i8::try_from(code).ok().and_then(known);
    found.ok_or(CodecError::Impossible { what, value: code.into() })
}

/// All of a kind; all addresses.
pub(crate) const WILDCARD: &str = "*";
/// Everybody.
pub(crate) const EVERYBODY: &str = "User:*";
/// The least that one takes in a snapshot.
const ACL_BYTES_MIN: usize = 2 + 4 + 4 + 4 + 2;

#[cfg(test)]
mod tests;

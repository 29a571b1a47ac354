//! Which rules DescribeAcls and DeleteAcls mean (KIP-290). Decides nothing else.

use super::{Acl, Pattern, Permission, WILDCARD};
use millpond_wire::permission::{Operation, Resource};

/// A filter; what is not set means any.
#[derive(Clone, Debug)]
pub(crate) struct AclFilter {
    resource: Option<Resource>,
    name: Option<String>,
    pattern: PatternFilter,
    principal: Option<String>,
    host: Option<String>,
    operation: Option<Operation>,
    permission: Option<Permission>,
}

#[derive(Clone, Copy, Debug)]
enum PatternFilter {
    /// Of any kind, with exactly this name.
    Any,
    /// Whatever is about the resource of this name.
    Match,
    Of(Pattern),
}

/// A filter as it comes, in Kafka's codes.
#[derive(Clone, Debug)]
pub(crate) struct RawFilter<'a> {
    pub(crate) resource: i8,
    pub(crate) name: Option<&'a String>,
    pub(crate) pattern: i8,
    pub(crate) principal: Option<&'a String>,
    pub(crate) host: Option<&'a String>,
    pub(crate) operation: i8,
    pub(crate) permission: i8,
}

impl AclFilter {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of(raw: RawFilter<'_>) -> Result<AclFilter, String> {
        fn code<T>(what: &str, code: i8, found: Option<T>) -> Result<Option<T>, String> {
            match found {
                Some(found) => Ok(Some(found)),
                None if code == ANY_CODE => Ok(None),
                None => Err(format!("The filter has an unknown {what}: {code}")),
            }
        }
        let pattern = match raw.pattern {
            ANY_CODE => PatternFilter::Any,
            MATCH_CODE => PatternFilter::Match,
            other => {
                let known = Pattern::from_code(other).map(PatternFilter::Of);
                known.ok_or_else(|| format!("The filter has an unknown pattern type: {other}"))?
            }
        };
        Ok(AclFilter {
            resource: code("resource type", raw.resource, Resource::from_code(raw.resource))?,
            name: raw.name.cloned(),
            pattern,
            principal: raw.principal.cloned(),
            host: raw.host.cloned(),
            operation: code("operation", raw.operation, Operation::from_code(raw.operation))?,
            permission: code(
                "permission type",
                raw.permission,
                Permission::from_code(raw.permission),
            )?,
        })
    }

    pub(crate) fn matches(&self, acl: &Acl) -> bool {
        let (target, word) = (&acl.target, &acl.word);
        let is_named = self.name.as_ref().is_none_or(|name| *name == target.name);
        let is_meant = match (self.pattern, &self.name) {
            (PatternFilter::Any, _) => is_named,
            (PatternFilter::Of(pattern), _) => is_named && pattern == target.pattern,
            (PatternFilter::Match, None) => true,
            // The wildcard itself is no resource: only rules of this very name are about it.
            (PatternFilter::Match, Some(name)) if name == WILDCARD => is_named,
            (PatternFilter::Match, Some(name)) => target.covers(target.resource, name),
        };
        is_meant
            && self.resource.is_none_or(|resource| resource == target.resource)
            && self.principal.as_ref().is_none_or(|one| *one == word.principal.as_str())
            && self.host.as_ref().is_none_or(|host| *host == word.host)
            && self.operation.is_none_or(|operation| operation == word.operation)
            && self.permission.is_none_or(|permission| permission == word.permission)
    }
}

const ANY_CODE: i8 = 1;
const MATCH_CODE: i8 = 2;

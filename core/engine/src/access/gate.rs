//! One request before the rules: who asks, and what its API needs. Decides nothing beyond what the rules
//! say; what becomes of a request is its family's business.

use crate::acl::AclTable;
use crate::acl::Asker;
use crate::engine::Engine;
use crate::state::State;
use millpond_wire::ApiKey;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::Response;
use millpond_wire::permission::{CLUSTER_NAME, Operation, Resource};
use millpond_wire::uuid::Uuid;
use std::cell::Cell;

/// What becomes of a request.
pub(super) enum Verdict {
    /// It may have all that it names.
    Pass,
    /// What is left of it may be served; these refusals join the answer.
    Trim(Box<Response>),
    /// This is the answer.
    Refuse(Box<Response>),
}

/// What was missing: operation, kind and name.
pub(super) type Missing = (Operation, Resource, String);

/// One request before the rules.
pub(super) struct Gate<'a> {
    pub(super) engine: &'a Engine,
    asker: Asker<'a>,
    pub(super) api: ApiKey,
    /// The first refusal.
    pub(super) missing: Cell<Option<Missing>>,
}

impl<'a> Gate<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        principal: &'a str,
        host: &'a str,
        api: ApiKey,
    ) -> Gate<'a> {
        Gate { engine, asker: Asker { principal, host }, api, missing: Cell::new(None) }
    }

    pub(super) fn state(&self) -> &'a State {
        &self.engine.state
    }

    fn rules(&self) -> &'a AclTable {
        &self.engine.state.acls
    }

    /// Whether the rules allow this.
    pub(super) fn allows(&self, operation: Operation, resource: Resource, name: &str) -> bool {
        let config = &self.engine.config.access;
        // Whoever may see nothing is at no wildcard either: a resource has a name.
        !name.is_empty()
            && self
                .rules()
                .says(self.asker, operation, resource, name)
                .unwrap_or(config.allows_without_rule)
    }

    /// Whether there may be a resource of a kind to which the rules allow this.
    pub(super) fn allows_some(&self, operation: Operation, resource: Resource) -> bool {
        self.rules().allows_some(self.asker, operation, resource)
    }

    /// Whether the rules allow what the API needs on a resource; a refusal is noted.
    pub(super) fn may(&self, resource: Resource, name: &str) -> bool {
        let needs = self.api.spec().needs.iter().copied().flatten();
        let mut needs = needs.filter(|need| need.resource == resource).peekable();
        let first = needs.peek().map(|need| need.operation);
        if needs.any(|need| self.allows(need.operation, resource, name)) {
            return true;
        }
        if let Some(operation) = first {
            self.note(operation, resource, name);
        }
        false
    }

    /// As [`Gate::may`], of the cluster.
    pub(super) fn may_cluster(&self) -> bool {
        self.may(Resource::Cluster, CLUSTER_NAME)
    }

    pub(super) fn note(&self, operation: Operation, resource: Resource, name: &str) {
        let noted = self.missing.take();
        self.missing.set(noted.or_else(|| Some((operation, resource, name.to_owned()))));
    }

    /// What may be done to a resource, of these operations, as bits.
    pub(super) fn bits(&self, all: i32, resource: Resource, name: &str) -> i32 {
        let may = |op: &&Operation| all & op.bit() != 0 && self.allows(**op, resource, name);
        Operation::EACH.iter().filter(may).fold(0, |bits, operation| bits | operation.bit())
    }

    /// The name of a topic that may be named by its id; `None`: no topic has it.
    pub(super) fn topic_name<'n>(&self, name: &'n str, id: Uuid) -> Option<&'n str>
    where
        'a: 'n,
    {
        if id.is_zero() {
            return Some(name);
        }
        self.state().catalog.by_id(id).map(|topic| topic.name.as_str())
    }

    /// Whether the API's need on a topic, named by name or id, is met. What does not exist by id is
    /// nobody's secret: the answer says that it is not known.
    pub(super) fn may_topic(&self, name: &str, id: Uuid) -> bool {
        self.topic_name(name, id).is_none_or(|name| self.may(Resource::Topic, name))
    }
}

impl Verdict {
    pub(super) fn refuse(response: impl Into<Response>) -> Verdict {
        Verdict::Refuse(Box::new(response.into()))
    }

    /// Refusals that join the answer, where there are any.
    pub(super) fn trim(is_any: bool, response: impl Into<Response>) -> Verdict {
        if is_any { Verdict::Trim(Box::new(response.into())) } else { Verdict::Pass }
    }
}

/// Takes out of a list what may not be had.
pub(super) fn take_out<T>(list: &mut Vec<T>, may: impl Fn(&T) -> bool) -> Vec<T> {
    let (kept, refused) = std::mem::take(list).into_iter().partition(may);
    *list = kept;
    refused
}

pub(super) const TOPIC: i16 = ErrorCode::of_refusal(Resource::Topic).code();
pub(super) const GROUP: i16 = ErrorCode::of_refusal(Resource::Group).code();
pub(super) const CLUSTER: i16 = ErrorCode::of_refusal(Resource::Cluster).code();
pub(super) const TRANSACTIONAL_ID: i16 = ErrorCode::of_refusal(Resource::TransactionalId).code();

/// What is said to people.
pub(super) fn why(resource: Resource) -> Option<String> {
    let what = match resource {
        Resource::Topic => "Topic",
        Resource::Group => "Group",
        Resource::TransactionalId => "Transactional Id",
        _ => "Cluster",
    };
    Some(format!("{what} authorization failed."))
}

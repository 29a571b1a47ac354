//! Whether somebody may have what he asks for. Every request passes here before it is served: what it
//! names and may not have is taken out of it, the rest is served as ever, and the refusals join the
//! answer on its way out, where what may not be seen is left out, too. Which permission an API needs
//! stands in its `guard` line (`millpond_wire::api`); an API without a place here does not compile.
//! Must never serve what no rule allows, once anybody on this node can be somebody.

mod cluster;
mod configs;
mod early;
mod fetch;
mod gate;
mod groups;
mod offsets;
mod shown;
mod topics;
mod transactions;

use crate::acl::{AclTable, Asker, Principal};
use crate::engine::Engine;
use crate::units::{Peer, RequestId, SessionId};
use gate::{Gate, Verdict};
use millpond_wire::ApiKey;
use millpond_wire::messages::{Request, Response};
use millpond_wire::permission::{Operation, Resource};
use std::collections::{BTreeMap, BTreeSet};

/// What the node says of access, from its own file and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessConfig {
    /// Principals that may do everything, rules or not. Default: whoever nobody asked.
    pub super_users: BTreeSet<String>,
    /// Whether some listener asks who is there: then nobody may do what no rule allows. So it is too
    /// where there is a user or a rule. Default false.
    pub asks: bool,
    /// Whether everybody may do everything to what no rule is about
    /// (`allow.everyone.if.no.acl.found`). Default false, as in Kafka.
    pub allows_without_rule: bool,
    /// Whether refusals and changes are noted in the audit topic. Default false.
    pub audits: bool,
}

impl Default for AccessConfig {
    fn default() -> Self {
        AccessConfig {
            super_users: BTreeSet::from([Principal::ANONYMOUS.to_owned()]),
            asks: false,
            allows_without_rule: false,
            audits: false,
        }
    }
}

/// Somebody was refused something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) principal: Principal,
    pub(crate) host: String,
    /// By which API.
    pub(crate) api: &'static str,
    /// What was missing first.
    pub(crate) operation: Operation,
    pub(crate) resource: Resource,
    pub(crate) name: String,
}

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Access {
    held: BTreeMap<RequestId, Held>,
    /// Requests that were refused something since the start, by their API.
    denials: BTreeMap<ApiKey, u64>,
}

/// What is to be done with an answer.
#[derive(Debug)]
struct Held {
    session: SessionId,
    principal: Principal,
    host: String,
    api: ApiKey,
    /// Refusals that join it.
    refused: Option<Response>,
}

/// What of the topics somebody may see, for decisions that are not about one request.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) rules: &'a AclTable,
    pub(crate) config: &'a AccessConfig,
}

impl Sight<'_> {
    /// Whether somebody may describe a topic, where rules are kept.
    pub(crate) fn describes(&self, principal: &Principal, host: &str, topic: &str) -> bool {
        let asker = Asker { principal: principal.as_str(), host };
        self.config.super_users.contains(principal.as_str())
            || self
                .rules
                .says(asker, Operation::Describe, Resource::Topic, topic)
                .unwrap_or(self.config.allows_without_rule)
    }
}

impl Access {
    /// A connection ended: what it waited for is not answered any more.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.held.retain(|_, held| held.session != session);
    }
}

impl Engine {
    /// Whether rules are kept: as soon as anybody can be somebody here.
    #[must_use]
    pub fn keeps_rules(&self) -> bool {
        self.config.access.asks || self.state.users.len() > 0 || self.state.acls.len() > 0
    }

    /// Requests that were refused something since the start, by their API.
    pub fn denials(&self) -> impl Iterator<Item = (ApiKey, u64)> {
        self.access.denials.iter().map(|(api, count)| (*api, *count))
    }

    /// Whether somebody may do this; for what is not asked by a Kafka request.
    #[must_use]
    pub fn allows(
        &self,
        principal: &Principal,
        host: &str,
        operation: Operation,
        resource: Resource,
        name: &str,
    ) -> bool {
        !self.binds(principal)
            || Gate::new(self, principal.as_str(), host, ApiKey::ApiVersions)
                .allows(operation, resource, name)
    }

    fn binds(&self, principal: &Principal) -> bool {
        self.keeps_rules() && !self.config.access.super_users.contains(principal.as_str())
    }

    /// Takes out of a request what its peer may not have. False: it is answered already.
    pub(crate) fn guard(
        &mut self,
        id: RequestId,
        peer: &Peer,
        request: &mut Request,
        version: i16,
    ) -> bool {
        let principal = || Principal::user(peer.user.as_deref());
        if self.config.access.audits {
            // Rules or not: the first rule may be made by this very request.
            self.audit.acting = Some((principal(), peer.host.clone()));
        }
        if !self.keeps_rules() {
            return true;
        }
        let principal = principal();
        if !self.binds(&principal) {
            return true;
        }
        let api = request.api_key();
        let gate = Gate::new(self, principal.as_str(), &peer.host, api);
        let verdict = check(&gate, request, version);
        let missing = gate.missing.take();
        let (host, session) = (peer.host.clone(), peer.session);
        if let Some((operation, resource, name)) = missing {
            *self.access.denials.entry(api).or_default() += 1;
            let (principal, host, api) = (principal.clone(), host.clone(), api.name());
            self.note_denial(&Denial { principal, host, api, operation, resource, name });
        }
        let refused = match verdict {
            Verdict::Refuse(response) => {
                let is_awaited = !matches!(request, Request::Produce(produce) if produce.acks == 0);
                self.finish_reply(id, is_awaited.then_some(*response));
                return false;
            }
            Verdict::Trim(response) => Some(*response),
            Verdict::Pass if shown::is_seen_through(api) => None,
            Verdict::Pass => return true,
        };
        self.access.held.insert(id, Held { session, principal, host, api, refused });
        true
    }

    /// Makes an answer say what was refused, and only what may be seen.
    pub(crate) fn show_allowed(&mut self, id: RequestId, response: &mut Option<Response>) {
        let Some(held) = self.access.held.remove(&id) else { return };
        let Some(response) = response else { return };
        let gate = Gate::new(self, held.principal.as_str(), &held.host, held.api);
        shown::leave_out(&gate, response);
        if let Some(refused) = held.refused {
            shown::join(response, refused);
        }
    }
}

/// Every API has its place; which permission it is, its `guard` line says.
fn check(gate: &Gate<'_>, request: &mut Request, version: i16) -> Verdict {
    match request {
        Request::Produce(request) => topics::produce(gate, request, version),
        Request::Fetch(request) => fetch::fetch(gate, request),
        Request::ListOffsets(request) => topics::list_offsets(gate, request),
        Request::Metadata(request) => topics::metadata(gate, request, version),
        Request::OffsetCommit(request) => offsets::commit(gate, request),
        Request::OffsetFetch(request) => offsets::fetch(gate, request, version),
        Request::FindCoordinator(request) => groups::find_coordinator(gate, request, version),
        Request::JoinGroup(request) => groups::join(gate, request),
        Request::Heartbeat(request) => groups::heartbeat(gate, request),
        Request::LeaveGroup(request) => groups::leave(gate, request),
        Request::SyncGroup(request) => groups::sync(gate, request),
        Request::DescribeGroups(request) => groups::describe(gate, request),
        Request::ListGroups(_) => Verdict::Pass,
        Request::DeleteGroups(request) => groups::delete(gate, request),
        Request::ConsumerGroupHeartbeat(request) => groups::consumer_heartbeat(gate, request),
        Request::ConsumerGroupDescribe(request) => groups::consumer_describe(gate, request),
        Request::OffsetDelete(request) => offsets::delete(gate, request),
        // Before a login, and what says nothing but where the node is.
        Request::ApiVersions(_) | Request::SaslHandshake(_) | Request::SaslAuthenticate(_) => {
            Verdict::Pass
        }
        Request::DescribeCluster(_) => Verdict::Pass,
        Request::CreateTopics(request) => topics::create(gate, request),
        Request::DeleteTopics(request) => topics::delete(gate, request, version),
        Request::CreatePartitions(request) => topics::create_partitions(gate, request),
        Request::DeleteRecords(request) => topics::delete_records(gate, request),
        Request::DescribeTopicPartitions(request) => topics::describe_pages(gate, request),
        Request::OffsetForLeaderEpoch(request) => topics::leader_epochs(gate, request),
        Request::DescribeProducers(request) => topics::describe_producers(gate, request),
        Request::AlterConfigs(request) => configs::alter(gate, request),
        Request::IncrementalAlterConfigs(request) => configs::alter_some(gate, request),
        Request::DescribeConfigs(request) => configs::describe(gate, request),
        Request::InitProducerId(request) => transactions::init(gate, request),
        Request::AddPartitionsToTxn(request) => {
            transactions::add_partitions(gate, request, version)
        }
        Request::AddOffsetsToTxn(request) => transactions::add_offsets(gate, request),
        Request::EndTxn(request) => transactions::end(gate, request),
        Request::WriteTxnMarkers(request) => transactions::write_markers(gate, request),
        Request::TxnOffsetCommit(request) => transactions::commit_offsets(gate, request),
        Request::DescribeTransactions(request) => transactions::describe(gate, request),
        Request::ListTransactions(_) => Verdict::Pass,
        Request::AlterReplicaLogDirs(_)
        | Request::DescribeLogDirs(_)
        | Request::ElectLeaders(_)
        | Request::AlterPartitionReassignments(_)
        | Request::ListPartitionReassignments(_)
        | Request::DescribeClientQuotas(_)
        | Request::AlterClientQuotas(_)
        | Request::DescribeAcls(_)
        | Request::CreateAcls(_)
        | Request::DeleteAcls(_)
        | Request::DescribeUserScramCredentials(_)
        | Request::AlterUserScramCredentials(_)
        | Request::DescribeQuorum(_)
        | Request::UpdateFeatures(_)
        | Request::ListConfigResources(_) => cluster::check(gate, request),
    }
}

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;

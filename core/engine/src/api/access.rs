//! DescribeAcls, CreateAcls, DeleteAcls, and logins that come where nobody is asked. Where no rule would
//! be kept, tools are told so in the words that they know; must never answer as if one were.

use crate::acl::{
    Acl, AclFact, AclFilter, AclTarget, AclWord, Pattern, Permission, Principal, RawFilter,
};
use crate::engine::Engine;
use crate::entry::Fact;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::create_acls_request::AclCreation;
use millpond_wire::messages::create_acls_response::AclCreationResult;
use millpond_wire::messages::delete_acls_request::DeleteAclsFilter;
use millpond_wire::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl,
};
use millpond_wire::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use millpond_wire::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse, Response, SaslAuthenticateResponse,
    SaslHandshakeResponse,
};
use millpond_wire::permission::{CLUSTER_NAME, MODULES_NAME, Operation, Resource, TRANSFORMS_NAME};

/// Why a rule is not made or found.
type Refused = (ErrorCode, String);

impl Engine {
    pub(crate) fn on_describe_acls(&mut self, id: RequestId, request: &DescribeAclsRequest) {
        let mut response = DescribeAclsResponse::default();
        match self.kept().and_then(|()| described_filter(request)) {
            Ok(filter) => response.resources = self.matching(&filter),
            Err((code, message)) => {
                response.error_code = code.code();
                response.error_message = Some(message);
            }
        }
        self.reply_after(self.acls_seq, id, Response::DescribeAcls(response));
    }

    fn matching(&self, filter: &AclFilter) -> Vec<DescribeAclsResource> {
        let mut resources: Vec<DescribeAclsResource> = Vec::new();
        for Acl { target, word } in self.state.acls.iter().filter(|acl| filter.matches(acl)) {
            let (kind, pattern) = (target.resource as i8, target.pattern as i8);
            let described = AclDescription {
                principal: word.principal.to_string(),
                host: word.host,
                operation: word.operation as i8,
                permission_type: word.permission as i8,
            };
            match resources.last_mut() {
                Some(last)
                    if (last.resource_type, last.pattern_type) == (kind, pattern)
                        && last.resource_name == target.name =>
                {
                    last.acls.push(described);
                }
                _ => resources.push(DescribeAclsResource {
                    resource_type: kind,
                    resource_name: target.name,
                    pattern_type: pattern,
                    acls: vec![described],
                }),
            }
        }
        resources
    }

    pub(crate) fn on_create_acls(&mut self, id: RequestId, request: &CreateAclsRequest) {
        let mut response = CreateAclsResponse::default();
        for (place, creation) in request.creations.iter().enumerate() {
            let acl = self
                .kept()
                .and_then(|()| few(place))
                .and_then(|()| wanted(creation))
                .and_then(|acl| self.with_room(acl));
            let (code, error_message) = match acl {
                Ok(acl) => {
                    if !self.state.acls.contains(&acl) {
                        self.commit(Fact::Acl(AclFact { acl, holds: true }));
                        self.seal_if_large();
                    }
                    (ErrorCode::None, None)
                }
                Err((code, message)) => (code, Some(message)),
            };
            response.results.push(AclCreationResult { error_code: code.code(), error_message });
        }
        self.reply_after(self.acls_seq, id, Response::CreateAcls(response));
    }

    pub(crate) fn on_delete_acls(&mut self, id: RequestId, request: &DeleteAclsRequest) {
        let mut response = DeleteAclsResponse::default();
        for (place, filter) in request.filters.iter().enumerate() {
            let filter =
                self.kept().and_then(|()| few(place)).and_then(|()| deleting_filter(filter));
            let mut result = DeleteAclsFilterResult::default();
            match filter {
                Ok(filter) => {
                    let found: Vec<Acl> =
                        self.state.acls.iter().filter(|acl| filter.matches(acl)).collect();
                    for acl in found {
                        result.matching_acls.push(deleted(&acl));
                        self.commit(Fact::Acl(AclFact { acl, holds: false }));
                        self.seal_if_large();
                    }
                }
                Err((code, message)) => {
                    result.error_code = code.code();
                    result.error_message = Some(message);
                }
            }
            response.filter_results.push(result);
        }
        self.reply_after(self.acls_seq, id, Response::DeleteAcls(response));
    }

    fn kept(&self) -> Result<(), Refused> {
        if self.keeps_rules() {
            return Ok(());
        }
        Err((ErrorCode::SecurityDisabled, "No Authorizer is configured.".to_owned()))
    }

    fn with_room(&self, acl: Acl) -> Result<Acl, Refused> {
        if self.state.acls.len() < limits::ACLS_MAX || self.state.acls.contains(&acl) {
            return Ok(acl);
        }
        let most = limits::ACLS_MAX;
        Err((ErrorCode::PolicyViolation, format!("this node keeps {most} rules at most")))
    }

    /// The connection answers where it asks who somebody is; what comes here comes where nobody is
    /// asked, or is not asked again.
    pub(crate) fn on_sasl_handshake(&mut self, id: RequestId) {
        let error_code = ErrorCode::IllegalSaslState.code();
        let response = SaslHandshakeResponse { error_code, ..Default::default() };
        self.reply(id, Response::SaslHandshake(response));
    }

    pub(crate) fn on_sasl_authenticate(&mut self, id: RequestId) {
        let response = SaslAuthenticateResponse {
            error_code: ErrorCode::IllegalSaslState.code(),
            error_message: Some(
                "SaslAuthenticate request received after successful authentication".to_owned(),
            ),
            ..Default::default()
        };
        self.reply(id, Response::SaslAuthenticate(response));
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err((ErrorCode::InvalidRequest, message.into()))
}

fn few(place: usize) -> Result<(), Refused> {
    let most = limits::ACLS_PER_REQUEST_MAX;
    if place < most { Ok(()) } else { invalid(format!("One request has {most} of them at most")) }
}

/// A rule that can be.
fn wanted(creation: &AclCreation) -> Result<Acl, Refused> {
    let Some(resource) = Resource::from_code(creation.resource_type) else {
        return invalid(format!("Invalid resource type: {}", creation.resource_type));
    };
    let Some(pattern) = Pattern::from_code(creation.resource_pattern_type) else {
        return invalid(format!("Invalid pattern type: {}", creation.resource_pattern_type));
    };
    let Some(operation) = Operation::from_code(creation.operation) else {
        return invalid(format!("Invalid operation type: {}", creation.operation));
    };
    let Some(permission) = Permission::from_code(creation.permission_type) else {
        return invalid(format!("Invalid permission type: {}", creation.permission_type));
    };
    let Some(principal) = Principal::parse(&creation.principal) else {
        return invalid("Could not parse principal: it is a type, a colon and a name");
    };
    let name = &creation.resource_name;
    if name.is_empty() {
        return invalid("Invalid empty resource name");
    }
    let names = [CLUSTER_NAME, MODULES_NAME, TRANSFORMS_NAME];
    if resource == Resource::Cluster && !names.contains(&name.as_str()) {
        return invalid(format!("The only valid names for the CLUSTER resource are {names:?}"));
    }
    if creation.host.is_empty() {
        return invalid("Invalid empty host");
    }
    let lengths = [
        (name.len(), limits::ACL_NAME_BYTES_MAX),
        (principal.as_str().len(), limits::ACL_PRINCIPAL_BYTES_MAX),
        (creation.host.len(), limits::ACL_HOST_BYTES_MAX),
    ];
    if let Some((_, most)) = lengths.into_iter().find(|(length, most)| length > most) {
        return invalid(format!("A text of the rule is longer than {most} bytes"));
    }
    let (name, host) = (name.clone(), creation.host.clone());
    let target = AclTarget { resource, pattern, name };
    Ok(Acl { target, word: AclWord { principal, host, operation, permission } })
}

fn filter(raw: RawFilter<'_>) -> Result<AclFilter, Refused> {
    AclFilter::of(raw).or_else(invalid)
}

fn described_filter(request: &DescribeAclsRequest) -> Result<AclFilter, Refused> {
    filter(RawFilter {
        resource: request.resource_type_filter,
        name: request.resource_name_filter.as_ref(),
        pattern: request.pattern_type_filter,
        principal: request.principal_filter.as_ref(),
        host: request.host_filter.as_ref(),
        operation: request.operation,
        permission: request.permission_type,
    })
}

fn deleting_filter(wanted: &DeleteAclsFilter) -> Result<AclFilter, Refused> {
    filter(RawFilter {
        resource: wanted.resource_type_filter,
        name: wanted.resource_name_filter.as_ref(),
        pattern: wanted.pattern_type_filter,
        principal: wanted.principal_filter.as_ref(),
        host: wanted.host_filter.as_ref(),
        operation: wanted.operation,
        permission: wanted.permission_type,
    })
}

fn deleted(acl: &Acl) -> DeleteAclsMatchingAcl {
    let Acl { target, word } = acl;
    DeleteAclsMatchingAcl {
        resource_type: target.resource as i8,
        resource_name: target.name.clone(),
        pattern_type: target.pattern as i8,
        principal: word.principal.to_string(),
        host: word.host.clone(),
        operation: word.operation as i8,
        permission_type: word.permission as i8,
        ..Default::default()
    }
}

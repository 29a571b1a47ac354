//! Rules of access (KIP-140, KIP-290): list, make, delete. Kinds, patterns, operations and permissions are
//! Kafka's codes; never judges them.

use super::{Admin, check};
use crate::client::expect_response;
use crate::error::ClientError;
use millpond_wire::messages::create_acls_request::AclCreation;
use millpond_wire::messages::delete_acls_request::DeleteAclsFilter;
use millpond_wire::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, Request};

/// One rule, in Kafka's codes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// The kind of resource.
    pub resource: i8,
    /// The name.
    pub name: String,
    /// How it is meant: 3 literal, 4 prefixed.
    pub pattern: i8,
    /// Whom it is about, as `User:ann`.
    pub principal: String,
    /// From where; `*`: anywhere.
    pub host: String,
    /// What is done.
    pub operation: i8,
    /// 2 deny, 3 allow.
    pub permission: i8,
}

/// Which rules; what is not set means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFilter {
    /// The kind of resource.
    pub resource: Option<i8>,
    /// The name.
    pub name: Option<String>,
    /// How it is meant: 2 whatever is about the resource of this name, 3 literal, 4 prefixed.
    pub pattern: Option<i8>,
    /// Whom it is about.
    pub principal: Option<String>,
    /// From where.
    pub host: Option<String>,
    /// What is done.
    pub operation: Option<i8>,
    /// 2 deny, 3 allow.
    pub permission: Option<i8>,
}

const ANY: i8 = 1;

impl Admin {
    /// The rules that a filter means.
    ///
    /// # Errors
    /// [`ClientError`]; `SecurityDisabled` from a broker that keeps none.
    pub async fn list_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, ClientError> {
        let filter = filter.clone();
        let request = DescribeAclsRequest {
            resource_type_filter: filter.resource.unwrap_or(ANY),
            resource_name_filter: filter.name,
            pattern_type_filter: filter.pattern.unwrap_or(ANY),
            principal_filter: filter.principal,
            host_filter: filter.host,
            operation: filter.operation.unwrap_or(ANY),
            permission_type: filter.permission.unwrap_or(ANY),
        };
        let (connection, response) = self.ask(Request::DescribeAcls(request)).await?;
        let response = expect_response!(connection, response, DescribeAcls);
        check("listing rules".to_owned(), response.error_code, response.error_message)?;
        let mut acls = Vec::new();
        for of in response.resources {
            let resource = (of.resource_type, of.resource_name, of.pattern_type);
            acls.extend(of.acls.into_iter().map(|one| {
                rule(
                    resource.clone(),
                    (one.principal, one.host),
                    one.operation,
                    one.permission_type,
                )
            }));
        }
        acls.sort();
        Ok(acls)
    }

    /// Makes rules; one that there is stays as it is.
    ///
    /// # Errors
    /// [`ClientError`] of the first that is not made; others may be.
    pub async fn create_acls(&self, acls: Vec<Acl>) -> Result<(), ClientError> {
        let creation = |acl: Acl| AclCreation {
            resource_type: acl.resource,
            resource_name: acl.name,
            resource_pattern_type: acl.pattern,
            principal: acl.principal,
            host: acl.host,
            operation: acl.operation,
            permission_type: acl.permission,
        };
        let creations = acls.into_iter().map(creation).collect();
        let request = Request::CreateAcls(CreateAclsRequest { creations });
        let (connection, response) = self.ask(request).await?;
        let response = expect_response!(connection, response, CreateAcls);
        for result in response.results {
            check("making a rule".to_owned(), result.error_code, result.error_message)?;
        }
        Ok(())
    }

    /// Deletes the rules that a filter means, and says which they were.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, ClientError> {
        let filter = filter.clone();
        let filters = vec![DeleteAclsFilter {
            resource_type_filter: filter.resource.unwrap_or(ANY),
            resource_name_filter: filter.name,
            pattern_type_filter: filter.pattern.unwrap_or(ANY),
            principal_filter: filter.principal,
            host_filter: filter.host,
            operation: filter.operation.unwrap_or(ANY),
            permission_type: filter.permission.unwrap_or(ANY),
        }];
        let request = Request::DeleteAcls(DeleteAclsRequest { filters });
        let (connection, response) = self.ask(request).await?;
        let response = expect_response!(connection, response, DeleteAcls);
        let mut acls = Vec::new();
        for result in response.filter_results {
            check("deleting rules".to_owned(), result.error_code, result.error_message)?;
            acls.extend(result.matching_acls.into_iter().map(|one| {
                let resource = (one.resource_type, one.resource_name, one.pattern_type);
                rule(resource, (one.principal, one.host), one.operation, one.permission_type)
            }));
        }
        acls.sort();
        Ok(acls)
    }
}

/// A rule as two messages tell it: `resource` is its kind, name and pattern; `who` the principal and the
/// host.
fn rule(resource: (i8, String, i8), who: (String, String), operation: i8, permission: i8) -> Acl {
    let ((resource, name, pattern), (principal, host)) = (resource, who);
    Acl { resource, name, pattern, principal, host, operation, permission }
}

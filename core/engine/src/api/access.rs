//! Permissions and users. Nobody is asked here who he is, so there are neither, and tools are told
//! so in the words that they know. Must never answer as if a rule were kept.

use crate::engine::Engine;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_acls_response::AclCreationResult;
use millpond_wire::messages::delete_acls_response::DeleteAclsFilterResult;
use millpond_wire::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use millpond_wire::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse, Response,
};

impl Engine {
    pub(crate) fn on_describe_acls(&mut self, id: RequestId) {
        let (error_code, error_message) = no_rules();
        let response = DescribeAclsResponse { error_code, error_message, ..Default::default() };
        self.reply(id, Response::DescribeAcls(response));
    }

    pub(crate) fn on_create_acls(&mut self, id: RequestId, request: &CreateAclsRequest) {
        let results = request.creations.iter().map(|_| {
            let (error_code, error_message) = no_rules();
            AclCreationResult { error_code, error_message }
        });
        let response = CreateAclsResponse { results: results.collect(), ..Default::default() };
        self.reply(id, Response::CreateAcls(response));
    }

    pub(crate) fn on_delete_acls(&mut self, id: RequestId, request: &DeleteAclsRequest) {
        let results = request.filters.iter().map(|_| {
            let (error_code, error_message) = no_rules();
            DeleteAclsFilterResult { error_code, error_message, matching_acls: Vec::new() }
        });
        let filter_results = results.collect();
        let response = DeleteAclsResponse { filter_results, ..Default::default() };
        self.reply(id, Response::DeleteAcls(response));
    }

    /// All users are none; a user who is asked for by name is unknown.
    pub(crate) fn on_describe_users(
        &mut self,
        id: RequestId,
        request: &DescribeUserScramCredentialsRequest,
    ) {
        let unknown = ErrorCode::ResourceNotFound;
        let results = request.users.iter().flatten().map(|user| {
            let message = format!("there is no user {}", user.name);
            DescribeUserScramCredentialsResult {
                user: user.name.clone(),
                error_code: unknown.code(),
                error_message: Some(message),
                credential_infos: Vec::new(),
            }
        });
        let response = DescribeUserScramCredentialsResponse {
            results: results.collect(),
            ..Default::default()
        };
        self.reply(id, Response::DescribeUserScramCredentials(response));
    }
}

fn no_rules() -> (i16, Option<String>) {
    (ErrorCode::SecurityDisabled.code(), Some("No Authorizer is configured.".into()))
}

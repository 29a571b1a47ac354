//! Permissions, of which there are none yet: whoever is let in may do all, and tools are told so in
//! the words that they know. Must never answer as if a rule were kept.

use crate::engine::Engine;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_acls_response::AclCreationResult;
use millpond_wire::messages::delete_acls_response::DeleteAclsFilterResult;
use millpond_wire::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsResponse, Response, SaslAuthenticateResponse, SaslHandshakeResponse,
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

fn no_rules() -> (i16, Option<String>) {
    (ErrorCode::SecurityDisabled.code(), Some("No Authorizer is configured.".into()))
}

//! What tools hear about permissions, of which there are none, and logins where nobody is asked.

use super::rig::Rig;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_acls_request::AclCreation;
use millpond_wire::messages::delete_acls_request::DeleteAclsFilter;
use millpond_wire::messages::*;

const DISABLED: i16 = ErrorCode::SecurityDisabled.code();

#[test]
fn rules_are_neither_listed_nor_made_nor_deleted_as_long_as_none_would_be_kept() {
    let mut rig = Rig::new();
    let listed = rig.call(Request::DescribeAcls(DescribeAclsRequest::default()), 3);
    let Response::DescribeAcls(listed) = listed else { panic!("{listed:?}") };
    assert_eq!((listed.error_code, listed.resources.len()), (DISABLED, 0));
    assert!(listed.error_message.is_some());

    let creations = vec![AclCreation::default(); 2];
    let made = rig.call(Request::CreateAcls(CreateAclsRequest { creations }), 3);
    let Response::CreateAcls(made) = made else { panic!("{made:?}") };
    let codes: Vec<i16> = made.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [DISABLED; 2], "each rule has its answer");

    let filters = vec![DeleteAclsFilter::default(); 3];
    let deleted = rig.call(Request::DeleteAcls(DeleteAclsRequest { filters }), 3);
    let Response::DeleteAcls(deleted) = deleted else { panic!("{deleted:?}") };
    let codes: Vec<i16> = deleted.filter_results.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [DISABLED; 3], "each filter has its answer");
}

#[test]
fn who_logs_in_where_nobody_is_asked_is_told_that_the_state_is_wrong() {
    let mut rig = Rig::new();
    let illegal = ErrorCode::IllegalSaslState.code();
    for version in 0..=1 {
        let request = SaslHandshakeRequest { mechanism: "PLAIN".to_owned() };
        let answer = rig.call(Request::SaslHandshake(request), version);
        let Response::SaslHandshake(answer) = answer else { panic!("{answer:?}") };
        assert_eq!((answer.error_code, answer.mechanisms.len()), (illegal, 0));
    }
    for version in 0..=2 {
        let request = Request::SaslAuthenticate(SaslAuthenticateRequest::default());
        let answer = rig.call(request, version);
        let Response::SaslAuthenticate(answer) = answer else { panic!("{answer:?}") };
        assert_eq!((answer.error_code, answer.auth_bytes.is_empty()), (illegal, true));
    }
}

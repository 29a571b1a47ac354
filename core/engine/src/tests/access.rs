//! What tools hear about permissions and users of a node that asks nobody who he is.

use super::rig::Rig;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_acls_request::AclCreation;
use millpond_wire::messages::delete_acls_request::DeleteAclsFilter;
use millpond_wire::messages::describe_user_scram_credentials_request::UserName;
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
fn there_are_no_users_and_one_who_is_named_is_unknown() {
    let mut rig = Rig::new();
    let mut describe = |users: Option<Vec<UserName>>| {
        let request = DescribeUserScramCredentialsRequest { users };
        match rig.call(Request::DescribeUserScramCredentials(request), 0) {
            Response::DescribeUserScramCredentials(response) => {
                let found = response.results.into_iter().map(|one| (one.user, one.error_code));
                (response.error_code, found.collect::<Vec<_>>())
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(describe(None), (0, vec![]));
    assert_eq!(describe(Some(vec![])), (0, vec![]));
    let named = describe(Some(vec![UserName { name: "ann".into() }]));
    assert_eq!(named, (0, vec![("ann".to_owned(), ErrorCode::ResourceNotFound.code())]));
}

//! What happens to rules of access, as it stands in the journal. Decides nothing.
//!
//! ```text
//! tag body
//!  62 AclCreated  rule
//!  63 AclDeleted  rule
//!
//! rule  kind u8 (2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation token, 7 user)
//!       | pattern u8 (3 literal, 4 prefixed) | name str | principal str | host str
//!       | operation u8 (Kafka's code) | permission u8 (2 deny, 3 allow)
//! ```

use super::{Acl, put_acl, take_acl};
use crate::codec::Take;
use crate::entry::EntryError;
use bytes::BufMut;

/// One change of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclFact {
    /// Which.
    pub acl: Acl,
    /// Whether it holds from here on.
    pub holds: bool,
}

impl AclFact {
    pub(crate) fn tag(&self) -> u8 {
        if self.holds { CREATED_TAG } else { DELETED_TAG }
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_acl(out, &self.acl);
    }

    /// `None`: the tag is of no rule.
    pub(crate) fn take(tag: u8, take: &mut Take) -> Result<Option<AclFact>, EntryError> {
        if !matches!(tag, CREATED_TAG | DELETED_TAG) {
            return Ok(None);
        }
        Ok(Some(AclFact { acl: take_acl(take)?, holds: tag == CREATED_TAG }))
    }
}

const CREATED_TAG: u8 = 62;
const DELETED_TAG: u8 = 63;

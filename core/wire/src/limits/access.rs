//! The caps on rules of access and on what is noted of their use (engine, node): a part of `limits.rs`,
//! under the same rules. Holds nothing but constants and assertions about them.

use super::{ENTRY_CLOSE_BYTES, USER_NAME_BYTES_MAX};

/// Most rules of access.
pub const ACLS_MAX: usize = 10_000;
/// Longest name of a resource in a rule.
pub const ACL_NAME_BYTES_MAX: usize = 1_024;
/// Longest principal in a rule: a kind, a colon, a name.
pub const ACL_PRINCIPAL_BYTES_MAX: usize = USER_NAME_BYTES_MAX * 4 + 32;
/// Longest address in a rule.
pub const ACL_HOST_BYTES_MAX: usize = 64;
/// What a rule takes in the journal, at the most.
pub const ACL_FACT_BYTES_MAX: usize =
    ACL_NAME_BYTES_MAX + ACL_PRINCIPAL_BYTES_MAX + ACL_HOST_BYTES_MAX + 32;
/// Most rules, or filters of rules, that one request names.
pub const ACLS_PER_REQUEST_MAX: usize = 1_000;
/// Refusals that are noted in the audit topic within a second; further ones are counted only.
pub const AUDIT_REFUSALS_PER_SECOND: u32 = 20;
/// Most bytes of the audit topic (`retention.bytes`).
pub const AUDIT_BYTES_MAX: usize = 16 << 20;
/// Longest text of a peer that is noted in the audit topic.
pub const AUDIT_TEXT_BYTES_MAX: usize = 512;
/// Super users that a configuration names.
pub const SUPER_USERS_MAX: usize = 100;
/// Rules that map a certificate to a name.
pub const PRINCIPAL_RULES_MAX: usize = 32;

const _: () = {
    assert!(ACLS_PER_REQUEST_MAX <= ACLS_MAX);
    assert!(ACL_FACT_BYTES_MAX * 100 < ENTRY_CLOSE_BYTES);
};

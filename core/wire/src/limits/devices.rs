//! The caps on certificates, revocation and the authority of devices (security, node): a part of `limits.rs`,
//! under the same rules. Holds nothing but constants and assertions about them.

use super::{HTTP_BODY_BYTES_MAX, KIB, MIB};

/// Largest file of revocation lists.
pub const REVOCATION_FILE_BYTES_MAX: u64 = 4 * MIB as u64;
/// Most lists in one file: one for each authority.
pub const REVOCATION_LISTS_MAX: usize = 64;
/// How often the files of certificates are looked at: their time, size and number, nothing else.
pub const CERTIFICATE_POLL_MS: u64 = 2_000;
/// How often live connections are asked whether their certificate has ended.
pub const CERTIFICATE_EXPIRY_CHECK_MS: u64 = 3_600_000;
/// How long the clock must have run without a jump before its time is kept as one that was.
pub const CLOCK_FLOOR_SETTLE_MS: u64 = 600_000;
/// How often the time is kept: a block of flash each.
pub const CLOCK_FLOOR_KEEP_MS: u64 = 3_600_000;
/// By how much the clock may run apart from the monotonic one between two looks.
pub const CLOCK_JUMP_MS: u64 = 30_000;
/// Most devices that the authority of a node knows.
pub const DEVICES_MAX: usize = 10_000;
/// Most invitations that wait to be used.
pub const DEVICE_INVITES_MAX: usize = 10_000;
/// Longest name of a device: it names files and stands in certificates.
pub const DEVICE_NAME_BYTES_MAX: usize = 64;
/// Most certificates of one device that have not ended.
pub const DEVICE_CERTIFICATES_MAX: usize = 64;
/// Longest that an invitation waits.
pub const DEVICE_INVITE_S_MAX: u64 = 90 * 86_400;
/// Longest life of a certificate of a device.
pub const DEVICE_CERTIFICATE_DAYS_MAX: u64 = 3_650;
/// Usual life of a certificate of a device.
pub const DEFAULT_DEVICE_CERTIFICATE_DAYS: u64 = 365;
/// Largest request for a certificate, in DER.
pub const DEVICE_REQUEST_BYTES_MAX: usize = 16 * KIB;
/// Largest record of a device, an invitation, a file of the authority.
pub const DEVICE_FILE_BYTES_MAX: u64 = 64 * KIB as u64;
/// Certificates that are signed at the same time; others are told to come again.
pub const DEVICE_SIGNING_MAX: usize = 2;
/// Refused enrolments and renewals of one address within a minute; more are not looked at.
pub const DEVICE_REFUSALS_PER_MINUTE_MAX: u32 = 30;
/// Addresses whose refusals are counted at a time.
pub const DEVICE_REFUSED_ADDRESSES_MAX: usize = 1_024;
/// Most connections of devices that enrol.
pub const DEVICE_CONNECTIONS_MAX: usize = 64;

const _: () = {
    // Twice as text, with a certificate beside it.
    assert!(DEVICE_REQUEST_BYTES_MAX * 4 < HTTP_BODY_BYTES_MAX);
    assert!(DEFAULT_DEVICE_CERTIFICATE_DAYS <= DEVICE_CERTIFICATE_DAYS_MAX);
};

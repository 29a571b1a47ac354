//! The caps on users and authentication (engine, security, node): a part of `limits.rs`, under the same
//! rules. Holds nothing but constants and assertions about them.

use super::{ENTRY_CLOSE_BYTES, FRAME_BYTES_BEFORE_AUTH, KIB};

/// Most users with a password.
pub const USERS_MAX: usize = 10_000;
/// Longest name of a user.
pub const USER_NAME_BYTES_MAX: usize = 256;
/// Most credentials that one request changes.
pub const USER_CHANGES_PER_REQUEST_MAX: usize = 1_000;
/// Longest salt of a password.
pub const SCRAM_SALT_BYTES_MAX: usize = 256;
/// Fewest rounds that a credential may have (RFC 7677 4; Kafka refuses fewer).
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;
/// Most rounds that a credential may have (as in Kafka).
pub const SCRAM_ITERATIONS_MAX: u32 = 16_384;
/// Rounds, at the least, of a credential that our own command makes.
pub const DEFAULT_SCRAM_ITERATIONS: u32 = 8_192;
/// What a change of a user takes in the journal, at the most.
pub const USER_FACT_BYTES_MAX: usize = USER_NAME_BYTES_MAX + SCRAM_SALT_BYTES_MAX + 256;
/// Longest password.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Largest token of an authentication: signed ones carry claims.
pub const SASL_TOKEN_BYTES_MAX: usize = 16 * KIB;
/// Most keys that signed tokens are checked with.
pub const TOKEN_KEYS_MAX: usize = 64;
/// Largest file of such keys.
pub const TOKEN_KEYS_BYTES_MAX: usize = 256 * KIB;
/// How far the clocks of who signs a token and of this node may be apart.
pub const TOKEN_SKEW_MS: i64 = 30_000;
/// Longest nonce of a client.
pub const SASL_NONCE_BYTES_MAX: usize = 256;
/// Requests, or bare tokens, of one authentication; more end the connection.
pub const SASL_REQUESTS_MAX: usize = 16;
/// Passwords that are hashed at the same time, each on a thread of its own; others wait.
pub const SASL_DERIVATIONS_MAX: usize = 2;
/// How long a refusal of an authentication is held back (Kafka:
/// `connection.failed.authentication.delay.ms`).
pub const SASL_REFUSAL_DELAY_MS: u64 = 100;
/// A connection authenticates again no sooner than this after the last time (as in Kafka).
pub const SASL_REPEAT_MS_MIN: u64 = 1_000;

const _: () = {
    assert!(SASL_TOKEN_BYTES_MAX < FRAME_BYTES_BEFORE_AUTH);
    assert!(USER_NAME_BYTES_MAX + PASSWORD_BYTES_MAX + SASL_NONCE_BYTES_MAX < SASL_TOKEN_BYTES_MAX);
    assert!(SCRAM_ITERATIONS_MIN <= DEFAULT_SCRAM_ITERATIONS);
    assert!(DEFAULT_SCRAM_ITERATIONS <= SCRAM_ITERATIONS_MAX);
    assert!(USER_CHANGES_PER_REQUEST_MAX * USER_FACT_BYTES_MAX <= ENTRY_CLOSE_BYTES);
};

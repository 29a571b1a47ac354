//! The system's random numbers, for what must not be foreseen: nonces, salts, secrets. The only place
//! of this crate that draws any.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

/// The system gave no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers; nothing can be kept secret without them")]
pub struct NoRandom;

/// Fresh bytes.
///
/// # Errors
/// [`NoRandom`].
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// A nonce for one exchange, as text: 144 bits.
///
/// # Errors
/// [`NoRandom`].
pub fn nonce() -> Result<String, NoRandom> {
    Ok(STANDARD_NO_PAD.encode(random_bytes::<18>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_comes_twice_and_each_fits_a_token() {
        let nonces: std::collections::BTreeSet<String> =
            (0..1000).map(|_| nonce().unwrap()).collect();
        assert_eq!(nonces.len(), 1000);
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        assert!(nonces.iter().all(|nonce| nonce.len() == 24 && nonce.bytes().all(fits)));
    }
}

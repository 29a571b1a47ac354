//! What devices bring to the authority: the token that they were given, the request for a certificate, the
//! certificate of before.

use millpond_security::CertificateFacts;
use millpond_security::device_ca::{DeviceName, RequestedKey, Token};

/// The same bytes as each of them.
pub fn run(data: &[u8]) {
    if let Ok(key) = RequestedKey::read(data) {
        assert_eq!(key.digest().len(), 64);
    }
    if let Some(facts) = CertificateFacts::read(data) {
        assert!(facts.serial.len() <= data.len());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = text.parse::<DeviceName>() {
        // It names files.
        assert!(!name.as_str().contains(['/', '\\', '\0']) && !name.as_str().starts_with('.'));
    }
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.proof(data), token.proof(data));
        assert!(text.contains(token.name().as_str()));
    }
}

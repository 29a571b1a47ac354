//! Texts that people and devices hand over: addresses of brokers, keys of whoever signs modules, key
//! sets for tokens.

use millpond_client::url::parse_bootstrap;
use millpond_security::PublicKey;
use millpond_security::sasl::TokenRules;

/// Every reader of a text.
pub fn run(data: &[u8]) {
    let _ = TokenRules::from_jwks(data, "millpond", None, "sub");
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<PublicKey>();
    if let Ok(brokers) = parse_bootstrap(text) {
        for broker in brokers {
            let again = parse_bootstrap(&broker.to_string()).expect("what we wrote");
            assert_eq!(again, [broker]);
        }
    }
}

//! Tokens of a login, each mechanism's, before anybody is known.

use std::sync::Arc;

use millpond_security::sasl::{
    Context, Credential, Decoy, Exchange, Mechanism, ScramHash, Step, TokenRules, Users,
};

/// A key that nobody has the other half of.
const KEYS: &[u8] = br#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const NONCE: &str = "aNonceThatIsNotRandomHere";
const NOW_MS: i64 = 1_800_000_000_000;

type Known = Option<(ScramHash, Arc<Credential>)>;

/// One user, `pump`.
struct Book(Arc<Credential>);

impl Users for Book {
    fn credential(&self, user: &str, hash: Option<ScramHash>) -> Known {
        self.example(0, hash).filter(|_| user == "pump")
    }

    fn example(&self, _: u64, hash: Option<ScramHash>) -> Known {
        let is_asked = hash.is_none_or(|hash| hash == ScramHash::Sha256);
        is_asked.then(|| (ScramHash::Sha256, Arc::clone(&self.0)))
    }
}

/// The first byte chooses a mechanism; tokens are parted by a byte that is in none.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let mechanism = Mechanism::ALL[usize::from(*first) % Mechanism::ALL.len()];
    let book = Book(Arc::new(Credential::derive(ScramHash::Sha256, b"salt", 8_192, &[7; 32])));
    let decoy = Decoy::new(&[1; 32]);
    let tokens = TokenRules::from_jwks(KEYS, "gateway", None, "sub").expect("a key set of our own");
    let context = Context { users: &book, decoy: &decoy, tokens: Some(&tokens), now_ms: NOW_MS };
    let mut exchange = Exchange::new(mechanism, NONCE.to_owned());
    for token in rest.split(|byte| *byte == 0xff) {
        match exchange.step(token, context) {
            Ok(Step::Challenge(_)) => {}
            // The password's check costs thousands of hashes, and reads no bytes of the peer's.
            Ok(Step::Check(_)) | Err(_) => break,
            Ok(Step::Done(who)) => panic!("{who:?} is in without a password, by {mechanism:?}"),
        }
    }
}

//! Signed tokens: good ones, and those of every kind of forger.

use super::tests::{Book, SERVER_NONCE};
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW_S: i64 = NOW_MS / 1000;

/// Who gives tokens out.
struct Issuer {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(p256, &random).unwrap();
        let ed25519 = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        Self { ed25519, p256: EcdsaKeyPair::from_pkcs8(p256, document.as_ref(), &random).unwrap() }
    }

    fn keys(&self) -> Value {
        let point = &self.p256.public_key().as_ref()[1..];
        let text = |bytes: &[u8]| BASE64.encode(bytes);
        json!({"keys": [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
             "x": text(self.ed25519.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256",
             "x": text(&point[..32]), "y": text(&point[32..])},
        ]})
    }

    fn rules(&self) -> TokenRules {
        let keys = self.keys().to_string();
        TokenRules::from_jwks(keys.as_bytes(), "gateway", Some("plant"), "sub").unwrap()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", text(header), text(claims));
        let proof: Vec<u8> = match header["alg"].as_str() {
            Some("ES256") => {
                let signature = self.p256.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
                signature.as_ref().to_vec()
            }
            Some("none") => Vec::new(),
            _ => self.ed25519.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", BASE64.encode(proof))
    }
}

fn claims() -> Value {
    json!({"sub": "pump-7", "iss": "plant", "aud": ["other", "gateway"], "exp": NOW_S + 600,
           "nbf": NOW_S - 1, "iat": NOW_S - 1})
}

fn step(exchange: &mut Exchange, rules: &TokenRules, message: &[u8]) -> Result<Step, Refused> {
    let (book, decoy) = (Book::default(), Decoy::new(&[1; 32]));
    let context = Context { users: &book, decoy: &decoy, tokens: Some(rules), now_ms: NOW_MS };
    exchange.step(message, context)
}

fn exchange() -> Exchange {
    Exchange::new(Mechanism::OauthBearer, SERVER_NONCE.to_owned())
}

fn message(header: &str, token: &str) -> Vec<u8> {
    format!("{header}\u{1}auth=Bearer {token}\u{1}\u{1}").into_bytes()
}

#[test]
fn a_good_token_of_either_kind_of_key_lets_in_until_it_ends() {
    let issuer = Issuer::new();
    let rules = issuer.rules();
    for header in [json!({"alg": "EdDSA", "kid": "ed"}), json!({"alg": "ES256"})] {
        let token = issuer.token(&header, &claims());
        for gs2 in ["n,,", "n,a=pump-7,"] {
            match step(&mut exchange(), &rules, &message(gs2, &token)) {
                Ok(Step::Done(done)) => {
                    assert_eq!(done.user, "pump-7");
                    assert_eq!(done.until_ms, Some(NOW_MS + 600_000));
                    assert!(done.reply.is_empty());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// RFC 7515, A.2: a signature of RSA that others made.
#[test]
fn a_published_signature_of_rsa_is_good_and_a_changed_one_is_not() {
    let keys = json!({"keys": [{"kty": "RSA", "e": "AQAB", "n":
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]});
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let text = keys.to_string();
    let rules = TokenRules::from_jwks(text.as_bytes(), "gateway", Some("joe"), "sub").unwrap();
    let long_ago_ms = 1_300_819_000_000;
    let good = rules.check(token, long_ago_ms);
    assert_eq!(good, Err(Refused::Token("it is for another audience")), "the signature is good");
    assert_eq!(rules.check(token, NOW_MS), Err(Refused::Token("it has expired")));
    let changed = token.replace(".cC4h", ".dC4h");
    let unsigned = Err(Refused::Token("no key that is known here has signed it"));
    assert_eq!(rules.check(&changed, long_ago_ms), unsigned);
}

#[test]
fn forged_and_stale_tokens_are_refused_in_two_steps() {
    let issuer = Issuer::new();
    let rules = issuer.rules();
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        issuer.token(&json!({"alg": "EdDSA"}), &claims)
    };
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        issuer.token(&json!({"alg": "EdDSA"}), &claims)
    };
    let headed = |header: Value| issuer.token(&header, &claims());
    let good = headed(json!({"alg": "EdDSA"}));
    let stranger =
        Issuer { ed25519: Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap(), ..Issuer::new() };
    let mut bad = vec![
        headed(json!({"alg": "none"})),
        headed(json!({"alg": "HS256", "kid": "shared"})),
        headed(json!({"alg": "ES256", "kid": "ed"})),
        headed(json!({"alg": "EdDSA", "kid": "ec"})),
        headed(json!({"alg": "EdDSA", "kid": "../../etc/passwd"})),
        headed(json!({"alg": "EdDSA", "crit": ["b64"]})),
        headed(json!({"kid": "ed"})),
        stranger.token(&json!({"alg": "EdDSA", "kid": "ed"}), &claims()),
        with("exp", json!(NOW_S - 31)),
        with("exp", json!("soon")),
        with("nbf", json!(NOW_S + 31)),
        with("iat", json!(NOW_S + 31)),
        with("iss", json!("elsewhere")),
        with("aud", json!("elsewhere")),
        with("aud", json!(["elsewhere"])),
        with("sub", json!("")),
        with("sub", json!("u".repeat(USER_NAME_BYTES_MAX + 1))),
        with("sub", json!(7)),
        format!("{good}x"),
        good[..good.len() - 4].to_owned(),
        format!("{good}.{good}"),
        "a.b.c".to_owned(),
        String::new(),
    ];
    bad.extend(["exp", "iss", "aud", "sub"].map(without));
    for token in bad {
        let mut exchange = exchange();
        match step(&mut exchange, &rules, &message("n,,", &token)) {
            Ok(Step::Challenge(told)) => assert_eq!(told, oauth::INVALID),
            other => panic!("{token}: {other:?}"),
        }
        let outcome = step(&mut exchange, &rules, oauth::HEARD);
        assert!(matches!(outcome, Err(Refused::Token(_))), "{token}: {outcome:?}");
    }
    // A little is forgiven to clocks.
    let late = with("exp", json!(NOW_S - 29));
    assert!(matches!(step(&mut exchange(), &rules, &message("n,,", &late)), Ok(Step::Done(_))));
    let other = step(&mut exchange(), &rules, &message("n,a=root,", &good));
    assert!(matches!(other, Ok(Step::Challenge(_))), "in another's name");
}

#[test]
fn messages_of_another_form_end_the_exchange() {
    let issuer = Issuer::new();
    let rules = issuer.rules();
    let token = issuer.token(&json!({"alg": "EdDSA"}), &claims());
    let cases: [Vec<u8>; 9] = [
        Vec::new(),
        b"n,,".to_vec(),
        message("y,,", &token),
        message("p=tls-unique,,", &token),
        message("n,pump-7,", &token),
        format!("n,,\u{1}auth=Basic {token}\u{1}\u{1}").into_bytes(),
        format!("n,,\u{1}auth=Bearer {token}\u{1}auth=Bearer {token}\u{1}\u{1}").into_bytes(),
        format!("n,,\u{1}auth=Bearer {token}").into_bytes(),
        vec![0xff; 40],
    ];
    for case in cases {
        let outcome = step(&mut exchange(), &rules, &case);
        assert!(matches!(outcome, Err(Refused::Malformed(_))), "{outcome:?}");
    }
    let refused = |extra: &[u8]| {
        let mut exchange = exchange();
        step(&mut exchange, &rules, &message("n,,", "a.b.c")).unwrap();
        step(&mut exchange, &rules, extra)
    };
    let again = refused(&message("n,,", &token));
    assert!(matches!(again, Err(Refused::Malformed(_))), "one token for one exchange: {again:?}");
}

#[test]
fn a_key_set_without_a_key_or_with_too_many_is_refused() {
    let read = |text: &str| TokenRules::from_jwks(text.as_bytes(), "a", None, "sub").err();
    assert!(matches!(read("no"), Some(KeySetError::Format(_))));
    assert!(matches!(read("{}"), Some(KeySetError::Format(_))));
    assert_eq!(read("{\"keys\": []}"), Some(KeySetError::Empty));
    let weak = json!({"keys": [{"kty": "RSA", "n": BASE64.encode([255; 128]), "e": "AQAB"}]});
    assert_eq!(read(&weak.to_string()), Some(KeySetError::Empty));
    let many = json!({"keys": vec![json!({}); millpond_wire::limits::TOKEN_KEYS_MAX + 1]});
    assert_eq!(read(&many.to_string()), Some(KeySetError::TooMany));
}

//! Stories of logins: those that are right, and everything that lies.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The example of RFC 7677, 3.
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
pub(super) const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const CHALLENGE: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const VERIFIER: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

#[derive(Default)]
pub(super) struct Book(BTreeMap<String, (ScramHash, Arc<Credential>)>);

impl Book {
    fn with(mut self, user: &str, password: &str, hash: ScramHash) -> Self {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let rounds = NonZeroU32::new(4096).unwrap();
        let salted = salted_password(hash, password.as_bytes(), &salt, rounds);
        let credential = Arc::new(Credential::derive(hash, &salt, 4096, &salted));
        self.0.insert(user.to_owned(), (hash, credential));
        self
    }
}

impl Users for Book {
    fn credential(
        &self,
        user: &str,
        hash: Option<ScramHash>,
    ) -> Option<(ScramHash, Arc<Credential>)> {
        let (of, credential) = self.0.get(user)?;
        hash.is_none_or(|hash| hash == *of).then(|| (*of, Arc::clone(credential)))
    }

    fn example(
        &self,
        number: u64,
        hash: Option<ScramHash>,
    ) -> Option<(ScramHash, Arc<Credential>)> {
        let fitting = || self.0.values().filter(|(of, _)| hash.is_none_or(|hash| hash == *of));
        let count = fitting().count() as u64;
        fitting().nth(usize::try_from(number.checked_rem(count)?).unwrap()).cloned()
    }
}

/// A node with the users of the stories.
struct Node {
    book: Book,
    decoy: Decoy,
}

impl Node {
    fn new() -> Self {
        let book = Book::default().with("user", "pencil", ScramHash::Sha256);
        let book = book.with("user512", "pencil", ScramHash::Sha512);
        let book = book.with("a,b=c", "pencil", ScramHash::Sha256);
        Self { book, decoy: Decoy::new(&[7; 32]) }
    }

    fn context(&self) -> Context<'_> {
        Context { users: &self.book, decoy: &self.decoy, tokens: None, now_ms: 0 }
    }

    fn exchange(&self, mechanism: Mechanism) -> Talk<'_> {
        Talk { exchange: Exchange::new(mechanism, SERVER_NONCE.to_owned()), node: self }
    }
}

struct Talk<'a> {
    exchange: Exchange,
    node: &'a Node,
}

impl Talk<'_> {
    fn say(&mut self, token: impl AsRef<[u8]>) -> Result<Step, Refused> {
        self.exchange.step(token.as_ref(), self.node.context())
    }

    fn challenge(&mut self, token: &str) -> String {
        match self.say(token) {
            Ok(Step::Challenge(bytes)) => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// What a client of that name and password answers to a challenge.
fn answer(hash: ScramHash, password: &str, first_bare: &str, header: &str, said: &str) -> String {
    let part = |name: &str| said.split(',').find_map(|p| p.strip_prefix(name)).unwrap();
    let salt = BASE64.decode(part("s=")).unwrap();
    let rounds = part("i=").parse().unwrap();
    let salted = salted_password(hash, password.as_bytes(), &salt, rounds);
    let client_key = hash.hmac(&salted, b"Client Key");
    let stored = hash.digest(client_key.as_ref());
    let without = format!("c={},r={}", BASE64.encode(header), part("r="));
    let signature = hash.hmac(stored.as_ref(), format!("{first_bare},{said},{without}").as_bytes());
    let both = client_key.as_ref().iter().zip(signature.as_ref());
    let proof: Vec<u8> = both.map(|(one, other)| one ^ other).collect();
    format!("{without},p={}", BASE64.encode(proof))
}

fn malformed(outcome: Result<Step, Refused>) {
    assert!(matches!(outcome, Err(Refused::Malformed(_))), "{outcome:?}");
}

#[test]
fn the_published_exchange_comes_out_byte_for_byte() {
    let node = Node::new();
    let mut talk = node.exchange(Mechanism::ScramSha256);
    assert_eq!(talk.challenge(FIRST), CHALLENGE);
    assert!(CHALLENGE.contains(CLIENT_NONCE));
    match talk.say(FINAL) {
        Ok(Step::Done(done)) => {
            assert_eq!((done.user.as_str(), &done.reply[..]), ("user", VERIFIER.as_bytes()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn sha_512_and_names_with_commas_work_and_a_wrong_password_does_not() {
    let node = Node::new();
    let cases = [
        (Mechanism::ScramSha512, ScramHash::Sha512, "user512", "user512"),
        (Mechanism::ScramSha256, ScramHash::Sha256, "a=2Cb=3Dc", "a,b=c"),
    ];
    for (mechanism, hash, written, name) in cases {
        for (password, is_right) in [("pencil", true), ("Pencil", false)] {
            let mut talk = node.exchange(mechanism);
            let bare = format!("n={written},r=abc");
            let said = talk.challenge(&format!("n,,{bare}"));
            match talk.say(answer(hash, password, &bare, "n,,", &said)) {
                Ok(Step::Done(done)) if is_right => assert_eq!(done.user, name),
                Err(Refused::Credentials { user }) if !is_right => assert_eq!(user, name),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn an_unknown_user_is_challenged_like_a_known_one_every_time_the_same_and_refused_the_same() {
    let node = Node::new();
    let challenge =
        |name: &str| node.exchange(Mechanism::ScramSha256).challenge(&format!("n,,n={name},r=abc"));
    let (known, unknown) = (challenge("user"), challenge("nobody"));
    assert_eq!(unknown, challenge("nobody"), "a salt that changes would tell");
    assert_ne!(unknown, challenge("nobody2"));
    assert_eq!(known.len(), unknown.len(), "{known} {unknown}");
    assert!(unknown.ends_with(",i=4096"), "as many rounds as others have");
    for name in ["user", "nobody"] {
        let mut talk = node.exchange(Mechanism::ScramSha256);
        let bare = format!("n={name},r=abc");
        let said = talk.challenge(&format!("n,,{bare}"));
        let outcome = talk.say(answer(ScramHash::Sha256, "wrong", &bare, "n,,", &said));
        let user = name.to_owned();
        assert_eq!(outcome.map(|_| ()), Err(Refused::Credentials { user }));
    }
}

#[test]
fn the_proof_of_one_exchange_is_worth_nothing_in_the_next() {
    let node = Node::new();
    let mut replayed = Exchange::new(Mechanism::ScramSha256, "another".to_owned());
    assert!(replayed.step(FIRST.as_bytes(), node.context()).is_ok());
    malformed(replayed.step(FINAL.as_bytes(), node.context()));
    // Also with the nonce put right: the proof covers it.
    let mut replayed = Exchange::new(Mechanism::ScramSha256, "another".to_owned());
    assert!(replayed.step(FIRST.as_bytes(), node.context()).is_ok());
    let swapped = FINAL.replace(SERVER_NONCE, "another");
    let outcome = replayed.step(swapped.as_bytes(), node.context());
    assert!(matches!(outcome, Err(Refused::Credentials { .. })), "{outcome:?}");
}

#[test]
fn a_final_token_with_a_part_of_the_nonce_or_the_clients_alone_is_refused() {
    let node = Node::new();
    let whole = format!("{CLIENT_NONCE}{SERVER_NONCE}");
    for nonce in [CLIENT_NONCE, SERVER_NONCE, "", &whole[..whole.len() - 1], &format!("{whole}x")] {
        let mut talk = node.exchange(Mechanism::ScramSha256);
        talk.challenge(FIRST);
        malformed(talk.say(FINAL.replace(&whole, nonce)));
    }
}

#[test]
fn lies_about_channel_binding_are_refused() {
    let node = Node::new();
    for header in ["p=tls-unique,,", "p=tls-server-end-point,,", "x,,", ",,"] {
        malformed(node.exchange(Mechanism::ScramSha256).say(format!("{header}n=user,r=abc")));
    }
    // The last token says something else than the first did.
    for (header, later) in [("y,,", "n,,"), ("n,,", "y,,"), ("n,,", "p=tls-unique,,"), ("n,,", "")]
    {
        let mut talk = node.exchange(Mechanism::ScramSha256);
        let said = talk.challenge(&format!("{header}n=user,r=abc"));
        malformed(talk.say(answer(ScramHash::Sha256, "pencil", "n=user,r=abc", later, &said)));
    }
    let mut talk = node.exchange(Mechanism::ScramSha256);
    let said = talk.challenge("y,,n=user,r=abc");
    let outcome = talk.say(answer(ScramHash::Sha256, "pencil", "n=user,r=abc", "y,,", &said));
    assert!(matches!(outcome, Ok(Step::Done(_))), "a client that could bind is let in");
}

/// CVE-2017-12610: a login in another's name.
#[test]
fn nobody_logs_in_in_anothers_name() {
    let node = Node::new();
    malformed(node.exchange(Mechanism::ScramSha256).say("n,a=user512,n=user,r=abc"));
    malformed(node.exchange(Mechanism::Plain).say("user512\0user\0pencil"));
    let own = node.exchange(Mechanism::ScramSha256).say("n,a=user,n=user,r=abc");
    assert!(matches!(own, Ok(Step::Challenge(_))));
    let own = node.exchange(Mechanism::Plain).say("user\0user\0pencil");
    assert!(matches!(own, Ok(Step::Check(_))));
}

#[test]
fn tokens_out_of_order_oversized_or_of_noise_end_the_exchange() {
    let node = Node::new();
    malformed(node.exchange(Mechanism::ScramSha256).say(FINAL));
    let mut talk = node.exchange(Mechanism::ScramSha256);
    talk.challenge(FIRST);
    malformed(talk.say(FIRST));
    assert_eq!(talk.say(FINAL).map(|_| ()), Err(Refused::Over), "an error is the end");
    let huge = format!("n,,n=user,r={}", "a".repeat(SASL_TOKEN_BYTES_MAX));
    let outcome = node.exchange(Mechanism::ScramSha256).say(&huge);
    assert_eq!(outcome.map(|_| ()), Err(Refused::TooLarge(huge.len())));
    let name = "u".repeat(USER_NAME_BYTES_MAX + 1);
    for token in [
        "",
        ",",
        "n",
        "n,,",
        "n,,n=user",
        "n,,n=,r=abc",
        "n,,n=user,r=",
        "n,,n=us=er,r=abc",
        "n,,m=x,n=user,r=abc",
        "n,,n=user,r=abc,tokenauth=true",
        "n,,n=user,r=a\u{7f}c",
        "n,,n=us\0er,r=abc",
        "n,,n=user,r=abc,,",
        &format!("n,,n={name},r=abc"),
        &format!("n,,n=user,r={}", "a".repeat(257)),
    ] {
        malformed(node.exchange(Mechanism::ScramSha256).say(token));
    }
    malformed(node.exchange(Mechanism::ScramSha256).say([0xff, 0xfe, b',', b',']));
    let long = format!("\0user\0{}", "p".repeat(1025));
    for token in ["", "\0", "\0user", "\0\0pencil", "\0user\0", "a\0b\0c\0d", &long] {
        malformed(node.exchange(Mechanism::Plain).say(token));
    }
}

#[test]
fn plain_is_checked_against_what_scram_knows_and_an_unknown_user_costs_the_same() {
    let node = Node::new();
    let run = |token: &str| match node.exchange(Mechanism::Plain).say(token) {
        Ok(Step::Check(check)) => check.run().map(|done| done.user),
        other => panic!("{other:?}"),
    };
    assert_eq!(run("\0user\0pencil"), Ok("user".to_owned()));
    assert_eq!(run("\0user512\0pencil"), Ok("user512".to_owned()));
    for user in ["user", "nobody"] {
        let refused = run(&format!("\0{user}\0Pencil"));
        assert_eq!(refused, Err(Refused::Credentials { user: user.to_owned() }));
    }
    // By construction: whoever is not known is hashed for as many rounds as somebody who is.
    let (_, made_up, is_known) = node.decoy.find(&node.book, "nobody", None);
    assert_eq!((made_up.iterations, is_known), (4096, false));
}

#[test]
fn neither_password_nor_key_is_printed() {
    let node = Node::new();
    let mut talk = node.exchange(Mechanism::Plain);
    let text = format!("{:?} {:?}", talk.say("\0user\0pencil"), node.book.0["user"]);
    assert!(text.contains("user") && !text.contains("pencil") && !text.contains("salt:"), "{text}");
    assert_eq!(format!("{:?}", node.decoy), "Decoy");
    assert_eq!(format!("{:?}", talk.exchange), "Exchange { state: over }");
}

/// Bytes that lie, from a seed: whatever comes in, a step ends with a token or an error.
#[test]
fn damaged_tokens_never_panic_and_never_let_anybody_in() {
    let node = Node::new();
    let mut seed = 0x5eed_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    for round in 0..20_000 {
        let mut first = FIRST.as_bytes().to_vec();
        let mut last = FINAL.as_bytes().to_vec();
        let damaged = if round % 2 == 0 { &mut first } else { &mut last };
        let at = next() % damaged.len();
        match next() % 3 {
            0 => damaged.truncate(at),
            1 => damaged[at] = damaged[at].wrapping_add(1 + (next() % 255) as u8),
            _ => damaged.insert(at, next() as u8),
        }
        let mut talk = node.exchange(Mechanism::ScramSha256);
        let done = talk.say(&first).is_ok() && talk.say(&last).is_ok();
        assert!(!done, "round {round}: {:?} {:?}", first.escape_ascii(), last.escape_ascii());
    }
}

/// CVE-2021-38153: keys are compared in constant time (`subtle`), so that nobody learns from an answer, nor from
/// when it comes, how much of a proof was right. What can be told here: every wrong proof is refused in the same
/// words, wherever it is wrong, and no shorter one counts.
#[test]
fn cve_2021_38153_a_proof_that_is_wrong_anywhere_is_refused_alike() {
    let node = Node::new();
    let (without, proof) = FINAL.rsplit_once(",p=").unwrap();
    let proof = BASE64.decode(proof).unwrap();
    for at in 0..proof.len() {
        let mut wrong = proof.clone();
        wrong[at] ^= 1;
        let mut talk = node.exchange(Mechanism::ScramSha256);
        talk.challenge(FIRST);
        let outcome = talk.say(format!("{without},p={}", BASE64.encode(&wrong))).map(|_| ());
        assert_eq!(outcome, Err(Refused::Credentials { user: "user".to_owned() }), "byte {at}");
        let mut talk = node.exchange(Mechanism::ScramSha256);
        talk.challenge(FIRST);
        malformed(talk.say(format!("{without},p={}", BASE64.encode(&proof[..at]))));
    }
}

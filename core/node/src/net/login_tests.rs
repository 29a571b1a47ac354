//! Logins over the connection loop: who is let in, who is not, and what each is told.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millpond_engine::{ScramCredential, ScramHash, UserFact};
use millpond_security::sasl::{Credential, Mechanism, salted_password};
use millpond_wire::ErrorCode;
use millpond_wire::frame::{decode_response, encode_request};
use millpond_wire::limits;
use millpond_wire::messages::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::{Logins, Offer};
use crate::config::Limits;
use crate::metrics::Refusal;
use crate::net::connection::Ending;
use crate::net::test_peer::{Rig, answer, api_versions, flatten, large, read_frame, rig_with};

/// A listener with every mechanism, and a user "ann" whose password is "secret".
fn listener(session: Option<Duration>) -> Rig {
    let mechanisms = Mechanism::ALL[..3].to_vec();
    let offer = Offer { mechanisms, session, tokens: None };
    let rig = rig_with(&Limits::default(), Some(offer));
    add(&rig, "ann");
    rig
}

fn add(rig: &Rig, user: &str) {
    use millpond_security::sasl::ScramHash as Hash;
    let salted = salted_password(Hash::Sha256, b"secret", b"salt", NonZeroU32::new(4096).unwrap());
    let made = Credential::derive(Hash::Sha256, b"salt", 4096, &salted);
    let credential = ScramCredential {
        salt: made.salt.into(),
        iterations: made.iterations,
        stored_key: made.stored_key.into(),
        server_key: made.server_key.into(),
    };
    rig.wiring.logins.users.apply(&UserFact {
        user: user.to_owned(),
        hash: ScramHash::Sha256,
        credential: Some(Arc::new(credential)),
    });
}

async fn send(rig: &mut Rig, version: i16, request: Request) {
    let frame = encode_request(version, 9, Some("c"), &request).unwrap();
    rig.line.write_all(&flatten(&frame)).await.unwrap();
}

async fn ask(rig: &mut Rig, version: i16, request: Request) -> Response {
    let api = request.api_key();
    send(rig, version, request).await;
    let length = rig.line.read_i32().await.unwrap();
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    rig.line.read_exact(&mut frame).await.unwrap();
    decode_response(api, version, frame.into()).unwrap().1
}

async fn handshake(rig: &mut Rig, mechanism: &str) -> ErrorCode {
    let request = SaslHandshakeRequest { mechanism: mechanism.to_owned() };
    match ask(rig, 1, request.into()).await {
        Response::SaslHandshake(response) => {
            assert_eq!(response.mechanisms, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
            ErrorCode::from_code(response.error_code).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn token(bytes: impl Into<Bytes>) -> Request {
    SaslAuthenticateRequest { auth_bytes: Secret(bytes.into()) }.into()
}

async fn authenticate(rig: &mut Rig, bytes: &'static str) -> SaslAuthenticateResponse {
    match ask(rig, 2, token(bytes)).await {
        Response::SaslAuthenticate(response) => response,
        other => panic!("{other:?}"),
    }
}

async fn log_in(rig: &mut Rig) -> SaslAuthenticateResponse {
    assert_eq!(handshake(rig, "PLAIN").await, ErrorCode::None);
    authenticate(rig, "\0ann\0secret").await
}

async fn closed(mut rig: Rig) -> Ending {
    assert_eq!(rig.line.read(&mut [0; 1]).await.unwrap(), 0, "nothing more comes");
    let ending = rig.served.await.unwrap();
    assert_eq!(rig.wiring.counters.refused_so_far(Refusal::Authentication), 1, "{ending}");
    assert!(rig.calls.try_recv().is_err(), "the engine hears of nobody who is not let in");
    ending
}

#[tokio::test]
async fn whoever_proves_who_he_is_is_let_in_and_the_engine_hears_who() {
    let mut rig = listener(None);
    rig.line.write_all(&api_versions(1)).await.unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 1, "everybody may ask for versions");
    let done = log_in(&mut rig).await;
    assert_eq!((done.error_code, done.session_lifetime_ms), (0, 0));
    // Frames may be large from here on.
    rig.line.write_all(&large(5, 200_000)).await.unwrap();
    let call = rig.calls.recv().await.unwrap();
    assert_eq!(call.peer.user.as_deref(), Some("ann"));
    call.reply.send(answer()).unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 5);
}

#[tokio::test]
async fn nothing_but_a_login_passes_before_the_login() {
    for request in [Request::Metadata(MetadataRequest::default()), token("\0ann\0secret")] {
        let mut rig = listener(None);
        send(&mut rig, 2, request).await;
        let ending = closed(rig).await.to_string();
        assert!(ending.contains("before authentication"), "{ending}");
    }
    let mut rig = listener(None);
    handshake(&mut rig, "SCRAM-SHA-256").await;
    send(&mut rig, 2, Request::Metadata(MetadataRequest::default())).await;
    assert!(closed(rig).await.to_string().contains("middle of authentication"));
}

#[tokio::test]
async fn large_frames_and_many_requests_end_before_the_login() {
    let mut rig = listener(None);
    let declared = i32::try_from(limits::FRAME_BYTES_BEFORE_AUTH + 1).unwrap();
    rig.line.write_all(&declared.to_be_bytes()).await.unwrap();
    assert!(matches!(rig.served.await.unwrap(), Ending::Frame(_)));
    let mut rig = listener(None);
    for _ in 0..limits::SASL_REQUESTS_MAX {
        rig.line.write_all(&api_versions(1)).await.unwrap();
        read_frame(&mut rig.line).await.unwrap();
    }
    rig.line.write_all(&api_versions(1)).await.unwrap();
    assert!(closed(rig).await.to_string().contains("too many"));
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_answered_with_those_that_are() {
    let mut rig = listener(None);
    assert_eq!(handshake(&mut rig, "GSSAPI").await, ErrorCode::UnsupportedSaslMechanism);
    assert!(closed(rig).await.to_string().contains("GSSAPI"));
}

#[tokio::test]
async fn a_wrong_password_is_told_late_and_once_and_never_logged() {
    for bytes in ["\0ann\0hunter2", "\0eve\0hunter2"] {
        let mut rig = listener(None);
        handshake(&mut rig, "PLAIN").await;
        let begun = Instant::now();
        let refused = authenticate(&mut rig, bytes).await;
        assert!(begun.elapsed() >= Duration::from_millis(limits::SASL_REFUSAL_DELAY_MS));
        assert_eq!(refused.error_code, ErrorCode::SaslAuthenticationFailed.code());
        let message = refused.error_message.unwrap();
        assert!(message.contains("invalid credentials") && !message.contains("eve"), "{message}");
        let ending = closed(rig).await.to_string();
        assert!(ending.contains("wrong password") && !ending.contains("hunter2"), "{ending}");
    }
}

#[tokio::test]
async fn old_clients_send_bare_tokens_and_are_let_in() {
    let mut rig = listener(None);
    let request = SaslHandshakeRequest { mechanism: "PLAIN".to_owned() };
    ask(&mut rig, 0, request.into()).await;
    rig.line.write_all(b"\0\0\0\x0b\0ann\0secret").await.unwrap();
    assert_eq!(rig.line.read_i32().await.unwrap(), 0, "an empty token");
    rig.line.write_all(&api_versions(3)).await.unwrap();
    rig.calls.recv().await.unwrap().reply.send(answer()).unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 3);
    let mut rig = listener(None);
    let request = SaslHandshakeRequest { mechanism: "PLAIN".to_owned() };
    ask(&mut rig, 0, request.into()).await;
    rig.line.write_all(b"\0\0\0\x0b\0ann\0Secret").await.unwrap();
    closed(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_never_finished_ends_in_time_however_busy_it_seems() {
    let mut rig = listener(None);
    let begun = Instant::now();
    handshake(&mut rig, "SCRAM-SHA-256").await;
    assert!(closed(rig).await.to_string().contains("in time"));
    assert!(begun.elapsed() <= Duration::from_millis(Limits::default().first_request_ms + 1000));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_ends_unless_it_is_renewed_as_the_same_user() {
    let session = Duration::from_millis(1500);
    let mut rig = listener(Some(session));
    assert_eq!(log_in(&mut rig).await.session_lifetime_ms, 1500);
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(log_in(&mut rig).await.error_code, 0, "renewed");
    tokio::time::advance(Duration::from_millis(600)).await;
    rig.line.write_all(&api_versions(4)).await.unwrap();
    rig.calls.recv().await.unwrap().reply.send(answer()).unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 4, "it began anew");
    tokio::time::advance(session).await;
    rig.line.write_all(&api_versions(5)).await.unwrap();
    assert!(closed(rig).await.to_string().contains("ann"), "it was not renewed again");

    let mut rig = listener(Some(session));
    add(&rig, "bob");
    log_in(&mut rig).await;
    tokio::time::advance(Duration::from_millis(1100)).await;
    handshake(&mut rig, "PLAIN").await;
    let refused = authenticate(&mut rig, "\0bob\0secret").await;
    assert_eq!(refused.error_code, ErrorCode::SaslAuthenticationFailed.code());
    assert!(closed(rig).await.to_string().contains("bob"));
}

#[tokio::test]
async fn a_second_login_at_once_is_the_engines_to_refuse() {
    let mut rig = listener(None);
    log_in(&mut rig).await;
    send(&mut rig, 1, SaslHandshakeRequest::default().into()).await;
    let call = rig.calls.recv().await.unwrap();
    assert!(matches!(call.request, Request::SaslHandshake(_)));
}

#[tokio::test]
async fn oversized_tokens_and_tokens_out_of_order_are_refused() {
    let mut rig = listener(None);
    handshake(&mut rig, "SCRAM-SHA-256").await;
    let huge = vec![b'a'; limits::SASL_TOKEN_BYTES_MAX + 1];
    let Response::SaslAuthenticate(refused) = ask(&mut rig, 2, token(huge)).await else { panic!() };
    assert_eq!(refused.error_code, ErrorCode::SaslAuthenticationFailed.code());
    assert!(closed(rig).await.to_string().contains("too large"));
    let mut rig = listener(None);
    handshake(&mut rig, "SCRAM-SHA-256").await;
    authenticate(&mut rig, "c=biws,r=abc,p=AAAA").await;
    closed(rig).await;
}

/// HTTP asks for a password with each request: it takes the same few turns as a login does.
#[tokio::test(start_paused = true)]
async fn passwords_of_http_wait_for_the_same_turns_and_refusals_are_held_back() {
    let logins = Logins::new(Vec::new()).unwrap();
    let turns = u32::try_from(limits::SASL_DERIVATIONS_MAX).unwrap();
    let all = Arc::clone(&logins.checks).acquire_many_owned(turns).await.unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(3600), logins.password(b"\0ann\0guess"));
    assert!(asked.await.is_err(), "it waits for a turn");
    drop(all);
    let begun = Instant::now();
    assert!(logins.password(b"\0ann\0guess").await.is_err());
    assert!(begun.elapsed() >= Duration::from_millis(limits::SASL_REFUSAL_DELAY_MS));
    let told = logins.counts().into_iter().find(|row| (row.0, row.1) == ("HTTP", "refused"));
    assert_eq!(told.map(|row| row.2), Some(1));
}

//! The connection loop against peers that behave and peers that do not.

use std::time::Duration;

use millpond_wire::frame::FrameError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::Ending;
use crate::config::{ByteSize, Limits};
use crate::metrics::{ConnectionKind, Refusal};
use crate::net::responses::WriteFault;
use crate::net::test_peer::{Rig, answer, api_versions, large, read_frame, rig};

fn defaults() -> Rig {
    rig(&Limits::default())
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_order_of_the_requests_whatever_the_order_of_the_engine() {
    let mut rig = defaults();
    let requests: Vec<u8> = (1..=3).flat_map(api_versions).collect();
    rig.line.write_all(&requests).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(rig.calls.recv().await.unwrap());
    }
    for call in calls.into_iter().rev() {
        call.reply.send(answer()).unwrap();
    }
    for expected in 1..=3 {
        assert_eq!(read_frame(&mut rig.line).await.unwrap().0, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_passed_over() {
    let mut rig = defaults();
    rig.line.write_all(&[api_versions(1), api_versions(2)].concat()).await.unwrap();
    rig.calls.recv().await.unwrap().reply.send(None).unwrap();
    rig.calls.recv().await.unwrap().reply.send(answer()).unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_version_of_api_versions_gets_error_35_and_the_connection_lives_on() {
    let mut rig = defaults();
    let mut request = api_versions(7);
    request[6..8].copy_from_slice(&99_i16.to_be_bytes());
    rig.line.write_all(&request).await.unwrap();
    let (correlation_id, body) = read_frame(&mut rig.line).await.unwrap();
    assert_eq!((correlation_id, &body[..2]), (7, &[0, 35][..]));
    rig.line.write_all(&api_versions(8)).await.unwrap();
    rig.calls.recv().await.unwrap().reply.send(answer()).unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 8);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_api_closes_after_what_came_before_it_is_answered() {
    let mut rig = defaults();
    let mut unknown = api_versions(2);
    unknown[4..6].copy_from_slice(&9999_i16.to_be_bytes());
    rig.line.write_all(&[api_versions(1), unknown].concat()).await.unwrap();
    rig.calls.recv().await.unwrap().reply.send(answer()).unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 1);
    assert_eq!(rig.line.read(&mut [0; 1]).await.unwrap(), 0);
    let ending = rig.served.await.unwrap();
    assert!(ending.to_string().contains("9999"), "{ending}");
    assert_eq!(rig.wiring.counters.refused_so_far(Refusal::Malformed), 1);
    assert_eq!(rig.wiring.counters.open_now(ConnectionKind::Tcp), 0);
    assert_eq!(rig.closed.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn tls_on_the_plain_port_is_named_and_closed() {
    let mut rig = defaults();
    rig.line.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    let ending = rig.served.await.unwrap();
    assert!(matches!(ending, Ending::Frame(FrameError::TlsOnPlainPort)), "{ending}");
    assert!(ending.to_string().contains("TLS"));
    assert_eq!(rig.line.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_one_byte_a_minute_is_closed() {
    let rig = defaults();
    let Rig { mut line, served, .. } = rig;
    let begun = Instant::now();
    let drip = tokio::spawn(async move {
        for byte in api_versions(1) {
            if line.write_u8(byte).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    });
    assert!(matches!(served.await.unwrap(), Ending::NoFirstRequest));
    assert!(begun.elapsed() <= Duration::from_millis(Limits::default().first_request_ms + 1000));
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_minute_after_the_first_request_is_closed_too() {
    let mut rig = defaults();
    rig.line.write_all(&api_versions(1)).await.unwrap();
    rig.calls.recv().await.unwrap().reply.send(answer()).unwrap();
    read_frame(&mut rig.line).await.unwrap();
    // A long silence between requests is allowed, a long request is not.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let begun = Instant::now();
    let Rig { mut line, served, .. } = rig;
    let drip = tokio::spawn(async move {
        for byte in api_versions(2) {
            if line.write_u8(byte).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    assert!(matches!(served.await.unwrap(), Ending::SlowRequest));
    assert!(begun.elapsed() <= Duration::from_millis(Limits::default().request_ms + 1000));
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lengths_that_lie_are_refused_before_memory_is_taken() {
    for length in [-1_i32, i32::MIN, i32::MAX, 17 << 20] {
        let mut rig = defaults();
        rig.line.write_all(&length.to_be_bytes()).await.unwrap();
        let ending = rig.served.await.unwrap();
        assert!(matches!(ending, Ending::Frame(_)), "{length}: {ending}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_beyond_what_follows_ends_with_the_peer() {
    let mut rig = defaults();
    rig.line.write_all(&1000_i32.to_be_bytes()).await.unwrap();
    rig.line.write_all(&[0; 10]).await.unwrap();
    drop(rig.line);
    assert!(matches!(rig.served.await.unwrap(), Ending::Cut));
}

#[tokio::test(start_paused = true)]
async fn garbage_in_a_frame_of_the_right_length_is_refused() {
    for seed in 0..64_u8 {
        let mut rig = defaults();
        let garbage: Vec<u8> =
            (0..100_u8).map(|i| i.wrapping_mul(seed | 1).wrapping_add(seed)).collect();
        rig.line.write_all(&100_i32.to_be_bytes()).await.unwrap();
        rig.line.write_all(&garbage).await.unwrap();
        rig.line.shutdown().await.unwrap();
        // Refused, or (where it happens to be a request) given to the engine; never a panic.
        let ending = rig.served.await.unwrap();
        assert!(matches!(ending, Ending::Request(_) | Ending::Closed), "{seed}: {ending}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_but_one_that_waits_for_an_answer_is_not() {
    let mut rig = defaults();
    let idle = Duration::from_millis(Limits::default().idle_ms);
    rig.line.write_all(&api_versions(1)).await.unwrap();
    let call = rig.calls.recv().await.unwrap();
    tokio::time::sleep(idle * 3).await;
    call.reply.send(answer()).unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 1);
    let begun = Instant::now();
    assert!(matches!(rig.served.await.unwrap(), Ending::Idle));
    assert!(begun.elapsed() <= idle + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn reading_stops_at_the_limit_of_requests_under_way() {
    let limits = Limits { requests_in_flight_max: 2, ..Limits::default() };
    let mut rig = rig(&limits);
    let requests: Vec<u8> = (1..=5).flat_map(api_versions).collect();
    rig.line.write_all(&requests).await.unwrap();
    let first = rig.calls.recv().await.unwrap();
    let _second = rig.calls.recv().await.unwrap();
    let third = tokio::time::timeout(Duration::from_secs(5), rig.calls.recv()).await;
    assert!(third.is_err(), "a third request was read");
    first.reply.send(answer()).unwrap();
    assert!(rig.calls.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_bytes_is_shared_and_returns_with_the_answers() {
    let limits = Limits {
        request_bytes_max: ByteSize(256 << 10),
        request_bytes_in_flight_max: ByteSize(256 << 10),
        ..Limits::default()
    };
    let mut rig = rig(&limits);
    rig.line.write_all(&[large(1, 200 << 10), large(2, 200 << 10)].concat()).await.unwrap();
    let first = rig.calls.recv().await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(5), rig.calls.recv()).await;
    assert!(second.is_err(), "a second request was read beyond the budget");
    first.reply.send(answer()).unwrap();
    assert!(rig.calls.recv().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answers_is_closed() {
    let mut rig = defaults();
    let requests: Vec<u8> = (1..=64).flat_map(api_versions).collect();
    rig.line.write_all(&requests).await.unwrap();
    let fat = millpond_wire::messages::ApiVersionsResponse {
        api_keys: vec![Default::default(); 100_000],
        ..Default::default()
    };
    let served = rig.served;
    let engine = tokio::spawn(async move {
        while let Some(call) = rig.calls.recv().await {
            let _ =
                call.reply.send(Some(millpond_wire::messages::Response::ApiVersions(fat.clone())));
        }
    });
    assert!(matches!(served.await.unwrap(), Ending::Write(WriteFault::Slow { .. })));
    engine.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_is_under_way_and_reads_no_more() {
    let mut rig = defaults();
    rig.line.write_all(&api_versions(1)).await.unwrap();
    let call = rig.calls.recv().await.unwrap();
    rig.stop.send(true).unwrap();
    rig.line.write_all(&api_versions(2)).await.unwrap();
    call.reply.send(answer()).unwrap();
    assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 1);
    assert!(matches!(rig.served.await.unwrap(), Ending::Stopping));
    assert!(rig.calls.recv().await.is_none());
}

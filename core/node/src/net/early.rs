//! Requests in the first flight of a resumed QUIC connection (0-RTT), which may be a recording that somebody sends
//! again. The engine takes at once what would change nothing when it came again (`Engine::takes_early`). Everything
//! else is held until the client has ended the handshake, which no recording can: it costs an honest client the
//! round trip that it would have had to wait without 0-RTT, and no client has to understand a refusal that Kafka has
//! no error for. A handshake that does not end closes the connection, with a code of its own; what was held is
//! dropped unread. Datagrams are not read before that at all.
//!
//! Must never decide by itself what is harmless, and never let a request overtake one that is held.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use quinn::{Connection, VarInt, ZeroRttAccepted};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::{Timeout, timeout};

use super::gateway::{Call, EngineGone, Gateway};
use crate::metrics::EarlyCounters;

/// Why we close: the handshake did not come to its end.
pub(super) const CODE_UNCONFIRMED: VarInt = VarInt::from_u32(1);

/// A handshake whose connection is served already.
pub(super) struct Handshake {
    under_way: Option<UnderWay>,
}

struct UnderWay {
    end: Pin<Box<Timeout<ZeroRttAccepted>>>,
    confirmed: watch::Sender<bool>,
    /// One of the handshakes that may be under way.
    _turn: OwnedSemaphorePermit,
}

impl Handshake {
    /// One that must end within some time.
    pub(super) fn under_way(
        end: ZeroRttAccepted,
        within: Duration,
        turn: OwnedSemaphorePermit,
    ) -> Self {
        let end = Box::pin(timeout(within, end));
        Self {
            under_way: Some(UnderWay { end, confirmed: watch::Sender::new(false), _turn: turn }),
        }
    }

    /// One that came to its end before anything was served.
    pub(super) fn over() -> Self {
        Self { under_way: None }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What a stream has to wait for that comes now.
    pub(super) fn unconfirmed(&self) -> Option<Unconfirmed> {
        self.under_way.as_ref().map(|under_way| Unconfirmed(under_way.confirmed.subscribe()))
    }

    /// Completes when the handshake has ended, well or not; never if it had before.
    pub(super) async fn end(&mut self, line: &Connection) -> Result<(), String> {
        let Some(under_way) = &mut self.under_way else { return std::future::pending().await };
        let in_time = under_way.end.as_mut().await.is_ok();
        let under_way = self.under_way.take();
        if !in_time {
            return Err("it took too long".to_owned());
        }
        if let Some(why) = line.close_reason() {
            return Err(why.to_string());
        }
        if let Some(under_way) = under_way {
            under_way.confirmed.send_replace(true);
        }
        Ok(())
    }
}

/// For the streams that came before the end of a handshake.
#[derive(Clone, Debug)]
pub(crate) struct Unconfirmed(watch::Receiver<bool>);

/// Why a request was not handed over.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// The engine has stopped.
    EngineGone,
    /// The handshake did not come to its end.
    Unconfirmed,
}

impl From<EngineGone> for NotTaken {
    fn from(_: EngineGone) -> Self {
        Self::EngineGone
    }
}

impl Unconfirmed {
    fn is_over(&self) -> bool {
        *self.0.borrow()
    }

    async fn confirmed(&mut self) -> Result<(), NotTaken> {
        let seen = self.0.wait_for(|confirmed| *confirmed).await;
        seen.map(drop).map_err(|_| NotTaken::Unconfirmed)
    }
}

/// Hands a request to the engine: at once if the handshake is over or the engine takes it early, else when the
/// handshake is over.
pub(super) async fn hand_over<G: Gateway>(
    gateway: &G,
    mut call: Call,
    handshake: &mut Option<Unconfirmed>,
    counters: &EarlyCounters,
) -> Result<(), NotTaken> {
    if let Some(unconfirmed) = handshake.as_mut().filter(|handshake| !handshake.is_over()) {
        let (turn_back, turned_back) = oneshot::channel();
        call.early = Some(turn_back);
        gateway.submit(call).await?;
        // Dropped: it was taken.
        let Ok(held) = turned_back.await else {
            counters.served.fetch_add(1, Relaxed);
            return Ok(());
        };
        counters.held.fetch_add(1, Relaxed);
        if let Err(why) = unconfirmed.confirmed().await {
            counters.dropped.fetch_add(1, Relaxed);
            return Err(why);
        }
        call = *held;
    }
    *handshake = None;
    Ok(gateway.submit(call).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::metrics::Refusal;
    use crate::net::Shown;
    use crate::net::connection::Ending;
    use crate::net::test_peer::{Rig, answer, api_versions, read_frame, rig_shown};
    use tokio::io::AsyncWriteExt;

    fn first_flight() -> (Rig, watch::Sender<bool>) {
        let (confirm, confirmed) = watch::channel(false);
        let shown = Shown { certified: None, unconfirmed: Some(Unconfirmed(confirmed)) };
        (rig_shown(&Limits::default(), None, shown), confirm)
    }

    async fn next(rig: &mut Rig) -> Call {
        rig.calls.recv().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_engine_takes_is_answered_before_the_end_of_the_handshake() {
        let (mut rig, _unconfirmed) = first_flight();
        rig.line.write_all(&api_versions(1)).await.unwrap();
        let mut call = next(&mut rig).await;
        drop(call.early.take().expect("it says that it may be a recording"));
        call.reply.send(answer()).unwrap();
        assert_eq!(read_frame(&mut rig.line).await.unwrap().0, 1);
        assert_eq!(rig.wiring.counters.early.served.load(Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_does_not_take_comes_again_after_the_handshake_and_nothing_overtakes_it() {
        let (mut rig, confirm) = first_flight();
        rig.line.write_all(&[api_versions(1), api_versions(2)].concat()).await.unwrap();
        let mut call = next(&mut rig).await;
        let turn_back = call.early.take().unwrap();
        turn_back.send(Box::new(call)).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(rig.calls.try_recv().is_err(), "neither it nor the one after it");
        confirm.send(true).unwrap();
        for expected in 1..=2 {
            let call = next(&mut rig).await;
            assert!(call.early.is_none(), "it is no recording");
            call.reply.send(answer()).unwrap();
            assert_eq!(read_frame(&mut rig.line).await.unwrap().0, expected);
        }
        assert_eq!(rig.wiring.counters.early.held.load(Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_held_is_dropped_with_a_handshake_that_does_not_end() {
        let (mut rig, confirm) = first_flight();
        rig.line.write_all(&api_versions(1)).await.unwrap();
        let mut call = next(&mut rig).await;
        let turn_back = call.early.take().unwrap();
        turn_back.send(Box::new(call)).unwrap();
        drop(confirm);
        let ending = rig.served.await.unwrap();
        assert!(matches!(ending, Ending::Unconfirmed), "{ending}");
        assert!(rig.calls.try_recv().is_err());
        let counters = &rig.wiring.counters;
        assert_eq!(counters.early.dropped.load(Relaxed), 1);
        assert_eq!(counters.refused_so_far(Refusal::Handshake), 0, "the connection counts that");
    }
}

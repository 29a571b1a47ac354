//! Who connected, by the certificate that was shown, and whether that still counts while the connection lives.
//! Must never be asked for a name of a certificate that was not verified.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use millpond_security::{CertificateNames, ClientCertificates};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

use super::{Who, Wiring};
use crate::metrics::Refusal;

/// What a listener shows and asks for, as its files say it now.
#[derive(Debug)]
pub(crate) struct InForce {
    /// A new one for every reading: no session of before can be resumed with it.
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// Whose certificates count, where clients are asked for one.
    pub(crate) clients: Option<ClientCertificates>,
}

/// What is in force, and that it changed.
pub(crate) type Force = watch::Receiver<Arc<InForce>>;

/// What a client showed, end entity first; empty for nothing.
pub(crate) type Chain = Vec<CertificateDer<'static>>;

/// The name of a client. None: the listener asks for no certificate, or the client may come without.
///
/// # Errors
/// A certificate that gives no name: who shows one is somebody, or does not come in.
pub(crate) fn certified(
    names: Option<&CertificateNames>,
    shown: Option<&[u8]>,
) -> Result<Option<Arc<str>>, &'static str> {
    match (names, shown) {
        (Some(names), Some(certificate)) => match names.name(certificate) {
            Some(name) => Ok(Some(name.into())),
            None => Err("its certificate has no name by `client_name` and `client_name_rules`"),
        },
        _ => Ok(None),
    }
}

/// Completes when a chain does not count any more: revoked, ended, of an authority that is gone. `force`
/// must be of before the handshake, so that no change falls between the two.
pub(crate) async fn fallen(mut force: Force, chain: Chain, who: Who, wiring: Arc<Wiring>) {
    while !chain.is_empty() && force.changed().await.is_ok() {
        let now = Arc::clone(&force.borrow_and_update());
        let Some(Err(why)) = now.clients.as_ref().map(|clients| clients.stands(&chain)) else {
            continue;
        };
        wiring.counters.refused(Refusal::Authentication);
        let why = format_args!("its certificate does not count any more: {why}");
        wiring.complaints.warn(who, why);
        return;
    }
    std::future::pending().await
}

/// A reader that breaks off when its peer's certificate does not count any more.
pub(crate) struct Revocable<R> {
    reader: R,
    fallen: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl<R> Revocable<R> {
    /// Breaks off when `fallen` completes.
    pub(crate) fn new(reader: R, fallen: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        Self { reader, fallen: Some(Box::pin(fallen)) }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Revocable<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let has_fallen = this.fallen.as_mut().is_none_or(|fallen| fallen.poll_unpin(cx).is_ready());
        if has_fallen {
            this.fallen = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut this.reader).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_reader_gives_what_comes_until_its_certificate_falls() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (fall, fallen) = oneshot::channel::<()>();
        let mut reader = Revocable::new(ours, fallen.map(|_| ()));
        theirs.write_u8(7).await.unwrap();
        assert_eq!(reader.read_u8().await.unwrap(), 7);
        let waiting = tokio::spawn(async move { (reader.read_u8().await, reader.read_u8().await) });
        tokio::task::yield_now().await;
        drop(fall);
        let (first, again) = waiting.await.unwrap();
        for ended in [first, again] {
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }
}

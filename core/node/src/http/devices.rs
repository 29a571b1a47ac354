//! `/v1/devices`: devices enrol with an invitation, once, and renew with the certificate they have. Nobody needs a
//! permission for that: the proof is in the request, and is good for that request alone, so that who
//! listens gains nothing. Must never say why an invitation is not taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use millpond_engine::{LoginRefused, Told};
use millpond_http::{Enrolled, Problem};
use millpond_security::device_ca::{CaError, DeviceCa, DeviceName, Grant};
use millpond_security::{CertificateFacts, HeldClock};
use millpond_wire::limits::{
    DEVICE_REFUSALS_PER_MINUTE_MAX, DEVICE_REFUSED_ADDRESSES_MAX, DEVICE_SIGNING_MAX,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Semaphore;

use super::App;
use super::access::Asker;
use crate::hex::hex;
use crate::net::Gateway;

/// The authority at its desk.
pub(crate) struct DeviceDesk {
    ca: DeviceCa,
    clock: Arc<HeldClock>,
    certificate_days: u64,
    turns: Arc<Semaphore>,
    refusals: Mutex<Refusals>,
}

/// Who was refused, and how often within the minute.
#[derive(Default)]
struct Refusals {
    by_address: BTreeMap<String, u32>,
    since: Option<Instant>,
}

/// The certificate of the authority.
pub(super) fn authority(state: &App) -> Result<Response, Problem> {
    let pem = desk(state)?.ca.certificate_pem().map_err(problem)?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response())
}

/// A device's first certificate.
pub(super) async fn enrol(
    state: &App,
    by: Asker,
    name: DeviceName,
    request: Vec<u8>,
    proof: Vec<u8>,
) -> Result<Json<Enrolled>, Problem> {
    serve(state, by, "device-enrolled", move |desk, now_s| {
        desk.ca.enrol(&name, &request, &proof, now_s, desk.certificate_days)
    })
    .await
}

/// A device's next certificate.
pub(super) async fn renew(
    state: &App,
    by: Asker,
    certificate: CertificateDer<'static>,
    request: Vec<u8>,
    proof: Vec<u8>,
) -> Result<Json<Enrolled>, Problem> {
    serve(state, by, "device-renewed", move |desk, now_s| {
        desk.ca.renew(&certificate, &request, &proof, now_s, desk.certificate_days)
    })
    .await
}

/// Has a certificate signed, where whoever asks was not refused too often.
async fn serve(
    state: &App,
    by: Asker,
    change: &'static str,
    work: impl FnOnce(&DeviceDesk, u64) -> Result<Grant, CaError> + Send + 'static,
) -> Result<Json<Enrolled>, Problem> {
    let desk = Arc::clone(desk(state)?);
    let Asker { principal, host } = by;
    if desk.refusals().are_too_many(&host, Instant::now()) {
        let text = "too many requests of this address were refused; come again in a minute";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, text));
    }
    let Ok(turn) = Arc::clone(&desk.turns).try_acquire_owned() else {
        let text = "other devices are being served; come again in a second";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let at_work = Arc::clone(&desk);
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let grant = work(&at_work, at_work.clock.now_s())?;
        Ok((grant, at_work.ca.certificate_pem()?))
    });
    match done.await.unwrap_or(Err(CaError::Invalid("the node is stopping"))) {
        Ok((Grant { name, certificate }, authority)) => {
            tracing::info!("device {name} at {host} was given a certificate");
            let (name, to) = (name.to_string(), serial(&certificate));
            let given = Told { principal, host, change, name: name.clone(), to };
            state.engine.tell(given).await;
            Ok(Json(Enrolled { name, certificate, authority }))
        }
        Err(error) => {
            if matches!(error, CaError::Refused(_) | CaError::Invalid(_)) {
                desk.refusals().count(&host);
                let (host, listener) = (host, u16::MAX);
                let why = format!("a device's certificate: {error}");
                state.engine.refused(LoginRefused { host, listener, why }).await;
            } else {
                tracing::error!("a device was not given a certificate: {error}");
            }
            Err(problem(error))
        }
    }
}

fn desk(state: &App) -> Result<&Arc<DeviceDesk>, Problem> {
    let none = "this node has no authority for devices; [devices] ca_dir names one";
    state.devices.as_ref().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, none))
}

/// By which a certificate is known; it is no secret.
fn serial(certificate: &str) -> String {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok();
    let facts = der.as_deref().and_then(CertificateFacts::read);
    facts.map(|facts| format!("serial {}", hex(facts.serial))).unwrap_or_default()
}

fn problem(error: CaError) -> Problem {
    let status = match &error {
        CaError::Refused(_) => StatusCode::FORBIDDEN,
        CaError::Invalid(_) | CaError::Host(_) => StatusCode::BAD_REQUEST,
        CaError::Full { .. } | CaError::State(_) => StatusCode::CONFLICT,
        // What went wrong here is for the log.
        _ => {
            let text = "the authority of this node cannot sign; its log says why";
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
    };
    Problem::new(status, error.to_string())
}

impl DeviceDesk {
    pub(crate) fn new(ca: DeviceCa, clock: Arc<HeldClock>, certificate_days: u64) -> Self {
        let turns = Arc::new(Semaphore::new(DEVICE_SIGNING_MAX));
        Self { ca, clock, certificate_days, turns, refusals: Mutex::default() }
    }

    fn refusals(&self) -> std::sync::MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusals {
    fn are_too_many(&mut self, host: &str, now: Instant) -> bool {
        let minute = Duration::from_secs(60);
        if self.since.is_none_or(|since| now.duration_since(since) >= minute) {
            (self.since, self.by_address) = (Some(now), BTreeMap::new());
        }
        match self.by_address.get(host) {
            Some(n) => *n >= DEVICE_REFUSALS_PER_MINUTE_MAX,
            None => self.by_address.len() >= DEVICE_REFUSED_ADDRESSES_MAX,
        }
    }

    fn count(&mut self, host: &str) {
        *self.by_address.entry(host.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_too_often_waits_a_minute_and_others_do_not() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for _ in 0..DEVICE_REFUSALS_PER_MINUTE_MAX {
            assert!(!refusals.are_too_many("10.0.0.1", now));
            refusals.count("10.0.0.1");
        }
        assert!(refusals.are_too_many("10.0.0.1", now));
        assert!(!refusals.are_too_many("10.0.0.2", now));
        assert!(!refusals.are_too_many("10.0.0.1", now + Duration::from_secs(60)));
    }

    #[test]
    fn the_addresses_that_are_counted_have_a_cap() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for n in 0..DEVICE_REFUSED_ADDRESSES_MAX {
            assert!(!refusals.are_too_many(&n.to_string(), now));
            refusals.count(&n.to_string());
        }
        assert!(refusals.are_too_many("another", now));
        assert!(!refusals.are_too_many("7", now));
    }
}

//! HTTP: metrics, health, and the administration of transforms. Bodies, connections and times are
//! bounded; on loopback a request must name a local host, so that a web page cannot reach the node
//! through a browser.

mod access;
mod api;
mod deploy;
mod devices;
mod listener;
mod problem;
mod routes;
mod secure;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use millpond_wire::limits::{HTTP_BODY_BYTES_MAX, HTTP_REQUEST_MS_MAX};
use tokio::net::TcpListener;

pub(crate) use deploy::{
    Action, Alteration, DEPLOY_HEADER, Description, ModeName, Shown, ShownLane, Start, StateScope,
};
pub(crate) use devices::{DeviceDesk, ENROL_PATH, Enrolled, Enrolment, RENEW_PATH, Renewal};
pub(crate) use problem::Problem;
pub(crate) use secure::serve_devices;

use crate::metrics::{self, Counters};
use crate::net::Wiring;
use crate::serve::{EngineHandle, Phase, PhaseCell};
use crate::transforms::TransformService;

/// What the handlers work with.
pub(crate) struct HttpState {
    pub(crate) engine: EngineHandle,
    pub(crate) wiring: Arc<Wiring>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) transforms: Arc<TransformService>,
    /// The authority for devices, where there is one.
    pub(crate) devices: Option<Arc<DeviceDesk>>,
    pub(crate) started: Instant,
    pub(crate) phase: PhaseCell,
    pub(crate) module_bytes_max: usize,
    /// 0: nobody stated it.
    pub(crate) card_endurance_bytes: u64,
    /// Whether only this machine can reach the listener.
    pub(crate) loopback: bool,
}

type App = Arc<HttpState>;

/// Serves until `stop` completes; requests under way are finished.
pub(crate) async fn serve(
    listener: TcpListener,
    connections_max: usize,
    state: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = listener::Bounded::new(listener, connections_max);
    let service = router(state).into_make_service_with_connect_info::<access::Caller>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

fn router(state: App) -> Router {
    Router::new()
        .route("/", get(async || routes::index()))
        .route("/v1/openapi.json", get(openapi))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX))
        .merge(api::routes(&state))
        .merge(devices::routes())
        .layer(middleware::from_fn_with_state(Arc::clone(&state), guard))
        .with_state(state)
}

/// Every request passes here: foreign host names are refused on loopback, who may not have it is refused, slow
/// requests end.
async fn guard(State(state): State<App>, request: Request, next: Next) -> Response {
    if state.loopback && !names_local_host(request.headers().get(header::HOST)) {
        return Problem::new(
            StatusCode::FORBIDDEN,
            "the Host header names another machine; use localhost or 127.0.0.1",
        )
        .into_response();
    }
    match tokio::time::timeout(
        Duration::from_millis(HTTP_REQUEST_MS_MAX),
        access::ask(&state, request, next),
    )
    .await
    {
        Ok(response) => response,
        Err(_) => {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response()
        }
    }
}

/// Whether a Host header is one that a local client writes. Protects from DNS rebinding.
fn names_local_host(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host else { return true };
    let Ok(host) = host.to_str() else { return false };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return crate::config::is_loopback(address.ip());
    }
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.trim_end_matches(']'),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(crate::config::is_loopback)
}

async fn openapi() -> Json<serde_json::Value> {
    Json(routes::openapi())
}

async fn metrics_text(State(state): State<App>) -> Result<Response, Problem> {
    let snapshot = state.engine.snapshot().await.map_err(|_| Problem::stopping())?;
    let reports = state.transforms.reports();
    let uptime = state.started.elapsed();
    let text = metrics::render(
        &snapshot,
        &state.counters,
        &state.wiring.counts(),
        &reports,
        uptime,
        state.card_endurance_bytes,
    )
    .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// Healthy means that the engine's thread answers; a supervisor restarts a node that does not.
/// Recovery is healthy.
async fn healthz(State(state): State<App>) -> Result<&'static str, Problem> {
    const PATIENCE: Duration = Duration::from_secs(5);
    if state.phase.get() == Phase::Recovering {
        return Ok("recovering\n");
    }
    match tokio::time::timeout(PATIENCE, state.engine.ping()).await {
        Ok(Ok(())) => Ok("ok\n"),
        Ok(Err(_)) => Err(Problem::stopping()),
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the engine has not answered for 5 s",
        )),
    }
}

async fn readyz(State(state): State<App>) -> Result<&'static str, Problem> {
    match state.phase.get() {
        Phase::Serving => Ok("ready\n"),
        Phase::Recovering => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the node is recovering"))
        }
        Phase::Stopping => Err(Problem::stopping()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_host_names_are_let_through() {
        for host in
            ["localhost", "LOCALHOST:9644", "127.0.0.1:9644", "127.0.0.1", "[::1]:9644", "[::1]"]
        {
            assert!(names_local_host(Some(&HeaderValue::from_static(host))), "{host}");
        }
        for host in ["evil.example", "evil.example:9644", "10.0.0.1:9644", "localhost.evil.example"]
        {
            assert!(!names_local_host(Some(&HeaderValue::from_static(host))), "{host}");
        }
        assert!(names_local_host(None));
    }
}

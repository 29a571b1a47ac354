//! HTTP: metrics, health, and the administration of transforms. Bodies, connections and times are
//! bounded; on loopback a request must name a local host, so that a web page cannot reach the node
//! through a browser.

mod access;
mod api;
mod devices;
mod listener;
mod secure;
mod shown;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use millpond_engine::transform::AdminRequest;
use millpond_http::{Asked, Problem, Route, names_local_host};
use millpond_wire::limits::HTTP_REQUEST_MS_MAX;
use tokio::net::TcpListener;

pub(crate) use devices::DeviceDesk;
pub(crate) use secure::serve_devices;
pub(crate) use shown::{Shown, ShownLane};

use self::access::{Asker, Head};
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
    let guarded = middleware::from_fn_with_state(Arc::clone(&state), guard);
    let service = router(state, Route::ALL).layer(guarded);
    let service = service.into_make_service_with_connect_info::<access::Caller>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

/// A request on one of these routes is served if whoever asks may have it; slow ones end.
fn router(state: App, routes: impl IntoIterator<Item = Route>) -> Router {
    millpond_http::router(routes, move |route, request| {
        let state = Arc::clone(&state);
        async move {
            let limit = Duration::from_millis(HTTP_REQUEST_MS_MAX);
            let served = tokio::time::timeout(limit, asked(&state, route, request)).await;
            let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the request took too long");
            served.unwrap_or_else(|_| late().into_response())
        }
    })
}

/// Foreign host names are refused on loopback.
async fn guard(State(state): State<App>, request: Request, next: Next) -> Response {
    if state.loopback && !names_local_host(request.headers().get(header::HOST)) {
        let text = "the Host header names another machine; use localhost or 127.0.0.1";
        return Problem::new(StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}

async fn asked(state: &App, route: Route, request: Request) -> Response {
    let by = match access::admitted(state, route, Head::of(&request)).await {
        Ok(by) => by,
        Err(refusal) => return refusal,
    };
    match route.read(request, state.module_bytes_max).await {
        Ok(asked) => answer(state, by, asked).await.unwrap_or_else(Problem::into_response),
        Err(problem) => problem.into_response(),
    }
}

async fn answer(state: &App, by: Asker, asked: Asked) -> Result<Response, Problem> {
    Ok(match asked {
        Asked::Index => millpond_http::index().into_response(),
        Asked::Metrics => metrics_text(state).await?,
        Asked::Health => health(state).await?.into_response(),
        Asked::Readiness => readiness(state)?.into_response(),
        Asked::Document => Json(millpond_http::openapi()).into_response(),
        Asked::List => api::list(state, by).await?.into_response(),
        Asked::Deploy { canary_percent, description, module } => {
            api::deploy(state, by, canary_percent, description, module).await?
        }
        Asked::Describe(name) => api::describe(state, by, name).await?.into_response(),
        Asked::Alter(name, alteration) => {
            api::alter(state, by, name, alteration).await?.into_response()
        }
        Asked::Logs(name, logs) => api::logs(state, by, name, logs).await?.into_response(),
        Asked::Delete(name) => {
            let request = AdminRequest::DeleteTransform { name };
            api::done(state, by, request).await?.into_response()
        }
        Asked::Pause(name) => {
            let request = AdminRequest::PauseTransform { name, paused: true };
            api::done(state, by, request).await?.into_response()
        }
        Asked::Resume(name) => {
            let request = AdminRequest::PauseTransform { name, paused: false };
            api::done(state, by, request).await?.into_response()
        }
        Asked::Promote(name) => {
            let request = AdminRequest::PromoteTransform { name };
            state.transform(by, request).await?.into_response()
        }
        Asked::RollBack(name) => {
            let request = AdminRequest::RollBackTransform { name, of: None };
            state.transform(by, request).await?.into_response()
        }
        Asked::Authority => devices::authority(state)?,
        Asked::Enrol { name, request, proof } => {
            devices::enrol(state, by, name, request, proof).await?.into_response()
        }
        Asked::Renew { certificate, request, proof } => {
            devices::renew(state, by, certificate, request, proof).await?.into_response()
        }
    })
}

async fn metrics_text(state: &App) -> Result<Response, Problem> {
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
async fn health(state: &App) -> Result<&'static str, Problem> {
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

fn readiness(state: &App) -> Result<&'static str, Problem> {
    match state.phase.get() {
        Phase::Serving => Ok("ready\n"),
        Phase::Recovering => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the node is recovering"))
        }
        Phase::Stopping => Err(Problem::stopping()),
    }
}

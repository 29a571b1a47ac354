//! `/v1/transforms`: deploying, showing, pausing and deleting. A module is on flash before its
//! deployment is journalled, and compiled before that, so that what cannot run is never in force.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use millpond_engine::transform::{AdminRequest, AdminResponse, Deployment};
use serde::Deserialize;

use super::deploy::{DEPLOY_HEADER, Description, Shown};
use super::{App, HttpState, Problem};
use crate::hex::hex;
use crate::transforms::LogLine;

pub(super) fn routes(state: &HttpState) -> Router<App> {
    let deploy = post(deploy).layer(DefaultBodyLimit::max(state.module_bytes_max));
    Router::new()
        .route("/v1/transforms", get(list).merge(deploy))
        .route("/v1/transforms/{name}", get(describe).delete(delete))
        .route("/v1/transforms/{name}/logs", get(logs))
        .route("/v1/transforms/{name}/pause", post(pause))
        .route("/v1/transforms/{name}/resume", post(resume))
}

async fn deploy(
    State(state): State<App>,
    headers: HeaderMap,
    module: Bytes,
) -> Result<(StatusCode, Json<Shown>), Problem> {
    let header =
        headers.get(DEPLOY_HEADER).and_then(|value| value.to_str().ok()).ok_or_else(|| {
            Problem::bad_request(
                "the header Millpond-Transform must hold a JSON description in ASCII",
            )
        })?;
    let description = Description::parse(header).map_err(Problem::bad_request)?;
    if module.is_empty() {
        return Err(Problem::bad_request("the body must be the module, a .wasm file"));
    }
    let admitted = state
        .transforms
        .admit(&description, module)
        .await
        .map_err(|e| Problem::bad_request(e.to_string()))?;
    let mut spec = description.into_spec(admitted.hash);
    spec.keeps_state = admitted.keeps_state;
    let request = AdminRequest::DeployTransform(spec);
    match state.admin(request).await? {
        AdminResponse::Transform(deployment) => {
            Ok((StatusCode::CREATED, Json(state.show(&deployment))))
        }
        other => Err(unexpected(&other)),
    }
}

async fn list(State(state): State<App>) -> Result<Json<Vec<Shown>>, Problem> {
    match state.admin(AdminRequest::ListTransforms).await? {
        AdminResponse::Transforms(all) => Ok(Json(all.iter().map(|d| state.show(d)).collect())),
        other => Err(unexpected(&other)),
    }
}

async fn describe(
    State(state): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Shown>, Problem> {
    match state.admin(AdminRequest::DescribeTransform { name }).await? {
        AdminResponse::Transform(deployment) => Ok(Json(state.show(&deployment))),
        other => Err(unexpected(&other)),
    }
}

async fn delete(State(state): State<App>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    state.admin(AdminRequest::DeleteTransform { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(State(state): State<App>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    state.admin(AdminRequest::PauseTransform { name, paused: true }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn resume(State(state): State<App>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    state.admin(AdminRequest::PauseTransform { name, paused: false }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How much of a log is wanted.
#[derive(Deserialize)]
struct LogQuery {
    /// Newest lines; all that are kept if missing.
    lines: Option<usize>,
}

async fn logs(
    State(state): State<App>,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Json<Vec<LogLine>>, Problem> {
    state.admin(AdminRequest::DescribeTransform { name: name.clone() }).await?;
    Ok(Json(state.transforms.logs(&name, query.lines.unwrap_or(usize::MAX))))
}

impl HttpState {
    async fn admin(&self, request: AdminRequest) -> Result<AdminResponse, Problem> {
        Ok(self.engine.admin(request).await.map_err(|_| Problem::stopping())??)
    }

    fn show(self: &Arc<Self>, deployment: &Deployment) -> Shown {
        let report = self.transforms.report(&deployment.spec.name);
        Shown {
            id: deployment.id.0,
            module: hex(&deployment.spec.module),
            paused: deployment.paused,
            fault: report.as_ref().and_then(|r| r.fault.clone()),
            description: Description::of(deployment),
            stats: report.map(|r| r.stats).unwrap_or_default(),
        }
    }
}

fn unexpected(response: &AdminResponse) -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("the engine answered something else: {response:?}"),
    )
}

//! `/v1/transforms`: deploying, showing, pausing and deleting. A module is on flash before its
//! deployment is journalled, and compiled before that, so that what cannot run is never in force.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use millpond_engine::transform::{AdminRequest, AdminResponse, Canary, Deployment, TransformSpec};
use serde::Deserialize;

use super::access;
use super::deploy::{
    Alteration, DEPLOY_HEADER, Description, ModeName, Shown, ShownCanary, ShownLane, ShownVersion,
};
use super::{App, HttpState, Problem};
use crate::hex::hex;
use crate::transforms::{LogLine, TransformStats};

pub(super) fn routes(state: &HttpState) -> Router<App> {
    let deploy = post(deploy).layer(DefaultBodyLimit::max(state.module_bytes_max));
    Router::new()
        .route("/v1/transforms", get(list).merge(deploy))
        .route("/v1/transforms/{name}", get(describe).patch(alter).delete(delete))
        .route("/v1/transforms/{name}/logs", get(logs))
        .route("/v1/transforms/{name}/pause", post(pause))
        .route("/v1/transforms/{name}/resume", post(resume))
        .route("/v1/transforms/{name}/promote", post(promote))
        .route("/v1/transforms/{name}/rollback", post(roll_back))
}

/// How a version is put in force.
#[derive(Deserialize)]
struct DeployQuery {
    /// On this share of the partitions only.
    canary_percent: Option<u8>,
}

async fn deploy(
    State(state): State<App>,
    Query(query): Query<DeployQuery>,
    headers: HeaderMap,
    module: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Shown>), Problem> {
    let module = module.map_err(|refused| match refused.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the module is larger than {} bytes, the most that this node takes \
                 (transforms.module_bytes_max)",
                state.module_bytes_max
            ),
        ),
        status => Problem::new(status, refused.to_string()),
    })?;
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
    let admitted = state.transforms.admit(description, module).await;
    let spec = admitted.map_err(|e| Problem::bad_request(e.to_string()))?;
    let request = match query.canary_percent {
        Some(share_percent) => AdminRequest::CanaryTransform { spec, share_percent },
        None => AdminRequest::DeployTransform(spec),
    };
    Ok((StatusCode::CREATED, Json(state.transform(request).await?)))
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
    let mut shown = state.transform(AdminRequest::DescribeTransform { name }).await?;
    if shown.description.mode == ModeName::Derive {
        let snapshot = state.engine.snapshot().await.map_err(|_| Problem::stopping())?;
        let all = snapshot.derives.iter();
        let own = all.filter(|lane| lane.transform == shown.description.name);
        shown.lanes = own.map(|lane| ShownLane::of(lane, shown.paused)).collect();
    }
    Ok(Json(shown))
}

/// A new version with the same module and other settings or limits.
async fn alter(
    State(state): State<App>,
    Path(name): Path<String>,
    Json(alteration): Json<Alteration>,
) -> Result<Json<Shown>, Problem> {
    let now = state.admin(AdminRequest::DescribeTransform { name }).await?;
    let AdminResponse::Transform(now) = now else { return Err(unexpected(&now)) };
    let description = alteration.of(Description::of(&now.spec)).map_err(Problem::bad_request)?;
    let (module, package_counter) = (now.spec.module, now.spec.package_counter);
    let admitted = state.transforms.readmit(&description, module).await;
    admitted.map_err(|e| Problem::bad_request(e.to_string()))?;
    let keeps_state = now.spec.keeps_state;
    let spec = TransformSpec { package_counter, keeps_state, ..description.into_spec(module) };
    let request = AdminRequest::DeployTransform(spec);
    Ok(Json(state.transform(request).await?))
}

async fn promote(
    State(state): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Shown>, Problem> {
    Ok(Json(state.transform(AdminRequest::PromoteTransform { name }).await?))
}

async fn roll_back(
    State(state): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Shown>, Problem> {
    Ok(Json(state.transform(AdminRequest::RollBackTransform { name, of: None }).await?))
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
    /// Only lines with higher numbers.
    after: Option<u64>,
    /// The start of the node that `after` is of: of another one all lines follow.
    start: Option<String>,
}

async fn logs(
    State(state): State<App>,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Json<Vec<LogLine>>, Problem> {
    state.admin(AdminRequest::DescribeTransform { name: name.clone() }).await?;
    let lines = query.lines.unwrap_or(usize::MAX);
    let is_ours = query.start.is_none_or(|start| start == state.transforms.start());
    let after = query.after.filter(|_| is_ours).unwrap_or(0);
    Ok(Json(state.transforms.logs(&name, lines, after)))
}

impl HttpState {
    async fn admin(&self, request: AdminRequest) -> Result<AdminResponse, Problem> {
        Ok(self
            .engine
            .admin_by(access::asking(), request)
            .await
            .map_err(|_| Problem::stopping())??)
    }

    /// Asks for one transform, or for a change of one.
    async fn transform(self: &Arc<Self>, request: AdminRequest) -> Result<Shown, Problem> {
        match self.admin(request).await? {
            AdminResponse::Transform(deployment) => Ok(self.show(&deployment)),
            other => Err(unexpected(&other)),
        }
    }

    fn show(self: &Arc<Self>, deployment: &Deployment) -> Shown {
        let report = self.transforms.report(&deployment.spec.name);
        let previous = |spec: &TransformSpec| ShownVersion {
            version: spec.version.clone(),
            module: hex(&spec.module),
        };
        Shown {
            id: deployment.id.0,
            module: hex(&deployment.spec.module),
            paused: deployment.paused,
            fault: report.as_ref().and_then(|r| r.fault.clone()),
            description: Description::of(&deployment.spec),
            stats: report.map(|r| TransformStats::of(&r.totals)).unwrap_or_default(),
            previous: deployment.previous.as_deref().map(previous),
            canary: deployment.canary.as_deref().map(|canary| self.show_canary(canary)),
            lanes: Vec::new(),
        }
    }

    fn show_canary(&self, canary: &Canary) -> ShownCanary {
        let report = self.transforms.version(canary.id);
        ShownCanary {
            id: canary.id.0,
            share_percent: canary.share_percent,
            fault: report.as_ref().and_then(|r| r.fault.clone()),
            module: hex(&canary.spec.module),
            description: Description::of(&canary.spec),
            stats: report.map(|r| TransformStats::of(&r.totals)).unwrap_or_default(),
        }
    }
}

fn unexpected(response: &AdminResponse) -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("the engine answered something else: {response:?}"),
    )
}

//! `/v1/transforms`: deploying, showing, pausing and deleting. A module is on flash before its
//! deployment is journalled, and compiled before that, so that what cannot run is never in force.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millpond_engine::transform::{AdminRequest, AdminResponse, Canary, Deployment, TransformSpec};
use millpond_http::{Alteration, Description, Logs, ModeName, Problem};

use super::access::Asker;
use super::shown::{Shown, ShownCanary, ShownLane, ShownVersion};
use super::{App, HttpState};
use crate::hex::hex;
use crate::transforms::{LogLine, TransformStats};

/// Puts a version in force; `canary_percent`: on this share of the partitions only.
pub(super) async fn deploy(
    state: &App,
    by: Asker,
    canary_percent: Option<u8>,
    description: Description,
    module: Bytes,
) -> Result<Response, Problem> {
    let admitted = state.transforms.admit(description, module).await;
    let spec = admitted.map_err(|e| Problem::bad_request(e.to_string()))?;
    let request = match canary_percent {
        Some(share_percent) => AdminRequest::CanaryTransform { spec, share_percent },
        None => AdminRequest::DeployTransform(spec),
    };
    Ok((StatusCode::CREATED, state.transform(by, request).await?).into_response())
}

pub(super) async fn list(state: &App, by: Asker) -> Result<Json<Vec<Shown>>, Problem> {
    match state.admin(by, AdminRequest::ListTransforms).await? {
        AdminResponse::Transforms(all) => Ok(Json(all.iter().map(|d| state.show(d)).collect())),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn describe(state: &App, by: Asker, name: String) -> Result<Json<Shown>, Problem> {
    let request = AdminRequest::DescribeTransform { name };
    let Json(mut shown) = state.transform(by, request).await?;
    if shown.description.mode == ModeName::Derive {
        let snapshot = state.engine.snapshot().await.map_err(|_| Problem::stopping())?;
        let all = snapshot.derives.iter();
        let own = all.filter(|lane| lane.transform == shown.description.name);
        shown.lanes = own.map(|lane| ShownLane::of(lane, shown.paused)).collect();
    }
    Ok(Json(shown))
}

/// A new version with the same module and other settings or limits.
pub(super) async fn alter(
    state: &App,
    by: Asker,
    name: String,
    alteration: Alteration,
) -> Result<Json<Shown>, Problem> {
    let now = state.admin(by.clone(), AdminRequest::DescribeTransform { name }).await?;
    let AdminResponse::Transform(now) = now else { return Err(unexpected(&now)) };
    let description = alteration.of(Description::of(&now.spec)).map_err(Problem::bad_request)?;
    let (module, package_counter) = (now.spec.module, now.spec.package_counter);
    let admitted = state.transforms.readmit(&description, module).await;
    admitted.map_err(|e| Problem::bad_request(e.to_string()))?;
    let keeps_state = now.spec.keeps_state;
    let spec = TransformSpec { package_counter, keeps_state, ..description.into_spec(module) };
    state.transform(by, AdminRequest::DeployTransform(spec)).await
}

/// Has something done that needs no answer.
pub(super) async fn done(
    state: &App,
    by: Asker,
    request: AdminRequest,
) -> Result<StatusCode, Problem> {
    state.admin(by, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn logs(
    state: &App,
    by: Asker,
    name: String,
    query: Logs,
) -> Result<Json<Vec<LogLine>>, Problem> {
    state.admin(by, AdminRequest::DescribeTransform { name: name.clone() }).await?;
    let lines = query.lines.unwrap_or(usize::MAX);
    let is_ours = query.start.is_none_or(|start| start == state.transforms.start());
    let after = query.after.filter(|_| is_ours).unwrap_or(0);
    Ok(Json(state.transforms.logs(&name, lines, after)))
}

impl HttpState {
    async fn admin(&self, by: Asker, request: AdminRequest) -> Result<AdminResponse, Problem> {
        let by = Some((by.principal, by.host));
        Ok(self.engine.admin_by(by, request).await.map_err(|_| Problem::stopping())??)
    }

    /// Asks for one transform, or for a change of one.
    pub(super) async fn transform(
        self: &Arc<Self>,
        by: Asker,
        request: AdminRequest,
    ) -> Result<Json<Shown>, Problem> {
        match self.admin(by, request).await? {
            AdminResponse::Transform(deployment) => Ok(Json(self.show(&deployment))),
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

//! Requests as values: what came on a route, read and checked as far as that goes without asking anybody.
//! Must never take more of a body than its route has use for.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Json, Path, Query, Request};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::on;
use axum::{RequestExt as _, Router};
use futures::StreamExt;
use millpond_security::device_ca::DeviceName;
use millpond_wire::limits::{DEVICE_REQUEST_BYTES_MAX, HTTP_BODY_BYTES_MAX};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::description::{Alteration, DEPLOY_HEADER, Description};
use crate::devices::{Enrolment, Renewal};
use crate::problem::Problem;
use crate::route::Route;

/// What is asked; texts are names of transforms.
#[derive(Debug)]
pub enum Asked {
    /// The page for people.
    Index,
    /// Metrics.
    Metrics,
    /// Liveness.
    Health,
    /// Readiness.
    Readiness,
    /// The document for machines.
    Document,
    /// All transforms.
    List,
    /// A module, and what is said of it.
    Deploy {
        /// On this share of the partitions only.
        canary_percent: Option<u8>,
        /// What is said.
        description: Description,
        /// The bytes; not looked at here.
        module: Bytes,
    },
    /// One transform.
    Describe(String),
    /// Other settings or limits.
    Alter(String, Alteration),
    /// Its end.
    Delete(String),
    /// What it logged.
    Logs(String, Logs),
    /// Records pass it.
    Pause(String),
    /// They do not any more.
    Resume(String),
    /// Its canary becomes the version in force.
    Promote(String),
    /// The version before.
    RollBack(String),
    /// The certificate of the authority for devices.
    Authority,
    /// A device's first certificate.
    Enrol {
        /// Of the device.
        name: DeviceName,
        /// PKCS #10, DER; not looked at here.
        request: Vec<u8>,
        /// That the token is known.
        proof: Vec<u8>,
    },
    /// A device's next certificate.
    Renew {
        /// The one before; not looked at here.
        certificate: CertificateDer<'static>,
        /// PKCS #10, DER; not looked at here.
        request: Vec<u8>,
        /// The request signed with the key of the certificate.
        proof: Vec<u8>,
    },
}

/// How much of a log is wanted.
#[derive(Debug, Deserialize)]
pub struct Logs {
    /// Newest lines; all that are kept if missing.
    pub lines: Option<usize>,
    /// Only lines with higher numbers.
    pub after: Option<u64>,
    /// The start of the node that `after` is of: of another one all lines follow.
    pub start: Option<String>,
}

/// How a version is put in force.
#[derive(Deserialize)]
struct Way {
    canary_percent: Option<u8>,
}

/// A router for these routes, each of which is given to `serve`.
pub fn router<F, A>(routes: impl IntoIterator<Item = Route>, serve: F) -> Router
where
    F: Fn(Route, Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send,
{
    let none = "this path takes no such method; GET / says which";
    let none = async move || Problem::new(StatusCode::METHOD_NOT_ALLOWED, none);
    let mut router = Router::new();
    for route in routes {
        let serve = serve.clone();
        let handler = async move |request: Request| serve(route, request).await;
        router = router.route(route.path(), on(route.method().filter(), handler));
    }
    router.method_not_allowed_fallback(none)
}

impl Route {
    /// Reads what came on this route.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn read(
        self,
        mut request: Request,
        module_bytes_max: usize,
    ) -> Result<Asked, Problem> {
        let bytes_max = match self {
            Self::Deploy => module_bytes_max,
            // Base64, a certificate, and what is around them.
            Self::Enrol | Self::Renew => DEVICE_REQUEST_BYTES_MAX * 3,
            _ => HTTP_BODY_BYTES_MAX,
        };
        DefaultBodyLimit::max(bytes_max).apply(&mut request);
        Ok(match self {
            Self::Index => Asked::Index,
            Self::Metrics => Asked::Metrics,
            Self::Health => Asked::Health,
            Self::Readiness => Asked::Readiness,
            Self::Document => Asked::Document,
            Self::List => Asked::List,
            Self::Deploy => deploy(request, module_bytes_max).await?,
            Self::Describe => Asked::Describe(name(&mut request).await?),
            Self::Alter => Asked::Alter(name(&mut request).await?, json(request).await?),
            Self::Delete => Asked::Delete(name(&mut request).await?),
            Self::Logs => Asked::Logs(name(&mut request).await?, query(&mut request).await?),
            Self::Pause => Asked::Pause(name(&mut request).await?),
            Self::Resume => Asked::Resume(name(&mut request).await?),
            Self::Promote => Asked::Promote(name(&mut request).await?),
            Self::RollBack => Asked::RollBack(name(&mut request).await?),
            Self::Authority => Asked::Authority,
            Self::Enrol => json::<Enrolment>(request).await?.asked()?,
            Self::Renew => json::<Renewal>(request).await?.asked()?,
        })
    }
}

async fn deploy(mut request: Request, module_bytes_max: usize) -> Result<Asked, Problem> {
    let Way { canary_percent } = query(&mut request).await?;
    // Judged when the body is through: its sender would not see an answer before that.
    let description = described(&request);
    let too_large = || {
        let what = format!(
            "the module is larger than {module_bytes_max} bytes, the most that this node takes \
             (transforms.module_bytes_max)"
        );
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    };
    // Of one that says so itself nothing is kept.
    if said_bytes(&request).is_some_and(|bytes| bytes > module_bytes_max) {
        discard(request, module_bytes_max).await;
        return Err(too_large());
    }
    let module = Bytes::from_request(request, &()).await;
    let module = module.map_err(|refused| match refused.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        status => Problem::new(status, refused.body_text()),
    })?;
    let description = description?;
    if module.is_empty() {
        return Err(Problem::bad_request("the body must be the module, a .wasm file"));
    }
    Ok(Asked::Deploy { canary_percent, description, module })
}

fn described(request: &Request) -> Result<Description, Problem> {
    let header = request.headers().get(DEPLOY_HEADER).and_then(|value| value.to_str().ok());
    let description = header.ok_or_else(|| {
        Problem::bad_request("the header Millpond-Transform must hold a JSON description in ASCII")
    })?;
    Description::parse(description).map_err(Problem::bad_request)
}

/// How long a body is, if its sender says so.
fn said_bytes(request: &Request) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Lets a body pass, up to so many bytes: who sends on when the connection is closed may never see the answer.
async fn discard(request: Request, bytes_max: usize) {
    let mut passing = request.into_body().into_data_stream();
    let mut bytes = 0;
    while let Some(Ok(part)) = passing.next().await {
        bytes += part.len();
        if bytes >= bytes_max {
            return;
        }
    }
}

async fn name(request: &mut Request) -> Result<String, Problem> {
    let path: Result<Path<String>, _> = request.extract_parts().await;
    Ok(path.map_err(|refused| Problem::new(refused.status(), refused.body_text()))?.0)
}

async fn query<T: DeserializeOwned + 'static>(request: &mut Request) -> Result<T, Problem> {
    let query: Result<Query<T>, _> = request.extract_parts().await;
    Ok(query.map_err(|refused| Problem::new(refused.status(), refused.body_text()))?.0)
}

async fn json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let json = Json::<T>::from_request(request, &()).await;
    Ok(json.map_err(|refused| Problem::new(refused.status(), refused.body_text()))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::response::IntoResponse;

    const MODULE_BYTES_MAX: usize = 4;

    /// What is asked, or the status of the problem.
    async fn read(route: Route, head: &[(&str, &str)], body: &[u8]) -> Result<Asked, StatusCode> {
        let mut request = Request::builder();
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_vec())).unwrap();
        let asked = route.read(request, MODULE_BYTES_MAX).await;
        asked.map_err(|problem| problem.into_response().status())
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_what_its_route_has_use_for() {
        let head = [(DEPLOY_HEADER, r#"{"name":"t","topics":["a"]}"#)];
        let Ok(Asked::Deploy { module, .. }) = read(Route::Deploy, &head, b"1234").await else {
            panic!("it fits");
        };
        assert_eq!(module, &b"1234"[..]);
        let large = StatusCode::PAYLOAD_TOO_LARGE;
        assert_eq!(read(Route::Deploy, &head, b"12345").await.unwrap_err(), large);
        let says = [head[0], (header::CONTENT_LENGTH.as_str(), "5")];
        assert_eq!(read(Route::Deploy, &says, b"").await.unwrap_err(), large, "whatever comes");
        let json = [(header::CONTENT_TYPE.as_str(), "application/json")];
        let body = vec![b' '; DEVICE_REQUEST_BYTES_MAX * 3 + 1];
        assert_eq!(read(Route::Enrol, &json, &body).await.unwrap_err(), large);
    }

    #[tokio::test]
    async fn a_device_says_who_it_is_in_json_and_bytes_in_base64() {
        let json = [(header::CONTENT_TYPE.as_str(), "application/json")];
        let enrolment = |name, request| {
            format!(r#"{{"name":"{name}","request":"{request}","proof":"AQI="}}"#).into_bytes()
        };
        let good = enrolment("pump-7", "MAA=");
        let Ok(Asked::Enrol { name, request, proof }) = read(Route::Enrol, &json, &good).await
        else {
            panic!("it is well-formed");
        };
        assert_eq!((name.as_str(), &request[..], &proof[..]), ("pump-7", &b"0\0"[..], &[1, 2][..]));
        let bad = StatusCode::BAD_REQUEST;
        for wrong in [enrolment("../ca", "MAA="), enrolment("pump-7", "!")] {
            assert_eq!(read(Route::Enrol, &json, &wrong).await.unwrap_err(), bad);
        }
        // What a web page can have a browser send without asking first.
        let refused = read(Route::Enrol, &[], &good).await.unwrap_err();
        assert_eq!(refused, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}

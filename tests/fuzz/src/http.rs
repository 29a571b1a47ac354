//! Requests over HTTP: parsed, routed and read as the node does it, as far as that goes without asking
//! anybody. Whatever comes has its answer at once.

use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use millpond_http::{Asked, Need, Route, credentials, names_local_host, router};
use tower_service::Service;

/// Small, so that the fuzzer gets beyond it.
const MODULE_BYTES_MAX: usize = 4096;
const HEADERS_MAX: usize = 100;

/// A request as it comes on a connection.
pub fn run(data: &[u8]) {
    let Some(request) = parsed(data) else { return };
    if let Some(token) = credentials(request.headers()) {
        // The form of SASL PLAIN: nothing, a name, a password, which may hold what a name may not.
        assert!(token.starts_with(b"\0") && token[1..].contains(&0), "{token:?}");
    }
    let _ = names_local_host(request.headers().get(header::HOST));
    static ROUTER: OnceLock<Router> = OnceLock::new();
    let mut router = ROUTER.get_or_init(|| router(Route::ALL, read)).clone();
    let answer = router.call(request).now_or_never().expect("nobody is asked, so nothing waits");
    let status = answer.expect("a router has no errors").status();
    assert!(status.is_success() || status.is_client_error(), "{status}");
}

async fn read(route: Route, request: Request) -> Response {
    match route.read(request, MODULE_BYTES_MAX).await {
        Ok(asked) => {
            checked(route, &asked);
            StatusCode::OK.into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// What came of a request is what its route is for, and no more than it may be.
fn checked(route: Route, asked: &Asked) {
    match asked {
        Asked::Deploy { module, description, .. } => {
            assert!(!module.is_empty() && module.len() <= MODULE_BYTES_MAX);
            assert!(!description.name.is_empty() && !description.topics.is_empty());
            assert_ne!(route.needs(), Need::Nothing);
        }
        Asked::Enrol { .. } | Asked::Renew { .. } => assert!(route.is_for_devices()),
        Asked::Alter(..) | Asked::Delete(_) | Asked::Pause(_) | Asked::Resume(_) => {
            assert_ne!(route.needs(), Need::Nothing);
        }
        _ => {}
    }
}

/// By the parser of the server that the node uses; the body is what stands behind the head.
fn parsed(data: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(data).ok()? else { return None };
    let mut request = Request::builder().method(head.method?).uri(head.path?);
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        request = request.header(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    request.body(Body::from(data[length..].to_vec())).ok()
}

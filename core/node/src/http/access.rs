//! Who may ask what over HTTP: the permission of each route stands in the table of routes, and the rules
//! are those of the Kafka listeners. Who wants to be somebody sends his name and password (RFC 7617),
//! checked as SASL PLAIN is. Must never let a route through that the table does not know.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millpond_engine::{LoginRefused, Principal};
use millpond_wire::permission::Resource;

use super::listener::Bounded;
use super::routes::{ROUTES, Route};
use super::secure::Secure;
use super::{HttpState, Problem};
use crate::net::Gateway;
use crate::serve::Question;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, Secure>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Secure>) -> Self {
        Self(*stream.remote_addr())
    }
}

tokio::task_local! {
    /// Whose request a handler serves, and from where.
    static ASKING: (Principal, String);
}

/// Who asks what this task serves.
pub(super) fn asking() -> Option<(Principal, String)> {
    ASKING.try_with(Clone::clone).ok()
}

/// Serves a request of who may have it.
pub(super) async fn ask(state: &HttpState, request: Request, next: Next) -> Response {
    let asked = Asked::of(&request);
    match admitted(state, asked).await {
        Ok(by) => ASKING.scope(by, next.run(request)).await,
        Err(refusal) => refusal,
    }
}

/// What of a request decides.
struct Asked {
    host: String,
    /// Name and password, if any were sent.
    token: Option<Vec<u8>>,
    method: Method,
    /// As the table has it.
    path: Option<MatchedPath>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let caller = request.extensions().get::<ConnectInfo<Caller>>();
        Self {
            host: caller.map(|at| at.0.0.ip().to_canonical().to_string()).unwrap_or_default(),
            token: credentials(request.headers()),
            method: request.method().clone(),
            path: request.extensions().get::<MatchedPath>().cloned(),
        }
    }
}

async fn admitted(state: &HttpState, asked: Asked) -> Result<(Principal, String), Response> {
    let host = asked.host;
    let user = match asked.token {
        None => None,
        Some(token) => match state.wiring.logins.password(&token).await {
            Ok(user) => Some(user),
            Err(why) => {
                let listener = u16::MAX;
                let (from, why) = (host, format!("HTTP: {why}"));
                state.engine.refused(LoginRefused { host: from, listener, why }).await;
                return Err(unproved("the name or the password is wrong"));
            }
        },
    };
    let principal = Principal::user(user.as_deref());
    let route = match asked.path.as_ref().map(MatchedPath::as_str) {
        // What is not there is told to anybody, and so is what there is.
        None | Some("/") => return Ok((principal, host)),
        Some(path) => route(&asked.method, path),
    };
    let Some(route) = route else {
        let message = "this path takes no such method; GET / says which";
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, message).into_response());
    };
    let Some((operation, name)) = route.needs else { return Ok((principal, host)) };
    let (resource, asker) = (Resource::Cluster, principal.clone());
    let question = Question { principal: asker, host: host.clone(), operation, resource, name };
    match state.engine.may(question).await {
        Err(_) => Err(Problem::stopping().into_response()),
        Ok(None | Some(true)) => Ok((principal, host)),
        Ok(Some(false)) => {
            state.counters.http_denials.fetch_add(1, Relaxed);
            if user.is_none() {
                return Err(unproved("say who you are (--user)"));
            }
            let message =
                format!("{principal} lacks the permission {operation:?} on Cluster:{name}");
            Err(Problem::new(StatusCode::FORBIDDEN, message).into_response())
        }
    }
}

/// The entry of the table; HEAD is asked as GET is.
fn route(method: &Method, path: &str) -> Option<&'static Route> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ROUTES.iter().find(|route| route.path == path && route.method == method)
}

/// Name and password as SASL PLAIN sends them.
fn credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let encoded = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    // A header that says nothing that is known is a name that is not known.
    let decoded = encoded.and_then(|(_, encoded)| BASE64.decode(encoded.trim()).ok());
    let decoded = decoded.unwrap_or_default();
    let colon = decoded.iter().position(|byte| *byte == b':').unwrap_or(decoded.len());
    let (user, password) = decoded.split_at(colon);
    Some([b"\0", user, b"\0", password.get(1..).unwrap_or_default()].concat())
}

fn unproved(why: &str) -> Response {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, why).into_response();
    ([(header::WWW_AUTHENTICATE, "Basic realm=\"millpond\", charset=\"UTF-8\"")], problem)
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_a_name_and_a_password_in_the_form_of_plain() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            credentials(&headers)
        };
        assert_eq!(credentials(&HeaderMap::new()), None);
        let token = BASE64.encode("ann:a:b");
        assert_eq!(of(&format!("basic {token}")).unwrap(), b"\0ann\0a:b");
        for nothing in ["Bearer x", "Basic", "Basic !!"] {
            assert_eq!(of(nothing).unwrap(), b"\0\0", "{nothing}: somebody who is not known");
        }
    }

    #[test]
    fn every_route_that_changes_something_or_tells_of_records_needs_a_permission() {
        // A device that enrols or renews proves itself in the request; the authority is public.
        let devices = ["/v1/devices/ca", "/v1/devices/enrol", "/v1/devices/renew"];
        let free = [&["/healthz", "/readyz", "/v1/openapi.json"], &devices[..]].concat();
        for route in &ROUTES {
            assert_eq!(route.needs.is_none(), free.contains(&route.path), "{}", route.path);
        }
    }
}

//! Who may ask what over HTTP: the permission of each route stands in the table of routes, and the rules
//! are those of the Kafka listeners. Who wants to be somebody sends his name and password (RFC 7617),
//! checked as SASL PLAIN is. Must never let anybody through before the rules have spoken.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use millpond_engine::{LoginRefused, Principal};
use millpond_http::{Need, Problem, Route, credentials};
use millpond_wire::permission::Resource;

use super::HttpState;
use super::listener::Bounded;
use super::secure::Secure;
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

/// Who asks, and from where.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) principal: Principal,
    pub(super) host: String,
}

/// What of a request's head decides.
pub(super) struct Head {
    host: String,
    /// Name and password, if any were sent.
    token: Option<Vec<u8>>,
}

impl Head {
    pub(super) fn of(request: &Request) -> Self {
        let caller = request.extensions().get::<ConnectInfo<Caller>>();
        Self {
            host: caller.map(|at| at.0.0.ip().to_canonical().to_string()).unwrap_or_default(),
            token: credentials(request.headers()),
        }
    }
}

/// Who asks on this route, if he may.
pub(super) async fn admitted(
    state: &HttpState,
    route: Route,
    head: Head,
) -> Result<Asker, Response> {
    let host = head.host;
    let user = match head.token {
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
    let (operation, name) = match route.needs() {
        Need::Nothing => return Ok(Asker { principal, host }),
        Need::Cluster(operation, name) => (operation, name),
    };
    let (resource, asker) = (Resource::Cluster, principal.clone());
    let question = Question { principal: asker, host: host.clone(), operation, resource, name };
    match state.engine.may(question).await {
        Err(_) => Err(Problem::stopping().into_response()),
        Ok(None | Some(true)) => Ok(Asker { principal, host }),
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

fn unproved(why: &str) -> Response {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, why).into_response();
    ([(header::WWW_AUTHENTICATE, "Basic realm=\"millpond\", charset=\"UTF-8\"")], problem)
        .into_response()
}

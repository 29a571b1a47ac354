//! Asking a node over HTTP, for what is not Kafka's business. Small bodies, bounded times.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, RequestBuilder};

use super::{CliError, session};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A node's HTTP address.
pub(crate) struct HttpClient {
    agent: Agent,
    base: String,
    /// What proves who asks, as a header.
    login: Option<String>,
}

/// Who logs in over HTTP.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct HttpLogin {
    /// Who to log in as, where rules of access are kept.
    #[arg(long = "user", id = "login-user", global = true, value_name = "NAME")]
    user: Option<String>,
    /// File with the password for --user in its first line [default: the variable
    /// MILLPOND_PASSWORD].
    #[arg(long, global = true, value_name = "FILE", requires = "login-user")]
    user_password_file: Option<PathBuf>,
}

impl HttpClient {
    pub(crate) fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(90)))
            .timeout_connect(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .build();
        let base = base.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        Self { agent: config.into(), base, login: None }
    }

    /// The same for who logs in, if somebody does (RFC 7617). Only on this machine: HTTP is not encrypted.
    pub(super) fn logged_in(mut self, login: &HttpLogin) -> Result<Self, CliError> {
        let Some(user) = &login.user else { return Ok(self) };
        if !is_this_machine(&self.base) {
            return Err(CliError::usage(format!(
                "a password is not sent to {}: HTTP shows it to everybody on the way",
                self.base
            ))
            .hint("run the command on the node itself, or through a tunnel: ssh -L 9644:localhost:9644"));
        }
        if user.contains(':') {
            return Err(CliError::usage("over HTTP the name of a user has no colon"));
        }
        let password = session::password(login.user_password_file.as_deref())?;
        let token = BASE64.encode([user.as_bytes(), b":", &password].concat());
        self.login = Some(format!("Basic {token}"));
        Ok(self)
    }

    fn with_login<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.login {
            Some(login) => request.header("authorization", login),
            None => request,
        }
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.with_login(self.agent.get(self.url(path))).call())
    }

    /// An answer as it is.
    pub(crate) fn get_text(&self, path: &str) -> Result<String, CliError> {
        self.text(self.with_login(self.agent.get(self.url(path))).call())
    }

    pub(crate) fn delete(&self, path: &str) -> Result<(), CliError> {
        self.done(self.with_login(self.agent.delete(self.url(path))).call())
    }

    pub(crate) fn post(&self, path: &str) -> Result<(), CliError> {
        self.done(self.with_login(self.agent.post(self.url(path))).send_empty())
    }

    pub(crate) fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        change: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(change).map_err(|e| CliError::failed(e.to_string()))?;
        let request = self.with_login(self.agent.patch(self.url(path)));
        let request = request.header("content-type", "application/json");
        self.json(request.send(&body))
    }

    pub(crate) fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        header: (&str, &str),
        body: &[u8],
    ) -> Result<T, CliError> {
        let request = self.with_login(self.agent.post(self.url(path)));
        self.json(request.header(header.0, header.1).send(body))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn json<T: DeserializeOwned>(
        &self,
        sent: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, CliError> {
        let text = self.text(sent)?;
        serde_json::from_str(&text).map_err(|e| {
            CliError::failed(format!(
                "{} answered something else than a Millpond node: {e}",
                self.base
            ))
        })
    }

    fn done(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<(), CliError> {
        self.text(sent).map(|_| ())
    }

    /// The body of a good answer; the node's own words for a bad one.
    fn text(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<String, CliError> {
        let mut response = sent.map_err(|e| {
            CliError::failed(format!("cannot reach {}: {e}", self.base))
                .hint("is `millpond serve` running there? --http names another address")
                .for_now()
        })?;
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|e| CliError::failed(format!("{}: {e}", self.base)).for_now())?;
        match response.status() {
            status if status.is_success() => Ok(text),
            status => Err(refused(status, &text)),
        }
    }
}

fn refused(status: StatusCode, text: &str) -> CliError {
    let said = serde_json::from_str::<serde_json::Value>(text).ok();
    let said = said.as_ref().and_then(|v| v.get("error")).and_then(|e| e.as_str());
    let error = CliError::failed(
        said.map_or_else(|| format!("the node answered {status}: {}", text.trim()), str::to_owned),
    );
    match status {
        StatusCode::SERVICE_UNAVAILABLE => error.for_now(),
        StatusCode::UNAUTHORIZED => error.hint("--user and --user-password-file say who you are"),
        _ => error,
    }
}

/// Whether what is sent there stays on this machine.
fn is_this_machine(base: &str) -> bool {
    let host = base.split_once("://").map_or(base, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return false;
    }
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let address: Option<IpAddr> = name.parse().ok();
    name.eq_ignore_ascii_case("localhost")
        || address.is_some_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_own_words_are_passed_on() {
        let error = refused(StatusCode::BAD_REQUEST, r#"{"error":"no such transform"}"#);
        assert_eq!(error.to_string(), "no such transform");
        assert!(refused(StatusCode::BAD_GATEWAY, "oops").to_string().contains("502"));
    }

    #[test]
    fn a_password_is_only_sent_where_nobody_else_reads_it() {
        for here in ["http://127.0.0.1:9644", "http://localhost", "http://[::1]:1/", "127.0.0.2:80"]
        {
            assert!(is_this_machine(here), "{here}");
        }
        for there in [
            "http://10.0.0.7:9644",
            "http://localhost.evil.example",
            "http://127.0.0.1@evil.example/",
            "http://[2001:db8::1]:9644",
            "http://evil.example/?localhost",
        ] {
            assert!(!is_this_machine(there), "{there}");
        }
        let login = HttpLogin { user: Some("ann".to_owned()), user_password_file: None };
        let refused = HttpClient::new("10.0.0.7:9644").logged_in(&login);
        assert!(refused.is_err_and(|error| error.to_string().contains("not sent")));
    }
}

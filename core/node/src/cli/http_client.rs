//! Asking a node over HTTP, for what is not Kafka's business. Small bodies, bounded times.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::CliError;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A node's HTTP address.
pub(crate) struct HttpClient {
    agent: Agent,
    base: String,
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
        Self { agent: config.into(), base }
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.agent.get(self.url(path)).call())
    }

    /// An answer as it is.
    pub(crate) fn get_text(&self, path: &str) -> Result<String, CliError> {
        self.text(self.agent.get(self.url(path)).call())
    }

    pub(crate) fn delete(&self, path: &str) -> Result<(), CliError> {
        self.done(self.agent.delete(self.url(path)).call())
    }

    pub(crate) fn post(&self, path: &str) -> Result<(), CliError> {
        self.done(self.agent.post(self.url(path)).send_empty())
    }

    pub(crate) fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        change: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(change).map_err(|e| CliError::failed(e.to_string()))?;
        let request = self.agent.patch(self.url(path)).header("content-type", "application/json");
        self.json(request.send(&body))
    }

    pub(crate) fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        header: (&str, &str),
        body: &[u8],
    ) -> Result<T, CliError> {
        self.json(self.agent.post(self.url(path)).header(header.0, header.1).send(body))
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
        _ => error,
    }
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
}

//! What a person sees when a node is ready: where it is reached, where its data is, whom to trust.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millpond_cluster::NodeIdentity;

use super::engine_thread::Opened;
use super::listeners::Bound;
use crate::cli::{self, CliError};

/// What is known before the data is open.
pub(super) struct Summary {
    cluster: String,
    node: i32,
    data_dir: PathBuf,
    listeners: Vec<String>,
    http: Option<SocketAddr>,
    /// Where devices enrol.
    https: Option<SocketAddr>,
    certificate: Option<String>,
}

impl Summary {
    pub(super) fn new(
        identity: &NodeIdentity,
        data_dir: &Path,
        bound: &[Bound],
        http: Option<SocketAddr>,
    ) -> Self {
        let development = bound.iter().filter_map(|b| b.tls.as_ref()).find(|tls| tls.development);
        Self {
            cluster: identity.cluster_id.to_string(),
            node: identity.node_id.0,
            data_dir: data_dir.to_owned(),
            listeners: bound.iter().map(listener).collect(),
            http,
            https: None,
            certificate: development.map(|tls| tls.fingerprint.to_string()),
        }
    }

    pub(super) fn with_devices(self, https: Option<SocketAddr>) -> Self {
        Self { https, ..self }
    }

    fn text(&self, opened: &Opened, startup: Duration) -> String {
        let mut out = String::new();
        let mut line = |label: &str, text: &str| {
            let _ = writeln!(out, "  {label:<12}{text}");
        };
        line("data", &format!("{} ({})", self.data_dir.display(), opened.backend));
        for listener in &self.listeners {
            line("kafka", listener);
        }
        if let Some(http) = self.http {
            line("http", &format!("http://{http} (metrics, health, transforms)"));
        }
        if let Some(https) = self.https {
            line("devices", &format!("https://{https} (enrol, renew)"));
        }
        if let Some(certificate) = &self.certificate {
            line("certificate", "for development, made at the first start; its SHA-256 is");
            line("", certificate);
        }
        let torn = if opened.torn_tail { ", an unfinished write was dropped" } else { "" };
        let recovered = format!(
            "{} topics, {} transforms; {} journal entries replayed in {} ms{torn}",
            opened.topics,
            opened.transforms,
            opened.entries_replayed,
            opened.recovery.as_millis()
        );
        line("recovered", &recovered);
        let version = env!("CARGO_PKG_VERSION");
        let head = format!("Millpond {version}, node {} of cluster {}\n", self.node, self.cluster);
        format!("{head}{out}ready in {} ms\n", startup.as_millis())
    }
}

/// Prints the banner to standard output; its last line begins with "ready".
pub(super) fn print(summary: &Summary, opened: &Opened, startup: Duration) -> Result<(), CliError> {
    cli::print(&summary.text(opened, startup))
}

fn listener(bound: &Bound) -> String {
    let mut ways = Vec::new();
    if bound.tcp.is_some() {
        ways.push(if bound.tcp_tls { "tls" } else { "tcp" });
    }
    if bound.udp.is_some() {
        ways.push("quic");
    }
    let mut text = format!("{} ({})", bound.address, ways.join(", "));
    if bound.advertised.to_string() != bound.address.to_string() {
        let _ = write!(text, ", advertised as {}", bound.advertised);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_every_address_and_ends_with_ready() {
        let summary = Summary {
            cluster: "abc".into(),
            node: 1,
            data_dir: "/data".into(),
            listeners: vec!["127.0.0.1:9092 (tcp, quic)".into()],
            http: Some(([127, 0, 0, 1], 9644).into()),
            https: Some(([0, 0, 0, 0], 9645).into()),
            certificate: Some("AA:BB".into()),
        };
        let opened = Opened {
            backend: "io_uring",
            entries_replayed: 12,
            torn_tail: true,
            recovery: Duration::from_millis(3),
            topics: 2,
            transforms: 0,
        };
        let text = summary.text(&opened, Duration::from_millis(45));
        for part in [
            "127.0.0.1:9092 (tcp, quic)",
            "http://127.0.0.1:9644",
            "https://0.0.0.0:9645",
            "/data (io_uring)",
            "AA:BB",
            "12 journal",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.lines().last().unwrap().starts_with("ready in 45 ms"));
    }
}

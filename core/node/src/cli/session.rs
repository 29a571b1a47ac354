//! What the commands that talk to a broker share: a small runtime, a client, and errors that say
//! what to try.

use std::future::Future;
use std::path::Path;

use millpond_client::{
    Admin, Client, ClientCertificate, ClientConfig, ClientError, ConnectError, Login, Trust,
};

use super::{Bootstrap, CliError, user};

const PASSWORD_VARIABLE: &str = "MILLPOND_PASSWORD";

/// Runs a command to its end.
pub(super) fn block_on(
    command: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(command);
    // A read of standard input may still be waiting on a thread of its own.
    runtime.shutdown_background();
    result
}

impl Bootstrap {
    /// The client's settings.
    pub(crate) fn config(&self) -> Result<ClientConfig, CliError> {
        let config = ClientConfig::new(&self.bootstrap)
            .map_err(|e| CliError::usage(format!("--bootstrap: {e}")))?;
        let trust = match (&self.fingerprint, &self.ca) {
            (Some(fingerprint), _) => Trust::fingerprint(fingerprint)
                .map_err(|e| CliError::usage(format!("--fingerprint: {e}")))?,
            (None, Some(ca)) => Trust::CaPem(file("--ca", ca)?),
            (None, None) => Trust::Nothing,
        };
        let mut config = config.trust(trust).client_id("millpond-cli");
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.private_key) {
            let shown = ClientCertificate::new(
                file("--certificate", certificate)?,
                file("--private-key", key)?,
            );
            config = config.certificate(shown);
        }
        Ok(match &self.login {
            Some(user) => {
                let password = password(self.user_password_file.as_deref())?;
                config.login(Login::new(self.login_mechanism, user, password))
            }
            None => config,
        })
    }

    /// A client that has reached the broker.
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        Client::connect(self.config()?).await.map_err(|e| self.explain(&e))
    }

    /// A client for administration that has reached the broker.
    pub(crate) async fn admin(&self) -> Result<Admin, CliError> {
        Ok(Admin::new(self.connect().await?))
    }

    /// An error of the client with what may help.
    pub(crate) fn explain(&self, error: &ClientError) -> CliError {
        let failed = CliError::failed(error.to_string());
        match error {
            ClientError::Connect(error) => match hint(error) {
                Some(hint) => failed.hint(hint),
                None => failed,
            },
            _ => failed,
        }
    }
}

/// Of who logs in: never from the command line, which others can see.
pub(super) fn password(file: Option<&Path>) -> Result<Vec<u8>, CliError> {
    match (file, std::env::var_os(PASSWORD_VARIABLE)) {
        (Some(file), _) => user::read_password(file, "--user-password-file"),
        (None, Some(set)) => user::first_line(std::os::unix::ffi::OsStringExt::into_vec(set)),
        (None, None) => Err(CliError::usage(format!(
            "--user needs a password: --user-password-file, or the variable {PASSWORD_VARIABLE}"
        ))),
    }
}

fn file(option: &str, path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|e| CliError::usage(format!("{option} {}: {e}", path.display())))
}

fn hint(error: &ConnectError) -> Option<&'static str> {
    match error {
        ConnectError::Io { .. } | ConnectError::Timeout { .. } => {
            Some("is `millpond serve` running there? --bootstrap names another address")
        }
        ConnectError::Trust { .. } => Some(
            "give --fingerprint with the SHA-256 that the node prints at its start, or --ca with a \
             PEM file",
        ),
        ConnectError::Handshake { .. } => {
            Some("does the listener speak TLS or QUIC, and is it the trusted certificate?")
        }
        ConnectError::Negotiation { .. } => Some(
            "is it the Kafka port (9092), and not HTTP (9644) or a TLS port? for TLS write \
             tls://HOST:PORT",
        ),
        ConnectError::Login { .. } => Some(
            "does the listener take it (`sasl`), and is it the right password? see --login-mechanism",
        ),
        ConnectError::NoBroker { last, .. } => hint(last),
        _ => None,
    }
}

//! What a transport alone would do: takes the bytes of requests, looks at nothing but their lengths, and answers
//! each with the same few bytes. A process of its own, so that its processor time is its own; it ends with the
//! process that started it. Must never do what a broker does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use clap::ValueEnum;
use millpond_tests::authority::Authority;
use millpond_wire::frame::encode_response;
use millpond_wire::messages::{ProduceResponse, Response};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::frames::PRODUCE_VERSION;
use super::ways::udp_socket;
use crate::error::{BenchError, Context, Outcome};
use crate::procfs::ProcessStat;

/// As large as what the broker reads at a time.
const READ_BYTES: usize = 64 << 10;
/// As the broker offers.
const ALPN: &[u8] = b"kafka";

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// quinn, as it comes.
    Quic,
    /// rustls over TCP.
    Tls,
}

/// A sink that runs.
pub(crate) struct Sink {
    child: Child,
    address: SocketAddr,
}

impl Sink {
    /// Starts it.
    pub(crate) fn start(transport: Transport) -> Outcome<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let word = match transport {
            Transport::Quic => "quic",
            Transport::Tls => "tls",
        };
        let mut command = Command::new(program);
        command.args(["sink", word]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the sink")?;
        let mut line = String::new();
        let out = child.stdout.take().context("the sink's output")?;
        BufReader::new(out).read_line(&mut line).context("the sink's address")?;
        let address = line.trim().parse().context("the sink's address")?;
        Ok(Self { child, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time that it took so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        Ok(ProcessStat::of(self.child.id())?.cpu_seconds())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Its input ends, and with that it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Is the sink, until its input ends.
pub(crate) fn run(transport: Transport) -> Outcome<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("a runtime for the sink")?.block_on(async {
        match transport {
            Transport::Quic => over_quic().await,
            Transport::Tls => over_tls().await,
        }
    })
}

fn say(address: SocketAddr) -> Outcome<()> {
    println!("{address}");
    std::io::stdout().flush().context("saying the address")
}

fn tls() -> Outcome<rustls::ServerConfig> {
    let shown = Authority::new().sign("sink", None);
    let certificate =
        CertificateDer::from_pem_slice(shown.certificate.as_bytes()).context("a certificate")?;
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).context("a key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS")?;
    let mut tls = builder
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("the sink's certificate")?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(tls)
}

async fn over_quic() -> Outcome<()> {
    let crypto = QuicServerConfig::try_from(tls()?).context("TLS for QUIC")?;
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    let (settings, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    let endpoint = Endpoint::new(settings, Some(config), udp_socket()?, runtime);
    let endpoint = endpoint.context("a QUIC endpoint")?;
    say(endpoint.local_addr().context("the sink's address")?)?;
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await.context("a QUIC handshake")?;
            // A stream for each line: more connections than streams are asked for.
            while let Ok((write, read)) = connection.accept_bi().await {
                tokio::spawn(swallow(read, write));
            }
            Outcome::Ok(())
        });
    }
    Ok(())
}

async fn over_tls() -> Outcome<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls()?));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a socket")?;
    say(listener.local_addr().context("the sink's address")?)?;
    loop {
        let (stream, _) = listener.accept().await.context("a connection")?;
        stream.set_nodelay(true).context("a socket's option")?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await.context("a TLS handshake")?;
            let (read, write) = tokio::io::split(stream);
            swallow(read, write).await
        });
    }
}

/// Answers each frame that has come whole.
async fn swallow(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> Outcome<()> {
    let answer = Response::Produce(ProduceResponse::default());
    let answer = encode_response(PRODUCE_VERSION, 0, &answer).context("an answer")?.concat();
    let mut lengths = Lengths::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = read.read(&mut buffer).await.context("receiving")?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..lengths.pass(buffer.get(..count).unwrap_or_default())? {
            write.write_all(&answer).await.context("answering")?;
        }
        write.flush().await.context("answering")?;
    }
}

/// Where frames end in what passes.
#[derive(Debug, Default)]
struct Lengths {
    /// The part of a length that has come.
    head: Vec<u8>,
    /// Bytes of the frame that are still to come.
    left: usize,
}

impl Lengths {
    /// How many frames end in these bytes.
    fn pass(&mut self, mut bytes: &[u8]) -> Outcome<usize> {
        let mut ended = 0;
        while !bytes.is_empty() {
            if self.left == 0 {
                let (first, rest) = bytes.split_first().context("a byte")?;
                self.head.push(*first);
                bytes = rest;
                let Ok(length) = <[u8; 4]>::try_from(self.head.as_slice()) else { continue };
                self.head.clear();
                self.left = u32::from_be_bytes(length) as usize;
                if self.left == 0 {
                    return Err(BenchError::new("a frame", "of no bytes"));
                }
                continue;
            }
            let count = self.left.min(bytes.len());
            self.left -= count;
            bytes = bytes.get(count..).unwrap_or_default();
            ended += usize::from(self.left == 0);
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let frames: Vec<u8> = [1_u32, 300, 7]
            .into_iter()
            .flat_map(|bytes| [bytes.to_be_bytes().to_vec(), vec![9; bytes as usize]].concat())
            .collect();
        for step in 1..frames.len() {
            let mut lengths = Lengths::default();
            let ended =
                frames.chunks(step).map(|chunk| lengths.pass(chunk).unwrap()).sum::<usize>();
            assert_eq!(ended, 3, "in steps of {step}");
        }
    }
}

//! A broker in one thread, driven by hand: bytes as off a socket go in, what goes to the socket comes
//! out, and nothing else happens in between. Engine, journal and segments are the product's own; the
//! device is `device.rs`, the clock stands still. Must never do work of its own on records.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use millpond_engine::{Effect, EngineConfig, Event, Now, Peer, RequestId, SessionId};
use millpond_storage::{DurableEngine, FatalDiskError, Shell, StorageConfig};
use millpond_wire::frame::{FrameDecoder, RequestHeader, decode_request, encode_response};
use millpond_wire::messages::Response;

use crate::device::Device;
use crate::messages;

/// How often the broker is polled for one answer; a few times are enough.
const POLLS_MAX: usize = 1_000;

type Replies = Rc<RefCell<VecDeque<(RequestId, Option<Response>)>>>;
type Running = Pin<Box<dyn Future<Output = Result<(), FatalDiskError>>>>;

/// Keeps the replies. Its clock stands still: nothing becomes due.
struct Quiet {
    replies: Replies,
}

impl Shell for Quiet {
    fn now(&self) -> Now {
        Now { mono_ms: 1_000, wall_ms: 1_763_700_000_000 }
    }

    fn sleep_until_ms(&self, _: u64) -> LocalBoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn effect(&self, effect: Effect) {
        if let Effect::Reply { id, response } = effect {
            self.replies.borrow_mut().push_back((id, response));
        }
    }
}

/// A broker and one connection to it.
pub struct Broker {
    engine: Rc<DurableEngine<Device, Quiet>>,
    running: Running,
    replies: Replies,
    decoder: FrameDecoder,
    last_id: u64,
}

/// How a broker is set up for a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Bytes that are kept in memory before they go to segments, and so for how long nothing but the
    /// journal is written.
    pub tail_bytes: usize,
    /// Whether what is in segments stays in memory too.
    pub retains: bool,
    /// Whether small batches are packed on their way to segments.
    pub packs: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { tail_bytes: 64 << 20, retains: true, packs: true }
    }
}

impl Broker {
    /// A new broker with one topic.
    ///
    /// # Panics
    /// If it does not start, which is a fault of the broker.
    #[must_use]
    pub fn new(setup: Setup, topic: &str, partitions: i32) -> Self {
        let mut storage = StorageConfig::new(7);
        storage.tail_bytes = setup.tail_bytes;
        storage.packs = setup.packs;
        let mut config = EngineConfig::default();
        if !setup.retains {
            config.tail_retain_bytes = 0;
        }
        let replies = Replies::default();
        let shell = Quiet { replies: Rc::clone(&replies) };
        let opening = DurableEngine::open(Device::default(), storage, config, 7, shell);
        let engine = at_once(opening).expect("a broker on an empty device starts");
        let kept = Rc::clone(&engine);
        let running = Box::pin(async move { kept.run().await });
        let mut decoder = FrameDecoder::for_requests();
        decoder.establish();
        let mut broker = Self { engine, running, replies, decoder, last_id: 0 };
        messages::expect_created(broker.answer(&messages::create_topic(topic, partitions)));
        broker
    }

    /// Takes what a peer sent, in reads of at most `read_bytes`, and puts whole frames into
    /// `frames`.
    ///
    /// # Panics
    /// If these are no frames.
    pub fn receive(&mut self, sent: &[u8], read_bytes: usize, frames: &mut Vec<Bytes>) {
        let mut rest = sent;
        while !rest.is_empty() {
            rest = read_from_socket(&mut self.decoder, rest, read_bytes);
            while let Some(frame) = self.decoder.next_frame().expect("frames of our own") {
                frames.push(frame);
            }
        }
    }

    /// Decodes a frame and has the engine decide on it; the answer comes later.
    ///
    /// # Panics
    /// If it is no request.
    pub fn submit(&mut self, frame: Bytes) -> RequestHeader {
        let (header, request) = decode_request(frame).expect("a request of our own");
        self.last_id += 1;
        let (id, version) = (RequestId(self.last_id), header.version);
        let peer = Peer { session: SessionId(1), ..Peer::default() };
        self.engine.submit(Event::Request { id, peer, request, version });
        header
    }

    /// Lets the broker write, and read, until the next request is answered: its response as it
    /// goes to the socket.
    ///
    /// # Panics
    /// If no answer comes.
    pub fn respond(&mut self, header: &RequestHeader) -> Vec<Bytes> {
        for _ in 0..POLLS_MAX {
            let reply = self.replies.borrow_mut().pop_front();
            if let Some((_, response)) = reply {
                let response = response.expect("every request here wants an answer");
                return encode_response(header.version, header.correlation_id, &response)
                    .expect("a response fits a frame");
            }
            self.poll();
        }
        panic!("no answer came after {POLLS_MAX} polls");
    }

    /// Everything that is to be done for now: journal, checkpoints, packing.
    pub fn settle(&mut self) {
        (0..POLLS_MAX).for_each(|_| self.poll());
    }

    fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(ended) = self.running.as_mut().poll(&mut context) {
            panic!("the broker stopped: {ended:?}");
        }
    }

    /// The answer to one frame that arrives at once, its length prefix included.
    ///
    /// # Panics
    /// As the steps that it is made of.
    pub fn answer(&mut self, sent: &[u8]) -> Vec<Bytes> {
        let mut frames = Vec::with_capacity(1);
        self.receive(sent, usize::MAX, &mut frames);
        let frame = frames.pop().expect("one whole frame");
        let header = self.submit(frame);
        self.respond(&header)
    }
}

/// As a kernel copies into the buffer of a read. Out of line: this copy is the socket's and not the
/// broker's.
#[inline(never)]
fn read_from_socket<'a>(decoder: &mut FrameDecoder, sent: &'a [u8], most: usize) -> &'a [u8] {
    let space = decoder.space();
    let room = space.capacity() - space.len();
    let (read, rest) = sent.split_at(sent.len().min(room).min(most));
    space.extend_from_slice(read);
    rest
}

/// The result of a future that waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
    }
    panic!("it waits for something")
}

//! The thread between two namespaces: reads packets from the TUN interface of each, and writes them
//! to the other one when the links say so. It decides nothing itself.

use std::sync::Mutex;
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tun::Tun;

use super::link::{Link, Tally};
use super::nat::Nat;
use super::weather::Weather;
use super::{DEVICE_ADDRESS, GATEWAY_ADDRESS, Namespace, PathError};

/// What fits into a packet.
const MTU: i32 = 1_500;
/// Packets that are read from one side before the other one has its turn.
const TURN: usize = 64;
/// How long opening may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the thread is told.
pub(super) enum Order {
    /// The translator forgets every flow.
    Rebind,
    /// The weather changes, to the gateway and from it.
    Weather(Weather, Weather),
}

/// The thread; it ends when this is dropped.
pub(super) struct Forwarder {
    orders: Option<UnboundedSender<Order>>,
    tallies: Arc<Mutex<[Tally; 2]>>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Opens a TUN interface in each namespace and starts the thread.
    pub(super) fn start(
        device: Arc<Namespace>,
        gateway: Arc<Namespace>,
        weather: [Weather; 2],
        seed: u64,
    ) -> Result<Forwarder, PathError> {
        let (orders, taken) = unbounded_channel();
        let tallies = Arc::new(Mutex::new([Tally::default(); 2]));
        let (tell, opened) = mpsc::channel();
        let shown = Arc::clone(&tallies);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    tell.send(Err(PathError(format!("a runtime: {error}")))).ok();
                    return;
                }
            };
            let _inside = runtime.enter();
            let tuns = open(&device, DEVICE_ADDRESS)
                .and_then(|device| Ok([device, open(&gateway, GATEWAY_ADDRESS)?]));
            match tuns {
                Ok(tuns) => {
                    tell.send(Ok(())).ok();
                    let way = Way::new(tuns, weather, seed);
                    runtime.block_on(way.forward(taken, &shown));
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        };
        let thread = std::thread::Builder::new().name("path".into()).spawn(work);
        let thread = thread.map_err(|error| PathError(format!("a thread: {error}")))?;
        let forwarder = Forwarder { orders: Some(orders), tallies, thread: Some(thread) };
        match opened.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Ok(forwarder),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(PathError(format!("opening the TUN interfaces: {error}"))),
        }
    }

    pub(super) fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            orders.send(order).ok();
        }
    }

    /// What happened to the gateway and from it.
    pub(super) fn tallies(&self) -> [Tally; 2] {
        *self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Puts this thread into a namespace and opens its interface there.
fn open(namespace: &Namespace, address: std::net::Ipv4Addr) -> Result<Tun, PathError> {
    namespace.enter()?;
    let builder = Tun::builder().name("tun0").mtu(MTU).address(address).up();
    let opened = builder.netmask(std::net::Ipv4Addr::BROADCAST).build();
    let tun = opened.map_err(|error| {
        PathError(format!("/dev/net/tun: {error}; it needs root and the kernel's module `tun`"))
    })?;
    namespace.ip(&["link", "set", "tun0", "txqueuelen", "10000"])?;
    namespace.ip(&["route", "add", "default", "dev", "tun0"])?;
    tun.into_iter().next().ok_or_else(|| PathError("/dev/net/tun: no interface".into()))
}

/// What the thread holds. Index 0: from the device to the gateway, 1: back.
struct Way {
    tuns: [Tun; 2],
    links: [Link; 2],
    nat: Nat,
    begun: Instant,
    buffer: Vec<u8>,
}

impl Way {
    fn new(tuns: [Tun; 2], [to, back]: [Weather; 2], seed: u64) -> Way {
        let links = [Link::new(to, seed), Link::new(back, seed.rotate_left(32) ^ 1)];
        Way { tuns, links, nat: Nat::default(), begun: Instant::now(), buffer: vec![0; 65_536] }
    }

    async fn forward(mut self, mut orders: UnboundedReceiver<Order>, shown: &Mutex<[Tally; 2]>) {
        loop {
            self.deliver();
            *shown.lock().unwrap_or_else(PoisonError::into_inner) =
                [self.links[0].tally(), self.links[1].tally()];
            let due = self.links.iter().filter_map(Link::next_due).min();
            let wake = due.map(|due| tokio::time::Instant::from_std(self.begun + due));
            let sleep = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            let [device, gateway] = &self.tuns;
            let (mut one, mut other) = ([0; 2_048], [0; 2_048]);
            let (from, packet) = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => { self.obey(order); continue }
                    None => return,
                },
                read = device.recv(&mut one) => match read {
                    Ok(count) => (0, &mut one[..count]),
                    Err(_) => return,
                },
                read = gateway.recv(&mut other) => match read {
                    Ok(count) => (1, &mut other[..count]),
                    Err(_) => return,
                },
                () = sleep => continue,
            };
            take(from, packet, self.begun.elapsed(), &mut self.nat, &mut self.links);
            self.read_on();
        }
    }

    /// Reads what else is there.
    fn read_on(&mut self) {
        for from in 0..2 {
            for _ in 0..TURN {
                let Ok(count) = self.tuns[from].try_recv(&mut self.buffer) else { break };
                let packet = &mut self.buffer[..count];
                take(from, packet, self.begun.elapsed(), &mut self.nat, &mut self.links);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Rebind => self.nat.rebind(),
            Order::Weather(to, back) => {
                self.links[0].set_weather(to);
                self.links[1].set_weather(back);
            }
        }
    }

    /// Writes what has come through. What is for the device is translated only now: what was under
    /// way when the addresses changed is lost.
    fn deliver(&mut self) {
        let now = self.begun.elapsed();
        while let Some(packet) = self.links[0].take(now) {
            // A full interface loses packets, as any other does.
            self.tuns[1].try_send(&packet).ok();
        }
        while let Some(mut packet) = self.links[1].take(now) {
            if self.nat.incoming(&mut packet) {
                self.tuns[0].try_send(&packet).ok();
            }
        }
    }
}

/// A packet that was read goes on its way, if it is one that gets through at all.
fn take(from: usize, packet: &mut [u8], now: Duration, nat: &mut Nat, links: &mut [Link; 2]) {
    if from == 0 && !nat.outgoing(packet) {
        return;
    }
    links[from].offer(now, packet);
}

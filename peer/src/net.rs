//! The network: one UDP socket for the rendezvous and all peers.
//!
//! [`Net`] executes what a node orders and tells what happened. It decides nothing, tries nothing
//! again by itself, and knows nothing of contacts, of what is in envelopes, or of the store.
//!
//! Each connection has a task of its own, which reports through one bounded channel: when the
//! node lags, readers wait, and QUIC's flow control makes the other side wait.

mod frames;
mod link;
mod rendezvous;
mod session;
mod socket;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, VecDeque};
use std::future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parlor_common::identity::{DeviceKey, DeviceSecret};
use parlor_common::link::ServerAddress;
use parlor_common::wire::peer::PeerFrame;
use parlor_common::wire::rendezvous::Request;
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

pub use self::session::{CallError, ConnectError, ServerSession};
pub use self::socket::OpenError;

use self::link::{FLUSH_TIME, Link};
use self::rendezvous::Asked;
use self::socket::Socket;
use crate::node::input::{LinkId, LocalAddress, NetInput, RequestId, ServerDown};
use crate::node::output::Transmit;

/// Reports that may wait for the node. One may carry the frames of 64 KiB.
const MAX_REPORTS: usize = 64;

/// How often the machine's addresses are looked at.
const ADDRESSES_EVERY: Duration = Duration::from_secs(5);

/// What a network needs to know.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The device's key: how this side is known to the rendezvous and to peers.
    pub device: Arc<DeviceSecret>,
    /// The rendezvous.
    pub server: ServerAddress,
}

/// The network of one device.
#[derive(Debug)]
pub struct Net {
    socket: Socket,
    config: NetConfig,
    /// From the order to connect until the connection is lost or the attempt has failed.
    server: Option<UnboundedSender<Asked>>,
    /// Links that are up, and how frames get to them: not at all when they are being closed.
    links: BTreeMap<LinkId, Option<UnboundedSender<PeerFrame>>>,
    last_link: u64,
    /// What happened and has not been told yet.
    waiting: VecDeque<NetInput>,
    reports: Receiver<Report>,
    reporter: Sender<Report>,
    tasks: JoinSet<()>,
}

/// What a task tells its [`Net`].
#[derive(Debug)]
enum Report {
    /// To be passed on as it is.
    Said(NetInput),
    /// Both sides have said hello.
    Link(Box<Link>),
    /// Frames that arrived together.
    Frames(LinkId, Vec<PeerFrame>),
    /// A link is gone.
    LinkDown(LinkId),
    /// The connection to the rendezvous is gone, or the attempt at one.
    ServerDown(ServerDown),
}

impl Net {
    /// Binds a socket and takes links of peers from now on. Needs a tokio runtime.
    pub fn open(config: NetConfig) -> Result<Self, OpenError> {
        let socket = Socket::bind(Arc::clone(&config.device))?;
        let (reporter, reports) = mpsc::channel(MAX_REPORTS);
        let mut tasks = JoinSet::new();
        tasks.spawn(link::accept_all(socket.listen()?.clone(), reporter.clone()));
        let loopback = socket::is_loopback(&config.server.at.host);
        let local = socket.local_addresses(loopback);
        let waiting = VecDeque::from([NetInput::LocalAddresses(local.clone())]);
        tasks.spawn(watch_addresses(socket.clone(), loopback, local, reporter.clone()));
        let links = BTreeMap::new();
        Ok(Self {
            socket,
            config,
            server: None,
            links,
            last_link: 0,
            waiting,
            reports,
            reporter,
            tasks,
        })
    }

    /// Waits for what happens next. Cancelling loses nothing.
    pub async fn next(&mut self) -> NetInput {
        loop {
            if let Some(input) = self.waiting.pop_front() {
                return input;
            }
            match self.reports.recv().await {
                Some(report) => self.take(report),
                // Cannot be: a sender is kept here.
                None => future::pending().await,
            }
        }
    }

    /// What has happened already, so that a turn takes all that waits.
    pub fn try_next(&mut self) -> Option<NetInput> {
        loop {
            if let Some(input) = self.waiting.pop_front() {
                return Some(input);
            }
            let report = self.reports.try_recv().ok()?;
            self.take(report);
        }
    }

    /// Executes an order; what comes of it is told by [`Net::next`].
    pub fn execute(&mut self, order: Transmit) {
        match order {
            Transmit::ConnectServer => self.connect_server(),
            Transmit::Request { id, request } => self.request(id, request),
            Transmit::Dial { device, address } => self.dial(device, address),
            Transmit::Frame { link, frame } => {
                if let Some(Some(frames)) = self.links.get(&link) {
                    // Fails only where the link has ended, which is about to be told.
                    let _ = frames.send(frame);
                }
            }
            Transmit::CloseLink { link } => {
                if let Some(frames) = self.links.get_mut(&link) {
                    *frames = None;
                }
            }
        }
    }

    /// Lets what was sent on links arrive, for a second at most, and says goodbye to all.
    pub async fn close(mut self) {
        self.links.values_mut().for_each(|frames| *frames = None);
        // Fails where a link is stuck: then it is cut.
        let _ = timeout(FLUSH_TIME, self.links_down()).await;
        self.socket.close().await;
    }

    /// Waits until all links are down; drops what else is reported, new links too.
    async fn links_down(&mut self) {
        while !self.links.is_empty() {
            match self.reports.recv().await {
                Some(Report::LinkDown(link)) => drop(self.links.remove(&link)),
                Some(
                    Report::Said(_) | Report::Link(_) | Report::Frames(..) | Report::ServerDown(_),
                ) => {}
                None => return,
            }
        }
    }

    fn connect_server(&mut self) {
        if self.server.is_some() {
            debug!("already connected to the rendezvous, or trying");
            return;
        }
        let (requests, asked) = mpsc::unbounded_channel();
        self.server = Some(requests);
        let (socket, server) = (self.socket.clone(), self.config.server.clone());
        self.spawn(rendezvous::run(socket, server, asked, self.reporter.clone()));
    }

    fn request(&mut self, id: RequestId, request: Box<Request>) {
        // A closed channel's task has failed all that it held, and takes no more.
        let sent = self.server.as_ref().is_some_and(|asked| asked.send((id, request)).is_ok());
        if !sent {
            self.waiting.push_back(NetInput::RequestFailed { id });
        }
    }

    fn dial(&mut self, device: DeviceKey, address: SocketAddr) {
        let (socket, reporter) = (self.socket.clone(), self.reporter.clone());
        self.spawn(async move {
            let report = match link::dial(&socket, device, address).await {
                Ok(link) => Report::Link(Box::new(link)),
                Err(error) => {
                    debug!(%address, %error, "no link to");
                    Report::Said(NetInput::DialFailed { device, address })
                }
            };
            // Fails only when the program ends.
            let _ = reporter.send(report).await;
        });
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Said(input) => self.waiting.push_back(input),
            Report::Link(link) => self.admit(*link),
            Report::Frames(link, frames) => {
                let frames = frames.into_iter();
                self.waiting.extend(frames.map(|frame| NetInput::LinkFrame { link, frame }));
            }
            Report::LinkDown(link) => {
                self.links.remove(&link);
                self.waiting.push_back(NetInput::LinkDown { link });
            }
            Report::ServerDown(why) => {
                self.server = None;
                self.waiting.push_back(NetInput::ServerDown(why));
            }
        }
    }

    /// Numbers a link and starts it: not before the node hears of it, so that nobody's frames
    /// come in before the node can refuse them.
    fn admit(&mut self, link: Link) {
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let (frames, outgoing) = mpsc::unbounded_channel();
        self.links.insert(id, Some(frames));
        self.waiting.push_back(link.up(id));
        self.spawn(link.run(id, outgoing, self.reporter.clone()));
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(task);
    }
}

/// Tells when the machine's addresses are no longer `known`.
async fn watch_addresses(
    socket: Socket,
    loopback: bool,
    mut known: Vec<LocalAddress>,
    reports: Sender<Report>,
) {
    loop {
        sleep(ADDRESSES_EVERY).await;
        let now = socket.local_addresses(loopback);
        if now != known {
            known.clone_from(&now);
            if reports.send(Report::Said(NetInput::LocalAddresses(now))).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::peer::Hello;

    use super::testing::{Peer, nobody, secret};
    use super::*;

    /// A frame that is told apart by its number.
    fn numbered(version: u32) -> PeerFrame {
        PeerFrame::Hello(Hello { version })
    }

    async fn receive(net: &mut Net, link: LinkId, count: u32) {
        for version in 0..count {
            let expected = NetInput::LinkFrame { link, frame: numbered(version) };
            assert_eq!(net.next().await, expected);
        }
    }

    fn send(net: &mut Net, link: LinkId, count: u32) {
        for version in 0..count {
            net.execute(Transmit::Frame { link, frame: numbered(version) });
        }
    }

    #[tokio::test]
    async fn a_link_tells_who_is_where_and_carries_frames_in_order_both_ways() {
        let (mut alice, mut bob) = (Peer::open(1), Peer::open(2));
        let device = secret(2).public();
        alice.net.execute(Transmit::Dial { device, address: bob.address });
        let up = alice.net.next().await;
        let NetInput::LinkUp { link, device: proved, address, dialed: true, .. } = up else {
            panic!("{up:?}")
        };
        assert_eq!((proved, address), (device, bob.address));
        let up = bob.net.next().await;
        let NetInput::LinkUp { link: back, device, address, dialed: false, .. } = up else {
            panic!("{up:?}")
        };
        assert_eq!((device, address), (secret(1).public(), alice.address));
        send(&mut alice.net, link, 10_000);
        send(&mut bob.net, back, 10_000);
        receive(&mut bob.net, back, 10_000).await;
        receive(&mut alice.net, link, 10_000).await;
    }

    #[tokio::test]
    async fn another_key_than_the_expected_one_makes_no_link_on_either_side() {
        let (mut alice, mut bob) = (Peer::open(1), Peer::open(2));
        let (device, address) = (secret(3).public(), bob.address);
        alice.net.execute(Transmit::Dial { device, address });
        assert_eq!(alice.net.next().await, NetInput::DialFailed { device, address });
        // What bob's side hears of first is the next dial, by another.
        let mut carol = Peer::open(4);
        let (_, back) = carol.dial(&mut bob).await;
        assert_eq!(back, LinkId(1));
        assert_eq!(bob.net.try_next(), None);
    }

    #[tokio::test]
    async fn closing_a_link_delivers_what_was_sent_and_is_told_once_on_each_side() {
        let (mut alice, mut bob) = (Peer::open(1), Peer::open(2));
        let (link, back) = alice.dial(&mut bob).await;
        send(&mut alice.net, link, 1_000);
        alice.net.execute(Transmit::CloseLink { link });
        alice.net.execute(Transmit::CloseLink { link });
        alice.net.execute(Transmit::Frame { link, frame: numbered(0) });
        receive(&mut bob.net, back, 1_000).await;
        assert_eq!(bob.net.next().await, NetInput::LinkDown { link: back });
        assert_eq!(alice.net.next().await, NetInput::LinkDown { link });
        bob.net.execute(Transmit::CloseLink { link: back });
        let (_, next) = alice.dial(&mut bob).await;
        assert_eq!((alice.net.try_next(), bob.net.try_next()), (None, None));
        assert_ne!(next, back);
    }

    #[tokio::test]
    async fn closing_the_network_delivers_what_was_sent_and_says_goodbye() {
        let (mut alice, mut bob) = (Peer::open(1), Peer::open(2));
        let (link, back) = alice.dial(&mut bob).await;
        send(&mut alice.net, link, 1_000);
        alice.net.close().await;
        receive(&mut bob.net, back, 1_000).await;
        assert_eq!(bob.net.next().await, NetInput::LinkDown { link: back });
    }

    #[tokio::test]
    async fn both_sides_may_dial_at_once() {
        let (mut alice, mut bob) = (Peer::open(1), Peer::open(2));
        alice.net.execute(Transmit::Dial { device: secret(2).public(), address: bob.address });
        bob.net.execute(Transmit::Dial { device: secret(1).public(), address: alice.address });
        for net in [&mut alice.net, &mut bob.net] {
            let mut dialed = Vec::new();
            for _ in 0..2 {
                let up = net.next().await;
                let NetInput::LinkUp { dialed: by_us, .. } = up else { panic!("{up:?}") };
                dialed.push(by_us);
            }
            dialed.sort_unstable();
            assert_eq!(dialed, [false, true]);
        }
    }

    #[tokio::test]
    async fn a_request_without_a_connection_fails_at_once() {
        let config = NetConfig { device: secret(1), server: nobody() };
        let mut net = Net::open(config).unwrap();
        assert!(matches!(net.next().await, NetInput::LocalAddresses(_)));
        let id = RequestId(7);
        net.execute(Transmit::Request { id, request: Box::new(Request::HeldGet {}) });
        assert_eq!(net.try_next(), Some(NetInput::RequestFailed { id }));
        assert_eq!(net.try_next(), None);
    }
}

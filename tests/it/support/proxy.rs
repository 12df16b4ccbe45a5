//! A TCP proxy between a process and PostgreSQL that understands where a statement ends.
//!
//! What belongs here: forwarding, counting statements, standing still, cutting, refusing, delaying. What does not: which
//! of these a test wants, and when. One proxy per process counts that process's statements.
//!
//! A statement ends with a simple Query, or with the Sync behind an Execute; the Sync behind a mere Parse is no statement.
//! Plain TCP only: the tests' server has no TLS.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

/// Longer messages than any test sends.
const MOST: usize = 64 << 20;

/// What becomes of bytes and of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Open,
    /// They stand still, and go on when the proxy is open again: packets that a network lost and that are sent again.
    Stalled,
    /// They are lost, and the connections that lost some stay silent for ever: a firewall that forgot them. New ones wait.
    Silent,
    /// Connections are closed at once.
    Refusing,
}

/// On which side of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It came, and was not passed on.
    Before,
    /// It was carried out, and its answer was not passed on.
    After,
}

struct Trip {
    at: u64,
    side: Side,
    hook: Box<dyn FnOnce() + Send>,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
    delay: Mutex<Duration>,
    statements: AtomicU64,
    trip: Mutex<Option<Trip>>,
    refused_writes: Mutex<Option<&'static str>>,
    refused: AtomicU64,
}

/// A running proxy. It ends when it goes out of scope, and its connections with it.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl Proxy {
    /// Starts a proxy in front of the server that this address names.
    pub async fn start(url: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(server_of(url)),
            mode: watch::Sender::new(Mode::Open),
            cuts: watch::Sender::new(0),
            delay: Mutex::default(),
            statements: AtomicU64::new(0),
            trip: Mutex::default(),
            refused_writes: Mutex::default(),
            refused: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&shared), stop.clone()));
        Self { address, shared, _stop: stop.drop_guard() }
    }

    /// The same database's address through this proxy.
    pub fn url(&self, url: &str) -> String {
        let mut url = Url::parse(url).expect("the address is one");
        url.set_port(Some(self.address.port())).expect("the address has a host");
        url.into()
    }

    /// How many statements came so far.
    pub fn statements(&self) -> u64 {
        self.shared.statements.load(Ordering::SeqCst)
    }

    /// Calls `hook` on one side of the `at`-th statement from now on, counted from 1, and passes nothing on then.
    pub fn trip(&self, at: u64, side: Side, hook: impl FnOnce() + Send + 'static) {
        let at = self.statements() + at;
        *self.shared.trip.lock().expect("nobody panics with it") = Some(Trip { at, side, hook: Box::new(hook) });
    }

    /// Forgets a hook that was not reached.
    pub fn disarm(&self) {
        self.shared.trip.lock().expect("nobody panics with it").take();
    }

    /// Changes what becomes of bytes and new connections.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// New connections go to this address's server.
    pub fn switch_to(&self, url: &str) {
        *self.shared.upstream.lock().expect("nobody panics with it") = server_of(url);
    }

    /// Every statement takes this much longer.
    pub fn delay(&self, delay: Duration) {
        *self.shared.delay.lock().expect("nobody panics with it") = delay;
    }

    /// Statements that write are answered with this SQLSTATE as the server would; they do not reach it.
    pub fn refuse_writes(&self, sqlstate: Option<&'static str>) {
        *self.shared.refused_writes.lock().expect("nobody panics with it") = sqlstate;
    }

    /// How many statements were answered so.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }
}

fn server_of(url: &str) -> SocketAddr {
    let url = Url::parse(url).expect("the address is one");
    let port = url.port().unwrap_or(5432);
    let host = url.host_str().unwrap_or("127.0.0.1");
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).expect("the server's name resolves").next();
    found.expect("the server has an address")
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                Err(_) => continue,
            },
            () = stop.cancelled() => return,
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let mut cuts = shared.cuts.subscribe();
            tokio::select! {
                _ = connection(client, &shared) => {}
                _ = cuts.changed() => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// What both directions of a connection know.
struct Link<'a> {
    shared: &'a Shared,
    /// For each ReadyForQuery that is still to come, the number of the statement that it ends.
    due: watch::Sender<VecDeque<Option<u64>>>,
    /// The transaction status of the last one.
    status: Mutex<u8>,
    client: tokio::sync::Mutex<OwnedWriteHalf>,
}

async fn connection(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut mode = shared.mode.subscribe();
    let now = *mode.wait_for(|mode| matches!(mode, Mode::Open | Mode::Refusing)).await.map_err(io::Error::other)?;
    if now == Mode::Refusing {
        return Ok(());
    }
    let upstream = *shared.upstream.lock().expect("nobody panics with it");
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let link = Link {
        shared,
        due: watch::Sender::new(VecDeque::from([None])),
        status: Mutex::new(b'I'),
        client: tokio::sync::Mutex::new(to_client),
    };
    tokio::select! {
        ended = link.requests(from_client, to_server) => ended,
        ended = link.answers(from_server) => ended,
    }
}

impl Link<'_> {
    /// Returns when bytes may pass.
    async fn gate(&self) -> io::Result<()> {
        let mut mode = self.shared.mode.subscribe();
        let now = *mode.wait_for(|mode| *mode != Mode::Stalled).await.map_err(io::Error::other)?;
        match now {
            Mode::Silent => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let length = from.read_u32().await?;
        let mut first = length.to_be_bytes().to_vec();
        first.extend(body(&mut from, length).await?);
        self.gate().await?;
        to.write_all(&first).await?;
        let (mut batch, mut texts) = (Batch::default(), HashMap::new());
        loop {
            let (kind, message) = message(&mut from).await?;
            batch.add(kind, &message, &mut texts);
            // These end what is sent at once; all others are followed by one of them.
            if !b"QSHXpdcf".contains(&kind) {
                continue;
            }
            let ready = matches!(kind, b'Q' | b'S');
            let ends = kind == b'Q' || (kind == b'S' && batch.executes);
            let number = ends.then(|| self.shared.statements.fetch_add(1, Ordering::SeqCst) + 1);
            if let Some(hook) = number.and_then(|number| self.reached(number, Side::Before)) {
                hook();
                return Ok(());
            }
            self.gate().await?;
            let delay = *self.shared.delay.lock().expect("nobody panics with it");
            if ends && !delay.is_zero() {
                tokio::time::timeout(delay, std::future::pending::<()>()).await.ok();
            }
            let done = std::mem::take(&mut batch);
            let refused = *self.shared.refused_writes.lock().expect("nobody panics with it");
            if let Some(sqlstate) = refused.filter(|_| ends && done.writes) {
                self.refuse(sqlstate).await?;
                continue;
            }
            if ready {
                self.due.send_modify(|due| due.push_back(number));
            }
            to.write_all(&done.bytes).await?;
        }
    }

    /// Answers as a server that could not carry out a statement; what was asked before is answered first.
    async fn refuse(&self, sqlstate: &str) -> io::Result<()> {
        self.due.subscribe().wait_for(VecDeque::is_empty).await.map_err(io::Error::other)?;
        self.shared.refused.fetch_add(1, Ordering::SeqCst);
        let fields = format!("SERROR\0VERROR\0C{sqlstate}\0Mthe test refuses this statement\0\0");
        let length = u32::try_from(fields.len() + 4).expect("a short message");
        let mut answer = vec![b'E'];
        answer.extend(length.to_be_bytes());
        answer.extend(fields.as_bytes());
        let status = if *self.status.lock().expect("nobody panics with it") == b'I' { b'I' } else { b'E' };
        answer.extend([b'Z', 0, 0, 0, 5, status]);
        self.client.lock().await.write_all(&answer).await
    }

    async fn answers(&self, mut from: OwnedReadHalf) -> io::Result<()> {
        loop {
            let (kind, message) = message(&mut from).await?;
            let number = self.due.borrow().front().copied().flatten();
            let held = number.is_some_and(|number| self.is_armed(number, Side::After));
            if kind == b'Z' {
                if let Some(hook) = number.and_then(|number| self.reached(number, Side::After)) {
                    hook();
                    return Ok(());
                }
                *self.status.lock().expect("nobody panics with it") = message.last().copied().unwrap_or(b'I');
            } else if held {
                continue;
            }
            self.gate().await?;
            self.client.lock().await.write_all(&message).await?;
            if kind == b'Z' {
                self.due.send_modify(|due| {
                    due.pop_front();
                });
            }
        }
    }

    fn is_armed(&self, number: u64, side: Side) -> bool {
        let trip = self.shared.trip.lock().expect("nobody panics with it");
        trip.as_ref().is_some_and(|trip| trip.at == number && trip.side == side)
    }

    fn reached(&self, number: u64, side: Side) -> Option<Box<dyn FnOnce() + Send>> {
        let mut trip = self.shared.trip.lock().expect("nobody panics with it");
        trip.take_if(|trip| trip.at == number && trip.side == side).map(|trip| trip.hook)
    }
}

/// Messages that are passed on together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    executes: bool,
    writes: bool,
}

impl Batch {
    fn add(&mut self, kind: u8, message: &[u8], writes: &mut HashMap<Vec<u8>, bool>) {
        self.bytes.extend(message);
        let mut parts = message.get(5..).unwrap_or_default().split(|byte| *byte == 0);
        let mut part = || parts.next().unwrap_or_default();
        match kind {
            b'Q' => self.writes |= is_write(part()),
            b'P' => {
                let name = part().to_vec();
                writes.insert(name, is_write(part()));
            }
            b'B' => {
                let (_portal, name) = (part(), part());
                self.writes |= writes.get(name).copied().unwrap_or(false);
            }
            b'E' => self.executes = true,
            _ => {}
        }
    }
}

/// Whether a statement changes rows; transaction control does not.
fn is_write(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    ["insert into ", "update ", "delete from "].iter().any(|verb| text.contains(verb))
}

/// A typed message with its head.
async fn message(from: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut message = vec![kind];
    message.extend(length.to_be_bytes());
    message.extend(body(from, length).await?);
    Ok((kind, message))
}

/// The rest of a message of this length, which counts itself.
async fn body(from: &mut OwnedReadHalf, length: u32) -> io::Result<Vec<u8>> {
    let rest = usize::try_from(length).ok().and_then(|length| length.checked_sub(4)).filter(|rest| *rest <= MOST);
    let mut body = vec![0; rest.ok_or_else(|| io::Error::other("no length of a message"))?];
    from.read_exact(&mut body).await?;
    Ok(body)
}

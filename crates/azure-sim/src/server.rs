//! The listener: TCP, TLS, HTTP/1.1 and HTTP/2, limits and time-outs. What a request means is `pipeline`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::state::Shared;
use crate::{pipeline, storage};

/// Connections at one time; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 4096;
/// The same on the plain port.
const MOST_PLAIN: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);

/// Accepts connections until told to stop, then waits a short while for those that are open.
pub(crate) async fn run(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors and the like: try again a little later instead of spinning.
                tracing::warn!(%error, "could not accept a connection");
                #[expect(clippy::disallowed_methods, reason = "nothing tells when descriptors are free again")]
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, shared, stop) = (tls.clone(), shared.clone(), stop.clone());
        tasks.spawn(async move {
            let _permit = permit;
            if let Err(error) = connection(stream, peer, tls, shared, stop).await {
                tracing::debug!(%error, %peer, "connection ended");
            }
        });
    }
    tasks.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await;
}

/// Accepts plain connections to the identity endpoints until told to stop.
pub(crate) async fn run_plain(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MOST_PLAIN));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            #[expect(clippy::disallowed_methods, reason = "nothing tells when descriptors are free again")]
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (shared, stop) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let shared = shared.clone();
                async move { pipeline::answer_as_host(&shared, peer, request.map(Body::new)).await }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(64 * 1024);
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = serving => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    let start = tokio::time::timeout(HANDSHAKE, LazyConfigAcceptor::new(Acceptor::default(), stream))
        .await
        .map_err(timed_out)??;
    // A vault, managed HSM or storage account that does not exist has no host: closing before the handshake is as near to NXDOMAIN as one port allows.
    if start.client_hello().server_name().is_some_and(|name| unknown_host(&shared, name)) {
        return Ok(());
    }
    let stream = tokio::time::timeout(HANDSHAKE, start.into_stream(tls)).await.map_err(timed_out)??;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let shared = shared.clone();
        async move { pipeline::answer(&shared, peer, request.map(Body::new)).await }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(60));
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    ended.map_err(io::Error::other)
}

fn unknown_host(shared: &Shared, name: &str) -> bool {
    let name = name.to_lowercase();
    let now = shared.clock.now();
    let names = &shared.addresses;
    names.holder_of(&name).is_some_and(|at| shared.world(|w| !w.resolves(&at, now)))
        || names.storage_of(&name).is_some_and(|at| shared.world(|w| !storage::exists(w, &at, now)))
}

//! Connections: accepting them, how long one may take to say what it wants, and their end.
//!
//! What belongs here: sockets and HTTP/1.1. What does not: requests (`layers`, handlers).
//!
//! Not `axum::serve`, which first reads some bytes to learn whether a connection begins with HTTP/2: hyper then meets half
//! a request, doubles its buffer for the other half, and keeps these 8 KiB as long as the connection lives. Of ten thousand
//! event streams that was a third of the memory. Nor does it bound how slowly a request's head may come.

use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Serves connections until the order to stop; ends when those that are open have ended what they were at. `head_timeout`:
/// see [`super::ApiSettings`].
pub async fn listen(mut listener: TcpListener, app: Router, head_timeout: Duration, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let open = GracefulShutdown::new();
    loop {
        // Of axum's trait: it goes on after errors of single connections, and pauses while there are no descriptors.
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = Listener::accept(&mut listener) => accepted,
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "a connection was gone at once");
            continue;
        }
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app.clone()));
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "a connection broke off");
            }
        });
    }
    drop(listener);
    open.shutdown().await;
}

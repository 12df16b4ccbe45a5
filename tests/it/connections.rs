//! Connections: how long one may take to say what it wants, and how it ends.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cmk::api::ApiSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::api::{DEADLINE, TestApi};

async fn connect(api: &TestApi) -> TcpStream {
    let address = api.base.strip_prefix("http://").expect("plain HTTP");
    TcpStream::connect(address).await.expect("it listens")
}

/// What comes until the connection is closed.
async fn rest(connection: &mut TcpStream) -> String {
    let mut text = String::new();
    let read = tokio::time::timeout(DEADLINE, connection.read_to_string(&mut text)).await;
    read.expect("the connection is closed").expect("text");
    text
}

#[tokio::test]
async fn a_connection_that_does_not_say_what_it_wants_is_closed() {
    let settings = ApiSettings { head_timeout: Duration::from_millis(100), ..ApiSettings::default() };
    let api = TestApi::start_with(settings, Router::new()).await;
    for head in ["", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut slow = connect(&api).await;
        slow.write_all(head.as_bytes()).await.expect("it is open");
        let told = rest(&mut slow).await;
        assert!(!told.contains(" 200 "), "{head:?}: {told:?}");
    }
    // The time is that of a head and not of an answer: a stream of events goes on beyond it (`sse`), and so does a handler.
    let mut quick = connect(&api).await;
    quick.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it is open");
    assert!(rest(&mut quick).await.starts_with("HTTP/1.1 200 "), "answered, and closed when nothing more was asked");
}

#[tokio::test]
async fn the_order_to_stop_closes_what_is_idle_and_lets_what_runs_end() {
    let (began, mut beginning) = mpsc::channel::<()>(1);
    let (end, ending) = mpsc::channel::<()>(1);
    let ending = std::sync::Arc::new(tokio::sync::Mutex::new(ending));
    let slow = get(move || {
        let (began, ending) = (began.clone(), ending.clone());
        async move {
            began.send(()).await.expect("the test listens");
            ending.lock().await.recv().await;
            "done"
        }
    });
    let api = TestApi::start_with(ApiSettings::default(), Router::new().route("/slow", slow)).await;
    let mut idle = connect(&api).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it is open");
    let mut status = [0; 12];
    tokio::time::timeout(DEADLINE, idle.read_exact(&mut status)).await.expect("an answer").expect("an answer");
    let mut busy = connect(&api).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it is open");
    beginning.recv().await.expect("the handler runs");
    api.shutdown.cancel();
    rest(&mut idle).await;
    end.send(()).await.expect("the handler waits");
    let told = rest(&mut busy).await;
    assert!(told.starts_with("HTTP/1.1 200 ") && told.ends_with("done"), "{told}");
}

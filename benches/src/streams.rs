//! Ten thousand event streams of jobs that do nothing: how much memory they take.
//!
//! What belongs here: opening them. What does not: what is told in them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::fill;
use crate::http::Api;
use crate::results::Results;

const STREAMS: usize = 10_000;

/// Opens them on one job that is due and that nobody runs.
pub async fn measure(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let store = cluster.migrated("bench_streams").await?;
    let (job, _) = fill::accept(&store, "stpaymentsprod", false).await?;
    store.close().await;
    let mut api = Api::serve(&cluster.url("bench_streams"), 16).await?;
    let before = api.memory("rss");
    let mut open = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        let mut stream = TcpStream::connect(&api.address).await?;
        let request =
            format!("GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut status)).await??;
        if status != *b"HTTP/1.1 200" {
            break;
        }
        open.push(stream);
    }
    results.note("ours streams_open", open.len() as f64);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let grown = api.memory("rss") - before;
    results.note("ours streams_mib", grown);
    if open.len() == STREAMS {
        results.note("ours streams_10k_mib", api.memory("rss"));
    }
    api.process.kill().await?;
    cluster.drop("bench_streams").await
}

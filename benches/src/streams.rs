//! Ten thousand event streams of jobs that do nothing: how much memory they take.
//!
//! What belongs here: opening them. What does not: what is told in them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, settle};
use crate::fill;
use crate::http::Api;
use crate::results::Results;

const STREAMS: usize = 10_000;

/// How long they are left alone.
const IDLE: Duration = Duration::from_secs(20);

/// Opens them, each on a job of its own that is due and that nobody runs.
pub async fn measure(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let store = cluster.migrated("bench_streams").await?;
    let (template, _) = fill::accept(&store, "stpaymentsprod", false).await?;
    let url = cluster.url("bench_streams");
    fill::copy_runs(&url, template, STREAMS, "now() - n * interval '1 ms'").await?;
    settle(&url).await?;
    let jobs: Vec<uuid::Uuid> = sqlx::query_scalar("select job_id from job_runs where job_id <> $1")
        .bind(template.0)
        .fetch_all(store.pool())
        .await?;
    store.close().await;
    let mut api = Api::serve_with(&url, 16, &["--max-streams", &STREAMS.to_string()]).await?;
    let before = api.memory("rss");
    let mut open = Vec::with_capacity(STREAMS);
    for job in jobs {
        let mut stream = TcpStream::connect(&api.address).await?;
        let request = format!(
            "GET /v1/jobs/{job}/events?after=1 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut status)).await??;
        if status != *b"HTTP/1.1 200" {
            break;
        }
        open.push(stream);
    }
    results.note("ours streams_open", open.len() as f64);
    // Past the first comment in each of them.
    let before_idle = api.seconds_used();
    tokio::time::sleep(IDLE).await;
    results.note("ours streams_cpu_percent", (api.seconds_used() - before_idle) * 100.0 / IDLE.as_secs_f64());
    let grown = api.memory("rss") - before;
    results.note("ours streams_mib", grown);
    if open.len() == STREAMS {
        results.note("ours streams_10k_mib", api.memory("rss"));
    }
    api.process.kill().await?;
    cluster.drop("bench_streams").await
}

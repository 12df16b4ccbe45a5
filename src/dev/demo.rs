//! The first job of `cmk dev`: the seed's request, sent and followed over HTTP as any client would.
//!
//! What belongs here: submitting and following. What does not: layout (`show`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use serde_json::Value;

use super::show;

const REQUEST: &str = include_str!("../../openapi/examples/provision-storage-account.json");

/// How often a busy target is asked for again: a job that a killed run left behind ends when its lease does.
const BUSY_TRIES: u32 = 20;

/// Submits the seed's request and shows its progress until it ends.
pub async fn run(address: SocketAddr, subscription: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(70)).no_proxy().build()?;
    let base = format!("http://{address}");
    let body = request_for(subscription)?;
    let job = submit(&client, &base, &body).await?;
    show::job_accepted(&job);
    follow(&client, &base, &job).await
}

/// The example with this simulator's subscription.
fn request_for(subscription: &str) -> anyhow::Result<Value> {
    let body: Value = serde_json::from_str(REQUEST)?;
    let id = body.pointer("/target/resourceId").and_then(Value::as_str).unwrap_or_default();
    let example = id.split('/').nth(2).unwrap_or_default();
    Ok(serde_json::from_str(&REQUEST.replace(example, subscription))?)
}

async fn submit(client: &reqwest::Client, base: &str, body: &Value) -> anyhow::Result<Value> {
    for _ in 0..BUSY_TRIES {
        let answer = client.post(format!("{base}/v1/jobs")).json(body).send().await?;
        let status = answer.status();
        let text: Value = answer.json().await?;
        match status.as_u16() {
            202 => return Ok(text),
            409 => {
                #[expect(clippy::disallowed_methods, reason = "a bounded number of tries, a second apart")]
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            _ => bail!("the API answered {status}: {text}"),
        }
    }
    bail!("the target stays busy")
}

async fn follow(client: &reqwest::Client, base: &str, job: &Value) -> anyhow::Result<()> {
    let id = job["id"].as_str().context("a job has an id")?;
    let goals: HashMap<String, String> = job["steps"].as_array().into_iter().flatten().filter_map(goal_of).collect();
    let (mut etag, mut seen) = (String::new(), 0);
    loop {
        let answer = client
            .get(format!("{base}/v1/jobs/{id}"))
            .header("Prefer", "wait=10")
            .header(IF_NONE_MATCH, etag.as_str())
            .send()
            .await?;
        if answer.status().as_u16() == 304 {
            continue;
        }
        let version = answer.headers().get(ETAG).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let job: Value = answer.error_for_status()?.json().await?;
        etag = version.unwrap_or_default();
        let events = client.get(format!("{base}/v1/jobs/{id}/events?after={seen}")).header(ACCEPT, "application/json");
        let events = events.send().await?;
        if events.status().as_u16() != 204 {
            let page: Value = events.error_for_status()?.json().await?;
            for event in page["items"].as_array().into_iter().flatten() {
                seen = event["seq"].as_i64().unwrap_or(seen);
                let step = event["step"].as_str().unwrap_or_default();
                show::event(event, goals.get(step).map_or("", String::as_str));
            }
        }
        if matches!(job["state"].as_str(), Some("succeeded" | "failed" | "cancelled")) {
            show::job_ended(&job);
            return Ok(());
        }
    }
}

fn goal_of(step: &Value) -> Option<(String, String)> {
    Some((step["name"].as_str()?.to_owned(), step["goal"].as_str()?.to_owned()))
}

//! What `cmk dev` prints: short lines for a person, and lines that can be pasted.
//!
//! What belongs here: words and layout. What does not: deciding what happens.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

/// Prints one line, at once even into a pipe. A closed pipe is no reason to stop.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Something runs.
pub fn started(what: &str, detail: &str) {
    line(&format!("{what:<10} {detail}"));
}

/// Something worth knowing.
pub fn note(text: &str) {
    line(&format!("           {text}"));
}

/// A job was accepted.
pub fn job_accepted(job: &Value) {
    line("");
    line(&format!("job        {}", text(job, "/id")));
    line(&format!("           {} under a key of {}", text(job, "/target"), text(job, "/keyStore")));
}

/// One event of a job.
pub fn event(event: &Value, goal: &str) {
    let (kind, step) = (text(event, "/kind"), text(event, "/step"));
    let told = match kind {
        "step-done" => format!("  done       {step:<24} {goal}"),
        "step-satisfied" => format!("  satisfied  {step:<24} {goal}"),
        "step-waiting" => {
            let (why, next) = (text(event, "/data/reason/text"), clock(text(event, "/data/nextLookAt")));
            format!("  waits      {step:<24} {why}; looks again from {next}")
        }
        "step-retrying" => {
            let (why, next) = (text(event, "/data/failure/message"), clock(text(event, "/data/nextLookAt")));
            format!("  retries    {step:<24} {why}; tries again at {next}")
        }
        "step-failed" => format!("  failed     {step:<24} {}", text(event, "/data/failure/message")),
        "job-succeeded" | "job-failed" | "job-cancelled" => format!("  {kind}"),
        _ => return,
    };
    line(&told);
}

/// How the job ended.
pub fn job_ended(job: &Value) {
    if let Some(evidence) = job.get("evidence").filter(|e| !e.is_null()) {
        line("");
        line("evidence   read back from Azure after the last change");
        for name in ["target", "keyId", "identity", "followsRotation", "verifiedAt", "azureRequestIds"] {
            let value = &evidence[name];
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line(&format!("           {name:<16} {shown}"));
        }
    }
    if let Some(failure) = job.get("failure").filter(|f| !f.is_null()) {
        line(&format!("           {}", text(failure, "/message")));
        line(&format!("           what to do: {}", text(failure, "/remedy")));
    }
}

/// What to do next.
pub fn ready(address: SocketAddr, state_dir: &Path, subscription: &str) {
    let group = format!("/subscriptions/{subscription}/resourceGroups/rg-cmk-tour");
    let body = serde_json::json!({
        "target": {
            "resourceId": format!("{group}/providers/Microsoft.Storage/storageAccounts/stcmktour1"),
            "create": { "location": "uksouth" },
        },
        "keyStore": {
            "resourceId": format!("{group}/providers/Microsoft.KeyVault/vaults/kvcmktour1"),
            "create": { "location": "uksouth", "network": { "allowedIps": ["203.0.113.0/24"] } },
        },
        "createResourceGroups": true,
    });
    line("");
    line("Everything is up; Ctrl-C ends it. To go on by yourself:");
    line("");
    line(&format!("  curl -s http://{address}/v1/jobs?limit=1"));
    line(&format!("  curl -s http://{address}/v1/services"));
    line(&format!(
        "  curl -s http://{address}/v1/jobs -H 'Content-Type: application/json' -H 'Prefer: wait=55' -d '{body}'"
    ));
    line(&format!("  curl -N http://{address}/v1/jobs/ID/events -H 'Accept: text/event-stream'"));
    line(&format!("  . {}/azure-sim/azure-sim.env    # talk to the simulator yourself", state_dir.display()));
    line("");
    line(&format!("  docs: http://{address}/docs"));
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The time of day of an RFC 3339 time.
fn clock(at: &str) -> &str {
    at.get(11..19).unwrap_or(at)
}

//! Download of the security domain, which activates a managed HSM. Uploading one is not played.

use serde_json::{Value, json};
use time::Duration;

use crate::hsm::access::enter_domain;
use crate::hsm::shares::{self, Recipient};
use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::Asked;
use crate::keyvault::key_body::{self, bad};

/// What the caller wants to be made: for whom, and how many of them are needed.
fn read(asked: &Asked<'_>) -> Result<(Vec<Recipient>, u8), Failure> {
    let body = key_body::object(asked.call, false)?;
    let certificates = body
        .get("certificates")
        .and_then(Value::as_array)
        .ok_or_else(|| bad("Property 'certificates' must be an array."))?;
    if !(3..=10).contains(&certificates.len()) {
        return Err(bad("A security domain takes 3 to 10 certificates."));
    }
    let required = body
        .get("required")
        .and_then(Value::as_u64)
        .and_then(|n| u8::try_from(n).ok())
        .filter(|n| (2..=10).contains(n) && usize::from(*n) <= certificates.len())
        .ok_or_else(|| bad("Property 'required' must be between 2 and the number of certificates."))?;
    let mut recipients = Vec::new();
    for (i, certificate) in certificates.iter().enumerate() {
        recipients.push(Recipient::read(certificate).map_err(|why| bad(format!("Certificate {i}: {}.", why.0)))?);
    }
    Ok((recipients, required))
}

/// Makes the file at once and lets the activation take the time of a long-running operation. A later download makes
/// another file and changes nothing else.
pub(crate) async fn download(asked: &Asked<'_>) -> Outcome {
    let now = asked.call.now;
    let action = "securitydomain/download/action";
    let name = asked.shared.world(|w| enter_domain(asked, w, action).map(|hsm| hsm.name.clone()))?;
    let (recipients, required) = read(asked)?;
    let file = tokio::task::spawn_blocking(move || shares::security_domain(&name, &recipients, required))
        .await
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Failure::new(500, "InternalServerError", "The security domain could not be made."))?;
    let pending = format!("{}/securitydomain/download/pending", asked.call.origin);
    asked.shared.world(|w| {
        enter_domain(asked, w, action)?;
        let hsm = w.hsms.get_mut(&asked.at.name).ok_or_else(Failure::no_such_host)?;
        if hsm.activation.is_none() {
            let length = Duration::try_from(asked.shared.tuning().lro()).unwrap_or(Duration::HOUR);
            hsm.activate(Some(now.saturating_add(length)));
            asked.call.touch();
        }
        let version = asked.call.param("api-version").unwrap_or_default();
        let reply = Reply::json(202, json!({ "value": file }))
            .with("azure-asyncoperation", format!("{pending}?api-version={version}"));
        Ok(match asked.shared.tuning().lro_retry_after {
            Some(seconds) => reply.with("retry-after", seconds.to_string()),
            None => reply,
        })
    })
}

/// How the download goes.
pub(crate) fn pending(asked: &Asked<'_>) -> Outcome {
    asked.shared.world(|w| {
        let hsm = enter_domain(asked, w, "securitydomain/download/read")?;
        if hsm.activation.is_none() {
            // Status and code UNVERIFIED.
            return Err(Failure::new(404, "NotFound", "No download of the security domain was asked for."));
        }
        Ok(Reply::ok(if hsm.active(asked.call.now) {
            json!({ "status": "Success", "status_details": "The download was successful." })
        } else {
            json!({ "status": "InProgress", "status_details": "The download is in progress." })
        }))
    })
}

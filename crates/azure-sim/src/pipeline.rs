//! The course of one request on any surface: read it whole, ask the fault rules, let the surface answer, put on the
//! headers, write the journal. A connection that is to be cut is an `Err`, which makes hyper close it.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderName, HeaderValue, Request, Response};
use time::macros::format_description;
use url::form_urlencoded;
use uuid::Uuid;

use crate::exchange::{Exchange, Observer};
use crate::faults::{Action, Seen};
use crate::http::{Call, Failure, LroFault, Outcome, segments};
use crate::journal::Entry;
use crate::keyvault::holder::Zone;
use crate::state::Shared;
use crate::surface::{self, Surface, host_of};
use crate::{arm, control, entra, keyvault, mangle, storage};

/// Largest body taken.
const MOST_BODY: usize = 4 * 1024 * 1024;
const BODY_TIME: Duration = Duration::from_secs(30);

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
pub(crate) struct Cut;

/// Answers one request.
pub(crate) async fn answer(shared: &Shared, peer: SocketAddr, request: Request<Body>) -> Result<Response<Body>, Cut> {
    course(shared, peer, request, None).await
}

/// Answers one request to the plain port of the identity endpoints.
pub(crate) async fn answer_as_host(
    shared: &Shared,
    peer: SocketAddr,
    request: Request<Body>,
) -> Result<Response<Body>, Cut> {
    course(shared, peer, request, Some(Surface::Host)).await
}

async fn course(
    shared: &Shared,
    peer: SocketAddr,
    request: Request<Body>,
    known: Option<Surface>,
) -> Result<Response<Body>, Cut> {
    keyvault::rotation::catch_up(shared).await;
    let (parts, body) = request.into_parts();
    let authority = parts
        .uri
        .authority()
        .map(|a| a.as_str().to_owned())
        .or_else(|| parts.headers.get("host").and_then(|h| h.to_str().ok()).map(str::to_owned))
        .unwrap_or_default()
        .to_lowercase();
    let host = host_of(&authority).to_owned();
    let path = parts.uri.path().to_owned();
    let raw_query = parts.uri.query().unwrap_or_default().to_owned();
    let body = tokio::time::timeout(BODY_TIME, to_bytes(body, MOST_BODY)).await;
    let mut call = Call {
        method: parts.method,
        origin: format!("https://{authority}"),
        segments: segments(&path),
        query: form_urlencoded::parse(raw_query.as_bytes()).into_owned().collect(),
        path,
        raw_query,
        body: Bytes::new(),
        now: shared.clock.now(),
        peer: peer.ip(),
        request_id: Uuid::new_v4(),
        correlation_id: correlation(&parts.headers),
        headers: parts.headers,
        host,
        lro_fault: None,
        remains: OnceLock::new(),
        changed: AtomicBool::new(false),
        principal: OnceLock::new(),
    };
    let too_large = match body {
        Ok(Ok(body)) => {
            call.body = body;
            false
        }
        Ok(Err(_)) => true,
        Err(_) => return Err(Cut),
    };
    let surface = known.unwrap_or_else(|| surface::of(shared, &call.host));
    if surface == Surface::Arm && call.segments.first().is_some_and(|s| s == "_sim") {
        let outcome = control::serve(shared, &call);
        note_change(shared, &call);
        return Ok(respond(&call, &surface, &outcome, shared));
    }
    let outcome = if too_large {
        Served::answered(
            Err(Failure::new(413, "RequestEntityTooLarge", "The request body is larger than 4 MiB.")),
            None,
        )
    } else {
        serve(shared, &surface, &mut call).await
    };
    if !matches!(surface, Surface::Login | Surface::Host | Surface::Unknown) {
        note_change(shared, &call);
    }
    let cut = outcome.cut || matches!(&outcome.outcome, Err(f) if f.cut);
    journal(shared, &surface, &call, &outcome, cut);
    if let Some(observer) = &shared.options.observer {
        show(observer, &surface, &call, &outcome.outcome);
    }
    if cut {
        return Err(Cut);
    }
    let response = respond(&call, &surface, &outcome.outcome, shared);
    Ok(match outcome.mangle {
        Some(mangle) => mangle.apply(response, &call).await,
        None => response,
    })
}

/// Whatever came of it, a request that is more than a look may have changed what the state file holds.
fn note_change(shared: &Shared, call: &Call) {
    if !matches!(call.method.as_str(), "GET" | "HEAD") {
        shared.dirty.store(true, Ordering::Relaxed);
    }
}

fn show(observer: &Observer, surface: &Surface, call: &Call, outcome: &Outcome) {
    let sent = serde_json::from_slice(&call.body).ok();
    let (status, answer) = match outcome {
        Ok(reply) => (reply.status, reply.body.clone()),
        Err(failure) => (failure.status, Some(failure.envelope())),
    };
    observer(&Exchange {
        surface: surface.name(),
        method: call.method.as_str(),
        path: &call.path,
        api_version: call.param("api-version"),
        sent: sent.as_ref(),
        status,
        answer: answer.as_ref(),
    });
}

/// What became of a request.
struct Served {
    outcome: Outcome,
    fault: Option<String>,
    cut: bool,
    /// What is done to the finished answer.
    mangle: Option<mangle::Mangle>,
}

impl Served {
    fn answered(outcome: Outcome, fault: Option<String>) -> Self {
        Self { outcome, fault, cut: false, mangle: None }
    }
}

async fn serve(shared: &Shared, surface: &Surface, call: &mut Call) -> Served {
    let verdict = shared.faults.decide(Seen::of(call));
    if verdict.delay_millis > 0 {
        #[expect(clippy::disallowed_methods, reason = "a fault rule asked for this delay, in real time")]
        tokio::time::sleep(Duration::from_millis(verdict.delay_millis)).await;
        call.now = shared.clock.now();
    }
    let Some((rule, action)) = verdict.rule else {
        return Served::answered(dispatch(shared, surface, call).await, None);
    };
    let rule = Some(rule);
    match action {
        Action::Delay { .. } => Served::answered(dispatch(shared, surface, call).await, rule),
        Action::CutBefore => {
            Served { outcome: Err(Failure::new(0, "CutBefore", "")), fault: rule, cut: true, mangle: None }
        }
        Action::CutAfter => {
            Served { outcome: dispatch(shared, surface, call).await, fault: rule, cut: true, mangle: None }
        }
        Action::SlowBody { .. } | Action::TruncatedBody | Action::MalformedJson | Action::WrongContentType { .. } => {
            let mangle = mangle::Mangle::of(action);
            Served { mangle, ..Served::answered(dispatch(shared, surface, call).await, rule) }
        }
        Action::LroFail { .. } | Action::LroFailAfter { .. } | Action::LroTakes { .. } | Action::LroNeverEnds => {
            call.lro_fault = LroFault::of(action);
            Served::answered(dispatch(shared, surface, call).await, rule)
        }
        Action::Status { status, code, message, retry_after, headers, after_effect } => {
            if after_effect {
                // The caller is not to learn how it went.
                let _ = dispatch(shared, surface, call).await;
            }
            let mut failure = Failure::new(status.clamp(400, 599), code, message);
            if let Some(seconds) = retry_after {
                failure = failure.with("retry-after", seconds.to_string());
            }
            if *surface == Surface::Login {
                failure.body = Some(serde_json::json!({ "error": failure.code, "error_description": failure.message }));
            }
            failure.extra = headers.into_iter().collect();
            Served::answered(Err(failure), rule)
        }
    }
}

async fn dispatch(shared: &Shared, surface: &Surface, call: &Call) -> Outcome {
    match surface {
        Surface::Arm => arm::serve(shared, call).await,
        Surface::Login => entra::serve(shared, call),
        Surface::Graph => entra::graph::serve(shared, call),
        Surface::Host => entra::host::serve(shared, call),
        Surface::Keys(at) => keyvault::serve(shared, call, at).await,
        Surface::Storage(at) => storage::serve(shared, call, at).await,
        Surface::Unknown => {
            Err(Failure::new(404, "UnknownHost", format!("The simulator has no host '{}'.", call.host)))
        }
    }
}

/// The caller's correlation id where it is a GUID, else a new one.
fn correlation(headers: &axum::http::HeaderMap) -> String {
    ["x-ms-correlation-request-id", "x-ms-correlation-id"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .filter(|id| Uuid::try_parse(id).is_ok())
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

fn respond(call: &Call, surface: &Surface, outcome: &Outcome, shared: &Shared) -> Response<Body> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let (status, body) = match outcome {
        Ok(reply) => {
            headers.extend(reply.headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
            headers.extend(reply.named.iter().cloned());
            let raw = reply.raw.as_ref().map(|raw| (raw.content_type.clone(), raw.bytes.clone()));
            (reply.status, raw.or_else(|| reply.body.as_ref().map(json)))
        }
        Err(failure) => {
            headers.extend(failure.headers.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
            headers.extend(failure.extra.iter().cloned());
            (failure.status, error_body(call, surface, failure))
        }
    };
    common_headers(call, surface, shared, &mut headers);
    if let Surface::Storage(_) = surface {
        headers.extend(storage::common_headers(call, outcome.as_ref().err().map(|f| f.code.as_str())));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() =
        axum::http::StatusCode::from_u16(status).unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
    let target = response.headers_mut();
    for (name, value) in headers {
        // A fault rule may name a header that HTTP does not allow; it is left out.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
            && !target.contains_key(&name)
        {
            target.insert(name, value);
        }
    }
    if let Some((content_type, bytes)) = body {
        if let Ok(content_type) = HeaderValue::try_from(content_type) {
            target.insert("content-type", content_type);
        }
        if call.method == axum::http::Method::HEAD {
            target.insert("content-length", bytes.len().into());
        } else {
            *response.body_mut() = Body::from(bytes);
        }
    }
    response
}

fn json(body: &serde_json::Value) -> (String, Bytes) {
    ("application/json; charset=utf-8".to_owned(), Bytes::from(body.to_string()))
}

/// An error's body in the surface's form; none where HTTP allows none.
fn error_body(call: &Call, surface: &Surface, failure: &Failure) -> Option<(String, Bytes)> {
    if failure.status == 304 {
        return None;
    }
    if let Surface::Storage(_) = surface {
        let (id, time) = (call.request_id.to_string(), crate::http::rfc3339(call.now));
        let text = storage::error_body(&failure.code, &failure.message, &id, &time);
        return Some(("application/xml".to_owned(), Bytes::from(text)));
    }
    Some(failure.envelope()).filter(|body| !body.is_null()).as_ref().map(json)
}

fn common_headers(call: &Call, surface: &Surface, shared: &Shared, headers: &mut Vec<(String, String)>) {
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    let id = call.request_id.to_string();
    add("x-ms-request-id", id.clone());
    add("strict-transport-security", "max-age=31536000; includeSubDomains".into());
    add("x-content-type-options", "nosniff".into());
    add("cache-control", "no-cache".into());
    let client_id = call.header("x-ms-client-request-id").map(str::to_owned);
    match surface {
        Surface::Keys(at) => {
            if let Some(client_id) = client_id {
                add("x-ms-client-request-id", client_id);
            }
            let (region, privately) = shared.world(|w| {
                let holder = w.holder(at);
                let privately = holder.is_some_and(|h| keyvault::access::privately(shared, call, w, h));
                (holder.map(|h| h.location.clone()), privately)
            });
            add("x-ms-keyvault-region", region.unwrap_or_default());
            let address = shared.options.address_of(call.peer);
            // The connection type of a private link is UNVERIFIED.
            let kind = if privately { "PrivateLink" } else { "Ipv4" };
            let family = match at.zone {
                Zone::Vault => {
                    add("x-ms-keyvault-service-version", "2.0.0.0".into());
                    "InterNetwork"
                }
                Zone::Hsm => {
                    add("x-ms-server-latency", "1".into());
                    add("x-ms-build-version", "1.0.0-simulator".into());
                    add("content-security-policy", "default-src 'self'".into());
                    add("x-frame-options", "SAMEORIGIN".into());
                    "Ipv4"
                }
            };
            add("x-ms-keyvault-network-info", format!("conn_type={kind};addr={address};act_addr_fam={family};"));
        }
        Surface::Arm => {
            let returns = call.header("x-ms-return-client-request-id").is_some_and(|v| v.eq_ignore_ascii_case("true"));
            if let Some(client_id) = client_id.filter(|_| returns) {
                add("x-ms-client-request-id", client_id);
            }
            add("x-ms-correlation-request-id", call.correlation_id.clone());
            let stamp =
                call.now.format(format_description!("[year][month][day]T[hour][minute][second]Z")).unwrap_or_default();
            add("x-ms-routing-request-id", format!("SIMULATOR:{stamp}:{id}"));
            if let Some(remains) = call.remains.get() {
                let (class, scope) = (remains.class.name(), if remains.tenant { "tenant" } else { "subscription" });
                add(&format!("x-ms-ratelimit-remaining-{scope}-{class}"), remains.own.to_string());
                add(&format!("x-ms-ratelimit-remaining-{scope}-global-{class}"), remains.global.to_string());
            }
            add("pragma", "no-cache".into());
            add("expires", "-1".into());
        }
        Surface::Login | Surface::Graph | Surface::Host | Surface::Storage(_) | Surface::Unknown => {}
    }
}

fn journal(shared: &Shared, surface: &Surface, call: &Call, served: &Served, cut: bool) {
    let (status, code) = match &served.outcome {
        Ok(reply) => (reply.status, None),
        Err(failure) => (failure.status, Some(failure.journal_code())),
    };
    let token = matches!(surface, Surface::Login | Surface::Host);
    let asks_for_name = call
        .segments
        .last()
        .is_some_and(|s| s.eq_ignore_ascii_case("checkNameAvailability") || s.eq_ignore_ascii_case("listKeys"));
    let body = (!token && !call.body.is_empty()).then(|| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &call.body);
        hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
    });
    let entry = Entry {
        seq: 0,
        time: call.now,
        surface: surface.name(),
        host: call.host.clone(),
        method: call.method.to_string(),
        path: call.path.clone(),
        query: call.raw_query.clone(),
        status: if cut { 0 } else { status },
        code,
        principal: call.principal.get().cloned(),
        correlation_id: call.correlation_id.clone(),
        client_request_id: call.header("x-ms-client-request-id").map(|id| id.chars().take(200).collect()),
        mutating: !token && !asks_for_name && !matches!(call.method.as_str(), "GET" | "HEAD"),
        changed: call.changed.load(Ordering::Relaxed),
        fault: served.fault.clone(),
        body_sha256: body,
    };
    tracing::info!(
        surface = entry.surface,
        method = entry.method,
        host = entry.host,
        path = entry.path,
        status = entry.status,
        code = entry.code,
        changed = entry.changed,
        fault = entry.fault,
        "request"
    );
    shared.journal.record(entry);
}

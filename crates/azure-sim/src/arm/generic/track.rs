//! The operations of resources of the table: starting one, and the headers by which a caller follows it.

use crate::arm::Asked;
use crate::arm::generic::kind::Follow;
use crate::arm::generic::route::Target;
use crate::arm::operations::{self, Course, Ending, Started};
use crate::http::Reply;
use crate::state::World;

/// Starts an operation that ends with the resource of this id as it then is, or with nothing. `failure`: it ends so.
pub(crate) fn start(
    asked: &Asked<'_>,
    w: &mut World,
    target: &Target,
    resource: Option<&str>,
    failure: Option<(String, String)>,
) -> Started {
    let ending = match resource {
        Some(id) => Ending::Resource(id.to_lowercase()),
        None => Ending::Nothing,
    };
    // Cosmos DB has a word of its own for what runs.
    let running = if target.kind.flat_errors { "Dequeued" } else { "InProgress" };
    let course = Course { length: asked.shared.tuning().lro(), failure, running };
    operations::begin(w, asked.call, &asked.caller.oid, ending, course)
}

/// An answer with the headers that the type gives.
pub(crate) fn reply(
    asked: &Asked<'_>,
    target: &Target,
    status: u16,
    follow: Follow,
    op: Option<&Started>,
    body: Option<serde_json::Value>,
    region: &str,
) -> Reply {
    let Some(op) = op else {
        return Reply { body, ..Reply::empty(status) };
    };
    let version = asked.call.param("api-version").unwrap_or_default();
    let url = |word: &str| {
        format!(
            "{}/subscriptions/{}/providers/{}/locations/{region}/{word}/{}?api-version={version}",
            asked.call.origin,
            asked.subscription,
            target.kind.namespace(),
            op.id
        )
    };
    let (status_word, result_word) = target.kind.tracking;
    let hidden = follow == Follow::Hidden;
    let mut reply = Reply { body: body.filter(|_| !hidden), ..Reply::empty(if hidden { 202 } else { status }) };
    if matches!(follow, Follow::Status | Follow::Both) {
        reply = reply.with("azure-asyncoperation", url(status_word));
    }
    if matches!(follow, Follow::Location | Follow::Both | Follow::Hidden) {
        reply = reply.with("location", url(result_word));
    }
    match asked.shared.tuning().lro_retry_after {
        Some(seconds) if !matches!(follow, Follow::Done | Follow::State) => {
            reply.with("retry-after", seconds.to_string())
        }
        _ => reply,
    }
}

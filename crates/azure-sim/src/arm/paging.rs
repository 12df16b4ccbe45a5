//! Paging of ARM's lists, for all of them at one place: `$top`, `$skiptoken` and an absolute `nextLink`. The token names the
//! last item shown, so that a list that changes between two pages neither repeats nor loses what stays.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use url::form_urlencoded;

use crate::arm::Asked;
use crate::http::{Failure, Outcome};

/// Cuts the answer to a list down to the page asked for. Anything else, and a list that fits, stays as it is.
pub(crate) fn cut(asked: &Asked<'_>, outcome: Outcome) -> Outcome {
    let mut reply = outcome?;
    if !asked.call.is("GET") || reply.status != 200 {
        return Ok(reply);
    }
    let Some(items) = reply.body.as_mut().and_then(|b| b.get_mut("value")).and_then(Value::as_array_mut) else {
        return Ok(reply);
    };
    let size = match asked.call.param("$top") {
        None => asked.shared.tuning().page_size,
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| Failure::new(400, "InvalidTopQueryString", format!("The $top '{text}' is not valid.")))?
            .min(asked.shared.tuning().page_size),
    };
    let after = asked.call.param("$skiptoken").map(decode).transpose()?;
    if (after.is_none() && items.len() <= size) || !items.iter().all(|i| key(i).is_some()) {
        return Ok(reply);
    }
    items.sort_by_key(key);
    if let Some(after) = &after {
        items.retain(|i| key(i).is_some_and(|k| k > *after));
    }
    let more = items.len() > size;
    items.truncate(size);
    let last = items.last().and_then(key).filter(|_| more);
    if let (Some(last), Some(Value::Object(body))) = (last, reply.body.as_mut()) {
        body.insert("nextLink".into(), link(asked, &last).into());
    }
    Ok(reply)
}

fn key(item: &Value) -> Option<String> {
    item.get("id").and_then(Value::as_str).map(str::to_lowercase)
}

/// The request's own URL with another token.
fn link(asked: &Asked<'_>, last: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in asked.call.query.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("$skiptoken")) {
        query.append_pair(name, value);
    }
    query.append_pair("$skiptoken", &URL_SAFE_NO_PAD.encode(last));
    format!("{}{}?{}", asked.call.origin, asked.call.path, query.finish())
}

/// Code UNVERIFIED.
fn decode(token: &str) -> Result<String, Failure> {
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Failure::new(400, "InvalidSkipToken", "The provided $skiptoken is not valid."))
}

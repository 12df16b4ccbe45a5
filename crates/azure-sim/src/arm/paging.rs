//! Lists in pages, as ARM providers give them: `$top` for the size, `nextLink` with a `$skiptoken` for the rest.

use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use crate::http::{Call, Failure, Outcome, Reply};

/// The page of the rows that the call asks for. Without `$top` all rows are on one page.
pub(crate) fn page(call: &Call, rows: Vec<Value>) -> Outcome {
    let number = |name: &str| match call.param(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| Failure::bad_request(format!("The value '{text}' of query parameter '{name}' is not valid."))),
    };
    let size = number("$top")?;
    if size == Some(0) {
        return Err(Failure::bad_request("The query parameter '$top' must be a positive number."));
    }
    let start = number("$skiptoken")?.unwrap_or(0);
    let next = size.map(|size| start.saturating_add(size)).filter(|next| *next < rows.len());
    let rows: Vec<Value> = rows.into_iter().skip(start).take(size.unwrap_or(usize::MAX)).collect();
    let mut body = json!({ "value": rows });
    if let Some(next) = next {
        let mut query = Serializer::new(String::new());
        for (name, value) in call.query.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("$skiptoken")) {
            query.append_pair(name, value);
        }
        query.append_pair("$skiptoken", &next.to_string());
        body["nextLink"] = format!("{}{}?{}", call.origin, call.path, query.finish()).into();
    }
    Ok(Reply::ok(body))
}

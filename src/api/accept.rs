//! Which media types a caller takes: the `Accept` header (RFC 9110, section 12.5.1).
//!
//! What belongs here: reading the header. What does not: choosing what a route answers.

use axum::http::{HeaderMap, header};

/// Whether the caller takes a type such as `application/json`. No header takes everything.
pub(super) fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    quality(headers, wanted) > 0
}

/// Whether the caller prefers an event stream to JSON. Equal wishes are answered with JSON.
pub(super) fn prefers_event_stream(headers: &HeaderMap) -> bool {
    let stream = quality(headers, "text/event-stream");
    stream > 0 && stream > quality(headers, "application/json")
}

/// The weight of a type in thousandths: that of the most specific range that covers it.
fn quality(headers: &HeaderMap, wanted: &str) -> u16 {
    let mut ranges = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut best: Option<(u8, u16)> = None;
    let mut any = false;
    for range in &mut ranges {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        if name.is_empty() {
            continue;
        }
        any = true;
        let Some(specific) = specificity(name, wanted) else { continue };
        let weight =
            parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q="))).map_or(1000, thousandths);
        if best.is_none_or(|(found, _)| specific >= found) {
            best = Some((specific, weight));
        }
    }
    best.map_or(if any { 0 } else { 1000 }, |(_, weight)| weight)
}

fn specificity(range: &str, wanted: &str) -> Option<u8> {
    let group = wanted.split('/').next().unwrap_or_default();
    if range.eq_ignore_ascii_case(wanted) {
        return Some(2);
    }
    if range.strip_suffix("/*").is_some_and(|r| r.eq_ignore_ascii_case(group)) {
        return Some(1);
    }
    (range == "*/*").then_some(0)
}

fn thousandths(weight: &str) -> u16 {
    let weight: f32 = weight.trim().parse().unwrap_or(1.0);
    // Bounded right here, so the cast cannot wrap; NaN becomes 0.
    (weight.clamp(0.0, 1.0) * 1000.0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &[&str]) -> HeaderMap {
        accept.iter().filter_map(|a| Some((header::ACCEPT, a.parse().ok()?))).collect()
    }

    #[test]
    fn the_most_specific_range_decides() {
        for (accept, json, stream) in [
            (&[][..], true, false),
            (&["*/*"], true, false),
            (&["application/json"], true, false),
            (&["text/event-stream"], false, true),
            (&["text/html, application/xhtml+xml, */*;q=0.8"], true, false),
            (&["application/*"], true, false),
            (&["text/event-stream, application/json;q=0.5"], true, true),
            (&["text/event-stream;q=0.2, application/json"], true, false),
            (&["application/json;q=0, */*"], false, true),
            (&["text/html"], false, false),
            (&["text/event-stream", "application/json; q=0.1"], true, true),
        ] {
            let headers = headers(accept);
            assert_eq!(accepts(&headers, "application/json"), json, "{accept:?}");
            assert_eq!(prefers_event_stream(&headers), stream, "{accept:?}");
        }
    }
}

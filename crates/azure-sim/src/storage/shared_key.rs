//! The text that a request by account key signs, as Azure publishes it for versions from 2015-02-21 on.

use std::collections::BTreeMap;

use crate::http::Call;

/// Headers whose values are signed without their names, in this order. An empty body signs no length.
const STANDARD: &[&str] = &[
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// The text to sign.
pub(crate) fn text(call: &Call, account: &str) -> String {
    let mut out = format!("{}\n", call.method);
    for name in STANDARD {
        let value = call.header(name).unwrap_or_default();
        let absent =
            (*name == "content-length" && value == "0") || (*name == "date" && call.headers.contains_key("x-ms-date"));
        out += if absent { "" } else { value };
        out.push('\n');
    }
    let mut own: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &call.headers {
        if name.as_str().starts_with("x-ms-") {
            own.entry(name.as_str()).or_default().push(value.to_str().unwrap_or_default().trim());
        }
    }
    for (name, values) in own {
        out += &format!("{name}:{}\n", values.join(","));
    }
    out += &format!("/{account}{}", call.path);
    let mut query: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in &call.query {
        query.entry(name.to_lowercase()).or_default().push(value);
    }
    for (name, mut values) in query {
        values.sort_unstable();
        out += &format!("\n{name}:{}", values.join(","));
    }
    out
}

/// Whether the signature, in base64, is the one of the text by the key.
pub(crate) fn verifies(key: &[u8], text: &str, signature: &[u8]) -> bool {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    aws_lc_rs::hmac::verify(&key, text.as_bytes(), signature).is_ok()
}

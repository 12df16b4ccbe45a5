//! Headers of the blob service: dates, metadata, what describes a blob, and what is on every answer.

use std::collections::BTreeMap;

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::http::{Call, Failure};
use crate::storage::store::Blob;

const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// A time as HTTP writes it.
pub(crate) fn http_date(at: OffsetDateTime) -> String {
    at.format(HTTP_DATE).unwrap_or_default()
}

/// A time read from a header.
pub(crate) fn parse_date(text: &str) -> Option<OffsetDateTime> {
    PrimitiveDateTime::parse(text, HTTP_DATE).ok().map(PrimitiveDateTime::assume_utc)
}

/// What describes a blob: the header that a read answers, and the one in which a write may give it as well.
pub(crate) const DESCRIBED: &[&str] =
    &["content-type", "content-encoding", "content-language", "content-disposition", "cache-control"];

/// What a write says about the blob. Content type and its like may come as the request's own or with the service's prefix,
/// which goes first.
pub(crate) fn described(call: &Call) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> = DESCRIBED
        .iter()
        .filter_map(|name| {
            let own = call.header(&format!("x-ms-blob-{name}"));
            // Disposition is given with the prefix only.
            let plain = || call.header(name).filter(|_| *name != "content-disposition");
            Some(((*name).to_owned(), own.or_else(plain)?.to_owned()))
        })
        .collect();
    out.entry("content-type".to_owned()).or_insert_with(|| "application/octet-stream".to_owned());
    out
}

/// `x-ms-meta-*`, at most 8 KiB of names and values.
pub(crate) fn metadata(call: &Call) -> Result<BTreeMap<String, String>, Failure> {
    let mut out = BTreeMap::new();
    let mut size = 0;
    for (name, value) in &call.headers {
        let Some(name) = name.as_str().strip_prefix("x-ms-meta-") else { continue };
        let Ok(value) = value.to_str() else {
            return Err(Failure::new(400, "InvalidMetadata", "The metadata specified is invalid."));
        };
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(good) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Failure::new(
                400,
                "InvalidMetadata",
                "The metadata specified is invalid. It has characters that are not permitted.",
            ));
        }
        size += name.len() + value.len();
        out.insert(name.to_owned(), value.to_owned());
    }
    if size > 8 * 1024 {
        return Err(Failure::new(
            400,
            "MetadataTooLarge",
            "The size of the specified metadata exceeds the maximum size permitted.",
        ));
    }
    Ok(out)
}

/// The headers of a read of the blob.
pub(crate) fn of_blob(blob: &Blob) -> Vec<(String, String)> {
    let mut out = vec![
        ("etag".to_owned(), blob.etag.clone()),
        ("last-modified".to_owned(), http_date(blob.modified)),
        ("x-ms-creation-time".to_owned(), http_date(blob.created)),
        ("x-ms-blob-type".to_owned(), "BlockBlob".to_owned()),
        ("x-ms-lease-status".to_owned(), "unlocked".to_owned()),
        ("x-ms-lease-state".to_owned(), "available".to_owned()),
        ("x-ms-server-encrypted".to_owned(), "true".to_owned()),
        ("x-ms-access-tier".to_owned(), "Hot".to_owned()),
        ("x-ms-access-tier-inferred".to_owned(), "true".to_owned()),
        ("accept-ranges".to_owned(), "bytes".to_owned()),
    ];
    out.extend(blob.described.iter().filter(|(n, _)| *n != "content-type").map(|(n, v)| (n.clone(), v.clone())));
    out.extend(blob.metadata.iter().map(|(n, v)| (format!("x-ms-meta-{n}"), v.clone())));
    out
}

/// The headers of every answer, an error's code among them.
pub(crate) fn common(call: &Call, code: Option<&str>) -> Vec<(String, String)> {
    let version = call.header("x-ms-version").unwrap_or("2025-05-05");
    let mut out = vec![("x-ms-version".to_owned(), version.to_owned())];
    if let Some(id) = call.header("x-ms-client-request-id") {
        out.push(("x-ms-client-request-id".to_owned(), id.to_owned()));
    }
    if let Some(code) = code {
        out.push(("x-ms-error-code".to_owned(), code.to_owned()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_out_and_come_back() {
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        assert_eq!(http_date(at), "Fri, 04 Oct 2024 00:00:00 GMT");
        assert_eq!(parse_date(&http_date(at)), Some(at));
        assert_eq!(parse_date("yesterday"), None);
    }
}

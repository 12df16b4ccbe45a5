//! Lists of containers and of blobs: prefix, delimiter, pages.

use std::collections::BTreeMap;

use axum::body::Bytes;

use crate::http::{Call, Failure, Outcome, Raw, Reply};
use crate::storage::Asked;
use crate::storage::auth::Need;
use crate::storage::containers::of;
use crate::storage::headers::{DESCRIBED, http_date};
use crate::storage::store::{Blob, Container};
use crate::storage::xml::{document, element, escape};

const MOST: usize = 5000;

/// What both lists are asked.
struct Page<'a> {
    prefix: &'a str,
    delimiter: &'a str,
    /// Where the page starts: the name itself.
    marker: &'a str,
    most: Option<usize>,
    metadata: bool,
}

impl<'a> Page<'a> {
    fn of(call: &'a Call) -> Result<Self, Failure> {
        let text = |name: &str| call.param(name).unwrap_or_default();
        let most = match text("maxresults") {
            "" => None,
            number => Some(number.parse().ok().filter(|n| (1..=MOST).contains(n)).ok_or_else(|| {
                Failure::new(
                    400,
                    "OutOfRangeQueryParameterValue",
                    "One of the query parameters specified in the request URI is outside the permissible range.",
                )
            })?),
        };
        let metadata = text("include").split(',').any(|i| i.trim().eq_ignore_ascii_case("metadata"));
        Ok(Self { prefix: text("prefix"), delimiter: text("delimiter"), marker: text("marker"), most, metadata })
    }

    /// The entries of this page and where the next one starts. Names that share what stands before a delimiter are told
    /// once, as `None`.
    fn take<'m, T>(&self, all: &'m BTreeMap<String, T>) -> (Vec<(String, Option<&'m T>)>, String) {
        let mut page: Vec<(String, Option<&T>)> = Vec::new();
        for (name, item) in all {
            let Some(rest) = name.strip_prefix(self.prefix) else { continue };
            let group = (!self.delimiter.is_empty()).then(|| rest.find(self.delimiter)).flatten();
            let shown = match group {
                Some(at) => &name[..self.prefix.len() + at + self.delimiter.len()],
                None => name,
            };
            if shown < self.marker || (group.is_some() && page.last().is_some_and(|(last, _)| last == shown)) {
                continue;
            }
            if page.len() == self.most.unwrap_or(MOST) {
                return (page, shown.to_owned());
            }
            page.push((shown.to_owned(), group.is_none().then_some(item)));
        }
        (page, String::new())
    }

    /// The parameters as answers repeat them.
    fn echo(&self) -> String {
        let given = [("Prefix", self.prefix), ("Marker", self.marker), ("Delimiter", self.delimiter)];
        let mut out: String =
            given.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| element(name, value)).collect();
        if let Some(most) = self.most {
            out += &element("MaxResults", &most.to_string());
        }
        out
    }
}

fn answer(attributes: &str, inner: &str) -> Reply {
    let text = document(&format!("<EnumerationResults {attributes}>{inner}</EnumerationResults>"));
    let mut reply = Reply::empty(200);
    reply.raw = Some(Raw { content_type: "application/xml".to_owned(), bytes: Bytes::from(text) });
    reply
}

fn metadata(map: &BTreeMap<String, String>) -> String {
    let inner: String = map.iter().map(|(name, value)| element(name, value)).collect();
    if inner.is_empty() { "<Metadata />".to_owned() } else { format!("<Metadata>{inner}</Metadata>") }
}

pub(crate) fn containers(asked: &Asked<'_>) -> Outcome {
    let mut page = Page::of(asked.call)?;
    page.delimiter = "";
    asked.shared.world(|w| {
        asked.require(w, Need::READ_CONTAINER, "")?;
        let (found, next) = page.take(&asked.store(w)?.containers);
        let rows: String =
            found.iter().filter_map(|(name, item)| Some(container_row(name, (*item)?, page.metadata))).collect();
        let service = format!("ServiceEndpoint=\"{}/\"", escape(&asked.call.origin));
        let inner = format!("{}<Containers>{rows}</Containers>{}", page.echo(), element("NextMarker", &next));
        Ok(answer(&service, &inner))
    })
}

fn container_row(name: &str, container: &Container, with_metadata: bool) -> String {
    let properties = [
        element("Last-Modified", &http_date(container.modified)),
        element("Etag", &container.etag),
        element("LeaseStatus", "unlocked"),
        element("LeaseState", "available"),
        element("DefaultEncryptionScope", "$account-encryption-key"),
        element("DenyEncryptionScopeOverride", "false"),
        element("HasImmutabilityPolicy", "false"),
        element("HasLegalHold", "false"),
    ]
    .concat();
    let metadata = if with_metadata { metadata(&container.metadata) } else { String::new() };
    format!("<Container>{}<Properties>{properties}</Properties>{metadata}</Container>", element("Name", name))
}

/// Names alone are told also while the account's key is away; metadata is not.
pub(crate) async fn blobs(asked: &Asked<'_>, container: &str) -> Outcome {
    let page = Page::of(asked.call)?;
    let may = asked.shared.world(|w| {
        asked.require(w, Need::READ, container)?;
        of(asked.store(w)?, container).map(|_| ())
    });
    may?;
    if page.metadata {
        asked.data_key().await?;
    }
    asked.shared.world(|w| {
        let (found, next) = page.take(&of(asked.store(w)?, container)?.blobs);
        let rows: String = found
            .iter()
            .map(|(name, blob)| match blob {
                Some(blob) => blob_row(name, blob, page.metadata),
                None => format!("<BlobPrefix>{}</BlobPrefix>", element("Name", name)),
            })
            .collect();
        let which =
            format!("ServiceEndpoint=\"{}/\" ContainerName=\"{}\"", escape(&asked.call.origin), escape(container));
        let inner = format!("{}<Blobs>{rows}</Blobs>{}", page.echo(), element("NextMarker", &next));
        Ok(answer(&which, &inner))
    })
}

fn blob_row(name: &str, blob: &Blob, with_metadata: bool) -> String {
    let mut properties = vec![
        element("Creation-Time", &http_date(blob.created)),
        element("Last-Modified", &http_date(blob.modified)),
        // Lists show it without quotes.
        element("Etag", blob.etag.trim_matches('"')),
        element("Content-Length", &blob.length.to_string()),
        element("Content-MD5", &blob.md5),
    ];
    for header in DESCRIBED {
        let name: Vec<String> =
            header.split('-').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..])).collect();
        let value = blob.described.get(*header).map(String::as_str).unwrap_or_default();
        properties.push(element(&name.join("-"), value));
    }
    properties.extend([
        element("BlobType", "BlockBlob"),
        element("AccessTier", "Hot"),
        element("AccessTierInferred", "true"),
        element("LeaseStatus", "unlocked"),
        element("LeaseState", "available"),
        element("ServerEncrypted", "true"),
    ]);
    let metadata = if with_metadata { metadata(&blob.metadata) } else { String::new() };
    format!("<Blob>{}<Properties>{}</Properties>{metadata}</Blob>", element("Name", name), properties.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_without_gap_or_repetition() {
        let all: BTreeMap<String, ()> =
            ["a/1", "a/2", "b", "c/d/1", "c/e"].iter().map(|n| ((*n).to_owned(), ())).collect();
        let rows: &[(&str, &str, &[&str])] = &[
            ("", "", &["a/1", "a/2", "b", "c/d/1", "c/e"]),
            ("", "/", &["a/", "b", "c/"]),
            ("c/", "/", &["c/d/", "c/e"]),
            ("x", "", &[]),
        ];
        for (prefix, delimiter, expected) in rows {
            for most in 1..=6 {
                let (mut seen, mut marker) = (Vec::new(), String::new());
                loop {
                    let page = Page { prefix, delimiter, marker: &marker, most: Some(most), metadata: false };
                    let (found, next) = page.take(&all);
                    seen.extend(found.into_iter().map(|(name, _)| name));
                    if next.is_empty() {
                        break;
                    }
                    marker = next;
                }
                assert_eq!(seen, *expected, "{prefix} {delimiter} {most}");
            }
        }
    }
}

//! Blobs: put, get, look at, delete. Reading and writing need the account's data key, so they are refused while the
//! customer's key is away; deleting does not, and goes on.

use aws_lc_rs::digest;
use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md_5::{Digest, Md5};

use crate::http::{Failure, Outcome, Raw, Reply};
use crate::storage::auth::Need;
use crate::storage::containers::{fresh_etag, of, of_mut};
use crate::storage::headers::{described, http_date, metadata, of_blob};
use crate::storage::store::Blob;
use crate::storage::{Asked, conditions};

fn no_blob() -> Failure {
    Failure::new(404, "BlobNotFound", "The specified blob does not exist.")
}

/// What the sealed bytes are bound to: nobody can pass one blob's bytes off as another's.
fn bound(account: &str, container: &str, blob: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, format!("{account}/{container}/{blob}").as_bytes()).as_ref().to_vec()
}

pub(crate) async fn put(asked: &Asked<'_>, container: &str, name: &str) -> Outcome {
    let call = asked.call;
    let metadata = metadata(call)?;
    asked.shared.world(|w| {
        asked.require(w, Need::WRITE, container)?;
        let there = of(asked.store(w)?, container)?.blobs.get(name);
        conditions::write(call, there)
    })?;
    match call.header("x-ms-blob-type") {
        Some(kind) if kind.eq_ignore_ascii_case("BlockBlob") => {}
        Some("PageBlob" | "AppendBlob") => return Err(Failure::not_played("page and append blobs")),
        Some(_) => {
            let message = "The value for one of the HTTP headers is not in the correct format.";
            return Err(Failure::new(400, "InvalidHeaderValue", message));
        }
        None => {
            let message = "An HTTP header that's mandatory for this request is not specified.";
            return Err(Failure::new(400, "MissingRequiredHeader", message));
        }
    }
    if call.headers.contains_key("x-ms-copy-source") {
        return Err(Failure::not_played("copies of blobs"));
    }
    if name.chars().count() > 1024 {
        return Err(Failure::new(
            400,
            "InvalidResourceName",
            "The specified resource name contains invalid characters.",
        ));
    }
    let data_key = asked.data_key().await?;
    let (plain, bound) = (call.body.clone(), bound(asked.account, container, name));
    let (sealed, md5) =
        off_thread(move || (Bytes::from(data_key.seal(&bound, &plain)), STANDARD.encode(Md5::digest(&plain)))).await?;
    for sent in ["content-md5", "x-ms-blob-content-md5"].iter().filter_map(|n| call.header(n)) {
        if sent != md5 {
            let message =
                "The MD5 value specified in the request did not match with the MD5 value calculated by the server.";
            return Err(Failure::new(400, "Md5Mismatch", message));
        }
    }
    asked.shared.world(|w| {
        let etag = fresh_etag(w);
        let store = asked.store_mut(w)?;
        let there = of(store, container)?.blobs.get(name);
        conditions::write(call, there)?;
        let blob = Blob {
            sealed,
            length: call.body.len(),
            md5: md5.clone(),
            etag: etag.clone(),
            created: there.map_or(call.now, |b| b.created),
            modified: call.now,
            described: described(call),
            metadata,
        };
        store.room_for_blob(&blob, there)?;
        of_mut(store, container)?.blobs.insert(name.to_owned(), blob);
        call.touch();
        Ok(Reply::empty(201)
            .with("etag", etag)
            .with("last-modified", http_date(call.now))
            .with("content-md5", md5)
            .with("x-ms-request-server-encrypted", "true"))
    })
}

/// GET and HEAD; both need the data key, as in Azure.
pub(crate) async fn get(asked: &Asked<'_>, container: &str, name: &str) -> Outcome {
    let call = asked.call;
    let blob = asked.shared.world(|w| {
        asked.require(w, Need::READ, container)?;
        let blob = of(asked.store(w)?, container)?.blobs.get(name).cloned().ok_or_else(no_blob)?;
        conditions::read(call, &blob)?;
        Ok::<_, Failure>(blob)
    })?;
    let data_key = asked.data_key().await?;
    let (sealed, bound) = (blob.sealed.clone(), bound(asked.account, container, name));
    let plain = off_thread(move || data_key.unseal(&bound, &sealed)).await?;
    let plain = Bytes::from(plain.ok_or_else(|| Failure::new(500, "InternalError", "The blob does not decrypt."))?);
    let mut named = of_blob(&blob);
    let content_type = blob.described.get("content-type").cloned().unwrap_or_default();
    let range = if call.is("HEAD") { None } else { range(call.header("x-ms-range").or_else(|| call.header("range"))) };
    let (status, bytes) = match range {
        None => (200, plain),
        Some((from, to)) => {
            if from >= plain.len() {
                let failure = Failure::new(
                    416,
                    "InvalidRange",
                    "The range specified is invalid for the current size of the resource.",
                );
                return Err(failure.with("content-range", format!("bytes */{}", plain.len())));
            }
            let to = to.min(plain.len() - 1);
            named.push(("content-range".to_owned(), format!("bytes {from}-{to}/{}", plain.len())));
            (206, plain.slice(from..=to))
        }
    };
    // Over a part, the whole's digest goes by another name.
    let digest = if status == 200 { "content-md5" } else { "x-ms-blob-content-md5" };
    named.push((digest.to_owned(), blob.md5));
    let mut reply = Reply::empty(status);
    reply.named = named;
    reply.raw = Some(Raw { content_type, bytes });
    Ok(reply)
}

/// `bytes=from-to` or `bytes=from-`; anything else is no range, as HTTP has it.
fn range(header: Option<&str>) -> Option<(usize, usize)> {
    let (from, to) = header?.trim().strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let to = if to.is_empty() { usize::MAX } else { to.parse().ok()? };
    (from <= to).then_some((from, to))
}

pub(crate) fn delete(asked: &Asked<'_>, container: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        asked.require(w, Need::DELETE, container)?;
        let container = of_mut(asked.store_mut(w)?, container)?;
        let blob = container.blobs.get(name).ok_or_else(no_blob)?;
        conditions::write(asked.call, Some(blob))?;
        container.blobs.remove(name);
        asked.call.touch();
        Ok(Reply::empty(202).with("x-ms-delete-type-permanent", "true"))
    })
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::new(500, "InternalError", "The server encountered an internal error."))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges() {
        for (header, expected) in [
            ("bytes=0-9", Some((0, 9))),
            ("bytes=5-", Some((5, usize::MAX))),
            ("bytes=9-5", None),
            ("bytes=-5", None),
            ("bytes=99999999999999999999999-", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(range(Some(header)), expected, "{header}");
        }
    }
}

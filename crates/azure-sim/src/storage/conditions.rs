//! Conditional headers: whether a request is carried out on what is there.

use time::OffsetDateTime;

use crate::http::{Call, Failure};
use crate::storage::headers::parse_date;
use crate::storage::store::Blob;

/// Checks the conditions of a read, which are answered 304 where the caller has what it asks for already.
pub(crate) fn read(call: &Call, blob: &Blob) -> Result<(), Failure> {
    if let Some(tags) = call.header("if-match")
        && !names(tags, &blob.etag)
    {
        return Err(not_met(412));
    }
    if let Some(at) = date(call, "if-unmodified-since")?
        && blob_time(blob) > at
    {
        return Err(not_met(412));
    }
    if let Some(tags) = call.header("if-none-match") {
        return if names(tags, &blob.etag) { Err(not_met(304)) } else { Ok(()) };
    }
    match date(call, "if-modified-since")? {
        Some(at) if blob_time(blob) <= at => Err(not_met(304)),
        _ => Ok(()),
    }
}

/// Checks the conditions of a write, on what is there now.
pub(crate) fn write(call: &Call, blob: Option<&Blob>) -> Result<(), Failure> {
    let there = |test: &dyn Fn(&Blob) -> bool| blob.is_some_and(test);
    if let Some(tags) = call.header("if-none-match") {
        if tags.trim() == "*" && blob.is_some() {
            return Err(Failure::new(409, "BlobAlreadyExists", "The specified blob already exists."));
        }
        if there(&|b| names(tags, &b.etag)) {
            return Err(not_met(412));
        }
    }
    if let Some(tags) = call.header("if-match")
        && !there(&|b| names(tags, &b.etag))
    {
        return Err(not_met(412));
    }
    let unmodified = date(call, "if-unmodified-since")?;
    let modified = date(call, "if-modified-since")?;
    if unmodified.is_some_and(|at| there(&|b| blob_time(b) > at))
        || modified.is_some_and(|at| there(&|b| blob_time(b) <= at))
    {
        return Err(not_met(412));
    }
    Ok(())
}

/// Headers know whole seconds only.
fn blob_time(blob: &Blob) -> OffsetDateTime {
    blob.modified.replace_nanosecond(0).unwrap_or(blob.modified)
}

fn names(list: &str, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    list.trim() == "*" || list.split(',').any(|tag| bare(tag) == bare(etag))
}

fn date(call: &Call, name: &str) -> Result<Option<OffsetDateTime>, Failure> {
    let Some(text) = call.header(name) else { return Ok(None) };
    let wrong = || {
        Failure::new(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
    };
    parse_date(text).map(Some).ok_or_else(wrong)
}

fn not_met(status: u16) -> Failure {
    Failure::new(status, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
}

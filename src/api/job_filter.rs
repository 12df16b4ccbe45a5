//! Which jobs a list shows: its query parameters and its cursor.
//!
//! What belongs here: reading both. What does not: SQL.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;
use uuid::Uuid;

use super::extract::Query;
use super::problem::Problem;
use crate::domain::ids::{ArmId, JobId};
use crate::domain::job::{JobKind, JobState};
use crate::services;
use crate::store::{JobFilter, MAX_PAGE};

const DEFAULT_PAGE: u16 = 50;

/// The first byte of a cursor: another order of the list would be another version.
const CURSOR_VERSION: u8 = 1;

/// The parameters as OpenAPI describes them; [`read`] reads them, so that every fault is reported at once.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the parameters, which are read one by one")]
pub(super) struct JobQuery {
    /// Only jobs in this state.
    state: Option<JobState>,
    /// Only jobs of this kind.
    kind: Option<JobKind>,
    /// Only jobs of this service.
    #[param(example = "storage-account")]
    service: Option<String>,
    /// Only jobs of this target: its ARM id, in any case.
    target: Option<String>,
    /// Only jobs that this caller asked for.
    requested_by: Option<String>,
    /// Only jobs with this label: `key=value`, split at the first equals sign.
    #[param(example = "team=payments")]
    label: Option<String>,
    /// Only jobs accepted at this time or later (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    created_after: Option<String>,
    /// Only jobs accepted before this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<String>,
    /// How many jobs a page has.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u16>,
    /// Where the page before ended: opaque, taken from the page's `next`.
    cursor: Option<String>,
}

/// A page that was asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: JobFilter,
    pub(super) limit: u16,
    /// The parameters as given, without the cursor.
    query: String,
}

/// Reads the parameters.
pub(super) fn read(mut query: Query) -> Result<Wanted, Problem> {
    let rest = query.without("cursor");
    let filter = JobFilter {
        state: query
            .take("state", |text| JobState::find(text).ok_or_else(|| one_of(JobState::ALL.iter().map(|s| s.as_str())))),
        kind: query.take("kind", |text| {
            let found = JobKind::ALL.iter().copied().find(|k| k.as_str() == text);
            found.ok_or_else(|| one_of(JobKind::ALL.iter().map(|k| k.as_str())))
        }),
        service: query.take("service", |text| {
            let found = services::find(text).map(|d| d.slug.clone());
            found.ok_or_else(|| one_of(services::ALL.iter().map(|d| d.slug.as_str())))
        }),
        target_key: query.take("target", |text| ArmId::parse(text).map(|id| id.normal()).map_err(|e| e.to_string())),
        requested_by: query.take("requestedBy", |text| Ok(text.to_owned())),
        label: query.take("label", |text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err("expected key=value".into()),
        }),
        created_after: query.take("createdAfter", time),
        created_before: query.take("createdBefore", time),
        before: query
            .take("cursor", |text| read_cursor(text).ok_or_else(|| "expected the cursor of a page".to_owned())),
    };
    let limit = query.take("limit", |text| {
        let number = text.parse().ok().filter(|n| (1..=MAX_PAGE).contains(n));
        number.ok_or_else(|| format!("expected 1 to {MAX_PAGE}"))
    });
    query.finish()?;
    Ok(Wanted { filter, limit: limit.unwrap_or(DEFAULT_PAGE), query: rest })
}

impl Wanted {
    /// The path of the page after the one that ends with this job.
    pub(super) fn next_page(&self, last: JobId) -> String {
        let separator = if self.query.is_empty() { "" } else { "&" };
        format!("/v1/jobs?{}{separator}cursor={}", self.query, cursor(last))
    }
}

fn cursor(last: JobId) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend_from_slice(last.0.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor(text: &str) -> Option<JobId> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (CURSOR_VERSION, id) = bytes.split_first().map(|(v, id)| (*v, id))? else { return None };
    Uuid::from_slice(id).ok().map(JobId)
}

/// A plus sign of an offset arrives as a space where the caller did not encode it.
fn time(text: &str) -> Result<OffsetDateTime, String> {
    let time = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).ok();
    time.filter(|t| t.year() >= 1)
        .ok_or_else(|| "expected an RFC 3339 time, for instance 2026-07-01T12:00:00Z".to_owned())
}

fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("expected one of: {}", words.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_nothing_else_is_one() {
        let id = JobId::generate();
        assert_eq!(read_cursor(&cursor(id)), Some(id));
        let other = URL_SAFE_NO_PAD.encode([[2].as_slice(), id.0.as_bytes()].concat());
        for bad in ["", "x", "AQ", &other, &format!("{}A", cursor(id)), &id.to_string()] {
            assert_eq!(read_cursor(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_next_page_has_the_same_filters() {
        let wanted = read(Query::new("state=failed&cursor=&label=team%3Da%26b&limit=2")).expect("no fault");
        assert_eq!(wanted.limit, 2);
        assert_eq!(wanted.filter.label, Some(("team".into(), "a&b".into())));
        let next = wanted.next_page(JobId::generate());
        assert!(next.starts_with("/v1/jobs?state=failed&label=team%3Da%26b&limit=2&cursor="), "{next}");
        assert!(read(Query::new(next.split_once('?').map_or("", |(_, q)| q))).is_ok());
    }

    #[test]
    fn times_take_an_offset_with_a_bare_plus() {
        let plain = read(Query::new("createdAfter=2026-07-01T12:00:00+02:00")).expect("no fault");
        let encoded = read(Query::new("createdAfter=2026-07-01T12:00:00%2B02:00")).expect("no fault");
        assert_eq!(plain.filter.created_after, encoded.filter.created_after);
        assert!(plain.filter.created_after.is_some());
    }
}

//! api-versions: their form, and whether a type takes one. Client SDKs run ahead of every list of versions, so a type takes
//! its first published version and everything later; what is older than the type itself is refused.

use serde_json::Value;
use time::{Date, Month};

use crate::arm::checks::REGIONS;
use crate::arm::namespaces;
use crate::arm::target::Target;
use crate::http::{Call, Failure};

/// The parameter, or ARM's refusal of a missing or malformed one.
pub(crate) fn required(call: &Call) -> Result<&str, Failure> {
    let Some(version) = call.param("api-version").filter(|v| !v.is_empty()) else {
        return Err(Failure::new(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    };
    if date(version).is_some() {
        return Ok(version);
    }
    let supported = Target::of(&call.segments)
        .and_then(|t| namespaces::kind(&t.namespace, &t.version_kind()))
        .map_or_else(|| "of the form YYYY-MM-DD and YYYY-MM-DD-preview".to_owned(), |(_, t)| t.versions.join(","));
    Err(Failure::new(
        400,
        "InvalidApiVersionParameter",
        format!("The api-version '{version}' is invalid. The supported versions are '{supported}'."),
    ))
}

/// Refuses a version that is older than the type. Types that no table knows take every version.
pub(crate) fn served(call: &Call, target: &Target, version: &str) -> Result<(), Failure> {
    let kind = target.version_kind();
    let Some((namespace, found)) = namespaces::kind(&target.namespace, &kind) else {
        return Ok(());
    };
    let first = found.versions.last().and_then(|v| date(v));
    if date(version) >= first {
        return Ok(());
    }
    let versions = found.versions.join(", ");
    let location = serde_json::from_slice::<Value>(&call.body)
        .ok()
        .and_then(|body| body.get("location").and_then(Value::as_str).map(str::to_owned));
    Err(match location {
        Some(location) => Failure::new(
            400,
            "NoRegisteredProviderFound",
            format!(
                "No registered resource provider found for location '{location}' and API version '{version}' for type '{}'. The supported api-versions are '{versions}'. The supported locations are '{}'.",
                found.name,
                REGIONS.join(", ")
            ),
        ),
        // Status UNVERIFIED.
        None => Failure::new(
            400,
            "InvalidResourceType",
            format!(
                "The resource type '{}' could not be found in the namespace '{}' for api version '{version}'. The supported api-versions are '{versions}'.",
                found.name, namespace.name
            ),
        ),
    })
}

/// The date of `YYYY-MM-DD[-preview]`; `None` for anything else.
fn date(version: &str) -> Option<Date> {
    let (date, suffix) = version.split_at_checked(10).unwrap_or((version, ""));
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts.as_slice() else {
        return None;
    };
    let number = |text: &str, len: usize| {
        (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u16>().ok()).flatten()
    };
    let year = number(year, 4).filter(|y| (2014..=2040).contains(y))?;
    let month = Month::try_from(u8::try_from(number(month, 2)?).ok()?).ok()?;
    let day = u8::try_from(number(day, 2)?).ok()?;
    let known = ["", "-preview", "-beta", "-alpha", "-privatepreview"].contains(&suffix.to_lowercase().as_str());
    Date::from_calendar_date(i32::from(year), month, day).ok().filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn api_versions() {
        for (version, good) in [
            ("2026-02-01", true),
            ("2022-05-01-preview", true),
            ("2015-08-31-PREVIEW", true),
            ("2026-13-01", false),
            ("2026-02-30", false),
            ("latest", false),
            ("7.4", false),
            ("7.6-preview.2", false),
            ("2026-02-01-é", false),
            ("2026-02-01é", false),
            ("1999-01-01", false),
        ] {
            assert_eq!(date(version).is_some(), good, "{version}");
        }
    }
}

//! Whether the process lives, and whether it can do its work.
//!
//! What belongs here: the decision what counts as ready. What does not: the questions to the database (`store::health`).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use crate::store::{Health, MigrationState, StoreError};

/// The process serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct Liveness {
    /// Always `ok`.
    #[schema(example = "ok")]
    pub(super) status: String,
}

/// Whether the service can do its work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether every check is passed.
    pub(super) ready: bool,
    /// The checks.
    pub(super) checks: Vec<Check>,
}

/// One thing that must be so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct Check {
    /// `database`, `migrations` or `worker`.
    #[schema(example = "database")]
    pub(super) name: String,
    /// Whether it is so.
    pub(super) ok: bool,
    /// What was found.
    pub(super) detail: String,
}

/// Check that the process lives
///
/// 200 as long as the process serves requests at all; looks at nothing else.
#[utoipa::path(get, path = "/healthz", tag = "operation",
    responses((status = 200, description = "The process serves.", body = Liveness)))]
pub(super) async fn check_liveness() -> Json<Liveness> {
    Json(Liveness { status: "ok".to_owned() })
}

/// Check that the service can do its work
///
/// The database answers within two seconds, its migrations are those of this program or newer, and a worker has asked
/// for work within the last 30 seconds.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses(
        (status = 200, description = "Every check is passed.", body = Readiness),
        (status = 503, description = "A check is not passed.", body = Readiness),
    ))]
pub(super) async fn check_readiness(State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    let asked = tokio::time::timeout(api.settings.readiness_timeout, api.store.check_health()).await;
    let exhausted = || api.store.is_exhausted().then(|| "no free connection: all are in use".to_owned());
    let checks = match asked {
        // A full disk still answers what is only read.
        Ok(Ok(_)) if let Some(refusal) = api.store.recent_refusal() => vec![check("database", false, refusal)],
        Ok(Ok(health)) => checks(&health, api.settings.max_claim_age.as_secs_f64()),
        Ok(Err(error)) => vec![check("database", false, exhausted().unwrap_or_else(|| describe(&error)))],
        Err(_) => vec![check("database", false, exhausted().unwrap_or_else(|| "did not answer in time".to_owned()))],
    };
    let ready = checks.iter().all(|c| c.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, checks }))
}

fn check(name: &str, ok: bool, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok, detail: detail.into() }
}

fn checks(health: &Health, max_claim_age: f64) -> Vec<Check> {
    let migrations = match health.migrations {
        MigrationState::Current => check("migrations", true, "current"),
        MigrationState::Ahead => check("migrations", true, "newer than this program"),
        MigrationState::Behind => check("migrations", false, "some are missing; run `cmk migrate`"),
    };
    let worker = match health.last_claim_age {
        None => check("worker", false, "no worker has asked for work yet"),
        Some(age) => {
            let seconds = age.max(0.0).round();
            check("worker", age <= max_claim_age, format!("asked for work {seconds} s ago"))
        }
    };
    vec![check("database", true, "answers"), migrations, worker]
}

/// Without the cause, which may name hosts.
fn describe(error: &StoreError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_migrations_and_a_working_worker() {
        for (migrations, age, want) in [
            (MigrationState::Current, Some(1.0), true),
            (MigrationState::Ahead, Some(30.0), true),
            (MigrationState::Ahead, Some(-0.5), true),
            (MigrationState::Behind, Some(1.0), false),
            (MigrationState::Current, Some(30.1), false),
            (MigrationState::Current, None, false),
        ] {
            let checks = checks(&Health { migrations, last_claim_age: age }, 30.0);
            assert_eq!(checks.iter().all(|c| c.ok), want, "{migrations:?} {age:?}");
        }
    }
}

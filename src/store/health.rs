//! Whether the database is there, current, and being worked on.
//!
//! What belongs here: the three questions of readiness. What does not: the decision what counts as ready.

use time::OffsetDateTime;

use super::{MIGRATIONS, Store, StoreError};

/// What the database says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Whether its schema is the one this program was built for.
    pub migrations: MigrationState,
    /// Seconds since any worker last asked for work and got an answer; `None` if none ever did.
    pub last_claim_age: Option<f64>,
}

/// The schema compared with this program's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationState {
    /// The same.
    Current,
    /// Migrations are missing.
    Behind,
    /// The database has migrations this program does not know: fine during a rolling upgrade.
    Ahead,
}

impl Store {
    /// Why the database refused a statement of this process in the last seconds, if it did for want of something.
    pub fn recent_refusal(&self) -> Option<String> {
        let code = self.pool.recent_refusal()?;
        Some(match code.as_str() {
            "53100" => "refuses statements: its disk is full (53100)".to_owned(),
            "53300" => "refuses connections: it has too many (53300)".to_owned(),
            "25006" => "takes no writes: it is a standby (25006)".to_owned(),
            code => format!("refuses statements ({code})"),
        })
    }

    /// Whether every connection that this process may have is in use.
    pub fn is_exhausted(&self) -> bool {
        self.pool.is_exhausted()
    }

    /// Asks the three questions.
    pub async fn check_health(&self) -> Result<Health, StoreError> {
        let exists: bool =
            sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(&self.pool).await?;
        if !exists {
            return Ok(Health { migrations: MigrationState::Behind, last_claim_age: None });
        }
        let applied: Option<i64> =
            sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(&self.pool).await?;
        let known = MIGRATIONS.iter().map(|m| m.version).max();
        let migrations = match applied.cmp(&known) {
            std::cmp::Ordering::Less => {
                return Ok(Health { migrations: MigrationState::Behind, last_claim_age: None });
            }
            std::cmp::Ordering::Equal => MigrationState::Current,
            std::cmp::Ordering::Greater => MigrationState::Ahead,
        };
        let (last, now): (Option<OffsetDateTime>, OffsetDateTime) =
            sqlx::query_as("select max(last_claim_at), coalesce($1, now()) from workers")
                .bind(self.now())
                .fetch_one(&self.pool)
                .await?;
        Ok(Health { migrations, last_claim_age: last.map(|last| (now - last).as_seconds_f64()) })
    }
}

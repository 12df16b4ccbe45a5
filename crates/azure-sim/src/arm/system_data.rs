//! `systemData`: who made a resource and who changed it last.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::arm::Asked;
use crate::http::rfc3339;

/// Creation and last change of a resource. Every caller here is an application, known by its application id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SystemData {
    created_by: String,
    created_at: OffsetDateTime,
    changed_by: String,
    changed_at: OffsetDateTime,
}

impl SystemData {
    /// Of a resource that this request makes.
    pub fn new(asked: &Asked<'_>) -> Self {
        Self::of(&asked.caller.appid, asked.call.now)
    }

    /// Of a resource that this application makes now.
    pub fn of(by: &str, at: OffsetDateTime) -> Self {
        let by = by.to_owned();
        Self { created_by: by.clone(), created_at: at, changed_by: by, changed_at: at }
    }

    /// Notes that this request changes the resource.
    pub fn change(&mut self, asked: &Asked<'_>) {
        self.changed_by.clone_from(&asked.caller.appid);
        self.changed_at = asked.call.now;
    }

    pub fn render(&self) -> Value {
        json!({
            "createdBy": self.created_by,
            "createdByType": "Application",
            "createdAt": rfc3339(self.created_at),
            "lastModifiedBy": self.changed_by,
            "lastModifiedByType": "Application",
            "lastModifiedAt": rfc3339(self.changed_at),
        })
    }
}

//! The error catalogue.
//!
//! What belongs here: its wire form. What does not: the codes (`domain::codes`).

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::Name;
use super::openapi::problems;
use super::problem::{Problem, all_codes};
use crate::domain::codes::Code;
use crate::domain::failure::FailureClass;

problems!(ListErrorsProblems: InvalidParameter);
problems!(GetErrorProblems: InvalidParameter, NotFound);

/// What a code means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ErrorCode)]
pub(super) struct ErrorView {
    /// The code; never renamed.
    #[schema(schema_with = all_codes)]
    code: String,
    /// What kind of trouble it is.
    class: FailureClass,
    /// Whether the same thing can succeed later without anybody changing anything.
    retryable: bool,
    /// The HTTP status that comes with it; absent for codes that only jobs fail with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// One short line.
    title: String,
    /// What it means.
    meaning: String,
    /// What the reader can do.
    remedy: String,
}

/// Every code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct ErrorList {
    /// The codes.
    pub(super) items: Vec<ErrorView>,
}

/// List the error codes
///
/// Every code that a problem or a failed job can have: meaning, class and remedy.
#[utoipa::path(get, path = "/v1/errors", tag = "catalogue",
    responses((status = 200, description = "Every code.", body = ErrorList), ListErrorsProblems))]
pub(super) async fn list_errors() -> Json<ErrorList> {
    Json(ErrorList { items: Code::ALL.iter().map(|c| ErrorView::from(*c)).collect() })
}

/// Get an error code
///
/// Meaning, class and remedy of one code. The `type` of every problem leads here.
#[utoipa::path(get, path = "/v1/errors/{code}", tag = "catalogue",
    params(("code" = String, Path, description = "The code.", example = "target-busy")),
    responses((status = 200, description = "The code.", body = ErrorView), GetErrorProblems))]
pub(super) async fn get_error(Name(code): Name) -> Result<Json<ErrorView>, Problem> {
    let no_such = || Problem::new(Code::NotFound).detail("there is no such code").link("errors", "/v1/errors");
    Code::find(&code).map(|c| Json(c.into())).ok_or_else(no_such)
}

impl From<Code> for ErrorView {
    fn from(code: Code) -> Self {
        let info = code.info();
        Self {
            code: info.code.to_owned(),
            class: info.class,
            retryable: info.class.is_retryable(),
            status: info.status,
            title: info.title.to_owned(),
            meaning: info.meaning.to_owned(),
            remedy: info.remedy.to_owned(),
        }
    }
}

//! The contract's reference page: Swagger UI out of the binary, so that it works offline.
//!
//! What belongs here: serving its files. What does not: the contract (`openapi`).

use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::{Config, SwaggerFile, serve};

use super::Api;
use super::extract::Name;
use super::problem::Problem;
use crate::domain::codes::Code;

type PageConfig = Extension<Arc<Config<'static>>>;

/// `/docs` and what its page loads.
pub(super) fn routes() -> Router<Api> {
    let config = Arc::new(Config::from("/openapi.json").try_it_out_enabled(true).display_request_duration(true));
    Router::new()
        .route("/docs", get(page))
        .route("/docs/", get(page))
        .route("/docs/{*file}", get(file))
        .layer(Extension(config))
}

/// The page itself, also without a slash at the end of its address: a base makes its relative links right in both cases.
async fn page(Extension(config): PageConfig) -> Result<Response, Problem> {
    let found = load("index.html", config)?;
    let html = String::from_utf8_lossy(&found.bytes).replacen("<head>", "<head>\n    <base href=\"/docs/\">", 1);
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
}

async fn file(Extension(config): PageConfig, Name(path): Name) -> Result<Response, Problem> {
    let found = load(&path, config)?;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, found.content_type)], found.bytes.into_owned()).into_response())
}

fn load(path: &str, config: Arc<Config<'static>>) -> Result<SwaggerFile<'static>, Problem> {
    match serve(path, config) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(Problem::new(Code::NotFound)),
        Err(error) => {
            tracing::error!(error = %error, "a file of the reference page cannot be served");
            Err(Problem::new(Code::Internal))
        }
    }
}

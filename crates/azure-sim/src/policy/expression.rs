//! The few template expressions that rules may hold: `[parameters('x')]`, `[field('x')]` and `[requestContext().apiVersion]`,
//! each alone in its string. All others are refused when the definition is written.

use serde_json::Value;

use crate::policy::fields::{self, Subject};

/// A value of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Literal(Value),
    Parameter(String),
    Field(String),
    ApiVersion,
}

impl Expression {
    /// Reads a value; the error says what is not supported.
    pub fn read(value: &Value) -> Result<Self, String> {
        let Some(text) = value.as_str() else {
            return match value {
                Value::Array(items) if items.iter().any(is_expression) => {
                    Err("expressions inside of arrays are not supported".to_owned())
                }
                _ => Ok(Self::Literal(value.clone())),
            };
        };
        if let Some(escaped) = text.strip_prefix("[[") {
            return Ok(Self::Literal(Value::from(format!("[{escaped}"))));
        }
        let Some(inside) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) else {
            return Ok(Self::Literal(value.clone()));
        };
        let inside = inside.trim();
        let argument = |function: &str| {
            let (name, rest) = inside.split_once('(')?;
            let argument = rest.strip_suffix(')')?.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            (name.trim().eq_ignore_ascii_case(function) && !argument.contains('\'')).then(|| argument.to_owned())
        };
        if let Some(name) = argument("parameters") {
            return Ok(Self::Parameter(name));
        }
        if let Some(field) = argument("field").filter(|f| fields::known(f)) {
            return Ok(Self::Field(field));
        }
        if inside.eq_ignore_ascii_case("requestContext().apiVersion") {
            return Ok(Self::ApiVersion);
        }
        Err(format!("the expression '{text}' is not supported"))
    }

    /// The parameter that it names.
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Self::Parameter(name) => Some(name),
            _ => None,
        }
    }

    /// Its value; `None` for a field that is absent.
    pub fn value(&self, subject: &Subject, parameter: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
        match self {
            Self::Literal(value) => Some(value.clone()),
            Self::Parameter(name) => parameter(name),
            Self::Field(field) => subject.values(field).into_iter().next(),
            Self::ApiVersion => Some(subject.api_version().into()),
        }
    }
}

fn is_expression(value: &Value) -> bool {
    value.as_str().is_some_and(|t| t.starts_with('[') && !t.starts_with("[[") && t.ends_with(']'))
}

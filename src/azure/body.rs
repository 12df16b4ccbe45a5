//! Reading Azure's error bodies, whatever form they have.
//!
//! What belongs here: finding code, inner code and text in an answer, and keeping the text short and free of tokens.
//! What does not: what the codes mean (`classify`).

use serde_json::{Map, Value};

/// The longest text of Azure that is kept, in characters.
pub const MAX_MESSAGE: usize = 2_000;

const MAX_DEPTH: usize = 4;
const MAX_NESTED_TRIES: usize = 8;

/// What an error body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// The outermost code.
    pub(super) code: Option<String>,
    /// The most precise code below it: `innererror`, a JSON error inside the text, or the first of `details`.
    pub(super) inner_code: Option<String>,
    /// The text.
    pub(super) message: String,
}

/// Reads an error body. Anything is accepted; what is not JSON becomes the text.
///
/// Forms: `{"error":{"code","message","details","innererror"}}` (ARM, Key Vault), the same without the envelope (Cosmos),
/// `{"error":"…","error_description":"…"}` (Entra), `{"odata.error":{"code","message":{"value"}}}`.
pub(super) fn read(body: &[u8]) -> Words {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => from_value(&value),
        Err(_) => Words { message: clean(&String::from_utf8_lossy(body)), ..Words::default() },
    }
}

/// Reads an error that is already JSON, for instance the `error` of an operation's status.
pub(super) fn from_value(value: &Value) -> Words {
    let mut words = collect(value, 0).unwrap_or_default();
    words.message = clean(&words.message);
    words
}

fn collect(value: &Value, depth: usize) -> Option<Words> {
    if depth > MAX_DEPTH {
        return None;
    }
    let outer = value.as_object()?;
    if let Some(Value::String(code)) = outer.get("error") {
        let message = text(outer.get("error_description")).unwrap_or_default();
        return Some(Words { code: Some(short(code)), inner_code: None, message });
    }
    let error = ["error", "odata.error"].iter().find_map(|key| outer.get(*key)?.as_object()).unwrap_or(outer);
    let code = code(error);
    let message = text(error.get("message"));
    if code.is_none() && message.is_none() {
        return None;
    }
    let message = message.unwrap_or_default();
    let inner_code = inner_error(error)
        .or_else(|| nested(&message, depth).and_then(|words| words.inner_code.or(words.code)))
        .or_else(|| details(error, depth))
        .filter(|inner| Some(inner) != code.as_ref());
    Some(Words { code, inner_code, message })
}

/// The deepest code of the `innererror` chain.
fn inner_error(error: &Map<String, Value>) -> Option<String> {
    let mut found = None;
    let mut at = error;
    for _ in 0..MAX_DEPTH {
        let next = ["innererror", "innerError"].iter().find_map(|key| at.get(*key)?.as_object());
        let Some(next) = next else { break };
        found = code(next).or(found);
        at = next;
    }
    found
}

/// ARM and Cosmos put whole JSON errors of other services into their text.
fn nested(message: &str, depth: usize) -> Option<Words> {
    message.match_indices('{').take(MAX_NESTED_TRIES).find_map(|(at, _)| {
        let mut values = serde_json::Deserializer::from_str(&message[at..]).into_iter::<Value>();
        collect(&values.next()?.ok()?, depth + 1)
    })
}

fn details(error: &Map<String, Value>, depth: usize) -> Option<String> {
    let details = error.get("details")?.as_array()?;
    details.iter().take(MAX_NESTED_TRIES).find_map(|detail| {
        let words = collect(detail, depth + 1)?;
        words.inner_code.or(words.code)
    })
}

fn code(error: &Map<String, Value>) -> Option<String> {
    match error.get("code")? {
        Value::String(code) if !code.is_empty() => Some(short(code)),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => object.get("value")?.as_str().map(str::to_owned),
        _ => None,
    }
}

fn short(code: &str) -> String {
    code.chars().take(200).collect()
}

/// The text as it is kept: without anything that looks like a token, trimmed and cut.
pub(super) fn clean(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(4 * MAX_MESSAGE));
    let mut count = 0;
    for piece in text.trim().split_inclusive(|c: char| c.is_whitespace() || "\"'`,;()<>[]{}=:".contains(c)) {
        if piece.starts_with("eyJ") && piece.len() > 40 {
            kept.push_str("[token removed]");
            count += 15;
        } else {
            kept.push_str(piece);
            count += piece.chars().count();
        }
        if count > MAX_MESSAGE {
            break;
        }
    }
    match kept.char_indices().nth(MAX_MESSAGE - 1) {
        Some((at, last)) if at + last.len_utf8() < kept.len() => {
            kept.truncate(at);
            kept.push('…');
            kept
        }
        _ => kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(body: &str, code: Option<&str>, inner: Option<&str>) -> Words {
        let words = read(body.as_bytes());
        assert_eq!((words.code.as_deref(), words.inner_code.as_deref()), (code, inner), "{body}");
        words
    }

    #[test]
    fn every_form_of_error_body_is_read() {
        expect(r#"{"error":{"code":"AuthorizationFailed","message":"no"}}"#, Some("AuthorizationFailed"), None);
        expect(
            r#"{"error":{"code":"Forbidden","message":"no","innererror":{"code":"ForbiddenByRbac"}}}"#,
            Some("Forbidden"),
            Some("ForbiddenByRbac"),
        );
        expect(
            r#"{"error":{"code":"A","message":"","innerError":{"code":"B","innererror":{"code":"C"}}}}"#,
            Some("A"),
            Some("C"),
        );
        expect(r#"{"code":"BadRequest","message":"m\r\nActivityId: 1"}"#, Some("BadRequest"), None);
        expect(
            r#"{"status":"Failed","error":{"code":"X","message":"m","details":[{"code":"Y","message":"n"}]}}"#,
            Some("X"),
            Some("Y"),
        );
        let entra = expect(
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: wrong"}"#,
            Some("invalid_client"),
            None,
        );
        assert_eq!(entra.message, "AADSTS7000215: wrong");
        let odata = expect(r#"{"odata.error":{"code":"X","message":{"lang":"en","value":"v"}}}"#, Some("X"), None);
        assert_eq!(odata.message, "v");
        let html = expect("<html>Bad gateway</html>", None, None);
        assert_eq!(html.message, "<html>Bad gateway</html>");
        expect("", None, None);
        expect("[]", None, None);
        expect(r#"{"value":1}"#, None, None);
    }

    #[test]
    fn an_error_inside_the_text_is_found() {
        let inner = r#"{"error":{"code":"Forbidden","message":"m","innererror":{"code":"ForbiddenByFirewall"}}}"#;
        let outer =
            serde_json::json!({"code": "BadRequest", "message": format!("creation failed {{x}}. Error: {inner} end")});
        expect(&outer.to_string(), Some("BadRequest"), Some("ForbiddenByFirewall"));
        let arm = serde_json::json!({"error": {"code": "BadRequest", "message": inner}});
        expect(&arm.to_string(), Some("BadRequest"), Some("ForbiddenByFirewall"));
    }

    #[test]
    fn deep_nesting_and_braces_are_bounded() {
        let mut body = r#"{"code":"Z","message":"end"}"#.to_owned();
        for _ in 0..12 {
            body = serde_json::json!({"error": {"code": "O", "message": body}}).to_string();
        }
        assert_eq!(read(body.as_bytes()).code.as_deref(), Some("O"));
        let braces = serde_json::json!({"code": "B", "message": "{".repeat(100_000)}).to_string();
        assert_eq!(read(braces.as_bytes()).code.as_deref(), Some("B"));
        let deep = format!("{}{}", "{\"error\":".repeat(50_000), "}".repeat(50_000));
        assert_eq!(read(deep.as_bytes()).code, None);
    }

    #[test]
    fn texts_are_cut_and_hold_no_token() {
        let long = clean(&"ä".repeat(5_000));
        assert_eq!(long.chars().count(), MAX_MESSAGE);
        assert!(long.ends_with('…'));
        assert_eq!(clean(&"ä".repeat(MAX_MESSAGE)).chars().count(), MAX_MESSAGE);
        let token = format!("eyJ{}.eyJ{}.sig", "a".repeat(60), "b".repeat(60));
        let kept = clean(&format!("Bearer {token}, header=\"{token}\" was refused"));
        assert!(!kept.contains("aaaa") && kept.ends_with("was refused"), "{kept}");
    }
}

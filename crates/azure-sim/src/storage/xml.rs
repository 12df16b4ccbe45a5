//! XML as the storage services write it.

/// Text for an element or an attribute. Characters that XML 1.0 does not know are left out.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

/// `<name>text</name>`, `<name />` for no text.
pub(crate) fn element(name: &str, text: &str) -> String {
    if text.is_empty() { format!("<{name} />") } else { format!("<{name}>{}</{name}>", escape(text)) }
}

/// The declaration and a document.
pub(crate) fn document(root: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>{root}")
}

/// The body of an error.
pub(crate) fn error(code: &str, message: &str, request_id: &str, time: &str) -> String {
    let message = format!("{message}\nRequestId:{request_id}\nTime:{time}");
    document(&format!("<Error>{}{}</Error>", element("Code", code), element("Message", &message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_element() {
        assert_eq!(element("Name", "a<b>&\"c\u{0}"), "<Name>a&lt;b&gt;&amp;&quot;c</Name>");
        assert_eq!(element("Name", ""), "<Name />");
    }
}

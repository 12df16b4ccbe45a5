//! OData `$filter` as ARM's lists take it: terms joined by `and`, such terms joined by `or`; no parentheses. Which fields and
//! functions a list knows is the list's.

use crate::http::Failure;

/// A filter: true when all terms of one alternative are.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Filter {
    alternatives: Vec<Vec<Term>>,
}

/// One term.
#[derive(Debug, PartialEq)]
pub(crate) enum Term {
    /// `name eq 'value'`, or `ne`.
    Compare { field: String, equal: bool, value: String },
    /// `atScope()`, `substringof('x', name)`: name in lower case, arguments without quotes.
    Call { name: String, arguments: Vec<String> },
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    Comma,
}

impl Filter {
    /// Reads the parameter; absent or blank is a filter that everything passes.
    pub fn read(text: Option<&str>) -> Result<Self, Failure> {
        let text = text.unwrap_or_default();
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let wrong = || invalid(text);
        let tokens = tokens(text).ok_or_else(wrong)?;
        let mut rest = tokens.as_slice();
        let mut alternatives = vec![Vec::new()];
        loop {
            let (term, after) = term(rest).ok_or_else(wrong)?;
            if let Some(last) = alternatives.last_mut() {
                last.push(term);
            }
            match after {
                [] => return Ok(Self { alternatives }),
                [Token::Word(word), more @ ..] if word.eq_ignore_ascii_case("and") => rest = more,
                [Token::Word(word), more @ ..] if word.eq_ignore_ascii_case("or") => {
                    alternatives.push(Vec::new());
                    rest = more;
                }
                _ => return Err(wrong()),
            }
        }
    }

    /// Whether it holds, by what each term says.
    pub fn holds(&self, mut term: impl FnMut(&Term) -> bool) -> bool {
        self.alternatives.is_empty() || self.alternatives.iter().any(|all| all.iter().all(&mut term))
    }

    /// All terms, to be looked through.
    pub fn terms(&self) -> impl Iterator<Item = &Term> {
        self.alternatives.iter().flatten()
    }

    /// The terms of one alternative; `None` when there are several.
    pub fn conjunction(&self) -> Option<&[Term]> {
        match self.alternatives.as_slice() {
            [] => Some(&[]),
            [all] => Some(all),
            _ => None,
        }
    }
}

/// Status and code UNVERIFIED.
pub(crate) fn invalid(text: &str) -> Failure {
    Failure::new(400, "InvalidFilterInQueryString", format!("Invalid $filter '{text}' specified in the query string."))
}

fn term(tokens: &[Token]) -> Option<(Term, &[Token])> {
    match tokens {
        [Token::Word(field), Token::Word(op), Token::Text(value) | Token::Word(value), rest @ ..]
            if ["eq", "ne"].contains(&op.to_lowercase().as_str()) =>
        {
            let equal = op.eq_ignore_ascii_case("eq");
            Some((Term::Compare { field: field.clone(), equal, value: value.clone() }, rest))
        }
        [Token::Word(name), Token::Open, rest @ ..] => {
            let mut arguments = Vec::new();
            let mut rest = rest;
            loop {
                match rest {
                    [Token::Close, after @ ..] => {
                        return Some((Term::Call { name: name.to_lowercase(), arguments }, after));
                    }
                    [Token::Comma, after @ ..] if !arguments.is_empty() => rest = after,
                    [Token::Text(text) | Token::Word(text), after @ ..] => {
                        arguments.push(text.clone());
                        rest = after;
                    }
                    _ => return None,
                }
            }
        }
        _ => None,
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '(' => out.push(Token::Open),
            ')' => out.push(Token::Close),
            ',' => out.push(Token::Comma),
            '\'' => {
                let mut value = String::new();
                loop {
                    match chars.next()? {
                        // Two quotes stand for one.
                        '\'' if chars.peek() == Some(&'\'') => {
                            chars.next();
                            value.push('\'');
                        }
                        '\'' => break,
                        c => value.push(c),
                    }
                }
                out.push(Token::Text(value));
            }
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !"(),'".contains(*c)) {
                    word.push(c);
                }
                out.push(Token::Word(word));
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(filter: &str, name: &str) -> Option<bool> {
        let filter = Filter::read(Some(filter)).ok()?;
        Some(filter.holds(|t| match t {
            Term::Compare { field, equal, value } => field == "name" && (value == name) == *equal,
            Term::Call { name: function, arguments } => {
                function == "substringof" && arguments.first().is_some_and(|a| name.contains(a.as_str()))
            }
        }))
    }

    #[test]
    fn terms_and_or() {
        for (filter, name, expected) in [
            ("", "x", Some(true)),
            ("name eq 'x'", "x", Some(true)),
            ("name  EQ  'x'", "y", Some(false)),
            ("name ne 'x'", "y", Some(true)),
            ("name eq 'it''s'", "it's", Some(true)),
            ("name eq 'a' or name eq 'b'", "b", Some(true)),
            ("substringof('b', name) and name ne 'abc'", "abd", Some(true)),
            ("substringof('b',name) and name ne 'abc'", "abc", Some(false)),
            ("name eq 'x", "x", None),
            ("name eq", "x", None),
            ("name like 'x'", "x", None),
            ("name eq 'x' name eq 'y'", "x", None),
            ("f(", "x", None),
            ("f(,)", "x", None),
            ("'''", "x", None),
        ] {
            assert_eq!(passes(filter, name), expected, "{filter}");
        }
    }
}

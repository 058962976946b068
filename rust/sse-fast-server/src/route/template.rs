//! Templates with `{placeholders}`, of paths and of streams' names.
//!
//! Owns what a template may be, and filling it in. Must not know: what a path leads to.
//! Invariants: every brace belongs to a pair around a placeholder's name. A value comes from the path,
//! or else from the query; an empty one counts as missing.
//! Changes together with `route`, which keeps the templates.

use super::RouteError;

/// A stream's name in pieces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    Text(String),
    Placeholder(String),
}

/// A stream's name from its pieces; an error is the placeholder nothing was given for.
pub(crate) fn render<'a>(
    pieces: &'a [Piece],
    params: &[(String, String)],
    query: &[(String, String)],
) -> Result<String, &'a str> {
    let value = |wanted: &str| {
        let mut pairs = params.iter().chain(query);
        pairs.find(|(name, value)| name == wanted && !value.is_empty()).map(|(_, value)| value.as_str())
    };
    let mut name = String::new();
    for piece in pieces {
        name.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Placeholder(wanted) => value(wanted).ok_or(wanted.as_str())?,
        });
    }
    Ok(name)
}

/// A template's pieces, or what is wrong with it.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>, &'static str> {
    let (mut pieces, mut rest) = (Vec::new(), template);
    while let Some(open) = rest.find(['{', '}']) {
        let close = rest[open..].find('}').map(|at| open + at);
        let Some(close) = close.filter(|&close| close > open + 1 && rest.as_bytes()[open] == b'{') else {
            return Err("braces must pair around a placeholder's name");
        };
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].to_owned()));
        }
        pieces.push(Piece::Placeholder(rest[open + 1..close].to_owned()));
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    if pieces.is_empty() { Err("it is empty") } else { Ok(pieces) }
}

/// Checks the template of a path.
pub(super) fn check_template(template: &str) -> Result<(), RouteError> {
    let bad = |reason: &str| Err(RouteError::Template { template: template.to_owned(), reason: reason.to_owned() });
    if !template.starts_with('/') {
        return bad("it must begin with /");
    }
    if template.contains(['?', '#']) || template.chars().any(char::is_control) {
        return bad("it must hold neither a query nor a fragment nor control characters");
    }
    let pieces = match pieces(template) {
        Ok(pieces) => pieces,
        Err(reason) => return bad(reason),
    };
    let mut names: Vec<_> = pieces.iter().filter(|piece| matches!(piece, Piece::Placeholder(_))).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    if names.len() < count { bad("a placeholder's name stands in it twice") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn placeholders_come_from_the_path_then_from_the_query() {
        let name = pieces("a/{x}-{y}").unwrap_or_default();
        let rendered = render(&name, &[pair("x", "1")], &[pair("x", "9"), pair("y", "2")]);
        assert_eq!(rendered, Ok("a/1-2".to_owned()));
        assert_eq!(render(&name, &[pair("x", "1")], &[pair("y", "")]), Err("y"));
    }

    #[test]
    fn braces_that_do_not_pair_are_refused() {
        for template in ["", "{", "}", "{}", "a{b", "a}b", "{a}}"] {
            assert!(pieces(template).is_err(), "{template:?}");
        }
    }
}

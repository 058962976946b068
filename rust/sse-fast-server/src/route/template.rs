//! Templates with `{placeholders}`, of paths and of streams' names.
//!
//! Owns what a template may be, and filling it in. Must not know: what a path leads to.
//! Invariants: every brace belongs to a pair around a placeholder's name. `{name}` is one segment: not empty, without `/`;
//! `{*rest}` is everything that follows, at least one character, and stands last. What means something to another
//! framework and nothing here is refused, and the refusal shows what to write: taken as text, it would match nothing.
//! A value comes from the path, or else from the query, where it must be what the placeholder says.
//! Changes together with `route`, which keeps the templates.

use super::RouteError;

/// A template in pieces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    Text(String),
    /// One segment.
    Segment(String),
    /// As many segments as there are.
    Rest(String),
}

/// Why a name could not be rendered; the placeholder's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfilled<'a> {
    /// Nothing was given for it.
    Missing(&'a str),
    /// It was given something that is not one segment.
    NoSegment(&'a str),
}

/// A stream's name from its pieces.
pub(crate) fn render<'a>(
    pieces: &'a [Piece],
    params: &[(String, String)],
    query: &[(String, String)],
) -> Result<String, Unfilled<'a>> {
    let find = |pairs: &[(String, String)], wanted: &str| {
        pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    };
    let mut name = String::new();
    for piece in pieces {
        let (wanted, rest) = match piece {
            Piece::Text(text) => {
                name.push_str(text);
                continue;
            }
            Piece::Segment(wanted) => (wanted, false),
            Piece::Rest(wanted) => (wanted, true),
        };
        // What the path gives is what its own template says.
        let value = if let Some(value) = find(params, wanted) {
            value
        } else {
            let value = find(query, wanted).ok_or(Unfilled::Missing(wanted))?;
            if value.is_empty() || (!rest && value.contains('/')) {
                return Err(Unfilled::NoSegment(wanted));
            }
            value
        };
        name.push_str(&value);
    }
    Ok(name)
}

/// A template's pieces, or what is wrong with it.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest) = (Vec::new(), template);
    while let Some(open) = rest.find(['{', '}']) {
        let close = rest[open..].find('}').map(|at| open + at);
        let Some(close) = close.filter(|&close| close > open + 1 && rest.as_bytes()[open] == b'{') else {
            return Err("braces must pair around a placeholder's name".to_owned());
        };
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].to_owned()));
        }
        pieces.push(placeholder(&rest[open + 1..close])?);
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    if pieces.is_empty() { Err("it is empty".to_owned()) } else { Ok(pieces) }
}

/// What stands between two braces.
fn placeholder(inside: &str) -> Result<Piece, String> {
    let name = inside.strip_prefix('*').unwrap_or(inside);
    if !name.is_empty() && name.chars().all(is_of_a_name) {
        let name = name.to_owned();
        return Ok(if inside.starts_with('*') { Piece::Rest(name) } else { Piece::Segment(name) });
    }
    Err(means_nothing(&format!("{{{inside}}}")))
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

/// The refusal of what another framework would understand, with what to write in its place.
fn means_nothing(given: &str) -> String {
    let words = |text: &str| -> Vec<String> {
        text.split(|letter| !is_of_a_name(letter)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let words = words(given);
    // Flask writes `<path:name>`, everybody else the name first.
    let name = if given.starts_with('<') { words.last() } else { words.first() };
    let name = name.map_or(if given.contains('*') { "rest" } else { "name" }, String::as_str);
    format!("{given:?} means nothing here: write {{{name}}} for one segment, {{*{name}}} for everything that follows")
}

/// Checks the template of a path.
pub(super) fn check_template(template: &str) -> Result<(), RouteError> {
    let bad = |reason: &str| Err(RouteError::Template { template: template.to_owned(), reason: reason.to_owned() });
    if !template.starts_with('/') {
        return bad("it must begin with /");
    }
    if let Some(escape) = template.split('%').skip(1).find(|after| is_escape(after)) {
        let shown: String = escape.chars().take(2).collect();
        return bad(&format!("%{shown} would never match, for paths are compared decoded: write the character itself"));
    }
    if let Some(foreign) = template.split('/').find_map(foreign) {
        return bad(&means_nothing(foreign));
    }
    let pieces = match pieces(template) {
        Ok(pieces) => pieces,
        Err(reason) => return bad(&reason),
    };
    if template.contains(['?', '#']) || template.chars().any(char::is_control) {
        return bad("it must hold neither a query nor a fragment nor control characters");
    }
    let rest = pieces.iter().position(|piece| matches!(piece, Piece::Rest(_)));
    if rest.is_some_and(|at| at + 1 < pieces.len() || !template[..template.rfind('{').unwrap_or(0)].ends_with('/')) {
        return bad("a placeholder such as {*rest} takes everything that follows: it must be the whole last segment");
    }
    let mut names: Vec<_> = pieces.iter().filter_map(name_of).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    if names.len() < count { bad("a placeholder's name stands in it twice") } else { Ok(()) }
}

fn name_of(piece: &Piece) -> Option<&str> {
    match piece {
        Piece::Text(_) => None,
        Piece::Segment(name) | Piece::Rest(name) => Some(name),
    }
}

/// Whether these follow a `%` as a byte's two digits.
fn is_escape(after: &str) -> bool {
    after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
}

/// The part of a segment that is another framework's: `<int:id>`, `*`, `**`, `:id`. Braces are looked at later.
fn foreign(segment: &str) -> Option<&str> {
    let is_foreign = segment.contains(['<', '>']) || segment.contains('*') && !segment.contains('{');
    (is_foreign || segment.starts_with(':') && segment.len() > 1).then_some(segment)
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
        assert_eq!(render(&name, &[pair("x", "1")], &[]), Err(Unfilled::Missing("y")));
        for value in ["", "a/b"] {
            assert_eq!(render(&name, &[pair("x", "1")], &[pair("y", value)]), Err(Unfilled::NoSegment("y")));
        }
    }

    #[test]
    fn a_rest_takes_several_segments() {
        let name = pieces("a/{*x}").unwrap_or_default();
        assert_eq!(render(&name, &[], &[pair("x", "b/c")]), Ok("a/b/c".to_owned()));
        assert_eq!(render(&name, &[], &[pair("x", "")]), Err(Unfilled::NoSegment("x")));
        let name = pieces("a/{x}").unwrap_or_default();
        assert_eq!(render(&name, &[pair("x", "b/c")], &[]), Ok("a/b/c".to_owned()), "as the path's template says");
    }

    #[test]
    fn braces_that_do_not_pair_are_refused() {
        for template in ["", "{", "}", "{}", "a{b", "a}b", "{a}}", "{*}", "{a b}"] {
            assert!(pieces(template).is_err(), "{template:?}");
        }
    }

    #[test]
    fn what_another_framework_means_is_refused_with_what_to_write() {
        for (template, right) in [
            ("/f/{p:path}", "{*p}"),
            ("/f/{id:int}", "{id}"),
            ("/f/{id:[0-9]+}", "{id}"),
            ("/f/{name?}", "{name}"),
            ("/f/<int:id>", "{id}"),
            ("/f/<path:rest>/x", "{*rest}"),
            ("/f/<id>", "{id}"),
            ("/x/*", "{*rest}"),
            ("/x/**", "{*rest}"),
            ("/x/*/y", "{rest}"),
            ("/x/*path", "{*path}"),
            ("/x/:id", "{id}"),
            ("/x/:id/y", "{id}"),
            ("/f/{path=**}", "{*path}"),
        ] {
            let refused = check_template(template).expect_err(template).to_string();
            assert!(refused.contains(right), "{refused}");
        }
        for template in ["/f/{*a}/b", "/f/x{*a}", "/f/{a}/{a}", "/a%20b", "/%7Bid%7D"] {
            assert!(check_template(template).is_err(), "{template:?}");
        }
    }

    #[test]
    fn what_is_ours_is_taken() {
        for template in [
            "/",
            "/f/{id}",
            "/f/{id}.json",
            "/f/{run-id}/{größe}",
            "/f/{*rest}",
            "/{*rest}",
            "/a:b",
            "/100%",
            "/a b",
            "/f/:",
        ] {
            assert!(check_template(template).is_ok(), "{template:?}");
        }
    }
}

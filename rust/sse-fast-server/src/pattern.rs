//! Patterns of streams' names: `users/*/inbox`, `users/**`.
//!
//! Owns what a pattern may be, and what it matches. Must not know: rights, options, which are given by patterns.
//! Invariants: `*` is one whole segment, not empty; `**` stands last and is everything below what stands before it, so that
//! `a/**` is not `a`; alone it is every name. Everything else is text, compared exactly. What looks like a pattern and is
//! none is refused, not taken as text: a right would then be another than was meant.

use std::borrow::Cow;

use thiserror::Error;

/// The longest that a pattern may be, in bytes: as long as a name.
const MAX_BYTES: usize = 1024;

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{pattern:?} is not a pattern of streams' names: {reason}")]
pub struct PatternError {
    /// What was given, cut.
    pattern: String,
    reason: &'static str,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern<'a>(Cow<'a, str>);

impl<'a> Pattern<'a> {
    /// The pattern, or why it is none.
    pub(crate) fn new(text: impl Into<Cow<'a, str>>) -> Result<Self, PatternError> {
        let text = text.into();
        match defect(&text) {
            None => Ok(Self(text)),
            Some(reason) => Err(PatternError { pattern: text.chars().take(80).collect(), reason }),
        }
    }

    /// Whether it matches the whole name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut left = Some(name);
        for segment in self.0.split('/') {
            let Some(text) = left else { return false };
            if segment == "**" {
                return true;
            }
            let (first, rest) = text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)));
            if if segment == "*" { first.is_empty() } else { segment != first } {
                return false;
            }
            left = rest;
        }
        left.is_none()
    }
}

fn defect(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > MAX_BYTES {
        return Some("it is longer than a name may be, 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return Some("it has a control character");
    }
    let (last, before) = text.rsplit_once('/').map_or((text, ""), |(before, last)| (last, before));
    if before.split('/').any(|segment| segment == "**") {
        return Some("** stands last: it is everything below what stands before it");
    }
    let is_star = |segment: &str| matches!(segment, "*" | "**");
    if before.split('/').chain([last]).any(|segment| segment.contains('*') && !is_star(segment)) {
        return Some("* stands for one whole segment: it cannot be a part of one");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_whole_segment_and_two_at_the_end_are_everything_below() {
        for (pattern, name, matches) in [
            ("runs/42", "runs/42", true),
            ("runs/42", "runs/421", false),
            ("runs/42", "runs/42/a", false),
            ("runs/42", "Runs/42", false),
            ("runs/42", "runs/42/", false),
            ("runs", "runs/42", false),
            ("*", "runs", true),
            ("*", "runs/42", false),
            ("users/7/*", "users/7/inbox", true),
            ("users/7/*", "users/7", false),
            ("users/7/*", "users/7/", false),
            ("users/7/*", "users/7/a/b", false),
            ("users/*/inbox", "users/7/inbox", true),
            ("users/*/inbox", "users//inbox", false),
            ("users/*/inbox", "users/7/8/inbox", false),
            ("all/**", "all/a", true),
            ("all/**", "all/a/b/c", true),
            ("all/**", "all/", true),
            ("all/**", "all", false),
            ("all/**", "allx", false),
            ("users/*/**", "users/7/a", true),
            ("users/*/**", "users/7", false),
            ("**", "a", true),
            ("**", "a/b", true),
            ("a/%2e", "a/.", false),
        ] {
            assert_eq!(Pattern::new(pattern).expect("a pattern").matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn what_looks_like_a_pattern_and_is_none_is_refused() {
        for text in ["", "a*", "*a/b", "a/***", "**/a", "a/**/b", "a\n", "a/**/*", "**x"] {
            assert!(Pattern::new(text).is_err(), "{text:?}");
        }
        assert!(Pattern::new("x".repeat(1025)).is_err());
    }
}

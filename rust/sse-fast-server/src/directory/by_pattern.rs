//! Options that were given by patterns of names, before any stream of these names is made.
//!
//! Owns: the patterns in their order, and the options that they come to. Must not know: streams. Invariants: each pattern alone
//! was found in order when the server started; streams that the same patterns match share their options, as those do that are
//! told nothing.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sse_fast_core::error::OptionError;
use sse_fast_core::options::{StreamOptions, StreamPatch};

use crate::config::StartError;
use crate::pattern::Pattern;

/// See the module.
#[derive(Default)]
pub(crate) struct ByPattern {
    rules: Vec<(Pattern<'static>, StreamPatch)>,
    /// What the rules at these places come to. Held to look or to add.
    made: Mutex<HashMap<Vec<usize>, Arc<StreamOptions>>>,
}

impl ByPattern {
    /// The rules in force over these defaults.
    pub(crate) fn new(given: &[(String, StreamPatch)], defaults: &StreamOptions) -> Result<Self, StartError> {
        let rule = |(text, patch): &(String, StreamPatch)| {
            let pattern = Pattern::new(text.clone())?;
            match defaults.patched(patch) {
                Ok(_) => Ok((pattern, patch.clone())),
                Err(error) => Err(StartError::BadOption { pattern: text.clone(), error }),
            }
        };
        let rules = given.iter().map(rule).collect::<Result<_, StartError>>()?;
        Ok(Self { rules, made: Mutex::default() })
    }

    /// Whether some of these names are private.
    pub(crate) fn has_private(&self) -> bool {
        self.rules.iter().any(|(_, patch)| patch.private == Some(true))
    }

    /// What a stream of this name has where it is told nothing else; `None` where no pattern matches.
    pub(super) fn of(&self, name: &str, defaults: &StreamOptions) -> Result<Option<Arc<StreamOptions>>, OptionError> {
        let matching = self.rules.iter().enumerate().filter(|(_, (pattern, _))| pattern.matches(name));
        let places: Vec<_> = matching.map(|(place, _)| place).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let mut made = self.made.lock();
        if let Some(options) = made.get(&places) {
            return Ok(Some(Arc::clone(options)));
        }
        let mut options = defaults.clone();
        for &place in &places {
            options = options.patched(&self.rules[place].1)?;
        }
        let options = Arc::new(options);
        made.insert(places, Arc::clone(&options));
        Ok(Some(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(given: &[(&str, StreamPatch)]) -> Result<ByPattern, StartError> {
        let given: Vec<_> = given.iter().map(|(text, patch)| ((*text).to_owned(), patch.clone())).collect();
        ByPattern::new(&given, &StreamOptions::default())
    }

    fn history(history: usize) -> StreamPatch {
        StreamPatch { history: Some(history), ..StreamPatch::default() }
    }

    #[test]
    fn the_later_of_two_patterns_counts_and_the_same_ones_share_what_they_come_to() {
        let private = StreamPatch { private: Some(true), ..StreamPatch::default() };
        let rules = rules(&[("users/**", private), ("users/*/log", history(1000))]).expect("rules");
        assert!(rules.has_private());
        let of = |name| rules.of(name, &StreamOptions::default()).expect("options");
        let seen = |name| of(name).map(|options| (options.private, options.history));
        assert_eq!(["users", "users/1", "users/1/log"].map(seen), [None, Some((true, 256)), Some((true, 1000))]);
        assert!(Arc::ptr_eq(&of("users/1").expect("some"), &of("users/2").expect("some")));
    }

    #[test]
    fn what_is_wrong_is_found_at_the_start_and_says_where() {
        let error = rules(&[("a", history(0))]).err().expect("refused").to_string();
        assert!(error.starts_with("streams[\"a\"]: history"), "{error}");
        assert!(rules(&[("a*", history(1))]).is_err());
    }
}

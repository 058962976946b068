//! Why an event or an option of a caller is refused.
//!
//! Owns: the words of these refusals, which the binding shows as they are: the field, the position, the value, the
//! limit.
//! Must not know: Python's exceptions.
//! Invariants: nothing was written when one of these is returned.
//! Changes together with: `rust/sse-fast-py/src/errors.rs`, which maps each variant to an exception without a catch-all
//! arm, so that a new variant does not compile until it is mapped.

use thiserror::Error;

/// Why an event was refused before anything was written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EventError {
    /// A CR, LF or NUL in a field that must be one line.
    #[error("{field} must not contain {character}: found at position {position}")]
    Forbidden {
        /// The field it stands in.
        field: &'static str,
        /// The name of the character.
        character: &'static str,
        /// Where, in bytes from the field's start.
        position: usize,
    },
    /// A control character in an id. A request header must not hold one, so a reader could not send the id back.
    #[error(
        "{field} must not contain the control character U+{code:04X}: found at position {position}; \
         a reader could not give it back in a Last-Event-ID header"
    )]
    Control {
        /// The field it stands in.
        field: &'static str,
        /// The character.
        code: u8,
        /// Where, in bytes from the field's start.
        position: usize,
    },
    /// A blank or tab at an id's edge. The values of headers are trimmed, so a reader would send back another id.
    #[error(
        "{field} must not begin or end with a {character}: found at position {position}; \
         a reader's Last-Event-ID header would come back without it"
    )]
    Edge {
        /// The field.
        field: &'static str,
        /// The name of the character.
        character: &'static str,
        /// Where, in bytes from the field's start.
        position: usize,
    },
    /// An empty id would reset the reader's Last-Event-ID.
    #[error("id must not be empty: position 0; leave it out to have one made")]
    EmptyId,
    /// A field above its limit.
    #[error("{field} is {length} bytes long: at most {limit} are allowed, position {limit} is beyond")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Bytes that are not UTF-8; Server-Sent Events carry nothing else.
    #[error("{field} must be UTF-8: invalid byte at position {position}")]
    NotUtf8 {
        /// The field.
        field: &'static str,
        /// The first bad byte, counted from the field's start.
        position: usize,
    },
}

/// Why a stream option was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OptionError {
    /// A number outside its range.
    #[error("{option} must be {allowed}: got {value}")]
    OutOfRange {
        /// The option's name.
        option: &'static str,
        /// What is allowed, in words.
        allowed: &'static str,
        /// What was given.
        value: String,
    },
    /// A lag greater than the events that the log retains.
    #[error("max_lag must not exceed history: got max_lag={max_lag} with history={history}")]
    LagBeyondHistory {
        /// The lag asked for.
        max_lag: u64,
        /// The events the log retains.
        history: usize,
    },
    /// A word that is not one of the choices.
    #[error("{option} must be one of {choices}: got {value:?}")]
    NotAChoice {
        /// The option's name.
        option: &'static str,
        /// The choices, as users write them.
        choices: &'static str,
        /// What was given.
        value: String,
    },
    /// The option's text cannot be written as one line.
    #[error("{option}: {source}")]
    Text {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it.
        source: EventError,
    },
}

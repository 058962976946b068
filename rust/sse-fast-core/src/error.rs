//! What can be wrong with an event or an option a caller gives.
//!
//! Small exhaustive enums whose messages say what was attempted, the value and the limit, and name
//! the field and the position; the binding shows them as they are. Nothing has been written when
//! one of these is returned. A new variant must be mapped where these are turned into exceptions:
//! there is no catch-all arm anywhere.

use thiserror::Error;

/// Why an event was refused before anything was written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EventError {
    /// A CR, LF or NUL where the wire format cannot carry one.
    #[error("{field} must not contain {character}: found at position {position}")]
    Forbidden {
        /// The field it stands in.
        field: &'static str,
        /// The name of the character.
        character: &'static str,
        /// Where, in bytes from the field's start.
        position: usize,
    },
    /// A control character in an id: no request header may hold one, so the id could not come back.
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
    /// A blank or tab at an id's edge: headers are trimmed, so the id would come back as another.
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
    /// A lag that the log could not serve.
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
    /// The option's text cannot stand on the wire.
    #[error("{option}: {source}")]
    Text {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it.
        source: EventError,
    },
}

//! The checks an event must pass before anything is written.
//!
//! Owns: which characters a field may hold, and the limits on its length.
//! Must not know: how an event is encoded, or who publishes it.
//! Invariants: only [`check`] makes a [`CheckedEvent`], and the encoder takes nothing else, so no unchecked byte
//! reaches the wire (field injection, CWE-93, has hit a dozen SSE libraries; most forgot CR). A value is refused or
//! kept as it is, never rewritten. Nothing here panics.
//! Changes together with: `wire`, which relies on these checks, and `error`, which words the refusals.

use std::time::Duration;

use crate::error::EventError;

/// The most bytes an event's name and data may have together, unless a program says otherwise: 1 MiB, where the strictest
/// client in use (httpx2) stops.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// The most bytes a caller's id may have: ids travel back in a request header.
pub const MAX_ID_BYTES: usize = 1024;

/// What a caller publishes, as given.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewEvent<'a> {
    /// The data, to be sent verbatim; must be UTF-8.
    pub data: &'a [u8],
    /// The event's name; none or empty means `message` to a reader.
    pub event: Option<&'a str>,
    /// The caller's own id instead of `<epoch>-<n>`.
    pub id: Option<&'a str>,
    /// How long the reader is to wait before it reconnects.
    pub retry: Option<Duration>,
    /// Data of a snapshot that replaces everything up to and including this event.
    pub snapshot: Option<&'a [u8]>,
}

/// An event whose fields have all passed the checks.
#[derive(Clone, Copy, Debug)]
pub struct CheckedEvent<'a> {
    pub(crate) data: &'a str,
    pub(crate) event: Option<&'a str>,
    pub(crate) id: Option<&'a str>,
    pub(crate) retry: Option<Duration>,
    pub(crate) snapshot: Option<&'a str>,
}

impl<'a> CheckedEvent<'a> {
    /// Whether a snapshot is set with it.
    pub fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// The caller's own id, where one was given.
    pub fn id(&self) -> Option<&'a str> {
        self.id
    }

    /// The event as it was given.
    pub fn as_new(&self) -> NewEvent<'a> {
        let &Self { data, event, id, retry, snapshot } = self;
        NewEvent { data: data.as_bytes(), event, id, retry, snapshot: snapshot.map(str::as_bytes) }
    }
}

/// Checks every field of an event, against the usual limit.
pub fn check<'a>(event: &NewEvent<'a>) -> Result<CheckedEvent<'a>, EventError> {
    check_within(event, MAX_EVENT_BYTES)
}

/// Checks every field of an event, whose name and data may have that many bytes together.
pub fn check_within<'a>(event: &NewEvent<'a>, most: usize) -> Result<CheckedEvent<'a>, EventError> {
    if let Some(id) = event.id {
        if id.is_empty() {
            return Err(EventError::EmptyId);
        }
        bounded("id", id.len(), MAX_ID_BYTES)?;
        one_line("id", id)?;
        returnable("id", id)?;
    }
    let name = event.event.filter(|name| !name.is_empty());
    if let Some(name) = name {
        bounded_together(name.len(), event.data.len(), most)?;
        one_line("event", name)?;
    }
    Ok(CheckedEvent {
        data: text("data", event.data, most)?,
        event: name,
        id: event.id,
        retry: event.retry,
        snapshot: event.snapshot.map(|data| text("snapshot", data, most)).transpose()?,
    })
}

/// An event that says nothing: it stands for one from elsewhere that fails the checks, so that its position is not missing.
pub fn nothing<'a>() -> CheckedEvent<'a> {
    CheckedEvent { data: "", event: None, id: None, retry: None, snapshot: None }
}

/// Checks text that must stay on one line of the wire: no CR, LF or NUL.
pub fn one_line(field: &'static str, value: &str) -> Result<(), EventError> {
    match memchr::memchr3(b'\r', b'\n', 0, value.as_bytes()) {
        None => Ok(()),
        Some(position) => Err(EventError::Forbidden {
            field,
            character: match value.as_bytes()[position] {
                b'\r' => "CR",
                b'\n' => "LF",
                _ => "NUL",
            },
            position,
        }),
    }
}

/// Checks that text survives as the value of a request header, as an id must in `Last-Event-ID`. A header must not hold
/// a control character other than a tab, and the spaces and tabs around its value are removed.
fn returnable(field: &'static str, value: &str) -> Result<(), EventError> {
    let bytes = value.as_bytes();
    if let Some(position) = bytes.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(EventError::Control { field, code: bytes[position], position });
    }
    let last = bytes.len().saturating_sub(1);
    for position in [0, last] {
        match bytes.get(position) {
            Some(b' ') => return Err(EventError::Edge { field, character: "blank", position }),
            Some(b'\t') => return Err(EventError::Edge { field, character: "tab", position }),
            _ => {}
        }
    }
    Ok(())
}

/// Checks name and data against the limit that they share. The longer one is blamed, with what the other leaves of it.
fn bounded_together(name: usize, data: usize, most: usize) -> Result<(), EventError> {
    if name.saturating_add(data) <= most {
        return Ok(());
    }
    let (field, length, other) = if name > data { ("event", name, data) } else { ("data", data, name) };
    bounded(field, length, most.saturating_sub(other))
}

fn text<'a>(field: &'static str, bytes: &'a [u8], most: usize) -> Result<&'a str, EventError> {
    bounded(field, bytes.len(), most)?;
    std::str::from_utf8(bytes).map_err(|error| EventError::NotUtf8 { field, position: error.valid_up_to() })
}

fn bounded(field: &'static str, length: usize, limit: usize) -> Result<(), EventError> {
    if length > limit { Err(EventError::TooLong { field, length, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(event: NewEvent<'_>) -> EventError {
        check(&event).expect_err("must be refused")
    }

    #[test]
    fn names_field_character_and_position() {
        for (event, field, character, position) in [
            (NewEvent { event: Some("a\rb"), ..NewEvent::default() }, "event", "CR", 1),
            (NewEvent { event: Some("ab\n"), ..NewEvent::default() }, "event", "LF", 2),
            (NewEvent { id: Some("\0"), ..NewEvent::default() }, "id", "NUL", 0),
        ] {
            assert_eq!(refused(event), EventError::Forbidden { field, character, position });
        }
    }

    #[test]
    fn refuses_what_a_reader_could_not_take() {
        assert_eq!(refused(NewEvent { id: Some(""), ..NewEvent::default() }), EventError::EmptyId);
        let data = vec![b'x'; MAX_EVENT_BYTES + 1];
        assert!(matches!(
            refused(NewEvent { data: &data, ..NewEvent::default() }),
            EventError::TooLong { field: "data", .. }
        ));
        assert_eq!(
            refused(NewEvent { data: b"ab\xff", ..NewEvent::default() }),
            EventError::NotUtf8 { field: "data", position: 2 }
        );
        let id = "i".repeat(MAX_ID_BYTES + 1);
        assert!(matches!(
            refused(NewEvent { id: Some(&id), ..NewEvent::default() }),
            EventError::TooLong { field: "id", .. }
        ));
    }

    #[test]
    fn an_id_must_come_back_from_a_header_as_it_was() {
        for (id, code, position) in [("\x01", 1, 0), ("a\x1f", 0x1f, 1), ("ab\x7fc", 0x7f, 2), (" \x08", 8, 1)] {
            let expected = EventError::Control { field: "id", code, position };
            assert_eq!(refused(NewEvent { id: Some(id), ..NewEvent::default() }), expected, "{id:?}");
        }
        for (id, character, position) in
            [(" lead", "blank", 0), ("trail ", "blank", 5), ("\t", "tab", 0), ("a\t", "tab", 1)]
        {
            let expected = EventError::Edge { field: "id", character, position };
            assert_eq!(refused(NewEvent { id: Some(id), ..NewEvent::default() }), expected, "{id:?}");
        }
        for id in ["a b", "a\tb", "\u{a0}", "\u{85}", "№ 1"] {
            assert!(check(&NewEvent { id: Some(id), ..NewEvent::default() }).is_ok(), "{id:?}");
        }
        assert!(check(&NewEvent { event: Some(" \x01\t"), ..NewEvent::default() }).is_ok(), "a name never comes back");
    }

    #[test]
    fn names_the_field_that_is_too_long_when_both_are_together() {
        let megabyte = "x".repeat(MAX_EVENT_BYTES);
        for (event, data, field, length, limit) in [
            ("e", &megabyte[..], "data", MAX_EVENT_BYTES, MAX_EVENT_BYTES - 1),
            (&megabyte[..], "d", "event", MAX_EVENT_BYTES, MAX_EVENT_BYTES - 1),
            (&megabyte[..], &megabyte[..], "data", MAX_EVENT_BYTES, 0),
        ] {
            let error = refused(NewEvent { event: Some(event), data: data.as_bytes(), ..NewEvent::default() });
            assert_eq!(error, EventError::TooLong { field, length, limit });
        }
    }

    #[test]
    fn takes_everything_up_to_the_limit() {
        let data = vec![b'x'; MAX_EVENT_BYTES];
        assert!(check(&NewEvent { data: &data, id: Some("é"), ..NewEvent::default() }).is_ok());
    }

    #[test]
    fn another_limit_counts_instead() {
        let event = |data| NewEvent { data, event: Some("ab"), ..NewEvent::default() };
        assert!(check_within(&event(b"xyz"), 5).is_ok());
        let refused = check_within(&event(b"wxyz"), 5).expect_err("must be refused");
        assert_eq!(refused, EventError::TooLong { field: "data", length: 4, limit: 3 });
        let data = vec![b'x'; MAX_EVENT_BYTES + 1];
        assert!(check_within(&NewEvent { data: &data, ..NewEvent::default() }, data.len()).is_ok());
    }
}

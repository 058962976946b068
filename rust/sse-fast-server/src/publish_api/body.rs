//! What is to be published, from a request's body.
//!
//! Owns: the form: one object, or a list of them, and what their fields may be. Must not know: streams, rights, requests.
//! Invariants: the whole body is read and every event checked before anything is published; a refusal says which event and which
//! field. Changes together with `compact`, which makes the text of data, and the guide "Publish from elsewhere".
//! This file is long because its tests have a row for everything that a body may be and is not.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sse_fast_core::error::EventError;
use sse_fast_core::event::{self, NewEvent};
use sse_fast_core::stream::Part;

use super::compact::text_of;

/// The longest `retry`, in seconds: who gives more means milliseconds.
const MAX_RETRY: f64 = 3600.0;

/// Data of a terminal event that was given none: clients ignore an event without any.
const NO_DATA: &str = "null";

/// The most that is shown of a name that is none, in characters.
const SHOWN: usize = 80;

/// Why a body is refused, in words; `place` is the number of the event in a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadBody {
    /// It is not JSON, or no form of an event.
    Form(String),
    /// A field of an event has a value that it cannot have.
    Event { place: Option<usize>, why: String },
    /// An event is larger than it may be.
    TooLarge { place: Option<usize>, why: String },
}

/// One event as it was given.
#[derive(Debug, Default)]
struct Given<'a> {
    data: Option<&'a RawValue>,
    event: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    retry: Option<f64>,
    snapshot: Option<&'a RawValue>,
    end: bool,
}

/// The names of its fields, in the order of their bits.
const FIELDS: [&str; 6] = ["data", "event", "id", "retry", "snapshot", "end"];

/// One that is given as an object; whatever it is else is refused in words.
struct Object<'a>(Given<'a>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Fields)
    }
}

struct Fields;

impl Fields {
    fn refuse<E: Error>(kind: &str) -> E {
        E::custom(format!("an event is an object with the fields {}, not {kind}", FIELDS.join(", ")))
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with the fields of an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let (mut given, mut seen) = (Given::default(), 0_u8);
        while let Some(Key(name)) = fields.next_key()? {
            let Some(number) = FIELDS.iter().position(|field| *field == name) else {
                let name: String = name.chars().take(SHOWN).collect();
                return Err(A::Error::custom(format!(
                    "there is no field {name:?}: an event has {}",
                    FIELDS.join(", ")
                )));
            };
            if seen & 1 << number != 0 {
                return Err(A::Error::custom(format!("the field {name} stands in it twice")));
            }
            seen |= 1 << number;
            given.take(FIELDS[number], fields.next_value()?).map_err(A::Error::custom)?;
        }
        Ok(Object(given))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(Self::refuse("a list"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(Self::refuse("a string"))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Err(Self::refuse(if value { "true" } else { "false" }))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Err(Self::refuse("null"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Err(Self::refuse("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Err(Self::refuse("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(Self::refuse("a number"))
    }
}

/// The name of a field, borrowed where it has no escape.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Given<'a> {
    /// Takes the value of a field.
    fn take(&mut self, name: &str, value: &'a RawValue) -> Result<(), String> {
        match name {
            "data" => self.data = Some(value),
            "snapshot" => self.snapshot = Some(value),
            "event" => self.event = text(name, value)?,
            "id" => self.id = text(name, value)?,
            "retry" => self.retry = number(name, value)?,
            _ => self.end = truth(name, value)?,
        }
        Ok(())
    }
}

/// A string, or nothing where it is null.
fn text<'a>(name: &str, value: &'a RawValue) -> Result<Option<Cow<'a, str>>, String> {
    match kind_of(value) {
        "null" => Ok(None),
        "a string" => text_of(value.get()).map(Some).map_err(|why| format!("{name}: {why}")),
        kind => Err(format!("{name}: must be a string or null, not {kind}")),
    }
}

/// A number, or nothing where it is null.
fn number(name: &str, value: &RawValue) -> Result<Option<f64>, String> {
    match kind_of(value) {
        "null" => Ok(None),
        // Only one that no f64 can hold cannot be read.
        "a number" => Ok(Some(value.get().parse().unwrap_or(f64::INFINITY))),
        kind => Err(format!("{name}: must be a number of seconds or null, not {kind}")),
    }
}

fn truth(name: &str, value: &RawValue) -> Result<bool, String> {
    match value.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{name}: must be true or false, not {}", kind_of(value))),
    }
}

/// What a value of JSON is, in words.
fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't') => "true",
        Some(b'f') => "false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// What one of them comes to: texts of its own where they are not the body's.
#[derive(Debug)]
struct Content<'a> {
    /// `None` where a snapshot alone is set.
    data: Option<Cow<'a, str>>,
    event: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    retry: Option<Duration>,
    snapshot: Option<Cow<'a, str>>,
}

/// What a body asks for, read whole.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    contents: Vec<Content<'a>>,
    /// Whether it is a list, and is answered with one.
    pub(super) is_list: bool,
    /// Whether the last of them ends the stream.
    pub(super) ends: bool,
}

impl<'a> Asked<'a> {
    /// Reads a body.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, BadBody> {
        let text = std::str::from_utf8(body)
            .map_err(|error| BadBody::Form(format!("the body is not UTF-8: byte {}", error.valid_up_to())))?;
        let begins = text.trim_start_matches([' ', '\t', '\r', '\n']);
        if begins.is_empty() {
            return Err(BadBody::Form("the body is empty".to_owned()));
        }
        if begins.starts_with('\u{feff}') {
            return Err(BadBody::Form("the body is not JSON: it begins with a byte order mark".to_owned()));
        }
        let is_list = begins.starts_with('[');
        let mut given = Vec::new();
        let mut json = serde_json::Deserializer::from_str(text);
        let read = if is_list {
            List(&mut given).deserialize(&mut json)
        } else {
            Object::deserialize(&mut json).map(|Object(one)| given.push(one))
        };
        read.and_then(|()| json.end()).map_err(|error| BadBody::Form(form(&error, is_list.then_some(given.len()))))?;
        if given.is_empty() {
            return Err(BadBody::Form("the list is empty: there is nothing to publish".to_owned()));
        }
        let (ends, last) = (given.last().is_some_and(|last| last.end), given.len() - 1);
        let content = |(place, one): (usize, Given<'a>)| {
            Content::of(one, place == last).map_err(|why| BadBody::Event { place: is_list.then_some(place), why })
        };
        let contents = given.into_iter().enumerate().map(content).collect::<Result<_, _>>()?;
        Ok(Self { contents, is_list, ends })
    }

    /// How many events there are, snapshots alone not counted.
    pub(super) fn events(&self) -> usize {
        self.contents.iter().filter(|content| content.data.is_some()).count()
    }

    /// Checks all of them, against the most bytes that an event may have.
    pub(super) fn check(&self, most: usize) -> Result<Vec<Part<'_>>, BadBody> {
        let mut parts = Vec::with_capacity(self.contents.len());
        for (place, content) in self.contents.iter().enumerate() {
            parts.push(content.check(most).map_err(|error| {
                let (place, why) = (self.is_list.then_some(place), error.to_string());
                match error {
                    EventError::TooLong { field: "data" | "event" | "snapshot", .. } => {
                        BadBody::TooLarge { place, why }
                    }
                    _ => BadBody::Event { place, why },
                }
            })?);
        }
        Ok(parts)
    }
}

impl<'a> Content<'a> {
    fn of(given: Given<'a>, is_last: bool) -> Result<Self, String> {
        let Given { data, event, id, retry, snapshot, end } = given;
        if end && !is_last {
            return Err("end: only the last of a list ends the stream".to_owned());
        }
        let text = |field: &str, value: Option<&'a RawValue>| {
            value.map(|value| text_of(value.get()).map_err(|why| format!("{field}: {why}"))).transpose()
        };
        let (data, snapshot) = (text("data", data)?, text("snapshot", snapshot)?);
        let data = data.or_else(|| end.then_some(Cow::Borrowed(NO_DATA)));
        if data.is_none() {
            if snapshot.is_none() {
                return Err("it has none of data, snapshot and end: there is nothing to publish".to_owned());
            }
            if id.is_some() || retry.is_some() {
                return Err("id and retry are an event's: a snapshot without data has none".to_owned());
            }
        }
        let event = event.or_else(|| end.then_some(Cow::Borrowed("end")));
        Ok(Self { data, event, id, retry: retry.map(seconds).transpose()?, snapshot })
    }

    fn check(&self, most: usize) -> Result<Part<'_>, EventError> {
        let Self { data, event, id, retry, snapshot } = self;
        let (event, snapshot) = (event.as_deref(), snapshot.as_deref());
        let Some(data) = data else {
            let data = snapshot.unwrap_or_default().as_bytes();
            let new = NewEvent { data, event: Some(event.unwrap_or("snapshot")), ..NewEvent::default() };
            return event::check_within(&new, most).map(Part::Snapshot);
        };
        let (data, snapshot) = (data.as_bytes(), snapshot.map(str::as_bytes));
        let new = NewEvent { data, event, id: id.as_deref(), retry: *retry, snapshot };
        event::check_within(&new, most).map(Part::Event)
    }
}

/// What `serde_json` or a visitor of ours says is wrong; `place` is the number of the event in a list.
fn form(error: &serde_json::Error, place: Option<usize>) -> String {
    let said = error.to_string();
    if !error.is_data() {
        return format!("the body is not JSON: {said}");
    }
    // Ours name the field; the place of the byte behind it would not help.
    let behind = format!(" at line {} column {}", error.line(), error.column());
    let said = said.strip_suffix(&behind).unwrap_or(&said);
    place.map_or_else(|| said.to_owned(), |place| format!("events[{place}]: {said}"))
}

fn seconds(retry: f64) -> Result<Duration, String> {
    if retry > MAX_RETRY {
        return Err(format!("retry: {retry} is above {MAX_RETRY}: it is in seconds, not milliseconds"));
    }
    Duration::try_from_secs_f64(retry).map_err(|_| format!("retry: {retry} is not a number of seconds from 0 up"))
}

/// A list of events, each added to those before it as it is read: where one is wrong there are as many as came before.
struct List<'v, 'a>(&'v mut Vec<Given<'a>>);

impl<'de> DeserializeSeed<'de> for List<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(Object(given)) = items.next_element()? {
            self.0.push(given);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 20;

    /// Each part as text, or the refusal.
    fn read(body: &str) -> Result<(Vec<String>, bool, bool), BadBody> {
        let asked = Asked::read(body.as_bytes())?;
        let parts = asked.check(MOST)?.iter().map(|part| format!("{part:?}")).collect();
        Ok((parts, asked.is_list, asked.ends))
    }

    fn refused(body: &str) -> String {
        match read(body).expect_err("must be refused") {
            BadBody::Event { place: Some(place), why } => format!("[{place}] {why}"),
            BadBody::Form(why) | BadBody::Event { place: None, why } => why,
            BadBody::TooLarge { place, why } => format!("413 {place:?} {why}"),
        }
    }

    #[test]
    fn every_field_is_what_the_argument_of_publish_is() {
        let body = r#"{"data": {"a": 1}, "event": "e", "id": "i", "retry": 1.5, "snapshot": "s", "end": false}"#;
        let (parts, is_list, ends) = read(body).expect("read");
        let expected = NewEvent {
            data: br#"{"a":1}"#,
            event: Some("e"),
            id: Some("i"),
            retry: Some(Duration::from_millis(1500)),
            snapshot: Some(b"s"),
        };
        let expected = format!("{:?}", Part::Event(event::check(&expected).expect("checked")));
        assert_eq!((parts, is_list, ends), (vec![expected], false, false));
    }

    #[test]
    fn nothing_given_is_as_left_out_but_data_may_be_null() {
        let of = |body| read(body).expect("read");
        let null = of(r#"{"data": null, "event": null, "id": null, "retry": null}"#);
        assert_eq!(null, of(r#"{"data": "null"}"#));
        let ended = of(r#"[{"data": 1}, {"end": true}]"#);
        assert_eq!((ended.1, ended.2), (true, true));
        assert_eq!(ended.0, of(r#"[{"data": "1"}, {"data": "null", "event": "end"}]"#).0);
        assert_eq!(of(r#"{"snapshot": null}"#).0, of(r#"{"snapshot": "null", "event": "snapshot"}"#).0);
        assert!(of(r#"{"snapshot": "x"}"#).0[0].starts_with("Snapshot"));
    }

    #[test]
    fn a_refusal_says_where_and_why() {
        for (body, why) in [
            ("", "the body is empty"),
            (" \n", "the body is empty"),
            ("\u{feff}{}", "the body is not JSON: it begins with a byte order mark"),
            ("{", "the body is not JSON: EOF"),
            (r#"{"data": 1} x"#, "the body is not JSON: trailing"),
            (
                r#"{"data": 1, "name": 2}"#,
                "there is no field \"name\": an event has data, event, id, retry, snapshot, end",
            ),
            (r#"{"data": 1, "data": 2}"#, "the field data stands in it twice"),
            (r#"[{"data": 1}, {"data": 1, "event": 2}]"#, "events[1]: event: must be a string or null, not a number"),
            (r#"{"data": 1, "\u0069d": {}}"#, "id: must be a string or null, not an object"),
            (r#"{"data": 1, "id": []}"#, "id: must be a string or null, not a list"),
            (r#"{"data": 1, "id": true}"#, "id: must be a string or null, not true"),
            (r#"{"data": 1, "event": "\ud800"}"#, "event: has a lone surrogate"),
            (r#"{"data": 1, "retry": "5"}"#, "retry: must be a number of seconds or null, not a string"),
            (r#"{"data": 1, "retry": 1e999}"#, "retry: inf is above 3600"),
            (r#"{"data": 1, "end": null}"#, "end: must be true or false, not null"),
            (r#"{"data": 1, "end": 1}"#, "end: must be true or false, not a number"),
            (r#"{"data": 1, 2: 3}"#, "the body is not JSON: key must be a string"),
            (r#"{"data": 1, "\ud800": 3}"#, "the body is not JSON: "),
            ("[1]", "events[0]: an event is an object with the fields data, event"),
            ("[[]]", "events[0]: an event is an object with the fields data, event"),
            ("[{}, null]", "events[1]: an event is an object with the fields data, event"),
            ("7", "an event is an object with the fields data, event, id, retry, snapshot, end, not a number"),
            ("-7.5", "an event is an object with the fields data, event, id, retry, snapshot, end, not a number"),
            ("\"x\"", "an event is an object with the fields data, event, id, retry, snapshot, end, not a string"),
            ("false", "an event is an object with the fields data, event, id, retry, snapshot, end, not false"),
            ("[]", "the list is empty"),
            ("{}", "it has none of data, snapshot and end"),
            (r#"[{"data": 1, "end": true}, {"data": 2}]"#, "[0] end: only the last"),
            (r#"{"data": 1, "retry": 3000000}"#, "retry: 3000000 is above 3600"),
            (r#"{"data": 1, "retry": -1}"#, "retry: -1 is not a number of seconds"),
            (r#"{"data": 1, "event": "a\nb"}"#, "event must not contain LF"),
            (r#"{"data": 1, "id": ""}"#, "id must not be empty"),
            (r#"{"snapshot": 1, "id": "a"}"#, "id and retry are an event's"),
            (r#"[{"data": 1}, {"data": {"a": 1, "a": 2}}]"#, "[1] data: has the member \"a\" twice"),
            (r#"{"data": "\ud800"}"#, "data: has a lone surrogate"),
            (r#"{"data": "123456789012345678901"}"#, "413 None data is 21 bytes long: at most 20"),
            (r#"[{"data": 1, "snapshot": "123456789012345678901"}]"#, "413 Some(0) snapshot is 21 bytes long"),
        ] {
            let refused = refused(body);
            assert!(refused.starts_with(why), "{body}: {refused}");
            for word in ["struct", "expected a", "f64", "bool", "Given", "column 0"] {
                assert!(!refused.contains(word), "{body}: {refused}");
            }
        }
        let bad = Asked::read(b"{\"data\": \"\xff\"}").expect_err("no UTF-8");
        assert_eq!(bad, BadBody::Form("the body is not UTF-8: byte 10".to_owned()));
    }
}

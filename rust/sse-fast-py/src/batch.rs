//! The arguments of `Stream.publish_many`, item by item.
//!
//! Owns: the forms that an item may have.
//! Must not know: how an event is published.
//! Invariants: every item is converted and checked before the first is published, so a wrong item publishes nothing. A
//! refusal says which item it was.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyMapping, PyString, PyTuple};
use sse_fast_server::{NewEvent, Stream};

use crate::convert::{self, Data};
use crate::errors::{event_error, event_type_error, event_value_error, is_event_error, is_event_type_error};
use crate::gil::calling_python;
use crate::json::Encoder;

static EVENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// One event with the Python objects its texts are borrowed from.
pub(crate) struct BatchItem<'py> {
    data: Data<'py>,
    event: Option<Bound<'py, PyAny>>,
    id: Option<Bound<'py, PyAny>>,
    retry: Option<Bound<'py, PyAny>>,
    snapshot: Option<Data<'py>>,
}

impl<'py> BatchItem<'py> {
    fn new(data: &Bound<'py, PyAny>, encoder: &Encoder) -> PyResult<Self> {
        Ok(Self { data: Data::of("data", data, encoder)?, event: None, id: None, retry: None, snapshot: None })
    }

    /// An `Event`, a `(data, event)` tuple, or a mapping with the names of `publish`'s arguments.
    fn of(item: &Bound<'py, PyAny>, encoder: &Encoder) -> PyResult<Self> {
        let py = item.py();
        if let Ok(pair) = item.cast::<PyTuple>() {
            if pair.len() != 2 {
                return Err(event_type_error("item", &format!("a tuple is (data, event), not {} items", pair.len())));
            }
            let event = Some(pair.get_item(1)?).filter(|event| !event.is_none());
            return Ok(Self { event, ..Self::new(&pair.get_item(0)?, encoder)? });
        }
        if item.is_instance(EVENT.import(py, "sse_fast._event", "Event")?)? {
            let field = |name| item.getattr(name).map(|value| Some(value).filter(|value| !value.is_none()));
            // "message" is what a reader calls an event without a name.
            let event = field("event")?.filter(|event| event.cast::<PyString>().map_or(true, |name| name != "message"));
            let data = item.getattr("data")?;
            return Ok(Self { event, id: field("id")?, retry: field("retry")?, ..Self::new(&data, encoder)? });
        }
        match item.cast::<PyMapping>() {
            Ok(fields) => Self::of_mapping(fields, encoder),
            Err(_) => Err(event_type_error(
                "item",
                &format!("must be an Event, a (data, event) tuple or a mapping, not {}", convert::type_name(item)),
            )),
        }
    }

    fn of_mapping(fields: &Bound<'py, PyMapping>, encoder: &Encoder) -> PyResult<Self> {
        let given = PyDict::new(fields.py());
        given.update(fields)?;
        let Some(data) = given.get_item("data")? else {
            return Err(event_type_error("item", "a mapping needs the key 'data'"));
        };
        let mut item = Self::new(&data, encoder)?;
        for (name, value) in given {
            let value = Some(value).filter(|value| !value.is_none());
            match name.to_string().as_str() {
                "data" => {}
                "event" => item.event = value,
                "id" => item.id = value,
                "retry" => item.retry = value,
                "snapshot" => {
                    item.snapshot = value.as_ref().map(|value| Data::of("snapshot", value, encoder)).transpose()?;
                }
                other => {
                    let allowed = "data, event, id, retry, snapshot";
                    return Err(event_type_error("item", &format!("a mapping may have {allowed}, not {other:?}")));
                }
            }
        }
        Ok(item)
    }

    fn as_event(&self, stream: &Stream) -> PyResult<NewEvent<'_>> {
        let event = NewEvent {
            data: self.data.as_bytes("data")?,
            event: convert::text("event", self.event.as_ref())?,
            id: convert::text("id", self.id.as_ref())?,
            retry: convert::retry(self.retry.as_ref())?,
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.as_bytes("snapshot")).transpose()?,
        };
        stream.check(&event).map_err(|error| event_error(&error))?;
        Ok(event)
    }
}

/// The events of the items, the first of which has the number `first`; the stream will accept each of them.
pub(crate) fn events<'a>(
    py: Python<'_>,
    items: &'a [BatchItem<'_>],
    first: usize,
    stream: &Stream,
) -> PyResult<Vec<NewEvent<'a>>> {
    let checked = |(position, item): (usize, &'a BatchItem<'_>)| {
        item.as_event(stream).map_err(|error| placed(py, first + position, error))
    };
    items.iter().enumerate().map(checked).collect()
}

/// Whether `events` can be an iterable of events.
pub(crate) fn check(events: &Bound<'_, PyAny>) -> PyResult<()> {
    if events.is_instance_of::<PyString>() || events.is_instance_of::<PyDict>() {
        let refused = format!("must be an iterable of events, not {}", convert::type_name(events));
        return Err(event_type_error("events", &refused));
    }
    // Only for a value without an iterator. What an iterator raises is passed on.
    if !events.hasattr("__iter__")? && !events.hasattr("__getitem__")? {
        let refused = format!("must be an iterable of events, not {}", convert::type_name(events));
        return Err(event_type_error("events", &refused));
    }
    Ok(())
}

/// Every item of the iterable `events`, the first of which has the number `first`.
pub(crate) fn items<'py>(events: &Bound<'py, PyAny>, first: usize, encoder: &Encoder) -> PyResult<Vec<BatchItem<'py>>> {
    check(events)?;
    let mut items = Vec::with_capacity(events.len().unwrap_or(0));
    let take = |item: PyResult<Bound<'py, PyAny>>, position| {
        BatchItem::of(&item?, encoder).map_err(|error| placed(events.py(), first + position, error))
    };
    if events.is_exact_instance_of::<PyList>() || events.is_exact_instance_of::<PyTuple>() {
        // Whether an item is a mapping is asked in Python.
        return calling_python(|| {
            for (position, item) in events.try_iter()?.enumerate() {
                items.push(take(item, position)?);
            }
            Ok(items)
        });
    }
    // Each step by itself: an iterator without an end does not keep the interpreter from its own.
    let mut iterator = calling_python(|| events.try_iter())?;
    while let Some(item) = calling_python(|| iterator.next().transpose())? {
        let position = items.len();
        items.push(calling_python(|| take(Ok(item), position))?);
    }
    Ok(items)
}

/// The same refusal with the item's position; other exceptions unchanged.
fn placed(py: Python<'_>, position: usize, error: PyErr) -> PyErr {
    let text = error.value(py).to_string();
    let field = format!("events[{position}]");
    if is_event_type_error(py, &error) {
        return event_type_error(&field, &text);
    }
    if is_event_error(py, &error) {
        return event_value_error(&field, &text);
    }
    error
}

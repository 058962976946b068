//! The one place that turns the engine's errors into Python's exceptions.
//!
//! Owns: which exception each error becomes, and the texts of the few errors that the engine cannot know.
//! Must not know: how the classes are made; they are ordinary Python classes in `python/sse_fast/_exceptions.py`.
//! Invariants: no match has a catch-all arm, so a new engine error does not compile until it has an exception. All
//! other texts come from the engine: what was attempted, the value, the limit.
//! Changes together with `_exceptions.py` and the error enums of sse-fast-core and sse-fast-server.

use std::any::Any;
use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use sse_fast_server as engine;

/// The Python classes. They are imported when first needed, so that `_core` can be imported by itself.
mod python {
    use pyo3::import_exception;

    import_exception!(sse_fast._exceptions, AddressInUse);
    import_exception!(sse_fast._exceptions, ArgumentTypeError);
    import_exception!(sse_fast._exceptions, EventError);
    import_exception!(sse_fast._exceptions, EventTypeError);
    import_exception!(sse_fast._exceptions, ForkError);
    import_exception!(sse_fast._exceptions, PermissionDenied);
    import_exception!(sse_fast._exceptions, PublishWouldWait);
    import_exception!(sse_fast._exceptions, RouteError);
    import_exception!(sse_fast._exceptions, RunArgumentError);
    import_exception!(sse_fast._exceptions, RunError);
    import_exception!(sse_fast._exceptions, ServerClosed);
    import_exception!(sse_fast._exceptions, SettingError);
    import_exception!(sse_fast._exceptions, SseFastError);
    import_exception!(sse_fast._exceptions, StartError);
    import_exception!(sse_fast._exceptions, StreamEnded);
}
pub(crate) use python::{EventError, EventTypeError};

/// A field of an event has a type that events cannot carry.
pub(crate) fn event_type_error(field: &str, text: &str) -> PyErr {
    EventTypeError::new_err(format!("{field}: {text}"))
}

/// A field of an event has a value that events cannot carry, found before the engine was called.
pub(crate) fn event_value_error(field: &str, text: &str) -> PyErr {
    EventError::new_err(format!("{field}: {text}"))
}

pub(crate) fn event_error(error: &engine::EventError) -> PyErr {
    EventError::new_err(error.to_string())
}

/// An argument that belongs to no event has a type that it cannot have.
pub(crate) fn argument_type_error(text: &str) -> PyErr {
    python::ArgumentTypeError::new_err(text.to_owned())
}

pub(crate) fn setting_error(text: &str) -> PyErr {
    python::SettingError::new_err(text.to_owned())
}

pub(crate) fn option_error(error: &engine::OptionError) -> PyErr {
    setting_error(&error.to_string())
}

pub(crate) fn heartbeat_error(error: engine::HeartbeatError) -> PyErr {
    match error {
        engine::HeartbeatError::Comment(error) => event_error(&error),
        engine::HeartbeatError::TooShort { .. } => setting_error(&error.to_string()),
    }
}

pub(crate) fn publish_error(error: engine::PublishError) -> PyErr {
    let text = error.to_string();
    match error {
        engine::PublishError::Event(error) => event_error(&error),
        // A removed stream has ended for those who still hold it: its name may already mean another one.
        engine::PublishError::Ended { .. } | engine::PublishError::Removed { .. } => python::StreamEnded::new_err(text),
        engine::PublishError::Closed { .. } => python::ServerClosed::new_err(text),
        // Does not happen: the caller publishes again, detached, and then the engine waits.
        engine::PublishError::WouldWait => internal(&text),
        engine::PublishError::LoopWouldWait { .. } => python::PublishWouldWait::new_err(text),
    }
}

/// For calls that the engine would accept even after its end.
pub(crate) fn server_closed() -> PyErr {
    python::ServerClosed::new_err("the server is closed")
}

/// For use after a fork, in the child.
pub(crate) fn fork_error() -> PyErr {
    python::ForkError::new_err(
        "this server belongs to the parent process: its engine threads did not survive the fork; \
         call sse_fast.serve() in the process that is to serve, after the fork",
    )
}

/// A defect of the engine, as an exception that `except Exception` catches.
pub(crate) fn internal(text: &str) -> PyErr {
    python::SseFastError::new_err(format!("internal error, please report it: {text}"))
}

/// A panic that `gil` caught.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    internal(text.unwrap_or("a panic without a text"))
}

/// The number of an error of the operating system, by its name in Python's `errno`; 0 is none.
fn errno(name: &str) -> i32 {
    Python::attach(|py| py.import("errno")?.getattr(name)?.extract::<i32>()).unwrap_or(0)
}

/// An error of the operating system as Python would raise it.
pub(crate) fn io_error(error: &io::Error) -> PyErr {
    PyOSError::new_err((error.raw_os_error().unwrap_or(0), error.to_string()))
}

pub(crate) fn start_error(error: &engine::StartError) -> PyErr {
    let text = error.to_string();
    match error {
        engine::StartError::AddressInUse { .. } => python::AddressInUse::new_err((errno("EADDRINUSE"), text)),
        engine::StartError::NoPermission { .. } => python::PermissionDenied::new_err((errno("EACCES"), text)),
        engine::StartError::BadAddress { .. } => python::StartError::new_err((errno("EADDRNOTAVAIL"), text)),
        engine::StartError::Io { source, .. } => {
            python::StartError::new_err((source.raw_os_error().unwrap_or(0), text))
        }
    }
}

pub(crate) fn stream_error(error: engine::StreamError) -> PyErr {
    let text = error.to_string();
    match error {
        engine::StreamError::Option(error) => option_error(&error),
        engine::StreamError::Name { .. } => setting_error(&text),
        engine::StreamError::Closed { .. } => python::ServerClosed::new_err(text),
    }
}

pub(crate) fn route_error(error: engine::RouteError) -> PyErr {
    let text = error.to_string();
    match error {
        engine::RouteError::Option(error) => option_error(&error),
        engine::RouteError::Template { .. }
        | engine::RouteError::Taken { .. }
        | engine::RouteError::Method { .. }
        | engine::RouteError::Stream { .. } => python::RouteError::new_err(text),
    }
}

/// A path template or stream name that is refused before the engine is called.
pub(crate) fn malformed_route(text: &str) -> PyErr {
    python::RouteError::new_err(text.to_owned())
}

pub(crate) fn run_error(error: engine::RunError) -> PyErr {
    use engine::RunError as E;
    let text = error.to_string();
    let os_error = |number: i32| python::RunError::new_err((number, text.clone()));
    match error {
        E::EmptyArgv
        | E::NulInArgument { .. }
        | E::BadVariable { .. }
        | E::BadMarker { .. }
        | E::BadLines { .. }
        | E::NulInCwd { .. } => python::RunArgumentError::new_err(text),
        E::NotFound { .. } => os_error(errno("ENOENT")),
        E::NoPermission { .. } => os_error(errno("EACCES")),
        E::BadCwd { source, .. } | E::System { source, .. } | E::Signal { source, .. } => {
            os_error(source.raw_os_error().unwrap_or_else(|| errno("EINVAL")))
        }
        E::ShuttingDown => python::ServerClosed::new_err(text),
    }
}

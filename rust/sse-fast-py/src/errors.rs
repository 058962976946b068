//! The one place that turns the engine's errors into Python's exceptions.
//!
//! Owns: which exception each error becomes, and the texts of the few errors that the engine cannot know.
//! Must not know: how the classes are made; they are ordinary Python classes in `python/sse_fast/_exceptions.py`.
//! Invariants: no match has a catch-all arm, so a new engine error does not compile until it has an exception. All
//! other texts come from the engine: what was attempted, the value, the limit. Every class is known since the module was
//! made (`resolve`): at the end of the interpreter, or of its stack, nothing can be imported.
//! Changes together with `_exceptions.py` and the error enums of sse-fast-core and sse-fast-server.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::call::PyCallArgs;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use sse_fast_server as engine;

/// The Python classes, and the numbers of errors that the operating system gives by name.
struct Known {
    address_in_use: Py<PyType>,
    argument_type_error: Py<PyType>,
    backplane_error: Py<PyType>,
    backplane_unavailable: Py<PyType>,
    event_error: Py<PyType>,
    event_type_error: Py<PyType>,
    fork_error: Py<PyType>,
    permission_denied: Py<PyType>,
    key_reused: Py<PyType>,
    publish_in_progress: Py<PyType>,
    publish_would_wait: Py<PyType>,
    too_many_streams: Py<PyType>,
    route_error: Py<PyType>,
    run_argument_error: Py<PyType>,
    run_error: Py<PyType>,
    server_closed: Py<PyType>,
    setting_error: Py<PyType>,
    root: Py<PyType>,
    start_error: Py<PyType>,
    stream_ended: Py<PyType>,
    store_denied: Py<PyType>,
    store_error: Py<PyType>,
    store_full: Py<PyType>,
    store_locked: Py<PyType>,
    stream_error: Py<PyType>,
    errno: Errno,
}

/// Python's numbers of errors of the operating system.
struct Errno {
    acces: i32,
    addrinuse: i32,
    addrnotavail: i32,
    again: i32,
    inval: i32,
    noent: i32,
}

static KNOWN: PyOnceLock<Known> = PyOnceLock::new();

/// Resolves every class; without this module's `resolve` the package cannot be imported.
pub(crate) fn resolve(py: Python<'_>) -> PyResult<()> {
    let (classes, errno) = (py.import("sse_fast._exceptions")?, py.import("errno")?);
    let class = |name: &str| PyResult::Ok(classes.getattr(name)?.cast_into::<PyType>()?.unbind());
    let number = |name: &str| errno.getattr(name)?.extract::<i32>();
    let known = Known {
        address_in_use: class("AddressInUse")?,
        argument_type_error: class("ArgumentTypeError")?,
        backplane_error: class("BackplaneError")?,
        backplane_unavailable: class("BackplaneUnavailable")?,
        event_error: class("EventError")?,
        event_type_error: class("EventTypeError")?,
        fork_error: class("ForkError")?,
        permission_denied: class("PermissionDenied")?,
        key_reused: class("KeyReused")?,
        publish_in_progress: class("PublishInProgress")?,
        publish_would_wait: class("PublishWouldWait")?,
        too_many_streams: class("TooManyStreams")?,
        route_error: class("RouteError")?,
        run_argument_error: class("RunArgumentError")?,
        run_error: class("RunError")?,
        server_closed: class("ServerClosed")?,
        setting_error: class("SettingError")?,
        root: class("SseFastError")?,
        start_error: class("StartError")?,
        stream_ended: class("StreamEnded")?,
        store_denied: class("StoreDenied")?,
        store_error: class("StoreError")?,
        store_full: class("StoreFull")?,
        store_locked: class("StoreLocked")?,
        stream_error: class("StreamError")?,
        errno: Errno {
            acces: number("EACCES")?,
            addrinuse: number("EADDRINUSE")?,
            addrnotavail: number("EADDRNOTAVAIL")?,
            again: number("EAGAIN")?,
            inval: number("EINVAL")?,
            noent: number("ENOENT")?,
        },
    };
    // Set already where the module is initialised a second time; the classes are the same.
    let _ = KNOWN.set(py, known);
    Ok(())
}

/// An exception of the class. It is made here and not when it is raised: what fails then is an exception, too
/// (`RecursionError`, `MemoryError`), while a failure at the raising would be a panic outside of every guard.
fn made<A>(class: fn(&Known) -> &Py<PyType>, arguments: A) -> PyErr
where
    A: for<'py> PyCallArgs<'py>,
{
    Python::attach(|py| {
        let Some(known) = KNOWN.get(py) else { return PyRuntimeError::new_err(()) };
        let make = || class(known).bind(py).call1(arguments);
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(exception)) => PyErr::from_value(exception),
            Ok(Err(error)) => error,
            // A text that does not fit into memory.
            Err(_) => PyMemoryError::new_err(()),
        }
    })
}

/// An exception that has only a text.
fn with_text(class: fn(&Known) -> &Py<PyType>, text: impl AsRef<str>) -> PyErr {
    made(class, (text.as_ref(),))
}

/// One of the operating system's, whose number Python's builtin knows; 0 is none.
fn with_number(class: fn(&Known) -> &Py<PyType>, number: fn(&Errno) -> i32, text: &str) -> PyErr {
    let number = Python::attach(|py| KNOWN.get(py).map_or(0, |known| number(&known.errno)));
    made(class, (number, text))
}

fn is(py: Python<'_>, error: &PyErr, class: fn(&Known) -> &Py<PyType>) -> bool {
    KNOWN.get(py).is_some_and(|known| error.is_instance(py, class(known).bind(py)))
}

pub(crate) fn is_event_error(py: Python<'_>, error: &PyErr) -> bool {
    is(py, error, |known| &known.event_error)
}

pub(crate) fn is_event_type_error(py: Python<'_>, error: &PyErr) -> bool {
    is(py, error, |known| &known.event_type_error)
}

/// A field of an event has a type that events cannot carry.
pub(crate) fn event_type_error(field: &str, text: &str) -> PyErr {
    with_text(|known| &known.event_type_error, format!("{field}: {text}"))
}

/// A field of an event has a value that events cannot carry, found before the engine was called.
pub(crate) fn event_value_error(field: &str, text: &str) -> PyErr {
    with_text(|known| &known.event_error, format!("{field}: {text}"))
}

pub(crate) fn event_error(error: &engine::EventError) -> PyErr {
    with_text(|known| &known.event_error, error.to_string())
}

/// An argument that belongs to no event has a type that it cannot have.
pub(crate) fn argument_type_error(text: &str) -> PyErr {
    with_text(|known| &known.argument_type_error, text)
}

pub(crate) fn setting_error(text: &str) -> PyErr {
    with_text(|known| &known.setting_error, text)
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
        engine::PublishError::Ended { .. } | engine::PublishError::Removed { .. } => {
            with_text(|known| &known.stream_ended, text)
        }
        engine::PublishError::Closed { .. } => with_text(|known| &known.server_closed, text),
        engine::PublishError::TooMuchTogether { .. } => with_text(|known| &known.event_error, text),
        engine::PublishError::Unavailable { published, .. } => backplane_unavailable(&text, published),
        engine::PublishError::Refused { .. } => with_text(|known| &known.backplane_error, text),
        engine::PublishError::Conflict { .. } => key_reused(),
        // Does not happen: the caller publishes again, detached, and then the engine waits.
        engine::PublishError::WouldWait => internal(&text),
        engine::PublishError::Store(error) => store_error(&error),
        engine::PublishError::LoopWouldWait { .. } => with_text(|known| &known.publish_would_wait, text),
    }
}

/// An idempotency key stands for something else.
pub(crate) fn key_reused() -> PyErr {
    with_text(|known| &known.key_reused, "cannot publish: this idempotency_key was used for something else")
}

/// What stands under an idempotency key is being published.
pub(crate) fn publish_in_progress() -> PyErr {
    let text = "cannot publish: another thread or task is publishing under this idempotency_key";
    with_text(|known| &known.publish_in_progress, text)
}

/// What streams are shared through cannot be reached; whether something was published, where that is known.
fn backplane_unavailable(text: &str, published: Option<bool>) -> PyErr {
    made(|known| &known.backplane_unavailable, (text, published))
}

/// What could not be kept, with the system's number of it.
fn store_error(error: &engine::StoreError) -> PyErr {
    let text = error.to_string();
    match error {
        engine::StoreError::Full { number, .. } => made(|known| &known.store_full, (*number, text)),
        engine::StoreError::Failed { number, .. } => made(|known| &known.store_error, (*number, text)),
    }
}

/// A folder that cannot be the store.
pub(crate) fn open_error(error: &engine::OpenError) -> PyErr {
    use engine::OpenError as E;
    let text = error.to_string();
    match error {
        E::Locked { .. } => with_number(|known| &known.store_locked, |errno| errno.again, &text),
        E::Denied { .. } => with_number(|known| &known.store_denied, |errno| errno.acces, &text),
        E::Version { .. } => with_number(|known| &known.store_error, |errno| errno.inval, &text),
        E::Full { source, .. } => made(|known| &known.store_full, (source.raw_os_error().unwrap_or(0), text)),
        E::Io { source, .. } => made(|known| &known.store_error, (source.raw_os_error().unwrap_or(0), text)),
    }
}

/// For calls that the engine would accept even after its end.
pub(crate) fn server_closed() -> PyErr {
    with_text(|known| &known.server_closed, "the server is closed")
}

/// For a use of the engine by a thread that the end of the interpreter does not wait for.
pub(crate) fn interpreter_ends() -> PyErr {
    with_text(|known| &known.server_closed, "the server is closed: the interpreter is ending")
}

/// For a server that would be started then.
pub(crate) fn cannot_start_at_the_end() -> PyErr {
    made(|known| &known.start_error, (0, "cannot start a server: the interpreter is ending"))
}

/// For use after a fork, in the child.
pub(crate) fn fork_error() -> PyErr {
    with_text(
        |known| &known.fork_error,
        "this server belongs to the parent process: its engine threads did not survive the fork; \
         call sse_fast.serve() in the process that is to serve, after the fork",
    )
}

/// A defect of the engine, as an exception that `except Exception` catches.
pub(crate) fn internal(text: &str) -> PyErr {
    with_text(|known| &known.root, format!("internal error, please report it: {text}"))
}

/// A panic that `gil` caught.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    internal(text.unwrap_or("a panic without a text"))
}

/// An error of the operating system as Python would raise it.
pub(crate) fn io_error(error: &io::Error) -> PyErr {
    PyOSError::new_err((error.raw_os_error().unwrap_or(0), error.to_string()))
}

pub(crate) fn start_error(error: &engine::StartError) -> PyErr {
    let text = error.to_string();
    match error {
        engine::StartError::AddressInUse { .. } => {
            with_number(|known| &known.address_in_use, |errno| errno.addrinuse, &text)
        }
        engine::StartError::NoPermission { .. } => {
            with_number(|known| &known.permission_denied, |errno| errno.acces, &text)
        }
        engine::StartError::BadAddress { .. } => {
            with_number(|known| &known.start_error, |errno| errno.addrnotavail, &text)
        }
        engine::StartError::BadHost { .. }
        | engine::StartError::BadPattern(_)
        | engine::StartError::BadBackplane { .. }
        | engine::StartError::BadOption { .. } => setting_error(&text),
        engine::StartError::Backplane { .. } => backplane_unavailable(&text, Some(false)),
        engine::StartError::Store(error) => open_error(error),
        engine::StartError::Io { source, .. } => {
            made(|known| &known.start_error, (source.raw_os_error().unwrap_or(0), text.as_str()))
        }
    }
}

pub(crate) fn stream_error(error: engine::StreamError) -> PyErr {
    let text = error.to_string();
    match error {
        engine::StreamError::Option(error) => option_error(&error),
        engine::StreamError::Name { .. } => setting_error(&text),
        engine::StreamError::Unavailable { published, .. } => backplane_unavailable(&text, published),
        engine::StreamError::Refused { .. } => with_text(|known| &known.backplane_error, text),
        engine::StreamError::TooMany { .. } => with_text(|known| &known.too_many_streams, text),
        engine::StreamError::Closed { .. } | engine::StreamError::NamelessClosed => {
            with_text(|known| &known.server_closed, text)
        }
    }
}

pub(crate) fn route_error(error: engine::RouteError) -> PyErr {
    let text = error.to_string();
    match error {
        engine::RouteError::Option(error) => option_error(&error),
        engine::RouteError::Template { .. }
        | engine::RouteError::Taken { .. }
        | engine::RouteError::Method { .. }
        | engine::RouteError::Stream { .. } => with_text(|known| &known.route_error, text),
    }
}

/// A path template or stream name that is refused before the engine is called.
pub(crate) fn malformed_route(text: &str) -> PyErr {
    with_text(|known| &known.route_error, text)
}

pub(crate) fn run_error(error: engine::RunError) -> PyErr {
    use engine::RunError as E;
    let text = error.to_string();
    let os_error = |number| with_number(|known| &known.run_error, number, &text);
    match error {
        E::EmptyArgv
        | E::NulInArgument { .. }
        | E::BadVariable { .. }
        | E::BadMarker { .. }
        | E::BadLines { .. }
        | E::NoPath { .. } => with_text(|known| &known.run_argument_error, text),
        E::NotFound { .. } => os_error(|errno| errno.noent),
        E::NoPermission { .. } => os_error(|errno| errno.acces),
        E::BadCwd { source, .. } | E::System { source, .. } | E::Signal { source, .. } => match source.raw_os_error() {
            Some(number) => made(|known| &known.run_error, (number, text.as_str())),
            None => os_error(|errno| errno.inval),
        },
        E::StreamTaken { .. } => with_text(|known| &known.stream_error, text),
        E::ShuttingDown => with_text(|known| &known.server_closed, text),
    }
}

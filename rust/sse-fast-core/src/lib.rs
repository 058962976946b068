//! The pure core of `sse_fast`: everything that decides *what* a subscriber is given.
//!
//! Owns: checking and encoding an event, retaining frames, positions and ids, resume, gaps, lag, when a heartbeat is
//! due, how a child's output splits into lines.
//! Must not know: I/O, clocks, locks, threads, logs, a runtime. `scripts/check-architecture` checks this.
//! Invariants: time comes in as a value, so delivery can be tested in simulated time; no unsafe code.
//!
//! # Layout
//!
//! | module | owns |
//! |---|---|
//! | [`event`] | the checks an event must pass before anything is written |
//! | [`wire`] | the bytes of SSE: the only place that knows `data:` |
//! | [`frame`] | one event's immutable wire bytes with its HTTP chunk framing |
//! | [`id`] | `<epoch>-<n>`: written, read, compared |
//! | [`vector`] | ids of a connection that reads several streams |
//! | [`log`] | the retained frames of a stream, bounded by events and by bytes |
//! | [`gap`] | events that a subscriber could not be given |
//! | [`cursor`] | where a subscriber starts or resumes, and what it must be told first |
//! | [`lag`] | what happens to a subscriber that fell behind |
//! | [`follow`] | what one reader gets next |
//! | [`budget`] | how much waiting was spent within the last minute |
//! | [`stream`] | a log with its snapshot, epoch, options and end |
//! | [`batch`] | frames laid end to end, so that one write serves any cursor among them |
//! | [`heartbeat`] | the wheel that knows which subscriber is due, spread over time |
//! | [`lines`] | a child's bytes into lines, marked lines into events |
//! | [`options`] | what a stream can be told, with defaults and limits |
//! | [`error`] | what can be wrong with an event or an option |
#![forbid(unsafe_code)]

pub mod batch;
pub mod budget;
pub mod cursor;
pub mod error;
pub mod event;
pub mod follow;
pub mod frame;
pub mod gap;
pub mod heartbeat;
pub mod id;
pub mod lag;
pub mod lines;
pub mod log;
pub mod options;
pub mod stream;
pub mod vector;
pub mod wire;

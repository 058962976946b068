//! What a stream promises its readers, held against an oracle that never forgets an event.
//!
//! | module | guards |
//! |---|---|
//! | [`world`] | a stream and its oracle, told the same things in the same order |
//! | [`opening`] | every way to start or resume, against the oracle |
//! | [`resume`] | the sentences of "Resuming" in the wire contract, one test each |
//! | [`copies`] | a copy of a log elsewhere: its beginning, its jumps |
//! | [`lag`] | what becomes of those who fell behind, by counting |
//! | [`promise`] | the sentences of the delivery promise that need no socket, one test each |
//! | [`together`] | several that are appended in one step |
//! | [`seams`] | faults that were found here, between one thing and the next |
//!
//! What becomes of it on sockets is tested where the shard is: `sse-fast-server`, `src/simulation`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on must fail at that line; its name is its documentation; nobody is outside"
)]

mod copies;
mod lag;
mod opening;
mod promise;
mod resume;
mod seams;
mod together;
mod world;

//! What the core promises its readers, held against an oracle that never forgets an event.
//!
//! | module | guards |
//! |---|---|
//! | [`everything`] | the oracle: what a reader must see, computed from first principles |
//! | [`world`] | a stream and its oracle, told the same things in the same order |
//! | [`parser`] | a client's chunk and SSE parser, which shares no code with the engine |
//! | [`reader`] | what one client saw, and the laws it must have been seen by |
//! | [`peer`] | a client with its socket, and the engine's end of its connection |
//! | [`shard`] | subscribers stepped by hand, in simulated time, as a shard steps them |
//! | [`delivery`] | the delivery promise under random scripts |
//! | [`opening`] | every way to start or resume, against the oracle |
//! | [`resume`] | the sentences of "Resuming" in the wire contract, one test each |
//! | [`promise`] | the sentences of the delivery promise, one test each |
//! | [`seams`] | faults that were found here, between one thing and the next |
//!
//! Time is a number here: nothing sleeps, and a failing script shrinks to the steps that matter.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on must fail at that line; its name is its documentation; nobody is outside"
)]

mod delivery;
mod everything;
mod opening;
mod parser;
mod peer;
mod promise;
mod reader;
mod resume;
mod seams;
mod shard;
mod world;

//! What the engine allocates, counted: allocations for each publish and delivery, bytes for each subscriber and stream.
//!
//! Counts, never time: they are the same on a busy machine and on an idle one, so a change that
//! costs one allocation for each delivery or some bytes for each subscriber fails here, and
//! nothing else does. System calls and instructions are counted in `tests/test_counts.py`.
//!
//! | module | owns |
//! |---|---|
//! | [`allocator`] | the counting: by thread for allocations, for the process for bytes |
//! | [`readers`] | a server with readers on real sockets |
//! | [`allocations`] | one for a publish, none for a delivery |
//! | [`memory`] | bytes for a subscriber and for a small stream, and all of it given back |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on must fail at that line; its name is its documentation; nobody is outside"
)]

mod allocations;
mod allocator;
mod memory;
mod readers;

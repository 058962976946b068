//! The simulation of the backplane: the real machines of several processes over the server in memory, in simulated time, in
//! one thread, with faults, against what must hold.
//!
//! | file | owns |
//! |---|---|
//! | `world` | time, connections, the server |
//! | `faults` | what happens to them |
//! | `process` | one process: its machine, and its copies as the engine would keep them |
//! | `laws` | what no reader may ever see, and what all must see in the end |
//! | `play` | schedules drawn from a seed |
//! | `by_hand` | what schedules come upon too rarely |
//!
//! `SEEDS=10000 cargo test -p sse-fast-server --lib backplane::simulation` runs more seeds; `SEED=17` runs one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

mod by_hand;
mod faults;
mod laws;
mod play;
mod process;
mod world;

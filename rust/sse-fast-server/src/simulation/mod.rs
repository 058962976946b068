//! The simulation: the real shards, streams and publishers in simulated time, in one thread, against the oracle.
//!
//! | file | owns |
//! |---|---|
//! | `random`, `script` | what happens, drawn from a seed |
//! | `play` | a script from its first action to its end |
//! | `world` | time, and the order in which shards are stepped |
//! | `acts`, `together`, `moves` | what clients and threads do to a world |
//! | `net`, `wire` | the kernel between a shard's socket and a client |
//! | `stage`, `publishers` | what other threads do, also between two writes of a step |
//! | `told`, `times` | a stream beside its oracle; moments and what was waited |
//! | `leaving`, `right` | ends that have to do with who reads |
//! | `client`, `several`, `inside` | what readers see, held against the laws |
//! | `check` | what must hold when nobody has anything to do |
//! | `runner` | seeds, shortened scripts, what was covered |
//! | `hand`, `promise`, `patience`, `faults` | scripts written by hand, one for each sentence and each fault |
//!
//! `SEEDS=1000 cargo test -p sse-fast-server --lib simulation` runs more seeds; `SEED=17` runs one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::option_option,
    clippy::unnecessary_wraps,
    clippy::struct_excessive_bools,
    reason = "a test that cannot go on must fail at that line; a patch gives an option or leaves it; a socket has many flags"
)]

mod acts;
mod check;
mod client;
mod faults;
mod hand;
mod inside;
mod leaving;
mod moves;
mod net;
mod patience;
mod play;
mod promise;
mod publishers;
pub(crate) mod random;
mod right;
mod runner;
mod script;
mod several;
mod stage;
mod times;
mod together;
mod told;
mod wire;
mod world;

//! What a reader of a stream must see, worked out from first principles.
//!
//! | module | owns |
//! |---|---|
//! | [`everything`] | the oracle: every event ever published, and what an opening must show |
//! | [`content`] | what test events hold, and how a reader recognises them |
//! | [`parser`] | a client's chunk and SSE parser |
//! | [`reader`] | what one reader saw, and the laws it must have been seen by |
//!
//! For tests alone: whatever breaks a law panics with what was seen. It knows the core's options, and shares no code with
//! what encodes or delivers; it keeps and counts where the engine subtracts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "a law that is broken must fail at that line; names here are their documentation"
)]

pub mod content;
pub mod everything;
pub mod parser;
pub mod reader;

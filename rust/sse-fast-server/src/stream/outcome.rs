//! What publishing an event comes to: its id, or why it was refused.
//!
//! Owns: the texts that users see. Must not know: when which of them is the case (`attempt`). Changes together with the
//! binding's `errors`, which gives each its exception.

use sse_fast_core::error::EventError;
use sse_fast_core::id::IdText;
use thiserror::Error;

use crate::store::StoreError;

/// Why an event was not published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Something is wrong with the event itself.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The stream has its terminal event.
    #[error(
        "cannot publish into {stream}: the stream has ended; to begin anew, call its remove() and make it again, or use \
         another name"
    )]
    Ended {
        /// The stream's name, in quotes.
        stream: String,
    },
    /// The name was removed or expired; this life of it is over.
    #[error(
        "cannot publish into {stream}: this stream was removed; Server.stream({stream}) is the new one of that name"
    )]
    Removed {
        /// The stream's name, in quotes.
        stream: String,
    },
    /// The server was closed.
    #[error("cannot publish into {stream}: the server is closed")]
    Closed {
        /// The stream's name, in quotes.
        stream: String,
    },
    /// It could not be kept.
    #[error("{0}")]
    Store(StoreError),
    /// Only from `try_publish`: it would have to wait.
    #[error("publishing would have to wait")]
    WouldWait,
    /// It would have to wait for a reader, in the thread of an event loop, and nothing may be skipped.
    #[error(
        "cannot publish into {stream} here: a reader's socket is full, publish_wait=None waits for it, and waiting would \
         stop this thread's event loop; publish from another thread"
    )]
    LoopWouldWait {
        /// The stream's name, in quotes.
        stream: String,
    },
}

/// What publishing gives back: the event's id.
#[derive(Clone, Debug)]
pub enum Published {
    /// `<epoch>-<n>`.
    Generated(IdText),
    /// The caller's own.
    Custom(Box<str>),
}

impl Published {
    /// The id as it stands on the wire.
    pub fn id(&self) -> &str {
        match self {
            Self::Generated(id) => id.as_str(),
            Self::Custom(id) => id,
        }
    }
}

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
    /// More than the stream's log holds at once was to be appended together.
    #[error(
        "cannot publish {events} events of {bytes} bytes into {stream} together: history={history} and \
         history_bytes={history_bytes} hold fewer"
    )]
    TooMuchTogether {
        /// The stream's name, in quotes.
        stream: String,
        /// How many events there are.
        events: usize,
        /// What they come to on the wire.
        bytes: usize,
        /// How many events are held.
        history: usize,
        /// How many bytes are held.
        history_bytes: usize,
    },
    /// The stream's log is elsewhere, and what keeps it could not be reached in time.
    #[error("cannot publish into {stream}: {}", away(*.published))]
    Unavailable {
        /// The stream's name, in quotes.
        stream: String,
        /// False where it was not published and will not be, `None` where that is not known.
        published: Option<bool>,
    },
    /// The stream's log is elsewhere, and what keeps it refused.
    #[error("cannot publish into {stream}: the backplane's server refused: {reason}")]
    Refused {
        /// The stream's name, in quotes.
        stream: String,
        /// What the server said.
        reason: String,
    },
    /// Something else was published under this idempotency key.
    #[error("cannot publish into {stream}: something else was published under this idempotency key")]
    Conflict {
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

fn away(published: Option<bool>) -> &'static str {
    match published {
        Some(true) => "the backplane is away; it was published",
        Some(false) => "the backplane is away, and backplane_timeout is over; nothing was published",
        None => "the backplane went away before it answered; whether it was published is not known",
    }
}

/// What publishing gives back: the event's id.
#[derive(Clone, Debug)]
pub enum Published {
    /// `<epoch>-<n>`.
    Generated(IdText),
    /// The caller's own.
    Custom(Box<str>),
    /// Those of several events.
    Several {
        /// One for each event.
        ids: Box<[Published]>,
        /// Where there is none, for a snapshot alone was set: that of the newest event that it covers.
        covered: String,
    },
}

impl Published {
    /// One event's of the ids that were answered: it has one.
    pub(super) fn one(mut ids: Vec<Self>) -> Self {
        ids.pop().unwrap_or_else(|| Self::Custom("".into()))
    }

    /// Those of several events.
    pub(super) fn several(ids: Vec<Self>) -> Self {
        Self::Several { ids: ids.into(), covered: String::new() }
    }

    /// The id as it stands on the wire; of several the last event's.
    pub fn id(&self) -> &str {
        match self {
            Self::Generated(id) => id.as_str(),
            Self::Custom(id) => id,
            Self::Several { ids, covered } => ids.last().map_or(covered, Self::id),
        }
    }

    /// Each event's id.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.each().iter().map(Self::id)
    }

    /// Each event's.
    pub(super) fn each(&self) -> &[Self] {
        match self {
            Self::Generated(_) | Self::Custom(_) => std::slice::from_ref(self),
            Self::Several { ids, .. } => ids,
        }
    }
}

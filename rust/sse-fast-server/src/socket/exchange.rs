//! The bodies of one exchange, told apart from hyper's own by what they signal.
//!
//! Owns the two wrappers: a request's body, which is cut where the client has shut its writing side,
//! and a response's, whose end says that hyper has the whole of it. Must not know: sockets, handlers.
//! Invariant: hyper reads from the socket only when it has no byte of the body left, so a body that is
//! pending while the client's end is hidden stays incomplete.
//! What changes together: `signals`, where the rules are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use thiserror::Error;

use super::{BodyFraming, Signals};

impl BodyFraming {
    /// By hyper's own word.
    pub(crate) fn of(body: &Incoming) -> Self {
        body.size_hint().exact().map_or(Self::Chunked, Self::Length)
    }
}

/// A request's body.
pub(crate) struct RequestBody {
    body: Incoming,
    /// Whether all of it was read.
    whole: bool,
    pub(crate) signals: Arc<Signals>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, signals: Arc<Signals>) -> Self {
        Self { whole: body.is_end_stream(), body, signals }
    }
}

/// Why a request's body is not whole.
#[derive(Debug, Error)]
pub(crate) enum CutBody {
    /// hyper could not read it.
    #[error(transparent)]
    Read(#[from] hyper::Error),
    /// The client shut its writing side before it had sent all.
    #[error("the client shut its writing side before the end of the body")]
    Cut,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = CutBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending if self.signals.half_closed() => Poll::Ready(Some(Err(CutBody::Cut))),
            polled => {
                self.whole |= matches!(polled, Poll::Ready(None));
                polled.map_err(CutBody::from)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.whole && !self.body.is_end_stream() {
            self.signals.cut_body();
        }
    }
}

/// A response's body: hyper drops it when it has taken all of it.
pub(crate) struct ResponseBody {
    pub(crate) body: Full<Bytes>,
    pub(crate) signals: Arc<Signals>,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.signals.answered();
    }
}

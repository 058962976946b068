//! The bodies of one exchange, told apart from hyper's own by what they signal.
//!
//! Owns the two wrappers: a request's body, which is cut where the client has shut its writing side,
//! and a response's, whose end says that hyper has the whole of it; and what becomes of a body that nobody wanted:
//! hyper would end the connection for it, behind an answer that does not say so. Must not know: sockets, handlers.
//! Invariant: hyper reads from the socket only when it has no byte of the body left, so a body that is
//! pending while the client's end is hidden stays incomplete.
//! What changes together: `signals`, where the rules are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::timeout;

use super::{BodyFraming, Signals};
use crate::body::discard;

impl BodyFraming {
    /// By hyper's own word.
    pub(crate) fn of(body: &Incoming) -> Self {
        body.size_hint().exact().map_or(Self::Chunked, Self::Length)
    }
}

/// A request's body.
pub(crate) struct RequestBody {
    /// There until it is dropped.
    body: Option<Incoming>,
    /// Whether all of it was read.
    whole: bool,
    rest: Rest,
    pub(crate) signals: Arc<Signals>,
}

/// What is left of a request's body once its holder has let it go.
#[derive(Clone, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl RequestBody {
    /// `rest` is given what is left of it.
    pub(crate) fn new(body: Incoming, signals: Arc<Signals>, rest: Rest) -> Self {
        Self { whole: body.is_end_stream(), body: Some(body), rest, signals }
    }

    fn is_whole(&self) -> bool {
        self.whole || self.body.as_ref().is_none_or(Body::is_end_stream)
    }
}

impl Rest {
    /// Has what is left read by `discard`, which is given up after `longest`; says whether that was the end of the body.
    /// Else hyper ends the connection behind the answer.
    pub(crate) async fn is_read(&self, signals: &Arc<Signals>, longest: Duration) -> bool {
        let Some(body) = self.0.lock().take() else { return true };
        let mut body = RequestBody::new(body, Arc::clone(signals), Self::default());
        if !longest.is_zero() {
            // Whether it came in time is what is asked below.
            let _ = timeout(longest, discard(&mut body)).await;
        }
        if !body.is_whole() {
            signals.cut_body();
        }
        body.is_whole()
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
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending if self.signals.half_closed() => Poll::Ready(Some(Err(CutBody::Cut))),
            polled => {
                self.whole |= matches!(polled, Poll::Ready(None));
                polled.map_err(CutBody::from)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_whole() {
            *self.rest.0.lock() = self.body.take();
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

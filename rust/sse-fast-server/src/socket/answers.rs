//! Whether what hyper writes answers a request, so that its own refusals can be put in our words.
//!
//! hyper answers what it cannot parse by itself, with an empty body, and cannot be told otherwise;
//! ours are JSON. So a socket holds back what is written while nobody was asked for an answer, and
//! the connection writes its own refusal when hyper reports the error.
//! Invariants: an answer is open from the moment a request is given to us until its whole response
//! has been written; hyper reads the next head only after that, so what it writes while none is
//! open is its own. Where that would ever fail, hyper's refusal goes out as it is.
//! What changes together: `socket`, which asks, and `connection`, which tells.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::Wait;

/// What a connection knows of its answers. Relaxed: all is one task's, and no other memory depends on it.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// A request came whose response is not yet written.
    open: AtomicBool,
    /// hyper has the whole of that response, in its buffer or written.
    taken: AtomicBool,
    /// Something was held back.
    held: AtomicBool,
}

impl Answers {
    /// A request came, or we write ourselves.
    pub(crate) fn open(&self) {
        self.taken.store(false, Relaxed);
        self.open.store(true, Relaxed);
    }

    /// hyper's buffer is written: if it had the whole response, that is done.
    pub(crate) fn written(&self) {
        if self.taken.swap(false, Relaxed) {
            self.open.store(false, Relaxed);
        }
    }

    /// Whether what is about to be written must be held back: nobody asked us for it.
    pub(crate) fn hold(&self) -> bool {
        let unasked = !self.open.load(Relaxed);
        if unasked {
            self.held.store(true, Relaxed);
        }
        unasked
    }

    /// Whether anything was held back.
    pub(crate) fn held(&self) -> bool {
        self.held.load(Relaxed)
    }
}

/// The body of an answer: hyper drops it when it has taken all of it.
pub(crate) struct AnswerBody {
    pub(crate) body: Full<Bytes>,
    pub(crate) wait: Arc<Wait>,
}

impl Body for AnswerBody {
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

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.wait.answers.taken.store(true, Relaxed);
    }
}

//! What a socket, the bodies on it and the connection around it tell each other.
//!
//! Owns [`Signals`]: how far the exchange under way is, what was hidden from hyper, what a write
//! waits for, and whose line in the access log the answer is. Must not know: bytes, hyper, requests.
//!
//! Rule 1: an exchange is open from the moment a request is given to us until its whole response is
//! written. hyper reads the next head only after that, so what it writes while none is open is a
//! refusal of its own: that is held back, and the connection writes ours.
//! Rule 2: the end of what a client sends is hidden from hyper while an exchange is open, since hyper
//! would drop the request: a client may shut its writing side and still read. It is given once the
//! exchange is over. A reset is never hidden.
//! What changes together: `socket`, which asks; `exchange` and `connection`, which tell.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::BodyFraming;
use crate::access_log::Access;

/// How long a request that has to wait is kept after its client has shut its writing side. Nothing tells a client that
/// still reads from one that is gone: a second is more than an idle server needs to begin with a request, and short
/// enough that a crowd which hangs up leaves nothing behind.
const HALF_CLOSED_GRACE: Duration = Duration::from_secs(1);

/// One task has both ends, one inside the other: the lock is never contended.
#[derive(Debug, Default)]
pub(crate) struct Signals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    exchange: Exchange,
    /// A request was given to us.
    has_asked: bool,
    /// How the body of the request that was given to us last is framed, until the socket asks.
    framing: Option<BodyFraming>,
    hidden: Hidden,
    read: ReadWait,
    /// The next read asks the kernel, whatever the runtime believes.
    last_look: bool,
    body: LastBody,
    write: WriteProgress,
    /// The request in the access log whose answer is being written: its end is when the socket has all of that.
    logged: Option<Box<Access>>,
}

/// How far one request and its response are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Exchange {
    /// No request is under way.
    #[default]
    None,
    /// A request came whose response is not whole.
    Open,
    /// hyper has the whole response, in its buffer or written.
    Answered,
    /// hyper is done with the connection: what is read and written is ours.
    Ours,
}

/// What hyper has not been told of while an exchange is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hidden {
    #[default]
    Nothing,
    /// The client shut its writing side.
    End,
    /// What the client sent next was refused.
    Refusal,
}

/// What was read of the last request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LastBody {
    /// All, so far as we wanted it.
    #[default]
    Read,
    /// It was given up before its end.
    Cut,
}

/// Whether a socket that gave all it had is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ReadWait {
    /// Not yet: most connections leave HTTP before that.
    #[default]
    PutOff,
    /// The socket was asked, and put it off.
    Asked,
    /// It is.
    Due,
}

/// What became of the writes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteProgress {
    /// A write waits for room.
    pub(crate) blocked: bool,
    /// Bytes the socket took so far.
    pub(crate) written: u64,
}

impl Signals {
    /// A request is given to us, with such a body.
    pub(crate) fn open(&self, framing: BodyFraming) {
        let mut state = self.0.lock();
        state.framing = Some(framing);
        state.exchange = Exchange::Open;
        state.has_asked = true;
        state.body = LastBody::Read;
    }

    /// Whether there was a request.
    pub(crate) fn has_asked(&self) -> bool {
        self.0.lock().has_asked
    }

    /// Whether a request is under way.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.0.lock().exchange, Exchange::Open | Exchange::Answered)
    }

    /// Whether a whole response is still being written.
    pub(crate) fn is_answered(&self) -> bool {
        self.0.lock().exchange == Exchange::Answered
    }

    /// hyper has taken the whole response.
    pub(crate) fn answered(&self) {
        let mut state = self.0.lock();
        if state.exchange == Exchange::Open {
            state.exchange = Exchange::Answered;
        }
    }

    /// Everything that hyper gave us was written.
    pub(crate) fn flushed(&self) {
        let mut state = self.0.lock();
        if state.exchange == Exchange::Answered {
            state.exchange = Exchange::None;
            if let Some(logged) = state.logged.take() {
                logged.ends_whole();
            }
        }
    }

    /// The answer that comes is to this request of the access log.
    pub(crate) fn logs(&self, logged: Box<Access>) {
        let mut state = self.0.lock();
        debug_assert!(state.exchange == Exchange::Open && state.logged.is_none(), "one answer at a time");
        state.logged = Some(logged);
    }

    /// The connection ends, for this reason: an answer that is not written yet was cut.
    pub(crate) fn cut(&self, reason: &'static str) {
        if let Some(logged) = self.0.lock().logged.take() {
            logged.ends(reason);
        }
    }

    /// hyper is done with the connection.
    pub(crate) fn take_over(&self) {
        self.0.lock().exchange = Exchange::Ours;
    }

    /// Whether what is about to be written is held back, because no exchange is open.
    pub(crate) fn hold_back(&self) -> bool {
        self.0.lock().exchange == Exchange::None
    }

    /// The client sends nothing more: whether hyper must not know yet.
    pub(crate) fn hide_end(&self) -> bool {
        self.hide(Hidden::End)
    }

    /// The next request was refused: whether hyper must not know yet.
    pub(crate) fn hide_refusal(&self) -> bool {
        self.hide(Hidden::Refusal)
    }

    fn hide(&self, what: Hidden) -> bool {
        let mut state = self.0.lock();
        let is_open = matches!(state.exchange, Exchange::Open | Exchange::Answered);
        state.hidden = if is_open { what } else { Hidden::Nothing };
        is_open
    }

    /// How the body of the request is framed that was given to us since this was asked.
    pub(crate) fn body_framing(&self) -> Option<BodyFraming> {
        self.0.lock().framing.take()
    }

    /// Whether the client has shut its writing side in the exchange under way.
    pub(crate) fn half_closed(&self) -> bool {
        self.0.lock().hidden == Hidden::End
    }

    /// Waits until the client has shut its writing side for a second. To be awaited by the service of the connection
    /// alone: hyper polls that after each read, so nothing else needs to wake it.
    pub(crate) async fn half_closed_for_a_second(&self) {
        poll_fn(|_| if self.half_closed() { Poll::Ready(()) } else { Poll::Pending }).await;
        sleep(HALF_CLOSED_GRACE).await;
    }

    /// The request's body was given up before its end: where this was the last request, some of it may still be on its way.
    pub(crate) fn cut_body(&self) {
        self.0.lock().body = LastBody::Cut;
    }

    /// Whether the last request's body was given up before its end.
    pub(crate) fn body_cut(&self) -> bool {
        self.0.lock().body == LastBody::Cut
    }

    /// The next read is the last of an idle connection, and must not miss what the runtime has not been told of.
    pub(crate) fn look_once_more(&self) {
        self.0.lock().last_look = true;
    }

    /// Whether this read is that one.
    pub(crate) fn is_last_look(&self) -> bool {
        std::mem::take(&mut self.0.lock().last_look)
    }

    /// Whether a read that finds nothing is to be put off.
    pub(crate) fn put_off_reading(&self) -> bool {
        let mut state = self.0.lock();
        if state.read == ReadWait::Due {
            return false;
        }
        state.read = ReadWait::Asked;
        true
    }

    /// A read that finds nothing is to wait from here on.
    pub(crate) fn wait_for_reading(&self) {
        self.0.lock().read = ReadWait::Due;
    }

    /// Whether hyper must be polled once more: a read was put off, and is now waited for, or the end of what the client
    /// sends is no longer hidden.
    pub(crate) fn must_poll_again(&self) -> bool {
        let mut state = self.0.lock();
        let due = state.read == ReadWait::Asked;
        if due {
            state.read = ReadWait::Due;
        }
        let told = state.hidden != Hidden::Nothing && state.exchange == Exchange::None;
        if told {
            state.hidden = Hidden::Nothing;
        }
        due || told
    }

    /// A write of `taken` bytes was made, or waits for room.
    pub(crate) fn wrote(&self, taken: Option<usize>) {
        let mut state = self.0.lock();
        state.write.blocked = taken.is_none();
        state.write.written += taken.unwrap_or(0) as u64;
        if let Some(logged) = &mut state.logged {
            logged.gave(taken.unwrap_or(0));
        }
    }

    pub(crate) fn write_progress(&self) -> WriteProgress {
        self.0.lock().write
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_outside_an_exchange_is_held_back() {
        let signals = Signals::default();
        signals.open(BodyFraming::Length(0));
        assert!(!signals.hold_back());
        signals.flushed();
        assert!(!signals.hold_back(), "the response is not whole");
        signals.answered();
        assert!(!signals.hold_back(), "it is not flushed");
        signals.flushed();
        assert!(signals.hold_back());
        signals.take_over();
        assert!(!signals.hold_back(), "ours");
    }

    #[test]
    fn the_end_of_a_request_is_hidden_until_its_response_is_written() {
        let signals = Signals::default();
        assert!(!signals.hide_end() && !signals.half_closed(), "no exchange is open");
        signals.open(BodyFraming::Length(0));
        assert!(signals.hide_end() && signals.half_closed());
        assert!(!signals.must_poll_again());
        signals.answered();
        assert!(signals.hide_end() && !signals.must_poll_again());
        signals.flushed();
        assert!(signals.must_poll_again() && !signals.must_poll_again());
        assert!(!signals.hide_end());
    }

    #[test]
    fn a_refusal_of_the_next_request_waits_for_the_response_and_ends_nothing() {
        let signals = Signals::default();
        assert!(!signals.hide_refusal(), "no exchange is open");
        signals.open(BodyFraming::Chunked);
        assert_eq!((signals.body_framing(), signals.body_framing()), (Some(BodyFraming::Chunked), None));
        assert!(signals.hide_refusal() && !signals.half_closed() && !signals.must_poll_again());
        signals.answered();
        signals.flushed();
        assert!(signals.must_poll_again() && !signals.must_poll_again() && !signals.hide_refusal());
    }

    #[test]
    fn a_read_is_put_off_once() {
        let signals = Signals::default();
        assert!(!signals.must_poll_again() && signals.put_off_reading());
        assert!(signals.must_poll_again() && !signals.must_poll_again());
        assert!(!signals.put_off_reading());
    }
}

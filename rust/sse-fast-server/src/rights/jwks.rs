//! Keys that are fetched from the web, by a thread of the application's.
//!
//! Owns: the keys in force, when they are to be fetched, and who waits for that. Must not know: how they are fetched, tokens.
//! States: nothing yet → fetched, and refetched at most once in [`REFETCH_AFTER`] for keys that nobody knows. What fails leaves
//! the old keys in force. Invariants: that there is no such key is said only by a fetch that began after its token had come:
//! strangers who use up the one fetch decide nothing for others. At most one fetch is under way; each that begins ends, with
//! keys or without, and wakes everybody. One lock, held to look or to replace.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use sse_fast_core::budget::Micros;
use tokio::sync::Notify;

use super::key::{Key, key_set};

/// How often keys are fetched for a token that names one which is not there: strangers can make any number of those.
const REFETCH_AFTER: Micros = 30_000_000;

/// Keys that are taken of a set; those of great providers have ten.
const MOST_KEYS: usize = 64;

/// What there is for a token.
pub(crate) enum Found<T> {
    /// Its key, or that none is.
    Keys(T),
    /// Keys are being fetched: look again once they were.
    Fetching,
    /// They were fetched lately, before it came; it may be different in a while.
    Pause,
    /// Nobody could be asked lately; it may be different in a while.
    Away,
}

/// See the module; a handle, cheap to clone.
#[derive(Clone)]
pub struct KeySource(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Told when a fetch is wanted, and at the end.
    wanted: Condvar,
    /// Told when one has ended.
    fetched: Notify,
}

#[derive(Default)]
struct State {
    /// In force; `None` before the first were fetched.
    keys: Option<Arc<[Key]>>,
    fetch: Fetch,
    /// When keys were last fetched for a token.
    refetched: Option<Micros>,
    /// How many fetches have begun.
    begun: u64,
    /// Which of them brought the keys in force; 0 where none did.
    brought: u64,
    /// Whether the last one brought none.
    failed: bool,
    closed: bool,
}

impl State {
    fn begin(&mut self) {
        (self.fetch, self.begun) = (Fetch::UnderWay, self.begun + 1);
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fetch {
    None,
    /// To be begun, as the first is from the beginning on.
    #[default]
    Wanted,
    UnderWay,
}

/// What the thread that fetches is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchOrder {
    /// Fetch now; it is under way until [`KeySource::fetched`].
    Fetch,
    /// Nothing within the time given.
    Timeout,
    /// There is no more to do.
    Closed,
}

impl Default for KeySource {
    fn default() -> Self {
        let (wanted, fetched) = (Condvar::new(), Notify::new());
        Self(Arc::new(Shared { state: Mutex::default(), wanted, fetched }))
    }
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySource")
    }
}

impl KeySource {
    /// How many fetches have begun; to be asked when a token comes.
    pub(crate) fn begun(&self) -> u64 {
        self.0.state.lock().begun
    }

    /// Looks for keys for a token that came when so many fetches had begun; `select` says which of those in force are for it,
    /// `None` where none is.
    pub(crate) fn find<T>(
        &self,
        now: Micros,
        came: u64,
        select: impl Fn(&Arc<[Key]>) -> Option<T>,
    ) -> Found<Option<T>> {
        let mut state = self.0.state.lock();
        debug_assert!(state.brought <= state.begun && came <= state.begun, "what has ended has begun");
        if let Some(found) = state.keys.as_ref().and_then(&select) {
            return Found::Keys(Some(found));
        }
        if state.brought > came {
            return Found::Keys(None);
        }
        if state.fetch != Fetch::None {
            return Found::Fetching;
        }
        if state.closed || state.refetched.is_some_and(|at| now.saturating_sub(at) < REFETCH_AFTER) {
            return if state.closed || state.failed { Found::Away } else { Found::Pause };
        }
        state.refetched = Some(now);
        state.fetch = Fetch::Wanted;
        self.0.wanted.notify_one();
        Found::Fetching
    }

    /// Resolves once a fetch has ended; to be made before [`Self::find`] is asked.
    pub(crate) fn until_fetched(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.fetched.notified()
    }

    /// Waits up to `timeout` for a fetch that is wanted, which then is under way.
    pub fn wait(&self, timeout: Duration) -> FetchOrder {
        let mut state = self.0.state.lock();
        let idle = |state: &mut State| state.fetch != Fetch::Wanted && !state.closed;
        // Whether the time is over does not matter: what counts is what is there now.
        let _ = self.0.wanted.wait_while_for(&mut state, idle, timeout);
        match (state.closed, state.fetch) {
            (true, _) => FetchOrder::Closed,
            (false, Fetch::Wanted) => {
                state.begin();
                FetchOrder::Fetch
            }
            (false, _) => FetchOrder::Timeout,
        }
    }

    /// A fetch begins that nobody waits for.
    pub fn begin(&self) {
        self.0.state.lock().begin();
    }

    /// A fetch has ended, with a key set's bytes or without. How many keys it brought; `None` where it brought none that can
    /// be used: then those in force stay.
    pub fn fetched(&self, set: Option<&[u8]>) -> Option<usize> {
        let keys = set.and_then(key_set).filter(|keys| !keys.is_empty());
        let keys: Option<Arc<[Key]>> = keys.map(|keys| keys.into_iter().take(MOST_KEYS).collect());
        let count = keys.as_ref().map(|keys| keys.len());
        let mut state = self.0.state.lock();
        state.failed = keys.is_none();
        if keys.is_some() {
            (state.keys, state.brought) = (keys, state.begun);
        }
        state.fetch = Fetch::None;
        drop(state);
        self.0.fetched.notify_waiters();
        count
    }

    /// Nothing is fetched any more.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.fetch = Fetch::None;
        drop(state);
        self.0.wanted.notify_all();
        self.0.fetched.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = br#"{"keys":[{"kty":"oct","kid":"s","k":"AAAA"},{"kty":"OKP","crv":"Ed25519","kid":"a",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// For a token that comes in this moment.
    fn find(source: &KeySource, now: Micros, id: &str) -> Found<Option<()>> {
        find_since(source, now, source.begun(), id)
    }

    fn find_since(source: &KeySource, now: Micros, came: u64, id: &str) -> Found<Option<()>> {
        source.find(now, came, |keys| keys.iter().any(|key| key.id() == Some(id)).then_some(()))
    }

    #[test]
    fn only_a_fetch_that_began_after_a_token_had_come_says_that_there_is_no_such_key() {
        let source = KeySource::default();
        let before = source.begun();
        assert_eq!(source.wait(Duration::ZERO), FetchOrder::Fetch);
        let amid = source.begun();
        assert_eq!(source.fetched(Some(SET)), Some(1));
        assert!(matches!(find_since(&source, 0, before, "b"), Found::Keys(None)));
        assert!(matches!(find_since(&source, 0, amid, "b"), Found::Fetching), "it may be newer than what was fetched");
        assert_eq!(source.wait(Duration::ZERO), FetchOrder::Fetch);
        assert_eq!(source.fetched(Some(SET)), Some(1));
        assert!(matches!(find_since(&source, 1, amid, "b"), Found::Keys(None)), "its own fetch says so");
        // A stranger's token has used up the one fetch: whose key was added after that is told to come back.
        assert!(matches!(find(&source, 1, "b"), Found::Pause));
        let hourly = source.begun();
        source.begin();
        assert!(matches!(find_since(&source, 2, hourly, "b"), Found::Fetching));
        assert_eq!(source.fetched(Some(SET)), Some(1));
        assert!(matches!(find_since(&source, 2, hourly, "b"), Found::Keys(None)));
        assert!(matches!(find(&source, REFETCH_AFTER, "b"), Found::Fetching), "and has its fetch then");
    }

    #[test]
    fn a_key_that_nobody_knows_is_asked_for_once_in_half_a_minute_and_failures_keep_the_old_ones() {
        let source = KeySource::default();
        assert!(matches!(find(&source, 0, "a"), Found::Fetching), "the first fetch is wanted from the beginning on");
        assert_eq!(source.wait(Duration::ZERO), FetchOrder::Fetch);
        assert_eq!(source.wait(Duration::ZERO), FetchOrder::Timeout, "one at a time");
        assert_eq!(source.fetched(None), None);
        assert!(matches!(find(&source, 10, "a"), Found::Fetching), "it is tried once more");
        assert_eq!(source.wait(Duration::ZERO), FetchOrder::Fetch);
        assert_eq!(source.fetched(None), None);
        assert!(matches!(find(&source, 11, "a"), Found::Away), "nobody knows whether it is a key");
        source.begin();
        assert_eq!(source.fetched(Some(SET)), Some(1), "a symmetric key is none");
        assert!(matches!(find(&source, 11, "a"), Found::Keys(Some(()))));
        assert!(matches!(find(&source, 11, "s"), Found::Pause), "it was asked for a moment ago");
        let later = 10 + REFETCH_AFTER;
        assert!(matches!(find(&source, later, "b"), Found::Fetching));
        assert!(matches!(find(&source, later, "c"), Found::Fetching), "the same fetch is for all");
        assert!(matches!(find(&source, later, "a"), Found::Keys(Some(()))), "nobody else waits for it");
        assert_eq!(source.wait(Duration::ZERO), FetchOrder::Fetch);
        assert_eq!(source.fetched(Some(br#"{"keys":[]}"#)), None);
        assert!(matches!(find(&source, later, "a"), Found::Keys(Some(()))), "the old keys stay");
        assert!(matches!(find(&source, later, "b"), Found::Away));
        source.close();
        assert_eq!(source.wait(Duration::from_secs(60)), FetchOrder::Closed);
        assert!(matches!(find(&source, later * 2, "b"), Found::Away));
        assert!(matches!(find(&source, later * 2, "a"), Found::Keys(Some(()))));
    }

    #[test]
    fn no_bytes_are_a_set_that_is_none() {
        let source = KeySource::default();
        let deep = vec![b'['; 60_000];
        for set in [&b""[..], b"[]", b"{}", b"{\"keys\":1}", b"\xff", b"{\"keys\":[1,{}]}", &deep] {
            assert_eq!(source.fetched(Some(set)), None);
        }
    }
}

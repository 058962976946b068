//! What this process has of one stream, beside what the server has.
//!
//! Owns: which push continues the copy, when the log must be read, and what the engine is told. Must not know: requests,
//! connections, time, who asks.
//! Invariants: what the engine is told goes from position to position without a hole, and never back, except by a new
//! beginning. While a read is under way, or due, pushes are kept and tried after it. A push is covered by a read whole or not
//! at all, because a script is one step.

use sse_fast_core::id::Epoch;

use super::protocol::{Mark, News, Opening, Seen};
use super::shared::SharedOptions;
use super::{Counts, Life, Tail};

/// The most bytes of pushes that are kept during a read; beyond it they are dropped, and the log is read once more.
const MOST_KEPT: usize = 8 << 20;

/// What the engine is to be told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Begin(Life),
    Append(Tail),
    Options(SharedOptions),
    Removed,
}

/// Why the log must be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stale {
    /// It need not.
    #[default]
    No,
    /// Something is missing here.
    Behind,
    /// The server has lost what is here: it must begin a life above this epoch.
    Rewound(u64),
    /// The server has lost the stream, which is read here: it must be made again.
    Gone,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    /// What is here; none where the stream does not exist, or was not read yet.
    live: Option<Live>,
    stale: Stale,
    /// Whether a read is under way, and from where.
    reading: Option<Read>,
    /// Pushes that wait for a read.
    kept: Vec<News>,
    kept_bytes: usize,
    /// Some were dropped.
    overflowed: bool,
}

#[derive(Clone, Debug)]
struct Live {
    mark: Mark,
    options: SharedOptions,
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    /// Everything is read, whatever is here.
    whole: bool,
    /// A new life was asked for.
    renewed: bool,
}

impl Copy {
    /// How far this copy is.
    pub(crate) fn mark(&self) -> Mark {
        self.live.as_ref().map_or_else(Mark::default, |live| live.mark)
    }

    pub(crate) fn options(&self) -> Option<SharedOptions> {
        self.live.as_ref().map(|live| live.options)
    }

    pub(crate) fn ended(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.ended)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(crate) fn stale(&self) -> Stale {
        self.stale
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Something is missing.
    pub(crate) fn must_read(&mut self) {
        if self.stale == Stale::No {
            self.stale = Stale::Behind;
        }
    }

    /// A read begins; the mark from which on it needs what is there.
    pub(crate) fn begin_read(&mut self) -> Mark {
        debug_assert!(self.reading.is_none(), "one read at a time");
        let renewed = matches!(self.stale, Stale::Rewound(_));
        let whole = renewed || self.live.is_none();
        self.reading = Some(Read { whole, renewed });
        self.stale = Stale::No;
        if whole { Mark::default() } else { self.mark() }
    }

    /// The read was lost with its connection, or refused.
    pub(crate) fn lost_read(&mut self) {
        if let Some(read) = self.reading.take() {
            self.stale = if read.renewed { Stale::Rewound(self.mark().epoch) } else { Stale::Behind };
        }
    }

    /// The stream was read.
    pub(crate) fn read(&mut self, opening: Opening, told: &mut Vec<Told>, counts: &mut Counts) {
        let Some(read) = self.reading.take() else { return };
        if !read.renewed && self.mark().is_beyond(opening.mark) {
            counts.lost_tails += 1;
            self.stale = Stale::Rewound(self.mark().epoch);
            return;
        }
        self.take_in(read, opening, told);
        if std::mem::take(&mut self.overflowed) {
            self.must_read();
        }
        self.kept_bytes = 0;
        for news in std::mem::take(&mut self.kept) {
            self.pushed(news, told, counts);
        }
    }

    fn take_in(&mut self, read: Read, opening: Opening, told: &mut Vec<Told>) {
        let Opening { mark, carried, ended, options, base, entries, snapshot, .. } = opening;
        let next = Live { mark, options, ended };
        let Some(live) = self.live.as_ref().filter(|live| !read.whole && live.mark.epoch == mark.epoch) else {
            self.live = Some(next);
            told.push(Told::Begin(Life { epoch: Epoch(mark.epoch), options, carried, base, entries, snapshot, ended }));
            return;
        };
        if base > live.mark.newest {
            // What lay between is retained no more: the copy goes on behind it.
            told.push(Told::Begin(Life { epoch: Epoch(mark.epoch), options, carried, base, entries, snapshot, ended }));
        } else {
            let first = live.mark.newest + 1;
            // What has ended takes no other; here it is read along with other options.
            let snapshot = snapshot.filter(|_| mark.version != live.mark.version && !live.ended);
            if !entries.is_empty() || snapshot.is_some() {
                told.push(Told::Append(Tail { first, events: entries, snapshot, ended: ended && !live.ended }));
            }
            if live.options != options {
                told.push(Told::Options(options));
            }
        }
        self.live = Some(next);
    }

    /// The read found no stream. What is told where one was here.
    pub(crate) fn read_nothing(&mut self, removed: Option<Mark>, is_read: bool, told: &mut Vec<Told>) {
        self.reading = None;
        let mark = self.mark();
        self.nothing_there(mark, removed.map_or(Seen::Gone, Seen::Removed), is_read, told);
        self.kept_bytes = 0;
        self.overflowed = false;
        if !std::mem::take(&mut self.kept).is_empty() {
            // Something was pushed after the read: there is one now.
            self.must_read();
        }
    }

    fn nothing_there(&mut self, sent: Mark, seen: Seen, is_read: bool, told: &mut Vec<Told>) {
        let Some(live) = &self.live else { return };
        let gone = match seen {
            Seen::Removed(mark) => mark.epoch >= live.mark.epoch || !is_read || live.ended,
            _ if live.mark != sent => return,
            // What stays without readers was not forgotten: the server has lost it.
            _ => live.ended || (live.options.expire.is_some() && !is_read),
        };
        if gone {
            self.live = None;
            self.stale = Stale::No;
            told.push(Told::Removed);
        } else {
            self.stale = Stale::Gone;
        }
    }

    /// Something was pushed.
    pub(crate) fn pushed(&mut self, news: News, told: &mut Vec<Told>, counts: &mut Counts) {
        if self.reading.is_some() || self.stale != Stale::No {
            self.keep(news);
            return;
        }
        let mark = news.mark();
        let Some(live) = &mut self.live else {
            if !matches!(news, News::Removed { .. }) {
                self.must_read();
                self.keep(news);
            }
            return;
        };
        if mark.epoch < live.mark.epoch {
            return;
        }
        if let News::Removed { .. } = news {
            self.live = None;
            told.push(Told::Removed);
            return;
        }
        if mark.epoch == live.mark.epoch && mark.newest <= live.mark.newest && mark.version <= live.mark.version {
            return;
        }
        match news {
            News::Tail { first, events, snapshot, ended, .. }
                if mark.epoch == live.mark.epoch
                    && first == live.mark.newest + 1
                    && mark.newest == live.mark.newest + events.len() as u64
                    && mark.version == live.mark.version + u64::from(snapshot.is_some()) =>
            {
                live.mark = mark;
                live.ended |= ended;
                counts.pushed += events.len() as u64;
                told.push(Told::Append(Tail { first, events, snapshot, ended }));
            }
            News::Options { options, .. }
                if mark.epoch == live.mark.epoch
                    && mark.newest == live.mark.newest
                    && mark.version == live.mark.version + 1 =>
            {
                live.mark = mark;
                live.options = options;
                told.push(Told::Options(options));
            }
            _ => {
                counts.fills += u64::from(mark.epoch == live.mark.epoch);
                self.must_read();
                self.keep(news);
            }
        }
    }

    fn keep(&mut self, news: News) {
        self.kept_bytes += news.bytes();
        if self.kept_bytes > MOST_KEPT {
            self.kept.clear();
            self.kept_bytes = 0;
            self.overflowed = true;
        } else {
            self.kept.push(news);
        }
    }

    /// The server was asked how far the stream has come, when this copy had come as far as `sent`. Whether the copy is
    /// behind: then a push may be on its way.
    pub(crate) fn compared(
        &mut self,
        sent: Mark,
        seen: Seen,
        is_read: bool,
        told: &mut Vec<Told>,
        counts: &mut Counts,
    ) -> bool {
        if self.reading.is_some() || self.stale != Stale::No {
            return false;
        }
        let here = self.mark();
        match seen {
            Seen::There { mark, .. } => {
                // What was seen when this was asked, and is not there any more, is lost.
                if here.epoch == sent.epoch && sent.is_beyond(mark) {
                    counts.lost_tails += 1;
                    self.stale = Stale::Rewound(here.epoch);
                    return false;
                }
                mark.is_beyond(here)
            }
            Seen::Removed(_) | Seen::Gone => {
                self.nothing_there(sent, seen, is_read, told);
                false
            }
        }
    }
}

impl News {
    /// How far the stream has come by it.
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::Tail { mark, .. } | Self::Options { mark, .. } | Self::Begun { mark } | Self::Removed { mark } => {
                *mark
            }
            Self::Present { .. } => Mark::default(),
        }
    }

    /// What it takes to keep it.
    fn bytes(&self) -> usize {
        64 + match self {
            Self::Tail { events, snapshot, .. } => {
                events.iter().map(|event| event.bytes().len() + 64).sum::<usize>()
                    + snapshot.as_ref().map_or(0, |snapshot| snapshot.data.len())
            }
            _ => 0,
        }
    }
}

//! Streams whose readers hear nothing but heartbeats: said once for each silence.
//!
//! Owns: when a stream is looked at, and what is said of one that is stalled. Must not know: what stalled means
//! (`stream::silence`). Invariant: no stream is kept for this; one that is gone is looked at once more, and forgotten.

use std::sync::atomic::Ordering;

use super::Directory;
use crate::clock::coarse_ms;
use crate::logs::Level;
use crate::shown;
use crate::stream::{Silence, Stream};

impl Directory {
    /// Looks at the stream once it may be stalled, if it ever may.
    pub(super) fn listen_for_silence(&self, stream: &Stream) {
        if stream.may_stall() {
            self.silences.lock().schedule(&stream.downgrade(), stream.life(), Some(coarse_ms()));
            self.tending.notify_one();
        }
    }

    /// Looks at the streams that may be stalled by now.
    pub(super) fn tell_stalled(&self, now: u64) {
        loop {
            let due = self.silences.lock().take_due(now);
            let Some((epoch, weak)) = due else { return };
            let Some(stream) = weak.upgrade() else { continue };
            let later = match stream.look_at_silence(now) {
                Silence::Over => continue,
                Silence::Later(later) => later,
                Silence::Stalled { later, silent, readers, is_news } => {
                    if is_news {
                        self.totals.stalls.fetch_add(1, Ordering::Relaxed);
                        // A stream that a request made has a name of its path.
                        let name = || format!("{:?}", shown::path(stream.name()));
                        let of = if stream.is_nameless() { stream.shown() } else { name() };
                        let silent = silent.as_secs_f64();
                        let text = format!(
                            "{of} is stalled: its readers ({readers}) had nothing but heartbeats for {silent:.1} s"
                        );
                        self.logs.put(Level::Warning, "sse_fast.stream", text);
                    }
                    later
                }
            };
            debug_assert!(later > now, "it is looked at again later");
            self.silences.lock().schedule(&weak, epoch, Some(later));
        }
    }
}

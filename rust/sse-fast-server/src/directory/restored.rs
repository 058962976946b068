//! Streams that a store kept: from what it has to streams that are read and published into.
//!
//! Owns: what becomes of each at a start, and of the keys that they were published into under. Must not know: files. Invariants: a stream whose newest events may be lost begins a
//! new life, with what is left of the former one, so that no id ever means two events; the former goes only once the store
//! has the new one. One whose time was over while there was no server is forgotten.

use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::frame::Frame;
use sse_fast_core::id::{Epoch, IdText, Position};
use sse_fast_core::log::Log;
use sse_fast_core::options::{StreamOptions, StreamPatch};
use sse_fast_core::stream::{Restored, StreamState};
use sse_fast_core::wire;

use super::{Directory, Named};
use crate::clock::{in_micros, in_millis, unix_ms};
use crate::logs::Level;
use crate::store::{Gone, KeptKey, KeptStream};
use crate::stream::Stream;

impl Directory {
    /// Makes every stream that was kept; those that a run wrote into, and did not end, are given back: nothing writes into
    /// them any more. `epoch` is the greatest that the store knows. Keys go on as long as they had left.
    pub(crate) fn restore(&self, kept: Vec<KeptStream>, mut keys: Vec<KeptKey>, epoch: u64) -> Vec<Stream> {
        let Some(store) = &self.delivery.store else { return Vec::new() };
        self.epoch.fetch_max(epoch, std::sync::atomic::Ordering::Relaxed);
        let (mut former, mut cut_off, now) = (Vec::new(), Vec::new(), unix_ms());
        // A later life of a name comes later.
        for kept in kept.into_iter().rev() {
            let (number, name, run) = (kept.number, kept.life.name.clone(), kept.life.run);
            let patch = kept.life.options.patch();
            let (options, patch) = self.options_of_kept(&name, patch);
            let age = now.saturating_sub(kept.time);
            let is_over = kept.ended && age >= in_millis(options.linger);
            if is_over || self.find(&name).is_some() {
                former.push((number, if is_over { Gone::Removed } else { Gone::Renewed }));
                continue;
            }
            let (ended, is_cut) = (kept.ended, kept.is_cut);
            let stream = self.restored(&name, kept, options);
            if ended {
                stream.was_silent_for(age);
            }
            if !is_cut {
                stream.keep_known(number, patch, run);
            } else if stream.keep_whole(patch, run) {
                stream.move_keys(number, &mut keys);
                former.push((number, Gone::Renewed));
            }
            self.streams.write().insert(Named(stream.clone()));
            self.schedule(&stream);
            if run && !ended {
                cut_off.push(stream);
            }
        }
        store.remove_former(&former);
        let ages = keys.into_iter().map(|KeptKey { digests, ids, time, .. }| {
            (digests, ids.texts().collect(), in_micros(Duration::from_millis(now.saturating_sub(time))))
        });
        self.delivery.repeats.restore(ages);
        cut_off
    }

    fn restored(&self, name: &str, kept: KeptStream, options: Arc<StreamOptions>) -> Stream {
        let epoch = if kept.is_cut { self.next_epoch() } else { Epoch(kept.life.epoch) };
        let of_this_life = |frame: Frame, position: Position| {
            if kept.is_cut { renewed(&frame, epoch, position) } else { frame }
        };
        let own_ids = kept.events.iter().any(|event| event.own_id);
        let frames = (kept.first..)
            .zip(kept.events)
            .map(|(position, event)| if event.own_id { event.frame } else { of_this_life(event.frame, position) });
        let log = Log::of(kept.first, frames);
        let snapshot = kept
            .snapshot
            .map(|snapshot| (of_this_life(snapshot.frame, snapshot.position), snapshot.position, snapshot.event));
        let restored = Restored { log, snapshot, ended: kept.ended, own_ids, had_retry: kept.life.had_retry };
        let stream = Stream::of_state(name, StreamState::restore(epoch, options, restored), &self.delivery);
        if kept.is_cut && !kept.ended {
            stream.took_over();
        }
        stream
    }

    /// The options of a stream that was told these. What the server's defaults of now do not allow is left out.
    fn options_of_kept(&self, name: &str, patch: StreamPatch) -> (Arc<StreamOptions>, StreamPatch) {
        match self.options_of(name, &patch) {
            Ok(options) => (options, patch),
            Err(error) => {
                let text = format!("stream {name:?} was kept with options that are not allowed any more: {error}");
                self.logs.put(Level::Warning, "sse_fast.store", text);
                let patch = StreamPatch { private: patch.private, ..StreamPatch::default() };
                let options = self.options_of(name, &patch).unwrap_or_else(|_| Arc::clone(&self.defaults));
                (options, patch)
            }
        }
    }
}

/// The frame with an id of another life, where it has one.
fn renewed(frame: &Frame, epoch: Epoch, position: Position) -> Frame {
    let block = frame.plain();
    let line = wire::id_line(block);
    if line.is_empty() {
        return frame.clone();
    }
    Frame::of(&wire::with_id(block, line, IdText::new(epoch, position).as_str()))
}

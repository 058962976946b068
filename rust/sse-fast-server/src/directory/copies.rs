//! What the backplane tells of streams whose logs are elsewhere, put into force here.
//!
//! Owns: the beginning of copies, and finding the copy that something is told of. Must not know: how a copy goes on
//! (`stream::receive`), who asked. Invariants: it is called by the backplane's thread alone, in each stream's order; of what has
//! no copy here nothing is kept.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use super::{Directory, Named};
use crate::backplane::{Copies, Life, Name, SharedOptions, Tail, Totals};
use crate::logs::Level;
use crate::stream::{Stream, resolved};

/// What ends a reader's connections; its time is in microseconds of the Unix epoch.
pub(crate) type Disconnect = Box<dyn Fn(&Arc<str>, u64) + Send + Sync>;

/// What the backplane tells, put into force.
pub(crate) struct LocalCopies {
    pub(crate) directory: Arc<Directory>,
    /// Ends the connections of a reader, of what was issued before.
    pub(crate) disconnect: Disconnect,
    /// Told when the backplane is there for the first time.
    pub(crate) there: mpsc::SyncSender<()>,
}

impl LocalCopies {
    fn begin_anew(&self, name: &Name, life: &Life, former: Option<&Stream>) {
        let directory = &self.directory;
        let defaults = directory.options_by_name(name).unwrap_or_else(|_| Arc::clone(&directory.defaults));
        let own = former.and_then(Stream::own_options);
        let options = resolved(&defaults, own.as_deref(), life.options);
        let stream = Stream::copy(name, life, directory.next_epoch(), &directory.delivery, options);
        let mut streams = directory.streams.write();
        if directory.closed() {
            return;
        }
        let former = streams.replace(Named(stream.clone()));
        drop(streams);
        if let Some(Named(former)) = former {
            directory.count_forgotten(&former);
            if !former.removed() {
                former.give_way_to(&stream, life.carried);
            }
        }
        directory.listen_for_silence(&stream);
        directory.announce_made(&stream);
    }
}

impl Copies for LocalCopies {
    fn begin(&self, name: &Name, life: Life) {
        let former = self.directory.find(name);
        match &former {
            Some(stream) if stream.reached().0 == life.epoch => {
                self.options(name, life.options);
                stream.rebase(&life);
            }
            _ => self.begin_anew(name, &life, former.as_ref()),
        }
    }

    fn append(&self, name: &Name, tail: Tail) {
        let Some(stream) = self.directory.find(name) else { return };
        stream.receive(tail.first, &tail.events, tail.ended, tail.snapshot.as_ref());
    }

    fn options(&self, name: &Name, options: SharedOptions) {
        let Some(stream) = self.directory.find(name) else { return };
        let Ok(defaults) = self.directory.options_by_name(name) else { return };
        stream.receive_options(&defaults, options);
        if !options.private {
            self.directory.announce_made(&stream);
        }
    }

    fn removed(&self, name: &Name) {
        if let Some(stream) = self.directory.find(name) {
            stream.remove();
        }
    }

    fn present(&self, name: &Name, totals: Totals) {
        if let Some(stream) = self.directory.find(name) {
            stream.receive_present(totals);
        }
    }

    fn disconnect(&self, reader: &Arc<str>, before: u64) {
        (self.disconnect)(reader, before);
    }

    fn away(&self, away: bool) {
        let Some(sharing) = &self.directory.sharing else { return };
        if sharing.away.swap(away, Ordering::Relaxed) == away {
            return;
        }
        let logs = &self.directory.logs;
        if away {
            let text = "the backplane is away: readers stay, publishing waits and fails, /readyz says 503";
            logs.put(Level::Warning, "sse_fast.backplane", text.to_owned());
        } else {
            // Who waits for it waits once.
            let _ = self.there.try_send(());
            logs.put(Level::Info, "sse_fast.backplane", "the backplane is there".to_owned());
        }
    }
}

//! A reader in the same process, and its oracle.

use sse_fast_core::options::OnLag;
use sse_fast_oracle::everything::{Expected, Item};
use sse_fast_oracle::parser::Block;
use sse_fast_oracle::reader::Reader as Laws;

use super::stage::Stage;
use crate::reader::{ReadFrom, ReadOutcome, Reader};

/// See the module.
pub(super) struct InProcess {
    pub(super) stream: usize,
    reader: Reader,
    pub(super) laws: Laws,
    pub(super) has_ended: bool,
}

impl InProcess {
    /// Begins to read; nothing where the oracle says that there is nothing to read.
    pub(super) fn new(stage: &Stage, stream: usize) -> Option<Self> {
        let opened = stage.opened(stream, None);
        if opened.expected == Expected::Nothing {
            return None;
        }
        let reader = stage.streams.borrow()[stream].stream.reader(&ReadFrom::Start(None));
        let mut laws = Laws::default();
        laws.connect(opened.place, &opened.expected);
        Some(Self { stream, reader, laws, has_ended: false })
    }

    /// Reads up to `count` events; says whether there was nothing more.
    pub(super) fn read(&mut self, stage: &Stage, count: usize) -> bool {
        let streams = stage.streams.borrow();
        let stream = &streams[self.stream];
        for _ in 0..count {
            match self.reader.try_next() {
                ReadOutcome::Event(event) => {
                    let data = event.data.split('\n').map(str::to_owned).collect();
                    let block = Block { event: event.event, id: event.id, retry: event.retry, data };
                    let item = stream.all.item(&block);
                    if let (Item::Gap(range), true) = (&item, self.laws.is_open()) {
                        let (_, to) = range.expect("within one life it is known what is missing");
                        let is_latest = stream.all.options.on_lag == OnLag::Latest || stream.policies > 1;
                        assert!(to < stream.all.newest(), "the newest is never skipped");
                        assert!(is_latest || to < stream.all.first, "what is held is given to a reader in the process");
                    }
                    self.laws.see(&item, block.id.as_ref());
                }
                ReadOutcome::Ended => {
                    assert!(stream.is_complete(), "it ends where the stream does");
                    self.has_ended = true;
                    self.laws.check_account(stream.all.newest());
                    return true;
                }
                ReadOutcome::Timeout | ReadOutcome::Closed => {
                    self.laws.check_account(stream.all.newest());
                    return true;
                }
            }
        }
        false
    }
}

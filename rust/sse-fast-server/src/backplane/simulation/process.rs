//! One process: its machine, its two connections, and its copies as the engine would keep them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::super::hub::{Hub, Tell};
use super::super::memory::Engine;
use super::super::{
    Answer, Ask, Life, Name, Opened, Published, Rules, SharedEvent, SharedOptions, SharedSnapshot, Tail, Totals,
};
use super::laws::Laws;

/// How long the machine's asks may wait.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// A copy as the engine would keep it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) epoch: u64,
    pub(super) newest: u64,
    pub(super) entries: VecDeque<SharedEvent>,
    pub(super) snapshot: Option<SharedSnapshot>,
    pub(super) options: SharedOptions,
    pub(super) ended: bool,
}

/// What an ask was answered, and when it was asked.
pub(super) enum Said {
    Opened(Name, bool, Opened),
    Published(Name, Vec<String>, bool, Published),
    Changed,
}

/// See the module.
#[allow(clippy::struct_excessive_bools, reason = "what may be up, deaf or away, each by itself")]
pub(super) struct Process {
    pub(super) id: Arc<str>,
    pub(super) hub: Hub,
    /// How far its wall clock is off.
    pub(super) skew: u64,
    pub(super) command_up: bool,
    pub(super) subscriber_up: bool,
    /// Which connection each is: what comes of an older one is not heard.
    pub(super) generation: [u64; 2],
    /// When the last thing arrives that goes each [`Way`].
    pub(super) arrives: [Duration; 4],
    pub(super) channels: HashSet<Name>,
    /// The subscriber connection brings nothing any more, and looks alive.
    pub(super) deaf: bool,
    pub(super) copies: HashMap<Name, Kept>,
    /// What the engine has open, or has asked for.
    pub(super) open: HashSet<Name>,
    /// Opened, and not answered yet; those that are held, or wait for a name without end.
    pub(super) opening: HashMap<Name, u64>,
    pub(super) waits: HashSet<Name>,
    pub(super) totals: HashMap<Name, Totals>,
    pub(super) readers: BTreeMap<Name, u64>,
    pub(super) away: bool,
    /// What the engine asks after what it was told.
    pub(super) after: Vec<Ask>,
    /// Answers that have come.
    pub(super) said: Arc<Mutex<Vec<(u64, Said)>>>,
    /// Asks without an answer, and when they were asked.
    pub(super) asked: BTreeMap<u64, Duration>,
    pub(super) last_ask: u64,
}

impl Process {
    pub(super) fn new(id: &str, skew: u64) -> Self {
        let id: Arc<str> = id.into();
        let rules = Rules { process: Arc::clone(&id), timeout: TIMEOUT, trust: false };
        Self {
            id,
            hub: Hub::new(rules),
            skew,
            command_up: false,
            subscriber_up: false,
            generation: [0; 2],
            arrives: [Duration::ZERO; 4],
            channels: HashSet::new(),
            deaf: false,
            copies: HashMap::new(),
            open: HashSet::new(),
            opening: HashMap::new(),
            waits: HashSet::new(),
            totals: HashMap::new(),
            readers: BTreeMap::new(),
            away: true,
            after: Vec::new(),
            said: Arc::default(),
            asked: BTreeMap::new(),
            last_ask: 0,
        }
    }

    /// Where an answer goes.
    pub(super) fn answer<T: super::super::Unanswered + Send + 'static>(
        &mut self,
        now: Duration,
        said: impl FnOnce(T) -> Said + Send + 'static,
    ) -> Answer<T> {
        self.last_ask += 1;
        let number = self.last_ask;
        self.asked.insert(number, now);
        let to = Arc::clone(&self.said);
        Answer::new(move |answer| to.lock().push((number, said(answer))))
    }

    /// The machine tells the engine something.
    pub(super) fn tell(&mut self, now: Duration, tell: Tell, engine: &Engine, laws: &mut Laws) {
        match tell {
            Tell::Begin(name, life) => self.begin(now, name, life, engine, laws),
            Tell::Append(name, tail) => self.append(&name, tail, laws),
            Tell::Options(name, options) => self.copy(&name).options = options,
            Tell::Removed(name) => {
                assert!(self.copies.remove(&name).is_some(), "{name} is removed that is not here");
                // Its readers' connections end.
                if self.readers.remove(&name).is_some() {
                    self.after.push(Ask::Present { name, readers: Vec::new() });
                }
                laws.count("copies removed");
            }
            Tell::Present(name, totals) => {
                // What is told of a name that the engine has not is nothing to it.
                if self.copies.contains_key(&name) {
                    self.totals.insert(name, totals);
                }
            }
            Tell::Disconnect(..) => {}
            Tell::Away(away) => {
                assert_ne!(away, self.away, "told on a change");
                self.away = away;
            }
            Tell::Answer(answered) => answered.deliver(),
        }
    }

    fn copy(&mut self, name: &Name) -> &mut Kept {
        self.copies.get_mut(name).expect("what is told of is here")
    }

    fn begin(&mut self, now: Duration, name: Name, life: Life, engine: &Engine, laws: &mut Laws) {
        assert!(self.open.contains(&name), "{name} begins that nobody here has opened");
        let newest = life.base + life.entries.len() as u64;
        for (at, event) in life.entries.iter().enumerate() {
            laws.saw(&name, life.epoch.0, life.base + 1 + at as u64, event);
        }
        if let Some(before) = self.copies.get(&name) {
            if before.epoch == life.epoch.0 {
                laws.count("copies based anew");
                // What lies between is lost, and the server does not have it either.
                let held = engine.peek(now, &name).filter(|held| held.mark.epoch == life.epoch.0);
                let covers = held.is_some_and(|held| held.base < life.base && held.base <= before.newest);
                assert!(
                    !covers,
                    "{name} goes on at {} behind {}, and the server has what is between",
                    life.base, before.newest
                );
            } else {
                laws.count("other lives");
            }
        }
        self.copies.insert(
            name,
            Kept {
                epoch: life.epoch.0,
                newest,
                entries: life.entries.into(),
                snapshot: life.snapshot,
                options: life.options,
                ended: life.ended,
            },
        );
    }

    fn append(&mut self, name: &Name, tail: Tail, laws: &mut Laws) {
        let copy = self.copies.get_mut(name).expect("what is appended to is here");
        assert!(!copy.ended, "{name} goes on after its end");
        assert_eq!(tail.first, copy.newest + 1, "{name} goes on where it was");
        for event in tail.events {
            copy.newest += 1;
            laws.saw(name, copy.epoch, copy.newest, &event);
            copy.entries.push_back(event);
            laws.count("events in copies");
        }
        copy.snapshot = tail.snapshot.or(copy.snapshot.take());
        copy.ended = tail.ended;
    }

    /// What was answered meets the laws.
    pub(super) fn answered(&mut self, now: Duration, laws: &mut Laws) {
        let said = std::mem::take(&mut *self.said.lock());
        for (number, said) in said {
            let asked = self.asked.remove(&number).expect("every ask is answered once");
            let most = TIMEOUT + super::super::COPY_WAIT;
            assert!(now <= asked + most, "an ask of {asked:?} is answered at {now:?}");
            match said {
                Said::Opened(name, wait, opened) => {
                    let opening = self.opening.get_mut(&name).expect("it was asked");
                    *opening -= 1;
                    let last = *opening == 0;
                    let here = self.copies.contains_key(&name);
                    if let Opened::Open { .. } = opened {
                        laws.count("opened");
                        self.waits.insert(name);
                    } else if last && !wait && !here && !self.waits.contains(&name) {
                        self.open.remove(&name);
                    }
                }
                Said::Published(name, data, keyed, published) => match published {
                    Published::New { epoch, first } | Published::Again { epoch, first } => {
                        laws.count("published");
                        for (at, data) in data.into_iter().enumerate() {
                            laws.means(&name, epoch.0, first + at as u64, &data);
                        }
                    }
                    Published::Unavailable { published: Some(false) } | Published::Refused(_) | Published::Ended => {
                        laws.count("not published");
                        // One that was published, whose reply was lost, and then the server's data: its stream has ended since.
                        let doubtful = keyed || (published == Published::Ended && laws.lost);
                        if !doubtful {
                            for data in data {
                                laws.never(data);
                            }
                        }
                    }
                    Published::Unavailable { published: None } => laws.count("publishes in doubt"),
                    Published::Unavailable { published: Some(true) } | Published::Conflict => panic!("{published:?}"),
                },
                Said::Changed => {}
            }
        }
    }
}

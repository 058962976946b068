//! Schedules drawn from a seed: what processes ask, what happens to connections and the server, and the quiet after it.

use std::time::Duration;

use bytes::Bytes;
use sse_fast_core::event::NewEvent;
use sse_fast_core::options::StreamOptions;

use super::super::memory::Engine;
use super::super::protocol::Line;
use super::super::{
    Ask, Changed, Make, Name, Publish, SharedEvent, SharedKey, SharedOptions, SharedPatch, SharedSnapshot,
};
use super::process::Said;
use super::world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;
/// A quiet server has told everybody everything after this: a deaf connection is found in 10 s and made anew, a comparison
/// comes every 10 s, a lease ends after 10 s and is looked at every 3.
pub(super) const SETTLED: Duration = Duration::from_secs(40);
/// And then news come as fast as they are pushed.
pub(super) const PROMPT: Duration = Duration::from_secs(1);

pub(super) const STREAMS: [&str; 3] = ["a", "b", "c"];

pub(super) fn name(text: &str) -> Name {
    text.into()
}

/// The last of the streams is forgotten soon: after its end, or where nobody reads it and nothing happens.
pub(super) fn make(stream: &Name) -> Make {
    let mut options = SharedOptions { history: 8, ..SharedOptions::of(&StreamOptions::default()) };
    if **stream == *STREAMS[2] {
        (options.linger, options.expire) = (Duration::from_secs(2), Some(Duration::from_secs(4)));
    }
    Make { options, given: SharedPatch::default() }
}

/// A schedule while it is played.
pub(super) struct Play {
    pub(super) world: World,
    published: u64,
}

impl Play {
    pub(super) fn new(seed: u64, processes: usize) -> Self {
        Self { world: World::new(seed, processes), published: 0 }
    }

    fn act(&mut self, faults: u64) {
        let alive = self.world.alive();
        let at = self.world.random.pick(&alive);
        let stream = name(self.world.random.pick(&STREAMS));
        if self.world.random.percent(faults) {
            self.fault(at, &stream);
            return;
        }
        match self.world.random.between(0, 100) {
            0..55 => self.publish(at, &stream),
            55..75 => self.open(at, &stream),
            75..80 => self.release(at, &stream),
            80..86 => self.snapshot(at, &stream),
            86..90 => self.configure(at, &stream),
            90..91 => self.remove(at, &stream),
            _ => self.present(at, &stream),
        }
    }

    fn publish(&mut self, at: usize, stream: &Name) {
        let end = self.world.random.percent(1);
        self.publish_one(at, stream, end);
    }

    pub(super) fn publish_one(&mut self, at: usize, stream: &Name, end: bool) {
        let random = &mut self.world.random;
        let count = random.between(1, 4);
        let (with_snapshot, keyed) = (random.percent(10), !end && random.percent(5));
        let repeated = keyed && random.percent(50) && self.published > 0;
        let number = if repeated { self.published } else { self.published + 1 };
        self.published = number;
        let data: Vec<String> = if keyed {
            vec![format!("{stream}-{number}-keyed")]
        } else {
            (0..count).map(|part| format!("{stream}-{number}-{part}")).collect()
        };
        let events =
            data.iter().map(|data| SharedEvent::new(&NewEvent { data: data.as_bytes(), ..NewEvent::default() }));
        let publish = Publish {
            events: events.collect(),
            snapshot: with_snapshot.then(|| (0, Bytes::from(format!("with {number}")))),
            end,
            key: keyed.then(|| SharedKey { key: format!("{stream} {number}").into(), body: number }),
            make: make(stream),
        };
        let Some(process) = &mut self.world.processes[at] else { return };
        let to = stream.clone();
        let answer = process.answer(self.world.now, move |published| Said::Published(to, data, keyed, published));
        self.world.ask(at, Ask::Publish { name: stream.clone(), publish, answer });
    }

    fn open(&mut self, at: usize, stream: &Name) {
        let wait = self.world.random.percent(30);
        let make = (!wait && self.world.random.percent(60)).then(|| make(stream));
        self.open_with(at, stream, make, wait || make.is_none());
    }

    pub(super) fn open_with(&mut self, at: usize, stream: &Name, make: Option<Make>, wait: bool) {
        let Some(process) = &mut self.world.processes[at] else { return };
        process.open.insert(stream.clone());
        *process.opening.entry(stream.clone()).or_default() += 1;
        if wait {
            process.waits.insert(stream.clone());
        }
        let to = stream.clone();
        let answer = process.answer(self.world.now, move |opened| Said::Opened(to, wait, opened));
        self.world.ask(at, Ask::Open { name: stream.clone(), make, wait, answer });
    }

    pub(super) fn release(&mut self, at: usize, stream: &Name) {
        let Some(process) = &mut self.world.processes[at] else { return };
        // An engine releases what it does not wait for any more.
        if process.open.contains(stream) && process.asked.is_empty() {
            process.open.remove(stream);
            process.waits.remove(stream);
            process.copies.remove(stream);
            process.totals.remove(stream);
            if process.readers.remove(stream).is_some() {
                self.world.ask(at, Ask::Present { name: stream.clone(), readers: Vec::new() });
            }
            self.world.ask(at, Ask::Release { name: stream.clone() });
        }
    }

    fn snapshot(&mut self, at: usize, stream: &Name) {
        let Some(process) = &mut self.world.processes[at] else { return };
        let answer = process.answer(self.world.now, |_: Changed| Said::Changed);
        self.published += 1;
        let data = Bytes::from(format!("snapshot {}", self.published));
        let snapshot = SharedSnapshot { event: "state".into(), data, position: 0 };
        self.world.ask(at, Ask::Snapshot { name: stream.clone(), snapshot, make: make(stream), answer });
    }

    fn configure(&mut self, at: usize, stream: &Name) {
        let history = Some(self.world.random.between(2, 12) as u64);
        let Some(process) = &mut self.world.processes[at] else { return };
        let answer = process.answer(self.world.now, |_: Changed| Said::Changed);
        let patch = SharedPatch { history, ..SharedPatch::default() };
        self.world.ask(at, Ask::Configure { name: stream.clone(), patch, answer });
    }

    pub(super) fn remove(&mut self, at: usize, stream: &Name) {
        let Some(process) = &mut self.world.processes[at] else { return };
        let answer = process.answer(self.world.now, |_: Changed| Said::Changed);
        self.world.ask(at, Ask::Remove { name: stream.clone(), answer });
    }

    fn present(&mut self, at: usize, stream: &Name) {
        let count = self.world.random.between(0, 3) as u64;
        self.count(at, stream, count);
    }

    /// So many read it at this process.
    pub(super) fn count(&mut self, at: usize, stream: &Name, count: u64) {
        let Some(process) = &mut self.world.processes[at] else { return };
        if process.copies.contains_key(stream) {
            process.readers.insert(stream.clone(), count);
            let readers = vec![(None, count)];
            self.world.ask(at, Ask::Present { name: stream.clone(), readers });
        }
    }

    /// A long list of what there is.
    fn fault(&mut self, at: usize, stream: &Name) {
        let world = &mut self.world;
        match world.random.between(0, 17) {
            0 | 1 => {
                world.laws.count("commands cut");
                world.cut(at, Line::Command);
            }
            2 | 3 => {
                world.laws.count("subscribers cut");
                world.cut(at, Line::Subscriber);
            }
            4 | 5 => {
                world.laws.count("subscribers deaf");
                if let Some(process) = &mut world.processes[at] {
                    process.deaf = true;
                }
            }
            6 => {
                world.kill(at);
                world.start(at);
            }
            7 => {
                world.laws.count("restarts with data");
                let engine = world.engine.clone();
                world.replace(engine);
            }
            8 => {
                world.laws.count("restarts without data");
                world.replace(Engine::new("new"));
            }
            9 => {
                world.laws.count("failovers with a lost tail");
                let replica = world.replica();
                world.replace(replica);
            }
            10 => {
                world.laws.count("stops");
                let long = world.random.between(100, 9000) as u64;
                world.stop(Duration::from_millis(long));
            }
            11 => {
                world.laws.count("logs evicted");
                world.evict_log(stream);
            }
            12 => {
                world.laws.count("metas evicted");
                world.engine.evict_meta(stream);
            }
            13 => {
                world.laws.count("out of memory");
                world.engine.out_of_memory ^= true;
            }
            14 => {
                world.laws.count("demotions");
                let long = world.random.between(10, 3000) as u64;
                world.demote(Duration::from_millis(long));
            }
            15 => {
                world.laws.count("slow times");
                let most = world.random.pick(&[5, 5, 300, 2000]);
                world.slowest = Duration::from_millis(most);
            }
            _ => world.lossy = world.random.pick(&[0, 0, 20]),
        }
    }

    /// No faults any more: everybody comes to have everything, and soon.
    fn settle(&mut self) {
        self.world.engine.out_of_memory = false;
        self.world.slowest = Duration::from_millis(5);
        self.world.lossy = 0;
        let end = self.world.now + SETTLED;
        self.world.until(end);
        self.agree();
        // A deaf connection that nobody has found would show here.
        for stream in STREAMS {
            for at in self.world.alive() {
                self.publish(at, &name(stream));
            }
        }
        let end = self.world.now + PROMPT;
        self.world.until(end);
        self.agree();
        self.end_the_last();
        for at in self.world.alive() {
            let process = self.world.processes[at].as_ref().expect("it lives");
            assert!(!process.away, "{} is back", process.id);
            assert!(process.asked.is_empty(), "asks without an answer: {:?}", process.asked);
        }
    }

    /// What has ended is forgotten everywhere when its time is over.
    fn end_the_last(&mut self) {
        let stream = make(&name(STREAMS[2]));
        let (at, last) = (self.world.alive()[0], name(STREAMS[2]));
        self.publish_one(at, &last, true);
        let end = self.world.now + stream.options.linger + PROMPT;
        self.world.until(end);
        self.agree();
        assert!(self.world.engine.peek(self.world.now, &last).is_none(), "it has ended");
    }

    /// Every copy is what the server has.
    pub(super) fn agree(&self) {
        for stream in STREAMS.map(name) {
            let held = self.world.engine.peek(self.world.now, &stream);
            let mut readers = 0;
            let alive = self.world.alive();
            let all = alive.iter().filter_map(|at| self.world.processes[*at].as_ref());
            for process in all.clone() {
                let count = process.readers.get(&stream).copied().unwrap_or(0);
                readers += count;
                let id = &process.id;
                match (process.copies.get(&stream), &held) {
                    (Some(copy), Some(held)) => {
                        assert_eq!(
                            (copy.epoch, copy.newest),
                            (held.mark.epoch, held.mark.newest),
                            "{stream} of {id} at {:?}: {}",
                            self.world.now,
                            process.hub.describe(&stream)
                        );
                        let kept = copy.entries.iter().rev().take(held.entries.len()).rev();
                        assert!(kept.eq(&held.entries), "{stream} of {id}: {:?} is not {held:?}", copy.entries);
                        assert_eq!(copy.options, held.options, "{stream} of {id}");
                        assert_eq!(copy.snapshot, held.snapshot, "{stream} of {id}");
                        assert_eq!(copy.ended, held.ended, "{stream} of {id}");
                    }
                    (Some(copy), None) => panic!("{stream} of {id} is nowhere but here: {copy:?}"),
                    (None, Some(held)) => {
                        assert!(
                            !process.open.contains(&stream),
                            "{stream} is not at {id}, which waits for it: {held:?}"
                        );
                    }
                    (None, None) => assert_eq!(count, 0, "{stream} is read at {id}, and is not"),
                }
            }
            if let Some(held) = held.filter(|_| all.clone().any(|process| process.copies.contains_key(&stream))) {
                let counted: usize = held.readers.iter().map(|(_, said)| usize::from(said[0])).sum();
                assert_eq!(counted as u64, readers, "readers of {stream} as the server has them: {:?}", held.readers);
            }
            for process in all.clone().filter(|process| process.copies.contains_key(&stream)) {
                let told: u64 = process.totals.get(&stream).into_iter().flatten().map(|(_, count)| count).sum();
                assert_eq!(
                    told,
                    readers,
                    "readers of {stream} as {} has them: {}, of {:?}",
                    process.id,
                    process.hub.describe(&stream),
                    all.clone()
                        .map(|other| (
                            &other.id,
                            other.readers.get(&stream),
                            other.copies.contains_key(&stream),
                            other.hub.describe(&stream)
                        ))
                        .collect::<Vec<_>>()
                );
            }
        }
    }
}

fn run(seed: u64) -> World {
    let mut play = Play::new(seed, 3);
    // Some schedules have no loss at the server, so that nothing may be doubled; some have no fault at all.
    let faults = play.world.random.pick(&[0, 4, 8, 15]);
    let steps = play.world.random.between(20, 160);
    for _ in 0..steps {
        let long = play.world.random.pick(&[0, 1, 3, 30, 300, 2000]);
        let end = play.world.now + Duration::from_millis(long);
        play.world.until(end);
        if play.world.random.percent(20) {
            play.world.replicate();
        }
        play.act(faults);
    }
    play.settle();
    play.world
}

#[test]
fn copies_are_what_the_server_has_whatever_happens() {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let ordinary = || (0..number("SEEDS").unwrap_or(SEEDS)).collect();
    let seeds: Vec<u64> = number("SEED").map_or_else(ordinary, |seed| vec![seed]);
    let mut counts = std::collections::BTreeMap::new();
    let all = seeds.len();
    for seed in seeds {
        let played = std::panic::catch_unwind(|| run(seed).laws.counts);
        let Ok(played) = played else { panic!("seed {seed}: run it alone with SEED={seed}") };
        for (what, count) in played {
            *counts.entry(what).or_insert(0u64) += count;
        }
    }
    println!("{all} schedules: {counts:?}");
    if all > 1 {
        for must in ["opened", "other lives", "copies based anew", "publishes in doubt", "probes without echo"] {
            assert!(counts.get(must).is_some_and(|count| *count > 0), "no schedule has {must}: {counts:?}");
        }
    }
}

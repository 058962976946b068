//! Whether every shard answers.
//!
//! Owns: how shards are asked, and how long an answer may take. Must not know: HTTP, what a shard says. Invariants: however
//! many ask, each shard has at most one question of a kind, so that one that hangs is left nothing more; an answer is never
//! older than the question. This thread answers too late where it was busy with something else for that long: then it is
//! not well either.

use std::time::{Duration, Instant};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout_at;

use crate::shard::{Question, Report, SocketShard};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub(super) struct Health {
    looks: Mutex<Looks>,
    reports: Mutex<Asked<Report>>,
}

#[derive(Default)]
struct Looks {
    asked: Asked<()>,
    /// When the last look began, and what it found.
    last: Option<(Instant, bool)>,
}

impl Health {
    /// Whether every shard answers, looked at after `asked`. Those who come while somebody looks share the next look.
    pub(super) async fn look(&self, shards: &[SocketShard], asked: Instant) -> bool {
        let mut looks = self.looks.lock().await;
        if let Some((_, well)) = looks.last.filter(|(began, _)| *began >= asked) {
            return well;
        }
        let began = Instant::now();
        let answers = looks.asked.ask(shards, Question::Alive, began + PATIENCE).await;
        let well = answers.iter().all(Option::is_some) && asked.elapsed() <= PATIENCE;
        looks.last = Some((began, well));
        well
    }

    /// What each shard says of itself; `None` of one that does not answer.
    pub(super) async fn reports(&self, shards: &[SocketShard]) -> Vec<Option<Report>> {
        self.reports.lock().await.ask(shards, Question::Report, Instant::now() + PATIENCE).await
    }
}

/// Of each shard, where the answer to the last question has not come.
struct Asked<T>(Vec<Option<oneshot::Receiver<T>>>);

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Asked<T> {
    /// Asks every shard that has answered what it was asked before; what each says until then.
    async fn ask(
        &mut self,
        shards: &[SocketShard],
        question: fn(oneshot::Sender<T>) -> Question,
        until: Instant,
    ) -> Vec<Option<T>> {
        self.0.resize_with(shards.len(), || None);
        for (shard, asked) in shards.iter().zip(&mut self.0) {
            let is_open = asked.as_mut().is_some_and(|asked| matches!(asked.try_recv(), Err(TryRecvError::Empty)));
            if !is_open {
                let (answer, answered) = oneshot::channel();
                shard.ask(question(answer));
                *asked = Some(answered);
            }
        }
        let mut answers = Vec::with_capacity(shards.len());
        for asked in &mut self.0 {
            let Some(answered) = asked.as_mut() else { continue };
            match timeout_at(until.into(), answered).await {
                Ok(answer) => {
                    *asked = None;
                    // An error means that the shard has ended.
                    answers.push(answer.ok());
                }
                Err(_) => answers.push(None),
            }
        }
        answers
    }
}

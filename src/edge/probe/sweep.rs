//! What runs have made, found by their names and deleted: one list, and then one request for each.

use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{
    exchange::{self, Answer, Keep, Progress},
    fault::{Fault, Limit, Phase},
    flow::{Flow, ended, filled},
    line::Line,
};
use crate::model::probe::{Check, Class, Item, RunName, Step, Sweep};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Items that are gone now.
    pub gone: usize,
    /// The first that could not be looked for or deleted, in a sentence.
    pub left: Option<String>,
}

impl Swept {
    fn failed(step: &Step, fault: Fault) -> Self {
        Self { gone: 0, left: Some(ended(step, fault).fault.said) }
    }
}

impl Flow<'_> {
    /// Deletes what was made by the runs that are meant, at most [`Sweep::MOST`] items.
    pub(super) async fn sweep(&mut self, line: &mut Line, sweep: &Sweep, meant: &(dyn Fn(&RunName) -> bool + Send + Sync)) -> Swept {
        self.may_take(Check::TEARDOWN);
        let items = match self.listed(line, sweep).await {
            Ok(items) => items,
            Err(fault) => return Swept::failed(&sweep.list, fault),
        };
        let mut swept = Swept::default();
        for item in items.iter().filter(|item| meant(&item.run)).take(Sweep::MOST) {
            match self.deleted(line, sweep, item).await {
                Ok(()) => swept.gone += 1,
                Err(fault) => {
                    swept.left.get_or_insert(ended(&sweep.delete, fault).fault.said);
                }
            }
        }
        swept
    }

    async fn listed(&mut self, line: &mut Line, sweep: &Sweep) -> Result<Vec<Item>, Fault> {
        let list = self.filled(&sweep.list)?;
        let answer = self.answer(line, &list, Keep::All).await?;
        if !list.expect.accepts(answer.status) {
            let said = format!("answered {}, expected {}", answer.status, list.expect.wanted());
            return Err(Fault::new(Class::HttpStatus, said));
        }
        let (sweep, body) = (sweep.clone(), answer.body.unwrap_or_default());
        // A list may be as large as a body may be, and each of its items is looked into.
        let look = move || Some(sweep.items(&serde_json::from_slice(&body).ok()?).unwrap_or_default());
        let found =
            spawn_blocking(look).await.map_err(|_| Fault::new(Class::Prober, "was answered, and looking into it was interrupted"))?;
        found.ok_or_else(|| Fault::new(Class::Assertion, "answered with something that is not JSON"))
    }

    async fn deleted(&mut self, line: &mut Line, sweep: &Sweep, item: &Item) -> Result<(), Fault> {
        let delete = filled(&sweep.vars(self.vars(), &item.value), &sweep.delete)?;
        let status = self.answer(line, &delete, Keep::Nothing).await?.status;
        match status {
            200..=299 | 404 | 410 => Ok(()),
            status => Err(Fault::new(Class::HttpStatus, format!("answered {status}, expected 2xx, 404 or 410"))),
        }
    }

    async fn answer(&mut self, line: &mut Line, step: &Step, keep: Keep) -> Result<Answer, Fault> {
        let request = self.request(step, false)?;
        let (end, mut progress) =
            (self.ends().min(Instant::now() + step.deadline), Progress { phase: Phase::Connect, status: None, who: None });
        match timeout_at(end, exchange::exchange(line, request, (None, keep), &mut progress)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::too_late(progress.phase, Limit::Step(step.deadline), progress.status)),
        }
    }
}

//! What a batch of fire orders writes, decided alike for every database.

use crate::rows::{Cells, schedule_state};
use horarium_core::store::rules::{self, FireStep, Firing};
use horarium_core::store::{Backlogs, FireOrder, FireReceipt, NewExecution, StoreResult};
use horarium_model::config::{ScheduleState, SkipStreak};
use horarium_model::firing::LiveCount;
use horarium_model::schedule::Overlap;
use horarium_model::{ConfigId, Invalid, TaskConfig, TaskId, Timestamp, Trigger};
use std::collections::{BTreeSet, HashMap};

/// One execution to insert: a template and what differs from it.
pub(crate) struct Fresh<'a> {
    pub(crate) id: i64,
    pub(crate) template: &'a NewExecution,
    pub(crate) task_id: TaskId,
    pub(crate) trigger: Trigger,
    pub(crate) slot: Option<Timestamp>,
    pub(crate) due_at: Timestamp,
}

impl<'a> Fresh<'a> {
    /// As the template itself says.
    pub(crate) fn of(id: i64, template: &'a NewExecution) -> Self {
        Self {
            id,
            template,
            task_id: template.task_id,
            trigger: template.trigger,
            slot: template.slot,
            due_at: template.due_at,
        }
    }
}

/// Whose slots were skipped.
#[derive(Debug, Clone)]
pub(crate) struct SkippedOf {
    pub(crate) config_id: ConfigId,
    pub(crate) tenant_id: i64,
    pub(crate) task_type: String,
    pub(crate) priority: i32,
    pub(crate) max_attempts: u32,
}

impl SkippedOf {
    /// What a skipped row of a config says besides its streak.
    pub(crate) fn new(config: &TaskConfig) -> Self {
        Self {
            config_id: config.id,
            tenant_id: config.tenant_id,
            task_type: config.spec.task_type.clone(),
            priority: config.spec.priority,
            max_attempts: config.spec.max_retries.saturating_add(1),
        }
    }
}

/// A streak to write as a `skipped` row.
pub(crate) struct Skip {
    pub(crate) id: i64,
    pub(crate) of: SkippedOf,
    pub(crate) streak: SkipStreak,
}

/// Where a schedule stands inside this operation.
pub(crate) struct Position {
    pub(crate) version: i64,
    pub(crate) paused: bool,
    pub(crate) state: ScheduleState,
    pub(crate) of: SkippedOf,
    pub(crate) live: LiveCount,
    /// Some order was carried out.
    pub(crate) moved: bool,
}

/// What lives of configs, from rows of `LIVE_COUNTS`: a config, whether they run, how many.
pub(crate) fn live_counts(
    rows: impl IntoIterator<Item = (ConfigId, bool, i64)>,
) -> HashMap<ConfigId, LiveCount> {
    let mut counts: HashMap<ConfigId, LiveCount> = HashMap::new();
    for (id, running, count) in rows {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let of_config = counts.entry(id).or_default();
        match running {
            true => of_config.running = count,
            false => of_config.waiting = count,
        }
    }
    counts
}

/// The configs of which it matters what lives.
pub(crate) fn looked_at<'a>(
    rules: impl Iterator<Item = (ConfigId, Overlap)> + 'a,
) -> Vec<ConfigId> {
    let looking = rules.filter(|(_, overlap)| overlap.looks_at_live());
    let ids: BTreeSet<ConfigId> = looking.map(|(id, _)| id).collect();
    ids.into_iter().collect()
}

/// The rule for what lives, of each order.
pub(crate) fn overlaps(orders: &[FireOrder]) -> impl Iterator<Item = (ConfigId, Overlap)> {
    orders
        .iter()
        .map(|order| (order.seen.config_id, order.overlap))
}

/// How many wait, of all.
pub(crate) fn all_waiting<'a>(counts: impl Iterator<Item = &'a LiveCount>) -> u32 {
    counts.fold(0, |sum, live| sum.saturating_add(live.waiting))
}

impl Position {
    /// A row of `SCHEDULES`.
    pub(crate) fn read<'r>(
        r: &mut impl Cells<'r>,
        live: &HashMap<ConfigId, LiveCount>,
    ) -> StoreResult<(ConfigId, Self)> {
        let id = r.place().id;
        let tenant_id = r.int("tenant_id")?;
        let position = Self {
            version: r.int("version")?,
            paused: r.flag("paused")?,
            state: schedule_state(r)?,
            of: SkippedOf {
                config_id: id,
                tenant_id,
                task_type: r.owned("task_type")?,
                priority: r.number("priority")?,
                max_attempts: r.number("max_attempts")?,
            },
            live: live.get(&id).copied().unwrap_or_default(),
            moved: false,
        };
        Ok((id, position))
    }

    fn admits(&self, order: &FireOrder) -> bool {
        self.of.tenant_id == order.tenant_id
            && !self.paused
            && self.version == order.seen.version
            && rules::same_position(&self.state, &order.seen.state)
    }
}

/// Rows that are written together.
#[derive(Default)]
pub(crate) struct Segment<'a> {
    pub(crate) skips: Vec<Skip>,
    pub(crate) fresh: Vec<Fresh<'a>>,
    /// After them, what lives of this config is cancelled; the receipt of this order tells.
    pub(crate) then_cancel: Option<(usize, ConfigId)>,
}

/// What a batch of orders becomes.
#[derive(Default)]
pub(crate) struct FirePlan<'a> {
    pub(crate) segments: Vec<Segment<'a>>,
    pub(crate) receipts: Vec<FireReceipt>,
    /// Ids that were used: 0, 1, 2… in the order of what was decided, until [`Self::number`].
    pub(crate) ids: usize,
}

impl<'a> FirePlan<'a> {
    /// Decides every order (rules S1, S5, S6, S7) and moves the positions on.
    ///
    /// # Errors
    /// `Invalid` when an order has fewer ids than slots that fire.
    pub(crate) fn decide(
        orders: &'a [FireOrder],
        positions: &mut HashMap<ConfigId, Position>,
        backlogs: &mut Backlogs,
    ) -> StoreResult<Self> {
        let short = |o: &&FireOrder| o.task_ids.len() < o.plan.fires.len();
        if let Some(order) = orders.iter().find(short) {
            return Err(Invalid::one("", rules::too_few_ids(order.seen.config_id)).into());
        }
        let mut plan = Self::default();
        plan.segments.push(Segment::default());
        for order in orders {
            let receipt = match positions.get_mut(&order.seen.config_id) {
                Some(position) if position.admits(order) => plan.add(order, position, backlogs),
                _ => FireReceipt::default(),
            };
            plan.receipts.push(receipt);
        }
        Ok(plan)
    }

    fn next_id(&mut self) -> i64 {
        let id = i64::try_from(self.ids).unwrap_or(i64::MAX);
        self.ids += 1;
        id
    }

    fn add(
        &mut self,
        order: &'a FireOrder,
        position: &mut Position,
        backlogs: &mut Backlogs,
    ) -> FireReceipt {
        let open = position.state.open_skip.clone();
        let firing = Firing::decide(order, open, position.live, backlogs);
        let mut receipt = FireReceipt {
            applied: true,
            skips: firing.skips,
            ..FireReceipt::default()
        };
        for step in firing.steps {
            let id = match step {
                FireStep::CancelLive => 0,
                _ => self.next_id(),
            };
            let index = self.receipts.len();
            let Some(segment) = self.segments.last_mut() else {
                continue;
            };
            match step {
                FireStep::CloseStreak(streak) => segment.skips.push(Skip {
                    id,
                    of: position.of.clone(),
                    streak,
                }),
                FireStep::CancelLive => {
                    segment.then_cancel = Some((index, order.seen.config_id));
                    position.live.waiting = 0;
                    self.segments.push(Segment::default());
                }
                FireStep::Enqueue(index) => {
                    let (fire, task_id) = (order.plan.fires[index], order.task_ids[index]);
                    segment.fresh.push(Fresh {
                        id,
                        template: &order.template,
                        task_id,
                        trigger: fire.trigger,
                        slot: Some(fire.slot),
                        due_at: fire.fires_at,
                    });
                    position.live.waiting += 1;
                    receipt.enqueued.push(task_id);
                }
            }
        }
        position.state.last_slot = order.plan.last_slot;
        position.state.next_fire_at = order.plan.next_fire_at;
        position.state.open_skip = firing.open_skip;
        position.moved = true;
        receipt
    }

    /// Gives every row its real id.
    pub(crate) fn number(&mut self, ids: &[i64]) {
        let real = |id: &mut i64| {
            let found = usize::try_from(*id).ok().and_then(|i| ids.get(i));
            *id = found.copied().unwrap_or(*id);
        };
        for segment in &mut self.segments {
            segment.skips.iter_mut().for_each(|skip| real(&mut skip.id));
            segment.fresh.iter_mut().for_each(|new| real(&mut new.id));
        }
    }
}

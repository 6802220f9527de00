//! Alerts.

use super::{Inner, MemoryStore};
use crate::store::{Alert, NewAlert, Outbox, StoreResult};
use horarium_model::alert::AlertEvent;
use horarium_model::config::SkipStreak;
use horarium_model::execution::{Execution, SkipReason, State};
use horarium_model::{ConfigId, TenantId, Timestamp};
use serde_json::{Value, json};

/// An alert as it is kept.
#[derive(Debug, Clone)]
pub(super) struct AlertRow {
    shown: Alert,
    subject: Option<String>,
    /// When it is to be delivered; none once it was.
    due_at: Option<Timestamp>,
}

impl AlertRow {
    pub(super) fn is_of(&self, tenant: TenantId) -> bool {
        self.shown.tenant_id == Some(tenant)
    }
}

#[async_trait::async_trait]
impl Outbox for MemoryStore {
    async fn post_alerts(&self, now: Timestamp, alerts: Vec<NewAlert>) -> StoreResult<u64> {
        let mut inner = self.lock();
        let before = inner.alerts.len();
        for new in alerts {
            let of = (new.tenant_id, new.config_id);
            let alert = inner.alert(now, new.event, of, new.detail);
            let alert = Alert {
                task_id: new.task_id,
                ..alert
            };
            inner.keep_alert(alert, Some(new.subject));
        }
        Ok((inner.alerts.len() - before) as u64)
    }

    async fn take_alerts(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Alert>> {
        let mut inner = self.lock();
        let mut due: Vec<_> = inner
            .alerts
            .iter_mut()
            .filter_map(|row| Some((row.due_at.filter(|due| *due <= now)?, row)))
            .collect();
        due.sort_by_key(|(due, row)| (*due, row.shown.created_at));
        due.truncate(limit as usize);
        let taken = due.into_iter().map(|(_, row)| {
            row.due_at = Some(until);
            row.shown.tries += 1;
            row.shown.clone()
        });
        Ok(taken.collect())
    }

    async fn settle_alert(
        &self,
        alert_id: &str,
        tries: u32,
        again: Option<Timestamp>,
    ) -> StoreResult<()> {
        let mut inner = self.lock();
        let mut rows = inner.alerts.iter_mut();
        let row = rows.find(|row| row.shown.alert_id == alert_id && row.shown.tries == tries);
        if let Some(row) = row {
            row.due_at = again;
        }
        Ok(())
    }

    async fn purge_alerts(&self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        let mut inner = self.lock();
        let mut left = limit;
        let there = inner.alerts.len();
        inner.alerts.retain(|row| {
            let goes = left > 0 && row.shown.created_at < before;
            left -= u32::from(goes);
            !goes
        });
        Ok((there - inner.alerts.len()) as u64)
    }
}

impl Inner {
    pub(super) fn has_due_alerts(&self, now: Timestamp) -> bool {
        let mut due = self.alerts.iter().filter_map(|row| row.due_at);
        due.any(|due| due <= now)
    }

    fn alert(
        &mut self,
        now: Timestamp,
        event: AlertEvent,
        of: (Option<TenantId>, Option<ConfigId>),
        detail: Value,
    ) -> Alert {
        self.last_alert += 1;
        Alert {
            alert_id: format!("{:032x}", self.last_alert),
            event,
            tenant_id: of.0,
            config_id: of.1,
            task_id: None,
            detail,
            created_at: now,
            tries: 0,
        }
    }

    fn keep_alert(&mut self, shown: Alert, subject: Option<String>) {
        let known = |row: &AlertRow| subject.is_some() && row.subject == subject;
        if !self.alerts.iter().any(known) {
            self.alerts.push(AlertRow {
                due_at: Some(shown.created_at),
                shown,
                subject,
            });
        }
    }

    /// Whether a host that lives since before then wants them.
    fn alerts_wanted(
        &self,
        at: Timestamp,
        wanted: impl Fn(&crate::store::AlertRules) -> bool,
    ) -> bool {
        let living = self.hosts.values().filter(|host| host.alive);
        let mut living = living.filter(|host| host.started_at <= at);
        living.any(|host| host.facts.alerts.as_ref().is_some_and(&wanted))
    }

    /// An execution was filed in the history.
    pub(super) fn alert_of_end(&mut self, now: Timestamp, shown: &Execution) {
        let of = (Some(shown.tenant_id), shown.config_id);
        if shown.state == State::Failed && self.alerts_wanted(now, |rules| rules.failed) {
            let alert = self.alert(now, AlertEvent::ExecutionFailed, of, json!({}));
            let alert = Alert {
                task_id: Some(shown.task_id),
                ..alert
            };
            self.keep_alert(alert, None);
        }
    }

    /// Slots of a config were found missed.
    pub(super) fn alert_of_missed(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        config: ConfigId,
        streak: &SkipStreak,
    ) {
        if streak.reason != SkipReason::Missed || !self.alerts_wanted(now, |rules| rules.missed) {
            return;
        }
        let first = streak.first.timestamp_micros();
        let last = streak.last.timestamp_micros();
        let detail = json!({"first": first, "last": last, "count": streak.count});
        let alert = self.alert(
            now,
            AlertEvent::MissedRuns,
            (Some(tenant), Some(config)),
            detail,
        );
        self.keep_alert(alert, Some(format!("missed_runs:{config}:{first}")));
    }

    /// Executions of a config failed so many times in a row.
    pub(super) fn alert_of_streak(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        config: ConfigId,
        failures: u32,
    ) {
        let living = self.hosts.values().filter(|host| host.alive);
        let streaks = living.filter_map(|host| host.facts.alerts.as_ref()?.streak);
        if streaks.min() == Some(failures) {
            let (event, of) = (AlertEvent::FailureStreak, (Some(tenant), Some(config)));
            let alert = self.alert(now, event, of, json!({"failures": failures}));
            self.keep_alert(alert, None);
        }
    }
}

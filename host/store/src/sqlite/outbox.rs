//! Alerts.

use super::rows::Reader;
use super::{SqliteStore, db, sql};
use crate::columns::{micros, opt_micros, text};
use horarium_core::store::{Alert, NewAlert, Outbox, StoreResult};
use horarium_model::Timestamp;
use std::sync::Arc;

#[async_trait::async_trait]
impl Outbox for SqliteStore {
    async fn post_alerts(&self, now: Timestamp, alerts: Vec<NewAlert>) -> StoreResult<u64> {
        let alerts = Arc::new(alerts);
        self.write(move |tx| {
            let alerts = alerts.clone();
            Box::pin(async move {
                let mut posted = 0;
                for alert in &*alerts {
                    let posting = sqlx::query(sql::POST_ALERT)
                        .bind(alert.event.as_str())
                        .bind(alert.tenant_id)
                        .bind(alert.config_id)
                        .bind(alert.task_id.map(|id| id.to_string()))
                        .bind(text(&alert.detail)?)
                        .bind(&alert.subject)
                        .bind(micros(now));
                    let done = posting.execute(tx.write()).await.map_err(db)?;
                    posted += done.rows_affected();
                }
                Ok(posted)
            })
        })
        .await
    }

    async fn take_alerts(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Alert>> {
        self.write(move |tx| {
            Box::pin(async move {
                let taking = sqlx::query(sql::TAKE_ALERTS)
                    .bind(micros(now))
                    .bind(micros(until))
                    .bind(limit);
                let rows = taking.fetch_all(tx.write()).await.map_err(db)?;
                let read = |row| crate::rows::alert(&mut Reader::plain(row, "alerts"));
                rows.iter().map(read).collect()
            })
        })
        .await
    }

    async fn settle_alert(
        &self,
        alert_id: &str,
        tries: u32,
        again: Option<Timestamp>,
    ) -> StoreResult<()> {
        let alert_id: Arc<str> = alert_id.into();
        self.write(move |tx| {
            let alert_id = alert_id.clone();
            Box::pin(async move {
                let settling = sqlx::query(sql::SETTLE_ALERT)
                    .bind(&*alert_id)
                    .bind(tries)
                    .bind(opt_micros(again));
                settling.execute(tx.write()).await.map_err(db)?;
                Ok(())
            })
        })
        .await
    }

    async fn purge_alerts(&self, before: Timestamp, limit: u32) -> StoreResult<u64> {
        self.write(move |tx| {
            Box::pin(async move {
                let purging = sqlx::query(sql::PURGE_ALERTS)
                    .bind(micros(before))
                    .bind(limit);
                let done = purging.execute(tx.write()).await.map_err(db)?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}

//! Alerts to whoever watches: what the store kept is delivered to a webhook, queues are looked at, and a dead-man's
//! URL hears that this host lives.
//!
//! Alerts are rows (`store::Outbox`), made in the transaction of what they tell of. Any host with `alerts.url`
//! delivers any of them; one at a time takes an alert, and if it dies another takes it a minute later. So each is
//! told once, or twice after an accident, and always under the same `alert_id`.

mod message;

use crate::settings::{AlertSecret, AlertSettings};
use crate::telemetry::Metrics;
use futures_util::StreamExt;
use horarium_core::clock::Clock;
use horarium_core::executor::{Executor, LEASE};
use horarium_core::registry::Registry;
use horarium_core::store::{Alert, AlertRules, NewAlert, Store, StoreResult};
use horarium_core::wake::Wakes;
use horarium_model::alert::AlertEvent;
use horarium_sandbox::connector::{Connector, OwnRequest};
use http::{Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks for alerts to deliver at the least, and at the most: in between the heartbeat tells of them.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long whoever took an alert may be busy with it.
const HOLD: Duration = Duration::from_secs(60);
/// How long the webhook may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Taken at once, and delivered side by side.
const BATCH: u32 = 12;
const AT_ONCE: u32 = 4;
/// A webhook that takes its time is no reason for another host to take the last of a batch as well.
const _: () = assert!(PATIENCE.as_secs() * (BATCH / AT_ONCE) as u64 <= HOLD.as_secs() - 10);
/// After a delivery failed; three times as long after each further one, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// After so long an alert is no news, and given up.
const OLD: chrono::Duration = chrono::Duration::hours(24);
/// How long what was told is remembered, so that no host tells it again.
const KEPT: chrono::Duration = chrono::Duration::days(7);
/// Between two looks at the queues, and for what is old enough to be forgotten.
const LOOK_AT_QUEUES: Duration = Duration::from_secs(30);
const FORGET: Duration = Duration::from_secs(3600);
const FORGET_BATCH: u32 = 1000;

/// What a host of these settings wants the store to keep.
pub(crate) fn rules(settings: &AlertSettings) -> Option<AlertRules> {
    let wants = |event| settings.url.is_some() && settings.events.contains(&event);
    let rules = AlertRules {
        failed: wants(AlertEvent::ExecutionFailed),
        missed: wants(AlertEvent::MissedRuns),
        streak: wants(AlertEvent::FailureStreak).then_some(settings.streak),
    };
    (rules != AlertRules::default()).then_some(rules)
}

/// Tells of one host, and delivers alerts.
pub(crate) struct Alerts {
    pub(crate) settings: AlertSettings,
    pub(crate) connector: Connector,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) host: String,
}

impl Alerts {
    /// Works until `shutdown`. What is not delivered by then is delivered by another host, or after the next start.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let work = async {
            tokio::join!(
                self.deliver(),
                self.watch_queues(),
                self.forget(),
                self.ping()
            );
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    }

    async fn deliver(&self) {
        let (Some(url), Some(secret)) = (&self.settings.url, &self.settings.secret) else {
            return;
        };
        loop {
            let (now, hold) = (self.clock.now(), HOLD);
            let taken = match self.store.take_alerts(now, now + hold, BATCH).await {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::debug!(%error, "alerts wait for the database");
                    Vec::new()
                }
            };
            let more = taken.len() == BATCH as usize;
            futures_util::stream::iter(taken)
                .for_each_concurrent(AT_ONCE as usize, |alert| async move {
                    if let Err(error) = self.one(url, secret, &alert).await {
                        tracing::debug!(%error, alert_id = alert.alert_id, "an alert waits");
                    }
                })
                .await;
            if more {
                continue;
            }
            self.clock.sleep(LOOKS.0).await;
            tokio::select! {
                () = self.wakes.alerts.notified() => {}
                () = self.clock.sleep(LOOKS.1) => {}
            }
        }
    }

    /// Delivers an alert, and settles how it went.
    async fn one(&self, url: &Uri, secret: &AlertSecret, alert: &Alert) -> StoreResult<()> {
        let body = message::body(&*self.store, alert, &self.host).await?;
        let request = OwnRequest {
            method: Method::POST,
            url: url.clone(),
            headers: vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("user-agent".to_owned(), agent()),
                (message::ALERT_ID.to_owned(), alert.alert_id.clone()),
                (
                    message::SIGNATURE.to_owned(),
                    message::signature(secret, self.clock.now(), &body),
                ),
            ],
            body: body.into(),
        };
        let failed = match self.connector.send(request, PATIENCE).await {
            Ok(status) if (200..300).contains(&status) => None,
            Ok(status) => Some(format!("it answered {status}")),
            Err(sentence) => Some(sentence),
        };
        let (event, id) = (alert.event, &alert.alert_id);
        let Some(reason) = failed else {
            self.metrics.alert(event, "sent");
            return self.store.settle_alert(id, alert.tries, None).await;
        };
        let now = self.clock.now();
        if now - alert.created_at > OLD {
            self.metrics.alert(event, "given_up");
            tracing::error!(alert_id = id, %event, reason, "an alert could not be delivered for a day and is given up");
            return self.store.settle_alert(id, alert.tries, None).await;
        }
        self.metrics.alert(event, "failed");
        let wait = wait_after(alert.tries);
        tracing::warn!(alert_id = id, %event, reason, again_in = ?wait, "an alert could not be delivered");
        let again = Some(now + wait);
        self.store.settle_alert(id, alert.tries, again).await
    }

    /// Tells of types whose executions wait for too long, once an hour as long as they do.
    async fn watch_queues(&self) {
        if self.settings.url.is_none() || !self.settings.events.contains(&AlertEvent::QueueStuck) {
            return;
        }
        loop {
            self.clock.sleep(LOOK_AT_QUEUES).await;
            if let Err(error) = self.look_at_queues().await {
                tracing::debug!(%error, "the queues cannot be looked at");
            }
        }
    }

    async fn look_at_queues(&self) -> StoreResult<()> {
        let now = self.clock.now();
        let heads = self.store.waiting_heads(&self.registry.enabled()).await?;
        let stuck = heads.into_iter().filter(|head| {
            (now - head.due_at)
                .to_std()
                .is_ok_and(|waited| waited >= self.settings.stuck_after)
        });
        let hour = now.timestamp().div_euclid(3600);
        let alerts = stuck.map(|head| NewAlert {
            event: AlertEvent::QueueStuck,
            subject: format!("queue_stuck:{}:{}:{hour}", head.tenant_id, head.task_type),
            tenant_id: Some(head.tenant_id),
            config_id: None,
            task_id: Some(head.task_id),
            detail: json!({ "task_type": head.task_type, "since": head.due_at.timestamp_micros() }),
        });
        let alerts: Vec<NewAlert> = alerts.collect();
        if !alerts.is_empty() {
            self.store.post_alerts(now, alerts).await?;
        }
        Ok(())
    }

    /// Every host does, whether it delivers alerts or not.
    async fn forget(&self) {
        loop {
            let before = self.clock.now() - KEPT;
            let gone = match self.store.purge_alerts(before, FORGET_BATCH).await {
                Ok(gone) => gone,
                Err(error) => {
                    tracing::debug!(%error, "old alerts stay for now");
                    0
                }
            };
            if gone < u64::from(FORGET_BATCH) {
                self.clock.sleep(FORGET).await;
            }
        }
    }

    /// The dead-man's URL of this host.
    fn dead_man(&self) -> Option<Uri> {
        let name = utf8_percent_encode(&self.host, NON_ALPHANUMERIC).to_string();
        let url = self
            .settings
            .dead_man_url
            .as_ref()?
            .replace("{host}", &name);
        // It was read with another name when the settings were.
        url.parse().ok()
    }

    /// Tells the dead-man's URL, while the database hears of this host and answers.
    async fn ping(&self) {
        let Some(url) = self.dead_man() else {
            return;
        };
        loop {
            if self.executor.heartbeat_age() <= LEASE {
                let request = OwnRequest {
                    method: Method::GET,
                    url: url.clone(),
                    headers: vec![("user-agent".to_owned(), agent())],
                    body: Default::default(),
                };
                let reason = match self.connector.send(request, PATIENCE).await {
                    Ok(status) if status < 400 => None,
                    Ok(status) => Some(format!("it answered {status}")),
                    Err(sentence) => Some(sentence),
                };
                self.metrics.pinged(reason.is_none());
                if let Some(reason) = reason {
                    tracing::warn!(
                        reason,
                        "the dead-man's URL could not be told that this host lives"
                    );
                }
            }
            self.clock.sleep(self.settings.dead_man_every).await;
        }
    }
}

fn agent() -> String {
    format!("horarium/{}", env!("CARGO_PKG_VERSION"))
}

/// How long a delivery waits that failed for the `tries`th time.
fn wait_after(tries: u32) -> Duration {
    let factor = 3_u32.saturating_pow(tries.saturating_sub(1));
    FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_wait_longer_each_time_up_to_an_hour() {
        let waits: Vec<u64> = (1..9).map(|tries| wait_after(tries).as_secs()).collect();
        assert_eq!(waits, [2, 6, 18, 54, 162, 486, 1458, 3600]);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn rules_follow_the_settings() {
        let mut settings = AlertSettings::default();
        assert_eq!(rules(&settings), None, "nobody is told");
        settings.url = Some("https://example.com/".parse().expect("a URL"));
        let all = rules(&settings).expect("all are wanted");
        assert!(all.failed && all.missed && all.streak == Some(settings.streak));
        settings.events = vec![AlertEvent::QueueStuck];
        assert_eq!(rules(&settings), None, "what hosts see needs no rule");
    }
}

//! An alert as it is sent: a JSON body and the headers that prove who sent it.

use crate::settings::AlertSecret;
use hmac::{Hmac, KeyInit, Mac};
use horarium_core::store::{Alert, Page, Store, StoreResult};
use horarium_model::alert::AlertEvent;
use horarium_model::schedule::wire;
use horarium_model::{Execution, TaskConfig, TenantId, Timestamp};
use serde_json::{Value, json};
use sha2::Sha256;
use std::fmt::Write;

/// The header with the signature.
pub(super) const SIGNATURE: &str = "horarium-signature";
/// The header with the alert's id.
pub(super) const ALERT_ID: &str = "horarium-alert-id";

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 with the secret over the seconds since 1970, a full stop and the body. Whoever
/// receives it checks both: the signature, and that the instant is not long ago.
pub(super) fn signature(secret: &AlertSecret, at: Timestamp, body: &str) -> String {
    let seconds = at.timestamp();
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{seconds}.{body}").as_bytes());
    let mut header = format!("t={seconds},v1=");
    for byte in mac.finalize().into_bytes() {
        // Writing to a String does not fail.
        let _ = write!(header, "{byte:02x}");
    }
    header
}

/// What an alert is about, as far as it still exists.
struct About {
    tenant: Option<(TenantId, Option<String>)>,
    task: Option<TaskConfig>,
    execution: Option<Execution>,
}

impl About {
    async fn read(store: &dyn Store, alert: &Alert) -> StoreResult<Self> {
        let Some(tenant) = alert.tenant_id else {
            return Ok(Self {
                tenant: None,
                task: None,
                execution: None,
            });
        };
        let page = Page {
            limit: 1,
            after: Some(tenant - 1),
        };
        let found = store.tenants(&page).await?.items;
        let named = found.into_iter().find(|found| found.id == tenant);
        let task = match alert.config_id {
            Some(id) => store.config(tenant, id).await?,
            None => None,
        };
        let execution = match alert.task_id {
            Some(id) => store.execution(tenant, id).await?,
            None => None,
        };
        Ok(Self {
            tenant: Some((tenant, named.map(|tenant| tenant.name))),
            task,
            execution,
        })
    }

    /// `the task "nightly backup" (7)`, or what else names it.
    fn name(&self, alert: &Alert) -> String {
        match (&self.task, alert.config_id, &self.execution) {
            (Some(task), ..) => format!("the task \"{}\" ({})", task.spec.name, task.id),
            (None, Some(id), _) => format!("the task {id}"),
            (None, None, Some(execution)) => format!("an execution of {}", execution.task_type),
            (None, None, None) => "an execution".to_owned(),
        }
    }
}

/// An instant of a detail.
fn instant(detail: &Value, key: &str) -> Option<Timestamp> {
    Timestamp::from_timestamp_micros(detail[key].as_i64()?)
}

/// One line for a person.
fn sentence(alert: &Alert, about: &About) -> String {
    let (name, detail) = (about.name(alert), &alert.detail);
    match alert.event {
        AlertEvent::ExecutionFailed => {
            let Some(execution) = &about.execution else {
                return format!("{name} failed");
            };
            let kind = execution.error_kind.map_or("failed", |kind| kind.as_str());
            let message = execution.error_message.as_deref().unwrap_or("no message");
            let attempts = execution.attempt;
            format!("{name} failed after {attempts} attempts: {kind}: {message}")
        }
        AlertEvent::FailureStreak => {
            let failures = detail["failures"].as_i64().unwrap_or_default();
            format!("{name} failed {failures} times in a row")
        }
        AlertEvent::MissedRuns => {
            let count = detail["count"].as_i64().unwrap_or_default();
            let since = instant(detail, "first").map(wire).unwrap_or_default();
            format!("{name} missed {count} runs since {since}: no host was there in time")
        }
        AlertEvent::QueueStuck => {
            let task_type = detail["task_type"].as_str().unwrap_or_default();
            let since = instant(detail, "since").map(wire).unwrap_or_default();
            format!("executions of {task_type} have waited for a slot since {since}")
        }
    }
}

/// The body of an alert.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn body(store: &dyn Store, alert: &Alert, host: &str) -> StoreResult<String> {
    let about = About::read(store, alert).await?;
    let detail = &alert.detail;
    let mut body = json!({
        "alert_id": alert.alert_id,
        "event": alert.event.as_str(),
        "at": wire(alert.created_at),
        "message": sentence(alert, &about),
        "host": host,
        "tenant": about.tenant.as_ref().map(|(id, name)| json!({ "id": id, "name": name })),
        "task": match (&about.task, alert.config_id) {
            (Some(task), _) => json!({ "id": task.id, "key": task.spec.key, "name": task.spec.name }),
            (None, Some(id)) => json!({ "id": id, "key": null, "name": null }),
            (None, None) => Value::Null,
        },
        "task_type": about
            .execution
            .as_ref()
            .map(|execution| &execution.task_type)
            .or(about.task.as_ref().map(|task| &task.spec.task_type)),
    });
    match alert.event {
        AlertEvent::ExecutionFailed => {
            body["execution"] = about.execution.as_ref().map_or_else(
                || json!({ "task_id": alert.task_id }),
                |execution| {
                    json!({
                        "task_id": execution.task_id,
                        "trigger": execution.trigger.as_str(),
                        "slot": execution.slot.map(wire),
                        "attempt": execution.attempt,
                        "max_attempts": execution.max_attempts,
                        "error_kind": execution.error_kind.map(|kind| kind.as_str()),
                        "error_message": execution.error_message,
                        "completed_at": execution.completed_at.map(wire),
                        "host": execution.host,
                    })
                },
            );
        }
        AlertEvent::FailureStreak => {
            let paused = about.task.as_ref().map(|task| task.spec.paused);
            body["streak"] = json!({ "failures": detail["failures"], "paused": paused });
        }
        AlertEvent::MissedRuns => {
            body["missed"] = json!({
                "count": detail["count"],
                "first_slot": instant(detail, "first").map(wire),
                "last_slot": instant(detail, "last").map(wire),
            });
        }
        AlertEvent::QueueStuck => {
            body["task_type"] = detail["task_type"].clone();
            body["queue"] = json!({
                "waiting_since": instant(detail, "since").map(wire),
                "task_id": alert.task_id,
            });
        }
    }
    Ok(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_instant_and_body() {
        let secret = AlertSecret::new("a secret of some length");
        let at = |seconds| Timestamp::from_timestamp(seconds, 0).expect("in range");
        let signed = signature(&secret, at(1_700_000_000), "{}");
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac 'a secret of some length'
        let wanted = "9008b8e96ac884fb56cbbbb39d8c4b578c2c6de7951cbcce7f1f18311f3cd9f2";
        assert_eq!(signed, format!("t=1700000000,v1={wanted}"));
        assert_ne!(
            signature(&secret, at(1_700_000_001), "{}")[2..],
            signed[2..]
        );
        assert_ne!(signature(&secret, at(1_700_000_000), "{ }"), signed);
        let other = AlertSecret::new("another secret of some length");
        assert_ne!(signature(&other, at(1_700_000_000), "{}"), signed);
        assert_eq!(format!("{secret:?}"), "AlertSecret(…)");
    }
}

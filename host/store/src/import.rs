//! Executions that ended elsewhere, as rows.

use crate::columns::{micros, opt_micros};
use horarium_core::store::{EndedElsewhere, IMPORT_HOST};
use horarium_model::TenantId;
use serde_json::{Value, json};

/// What `INSERT_IMPORTED` of each database takes, by place: id, config, task id, is_success, started, completed,
/// duration, result, message, traceback, tenant, type, state, host, created.
pub(crate) fn row(id: i64, tenant: TenantId, item: &EndedElsewhere) -> Value {
    json!([
        id,
        item.config_id,
        item.task_id.to_string(),
        item.is_success,
        opt_micros(item.started_at),
        micros(item.completed_at),
        item.duration_seconds,
        item.result,
        item.error_message,
        item.error_traceback,
        tenant,
        item.task_type,
        item.state().as_str(),
        IMPORT_HOST,
        micros(item.created_at()),
    ])
}

//! Parts that several statements of the SQLite store have.

/// A config and its schedule; the caller adds a WHERE on `c`.
macro_rules! config_columns {
    () => {
        "c.id, c.tenant_id, c.key, c.name, c.task_type, c.scheduler_type, json(c.parameters), \
         json(c.schedule_config), c.max_retries, c.timeout_seconds, c.priority, json(c.limits), \
         json(c.retry_policy), c.overlap, json(c.concurrency), json(c.chain), c.plugin_version, c.paused, \
         c.pause_reason, c.pause_after_failures, c.expires_after_seconds, c.version, c.created_at, \
         c.updated_at, c.deleted_at, c.declared_by, s.next_fire_at, s.last_slot, s.anchor_at, s.skip_reason, \
         s.skip_first, s.skip_last, s.skip_count, s.failures_in_a_row"
    };
}

macro_rules! configs {
    ($($rest:literal)*) => {
        concat!("SELECT ", config_columns!(), " FROM task_configs c JOIN task_schedules s ON s.config_id = c.id WHERE c.deleted_at IS NULL", $($rest),*)
    };
}

/// Of [tenant, task_id] those that live or have ended.
macro_rules! known_tasks {
    () => {
        "FROM jsonb_each(?1) j WHERE \
         EXISTS (SELECT 1 FROM live_executions l WHERE l.tenant_id = j.value ->> 0 AND l.task_id = j.value ->> 1) \
         OR EXISTS (SELECT 1 FROM task_executions e WHERE e.tenant_id = j.value ->> 0 AND e.task_id = j.value ->> 1) "
    };
}

/// See `BACKLOG_CAPS`.
macro_rules! backlog_caps {
    ($types:literal) => {
        concat!(
            "j.value ->> 0, j.value ->> 1, y.backlog, t.backlog FROM jsonb_each(",
            $types,
            ") j LEFT JOIN task_types y ON y.tenant_id IN (0, j.value ->> 0) AND y.task_type = j.value ->> 1 \
             LEFT JOIN tenants t ON t.id = j.value ->> 0 WHERE y.backlog IS NOT NULL OR t.backlog IS NOT NULL"
        )
    };
}

/// A live execution as reads show it; `$large` and `$trace` are what a list leaves out.
macro_rules! live_columns {
    ($parameters:literal, $trace:literal) => {
        concat!(
            "SELECT l.id, CASE WHEN c.deleted_at IS NULL THEN c.id END, l.task_id, l.started_at, \
             a.completed_at, a.duration_seconds, NULL AS result, a.error_message, ",
            $trace,
            ", l.tenant_id, l.task_type, l.state, l.trigger, l.slot, NULL AS slot_last, \
             NULL AS slot_count, NULL AS skip_reason, l.priority, l.attempt, l.max_attempts, l.lost, ",
            $parameters,
            ", a.error_kind, json(a.usage), a.plugin_digest, a.host, l.created_at, \
             l.first_started_at, l.due_at, l.expires_at, l.cancel_requested_at, json(l.progress), \
             l.parent_task_id, l.retry_of FROM live_executions l \
             LEFT JOIN task_configs c ON c.id = l.config_id \
             LEFT JOIN task_attempts a ON a.execution_id = l.id AND a.claim = l.claim"
        )
    };
}

/// An ended execution as reads show it, in the same order.
macro_rules! ended_columns {
    ($result:literal, $trace:literal, $parameters:literal) => {
        concat!(
            "SELECT l.id, CASE WHEN c.deleted_at IS NULL THEN c.id END, l.task_id, l.started_at, \
             l.completed_at, l.duration_seconds, ",
            $result,
            ", l.error_message, ",
            $trace,
            ", l.tenant_id, l.task_type, l.state, l.trigger, l.slot, l.slot_last, l.slot_count, \
             l.skip_reason, l.priority, l.attempt, l.max_attempts, l.lost, ",
            $parameters,
            ", l.error_kind, json(l.usage), l.plugin_digest, l.host, l.created_at, \
             l.first_started_at, l.due_at, l.expires_at, l.cancel_requested_at, json(l.progress), \
             l.parent_task_id, l.retry_of FROM task_executions l \
             LEFT JOIN task_configs c ON c.id = l.config_id"
        )
    };
}

/// What waits in one lane, the next first.
macro_rules! lane {
    () => {
        "WHERE l.tenant_id = ?1 AND l.task_type = ?2 AND l.state = 'available' AND l.blocked = 0 \
         AND l.state IN ('scheduled', 'available', 'retryable') \
         AND (l.expires_at IS NULL OR l.expires_at > ?3) AND (l.lost < 3 OR ?4) \
         ORDER BY l.queue_key, l.id LIMIT +?5"
    };
}

/// Tokens with the names of their tenants.
macro_rules! tokens {
    ($rest:literal) => {
        concat!("SELECT t.id, t.tenant_id, n.name, t.name, t.role, json(t.scope), t.hash, t.previous_hash, \
         t.previous_until, t.created_at, t.created_by, t.expires_at, t.last_used_at, t.rotated_at \
         FROM tokens t LEFT JOIN tenants n ON n.id = t.tenant_id ", $rest)
    };
}

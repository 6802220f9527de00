//! What the statements of both databases have in common.

/// Statements by name, and all of them for the tests.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        $($(#[$doc])* pub(super) const $name: &str = $sql;)*
        /// Every fixed statement by name, for the tests.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

/// Columns of a new history row.
macro_rules! history_columns {
    () => {
        "INSERT INTO task_executions (id, config_id, task_id, is_success, started_at, completed_at, \
         duration_seconds, result, error_message, error_traceback, tenant_id, task_type, state, \
         trigger, slot, slot_last, slot_count, skip_reason, priority, attempt, max_attempts, lost, \
         parameters, error_kind, error_code, error_details, usage, plugin_digest, host, created_at, \
         first_started_at, due_at, expires_at, cancel_requested_at, progress, parent_task_id, \
         retry_of, ended_claim) "
    };
}

/// Registered names, each with the breaker of a tenant if that is open.
macro_rules! types {
    ($asking:literal, $rest:literal) => {
        concat!("SELECT y.tenant_id, y.task_type, y.active_digest, y.previous_digest, y.disabled, y.max_running, y.backlog, \
         b.opened_at, b.failures, b.probe_at, b.pause_seconds, b.error_kind, b.error_message, \
         y.created_at, y.updated_at FROM task_types y LEFT JOIN type_breakers b \
         ON b.tenant_id = ", $asking, " AND b.task_type = y.task_type AND b.opened_at IS NOT NULL ", $rest)
    };
}

/// Tenants with what they may use.
macro_rules! tenants {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, weight, max_running, backlog, created_at FROM tenants ",
            $rest
        )
    };
}

/// Adds up what was used. `$rows`, put together, select the columns that are named.
macro_rules! add_usage {
    ($($rows:expr),+) => {
        concat!(
            "INSERT INTO usage_days AS u (tenant_id, day, task_type, incarnation, runs, succeeded, failed, cancelled, \
             fuel, cpu_micros, wall_micros, http_calls, http_request_bytes, http_response_bytes, log_bytes, result_bytes) ",
            $($rows),+,
            " ON CONFLICT (tenant_id, day, task_type, incarnation) DO UPDATE SET \
             runs = u.runs + excluded.runs, succeeded = u.succeeded + excluded.succeeded, \
             failed = u.failed + excluded.failed, cancelled = u.cancelled + excluded.cancelled, \
             fuel = u.fuel + excluded.fuel, cpu_micros = u.cpu_micros + excluded.cpu_micros, \
             wall_micros = u.wall_micros + excluded.wall_micros, http_calls = u.http_calls + excluded.http_calls, \
             http_request_bytes = u.http_request_bytes + excluded.http_request_bytes, \
             http_response_bytes = u.http_response_bytes + excluded.http_response_bytes, \
             log_bytes = u.log_bytes + excluded.log_bytes, result_bytes = u.result_bytes + excluded.result_bytes"
        )
    };
}

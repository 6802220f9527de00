//! Parts that several statements of the PostgreSQL store have.

/// A config and its schedule; the caller adds a WHERE on `c`.
macro_rules! configs {
    ($($rest:literal)*) => {
        concat!("SELECT c.id, c.tenant_id, c.key, c.name, c.task_type, c.scheduler_type, \
         c.parameters::text, c.schedule_config::text, c.max_retries, c.timeout_seconds, c.priority, \
         c.limits::text, c.retry_policy::text, c.overlap, c.concurrency::text, c.chain::text, c.plugin_version, c.paused, \
         c.pause_reason, c.pause_after_failures, c.expires_after_seconds, c.version, c.created_at, \
         c.updated_at, c.deleted_at, c.declared_by, s.next_fire_at, s.last_slot, s.anchor_at, s.skip_reason, \
         s.skip_first, s.skip_last, s.skip_count, s.failures_in_a_row \
         FROM task_configs c JOIN task_schedules s ON s.config_id = c.id WHERE c.deleted_at IS NULL", $($rest),*)
    };
}

/// A live execution as reads show it; `$parameters` and `$trace` are what a list leaves out.
macro_rules! live_columns {
    ($parameters:literal, $trace:literal) => {
        concat!(
            "SELECT l.id, CASE WHEN c.deleted_at IS NULL THEN c.id END, l.task_id, l.started_at, \
             a.completed_at, a.duration_seconds, NULL::text AS result, a.error_message, ",
            $trace,
            ", l.tenant_id, l.task_type, l.state, l.trigger, l.slot, NULL::bigint AS slot_last, \
             NULL::bigint AS slot_count, NULL::text AS skip_reason, l.priority, l.attempt, l.max_attempts, \
             l.lost, ",
            $parameters,
            ", a.error_kind, a.usage::text, a.plugin_digest, a.host, l.created_at, \
             l.first_started_at, l.due_at, l.expires_at, l.cancel_requested_at, l.progress::text, \
             l.parent_task_id, l.retry_of FROM live_executions l \
             LEFT JOIN task_configs c ON c.id = l.config_id \
             LEFT JOIN task_attempts a ON a.tenant_id = l.tenant_id AND a.execution_id = l.id AND a.claim = l.claim"
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
            ", l.error_kind, l.usage::text, l.plugin_digest, l.host, l.created_at, \
             l.first_started_at, l.due_at, l.expires_at, l.cancel_requested_at, l.progress::text, \
             l.parent_task_id, l.retry_of FROM task_executions l \
             LEFT JOIN task_configs c ON c.id = l.config_id"
        )
    };
}

macro_rules! versions {
    ($rest:literal) => {
        concat!("SELECT id, tenant_id, task_type, digest, state, error, size_bytes, descriptor::text, \
         grants::text, limits::text, input::text, activate, grant_asked, warnings::text, created_at FROM plugin_versions ", $rest)
    };
}

/// Tokens with the names of their tenants.
macro_rules! tokens {
    ($rest:literal) => {
        concat!("SELECT t.id, t.tenant_id, n.name, t.name, t.role, t.scope::text, t.hash, t.previous_hash, \
         t.previous_until, t.created_at, t.created_by, t.expires_at, t.last_used_at, t.rotated_at \
         FROM tokens t LEFT JOIN tenants n ON n.id = t.tenant_id ", $rest)
    };
}

/// Whether the task id of `u` lives or has ended. `+ 0` keeps the tenant out of the choice of an index: before the first
/// `ANALYZE` the one by age looked as good as the one by task id, and read all that the tenant's last days hold for each id.
/// (`none_ended` too.)
macro_rules! known_task {
    ($from:literal, $until:literal) => {
        concat!("((SELECT 1 FROM live_executions l WHERE l.tenant_id = u.tenant_id AND l.task_id = u.task_id) IS NOT NULL \
            OR (SELECT 1 FROM task_executions e WHERE e.task_id = u.task_id AND e.tenant_id + 0 = u.tenant_id \
                AND e.completed_at >= ", $from, " AND e.completed_at <= ", $until, " LIMIT 1) IS NOT NULL)")
    };
}

/// New live executions, as they come: `$21` is the instant they were made, an id that is NULL is drawn.
macro_rules! fresh {
    () => {
        "SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], \
         $5::text[], $6::text[], $7::text[], $8::bigint[], $9::integer[], $10::bigint[], $11::bigint[], \
         $12::text[], $13::bigint[], $14::bigint[], $15::bigint[], $16::text[], $17::text[], $18::text[], \
         $19::text[], $20::integer[], $22::text[], $23::bigint[], $24::bigint[], $25::text[]) WITH ORDINALITY \
         f(id, tenant_id, task_id, config_id, task_type, state, trigger, slot, priority, queue_key, \
         max_attempts, run_key, run_max, due_at, expires_at, parent_task_id, retry_of, parameters, chain, \
         chain_depth, rate_key, rate_count, rate_seconds, trace, place)"
    };
}

/// Inserts them. Keys are noted, so that claims find what to lock.
macro_rules! insert_fresh {
    ($of:literal) => {
        concat!("keyed AS (INSERT INTO run_keys (tenant_id, run_key) \
            SELECT DISTINCT tenant_id, run_key COLLATE \"C\" FROM ", $of, " WHERE run_key IS NOT NULL ORDER BY 1, 2 \
            ON CONFLICT DO NOTHING), \
        inserted AS (INSERT INTO live_executions (id, tenant_id, task_id, config_id, task_type, state, trigger, slot, \
        priority, queue_key, max_attempts, run_key, run_max, due_at, expires_at, parent_task_id, retry_of, \
        parameters, chain, chain_depth, created_at, rate_key, rate_count, rate_seconds, trace) \
        SELECT coalesce(id, nextval('execution_ids')), tenant_id, task_id, config_id, task_type, state, trigger, slot, \
        priority, queue_key, max_attempts, run_key, run_max, due_at, expires_at, parent_task_id, retry_of, \
        parameters::jsonb, chain::jsonb, chain_depth, $21, rate_key, rate_count, rate_seconds, trace \
        FROM (SELECT * FROM ", $of, " ORDER BY place) o ON CONFLICT (tenant_id, task_id) DO NOTHING \
        RETURNING id, tenant_id, task_id), \
        placed AS MATERIALIZED (SELECT array_agg(id ORDER BY id) AS ids, array_agg(tenant_id ORDER BY id) AS tenants, \
            array_agg(task_id ORDER BY id) AS tasks FROM inserted)")
    };
}

/// What a claim reads of an execution `l` whose config is `c`, as it was before.
macro_rules! candidate {
    () => {
        "l.id, l.queue_key, l.run_key, l.run_max, l.rate_key, l.rate_count, l.rate_seconds, \
         l.lost, l.expires_at, l.tenant_id, l.task_id, \
         l.claim, l.attempt, c.id, c.version, l.task_type, l.trigger, l.slot, l.due_at, l.max_attempts, \
         coalesce(l.parameters, (SELECT p.parameters FROM live_parameters p WHERE p.execution_id = l.id))::text, \
         l.parent_task_id, l.retry_of, l.chain IS NOT NULL, l.trace"
    };
}

/// Starts executions under an incarnation, now.
macro_rules! start {
    ($which:literal, $incarnation:literal, $now:literal) => {
        concat!("UPDATE live_executions SET state = 'running', claim = claim + 1, attempt = attempt + 1, \
            incarnation = ", $incarnation, ", started_at = ", $now, ", first_started_at = coalesce(first_started_at, ", $now, ") \
            WHERE ", $which)
    };
}

/// What is recorded of ends, a column each, and more of them.
macro_rules! ended {
    ($more:literal, $names:literal) => {
        concat!(
            "SELECT * FROM unnest((SELECT $1::bigint[]), $2::text[], $3::boolean[], $4::bigint[], $5::bigint[], \
             $6::double precision[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], \
             $13::text[], $14::text[], $15::text[], $16::text[], $17::bigint[]",
            $more,
            ") e(id, state, is_success, started_at, completed_at, duration_seconds, result, error_kind, \
             error_message, error_traceback, error_code, error_details, usage, plugin_digest, host, progress, \
             ended_claim",
            $names,
            ")"
        )
    };
}

/// Writes rows that are gone from what lives (`gone`) into the history, as they `ended`.
macro_rules! history_of_gone {
    () => {
        concat!(
            history_columns!(),
            "SELECT g.id, g.config_id, g.task_id, e.is_success, e.started_at, e.completed_at, \
         e.duration_seconds, nullif(e.result::jsonb, 'null'), e.error_message, e.error_traceback, g.tenant_id, \
         g.task_type, e.state, g.trigger, g.slot, NULL, NULL, NULL, g.priority, g.attempt, g.max_attempts, \
         g.lost, coalesce(g.parameters, (SELECT p.parameters FROM live_parameters p WHERE p.execution_id = g.id)), \
         e.error_kind, e.error_code, nullif(e.error_details::jsonb, 'null'), e.usage::jsonb, e.plugin_digest, \
         e.host, g.created_at, \
         CASE WHEN g.first_started_at IS NOT DISTINCT FROM g.started_at THEN e.started_at ELSE g.first_started_at END, \
         g.due_at, g.expires_at, g.cancel_requested_at, coalesce(e.progress::jsonb, g.progress), \
         g.parent_task_id, g.retry_of, e.ended_claim FROM gone g JOIN ended e ON e.id = g.id"
        )
    };
}

macro_rules! insert_logs {
    ($tenants:literal, $ids:literal, $claims:literal, $lines:literal) => {
        concat!(
            "INSERT INTO execution_logs (tenant_id, execution_id, claim, lines) \
             SELECT tenant_id, id, claim, lines::jsonb FROM unnest(",
            $tenants,
            "::bigint[], ",
            $ids,
            "::bigint[], ",
            $claims,
            "::bigint[], ",
            $lines,
            "::text[]) u(tenant_id, id, claim, lines)"
        )
    };
}

/// Adds up what was used, of rows in JSON.
macro_rules! add_used {
    ($rows:literal) => {
        add_usage!(
            "SELECT (j ->> 0)::bigint, (j ->> 1)::bigint, j ->> 2, (j ->> 3)::bigint, (j ->> 4)::bigint, (j ->> 5)::bigint, \
             (j ->> 6)::bigint, (j ->> 7)::bigint, (j ->> 8)::bigint, (j ->> 9)::bigint, (j ->> 10)::bigint, (j ->> 11)::bigint, \
             (j ->> 12)::bigint, (j ->> 13)::bigint, (j ->> 14)::bigint, (j ->> 15)::bigint FROM jsonb_array_elements(",
            $rows,
            "::jsonb) WITH ORDINALITY a(j, n) ORDER BY n"
        )
    };
}

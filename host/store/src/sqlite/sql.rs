//! Every statement of the SQLite store. Batches come as one JSON array of arrays (`?1`), read by
//! `jsonb_each`; `value ->> n` is the n-th field of a row. A test prepares each statement against a
//! migrated database, another holds the hot ones to their indexes.
//!
//! A bound limit is written `LIMIT +?n`: SQLite looks at the value of a plain `LIMIT ?n` to plan by it, and so prepares
//! the statement anew whenever that is bound (`sqlite3ExprIsInteger` and `Vdbe.expmask` in its source), which took longer
//! than the statement.

statements! {
    // ---- the database
    COUNT_CONFIGS = "SELECT count(*) FROM task_configs WHERE deleted_at IS NULL";
    COUNT_LIVE = "SELECT count(*) FROM live_executions";
    COUNT_ENDED = "SELECT count(*) FROM task_executions";
    LAST_EXECUTION = "SELECT max((SELECT value FROM meta WHERE key = 'last_execution_id'), \
        coalesce((SELECT max(id) FROM live_executions), 0), \
        coalesce((SELECT max(id) FROM task_executions), 0))";
    KEEP_LAST_EXECUTION = "UPDATE meta SET value = max(value, ?1) WHERE key = 'last_execution_id'";
    BUMP_EPOCH = "UPDATE meta SET value = value + 1 WHERE key = 'catalog_epoch'";
    EPOCH = "SELECT value FROM meta WHERE key = 'catalog_epoch'";
    TENANT = "SELECT id FROM tenants WHERE deleted_at IS NULL AND name = ?1";

    // ---- hosts
    START_HOST = "INSERT INTO hosts (name, started_at, seen_at) VALUES (?1, ?2, ?2) RETURNING incarnation";
    STOP_HOST = "UPDATE hosts SET stopped_at = ?2 WHERE incarnation = ?1 AND stopped_at IS NULL";
    DESCRIBE_HOST = "UPDATE hosts SET facts = jsonb(?2) WHERE incarnation = ?1";
    HOSTS = "SELECT incarnation, name, started_at, seen_at, json(facts) FROM hosts \
        WHERE stopped_at IS NULL ORDER BY incarnation";
    HOST_RUNS = "SELECT l.id, l.incarnation, l.task_id, l.tenant_id, c.id, l.task_type, l.attempt, l.started_at \
        FROM live_executions l LEFT JOIN task_configs c ON c.id = l.config_id AND c.deleted_at IS NULL \
        WHERE l.state = 'running' ORDER BY l.id";
    SEE_HOST = "UPDATE hosts SET seen_at = ?2 WHERE incarnation = ?1 AND stopped_at IS NULL";
    BURY_OTHERS = "UPDATE hosts SET stopped_at = ?2 WHERE incarnation <> ?1 AND stopped_at IS NULL";
    ALIVE = "SELECT incarnation FROM hosts WHERE stopped_at IS NULL";
    /// What is blocked too: the next claim may find its key free.
    WAITS = "SELECT EXISTS (SELECT 1 FROM live_executions WHERE state = 'available' AND blocked = 0) \
            OR EXISTS (SELECT 1 FROM live_executions WHERE state = 'available' AND blocked = 1), \
        (SELECT count(*) FROM live_executions WHERE incarnation = ?1 AND state = 'running'), \
        EXISTS (SELECT 1 FROM alerts WHERE due_at IS NOT NULL AND due_at <= ?2)";
    CANCELS_OF = "SELECT task_id FROM live_executions \
        WHERE incarnation = ?1 AND cancel_requested_at IS NOT NULL AND state = 'running' ORDER BY id";

    // ---- due
    DUE_SCHEDULES = "SELECT c.id, c.version, s.next_fire_at, s.last_slot, s.anchor_at, s.skip_reason, \
        s.skip_first, s.skip_last, s.skip_count, s.failures_in_a_row \
        FROM task_schedules s JOIN task_configs c ON c.id = s.config_id \
        WHERE s.next_fire_at IS NOT NULL AND s.next_fire_at <= ?1 AND c.paused = 0 AND c.deleted_at IS NULL \
        ORDER BY s.next_fire_at, s.config_id LIMIT +?2";
    /// Asked once a start and once a day: reads every schedule.
    OTHER_ZONE_DATA = "SELECT c.id, c.version, s.next_fire_at, s.last_slot, s.anchor_at, s.skip_reason, \
        s.skip_first, s.skip_last, s.skip_count, s.failures_in_a_row \
        FROM task_schedules s JOIN task_configs c ON c.id = s.config_id \
        WHERE s.config_id > ?2 AND s.zone_data <> ?1 AND s.next_fire_at IS NOT NULL AND c.paused = 0 \
        AND c.deleted_at IS NULL ORDER BY s.config_id LIMIT +?3";
    // Paused and deleted configs have no next_fire_at.
    NEXT_DUE = "SELECT min(at) FROM ( \
        SELECT min(next_fire_at) AS at FROM task_schedules WHERE next_fire_at IS NOT NULL \
        UNION ALL SELECT min(due_at) FROM live_executions WHERE state IN ('scheduled', 'retryable') \
        UNION ALL SELECT min(expires_at) FROM live_executions \
            WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'available', 'retryable') \
        UNION ALL SELECT min(ready_at) FROM rates WHERE ready_at IS NOT NULL)";
    SWEEP_AVAILABLE = "UPDATE live_executions SET state = 'available', blocked = 0 WHERE id IN ( \
        SELECT id FROM live_executions WHERE state IN ('scheduled', 'retryable') AND due_at <= ?1 \
        ORDER BY due_at, id LIMIT +?2)";
    EXPIRED = "SELECT id FROM live_executions \
        WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'available', 'retryable') \
        AND expires_at <= ?1 ORDER BY expires_at, id LIMIT +?2";
    /// `?3` as far as those before it are counted.
    WAITS_BEHIND = "SELECT (SELECT count(*) FROM (SELECT 1 FROM live_executions q WHERE q.state = 'available' \
            AND q.blocked = 0 AND (q.queue_key, q.id) < (l.queue_key, l.id) LIMIT +?3) b), \
        l.run_key IS NOT NULL, (SELECT count(*) FROM live_executions r WHERE r.tenant_id = l.tenant_id \
            AND r.run_key = l.run_key AND r.run_key IS NOT NULL AND r.state = 'running'), l.run_max, \
        (SELECT count(*) FROM live_executions r WHERE r.tenant_id = l.tenant_id AND r.task_type = l.task_type \
            AND r.state = 'running'), y.max_running, \
        (SELECT count(*) FROM live_executions r WHERE r.tenant_id = l.tenant_id AND r.state = 'running'), t.max_running, \
        (SELECT k.full_at FROM rates k WHERE k.tenant_id = l.tenant_id AND k.rate_key = l.rate_key), l.rate_count, l.rate_seconds \
        FROM live_executions l LEFT JOIN tenants t ON t.id = l.tenant_id \
        LEFT JOIN task_types y ON y.tenant_id IN (0, l.tenant_id) AND y.task_type = l.task_type WHERE l.tenant_id = ?1 AND l.task_id = ?2 \
        AND l.state IN ('scheduled', 'available', 'retryable')";
    QUEUE_COUNTS = "SELECT \
        (SELECT count(*) FROM live_executions WHERE state = 'scheduled'), \
        (SELECT count(*) FROM live_executions WHERE state = 'available'), \
        (SELECT count(*) FROM live_executions WHERE state = 'running'), \
        (SELECT count(*) FROM live_executions WHERE state = 'retryable')";
    // [tenant, type]
    WAITING_HEADS = "SELECT l.tenant_id, l.task_type, l.task_id, l.due_at FROM jsonb_each(?1) j \
        CROSS JOIN live_executions l ON l.id = (SELECT w.id FROM live_executions w \
            WHERE w.tenant_id = j.value ->> 0 AND w.task_type = j.value ->> 1 AND w.state = 'available' \
            AND w.blocked = 0 AND w.state IN ('scheduled', 'available', 'retryable') \
            ORDER BY w.queue_key, w.id LIMIT 1)";

    // ---- enqueue
    /// [tenant, task_id]: the places of those that live or have ended.
    KNOWN_TASKS = concat!("SELECT j.key ", known_tasks!());
    /// What judges executions that come, in one answer: `?1` as above, and the place; `?2` [config], and of those
    /// that are there id, tenant and version; `?3` as in `BACKLOG_CAPS`.
    FACTS = concat!("SELECT 0, j.key, NULL, NULL, NULL ", known_tasks!(),
        "UNION ALL SELECT 1, c.id, c.tenant_id, c.version, NULL FROM jsonb_each(?2) j CROSS JOIN task_configs c \
            ON c.id = j.value WHERE c.deleted_at IS NULL \
        UNION ALL SELECT 2, ", backlog_caps!("?3"));
    LIVE_COUNTS = "SELECT l.config_id, l.state = 'running', count(*) FROM jsonb_each(?1) j \
        CROSS JOIN live_executions l ON l.config_id = j.value GROUP BY 1, 2";
    /// id, tenant, task_id, config, type, state, trigger, slot, priority, queue_key, max_attempts,
    /// run_key, run_max, due, expires, parent, retry_of, rate key, count, seconds, parameters or null,
    /// chain or null, depth, trace, created
    /// Bound row by row.
    INSERT_LIVE = "INSERT INTO live_executions (id, tenant_id, task_id, config_id, task_type, state, \
        trigger, slot, priority, queue_key, max_attempts, run_key, run_max, due_at, expires_at, \
        parent_task_id, retry_of, rate_key, rate_count, rate_seconds, parameters, chain, chain_depth, trace, created_at) \
        SELECT * FROM (VALUES {(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
        jsonb(?), jsonb(?), ?, ?, ?)}) WHERE column1 IS NOT NULL";
    /// id, parameters
    INSERT_PARAMETERS = "INSERT INTO live_parameters (execution_id, parameters) \
        SELECT value ->> 0, jsonb_extract(value, '$[1]') FROM jsonb_each(?1)";

    /// [tenant, type]: what may wait of those that are capped, by type and by tenant
    BACKLOG_CAPS = concat!("SELECT ", backlog_caps!("?1"));
    /// `?2` type, or none for all of the tenant; `?3` no more than these are counted
    WAITING = "SELECT count(*) FROM (SELECT 1 FROM live_executions l WHERE l.tenant_id = ?1 \
        AND (?2 IS NULL OR l.task_type = ?2) AND l.state IN ('scheduled', 'available', 'retryable') LIMIT +?3)";

    // ---- answers; the last argument: not at or before
    ANSWER = "SELECT request_hash, status, body FROM request_answers \
        WHERE tenant_id = ?1 AND request_key = ?2 AND created_at > ?3";
    KEEP_ANSWER = "INSERT INTO request_answers (tenant_id, request_key, request_hash, status, body, created_at) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tenant_id, request_key) DO UPDATE SET \
        request_hash = excluded.request_hash, status = excluded.status, body = excluded.body, \
        created_at = excluded.created_at";
    PURGE_ANSWERS = "DELETE FROM request_answers WHERE (tenant_id, request_key) IN ( \
        SELECT tenant_id, request_key FROM request_answers WHERE created_at <= ?1 \
        ORDER BY created_at LIMIT +?2)";

    // ---- fire
    /// Packed; `?1` ids
    SCHEDULES = "SELECT group_concat(json_array(c.id, c.tenant_id, c.version, c.paused, s.next_fire_at, s.last_slot, \
        s.anchor_at, s.skip_reason, s.skip_first, s.skip_last, s.skip_count, s.failures_in_a_row, \
        c.task_type, c.priority, c.max_retries + 1), '') \
        FROM jsonb_each(?1) j CROSS JOIN task_configs c ON c.id = j.value \
        JOIN task_schedules s ON s.config_id = c.id WHERE c.deleted_at IS NULL";
    /// Bound row by row: config, next_fire, last_slot, zone data. Of those that had no open skips and have none.
    ADVANCE_SCHEDULES = "UPDATE task_schedules SET next_fire_at = j.column2, last_slot = j.column3, zone_data = j.column4 \
        FROM (VALUES {(?, ?, ?, ?)}) j WHERE config_id = j.column1";
    /// The same, and skip reason, first, last, count.
    ADVANCE_SKIPPING = "UPDATE task_schedules SET next_fire_at = j.column2, last_slot = j.column3, \
        zone_data = j.column4, skip_reason = j.column5, skip_first = j.column6, skip_last = j.column7, \
        skip_count = j.column8 FROM (VALUES {(?, ?, ?, ?, ?, ?, ?, ?)}) j WHERE config_id = j.column1";
    /// id, config, task_id, tenant, type, trigger, first, last, count, reason, priority, max_attempts;
    /// `?2` = now.
    INSERT_SKIPPED = "INSERT INTO task_executions (id, config_id, task_id, tenant_id, task_type, state, \
        trigger, slot, slot_last, slot_count, skip_reason, priority, attempt, max_attempts, lost, \
        created_at, completed_at) \
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, 'skipped', \
        value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, 0, \
        value ->> 11, 0, ?2, ?2 FROM jsonb_each(?1)";
    /// id, config, task_id, tenant, type, trigger, reason, priority, max_attempts, parent; `?2` = now.
    INSERT_SKIPPED_LINKS = "INSERT INTO task_executions (id, config_id, task_id, tenant_id, task_type, state, \
        trigger, skip_reason, priority, attempt, max_attempts, lost, parent_task_id, created_at, completed_at) \
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, 'skipped', \
        value ->> 5, value ->> 6, value ->> 7, 0, value ->> 8, 0, value ->> 9, ?2, ?2 FROM jsonb_each(?1)";
    WAITING_OF_CONFIG = "SELECT id FROM live_executions \
        WHERE config_id = ?1 AND state IN ('scheduled', 'available', 'retryable') ORDER BY id";
    RUNNING_OF_CONFIG = "SELECT count(*) FROM live_executions WHERE config_id = ?1 AND state = 'running'";
    FLAG_RUNNING = "UPDATE live_executions SET cancel_requested_at = ?2 \
        WHERE config_id = ?1 AND state = 'running' AND cancel_requested_at IS NULL RETURNING id, task_id";

    // ---- claim
    /// `?1` types as [tenant, type], whose places are answered with what bounds them
    LANE_BOUNDS = "SELECT j.key, coalesce(t.weight, 1), t.max_running, y.max_running, b.probe_at, \
        EXISTS (SELECT 1 FROM live_executions l WHERE l.id = b.probe_id AND l.state = 'running'), \
        coalesce(t.claim_quotas, 0) \
        FROM jsonb_each(?1) j LEFT JOIN tenants t ON t.id = j.value ->> 0 \
        LEFT JOIN task_types y ON y.tenant_id IN (0, j.value ->> 0) AND y.task_type = j.value ->> 1 \
        LEFT JOIN type_breakers b ON b.tenant_id = j.value ->> 0 AND b.task_type = j.value ->> 1 \
            AND b.opened_at IS NOT NULL \
        WHERE t.weight <> 1 OR t.max_running IS NOT NULL OR t.claim_quotas OR y.max_running IS NOT NULL OR b.opened_at IS NOT NULL";
    /// `?1` tenants, `?2` day: their quotas, and what is used up and reserved
    QUOTAS_SPENT = "SELECT t.id, json(coalesce(t.quotas, '{}')), t.minute, t.minute_starts, \
        (SELECT coalesce(sum(d.fuel), 0) FROM usage_days d WHERE d.tenant_id = t.id AND d.day = ?2), \
        (SELECT coalesce(sum(d.log_bytes), 0) FROM usage_days d WHERE d.tenant_id = t.id AND d.day = ?2), \
        (SELECT coalesce(sum(l.fuel_reserved), 0) FROM live_executions l WHERE l.tenant_id = t.id AND l.state = 'running'), \
        (SELECT coalesce(sum(l.memory_reserved), 0) FROM live_executions l WHERE l.tenant_id = t.id AND l.state = 'running'), \
        (SELECT coalesce(sum(l.log_reserved), 0) FROM live_executions l WHERE l.tenant_id = t.id AND l.state = 'running') \
        FROM json_each(?1) j CROSS JOIN tenants t ON t.id = j.value WHERE t.deleted_at IS NULL";
    /// What runs of `?1` ask for: the limits of their plugins and their configs.
    ASKS = "SELECT l.id, json(v.limits), json(c.limits) FROM json_each(?1) j CROSS JOIN live_executions l ON l.id = j.value \
        LEFT JOIN task_configs c ON c.id = l.config_id \
        LEFT JOIN task_types y ON y.tenant_id IN (0, l.tenant_id) AND y.task_type = l.task_type \
        LEFT JOIN plugin_versions v ON v.tenant_id = y.tenant_id AND v.task_type = y.task_type \
            AND v.digest = coalesce(c.plugin_version, y.active_digest)";
    /// id, fuel, memory, log
    RESERVE = "UPDATE live_executions SET fuel_reserved = j.value ->> 1, memory_reserved = j.value ->> 2, \
        log_reserved = j.value ->> 3 FROM jsonb_each(?1) j WHERE live_executions.id = j.value ->> 0 AND state = 'running'";
    /// `?2` minute, `?3` how many started
    COUNT_STARTS = "UPDATE tenants SET minute_starts = CASE WHEN minute = ?2 THEN minute_starts ELSE 0 END + ?3, minute = ?2 \
        WHERE id = ?1";
    RUNNING_OF_TYPES = "SELECT tenant_id, task_type, count(*) FROM live_executions \
        WHERE state = 'running' GROUP BY 1, 2";
    /// Of the lanes of `?1`, [place, tenant, type], those in which something waits.
    LANES_WAITING = "SELECT j.value ->> 0 FROM jsonb_each(?1) j WHERE EXISTS ( \
        SELECT 1 FROM live_executions l WHERE l.tenant_id = j.value ->> 1 AND l.task_type = j.value ->> 2 \
        AND l.state = 'available' AND l.blocked = 0 AND l.state IN ('scheduled', 'available', 'retryable'))";
    /// The lanes in which something waits, found one after the other however much waits in each.
    // SQLite compares pairs by an index of their first half only: the next type is looked for, then the next tenant.
    BUSY_LANES = "WITH RECURSIVE busy(id) AS ( \
        SELECT (SELECT l.id FROM live_executions l INDEXED BY live_executions_claim \
            WHERE l.state IN ('scheduled', 'available', 'retryable') ORDER BY l.tenant_id, l.task_type, l.state LIMIT 1) \
        UNION ALL SELECT coalesce( \
            (SELECT l.id FROM live_executions l INDEXED BY live_executions_claim \
            WHERE l.tenant_id = p.tenant_id AND l.task_type > p.task_type \
            AND l.state IN ('scheduled', 'available', 'retryable') ORDER BY l.task_type, l.state LIMIT 1), \
            (SELECT l.id FROM live_executions l INDEXED BY live_executions_claim WHERE l.tenant_id > p.tenant_id \
            AND l.state IN ('scheduled', 'available', 'retryable') ORDER BY l.tenant_id, l.task_type, l.state LIMIT 1)) \
        FROM busy b CROSS JOIN live_executions p ON p.id = b.id) \
        SELECT p.tenant_id, p.task_type FROM busy b CROSS JOIN live_executions p ON p.id = b.id WHERE p.state = 'available'";
    // Of one lane: `?1` tenant, `?2` type, `?3` now, `?4` whether suspects may run, `?5` limit
    LANE_HEADS = concat!("SELECT l.queue_key, l.id FROM live_executions l INDEXED BY live_executions_claim ",
        lane!());
    /// Packed; parameters that stand aside are null.
    CANDIDATES = concat!("SELECT group_concat(r, '') FROM (SELECT json_array( \
        l.id, l.queue_key, l.run_key, l.run_max, l.rate_key, l.rate_count, l.rate_seconds, \
        l.lost, l.expires_at, l.tenant_id, l.task_id, \
        l.claim, l.attempt, c.id, c.version, l.task_type, l.trigger, l.slot, l.due_at, l.max_attempts, \
        json(l.parameters) || '', l.parent_task_id, l.retry_of, l.chain IS NOT NULL, l.trace) AS r \
        FROM live_executions l INDEXED BY live_executions_claim \
        LEFT JOIN task_configs c ON c.id = l.config_id AND c.deleted_at IS NULL ", lane!(), ")");
    PARAMETERS_ASIDE = "SELECT p.execution_id, json(p.parameters) FROM json_each(?1) j \
        CROSS JOIN live_parameters p ON p.execution_id = j.value";
    /// [tenant, run_key]
    RUNNING_OF_KEYS = "SELECT l.tenant_id, l.run_key, count(*) FROM jsonb_each(?1) j \
        CROSS JOIN live_executions l ON l.tenant_id = j.value ->> 0 AND l.run_key = j.value ->> 1 \
        AND l.run_key IS NOT NULL AND l.state = 'running' GROUP BY 1, 2";
    SUSPECT_RUNS = "SELECT EXISTS (SELECT 1 FROM live_executions WHERE state = 'running' AND lost >= 3)";
    /// `?1` ids, `?2` incarnation, `?3` now
    START = "UPDATE live_executions SET state = 'running', claim = claim + 1, attempt = attempt + 1, \
        incarnation = ?2, started_at = ?3, first_started_at = coalesce(first_started_at, ?3) \
        WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'available'";
    // Suspects are few and wait for one another too: they are always looked at.
    BLOCK = "UPDATE live_executions SET blocked = 1 \
        WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'available' AND lost < 3";
    THROTTLE = "UPDATE live_executions SET blocked = 2 \
        WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'available'";
    /// [tenant, run_key]; `?2` how many of each key to look at again, `?3` types as [tenant, type], `?4` now.
    UNBLOCK = "UPDATE live_executions SET blocked = 0 WHERE id IN ( \
        SELECT b.id FROM jsonb_each(?1) j CROSS JOIN live_executions b ON b.id IN ( \
            SELECT id FROM live_executions w WHERE w.blocked = 1 AND w.tenant_id = j.value ->> 0 \
            AND w.run_key = j.value ->> 1 AND (w.expires_at IS NULL OR w.expires_at > ?4) \
            AND (w.tenant_id, w.task_type) IN (SELECT t.value ->> 0, t.value ->> 1 FROM jsonb_each(?3) t) \
            ORDER BY w.queue_key, w.id LIMIT +?2)) RETURNING tenant_id, run_key";
    /// [tenant, rate_key]
    RATES = "SELECT r.tenant_id, r.rate_key, r.full_at FROM jsonb_each(?1) j \
        CROSS JOIN rates r ON r.tenant_id = j.value ->> 0 AND r.rate_key = j.value ->> 1";
    /// tenant, rate_key, full_at, count, seconds, ready_at
    SET_RATES = "INSERT INTO rates (tenant_id, rate_key, full_at, rate_count, rate_seconds, ready_at) \
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM jsonb_each(?1) WHERE true \
        ON CONFLICT (tenant_id, rate_key) DO UPDATE SET full_at = excluded.full_at, \
        rate_count = excluded.rate_count, rate_seconds = excluded.rate_seconds, ready_at = excluded.ready_at";
    RATES_READY = "SELECT tenant_id, rate_key, full_at, rate_count, rate_seconds FROM rates \
        WHERE ready_at IS NOT NULL AND ready_at <= ?1 ORDER BY ready_at LIMIT +?2";
    RATE_READY_AT = "UPDATE rates SET ready_at = ?3 WHERE tenant_id = ?1 AND rate_key = ?2";
    /// Of one rate as many as it has tokens for.
    UNTHROTTLE = "UPDATE live_executions SET blocked = 0 WHERE id IN ( \
        SELECT id FROM live_executions WHERE blocked = 2 AND tenant_id = ?1 AND rate_key = ?2 \
        AND (expires_at IS NULL OR expires_at > ?4) ORDER BY queue_key, id LIMIT +?3)";
    /// Of those that wait for a run key.
    UNBLOCK_KEY = "UPDATE live_executions SET blocked = 0 WHERE id IN ( \
        SELECT id FROM live_executions WHERE blocked = 1 AND tenant_id = ?1 AND run_key = ?2 \
        AND (expires_at IS NULL OR expires_at > ?4) ORDER BY queue_key, id LIMIT +?3)";
    PROBE = "UPDATE type_breakers SET probe_id = ?3 WHERE tenant_id = ?1 AND task_type = ?2";
    /// A full bucket is as good as none.
    TIDY_RATES = "DELETE FROM rates WHERE ready_at IS NULL AND full_at < ?1";
    UNBLOCK_ALL = "UPDATE live_executions SET blocked = 0 WHERE blocked = 1";

    // ---- the end of attempts
    /// Packed; `?1` ids
    RUNNING = "SELECT group_concat(json_array(l.id, l.task_id, l.claim, l.incarnation, l.tenant_id, l.config_id, \
        l.cancel_requested_at IS NOT NULL, \
        l.config_id IS NOT NULL AND (c.id IS NULL OR c.deleted_at IS NOT NULL), \
        coalesce(c.delete_history, 0), l.parameters IS NULL, l.run_key, \
        coalesce(s.failures_in_a_row, 0), coalesce(c.paused, 0), coalesce(s.state_version, 0), l.task_type, \
        EXISTS (SELECT 1 FROM type_breakers b WHERE b.tenant_id = l.tenant_id AND b.task_type = l.task_type), \
        l.chain IS NOT NULL, l.chain_depth), '') \
        FROM json_each(?1) j CROSS JOIN live_executions l ON l.id = j.value \
        LEFT JOIN task_configs c ON c.id = l.config_id \
        LEFT JOIN task_schedules s ON s.config_id = l.config_id \
        WHERE l.state = 'running'";
    CHAINS = "SELECT l.id, json(l.chain) FROM json_each(?1) j CROSS JOIN live_executions l ON l.id = j.value \
        WHERE l.chain IS NOT NULL";
    /// id, state, is_success, started, completed, duration, result, kind, message, trace, code, details,
    /// usage, digest, host, progress, ended_claim
    RECORD = concat!(history_columns!(),
        "SELECT l.id, l.config_id, l.task_id, j.column3, j.column4, j.column5, j.column6, \
         jsonb(nullif(j.column7, 'null')), j.column9, j.column10, l.tenant_id, l.task_type, \
         j.column2, l.trigger, l.slot, NULL, NULL, NULL, l.priority, l.attempt, l.max_attempts, \
         l.lost, coalesce(l.parameters, (SELECT p.parameters FROM live_parameters p WHERE p.execution_id = l.id)), \
         j.column8, j.column11, jsonb(nullif(j.column12, 'null')), \
         jsonb(j.column13), j.column14, j.column15, l.created_at, \
         CASE WHEN l.first_started_at IS l.started_at THEN j.column4 ELSE l.first_started_at END, \
         l.due_at, l.expires_at, l.cancel_requested_at, \
         coalesce(jsonb(nullif(j.column16, 'null')), l.progress), l.parent_task_id, l.retry_of, j.column17 \
         FROM (VALUES {(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)}) j \
         CROSS JOIN live_executions l ON l.id = j.column1 AND l.state = 'running'");
    /// See `import::row`.
    INSERT_IMPORTED = concat!(history_columns!(),
        "SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
         jsonb(nullif(value -> 7, 'null')), value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, \
         'api', NULL, NULL, NULL, NULL, 0, 1, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL, value ->> 13, \
         value ->> 14, value ->> 4, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM jsonb_each(?1)");
    DELETE_LIVE = "DELETE FROM live_executions WHERE id IN (SELECT value FROM json_each(?1))";
    DELETE_PARAMETERS = "DELETE FROM live_parameters WHERE execution_id IN (SELECT value FROM json_each(?1))";
    DELETE_ATTEMPTS = "DELETE FROM task_attempts WHERE execution_id IN (SELECT value FROM json_each(?1))";
    DELETE_LOGS = "DELETE FROM execution_logs WHERE execution_id IN (SELECT value FROM json_each(?1))";
    DELETE_HTTP = "DELETE FROM execution_http WHERE execution_id IN (SELECT value FROM json_each(?1))";
    /// See `columns::AttemptRow`.
    INSERT_ATTEMPTS = "INSERT INTO task_attempts (execution_id, claim, attempt, outcome, started_at, \
        completed_at, duration_seconds, error_kind, error_message, error_traceback, error_code, \
        error_details, usage, plugin_digest, host) \
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, \
        value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, \
        jsonb(nullif(value -> 11, 'null')), jsonb_extract(value, '$[12]'), value ->> 13, value ->> 14 \
        FROM jsonb_each(?1)";
    /// id, claim, lines
    INSERT_LOGS = "INSERT INTO execution_logs (execution_id, claim, lines) \
        SELECT value ->> 0, value ->> 1, jsonb_extract(value, '$[2]') FROM jsonb_each(?1)";
    /// id, claim, calls
    INSERT_HTTP = "INSERT INTO execution_http (execution_id, claim, calls) \
        SELECT value ->> 0, value ->> 1, jsonb_extract(value, '$[2]') FROM jsonb_each(?1)";
    /// id, due, started, progress
    RETRY = "UPDATE live_executions SET state = 'retryable', incarnation = NULL, due_at = j.value ->> 1, \
        queue_key = (j.value ->> 1) - priority * 60000000, \
        first_started_at = CASE WHEN first_started_at IS started_at THEN j.value ->> 2 ELSE first_started_at END, \
        started_at = j.value ->> 2, progress = coalesce(jsonb_extract(j.value, '$[3]'), progress) \
        FROM jsonb_each(?1) j WHERE live_executions.id = j.value ->> 0 AND state = 'running'";
    /// id, state, due or null, started or null
    GIVE_BACK = "UPDATE live_executions SET state = j.value ->> 1, attempt = max(attempt - 1, 0), \
        due_at = coalesce(j.value ->> 2, due_at), \
        queue_key = coalesce(j.value ->> 2, due_at) - priority * 60000000, \
        first_started_at = CASE WHEN first_started_at IS started_at THEN j.value ->> 3 ELSE first_started_at END, \
        started_at = j.value ->> 3, incarnation = CASE WHEN j.value ->> 1 = 'running' THEN incarnation END, \
        blocked = 0, lost = lost + ?2 \
        FROM jsonb_each(?1) j WHERE live_executions.id = j.value ->> 0 AND state = 'running'";
    /// `?1` ids, `?2` now, `?3` state, `?4` kind, `?5` message
    END_BARE = concat!(history_columns!(),
        "SELECT l.id, l.config_id, l.task_id, 0, l.started_at, ?2, NULL, NULL, ?5, NULL, l.tenant_id, \
         l.task_type, ?3, l.trigger, l.slot, NULL, NULL, NULL, l.priority, l.attempt, l.max_attempts, \
         l.lost, coalesce(l.parameters, (SELECT p.parameters FROM live_parameters p WHERE p.execution_id = l.id)), \
         ?4, NULL, NULL, NULL, NULL, NULL, l.created_at, l.first_started_at, l.due_at, l.expires_at, \
         l.cancel_requested_at, l.progress, l.parent_task_id, l.retry_of, NULL \
         FROM json_each(?1) j CROSS JOIN live_executions l ON l.id = j.value \
         LEFT JOIN task_configs c ON c.id = l.config_id WHERE c.delete_history IS NOT 1");
    DELETE_LIVE_KEYS = "DELETE FROM live_executions WHERE id IN (SELECT value FROM json_each(?1)) \
        RETURNING id, tenant_id, run_key, CASE WHEN config_id IS NULL OR EXISTS ( \
            SELECT 1 FROM task_configs c WHERE c.id = live_executions.config_id AND c.deleted_at IS NULL) \
        THEN json(chain) END, task_id, chain_depth, trace";
    /// Those of `?1` that no history row was written for.
    UNRECORDED = "SELECT j.value FROM json_each(?1) j \
        WHERE NOT EXISTS (SELECT 1 FROM task_executions e WHERE e.id = j.value)";
    HELD = "SELECT id, task_id, claim FROM live_executions \
        WHERE state = 'running' AND incarnation = ?1 ORDER BY id";
    /// id, claim, progress
    PROGRESS = "UPDATE live_executions SET progress = jsonb_extract(j.value, '$[2]') \
        FROM jsonb_each(?1) j WHERE live_executions.id = j.value ->> 0 AND claim = j.value ->> 1 AND state = 'running'";
    LOST_RUNS = "SELECT l.id, l.claim, l.attempt, l.lost, l.started_at, l.cancel_requested_at IS NOT NULL, \
        h.name, l.tenant_id, l.run_key, l.config_id IS NOT NULL AND (c.id IS NULL OR c.deleted_at IS NOT NULL) \
        FROM live_executions l LEFT JOIN hosts h ON h.incarnation = l.incarnation \
        LEFT JOIN task_configs c ON c.id = l.config_id \
        WHERE l.state = 'running' AND l.incarnation <> ?1 ORDER BY l.id";

    // ---- breakers
    /// [tenant, type]
    BREAKERS = "SELECT b.tenant_id, b.task_type, b.failures, b.opened_at, b.probe_at, b.pause_seconds, b.probe_id, \
        b.error_kind, b.error_message FROM jsonb_each(?1) j CROSS JOIN type_breakers b \
        ON b.tenant_id = j.value ->> 0 AND b.task_type = j.value ->> 1";
    SET_BREAKER = "INSERT INTO type_breakers (tenant_id, task_type, failures, opened_at, probe_at, pause_seconds, \
        probe_id, error_kind, error_message) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
        ON CONFLICT (tenant_id, task_type) DO UPDATE SET failures = excluded.failures, \
        opened_at = excluded.opened_at, probe_at = excluded.probe_at, pause_seconds = excluded.pause_seconds, \
        probe_id = excluded.probe_id, error_kind = excluded.error_kind, error_message = excluded.error_message";
    DROP_BREAKER = "DELETE FROM type_breakers WHERE tenant_id = ?1 AND task_type = ?2";

    // ---- cancel
    FIND_LIVE = "SELECT id, state FROM live_executions WHERE tenant_id = ?1 AND task_id = ?2";
    FIND_ENDED = "SELECT e.state FROM task_executions e LEFT JOIN task_configs c ON c.id = e.config_id \
        WHERE e.tenant_id = ?1 AND e.task_id = ?2 AND c.delete_history IS NOT 1";
    ASK_CANCEL = "UPDATE live_executions SET cancel_requested_at = coalesce(cancel_requested_at, ?2) WHERE id = ?1";

    // ---- failures in a row
    /// config, failures
    COUNT_FAILURES = "UPDATE task_schedules SET failures_in_a_row = j.value ->> 1 \
        FROM jsonb_each(?1) j WHERE config_id = j.value ->> 0";
    PAUSE_CONFIG = "UPDATE task_configs SET paused = 1, pause_reason = ?2, version = version + 1, \
        updated_at = ?3 WHERE id = ?1";
    STOP_SCHEDULE = "UPDATE task_schedules SET next_fire_at = NULL WHERE config_id = ?1";

    // ---- state
    STATE = "SELECT t.key, t.value, t.version FROM task_state t JOIN task_configs c ON c.id = t.config_id \
        WHERE t.config_id = ?1 AND c.deleted_at IS NULL ORDER BY t.key";
    /// Of each config its tenant and that one's quota, with each key it has.
    STATE_VERSIONS = "SELECT c.id, c.tenant_id, t.quotas ->> '$.state_bytes', s.key, s.version, \
            length(CAST(s.key AS BLOB)) + length(s.value) \
        FROM json_each(?1) j CROSS JOIN task_configs c ON c.id = j.value \
        LEFT JOIN tenants t ON t.id = c.tenant_id LEFT JOIN task_state s ON s.config_id = c.id";
    SET_STATE = "INSERT INTO task_state (config_id, key, version, updated_at, value) VALUES (?1, ?2, ?3, ?4, ?5) \
        ON CONFLICT (config_id, key) DO UPDATE SET version = excluded.version, \
        updated_at = excluded.updated_at, value = excluded.value";
    DELETE_STATE = "DELETE FROM task_state WHERE config_id = ?1 AND key = ?2";
    RESET_STATE = "DELETE FROM task_state WHERE config_id = ?1";
    STATE_VERSION = "SELECT state_version FROM task_schedules WHERE config_id = ?1";
    KEEP_STATE_VERSION = "UPDATE task_schedules SET state_version = ?2 WHERE config_id = ?1";

    // ---- configs
    CONFIG = configs!(" AND c.tenant_id = ?1 AND c.id = ?2");
    CONFIG_BY_KEY = configs!(" AND c.tenant_id = ?1 AND c.key = ?2 AND c.key IS NOT NULL");
    CHANGED_CONFIGS = configs!(" AND c.tenant_id = ?1 AND c.updated_at >= ?2 ORDER BY c.updated_at, c.id LIMIT +?3");
    CONFIGS_BY_IDS = configs!(" AND c.id IN (SELECT value FROM json_each(?1)) ORDER BY c.id");
    LIST_CONFIGS = configs!(" AND c.tenant_id = ?1 AND c.id < ?2 AND (?3 IS NULL OR c.task_type = ?3) \
        AND (?4 IS NULL OR c.scheduler_type = ?4) AND (?5 IS NULL OR c.paused = ?5) \
        AND (?6 IS NULL OR instr(c.name_folded, ?6) > 0) \
        AND (?8 IS NULL OR c.declared_by = ?8) ORDER BY c.id DESC LIMIT +?7");
    KEY_OWNER = "SELECT id FROM task_configs WHERE tenant_id = ?1 AND key = ?2 \
        AND key IS NOT NULL AND deleted_at IS NULL";
    INSERT_CONFIG = "INSERT INTO task_configs (tenant_id, key, name, name_folded, task_type, scheduler_type, \
        parameters, schedule_config, max_retries, timeout_seconds, priority, limits, retry_policy, overlap, \
        concurrency, chain, plugin_version, paused, pause_reason, pause_after_failures, \
        expires_after_seconds, version, created_at, updated_at) VALUES (?2, ?3, ?4, ?5, ?6, ?7, jsonb(?8), \
        jsonb(?9), ?10, ?11, ?12, jsonb(?13), jsonb(?14), ?15, jsonb(?16), jsonb(?17), ?18, ?19, ?20, ?21, \
        ?22, 1, ?1, ?1) RETURNING id";
    DECLARED_BY = "UPDATE task_configs SET declared_by = ?2 WHERE id = ?1";
    INSERT_SCHEDULE = "INSERT INTO task_schedules (config_id, next_fire_at, anchor_at, zone_data) VALUES (?1, ?2, ?3, ?4)";
    UPDATE_CONFIG = "UPDATE task_configs SET key = ?3, name = ?4, name_folded = ?5, task_type = ?6, \
        scheduler_type = ?7, parameters = jsonb(?8), schedule_config = jsonb(?9), max_retries = ?10, \
        timeout_seconds = ?11, priority = ?12, limits = jsonb(?13), retry_policy = jsonb(?14), \
        overlap = ?15, concurrency = jsonb(?16), chain = jsonb(?17), plugin_version = ?18, paused = ?19, \
        pause_reason = ?20, pause_after_failures = ?21, expires_after_seconds = ?22, version = version + 1, updated_at = ?1 \
        WHERE id = ?2";
    UPDATE_SCHEDULE = "UPDATE task_schedules SET next_fire_at = ?2, last_slot = ?3, anchor_at = ?4, \
        skip_reason = ?5, skip_first = ?6, skip_last = ?7, skip_count = ?8, failures_in_a_row = ?9, zone_data = ?10 \
        WHERE config_id = ?1";
    DELETE_CONFIG = "UPDATE task_configs SET deleted_at = ?2, delete_history = ?3 WHERE id = ?1";
    PARK_SCHEDULE = "UPDATE task_schedules SET next_fire_at = NULL, skip_reason = NULL, skip_first = NULL, \
        skip_last = NULL, skip_count = NULL WHERE config_id = ?1";
    ANY_DELETED = "SELECT EXISTS (SELECT 1 FROM task_configs WHERE deleted_at IS NOT NULL) \
        OR EXISTS (SELECT 1 FROM tenants WHERE deleted_at IS NOT NULL)";
    TOMBSTONES = "SELECT id, delete_history FROM task_configs WHERE deleted_at IS NOT NULL ORDER BY id";
    ORPHAN_HISTORY = "UPDATE task_executions SET config_id = NULL WHERE id IN ( \
        SELECT id FROM task_executions WHERE config_id = ?1 ORDER BY id LIMIT +?2)";
    HISTORY_OF_CONFIG = "SELECT id FROM task_executions WHERE config_id = ?1 ORDER BY id LIMIT +?2";
    DELETE_HISTORY = "DELETE FROM task_executions WHERE id IN (SELECT value FROM json_each(?1))";
    HAS_LIVE = "SELECT EXISTS (SELECT 1 FROM live_executions WHERE config_id = ?1)";
    DROP_TOMBSTONE = "DELETE FROM task_configs WHERE id = ?1";
    DROP_SCHEDULE = "DELETE FROM task_schedules WHERE config_id = ?1";
    DROP_RETENTION = "DELETE FROM retentions WHERE (tenant_id, config_id) IN ( \
        SELECT tenant_id, id FROM task_configs WHERE id = ?1)";

    // ---- plugins
    PLUGIN_CONFIG = "SELECT key, value FROM plugin_config WHERE tenant_id IN (0, ?1) AND task_type = ?2";
    SET_PLUGIN_CONFIG = "INSERT INTO plugin_config (tenant_id, task_type, key, value, updated_at) \
        VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (tenant_id, task_type, key) DO UPDATE SET \
        value = excluded.value, updated_at = excluded.updated_at";
    UNSET_PLUGIN_CONFIG = "DELETE FROM plugin_config WHERE tenant_id = ?1 AND task_type = ?2 AND key = ?3";
    CONFIGURED_TYPES = "SELECT DISTINCT tenant_id, task_type FROM plugin_config ORDER BY 1, 2";

    // ---- secrets
    SECRETS = "SELECT name, version, key_id, created_at, updated_at FROM secrets \
        WHERE tenant_id = ?1 ORDER BY name LIMIT +?2 OFFSET ?3";
    SECRET = "SELECT name, version, key_id, created_at, updated_at FROM secrets \
        WHERE tenant_id = ?1 AND name = ?2";
    SEALED = "SELECT s.tenant_id, s.name, s.version, s.key_id, s.sealed FROM json_each(?2) j \
        CROSS JOIN secrets s ON s.tenant_id = ?1 AND s.name = j.value ORDER BY s.name";
    PUT_SECRET = "INSERT INTO secrets (tenant_id, name, version, key_id, sealed, created_at, updated_at) \
        VALUES (?1, ?2, 1, ?3, ?4, ?5, ?5) ON CONFLICT (tenant_id, name) DO UPDATE SET \
        version = version + 1, key_id = excluded.key_id, sealed = excluded.sealed, \
        updated_at = excluded.updated_at RETURNING name, version, key_id, created_at, updated_at";
    DELETE_SECRET = "DELETE FROM secrets WHERE tenant_id = ?1 AND name = ?2";
    SECRET_KEYS = "SELECT DISTINCT key_id FROM secrets ORDER BY key_id";
    /// ?2, ?3 the one before
    UNDER_OTHER_KEYS = "SELECT tenant_id, name, version, key_id, sealed FROM secrets \
        WHERE key_id <> ?1 AND (tenant_id, name) > (?2, ?3) ORDER BY tenant_id, name LIMIT +?4";
    RESEAL = "UPDATE secrets SET key_id = ?4, sealed = ?5 WHERE tenant_id = ?1 AND name = ?2 AND version = ?3";

    // ---- types
    INSERT_TYPE = "INSERT INTO task_types (tenant_id, task_type, created_at, updated_at) \
        VALUES (?1, ?2, ?3, ?3) ON CONFLICT DO NOTHING";
    /// A tenant's own or one of the host's, never both.
    TYPE = types!("?1", "WHERE y.tenant_id IN (0, ?1) AND y.task_type = ?2");
    OWN_TYPE = types!("?1", "WHERE y.tenant_id = ?1 AND y.task_type = ?2");
    TYPES = types!("?1", "WHERE y.tenant_id IN (0, ?1) ORDER BY y.task_type LIMIT +?2 OFFSET ?3");
    ALL_TYPES = types!("y.tenant_id", "ORDER BY y.tenant_id, y.task_type");
    /// The tenants that have a type of that name.
    HOLDERS = "SELECT t.name FROM task_types y JOIN tenants t ON t.id = y.tenant_id WHERE y.task_type = ?1 ORDER BY t.id";
    ACTIVATE = "UPDATE task_types SET \
        previous_digest = CASE WHEN active_digest IS NOT ?3 THEN active_digest ELSE previous_digest END, \
        active_digest = ?3, updated_at = ?4 WHERE tenant_id = ?1 AND task_type = ?2";
    /// Tasks that name a type; executions of it that wait, and that run
    TYPE_USE = "SELECT (SELECT count(*) FROM task_configs WHERE tenant_id = ?1 AND task_type = ?2 AND deleted_at IS NULL) AS tasks, \
        (SELECT count(*) FROM live_executions WHERE tenant_id = ?1 AND task_type = ?2 \
            AND state IN ('scheduled', 'available', 'retryable')) AS waiting, \
        (SELECT count(*) FROM live_executions WHERE tenant_id = ?1 AND task_type = ?2 AND state = 'running') AS running";
    /// The same of a shared type, whoever's
    SHARED_TYPE_USE = "SELECT (SELECT count(*) FROM task_configs WHERE task_type = ?1 AND deleted_at IS NULL) AS tasks, \
        (SELECT count(*) FROM live_executions WHERE task_type = ?1 \
            AND state IN ('scheduled', 'available', 'retryable')) AS waiting, \
        (SELECT count(*) FROM live_executions WHERE task_type = ?1 AND state = 'running') AS running";
    DROP_SHARED_BREAKERS = "DELETE FROM type_breakers WHERE task_type = ?1";
    DROP_VERSIONS = "DELETE FROM plugin_versions WHERE tenant_id = ?1 AND task_type = ?2";
    DROP_TYPE_CONFIG = "DELETE FROM plugin_config WHERE tenant_id = ?1 AND task_type = ?2";
    DROP_TYPE = "DELETE FROM task_types WHERE tenant_id = ?1 AND task_type = ?2";
    DISABLE = "UPDATE task_types SET disabled = ?3, updated_at = ?4 WHERE tenant_id = ?1 AND task_type = ?2";
    /// `?3`, `?5`: whether the bound after it is changed
    SET_TYPE_BOUNDS = "UPDATE task_types SET max_running = CASE WHEN ?3 THEN ?4 ELSE max_running END, \
        backlog = CASE WHEN ?5 THEN ?6 ELSE backlog END, updated_at = ?7 \
        WHERE tenant_id = ?1 AND task_type = ?2";
    SET_TENANT_BOUNDS = "UPDATE tenants SET weight = ?2, max_running = ?3, backlog = ?4 WHERE id = ?1 AND deleted_at IS NULL";
    VERSION = "SELECT id, tenant_id, task_type, digest, state, error, size_bytes, json(descriptor), \
        json(grants), json(limits), json(input), activate, grant_asked, json(warnings), created_at FROM plugin_versions \
        WHERE tenant_id = ?1 AND task_type = ?2 AND digest = ?3";
    VERSIONS = "SELECT id, tenant_id, task_type, digest, state, error, size_bytes, json(descriptor), \
        json(grants), json(limits), json(input), activate, grant_asked, json(warnings), created_at FROM plugin_versions \
        WHERE tenant_id IN (0, ?1) AND task_type = ?2 ORDER BY id DESC";
    ALL_VERSIONS = "SELECT id, tenant_id, task_type, digest, state, error, size_bytes, json(descriptor), \
        json(grants), json(limits), json(input), activate, grant_asked, json(warnings), created_at FROM plugin_versions \
        WHERE state IN ('compiling', 'ready') ORDER BY id";
    DELETE_VERSION = "DELETE FROM plugin_versions WHERE tenant_id = ?1 AND task_type = ?2 AND digest = ?3";
    INSERT_VERSION = "INSERT INTO plugin_versions (tenant_id, task_type, digest, state, size_bytes, descriptor, \
        grants, limits, input, activate, grant_asked, warnings, created_at) \
        VALUES (?1, ?2, ?3, 'compiling', ?4, jsonb(?5), jsonb(?6), jsonb(?7), jsonb(?8), ?9, ?10, jsonb(?11), ?12)";
    SET_WISHES = "UPDATE plugin_versions SET grants = jsonb(?2), input = jsonb(?3), limits = jsonb(?4), \
        descriptor = CASE state WHEN 'ready' THEN jsonb(?5) ELSE descriptor END WHERE id = ?1";
    SET_GRANTS = "UPDATE plugin_versions SET grants = jsonb(?4) WHERE tenant_id = ?1 AND task_type = ?2 AND digest = ?3";
    /// id, grants, limits, input
    SET_DECLARED = "UPDATE plugin_versions SET grants = jsonb(?2), limits = jsonb(?3), input = jsonb(?4) WHERE id = ?1";
    VERSION_READY = "UPDATE plugin_versions SET state = 'ready', descriptor = jsonb(?2), warnings = jsonb(?3) WHERE id = ?1";
    VERSION_FAILED = "UPDATE plugin_versions SET state = 'failed', error = ?2 WHERE id = ?1";
    INSERT_BYTES = "INSERT INTO plugin_bytes (digest, bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    BYTES = "SELECT bytes FROM plugin_bytes WHERE digest = ?1";
    DROP_BYTES = "DELETE FROM plugin_bytes WHERE digest = ?1 AND NOT EXISTS ( \
        SELECT 1 FROM plugin_versions WHERE digest = ?1 AND state <> 'failed')";

    // ---- tenants, tokens, who did what
    BUMP_ACCESS = "UPDATE meta SET value = value + 1 WHERE key = 'access_epoch'";
    ACCESS_EPOCH = "SELECT value FROM meta WHERE key = 'access_epoch'";
    INSERT_TENANT = "INSERT INTO tenants (id, name, weight, created_at) \
        SELECT coalesce(max(id), 0) + 1, ?1, ?2, ?3 FROM tenants RETURNING id";
    TENANT_NAMED = tenants!("WHERE deleted_at IS NULL AND name = ?1");
    TENANT_BY_ID = tenants!("WHERE deleted_at IS NULL AND id = ?1");
    TENANTS = tenants!("WHERE deleted_at IS NULL AND id > ?1 ORDER BY id LIMIT +?2");
    TENANT_IS_DELETED = "SELECT deleted_at IS NOT NULL FROM tenants WHERE id = ?1";
    QUOTAS = "SELECT name, json(quotas), max_running, backlog FROM tenants WHERE id = ?1 AND deleted_at IS NULL";
    SET_QUOTAS = "UPDATE tenants SET max_running = ?2, backlog = ?3, quotas = jsonb(?4), claim_quotas = ?5 \
        WHERE id = ?1 AND deleted_at IS NULL";
    COUNT_TENANT_CONFIGS = "SELECT count(*) FROM task_configs WHERE tenant_id = ?1 AND deleted_at IS NULL";
    COUNT_TENANT_TYPES = "SELECT count(*) FROM task_types WHERE tenant_id = ?1";
    COUNT_TENANT_RUNNING = "SELECT count(*) FROM live_executions WHERE tenant_id = ?1 AND state = 'running'";
    /// Whether it has the type already, as one row.
    HAS_TYPE = "SELECT 1 FROM task_types WHERE tenant_id = ?1 AND task_type = ?2";
    STATE_BYTES = "SELECT coalesce(sum(length(CAST(s.key AS BLOB)) + length(s.value)), 0) FROM task_configs c \
        JOIN task_state s ON s.config_id = c.id WHERE c.tenant_id = ?1 AND c.deleted_at IS NULL";
    STATE_SIZE = "SELECT length(CAST(key AS BLOB)) + length(value) FROM task_state WHERE config_id = ?1 AND key = ?2";
    TENANT_USE = "SELECT (SELECT count(*) FROM task_configs WHERE tenant_id = ?1 AND deleted_at IS NULL), \
        (SELECT count(*) FROM live_executions WHERE tenant_id = ?1)";
    DELETE_TENANT = "UPDATE tenants SET deleted_at = ?2 WHERE id = ?1";
    DELETE_TOKENS = "DELETE FROM tokens WHERE tenant_id = ?1";
    DELETED_TENANTS = "SELECT id FROM tenants WHERE deleted_at IS NOT NULL ORDER BY id";
    HISTORY_OF_TENANT = "SELECT id FROM task_executions WHERE tenant_id = ?1 LIMIT +?2";
    TENANT_RETENTIONS = "DELETE FROM retentions WHERE tenant_id = ?1";
    TENANT_USAGE = "DELETE FROM usage_days WHERE tenant_id = ?1";
    TENANT_RATES = "DELETE FROM rates WHERE tenant_id = ?1";
    TENANT_DIGESTS = "SELECT DISTINCT digest FROM plugin_versions WHERE tenant_id = ?1 ORDER BY 1";
    TENANT_VERSIONS = "DELETE FROM plugin_versions WHERE tenant_id = ?1";
    TENANT_TYPES = "DELETE FROM task_types WHERE tenant_id = ?1";
    TENANT_BREAKERS = "DELETE FROM type_breakers WHERE tenant_id = ?1";
    TENANT_ANSWERS = "DELETE FROM request_answers WHERE tenant_id = ?1";
    TENANT_AUDIT = "DELETE FROM audit_log WHERE tenant_id = ?1";
    TENANT_CONFIG = "DELETE FROM plugin_config WHERE tenant_id = ?1";
    TENANT_SECRETS = "DELETE FROM secrets WHERE tenant_id = ?1";
    DROP_TENANT = "DELETE FROM tenants WHERE id = ?1";
    TOKEN = tokens!("WHERE t.id = ?1");
    TOKENS = tokens!("WHERE (t.tenant_id = ?1 OR (?2 AND t.tenant_id IS NULL)) AND t.id > ?3 ORDER BY t.id LIMIT +?4");
    INSERT_TOKEN = "INSERT INTO tokens (id, tenant_id, name, role, scope, hash, created_at, created_by, expires_at) \
        SELECT max(?1, coalesce(max(id), 0) + 1), ?2, ?3, ?4, jsonb(?5), ?6, ?1, ?7, ?8 \
        FROM tokens RETURNING id";
    ROTATE_TOKEN = "UPDATE tokens SET previous_hash = CASE WHEN ?3 IS NOT NULL THEN hash END, previous_until = ?3, \
        hash = ?2, rotated_at = ?4 WHERE id = ?1";
    DELETE_TOKEN = "DELETE FROM tokens WHERE id = ?1";
    TOUCH_TOKEN = "UPDATE tokens SET last_used_at = ?2 WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)";
    RECORD_AUDIT = "INSERT INTO audit_log (id, at, tenant_id, token_id, actor, role, action, method, target, status, \
        request_id, address, host) SELECT max(?2, coalesce((SELECT max(id) + 1 FROM audit_log), 0)) + key, \
        value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, \
        value ->> 8, value ->> 9, value ->> 10, value ->> 11 FROM jsonb_each(?1)";
    AUDIT = "SELECT id, at, tenant_id, token_id, actor, role, action, method, target, status, request_id, address, host \
        FROM audit_log WHERE (tenant_id = ?1 OR (?2 AND tenant_id IS NULL)) AND id < ?3 \
        AND (?4 IS NULL OR action = ?4) AND (?5 IS NULL OR token_id = ?5) \
        AND (?6 IS NULL OR at >= ?6) AND (?7 IS NULL OR at < ?7) ORDER BY id DESC LIMIT +?8";
    PURGE_AUDIT = "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE at < ?1 ORDER BY at LIMIT +?2)";

    // ---- care of what ended
    BEGIN_CARE = "UPDATE meta SET value = ?1 WHERE key = 'cared_at' AND value <= ?1 - ?2";
    // `?1` whose, `?2`, `?3` behind this end and id, `?4` not at or after, `?5` how many
    PRUNE_BY_AGE = "SELECT e.id, e.state, e.completed_at, 0 FROM task_executions e INDEXED BY task_executions_age \
        WHERE e.tenant_id = ?1 AND (e.completed_at, e.id) > (?2, ?3) AND e.completed_at < ?4 \
        ORDER BY e.completed_at, e.id LIMIT +?5";
    PRUNE_OF_CONFIG = "SELECT id, state, completed_at, created_at FROM task_executions \
        WHERE config_id = ?1 AND id > ?2 ORDER BY id LIMIT +?3";
    HISTORY_COUNT = "SELECT count(*) FROM task_executions INDEXED BY task_executions_age WHERE tenant_id = ?1";
    BEYOND_NEWEST = "SELECT c.id, (SELECT e.id FROM task_executions e WHERE e.config_id = c.id \
            ORDER BY e.id DESC LIMIT 1 OFFSET ?4) \
        FROM task_configs c WHERE c.tenant_id = ?1 AND c.id > ?2 AND c.deleted_at IS NULL ORDER BY c.id LIMIT +?3";
    RETENTION = "SELECT json(retention) FROM retentions WHERE tenant_id = ?1 AND config_id = ?2";
    SET_RETENTION = "INSERT INTO retentions (tenant_id, config_id, retention) VALUES (?1, ?2, jsonb(?3)) \
        ON CONFLICT (tenant_id, config_id) DO UPDATE SET retention = excluded.retention";
    UNSET_RETENTION = "DELETE FROM retentions WHERE tenant_id = ?1 AND config_id = ?2";
    CONFIG_RETENTIONS = "SELECT r.config_id, json(r.retention) FROM retentions r \
        JOIN task_configs c ON c.id = r.config_id AND c.deleted_at IS NULL \
        WHERE r.tenant_id = ?1 AND r.config_id > ?2 ORDER BY r.config_id LIMIT +?3";
    /// tenant, day, type, incarnation, and the numbers of a `Tally`
    ADD_USAGE = add_usage!("SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
        value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14, value ->> 15 \
        FROM jsonb_each(?1) WHERE true");
    /// `?1` whose or of all, `?2` first day, `?3` not this one
    USAGE = "SELECT tenant_id, day, task_type, sum(runs), sum(succeeded), sum(failed), sum(cancelled), sum(fuel), \
        sum(cpu_micros), sum(wall_micros), sum(http_calls), sum(http_request_bytes), sum(http_response_bytes), \
        sum(log_bytes), sum(result_bytes) FROM usage_days WHERE (?1 IS NULL OR tenant_id = ?1) \
        AND day >= ?2 AND day < ?3 GROUP BY tenant_id, day, task_type ORDER BY tenant_id, day, task_type";
    UNFOLDED = "SELECT u.tenant_id, u.day, u.task_type, u.incarnation, u.runs, u.succeeded, u.failed, u.cancelled, u.fuel, \
        u.cpu_micros, u.wall_micros, u.http_calls, u.http_request_bytes, u.http_response_bytes, u.log_bytes, u.result_bytes \
        FROM usage_days u WHERE u.incarnation <> 0 AND u.day < ?1 ORDER BY u.day LIMIT +?2";
    /// tenant, day, type, incarnation
    DROP_USAGE = "DELETE FROM usage_days WHERE (tenant_id, day, task_type, incarnation) IN ( \
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM jsonb_each(?1))";

    // ---- alerts
    POST_ALERT = "INSERT INTO alerts (alert_id, event, tenant_id, config_id, task_id, detail, subject, created_at, due_at) \
        VALUES (lower(hex(randomblob(16))), ?1, ?2, ?3, ?4, jsonb(?5), ?6, ?7, ?7) ON CONFLICT DO NOTHING";
    TAKE_ALERTS = "UPDATE alerts SET due_at = ?2, tries = tries + 1 WHERE alert_id IN (SELECT alert_id FROM alerts \
        WHERE due_at IS NOT NULL AND due_at <= ?1 ORDER BY due_at, created_at LIMIT +?3) \
        RETURNING alert_id, event, tenant_id, config_id, task_id, json(detail), created_at, tries";
    SETTLE_ALERT = "UPDATE alerts SET due_at = ?3 WHERE alert_id = ?1 AND tries = ?2";
    PURGE_ALERTS = "DELETE FROM alerts WHERE alert_id IN (SELECT alert_id FROM alerts WHERE created_at < ?1 \
        ORDER BY created_at LIMIT +?2)";
    TENANT_ALERTS = "DELETE FROM alerts WHERE tenant_id = ?1";

    // ---- history
    EXECUTION = concat!(
        live_columns!("json(coalesce(l.parameters, (SELECT p.parameters FROM live_parameters p WHERE p.execution_id = l.id)))", "a.error_traceback"),
        " WHERE l.tenant_id = ?1 AND l.task_id = ?2 UNION ALL ",
        ended_columns!("json(l.result)", "l.error_traceback", "json(l.parameters)"),
        " WHERE l.tenant_id = ?1 AND l.task_id = ?2 AND c.delete_history IS NOT 1");
    VISIBLE = "SELECT l.id FROM live_executions l WHERE l.tenant_id = ?1 AND l.task_id = ?2 UNION ALL \
        SELECT e.id FROM task_executions e LEFT JOIN task_configs c ON c.id = e.config_id \
        WHERE e.tenant_id = ?1 AND e.task_id = ?2 AND c.delete_history IS NOT 1";
    /// What is news to a tenant: what runs, what is new and lives, what is new and has ended, what has ended.
    NEWS_RUNNING = concat!(live_columns!("NULL AS parameters", "NULL AS error_traceback"), " WHERE l.tenant_id = ?1 AND l.state = 'running' LIMIT +?2");
    NEWS_LIVE = concat!(live_columns!("NULL AS parameters", "NULL AS error_traceback"), " WHERE +l.tenant_id = ?1 AND l.id > ?2 ORDER BY l.id LIMIT +?3");
    NEWS_CREATED = concat!(ended_columns!("NULL AS result", "NULL AS error_traceback", "NULL AS parameters"),
        " WHERE +l.tenant_id = ?1 AND l.id > ?2 AND l.completed_at >= ?3 AND c.delete_history IS NOT 1 ORDER BY l.id LIMIT +?4");
    NEWS_ENDED = concat!(ended_columns!("NULL AS result", "NULL AS error_traceback", "NULL AS parameters"),
        " WHERE l.tenant_id = ?1 AND l.completed_at >= ?2 AND (l.completed_at, l.id) > (?2, ?3) AND c.delete_history IS NOT 1 ORDER BY l.completed_at, l.id LIMIT +?4");
    ATTEMPTS = "SELECT execution_id, claim, attempt, outcome, started_at, completed_at, error_kind, \
        error_message, error_traceback, error_code, json(error_details), json(usage), plugin_digest, host \
        FROM task_attempts WHERE execution_id = ?1 UNION ALL \
        SELECT id, ended_claim, attempt, state, started_at, completed_at, error_kind, \
        error_message, error_traceback, error_code, json(error_details), json(usage), plugin_digest, host \
        FROM task_executions WHERE id = ?1 AND ended_claim IS NOT NULL ORDER BY 2";
    HTTP = "SELECT l.claim, json(j.value) FROM execution_http l, jsonb_each(l.calls) j \
        WHERE l.execution_id = ?1 ORDER BY l.claim, j.key LIMIT +?2 OFFSET ?3";
    LOGS = "SELECT l.claim, json(j.value) FROM execution_logs l, jsonb_each(l.lines) j \
        WHERE l.execution_id = ?1 ORDER BY l.claim, j.key LIMIT +?2 OFFSET ?3";
}

/// Live half of a list; the filter follows.
pub(super) const LIST_LIVE: &str = live_columns!("NULL AS parameters", "NULL AS error_traceback");
/// Ended half of a list; the filter follows.
pub(super) const LIST_ENDED: &str = ended_columns!(
    "NULL AS result",
    "NULL AS error_traceback",
    "NULL AS parameters"
);

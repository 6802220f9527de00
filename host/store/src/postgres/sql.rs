//! Every statement of the PostgreSQL store. Batches come as one array a column, read by `unnest`. A test
//! prepares each statement against a migrated database, another holds the hot ones to their indexes.
//!
//! The planner knows little of tables that fill and empty by the second. Where a wrong guess would be
//! costly, statements leave it one way: rows by id are taken in a materialised CTE without a condition
//! that some partial index has (its dead entries would all be walked), single rows are looked up by
//! scalar subqueries, which cannot become a hash of the whole table, and what waits in a lane is read in its order and with
//! `blocked = (SELECT 0)`, which the index over all lanes is not known to fit: it, and the table, look cheap where most of
//! what waits is of one lane, and would be read to their ends for another.

statements! {
    // ---- the database
    COUNT_CONFIGS = "SELECT count(*) FROM task_configs WHERE deleted_at IS NULL";
    COUNT_LIVE = "SELECT count(*) FROM live_executions";
    COUNT_ENDED = "SELECT count(*) FROM task_executions";
    DATABASE_NOW = "SELECT database_now()";
    BUMP_EPOCH = "UPDATE meta SET value = value + 1 WHERE key = 'catalog_epoch'";
    EPOCH = "SELECT value FROM meta WHERE key = 'catalog_epoch'";
    TENANT = "SELECT id FROM tenants WHERE deleted_at IS NULL AND name = $1";
    EXECUTION_IDS = "SELECT nextval('execution_ids') FROM generate_series(1, $1)";
    STILL_THERE = "SELECT 1";
    NOTIFY = "SELECT pg_notify($1, $2)";
    /// Before there is a schema, too.
    CHECKUP = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, current_setting('server_version'), \
        current_setting('autovacuum') = 'on', current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'";
    UNCLEANED = "SELECT c.relname::text FROM pg_class c WHERE c.relkind = 'r' AND pg_table_is_visible(c.oid) \
        AND EXISTS (SELECT 1 FROM unnest(c.reloptions) o WHERE lower(o) IN ('autovacuum_enabled=false', 'autovacuum_enabled=off')) \
        ORDER BY 1";
    BLOATED = "SELECT s.relname::text, s.n_dead_tup FROM pg_stat_user_tables s WHERE pg_table_is_visible(s.relid) \
        AND s.n_dead_tup > 100000 AND s.n_dead_tup > 2 * s.n_live_tup ORDER BY 2 DESC LIMIT 5";
    /// Which of the tables `$1` and of the history's partitions. Small ones are left alone; so are those of another owner, who
    /// alone may analyse them.
    OUTGROWN = "SELECT c.relname::text FROM pg_class c WHERE (c.relname = ANY ($1::text[]) \
        OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'task_executions'::regclass)) AND c.relkind = 'r' \
        AND pg_table_is_visible(c.oid) AND pg_has_role(c.relowner, 'USAGE') \
        AND pg_relation_size(c.oid) / current_setting('block_size')::bigint > 32 + 2 * c.relpages::bigint";
    LOCK_PARTITIONS = "SELECT pg_try_advisory_xact_lock(7237109721140711797)";
    LAST_PARTITION = "SELECT max(until_at) FROM history_partitions";
    PARTITIONS = "SELECT from_at, until_at FROM history_partitions";
    NOTE_PARTITION = "INSERT INTO history_partitions (name, from_at, until_at) VALUES ($1, $2, $3)";

    // ---- hosts: `$2` of leases in microseconds
    /// By the clock: after a failover that lost the last transactions a counter would give a number twice.
    START_HOST = "INSERT INTO hosts (incarnation, name, started_at, seen_at, lease_until) \
        VALUES (greatest(database_now(), (SELECT max(incarnation) + 1 FROM hosts)), \
            $1, $3, database_now(), database_now() + $2) ON CONFLICT DO NOTHING RETURNING incarnation";
    STOP_HOST = "UPDATE hosts SET stopped_at = $2 WHERE incarnation = $1 AND stopped_at IS NULL";
    DESCRIBE_HOST = "UPDATE hosts SET facts = $2::jsonb WHERE incarnation = $1";
    HOSTS = "SELECT incarnation, name, started_at, seen_at, facts::text FROM hosts \
        WHERE stopped_at IS NULL ORDER BY incarnation";
    HOST_RUNS = "SELECT l.id, l.incarnation, l.task_id, l.tenant_id, c.id, l.task_type, l.attempt, l.started_at \
        FROM live_executions l LEFT JOIN task_configs c ON c.id = l.config_id AND c.deleted_at IS NULL \
        WHERE l.state = 'running' ORDER BY l.id";
    /// alive, cancels, epoch, the database's clock, microseconds until another host's lease may be over: zero
    /// when something runs under a host that is gone, null when there is no other (which greatest would make a zero)
    HEARTBEAT = "WITH seen AS (UPDATE hosts SET seen_at = database_now(), lease_until = database_now() + $2 \
            WHERE incarnation = $1 AND stopped_at IS NULL RETURNING 1) \
        SELECT EXISTS (SELECT 1 FROM seen), \
        ARRAY(SELECT task_id FROM live_executions WHERE incarnation = $1 \
            AND cancel_requested_at IS NOT NULL AND state = 'running' ORDER BY id), \
        (SELECT value FROM meta WHERE key = 'catalog_epoch'), database_now(), \
        CASE WHEN EXISTS (SELECT 1 FROM live_executions l WHERE l.state = 'running' AND NOT EXISTS ( \
                SELECT 1 FROM hosts h WHERE h.incarnation = l.incarnation AND h.stopped_at IS NULL)) THEN 0 \
            ELSE (SELECT greatest(min(lease_until) - database_now(), 0) FROM hosts \
                WHERE stopped_at IS NULL AND incarnation <> $1 HAVING count(*) > 0) END, \
        least( \
            (SELECT min(next_fire_at) FROM task_schedules WHERE next_fire_at IS NOT NULL), \
            (SELECT min(due_at) FROM live_executions WHERE state IN ('scheduled', 'retryable')), \
            (SELECT min(expires_at) FROM live_executions \
                WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'available', 'retryable')), \
            (SELECT min(ready_at) FROM run_keys WHERE ready_at IS NOT NULL)), \
        (SELECT id FROM live_executions WHERE state = 'available' AND blocked = 0 \
            ORDER BY queue_key, id LIMIT 1) IS NOT NULL, \
        (SELECT count(*) FROM live_executions WHERE incarnation = $1 AND state = 'running'), \
        (SELECT value FROM meta WHERE key = 'access_epoch'), \
        (SELECT min(due_at) FROM alerts WHERE due_at IS NOT NULL) <= database_now() IS TRUE";
    /// Whose heartbeat is being written is not dead.
    BURY_OTHERS = "UPDATE hosts SET stopped_at = $2 WHERE incarnation IN ( \
        SELECT incarnation FROM hosts WHERE stopped_at IS NULL AND incarnation <> $1 \
        AND lease_until <= database_now() FOR UPDATE SKIP LOCKED)";

    // ---- due
    DUE_SCHEDULES = "SELECT c.id, c.version, s.next_fire_at, s.last_slot, s.anchor_at, s.skip_reason, \
        s.skip_first, s.skip_last, s.skip_count, s.failures_in_a_row \
        FROM task_schedules s JOIN task_configs c ON c.id = s.config_id \
        WHERE s.next_fire_at IS NOT NULL AND s.next_fire_at <= $1 AND NOT c.paused AND c.deleted_at IS NULL \
        ORDER BY s.next_fire_at, s.config_id LIMIT $2";
    /// Asked once a start and once a day: reads every schedule.
    OTHER_ZONE_DATA = "SELECT c.id, c.version, s.next_fire_at, s.last_slot, s.anchor_at, s.skip_reason, \
        s.skip_first, s.skip_last, s.skip_count, s.failures_in_a_row \
        FROM task_schedules s JOIN task_configs c ON c.id = s.config_id \
        WHERE s.config_id > $2 AND s.zone_data <> $1 AND s.next_fire_at IS NOT NULL AND NOT c.paused \
        AND c.deleted_at IS NULL ORDER BY s.config_id LIMIT $3";
    // Paused and deleted configs have no next_fire_at.
    NEXT_DUE = "SELECT least( \
        (SELECT min(next_fire_at) FROM task_schedules WHERE next_fire_at IS NOT NULL), \
        (SELECT min(due_at) FROM live_executions WHERE state IN ('scheduled', 'retryable')), \
        (SELECT min(expires_at) FROM live_executions \
            WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'available', 'retryable')), \
        (SELECT min(ready_at) FROM run_keys WHERE ready_at IS NOT NULL))";
    SWEEP_AVAILABLE = "UPDATE live_executions SET state = 'available', blocked = 0 WHERE id = ANY (ARRAY( \
        SELECT id FROM live_executions WHERE state IN ('scheduled', 'retryable') AND due_at <= $1 \
        ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED))";
    EXPIRED = "SELECT id FROM live_executions \
        WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'available', 'retryable') \
        AND expires_at <= $1 ORDER BY expires_at, id LIMIT $2 FOR UPDATE SKIP LOCKED";
    /// `$3` as far as those before it are counted.
    WAITS_BEHIND = "SELECT (SELECT count(*) FROM (SELECT 1 FROM live_executions q WHERE q.state = 'available' \
            AND q.blocked = 0 AND (q.queue_key, q.id) < (l.queue_key, l.id) LIMIT $3) b), \
        l.run_key IS NOT NULL, (SELECT count(*) FROM live_executions r WHERE r.tenant_id = l.tenant_id \
            AND r.run_key = l.run_key AND r.run_key IS NOT NULL AND r.state = 'running'), l.run_max, \
        (SELECT count(*) FROM live_executions r WHERE r.tenant_id = l.tenant_id AND r.task_type = l.task_type \
            AND r.state = 'running'), y.max_running, \
        (SELECT count(*) FROM live_executions r WHERE r.tenant_id = l.tenant_id AND r.state = 'running'), t.max_running, \
        (SELECT k.full_at FROM run_keys k WHERE k.tenant_id = l.tenant_id AND k.run_key = l.rate_key), l.rate_count, l.rate_seconds \
        FROM live_executions l LEFT JOIN tenants t ON t.id = l.tenant_id \
        LEFT JOIN task_types y ON y.tenant_id = ANY (ARRAY[0, l.tenant_id]) AND y.task_type = l.task_type WHERE l.tenant_id = $1 AND l.task_id = $2 \
        AND l.state IN ('scheduled', 'available', 'retryable')";
    QUEUE_COUNTS = "SELECT count(*) FILTER (WHERE state = 'scheduled'), \
        count(*) FILTER (WHERE state = 'available'), count(*) FILTER (WHERE state = 'running'), \
        count(*) FILTER (WHERE state = 'retryable') FROM live_executions";
    WAITING_HEADS = "SELECT w.tenant_id, w.task_type, w.task_id, w.due_at \
        FROM unnest($1::bigint[], $2::text[]) j (tenant_id, task_type) \
        CROSS JOIN LATERAL (SELECT l.tenant_id, l.task_type, l.task_id, l.due_at FROM live_executions l \
            WHERE l.tenant_id = j.tenant_id AND l.task_type = j.task_type AND l.state = 'available' \
            AND l.blocked = (SELECT 0) ORDER BY l.queue_key, l.id LIMIT 1) w";

    // ---- locks
    LOCK_SCHEDULES = "SELECT config_id FROM task_schedules WHERE config_id = ANY ($1) \
        ORDER BY config_id FOR NO KEY UPDATE";
    /// Of live executions, which never change theirs.
    CONFIGS_OF_LIVE = "SELECT DISTINCT config_id FROM live_executions WHERE id = ANY ($1) AND config_id IS NOT NULL";
    /// Against deletion alone.
    CONFIGS_ALIVE = "SELECT id, tenant_id, version FROM task_configs WHERE id = ANY ($1) AND deleted_at IS NULL \
        ORDER BY id FOR KEY SHARE";
    TRY_CONFIGS_ALIVE = "SELECT id FROM task_configs WHERE id = ANY ($1) AND deleted_at IS NULL \
        ORDER BY id FOR KEY SHARE SKIP LOCKED";
    /// The ones nobody else holds.
    TRY_LOCK_SCHEDULES = "SELECT config_id FROM task_schedules WHERE config_id = ANY ($1) \
        ORDER BY config_id FOR NO KEY UPDATE SKIP LOCKED";
    /// Frozen steps of live executions, which never change.
    CHAINS_OF = "SELECT tenant_id, chain::text FROM live_executions WHERE id = ANY ($1) AND chain IS NOT NULL";
    LOCK_CONFIG = "SELECT id FROM task_configs WHERE id = $1 FOR UPDATE";
    LOCK_KEYS = "SELECT 1 FROM run_keys WHERE (tenant_id, run_key) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::text[])) ORDER BY tenant_id, run_key FOR UPDATE";
    ADD_KEYS = "INSERT INTO run_keys (tenant_id, run_key) \
        SELECT * FROM unnest($1::bigint[], $2::text[]) ORDER BY 1, 2 ON CONFLICT DO NOTHING";
    /// Keys of executions that are no more; one that is needed again comes back with its next enqueue.
    TIDY_KEYS = "DELETE FROM run_keys d USING (SELECT k.tenant_id, k.run_key FROM run_keys k \
        WHERE k.tenant_id > 0 AND NOT EXISTS (SELECT 1 FROM live_executions l \
            WHERE l.tenant_id = k.tenant_id AND l.run_key = k.run_key) \
        AND (k.full_at IS NULL OR (k.ready_at IS NULL AND k.full_at < database_now())) FOR UPDATE OF k SKIP LOCKED) t \
        WHERE d.tenant_id = t.tenant_id AND d.run_key = t.run_key";

    // ---- enqueue
    /// Tenants, task ids; `$3`, `$4`: between these they ended, if at all. The places, from 1.
    KNOWN_TASKS = concat!("SELECT u.place FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY u(tenant_id, task_id, place) \
        WHERE ", known_task!("$3", "$4"));
    LIVE_COUNTS = "SELECT config_id, state = 'running', count(*) FROM live_executions \
        WHERE config_id = ANY ($1) AND config_id IS NOT NULL GROUP BY 1, 2";
    /// What is there already is left out. `$26`, `$27`: between these such an execution ended, if at all; without them
    /// nobody looks. One row: ids and task ids, in order.
    INSERT_LIVE = concat!("WITH fresh AS (", fresh!(), "), ", insert_fresh!("fresh"), " \
        SELECT ids, tasks FROM placed WHERE $26::bigint IS NULL OR none_ended(tenants, tasks, $26, $27)");
    /// The same of what nothing stands against, all or none of it: its configs are there (`$28`: in this version), no
    /// cap concerns it, and nobody used its ids.
    INSERT_PLAIN = concat!("WITH fresh AS MATERIALIZED (", fresh!(), "), \
        alive AS MATERIALIZED (SELECT id, tenant_id, version FROM task_configs \
            WHERE id = ANY ($4) AND deleted_at IS NULL ORDER BY id FOR KEY SHARE), \
        plain AS MATERIALIZED (SELECT * FROM fresh WHERE NOT EXISTS (SELECT 1 FROM fresh f WHERE \
                f.config_id IS NOT NULL AND (f.config_id, f.tenant_id) NOT IN (SELECT id, tenant_id FROM alive)) \
            AND NOT EXISTS (SELECT 1 FROM unnest($4, $2, $28::bigint[]) r(config_id, tenant_id, version) \
                WHERE r.version IS NOT NULL AND (r.config_id, r.version) NOT IN (SELECT id, version FROM alive)) \
            AND NOT EXISTS (SELECT 1 FROM fresh u WHERE ", known_task!("$26", "$27"), " \
                OR (SELECT t.backlog FROM tenants t WHERE t.id = u.tenant_id) IS NOT NULL \
                OR (SELECT y.backlog FROM task_types y WHERE y.tenant_id = u.tenant_id AND y.task_type = u.task_type) IS NOT NULL \
                OR (SELECT y.backlog FROM task_types y WHERE y.tenant_id = 0 AND y.task_type = u.task_type) IS NOT NULL)), ", insert_fresh!("plain"), " \
        SELECT ids, tasks FROM placed WHERE none_ended(tenants, tasks, $26, $27)");
    INSERT_PARAMETERS = "INSERT INTO live_parameters (execution_id, parameters) \
        SELECT id, parameters::jsonb FROM unnest($1::bigint[], $2::text[]) u(id, parameters)";
    /// Tenants and types: what may wait of those that are capped, by type and by tenant, and whether the type is shared.
    BACKLOG_CAPS = "SELECT u.tenant_id, u.task_type, coalesce(y.backlog, s.backlog), t.backlog, s.tenant_id IS NOT NULL \
        FROM unnest($1::bigint[], $2::text[]) u(tenant_id, task_type) \
        LEFT JOIN task_types y ON y.tenant_id = u.tenant_id AND y.task_type = u.task_type \
        LEFT JOIN task_types s ON s.tenant_id = 0 AND s.task_type = u.task_type \
        LEFT JOIN tenants t ON t.id = u.tenant_id \
        WHERE y.backlog IS NOT NULL OR s.backlog IS NOT NULL OR t.backlog IS NOT NULL";
    /// `$3` no more than these are counted
    WAITING_OF_TYPE = "SELECT count(*) FROM (SELECT 1 FROM live_executions l WHERE l.tenant_id = $1 \
        AND l.task_type = $2 AND l.state IN ('scheduled', 'available', 'retryable') LIMIT $3) w";
    WAITING_OF_TENANT = "SELECT count(*) FROM (SELECT 1 FROM live_executions l WHERE l.tenant_id = $1 \
        AND l.state IN ('scheduled', 'available', 'retryable') LIMIT $2) w";

    // ---- answers; the last argument: not at or before
    ANSWER = "SELECT request_hash, status, body FROM request_answers \
        WHERE tenant_id = $1 AND request_key = $2 AND created_at > $3";
    /// Waits for another host that answers the same request; nothing is written if it did.
    KEEP_ANSWER = "INSERT INTO request_answers (tenant_id, request_key, request_hash, status, body, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, request_key) DO UPDATE SET \
        request_hash = excluded.request_hash, status = excluded.status, body = excluded.body, \
        created_at = excluded.created_at WHERE request_answers.created_at <= $7";
    PURGE_ANSWERS = "DELETE FROM request_answers WHERE (tenant_id, request_key) IN ( \
        SELECT tenant_id, request_key FROM request_answers WHERE created_at <= $1 \
        ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

    // ---- fire
    SCHEDULES = "SELECT c.id, c.tenant_id, c.version, c.paused, s.next_fire_at, s.last_slot, \
        s.anchor_at, s.skip_reason, s.skip_first, s.skip_last, s.skip_count, s.failures_in_a_row, \
        c.task_type, c.priority, c.max_retries + 1 \
        FROM task_configs c JOIN task_schedules s ON s.config_id = c.id \
        WHERE c.id = ANY ($1) AND c.deleted_at IS NULL";
    ADVANCE_SCHEDULES = "UPDATE task_schedules s SET next_fire_at = u.next_fire_at, \
        last_slot = u.last_slot, skip_reason = u.skip_reason, skip_first = u.skip_first, \
        skip_last = u.skip_last, skip_count = u.skip_count, zone_data = $8 \
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) \
        u(config_id, next_fire_at, last_slot, skip_reason, skip_first, skip_last, skip_count) \
        WHERE s.config_id = u.config_id";
    /// `$13` = now.
    INSERT_SKIPPED = "INSERT INTO task_executions (id, config_id, task_id, tenant_id, task_type, state, \
        trigger, slot, slot_last, slot_count, skip_reason, priority, attempt, max_attempts, lost, \
        created_at, completed_at) \
        SELECT id, config_id, task_id, tenant_id, task_type, 'skipped', trigger, slot, slot_last, \
        slot_count, skip_reason, priority, 0, max_attempts, 0, $13, $13 \
        FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[], \
        $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::integer[], $12::bigint[]) \
        u(id, config_id, task_id, tenant_id, task_type, trigger, slot, slot_last, slot_count, skip_reason, \
        priority, max_attempts)";
    /// `$11` = now.
    INSERT_SKIPPED_LINKS = "INSERT INTO task_executions (id, config_id, task_id, tenant_id, task_type, state, \
        trigger, skip_reason, priority, attempt, max_attempts, lost, parent_task_id, created_at, completed_at) \
        SELECT id, config_id, task_id, tenant_id, task_type, 'skipped', trigger, reason, priority, 0, \
        max_attempts, 0, parent, $11, $11 \
        FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], \
        $8::integer[], $9::bigint[], $10::text[]) \
        u(id, config_id, task_id, tenant_id, task_type, trigger, reason, priority, max_attempts, parent)";
    /// Every live row of a config is locked, so that what is on its way to wait is seen waiting.
    LOCK_LIVE_OF_CONFIG = "SELECT id, state FROM live_executions WHERE config_id = $1 ORDER BY id FOR UPDATE";
    LOCK_LIVE_OF_CONFIGS = "SELECT id FROM live_executions WHERE config_id = ANY ($1) ORDER BY id FOR UPDATE";
    FLAG_RUNNING = "UPDATE live_executions SET cancel_requested_at = $2 \
        WHERE config_id = $1 AND state = 'running' AND cancel_requested_at IS NULL RETURNING id, task_id";

    // ---- claim. `$1`, `$2` tenants and types
    // A tenant's own types and shared ones are joined apart, so that a name that many tenants have costs no more.
    /// The places, from 0, of those that have a bound, and which.
    LANE_BOUNDS = "SELECT u.place - 1, coalesce(t.weight, 1), t.max_running, coalesce(y.max_running, s.max_running), b.probe_at, \
        EXISTS (SELECT 1 FROM live_executions l WHERE l.id = b.probe_id AND l.state = 'running'), \
        coalesce(t.claim_quotas, false) \
        FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY u(tenant_id, task_type, place) \
        LEFT JOIN tenants t ON t.id = u.tenant_id \
        LEFT JOIN task_types y ON y.tenant_id = u.tenant_id AND y.task_type = u.task_type \
        LEFT JOIN task_types s ON s.tenant_id = 0 AND s.task_type = u.task_type \
        LEFT JOIN type_breakers b ON b.tenant_id = u.tenant_id AND b.task_type = u.task_type \
            AND b.opened_at IS NOT NULL \
        WHERE t.weight <> 1 OR t.max_running IS NOT NULL OR t.claim_quotas \
        OR y.max_running IS NOT NULL OR s.max_running IS NOT NULL OR b.opened_at IS NOT NULL";
    /// `$1` tenants, `$2` day: their quotas, and what is used up and reserved
    QUOTAS_SPENT = "SELECT t.id, coalesce(t.quotas, '{}')::text, t.minute, t.minute_starts, u.fuel, u.log_bytes, r.fuel, r.memory, r.log \
        FROM tenants t CROSS JOIN LATERAL (SELECT coalesce(sum(d.fuel), 0)::bigint AS fuel, \
            coalesce(sum(d.log_bytes), 0)::bigint AS log_bytes FROM usage_days d WHERE d.tenant_id = t.id AND d.day = $2) u \
        CROSS JOIN LATERAL (SELECT coalesce(sum(l.fuel_reserved), 0)::bigint AS fuel, \
            coalesce(sum(l.memory_reserved), 0)::bigint AS memory, coalesce(sum(l.log_reserved), 0)::bigint AS log \
            FROM live_executions l WHERE l.tenant_id = t.id AND l.state = 'running') r \
        WHERE t.id = ANY ($1) AND t.deleted_at IS NULL";
    /// What runs of `$1` ask for: the limits of their plugins and their configs.
    ASKS = "SELECT l.id, v.limits::text, c.limits::text FROM live_executions l \
        LEFT JOIN task_configs c ON c.id = l.config_id \
        LEFT JOIN task_types y ON y.tenant_id = ANY (ARRAY[0, l.tenant_id]) AND y.task_type = l.task_type \
        LEFT JOIN plugin_versions v ON v.tenant_id = y.tenant_id AND v.task_type = y.task_type \
            AND v.digest = coalesce(c.plugin_version, y.active_digest) WHERE l.id = ANY ($1)";
    /// ids, fuel, memory, log
    RESERVE = "UPDATE live_executions l SET fuel_reserved = u.fuel, memory_reserved = u.memory, log_reserved = u.log \
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) u(id, fuel, memory, log) WHERE l.id = u.id";
    /// `$2` minute, `$3` how many started. The claim holds the row.
    COUNT_STARTS = "UPDATE tenants SET minute_starts = CASE WHEN minute = $2 THEN minute_starts ELSE 0 END + $3, minute = $2 \
        WHERE id = $1";
    RUNNING_OF_TYPES = "SELECT tenant_id, task_type, count(*) FROM live_executions \
        WHERE state = 'running' AND tenant_id = ANY ($1) GROUP BY 1, 2";
    /// The places, from 0, of those of which something waits.
    LANES_WAITING = "SELECT u.place - 1 FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY u(tenant_id, task_type, place) \
        WHERE (SELECT 1 FROM live_executions l WHERE l.tenant_id = u.tenant_id AND l.task_type = u.task_type \
            AND l.state = 'available' AND l.blocked = (SELECT 0) ORDER BY l.queue_key, l.id LIMIT 1) IS NOT NULL";
    /// The lanes in which something waits, found one after the other however much waits in each.
    BUSY_LANES = "WITH RECURSIVE busy AS ( \
        (SELECT l.tenant_id, l.task_type, l.state FROM live_executions l \
            WHERE l.state IN ('scheduled', 'available', 'retryable') ORDER BY l.tenant_id, l.task_type, l.state LIMIT 1) \
        UNION ALL SELECT n.tenant_id, n.task_type, n.state FROM busy b CROSS JOIN LATERAL ( \
            SELECT l.tenant_id, l.task_type, l.state FROM live_executions l \
            WHERE (l.tenant_id, l.task_type) > (b.tenant_id, b.task_type) \
            AND l.state IN ('scheduled', 'available', 'retryable') ORDER BY l.tenant_id, l.task_type, l.state LIMIT 1) n) \
        SELECT tenant_id, task_type FROM busy WHERE state = 'available'";
    LOCK_TENANTS = "SELECT 1 FROM tenants WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE";
    LOCK_TYPES = "SELECT 1 FROM task_types WHERE (tenant_id, task_type) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::text[])) ORDER BY tenant_id, task_type FOR NO KEY UPDATE";
    TRY_LOCK_TENANTS = "SELECT 1 FROM tenants WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED";
    TRY_LOCK_TYPES = "SELECT 1 FROM task_types WHERE (tenant_id, task_type) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::text[])) ORDER BY tenant_id, task_type FOR NO KEY UPDATE SKIP LOCKED";
    LOCK_BREAKERS = "SELECT 1 FROM type_breakers WHERE (tenant_id, task_type) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::text[])) ORDER BY tenant_id, task_type FOR NO KEY UPDATE";
    /// `$3` how many of each are looked at, `$4` running and `$5` weight of its tenant; `$6` how many are wanted
    /// in all, `$7` whether suspects may run, `$8` now. The places, from 0, and how many of each come next. Nothing is
    /// locked: who is next is decided before, so that no more is locked than is taken.
    NEXT_OF_LANES = "SELECT k.place - 1, count(*) FROM ( \
        SELECT o.place FROM (SELECT l.place, l.running, l.weight, w.queue_key, w.id, \
            row_number() OVER (PARTITION BY l.tenant_id ORDER BY w.queue_key, w.id) AS nth \
            FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY \
                l(tenant_id, task_type, portion, running, weight, place) \
            CROSS JOIN LATERAL (SELECT p.queue_key, p.id FROM live_executions p \
                WHERE p.tenant_id = l.tenant_id AND p.task_type = l.task_type AND p.state = 'available' \
                AND p.blocked = (SELECT 0) AND (p.lost < 3 OR $7) \
                AND (p.expires_at IS NULL OR p.expires_at > $8 OR p.run_key IS NOT NULL AND p.lost < 3) \
                ORDER BY p.queue_key, p.id LIMIT l.portion) w) o \
        ORDER BY (o.running + o.nth)::double precision / o.weight, o.queue_key, o.id LIMIT $6) k GROUP BY 1";
    /// `$3` how many of each, `$4` whether suspects may run, `$5` incarnation, `$6` now
    CANDIDATES = concat!("WITH page AS MATERIALIZED (SELECT w.* \
            FROM unnest($1::bigint[], $2::text[], $3::bigint[]) n(tenant_id, task_type, portion) \
            CROSS JOIN LATERAL (SELECT * FROM live_executions p \
                WHERE p.tenant_id = n.tenant_id AND p.task_type = n.task_type AND p.state = 'available' \
                AND p.blocked = (SELECT 0) AND (p.lost < 3 OR $4) \
                AND (p.expires_at IS NULL OR p.expires_at > $6 OR p.run_key IS NOT NULL AND p.lost < 3) \
                AND EXISTS (SELECT 1 FROM hosts h WHERE h.incarnation = $5 AND h.stopped_at IS NULL) \
                ORDER BY p.queue_key, p.id LIMIT n.portion FOR UPDATE OF p SKIP LOCKED) w) \
        SELECT ", candidate!(), " FROM page l LEFT JOIN task_configs c ON c.id = l.config_id AND c.deleted_at IS NULL");
    /// `$3` how many, `$4` incarnation, `$5` now. Takes what comes next, if it is all of one lane, and nothing bounds that
    /// or what is taken. The last column: something else waits, so that nothing was taken. `(SELECT ..)`: as in `RECORD_PLAIN`.
    CLAIM_PLAIN = concat!("WITH busy AS MATERIALIZED (SELECT u.tenant_id, u.task_type \
            FROM unnest((SELECT $1::bigint[]), $2::text[]) u(tenant_id, task_type) \
            WHERE (SELECT 1 FROM live_executions l WHERE l.tenant_id = u.tenant_id AND l.task_type = u.task_type \
                AND l.state = 'available' AND l.blocked = (SELECT 0) ORDER BY l.queue_key, l.id LIMIT 1) IS NOT NULL LIMIT 2), \
        lane AS MATERIALIZED (SELECT tenant_id, task_type FROM busy u WHERE (SELECT count(*) FROM busy) = 1 \
            AND (SELECT t.weight <> 1 OR t.max_running IS NOT NULL OR t.claim_quotas FROM tenants t \
                WHERE t.id = u.tenant_id) IS NOT TRUE \
            AND (SELECT y.max_running FROM task_types y WHERE y.tenant_id = u.tenant_id AND y.task_type = u.task_type) IS NULL \
            AND (SELECT y.max_running FROM task_types y WHERE y.tenant_id = 0 AND y.task_type = u.task_type) IS NULL \
            AND (SELECT b.opened_at FROM type_breakers b WHERE b.tenant_id = u.tenant_id AND b.task_type = u.task_type) IS NULL), \
        page AS MATERIALIZED (SELECT w.* FROM lane n CROSS JOIN LATERAL (SELECT * FROM live_executions p \
            WHERE p.tenant_id = n.tenant_id AND p.task_type = n.task_type AND p.state = 'available' AND p.blocked = (SELECT 0) \
            AND EXISTS (SELECT 1 FROM hosts h WHERE h.incarnation = $4 AND h.stopped_at IS NULL) \
            ORDER BY p.queue_key, p.id LIMIT (SELECT $3::bigint) FOR UPDATE OF p SKIP LOCKED) w), \
        other AS MATERIALIZED (SELECT EXISTS (SELECT 1 FROM busy) AND NOT EXISTS (SELECT 1 FROM lane) \
            OR EXISTS (SELECT 1 FROM page WHERE run_key IS NOT NULL OR rate_key IS NOT NULL OR lost >= 3 \
                OR expires_at <= $5) AS waits), \
        started AS (", start!("(SELECT NOT waits FROM other) AND id = ANY (ARRAY(SELECT id FROM page))", "$4", "$5"), ") \
        SELECT ", candidate!(), ", o.waits FROM other o LEFT JOIN page l ON NOT o.waits \
        LEFT JOIN task_configs c ON c.id = l.config_id AND c.deleted_at IS NULL");
    RUNNING_OF_KEYS = "SELECT u.tenant_id, u.run_key, count(*) \
        FROM unnest($1::bigint[], $2::text[]) u(tenant_id, run_key) \
        JOIN live_executions l ON l.tenant_id = u.tenant_id AND l.run_key = u.run_key \
        AND l.run_key IS NOT NULL AND l.state = 'running' GROUP BY 1, 2";
    SUSPECT_RUNS = "SELECT EXISTS (SELECT 1 FROM live_executions WHERE state = 'running' AND lost >= 3)";
    /// `$1` ids, `$2` incarnation, `$3` now
    START = start!("id = ANY ($1)", "$2", "$3");
    /// `$2` why
    BLOCK = "UPDATE live_executions SET blocked = $2 WHERE id = ANY ($1)";
    PROBE = "UPDATE type_breakers SET probe_id = $3 WHERE tenant_id = $1 AND task_type = $2";
    FULL_AT = "SELECT k.tenant_id, k.run_key, k.full_at FROM run_keys k WHERE (k.tenant_id, k.run_key) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::text[])) AND k.full_at IS NOT NULL";
    SET_RATES = "UPDATE run_keys k SET full_at = u.full_at, rate_count = u.rate_count, \
        rate_seconds = u.rate_seconds, ready_at = u.ready_at \
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
        u(tenant_id, run_key, full_at, rate_count, rate_seconds, ready_at) \
        WHERE k.tenant_id = u.tenant_id AND k.run_key = u.run_key";
    RATES_READY = "SELECT tenant_id, run_key, full_at, rate_count, rate_seconds FROM run_keys \
        WHERE ready_at IS NOT NULL AND ready_at <= $1 ORDER BY ready_at LIMIT $2 FOR UPDATE SKIP LOCKED";
    RATES_READY_AT = "UPDATE run_keys k SET ready_at = u.ready_at \
        FROM unnest($1::bigint[], $2::text[], $3::bigint[]) u(tenant_id, run_key, ready_at) \
        WHERE k.tenant_id = u.tenant_id AND k.run_key = u.run_key";
    /// Tenants, rates, how many of each.
    UNTHROTTLE = "UPDATE live_executions SET blocked = 0 WHERE id = ANY (ARRAY( \
        SELECT w.id FROM unnest($1::bigint[], $2::text[], $3::bigint[]) f(tenant_id, rate_key, tokens) \
            CROSS JOIN LATERAL ( \
                SELECT b.id FROM live_executions b WHERE b.blocked = 2 AND b.tenant_id = f.tenant_id \
                AND b.rate_key = f.rate_key ORDER BY b.queue_key, b.id LIMIT f.tokens FOR UPDATE SKIP LOCKED) w)) \
        RETURNING tenant_id, rate_key";
    /// Tenants, rates, and the run keys that share their buckets: those for which something waits.
    WAITING_FOR_RATES = "SELECT f.tenant_id, f.rate_key FROM unnest($1::bigint[], $2::text[], $3::text[]) f(tenant_id, rate_key, run_key) \
        WHERE (SELECT 1 FROM live_executions b WHERE b.blocked = 2 AND b.tenant_id = f.tenant_id \
            AND b.rate_key = f.rate_key LIMIT 1) IS NOT NULL \
        OR (SELECT 1 FROM live_executions b WHERE b.blocked = 1 AND b.tenant_id = f.tenant_id \
            AND b.run_key = f.run_key LIMIT 1) IS NOT NULL";
    /// Run keys that have a place and something that waits for it, and how many places. The keys are found one after
    /// another in the index.
    STUCK_KEYS = "WITH RECURSIVE keys AS ( \
            (SELECT b.tenant_id, b.run_key, b.run_max FROM live_executions b WHERE b.blocked = 1 \
                ORDER BY b.tenant_id, b.run_key LIMIT 1) \
            UNION ALL \
            SELECT n.tenant_id, n.run_key, n.run_max FROM keys k CROSS JOIN LATERAL ( \
                SELECT b.tenant_id, b.run_key, b.run_max FROM live_executions b WHERE b.blocked = 1 \
                AND (b.tenant_id, b.run_key) > (k.tenant_id, k.run_key) \
                ORDER BY b.tenant_id, b.run_key LIMIT 1) n) \
        SELECT f.tenant_id, f.run_key, f.places FROM (SELECT k.tenant_id, k.run_key, k.run_max - ( \
            SELECT count(*) FROM live_executions l WHERE l.tenant_id = k.tenant_id AND l.run_key = k.run_key \
            AND l.run_key IS NOT NULL AND l.state = 'running') AS places FROM keys k) f WHERE f.places > 0";
    /// Tenants, keys, how many of each and each type; `$4` = now. The types are found one after another in
    /// the index, because what a host cannot load must not stand before what it can.
    UNBLOCK = "WITH RECURSIVE kinds AS ( \
            SELECT f.tenant_id, f.run_key, f.places, (SELECT min(b.task_type) FROM live_executions b \
                WHERE b.blocked = 1 AND b.tenant_id = f.tenant_id AND b.run_key = f.run_key) AS task_type \
            FROM unnest($1::bigint[], $2::text[], $3::bigint[]) f(tenant_id, run_key, places) \
            UNION ALL \
            SELECT k.tenant_id, k.run_key, k.places, (SELECT min(b.task_type) FROM live_executions b \
                WHERE b.blocked = 1 AND b.tenant_id = k.tenant_id AND b.run_key = k.run_key \
                AND b.task_type > k.task_type) \
            FROM kinds k WHERE k.task_type IS NOT NULL) \
        UPDATE live_executions SET blocked = 0 WHERE id = ANY (ARRAY( \
            SELECT w.id FROM kinds k CROSS JOIN LATERAL ( \
                SELECT b.id FROM live_executions b WHERE b.blocked = 1 AND b.tenant_id = k.tenant_id \
                AND b.run_key = k.run_key AND b.task_type = k.task_type \
                AND (b.expires_at IS NULL OR b.expires_at > $4) \
                ORDER BY b.queue_key, b.id LIMIT k.places FOR UPDATE SKIP LOCKED) w))";

    // ---- the end of attempts
    LOCK_RUNNING = "WITH l AS MATERIALIZED (SELECT * FROM live_executions WHERE id = ANY ($1) ORDER BY id FOR UPDATE) \
        SELECT l.id, l.task_id, l.claim, l.incarnation, l.tenant_id, l.config_id, \
        l.cancel_requested_at IS NOT NULL, l.parameters IS NULL, l.run_key, l.lost, \
        l.incarnation = ANY (ARRAY(SELECT incarnation FROM hosts WHERE stopped_at IS NULL)), l.task_type, \
        EXISTS (SELECT 1 FROM type_breakers b WHERE b.tenant_id = l.tenant_id AND b.task_type = l.task_type), \
        l.chain::text, l.chain_depth FROM l WHERE l.state = 'running'";
    CONFIGS_OF = "SELECT c.id, c.deleted_at IS NOT NULL, c.delete_history, c.paused, s.failures_in_a_row, \
        s.state_version FROM task_configs c JOIN task_schedules s ON s.config_id = c.id WHERE c.id = ANY ($1)";
    RECORD = concat!("WITH ended AS (", ended!("", ""), "), \
        gone AS (DELETE FROM live_executions l WHERE l.id = ANY ($1) RETURNING l.*) ",
        history_of_gone!());
    /// As `RECORD`, with `$18` task ids, for what runs under `$19` and whose end asks for nothing else; `$20` usage as for
    /// `ADD_USAGE`, then tenants, executions, claims and lines of the logs. All or nothing; whether it was all. What was used is
    /// added when the reservations are gone: `done` has the one wait for the other. `(SELECT $1)`: a planner that knew how
    /// many there are would plan anew for each few, which takes longer than to end them.
    RECORD_PLAIN = concat!("WITH ended AS (", ended!(", $18::text[]", ", task_id"), "), \
        held AS MATERIALIZED (SELECT l.id, l.tenant_id, l.task_type, l.config_id, l.task_id, l.claim, \
            l.state = 'running' AND l.incarnation = $19 AND l.cancel_requested_at IS NULL AND l.run_key IS NULL \
            AND l.chain IS NULL AND l.lost < 3 AND l.parameters IS NOT NULL AS is_plain \
            FROM live_executions l WHERE l.id = ANY ((SELECT $1)::bigint[]) ORDER BY l.id FOR UPDATE), \
        lanes AS MATERIALIZED (SELECT DISTINCT tenant_id, task_type FROM held), \
        plain AS MATERIALIZED (SELECT EXISTS (SELECT 1 FROM hosts h WHERE h.incarnation = $19 AND h.stopped_at IS NULL) \
            AND (SELECT count(*) FROM held h JOIN unnest($1, $17, $18) e (id, claim, task_id) \
                ON e.id = h.id AND e.claim = h.claim AND e.task_id = h.task_id WHERE h.is_plain) = cardinality($1) \
            AND ends_are_plain(ARRAY(SELECT DISTINCT config_id FROM held WHERE config_id IS NOT NULL), \
                ARRAY(SELECT tenant_id FROM lanes ORDER BY tenant_id, task_type), \
                ARRAY(SELECT task_type FROM lanes ORDER BY tenant_id, task_type)) AS yes), \
        gone AS (DELETE FROM live_executions l WHERE l.id = ANY (ARRAY(SELECT id FROM held)) \
            AND (SELECT yes FROM plain) RETURNING l.*), \
        kept AS (", history_of_gone!(), " RETURNING 1), \
        done AS MATERIALIZED (SELECT count(*) > 0 AS yes FROM kept), \
        logged AS (", insert_logs!("$21", "$22", "$23", "$24"), " WHERE (SELECT yes FROM done)), \
        used AS (", add_used!("(CASE WHEN (SELECT yes FROM done) THEN $20 ELSE '[]' END)"), ") \
        SELECT yes FROM done");
    /// See `import::row`. The ids of those that were not there.
    INSERT_IMPORTED = concat!(history_columns!(),
        "SELECT (j ->> 0)::bigint, (j ->> 1)::bigint, j ->> 2, (j ->> 3)::boolean, (j ->> 4)::bigint, \
         (j ->> 5)::bigint, (j ->> 6)::double precision, nullif(j -> 7, 'null'), j ->> 8, j ->> 9, \
         (j ->> 10)::bigint, j ->> 11, j ->> 12, 'api', NULL, NULL, NULL, NULL, 0, 1, 1, 0, NULL, NULL, NULL, \
         NULL, NULL, NULL, j ->> 13, (j ->> 14)::bigint, (j ->> 4)::bigint, NULL, NULL, NULL, NULL, NULL, NULL, \
         NULL FROM jsonb_array_elements($1::jsonb) a(j) ON CONFLICT DO NOTHING RETURNING id");
    DELETE_LIVE = "DELETE FROM live_executions WHERE id = ANY ($1)";
    DELETE_PARAMETERS = "DELETE FROM live_parameters WHERE execution_id = ANY ($1)";
    /// tenants, ids
    DELETE_ATTEMPTS = "DELETE FROM task_attempts WHERE (tenant_id, execution_id) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::bigint[]))";
    DELETE_LOGS = "DELETE FROM execution_logs WHERE (tenant_id, execution_id) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::bigint[]))";
    DELETE_HTTP = "DELETE FROM execution_http WHERE (tenant_id, execution_id) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::bigint[]))";
    /// See `columns::AttemptRow`; `$1` the tenants.
    INSERT_ATTEMPTS = "INSERT INTO task_attempts (tenant_id, execution_id, claim, attempt, outcome, \
        started_at, completed_at, duration_seconds, error_kind, error_message, error_traceback, error_code, \
        error_details, usage, plugin_digest, host) \
        SELECT u.tenant_id, (j ->> 0)::bigint, (j ->> 1)::bigint, (j ->> 2)::bigint, j ->> 3, \
        (j ->> 4)::bigint, (j ->> 5)::bigint, (j ->> 6)::double precision, j ->> 7, j ->> 8, j ->> 9, \
        j ->> 10, nullif(j -> 11, 'null'), nullif(j -> 12, 'null'), j ->> 13, j ->> 14 \
        FROM unnest($1::bigint[], $2::text[]) u(tenant_id, row_text), LATERAL (SELECT row_text::jsonb AS j) r";
    INSERT_LOGS = insert_logs!("$1", "$2", "$3", "$4");
    INSERT_HTTP = "INSERT INTO execution_http (tenant_id, execution_id, claim, calls) \
        SELECT tenant_id, id, claim, calls::jsonb \
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) u(tenant_id, id, claim, calls)";
    RETRY = "UPDATE live_executions l SET state = 'retryable', incarnation = NULL, due_at = u.due_at, \
        queue_key = u.due_at - l.priority::bigint * 60000000, \
        first_started_at = CASE WHEN l.first_started_at IS NOT DISTINCT FROM l.started_at \
            THEN u.started_at ELSE l.first_started_at END, \
        started_at = u.started_at, progress = coalesce(u.progress::jsonb, l.progress) \
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) u(id, due_at, started_at, progress) \
        WHERE l.id = u.id";
    /// ids, states, due or null, started or null; `$5` is added to `lost`
    GIVE_BACK = "UPDATE live_executions l SET state = u.state, attempt = greatest(l.attempt - 1, 0), \
        due_at = coalesce(u.due_at, l.due_at), \
        queue_key = coalesce(u.due_at, l.due_at) - l.priority::bigint * 60000000, \
        first_started_at = CASE WHEN l.first_started_at IS NOT DISTINCT FROM l.started_at \
            THEN u.started_at ELSE l.first_started_at END, \
        started_at = u.started_at, incarnation = CASE WHEN u.state = 'running' THEN l.incarnation END, \
        blocked = 0, lost = l.lost + $5 \
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) u(id, state, due_at, started_at) \
        WHERE l.id = u.id";
    /// `$1` ids, `$2` now, `$3` state, `$4` kind, `$5` message. The history of a config that goes with its
    /// history gets no row.
    END_BARE = concat!("WITH gone AS (DELETE FROM live_executions l WHERE l.id = ANY ($1) RETURNING l.*), \
        aside AS (DELETE FROM live_parameters WHERE execution_id = ANY ($1)), \
        told AS (SELECT g.id, g.tenant_id, g.run_key, coalesce(c.delete_history, false) AS forgotten, \
            CASE WHEN g.config_id IS NULL OR (c.id IS NOT NULL AND c.deleted_at IS NULL) \
                THEN g.chain::text END AS chain, \
            g.task_id, g.chain_depth, g.trace \
            FROM gone g LEFT JOIN task_configs c ON c.id = g.config_id), \
        recorded AS (",
        history_columns!(),
        "SELECT g.id, g.config_id, g.task_id, false, g.started_at, $2, NULL, NULL, $5, NULL, g.tenant_id, \
         g.task_type, $3, g.trigger, g.slot, NULL, NULL, NULL, g.priority, g.attempt, g.max_attempts, \
         g.lost, coalesce(g.parameters, (SELECT p.parameters FROM live_parameters p WHERE p.execution_id = g.id)), \
         $4, NULL, NULL, NULL, NULL, NULL, g.created_at, g.first_started_at, g.due_at, g.expires_at, \
         g.cancel_requested_at, g.progress, g.parent_task_id, g.retry_of, NULL \
         FROM gone g JOIN told t ON t.id = g.id WHERE NOT t.forgotten) \
        SELECT id, tenant_id, run_key, forgotten, chain, task_id, chain_depth, trace FROM told ORDER BY id");
    HELD = "SELECT id, task_id, claim FROM live_executions \
        WHERE state = 'running' AND incarnation = $1 ORDER BY id";
    /// Locked in order, so that two hosts' reports cannot wait for each other.
    PROGRESS = "WITH told AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) u(id, claim, progress)), \
        locked AS MATERIALIZED (SELECT l.id, t.progress FROM live_executions l JOIN told t \
            ON t.id = l.id AND t.claim = l.claim WHERE l.state = 'running' ORDER BY l.id FOR UPDATE OF l) \
        UPDATE live_executions l SET progress = k.progress::jsonb FROM locked k WHERE l.id = k.id";
    /// What runs under any incarnation that is not alive.
    LOST_RUNS = "SELECT l.id, l.claim, l.attempt, l.lost, l.started_at, l.cancel_requested_at IS NOT NULL, \
        (SELECT h.name FROM hosts h WHERE h.incarnation = l.incarnation), l.tenant_id, l.run_key, l.config_id \
        FROM live_executions l WHERE l.state = 'running' \
        AND l.incarnation <> ALL (ARRAY(SELECT incarnation FROM hosts WHERE stopped_at IS NULL)) \
        ORDER BY l.id LIMIT $1 FOR UPDATE OF l SKIP LOCKED";

    // ---- breakers
    ADD_BREAKERS = "INSERT INTO type_breakers (tenant_id, task_type, failures) \
        SELECT u.tenant_id, u.task_type, 0 FROM unnest($1::bigint[], $2::text[]) u(tenant_id, task_type) \
        ORDER BY 1, 2 ON CONFLICT DO NOTHING";
    BREAKERS = "SELECT b.tenant_id, b.task_type, b.failures, b.opened_at, b.probe_at, b.pause_seconds, b.probe_id, \
        b.error_kind, b.error_message FROM type_breakers b WHERE (b.tenant_id, b.task_type) IN ( \
        SELECT * FROM unnest($1::bigint[], $2::text[])) ORDER BY b.tenant_id, b.task_type FOR UPDATE";
    SET_BREAKER = "INSERT INTO type_breakers (tenant_id, task_type, failures, opened_at, probe_at, pause_seconds, \
        probe_id, error_kind, error_message) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
        ON CONFLICT (tenant_id, task_type) DO UPDATE SET failures = excluded.failures, \
        opened_at = excluded.opened_at, probe_at = excluded.probe_at, pause_seconds = excluded.pause_seconds, \
        probe_id = excluded.probe_id, error_kind = excluded.error_kind, error_message = excluded.error_message";
    DROP_BREAKER = "DELETE FROM type_breakers WHERE tenant_id = $1 AND task_type = $2";

    // ---- cancel
    LOCK_LIVE = "SELECT id, state FROM live_executions WHERE tenant_id = $1 AND task_id = $2 FOR UPDATE";
    FIND_ENDED = "SELECT e.state FROM task_executions e LEFT JOIN task_configs c ON c.id = e.config_id \
        WHERE e.tenant_id = $1 AND e.task_id = $2 AND c.delete_history IS NOT TRUE AND e.completed_at >= $3";
    ASK_CANCEL = "UPDATE live_executions SET cancel_requested_at = coalesce(cancel_requested_at, $2) WHERE id = $1";

    // ---- failures in a row
    COUNT_FAILURES = "UPDATE task_schedules s SET failures_in_a_row = u.failures \
        FROM unnest($1::bigint[], $2::bigint[]) u(config_id, failures) WHERE s.config_id = u.config_id";
    PAUSE_CONFIG = "UPDATE task_configs SET paused = true, pause_reason = $2, version = version + 1, \
        updated_at = $3 WHERE id = $1";
    STOP_SCHEDULE = "UPDATE task_schedules SET next_fire_at = NULL WHERE config_id = $1";

    // ---- state
    STATE = "SELECT t.key, t.value, t.version FROM task_state t JOIN task_configs c ON c.id = t.config_id \
        WHERE t.config_id = $1 AND c.deleted_at IS NULL ORDER BY t.key";
    /// Of each config its tenant and that one's quota, with each key it has.
    STATE_VERSIONS = "SELECT c.id, c.tenant_id, (t.quotas ->> 'state_bytes')::bigint, s.key, s.version, \
            (octet_length(s.key) + octet_length(s.value))::bigint \
        FROM task_configs c LEFT JOIN tenants t ON t.id = c.tenant_id \
        LEFT JOIN task_state s ON s.config_id = c.id WHERE c.id = ANY ($1)";
    SET_STATE = "INSERT INTO task_state (config_id, key, version, updated_at, value) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (config_id, key) DO UPDATE SET version = excluded.version, \
        updated_at = excluded.updated_at, value = excluded.value";
    DELETE_STATE = "DELETE FROM task_state WHERE config_id = $1 AND key = $2";
    RESET_STATE = "DELETE FROM task_state WHERE config_id = $1";
    /// The next version of a config's state.
    RAISE_STATE_VERSION = "UPDATE task_schedules SET state_version = state_version + 1 \
        WHERE config_id = $1 RETURNING state_version";
    KEEP_STATE_VERSION = "UPDATE task_schedules SET state_version = $2 WHERE config_id = $1";

    // ---- configs
    CONFIG = configs!(" AND c.tenant_id = $1 AND c.id = $2");
    CONFIG_BY_KEY = configs!(" AND c.tenant_id = $1 AND c.key = $2 AND c.key IS NOT NULL");
    CHANGED_CONFIGS = configs!(" AND c.tenant_id = $1 AND c.updated_at >= $2 ORDER BY c.updated_at, c.id LIMIT $3");
    CONFIGS_BY_IDS = configs!(" AND c.id = ANY ($1) ORDER BY c.id");
    LIST_CONFIGS = configs!(" AND c.tenant_id = $1 AND c.id < $2 AND ($3::text IS NULL OR c.task_type = $3) \
        AND ($4::text IS NULL OR c.scheduler_type = $4) AND ($5::boolean IS NULL OR c.paused = $5) \
        AND ($6::text IS NULL OR position($6 IN c.name_folded) > 0) \
        AND ($8::text IS NULL OR c.declared_by = $8) ORDER BY c.id DESC LIMIT $7");
    KEY_OWNER = "SELECT id FROM task_configs WHERE tenant_id = $1 AND key = $2 \
        AND key IS NOT NULL AND deleted_at IS NULL";
    INSERT_CONFIG = "INSERT INTO task_configs (tenant_id, key, name, name_folded, task_type, scheduler_type, \
        parameters, schedule_config, max_retries, timeout_seconds, priority, limits, retry_policy, overlap, \
        concurrency, chain, plugin_version, paused, pause_reason, pause_after_failures, \
        expires_after_seconds, version, created_at, updated_at) VALUES ($2, $3, $4, $5, $6, $7, $8::jsonb, \
        $9::jsonb, $10, $11, $12, $13::jsonb, $14::jsonb, $15, $16::jsonb, $17::jsonb, $18, $19, $20, $21, \
        $22, 1, $1, $1) RETURNING id";
    DECLARED_BY = "UPDATE task_configs SET declared_by = $2 WHERE id = $1";
    INSERT_SCHEDULE = "INSERT INTO task_schedules (config_id, next_fire_at, anchor_at, zone_data) VALUES ($1, $2, $3, $4)";
    UPDATE_CONFIG = "UPDATE task_configs SET key = $3, name = $4, name_folded = $5, task_type = $6, \
        scheduler_type = $7, parameters = $8::jsonb, schedule_config = $9::jsonb, max_retries = $10, \
        timeout_seconds = $11, priority = $12, limits = $13::jsonb, retry_policy = $14::jsonb, \
        overlap = $15, concurrency = $16::jsonb, chain = $17::jsonb, plugin_version = $18, paused = $19, \
        pause_reason = $20, pause_after_failures = $21, expires_after_seconds = $22, version = version + 1, updated_at = $1 \
        WHERE id = $2";
    UPDATE_SCHEDULE = "UPDATE task_schedules SET next_fire_at = $2, last_slot = $3, anchor_at = $4, \
        skip_reason = $5, skip_first = $6, skip_last = $7, skip_count = $8, failures_in_a_row = $9, zone_data = $10 \
        WHERE config_id = $1";
    /// Behind `LOCK_CONFIG`: whoever enqueues sees a tombstone only by a lock that its own excludes.
    DELETE_CONFIG = "UPDATE task_configs SET deleted_at = $2, delete_history = $3 WHERE id = $1";
    PARK_SCHEDULE = "UPDATE task_schedules SET next_fire_at = NULL, skip_reason = NULL, skip_first = NULL, \
        skip_last = NULL, skip_count = NULL WHERE config_id = $1";
    /// One host at a time works on each.
    TOMBSTONES = "SELECT id, delete_history FROM task_configs WHERE deleted_at IS NOT NULL \
        ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED";
    ORPHAN_HISTORY = "UPDATE task_executions e SET config_id = NULL FROM ( \
        SELECT tenant_id, id, completed_at FROM task_executions WHERE config_id = $1 ORDER BY id LIMIT $2) o \
        WHERE e.tenant_id = o.tenant_id AND e.id = o.id AND e.completed_at = o.completed_at";
    REMOVE_HISTORY = "DELETE FROM task_executions e USING ( \
        SELECT tenant_id, id, completed_at FROM task_executions WHERE config_id = $1 ORDER BY id LIMIT $2) o \
        WHERE e.tenant_id = o.tenant_id AND e.id = o.id AND e.completed_at = o.completed_at \
        RETURNING e.tenant_id, e.id";
    HAS_LIVE = "SELECT EXISTS (SELECT 1 FROM live_executions WHERE config_id = $1)";
    DROP_TOMBSTONE = "DELETE FROM task_configs WHERE id = $1";
    DROP_SCHEDULE = "DELETE FROM task_schedules WHERE config_id = $1";
    DROP_RETENTION = "DELETE FROM retentions r USING task_configs c \
        WHERE c.id = $1 AND r.tenant_id = c.tenant_id AND r.config_id = c.id";

    // ---- settings and secrets
    PLUGIN_CONFIG = "SELECT key, value FROM plugin_config WHERE tenant_id IN (0, $1) AND task_type = $2";
    SET_PLUGIN_CONFIG = "INSERT INTO plugin_config (tenant_id, task_type, key, value, updated_at) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, task_type, key) DO UPDATE SET \
        value = excluded.value, updated_at = excluded.updated_at";
    UNSET_PLUGIN_CONFIG = "DELETE FROM plugin_config WHERE tenant_id = $1 AND task_type = $2 AND key = $3";
    CONFIGURED_TYPES = "SELECT DISTINCT tenant_id, task_type FROM plugin_config ORDER BY 1, 2";
    SECRETS = "SELECT name, version, key_id, created_at, updated_at FROM secrets \
        WHERE tenant_id = $1 ORDER BY name LIMIT $2 OFFSET $3";
    SECRET = "SELECT name, version, key_id, created_at, updated_at FROM secrets \
        WHERE tenant_id = $1 AND name = $2";
    SEALED = "SELECT tenant_id, name, version, key_id, sealed FROM secrets \
        WHERE tenant_id = $1 AND name = ANY ($2) ORDER BY name";
    PUT_SECRET = "INSERT INTO secrets AS s (tenant_id, name, version, key_id, sealed, created_at, updated_at) \
        VALUES ($1, $2, 1, $3, $4, $5, $5) ON CONFLICT (tenant_id, name) DO UPDATE SET \
        version = s.version + 1, key_id = excluded.key_id, sealed = excluded.sealed, \
        updated_at = excluded.updated_at RETURNING name, version, key_id, created_at, updated_at";
    DELETE_SECRET = "DELETE FROM secrets WHERE tenant_id = $1 AND name = $2";
    SECRET_KEYS = "SELECT DISTINCT key_id FROM secrets ORDER BY key_id";
    /// `$2`, `$3` the one before
    UNDER_OTHER_KEYS = "SELECT tenant_id, name, version, key_id, sealed FROM secrets \
        WHERE key_id <> $1 AND (tenant_id, name) > ($2, $3) ORDER BY tenant_id, name LIMIT $4";
    RESEAL = "UPDATE secrets SET key_id = $4, sealed = $5 WHERE tenant_id = $1 AND name = $2 AND version = $3";

    // ---- plugins
    INSERT_TYPE = "INSERT INTO task_types (tenant_id, task_type, created_at, updated_at) \
        VALUES ($1, $2, $3, $3) ON CONFLICT DO NOTHING";
    /// A name is a tenant's or shared: whoever shares one keeps tenants waiting who register it, who do not wait for
    /// each other. Taken first of all.
    LOCK_NAME = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7237109721140711801))";
    SHARE_NAME = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 7237109721140711801))";
    /// Whoever changes a type or its versions holds it.
    LOCK_TYPE = "SELECT 1 FROM task_types WHERE tenant_id = $1 AND task_type = $2 FOR UPDATE";
    /// A tenant's own or one of the host's, never both.
    TYPE = types!("$1", "WHERE y.tenant_id IN (0, $1) AND y.task_type = $2");
    OWN_TYPE = types!("$1", "WHERE y.tenant_id = $1 AND y.task_type = $2");
    TYPES = types!("$1", "WHERE y.tenant_id IN (0, $1) ORDER BY y.task_type LIMIT $2 OFFSET $3");
    ALL_TYPES = types!("y.tenant_id", "ORDER BY y.tenant_id, y.task_type");
    /// The tenants that have a type of that name.
    HOLDERS = "SELECT t.name FROM task_types y JOIN tenants t ON t.id = y.tenant_id WHERE y.task_type = $1 ORDER BY t.id";
    /// Whether it has the type already, as one row.
    HAS_TYPE = "SELECT 1 FROM task_types WHERE tenant_id = $1 AND task_type = $2";
    ACTIVATE = "UPDATE task_types SET \
        previous_digest = CASE WHEN active_digest IS DISTINCT FROM $3 THEN active_digest ELSE previous_digest END, \
        active_digest = $3, updated_at = $4 WHERE tenant_id = $1 AND task_type = $2";
    /// Tasks that name a type; executions of it that wait, and that run
    TYPE_USE = "SELECT (SELECT count(*) FROM task_configs WHERE tenant_id = $1 AND task_type = $2 AND deleted_at IS NULL) AS tasks, \
        (SELECT count(*) FROM live_executions WHERE tenant_id = $1 AND task_type = $2 \
            AND state IN ('scheduled', 'available', 'retryable')) AS waiting, \
        (SELECT count(*) FROM live_executions WHERE tenant_id = $1 AND task_type = $2 AND state = 'running') AS running";
    /// The same of a shared type, whoever's
    SHARED_TYPE_USE = "SELECT (SELECT count(*) FROM task_configs WHERE task_type = $1 AND deleted_at IS NULL) AS tasks, \
        (SELECT count(*) FROM live_executions WHERE task_type = $1 \
            AND state IN ('scheduled', 'available', 'retryable')) AS waiting, \
        (SELECT count(*) FROM live_executions WHERE task_type = $1 AND state = 'running') AS running";
    DROP_SHARED_BREAKERS = "DELETE FROM type_breakers WHERE task_type = $1";
    DROP_VERSIONS = "DELETE FROM plugin_versions WHERE tenant_id = $1 AND task_type = $2";
    DROP_TYPE_CONFIG = "DELETE FROM plugin_config WHERE tenant_id = $1 AND task_type = $2";
    DROP_TYPE = "DELETE FROM task_types WHERE tenant_id = $1 AND task_type = $2";
    DISABLE = "UPDATE task_types SET disabled = $3, updated_at = $4 WHERE tenant_id = $1 AND task_type = $2";
    /// `$3`, `$5`: whether the bound after it is changed
    SET_TYPE_BOUNDS = "UPDATE task_types SET max_running = CASE WHEN $3 THEN $4 ELSE max_running END, \
        backlog = CASE WHEN $5 THEN $6 ELSE backlog END, updated_at = $7 \
        WHERE tenant_id = $1 AND task_type = $2";
    SET_TENANT_BOUNDS = "UPDATE tenants SET weight = $2, max_running = $3, backlog = $4 WHERE id = $1 AND deleted_at IS NULL";
    VERSION = versions!("WHERE tenant_id = $1 AND task_type = $2 AND digest = $3");
    VERSIONS = versions!("WHERE tenant_id IN (0, $1) AND task_type = $2 ORDER BY id DESC");
    ALL_VERSIONS = versions!("WHERE state IN ('compiling', 'ready') ORDER BY id");
    DELETE_VERSION = "DELETE FROM plugin_versions WHERE tenant_id = $1 AND task_type = $2 AND digest = $3";
    INSERT_VERSION = "INSERT INTO plugin_versions (tenant_id, task_type, digest, state, size_bytes, descriptor, \
        grants, limits, input, activate, grant_asked, warnings, created_at) \
        VALUES ($1, $2, $3, 'compiling', $4, $5::jsonb, $6::jsonb, $7::jsonb, $8::jsonb, $9, $10, $11::jsonb, $12)";
    SET_WISHES = "UPDATE plugin_versions SET grants = $2::jsonb, input = $3::jsonb, limits = $4::jsonb, \
        descriptor = CASE state WHEN 'ready' THEN $5::jsonb ELSE descriptor END WHERE id = $1";
    SET_GRANTS = "UPDATE plugin_versions SET grants = $4::jsonb WHERE tenant_id = $1 AND task_type = $2 AND digest = $3";
    /// id, grants, limits, input
    SET_DECLARED = "UPDATE plugin_versions SET grants = $2::jsonb, limits = $3::jsonb, input = $4::jsonb WHERE id = $1";
    VERSION_READY = "UPDATE plugin_versions SET state = 'ready', descriptor = $2::jsonb, warnings = $3::jsonb WHERE id = $1";
    VERSION_FAILED = "UPDATE plugin_versions SET state = 'failed', error = $2 WHERE id = $1";
    /// Bytes are shared between types, so their coming and going has a lock of its own.
    LOCK_BYTES = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7237109721140711798))";
    INSERT_BYTES = "INSERT INTO plugin_bytes (digest, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    BYTES = "SELECT bytes FROM plugin_bytes WHERE digest = $1";
    DROP_BYTES = "DELETE FROM plugin_bytes WHERE digest = $1 AND NOT EXISTS ( \
        SELECT 1 FROM plugin_versions WHERE digest = $1 AND state <> 'failed')";

    // ---- tenants, tokens, who did what
    BUMP_ACCESS = "UPDATE meta SET value = value + 1 WHERE key = 'access_epoch'";
    INSERT_TENANT = "INSERT INTO tenants (id, name, weight, created_at) \
        SELECT coalesce(max(id), 0) + 1, $1, $2::bigint, $3::bigint FROM tenants ON CONFLICT (id) DO NOTHING RETURNING id";
    TENANT_NAMED = tenants!("WHERE deleted_at IS NULL AND name = $1");
    TENANT_BY_ID = tenants!("WHERE deleted_at IS NULL AND id = $1");
    TENANTS = tenants!("WHERE deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2");
    QUOTAS = "SELECT name, quotas::text, max_running, backlog FROM tenants WHERE id = $1 AND deleted_at IS NULL";
    SET_QUOTAS = "UPDATE tenants SET max_running = $2, backlog = $3, quotas = $4::jsonb, claim_quotas = $5 \
        WHERE id = $1 AND deleted_at IS NULL";
    COUNT_TENANT_CONFIGS = "SELECT count(*) FROM task_configs WHERE tenant_id = $1 AND deleted_at IS NULL";
    COUNT_TENANT_TYPES = "SELECT count(*) FROM task_types WHERE tenant_id = $1";
    COUNT_TENANT_RUNNING = "SELECT count(*) FROM live_executions WHERE tenant_id = $1 AND state = 'running'";
    STATE_BYTES = "SELECT coalesce(sum(octet_length(s.key) + octet_length(s.value)), 0)::bigint FROM task_configs c \
        JOIN task_state s ON s.config_id = c.id WHERE c.tenant_id = $1 AND c.deleted_at IS NULL";
    STATE_SIZE = "SELECT (octet_length(key) + octet_length(value))::bigint FROM task_state WHERE config_id = $1 AND key = $2";
    /// Of two that write state of one tenant with such a quota the second waits. Taken after live executions, before
    /// breakers.
    LOCK_STATE = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7237109721140711800))";
    /// Nothing new comes into a deleted tenant: the lock keeps its deletion waiting.
    SHARE_TENANT = "SELECT deleted_at IS NOT NULL FROM tenants WHERE id = $1 FOR KEY SHARE";
    LOCK_TENANT = "SELECT 1 FROM tenants WHERE id = $1 AND deleted_at IS NULL FOR UPDATE";
    TENANT_USE = "SELECT (SELECT count(*) FROM task_configs WHERE tenant_id = $1 AND deleted_at IS NULL), \
        (SELECT count(*) FROM live_executions WHERE tenant_id = $1)";
    DELETE_TENANT = "UPDATE tenants SET deleted_at = $2 WHERE id = $1";
    DELETE_TOKENS = "DELETE FROM tokens WHERE tenant_id = $1";
    ANY_TOMBSTONE = "SELECT EXISTS (SELECT 1 FROM task_configs WHERE deleted_at IS NOT NULL) \
        OR EXISTS (SELECT 1 FROM tenants WHERE deleted_at IS NOT NULL)";
    DELETED_TENANTS = "SELECT id FROM tenants WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED";
    REMOVE_TENANT_HISTORY = "DELETE FROM task_executions e USING ( \
        SELECT tenant_id, id, completed_at FROM task_executions WHERE tenant_id = $1 LIMIT $2) o \
        WHERE e.tenant_id = o.tenant_id AND e.id = o.id AND e.completed_at = o.completed_at \
        RETURNING e.tenant_id, e.id";
    TENANT_RETENTIONS = "DELETE FROM retentions WHERE tenant_id = $1";
    TENANT_USAGE = "DELETE FROM usage_days WHERE tenant_id = $1";
    TENANT_RATES = "DELETE FROM run_keys WHERE tenant_id = $1";
    TENANT_DIGESTS = "SELECT DISTINCT digest FROM plugin_versions WHERE tenant_id = $1 ORDER BY 1";
    TENANT_VERSIONS = "DELETE FROM plugin_versions WHERE tenant_id = $1";
    TENANT_TYPES = "DELETE FROM task_types WHERE tenant_id = $1";
    TENANT_BREAKERS = "DELETE FROM type_breakers WHERE tenant_id = $1";
    TENANT_ANSWERS = "DELETE FROM request_answers WHERE tenant_id = $1";
    TENANT_AUDIT = "DELETE FROM audit_log WHERE tenant_id = $1";
    TENANT_CONFIG = "DELETE FROM plugin_config WHERE tenant_id = $1";
    TENANT_SECRETS = "DELETE FROM secrets WHERE tenant_id = $1";
    DROP_TENANT = "DELETE FROM tenants WHERE id = $1";
    TOKEN = tokens!("WHERE t.id = $1");
    TOKENS = tokens!("WHERE (t.tenant_id = $1 OR ($2 AND t.tenant_id IS NULL)) AND t.id > $3 ORDER BY t.id LIMIT $4");
    INSERT_TOKEN = "INSERT INTO tokens (id, tenant_id, name, role, scope, hash, created_at, created_by, expires_at) \
        SELECT greatest($1::bigint, coalesce(max(id), 0) + 1), $2::bigint, $3::text, $4::text, $5::jsonb, $6::text, $1::bigint, $7::text, $8::bigint \
        FROM tokens ON CONFLICT DO NOTHING RETURNING id";
    ROTATE_TOKEN = "UPDATE tokens SET previous_hash = CASE WHEN $3::bigint IS NOT NULL THEN hash END, previous_until = $3, \
        hash = $2, rotated_at = $4 WHERE id = $1";
    DELETE_TOKEN = "DELETE FROM tokens WHERE id = $1";
    TOUCH_TOKEN = "UPDATE tokens SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
    /// Ids follow each other, so one transaction at a time adds to the log.
    LOCK_AUDIT = "SELECT pg_advisory_xact_lock(7237109721140711799)";
    RECORD_AUDIT = "INSERT INTO audit_log (id, at, tenant_id, token_id, actor, role, action, method, target, status, \
        request_id, address, host) SELECT greatest($2::bigint, (SELECT max(id) + 1 FROM audit_log)) + n - 1, \
        (j ->> 0)::bigint, (j ->> 1)::bigint, (j ->> 2)::bigint, j ->> 3, j ->> 4, j ->> 5, j ->> 6, j ->> 7, \
        (j ->> 8)::bigint, j ->> 9, j ->> 10, j ->> 11 \
        FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY a(j, n)";
    AUDIT = "SELECT id, at, tenant_id, token_id, actor, role, action, method, target, status, request_id, address, host \
        FROM audit_log WHERE (tenant_id = $1 OR ($2 AND tenant_id IS NULL)) AND id < $3 \
        AND ($4::text IS NULL OR action = $4) AND ($5::bigint IS NULL OR token_id = $5) \
        AND ($6::bigint IS NULL OR at >= $6) AND ($7::bigint IS NULL OR at < $7) ORDER BY id DESC LIMIT $8";
    PURGE_AUDIT = "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE at < $1 ORDER BY at LIMIT $2)";

    // ---- care of what ended
    BEGIN_CARE = "UPDATE meta SET value = $1 WHERE key = 'cared_at' AND value <= $1::bigint - $2::bigint";
    // `$1` whose, `$2`, `$3` behind this end and id, `$4` not at or after, `$5` how many
    PRUNE_BY_AGE = "SELECT e.id, e.state, e.completed_at, 0::bigint FROM task_executions e \
        WHERE e.tenant_id = $1 AND e.completed_at >= $2 AND (e.completed_at, e.id) > ($2, $3) AND e.completed_at < $4 \
        ORDER BY e.completed_at, e.id LIMIT $5";
    PRUNE_OF_CONFIG = "SELECT id, state, completed_at, created_at FROM task_executions \
        WHERE config_id = $1 AND id > $2 ORDER BY id LIMIT $3";
    /// `$1` whose, `$2` ids, `$3` their ends. Each partition is asked by its key alone.
    PRUNE = "DELETE FROM task_executions WHERE tenant_id = $1 AND id = ANY ($2) AND completed_at = ANY ($3)";
    HISTORY_COUNT = "SELECT count(*) FROM task_executions WHERE tenant_id = $1";
    BEYOND_NEWEST = "SELECT c.id, (SELECT e.id FROM task_executions e WHERE e.config_id = c.id \
            ORDER BY e.id DESC LIMIT 1 OFFSET $4) \
        FROM task_configs c WHERE c.tenant_id = $1 AND c.id > $2 AND c.deleted_at IS NULL ORDER BY c.id LIMIT $3";
    RETENTION = "SELECT retention::text FROM retentions WHERE tenant_id = $1 AND config_id = $2";
    SET_RETENTION = "INSERT INTO retentions (tenant_id, config_id, retention) VALUES ($1, $2, $3::jsonb) \
        ON CONFLICT (tenant_id, config_id) DO UPDATE SET retention = excluded.retention";
    UNSET_RETENTION = "DELETE FROM retentions WHERE tenant_id = $1 AND config_id = $2";
    CONFIG_RETENTIONS = "SELECT r.config_id, r.retention::text FROM retentions r \
        JOIN task_configs c ON c.id = r.config_id AND c.deleted_at IS NULL \
        WHERE r.tenant_id = $1 AND r.config_id > $2 ORDER BY r.config_id LIMIT $3";
    /// Rows of tenant, day, type, incarnation, and the numbers of a `Tally`.
    ADD_USAGE = add_used!("$1");
    /// `$1` whose or of all, `$2` first day, `$3` not this one
    USAGE = "SELECT tenant_id, day, task_type, sum(runs)::bigint, sum(succeeded)::bigint, sum(failed)::bigint, \
        sum(cancelled)::bigint, sum(fuel)::bigint, sum(cpu_micros)::bigint, sum(wall_micros)::bigint, \
        sum(http_calls)::bigint, sum(http_request_bytes)::bigint, sum(http_response_bytes)::bigint, \
        sum(log_bytes)::bigint, sum(result_bytes)::bigint FROM usage_days WHERE ($1::bigint IS NULL OR tenant_id = $1) \
        AND day >= $2 AND day < $3 GROUP BY tenant_id, day, task_type ORDER BY tenant_id, day, task_type";
    /// Of days on which nobody writes any more.
    UNFOLDED = "SELECT u.tenant_id, u.day, u.task_type, u.incarnation, u.runs, u.succeeded, u.failed, u.cancelled, u.fuel, \
        u.cpu_micros, u.wall_micros, u.http_calls, u.http_request_bytes, u.http_response_bytes, u.log_bytes, u.result_bytes \
        FROM usage_days u WHERE u.incarnation <> 0 AND u.day < $1 ORDER BY u.tenant_id, u.day, u.task_type, u.incarnation \
        LIMIT $2 FOR UPDATE SKIP LOCKED";
    /// Rows of tenant, day, type, incarnation.
    DROP_USAGE = "DELETE FROM usage_days WHERE (tenant_id, day, task_type, incarnation) IN ( \
        SELECT (j ->> 0)::bigint, (j ->> 1)::bigint, j ->> 2, (j ->> 3)::bigint FROM jsonb_array_elements($1::jsonb) a(j))";

    // ---- alerts
    POST_ALERT = "INSERT INTO alerts (alert_id, event, tenant_id, config_id, task_id, detail, subject, created_at, due_at) \
        VALUES (replace(gen_random_uuid()::text, '-', ''), $1, $2, $3, $4, $5::jsonb, $6, $7, $7) ON CONFLICT DO NOTHING";
    TAKE_ALERTS = "UPDATE alerts SET due_at = $2, tries = tries + 1 WHERE alert_id IN (SELECT alert_id FROM alerts \
        WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at, created_at LIMIT $3 FOR UPDATE SKIP LOCKED) \
        RETURNING alert_id, event, tenant_id, config_id, task_id, detail::text, created_at, tries";
    SETTLE_ALERT = "UPDATE alerts SET due_at = $3 WHERE alert_id = $1 AND tries = $2";
    PURGE_ALERTS = "DELETE FROM alerts WHERE alert_id IN (SELECT alert_id FROM alerts WHERE created_at < $1 \
        ORDER BY created_at LIMIT $2)";
    TENANT_ALERTS = "DELETE FROM alerts WHERE tenant_id = $1";

    // ---- history. `$3` of reads by task id: no end is older
    EXECUTION = concat!(
        live_columns!("coalesce(l.parameters, (SELECT p.parameters FROM live_parameters p WHERE p.execution_id = l.id))::text", "a.error_traceback"),
        " WHERE l.tenant_id = $1 AND l.task_id = $2 UNION ALL ",
        ended_columns!("l.result::text", "l.error_traceback", "l.parameters::text"),
        " WHERE l.tenant_id = $1 AND l.task_id = $2 AND c.delete_history IS NOT TRUE AND l.completed_at >= $3");
    VISIBLE = "SELECT l.id FROM live_executions l WHERE l.tenant_id = $1 AND l.task_id = $2 UNION ALL \
        SELECT e.id FROM task_executions e LEFT JOIN task_configs c ON c.id = e.config_id \
        WHERE e.tenant_id = $1 AND e.task_id = $2 AND c.delete_history IS NOT TRUE AND e.completed_at >= $3";
    /// What is news to a tenant: what runs, what is new and lives, what is new and has ended, what has ended.
    NEWS_RUNNING = concat!(live_columns!("NULL::text AS parameters", "NULL::text AS error_traceback"), " WHERE l.tenant_id = $1 AND l.state = 'running' LIMIT $2");
    NEWS_LIVE = concat!(live_columns!("NULL::text AS parameters", "NULL::text AS error_traceback"), " WHERE l.tenant_id = $1 AND l.id > $2 ORDER BY l.id LIMIT $3");
    NEWS_CREATED = concat!(ended_columns!("NULL::text AS result", "NULL::text AS error_traceback", "NULL::text AS parameters"),
        " WHERE l.tenant_id = $1 AND l.id > $2 AND l.completed_at >= $3 AND c.delete_history IS NOT TRUE ORDER BY l.id LIMIT $4");
    NEWS_ENDED = concat!(ended_columns!("NULL::text AS result", "NULL::text AS error_traceback", "NULL::text AS parameters"),
        " WHERE l.tenant_id = $1 AND l.completed_at >= $2 AND (l.completed_at, l.id) > ($2, $3) AND c.delete_history IS NOT TRUE ORDER BY l.completed_at, l.id LIMIT $4");
    ATTEMPTS = "SELECT execution_id, claim, attempt, outcome, started_at, completed_at, error_kind, \
        error_message, error_traceback, error_code, error_details::text, usage::text, plugin_digest, host \
        FROM task_attempts WHERE tenant_id = $1 AND execution_id = $2 UNION ALL \
        SELECT id, ended_claim, attempt, state, started_at, completed_at, error_kind, \
        error_message, error_traceback, error_code, error_details::text, usage::text, plugin_digest, host \
        FROM task_executions WHERE tenant_id = $1 AND id = $2 AND ended_claim IS NOT NULL ORDER BY 2";
    HTTP = "SELECT j.call::text FROM execution_http l, jsonb_array_elements(l.calls) WITH ORDINALITY j(call, place) \
        WHERE l.tenant_id = $1 AND l.execution_id = $2 ORDER BY l.claim, j.place LIMIT $3 OFFSET $4";
    LOGS = "SELECT j.line::text FROM execution_logs l, jsonb_array_elements(l.lines) WITH ORDINALITY j(line, place) \
        WHERE l.tenant_id = $1 AND l.execution_id = $2 ORDER BY l.claim, j.place LIMIT $3 OFFSET $4";
}

/// Live half of a list; the filter follows.
pub(super) const LIST_LIVE: &str =
    live_columns!("NULL::text AS parameters", "NULL::text AS error_traceback");
/// Ended half of a list; the filter follows.
pub(super) const LIST_ENDED: &str = ended_columns!(
    "NULL::text AS result",
    "NULL::text AS error_traceback",
    "NULL::text AS parameters"
);

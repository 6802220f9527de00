-- Instants are integer microseconds since 1970 in UTC, states and kinds are text, JSON is JSONB (read it
-- with json(column)), task_id is a UUID as text.

-- Single numbers of the whole database: catalog_epoch, access_epoch, last_execution_id.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('catalog_epoch', 0), ('access_epoch', 0), ('last_execution_id', 0),
    -- When a round of pruning last began.
    ('cared_at', 0);

CREATE TABLE tenants (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    -- Its share when tenants take turns.
    weight INTEGER NOT NULL DEFAULT 1,
    -- How many of its executions run at once, and may wait; NULL: no bound.
    max_running INTEGER,
    backlog INTEGER,
    -- Its other quotas, as one object; NULL: none. Whether claims look at some of them.
    quotas BLOB,
    claim_quotas INTEGER NOT NULL DEFAULT 0,
    -- The minute, counted from 1970, of its last start that a quota counts, and how many started in it.
    minute INTEGER,
    minute_starts INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER,
    -- A tombstone, until nothing of it is left: its id is never another's while something has it.
    deleted_at INTEGER
);
CREATE UNIQUE INDEX tenants_name ON tenants (name) WHERE deleted_at IS NULL;
CREATE INDEX tenants_deleted ON tenants (id) WHERE deleted_at IS NOT NULL;
INSERT INTO tenants (id, name) VALUES (1, 'default');

-- Who may ask: hashes only. Ids are the microsecond of their creation, so that none is given twice.
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    -- NULL: the host's.
    tenant_id INTEGER,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    -- Permissions it is narrowed to; NULL: all of its role.
    scope BLOB,
    hash TEXT NOT NULL,
    -- Of the secret before the last rotation, while that is still good.
    previous_hash TEXT,
    previous_until INTEGER,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    rotated_at INTEGER
);
CREATE INDEX tokens_tenant ON tokens (tenant_id, id);

-- Who did what, when; never with what.
CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    -- NULL: the host as a whole.
    tenant_id INTEGER,
    -- NULL: the token in the host's data directory.
    token_id INTEGER,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    method TEXT NOT NULL,
    target TEXT NOT NULL,
    status INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    address TEXT,
    host TEXT NOT NULL
);
CREATE INDEX audit_log_tenant ON audit_log (tenant_id, id);
CREATE INDEX audit_log_age ON audit_log (at);

-- One row per start of a host. AUTOINCREMENT: an incarnation is never given twice.
CREATE TABLE hosts (
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    stopped_at INTEGER,
    facts BLOB
);
CREATE INDEX hosts_alive ON hosts (incarnation) WHERE stopped_at IS NULL;

CREATE TABLE task_configs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL,
    key TEXT,
    name TEXT NOT NULL,
    -- The name folded to lower case, for searching.
    name_folded TEXT NOT NULL,
    task_type TEXT NOT NULL,
    scheduler_type TEXT NOT NULL,
    parameters BLOB NOT NULL,
    schedule_config BLOB NOT NULL,
    max_retries INTEGER NOT NULL,
    timeout_seconds INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    limits BLOB NOT NULL,
    retry_policy BLOB NOT NULL,
    overlap TEXT,
    concurrency BLOB,
    chain BLOB NOT NULL,
    plugin_version TEXT,
    paused INTEGER NOT NULL,
    pause_reason TEXT,
    pause_after_failures INTEGER,
    expires_after_seconds INTEGER,
    -- The set of declarations that wrote it.
    declared_by TEXT,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- A tombstone: reads show neither the config nor, in its executions, its id.
    deleted_at INTEGER,
    -- With the tombstone: the history goes too.
    delete_history INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX task_configs_key ON task_configs (tenant_id, key)
    WHERE key IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX task_configs_tenant ON task_configs (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX task_configs_changed ON task_configs (tenant_id, updated_at) WHERE deleted_at IS NULL;
CREATE INDEX task_configs_declared ON task_configs (tenant_id, declared_by, id)
    WHERE declared_by IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX task_configs_deleted ON task_configs (id) WHERE deleted_at IS NOT NULL;

-- The hot part of a config.
CREATE TABLE task_schedules (
    config_id INTEGER PRIMARY KEY,
    next_fire_at INTEGER,
    last_slot INTEGER,
    anchor_at INTEGER NOT NULL,
    skip_reason TEXT,
    skip_first INTEGER,
    skip_last INTEGER,
    skip_count INTEGER,
    failures_in_a_row INTEGER NOT NULL DEFAULT 0,
    -- Highest version ever given to a key of the config's state.
    state_version INTEGER NOT NULL DEFAULT 0,
    -- Release of the zone database that next_fire_at was computed with.
    zone_data TEXT NOT NULL DEFAULT ''
);
CREATE INDEX task_schedules_due ON task_schedules (next_fire_at, config_id) WHERE next_fire_at IS NOT NULL;

CREATE TABLE task_state (
    config_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE UNIQUE INDEX task_state_key ON task_state (config_id, key);

-- Of tenant 0: shared by the host with every tenant. A name is a tenant's or the host's, never both.
CREATE TABLE task_types (
    tenant_id INTEGER NOT NULL,
    task_type TEXT NOT NULL,
    active_digest TEXT,
    -- What was active before: a rollback leads there.
    previous_digest TEXT,
    disabled INTEGER NOT NULL DEFAULT 0,
    -- How many of its executions run at once, and may wait; NULL: no bound.
    max_running INTEGER,
    backlog INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, task_type)
) WITHOUT ROWID;

CREATE TABLE plugin_versions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL,
    task_type TEXT NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    size_bytes INTEGER NOT NULL,
    descriptor BLOB NOT NULL,
    grants BLOB NOT NULL,
    limits BLOB NOT NULL,
    -- Where a WASI program's arguments, environment and input come from.
    input BLOB NOT NULL,
    activate INTEGER NOT NULL,
    grant_asked INTEGER NOT NULL,
    warnings BLOB NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX plugin_versions_digest ON plugin_versions (tenant_id, task_type, digest);
CREATE INDEX plugin_versions_bytes ON plugin_versions (digest);

-- Types that failed last time: how often in a row, and the breaker once it opened (opened_at).
CREATE TABLE type_breakers (
    tenant_id INTEGER NOT NULL,
    task_type TEXT NOT NULL,
    failures INTEGER NOT NULL,
    opened_at INTEGER,
    probe_at INTEGER,
    pause_seconds INTEGER,
    -- The execution that was let through last.
    probe_id INTEGER,
    error_kind TEXT,
    error_message TEXT,
    PRIMARY KEY (tenant_id, task_type)
) WITHOUT ROWID;

-- Components as registered; shared by all versions with the digest.
CREATE TABLE plugin_bytes (
    digest TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
);

-- What operators set for a task type. Not secret.
CREATE TABLE plugin_config (
    tenant_id INTEGER NOT NULL,
    task_type TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX plugin_config_key ON plugin_config (tenant_id, task_type, key);

-- Secrets, sealed with a key that is not in the database: nonce and ciphertext, bound to tenant and name.
CREATE TABLE secrets (
    tenant_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX secrets_name ON secrets (tenant_id, name);
CREATE INDEX secrets_key ON secrets (key_id);

-- What has not ended.
CREATE TABLE live_executions (
    id INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    config_id INTEGER,
    task_type TEXT NOT NULL,
    state TEXT NOT NULL,
    trigger TEXT NOT NULL,
    slot INTEGER,
    priority INTEGER NOT NULL,
    -- due_at - priority * 60 s: the order of claims.
    queue_key INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    lost INTEGER NOT NULL DEFAULT 0,
    claim INTEGER NOT NULL DEFAULT 0,
    incarnation INTEGER,
    run_key TEXT,
    run_max INTEGER NOT NULL,
    -- The bucket its attempts take a token from: how many it holds, in how many seconds it fills.
    rate_key TEXT,
    rate_count INTEGER,
    rate_seconds INTEGER,
    -- What is reserved of its tenant's quotas while it runs; NULL where there is none.
    fuel_reserved INTEGER,
    memory_reserved INTEGER,
    log_reserved INTEGER,
    -- Claims do not look at it: 1 until its run_key is freed, 2 until its rate_key has tokens.
    blocked INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    first_started_at INTEGER,
    due_at INTEGER NOT NULL,
    expires_at INTEGER,
    cancel_requested_at INTEGER,
    parent_task_id TEXT,
    retry_of TEXT,
    -- Frozen steps, NULL for none; and how many links lie before this execution.
    chain BLOB,
    chain_depth INTEGER NOT NULL DEFAULT 0,
    -- W3C traceparent, and behind a space tracestate, of the request that enqueued it.
    trace TEXT,
    progress BLOB,
    -- NULL: large, in live_parameters, so that a change of state does not rewrite it.
    parameters BLOB
);
CREATE UNIQUE INDEX live_executions_task ON live_executions (tenant_id, task_id);
-- Claims, by tenant and type; how many of them wait.
CREATE INDEX live_executions_claim ON live_executions (tenant_id, task_type, state, blocked, queue_key, id)
    WHERE state IN ('scheduled', 'available', 'retryable');
-- Whether anything is to be claimed; how much is claimed before something.
CREATE INDEX live_executions_queue ON live_executions (queue_key, id)
    WHERE state = 'available' AND blocked = 0;
CREATE INDEX live_executions_blocked ON live_executions (tenant_id, run_key, queue_key, id)
    WHERE blocked = 1;
CREATE INDEX live_executions_throttled ON live_executions (tenant_id, rate_key, queue_key, id)
    WHERE blocked = 2;
CREATE INDEX live_executions_running ON live_executions (tenant_id, task_type) WHERE state = 'running';
CREATE INDEX live_executions_due ON live_executions (due_at, id)
    WHERE state IN ('scheduled', 'retryable');
CREATE INDEX live_executions_expiry ON live_executions (expires_at, id)
    WHERE expires_at IS NOT NULL AND state IN ('scheduled', 'available', 'retryable');
CREATE INDEX live_executions_config ON live_executions (config_id) WHERE config_id IS NOT NULL;
CREATE INDEX live_executions_run_key ON live_executions (tenant_id, run_key)
    WHERE run_key IS NOT NULL AND state = 'running';
CREATE INDEX live_executions_suspect ON live_executions (id) WHERE state = 'running' AND lost >= 3;
CREATE INDEX live_executions_cancel ON live_executions (incarnation, id)
    WHERE cancel_requested_at IS NOT NULL AND state = 'running';

CREATE TABLE live_parameters (
    execution_id INTEGER PRIMARY KEY,
    parameters BLOB NOT NULL
);

-- The buckets of rates: when each will be full, what it was last filled by, and when those that wait for it
-- are looked at again.
CREATE TABLE rates (
    tenant_id INTEGER NOT NULL,
    rate_key TEXT NOT NULL,
    full_at INTEGER NOT NULL,
    rate_count INTEGER NOT NULL,
    rate_seconds INTEGER NOT NULL,
    ready_at INTEGER,
    PRIMARY KEY (tenant_id, rate_key)
) WITHOUT ROWID;
CREATE INDEX rates_ready ON rates (ready_at) WHERE ready_at IS NOT NULL;

-- Answers to requests that may be repeated, for a day.
CREATE TABLE request_answers (
    tenant_id INTEGER NOT NULL,
    request_key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, request_key)
);
CREATE INDEX request_answers_age ON request_answers (created_at);

-- What has ended; append-only, save for deletions.
CREATE TABLE task_executions (
    id INTEGER PRIMARY KEY,
    config_id INTEGER,
    task_id TEXT NOT NULL,
    is_success INTEGER,
    started_at INTEGER,
    completed_at INTEGER NOT NULL,
    duration_seconds REAL,
    result BLOB,
    error_message TEXT,
    error_traceback TEXT,
    tenant_id INTEGER NOT NULL,
    task_type TEXT NOT NULL,
    state TEXT NOT NULL,
    trigger TEXT NOT NULL,
    slot INTEGER,
    slot_last INTEGER,
    slot_count INTEGER,
    skip_reason TEXT,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    parameters BLOB,
    error_kind TEXT,
    error_code TEXT,
    error_details BLOB,
    usage BLOB,
    plugin_digest TEXT,
    host TEXT,
    created_at INTEGER NOT NULL,
    first_started_at INTEGER,
    due_at INTEGER,
    expires_at INTEGER,
    cancel_requested_at INTEGER,
    progress BLOB,
    parent_task_id TEXT,
    retry_of TEXT,
    -- The claim whose attempt this row is the account of; NULL when the end was not an attempt's.
    ended_claim INTEGER
);
CREATE UNIQUE INDEX task_executions_task ON task_executions (tenant_id, task_id);
CREATE INDEX task_executions_config ON task_executions (config_id, id) WHERE config_id IS NOT NULL;
CREATE INDEX task_executions_trouble ON task_executions (tenant_id, id) WHERE state <> 'succeeded';
-- What is pruned by age, without reading the rows that stay; what ended lately.
CREATE INDEX task_executions_age ON task_executions (tenant_id, completed_at, id, state);

-- Attempts that the row of their execution does not describe: all but the last.
CREATE TABLE task_attempts (
    execution_id INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    completed_at INTEGER NOT NULL,
    duration_seconds REAL NOT NULL,
    error_kind TEXT,
    error_message TEXT,
    error_traceback TEXT,
    error_code TEXT,
    error_details BLOB,
    usage BLOB,
    plugin_digest TEXT,
    host TEXT,
    PRIMARY KEY (execution_id, claim)
) WITHOUT ROWID;

-- The log of an attempt, as one array of lines; attempts without a log have no row.
CREATE TABLE execution_logs (
    execution_id INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    lines BLOB NOT NULL
);
CREATE UNIQUE INDEX execution_logs_attempt ON execution_logs (execution_id, claim);

-- The outgoing requests of an attempt, as one array; attempts without any have no row.
CREATE TABLE execution_http (
    execution_id INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    calls BLOB NOT NULL
);
CREATE UNIQUE INDEX execution_http_attempt ON execution_http (execution_id, claim);

-- What is to be told to whoever watches. Most rows are made by the triggers below, in the transaction of what they
-- tell of, while a host that is alive wants them (its facts say so). History from before its start is no news: it is
-- imported.
CREATE TABLE alerts (
    alert_id TEXT PRIMARY KEY,
    event TEXT NOT NULL,
    tenant_id INTEGER,
    config_id INTEGER,
    task_id TEXT,
    detail BLOB NOT NULL,
    -- Kept once.
    subject TEXT,
    created_at INTEGER NOT NULL,
    -- When it is delivered next; NULL once it was.
    due_at INTEGER,
    tries INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX alerts_subject ON alerts (subject) WHERE subject IS NOT NULL;
CREATE INDEX alerts_due ON alerts (due_at, created_at) WHERE due_at IS NOT NULL;
CREATE INDEX alerts_age ON alerts (created_at);

CREATE TRIGGER alert_of_failure AFTER INSERT ON task_executions
WHEN NEW.state = 'failed'
    AND EXISTS (SELECT 1 FROM hosts WHERE stopped_at IS NULL AND started_at <= NEW.completed_at
        AND facts ->> '$.alerts.failed')
BEGIN
    INSERT INTO alerts (alert_id, event, tenant_id, config_id, task_id, detail, created_at, due_at)
    VALUES (lower(hex(randomblob(16))), 'execution_failed', NEW.tenant_id, NEW.config_id, NEW.task_id, jsonb('{}'),
        CAST(unixepoch('subsec') * 1000000 AS INTEGER), 0);
END;

CREATE TRIGGER alert_of_missed_row AFTER INSERT ON task_executions
WHEN NEW.state = 'skipped' AND NEW.skip_reason = 'missed'
    AND EXISTS (SELECT 1 FROM hosts WHERE stopped_at IS NULL AND started_at <= NEW.completed_at
        AND facts ->> '$.alerts.missed')
BEGIN
    INSERT INTO alerts (alert_id, event, tenant_id, config_id, detail, subject, created_at, due_at)
    SELECT lower(hex(randomblob(16))), 'missed_runs', NEW.tenant_id, NEW.config_id,
        jsonb_object('first', NEW.slot, 'last', NEW.slot_last, 'count', NEW.slot_count), s.subject,
        CAST(unixepoch('subsec') * 1000000 AS INTEGER), 0
    FROM (SELECT 'missed_runs:' || NEW.config_id || ':' || NEW.slot AS subject) s
    WHERE NOT EXISTS (SELECT 1 FROM alerts a WHERE a.subject = s.subject AND a.subject IS NOT NULL);
END;

CREATE TRIGGER alert_of_missed_slots AFTER UPDATE OF skip_reason, skip_first ON task_schedules
WHEN NEW.skip_reason = 'missed'
    AND (OLD.skip_reason IS NOT NEW.skip_reason OR OLD.skip_first IS NOT NEW.skip_first)
    AND EXISTS (SELECT 1 FROM hosts WHERE stopped_at IS NULL AND facts ->> '$.alerts.missed')
BEGIN
    INSERT INTO alerts (alert_id, event, tenant_id, config_id, detail, subject, created_at, due_at)
    SELECT lower(hex(randomblob(16))), 'missed_runs', c.tenant_id, c.id,
        jsonb_object('first', NEW.skip_first, 'last', NEW.skip_last, 'count', NEW.skip_count), s.subject,
        CAST(unixepoch('subsec') * 1000000 AS INTEGER), 0
    FROM task_configs c, (SELECT 'missed_runs:' || NEW.config_id || ':' || NEW.skip_first AS subject) s
    WHERE c.id = NEW.config_id
        AND NOT EXISTS (SELECT 1 FROM alerts a WHERE a.subject = s.subject AND a.subject IS NOT NULL);
END;

CREATE TRIGGER alert_of_streak AFTER UPDATE OF failures_in_a_row ON task_schedules
WHEN NEW.failures_in_a_row > OLD.failures_in_a_row
    AND (SELECT min(facts ->> '$.alerts.streak') FROM hosts WHERE stopped_at IS NULL)
        BETWEEN OLD.failures_in_a_row + 1 AND NEW.failures_in_a_row
BEGIN
    INSERT INTO alerts (alert_id, event, tenant_id, config_id, detail, created_at, due_at)
    SELECT lower(hex(randomblob(16))), 'failure_streak', c.tenant_id, c.id,
        jsonb_object('failures', NEW.failures_in_a_row), CAST(unixepoch('subsec') * 1000000 AS INTEGER), 0
    FROM task_configs c WHERE c.id = NEW.config_id;
END;
-- What tenants (config 0) and configs want kept of their history.
CREATE TABLE retentions (
    tenant_id INTEGER NOT NULL,
    config_id INTEGER NOT NULL,
    retention BLOB NOT NULL,
    PRIMARY KEY (tenant_id, config_id)
) WITHOUT ROWID;

-- What attempts used, by the UTC day (counted from 1970) on which they were recorded, written with their ends; it
-- outlives the history. A row for each host that wrote, so that none waits for another; 0 once they are added up.
CREATE TABLE usage_days (
    tenant_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    task_type TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    fuel INTEGER NOT NULL,
    cpu_micros INTEGER NOT NULL,
    wall_micros INTEGER NOT NULL,
    http_calls INTEGER NOT NULL,
    http_request_bytes INTEGER NOT NULL,
    http_response_bytes INTEGER NOT NULL,
    log_bytes INTEGER NOT NULL,
    result_bytes INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, day, task_type, incarnation)
) WITHOUT ROWID;
CREATE INDEX usage_days_unfolded ON usage_days (day) WHERE incarnation <> 0;

-- Live and ended executions as every surface shows them.
CREATE VIEW executions AS
SELECT l.id, CASE WHEN c.deleted_at IS NULL THEN c.id END AS config_id, l.task_id, NULL AS is_success,
    l.started_at, a.completed_at, a.duration_seconds, NULL AS result, a.error_message, a.error_traceback,
    l.tenant_id, l.task_type, l.state, l.trigger, l.slot, NULL AS slot_last, NULL AS slot_count,
    NULL AS skip_reason, l.priority, l.attempt, l.max_attempts, l.lost,
    coalesce(l.parameters, p.parameters) AS parameters, a.error_kind, a.usage, a.plugin_digest, a.host,
    l.created_at, l.first_started_at, l.due_at, l.expires_at, l.cancel_requested_at, l.progress,
    l.parent_task_id, l.retry_of
FROM live_executions l
LEFT JOIN live_parameters p ON p.execution_id = l.id
LEFT JOIN task_configs c ON c.id = l.config_id
-- While it waits, its last attempt is the one of its last claim.
LEFT JOIN task_attempts a ON a.execution_id = l.id AND a.claim = l.claim
UNION ALL
SELECT e.id, CASE WHEN c.deleted_at IS NULL THEN c.id END, e.task_id, e.is_success, e.started_at,
    e.completed_at, e.duration_seconds, e.result, e.error_message, e.error_traceback, e.tenant_id,
    e.task_type, e.state, e.trigger, e.slot, e.slot_last, e.slot_count, e.skip_reason, e.priority,
    e.attempt, e.max_attempts, e.lost, e.parameters, e.error_kind, e.usage, e.plugin_digest, e.host,
    e.created_at, e.first_started_at, e.due_at, e.expires_at, e.cancel_requested_at, e.progress,
    e.parent_task_id, e.retry_of
FROM task_executions e
LEFT JOIN task_configs c ON c.id = e.config_id
WHERE c.delete_history IS NOT 1;

//! What is copied: every table with its columns by kind. A test holds the list to both schemas, so that a
//! new table or column cannot be forgotten.

/// What a column holds, and so how it is read, written and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    /// 0 or 1 in SQLite, boolean in PostgreSQL.
    Flag,
    Real,
    Text,
    Json,
    Blob,
}

/// A table of both databases. Columns are named by kind, in one text each.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The primary key, in whose order rows are read.
    key: &'static str,
    /// Where PostgreSQL's is another.
    postgres_key: Option<&'static str>,
    ints: &'static str,
    flags: &'static str,
    reals: &'static str,
    texts: &'static str,
    jsons: &'static str,
    blobs: &'static str,
    /// In SQLite its `tenant_id` is that of its execution.
    pub(crate) beside_execution: bool,
    /// Most rows read at once: few where one may be large.
    pub(crate) page: i64,
}

const TABLE: Table = Table {
    name: "",
    key: "id",
    postgres_key: None,
    ints: "",
    flags: "",
    reals: "",
    texts: "",
    jsons: "",
    blobs: "",
    beside_execution: false,
    page: 500,
};

/// In the order in which they are copied: the history, which is most of it, comes late.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "tenants",
        ints: "id weight max_running backlog minute minute_starts created_at deleted_at",
        flags: "claim_quotas",
        texts: "name",
        jsons: "quotas",
        ..TABLE
    },
    Table {
        name: "tokens",
        ints: "id tenant_id previous_until created_at expires_at last_used_at rotated_at",
        texts: "name role hash previous_hash created_by",
        jsons: "scope",
        ..TABLE
    },
    Table {
        name: "audit_log",
        ints: "id at tenant_id token_id status",
        texts: "actor role action method target request_id address host",
        ..TABLE
    },
    Table {
        name: "task_configs",
        ints: "id tenant_id max_retries timeout_seconds priority pause_after_failures \
            expires_after_seconds version created_at updated_at deleted_at",
        flags: "paused delete_history",
        texts: "key name name_folded task_type scheduler_type overlap plugin_version pause_reason declared_by",
        jsons: "parameters schedule_config limits retry_policy concurrency chain",
        ..TABLE
    },
    Table {
        name: "task_schedules",
        key: "config_id",
        ints: "config_id next_fire_at last_slot anchor_at skip_first skip_last skip_count \
            failures_in_a_row state_version",
        texts: "skip_reason zone_data",
        ..TABLE
    },
    Table {
        name: "task_state",
        key: "config_id key",
        ints: "config_id version updated_at",
        texts: "key",
        blobs: "value",
        page: 100,
        ..TABLE
    },
    Table {
        name: "task_types",
        key: "tenant_id task_type",
        ints: "tenant_id max_running backlog created_at updated_at",
        flags: "disabled",
        texts: "task_type active_digest previous_digest",
        ..TABLE
    },
    Table {
        name: "type_breakers",
        key: "tenant_id task_type",
        ints: "tenant_id failures opened_at probe_at pause_seconds probe_id",
        texts: "task_type error_kind error_message",
        ..TABLE
    },
    Table {
        name: "plugin_versions",
        ints: "id tenant_id size_bytes created_at",
        flags: "activate grant_asked",
        texts: "task_type digest state error",
        jsons: "descriptor grants limits input warnings",
        ..TABLE
    },
    Table {
        name: "plugin_bytes",
        key: "digest",
        texts: "digest",
        blobs: "bytes",
        // 64 MiB each.
        page: 1,
        ..TABLE
    },
    Table {
        name: "plugin_config",
        key: "tenant_id task_type key",
        ints: "tenant_id updated_at",
        texts: "task_type key value",
        ..TABLE
    },
    Table {
        name: "secrets",
        key: "tenant_id name",
        ints: "tenant_id version created_at updated_at",
        texts: "name key_id",
        blobs: "sealed",
        page: 100,
        ..TABLE
    },
    Table {
        name: "live_parameters",
        key: "execution_id",
        ints: "execution_id",
        jsons: "parameters",
        page: 100,
        ..TABLE
    },
    Table {
        name: "live_executions",
        ints: "id tenant_id config_id slot priority queue_key attempt max_attempts lost claim \
            incarnation run_max rate_count rate_seconds fuel_reserved memory_reserved log_reserved chain_depth created_at started_at first_started_at due_at expires_at \
            cancel_requested_at",
        texts: "task_id task_type state trigger run_key rate_key parent_task_id retry_of trace",
        jsons: "progress parameters chain",
        ..TABLE
    },
    Table {
        name: "request_answers",
        key: "tenant_id request_key",
        ints: "tenant_id status created_at",
        texts: "request_key request_hash body",
        page: 50,
        ..TABLE
    },
    Table {
        name: "task_attempts",
        key: "execution_id claim",
        postgres_key: Some("tenant_id execution_id claim"),
        ints: "tenant_id execution_id claim attempt started_at completed_at",
        reals: "duration_seconds",
        texts: "outcome error_kind error_message error_traceback error_code plugin_digest host",
        jsons: "error_details usage",
        beside_execution: true,
        ..TABLE
    },
    Table {
        name: "execution_logs",
        key: "execution_id claim",
        postgres_key: Some("tenant_id execution_id claim"),
        ints: "tenant_id execution_id claim",
        jsons: "lines",
        beside_execution: true,
        page: 200,
        ..TABLE
    },
    Table {
        name: "execution_http",
        key: "execution_id claim",
        postgres_key: Some("tenant_id execution_id claim"),
        ints: "tenant_id execution_id claim",
        jsons: "calls",
        beside_execution: true,
        page: 200,
        ..TABLE
    },
    Table {
        name: "retentions",
        key: "tenant_id config_id",
        ints: "tenant_id config_id",
        jsons: "retention",
        ..TABLE
    },
    Table {
        name: "usage_days",
        key: "tenant_id day task_type incarnation",
        ints: "tenant_id day incarnation runs succeeded failed cancelled fuel cpu_micros wall_micros http_calls \
            http_request_bytes http_response_bytes log_bytes result_bytes",
        texts: "task_type",
        ..TABLE
    },
    Table {
        name: "task_executions",
        postgres_key: Some("tenant_id id completed_at"),
        ints: "id config_id started_at completed_at tenant_id slot slot_last slot_count priority attempt \
            max_attempts lost created_at first_started_at due_at expires_at cancel_requested_at ended_claim",
        flags: "is_success",
        reals: "duration_seconds",
        texts: "task_id error_message error_traceback task_type state trigger skip_reason error_kind \
            error_code plugin_digest host parent_task_id retry_of",
        jsons: "result parameters error_details usage progress",
        ..TABLE
    },
    Table {
        name: "alerts",
        key: "alert_id",
        ints: "tenant_id config_id created_at due_at tries",
        texts: "alert_id event task_id subject",
        jsons: "detail",
        ..TABLE
    },
    // Last: while no host is known to want them, what is copied makes no alerts.
    Table {
        name: "hosts",
        key: "incarnation",
        ints: "incarnation started_at seen_at stopped_at",
        texts: "name",
        jsons: "facts",
        ..TABLE
    },
];

/// What is not copied as it stands, each with the reason; the same test reads it.
#[cfg(test)]
pub(crate) const LEFT_OUT: &[(&str, &str)] = &[
    ("meta", "its numbers go over one by one, see `Numbers`"),
    ("run_keys", "made anew from what lives"),
    ("rates", "full again: nothing starts while it is copied"),
    (
        "history_partitions",
        "made anew for the time the history covers",
    ),
    ("horarium_schema", "each database has its own"),
    (
        "hosts.lease_until",
        "no host lives on in a copy: its lease is over",
    ),
    (
        "live_executions.blocked",
        "found out anew by the first claims",
    ),
];

impl Table {
    /// Its columns: the order of cells in every row of it.
    pub(crate) fn columns(&self) -> Vec<(&'static str, Kind)> {
        [
            (self.ints, Kind::Int),
            (self.flags, Kind::Flag),
            (self.reals, Kind::Real),
            (self.texts, Kind::Text),
            (self.jsons, Kind::Json),
            (self.blobs, Kind::Blob),
        ]
        .into_iter()
        .flat_map(|(names, kind)| names.split_ascii_whitespace().map(move |name| (name, kind)))
        .collect()
    }

    /// Columns of the key in SQLite.
    pub(crate) fn sqlite_key(&self) -> Vec<&'static str> {
        self.key.split_ascii_whitespace().collect()
    }

    /// Columns of the key in PostgreSQL.
    pub(crate) fn postgres_key(&self) -> Vec<&'static str> {
        let key = self.postgres_key.unwrap_or(self.key);
        key.split_ascii_whitespace().collect()
    }
}

/// Columns in quotes, as both databases take them, each behind `before`.
pub(crate) fn quoted(columns: &[&str], before: &str) -> String {
    let quoted: Vec<String> = columns
        .iter()
        .map(|column| format!("{before}\"{column}\""))
        .collect();
    quoted.join(", ")
}

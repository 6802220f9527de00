//! Prose of the document: what neither types nor readers say.

use serde_json::Value;

/// What every reader should know.
pub(super) const INTRODUCTION: &str = "\
Bodies are JSON: UTF-8, 17 MiB at most, at most 100 levels deep, without duplicate keys and `\\u0000`, integers within 64 \
bits. An empty body counts as `{}`, null as absent. Unknown keys and query parameters are refused with the nearest name. \
Words are taken in any case. Instants are RFC 3339 with an offset; answers are in UTC.\n\n\
A list is `{\"items\": […], \"next_cursor\": text or null}`; `limit` and `cursor` turn its pages. Every error is \
problem+json (RFC 9457). `x-permission` is what a route needs, `x-least-role` the least role that has it.";

/// Groups of routes.
pub(super) const TAGS: &[(&str, &str)] = &[
    ("host", "The host, and who asks."),
    ("tenants", "Who shares the host."),
    ("tokens", "Who may ask."),
    ("audit", "Who did what."),
    ("quotas", "What a tenant may use, and uses."),
    ("usage", "What was used, fit for a bill."),
    ("retention", "How long history is kept."),
    ("task-types", "Plugins: names, versions, grants, settings."),
    ("secrets", "Values that plugins use and never see."),
    ("apply", "Plugins and tasks as a document declares them."),
    ("tasks", "What runs when, with which parameters and state."),
    ("executions", "What runs, ran and waits."),
    ("events", "What happens, as it happens."),
];

/// What a property or parameter is: by its schema and its name, or by its name wherever it is.
const ABOUT: &[(&str, &str)] = &[
    ("ProblemDetails.type", "What kind of problem."),
    ("ProblemDetails.title", "The status in words."),
    ("ProblemDetails.status", "The status."),
    (
        "ProblemDetails.detail",
        "One line for people: the first problem, or the only one.",
    ),
    (
        "ProblemDetails.errors",
        "Every fault of the input, each with its place.",
    ),
    (
        "request_id",
        "The id of the request, as the host's log has it.",
    ),
    ("Status.status", "`ok`, or of `/readyz` `ready`."),
    ("OpenApi.openapi", "The version of OpenAPI."),
    ("Host.name", "Its name."),
    ("incarnation", "Rises with each start of a host."),
    ("is_answering", "It is the one that answers."),
    ("Host.version", "Its version of Horarium."),
    ("slots", "Executions that it runs at once at most."),
    (
        "Host.memory_bytes",
        "Memory that all its guests may have together.",
    ),
    ("Host.running", "How many run on it."),
    ("Host.executions", "Which run on it."),
    ("loaded", "Task types that it may claim."),
    ("Host.started_at", "When it started."),
    ("seen_at", "Its last heartbeat."),
    ("HostRun.id", "Row id of the execution."),
    ("HostRun.attempt", "Which attempt."),
    ("HostRun.started_at", "When the attempt started."),
    (
        "Deleted.cancelled",
        "Executions that waited and were cancelled.",
    ),
    (
        "Deleted.running",
        "Executions that run and will be finished.",
    ),
    (
        "CancelOutcome.cancelled",
        "Executions that waited and have ended.",
    ),
    ("requested", "Executions that run and were asked to end."),
    ("retried", "Executions that run again."),
    ("matched", "Executions that fitted the filter."),
    ("refused", "How many were refused."),
    ("enqueued", "How many were enqueued."),
    ("items", "What there is, in order."),
    (
        "next_cursor",
        "Where the next page begins; null when there is none.",
    ),
    ("index", "Place in the request."),
    ("errors", "Why it was refused."),
    ("error", "Why it was left alone."),
    ("retry_of", "The execution that is repeated."),
    ("Me.role", "Its role."),
    ("role", "What the token may do at most."),
    ("Me.tenant", "Its tenant; null for a host-admin."),
    ("Me.permissions", "All it may do."),
    (
        "Me.token",
        "The token; null for the one in the data directory.",
    ),
    ("Token.tenant", "Its tenant; null for the host's."),
    ("Token.state", "Whether it is still good."),
    ("FreshToken.tenant", "Its tenant; null for the host's."),
    ("FreshToken.state", "Whether it is still good."),
    ("FreshToken.token", "Its text, shown this once."),
    ("scope", "Of its role, only this; null for all."),
    ("created_by", "Who created it."),
    ("expires_at", "When it ends; null for never."),
    ("last_used_at", "When it was last used, to the minute."),
    ("rotated_at", "When it was given another text."),
    ("previous_until", "Until when the text before stays good."),
    ("keep_seconds", "How long the text before stays good."),
    ("weight", "Its share of the turns, against others with 1."),
    ("at", "When."),
    (
        "token_id",
        "The token, null for the one in the data directory.",
    ),
    ("actor", "The token's name."),
    ("AuditEntry.action", "What it took."),
    ("action", "Entries of what took this permission."),
    ("AuditEntry.method", "The method of the request."),
    ("target", "Its path, without the query."),
    ("AuditEntry.status", "The status of the answer."),
    ("address", "Where it came from."),
    ("AuditEntry.host", "The host that answered."),
    ("is_active", "It is the version that runs."),
    ("active", "The active version; null when there is none."),
    ("grants", "What it may do, as `--grant` takes it."),
    ("grant_asked", "Grant what the plugin asks for."),
    (
        "activate",
        "Make it the active version once it is ready; true when absent.",
    ),
    (
        "descriptor",
        "The operator's own description, which wins field by field.",
    ),
    (
        "capabilities",
        "What it asks for, as an operator would grant it.",
    ),
    ("version", "A semver label; the digest is the identity."),
    ("summary", "One line."),
    (
        "parameters_schema",
        "JSON Schema of the parameters, flat, at most 64 KiB.",
    ),
    (
        "result_schema",
        "JSON Schema of the result, flat, at most 64 KiB.",
    ),
    ("examples", "Example parameters."),
    (
        "args_from",
        "Of a WASI program: JSON pointer to the list of its arguments in the parameters.",
    ),
    (
        "env_from",
        "Of a WASI program: JSON pointer to the object of its environment variables in the parameters.",
    ),
    (
        "stdin_from",
        "Of a WASI program: JSON pointer to what it reads.",
    ),
    ("add", "Grants to add."),
    ("remove", "Grants to take away; each must be there."),
    ("digest", "The digest of the version."),
    (
        "disabled",
        "True holds the type, false frees it; true when absent.",
    ),
    ("component", "The component's bytes, 64 MiB at most."),
    ("options", "What is wished with it."),
    ("TypeConfigItem.key", "Its name."),
    ("TypeConfigItem.value", "Its value."),
    ("SetTypeConfigRequest.value", "The value, at most 64 KiB."),
    (
        "SetSecretRequest.value",
        "The value: 1 byte to 64 KiB of text without NUL.",
    ),
    ("new_key", "Make a new key first; false when absent."),
    ("StateItem.key", "The key."),
    ("StateItem.version", "Rises each time it is set."),
    ("size_bytes", "Size of the value in bytes."),
    (
        "value",
        "A text where it is printable UTF-8, else `{\"base64\": …}`.",
    ),
    ("base64", "The bytes as base64."),
    ("deleted", "How many keys there were."),
    ("Task.id", "Row id."),
    ("id", "Row id."),
    (
        "task_id",
        "Public id of the execution, the same over all attempts.",
    ),
    ("tenant_id", "Row id of the tenant."),
    ("config_id", "Row id of the task; null when it is gone."),
    ("Task.version", "Rises by one with every change; the ETag."),
    ("created_at", "When it was created."),
    ("updated_at", "When it was last changed."),
    (
        "deleted_at",
        "When it was deleted, in which case reads do not show it.",
    ),
    ("is_scheduled", "It fires by itself."),
    ("Task.key", "Slug, unique within the tenant."),
    (
        "concurrency.key",
        "JSON pointer into the parameters; executions with equal values there share `max` and `rate`.",
    ),
    ("key", "Slug, unique within the tenant."),
    ("name", "For people; not blank, no control characters."),
    ("task_type", "The plugin's registered name."),
    ("scheduler_type", "How it is fired."),
    (
        "parameters",
        "What the plugin is given, checked against its schema.",
    ),
    (
        "chain.parameters",
        "What of the result goes where: JSON pointer into the target's parameters -> JSON pointer into the result.",
    ),
    (
        "parameters_patch",
        "Changes the task's parameters for this execution (RFC 7396).",
    ),
    (
        "schedule_config",
        "When it fires, as `scheduler_type` needs it.",
    ),
    (
        "cron_expression",
        "5 fields, or 6 and 7 with seconds first and year last; names, `@daily` and the like, `H`.",
    ),
    ("timezone", "IANA name; UTC when absent."),
    (
        "catch_up",
        "What becomes of slots that passed while no host was there; `once` when absent.",
    ),
    (
        "catch_up_window_seconds",
        "How old a missed slot may be to be made up; 86400 when absent.",
    ),
    (
        "misfire_grace_seconds",
        "How late a slot may fire and still count as on time; 60 when absent.",
    ),
    (
        "jitter_seconds",
        "Spreads fires after their slot; less than the smallest gap of the next 100 slots.",
    ),
    ("start_at", "Slots count from here on."),
    ("end_at", "From here on slots do not count."),
    ("run_at", "The instant, not in the past."),
    ("max_retries", "Attempts after the first; 3 when absent."),
    (
        "timeout_seconds",
        "Wall-clock limit of an attempt; 60 when absent.",
    ),
    (
        "priority",
        "Higher first; each point is worth a minute of waiting. 0 when absent.",
    ),
    ("limits", "Limits, tighter than those of the levels above."),
    ("retry_policy", "When failed attempts run again."),
    ("initial_seconds", "Delay before the second attempt."),
    (
        "factor",
        "Each further delay is this many times the one before.",
    ),
    ("max_seconds", "No delay is longer."),
    (
        "jitter",
        "`full` spreads a delay evenly between one second and all of it.",
    ),
    ("retry_on", "Kinds of errors that are tried again."),
    (
        "overlap",
        "What becomes of a slot while an execution of the task lives; null: `allow` for manual tasks, else `skip`.",
    ),
    (
        "concurrency",
        "How many of its executions run at once, how fast they start, how many wait; at least one bound.",
    ),
    ("max", "How many run at once."),
    (
        "rate",
        "A bucket of `count` tokens that fills evenly in `seconds`; each attempt takes one.",
    ),
    ("count", "How many."),
    ("seconds", "In how many seconds."),
    ("backlog", "How many may wait."),
    ("chain", "What the end of an execution enqueues."),
    ("task", "A task's id or its key."),
    ("on", "After which ends; `succeeded` when absent."),
    (
        "plugin_version",
        "Digest of the version to run; the active one when absent.",
    ),
    ("paused", "No new slots while true."),
    ("pause_reason", "Why, for people."),
    ("reason", "Why, for people."),
    (
        "pause_after_failures",
        "Pause by itself after this many failed executions in a row.",
    ),
    (
        "expires_after_seconds",
        "Executions that waited so long end `expired`.",
    ),
    (
        "history",
        "What becomes of its ended executions; `keep` when absent.",
    ),
    ("after", "Slots after this instant; now when absent."),
    (
        "slot",
        "The slot that is asked about; the newest when absent.",
    ),
    (
        "pointer",
        "JSON pointer into the parameters; all of them when absent.",
    ),
    (
        "default",
        "JSON that is answered where the pointer leads nowhere.",
    ),
    ("due_at", "When it may start; now when absent."),
    ("delay_seconds", "The same, in seconds from now."),
    (
        "if_running",
        "`refuse` answers 409 while an execution of the task waits or runs; `queue` when absent.",
    ),
    ("trigger", "What brought it about."),
    ("atomic", "All or none; false when absent."),
    ("filter", "Which; it must say something."),
    (
        "dry_run",
        "Say what would be done and do nothing; false when absent.",
    ),
    ("state", "Where it stands; several are separated by commas."),
    ("error_kind", "Class of the failure."),
    (
        "text",
        "A part of the error message; case of ASCII letters does not matter.",
    ),
    ("since", "Created (or written) at this instant or later."),
    ("until", "Created (or written) before this instant."),
    ("limit", "How many at most."),
    ("cursor", "`next_cursor` of the page before."),
    ("attempt", "One attempt, by its `claim`."),
    ("config", "The same as `task`."),
    ("token", "Entries of this token, by its id."),
    (
        "set",
        "Name of the set of declarations; the tasks it writes carry it.",
    ),
    (
        "declared_by",
        "The set of declarations that wrote it; null when none did.",
    ),
    (
        "ApplyDeclarationRequest.plugins",
        "Versions that shall be active; registered before.",
    ),
    (
        "ApplyDeclarationRequest.tasks",
        "Tasks as they are created, each with a key; `paused` stays as it is unless said.",
    ),
    (
        "prune",
        "Delete tasks of the set that are no longer declared; false when absent.",
    ),
    (
        "take_over",
        "Take tasks that another set declares; false when absent.",
    ),
    (
        "existing",
        "What becomes of tasks that are there; `update` when absent.",
    ),
    (
        "unfit",
        "What becomes of new tasks that do not fit their plugin; `refuse` when absent.",
    ),
    (
        "plan",
        "The plan's name: it is applied only if it is still this one.",
    ),
    ("ApplyOutcome.created", "How many are new."),
    ("ApplyOutcome.updated", "How many become others."),
    ("ApplyOutcome.deleted", "How many are deleted."),
    (
        "ApplyOutcome.cancelled",
        "Executions that waited for deleted tasks and were cancelled.",
    ),
    ("unchanged", "How many are as declared."),
    (
        "undeclared",
        "How many were declared before and stay, since prune was not asked for.",
    ),
    ("kind", "What it is."),
    ("items.action", "What becomes of it."),
    ("changes", "Fields that change."),
    ("changes.pointer", "JSON pointer to the field."),
    ("old", "Its value; null where there is none."),
    ("new", "What it becomes."),
    ("note", "What a person should know of it."),
    ("registered", "The version is registered and ready."),
    ("imported", "How many were taken."),
    ("known", "How many were known."),
    ("is_success", "Whether it succeeded."),
    ("started_at", "When it started."),
    ("completed_at", "When it ended."),
    ("duration_seconds", "How long it took."),
    ("result", "What it returned."),
    ("error_message", "What went wrong, one line."),
    ("error_traceback", "What else was kept of the failure."),
    ("notes", "Remarks for its log."),
    ("message", "One line."),
    ("fields", "Facts for machines."),
    (".kind", "Only events of these kinds."),
    ("op", "What to do."),
    ("path", "JSON pointer to where."),
    (
        "SetQuotasRequest.concurrency",
        "Executions that run at once; null for no bound.",
    ),
    ("SetQuotasRequest.backlog", "Executions that wait."),
    (
        "SetQuotasRequest.executions_per_minute",
        "Attempts that start within a calendar minute.",
    ),
    (
        "SetQuotasRequest.fuel_per_day",
        "Fuel burnt within a UTC day.",
    ),
    (
        "SetQuotasRequest.memory_bytes",
        "Memory limits of what runs, added up.",
    ),
    ("SetQuotasRequest.plugins", "Task types."),
    ("SetQuotasRequest.configs", "Tasks."),
    (
        "SetQuotasRequest.history",
        "Ended executions; the oldest beyond go.",
    ),
    (
        "SetQuotasRequest.state_bytes",
        "Keys and values of the state of all tasks.",
    ),
    (
        "SetQuotasRequest.log_bytes_per_day",
        "Bytes of log kept within a UTC day; what is beyond is dropped.",
    ),
    (
        "ChangeQuotasRequest.concurrency",
        "Executions that run at once; null for no bound.",
    ),
    ("ChangeQuotasRequest.backlog", "Executions that wait."),
    (
        "ChangeQuotasRequest.executions_per_minute",
        "Attempts that start within a calendar minute.",
    ),
    (
        "ChangeQuotasRequest.fuel_per_day",
        "Fuel burnt within a UTC day.",
    ),
    (
        "ChangeQuotasRequest.memory_bytes",
        "Memory limits of what runs, added up.",
    ),
    ("ChangeQuotasRequest.plugins", "Task types."),
    ("ChangeQuotasRequest.configs", "Tasks."),
    (
        "ChangeQuotasRequest.history",
        "Ended executions; the oldest beyond go.",
    ),
    (
        "ChangeQuotasRequest.state_bytes",
        "Keys and values of the state of all tasks.",
    ),
    (
        "ChangeQuotasRequest.log_bytes_per_day",
        "Bytes of log kept within a UTC day; what is beyond is dropped.",
    ),
    ("quota", "Which quota."),
    ("Quota.limit", "What there may be; null for no bound."),
    (
        "Quota.used",
        "What is in use; what is reserved for running executions counts.",
    ),
    ("used", "What is in use."),
    (
        "resets_at",
        "When it begins anew; null where time alone does not do that.",
    ),
    (
        "succeeded_seconds",
        "How long successes are kept; null for no bound of its own.",
    ),
    ("failed_seconds", "How long failures are kept."),
    (
        "cancelled_seconds",
        "How long cancelled executions are kept.",
    ),
    (
        "skipped_seconds",
        "How long rows of skipped slots are kept.",
    ),
    (
        "keep",
        "How many ended executions of a task are kept, the newest.",
    ),
    (
        "from",
        "The first day, in UTC; 30 days before `to` when absent.",
    ),
    ("to", "The day after the last; tomorrow when absent."),
    (
        "tenant",
        "Of this tenant alone; all that may be seen when absent.",
    ),
    ("UsageReport.from", "Its first day, in UTC."),
    ("UsageReport.to", "The day after its last."),
    (
        "UsageItem.tenant",
        "Name of the tenant; null when it is gone.",
    ),
    ("day", "The UTC day on which the ends were recorded."),
    ("UsageReport.total", "All of it."),
    ("runs", "Attempts that ended, retries too."),
    ("UsageItem.succeeded", "Executions that succeeded."),
    ("UsageItem.failed", "Executions that failed."),
    (
        "UsageItem.cancelled",
        "Executions that were cancelled while they ran.",
    ),
    ("UsageItem.fuel", "Fuel burnt."),
    ("UsageItem.cpu_seconds", "CPU time."),
    ("UsageItem.wall_seconds", "From start to end, added up."),
    ("UsageItem.http_calls", "HTTP requests that left the host."),
    ("UsageItem.http_request_bytes", "Bytes of request bodies."),
    ("UsageItem.http_response_bytes", "Bytes of response bodies."),
    ("UsageItem.log_bytes", "Bytes of log kept."),
    ("UsageItem.result_bytes", "Bytes of results."),
    ("UsageItem.task_type", "The plugin."),
    ("UsageTotal.succeeded", "Executions that succeeded."),
    ("UsageTotal.failed", "Executions that failed."),
    (
        "UsageTotal.cancelled",
        "Executions that were cancelled while they ran.",
    ),
    ("UsageTotal.fuel", "Fuel burnt."),
    ("UsageTotal.cpu_seconds", "CPU time."),
    ("UsageTotal.wall_seconds", "From start to end, added up."),
    ("UsageTotal.http_calls", "HTTP requests that left the host."),
    ("UsageTotal.http_request_bytes", "Bytes of request bodies."),
    (
        "UsageTotal.http_response_bytes",
        "Bytes of response bodies.",
    ),
    ("UsageTotal.log_bytes", "Bytes of log kept."),
    ("UsageTotal.result_bytes", "Bytes of results."),
    ("UsageTotal.task_type", "The plugin."),
    ("info", "What the API is."),
    ("paths", "Its routes."),
];

fn about(place: &str, name: &str) -> Option<&'static str> {
    let exact = format!("{place}.{name}");
    let find = |wanted: &str| {
        let found = ABOUT.iter().find(|(known, _)| *known == wanted);
        found.map(|(_, text)| *text)
    };
    find(&exact).or_else(|| find(name))
}

/// Gives every property and parameter of a document that says nothing of itself its description.
pub(super) fn explain(document: &mut Value) {
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (name, schema) in schemas {
            walk(name, schema);
        }
    }
    if let Some(paths) = document["paths"].as_object_mut() {
        for path in paths.values_mut() {
            walk("", path);
        }
    }
}

/// `place` is the schema, or the property, that what is below belongs to.
fn walk(place: &str, at: &mut Value) {
    match at {
        Value::Object(map) => {
            if let Some(text) = map.get("description").and_then(Value::as_str) {
                let text = text
                    .replace("[`", "`")
                    .replace("`]", "`")
                    .replace('\n', " ");
                map.insert("description".into(), text.into());
            }
            if map.get("in").is_some_and(|place| place == "query")
                && let Some(text) = map["name"].as_str().and_then(|name| about("", name))
            {
                map.insert("description".into(), text.into());
            }
            for (key, below) in map.iter_mut() {
                match (key.as_str(), below) {
                    ("example" | "examples" | "enum" | "const", _) => {}
                    ("properties", Value::Object(properties)) => {
                        for (name, property) in properties {
                            explained(place, name, property);
                        }
                    }
                    (_, below) => walk(place, below),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(place, item)),
        _ => {}
    }
}

fn explained(place: &str, name: &str, property: &mut Value) {
    // A schema that takes anything is `true` or an empty object.
    if property == &Value::Bool(true) {
        *property = Value::Object(serde_json::Map::new());
    }
    if property.get("description").is_none()
        && let Some(text) = about(place, name)
        && let Some(map) = property.as_object_mut()
    {
        map.insert("description".into(), text.into());
    }
    walk(name, property);
}

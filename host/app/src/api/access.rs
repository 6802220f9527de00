//! What each route needs leave for. A route without a line here is refused to everybody, so that none is forgotten.

use horarium_model::access::Permission::{self, *};

/// What a route needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// The method; HEAD is a GET.
    pub(super) method: &'static str,
    /// The path as the router knows it.
    pub(super) path: &'static str,
    /// What it takes; none = any token.
    pub(super) needs: Option<Permission>,
    /// It is about the host as a whole: the header `Horarium-Tenant` means nothing to it.
    pub(super) of_host: bool,
}

const fn of_tenant(method: &'static str, path: &'static str, needs: Permission) -> Rule {
    Rule {
        method,
        path,
        needs: Some(needs),
        of_host: false,
    }
}

const fn of_host(method: &'static str, path: &'static str, needs: Permission) -> Rule {
    Rule {
        of_host: true,
        ..of_tenant(method, path, needs)
    }
}

/// Every route that needs a token.
pub(super) const RULES: &[Rule] = &[
    Rule {
        method: "GET",
        path: "/v1/me",
        needs: None,
        of_host: true,
    },
    of_host("GET", "/metrics", MetricsRead),
    of_host("GET", "/v1/hosts", HostsRead),
    of_host("GET", "/v1/tenants", TenantsRead),
    of_host("POST", "/v1/tenants", TenantsWrite),
    of_host("GET", "/v1/tenants/{tenant}", TenantsRead),
    of_host("PATCH", "/v1/tenants/{tenant}", TenantsWrite),
    of_host("DELETE", "/v1/tenants/{tenant}", TenantsWrite),
    of_tenant("GET", "/v1/tokens", TokensRead),
    of_tenant("POST", "/v1/tokens", TokensWrite),
    of_tenant("GET", "/v1/tokens/{token}", TokensRead),
    of_tenant("DELETE", "/v1/tokens/{token}", TokensWrite),
    of_tenant("POST", "/v1/tokens/{token}/rotate", TokensWrite),
    of_tenant("GET", "/v1/audit", AuditRead),
    of_tenant("GET", "/v1/task-types", PluginsRead),
    of_tenant("GET", "/v1/task-types/{type}", PluginsRead),
    of_tenant("PATCH", "/v1/task-types/{type}", PluginsWrite),
    of_tenant("GET", "/v1/task-types/{type}/versions", PluginsRead),
    of_tenant("POST", "/v1/task-types/{type}/versions", PluginsWrite),
    of_tenant(
        "GET",
        "/v1/task-types/{type}/versions/{digest}",
        PluginsRead,
    ),
    of_tenant("POST", "/v1/task-types/{type}/activate", PluginsWrite),
    of_tenant("POST", "/v1/task-types/{type}/disable", PluginsWrite),
    of_tenant("POST", "/v1/task-types/{type}/breaker/reset", PluginsWrite),
    of_tenant("GET", "/v1/task-types/{type}/grants", PluginsRead),
    of_tenant("PUT", "/v1/task-types/{type}/grants", PluginsGrant),
    of_tenant("PATCH", "/v1/task-types/{type}/grants", PluginsGrant),
    of_tenant("GET", "/v1/task-types/{type}/config", PluginsRead),
    of_tenant("PUT", "/v1/task-types/{type}/config/{key}", PluginsGrant),
    of_tenant("DELETE", "/v1/task-types/{type}/config/{key}", PluginsGrant),
    of_tenant("GET", "/v1/secrets", SecretsRead),
    of_host("POST", "/v1/secrets/rekey", HostsWrite),
    of_tenant("GET", "/v1/secrets/{name}", SecretsRead),
    of_tenant("PUT", "/v1/secrets/{name}", SecretsWrite),
    of_tenant("DELETE", "/v1/secrets/{name}", SecretsWrite),
    of_tenant("GET", "/v1/tasks", TasksRead),
    of_tenant("POST", "/v1/tasks", TasksWrite),
    of_tenant("GET", "/v1/tasks/{task}", TasksRead),
    of_tenant("PATCH", "/v1/tasks/{task}", TasksWrite),
    of_tenant("DELETE", "/v1/tasks/{task}", TasksWrite),
    of_tenant("POST", "/v1/tasks/{task}/pause", TasksWrite),
    of_tenant("POST", "/v1/tasks/{task}/resume", TasksWrite),
    of_tenant("POST", "/v1/tasks/{task}/trigger", TasksTrigger),
    of_tenant("GET", "/v1/tasks/{task}/next", TasksRead),
    of_tenant("GET", "/v1/tasks/{task}/why", TasksRead),
    of_tenant("GET", "/v1/tasks/{task}/parameters", TasksRead),
    of_tenant("PATCH", "/v1/tasks/{task}/parameters", TasksWrite),
    of_tenant("PUT", "/v1/tasks/{task}/parameters", TasksWrite),
    of_tenant("GET", "/v1/tasks/{task}/state", TasksRead),
    of_tenant("DELETE", "/v1/tasks/{task}/state", TasksWrite),
    of_tenant("PUT", "/v1/tasks/{task}/state/{key}", TasksWrite),
    of_tenant("DELETE", "/v1/tasks/{task}/state/{key}", TasksWrite),
    of_tenant("GET", "/v1/executions", ExecutionsRead),
    of_tenant("POST", "/v1/executions/batch", TasksTrigger),
    of_tenant("POST", "/v1/executions/retry", ExecutionsWrite),
    of_tenant("POST", "/v1/executions/cancel", ExecutionsWrite),
    of_tenant("GET", "/v1/executions/{task_id}", ExecutionsRead),
    of_tenant("GET", "/v1/executions/{task_id}/logs", ExecutionsRead),
    of_tenant("GET", "/v1/executions/{task_id}/http", ExecutionsRead),
    of_tenant("GET", "/v1/executions/{task_id}/attempts", ExecutionsRead),
    of_tenant("GET", "/v1/executions/{task_id}/why", ExecutionsRead),
    of_tenant("POST", "/v1/executions/{task_id}/cancel", ExecutionsWrite),
    of_tenant("POST", "/v1/executions/{task_id}/retry", ExecutionsWrite),
];

/// What is known of a method on a path of the router.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    /// Its rule.
    Rule(&'static Rule),
    /// The path has rules, the method has none: the router refuses it.
    OtherMethod,
    /// The path was forgotten.
    Nothing,
}

/// The rule of a method on a path of the router.
pub(super) fn find(method: &str, path: &str) -> Found {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut known = false;
    for rule in RULES.iter().filter(|rule| rule.path == path) {
        if rule.method == method {
            return Found::Rule(rule);
        }
        known = true;
    }
    if known {
        Found::OtherMethod
    } else {
        Found::Nothing
    }
}

//! What tenants may use and use, and how long their history is kept.

use super::super::care as handlers;
use super::super::query::Params;
use super::{Body, Route, all, one, route};
use axum::routing::{get, patch, put};
use horarium_model::access::Permission::*;
use horarium_model::quota::Quotas;
use horarium_model::retention::Retention;

pub(super) const ROUTES: &[Route] = &[
    route("GET", "/v1/usage", QuotasRead, || get(handlers::usage))
        .of_host()
        .says(
            "showUsage",
            "What was used, by tenant, UTC day and plugin; for a tenant's token its own alone",
        )
        .more(
            "It outlives the history. An attempt counts on the day on which its end was recorded.",
        )
        .query(|| Params::describe(handlers::usage_query))
        .answers(&[one("UsageReport")])
        .refuses(&[422]),
    route("GET", "/v1/quotas", QuotasRead, || get(handlers::quotas))
        .says("listQuotas", "What the tenant may use, and uses")
        .answers(&[all("Quota")]),
    route("PUT", "/v1/quotas", QuotasWrite, || {
        put(handlers::set_quotas)
    })
    .says(
        "setQuotas",
        "Replaces all quotas; what is absent is not bounded",
    )
    .body(Body::Json(Quotas::describe))
    .answers(&[all("Quota")]),
    route("PATCH", "/v1/quotas", QuotasWrite, || {
        patch(handlers::change_quotas)
    })
    .says("changeQuotas", "Changes quotas by a merge patch")
    .body(Body::Merge(Quotas::describe))
    .answers(&[all("Quota")]),
    route("GET", "/v1/retention", TasksRead, || {
        get(handlers::retention)
    })
    .says("showRetention", "What the tenant wants kept of its history")
    .answers(&[one("Retention")]),
    route("PUT", "/v1/retention", TasksWrite, || {
        put(handlers::set_retention)
    })
    .says(
        "setRetention",
        "Replaces that; of host, tenant and task the tightest holds",
    )
    .body(Body::Json(Retention::describe))
    .answers(&[one("Retention")]),
    route("GET", "/v1/tasks/{task}/retention", TasksRead, || {
        get(handlers::task_retention)
    })
    .says(
        "showTaskRetention",
        "What is wanted kept of the task's history",
    )
    .answers(&[one("Retention")]),
    route("PUT", "/v1/tasks/{task}/retention", TasksWrite, || {
        put(handlers::set_task_retention)
    })
    .says(
        "setTaskRetention",
        "Replaces that; of host, tenant and task the tightest holds",
    )
    .body(Body::Json(Retention::describe))
    .answers(&[one("Retention")]),
];

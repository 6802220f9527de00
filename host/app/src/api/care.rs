//! `/v1/quotas`, `/v1/retention`, `/v1/tasks/{task}/retention` and `/v1/usage`.

use super::ApiState;
use super::auth::{Asking, Tenant};
use super::body::{JsonBody, JsonKind, PlainJson};
use super::error::ApiError;
use super::query::{NoParams, Params};
use axum::Json;
use axum::extract::{Path, State};
use chrono::{Days, NaiveDate};
use horarium_core::service::{TaskRef, UsageReport};
use horarium_core::store::Tally;
use horarium_model::quota::QuotaLine;
use horarium_model::retention::Retention;
use horarium_model::schedule::wire;
use horarium_model::text::one_line;
use serde_json::{Value, json};
use std::sync::Arc;

type Api = State<Arc<ApiState>>;

pub(super) async fn retention(
    State(api): Api,
    Tenant(tenant): Tenant,
    _: NoParams,
) -> Result<Json<Retention>, ApiError> {
    Ok(Json(api.services.tenants.retention(tenant).await?))
}

pub(super) async fn set_retention(
    State(api): Api,
    Tenant(tenant): Tenant,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Json<Retention>, ApiError> {
    let tenants = &api.services.tenants;
    Ok(Json(tenants.set_retention(tenant, &body).await?))
}

pub(super) async fn task_retention(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    _: NoParams,
) -> Result<Json<Retention>, ApiError> {
    let task = TaskRef::parse(&task);
    Ok(Json(api.services.tasks.retention(tenant, &task).await?))
}

pub(super) async fn set_task_retention(
    State(api): Api,
    Tenant(tenant): Tenant,
    Path(task): Path<String>,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Json<Retention>, ApiError> {
    let (tasks, task) = (&api.services.tasks, TaskRef::parse(&task));
    Ok(Json(tasks.set_retention(tenant, &task, &body).await?))
}

pub(super) async fn quotas(
    State(api): Api,
    Tenant(tenant): Tenant,
    _: NoParams,
) -> Result<Json<Value>, ApiError> {
    Ok(quotas_json(&api.services.tenants.quotas(tenant).await?))
}

pub(super) async fn set_quotas(
    State(api): Api,
    Tenant(tenant): Tenant,
    _: NoParams,
    PlainJson(body): PlainJson,
) -> Result<Json<Value>, ApiError> {
    let tenants = &api.services.tenants;
    Ok(quotas_json(
        &tenants.set_quotas(tenant, &body, false).await?,
    ))
}

pub(super) async fn change_quotas(
    State(api): Api,
    Tenant(tenant): Tenant,
    _: NoParams,
    body: JsonBody,
) -> Result<Json<Value>, ApiError> {
    if body.kind == JsonKind::Patch {
        return Err(ApiError::media_type(
            "quotas are changed by application/merge-patch+json",
        ));
    }
    let changed = api.services.tenants.set_quotas(tenant, &body.value, true);
    Ok(quotas_json(&changed.await?))
}

fn quotas_json(lines: &[QuotaLine]) -> Json<Value> {
    let items: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "quota": line.name,
                "limit": line.limit,
                "used": line.used,
                "resets_at": line.resets_at.map(wire),
            })
        })
        .collect();
    Json(json!({ "items": items, "next_cursor": null }))
}

pub(super) async fn usage(
    State(api): Api,
    Asking(caller): Asking,
    mut params: Params,
) -> Result<Json<Value>, ApiError> {
    let (days, tenant) = usage_query(&mut params);
    params.finish()?;
    let report = api
        .services
        .usages
        .report(&caller, tenant.as_deref(), days)
        .await?;
    Ok(Json(usage_json(&report)))
}

type FromTo = (Option<NaiveDate>, Option<NaiveDate>);

/// Of which days, up to the second; and whose.
pub(super) fn usage_query(params: &mut Params) -> (FromTo, Option<String>) {
    let schema = || json!({ "type": "string", "format": "date", "pattern": "^(19[7-9]|[2-9][0-9]{2})[0-9]-" });
    let from = params.read("from", schema, day);
    let to = params.read("to", schema, day);
    ((from, to), params.text("tenant"))
}

/// A day, `2026-03-01`.
fn day(text: &str) -> Result<NaiveDate, String> {
    let like = || {
        format!(
            "`{}` is not a day in UTC since 1970 such as 2026-03-01",
            one_line(text, 40)
        )
    };
    let day: NaiveDate = text.parse().map_err(|_| like())?;
    let fits = text.len() == 10 && (1970..=9999).contains(&chrono::Datelike::year(&day));
    fits.then_some(day).ok_or_else(like)
}

fn usage_json(report: &UsageReport) -> Value {
    let epoch = NaiveDate::default();
    let items: Vec<Value> = report
        .rows
        .iter()
        .map(|row| {
            let day = Days::new(row.day.unsigned_abs());
            let mut item = tally_json(&row.tally);
            item["tenant"] = report.tenants.get(&row.tenant_id).cloned().into();
            item["day"] = epoch.checked_add_days(day).map(|d| d.to_string()).into();
            item["task_type"] = row.task_type.clone().into();
            item
        })
        .collect();
    json!({
        "from": report.from.to_string(),
        "to": report.to.to_string(),
        "items": items,
        "next_cursor": null,
        "total": tally_json(&report.total),
    })
}

fn tally_json(tally: &Tally) -> Value {
    json!({
        "runs": tally.runs,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "cancelled": tally.cancelled,
        "fuel": tally.fuel,
        "cpu_seconds": tally.cpu_micros as f64 / 1e6,
        "wall_seconds": tally.wall_micros as f64 / 1e6,
        "http_calls": tally.http_calls,
        "http_request_bytes": tally.http_request_bytes,
        "http_response_bytes": tally.http_response_bytes,
        "log_bytes": tally.log_bytes,
        "result_bytes": tally.result_bytes,
    })
}

//! Executions, one and many.

use super::super::events;
use super::super::executions as handlers;
use super::super::query::Params;
use super::{Body, Route, Shape, all, answer, one, page, route};
use axum::routing::{get, post};
use horarium_core::service::{BatchRequest, Bulk, BulkRequest, ImportRequest};
use horarium_model::access::Permission::*;

pub(super) const ROUTES: &[Route] = &[
    route("GET", "/v1/events", ExecutionsRead, || get(events::follow))
        .says("events", "What happens to executions, tasks and plugins, as server-sent events")
        .more(
            "Each event has an id, with which a stream that was left goes on, on any host; each is told at least once, within \
             about a second. A stream that ends for another reason than the connection says so by a last event `end` with \
             `{\"reason\": \"slow\" | \"stopping\" | \"token\" | \"unavailable\"}`. Comments come when nothing happens. With a filter of \
             executions, only those are told of that fit as they stand then.",
        )
        .query(|| Params::describe(events::query))
        .resumed()
        .answers(&[answer(200, Shape::Events).with(&["Cache-Control"])]),
    route("GET", "/v1/executions", ExecutionsRead, || get(handlers::list))
        .says("listExecutions", "Executions, newest first")
        .more("Without `parameters`, `result` and `error_traceback`.")
        .query(|| Params::describe(handlers::list_query))
        .answers(&[page("Execution")]),
    route("POST", "/v1/executions/batch", TasksTrigger, || post(handlers::batch))
        .says("enqueueBatch", "Enqueues many executions; each is taken or refused by itself, or with `atomic` all or none")
        .keyed()
        .traced()
        .body(Body::Json(BatchRequest::describe))
        .answers(&[answer(202, Shape::One("BatchOutcome")).with(&["Idempotency-Replayed"])]),
    route("POST", "/v1/executions/import", ExecutionsWrite, || post(handlers::import))
        .says("importExecutions", "Takes in executions that ended in another system, all or none")
        .more("One whose `task_id` is known is left as it is, so that the same may be sent again.")
        .body(Body::Json(ImportRequest::describe))
        .answers(&[one("ImportOutcome")]),
    route("POST", "/v1/executions/retry", ExecutionsWrite, || post(handlers::retry_many))
        .says("retryExecutions", "Runs again what fits a filter, newest first, in one transaction a call")
        .keyed()
        .traced()
        .body(Body::Json(|| BulkRequest::describe(Bulk::Retry)))
        .answers(&[one("RetryOutcome").with(&["Idempotency-Replayed"])]),
    route("POST", "/v1/executions/cancel", ExecutionsWrite, || post(handlers::cancel_many))
        .says("cancelExecutions", "Ends what fits a filter and has not ended")
        .body(Body::Json(|| BulkRequest::describe(Bulk::Cancel)))
        .answers(&[one("CancelOutcome")]),
    route("GET", "/v1/executions/{task_id}", ExecutionsRead, || get(handlers::show))
        .says("showExecution", "An execution, with the limits that hold for it")
        .answers(&[one("Execution")]),
    route("GET", "/v1/executions/{task_id}/logs", ExecutionsRead, || get(handlers::logs))
        .says("listLogs", "Lines of its log")
        .more("While the execution lives there is always a `next_cursor` to ask again with; null means there will be no more.")
        .query(|| Params::describe(handlers::logs_query))
        .answers(&[page("LogLine")]),
    route("GET", "/v1/executions/{task_id}/http", ExecutionsRead, || get(handlers::http))
        .says("listHttpCalls", "Requests that it made, paged as its log is")
        .query(|| Params::describe(handlers::log_page))
        .answers(&[page("HttpCall")]),
    route("GET", "/v1/executions/{task_id}/attempts", ExecutionsRead, || get(handlers::attempts))
        .says("listAttempts", "Attempts that ended, oldest first")
        .answers(&[all("Attempt")]),
    route("GET", "/v1/executions/{task_id}/why", ExecutionsRead, || get(handlers::why))
        .says("whyExecution", "What it waits for, or why it stands where it stands")
        .answers(&[one("Why")]),
    route("POST", "/v1/executions/{task_id}/cancel", ExecutionsWrite, || post(handlers::cancel))
        .says("cancelExecution", "Ends it: 200 when it has ended, 202 when it was asked to end")
        .body(Body::Empty)
        .answers(&[one("Execution"), answer(202, Shape::One("Execution"))])
        .refuses(&[409]),
    route("POST", "/v1/executions/{task_id}/retry", ExecutionsWrite, || post(handlers::retry))
        .says("retryExecution", "Runs an ended one again as a new execution")
        .keyed()
        .traced()
        .body(Body::Empty)
        .answers(&[answer(202, Shape::One("Execution")).with(&["Idempotency-Replayed"])])
        .refuses(&[409]),
];

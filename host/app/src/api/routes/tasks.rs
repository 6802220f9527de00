//! Tasks, their parameters and their state.

use super::super::query::Params;
use super::super::{apply, parameters, state, tasks as handlers};
use super::{Body, NOTHING, Route, Shape, all, answer, any_object, one, page, route};
use axum::routing::{delete, get, patch, post, put};
use horarium_core::service::{ApplyRequest, TriggerRequest};
use horarium_model::TaskSpec;
use horarium_model::access::Permission::*;
use horarium_model::input::Fields;

pub(super) const ROUTES: &[Route] = &[
    route("POST", "/v1/apply", TasksWrite, || post(apply::apply))
        .says(
            "applyDeclaration",
            "Makes plugins and tasks what a document declares, all in one transaction",
        )
        .more("With `plugins` it needs `plugins:write` and `plugins:grant` besides.")
        .body(Body::Json(ApplyRequest::describe))
        .answers(&[one("ApplyOutcome")])
        .refuses(&[412]),
    route("GET", "/v1/tasks", TasksRead, || get(handlers::list))
        .says("listTasks", "Tasks, newest first")
        .query(|| Params::describe(handlers::list_query))
        .answers(&[page("Task")]),
    route("POST", "/v1/tasks", TasksWrite, || post(handlers::create))
        .says("createTask", "Creates a task")
        .keyed()
        .body(Body::Json(TaskSpec::describe))
        .answers(&[answer(201, Shape::One("Task")).with(&[
            "ETag",
            "Location",
            "Idempotency-Replayed",
        ])])
        .refuses(&[409]),
    route("GET", "/v1/tasks/{task}", TasksRead, || get(handlers::show))
        .says("showTask", "A task")
        .answers(&[one("Task").with(&["ETag"])]),
    route("PATCH", "/v1/tasks/{task}", TasksWrite, || {
        patch(handlers::update)
    })
    .says("updateTask", "Changes a task by a merge patch")
    .more("Another `scheduler_type` brings its whole `schedule_config`.")
    .if_match()
    .body(Body::Merge(TaskSpec::describe))
    .answers(&[one("Task").with(&["ETag"])])
    .refuses(&[409]),
    route("DELETE", "/v1/tasks/{task}", TasksWrite, || {
        delete(handlers::delete)
    })
    .says(
        "deleteTask",
        "Deletes a task; what waits is cancelled, what runs is finished",
    )
    .query(|| Params::describe(handlers::delete_query))
    .if_match()
    .body(Body::Empty)
    .answers(&[one("Deleted")])
    .refuses(&[409]),
    route("POST", "/v1/tasks/{task}/pause", TasksWrite, || {
        post(handlers::pause)
    })
    .says("pauseTask", "Stops new slots")
    .if_match()
    .body(Body::Json(|| Fields::describe(handlers::read_reason)))
    .answers(&[one("Task").with(&["ETag"])]),
    route("POST", "/v1/tasks/{task}/resume", TasksWrite, || {
        post(handlers::resume)
    })
    .says("resumeTask", "Lets slots count again from now on")
    .if_match()
    .body(Body::Empty)
    .answers(&[one("Task").with(&["ETag"])]),
    route("POST", "/v1/tasks/{task}/trigger", TasksTrigger, || {
        post(handlers::trigger)
    })
    .says("triggerTask", "Enqueues an execution, paused or not")
    .keyed()
    .traced()
    .body(Body::Json(TriggerRequest::describe))
    .answers(&[answer(202, Shape::One("Execution")).with(&["Idempotency-Replayed"])])
    .refuses(&[409]),
    route("GET", "/v1/tasks/{task}/next", TasksRead, || {
        get(handlers::next)
    })
    .says(
        "nextSlots",
        "The slots to come, and what would become of each",
    )
    .query(|| Params::describe(handlers::next_query))
    .answers(&[one("NextSlots")]),
    route("GET", "/v1/tasks/{task}/why", TasksRead, || {
        get(handlers::why)
    })
    .says(
        "whyTask",
        "Why it fires when it does or not, and what became of a slot",
    )
    .query(|| Params::describe(handlers::why_query))
    .answers(&[one("WhyTask")]),
    route("GET", "/v1/tasks/{task}/parameters", TasksRead, || {
        get(parameters::show)
    })
    .says(
        "showParameters",
        "All parameters, or the value at a JSON pointer",
    )
    .more("404 where the pointer leads nowhere and no `default` is given.")
    .query(|| Params::describe(parameters::show_query))
    .answers(&[one("AnyValue").with(&["ETag"])])
    .refuses(&[422]),
    route("PATCH", "/v1/tasks/{task}/parameters", TasksWrite, || {
        patch(parameters::update)
    })
    .says(
        "updateParameters",
        "Changes parameters by a merge patch or a JSON Patch",
    )
    .if_match()
    .body(Body::Patch)
    .answers(&[one("Parameters").with(&["ETag"])]),
    route("PUT", "/v1/tasks/{task}/parameters", TasksWrite, || {
        put(parameters::replace)
    })
    .says("setParameters", "Replaces all parameters")
    .if_match()
    .body(Body::Json(any_object))
    .answers(&[one("Parameters").with(&["ETag"])]),
    route("GET", "/v1/tasks/{task}/state", TasksRead, || {
        get(state::list)
    })
    .says("listState", "What the plugin keeps for the task")
    .answers(&[all("StateItem")]),
    route("DELETE", "/v1/tasks/{task}/state", TasksWrite, || {
        delete(state::reset)
    })
    .says("resetState", "Forgets all state of the task")
    .body(Body::Empty)
    .answers(&[one("StateDeleted")]),
    route("PUT", "/v1/tasks/{task}/state/{key}", TasksWrite, || {
        put(state::set)
    })
    .says("setState", "Sets a key of the state")
    .body(Body::Json(|| Fields::describe(state::value)))
    .answers(&[one("StateItem")]),
    route("DELETE", "/v1/tasks/{task}/state/{key}", TasksWrite, || {
        delete(state::delete)
    })
    .says("deleteState", "Forgets a key of the state")
    .body(Body::Empty)
    .answers(&[NOTHING]),
];

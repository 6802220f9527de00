//! Task types, their versions, grants and settings; secrets.

use super::super::query::Params;
use super::super::{plugin_config, plugins as handlers, secrets};
use super::{Body, NOTHING, Route, Shape, all, answer, one, page, paged, route, text_value};
use axum::routing::{delete, get, patch, post, put};
use horarium_core::service::{Registration, plugins};
use horarium_model::access::Permission::*;
use horarium_model::input::Fields;

pub(super) const ROUTES: &[Route] = &[
    route("GET", "/v1/task-types", PluginsRead, || get(handlers::list))
        .says("listTaskTypes", "Registered task types")
        .query(paged)
        .answers(&[page("TaskType")]),
    route("GET", "/v1/task-types/{type}", PluginsRead, || get(handlers::show))
        .says("showTaskType", "A task type with its active version")
        .answers(&[one("TaskTypeWithActive")]),
    route("PATCH", "/v1/task-types/{type}", PluginsWrite, || patch(handlers::update))
        .says("updateTaskType", "Bounds how many executions of the type run at once and wait")
        .body(Body::Json(plugins::describe_update))
        .answers(&[one("TaskType")]),
    route("GET", "/v1/task-types/{type}/versions", PluginsRead, || get(handlers::versions))
        .says("listVersions", "All versions of a task type, newest first")
        .answers(&[all("PluginVersion")]),
    route("POST", "/v1/task-types/{type}/versions", PluginsWrite, || post(handlers::register))
        .says("registerVersion", "Registers a component as a version of a task type")
        .more(
            "What fails the first check is refused (422) and nothing is written. What passes is `compiling`, and then \
             `ready` or `failed`. Without `grants` it has those of the active version. With `shared` the type is the host's, \
             which shares it with every tenant; a host-admin alone does that, and changes it.",
        )
        .query(|| Params::describe(handlers::register_query))
        .body(Body::Upload(Registration::describe))
        .answers(&[answer(202, Shape::One("PluginVersion"))])
        .refuses(&[409]),
    route("GET", "/v1/task-types/{type}/versions/{digest}", PluginsRead, || get(handlers::version))
        .says("showVersion", "A version")
        .answers(&[one("PluginVersion")]),
    route("POST", "/v1/task-types/{type}/activate", PluginsWrite, || post(handlers::activate))
        .says("activateVersion", "Makes a ready version the one that runs")
        .body(Body::Json(|| Fields::describe(handlers::read_digest)))
        .answers(&[one("TaskType")])
        .refuses(&[409]),
    route("POST", "/v1/task-types/{type}/rollback", PluginsWrite, || post(handlers::rollback))
        .says("rollbackTaskType", "Makes the version active that was active before")
        .more("Asked twice, all is as it was.")
        .body(Body::Empty)
        .answers(&[one("TaskType")])
        .refuses(&[409]),
    route("GET", "/v1/task-types/{type}/diff", PluginsRead, || get(handlers::diff))
        .says("diffVersions", "How two versions differ, and what speaks against making the second active")
        .more(
            "Without `from_digest` it is the active version; without `to_digest` the newest ready one. Where that is the active one \
             too, it is compared with the one that was active before.",
        )
        .query(|| Params::describe(handlers::diff_query))
        .answers(&[one("VersionDiff")])
        .refuses(&[409]),
    route("DELETE", "/v1/task-types/{type}", PluginsWrite, || delete(handlers::remove))
        .says("removeTaskType", "Removes a task type with its versions and settings; its history stays")
        .more("Refused while tasks name it, or executions of it wait or run.")
        .query(|| Params::describe(handlers::remove_query))
        .body(Body::Empty)
        .answers(&[one("TypeRemoved")])
        .refuses(&[409]),
    route("POST", "/v1/task-types/{type}/disable", PluginsWrite, || post(handlers::disable))
        .says("disableTaskType", "Holds a task type, or frees it: nothing of it is claimed and its slots are skipped")
        .body(Body::Json(|| Fields::describe(handlers::read_disabled)))
        .answers(&[one("TaskType")]),
    route("POST", "/v1/task-types/{type}/breaker/reset", PluginsWrite, || post(handlers::reset_breaker))
        .says("resetBreaker", "Closes the breaker of a type that kept failing")
        .body(Body::Empty)
        .answers(&[one("TaskType")]),
    route("GET", "/v1/task-types/{type}/grants", PluginsRead, || get(handlers::grants))
        .says("showGrants", "What the active version may do")
        .answers(&[one("Grants")]),
    route("PUT", "/v1/task-types/{type}/grants", PluginsGrant, || put(handlers::set_grants))
        .says("setGrants", "Replaces what the active version may do")
        .body(Body::Json(plugins::describe_grants))
        .answers(&[one("Grants")])
        .refuses(&[409]),
    route("PATCH", "/v1/task-types/{type}/grants", PluginsGrant, || patch(handlers::change_grants))
        .says("changeGrants", "Grants more, and takes away")
        .body(Body::Json(plugins::describe_grant_change))
        .answers(&[one("Grants")])
        .refuses(&[409]),
    route("GET", "/v1/task-types/{type}/config", PluginsRead, || get(plugin_config::list))
        .says("listTypeConfig", "Settings an operator gave the type; not secret")
        .answers(&[all("TypeConfigItem")]),
    route("PUT", "/v1/task-types/{type}/config/{key}", PluginsGrant, || put(plugin_config::set))
        .says("setTypeConfig", "Sets a setting of the type")
        .body(Body::Json(text_value))
        .answers(&[one("TypeConfigItem")]),
    route("DELETE", "/v1/task-types/{type}/config/{key}", PluginsGrant, || delete(plugin_config::unset))
        .says("unsetTypeConfig", "Unsets a setting of the type")
        .body(Body::Empty)
        .answers(&[NOTHING]),
    route("GET", "/v1/secrets", SecretsRead, || get(secrets::list))
        .says("listSecrets", "Secrets by name, without their values")
        .query(paged)
        .answers(&[page("Secret")]),
    route("POST", "/v1/secrets/rekey", HostsWrite, || post(secrets::rekey))
        .of_host()
        .says("rekeySecrets", "Seals the secrets of all tenants with the newest key")
        .body(Body::Json(|| Fields::describe(secrets::new_key)))
        .answers(&[one("Rekeyed")])
        .refuses(&[409]),
    route("GET", "/v1/secrets/{name}", SecretsRead, || get(secrets::show))
        .says("showSecret", "A secret, without its value")
        .answers(&[one("Secret")]),
    route("PUT", "/v1/secrets/{name}", SecretsWrite, || put(secrets::set))
        .says("setSecret", "Sets a secret")
        .body(Body::Json(|| Fields::describe(secrets::value)))
        .answers(&[one("Secret"), answer(201, Shape::One("Secret"))])
        .refuses(&[409]),
    route("DELETE", "/v1/secrets/{name}", SecretsWrite, || delete(secrets::delete))
        .says("deleteSecret", "Deletes a secret")
        .body(Body::Empty)
        .answers(&[NOTHING]),
];

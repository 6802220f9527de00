//! Every route in one table: the router, the permissions and the OpenAPI document are made of it, so that none of them
//! can know of a route that the others do not.

mod access;
mod care;
mod executions;
mod plugins;
mod system;
mod tasks;

use super::ApiState;
use super::query::Params;
use axum::Router;
use axum::routing::MethodRouter;
use horarium_model::access::Permission;
use horarium_model::input::Fields;
use serde_json::{Value, json};
use std::sync::Arc;

/// Makes what handles a method.
pub(super) type Handler = fn() -> MethodRouter<Arc<ApiState>>;

/// One method on one path.
pub(super) struct Route {
    /// The method; HEAD is a GET.
    pub(super) method: &'static str,
    /// The path as the router knows it.
    pub(super) path: &'static str,
    /// What it takes.
    pub(super) needs: Needs,
    /// It is about the host as a whole: the header `Horarium-Tenant` means nothing to it.
    pub(super) of_host: bool,
    handler: Handler,
    /// Name of the operation.
    pub(super) id: &'static str,
    /// One line.
    pub(super) summary: &'static str,
    /// More, where one line is not enough.
    pub(super) description: &'static str,
    /// Its query parameters.
    pub(super) query: fn() -> Vec<Value>,
    /// It takes `If-Match`.
    pub(super) if_match: bool,
    /// It takes `Idempotency-Key`.
    pub(super) keyed: bool,
    /// It takes `Last-Event-ID`.
    pub(super) resumed: bool,
    /// Whether what it enqueues belongs to the trace of the request.
    pub(super) traced: bool,
    /// Its body.
    pub(super) body: Body,
    /// What it answers when all is well.
    pub(super) answers: &'static [Answer],
    /// Statuses of refusals beside those that follow from what it takes.
    pub(super) refusals: &'static [u16],
}

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// No token.
    Nothing,
    /// Any token.
    Token,
    /// A token that may do this.
    Leave(Permission),
}

impl Needs {
    /// The permission, where one is needed.
    pub(super) fn permission(self) -> Option<Permission> {
        match self {
            Self::Leave(permission) => Some(permission),
            Self::Nothing | Self::Token => None,
        }
    }
}

/// What a route's body is.
#[derive(Clone, Copy)]
pub(super) enum Body {
    /// None is looked at.
    None,
    /// None, or an empty object.
    Empty,
    /// JSON of this schema.
    Json(fn() -> Value),
    /// A merge patch (RFC 7396) of this schema, also sent as plain JSON.
    Merge(fn() -> Value),
    /// A merge patch of any object, or a JSON Patch (RFC 6902).
    Patch,
    /// A component: its bytes, or a form with `component` and `options` of this schema.
    Upload(fn() -> Value),
}

/// An answer when all is well.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// What it says.
    pub(super) shape: Shape,
    /// Headers beside `x-request-id`, by the names of the document's components.
    pub(super) headers: &'static [&'static str],
}

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing.
    Nothing,
    /// A component of the document.
    One(&'static str),
    /// A page of a component.
    Page(&'static str),
    /// A list of a component that is never cut into pages.
    All(&'static str),
    /// Text of this media type.
    Text(&'static str),
    /// Server-sent events.
    Events,
}

/// 200 with one.
pub(super) const fn one(name: &'static str) -> Answer {
    answer(200, Shape::One(name))
}

/// 200 with a page.
pub(super) const fn page(name: &'static str) -> Answer {
    answer(200, Shape::Page(name))
}

/// 200 with all.
pub(super) const fn all(name: &'static str) -> Answer {
    answer(200, Shape::All(name))
}

/// 204.
pub(super) const NOTHING: Answer = answer(204, Shape::Nothing);

/// Any answer.
pub(super) const fn answer(status: u16, shape: Shape) -> Answer {
    Answer {
        status,
        shape,
        headers: &[],
    }
}

impl Answer {
    /// With headers.
    pub(super) const fn with(self, headers: &'static [&'static str]) -> Self {
        Self { headers, ..self }
    }
}

/// A route of a tenant's things.
pub(super) const fn route(
    method: &'static str,
    path: &'static str,
    needs: Permission,
    handler: Handler,
) -> Route {
    Route {
        method,
        path,
        needs: Needs::Leave(needs),
        of_host: false,
        handler,
        id: "",
        summary: "",
        description: "",
        query: Vec::new,
        if_match: false,
        keyed: false,
        resumed: false,
        traced: false,
        body: Body::None,
        answers: &[],
        refusals: &[],
    }
}

impl Route {
    /// About the host as a whole.
    pub(super) const fn of_host(self) -> Self {
        Self {
            of_host: true,
            ..self
        }
    }

    /// With other needs than a permission; such a route is about the host as a whole.
    pub(super) const fn needing(self, needs: Needs) -> Self {
        Self {
            needs,
            of_host: true,
            ..self
        }
    }

    /// Named, and told in one line.
    pub(super) const fn says(self, id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            ..self
        }
    }

    /// Told in more than one line.
    pub(super) const fn more(self, description: &'static str) -> Self {
        Self {
            description,
            ..self
        }
    }

    /// With a query.
    pub(super) const fn query(self, query: fn() -> Vec<Value>) -> Self {
        Self { query, ..self }
    }

    /// Taking `If-Match`.
    pub(super) const fn if_match(self) -> Self {
        Self {
            if_match: true,
            ..self
        }
    }

    /// Taking `Idempotency-Key`.
    pub(super) const fn keyed(self) -> Self {
        Self {
            keyed: true,
            ..self
        }
    }

    /// Taking `Last-Event-ID`.
    pub(super) const fn resumed(self) -> Self {
        Self {
            resumed: true,
            ..self
        }
    }

    /// Enqueuing, in the trace that `traceparent` and `tracestate` name.
    pub(super) const fn traced(self) -> Self {
        Self {
            traced: true,
            ..self
        }
    }

    /// With a body.
    pub(super) const fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// With these answers.
    pub(super) const fn answers(self, answers: &'static [Answer]) -> Self {
        Self { answers, ..self }
    }

    /// With more refusals.
    pub(super) const fn refuses(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }
}

/// `limit` and `cursor` alone.
pub(super) fn paged() -> Vec<Value> {
    Params::describe(Params::page)
}

/// Every route.
pub(super) fn all_routes() -> impl Iterator<Item = &'static Route> {
    let tables = [
        system::ROUTES,
        access::ROUTES,
        care::ROUTES,
        plugins::ROUTES,
        tasks::ROUTES,
        executions::ROUTES,
    ];
    tables.into_iter().flatten()
}

/// The router of all routes.
pub(super) fn router() -> Router<Arc<ApiState>> {
    all_routes().fold(Router::new(), |router, route| {
        router.route(route.path, (route.handler)())
    })
}

/// The route of a method on a path of the router.
pub(super) fn find(method: &str, path: &str) -> Option<&'static Route> {
    let method = if method == "HEAD" { "GET" } else { method };
    all_routes().find(|route| route.path == path && route.method == method)
}

/// An object with the one key `value`, which is a text.
fn text_value() -> Value {
    Fields::describe(super::plugin_config::value)
}

/// A schema of the parameters of a task: any object.
fn any_object() -> Value {
    json!({ "type": "object" })
}

//! Tenants, tokens, and who did what.

use super::super::query::Params;
use super::super::tokens as handlers;
use super::{Body, NOTHING, Route, Shape, answer, one, page, paged, route};
use axum::routing::{delete, get, patch, post};
use horarium_core::service::{tenants, tokens};
use horarium_model::access::Permission::*;

pub(super) const ROUTES: &[Route] = &[
    route("GET", "/v1/tenants", TenantsRead, || {
        get(handlers::list_tenants)
    })
    .of_host()
    .says("listTenants", "Tenants; for a tenant's token its own alone")
    .query(paged)
    .answers(&[page("Tenant")]),
    route("POST", "/v1/tenants", TenantsWrite, || {
        post(handlers::create_tenant)
    })
    .of_host()
    .says("createTenant", "Creates a tenant")
    .body(Body::Json(tenants::describe_new))
    .answers(&[answer(201, Shape::One("Tenant")).with(&["Location"])])
    .refuses(&[409]),
    route("GET", "/v1/tenants/{tenant}", TenantsRead, || {
        get(handlers::show_tenant)
    })
    .of_host()
    .says("showTenant", "A tenant")
    .answers(&[one("Tenant")]),
    route("PATCH", "/v1/tenants/{tenant}", TenantsWrite, || {
        patch(handlers::update_tenant)
    })
    .of_host()
    .says("updateTenant", "Changes a tenant's share of the turns")
    .body(Body::Json(tenants::describe_change))
    .answers(&[one("Tenant")]),
    route("DELETE", "/v1/tenants/{tenant}", TenantsWrite, || {
        delete(handlers::delete_tenant)
    })
    .of_host()
    .says(
        "deleteTenant",
        "Deletes a tenant that has no tasks and nothing that lives",
    )
    .body(Body::Empty)
    .answers(&[NOTHING])
    .refuses(&[409]),
    route("GET", "/v1/tokens", TokensRead, || get(handlers::list))
        .says(
            "listTokens",
            "Tokens; for a host-admin those of no tenant too",
        )
        .query(paged)
        .answers(&[page("Token")]),
    route("POST", "/v1/tokens", TokensWrite, || post(handlers::create))
        .says(
            "createToken",
            "Creates a token; its text is in this answer and never shown again",
        )
        .body(Body::Json(tokens::describe_new))
        .answers(&[answer(201, Shape::One("FreshToken")).with(&["Location", "Cache-Control"])]),
    route("GET", "/v1/tokens/{token}", TokensRead, || {
        get(handlers::show)
    })
    .says("showToken", "A token, without its text")
    .answers(&[one("Token")]),
    route("DELETE", "/v1/tokens/{token}", TokensWrite, || {
        delete(handlers::revoke)
    })
    .says("revokeToken", "Revokes a token")
    .body(Body::Empty)
    .answers(&[NOTHING]),
    route("POST", "/v1/tokens/{token}/rotate", TokensWrite, || {
        post(handlers::rotate)
    })
    .says(
        "rotateToken",
        "Gives a token another text; the one before stays good for `keep_seconds`",
    )
    .body(Body::Json(tokens::describe_rotation))
    .answers(&[one("FreshToken").with(&["Cache-Control"])]),
    route("GET", "/v1/audit", AuditRead, || get(handlers::audit))
        .says("listAudit", "Who did what, newest first")
        .query(|| Params::describe(handlers::audit_query))
        .answers(&[page("AuditEntry")]),
];

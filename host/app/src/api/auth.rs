//! Who asks and whether they may, checked before anything else is looked at; and who did what, noted afterwards.

use super::error::{ApiError, RequestId};
use super::routes::{self, Needs, Route};
use super::{ApiState, Peer};
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use horarium_core::access::{Caller, Denied};
use horarium_core::service::ServiceResult;
use horarium_core::service::tenants::no_such;
use horarium_core::store::AuditEntry;
use horarium_model::access::Permission;
use horarium_model::text::one_line;
use horarium_model::{DEFAULT_TENANT, HOST_TENANT_ID, TenantId};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use subtle::ConstantTimeEq;

/// Longest path kept in the audit log.
const MAX_TARGET: usize = 500;

/// The token in the host's data directory, kept as a hash so that comparing takes the same time for every guess.
#[derive(Debug, Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// From the token's text.
    pub fn new(token: &str) -> Self {
        Self(*blake3::hash(token.as_bytes()).as_bytes())
    }

    pub(super) fn matches(&self, presented: &str) -> bool {
        let presented = blake3::hash(presented.as_bytes());
        self.0.ct_eq(presented.as_bytes()).into()
    }
}

/// The tenant of a request: the token's, or for a host-admin the one that the header `Horarium-Tenant` names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenant(pub(super) TenantId);

/// Whose task type a request is about: the tenant's, or the host's when that is shared with every tenant. Changes of those
/// are a host-admin's alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner(pub(super) TenantId);

impl FromRequestParts<Arc<ApiState>> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ApiState>,
    ) -> Result<Self, ApiError> {
        let Tenant(tenant) = Tenant::from_request_parts(parts, state).await?;
        let Asking(caller) = Asking::from_request_parts(parts, state).await?;
        let meant = Meant::from_request_parts(parts, state).await?;
        let named = RawPathParams::from_request_parts(parts, state).await;
        let named = named.map_err(|error| ApiError::bad_request(error.body_text()))?;
        let name = named.iter().find(|(key, _)| *key == "type");
        let name = name.map_or("", |(_, name)| name);
        let plugins = &state.services.plugins;
        let owner = match parts.method {
            Method::GET => plugins.judged_for(&caller, tenant, name).await?,
            _ => meant.is(plugins.owner(&caller, tenant, name).await)?,
        };
        Ok(Self(owner))
    }
}

/// Whether a request turned out to change what the host shares, once that is known, for the audit log.
#[derive(Debug, Clone, Default)]
pub(super) struct Meant(Arc<OnceLock<()>>);

impl Meant {
    /// Notes whose type it is.
    pub(super) fn is(&self, owner: ServiceResult<TenantId>) -> ServiceResult<TenantId> {
        if let Ok(HOST_TENANT_ID) = &owner {
            self.0.get_or_init(|| ());
        }
        owner
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Asking(pub(super) Caller);

macro_rules! left_by_check {
    ($($name:ident),*) => {
        $(impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
                parts
                    .extensions
                    .get::<Self>()
                    .cloned()
                    .ok_or_else(|| ApiError::internal("nobody found out who asks"))
            }
        })*
    };
}
left_by_check!(Tenant, Asking, Meant);

/// Lets a request through that needs no token, or whose token may do it.
pub(super) async fn check(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let needs_nothing = |route: &Route| route.path == path && route.needs == Needs::Nothing;
    let open =
        routes::all_routes().any(needs_nothing) || (path == "/metrics" && state.metrics_open);
    if open {
        return next.run(request).await;
    }
    match attend(&state, request, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn attend(state: &ApiState, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let address = address(&request);
    let caller = caller(state, request.headers(), address).await?;
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let found = matched.and_then(|path| routes::find(request.method().as_str(), path.as_str()));
    request.extensions_mut().insert(Asking(caller.clone()));
    // The router says what is wrong: there is no such path, or it does not take this method.
    let Some(route) = found else {
        return Ok(next.run(request).await);
    };
    let tenant = tenant(state, &caller, route, request.headers()).await?;
    if let Some(tenant) = tenant {
        request.extensions_mut().insert(Tenant(tenant));
    }
    let meant = Meant::default();
    request.extensions_mut().insert(meant.clone());
    let note = Note::of(state, &caller, route, tenant, &request);
    let needs = route.needs.permission();
    if let Some(missing) = needs.filter(|needs| !caller.may(*needs)) {
        refuse_foreign(&caller, route, request.uri().path())?;
        if let Some(note) = note {
            note.keep(state, 403).await;
        }
        return Err(forbidden(&caller, missing));
    }
    let response = next.run(request).await;
    let status = response.status();
    let did = !status.is_client_error()
        && !status.is_server_error()
        && response.extensions().get::<ChangedNothing>().is_none();
    // What is declared may need more leave than the route.
    if let Some(mut note) = note
        && (did || status == StatusCode::FORBIDDEN)
    {
        if meant.0.get().is_some() {
            note.entry.tenant_id = None;
        }
        note.keep(state, status.as_u16()).await;
    }
    Ok(response)
}

/// Marks the answer to a request that only asked what it would change, or was carried out before.
#[derive(Debug, Clone, Copy)]
struct ChangedNothing;

/// The same answer, of which the audit log says nothing.
pub(super) fn changed_nothing(mut response: Response) -> Response {
    response.extensions_mut().insert(ChangedNothing);
    response
}

/// The token of a request, as it was sent.
pub(super) fn presented(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
}

/// Who sent the token of a request.
async fn caller(
    state: &ApiState,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<Caller, ApiError> {
    let Some(presented) = presented(headers) else {
        return Err(ApiError::unauthorized(
            "a token is needed: Authorization: Bearer …; the first is the text of `admin-token` in the host's data directory",
        ));
    };
    if state.token.matches(presented) {
        return Ok(Caller::of_this_host());
    }
    let now = state.clock.monotonic();
    let left = state.attempts.left(address, now);
    match (state.gate.caller(presented, left.is_ok()).await, left) {
        (Ok(caller), _) => Ok(caller),
        (Err(Denied::Store(error)), _) => Err(error.into()),
        (Err(Denied::Unknown(reason)), Ok(())) => {
            state.attempts.failed(address, now);
            Err(ApiError::unauthorized(reason))
        }
        (Err(_), Err(seconds)) => Err(ApiError::too_many_attempts(
            "too many wrong tokens came from this address; wait before the next",
            seconds,
        )),
        (Err(Denied::NotAsked), Ok(())) => Err(ApiError::internal("a token was not looked up")),
    }
}

fn address(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<Peer>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

/// The tenant that is meant; none where the request is about the host as a whole.
async fn tenant(
    state: &ApiState,
    caller: &Caller,
    route: &Route,
    headers: &HeaderMap,
) -> Result<Option<TenantId>, ApiError> {
    let named = headers.get("horarium-tenant");
    let named = named.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if let Some((id, own)) = &caller.tenant {
        // Another's tenant and one that does not exist look the same.
        return match named {
            Some(named) if named != *own => Err(ApiError::not_found(no_such(&named))),
            _ => Ok(Some(*id)),
        };
    }
    if route.of_host {
        return Ok(None);
    }
    let named = named.unwrap_or_else(|| DEFAULT_TENANT.to_owned());
    match state.gate.tenant(&named).await? {
        Some(id) => Ok(Some(id)),
        None => Err(ApiError::not_found(no_such(&named))),
    }
}

/// What may not be done to a tenant is told only of one's own: of others not even that they exist.
fn refuse_foreign(caller: &Caller, route: &Route, path: &str) -> Result<(), ApiError> {
    let Some((_, own)) = &caller.tenant else {
        return Ok(());
    };
    if !route.path.starts_with("/v1/tenants/{tenant}") {
        return Ok(());
    }
    let named = path.trim_start_matches("/v1/tenants/");
    match named.split('/').next() {
        Some(named) if named == own => Ok(()),
        other => Err(ApiError::not_found(no_such(other.unwrap_or_default()))),
    }
}

pub(super) fn forbidden(caller: &Caller, missing: Permission) -> ApiError {
    let narrowed = caller.role.may(missing);
    ApiError::forbidden(match narrowed {
        true => format!("this token's scope does not have {missing}"),
        false => format!(
            "this needs {missing}, which the role {} does not have; {} and above do",
            caller.role,
            missing.least_role()
        ),
    })
}

/// What the audit log will say of a request, if it is one that changes something.
struct Note {
    entry: AuditEntry,
}

impl Note {
    fn of(
        state: &ApiState,
        caller: &Caller,
        route: &Route,
        tenant: Option<TenantId>,
        request: &Request,
    ) -> Option<Self> {
        let action = route.needs.permission().filter(|_| route.method != "GET")?;
        let id = request.extensions().get::<RequestId>();
        let peer = request.extensions().get::<Peer>();
        Some(Self {
            entry: AuditEntry {
                at: state.clock.now(),
                tenant_id: tenant.filter(|_| !route.of_host),
                token_id: caller.token,
                actor: caller.actor(),
                role: caller.role,
                action,
                method: route.method.to_owned(),
                target: one_line(request.uri().path(), MAX_TARGET),
                status: 0,
                request_id: id.map(|id| id.0.clone()).unwrap_or_default(),
                address: peer.map(|peer| peer.0.to_string()),
                host: state.host.name.clone(),
            },
        })
    }

    async fn keep(self, state: &ApiState, status: u16) {
        let mut entry = self.entry;
        entry.status = status;
        let audit = &state.services.audit;
        match entry.action {
            // The execution itself stands for it.
            Permission::TasksTrigger if status < 400 => audit.record_soon(entry),
            _ => audit.record(entry).await,
        }
    }
}

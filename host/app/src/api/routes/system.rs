//! Health, metrics, this document, and the hosts.

use super::super::{openapi, system, tokens};
use super::{Needs, Route, Shape, answer, one, page, paged, route};
use axum::routing::get;
use horarium_model::access::Permission::{HostsRead, MetricsRead};

pub(super) const ROUTES: &[Route] = &[
    route("GET", "/healthz", HostsRead, || get(system::healthz))
        .needing(Needs::Nothing)
        .says("healthz", "Whether the process answers")
        .answers(&[one("Status")]),
    route("GET", "/readyz", HostsRead, || get(system::readyz))
        .needing(Needs::Nothing)
        .says("readyz", "Whether the host can do its work")
        .more(
            "It has started, the database answers and has its heartbeat, compiled plugins can be kept, and the keys of \
             all secrets are there; else 503.",
        )
        .answers(&[one("Status")]),
    route("GET", "/openapi.json", HostsRead, || get(openapi::show))
        .needing(Needs::Nothing)
        .says("openapi", "This document")
        .answers(&[one("OpenApi")]),
    route("GET", "/metrics", MetricsRead, || get(system::metrics))
        .of_host()
        .says("metrics", "Figures of this host, for Prometheus")
        .more("The setting `metrics.open` serves it without a token.")
        .answers(&[answer(
            200,
            Shape::Text("application/openmetrics-text; version=1.0.0; charset=utf-8"),
        )]),
    route("GET", "/v1/hosts", HostsRead, || get(system::hosts))
        .of_host()
        .says("listHosts", "The hosts that are alive, with what runs on each")
        .query(paged)
        .answers(&[page("Host")]),
    route("GET", "/v1/me", HostsRead, || get(tokens::me))
        .needing(Needs::Token)
        .says("me", "Who asks, and what they may")
        .answers(&[one("Me")]),
];

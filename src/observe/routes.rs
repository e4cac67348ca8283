//! The routes by which a workload is reached, what those who serve them say, and the Services in front of our canaries.
//!
//! Routes are read as JSON, so that what is newer than our types is kept.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::{core::v1::Service as RawService, discovery::v1::EndpointSlice};
use kube::{
    Api,
    core::{ApiResource, DynamicObject},
};
use serde_json::Value;

use super::{
    gateways,
    services::{SERVICE_NAME, Selects, ready_pods},
    workloads::{annotation, owns_fields},
};
use crate::{
    api::{BESIDE_ANNOTATION, DELIVERY_LABEL, FIELD_MANAGER, ROUTED_ANNOTATION, ROUTES_ANNOTATION, TRACK_CANARY, TRACK_LABEL, read_routed},
    edge::kube::{Cluster, KubeError, get},
    model::{
        decision::Reason,
        phase::after,
        plan::{Plan, PlannedWorkload},
        route::{CanaryService, Course, Pair, Route, RouteKind, RouteName, Testers, Word, canary_service, canary_shape},
        template,
        version::WorkloadName,
    },
};

/// The grain of times in `managedFields`.
const SECOND: Duration = Duration::from_secs(1);

/// A Service that stands in front of a canary: of ours, whichever Delivery's.
pub(super) fn is_front(raw: &RawService) -> bool {
    let labels = raw.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(DELIVERY_LABEL) && labels.get(TRACK_LABEL).is_some_and(|track| track == TRACK_CANARY))
}

/// The Services in front of this Delivery's canaries.
pub(super) fn fronts(delivery: &str, services: &[RawService]) -> Vec<CanaryService> {
    let of = |raw: &RawService| raw.metadata.labels.as_ref().and_then(|labels| labels.get(DELIVERY_LABEL)).is_some_and(|d| d == delivery);
    let shape = |raw: &RawService| canary_shape(&serde_json::to_value(&raw.spec).unwrap_or_default());
    let front = |raw: &RawService| {
        let service = annotation(&raw.metadata, BESIDE_ANNOTATION).unwrap_or_default().to_owned();
        let beside = services.iter().find(|beside| beside.metadata.name.as_ref() == Some(&service));
        CanaryService {
            name: raw.metadata.name.clone().unwrap_or_default(),
            uid: raw.metadata.uid.clone().unwrap_or_default(),
            deleting: raw.metadata.deletion_timestamp.is_some(),
            current: beside.is_none_or(|beside| shape(beside) == shape(raw)),
            routes: annotation(&raw.metadata, ROUTES_ANNOTATION).map(named).unwrap_or_default(),
            routable: Vec::new(),
            service,
        }
    };
    services.iter().filter(|raw| is_front(raw) && of(raw)).map(front).collect()
}

/// The same with who is ready behind them.
pub(super) async fn with_endpoints(cluster: &Cluster, namespace: &str, fronts: &[CanaryService]) -> Result<Vec<CanaryService>, KubeError> {
    try_join_all(fronts.iter().map(async |front| {
        let labels = format!("{SERVICE_NAME}={}", front.name);
        let api = Api::namespaced(cluster.client.clone(), namespace);
        let slices: Vec<EndpointSlice> = cluster.list(&api, "endpointslices", &labels).await?;
        Ok(CanaryService { routable: slices.iter().flat_map(ready_pods).collect(), ..front.clone() })
    }))
    .await
}

fn named(annotation: &str) -> Vec<RouteName> {
    let route = |text: &str| {
        let (kind, name) = text.split_once('/')?;
        let kind = match kind {
            "HTTPRoute" => RouteKind::HTTPRoute,
            "GRPCRoute" => RouteKind::GRPCRoute,
            _ => return None,
        };
        Some(RouteName { kind, name: name.to_owned() })
    };
    annotation.split(',').filter_map(route).collect()
}

/// A route to read, the workload that it leads to, and the Service that it should name.
struct Wanted {
    name: RouteName,
    workload: WorkloadName,
    service: String,
    planned: bool,
}

/// The routes of the plan, those that still lead to a canary of ours although the plan names them no more, and what is wrong with
/// the former.
pub(super) async fn read(
    cluster: &Cluster,
    namespace: &str,
    plan: &Plan,
    selecting: &[Selects<'_>],
    fronts: &[CanaryService],
    rolling: bool,
) -> Result<(Vec<Route>, Vec<Reason>), KubeError> {
    let testers = plan.steps.iter().find_map(|step| step.testers.as_ref());
    let (mut problems, mut wanted) = (Vec::new(), Vec::new());
    for planned in &plan.workloads {
        match measured(planned, selecting) {
            Some(service) => {
                let of = |name: &RouteName, named| Wanted {
                    name: name.clone(),
                    workload: planned.name.clone(),
                    service: service.clone(),
                    planned: named,
                };
                wanted.extend(planned.routes.iter().map(|name| of(name, true)));
                let front = fronts.iter().filter(|front| front.service == service).flat_map(|front| &front.routes);
                wanted.extend(front.filter(|name| !planned.routes.contains(name)).map(|name| of(name, false)));
            }
            None if planned.routes.is_empty() => {}
            None => {
                let why =
                    format!("spec.workloads[].routeRefs of {}: no Service selects its pods, so no route can lead to them", planned.name);
                problems.push(Reason::Invalid { why });
            }
        }
    }
    let read = try_join_all(wanted.iter().map(|wanted| one(cluster, namespace, wanted, testers, rolling))).await?;
    let mut routes = Vec::new();
    for (wanted, route) in wanted.iter().zip(read) {
        match route {
            None if wanted.planned => problems.push(Reason::RouteMissing { route: wanted.name.to_string() }),
            // It is not ours to look after any more.
            Some(route) if !wanted.planned && route.course == Some(Course::Left) => {}
            None => {}
            Some(route) => {
                let unfit = route.unfit.as_ref().filter(|_| wanted.planned);
                problems.extend(unfit.map(|why| Reason::RouteUnfit { route: route.name.to_string(), why: why.to_string() }));
                routes.push(route);
            }
        }
    }
    Ok((routes, problems))
}

/// The Service that the routes of a workload name: the one that is measured.
fn measured(planned: &PlannedWorkload, selecting: &[Selects<'_>]) -> Option<String> {
    let mut of = selecting.iter().filter(|s| s.workload_name() == &planned.name).map(Selects::name);
    match &planned.service {
        Some(named) => of.find(|name| name == named),
        None => of.next(),
    }
}

async fn one(
    cluster: &Cluster,
    namespace: &str,
    wanted: &Wanted,
    testers: Option<&Testers>,
    rolling: bool,
) -> Result<Option<Route>, KubeError> {
    let kind = kind(wanted.name.kind);
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &kind);
    let Some(raw) = get(&api, &kind.kind, &wanted.name.name).await? else { return Ok(None) };
    let mut route = route(&raw, namespace, wanted, testers);
    if rolling {
        let gateways = gateways::read(cluster, namespace, &raw).await?;
        route.closed = gateways.refusal;
        route.edge = gateways.edge;
    }
    Ok(Some(route))
}

/// How a kind of route is asked for.
#[must_use]
pub fn kind(kind: RouteKind) -> ApiResource {
    let (name, plural) = match kind {
        RouteKind::HTTPRoute => ("HTTPRoute", "httproutes"),
        RouteKind::GRPCRoute => ("GRPCRoute", "grpcroutes"),
    };
    gateway_api(name, plural)
}

pub(super) fn gateway_api(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "gateway.networking.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "gateway.networking.k8s.io/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn route(raw: &DynamicObject, namespace: &str, wanted: &Wanted, testers: Option<&Testers>) -> Route {
    let canary = canary_service(&wanted.service);
    let pair = Pair { namespace, stable: &wanted.service, canary: &canary };
    let rules = raw.data.pointer("/spec/rules").cloned().unwrap_or_default();
    let said = annotation(&raw.metadata, ROUTED_ANNOTATION).map(read_routed);
    let ours = said.and_then(|(_, _, digest)| digest).is_some_and(|digest| digest == template::digest(&rules.to_string()));
    let course = pair.course(&rules).map(|course| if course == Course::Stable && said.is_none() { Course::Left } else { course });
    let (unfit, no_testers) = pair.unfit(&rules, testers);
    Route {
        name: wanted.name.clone(),
        uid: raw.metadata.uid.clone().unwrap_or_default(),
        workload: wanted.workload.clone(),
        service: wanted.service.clone(),
        most: pair.most(&rules),
        since: said.and_then(|(since, _, _)| since).map(|since| since.max(read_late(raw, since))),
        changed_by: (said.is_some() && !ours).then(|| writer(raw)),
        course,
        unfit,
        no_testers,
        word: word(raw),
        closed: None,
        owns_fields: owns_fields(&raw.metadata),
        edge: None,
    }
}

/// When those who serve it said something of it last, if that was long after it was written: what was read late is served late. Their
/// times are whole seconds, cut; where they are at once, the write counts.
fn read_late(raw: &DynamicObject, since: jiff::Timestamp) -> jiff::Timestamp {
    let said = raw.metadata.managed_fields.iter().flatten().filter(|e| e.subresource.as_deref() == Some("status"));
    let last = said.filter_map(|e| e.time.as_ref().map(|time| time.0)).max().unwrap_or(since);
    if last > after(since, SECOND) { after(last, SECOND) } else { since }
}

/// Who wrote the rules last, ourselves left out.
fn writer(raw: &DynamicObject) -> String {
    let entries = raw.metadata.managed_fields.iter().flatten();
    let writes = entries.filter(|e| e.subresource.is_none() && e.manager.as_deref() != Some(FIELD_MANAGER));
    let last = writes.max_by_key(|e| e.time.as_ref().map(|time| time.0));
    last.and_then(|e| e.manager.clone()).unwrap_or_else(|| "somebody".to_owned())
}

/// What those who serve it say of it as it stands. Where several do, one that takes it is enough; what it leads to must be there for
/// each of them.
fn word(raw: &DynamicObject) -> Word {
    let parents = raw.data.pointer("/status/parents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let generation = raw.metadata.generation.unwrap_or_default();
    let says = |parent: &Value, kind: &str| {
        let conditions = parent.get("conditions").and_then(Value::as_array)?;
        let condition = conditions.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(kind))?;
        let text = |key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let fresh = condition.get("observedGeneration").and_then(Value::as_i64).is_none_or(|seen| seen >= generation);
        Some((text("status"), format!("{kind}=False ({}): {}", text("reason"), text("message")), fresh))
    };
    let refused =
        |parent: &Value, kind: &str| says(parent, kind).filter(|(status, _, fresh)| status == "False" && *fresh).map(|said| said.1);
    let unresolved = parents.iter().find_map(|parent| refused(parent, "ResolvedRefs"));
    let refusals: Vec<String> = parents.iter().filter_map(|parent| refused(parent, "Accepted")).collect();
    let stale = |parent: &&Value| says(parent, "Accepted").is_some_and(|(_, _, fresh)| !fresh);
    match (unresolved, refusals.first()) {
        _ if parents.is_empty() => Word::Silent,
        (Some(why), _) => Word::Refused(why),
        (None, Some(why)) if refusals.len() == parents.len() => Word::Refused(why.clone()),
        _ if parents.iter().any(|parent| stale(&parent)) => Word::Stale,
        _ => Word::Taken,
    }
}

#[cfg(test)]
mod tests;

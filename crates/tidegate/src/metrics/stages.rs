//! Counters of APIs, stages and routes.
//!
//! Series exist for what is defined and nothing else: a stage that is deleted takes its series with it, and a route has
//! series of its own only under `detailedMetricsEnabled`. What belongs to no stage is counted under empty labels.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tidegate_core::definition::{Live, LiveStage};
use tidegate_core::error::ErrorCode;
use tidegate_core::notice::{Notice, Place};

use super::labels;

/// Routes of one stage that may have series of their own; further ones are counted with the stage's. Source: our choice.
const MAX_ROUTES: usize = 300;

/// From a millisecond to the longest integration timeout, in microseconds.
const BUCKETS: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 15_000_000,
    29_000_000,
];

/// Types of events that call integrations.
const EVENTS: [&str; 3] = ["CONNECT", "MESSAGE", "DISCONNECT"];

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn inc(&self) {
        self.add(1);
    }

    fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Times of calls.
#[derive(Debug, Default)]
struct Times {
    /// The last one is for everything above the bounds.
    buckets: [Counter; BUCKETS.len() + 1],
    micros: Counter,
}

impl Times {
    fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let idx = BUCKETS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[idx].inc();
        self.micros.add(micros);
    }
}

/// What is counted of a stage, or of one of its routes.
#[derive(Debug, Default)]
struct OfRoute {
    messages_in: Counter,
    connect_calls: Counter,
    integration_errors: Counter,
    client_errors: Counter,
    execution_errors: Counter,
    times: [Times; EVENTS.len()],
    failures: [Counter; EVENTS.len()],
}

/// Counters by one or two names out of closed sets.
type Named = Mutex<BTreeMap<(&'static str, &'static str), u64>>;

/// What is counted of a stage as a whole.
#[derive(Debug, Default)]
struct OfStage {
    connections: AtomicI64,
    connects: Named,
    message_failures: Named,
    closes: Named,
    pushes: Named,
    messages_out: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
}

/// One stage. Counters are shared with those who hold the table of before.
#[derive(Debug, Clone, Default)]
struct Series {
    stage: Arc<OfStage>,
    /// Of routes without series of their own.
    rest: Arc<OfRoute>,
    routes: HashMap<Arc<str>, Arc<OfRoute>>,
}

impl Series {
    fn route(&self, route_key: Option<&str>) -> &OfRoute {
        route_key.and_then(|key| self.routes.get(key)).unwrap_or(&self.rest)
    }
}

type Table = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Series>>;

/// All counters by API and stage.
#[derive(Debug)]
pub(crate) struct Stages {
    table: RwLock<Arc<Table>>,
    /// API and stage of applications, which no definition names.
    always: Vec<(String, String)>,
    nowhere: Series,
}

impl Stages {
    /// `always`: APIs and stages that are there whatever is defined.
    pub(crate) fn new(always: Vec<(String, String)>) -> Self {
        let stages = Self { table: RwLock::default(), always, nowhere: Series::default() };
        stages.set(&Live::default());
        stages
    }

    /// What is defined from now on.
    pub(crate) fn set(&self, live: &Live) {
        let mut known = self.table.write();
        let mut table = Table::new();
        let defined = live.apis.iter().flat_map(|api| {
            api.stages.iter().map(|stage| {
                let routes = detailed(stage);
                (api.api.api_id.as_str(), stage.stage.stage_name.as_str(), routes)
            })
        });
        let always = self.always.iter().map(|(api, stage)| (api.as_str(), stage.as_str(), Vec::new()));
        for (api_id, stage, routes) in defined.chain(always) {
            let before = known.get(api_id).and_then(|stages| stages.get(stage)).cloned().unwrap_or_default();
            let routes = routes.into_iter().map(|key| {
                let counters = before.routes.get(key).cloned().unwrap_or_default();
                (Arc::from(key), counters)
            });
            let series = Series { routes: routes.collect(), ..before.clone() };
            table.entry(api_id.into()).or_default().insert(stage.into(), series);
        }
        *known = Arc::new(table);
    }

    /// Counts one notice, where it is about a stage.
    pub(crate) fn count(&self, notice: &Notice) {
        match notice {
            Notice::ConnectionOpened { place, .. } => self.at(place, |series, _| {
                series.stage.connections.fetch_add(1, Ordering::Relaxed);
                add(&series.stage.connects, "opened", "", 1);
            }),
            Notice::HandshakeRefused { place, code, .. } => {
                self.at(place, |series, route| {
                    add(&series.stage.connects, code.as_str(), "", 1);
                    count_error(route, *code);
                });
            }
            Notice::MessageHandled { place, .. } => self.at(place, |_, route| route.messages_in.inc()),
            Notice::MessageFailed { place, code, .. } => self.at(place, |series, route| {
                route.messages_in.inc();
                add(&series.stage.message_failures, code.as_str(), "", 1);
                count_error(route, *code);
            }),
            Notice::IntegrationCalled { place, event_type, status, duration, .. } => {
                let Some(idx) = EVENTS.iter().position(|known| known == event_type) else { return };
                self.at(place, |_, route| {
                    route.times[idx].observe(*duration);
                    match status {
                        None => {
                            route.failures[idx].inc();
                            // Nobody else tells of it: an end has neither client nor caller.
                            if *event_type == "DISCONNECT" {
                                route.execution_errors.inc();
                            }
                        }
                        Some(400..) => route.integration_errors.inc(),
                        Some(_) => {}
                    }
                    if *event_type == "CONNECT" {
                        route.connect_calls.inc();
                    }
                });
            }
            Notice::ConnectionClosed { place, by, diagnosis, messages_out, bytes_in, bytes_out, .. } => {
                self.at(place, |series, _| {
                    let stage = &series.stage;
                    stage.connections.fetch_sub(1, Ordering::Relaxed);
                    add(&stage.closes, by.as_str(), diagnosis.as_str(), 1);
                    stage.messages_out.add(*messages_out);
                    stage.bytes_in.add(*bytes_in);
                    stage.bytes_out.add(*bytes_out);
                });
            }
            Notice::Pushed { place, .. } => {
                self.at(place, |series, _| add(&series.stage.pushes, "connection", "taken", 1));
            }
            Notice::Published { place, target, delivered, gone, slow, .. } => {
                self.at(place, |series, _| {
                    for (result, n_connections) in [("taken", delivered), ("gone", gone), ("slow", slow)] {
                        add(&series.stage.pushes, target, result, *n_connections as u64);
                    }
                });
            }
            Notice::PushRefused { place, code, .. } => {
                self.at(place, |series, _| add(&series.stage.pushes, "connection", code.as_str(), 1));
            }
            _ => {}
        }
    }

    fn at(&self, place: &Place, count: impl FnOnce(&Series, &OfRoute)) {
        let table = Arc::clone(&self.table.read());
        let series = table.get(&place.api_id).and_then(|stages| stages.get(&place.stage));
        let series = series.unwrap_or(&self.nowhere);
        count(series, series.route(place.route_key.as_deref()));
    }

    /// Adds the metrics to a page, in the form that Prometheus reads. What has counted nothing is left out.
    pub(crate) fn write(&self, page: &mut String) {
        let table = Arc::clone(&self.table.read());
        let all: Vec<(&str, &str, &Series)> = table
            .iter()
            .flat_map(|(api, stages)| stages.iter().map(|(stage, series)| (&**api, &**stage, series)))
            .chain([("", "", &self.nowhere)])
            .collect();
        let mut page = Page { page, all: &all };
        page.gauge("stage_connections", "Open connections by stage", |stage| {
            stage.connections.load(Ordering::Relaxed)
        });
        page.named("connects", "Handshakes by outcome", ["outcome", ""], |stage| &stage.connects);
        page.messages();
        page.named("message_failures", "Messages that failed, by error code", ["outcome", ""], |stage| {
            &stage.message_failures
        });
        page.times();
        page.by_event("integration_failures", "Integration calls without an answer", |route| &route.failures);
        page.of_routes("connect", "Calls of $connect integrations", |route| &route.connect_calls);
        page.of_routes("integration_errors", "Answers of integrations with 4xx or 5xx", |route| {
            &route.integration_errors
        });
        page.of_routes(
            "client_errors",
            "Requests and messages refused with 4xx before an integration",
            |route| &route.client_errors,
        );
        page.of_routes(
            "execution_errors",
            "Requests, messages and ends that failed while their integration was called",
            |route| &route.execution_errors,
        );
        page.named("push", "Pushes by target and result", ["target", "result"], |stage| &stage.pushes);
        page.named("closes", "Ended connections by who ended them and why", ["by", "diagnosis"], |stage| {
            &stage.closes
        });
        page.payload();
    }
}

/// Routes that have series of their own. Either setting suffices.
fn detailed(stage: &LiveStage) -> Vec<&str> {
    let is_on =
        |settings: &tidegate_core::definition::RouteSettings| settings.detailed_metrics_enabled == Some(true);
    let definition = &stage.stage;
    let is_default = is_on(&definition.default_route_settings);
    let routes = stage.deployment.iter().flat_map(|deployment| &deployment.routes);
    let keys = routes.map(|route| route.route_key.as_str());
    keys.filter(|key| is_default || definition.route_settings.get(*key).is_some_and(is_on))
        .take(MAX_ROUTES)
        .collect()
}

fn add(named: &Named, first: &'static str, second: &'static str, n: u64) {
    *named.lock().entry((first, second)).or_default() += n;
}

/// Whose mistake it was, as the real service tells it apart. A backend's refusal is neither.
fn count_error(route: &OfRoute, code: ErrorCode) {
    let row = code.row();
    match (code, row.status) {
        (ErrorCode::BackendRefused, _) => {}
        (ErrorCode::ReplyTooLarge, _) | (_, 500..) => route.execution_errors.inc(),
        _ => route.client_errors.inc(),
    }
}

struct Page<'a> {
    page: &'a mut String,
    all: &'a [(&'a str, &'a str, &'a Series)],
}

impl Page<'_> {
    fn head(&mut self, kind: &str, name: &str, help: &str) {
        // Writing into a string cannot fail.
        let _ = write!(self.page, "# HELP tidegate_{name} {help}.\n# TYPE tidegate_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, names: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = writeln!(self.page, "tidegate_{name}{} {value}", labels(names));
    }

    fn gauge(&mut self, name: &str, help: &str, of: impl Fn(&OfStage) -> i64) {
        self.head("gauge", name, help);
        for (api, stage, series) in self.all {
            if !api.is_empty() {
                self.sample(name, &[("api", api), ("stage", stage)], of(&series.stage));
            }
        }
    }

    fn named(&mut self, name: &str, help: &str, names: [&str; 2], of: impl Fn(&OfStage) -> &Named) {
        self.head("counter", name, help);
        for (api, stage, series) in self.all {
            let counts = of(&series.stage).lock().clone();
            for ((first, second), n) in counts {
                let all = [("api", *api), ("stage", *stage), (names[0], first), (names[1], second)];
                let n_labels = if names[1].is_empty() { 3 } else { 4 };
                self.sample(&format!("{name}_total"), &all[..n_labels], n);
            }
        }
    }

    /// Every series of routes with its labels: the stage's rest first.
    fn each_route(&mut self, mut each: impl FnMut(&mut Self, &[(&str, &str)], &OfRoute)) {
        for (api, stage, series) in self.all {
            let of_stage = [("api", *api), ("stage", *stage)];
            each(self, &of_stage, &series.rest);
            let mut routes: Vec<_> = series.routes.iter().collect();
            routes.sort_unstable_by_key(|(key, _)| *key);
            for (key, route) in routes {
                each(self, &[of_stage[0], of_stage[1], ("route", key)], route);
            }
        }
    }

    fn of_routes(&mut self, name: &str, help: &str, of: impl Fn(&OfRoute) -> &Counter) {
        self.head("counter", name, help);
        self.each_route(|page, names, route| {
            let n = of(route).get();
            if n > 0 {
                page.sample(&format!("{name}_total"), names, n);
            }
        });
    }

    fn by_event(&mut self, name: &str, help: &str, of: impl Fn(&OfRoute) -> &[Counter; EVENTS.len()]) {
        self.head("counter", name, help);
        self.each_route(|page, names, route| {
            for (event, counter) in EVENTS.iter().zip(of(route)).filter(|(_, counter)| counter.get() > 0) {
                page.sample(&format!("{name}_total"), &with(names, ("event", event)), counter.get());
            }
        });
    }

    fn messages(&mut self) {
        self.head("counter", "messages", "Messages from (in) and to (out) clients");
        self.each_route(|page, names, route| {
            let n = route.messages_in.get();
            if n > 0 {
                page.sample("messages_total", &with(names, ("direction", "in")), n);
            }
        });
        for (api, stage, series) in self.all {
            let n = series.stage.messages_out.get();
            if n > 0 {
                self.sample("messages_total", &[("api", api), ("stage", stage), ("direction", "out")], n);
            }
        }
    }

    fn payload(&mut self) {
        self.head("counter", "payload_bytes", "Payload from and to clients");
        let _ = writeln!(self.page, "# UNIT tidegate_payload_bytes bytes");
        for (api, stage, series) in self.all {
            let series = &series.stage;
            for (direction, n) in [("in", series.bytes_in.get()), ("out", series.bytes_out.get())] {
                if n > 0 {
                    let names = [("api", *api), ("stage", *stage), ("direction", direction)];
                    self.sample("payload_bytes_total", &names, n);
                }
            }
        }
    }

    fn times(&mut self) {
        const NAME: &str = "integration_duration_seconds";
        self.head("histogram", NAME, "Time of integration calls by event");
        let _ = writeln!(self.page, "# UNIT tidegate_{NAME} seconds");
        self.each_route(|page, names, route| {
            for (event, times) in EVENTS.iter().zip(&route.times) {
                let total: u64 = times.buckets.iter().map(Counter::get).sum();
                if total == 0 {
                    continue;
                }
                let names = with(names, ("event", event));
                let mut so_far = 0;
                for (bound, bucket) in BUCKETS.iter().zip(&times.buckets) {
                    so_far += bucket.get();
                    let bound = (*bound as f64 / 1e6).to_string();
                    page.sample(&format!("{NAME}_bucket"), &with(&names, ("le", &bound)), so_far);
                }
                page.sample(&format!("{NAME}_bucket"), &with(&names, ("le", "+Inf")), total);
                page.sample(&format!("{NAME}_sum"), &names, times.micros.get() as f64 / 1e6);
                page.sample(&format!("{NAME}_count"), &names, total);
            }
        });
    }
}

fn with<'a>(names: &[(&'a str, &'a str)], more: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    let mut names = names.to_vec();
    names.push(more);
    names
}

#[cfg(test)]
mod tests;

//! What the relay counts, for Prometheus.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type ByOutcome = Family<[(&'static str, &'static str); 1], Counter>;

pub(super) struct Metrics {
    registry: Registry,
    deliveries: ByOutcome,
    dispatches: ByOutcome,
    results: ByOutcome,
    waiting: Gauge<i64, AtomicI64>,
    oldest: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let (deliveries, dispatches, results) = Default::default();
        let (waiting, oldest) = (Gauge::default(), Gauge::default());
        let mut registry = Registry::with_prefix("astra_relay");
        registry.register("deliveries", "Webhooks by what became of them", ByOutcome::clone(&deliveries));
        registry.register(
            "dispatches",
            "Attempts to start the workflow, by outcome",
            ByOutcome::clone(&dispatches),
        );
        let about = "Attempts to tell the workflow of an ended run, by outcome";
        registry.register("results", about, ByOutcome::clone(&results));
        registry.register("waiting_events", "Events that are not yet forwarded", waiting.clone());
        registry.register("oldest_waiting_seconds", "Age of the oldest of them", oldest.clone());
        Self { registry, deliveries, dispatches, results, waiting, oldest }
    }

    pub(super) fn delivery(&self, outcome: &'static str) {
        self.deliveries.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn dispatch(&self, outcome: &'static str) {
        self.dispatches.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn result(&self, outcome: &'static str) {
        self.results.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn backlog(&self, waiting: i64, oldest_seconds: i64) {
        self.waiting.set(waiting);
        self.oldest.set(oldest_seconds);
    }

    /// All of it, in the text form of OpenMetrics.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; half a page would be refused by whoever reads it.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

//! Metrics as text, in the form of `OpenMetrics` 1.0.
//!
//! Owns: the form. Must not know: what the numbers mean. Own lines, and no crate's: the numbers lie in the shards' cells
//! already, and what is left is this. A test reads them with the strict parser of `prometheus_client`.
//! Invariants: a family is written once, its help and type before its samples; a counter's name ends in `_total`, and
//! families of seconds in `_seconds`, as the form asks for; labels' values are escaped.

use std::fmt::Write;

use sse_fast_core::budget::Micros;

use crate::durations::{BOUNDS, Distribution};

/// What a response with metrics says it is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics that are being written.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// A number that may fall.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, "", &[], value);
    }

    /// A number that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, "_total", &[], value);
    }

    /// Such a number for each value of a label.
    pub(super) fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.family(name, "counter", help);
        for (of, value) in values {
            self.sample(name, "_total", &[(label, of)], value);
        }
    }

    /// A time that only grows.
    pub(super) fn seconds_counter(&mut self, name: &str, help: &str, micros: Micros) {
        self.family(name, "counter", help);
        self.sample(name, "_total", &[], seconds(micros));
    }

    /// A moment, in seconds since the Unix epoch.
    pub(super) fn moment(&mut self, name: &str, help: &str, micros: Micros) {
        self.seconds_gauge(name, help, micros);
    }

    /// A duration of now.
    pub(super) fn seconds_gauge(&mut self, name: &str, help: &str, micros: Micros) {
        self.family(name, "gauge", help);
        self.sample(name, "", &[], seconds(micros));
    }

    /// Facts in the form of labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, "info", help);
        self.sample(name, "_info", labels, 1);
    }

    /// How long things took.
    pub(super) fn histogram(&mut self, name: &str, help: &str, distribution: &Distribution) {
        self.family(name, "histogram", help);
        self.buckets(name, BOUNDS.iter().map(|&bound| seconds(bound)), &distribution.counts);
        self.sample(name, "_count", &[], distribution.count());
        self.sample(name, "_sum", &[], seconds(distribution.micros));
    }

    /// How many have which value at this moment.
    pub(super) fn gauge_histogram(&mut self, name: &str, help: &str, bounds: &[u64], counts: &[u64], sum: u64) {
        self.family(name, "gaugehistogram", help);
        self.buckets(name, bounds.iter().map(|bound| format!("{bound}.0")), counts);
        self.sample(name, "_gcount", &[], counts.iter().sum::<u64>());
        self.sample(name, "_gsum", &[], sum);
    }

    /// All of it.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        debug_assert!(!self.0.contains(&format!("# TYPE {name} ")), "{name} is written once");
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        if name.ends_with("_seconds") {
            let _ = writeln!(self.0, "# UNIT {name} seconds");
        }
        if name.ends_with("_bytes") {
            let _ = writeln!(self.0, "# UNIT {name} bytes");
        }
        let _ = writeln!(self.0, "# HELP {name} {}", escaped(help));
    }

    /// Each bucket with what is below it, as the form has them.
    fn buckets(&mut self, name: &str, bounds: impl Iterator<Item = String>, counts: &[u64]) {
        let mut below = 0;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            below += count;
            self.sample(name, "_bucket", &[("le", &bound)], below);
        }
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.0, "{name}{suffix}");
        for (number, (label, of)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if number == 0 { "{" } else { "," }, escaped(of));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// Exactly, with at least one place: buckets of one number must read alike in every version.
fn seconds(micros: Micros) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let shortest = text.trim_end_matches('0');
    if shortest.ends_with('.') { format!("{shortest}0") } else { shortest.to_owned() }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durations::Durations;

    #[test]
    fn seconds_are_exact() {
        for (micros, text) in
            [(0, "0.0"), (100, "0.0001"), (2_500_000, "2.5"), (10_000_000, "10.0"), (u64::MAX, "18446744073709.551615")]
        {
            assert_eq!(seconds(micros), text);
        }
    }

    #[test]
    fn buckets_have_what_is_below_them_and_labels_are_escaped() {
        let durations = Durations::default();
        durations.add(99, 2);
        durations.add(20_000_000, 1);
        let mut text = Text::default();
        text.histogram("a_seconds", "A \"b\"\n", &Distribution::default().with(&durations));
        text.counters("c", "C.", "of", [("x\\\"\n", 3)]);
        let text = text.finish();
        assert!(
            text.starts_with("# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n# HELP a_seconds A \\\"b\\\"\\n\n")
        );
        for line in [
            "a_seconds_bucket{le=\"0.0001\"} 2",
            "a_seconds_bucket{le=\"10.0\"} 2",
            "a_seconds_bucket{le=\"+Inf\"} 3",
            "a_seconds_count 3",
            "a_seconds_sum 20.000198",
            "c_total{of=\"x\\\\\\\"\\n\"} 3",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}

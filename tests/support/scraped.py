"""What a server's `/metrics` says, read by the Prometheus project's own strict parser."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from .reader import fetch


def scrape(port: int) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus writes them."""
    head, body = fetch(port, "/metrics")
    assert head.status == 200
    assert head["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    samples = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return samples


def families(port: int) -> dict[str, str]:
    """The type of each family."""
    parsed = text_string_to_metric_families(fetch(port, "/metrics")[1].decode())
    return {family.name: family.type for family in parsed}

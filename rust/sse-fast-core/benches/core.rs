//! How long the core takes: encoding, publishing, walking over subscribers, the heartbeat wheel.
//!
//! For a person who changes one of them, before and after, on one machine: `make bench`, with
//! `ARGS=walk` for some. Nothing depends on the times; what tests hold is counted (`instructions`).
#![allow(missing_docs, reason = "what the macros make; nobody is outside")]

mod work;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use crate::work::{Crowd, Idle, Publisher, Several, payloads};

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, data) in payloads() {
        let mut publisher = Publisher::new();
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| publisher.encode(&data)));
    }
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish into a full history");
    for (name, data) in payloads() {
        let mut publisher = Publisher::new();
        group.bench_function(name, |bencher| bencher.iter(|| publisher.publish(&data)));
    }
}

fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk");
    for events in [1, 20] {
        for subscribers in [1, 1_000, 10_000] {
            let mut crowd = Crowd::new(subscribers, events);
            group.throughput(Throughput::Elements(u64::from(subscribers)));
            let id = BenchmarkId::new(format!("{events} events"), subscribers);
            group.bench_function(id, |bencher| bencher.iter(|| crowd.walk()));
        }
    }
}

fn several(criterion: &mut Criterion) {
    let mut connection = Several::new();
    criterion.bench_function("an event of each of 32 streams of a connection", |bencher| {
        bencher.iter(|| connection.lay_out());
    });
}

fn wheel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("an interval of heartbeats");
    for subscribers in [1, 15_000] {
        let mut idle = Idle::new(subscribers);
        group.throughput(Throughput::Elements(u64::from(subscribers)));
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| bencher.iter(|| idle.interval()));
    }
}

criterion_group!(benches, encode, publish, walk, several, wheel);
criterion_main!(benches);

//! Cost of decoding and encoding on one core: `cargo bench -p tidegate-ws`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use tidegate_ws::{ClientEncoder, Decoder, DeflateParams, Limits, OutboundMessage, Role};

const LIMITS: Limits = Limits { max_frame: 32 * 1024, max_message: 128 * 1024 };

/// JSON like that of a chat, cut to `len`.
fn json(len: usize) -> String {
    let mut text: String = (0..)
        .map(|n: u64| {
            let word = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("{{\"action\":\"send\",\"room\":\"harbor-{}\",\"id\":\"{word:016x}\"}},", n % 13)
        })
        .take(len / 40 + 1)
        .collect();
    text.truncate(len);
    text
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let params = Some(DeflateParams::default());
    for (name, len, deflate) in [
        ("text_64", 64, None),
        ("text_4096", 4096, None),
        ("text_32768", 32 * 1024, None),
        ("deflated_4096", 4096, params),
    ] {
        let wire = ClientEncoder::new(deflate).text(&json(len));
        let mut decoder = Decoder::new(Role::Server, LIMITS, deflate);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |bencher| {
            // Decoding unmasks in place, so each round needs its own copy.
            bencher.iter_batched_ref(
                || wire.clone(),
                |wire| decoder.decode(black_box(wire)).expect("the frame is valid"),
                BatchSize::SmallInput,
            );
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let params = Some(DeflateParams::default());
    for (name, len, deflate) in
        [("text_64", 64, None), ("text_4096", 4096, None), ("deflated_4096", 4096, params)]
    {
        let payload = Bytes::from(json(len));
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| OutboundMessage::text(black_box(payload.clone())).frames(deflate));
        });
    }
    let message = OutboundMessage::text(Bytes::from(json(4096)));
    group.throughput(Throughput::Elements(1));
    group.bench_function("shared_with_a_recipient", |bencher| {
        bencher.iter(|| black_box(&message).clone().frames(params))
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    decode(&mut criterion);
    encode(&mut criterion);
    criterion.final_summary();
}

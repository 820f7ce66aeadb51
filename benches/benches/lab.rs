//! The lab's layouts and baselines, measured by criterion: a full cycle between two pinned threads that poll, 256
//! entries, up to 256 buffers under way; and the device's side alone. Figures are per buffer: see "thrpt".

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring_benches::cores;
use ring_benches::lab::entry;
use ring_benches::lab::run::{Load, Work};

const SIZE: u16 = 256;

fn layouts(c: &mut Criterion) {
    let two = cores::pair().is_some();
    if !two {
        println!("skipped: two pinned threads need two cores");
    }
    for (name, work) in [("two", Work::Polled), ("device", Work::Device)] {
        if work == Work::Polled && !two {
            continue;
        }
        for burst in [1, 32] {
            let outstanding = if work == Work::Polled { SIZE.into() } else { burst };
            let load = Load { work, ..Load::new(burst, outstanding) };
            let mut group = c.benchmark_group(format!("{name}/{burst}"));
            group
                .throughput(Throughput::Elements(burst as u64))
                .sample_size(15)
                .warm_up_time(Duration::from_millis(200))
                .measurement_time(Duration::from_millis(1200));
            for entry in entry::all() {
                let open = (entry.open)(SIZE, false).map_err(|e| e.to_string());
                let tried = open.and_then(|mut s| s.run(&load).map(|_| s).map_err(|e| e.to_string()));
                let mut station = match tried {
                    Ok(station) => station,
                    Err(why) => {
                        println!("skipped: {}: {why}", entry.name);
                        continue;
                    }
                };
                group.bench_function(BenchmarkId::from_parameter(entry.name), |b| {
                    b.iter_custom(|bursts| {
                        let sample = station.run(&Load { bursts, ..load });
                        sample.inspect_err(|why| println!("{}: {why}", entry.name)).unwrap_or_default().took
                    });
                });
            }
        }
    }
}

criterion_group!(benches, layouts);
criterion_main!(benches);

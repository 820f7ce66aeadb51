//! The split ring against rust-vmm's virtio-queue and against bare loops. Figures are per buffer: see "thrpt".
//!
//! - `device`: one thread, the device's side alone. Descriptors and available entries are prepared; a burst is made
//!   available by one store inside of the measured loop (0.3 ns a burst), so the device sees exactly one burst a turn.
//! - `driver`: one thread, the driver's side and a bare device that echoes the heads; `echo` is that device alone.
//! - `two`: driver on core 0, device on core 1, full cycle, both polling, up to 256 buffers outstanding.

use std::error::Error;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring_benches::{Arena, DeviceSide, DriverSide, bare, ours, peer, pin, two_threads};

const SIZE: u16 = 256;
const BURSTS: [usize; 3] = [1, 32, 256];

fn group<'a>(c: &'a mut Criterion, name: &str, burst: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(format!("{name}/{burst}"));
    group
        .throughput(Throughput::Elements(burst as u64))
        .sample_size(15)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1200));
    group
}

fn device(g: &mut BenchmarkGroup<'_, WallTime>, name: &str, arena: &Arena, burst: usize, mut device: impl DeviceSide) {
    let mut poster = bare::Poster::new(arena);
    g.bench_function(BenchmarkId::from_parameter(name), |b| {
        b.iter(|| {
            poster.post(burst as u16);
            assert_eq!(device.serve(burst), burst);
        });
    });
}

fn devices(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let arena = || Arena::new(SIZE);
    for burst in BURSTS {
        let mut g = group(c, "device", burst);
        let a = arena()?;
        device(&mut g, "ours-peek", &a, burst, ours::Peek::new(&a)?);
        let a = arena()?;
        device(&mut g, "ours-chains", &a, burst, ours::Pool::new(&a, burst)?);
        let a = arena()?;
        device(&mut g, "virtio-queue-pop", &a, burst, peer::Pop::new(&a)?);
        let a = arena()?;
        device(&mut g, "virtio-queue-iter", &a, burst, peer::Iter::new(&a)?);
        let a = arena()?;
        device(&mut g, "bare", &a, burst, bare::Device::new(&a));
    }
    Ok(())
}

fn driver(g: &mut BenchmarkGroup<'_, WallTime>, name: &str, arena: &Arena, burst: usize, mut driver: impl DriverSide) {
    let mut echo = bare::Echo::new(arena);
    g.bench_function(BenchmarkId::from_parameter(name), |b| {
        b.iter(|| {
            driver.post(burst);
            echo.echo(burst);
            assert_eq!(driver.reap(burst), burst);
        });
    });
}

fn drivers(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    for burst in BURSTS {
        let mut g = group(c, "driver", burst);
        let a = Arena::new(SIZE)?;
        driver(&mut g, "ours", &a, burst, ours::Driver::new(&a)?);
        let a = Arena::new(SIZE)?;
        driver(&mut g, "bare", &a, burst, bare::Driver::new(&a));
        let a = Arena::new(SIZE)?;
        let mut echo = bare::Echo::new(&a);
        g.bench_function("echo", |b| b.iter(|| echo.echo(burst)));
    }
    Ok(())
}

fn two(
    g: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    burst: usize,
    mut driver: impl DriverSide,
    mut device: impl DeviceSide + Send,
) {
    g.bench_function(BenchmarkId::from_parameter(name), |b| {
        b.iter_custom(|bursts| two_threads(&mut driver, &mut device, burst, SIZE.into(), bursts));
    });
}

fn threads(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    if !(pin(1) && pin(0)) {
        println!("skipped: two pinned threads need two cores");
        return Ok(());
    }
    for burst in BURSTS {
        let mut g = group(c, "two", burst);
        let a = Arena::new(SIZE)?;
        two(&mut g, "ours-peek", burst, ours::Driver::new(&a)?, ours::Peek::new(&a)?);
        let a = Arena::new(SIZE)?;
        two(&mut g, "ours-chains", burst, ours::Driver::new(&a)?, ours::Pool::new(&a, burst)?);
        let a = Arena::new(SIZE)?;
        two(&mut g, "virtio-queue-pop", burst, ours::Driver::new(&a)?, peer::Pop::new(&a)?);
        let a = Arena::new(SIZE)?;
        two(&mut g, "virtio-queue-iter", burst, ours::Driver::new(&a)?, peer::Iter::new(&a)?);
        let a = Arena::new(SIZE)?;
        two(&mut g, "bare", burst, bare::Driver::new(&a), bare::Device::new(&a));
    }
    Ok(())
}

fn rings(c: &mut Criterion) {
    pin(0);
    for part in [devices, drivers, threads] {
        if let Err(error) = part(c) {
            println!("skipped: {error}");
        }
    }
}

criterion_group!(benches, rings);
criterion_main!(benches);

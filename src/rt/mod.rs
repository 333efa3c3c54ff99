//! The abstract runtime: tasks, time, dice, probes; the only code that knows which world it runs
//! in.
//!
//! Owns: the choice between tokio (production) and madsim (simulation). Nothing else in the
//! package names `cfg(madsim)`. Must never: know a noun of RocketMQ beyond `model`.
//!
//! `select!` is always biased. The order of its arms is: stop, clock, work.

pub mod coalesce;
pub mod fault;
pub mod rng;
#[cfg(madsim)]
pub mod sim;
pub mod sync;
pub mod task;
pub mod time;

#[doc(hidden)]
pub use tokio as tokio_;

/// Waits for the first arm that is ready, looking from top to bottom.
///
/// Write the arms in the order stop, clock, work: with the inbox before the clock no timer ever
/// fires under load. Unbiased select draws from a process-wide counter and is not reproducible.
#[macro_export]
macro_rules! rt_select { ($($arm:tt)*) => { $crate::rt::tokio_::select! { biased; $($arm)* } } }
pub use crate::rt_select as select;

/// Says that a rare situation was reached. A sweep fails on a listed probe that was never hit.
/// Costs nothing in production.
#[macro_export]
macro_rules! rt_probe {
    ($name:literal) => {
        $crate::rt::fault::probe($name)
    };
}
pub use crate::rt_probe as probe;

/// Runs `main` to its end on this thread: production's whole event loop is one thread.
#[cfg(not(madsim))]
pub fn block_on<F: std::future::Future>(main: F) -> F::Output {
    event_loop(|_| {}).block_on(main)
}

/// The same for a server under load: arrivals that come soon after each other share a turn.
#[cfg(not(madsim))]
pub fn block_on_coalescing<F: std::future::Future>(
    coalesce: &std::sync::Arc<coalesce::Coalesce>,
    main: F,
) -> F::Output {
    let (park, unpark) = (coalesce.clone(), coalesce.clone());
    let hooks = |builder: &mut tokio::runtime::Builder| {
        builder.on_thread_park(move || park.on_park()).on_thread_unpark(move || unpark.on_unpark());
    };
    event_loop(hooks).block_on(main)
}

#[cfg(not(madsim))]
fn event_loop(hooks: impl FnOnce(&mut tokio::runtime::Builder)) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    hooks(&mut builder);
    builder
        .enable_all()
        // Tasks polled between two looks at the sockets and the clock: with tokio's 61 a timer
        // under load is a tenth of a second late in a debug build.
        .event_interval(16)
        .max_blocking_threads(16)
        .build()
        .expect("the kernel gives an event loop at process start")
}

/// Resolves at the first SIGTERM or SIGINT; a second signal ends the process at once.
/// In simulation it never resolves: the world kills nodes or stops them by their handle.
#[cfg(not(madsim))]
pub async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).expect("signal handlers can be installed");
    let mut int = signal(SignalKind::interrupt()).expect("signal handlers can be installed");
    select! { _ = term.recv() => {}, _ = int.recv() => {} }
    task::spawn_detached(async move {
        select! { _ = term.recv() => {}, _ = int.recv() => {} }
        std::process::exit(130);
    });
}
#[cfg(madsim)]
pub async fn shutdown_signal() {
    std::future::pending::<()>().await
}

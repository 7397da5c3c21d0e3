//! Time and chance of one thread, for simulations: time stands still while anything can go on and jumps to the next
//! timer when nothing can. The same seed gives the same history.
//!
//! It rests on a runtime of one thread: what wakes whom, and in which order, depends on nothing else then.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

/// What a simulation has instead of a clock.
struct Simulation {
    elapsed: Duration,
    timers: BTreeMap<(Duration, u64), Waker>,
    /// How many timers there were.
    count: u64,
    rng: StdRng,
    /// How finely the local disk stamps files.
    tick: Duration,
    /// The last time that was told: no two are the same.
    told: Duration,
}

impl Simulation {
    fn tell(&mut self) -> Duration {
        self.told = self.elapsed.max(self.told + Duration::from_nanos(1));
        self.told
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Simulation>> = const { RefCell::new(None) };
}

/// Every simulation begins here: in September 2001, for the wall.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const WALL: Duration = Duration::from_secs(1_000_000_000);

/// Runs `work` in a simulation of its own, to its end.
pub(crate) fn run<T>(seed: u64, work: impl Future<Output = T>) -> T {
    let rng = StdRng::seed_from_u64(seed);
    let (timers, zero) = (BTreeMap::new(), Duration::ZERO);
    CURRENT.set(Some(Simulation { elapsed: zero, timers, count: 0, rng, tick: zero, told: zero }));
    // Also when `work` panics: the thread may go on to another test.
    let _end = End;
    let runtime = tokio::runtime::Builder::new_current_thread().on_thread_park(advance).build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), work)
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        // Not while it is borrowed: what its timers would have woken goes with it.
        drop(CURRENT.take());
    }
}

fn with<T>(use_it: impl FnOnce(&mut Simulation) -> T) -> Option<T> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(use_it))
}

/// Whether this thread is in a simulation.
pub(crate) fn is_on() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// Time since the simulation began.
pub(crate) fn elapsed() -> Duration {
    with(|simulation| simulation.elapsed).expect("in a simulation")
}

pub(super) fn now() -> Option<SystemTime> {
    with(|simulation| SystemTime::UNIX_EPOCH + WALL + simulation.tell())
}

pub(super) fn instant() -> Option<Instant> {
    with(|simulation| *START + simulation.elapsed)
}

/// Asks chance.
pub(crate) fn chance<T>(ask: impl FnOnce(&mut StdRng) -> T) -> T {
    with(|simulation| ask(&mut simulation.rng)).expect("in a simulation")
}

/// Has the local disk stamp files in ticks, as kernels before 6.13 do; zero gives each write a time of its own.
pub(crate) fn set_tick(tick: Duration) {
    with(|simulation| simulation.tick = tick);
}

/// The time that a file gets which is written now.
pub(super) fn stamp() -> Option<SystemTime> {
    with(|simulation| {
        let time = match simulation.tick.as_nanos() {
            0 => simulation.tell(),
            tick => {
                let ticks = simulation.elapsed.as_nanos() / tick;
                Duration::from_nanos(u64::try_from(ticks * tick).expect("some hours"))
            }
        };
        SystemTime::UNIX_EPOCH + WALL + time
    })
}

/// Called when nothing can go on: the next timer ends.
fn advance() {
    let waker = with(|simulation| {
        let ((at, _), waker) = simulation.timers.pop_first()?;
        simulation.elapsed = simulation.elapsed.max(at);
        Some(waker)
    });
    if let Some(waker) = waker.flatten() {
        waker.wake();
    }
}

pub(super) fn sleep(time: Duration) -> Sleep {
    Sleep { until: elapsed() + time, number: None }
}

/// A while at the disk.
pub(crate) async fn disk() {
    let time = chance(|rng| Duration::from_micros(rng.random_range(0..500)));
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// Ends when the time has come.
pub(super) struct Sleep {
    until: Duration,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let known = self.number;
        let number = with(|simulation| {
            if simulation.elapsed >= until {
                return None;
            }
            let number = known.unwrap_or(simulation.count);
            simulation.count = simulation.count.max(number + 1);
            simulation.timers.insert((until, number), context.waker().clone());
            Some(number)
        });
        // A task that outlives its simulation never goes on.
        let Some(number) = number else { return Poll::Pending };
        self.number = number;
        if number.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            with(|simulation| simulation.timers.remove(&(self.until, number)));
        }
    }
}

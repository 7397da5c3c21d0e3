use super::*;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

type TestFlights = Flights<u32, &'static str>;

fn lead(flights: &TestFlights, key: u32) -> Lead<u32, &'static str> {
    match flights.join(key) {
        Role::Lead(lead) => lead,
        Role::Wait(_) => panic!("somebody else leads {key}"),
    }
}

fn waiter(flights: &TestFlights, key: u32) -> Waiter<&'static str> {
    match flights.join(key) {
        Role::Wait(waiter) => waiter,
        Role::Lead(_) => panic!("nobody leads {key}"),
    }
}

fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn one_leads_and_all_get_its_bytes() {
    let flights = TestFlights::new();
    let lead = lead(&flights, 1);
    let waiters: Vec<_> = (0..100).map(|_| waiter(&flights, 1)).collect();
    lead.publish(Ok(Bytes::from_static(b"block")));
    for waiter in waiters {
        assert_eq!(poll(waiter.wait()), Poll::Ready(Landed::Done(Ok(Bytes::from_static(b"block")))));
    }
    assert!(flights.is_empty());
}

#[test]
fn an_error_reaches_every_waiter() {
    let flights = TestFlights::new();
    let lead = lead(&flights, 1);
    let waiter = waiter(&flights, 1);
    lead.publish(Err("no network"));
    assert_eq!(poll(waiter.wait()), Poll::Ready(Landed::Done(Err("no network"))));
}

#[test]
fn keys_do_not_wait_for_each_other() {
    let flights = TestFlights::new();
    let (_one, _two) = (lead(&flights, 1), lead(&flights, 2));
    assert_eq!(flights.len(), 2);
    assert_eq!(poll(waiter(&flights, 1).wait()), Poll::Pending);
}

#[test]
fn after_an_abandoned_fetch_a_waiter_leads() {
    let flights = TestFlights::new();
    let first = lead(&flights, 1);
    let (one, two) = (waiter(&flights, 1), waiter(&flights, 1));
    drop(first);
    assert_eq!(poll(one.wait()), Poll::Ready(Landed::Abandoned));
    let second = lead(&flights, 1);
    assert_eq!(poll(two.wait()), Poll::Ready(Landed::Abandoned));
    second.publish(Ok(Bytes::new()));
}

#[test]
fn a_waiter_that_goes_away_disturbs_nobody() {
    let flights = TestFlights::new();
    let lead = lead(&flights, 1);
    drop(waiter(&flights, 1));
    let stays = waiter(&flights, 1);
    lead.publish(Ok(Bytes::new()));
    assert_eq!(poll(stays.wait()), Poll::Ready(Landed::Done(Ok(Bytes::new()))));
}

#[test]
fn among_threads_every_key_is_fetched_once_at_a_time() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let flights = TestFlights::new();
    let (under_way, landed) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("plain runtime");
                for round in 0..500 {
                    match flights.join(7) {
                        Role::Lead(lead) => {
                            assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0, "two lead");
                            under_way.fetch_sub(1, Ordering::SeqCst);
                            if round % 5 == 0 {
                                drop(lead);
                            } else {
                                lead.publish(Ok(Bytes::new()));
                            }
                        }
                        Role::Wait(waiter) => {
                            runtime.block_on(waiter.wait());
                        }
                    }
                    landed.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(landed.load(Ordering::SeqCst), 8 * 500);
    assert!(flights.is_empty());
}

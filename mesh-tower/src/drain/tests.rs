use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;

fn times(idle_grace: u64, drain_time: u64) -> DrainTimes {
    DrainTimes { idle_grace: Duration::from_secs(idle_grace), drain_time: Duration::from_secs(drain_time) }
}

#[tokio::test(start_paused = true)]
async fn draining_without_connections_takes_no_time() {
    let drain = Drain::new();
    let start = Instant::now();
    drain.run(times(1, 600)).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(drain.phase(), Phase::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_connection_sees_each_phase_at_its_time() {
    let drain = Drain::new();
    let mut watch = drain.watch();
    let connection = tokio::spawn(async move {
        let start = Instant::now();
        let mut seen = Vec::new();
        loop {
            let phase = watch.changed().await;
            seen.push((phase, start.elapsed().as_secs()));
            if phase == Phase::Closed {
                return seen;
            }
        }
    });
    sleep(Duration::from_secs(3)).await;
    drain.run(times(1, 10)).await;
    drain.emptied().await;
    let expected = vec![(Phase::Draining, 3), (Phase::Closing, 4), (Phase::Closed, 13)];
    assert_eq!(connection.await.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_with_the_last_connection() {
    let drain = Drain::new();
    let (first, second) = (drain.watch(), drain.watch());
    let start = Instant::now();
    tokio::spawn(async move {
        sleep(Duration::from_secs(2)).await;
        drop(first);
        sleep(Duration::from_secs(2)).await;
        drop(second);
    });
    drain.run(times(1, 600)).await;
    assert_eq!((start.elapsed(), drain.connections()), (Duration::from_secs(4), 0));
}

#[tokio::test(start_paused = true)]
async fn a_watch_made_while_draining_says_so_at_once() {
    let drain = Drain::new();
    drain.begin();
    assert_eq!(drain.watch().changed().await, Phase::Draining);
    drain.reached(Phase::Draining).await;
}

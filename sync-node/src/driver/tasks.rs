//! The tasks of a node other than its links.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use sync_store::{Replica, ZoneKind};
use sync_transport::{Listener, TargetSet};
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error};

use super::pause::Pause;
use super::{Hub, incoming, outgoing};
use crate::membership::Command;
use crate::replication::publisher::Publisher;
use crate::replication::{SWEEP_BUDGET, SWEEP_INTERVAL, SWEEP_PARTS, strict};

/// All tasks of a node; they end when this is dropped.
pub(crate) type Tasks = JoinSet<()>;

/// Starts the tasks. `replicas` are all zones, those included that do not synchronize.
pub(crate) fn spawn(
    hub: &Arc<Hub>,
    listeners: Vec<Listener>,
    targets: watch::Receiver<Arc<TargetSet>>,
    replicas: Vec<Arc<dyn Replica>>,
) -> Tasks {
    let mut tasks = JoinSet::new();
    for zone in 0..hub.shared.zones.len() {
        tasks.spawn(publish(Arc::clone(hub), zone));
    }
    for listener in listeners {
        tasks.spawn(accept(Arc::clone(hub), listener));
    }
    tasks.spawn(membership(Arc::clone(hub), targets));
    tasks.spawn(sweep(Arc::clone(hub), replicas));
    if !hub.shared.strict.is_empty() {
        tasks.spawn(divide(Arc::clone(hub)));
    }
    tasks
}

async fn publish(hub: Arc<Hub>, zone: usize) {
    let replica = Arc::clone(&hub.shared.zones[zone].replica);
    let mut publisher = Publisher::new(zone, hub.interval);
    let mut pause = Pause::new();
    // While requests of limits keep coming, this task looks by itself after each pause: who makes one does not pay for waking it. Others' changes are to be heard of
    // sooner than that.
    let may_linger = replica.kind() == ZoneKind::Limit;
    let mut lingers = false;
    loop {
        if lingers {
            rest(&hub, &publisher, &mut pause).await;
        }
        let mut slept = false;
        poll_fn(|cx| {
            let dirty = replica.poll_dirty(cx);
            slept |= dirty.is_pending();
            dirty
        })
        .await;
        let is_early = rest(&hub, &publisher, &mut pause).await;
        lingers = may_linger && (is_early || !slept);
        let now = hub.now();
        if publisher.publish(&hub.shared, now) {
            hub.wake_links();
        }
        if publisher.not_before() <= now.elapsed {
            yield_now().await;
        }
    }
}

/// Waits until a zone may be published again; false if it may.
async fn rest(hub: &Hub, publisher: &Publisher, pause: &mut Pause) -> bool {
    let early = publisher.not_before().saturating_sub(hub.now().elapsed);
    if !early.is_zero() {
        pause.wait(early).await;
    }
    !early.is_zero()
}

async fn accept(hub: Arc<Hub>, listener: Listener) {
    let mut links = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok(connection) => {
                links.spawn(incoming::run(Arc::clone(&hub), connection));
            }
            Err(error) => {
                error!(%error, "no peer is accepted here any more");
                break;
            }
        }
        // Not while accepting: a link that ends would cut the pause short that the listener makes when descriptors have run out.
        while links.try_join_next().is_some() {}
    }
    while links.join_next().await.is_some() {}
}

/// Follows discovery and the life of links, and does what the membership machine says.
async fn membership(hub: Arc<Hub>, mut targets: watch::Receiver<Arc<TargetSet>>) {
    targets.mark_changed();
    let mut links = JoinSet::new();
    loop {
        if targets.has_changed().unwrap_or_default() {
            let found = Arc::clone(&targets.borrow_and_update());
            debug!(targets = found.targets.len(), complete = found.is_complete(), "targets known");
            hub.shared.membership.lock().handle_targets(
                hub.now().elapsed,
                &found.targets,
                found.is_complete(),
            );
        }
        let commands = hub.shared.membership.lock().poll(hub.now().elapsed);
        for command in commands {
            match command {
                Command::Dial(link, target) => {
                    links.spawn(outgoing::run(Arc::clone(&hub), link, target));
                }
                Command::Close(link, reason) => hub.close(link, reason),
            }
        }
        let due = hub.shared.membership.lock().poll_timeout();
        tokio::select! {
            // An error means that the node is being dropped, and this task with it.
            Ok(()) = targets.changed() => targets.mark_changed(),
            () = hub.membership_changed.notified() => {}
            () = sleep_until(hub.at(due.unwrap_or(Duration::MAX))) => {}
            Some(_) = links.join_next() => {}
        }
    }
}

/// Looks after strict limit zones.
async fn divide(hub: Arc<Hub>) {
    loop {
        hub.divide();
        sleep(strict::interval(&hub.shared.settings)).await;
    }
}

async fn sweep(hub: Arc<Hub>, replicas: Vec<Arc<dyn Replica>>) {
    let mut next = Instant::now();
    loop {
        // However long it takes until this task has its turn again; but not in haste after a time in which nothing ran.
        next = Instant::now().max(next + SWEEP_INTERVAL);
        sleep_until(next).await;
        for part in 0..SWEEP_PARTS {
            for replica in &replicas {
                replica.sweep_part(hub.now().time, SWEEP_BUDGET, part, SWEEP_PARTS);
                yield_now().await;
            }
        }
    }
}

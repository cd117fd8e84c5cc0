//! `run` and `check`: from a configuration file to a node, and what signals do to it.
//!
//! | signal | effect |
//! |---|---|
//! | QUIT | graceful stop: take no more changes, bring every peer up to date, say goodbye; TERM or INT cut it short |
//! | TERM, INT | fast stop |
//! | HUP | reload: servers, TLS, what clients may do, rules for Envoy, log level, shutdown time-out |
//!
//! A start happens completely or not at all: the file is checked, all ports are taken, and only then is the first peer dialled.

use super::log::Log;
use super::parts;
use anyhow::{Context, Result};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sync_node::api::Api;
use sync_node::config::Config;
#[cfg(feature = "envoy_rls")]
use sync_node::envoy_rls::EnvoyRls;
#[cfg(feature = "haproxy")]
use sync_node::haproxy::Haproxy;
#[cfg(feature = "redis")]
use sync_node::redis::Redis;
use sync_node::{Listener, Node};
use sync_transport::Address;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// How long the process waits for threads that are busy when it ends.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(1);
/// What a node without `[zone_sync]` gives its peers to catch up at a graceful stop: it has none.
const NO_PEERS_TIMEOUT: Duration = Duration::ZERO;

/// `check`: everything that `run` does before it opens a port.
pub(crate) fn check(file: &Path) -> Result<()> {
    let config = Config::load(file)?;
    parts::check(&config)?;
    println!("{}: the configuration is good", file.display());
    Ok(())
}

/// `run`: until a signal ends it.
pub(crate) fn run(file: &Path) -> Result<()> {
    let config = Config::load(file)?;
    let log = Log::start(config.log_level)?;
    let threads = config.zone_sync.as_ref().map_or(1, |zone_sync| zone_sync.threads);
    // Apart from the doors: a second thread that is woken to help a single write only delays it.
    let links = runtime(Some(threads))?;
    let doors = runtime(None)?;
    let result = doors.block_on(async {
        let mut running = Running::start(file, config, log, &links).await?;
        running.until_stopped().await;
        Ok(())
    });
    doors.shutdown_timeout(RUNTIME_TIMEOUT);
    links.shutdown_timeout(RUNTIME_TIMEOUT);
    result
}

/// So many threads, or one for each core.
fn runtime(threads: Option<u64>) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(usize::try_from(threads)?).thread_name("links");
    }
    builder.enable_all().build().context("cannot start the threads of the node")
}

/// A node at work.
struct Running {
    file: PathBuf,
    config: Config,
    log: Log,
    signals: Signals,
    node: Node,
    api: Option<Served<Api>>,
    #[cfg(feature = "envoy_rls")]
    envoy_rls: Option<Served<EnvoyRls>>,
    #[cfg(feature = "redis")]
    redis: Option<Served<Redis>>,
    #[cfg(feature = "haproxy")]
    haproxy: Option<Served<Haproxy>>,
}

/// A door being served, and the word that ends it.
struct Served<D> {
    door: D,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl<D: Clone> Served<D> {
    fn start<S: Future<Output = ()> + Send + 'static>(
        door: D,
        serve: impl FnOnce(D, oneshot::Receiver<()>) -> S,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(door.clone(), stopped));
        Self { door, stop, server }
    }

    async fn stop(self) {
        // It has stopped by itself if nobody receives this.
        let _ = self.stop.send(());
        let _ = self.server.await;
    }
}

/// Takes the address of a door, which stands in the configuration under `key`.
async fn bind(config: &Config, key: &str, address: &Address) -> Result<Listener> {
    Listener::bind(address)
        .await
        .map_err(|error| anyhow::anyhow!("{}: cannot listen on {address}: {error}", config.location(key)))
}

impl Running {
    async fn start(file: &Path, config: Config, log: Log, links: &Runtime) -> Result<Self> {
        // Before anything else, so that a signal during the start is not lost.
        let signals = Signals::new().context("cannot listen to signals")?;
        let api_listener = match &config.api {
            Some(api) => Some(bind(&config, "api.listen", &api.listen).await?),
            None => None,
        };
        #[cfg(feature = "envoy_rls")]
        let envoy_rls_listener = match &config.envoy_rls {
            Some(door) => Some(bind(&config, "envoy_rls.listen", &door.listen).await?),
            None => None,
        };
        #[cfg(feature = "redis")]
        let redis_listener = match &config.redis {
            Some(redis) => Some(bind(&config, "redis.listen", &redis.listen).await?),
            None => None,
        };
        #[cfg(feature = "haproxy")]
        let haproxy_listener = match &config.haproxy_peers {
            Some(haproxy) => Some(bind(&config, "haproxy_peers.listen", &haproxy.listen).await?),
            None => None,
        };
        let node = links.spawn(parts::builder(&config).start()).await.context("the start was cut short")?;
        let node = node.map_err(|error| parts::located(&config, &error))?;
        info!(
            name = node.name(),
            cluster = node.cluster(),
            origin = %node.origin(),
            zone_sync = listening(&node),
            api = api_listener.as_ref().map(|listener| tracing::field::display(listener.address())),
            "started"
        );
        let api = api_listener.zip(config.api.as_ref()).map(|(listener, settings)| {
            Served::start(Api::new(node.clone(), settings.grants.clone()), |api, stopped| {
                api.serve(listener, async {
                    // A sender that is gone stops it too.
                    let _ = stopped.await;
                })
            })
        });
        #[cfg(feature = "envoy_rls")]
        let envoy_rls = match envoy_rls_listener.zip(config.envoy_rls.as_ref()) {
            Some((listener, settings)) => {
                info!(envoy_rls = %listener.address(), "open for Envoy");
                let door = EnvoyRls::new(node.clone(), settings.options.clone())
                    .map_err(|error| anyhow::anyhow!("{}: {error}", config.location("envoy_rls.limit")))?;
                Some(Served::start(door, |door, stopped| {
                    door.serve(listener, async {
                        let _ = stopped.await;
                    })
                }))
            }
            None => None,
        };
        #[cfg(feature = "redis")]
        let redis = match redis_listener.zip(config.redis.as_ref()) {
            Some((listener, settings)) => {
                info!(redis = %listener.address(), "open for clients of Redis");
                let redis = Redis::new(node.clone(), settings.options.clone())
                    .map_err(|error| anyhow::anyhow!("{}: {error}", config.location("redis.listen")))?;
                Some(Served::start(redis, |redis, stopped| {
                    redis.serve(listener, async {
                        let _ = stopped.await;
                    })
                }))
            }
            None => None,
        };
        #[cfg(feature = "haproxy")]
        let haproxy = match haproxy_listener.zip(config.haproxy_peers.as_ref()) {
            Some((listener, settings)) => {
                info!(haproxy_peers = %listener.address(), "open for HAProxies");
                let haproxy = Haproxy::new(node.clone(), settings.options.clone()).map_err(|error| {
                    anyhow::anyhow!("{}: {error}", config.location("haproxy_peers.tables"))
                })?;
                Some(Served::start(haproxy, |haproxy, stopped| {
                    haproxy.serve(listener, async {
                        let _ = stopped.await;
                    })
                }))
            }
            None => None,
        };
        Ok(Self {
            file: file.to_owned(),
            config,
            log,
            signals,
            node,
            api,
            #[cfg(feature = "envoy_rls")]
            envoy_rls,
            #[cfg(feature = "redis")]
            redis,
            #[cfg(feature = "haproxy")]
            haproxy,
        })
    }

    /// Takes no more changes at any door, and waits for those that are under way.
    async fn stop_changes(&self) {
        let api = self.api.as_ref().map(|served| served.door.clone());
        #[cfg(feature = "envoy_rls")]
        let envoy_rls = self.envoy_rls.as_ref().map(|served| served.door.clone());
        #[cfg(feature = "redis")]
        let redis = self.redis.as_ref().map(|served| served.door.clone());
        #[cfg(feature = "haproxy")]
        let haproxy = self.haproxy.as_ref().map(|served| served.door.clone());
        let stop = move || {
            api.iter().for_each(Api::stop_changes);
            #[cfg(feature = "envoy_rls")]
            envoy_rls.iter().for_each(EnvoyRls::stop_changes);
            #[cfg(feature = "haproxy")]
            haproxy.iter().for_each(Haproxy::stop_changes);
            #[cfg(feature = "redis")]
            redis.iter().for_each(Redis::stop_changes);
        };
        // The task does not panic.
        let _ = tokio::task::spawn_blocking(stop).await;
    }

    async fn until_stopped(&mut self) {
        loop {
            match self.signals.next().await {
                Order::Reload => self.reload().await,
                Order::StopGracefully => return self.stop_gracefully().await,
                Order::StopNow => return self.stop_now(),
            }
        }
    }

    async fn stop_gracefully(&mut self) {
        info!("stopping gracefully");
        self.stop_changes().await;
        let patience =
            self.config.zone_sync.as_ref().map_or(NO_PEERS_TIMEOUT, |zone_sync| zone_sync.shutdown_timeout);
        let node = self.node.clone();
        let shutdown = node.shutdown(patience);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                _ = &mut shutdown => break,
                order = self.signals.next() => match order {
                    Order::StopNow => return self.stop_now(),
                    Order::StopGracefully | Order::Reload => {}
                },
            }
        }
        if let Some(served) = self.api.take() {
            served.stop().await;
        }
        #[cfg(feature = "envoy_rls")]
        if let Some(served) = self.envoy_rls.take() {
            served.stop().await;
        }
        #[cfg(feature = "redis")]
        if let Some(served) = self.redis.take() {
            served.stop().await;
        }
        #[cfg(feature = "haproxy")]
        if let Some(served) = self.haproxy.take() {
            served.stop().await;
        }
        info!("stopped");
    }

    fn stop_now(&self) {
        info!("stopping at once");
        self.node.stop();
    }

    /// Takes over what can be changed under way. A file with an error changes nothing.
    async fn reload(&mut self) {
        let config = match Config::load(&self.file) {
            Ok(config) => config,
            Err(errors) => {
                for line in errors.to_string().lines() {
                    error!("{line}");
                }
                return error!("not reloaded; the configuration of before stays in force");
            }
        };
        for key in parts::unreloadable_changes(&self.config, &config) {
            warn!("{}: a change of {key} needs a restart", config.location(&key));
        }
        let ssl = config.zone_sync.as_ref().and_then(|zone_sync| zone_sync.ssl.as_ref());
        if let Some(Err(error)) = ssl.map(|ssl| self.node.set_tls(&parts::tls_options(ssl))) {
            error!("{}", parts::located(&config, &error));
        }
        if let Some(zone_sync) = &config.zone_sync {
            self.node.set_servers(zone_sync.servers.clone());
        }
        if let (Some(served), Some(api)) = (&self.api, &config.api) {
            served.door.set_grants(api.grants.clone());
        }
        #[cfg(feature = "envoy_rls")]
        if let (Some(served), Some(door)) = (&self.envoy_rls, &config.envoy_rls) {
            served.door.set_options(door.options.clone());
        }
        #[cfg(feature = "redis")]
        if let (Some(served), Some(redis)) = (&self.redis, &config.redis) {
            let options = &redis.options;
            served.door.set_grants(options.grants.clone(), options.read_only_users.clone());
        }
        #[cfg(feature = "haproxy")]
        if let (Some(served), Some(haproxy)) = (&self.haproxy, &config.haproxy_peers) {
            served.door.set_access(haproxy.options.access.clone());
        }
        self.log.set_level(config.log_level);
        // The rest stays as it was started: whatever needs a restart is named by every reload until there is one.
        if let (Some(running), Some(loaded)) = (&mut self.config.zone_sync, &config.zone_sync) {
            running.shutdown_timeout = loaded.shutdown_timeout;
        }
        info!("reloaded");
    }
}

/// What a signal asks for.
enum Order {
    Reload,
    StopGracefully,
    StopNow,
}

struct Signals {
    hangup: Signal,
    quit: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::StopNow,
            _ = self.interrupt.recv() => Order::StopNow,
            _ = self.quit.recv() => Order::StopGracefully,
            _ = self.hangup.recv() => Order::Reload,
        }
    }
}

/// Where peers dial the node, for the log.
fn listening(node: &Node) -> Option<String> {
    let addresses: Vec<_> = node.listening().iter().map(ToString::to_string).collect();
    (!addresses.is_empty()).then(|| addresses.join(", "))
}

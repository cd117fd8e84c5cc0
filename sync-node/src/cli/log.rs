//! The log: lines on standard error, at the level of the configuration, or as `RUST_LOG` says if it is set.

use anyhow::{Context, Result};
use std::io::IsTerminal;
use sync_node::config::LogLevel;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The log of this process; its level can be changed.
pub(crate) struct Log {
    /// `None` where `RUST_LOG` has the last word.
    level: Option<reload::Handle<EnvFilter, Registry>>,
}

impl Log {
    pub(crate) fn start(level: LogLevel) -> Result<Self> {
        let from_environment = EnvFilter::try_from_default_env().ok();
        let is_fixed = from_environment.is_some();
        let filter = from_environment.unwrap_or_else(|| EnvFilter::new(level.as_str()));
        let (filter, handle) = reload::Layer::new(filter);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        tracing_subscriber::registry().with(filter).with(lines).try_init().context("cannot start the log")?;
        Ok(Self { level: (!is_fixed).then_some(handle) })
    }

    pub(crate) fn set_level(&self, level: LogLevel) {
        if let Some(handle) = &self.level {
            // Fails only when the log is gone, with the process.
            let _ = handle.reload(EnvFilter::new(level.as_str()));
        }
    }
}

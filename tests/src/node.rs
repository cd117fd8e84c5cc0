//! A `sync-node run` process.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{API_PORT, Api, Config, Process, Signal, sync_node, wait_for};

/// More than starting, joining or stopping takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A node: its process, and a client of its API.
#[derive(Debug)]
pub struct Node {
    /// What it was started with.
    pub config: Config,
    /// A client of its API.
    pub api: Api,
    process: Process,
}

impl Node {
    /// Writes the configuration file into `directory` and starts the process. Does not wait for anything.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(config: Config, directory: &Path) -> Self {
        let file = directory.join(format!("{}.toml", config.name));
        fs::write(&file, config.to_toml()).expect("the configuration file is writable");
        let mut words = config.launcher.iter().map(AsRef::as_ref).chain([sync_node().as_os_str()]);
        let mut command = Command::new(words.next().expect("the binary at least"));
        command.args(words).args(["run", "-c"]).arg(&file).current_dir(directory).env_remove("RUST_LOG");
        let log = directory.join(format!("{}.log", config.name));
        let process = Process::start(&config.name, command, &log);
        let api = Api::new((config.ip, API_PORT).into());
        Self { config, api, process }
    }

    /// Waits until `/readyz` says that it has joined.
    ///
    /// # Panics
    /// If it ends instead, or does not join in time.
    pub fn wait_ready(&mut self) {
        let name = self.config.name.clone();
        wait_for(&format!("{name} to be ready"), LIMIT, || {
            if let Some(status) = self.process.status() {
                panic!("{name} ended ({status}) instead of getting ready:\n{}", self.process.log_end());
            }
            self.api.ready().map_err(|e| format!("{e}; its log:\n{}", self.process.log_end()))
        });
    }

    /// Waits until its API answers.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn wait_live(&self) {
        wait_for(&format!("{} to be live", self.config.name), LIMIT, || {
            match self.api.request("GET", "/healthz", None)?.status {
                200 => Ok(()),
                status => Err(format!("status {status}")),
            }
        });
    }

    /// Writes its configuration file anew and has it reloaded. Does not wait for that.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn reload(&mut self, config: Config, directory: &Path) {
        fs::write(directory.join(format!("{}.toml", config.name)), config.to_toml()).expect("writable");
        self.config = config;
        self.process.signal(Signal::HangUp);
    }

    /// Waits until it is connected to exactly so many peers.
    ///
    /// # Panics
    /// If it is not in time.
    pub fn wait_online(&self, expected: u64) {
        wait_for(&format!("{} to see {expected} peers", self.config.name), LIMIT, || {
            let online = self.api.sync_figure("nodes_online");
            if online == expected { Ok(()) } else { Err(format!("{online}; its log:\n{}", self.log_end())) }
        });
    }

    /// Asks it to stop gracefully and waits until it has, with success.
    ///
    /// # Panics
    /// If it does not end in time, or with a failure.
    pub fn quit(mut self) {
        self.process.signal(Signal::Quit);
        let status = self.process.wait_end(LIMIT);
        assert!(status.success(), "{} ended with {status} after QUIT:\n{}", self.config.name, self.log_end());
    }

    /// Kills it without warning and returns what it was started with.
    pub fn kill(mut self) -> Config {
        self.process.signal(Signal::Kill);
        self.process.wait_end(LIMIT);
        self.config.clone()
    }

    /// Waits for a warning or an error in its log with every one of `words` in it, in any case and order, and returns it.
    /// A word may have several forms: `one|other`.
    ///
    /// # Panics
    /// If there is none in time.
    pub fn wait_complaint(&mut self, words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let what = format!("a warning or error with {}", words.join(", "));
        self.process.wait_log(&what, LIMIT, |line| {
            let complains = line.contains("WARN") || line.contains("ERROR");
            let line = line.to_lowercase();
            complains && words.iter().all(|word| word.split('|').any(|form| line.contains(form)))
        })
    }
}

impl Deref for Node {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

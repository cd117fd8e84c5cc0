//! Writers that keep a zone busy and remember what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::{Api, wait_for};

/// Between two writes of one writer: some hundred writes a second each, so that zones of the tests stay small.
const PAUSE: Duration = Duration::from_millis(2);

/// Writers of distinct keys, each on a thread of its own.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Acknowledged>>,
}

/// What the API acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Pairs whose write was answered with success.
    pub pairs: BTreeMap<String, String>,
    /// The first failure of each writer that had one; it stops there.
    pub failures: Vec<String>,
}

impl Writers {
    /// Starts `writers` threads for each node, which add pairs to a keyval zone until stopped or refused.
    pub fn start(nodes: &[(&str, &Api)], zone: &str, writers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let threads =
            nodes.iter().flat_map(|(name, api)| (0..writers).map(move |writer| (name, api, writer)));
        let threads = threads.map(|(name, api, writer)| {
            let (api, stop, count) = ((*api).clone(), Arc::clone(&stop), Arc::clone(&count));
            let (path, prefix) = (format!("/api/9/http/keyvals/{zone}"), format!("{name}-{writer}"));
            std::thread::spawn(move || write(&api, &path, &prefix, &stop, &count))
        });
        Self { threads: threads.collect(), stop, count }
    }

    /// Waits until `more` further writes have been acknowledged.
    ///
    /// # Panics
    /// If they are not in time.
    pub fn wait_more(&self, more: u64) {
        let goal = self.count.load(Ordering::Relaxed) + more;
        wait_for(&format!("{more} more acknowledged writes"), Duration::from_secs(60), || {
            let count = self.count.load(Ordering::Relaxed);
            if count >= goal { Ok(()) } else { Err(format!("{count} of {goal}")) }
        });
    }

    /// Stops all writers and returns what was acknowledged.
    ///
    /// # Panics
    /// If a writer panicked.
    pub fn stop(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Acknowledged::default();
        for thread in self.threads {
            let Acknowledged { pairs, failures } = thread.join().expect("writers do not panic");
            all.pairs.extend(pairs);
            all.failures.extend(failures);
        }
        all
    }
}

fn write(api: &Api, path: &str, prefix: &str, stop: &AtomicBool, count: &AtomicU64) -> Acknowledged {
    let mut done = Acknowledged::default();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("{prefix}-{number}"), format!("value {number} of {prefix}"));
        match api.request("POST", path, Some(&json!({ &key: &value }).to_string())) {
            Ok(reply) if reply.status == 201 => {
                done.pairs.insert(key, value);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(reply) => done.failures.push(format!("{key}: {reply:?}")),
            Err(cause) => done.failures.push(format!("{key}: {cause}")),
        }
        if !done.failures.is_empty() {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    done
}

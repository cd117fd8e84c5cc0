//! An nginx, in front of applications or as one.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{Api, Process, Reply, wait_for};

/// More than a start takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A running nginx, and a client of it.
#[derive(Debug)]
pub struct Nginx {
    /// A client of the address where it listens.
    pub http: Api,
    /// The process.
    pub process: Process,
    listen: SocketAddr,
}

impl Nginx {
    /// Starts an nginx whose `nginx.conf`, and files that this names, lie in a new folder `name` of `directory`. Does not wait for anything.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, directory: &Path, listen: SocketAddr, files: &[(&str, String)]) -> Self {
        let folder = directory.join(name);
        std::fs::create_dir(&folder).expect("a folder");
        for (file, text) in files {
            std::fs::write(folder.join(file), text).expect("written");
        }
        let mut command = Command::new("nginx");
        // One process: a master that is killed would leave its workers behind.
        command.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "stderr"]);
        command.args(["-g", "daemon off; master_process off; pid nginx.pid;"]);
        let process = Process::start(name, command, &directory.join(format!("{name}.log")));
        Self { http: Api::new(listen), process, listen }
    }

    /// Waits until it listens.
    ///
    /// # Panics
    /// If it ends instead, or does not in time.
    pub fn wait_up(&mut self) {
        wait_for("nginx to listen", LIMIT, || {
            if let Some(status) = self.process.status() {
                panic!("nginx ended ({status}):\n{}", self.process.log_end());
            }
            TcpStream::connect(self.listen).map(|_| ()).map_err(|e| e.to_string())
        });
    }

    /// GET, with a cookie unless it is empty.
    ///
    /// # Errors
    /// If there is no answer: with the request and the cause.
    pub fn get(&self, path: &str, cookie: &str) -> Result<Reply, String> {
        let headers = [("cookie", cookie)];
        let headers = if cookie.is_empty() { &headers[..0] } else { &headers };
        self.http.request_with("GET", path, headers, None)
    }
}

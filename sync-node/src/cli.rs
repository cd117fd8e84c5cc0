//! The command line: what an operator types, and which module does it.
//!
//! | command | module |
//! |---|---|
//! | `run -c FILE`, `check -c FILE` | [`run`] |
//! | `demo` | [`demo`] |
//! | `cert ca`, `cert node NAME` | [`cert`] |
//! | `status` | [`status`] |
//! | `keyval get`, `set`, `delete`, `list`, `export`, `import` | [`keyval`] |
//!
//! A command that fails says why on standard error and exits with status 1; wrong usage exits with status 2.

mod cert;
mod client;
mod demo;
mod keyval;
mod log;
mod parts;
mod run;
mod status;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use sync_node::config;

/// Shares the zones of proxies - key-value tables, sticky sessions, rate limits - across a cluster.
#[derive(Debug, Parser)]
#[command(name = "sync-node", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until a signal stops it: QUIT gracefully, TERM and INT at once; HUP reloads
    Run(File),
    /// Check a configuration file and start nothing
    Check(File),
    /// Run a whole cluster in this process, with traffic and figures, to see what it does
    Demo(demo::Demo),
    /// Make certificates for a cluster: a CA of your own, and one for each node
    #[command(subcommand)]
    Cert(cert::Command),
    /// Show zones and peers of a running node
    Status(status::Status),
    /// Read and change a key-value zone of a running node
    Keyval(keyval::Keyval),
}

#[derive(Debug, Args)]
struct File {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(file) => run::run(&file.config),
        Command::Check(file) => run::check(&file.config),
        Command::Demo(demo) => demo::main(&demo),
        Command::Cert(command) => cert::main(&command),
        Command::Status(status) => status::main(&status),
        Command::Keyval(keyval) => keyval::main(&keyval),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Lines that begin with a place in a file need nothing in front of it, for editors to find it.
            match error.downcast_ref::<config::Errors>() {
                Some(errors) => eprintln!("{errors}"),
                None => eprintln!("{error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

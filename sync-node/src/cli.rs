//! The command line: what an operator types, and which module does it.
//!
//! | command | module |
//! |---|---|
//! | `run -c FILE` | [`run`] |
//! | `check -c FILE` | [`run`] |
//! | `cert ca`, `cert node NAME` | [`cert`] |
//! | `status` | [`status`] |
//!
//! A command that fails says why on standard error and exits with status 1; wrong usage exits with status 2.

mod cert;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Shares the zones of proxies - key-value tables, sticky sessions, rate limits - across a cluster.
#[derive(Debug, Parser)]
#[command(name = "sync-node", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make certificates for a cluster: a CA of your own, and one for each node
    #[command(subcommand)]
    Cert(cert::Command),
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Cert(command) => cert::main(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sync-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

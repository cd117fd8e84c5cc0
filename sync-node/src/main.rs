//! The `sync-node` daemon and its tools; see [`cli`] for the commands.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}

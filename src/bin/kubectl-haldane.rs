//! The kubectl plugin: `kubectl haldane …`. Everything is in [`haldane::cli`].

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    haldane::cli::run(std::env::args_os()).await
}

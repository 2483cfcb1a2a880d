//! The program: parses the arguments, runs the command and returns its exit code.

use std::process::ExitCode;

use clap::Parser;
use imsync::cli::Cli;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("imsync: cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(cli.run());
    // A blocking task, such as a write to a pipe that is not read, must not delay the exit.
    runtime.shutdown_background();
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("imsync: {}", failure.message);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

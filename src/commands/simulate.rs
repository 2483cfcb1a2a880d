//! stub
use super::{CommandResult, Exit, Global};
pub const EXAMPLES: &str = "";
#[derive(Debug, clap::Args)]
pub struct Arguments {}
pub async fn run(_global: Global, _arguments: Arguments) -> CommandResult { Ok(Exit::Done) }

//! stub
use super::{CommandResult, Exit, Global};
pub async fn run(_global: Global, _users: u32, _seconds: u64) -> CommandResult {
    Ok(Exit::Done)
}

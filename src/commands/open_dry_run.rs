//! What the commands share that compare without writing: `preview`, `explain`, `verify`, `backfill --dry-run`, `forget`.
//!
//! Owns: the order in which source and state are opened. Must not know: what is compared.

use std::sync::Arc;

use super::exit::CommandFailure;
use crate::config::Config;
use crate::mapping::Mapping;
use crate::pass::LongReadWatch;
use crate::pass::dry_run::DryRun;
use crate::source::Source;
use crate::state::{Access, State};

/// A dry run, with the state that it reads. Long statements of the source are logged while it lives.
pub(super) struct OpenDryRun {
    pub(super) dry_run: DryRun,
    pub(super) state: State,
    pub(super) reads: LongReadWatch,
}

/// Opens source and state. `examine`: the source is examined as at a start, and warnings are collected.
pub(super) async fn open_dry_run(config: &Arc<Config>, examine: bool) -> Result<OpenDryRun, CommandFailure> {
    let mapping = Arc::new(Mapping::new(config));
    let source = if examine {
        Source::connect(config, mapping.columns()).await?
    } else {
        Source::reconnect(config, mapping.columns()).await?
    };
    let reads = LongReadWatch::of_dry_run(&source);
    let state = State::open(config, Access::ReadOnly).await?;
    let dry_run = DryRun::new(config.clone(), mapping, source, state.clone()).await?;
    Ok(OpenDryRun { dry_run, state, reads })
}

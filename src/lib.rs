//! imsync keeps the user attributes of a Tencent Cloud Chat (IM) app equal to columns of a Postgres table.

pub mod cli;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod diff;
pub mod im;
pub mod logging;
pub mod mapping;
pub mod metrics;
pub mod model;
pub mod pass;
pub mod push;
mod quote;
pub mod service;
pub mod simulator;
pub mod source;
pub mod state;
pub mod status;

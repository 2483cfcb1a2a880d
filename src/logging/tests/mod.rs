//! Tests of logging: which events are written, which never are, and in which format.

mod capture;

mod format;
mod journal;
mod setup;
mod terminal;

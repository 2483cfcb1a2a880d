//! The push stage against an IM of its own, with a paused clock.

mod delivering;
mod doubts;
mod im;
mod isolating;
mod property;
mod stopping;

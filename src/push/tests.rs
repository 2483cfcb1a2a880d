//! Tests of the push stage against a fake IM, with a paused clock.

mod bisection_cost;
mod delivery;
mod fake_im;
mod fake_probes;
mod full_rate;
mod gateway;
mod properties;
mod stop;
mod unknown_accounts;
mod unknown_outcomes;

//! Access control over HTTP: each caller gets what its rights allow, and no more.

mod audit;
mod dashboard;
mod deployment;
mod lists;
mod matrix;
mod open_streams;
mod over_tls;
mod recipes;
mod reload;
mod tickets;
mod without_rules;

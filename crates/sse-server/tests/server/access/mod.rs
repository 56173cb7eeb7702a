//! Access control over HTTP: each caller gets what its rights allow, and no more.

mod dashboard;
mod deployment;
mod matrix;
mod open_streams;
mod recipes;
mod tickets;
mod without_rules;

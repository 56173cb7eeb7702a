//! The routes for operators: health and metrics.

pub(crate) mod health;
pub(crate) mod metrics;
mod prometheus_text;
pub(crate) mod readiness;

//! The programs together, as users meet them: the demo, the benchmark, the commands and links of
//! the documentation, the examples, the tutorial's Python clients, and pages in a browser. Also a
//! system that forbids netlink.

mod bench;
mod browser;
mod commands;
mod demo;
mod docs;
mod examples;
mod flask_sse;
mod log_lines;
mod loss;
#[cfg(target_os = "linux")]
mod netlink;
mod process;
mod tutorial;
mod unix_socket;

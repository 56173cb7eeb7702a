//! The programs together, as users meet them: the demo, the benchmark, the commands and links of
//! the documentation, the examples, the tutorial's Python clients, pages in a browser, and the
//! packages. Also a system that forbids netlink, and a log of an earlier format.

mod bench;
mod browser;
mod commands;
mod conversion;
mod demo;
mod docs;
mod examples;
mod flask_sse;
mod log_lines;
mod loss;
#[cfg(target_os = "linux")]
mod netlink;
mod package;
mod process;
mod tutorial;
mod unix_socket;

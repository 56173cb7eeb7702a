//! The programs together, as users meet them: the demo, the benchmark, the commands and links of
//! the documentation, the examples, and the tutorial's Python clients.

mod bench;
mod commands;
mod demo;
mod docs;
mod examples;
mod log_lines;
mod loss;
mod process;
mod tutorial;
mod unix_socket;

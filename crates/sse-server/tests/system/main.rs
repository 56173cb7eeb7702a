//! The programs together, as users meet them: the demo, the benchmark, the commands and links of the
//! documentation, and the tutorial's Python clients.

mod bench;
mod commands;
mod demo;
mod docs;
mod loss;
mod process;
mod tutorial;

//! The programs together, as people meet them: demo, benchmark, the README's commands, the tutorial's Python clients.

mod bench;
mod commands;
mod demo;
mod loss;
mod process;
mod tutorial;

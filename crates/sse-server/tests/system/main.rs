//! The programs together, as people meet them: the demo, the commands of the README, the tutorial's Python clients.

mod commands;
mod demo;
mod loss;
mod process;
mod tutorial;

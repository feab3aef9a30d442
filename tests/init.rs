//! Process 1 of a sandbox: it reaps, forwards signals, and passes on how the program ended.

mod common;
#[path = "init/mod.rs"]
mod init;

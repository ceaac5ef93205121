//! The program from outside: real processes, real sockets, real signals.

mod draining;
mod istio;
mod process;
mod start;

//! The program as a user runs it.

mod cli;
mod follow;
mod translate;
mod validate;

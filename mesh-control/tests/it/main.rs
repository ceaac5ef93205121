//! The program as a user runs it.

#[cfg(feature = "cli")]
mod cli;
mod follow;
mod translate;
#[cfg(feature = "cli")]
mod validate;

//! The program as a user runs it.

#[cfg(feature = "cli")]
mod cli;
mod follow;
mod registries;
mod translate;
#[cfg(feature = "cli")]
mod validate;

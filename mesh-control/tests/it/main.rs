//! The program as a user runs it.

mod follow;
mod translate;
mod validate;

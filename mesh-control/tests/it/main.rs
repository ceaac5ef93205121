//! The program as a user runs it.

mod translate;
mod validate;

//! The I/O of HTTP/1 connections, for servers and clients: buffers between a byte stream and the codec of
//! [`mesh_core::http1`].
//!
//! A connection has buffers only while it is in use. Idle connections return them to the buffers of their thread, so they need
//! no memory for them.

mod buffers;
mod input;
mod output;
mod request_body;

pub(crate) use input::Input;
pub(crate) use output::{Filled, Output};
pub(crate) use request_body::{RequestBody, RequestBodyError, RequestBodySender};

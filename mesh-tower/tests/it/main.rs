//! Tests of parts of the mesh with other implementations of the same protocol.

mod http1_codec;

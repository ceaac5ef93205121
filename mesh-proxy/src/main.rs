//! mesh-proxy.

fn main() {}

//! The endpoints of a cluster from a control plane: any bytes are decoded or refused with a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_xds::proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use mesh_xds::resource::ResourceType;

fuzz_target!(|input: &[u8]| mesh_fuzz::decode::<ClusterLoadAssignment>(input, ResourceType::ClusterLoadAssignment));

//! A cluster from a control plane: any bytes are decoded or refused with a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_xds::proto::envoy::config::cluster::v3::Cluster;
use mesh_xds::resource::ResourceType;

fuzz_target!(|input: &[u8]| mesh_fuzz::decode::<Cluster>(input, ResourceType::Cluster));

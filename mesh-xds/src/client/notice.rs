//! What a client reports.

use std::fmt;
use std::sync::Arc;

use super::transport::Disconnected;
use crate::resource::{Ignored, ResourceError, ResourceType};

/// Something an operator may want to know.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A stream to the control plane is open.
    Connected,
    /// The stream ended or could not be opened. What is in force stays.
    Disconnected(Disconnected),
    /// A response was taken, at least in part.
    Applied(ApplyReport),
    /// An accepted resource could not be put into force; its predecessor stays.
    NotApplied(ResourceError),
    /// A resource that was asked for does not exist, or not yet.
    Missing {
        /// The kind of resource.
        resource_type: ResourceType,
        /// Its name.
        name: Arc<str>,
    },
    /// Everything that was asked for is in force. Comes after the first complete configuration, and again after every
    /// response and every subscription.
    Settled,
}

/// What became of a response.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ApplyReport {
    /// The kind of resource.
    pub resource_type: ResourceType,
    /// The control plane's version.
    pub version: Arc<str>,
    /// Whether the response only brings what has been asked for since the last one: the configuration has not changed,
    /// more of it is used.
    pub is_answer: bool,
    /// Names of new and changed resources.
    pub accepted: Vec<Arc<str>>,
    /// Names of resources that no longer exist.
    pub removed: Vec<Arc<str>>,
    /// Resources that are not taken; their predecessors stay in force.
    pub rejected: Vec<ResourceError>,
    /// Fields of accepted resources that have no effect, with the name of the resource.
    pub ignored: Vec<(Arc<str>, Ignored)>,
}

impl fmt::Display for ApplyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource_type, version, accepted, removed, rejected, is_answer: _, ignored: _ } = self;
        write!(f, "{resource_type} version {version:?}: ")?;
        write!(f, "{} accepted, {} removed, {} rejected", accepted.len(), removed.len(), rejected.len())
    }
}

//! Reports of a client.

use std::fmt;
use std::sync::Arc;

use super::machine::Rejected;
use super::transport::Disconnected;
use crate::resource::{Ignored, ResourceError, ResourceType};

/// An event for operators.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A stream to the control plane is open.
    Connected,
    /// The stream ended or could not be opened. The configuration stays in force.
    Disconnected(Disconnected),
    /// A response was accepted, at least in part.
    Applied(ApplyReport),
    /// An accepted resource could not be put into force; its predecessor stays.
    NotApplied(ResourceError),
    /// A resource that was requested does not exist, or not yet.
    Missing {
        /// The kind of resource.
        resource_type: ResourceType,
        /// Its name.
        name: Arc<str>,
    },
    /// Received resources are no longer wanted.
    Unsubscribed {
        /// The kind of resource.
        resource_type: ResourceType,
        /// Their names.
        names: Vec<Arc<str>>,
    },
    /// Everything that was requested is in force. Comes after the first complete configuration, and again after every
    /// response and every subscription.
    Settled,
}

/// The outcome of a response.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ApplyReport {
    /// The kind of resource.
    pub resource_type: ResourceType,
    /// The control plane's version.
    pub version: Arc<str>,
    /// Whether the response only has resources that have been requested since the last one: the configuration has not
    /// changed, more of it is used.
    pub is_answer: bool,
    /// Names of new and changed resources.
    pub accepted: Vec<Arc<str>>,
    /// Names of resources that no longer exist.
    pub removed: Vec<Arc<str>>,
    /// Refused resources; their predecessors stay in force.
    pub rejected: Vec<Rejected>,
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

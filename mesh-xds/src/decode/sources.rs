//! What a resource may refer to, beside the stream that it came from.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The sources that a resource may name beside the stream that it came from. Default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    files: bool,
    clusters: Arc<BTreeSet<Arc<str>>>,
}

impl Sources {
    /// Discovery services at these clusters, which exist from the start: those of a bootstrap.
    #[must_use]
    pub fn at_clusters(clusters: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { files: false, clusters: Arc::new(clusters.into_iter().collect()) }
    }

    pub(crate) fn has_files(&self) -> bool {
        self.files
    }

    pub(crate) fn has_clusters(&self) -> bool {
        !self.clusters.is_empty()
    }

    /// Whether there is such a cluster.
    pub(crate) fn has_cluster(&self, cluster: &str) -> bool {
        self.clusters.contains(cluster)
    }

    /// Also files of this machine. What comes from a control plane may not name any.
    #[must_use]
    pub fn and_files(self) -> Self {
        Self { files: cfg!(feature = "json"), ..self }
    }
}

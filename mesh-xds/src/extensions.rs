//! The extensions that Envoy publishes, and which of them are supported.
//!
//! The list of extensions is generated from Envoy's `.proto` files. What is supported, and what has no effect, is read from the
//! tables by which the decoders decide.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::proto::extensions::EXTENSIONS;
use crate::{bootstrap, filter, resource};

/// An extension of Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Envoy's name, such as `envoy.filters.http.cors`.
    pub name: &'static str,
    /// The full name of the message that configures it.
    pub message: &'static str,
    /// What happens to a configuration with it.
    pub support: Support,
}

/// What happens to a configuration with an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It has its effect. Fields of it may be refused.
    Supported,
    /// It is taken without effect, for this reason.
    WithoutEffect(&'static str),
    /// It is refused by name.
    Refused,
}

impl Extension {
    /// The kind of extension: the name without its last part.
    #[must_use]
    pub fn category(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(category, _)| category)
    }
}

/// All extensions that Envoy publishes, sorted by name.
#[must_use]
pub fn all() -> Vec<Extension> {
    let supported: Vec<String> = filter::extensions().chain(resource::extensions()).collect();
    let fields = || bootstrap::WITHOUT_EFFECT.iter().chain(resource::WITHOUT_EFFECT);
    let support = |name: &str, message: &str| {
        if supported.iter().any(|supported| supported == message) {
            return Support::Supported;
        }
        let by_message = filter::WITHOUT_EFFECT.iter().find(|(known, _)| *known == message);
        let by_name = || fields().find(|(prefix, _)| name.starts_with(prefix));
        by_message.or_else(by_name).map_or(Support::Refused, |(_, reason)| Support::WithoutEffect(reason))
    };
    let extension = |&(name, message)| Extension { name, message, support: support(name, message) };
    EXTENSIONS.iter().map(extension).collect()
}

/// The list of all extensions as a page in Markdown.
#[must_use]
pub fn page() -> String {
    let mut categories: BTreeMap<&str, Vec<Extension>> = BTreeMap::new();
    for extension in all() {
        categories.entry(extension.category()).or_default().push(extension);
    }
    let mut page = PAGE_HEAD.to_owned();
    for (category, extensions) in categories {
        write_category(&mut page, category, &extensions);
    }
    page
}

const PAGE_HEAD: &str = "# Envoy's extensions

Which of the extensions that Envoy publishes are supported, taken without effect, or refused by name. The page is made from the
tables of the decoders by `cargo run --release -p mesh-xds --example envoy_extensions docs/envoy-extensions.md`; do not edit it.

- **Supported**: it has its effect. Fields that are not supported are refused by name.
- **Without effect**: it is taken, with a line in the log, because nothing depends on it here.
- **Refused**: a configuration with it is refused, and the error names it.

Clusters of the types `STATIC`, `STRICT_DNS`, `LOGICAL_DNS` and `EDS` are supported by `type`, not as extensions.
";

fn write_category(page: &mut String, category: &str, extensions: &[Extension]) {
    let names = |wanted: Support| {
        let named = extensions.iter().filter(|extension| extension.support == wanted);
        named.map(|extension| format!("`{}`", extension.name)).collect::<Vec<_>>().join(", ")
    };
    let mut reasons: Vec<&str> = extensions
        .iter()
        .filter_map(|extension| match extension.support {
            Support::WithoutEffect(reason) => Some(reason),
            Support::Supported | Support::Refused => None,
        })
        .collect();
    reasons.dedup();
    let without =
        reasons.iter().map(|reason| (format!("Without effect ({reason})"), names(Support::WithoutEffect(reason))));
    let lists = [("Supported".to_owned(), names(Support::Supported))].into_iter().chain(without);
    let lists = lists.chain([("Refused".to_owned(), names(Support::Refused))]);
    writeln!(page, "\n## {category}\n").expect("a String takes all text");
    for (title, names) in lists.filter(|(_, names)| !names.is_empty()) {
        writeln!(page, "- {title}: {names}").expect("a String takes all text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_decoders_is_one_of_envoys_extensions() {
        let all = all();
        for message in filter::extensions().chain(resource::extensions()) {
            // Envoy lists neither the options of connections to endpoints nor the second message of TLS.
            let is_unlisted = ["upstreams.http.v3.HttpProtocolOptions", "tls.v3.DownstreamTlsContext"];
            let is_listed = all.iter().any(|extension| extension.message == message);
            assert!(is_listed || is_unlisted.iter().any(|name| message.ends_with(name)), "{message}");
        }
        for (prefix, _) in bootstrap::WITHOUT_EFFECT.iter().chain(resource::WITHOUT_EFFECT) {
            assert!(all.iter().any(|extension| extension.name.starts_with(prefix)), "{prefix}");
        }
    }

    #[test]
    fn extensions_are_classified_by_the_decoders() {
        let all = all();
        let support = |name: &str| {
            all.iter().find(|extension| extension.name == name).unwrap_or_else(|| panic!("{name} is missing")).support
        };
        for name in [
            "envoy.filters.http.cors",
            "envoy.filters.http.router",
            "envoy.filters.network.tcp_proxy",
            "envoy.filters.listener.tls_inspector",
            "envoy.access_loggers.stdout",
            "envoy.load_balancing_policies.round_robin",
            "envoy.transport_sockets.raw_buffer",
            "envoy.transport_sockets.tls",
        ] {
            assert_eq!(support(name), Support::Supported, "{name}");
        }
        for name in ["envoy.filters.http.grpc_stats", "envoy.resource_monitors.fixed_heap", "envoy.tracers.zipkin"] {
            assert!(matches!(support(name), Support::WithoutEffect(_)), "{name}");
        }
        for name in ["envoy.filters.http.lua", "envoy.transport_sockets.alts", "envoy.load_balancing_policies.maglev"] {
            assert_eq!(support(name), Support::Refused, "{name}");
        }
        let page = page();
        assert!(page.contains("## envoy.filters.http\n\n- Supported: `envoy.filters.http.cors`"), "{page}");
    }
}

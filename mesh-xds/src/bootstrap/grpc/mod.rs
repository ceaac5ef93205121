//! The bootstrap of gRPC's xDS clients and servers, a JSON object (gRFC A27, A29, A36, A47, A65).
//!
//! Control planes such as Istio's agent write it for programs without a proxy. It is in the file that the environment variable
//! `GRPC_XDS_BOOTSTRAP` names, or in the variable `GRPC_XDS_BOOTSTRAP_CONFIG` itself.
//!
//! As in gRPC, fields that are unknown have no effect, because the bootstraps of all languages have fields of their own; they are
//! listed in [`GrpcBootstrap::ignored`]. Credentials and certificate providers that are unknown are refused, if the
//! bootstrap has no others in their place: without them, connections would not be secured as it says.

mod certificates;
mod error;
mod object;
mod resource_name;
mod server;

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use certificates::{identity_secret, keep, roots_secret};
pub use error::GrpcBootstrapError;
pub use server::{ChannelCreds, ServerAddress, ServerFeatures, TlsFiles, XdsServer};

use self::error::{Kind, Result};
use self::object::Object;
use crate::json;
use crate::proto::envoy::config::core::v3::Node;

/// The environment variable with the path of the file. gRFC A27.
pub const FILE_VARIABLE: &str = "GRPC_XDS_BOOTSTRAP";
/// The environment variable with the bootstrap itself, which is read if there is no file. gRFC A27.
pub const CONFIG_VARIABLE: &str = "GRPC_XDS_BOOTSTRAP_CONFIG";

/// A bootstrap of gRPC.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GrpcBootstrap {
    /// The control planes, in order of preference; at least one. Others than the first are used while it cannot be reached
    /// (gRFC A71).
    pub xds_servers: Vec<XdsServer>,
    /// The identity of this process towards control planes.
    pub node: Node,
    /// The authorities of resources with names of the form `xdstp://AUTHORITY/...` (gRFC A47).
    pub authorities: BTreeMap<String, Authority>,
    /// The certificates that resources refer to by the name of an instance (gRFC A29).
    pub certificate_providers: BTreeMap<Arc<str>, FileWatcher>,
    /// The name of the listener of a target without an authority; `%s` stands for the target. Default `%s`.
    pub client_default_listener_resource_name_template: String,
    /// The name of the listener of a server; `%s` stands for the address of its socket. `None` = this process configures no
    /// servers by xDS.
    pub server_listener_resource_name_template: Option<String>,
    /// Paths of fields that are set and have no effect.
    pub ignored: Vec<String>,
}

/// An authority of resource names, whose control planes are those of the bootstrap. gRFC A47.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authority {
    /// The name of the listener of a target of this authority; `%s` stands for the target. Default
    /// `xdstp://AUTHORITY/envoy.config.listener.v3.Listener/%s`.
    pub client_listener_resource_name_template: String,
}

/// Certificates in files, which are read again when they may have changed. gRFC A29 `file_watcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileWatcher {
    /// The certificate of this process and its key, both in PEM; `None` = it has none.
    pub certificate: Option<CertificateFiles>,
    /// The authorities that are trusted, in PEM; `None` = none are given.
    pub ca_certificate_file: Option<PathBuf>,
    /// How often the files are read. Default 600 s.
    pub refresh_interval: Duration,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and the intermediate ones.
    pub certificate_file: PathBuf,
    /// The private key.
    pub private_key_file: PathBuf,
}

impl FileWatcher {
    /// Default of [`FileWatcher::refresh_interval`].
    pub const DEFAULT_REFRESH_INTERVAL: Duration = Duration::from_secs(600);

    pub(crate) fn read(object: &Object<'_>) -> Result<Self> {
        let certificate_file = object.optional_string("certificate_file")?;
        let private_key_file = object.optional_string("private_key_file")?;
        let certificate = match (certificate_file, private_key_file) {
            (Some(certificate), Some(key)) => {
                Some(CertificateFiles { certificate_file: certificate.into(), private_key_file: key.into() })
            }
            (None, None) => None,
            (Some(_), None) => return Err(object.refuse("private_key_file", "is missing beside certificate_file")),
            (None, Some(_)) => return Err(object.refuse("certificate_file", "is missing beside private_key_file")),
        };
        let ca_certificate_file = object.optional_string("ca_certificate_file")?.map(PathBuf::from);
        if object.is_set("spiffe_trust_bundle_map_file") {
            return Err(object.refuse("spiffe_trust_bundle_map_file", "not supported"));
        }
        let interval = object.optional_duration("refresh_interval")?;
        Ok(Self {
            certificate,
            ca_certificate_file,
            refresh_interval: interval.unwrap_or(Self::DEFAULT_REFRESH_INTERVAL),
        })
    }
}

impl GrpcBootstrap {
    /// The bootstrap that the environment names: the file in `GRPC_XDS_BOOTSTRAP`, or else the text in
    /// `GRPC_XDS_BOOTSTRAP_CONFIG`.
    ///
    /// # Errors
    /// If neither variable is set, the file cannot be read, or the bootstrap cannot be used.
    pub fn from_env() -> Result<Self> {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(path) = set(FILE_VARIABLE) {
            let text = std::fs::read_to_string(&path).map_err(|source| Kind::File { path: path.into(), source })?;
            return Self::from_json(&text);
        }
        let text = set(CONFIG_VARIABLE).ok_or(Kind::NotInEnvironment)?;
        Self::from_json(&text)
    }

    /// Reads a bootstrap.
    ///
    /// # Errors
    /// If it is not JSON, or has a value that cannot be used.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(Kind::Json)?;
        let ignored = object::Ignored::default();
        let root = Object::root(&value, &ignored)?;
        let xds_servers = root.list("xds_servers", XdsServer::read)?;
        if xds_servers.is_empty() {
            return Err(root.refuse("xds_servers", "needs at least one server"));
        }
        let client_template = root.optional_string("client_default_listener_resource_name_template")?;
        let mut bootstrap = Self {
            xds_servers,
            node: node(&root)?,
            authorities: BTreeMap::new(),
            certificate_providers: BTreeMap::new(),
            client_default_listener_resource_name_template: client_template.unwrap_or("%s").to_owned(),
            server_listener_resource_name_template: root
                .optional_string("server_listener_resource_name_template")?
                .map(str::to_owned),
            ignored: Vec::new(),
        };
        for (name, authority) in root.entries("authorities")? {
            bootstrap.authorities.insert(name.to_owned(), Authority::read(name, &authority, &bootstrap.xds_servers)?);
            authority.finish();
        }
        for (name, provider) in root.entries("certificate_providers")? {
            let plugin = provider.string("plugin_name")?;
            if plugin != "file_watcher" {
                return Err(
                    provider.refuse("plugin_name", format_args!("{plugin}: not supported, only file_watcher is"))
                );
            }
            let config = provider.object("config")?;
            bootstrap.certificate_providers.insert(name.into(), FileWatcher::read(&config)?);
            config.finish();
            provider.finish();
        }
        root.finish();
        bootstrap.ignored = ignored.into_paths();
        Ok(bootstrap)
    }

    /// The name of the listener of `target`, which is what follows `xds:///` in gRPC, or `xds://AUTHORITY/` with an authority.
    ///
    /// # Errors
    /// If the bootstrap does not have the authority.
    pub fn client_listener(&self, authority: Option<&str>, target: &str) -> Result<Arc<str>> {
        let template = match authority {
            None => &self.client_default_listener_resource_name_template,
            Some(name) => {
                let authority = self.authorities.get(name);
                &authority.ok_or_else(|| Kind::Authority(name.to_owned()))?.client_listener_resource_name_template
            }
        };
        Ok(resource_name::filled(template, target).into())
    }

    /// The name of the listener of a server whose socket has the address `address`; `None` = servers are not configured by xDS.
    #[must_use]
    pub fn server_listener(&self, address: &str) -> Option<Arc<str>> {
        let template = self.server_listener_resource_name_template.as_deref()?;
        Some(resource_name::filled(template, address).into())
    }
}

impl Authority {
    fn read(name: &str, object: &Object<'_>, shared: &[XdsServer]) -> Result<Self> {
        const TEMPLATE: &str = "client_listener_resource_name_template";
        let prefix = format!("xdstp://{name}/");
        let template = match object.optional_string(TEMPLATE)? {
            None => format!("{prefix}envoy.config.listener.v3.Listener/%s"),
            Some(template) if template.starts_with(&prefix) => template.to_owned(),
            Some(template) => {
                return Err(object.refuse(TEMPLATE, format_args!("{template:?} does not begin with {prefix:?}")));
            }
        };
        let own = object.list("xds_servers", XdsServer::read)?;
        if !own.is_empty() && own != shared {
            return Err(object.refuse("xds_servers", "other servers than those of the bootstrap are not supported"));
        }
        Ok(Self { client_listener_resource_name_template: template })
    }
}

/// The node of the bootstrap, with the name and the features of this client.
fn node(root: &Object<'_>) -> Result<Node> {
    let mut node = match root.value("node") {
        None | Some(Value::Null) => Node::default(),
        Some(value) => json::from_text(&value.to_string(), "node").map_err(|error| Kind::Node(error.to_string()))?,
    };
    node.user_agent_name = "mesh".to_owned();
    node.user_agent_version_type =
        Some(crate::proto::envoy::config::core::v3::node::UserAgentVersionType::UserAgentVersion(
            env!("CARGO_PKG_VERSION").to_owned(),
        ));
    // Responses may have their resources in wrappers.
    node.client_features.push("xds.config.resource-in-sotw".to_owned());
    Ok(node)
}

#[cfg(test)]
mod tests;

//! The descriptors of the generated messages, and names of messages and fields.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

use crate::proto::extensions::{EXTENSIONS, OTHER_MESSAGES};

pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(crate::proto::DESCRIPTORS).expect("the checked-in descriptor set is well-formed")
});

/// The full message name in a type URL such as `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
#[must_use]
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// Whether a message of this full name is generated, or is one that Envoy publishes for an extension.
#[must_use]
pub fn is_known(full_name: &str) -> bool {
    POOL.get_message_by_name(full_name).is_some() || OTHER_MESSAGES.contains(&full_name)
}

/// The name that Envoy gives to the extension with this message, such as `envoy.filters.http.lua`.
#[must_use]
pub fn extension_name(message_name: &str) -> Option<&'static str> {
    EXTENSIONS.iter().find(|(_, message)| *message == message_name).map(|(name, _)| *name)
}

/// How errors name an extension that is configured as `name` by the message `message_name`: by what the file calls it, and
/// by Envoy's name or the message if that is not the same.
pub(crate) fn describe(name: &str, message_name: &str) -> String {
    let known = extension_name(message_name).unwrap_or(message_name);
    match name {
        "" => known.to_owned(),
        name if name == known || known.is_empty() => name.to_owned(),
        name => format!("{name} ({known})"),
    }
}

/// Converts a field name from lowerCamelCase to snake_case.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

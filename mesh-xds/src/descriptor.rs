//! The descriptors of the generated messages, and names of messages and fields.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(crate::proto::DESCRIPTORS).expect("the checked-in descriptor set is well-formed")
});

/// The full message name in a type URL such as `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
#[must_use]
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// Whether there is a generated message of this full name.
#[must_use]
pub fn is_known(full_name: &str) -> bool {
    POOL.get_message_by_name(full_name).is_some()
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

//! Tokens that were verified.
//!
//! A token is found by its whole text, so nothing that was not verified is found. It was verified with a version of the
//! provider's keys, and is verified again with another one. Its claims are checked for each request; they include `exp`.
//!
//! There are two generations of half the size. A token that is used moves to the younger one; when that is full, the older one
//! is dropped. So the size is bounded, and every operation takes constant time.

use std::{collections::HashMap, sync::Arc};

use super::{provider::JwtCacheConfig, token::Jwt};

/// Tokens that were verified.
#[derive(Debug)]
pub struct JwtCache {
    config: JwtCacheConfig,
    young: HashMap<Box<str>, Entry>,
    old: HashMap<Box<str>, Entry>,
}

#[derive(Debug)]
struct Entry {
    jwt: Arc<Jwt>,
    keys: u64,
}

impl JwtCache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: JwtCacheConfig) -> Self {
        Self { config, young: HashMap::new(), old: HashMap::new() }
    }

    /// The token, if it was verified with version `keys` of the keys.
    pub fn get(&mut self, token: &str, keys: u64) -> Option<Arc<Jwt>> {
        let entry = match self.old.remove_entry(token) {
            Some((token, entry)) => {
                let jwt = (entry.keys == keys).then(|| Arc::clone(&entry.jwt));
                self.put(token, entry);
                return jwt;
            }
            None => self.young.get(token)?,
        };
        (entry.keys == keys).then(|| Arc::clone(&entry.jwt))
    }

    /// Remembers a token that was verified with version `keys` of the keys, unless it is too long.
    pub fn insert(&mut self, token: &str, jwt: &Arc<Jwt>, keys: u64) {
        if token.len() <= self.config.jwt_max_token_size as usize {
            self.old.remove(token);
            self.put(token.into(), Entry { jwt: Arc::clone(jwt), keys });
        }
    }

    /// Forgets a token.
    pub fn remove(&mut self, token: &str) {
        self.young.remove(token);
        self.old.remove(token);
    }

    fn put(&mut self, token: Box<str>, entry: Entry) {
        let half = (self.config.jwt_cache_size.get() as usize).div_ceil(2);
        if self.young.len() >= half && !self.young.contains_key(&token) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, entry);
    }

    /// The number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn cache(size: u32) -> JwtCache {
        let jwt_cache_size = NonZeroU32::new(size).unwrap();
        JwtCache::new(JwtCacheConfig { jwt_cache_size, jwt_max_token_size: 10 })
    }

    fn jwt() -> Arc<Jwt> {
        Arc::new(Jwt::parse("eyJhbGciOiJSUzI1NiJ9.e30.AAAA").unwrap())
    }

    #[test]
    fn a_token_is_found_by_its_whole_text_and_the_version_of_the_keys() {
        let mut cache = cache(4);
        cache.insert("token", &jwt(), 1);
        assert!(cache.get("token", 1).is_some());
        assert!(cache.get("token", 2).is_none() && cache.get("toke", 1).is_none() && cache.get("token2", 1).is_none());
        cache.insert("token", &jwt(), 2);
        assert!(cache.get("token", 2).is_some() && cache.get("token", 1).is_none());
        cache.remove("token");
        assert!(cache.get("token", 2).is_none() && cache.is_empty());
    }

    #[test]
    fn a_long_token_is_not_remembered() {
        let mut cache = cache(4);
        cache.insert("12345678901", &jwt(), 1);
        assert!(cache.is_empty());
        cache.insert("1234567890", &jwt(), 1);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn the_size_is_bounded_and_tokens_in_use_are_kept() {
        let mut cache = cache(10);
        cache.insert("used", &jwt(), 1);
        for number in 0..1000 {
            cache.insert(&number.to_string(), &jwt(), 1);
            assert!(cache.get("used", 1).is_some());
            assert!(cache.len() <= 10, "{}", cache.len());
        }
        assert!(cache.get("999", 1).is_some() && cache.get("0", 1).is_none());
    }
}

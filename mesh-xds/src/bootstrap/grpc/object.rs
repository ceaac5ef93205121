//! JSON objects whose fields are read once each; the others are noted.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use hashbrown::HashSet;
use serde_json::{Map, Value};

use super::error::{GrpcBootstrapError, Result, refuse};

/// Paths of fields that nothing has read.
#[derive(Debug, Default)]
pub(crate) struct Ignored(RefCell<Vec<String>>);

impl Ignored {
    pub(super) fn into_paths(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// An object of the bootstrap.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
    read: RefCell<HashSet<String>>,
    ignored: &'a Ignored,
}

impl<'a> Object<'a> {
    pub(super) fn root(value: &'a Value, ignored: &'a Ignored) -> Result<Self> {
        Self::at(String::new(), value, ignored)
    }

    fn at(path: String, value: &'a Value, ignored: &'a Ignored) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Self { path, fields, read: RefCell::default(), ignored }),
            _ => Err(refuse(path, "is not an object")),
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn refuse(&self, name: &str, reason: impl fmt::Display) -> GrpcBootstrapError {
        refuse(self.path_of(name), reason)
    }

    /// The value of a field; `None` if it is absent.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(name.to_owned());
        self.fields.get(name)
    }

    fn present(&self, name: &str) -> Option<&'a Value> {
        self.value(name).filter(|value| !value.is_null())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.present(name).is_some()
    }

    pub(super) fn string(&self, name: &str) -> Result<&'a str> {
        self.optional_string(name)?.ok_or_else(|| self.refuse(name, "is missing"))
    }

    /// A string; `None` if it is absent or empty.
    pub(super) fn optional_string(&self, name: &str) -> Result<Option<&'a str>> {
        match self.present(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.refuse(name, "is not a string")),
        }
    }

    /// A duration above 0, such as `"600s"`.
    pub(super) fn optional_duration(&self, name: &str) -> Result<Option<Duration>> {
        let Some(text) = self.optional_string(name)? else { return Ok(None) };
        let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match duration {
            Some(duration) if duration > Duration::ZERO => Ok(Some(duration)),
            _ => Err(self.refuse(name, format_args!("{text:?} is not a duration above 0, such as \"600s\""))),
        }
    }

    /// An object; empty if it is absent.
    pub(super) fn object(&self, name: &str) -> Result<Self> {
        static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::Object(Map::new()));
        Self::at(self.path_of(name), self.present(name).unwrap_or(&EMPTY), self.ignored)
    }

    /// The entries of an object whose values are objects.
    pub(super) fn entries(&self, name: &str) -> Result<Vec<(&'a str, Self)>> {
        let object = self.object(name)?;
        let entry = |(key, value): (&'a String, &'a Value)| {
            Ok((key.as_str(), Self::at(format!("{}[{key:?}]", object.path), value, self.ignored)?))
        };
        object.fields.iter().map(entry).collect()
    }

    /// A list of objects; empty if it is absent.
    pub(super) fn list<T>(&self, name: &str, read: impl Fn(&Self) -> Result<T>) -> Result<Vec<T>> {
        let item = |(index, value): (usize, &'a Value)| {
            let object = Self::at(format!("{}[{index}]", self.path_of(name)), value, self.ignored)?;
            let result = read(&object)?;
            object.finish();
            Ok(result)
        };
        self.items(name)?.iter().enumerate().map(item).collect()
    }

    /// A list of strings; empty if it is absent.
    pub(super) fn strings(&self, name: &str) -> Result<Vec<&'a str>> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| self.refuse(name, "is not a list of strings"));
        self.items(name)?.iter().map(text).collect()
    }

    fn items(&self, name: &str) -> Result<&'a [Value]> {
        match self.present(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.refuse(name, "is not a list")),
        }
    }

    /// Notes a field that was read and has no effect.
    pub(super) fn ignore(&self, name: &str) {
        self.ignored.0.borrow_mut().push(self.path_of(name));
    }

    /// Notes the fields that were not read.
    pub(super) fn finish(&self) {
        let read = self.read.borrow();
        let unread = self.fields.keys().filter(|name| !read.contains(name.as_str()));
        unread.for_each(|name| self.ignore(name));
    }
}

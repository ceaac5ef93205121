//! Targets of gRPC: `xds:///NAME`, `xds://AUTHORITY/NAME`, or only `NAME`.

use http::uri::Authority;
use mesh_core::target::InvalidTarget;

use crate::{Error, error::Kind};

/// A target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The authority of its resources; `None` = none is given.
    pub(super) authority: Option<&'a str>,
    /// Its name.
    pub(super) name: &'a str,
}

/// Reads a target.
pub(super) fn parse(text: &str) -> Result<Target<'_>, Error> {
    let invalid = |reason| Error::from(Kind::Target(InvalidTarget::new(text, reason)));
    let target = match text.strip_prefix("xds:") {
        None if text.contains("://") => return Err(invalid("its scheme is not xds")),
        None => Target { authority: None, name: text },
        Some(rest) => match rest.strip_prefix("//") {
            None => Target { authority: None, name: rest },
            Some(rest) => {
                let (authority, name) =
                    rest.split_once('/').ok_or_else(|| invalid("there is no / after the authority"))?;
                Target { authority: Some(authority).filter(|authority| !authority.is_empty()), name }
            }
        },
    };
    if target.name.is_empty() {
        return Err(invalid("the name is empty"));
    }
    Ok(target)
}

impl Target<'_> {
    /// The authority of requests without one: the last part of the name. If that cannot be one, there is none to speak of.
    pub(super) fn default_authority(&self) -> Authority {
        let last = self.name.rsplit('/').next().unwrap_or_default();
        last.parse().unwrap_or_else(|_| Authority::from_static("xds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_grpc() {
        for (text, authority, name) in [
            ("echo", None, "echo"),
            ("echo.default:80", None, "echo.default:80"),
            ("xds:echo", None, "echo"),
            ("xds:///echo:80", None, "echo:80"),
            ("xds://other.example/a/echo", Some("other.example"), "a/echo"),
        ] {
            assert_eq!(parse(text).unwrap(), Target { authority, name }, "{text}");
        }
        for text in ["", "xds:///", "xds://echo", "dns:///echo", "http://echo"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("xds://other.example/a/echo:1").unwrap().default_authority(), "echo:1");
    }
}

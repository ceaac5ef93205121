//! Headers of the obvious reader.

use http::Version;

use super::{
    super::{
        super::{BodyLength, Error},
        field,
    },
    words::{is_blank, is_token, number, trim},
};
use crate::model::Http1Options;

/// Names in lower case, and values.
pub(super) struct Fields(Vec<(String, Vec<u8>)>);

impl Fields {
    pub(super) fn parse(lines: &[&[u8]], max_headers: usize) -> Result<Self, Error> {
        let mut lines = lines.iter().peekable();
        let mut fields = Self(Vec::new());
        while let Some(line) = lines.next() {
            if fields.0.len() == max_headers {
                return Err(Error::TooManyHeaders);
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Error::InvalidHeader)?;
            let name = &line[..colon];
            if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
                return Err(Error::InvalidHeader);
            }
            let mut value = line[colon + 1..].to_vec();
            while let Some(more) = lines.next_if(|line| line.starts_with(b" ") || line.starts_with(b"\t")) {
                if more.iter().any(|byte| !is_blank(*byte)) {
                    value.extend_from_slice(more);
                }
            }
            let value = trim(&value);
            if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                return Err(Error::InvalidHeader);
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if name == "content-length" && (!fields.get(&name).is_empty() || number(value).is_none()) {
                return Err(Error::InvalidContentLength);
            }
            fields.0.push((name, value.to_vec()));
        }
        Ok(fields)
    }

    pub(super) fn framing(&mut self, options: Http1Options) -> Result<Option<BodyLength>, Error> {
        let length = self.get("content-length").first().and_then(|value| number(value));
        let codings = self.get("transfer-encoding");
        let is_chunked = codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked");
        if codings.is_empty() {
            return Ok(length.map(BodyLength::Exact));
        }
        if length.is_some() && !(is_chunked && options.allow_chunked_length) {
            return Err(Error::ChunkedContentLength);
        }
        if !is_chunked {
            return Err(Error::UnsupportedTransferEncoding);
        }
        self.remove("content-length");
        Ok(Some(BodyLength::Chunked))
    }

    pub(super) fn is_persistent(&self, version: Version) -> bool {
        let close = self.option("connection", "close") || self.option("proxy-connection", "close");
        !close && (version == Version::HTTP_11 || self.option("connection", "keep-alive"))
    }

    /// Whether a list has an element.
    pub(super) fn option(&self, name: &str, element: &str) -> bool {
        let values = self.get(name);
        let mut elements = values.iter().flat_map(|value| value.split(|byte| *byte == b','));
        elements.any(|found| trim(found).eq_ignore_ascii_case(element.as_bytes()))
    }

    pub(super) fn get(&self, name: &str) -> Vec<&[u8]> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value).collect()
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(super) fn text(&self) -> String {
        let mut fields: Vec<_> = self.0.iter().collect();
        fields.sort_by_key(|(name, _)| name);
        fields.iter().map(|(name, value)| field(name, value)).collect()
    }
}

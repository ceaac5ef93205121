//! Parses the first message of a TLS client without taking part in the handshake.
//!
//! RFC 8446 sections 4.1.2 (client hello) and 5.1 (records), RFC 6066 section 3 (server name), RFC 7301 (application
//! protocols). A client hello may be spread over several records, and records over several packets. Bytes that
//! do not parse are not TLS, as in Envoy's `tls_inspector`.

use std::sync::Arc;

use super::Inspection;
use crate::model::TlsInspector;

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
/// Longest content of a record, RFC 8446 section 5.1.
const MAX_RECORD: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const APPLICATION_LAYER_PROTOCOL_NEGOTIATION: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a TLS client requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name (SNI), in lower case.
    pub server_name: Option<Arc<str>>,
    /// The application protocols that it offers, such as `h2`, in its order of preference.
    pub application_protocols: Vec<Arc<str>>,
}

/// Whether a connection that begins with `bytes` is TLS, and what its client requests.
#[must_use]
pub fn inspect_tls(bytes: &[u8]) -> Inspection<ClientHello> {
    let mut handshake = Handshake { records: bytes, ..Handshake::default() };
    match handshake.client_hello() {
        Ok(hello) => Inspection::Found(hello),
        Err(Stop::Incomplete) => Inspection::Incomplete,
        Err(Stop::NotTls) => Inspection::NotFound,
    }
}

enum Stop {
    /// The bytes are valid so far, and more are needed.
    Incomplete,
    NotTls,
}

/// The contents of handshake records.
#[derive(Default)]
struct Handshake<'b> {
    records: &'b [u8],
    contents: Vec<u8>,
}

impl Handshake<'_> {
    fn client_hello(&mut self) -> Result<ClientHello, Stop> {
        self.receive(HANDSHAKE_HEADER)?;
        let [kind, ref length @ ..] = self.contents[..HANDSHAKE_HEADER] else { return Err(Stop::NotTls) };
        if kind != CLIENT_HELLO {
            return Err(Stop::NotTls);
        }
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        if length > TlsInspector::MAX_CLIENT_HELLO {
            return Err(Stop::NotTls);
        }
        self.receive(HANDSHAKE_HEADER + length)?;
        let body = &self.contents[HANDSHAKE_HEADER..HANDSHAKE_HEADER + length];
        read_client_hello(Reader(body)).ok_or(Stop::NotTls)
    }

    /// Reads records until there are `wanted` bytes of contents.
    fn receive(&mut self, wanted: usize) -> Result<(), Stop> {
        while self.contents.len() < wanted {
            // Other protocols differ in the first bytes.
            if self.records.first().is_some_and(|kind| *kind != HANDSHAKE)
                || self.records.get(1).is_some_and(|v| *v != 3)
            {
                return Err(Stop::NotTls);
            }
            let Some((header, rest)) = self.records.split_at_checked(RECORD_HEADER) else {
                return Err(Stop::Incomplete);
            };
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if length == 0 || length > MAX_RECORD {
                return Err(Stop::NotTls);
            }
            // Part of a record may suffice to see that this is no client hello.
            self.contents.extend_from_slice(&rest[..length.min(rest.len())]);
            if rest.len() < length && self.contents.len() < wanted {
                return Err(Stop::Incomplete);
            }
            self.records = rest.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

fn read_client_hello(mut hello: Reader<'_>) -> Option<ClientHello> {
    let _version = hello.u16()?;
    let _random = hello.take(32)?;
    let _session_id = hello.vector8()?;
    let _cipher_suites = hello.vector16()?;
    let _compression_methods = hello.vector8()?;
    let mut requested = ClientHello::default();
    // Clients without extensions leave them out altogether.
    if hello.is_empty() {
        return Some(requested);
    }
    let mut extensions = hello.vector16()?;
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let value = extensions.vector16()?;
        match kind {
            SERVER_NAME => requested.server_name = Some(read_server_name(value)?),
            APPLICATION_LAYER_PROTOCOL_NEGOTIATION => requested.application_protocols = read_protocols(value)?,
            _ => {}
        }
    }
    hello.is_empty().then_some(requested)
}

/// Exactly one host name. Clients send no more.
fn read_server_name(mut value: Reader<'_>) -> Option<Arc<str>> {
    let mut names = value.vector16()?;
    let kind = names.u8()?;
    let name = names.vector16()?.0;
    let is_name = kind == HOST_NAME && !name.is_empty() && name.len() <= 255 && !name.contains(&0);
    if !is_name || !names.is_empty() || !value.is_empty() {
        return None;
    }
    Some(std::str::from_utf8(name).ok()?.to_ascii_lowercase().into())
}

fn read_protocols(mut value: Reader<'_>) -> Option<Vec<Arc<str>>> {
    let mut list = value.vector16()?;
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.vector8()?.0;
        if protocol.is_empty() {
            return None;
        }
        // Names that are not UTF-8 are GREASE (RFC 8701); no match can name them.
        protocols.extend(std::str::from_utf8(protocol).ok().map(Arc::from));
    }
    value.is_empty().then_some(protocols)
}

/// Reads the integers and vectors of TLS messages.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<Self> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Self(taken))
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken.0[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|taken| u16::from_be_bytes([taken.0[0], taken.0[1]]))
    }

    fn vector8(&mut self) -> Option<Self> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector8(contents: &[u8]) -> Vec<u8> {
        [&[u8::try_from(contents.len()).unwrap()], contents].concat()
    }

    fn vector16(contents: &[u8]) -> Vec<u8> {
        [&u16::try_from(contents.len()).unwrap().to_be_bytes(), contents].concat()
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector16(value)].concat()
    }

    fn server_name(name: &[u8]) -> Vec<u8> {
        extension(SERVER_NAME, &vector16(&[&[HOST_NAME][..], &vector16(name)].concat()))
    }

    fn protocols(names: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = names.iter().flat_map(|name| vector8(name)).collect();
        extension(APPLICATION_LAYER_PROTOCOL_NEGOTIATION, &vector16(&list))
    }

    /// A client hello with these extensions in records of at most `record` bytes.
    fn hello(extensions: Option<&[u8]>, record: usize) -> Vec<u8> {
        let head = [&[3, 3][..], &[7; 32], &vector8(&[1; 32]), &vector16(&[0x13, 0x01]), &vector8(&[0])].concat();
        let body = [head, extensions.map(vector16).unwrap_or_default()].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[CLIENT_HELLO], &length[1..], &body].concat();
        message.chunks(record).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &vector16(part)].concat()).collect()
    }

    #[test]
    fn server_name_and_protocols_are_read_in_any_fragmentation() {
        let extensions =
            [extension(43, &[2, 3, 4]), server_name(b"WWW.Example.com"), protocols(&[b"h2", b"\xfa\xfa", b"http/1.1"])];
        let expected = ClientHello {
            server_name: Some("www.example.com".into()),
            application_protocols: vec!["h2".into(), "http/1.1".into()],
        };
        for record in [1, 3, 50, MAX_RECORD] {
            let bytes = hello(Some(&extensions.concat()), record);
            for end in 0..bytes.len() {
                let is_complete = inspect_tls(&bytes[..end]) != Inspection::Incomplete;
                assert!(!is_complete, "{end} of {} bytes in records of {record}", bytes.len());
            }
            assert_eq!(inspect_tls(&bytes), Inspection::Found(expected.clone()));
            let followed = [bytes, b"more".to_vec()].concat();
            assert_eq!(inspect_tls(&followed), Inspection::Found(expected.clone()));
        }
    }

    #[test]
    fn extensions_are_optional() {
        for extensions in [None, Some(&[][..])] {
            assert_eq!(inspect_tls(&hello(extensions, 512)), Inspection::Found(ClientHello::default()));
        }
    }

    #[test]
    fn what_is_not_a_client_hello_is_not_tls() {
        let mut other_message = hello(None, 512);
        other_message[RECORD_HEADER] = 2;
        let mut too_large = hello(None, 512);
        too_large[RECORD_HEADER + 1] = 1;
        let two_names = vector16(&[&[HOST_NAME, 0, 1, b'a'][..], &[HOST_NAME, 0, 1, b'b']].concat());
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"\x16GET".to_vec(),
            vec![HANDSHAKE, 3, 1, 0, 0],
            vec![HANDSHAKE, 3, 1, 0xff, 0xff],
            other_message,
            too_large,
            hello(Some(&server_name(b"")), 512),
            hello(Some(&server_name(b"a\0b")), 512),
            hello(Some(&server_name(&[b'a'; 256])), 512),
            hello(Some(&extension(SERVER_NAME, &two_names)), 512),
            hello(Some(&protocols(&[b""])), 512),
            hello(Some(&[0, 0, 0]), 512),
        ] {
            assert_eq!(inspect_tls(&bytes), Inspection::NotFound, "{bytes:?}");
        }
    }
}

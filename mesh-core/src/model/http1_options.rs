//! HTTP/1 options of a listener or a cluster. Envoy `config.core.v3.Http1ProtocolOptions`.

/// How HTTP/1 messages are read and written. Envoy `Http1ProtocolOptions`.
#[expect(clippy::struct_excessive_bools, reason = "one per boolean field of Envoy's message, under its name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http1Options {
    /// Accept request targets in absolute form (RFC 9112 section 3.2.2) and use their authority. Otherwise such a target is
    /// answered with 404, because it is no path. Default true.
    pub allow_absolute_url: bool,
    /// Accept messages with both `transfer-encoding: chunked` and `content-length`, and remove `content-length` (RFC 9112
    /// section 6.3). Otherwise they are refused. Default false.
    pub allow_chunked_length: bool,
    /// Pass trailers on. Otherwise they are read and dropped. Default false.
    pub enable_trailers: bool,
    /// Keep the connection of a client after a request that is invalid but completely received. Default false.
    pub override_stream_error_on_invalid_http_message: bool,
    /// Accept any method that is a token (RFC 9110 section 9.1). Otherwise only registered ones are accepted. Default false.
    pub allow_custom_methods: bool,
    /// The spelling of header names on the wire. Default [`HeaderKeyFormat::LowerCase`].
    pub header_key_format: HeaderKeyFormat,
}

/// The spelling of header names in HTTP/1 messages that are written. Envoy `Http1ProtocolOptions.HeaderKeyFormat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderKeyFormat {
    /// `content-length`.
    #[default]
    LowerCase,
    /// `Content-Length`: the first letter, and each letter after a character that is not a letter or a digit. Envoy
    /// `proper_case_words`.
    ProperCaseWords,
    /// The spelling in which a name was received; names that were not received are in lower case. Envoy `stateful_formatter`
    /// with `envoy.http.stateful_header_formatters.preserve_case`.
    PreserveCase,
}

impl Default for Http1Options {
    fn default() -> Self {
        Self {
            allow_absolute_url: true,
            allow_chunked_length: false,
            enable_trailers: false,
            override_stream_error_on_invalid_http_message: false,
            allow_custom_methods: false,
            header_key_format: HeaderKeyFormat::default(),
        }
    }
}

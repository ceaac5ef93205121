//! `envoy.config.core.v3.Http1ProtocolOptions` of a listener or a cluster.

use mesh_core::model::{HeaderKeyFormat, Http1Options};

use super::field::{At, Result, fields};
use super::value::{required, unpack};
use crate::proto::envoy::config::core::v3::{
    Http1ProtocolOptions, TypedExtensionConfig,
    http1_protocol_options::{HeaderKeyFormat as ProtoHeaderKeyFormat, header_key_format::HeaderFormat},
};
use crate::proto::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;

/// Why options of the server's side have no effect in a cluster.
const LISTENER_ONLY: &str = "it has an effect in a listener only";

/// The options of a listener.
pub(super) struct Downstream {
    pub(super) options: Http1Options,
    /// The host for HTTP/1.0 requests, if they are accepted.
    pub(super) accept_http_10: Option<Box<str>>,
}

/// Decodes the options of a listener. `stream_error` is its `stream_error_on_invalid_http_message`.
pub(super) fn downstream(at: &At<'_>, value: &Http1ProtocolOptions, stream_error: bool) -> Result<Downstream> {
    fields! {
        Http1ProtocolOptions = value, at;
        use {
            allow_absolute_url, accept_http_10, default_host_for_http_10, header_key_format, enable_trailers,
            allow_chunked_length, override_stream_error_on_invalid_http_message, allow_custom_methods,
        }
        ignore { use_balsa_parser: "it selects an implementation in Envoy" }
        refuse { send_fully_qualified_url, ignore_http_11_upgrade }
    }
    let mut options = Http1Options::default();
    options.allow_absolute_url = allow_absolute_url.unwrap_or(options.allow_absolute_url);
    options.allow_chunked_length = *allow_chunked_length;
    options.enable_trailers = *enable_trailers;
    options.override_stream_error_on_invalid_http_message =
        override_stream_error_on_invalid_http_message.unwrap_or(stream_error);
    options.allow_custom_methods = *allow_custom_methods;
    options.header_key_format = key_format(at, header_key_format.as_ref())?;
    let accept_http_10 = accept_http_10.then(|| default_host_for_http_10.as_str().into());
    Ok(Downstream { options, accept_http_10 })
}

/// Decodes the options of a cluster.
pub(super) fn upstream(at: &At<'_>, value: &Http1ProtocolOptions) -> Result<Http1Options> {
    fields! {
        Http1ProtocolOptions = value, at;
        use { accept_http_10, header_key_format, enable_trailers, allow_chunked_length }
        ignore {
            allow_absolute_url: LISTENER_ONLY,
            default_host_for_http_10: LISTENER_ONLY,
            override_stream_error_on_invalid_http_message: LISTENER_ONLY,
            allow_custom_methods: LISTENER_ONLY,
            use_balsa_parser: "it selects an implementation in Envoy",
        }
        refuse { send_fully_qualified_url, ignore_http_11_upgrade }
    }
    if *accept_http_10 {
        return Err(at.field("accept_http_10").refuse("has no effect in a cluster"));
    }
    let mut options = Http1Options::default();
    options.allow_chunked_length = *allow_chunked_length;
    options.enable_trailers = *enable_trailers;
    options.header_key_format = key_format(at, header_key_format.as_ref())?;
    Ok(options)
}

fn key_format(at: &At<'_>, format: Option<&ProtoHeaderKeyFormat>) -> Result<HeaderKeyFormat> {
    let Some(ProtoHeaderKeyFormat { header_format }) = format else { return Ok(HeaderKeyFormat::LowerCase) };
    let at = at.field("header_key_format");
    match header_format {
        Some(HeaderFormat::ProperCaseWords(_)) => Ok(HeaderKeyFormat::ProperCaseWords),
        Some(HeaderFormat::StatefulFormatter(formatter)) => {
            preserve_case(&at.field("stateful_formatter"), formatter)?;
            Ok(HeaderKeyFormat::PreserveCase)
        }
        None => Err(at.refuse("none of proper_case_words and stateful_formatter is given")),
    }
}

/// Checks that the formatter is `envoy.http.stateful_header_formatters.preserve_case`.
fn preserve_case(at: &At<'_>, formatter: &TypedExtensionConfig) -> Result<()> {
    let TypedExtensionConfig { name: _, typed_config } = formatter;
    let at = at.field("typed_config");
    let config = required(&at, typed_config.as_ref())?;
    fields! {
        PreserveCaseFormatterConfig = &unpack(&at, config)?, at;
        use {}
        ignore {}
        refuse { forward_reason_phrase, formatter_type_on_envoy_headers }
    }
    Ok(())
}

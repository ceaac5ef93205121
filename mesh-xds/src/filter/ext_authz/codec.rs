//! The messages of `envoy.service.auth.v3`, and the values of them that `mesh-core` knows.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use mesh_core::filter::ext_authz::{
    Allowed, Authorization, ChangeAction, CheckCodec, CheckFormat, CheckRequest, Denied, HeaderChange, Peer,
};
use mesh_core::model::{AppendAction, HeaderKey, Metadata, MetadataValue};
use prost::Message as _;

use crate::decode::struct_value::{object, to_struct};
use crate::proto::envoy::config::core::v3::{
    self as core, HeaderValue as ProtoHeader, HeaderValueOption, SocketAddress, address, header_value_option,
    socket_address::PortSpecifier,
};
use crate::proto::envoy::service::auth::v3::{
    self as auth, AttributeContext, CheckResponse, DeniedHttpResponse, OkHttpResponse,
    attribute_context::{self, HttpRequest, Request, TlsSession},
    check_response::HttpResponse,
};

/// Encodes the messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckMessages;

impl CheckCodec for CheckMessages {
    fn encode(&self, check: &CheckRequest, format: CheckFormat) -> Bytes {
        let attributes = AttributeContext {
            source: Some(peer(&check.source)),
            destination: Some(peer(&check.destination)),
            // Envoy says nothing of a request about a connection.
            request: (!check.is_of_connection())
                .then(|| Request { time: Some(check.time.into()), http: Some(http_request(check, format)) }),
            context_extensions: check.context_extensions.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            metadata_context: Some(metadata(&check.metadata_context)),
            route_metadata_context: (!check.is_of_connection()).then(|| metadata(&check.route_metadata_context)),
            tls_session: check.sni.as_ref().map(|sni| TlsSession { sni: sni.to_string() }),
        };
        auth::CheckRequest { attributes: Some(attributes) }.encode_to_vec().into()
    }

    fn decode(&self, message: &[u8]) -> Option<Authorization> {
        let CheckResponse { status, dynamic_metadata, http_response } = CheckResponse::decode(message).ok()?;
        let is_ok = status.is_none_or(|status| status.code == 0);
        let dynamic_metadata = dynamic_metadata.as_ref().map_or(MetadataValue::Null, object);
        let decided = match (is_ok, http_response) {
            (true, Some(HttpResponse::OkResponse(response))) => allowed(response, dynamic_metadata),
            (true, _) => Some(Authorization::Allowed(Box::new(allowed_without_changes(dynamic_metadata)))),
            (false, Some(HttpResponse::ErrorResponse(response))) => {
                denied(response, dynamic_metadata).map(|response| Authorization::Failed(Some(Box::new(response))))
            }
            (false, Some(HttpResponse::DeniedResponse(response))) => {
                denied(response, dynamic_metadata).map(|response| Authorization::Denied(Box::new(response)))
            }
            (false, _) => {
                let mut response = Denied::new(None);
                response.dynamic_metadata = dynamic_metadata;
                Some(Authorization::Denied(Box::new(response)))
            }
        };
        Some(decided.unwrap_or(Authorization::Invalid))
    }
}

fn peer(peer: &Peer) -> attribute_context::Peer {
    attribute_context::Peer {
        address: peer.address.map(|address| core::Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: address.ip().to_string(),
                port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
                ..SocketAddress::default()
            })),
        }),
        service: peer.service.to_string(),
        labels: std::collections::BTreeMap::new(),
        principal: peer.principal.to_string(),
        certificate: peer.certificate.to_string(),
    }
}

fn http_request(check: &CheckRequest, format: CheckFormat) -> HttpRequest {
    let mut request = HttpRequest {
        id: check.id.to_string(),
        method: check.method.to_string(),
        path: check.path.to_string(),
        host: check.host.to_string(),
        scheme: check.scheme.to_string(),
        size: i64::try_from(check.size).unwrap_or(i64::MAX),
        protocol: check.protocol.to_owned(),
        ..HttpRequest::default()
    };
    if format.encode_raw_headers {
        let raw = |(name, value): &(Box<str>, Bytes)| ProtoHeader {
            key: name.to_string(),
            value: String::new(),
            raw_value: value.clone(),
        };
        request.header_map = Some(core::HeaderMap { headers: check.headers.iter().map(raw).collect() });
    } else {
        for (name, value) in &check.headers {
            let value = valid_utf8(value);
            match request.headers.get_mut(&**name) {
                Some(before) => {
                    before.push(',');
                    before.push_str(&value);
                }
                None => {
                    request.headers.insert(name.to_string(), value);
                }
            }
        }
    }
    match &check.body {
        Some(body) if format.pack_as_bytes => request.raw_body = body.clone(),
        Some(body) => request.body = valid_utf8(body),
        None => {}
    }
    request
}

/// The text, with `!` in place of each byte that is not UTF-8, as Envoy writes it.
fn valid_utf8(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

fn metadata(metadata: &Metadata) -> core::Metadata {
    let values = metadata.filter_metadata.iter().map(|(namespace, value)| (namespace.to_string(), to_struct(value)));
    core::Metadata { filter_metadata: values.collect(), ..core::Metadata::default() }
}

fn allowed_without_changes(dynamic_metadata: MetadataValue) -> Allowed {
    let mut allowed = Allowed::default();
    allowed.dynamic_metadata = dynamic_metadata;
    allowed
}

/// `None` if something is not valid.
fn allowed(response: OkHttpResponse, dynamic_metadata: MetadataValue) -> Option<Authorization> {
    let OkHttpResponse {
        headers,
        headers_to_remove,
        dynamic_metadata: deprecated,
        response_headers_to_add,
        query_parameters_to_set,
        query_parameters_to_remove,
    } = response;
    let mut allowed = allowed_without_changes(deprecated.as_ref().map_or(dynamic_metadata, object));
    allowed.headers = headers.iter().map(change_of_request).collect::<Option<_>>()?;
    allowed.headers_to_remove = headers_to_remove.iter().map(|name| key(name)).collect::<Option<_>>()?;
    allowed.response_headers = changes(&response_headers_to_add)?;
    let pairs = query_parameters_to_set.into_iter().map(|parameter| (parameter.key.into(), parameter.value.into()));
    allowed.query_parameters_to_set = pairs.collect();
    allowed.query_parameters_to_remove = query_parameters_to_remove.into_iter().map(Into::into).collect();
    Some(Authorization::Allowed(Box::new(allowed)))
}

fn denied(response: DeniedHttpResponse, dynamic_metadata: MetadataValue) -> Option<Denied> {
    let DeniedHttpResponse { status, headers, body } = response;
    let code = status.map_or(0, |status| status.code);
    let status = match code {
        0 => None,
        code => Some(u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok())?),
    };
    // A response to the client ends the request.
    if status.is_some_and(|status| status.is_informational()) {
        return None;
    }
    let mut denied = Denied::new(status);
    (denied.headers, denied.body, denied.dynamic_metadata) = (changes(&headers)?, body.into(), dynamic_metadata);
    Some(denied)
}

fn changes(options: &[HeaderValueOption]) -> Option<Vec<HeaderChange>> {
    options.iter().map(change).collect()
}

/// As in Envoy 1.40, `append` alone decides how a header of the request is changed; without it, the header replaces the client's.
fn change_of_request(option: &HeaderValueOption) -> Option<HeaderChange> {
    let (key, value) = header(option)?;
    Some(match option.append {
        Some(true) => HeaderChange::new(key, value, ChangeAction::Join),
        Some(false) | None => HeaderChange::set(key, value),
    })
}

fn change(option: &HeaderValueOption) -> Option<HeaderChange> {
    use header_value_option::HeaderAppendAction as Action;
    let HeaderValueOption { header: _, append, append_action, keep_empty_value: _ } = option;
    let (key, value) = header(option)?;
    let action = match (append, Action::try_from(*append_action).ok()?) {
        (Some(true), _) => ChangeAction::Append(AppendAction::AppendIfExistsOrAdd),
        (Some(false), _) | (None, Action::OverwriteIfExistsOrAdd) => {
            ChangeAction::Append(AppendAction::OverwriteIfExistsOrAdd)
        }
        (None, Action::AppendIfExistsOrAdd) => ChangeAction::Append(AppendAction::AppendIfExistsOrAdd),
        (None, Action::AddIfAbsent) => ChangeAction::Append(AppendAction::AddIfAbsent),
        (None, Action::OverwriteIfExists) => ChangeAction::Append(AppendAction::OverwriteIfExists),
    };
    Some(HeaderChange::new(key, value, action))
}

fn header(option: &HeaderValueOption) -> Option<(HeaderKey, HeaderValue)> {
    let ProtoHeader { key: name, value, raw_value } = option.header.as_ref()?;
    let value = if raw_value.is_empty() { value.as_bytes() } else { raw_value };
    Some((key(name)?, HeaderValue::from_bytes(value).ok()?))
}

fn key(name: &str) -> Option<HeaderKey> {
    HeaderKey::parse(name).ok()
}

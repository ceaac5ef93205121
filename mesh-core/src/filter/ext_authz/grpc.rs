//! A service that is asked over gRPC: Envoy's `envoy.service.auth.v3.Authorization`.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, HOST, TE},
    response,
};

use super::{Authorization, CheckCodec, CheckFormat, CheckRequest};
use crate::{grpc, value::ClusterName};

/// The method that is called.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// The prefix of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A service that is asked over gRPC. Envoy `core.v3.GrpcService` with `envoy_grpc`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GrpcService {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Authority of the call. Default the name of the cluster.
    pub authority: Option<HeaderValue>,
    /// How long a check may take; zero = unlimited. Default 200 ms.
    pub timeout: Duration,
    /// Headers of the call.
    pub initial_metadata: Vec<(HeaderName, HeaderValue)>,
    /// Encodes the messages.
    pub codec: Arc<dyn CheckCodec>,
}

/// There is one codec for all services, so it makes no difference.
impl PartialEq for GrpcService {
    fn eq(&self, other: &Self) -> bool {
        let settings = |service: &Self| (service.cluster.clone(), service.authority.clone(), service.timeout);
        settings(self) == settings(other) && self.initial_metadata == other.initial_metadata
    }
}

impl GrpcService {
    /// A service with Envoy's defaults.
    #[must_use]
    pub fn new(cluster: impl Into<ClusterName>, codec: Arc<dyn CheckCodec>) -> Self {
        let (cluster, timeout) = (cluster.into(), super::DEFAULT_GRPC_TIMEOUT);
        Self { cluster, authority: None, timeout, initial_metadata: Vec::new(), codec }
    }

    /// The call.
    #[must_use]
    pub fn request(&self, check: &CheckRequest, format: CheckFormat) -> Request<Bytes> {
        let message = self.codec.encode(check, format);
        let mut body = BytesMut::with_capacity(PREFIX + message.len());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        body.put(message);
        let mut request = Request::new(body.freeze());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(CHECK);
        let headers = request.headers_mut();
        let authority = self.authority.clone().or_else(|| HeaderValue::from_str(self.cluster.as_str()).ok());
        headers.insert(HOST, authority.unwrap_or_else(|| HeaderValue::from_static("authorization")));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, grpc::APPLICATION_GRPC);
        if !self.timeout.is_zero() {
            headers.insert(grpc::GRPC_TIMEOUT, timeout_value(self.timeout));
        }
        for (name, value) in &self.initial_metadata {
            headers.append(name, value.clone());
        }
        request
    }

    /// What the response says.
    #[must_use]
    pub fn authorization(&self, head: &response::Parts, body: &[u8], trailers: Option<&HeaderMap>) -> Authorization {
        let status = trailers.and_then(grpc::status_of).or_else(|| grpc::status_of(&head.headers));
        let message = match body.split_at_checked(PREFIX) {
            // Compressed messages have not been asked for.
            Some((&[0, a, b, c, d], message)) if u32::from_be_bytes([a, b, c, d]) as usize == message.len() => message,
            _ => return Authorization::Failed(None),
        };
        if head.status != StatusCode::OK || status != Some(0) {
            return Authorization::Failed(None);
        }
        self.codec.decode(message).unwrap_or(Authorization::Failed(None))
    }
}

/// Milliseconds, in at most 8 digits as gRPC requires, or else seconds.
fn timeout_value(timeout: Duration) -> HeaderValue {
    const MAX: u128 = 99_999_999;
    let value = match timeout.as_millis() {
        millis if millis <= MAX => format!("{millis}m"),
        _ => format!("{}S", u128::from(timeout.as_secs()).min(MAX)),
    };
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("99999999S"))
}

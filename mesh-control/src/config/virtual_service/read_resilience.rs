//! Reads retry policies and faults.

use std::time::Duration;

use super::{Abort, Delay, Fault, FaultStatus, RetryPolicy};
use crate::diagnostic::{Code, Diagnostic};
use crate::document::{Context, FromNode, Node, Object};

/// Conditions of `retryOn` that Istio accepts.
const RETRY_CONDITIONS: [&str; 17] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "envoy-overloaded",
];

/// Names of gRPC status codes; the position is the code.
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl FromNode for RetryPolicy {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let retry_on: Option<String> = object.optional("retryOn");
        let attempts = object.integer("attempts", 0, i32::MAX.into());
        let policy = Self {
            attempts: attempts.unwrap_or(0),
            per_try_timeout: object.optional("perTryTimeout"),
            retry_on: split_conditions(retry_on.as_deref().unwrap_or_default()),
            backoff: object.optional("backoff"),
            retry_ignore_previous_hosts: object.optional("retryIgnorePreviousHosts").unwrap_or(true),
        };
        object.unsupported(&["retryRemoteLocalities"]);
        for condition in &policy.retry_on {
            let is_status = condition.parse::<u16>().is_ok_and(|code| (100..=599).contains(&code));
            if !is_status && !RETRY_CONDITIONS.contains(&condition.as_str()) {
                let expected = format!("expected status codes or any of {}", RETRY_CONDITIONS.join(", "));
                let message = format!("{condition:?} is not a condition to retry on");
                cx.field("retryOn").invalid(object.value_mark("retryOn"), message, expected);
            }
        }
        // An absent number is protobuf's 0, which disables retries.
        let is_zero = attempts == Some(0) || !object.has("attempts");
        let has_more = ["perTryTimeout", "retryOn", "backoff"].into_iter().any(|name| object.has(name));
        if is_zero && has_more {
            let message = "attempts is 0, so the policy has no effect";
            cx.field("attempts").invalid(object.key_mark("attempts"), message, "0 or absent disables retries");
        }
        object.finish();
        Some(policy)
    }
}

fn split_conditions(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

impl FromNode for Fault {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let fault = Self { delay: object.optional("delay"), abort: object.optional("abort") };
        if !object.has("delay") && !object.has("abort") {
            cx.invalid(object.mark(), "fault is empty", "expected delay or abort");
        }
        object.finish();
        Some(fault)
    }
}

impl FromNode for Delay {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        let parts_per_million = read_percentage(&object);
        let fixed_delay: Option<Duration> = object.required("fixedDelay");
        object.unsupported(&["exponentialDelay"]);
        object.finish();
        Some(Self { parts_per_million, fixed_delay: fixed_delay? })
    }
}

impl FromNode for Abort {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let object = Object::new(node, cx)?;
        object.at_most_one_of(&["httpStatus", "grpcStatus", "http2Error"]);
        let parts_per_million = read_percentage(&object);
        let http = object.integer("httpStatus", 200, 599).map(FaultStatus::Http);
        let grpc = object.node("grpcStatus").and_then(|node| {
            let table: Vec<_> = GRPC_STATUS.iter().zip(0_u8..).map(|(name, code)| (*name, -1, Some(code))).collect();
            cx.field("grpcStatus").enumeration(node, &table).map(FaultStatus::Grpc)
        });
        object.unsupported(&["http2Error"]);
        if !["httpStatus", "grpcStatus", "http2Error"].into_iter().any(|name| object.has(name)) {
            object.missing("httpStatus");
        }
        object.finish();
        Some(Self { parts_per_million, status: http.or(grpc)? })
    }
}

/// `percentage.value`, or the older `percent`; absent means never.
fn read_percentage(object: &Object<'_>) -> u32 {
    let (cx, mark) = (object.cx, object.key_mark("percent"));
    let percentage = object.node("percentage").and_then(|node| {
        let cx = cx.field("percentage");
        let object = Object::new(node, cx)?;
        let value = object.node("value").map_or(Some(0.0), |node| cx.field("value").number(node, 0.0, 100.0));
        object.finish();
        value
    });
    let percent = object.node("percent").and_then(|node| cx.field("percent").integer(node, 0, 100));
    if percent.is_some() {
        let warning = Diagnostic::warning(Code::SchemaValidation, cx.position(mark), "percent is deprecated");
        cx.field("percent").report(warning.label("use percentage.value"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the value is between 0 and 100"
    )]
    let parts = (percentage.or_else(|| percent.map(|percent| percent as f64)).unwrap_or(0.0) * 10_000.0).round() as u32;
    parts
}
